"""The scripts under bad input, broken files, interruptions, and in odd places.

Whatever happens, a person gets one line on stderr and a status, never a traceback.
"""

import copy
import math
import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

import example
import train
from model import GPTConfig
from train import read

ROOT = Path(__file__).parent.parent
LONG = "x" * 1_000_000
HUGE = "9" * 400


@pytest.fixture(scope="session")
def blank():
    return train.untrained(GPTConfig()), train.HeldOut(count=2000)


@pytest.fixture(scope="session")
def checkpoint(blank, tmp_path_factory):
    path = tmp_path_factory.mktemp("scripts") / "checkpoint.pt"
    train.save_checkpoint(path, *blank)
    return path


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Call a script as its __main__ does, in an empty folder: (status, out, error)."""
    monkeypatch.chdir(tmp_path)

    def call(script, *arguments):
        monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *arguments])
        status = 0
        try:
            with train.polite():
                script.main()
        except SystemExit as ended:
            status = ended.code
        return status, *capsys.readouterr()

    return call


def refused(script, result, *said):
    """Whether the result is status 2 and one readable line that says this."""
    status, out, error = result
    assert (status, out) == (2, "")
    assert error.startswith(f"{script.__name__}.py: ") and error.endswith("\n")
    assert error[:-1].isprintable() and len(error) < 250  # so it is one line
    assert "Traceback" not in error
    assert all(part in error for part in said), error


# ------------------------------------------------------------------------ bad input

SENTENCES = [
    ("the quikc fox", '"quikc"', "perhaps", "quick"),
    ("the hungri fox eats the mousse", '"hungri"', "hungry"),
    ("the lion sleeps", '"lion"', "here could stand", "cat", "animals"),
    ("the FOXX", "foxx", "fox"),
    ("the unicorn", "unicorn", "100 words"),
    ("", "empty"),
    ("   ", "empty"),
    ("\t\n\r\v", "empty"),
    (" . , ! ? “…” ", "empty"),
    ("<s>", "empty"),
    ("the " * 12, "12 words are too many", "11"),
    ("the " * 250_000, "too many"),
    ("the 2 foxes", '"2"'),
    ("1e999", "1e999"),
    ("the 🦊 eats", "🦊"),
    ("the fox\x1b[31m", "fox?[31m", "fox"),
    ("the \0 fox", '"?"'),
    ("the fox\x07", "fox?"),
    ("fo\u200bx", "fo?x"),
    ("\u202ethe fox", "?the"),
    ("the f\udce9x", "f?x"),  # how Python reads an argument that isn't UTF-8
    ("the fox\neats the mousse", "mousse", "mouse"),
    ("the_fox", "the_fox"),
    ("рыба", "рыба"),
    ("的狐狸", "的狐狸"),
    (LONG, "xxx…"),
    ("🦊" * 250_000, "🦊…"),
    ("../../etc/passwd", "passwd"),
    ("%s %n {0}", "%s"),
]


@pytest.mark.parametrize(("sentence", "said"), [(s, said) for s, *said in SENTENCES])
def test_a_sentence_that_is_none(sentence, said, call, checkpoint):
    trained = f"--checkpoint={checkpoint}"
    status, _, error = result = call(example, trained, "--", sentence)
    if "too many" in said[0]:  # only the model knows, after the heading
        result = status, "", error
    refused(example, result, *said)


@pytest.mark.parametrize("sentence", ["the unicorn", "the " * 3 + LONG])
def test_a_typo_is_told_before_a_model_is_trained(sentence, call, tmp_path):
    refused(example, call(example, "the fox", sentence))
    assert not os.listdir(tmp_path)


def test_capitals_and_punctuation_are_understood(call, checkpoint):
    trained = f"--checkpoint={checkpoint}"
    status, out, error = call(example, trained, '"The hungry fox, eats" the Mouse!?…')
    assert (status, error) == (0, "")
    assert "\nthe hungry fox eats the mouse\n" in out


WHOLE = ["steps", "batch_size", "eval_every", "seed"]
SHAPE = ["vocab_size", "block_size", "n_layer", "n_head", "n_embd"]
FLOATS = ["learning_rate", "weight_decay", "dropout"]
NUMBERS = [
    *((f"--{name}", bad) for name in WHOLE + SHAPE for bad in ("-1", "nan", HUGE)),
    *((f"--{name}", "0") for name in WHOLE + SHAPE if name != "seed"),
    *((f"--{name}", str(10**9)) for name in WHOLE),
    *((f"--{n}", bad) for n in FLOATS for bad in ("nan", "inf")),
    *((f"--{n}", bad) for n in FLOATS for bad in ("-1", "high")),
]
FLAGS = [
    *((flags, flags[0].strip("-")) for flags in NUMBERS),
    (("--n_head", "3", "--n_embd", "32"), "n_embd", "n_head=3", "such as 33"),
    (("--vocab_size", "99"), "from 100 to", "vocab_size=99"),
    (("--block_size", "11"), "from 12 to", "block_size=11"),
    (("--steps", "1.5"), "steps", "1.5"),
    (("--steps", "many"), "steps", "many"),
    (("--steps", ""), "steps"),
    (("--steps", LONG), "steps"),
    (("--steps", "9" * 5000), "steps"),
    (("--steps", "1\n2"), "steps", r"1\n2"),
    (("--steps",), "steps", "expected one argument"),
    (("--seed", "20000000"), "seed=20000000"),
    (("--device", "cpu"), "--device"),
    (("--learning_rate", "0"), "learning_rate=0", "from 1e-06 to 100"),
    (("--dropout", "1"), "dropout=1"),
    (("--bogus",), "--bogus", "--help"),
    (("--n_layers", "2"), "--n_layers"),
    (("--step", "2"), "--step"),
    (("--debug=1",), "--debug"),
    (("-x",), "-x"),
    (("--no\nsuch",), "--no?such"),
    ((f"--{LONG}",), "--xxx", "--help"),
    (("word",), "word"),
]


@pytest.mark.parametrize(("flags", "said"), [(f, said) for f, *said in FLAGS])
def test_flags_that_cannot_be(flags, said, call, tmp_path):
    refused(train, call(train, *flags), *said)
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize(
    ("out", "said"),
    [
        ("", "folder"),
        (".", "folder"),
        ("folder/", "folder"),
        ("missing/checkpoint.pt", "missing"),
        ("file/checkpoint.pt", "Not a directory"),
        ("n" * 300, "too long"),
        (LONG, "too long"),
        (os.devnull, "device"),  # which must not be replaced by a file
    ],
)
def test_a_place_that_cannot_be_written_is_told_before_training(out, said, call):
    Path("file").touch()
    Path("folder").mkdir()
    refused(train, call(train, "--out", out), said)


def test_another_shape_is_written_under_a_name_of_its_own(call):
    status, out, _ = call(train, "--steps", "2", "--n_head", "2")
    assert status == 0 and "n_head-2.pt" in out
    assert os.listdir() == ["n_head-2.pt"]
    train.load_checkpoint("n_head-2.pt")


@pytest.mark.parametrize(
    ("shape", "name"),
    [
        ({}, "checkpoint.pt"),
        ({"debug": True}, "checkpoint.pt"),
        ({"n_embd": 24, "n_layer": 2}, "n_layer-2-n_embd-24.pt"),
        ({"dropout": 0.1}, "dropout-0.1.pt"),
    ],
)
def test_the_name_says_what_differs_from_the_default(shape, name):
    assert train.own_name(GPTConfig(**shape)) == name


# ------------------------------------------------------------------------- what is told


def test_the_examples_fit_into_eighty_columns(call, checkpoint):
    status, out, error = call(example, "--checkpoint", str(checkpoint))
    assert (status, error) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert not re.search(r"-0(\.0+)?(%|\s)|\bnan\b", out)
    assert "→" in out and "\x1b" not in out
    for name in train.RELATIONS:
        assert name in out


def test_the_table_fits_into_fifty_columns_too(odd):
    out = start(odd, "example.py", COLUMNS="50").communicate()[0].decode()
    table = out[out.index("What the heads do") : out.index("The model speaks")]
    assert max(map(len, table.splitlines())) <= 50


def test_the_words_are_listed_by_kind_without_a_model(call, tmp_path):
    status, out, error = call(example, "--words")
    assert (status, error) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert not os.listdir(tmp_path)
    told = out.replace(",", " ").split()
    assert all(told.count(word) >= 1 for word in train.VOCABULARY)
    assert all(f"{kind}: " in out for kind in train.KINDS)
    said = out.partition("is something\n")[2].replace(" .", ".").split(".")[:-1]
    assert len(said) == 10
    assert all(train.in_language(train.read(sentence)) for sentence in said)


@pytest.fixture
def dialogue(monkeypatch, capsys, default):
    """What is answered to lines typed at the prompt, by the default model."""
    model, _ = default

    def dialogue(*lines):
        left = list(lines)
        monkeypatch.setattr("builtins.input", lambda prompt: left.pop(0))
        example.ask(model)
        assert not left
        return capsys.readouterr().out

    return dialogue


@pytest.mark.parametrize("arrow", ["→", "->", " →  "])
def test_a_swap_at_the_prompt_says_who_carries_it(arrow, dialogue):
    said = dialogue("the cat near the dogs", f"cat{arrow}cats", "")
    assert "it reads cat " in said and "it reads cats" in said
    assert (
        "So L1H" in said
        and "the truth parts them: " in said
        and "after the swap: " in said
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        # The row that decides is a later one, which reads the same word in both.
        (["the cat near the dogs", "cat → cats"], "the cat near the dogs ▸ …"),
        (["The cat near the dogs", "Cat → cats"], "the cat near the dogs ▸ …"),
        (["the cat", "cat → cats"], "reads the swapped word itself"),
        (["the cat near the dogs", "cat → fox"], "No decision to share out"),
        # What a cow eats, a horse does not: the one side is what both may say.
        (["the horse eats the hay", "horse → cow"], "the horse eats the ▸ …"),
        (["this sheep"], "determiner → verb"),
    ],
)
def test_what_the_prompt_says_is_true_of_the_row(lines, said, dialogue):
    told = dialogue(*lines, "")
    assert said in told
    assert ("So L1H" in told) == said.endswith("…")


def test_a_model_that_hardly_tells_them_apart_has_nothing_to_share_out(default):
    pair = example.swap_in(read("the cat near the dogs"), "“Cat” → cats.")
    assert example.carrier(default[0], pair)[1] > 0.5
    blank = train.untrained(GPTConfig())
    for pair in train.pairs_of(train.HeldOut(count=200))["subject → verb"]:
        clean, other, _ = train.patch_each_head(blank, [pair])
        assert abs(clean - other) < math.log(2)
        assert math.isnan(example.carrier(blank, pair)[1])


def test_a_model_that_says_the_to_everything_has_nothing_to_share_out(default):
    pair = example.swap_in(read("the cat near the dogs"), "cat → cats")
    model = copy.deepcopy(default[0])
    with torch.no_grad():
        model.norm.bias += 99 * model.token.weight[train.IDS["the"]]
    assert math.isnan(example.carrier(model, pair)[1])


def test_the_row_of_a_swap_is_a_later_one_where_there_is_one():
    words = read("the same sheep eats clover")  # the word's own row changes more
    assert example.swap_in(words, "sheep → fox").words[-1] == "eats"
    assert example.swap_in(words, "eats → sleeps").words[-1] == "eats"


@pytest.mark.parametrize(
    "told",
    [
        ["the", "cat", "sleeps"],
        ["the cat sleeps"],
        ["the cat", "cat -> cats"],
        ["the", "cat", '"cat→cats"'],
    ],
)
def test_a_sentence_may_be_without_quotes_and_a_swap_follow(told, call, checkpoint):
    status, out, _ = call(example, "--checkpoint", str(checkpoint), "--", *told)
    assert status == 0 and "\nthe cat" in out
    assert ("it reads cats" in out) == ("cats" in told[-1])


@pytest.mark.parametrize("swap", ["cat → <s>", "cat → .", "cat → catz", "dog → cat"])
def test_a_swap_that_is_none_is_refused_before_a_model_is_trained(swap, call, tmp_path):
    missing = str(tmp_path / "missing.pt")
    result = call(example, "--checkpoint", missing, "the cat near the dogs", swap)
    refused(example, result)
    assert "missing.pt" not in result[2]


def test_a_sentence_is_told_by_who_carries_it_not_by_who_looks(dialogue):
    told = dialogue("the cat near the dogs", "")
    swap, who = re.search(r"verb\n +(cat → \w+): (L1H\d) carries", told).groups()
    assert f"So {who} carries" in dialogue("the cat near the dogs", swap, "")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["cat → cats"], '"cat" is not in the last sentence read: type one'),
        (["the cat", "dog → cat"], '"dog" is not in the last sentence read'),
        (["the cat", "cat → lion"], '"lion" is not among'),
        (["the cat", "cat →"], "a swap names two words"),
        (["the cat", "→"], "a swap names two words"),
        (["the cat", "cat → dog → fox"], "a swap names two words"),
        (["the cat", "the cat → the dog"], "a swap names two words"),
        (["the cat", "<s> → dog"], '"<s>" is not in'),
        (["the foxx", "the cat"], '"foxx" is not among'),
        (["the dog the"], "outside the language"),
    ],
)
def test_what_is_typed_amiss_is_told_and_the_dialogue_goes_on(lines, said, dialogue):
    assert said in dialogue(*lines, "")


def test_progress_is_told_a_line_at_a_time(capsys):
    for step in (0, 100):
        train.progress(None, train.Moment(step, 2.0, 1.0))
    told = capsys.readouterr()
    assert (told.out, told.err.count("\n")) == ("", 2) and "\r" not in told.err


# ------------------------------------------------------------------------ checkpoints


def test_a_name_that_is_mistyped_trains_nothing(call, monkeypatch):
    monkeypatch.setattr(train, "train", None)
    refused(example, call(example, "--checkpoint", "chekpoint.pt"), "chekpoint.pt")
    assert not os.listdir()


def broken(kind, whole, path):
    """Put a broken checkpoint at the path."""
    if kind == "directory":
        path.mkdir()
    elif kind == "link to nowhere":
        path.symlink_to("nowhere")
    elif kind == "other program":
        torch.save({"weights": torch.zeros(3)}, path)
    elif kind == "code":
        torch.save(GPTConfig(), path)
    elif kind == "file below a file":
        path.parent.rmdir()
        path.parent.touch()
    elif kind != "missing folder":
        contents = {
            "empty": b"",
            "text": b"Once upon a time\n" * 99,
            "zip": b"PK\x03\x04" + bytes(500),
            "truncated": whole[: len(whole) // 2],
            "short of a byte": whole[:-1],
            "changed": whole[:5000] + bytes(99) + whole[5099:],
            "zeros": bytes(len(whole)),
        }
        path.write_bytes(contents[kind])
    else:
        path.parent.rmdir()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("empty", "damaged"),
        ("text", "damaged"),
        ("zip", "damaged"),
        ("truncated", "damaged"),
        ("short of a byte", "damaged"),
        ("changed", "damaged"),
        ("zeros", "damaged"),
        ("code", "damaged, or not a checkpoint"),
        ("other program", "not a checkpoint of Toy GPT"),
        ("directory", "Is a directory"),
        ("link to nowhere", "No such file"),
        ("file below a file", "Not a directory"),
        ("missing folder", "No such file"),
    ],
)
def test_a_broken_checkpoint(kind, said, call, checkpoint, tmp_path):
    path = tmp_path / "there" / "own.pt"
    path.parent.mkdir()
    broken(kind, checkpoint.read_bytes(), path)
    result = call(example, "--checkpoint", "there/own.pt", "the fox")
    refused(example, result, said, "own.pt", '"python train.py" makes a new one, --out')


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_checkpoint(call, tmp_path):
    (tmp_path / "own.pt").touch(mode=0)
    result = call(example, "--checkpoint", "own.pt", "the fox")
    refused(example, result, "Permission denied")


def test_a_loss_that_is_no_number_leaves_the_old_checkpoint(call):
    Path("checkpoint.pt").write_bytes(b"old")
    flags = ["--eval_every", "1", "--learning_rate", "99", "--steps", "60"]
    status, out, error = call(train, *flags)
    lines = [line for line in error.splitlines() if not line.startswith("step ")]
    refused(train, (status, out, "\n".join(lines) + "\n"), "no longer a number")
    assert Path("checkpoint.pt").read_bytes() == b"old"
    assert os.listdir() == ["checkpoint.pt"]


def test_others_may_read_the_checkpoint(checkpoint):
    assert checkpoint.stat().st_mode & 0o777 == 0o644


# ---------------------------------------------------------------------- interruptions


@pytest.mark.parametrize(
    ("event", "expected"), [(EOFError, 0), (KeyboardInterrupt, 130)]
)
def test_control_keys_at_the_prompt(event, expected, call, blank, monkeypatch):
    def typed(prompt, lines=["the fox", "the foxx"]):  # noqa: B006 (used up)
        if lines:
            return lines.pop(0)
        raise event

    monkeypatch.setattr("builtins.input", typed)
    script = type(sys)("example")
    script.main = lambda: example.ask(blank[0])
    status, _, error = call(script)
    assert status == expected
    assert len(error.split("\n")) <= 3 and "Traceback" not in error


def test_control_c_while_writing_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(b"old")

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train.write(path, b"new")
    assert (path.read_bytes(), os.listdir(tmp_path)) == (b"old", [path.name])


# -------------------------------------------------------------------------- processes

CALM = {"OMP_WAIT_POLICY": "passive"}  # processes side by side don't fight over cores


@pytest.fixture
def odd(checkpoint, tmp_path):
    """A folder with spaces and letters from elsewhere, and a checkpoint in it."""
    folder = tmp_path / "Ünï cödé 文件夹 'x'"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(checkpoint.read_bytes())
    return folder


def start(folder, script, *arguments, **environment):
    """Start a script (or -c) in a folder; None removes a variable from its environment."""
    environment = {**os.environ, **CALM, **environment}
    script = script if script == "-c" else ROOT / script
    return subprocess.Popen(
        [sys.executable, script, *arguments],
        cwd=folder,
        env={name: value for name, value in environment.items() if value is not None},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def test_ascii_terminal_without_home_or_screen(odd):
    environment = {
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "HOME": None,
        "TERM": "dumb",
        "COLUMNS": "40",
        "DISPLAY": "nowhere:99",
        "MPLBACKEND": "nonsense",
    }
    process = start(
        odd, "example.py", "the quick brown fox near the cat", **environment
    )
    out, error = process.communicate()
    assert (process.returncode, error) == (0, b"")
    assert "subject -> verb" in out.decode("ascii") or "adjective -> noun" in str(out)
    assert b"\x1b" not in out
    assert os.listdir(odd) == ["checkpoint.pt"]


def test_closed_pipe_ends_quietly(odd):
    process = start(odd, "example.py", PYTHONUNBUFFERED="1")
    for _ in range(3):
        assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


@pytest.mark.parametrize(
    ("script", "flags"), [("example.py", ["the fox"]), ("model.py", [])]
)
def test_a_full_disk_is_told_in_one_line(script, flags, odd):
    with open("/dev/full", "wb") as full:
        process = subprocess.run(
            [sys.executable, ROOT / script, *flags],
            cwd=odd,
            env={**os.environ, **CALM, "MPLBACKEND": "agg"},
            stdin=subprocess.DEVNULL,
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    lines = process.stderr.decode().splitlines()
    assert process.returncode == 2
    assert len(lines) == 1 and lines[0].startswith(f"{script}: ")
    assert "No space left" in lines[0]


def test_the_shapes_may_be_cut_off(tmp_path):
    command = f'"{sys.executable}" -u "{ROOT}/model.py" | head -1'
    process = subprocess.run(
        command,
        shell=True,
        cwd=tmp_path,
        env={**os.environ, **CALM, "MPLBACKEND": "agg"},
        capture_output=True,
        check=False,
    )
    assert process.stderr == b"" and process.stdout.count(b"\n") == 1


def test_the_shapes_where_no_picture_can_be_written(tmp_path):
    (tmp_path / "figures").touch()  # also for root, who may write everywhere
    process = start(tmp_path, "model.py", MPLBACKEND="agg")
    out, error = process.communicate()
    assert process.returncode == 2
    assert error.startswith(b"model.py: ") and error.count(b"\n") == 1
    shape = GPTConfig()
    for told in ((1, shape.n_head, 12, 12), (1, 12, shape.n_embd)):
        assert str(told) in out.decode()


@pytest.mark.parametrize("script", ["train.py", "example.py"])
def test_without_docstrings(script, monkeypatch, capsys):
    """As `python -OO` has it, which would compile all of torch anew."""
    path = ROOT / script
    monkeypatch.setattr(sys, "argv", [script, "--help"])
    bare = compile(path.read_text("utf-8"), path, "exec", optimize=2)
    name = type(sys)("bare")  # a module
    monkeypatch.setitem(sys.modules, "bare", name)
    exec(bare, vars(name))  # noqa: S102 (our own source)
    assert name.__doc__ is None
    with pytest.raises(SystemExit) as ended:
        name.main()
    assert ended.value.code == 0 and "usage:" in capsys.readouterr().out


def test_no_streams_at_all(odd):
    closed = f'"{sys.executable}" "{ROOT}/example.py" "the fox" <&- >&- 2>&-'
    subprocess.run(closed, shell=True, cwd=odd, check=True)


def test_control_c_stops_training_at_once(odd):
    before = (odd / "checkpoint.pt").read_bytes()
    process = start(odd, "train.py", "--eval_every", "1", "--steps", "60")
    assert process.stderr.readline().startswith(b"step ")
    process.send_signal(signal.SIGINT)
    out, error = process.communicate(timeout=20)
    lines = {line for line in error.decode().splitlines() if line[:5] != "step "}
    assert (process.returncode, out) == (130, b"")
    assert lines == {"", "train.py: stopped; no file is half written."}
    assert os.listdir(odd) == ["checkpoint.pt"]
    assert (odd / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("script", ["train.py", "example.py", "attention_demo.py"])
@pytest.mark.parametrize("seconds", [0.3, 0.8])
def test_control_c_while_torch_is_imported(script, seconds, odd):
    process = start(odd, script)
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=20)
    assert process.returncode in (130, -signal.SIGINT)
    assert b"Traceback" not in error and error.count(b"stopped") <= 1


@pytest.fixture(scope="module")
def two_trainings(tmp_path_factory):
    """Two processes that train the same at once in one folder, with other hash seeds:
    the folder, and what they say."""
    folder = tmp_path_factory.mktemp("two trainings")
    code = (
        f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
        "import example, train; train.main()\n"
        "print(train.pairs_of(train.HeldOut(count=300)))\n"
        "print({'matplotlib', 'seaborn'} & set(sys.modules))"
    )
    both = [
        start(folder, "-c", code, "--steps", "4", PYTHONHASHSEED=seed)
        for seed in ("1", "2")
    ]
    return folder, [(*process.communicate(), process.returncode) for process in both]


def test_two_trainings_at_once_in_one_folder(two_trainings):
    folder, told = two_trainings
    for out, error, status in told:
        assert status == 0, error
        assert b"\x1b" not in out + error and b"\r" not in error
    assert told[0] == told[1]  # the hash seed changes nothing
    assert os.listdir(folder) == ["checkpoint.pt"]
    train.load_checkpoint(folder / "checkpoint.pt")


def test_nothing_is_imported_before_it_is_needed(two_trainings):
    for out, _, _ in two_trainings[1]:
        assert out.splitlines()[-1] == b"set()"


def test_a_terminal_and_bytes_that_are_not_utf8(odd):
    """What is typed isn't UTF-8, then isn't known, then Ctrl-D: all in a terminal."""
    terminal, side = pty.openpty()
    own = {"NO_COLOR": "1", "TERM": "dumb", "PYTHONUTF8": "1"}
    process = subprocess.Popen(
        [sys.executable, ROOT / "example.py"],
        cwd=odd,
        env={**os.environ, **CALM, **own},
        stdin=side,
        stdout=side,
        stderr=side,
    )
    os.close(side)
    os.write(terminal, b"the f\xe9x\nthe foxx\n\x04")
    out = b""
    while True:
        try:
            out += os.read(terminal, 4096)
        except OSError:  # the other side is closed
            break
    os.close(terminal)
    assert process.wait() == 0 and b"Traceback" not in out
    assert b"f?x" in out or "f\ufffdx".encode() in out
    assert b'"foxx" is not among' in out and b"\x1b[1m" not in out
