"""The lesson writes what it says, and the explorer answers to a mouse and a keyboard."""

import os
import subprocess
import sys
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backend_bases import KeyEvent, MouseEvent

import attention_demo as demo
import train
import utils

SCRIPTS = Path(demo.__file__).parent
FIGURES = ["1-one-head", "1-why-the-scale", "2-by-hand", "3-all-heads-1", "5-needs"]


def run(folder, script, *flags):
    """Run a script in a folder, as if there were no screen."""
    headless = {"DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND"}
    return subprocess.run(
        [sys.executable, SCRIPTS / script, *flags],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if k not in headless},
        check=False,
        capture_output=True,
        text=True,
        encoding="utf-8",
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a model that has learned a little."""
    folder = tmp_path_factory.mktemp("demo")
    assert run(folder, "train.py", "--steps", "60").returncode == 0
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    model, held_out = train.load(str(folder / "checkpoint.pt"))
    return model, train.measure(model, held_out)


# ---------------------------------------------------------------------- the lesson


@pytest.fixture(scope="module")
def lesson(folder):
    return run(folder, "attention_demo.py")


def test_lesson_writes_all_its_figures(folder, lesson):
    assert (lesson.returncode, lesson.stderr) == (0, "")
    files = sorted((folder / "figures").iterdir())
    assert all(file.stat().st_size > 5000 for file in files)
    assert {f"{name}.png" for name in FIGURES} <= {file.name for file in files}
    assert [file.name for file in files if file.suffix == ".gif"] == ["5-moments.gif"]
    lines = [line for line in lesson.stdout.splitlines() if "figures/" in line]
    told = [Path(line.split(": ")[0].strip()).name for line in lines]
    assert sorted(told) == [file.name for file in files]  # a line each, nothing else
    assert all(len(line.split(": ", 1)[1]) > 20 for line in lines)


def test_lesson_explains_five_steps(lesson):
    steps = [line for line in lesson.stdout.splitlines() if line[:2] in "1.2.3.4.5."]
    assert [step[0] for step in steps if step] == list("12345")


def test_own_sentence_and_vector_graphics(folder, monkeypatch, capsys):
    flags = ["--sentence", "The hungry fox eats the mouse.", "--format", "svg"]
    argv = ["attention_demo.py", *flags, "--out", "own", "--no-show"]
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(demo, "SHORT_RUN", train.TrainConfig(steps=40, eval_every=20))
    demo.main()
    assert "the hungry fox eats the mouse" in capsys.readouterr().out
    files = list((folder / "own").iterdir())
    assert {file.suffix for file in files} == {".svg", ".gif"}
    assert all("<svg" in f.read_text()[:1000] for f in files if f.suffix == ".svg")
    assert not (folder / "own" / "3-all-heads-2.svg").exists()


@pytest.mark.parametrize(
    "flags, told",
    [
        (["--sentence", "the quikc fox"], "quikc"),
        (["--sentence", " "], "empty"),
        (["--sentence", "the " * 12], "too many"),
        (["--format", "jpeg"], "jpeg"),
        (["--out", "file/figures"], "file"),
        (["--colour"], "--colour"),
        (["--explore"], "screen"),
    ],
)
def test_bad_input_is_one_line(flags, told, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["attention_demo.py", *flags])
    with pytest.raises(SystemExit) as ended, train.polite():
        demo.main()
    out, error = capsys.readouterr()
    assert (ended.value.code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("attention_demo.py: ")
    assert told in error


def test_toy_head_is_the_base_model():
    steps = demo.toy_head()
    shapes = [tuple(tensor.shape) for tensor, _ in steps.values()]
    assert shapes[:3] == [(128, 64)] * 3
    assert shapes[-2:] == [(128, 128), (128, 64)]
    weights = steps["softmax"][0]
    torch.testing.assert_close(weights.sum(-1), torch.ones(128))
    assert not weights.triu(1).any()


def test_by_hand_is_what_the_model_does():
    torch.manual_seed(0)
    model = train.untrained(demo.GPTConfig(n_layer=2))
    words, weights = train.inspect_attention(model, "the quick brown fox")
    for head in range(8):
        own = weights.flatten(0, 1)[head]
        hand = demo.by_hand(model, words, head)["weights"]
        torch.testing.assert_close(hand, own, rtol=0, atol=1e-6)


# --------------------------------------------------------------------- the explorer


class Visitor:
    """Plays with an explorer as a person would: with real events."""

    def __init__(self, explorer):
        self.explorer, self.canvas = explorer, explorer.figure.canvas
        self.canvas.draw()

    def mouse(self, name, ax, x, y, *, data=False):
        transform = ax.transData if data else ax.transAxes
        place = transform.transform((x, y))
        button = None if "motion" in name else 1
        event = MouseEvent(name, self.canvas, *place, button)
        self.canvas.callbacks.process(name, event)

    def click(self, ax, x=0.5, y=0.5, **kwargs):
        self.mouse("button_press_event", ax, x, y, **kwargs)
        self.mouse("button_release_event", ax, x, y, **kwargs)

    def hover(self, row, column):
        ax = self.explorer.large
        self.mouse("motion_notify_event", ax, column + 0.5, row + 0.5, data=True)

    def type(self, text):
        self.click(self.explorer.box.ax)
        for key in ["backspace"] * len(self.explorer.box.text) + [*text, "enter"]:
            event = KeyEvent("key_press_event", self.canvas, key)
            self.canvas.callbacks.process("key_press_event", event)

    def tick(self, head):
        """Click the check box of a head."""
        ax = self.explorer.boxes.ax
        x, y = self.explorer.boxes.labels[head].get_position()
        self.click(ax, x + 0.05, y)

    def bars(self):
        """{word: (model, grammar)} as drawn."""
        ax = self.explorer.chart
        words = [label.get_text() for label in ax.get_yticklabels()]
        width = [bar.get_width() for bar in ax.patches]
        return {w: pair for w, *pair in zip(words, width, width[len(words) :]) if w}


@pytest.fixture
def visitor(trained):
    yield Visitor(demo.Explorer(*trained, demo.START))
    plt.close("all")


def test_typing_shows_the_sentence(visitor):
    visitor.type("The quick fox chases")
    explorer = visitor.explorer
    assert explorer.words == ["<s>", "the", "quick", "fox", "chases"]
    rows = [label.get_text() for label in explorer.large.get_yticklabels()]
    assert rows[-1] == "chases ▸ …"
    spoken = [text.get_text() for text in explorer.spoken if text.get_visible()]
    assert spoken == explorer.words
    weights = train.inspect_attention(explorer.model, "the quick fox chases").weights
    drawn = np.ma.filled(explorer.big.get_array(), 0)
    np.testing.assert_allclose(drawn, weights.flatten(0, 1)[explorer.head], atol=1e-6)


def test_unknown_word_is_told_in_the_window(visitor):
    before = list(visitor.explorer.words)
    visitor.type("the quikc fox")
    assert "quikc" in visitor.explorer.message.get_text()
    assert visitor.explorer.words == before
    visitor.type("the fox fox")
    assert "No sentence" in visitor.explorer.message.get_text()
    visitor.type("the fox chases the bird")
    assert visitor.explorer.message.get_text() == "A sentence of the language."


def test_click_enlarges_a_head(visitor):
    explorer = visitor.explorer
    for head, ax in enumerate(explorer.thumbnails):
        visitor.click(ax)
        assert explorer.large.get_title("left") == explorer.titles[head]
        np.testing.assert_array_equal(explorer.big.get_array(), explorer.maps[head])


def test_hovering_says_the_weight_and_marks_the_word(visitor):
    explorer = visitor.explorer
    visitor.hover(3, 2)
    weight = explorer.maps[explorer.head][3, 2]
    assert explorer.told.get_text() == f"cat looks at hungry: {weight:.2f}"
    marked = [
        word.get_text()
        for word in explorer.spoken
        if word.get_bbox_patch().get_edgecolor()[3] and word.get_visible()
    ]
    assert marked == ["cat"]
    assert set(visitor.bars()) != {"eats"}  # it predicts from the row under the mouse
    visitor.hover(2, 5)  # the future
    assert "looks at" not in explorer.told.get_text()


def test_click_keeps_a_row(visitor):
    visitor.click(visitor.explorer.large, 1.5, 4.5, data=True)
    visitor.hover(1, 4)
    assert visitor.explorer.chart.get_title("left") == 'After "near"'


def test_bars_are_the_model_and_the_truth(visitor):
    explorer = visitor.explorer
    model = train.expect(explorer.model, explorer.words)
    truth = train.next_words(tuple(explorer.words))
    for word, (chance, true) in visitor.bars().items():
        assert chance == pytest.approx(model[word])
        assert true == pytest.approx(truth.get(word, 0))


def test_check_box_switches_a_head_off_and_on(visitor):
    explorer = visitor.explorer
    before = visitor.bars()
    visitor.tick(explorer.head)
    assert explorer.off == {explorer.head}
    off = visitor.bars()
    assert off != before
    name = explorer.names[explorer.head]
    assert name in explorer.chart.get_title("left")
    with explorer.model.heads_off([divmod(explorer.head, 4)]):
        expected = train.expect(explorer.model, explorer.words)
    for word, (chance, _) in off.items():
        assert chance == pytest.approx(expected[word])
    visitor.tick(explorer.head)
    assert (explorer.off, visitor.bars()) == (set(), before)


def test_explorer_of_a_larger_model(trained):
    config = demo.GPTConfig(n_layer=3, n_head=4)
    explorer = demo.Explorer(train.untrained(config), trained[1], demo.START)
    assert len(explorer.thumbnails) == len(explorer.boxes.labels) == 12
    explorer.figure.canvas.draw()
    plt.close("all")


def test_show_without_a_screen_writes_a_file(tmp_path, capsys):
    path = tmp_path / "map.png"
    utils.show(utils.head_grid([[[[1.0]]]], ["a"], [["L1H1"]]), path)
    assert path.stat().st_size > 1000
    out = capsys.readouterr().out
    assert str(path) in out
    assert out.count("\n") == 1
    assert not plt.get_fignums()
