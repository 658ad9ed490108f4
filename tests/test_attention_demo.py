"""attention_demo.py: every step, for any shape of model, and without a screen."""

import copy
import inspect
import math
import os
import re
from collections import defaultdict

import pytest
import shared
import torch
from torch.nn import functional as F

import attention_demo as demo
import model as gpt
import train
import utils
from model import GPTConfig

BROWSER = """#!/bin/sh
echo "$1" >> "$(dirname "$0")/opened"
"""


def run(folder, *arguments):
    """The script as a process, where the terminal knows only ASCII, there is no screen,
    and the browser notes what it opens."""
    (folder / "browser").write_text(BROWSER)
    (folder / "browser").chmod(0o755)
    environment = {
        "LC_ALL": "C",
        "PYTHONIOENCODING": "ascii",
        "MPLBACKEND": "nonsense",
        "DISPLAY": None,
        "WAYLAND_DISPLAY": None,
        "BROWSER": str(folder / "browser"),
    }
    return shared.finish(
        shared.start(folder, "attention_demo.py", *arguments, **environment)
    )


def opened(folder):
    return (folder / "opened").read_text().split()


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder with own.pt, the checkpoint of a model of another shape."""
    folder = tmp_path_factory.mktemp("own")
    config = GPTConfig(n_layer=2, n_head=2, n_embd=8)
    train.save_checkpoint(folder / "own.pt", train.untrained(config), train.HeldOut())
    return folder


@pytest.fixture(scope="module")
def lesson(own):
    """The whole lesson of own.pt, as a process that has ended."""
    flags = "--show", "--format", "svg", "--folder", "lesson"
    return run(own, "--checkpoint", "own.pt", *flags)


def test_the_lesson_runs_for_another_shape_in_a_plain_terminal(lesson):
    status, out, error = lesson
    assert (status, error) == (0, "")
    assert "Why sqrt d_k?" in out and out.count("?") == 1
    told = out.replace("->", "→").replace("sqrt ", "√")
    assert max(map(len, told.splitlines())) <= 80


def test_the_lesson_writes_all_its_files_into_its_folder_in_its_format(lesson, own):
    written = sorted(path.name for path in (own / "lesson").iterdir())
    film, *pages = "5-film.gif", "explorer.html", "pictures.html"
    assert len(written) == 10 and written[-3:] == [film, *pages]
    assert all(name.endswith(".svg") for name in written[:-3])
    assert not (own / "figures").exists()


def test_show_opens_all_pictures_on_one_page(lesson, own):
    page = own / "lesson" / "pictures.html"
    assert opened(own) == [page.as_uri()]
    shown = page.read_text(encoding="utf-8")
    pictures = {path.name for path in page.parent.iterdir() if path.suffix != ".html"}
    assert set(re.findall('<img src="(.+?)" alt=".', shown)) == pictures
    assert "<title>Toy GPT" in shown and 'alt=""' not in shown


def test_explore_opens_the_page_and_draws_nothing(own, tmp_path):
    flags = "--checkpoint", own / "own.pt", "--folder", "page"
    status, _, error = run(tmp_path, "--explore", *flags)
    assert (status, error) == (0, "")
    assert os.listdir(tmp_path / "page") == ["explorer.html"]
    assert opened(tmp_path) == [(tmp_path / "page" / "explorer.html").as_uri()]


def test_a_refusal_is_one_line_of_the_process(tmp_path):
    result = run(tmp_path, "--checkpoint", "nowhere.pt")
    shared.refused("attention_demo.py", result, "can't read nowhere.pt")
    assert not (tmp_path / "figures").exists()


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


@pytest.mark.parametrize(
    "part", [torch.nn.Identity(), torch.nn.RMSNorm(GPTConfig.n_embd)]
)
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
        (["picture"], "picture"),
        (
            ["--folder", "/proc/nope"],
            'can\'t write "/proc/nope/explorer.html": No such',
        ),
        (["--folder", __file__], "Not a directory"),
        (["--folder", 300 * "a"], "too long"),
    ],
)
def test_refusals_are_one_line(arguments, reason, default_checkpoint, tmp_path):
    given = "--checkpoint", default_checkpoint, *arguments
    result = shared.call(tmp_path, demo, *given)
    shared.refused("attention_demo.py", result, reason)
    assert "Errno" not in result[2]
    assert not list(tmp_path.iterdir())


# ----------------------------------------------------------- what the pictures claim


@pytest.fixture(scope="module")
def roles(default):
    return train.measure(default[0], train.HeldOut(count=1500))


DRAWING = "head_matrices", "side_by_side", "head_grid", "relation_matrices", "film"


@pytest.fixture(scope="module")
def drawn(default, roles, tmp_path_factory):
    """What the lesson has drawn: for each function of utils, the arguments of each call
    by name. The pictures themselves are empty."""
    calls = defaultdict(list)

    def recorder(name):
        parameters = inspect.signature(getattr(utils, name))

        def record(*arguments, **named):
            calls[name].append(parameters.bind(*arguments, **named).arguments)
            return utils.new_figure(1, 1)

        return record

    album = demo.Album(tmp_path_factory.mktemp("drawn"), "png")
    with pytest.MonkeyPatch.context() as patch:
        for name in DRAWING:
            patch.setattr(utils, name, recorder(name))
        demo.step_1(album)
        for step in (demo.step_2, demo.step_3, demo.step_4, demo.step_5):
            step(album, default[0], roles)
    return calls


def panels(drawn):
    """Each panel of the grids of heads: the words, the lines of its title, the cells that
    are outlined, and the map."""
    for call in drawn["head_grid"]:
        titles = [title.split("\n") for title in call["titles"]]
        for panel in zip(titles, call["mark"], call["weights"].flatten(0, 1)):
            yield call["words"], *panel


def maps_of(model, words):
    """The map of each head by its name."""
    maps = train.inspect_attention(model, words).weights.flatten(0, 1)
    return dict(zip(train.head_names(model.config), maps))


def test_the_weights_with_the_scale_stand_beside_those_without(drawn):
    (call,) = drawn["side_by_side"]
    shown, head = dict(zip(call["titles"], call["maps"])), demo.toy_head()
    scores = (head.q @ head.k.T).where(gpt.causal_mask(demo.TOKENS), -math.inf)
    torch.testing.assert_close(shown["with / √d_k"], head.weights)
    torch.testing.assert_close(shown["without the scale"], scores.softmax(1))


def test_the_title_by_hand_quotes_the_last_row_of_its_head(default, drawn):
    call = drawn["head_matrices"][-1]
    pattern = r"(\w+) by hand: “(.+)” looks (.+) at “(.+)”, .+"
    name, word, share, source = re.fullmatch(pattern, call["title"]).groups()
    assert word == call["words"][-1]
    row = maps_of(default[0], call["words"])[name][-1].tolist()
    assert share in [f"{w:.0%}" for w, at in zip(row, call["words"]) if at == source]


def test_a_panel_shows_the_head_of_its_title(default, drawn):
    for words, (name, *claims), _, shown in panels(drawn):
        if claims:  # none is made of untrained heads
            torch.testing.assert_close(shown, maps_of(default[0], words)[name])


def test_a_panel_outlines_what_its_title_says_is_carried(default, roles, drawn):
    names = train.head_names(default[0].config)
    for words, (name, *claims), outlined, _ in panels(drawn):
        said = dict(line.rsplit(" ", 1) for line in claims if "→" in line)
        some = [role for role in roles if role.name in said]
        shares = {r.name: f"{r.carries[names.index(name)]:.0%}" for r in some}
        cells = [(r.row, r.source) for r in train.relations_of(words) if r.name in said]
        assert said == shares and sorted(outlined) == sorted(cells)


def test_a_picture_explains_its_outlines(drawn):
    for call in drawn["head_grid"]:
        assert ("Outlined: " in call["title"]) == any(call["mark"])


def test_untrained_heads_stand_below_the_trained(default, drawn):
    call = drawn["head_grid"][0]
    untrained = train.untrained(default[0].config)
    rows = dict(zip(call["bands"], call["weights"], strict=True))
    for name, model in (("trained, layer 1", default[0]), ("untrained", untrained)):
        maps = maps_of(model, call["words"]).values()
        torch.testing.assert_close(rows[name], torch.stack([*maps]))


def test_the_matrices_are_what_was_measured(default, roles, drawn):
    (call,) = drawn["relation_matrices"]
    assert call["heads"] == train.head_names(default[0].config)
    assert call["relations"] == [role.name for role in roles]
    for role, looks, carries in zip(roles, call["looks"].T, call["carries"].T):
        torch.testing.assert_close(looks, torch.tensor(role.looks))
        torch.testing.assert_close(carries, torch.tensor(role.carries))


def test_the_film_begins_with_untrained_heads(default, drawn):
    (call,) = drawn["film"]
    untrained = maps_of(train.untrained(default[0].config), call["words"])
    for name, first in zip(call["names"], call["moments"][0]):
        torch.testing.assert_close(first, untrained[name])
    steps = [int(re.match(r"step (\d+)", caption)[1]) for caption in call["captions"]]
    assert steps == sorted(steps) and len(steps) == len(call["moments"])


def test_the_film_outlines_the_relations_of_its_sentence(drawn):
    (call,) = drawn["film"]
    relations = train.relations_of(call["words"])
    assert call["mark"] == [(found.row, found.source) for found in relations]


def role(name="subject → verb", **told):
    """A Role that has been told this; of the rest nothing matters."""
    others = dict.fromkeys(train.Role._fields, 0)
    return train.Role(**{**others, "name": name, "right": 1.0, **told})


@pytest.mark.parametrize(
    ("told", "finding"),
    [
        ({}, "B carries 90% of subject → verb, and looks right 80% of the time"),
        ({"carries": [0.2, 0.4]}, "no head carries half of it"),
        ({"right": 0.2}, "the model does not know it"),
    ],
)
def test_a_finding_is_of_the_main_carrier(told, finding):
    told = {"head": 1, "looks": [0.1, 0.8], "carries": [0.2, 0.9], **told}
    assert finding in demo.finding(role(**told), ["A", "B"])


def test_an_edited_language_has_its_own_examples(roles, monkeypatch):
    typed = {" ".join(words[1:]) for words in demo.examples(roles)}
    assert typed <= {text for text, *_ in demo.EXAMPLES}
    strange = [("the lynx sleeps", "lynx", "cat"), ("cat cat cat", "cat", "cats")]
    monkeypatch.setattr(demo, "EXAMPLES", strange)
    for some in (roles, roles[:1], roles[-1:]):
        words = demo.best_example(some)
        assert train.in_language(words) and demo.cells(words, some)


def test_in_a_deep_model_two_heads_may_carry_the_same():
    words = train.read(demo.EXAMPLES[0][0])
    carried = role(train.relations_of(words)[0].name, carries=[1.0, 0.7, 0.4])
    own = [demo.carried_by(head, [carried], words) for head in range(3)]
    assert own == [[carried], [carried], []]


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


def test_a_title_speaks_of_a_relation_that_its_picture_shows(default, roles):
    names = train.head_names(default[0].config)
    for relations in (train.RELATIONS, train.SYNTACTIC, train.SEMANTIC):
        some = [role for role in roles if role.name in relations]
        words = demo.best_example(some)
        present = [r.name for r in train.relations_of(words)]
        assert any(name in demo.headline(some, words, names) for name in present)
