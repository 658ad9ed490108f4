"""example.py: what it says of swaps, sentences and heads, and how it refuses."""

import copy
import math
import os
import pty
import re
import subprocess
import sys
from contextlib import redirect_stdout
from io import StringIO

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


@pytest.fixture
def told(default, capsys):
    """What a function of example.py tells of the default model, in one line."""

    def told(show, *given):
        show(default[0], *given)
        return " ".join(capsys.readouterr().out.split())

    return told


@pytest.mark.parametrize("head", range(GPTConfig.n_head))
def test_a_map_is_that_of_the_head_it_names(head, default, capsys):
    words = read("the hungry fox near the dog")
    example.show_map(default[0], words, head)
    title, above, *rows = capsys.readouterr().out.splitlines()
    assert f"L1H{head + 1} " in title
    assert above.split() == [word[:2] for word in words]
    weights = train.inspect_attention(default[0], words).weights[0, head]
    first = above.index("<s")
    for word, row, own in zip(words, rows, weights.tolist(), strict=True):
        assert row[:first].strip() == word
        cells = row[first:].ljust(3 * len(words))
        assert cells[::3] == "".join(" ░▒▓█"[round(4 * weight)] for weight in own)


def test_a_sentence_is_told_with_its_relation_and_what_comes_next(default, told):
    model, words = default[0], read("the cat near the dogs")
    out = told(example.show_sentence, words)
    assert "dogs ▸ …: subject → verb cat → cats: " in out
    line = r"cats: L1H(\d) carries \d+%, and looks there (\d+%)"
    head, looks = re.search(line, out).groups()
    weights = train.inspect_attention(model, words).weights[0, int(head) - 1]
    assert looks == f"{weights[words.index('dogs'), words.index('cat')]:.0%}"
    said = example.percent(train.expect(model, words), 3)
    true = example.percent(train.next_words(words), 3)
    assert out.endswith(f"next, the model: {said} next, the truth: {true}")


def test_a_sentence_that_leaves_the_language_still_has_its_relation(
    default_checkpoint, tmp_path
):
    given = "--checkpoint", default_checkpoint, "the cat near the dogs chase"
    status, out, error = call(tmp_path, example, *given)
    assert (status, error) == (0, "")
    told = " ".join(out.split())
    who = r"dogs ▸ chase: subject → verb cat → cats: L1H\d carries \d+%, "
    assert re.search(who, told)
    assert 'after "the cat near the dogs" comes: chases, ' in told
    assert told.endswith('; not "chase"')


@pytest.fixture(scope="module")
def measured(default):
    """What the default model's heads do, and what is told of it, in one line."""
    with redirect_stdout(StringIO()) as out:
        example.show_heads(*default)
    return train.measure(*default), " ".join(out.getvalue().split())


def test_the_table_has_the_figures_of_the_measurement(measured):
    roles, told = measured
    for r in roles:
        own = r.looks[r.head], r.carries[r.head], r.flips[r.head]
        cells = [f"{x:z.2f}" for x in (*own, r.offset_looks, r.untrained_looks)]
        who = "shared" if r.shared else f"L1H{r.head + 1}"
        assert " ".join([r.name, who, *cells]) in told
    for r in roles:
        if not r.shared:
            jobs = told.split(f"L1H{r.head + 1} carries ")[1].split(". ")[0]
            assert f"{r.name} {r.carries[r.head]:.0%}" in jobs


def test_the_largest_loss_without_a_head_is_of_one_that_hardly_carries(measured):
    roles, told = measured
    lost, relation, head = max(
        (role.removal[head], role.name, head)
        for role in roles
        for head, carries in enumerate(role.carries)
        if abs(carries) < 0.1
    )
    said = f"""with L1H{head + 1} switched off (it gives its average) {lost:.0%}
        of the decision of {relation} is lost"""
    shown = " ".join(said.split()) in told
    assert shown == (lost > 0.1)


def test_the_star_is_for_what_is_not_in_the_language(checkpoint, tmp_path, monkeypatch):
    spoken = [read("cat sleeps"), read("cats sleep")]
    monkeypatch.setattr(train, "generate_many", lambda *_, **__: spoken)
    _, out, _ = call(tmp_path, example, "--checkpoint", checkpoint)
    assert out.endswith("\n  cat sleeps. *\n  cats sleep.\n")


# ------------------------------------------------------------------------ swaps


@pytest.fixture
def pair():
    return example.swap_in(read("the cat near the dogs"), "“Cat” → cats.")


def test_a_swap_says_what_the_model_and_the_truth_say(default, pair, told):
    model = default[0]
    head, share = example.carrier(model, pair)
    given = model.head_outputs(train.as_ids(pair.swapped))[0][:, head]
    with model.patch_heads({(0, head): given}):
        patched = train.expect(model, pair.words)
    says = {
        "it reads cat": train.expect(model, pair.words),
        "it reads cats": train.expect(model, pair.swapped),
        f"only L1H{head + 1} hears cats": patched,
    }
    out = told(example.show_swap, pair)
    for reader, chances in says.items():
        assert f"{reader} says {example.percent(chances)} " in out
    assert f"So L1H{head + 1} carries {share:.0%} of this decision." in out
    truth, after = (example.percent(train.next_words(w), 3) for w in pair[:2])
    assert out.endswith(f"the truth parts them: {truth}; after the swap: {after}")


def test_the_truth_of_a_swap_tells_first_what_only_one_side_may_say(told):
    pair = example.swap_in(read("the cat eats"), "cat → rabbit")
    truth = told(example.show_swap, pair).split("the truth parts them: ")[1]
    own, other = (train.next_words(words).keys() for words in pair[:2])
    said, after = (re.findall(r"(\w+) \d+%", side) for side in truth.split("; after "))
    assert {*said} <= own - other and {*after} <= other - own and said and after


def test_a_model_that_hardly_tells_them_apart_has_nothing_to_share_out(default, pair):
    model = copy.deepcopy(default[0])
    assert example.carrier(model, pair)[1] > 0.5
    likeliest = [next(iter(train.expect(model, words))) for words in pair[:2]]
    with torch.no_grad():
        for parameter in model.norm.parameters():
            parameter *= 0.02  # the same words, hardly likelier than others
    assert likeliest == [next(iter(train.expect(model, words))) for words in pair[:2]]
    clean, other, _ = train.patch_each_head(model, [pair])
    assert 0 < clean - other < math.log(2)
    assert math.isnan(example.carrier(model, pair)[1])


def test_a_model_that_says_the_to_everything_has_nothing_to_share_out(default, pair):
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
    said = dialogue("the cat near the dogs", f"cat{arrow}cats", "")
    assert "it reads cat " in said and "it reads cats " in said and "So L1H" in said


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
