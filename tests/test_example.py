"""example.py: what it says of swaps, sentences and heads, and how it refuses."""

import copy
import math
import os
import pty
import re
import subprocess
import sys

import pytest
import torch
from shared import CALM, ROOT, call, finish, refused, start

import example
import train
from model import GPTConfig
from train import read

LONG = "x" * 1_000_000


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """A checkpoint of a model that knows nothing."""
    path = tmp_path_factory.mktemp("untrained") / "checkpoint.pt"
    train.save_checkpoint(path, train.untrained(GPTConfig()), train.HeldOut(count=2000))
    return path


@pytest.fixture
def odd(checkpoint, tmp_path):
    """A folder with spaces and letters from elsewhere, and a checkpoint in it."""
    folder = tmp_path / "Ünï cödé 文件夹 'x'"
    folder.mkdir()
    (folder / "checkpoint.pt").write_bytes(checkpoint.read_bytes())
    return folder


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
def test_a_sentence_that_is_none(sentence, said, checkpoint, tmp_path):
    result = call(tmp_path, example, "--checkpoint", checkpoint, "--", sentence)
    status, _, error = result
    if "too many" in said[0]:  # only the model knows, after the heading
        result = status, "", error
    refused("example.py", result, *said)


@pytest.mark.parametrize("sentence", ["the unicorn", "the " * 3 + LONG])
def test_a_typo_is_told_before_a_model_is_trained(sentence, tmp_path):
    refused("example.py", call(tmp_path, example, "the fox", sentence))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("swap", ["cat → <s>", "cat → .", "cat → catz", "dog → cat"])
def test_a_swap_that_is_none_is_refused_before_a_model_is_trained(swap, tmp_path):
    given = ["--checkpoint", "missing.pt", "the cat near the dogs", swap]
    result = call(tmp_path, example, *given)
    refused("example.py", result)
    assert "missing.pt" not in result[2]


# ------------------------------------------------------------------------ what is told


def test_the_examples_fit_into_eighty_columns(checkpoint, tmp_path):
    status, out, error = call(tmp_path, example, "--checkpoint", checkpoint)
    assert (status, error) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert not re.search(r"-0(\.0+)?(%|\s)|\bnan\b", out)
    assert "→" in out and "\x1b" not in out
    for name in train.RELATIONS:
        assert name in out


def test_the_words_are_listed_by_kind_without_a_model(tmp_path):
    status, out, error = call(tmp_path, example, "--words")
    assert (status, error) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert not os.listdir(tmp_path)
    told = out.replace(",", " ").split()
    assert all(told.count(word) >= 1 for word in train.VOCABULARY)
    assert all(f"{kind}: " in out for kind in train.KINDS)
    said = out.partition("is something\n")[2].replace(" .", ".").split(".")[:-1]
    assert len(said) == 10
    assert all(train.in_language(read(sentence)) for sentence in said)


@pytest.mark.parametrize(
    "told",
    [
        ["the", "cat", "sleeps"],
        ["the cat sleeps"],
        ["the cat", "cat -> cats"],
        ["the", "cat", '"cat→cats"'],
    ],
)
def test_a_sentence_may_be_without_quotes_and_a_swap_follow(told, checkpoint, tmp_path):
    given = "--checkpoint", checkpoint, "--", *told
    status, out, _ = call(tmp_path, example, *given)
    assert status == 0 and "\nthe cat" in out
    assert ("it reads cats" in out) == ("cats" in told[-1])


# ------------------------------------------------------------------------ swaps


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


# ------------------------------------------------------------------------ the prompt


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
    said = " ".join(dialogue("the cat near the dogs", f"cat{arrow}cats", "").split())
    for part in ("it reads cat ", "it reads cats ", "So L1H", "the truth parts them: "):
        assert part in said
    assert "; after the swap: " in said


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


@pytest.mark.parametrize(
    ("event", "expected"), [(EOFError, 0), (KeyboardInterrupt, 130)]
)
def test_control_keys_at_the_prompt(event, expected, tmp_path, monkeypatch):
    def typed(prompt, lines=["the fox", "the foxx"]):  # noqa: B006 (used up)
        if lines:
            return lines.pop(0)
        raise event

    monkeypatch.setattr("builtins.input", typed)
    script = type(sys)("example")
    script.main = lambda: example.ask(train.untrained(GPTConfig()))
    status, _, error = call(tmp_path, script)
    assert status == expected
    assert len(error.split("\n")) <= 3 and "Traceback" not in error


# ------------------------------------------------------------------- in odd places


@pytest.fixture(scope="module")
def narrow(checkpoint):
    """What is told in a narrow terminal that has ASCII only, no home and no screen."""
    environment = {
        "PYTHONIOENCODING": "ascii",
        "LC_ALL": "C",
        "HOME": None,
        "TERM": "dumb",
        "COLUMNS": "50",
        "DISPLAY": "nowhere:99",
        "MPLBACKEND": "nonsense",
    }
    status, out, error = finish(start(checkpoint.parent, "example.py", **environment))
    assert (status, error) == (0, "")
    return out


def test_an_ascii_terminal_gets_arrows_of_ascii(narrow):
    assert narrow.isascii() and "\x1b" not in narrow
    assert "subject -> verb" in narrow


def test_the_table_fits_into_fifty_columns_too(narrow):
    table = narrow[narrow.index("What the heads do") : narrow.index("The model speaks")]
    assert max(map(len, table.splitlines())) <= 50


def test_closed_pipe_ends_quietly(odd):
    process = start(odd, "example.py", PYTHONUNBUFFERED="1")
    for _ in range(3):
        assert process.stdout.readline()
    process.stdout.close()
    assert process.stderr.read() == b""
    assert process.wait() == 0


def test_no_streams_at_all(odd):
    closed = f'"{sys.executable}" "{ROOT}/example.py" "the fox" <&- >&- 2>&-'
    subprocess.run(closed, shell=True, cwd=odd, check=True)
    assert os.listdir(odd) == ["checkpoint.pt"]


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
