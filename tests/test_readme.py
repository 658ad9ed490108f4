"""The README's commands and snippets run as written, and its pictures are there."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import train
from model import GPTConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
COMMANDS = [
    line
    for block in re.findall(r"```sh\n(.*?)```", README, re.DOTALL)
    for line in block.splitlines()
    if line.startswith("python ") and "pip install" not in line
]
SNIPPETS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
# What would take long is shortened, not left out.
SHORTER = {"train.py": " --steps 20 --sentences 2000 --out short.pt"}
SLOW = ("attention_demo.py",)  # tests/test_demo.py runs it


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A copy of the scripts, with a quickly trained checkpoint."""
    folder = tmp_path_factory.mktemp("a copy")
    for script in ROOT.glob("*.py"):
        (folder / script.name).write_bytes(script.read_bytes())
    settings = train.TrainConfig(steps=20, sentences=2000)
    trained = train.train(GPTConfig(), settings)
    train.save_checkpoint(folder / "checkpoint.pt", *trained, settings)
    return folder


def run(command, folder):
    environment = {k: v for k, v in os.environ.items() if "DISPLAY" not in k}
    return subprocess.run(
        command,
        cwd=folder,
        env=environment,
        shell=isinstance(command, str),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


@pytest.mark.parametrize(
    "command", [c for c in dict.fromkeys(COMMANDS) if not any(s in c for s in SLOW)]
)
def test_a_command_runs_as_written(command, folder):
    for script, flags in SHORTER.items():
        command += flags if script in command else ""
    done = run(command.replace("python", f'"{sys.executable}"', 1), folder)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_the_snippets_of_this_project_run(folder):
    ours = [s for s in SNIPPETS if "import" in s and "bertviz" not in s]
    ours = [s for s in ours if "circuitsvis" not in s]
    assert len(ours) >= 2
    done = run([sys.executable, "-c", "\n".join(ours)], folder)
    assert done.returncode == 0, done.stderr


def test_a_new_word_is_a_change_in_one_place(folder, tmp_path):
    for script in folder.glob("*.py"):
        (tmp_path / script.name).write_bytes(script.read_bytes())
    source = (tmp_path / "train.py").read_text(encoding="utf-8")
    assert 'ADJECTIVES = {\n    "hungry": "eats",\n' in source
    more = source.replace("ADJECTIVES = {", 'ADJECTIVES = {\n    "starving": "eats",')
    (tmp_path / "train.py").write_text(more, encoding="utf-8")
    for command in (
        ["train.py", "--steps", "20", "--sentences", "2000"],
        ["example.py", "the starving fox eats the mouse"],
    ):
        done = run([sys.executable, *command], tmp_path)
        assert done.returncode == 0, done.stderr
    assert "looks at starving" in done.stdout


def test_the_two_marked_commands_are_there():
    for mark, script in (("# run it", "example.py"), ("# test it", "pytest")):
        line = README.split(f"{mark}\n")[1].splitlines()[0]
        assert "pip install" in line and script in line


def test_the_code_of_the_formula_is_the_code_of_the_model():
    formula = next(s for s in SNIPPETS if s.startswith("scores ="))
    model = (ROOT / "model.py").read_text(encoding="utf-8")
    for line in formula.splitlines():
        assert line.strip() in model


def test_pictures_are_there_described_and_small():
    pictures = re.findall(r"!\[(.*?)\]\((.*?)\)", README)
    assert len(pictures) >= 5
    for described, path in pictures:
        assert len(described) > 15
        limit = 2_000_000 if path.endswith(".gif") else 300_000
        assert 0 < (ROOT / path).stat().st_size < limit, path
    named = {Path(path).name for _, path in pictures}
    assert named == {p.name for p in (ROOT / "assets").iterdir()}
