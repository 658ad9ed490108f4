"""attention_demo.py: every step, for any shape of model, and without a screen."""

import copy
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import attention_demo as demo
import model as gpt
import train
from model import GPTConfig

ROOT = Path(__file__).parent.parent
ENVIRONMENT = {k: v for k, v in os.environ.items() if "DISPLAY" not in k}


def run(folder, *arguments, **environment):
    return subprocess.run(
        [sys.executable, ROOT / "attention_demo.py", *arguments],
        cwd=folder,
        env={**ENVIRONMENT, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_it_runs_for_another_shape_and_writes_all_its_files(tmp_path):
    config = GPTConfig(n_layer=2, n_head=2, n_embd=8)
    train.save_checkpoint(tmp_path / "own.pt", train.untrained(config), train.HeldOut())
    plain = {"LC_ALL": "C", "PYTHONIOENCODING": "ascii", "MPLBACKEND": "nonsense"}
    plain["BROWSER"] = "true"  # a browser that is content with any page
    result = run(tmp_path, "--show", "--checkpoint", "own.pt", **plain)
    assert result.returncode == 0, result.stderr
    assert "Why sqrt d_k?" in result.stdout and result.stdout.count("?") == 1
    assert result.stderr == ""
    written = sorted(path.name for path in (tmp_path / "figures").iterdir())
    pages = ["explorer.html", "pictures.html"]
    assert len(written) == 10 and "5-film.gif" in written and written[-2:] == pages
    shown = (tmp_path / "figures" / "pictures.html").read_text(encoding="utf-8")
    assert all(f'<img src="{name}" alt="' in shown for name in written[:-2])
    assert "<title>Toy GPT" in shown and 'alt=""' not in shown
    told = result.stdout.replace("->", "→").replace("sqrt ", "√")
    assert max(map(len, told.splitlines())) <= 80


def without_scale(q, k, v, mask):
    weights = (q @ k.mT + torch.where(mask, 0.0, -torch.inf)).softmax(-1)
    return weights @ v, weights


EDITS = {  # of model.py
    "mask": lambda m: m.setattr(gpt, "causal_mask", lambda T: torch.eye(T) > 0),
    "scale": lambda m: m.setattr(gpt, "attention", without_scale),
    "relu": lambda m: m.setattr(torch.nn.GELU, "forward", lambda self, x: x.relu()),
    "residual": lambda m: m.setattr(gpt.Block, "forward", lambda b, x: b.attention(x)),
}


@pytest.mark.parametrize("edit", EDITS)
def test_the_page_is_refused_for_an_edited_model(default, tmp_path, monkeypatch, edit):
    EDITS[edit](monkeypatch)
    with pytest.raises(train.Mistake, match="edited model.py"):
        demo.write_page(*default, [], tmp_path / "explorer.html")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", [torch.nn.Identity(), torch.nn.RMSNorm(44)])
def test_the_page_is_refused_for_a_model_of_other_parts(default, tmp_path, part):
    model = copy.deepcopy(default[0])
    model.norm = part
    with pytest.raises(train.Mistake, match="edited model.py"):
        demo.write_page(model, default[1], [], tmp_path / "explorer.html")


def test_a_head_by_hand_is_the_model_s(default):
    words = train.read("the quick brown fox")
    weights = default[0].attention_maps(train.as_ids(words))[0][0]
    outputs = default[0].head_outputs(train.as_ids(words))[0][0]
    for head in range(default[0].config.n_head):
        steps = demo.by_hand(default[0], words, head)
        torch.testing.assert_close(steps.weights, weights[head], atol=1e-5, rtol=0)
        torch.testing.assert_close(steps.output, outputs[head], atol=1e-5, rtol=1e-4)


def test_the_five_lines_that_are_printed_are_those_that_run(monkeypatch, capsys):
    monkeypatch.setattr(demo.Album, "add", lambda *_: None)  # the lines alone
    demo.step_1(demo.Album("figures", "png"))
    lines = [line for line in capsys.readouterr().out.splitlines() if " = " in line]
    lines = [line.strip() for line in lines if line.startswith("    ")]
    assert len(lines) == 5
    x, weights = torch.randn(4, 16), torch.randn(3, 16, 8)
    scope = dict(zip(("w_q", "w_k", "w_v"), weights))
    scope |= {"math": math, "torch": torch, "causal_mask": demo.causal_mask, "x": x}
    exec("\n".join(lines), scope)  # noqa: S102 (what the reader is told to run)
    q, k, v = x @ weights
    expected = F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(scope["output"], expected)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--format", "bmp"], "bmp"),
        (["--checkpoint", "nowhere.pt"], "can't read nowhere.pt"),
        (["picture"], "picture"),
        (
            ["--folder", "/proc/nope"],
            'can\'t write "/proc/nope/explorer.html": No such',
        ),
        (["--folder", __file__], "Not a directory"),
        (["--folder", 300 * "a"], "too long"),
    ],
)
def test_refusals_are_one_line(
    arguments, reason, default_checkpoint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    known = ["attention_demo.py", "--checkpoint", str(default_checkpoint)]
    monkeypatch.setattr(sys, "argv", [*known, *arguments])
    with pytest.raises(SystemExit) as ended, train.polite():
        demo.main()
    out, error = capsys.readouterr()
    assert (ended.value.code, out, error.count("\n")) == (2, "", 1)
    assert reason in error and "Errno" not in error
    assert not list(tmp_path.iterdir())


def test_an_edited_language_has_its_own_examples(default, monkeypatch):
    roles = train.measure(default[0], train.HeldOut(count=1500))
    typed = {" ".join(words[1:]) for words in demo.examples(roles)}
    assert typed <= {text for text, *_ in demo.EXAMPLES}
    strange = [("the lynx sleeps", "lynx", "cat"), ("cat cat cat", "cat", "cats")]
    monkeypatch.setattr(demo, "EXAMPLES", strange)
    for some in (roles, roles[:1], roles[-1:]):
        words = demo.best_example(some)
        assert train.in_language(words) and demo.cells(words, some)


def test_a_head_is_said_to_carry_what_its_picture_outlines(default):
    model, few = default[0], train.HeldOut(count=1500)
    roles, names = train.measure(model, few), train.head_names(model.config)
    words, heads = demo.best_example(roles), range(len(names))
    maps = train.inspect_attention(model, words).weights
    figure = demo.draw_heads(maps, words, heads, roles, names)
    assert "Outlined: " in figure.get_suptitle()
    for ax in figure.axes[: len(names)]:
        said = ax.get_title(loc="left").count("→")
        assert (said > 0) == (len(ax.patches) > 0)


def test_in_a_deep_model_two_heads_may_carry_the_same():
    words = train.read(demo.EXAMPLES[0][0])
    name = train.relations_of(words)[0].name
    role = train.Role(name, 9, 0, [1, 1, 1], [1.0, 0.7, 0.4], [], [], 1.0, 0, 0)
    own = [demo.carried_by(head, [role], words) for head in range(3)]
    assert own == [[role], [role], []]


def test_of_a_model_that_knows_nothing_nothing_is_claimed(tmp_path):
    config = GPTConfig(n_layer=3, n_head=2, n_embd=8)
    model, album = train.untrained(config), demo.Album(tmp_path, "svg")
    roles = train.measure(model, train.HeldOut(count=1500))
    demo.step_3(album, model, roles)
    demo.step_4(album, model, roles)
    titles = {name: title for name, title, _ in album.shown}
    assert not any("Outlined" in title for title in titles.values())
    assert "knows no relation" in titles["4-matrices.svg"]
    captions = " ".join(caption for *_, caption in album.shown)
    assert captions.count("carries half or more of: none") == 2
    # Of the untrained heads those of the first layer are enough: all look alike.
    picture = (tmp_path / "3-heads.svg").read_text(encoding="utf-8")
    assert "<!-- trained, layer 3 -->" in picture
    assert picture.count("<!-- untrained -->") == 1


def test_a_title_speaks_of_a_relation_that_its_picture_shows(default):
    model, few = default[0], train.HeldOut(count=1500)
    roles, names = train.measure(model, few), train.head_names(model.config)
    for relations in (train.RELATIONS, train.SYNTACTIC, train.SEMANTIC):
        some = [role for role in roles if role.name in relations]
        words = demo.best_example(some)
        present = [r.name for r in train.relations_of(words)]
        assert any(name in demo.headline(some, words, names) for name in present)
