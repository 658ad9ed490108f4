"""Running a script, in this process or in one of its own, and reading its refusal."""

import os
import subprocess
import sys
from contextlib import chdir, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from unittest.mock import patch

import train

ROOT = Path(__file__).parent.parent
CALM = {"OMP_WAIT_POLICY": "passive"}  # processes side by side don't fight over cores


def call(folder, script, *arguments):
    """Call a script in a folder, as its __main__ does: (status, out, error)."""
    out, error, status = StringIO(), StringIO(), 0
    given = patch.object(sys, "argv", [f"{script.__name__}.py", *map(str, arguments)])
    with chdir(folder), given, redirect_stdout(out), redirect_stderr(error):
        try:
            with train.polite():
                script.main()
        except SystemExit as ended:
            status = ended.code
    return status, out.getvalue(), error.getvalue()


def start(folder, script, *arguments, stdout=subprocess.PIPE, **environment):
    """Start a script (or -c) in a folder; None removes a variable from its environment."""
    environment = {**os.environ, **CALM, "MPLBACKEND": "agg", **environment}
    script = script if script == "-c" else ROOT / script
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        cwd=folder,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
    )


def finish(process):
    """Wait for a process: (status, out, error)."""
    out, error = process.communicate(timeout=100)
    return process.returncode, (out or b"").decode(), error.decode()


def refused(script, result, *said):
    """Assert that the result is status 2 and one readable line that says this."""
    status, out, error = result
    assert (status, out) == (2, "")
    assert error.startswith(f"{script}: ") and error.endswith("\n")
    assert error[:-1].isprintable() and len(error) < 250  # so it is one line
    assert all(part in error for part in said), error
