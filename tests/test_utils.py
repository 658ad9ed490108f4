"""Pictures: the colours and the texts of what is drawn, whatever the caller has set."""

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import seaborn
from matplotlib.text import Text
from PIL import Image

import utils

WORDS = ["<s>", "the", "$a$", "$$"]
MAP = np.tril(np.full((4, 4), 0.25))


def texts(figure):
    return [text.get_text() for text in figure.findobj(Text)]


def pixels(figure):
    figure.canvas.draw()
    return np.asarray(figure.canvas.buffer_rgba())


MATRICES = {name: MAP - 0.1 for name, *_ in utils.STAGES}
DRAWN = {
    "heatmap": lambda: utils.heatmap(MAP, WORDS).figure,
    "head_grid": lambda: utils.head_grid(MAP[None, None], WORDS),
    "head_matrices": lambda: utils.head_matrices(MATRICES, "six", WORDS),
    "side_by_side": lambda: utils.side_by_side([MAP], ["a"], "b"),
    "relation_matrices": lambda: utils.relation_matrices(MAP, MAP.T, WORDS, WORDS),
}


@contextmanager
def seaborn_theme():
    """What `sns.set_theme()` sets, the meaning of "k" included."""
    with matplotlib.rc_context():
        seaborn.set_theme()
        try:
            yield
        finally:
            seaborn.set_color_codes("reset")


STYLES = {
    "ggplot": lambda: matplotlib.style.context("ggplot"),
    "dark_background": lambda: matplotlib.style.context("dark_background"),
    "seaborn": seaborn_theme,
}


@pytest.mark.parametrize("style", STYLES)
@pytest.mark.parametrize("name", DRAWN)
def test_a_style_of_the_caller_changes_nothing(name, style):
    plain = pixels(DRAWN[name]())
    with STYLES[style]():
        styled = pixels(DRAWN[name]())  # colours get their meaning when they are drawn
    assert np.array_equal(plain, styled)


def test_words_are_never_mathematics():
    figure = utils.head_grid(MAP[None, None], WORDS)
    assert "$$" in texts(figure)
    pixels(figure)  # "$$" is not an error
    assert not any(t.get_parse_math() for t in figure.axes[0].findobj(Text))


def test_a_row_is_named_by_its_word_and_the_next():
    labels = [text.get_text() for text in utils.heatmap(MAP, WORDS).get_yticklabels()]
    assert labels == ["<s> ▸ the", "the ▸ $a$", "$a$ ▸ $$", "$$ ▸ …"]


def test_the_future_is_blank_unless_there_is_weight_on_it():
    edited = MAP.copy()
    edited[0, 3] = 0.5
    for weights, blank in ((MAP, 6), (edited, 5)):
        drawn = utils.heatmap(weights, WORDS).collections[0].get_array()
        assert np.ma.count_masked(drawn) == blank


@pytest.mark.parametrize(("n_layer", "n_head", "T"), [(1, 1, 1), (3, 8, 12), (2, 3, 5)])
def test_every_shape_has_a_panel_for_each_head(n_layer, n_head, T):
    maps = np.tril(np.ones((n_layer, n_head, T, T)))
    figure = utils.head_grid(maps, ["longest-of-words"] * T)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles[0] == "L1H1" and f"L{n_layer}H{n_head}" in titles


def test_a_saved_picture_has_the_colours_of_the_colour_map(tmp_path):
    figure = utils.head_grid(np.full((1, 1, 1, 1), 0.7), ["the"])
    path = utils.save(figure, tmp_path / "new" / "a.png")
    image = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    wanted = np.round(255 * np.array(matplotlib.colormaps[utils.CMAP](0.7)[:3]))
    assert (np.abs(image - wanted).max(axis=1) <= 1).sum() > 500


@pytest.mark.parametrize("ending", ["svg", "pdf"])
def test_other_endings(ending, tmp_path):
    path = utils.save(utils.head_grid(MAP[None, None], WORDS), tmp_path / f"a.{ending}")
    assert path.stat().st_size > 1000


def test_what_cannot_be_drawn_or_written_is_said(tmp_path):
    with pytest.raises(ValueError, match="4 words"):
        utils.heatmap(MAP[:3, :3], WORDS)
    with pytest.raises(ValueError, match="ends in"):
        utils.save(utils.head_grid(MAP[None, None], WORDS), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_the_matrices_mark_where_looking_is_not_carrying():
    relations = ["a → b", "c → d"]
    figure = utils.relation_matrices([[1, 0]], [[0, -0.001]], relations, ["H"])
    assert "in the outlined cell" in figure._suptitle.get_text()
    assert [len(ax.patches) for ax in figure.axes[:2]] == [1, 1]
    assert "-0.00" not in texts(figure) and "0.00" in texts(figure)


@pytest.mark.parametrize(
    ("looks", "carries", "title"),
    [
        ([[1, 1]], [[0, 1]], "Looking is not yet carrying: in the outlined cell"),
        ([[0, 1]], [[1, 1]], "Looking is not carrying: in the outlined cell"),
        ([[1, 1]], [[1, 1]], "nowhere 0.5 apart"),
        ([[1, 1]], [[np.nan, 1]], "nowhere 0.5 apart\nBlank: a relation that"),
        ([[1, 1]], [[np.nan, np.nan]], "knows no relation"),
    ],
)
def test_the_title_of_the_matrices_is_true(looks, carries, title):
    figure = utils.relation_matrices(looks, carries, ["a → b", "c → d"], ["H"])
    assert title in figure._suptitle.get_text()
    assert np.isfinite(carries).any() or "apart" not in figure._suptitle.get_text()


def test_weights_are_on_one_scale_and_tiny_scores_stay_pale():
    scores = np.where(MAP > 0, 0.01, -np.inf)
    figure = utils.head_matrices({**MATRICES, "scores": scores, "weights": MAP}, "six")
    limits = {
        ax.get_title(loc="left"): ax.collections[0].get_clim() for ax in figure.axes[:6]
    }
    assert limits["weights: softmax"] == (0, 1)
    assert limits["scores: q kᵀ / √d_k"] == (-1, 1)
    figure = utils.side_by_side([MAP, MAP], "ab", "two")
    assert sum("0.5 or more" in text for text in texts(figure)) == 2


def test_many_heads_wrap_so_that_labels_stay_readable():
    titles = ["a\nb\nc"] * 8
    maps = np.tril(np.ones((1, 8, 12, 12)))
    figure = utils.head_grid(maps, ["word"] * 12, titles, title="finding " * 20)
    pixels(figure)
    width = figure.bbox.width
    assert figure.get_figwidth() <= 1.05 * utils.WIDTH
    for text in figure.findobj(Text):  # nothing is cut off
        box = text.get_window_extent()
        assert not text.get_text() or not text.get_visible() or box.y0 >= -1
        assert not text.get_text() or not text.get_visible() or box.x1 <= width + 1


def test_the_titles_of_one_head_do_not_run_into_the_finding():
    figure = utils.head_grid(MAP[None, None], WORDS, ["a\nb\nc\nd"], title="long " * 20)
    pixels(figure)
    panel = next(t for t in figure.findobj(Text) if t.get_text().startswith("a\n"))
    assert panel.get_window_extent().y1 < figure._suptitle.get_window_extent().y0


def test_numbers_are_readable_on_every_colour():
    values = np.linspace(0, 1, 6)[None]
    figure = utils.relation_matrices(values, values, list("abcdef"), ["H"])
    ax = figure.axes[0]
    inks = [text.get_color() for text in ax.texts]
    assert inks[0] == "black" and inks[-1] == "white"
    # WCAG: (light + 0.05) / (dark + 0.05) is 4.5 or more.
    colours = ax.collections[0].to_rgba(values)[0, :, :3]
    linear = np.where(colours > 0.04, ((colours + 0.055) / 1.055) ** 2.4, colours / 13)
    for light, ink in zip(linear @ (0.2126, 0.7152, 0.0722), inks):
        ratio = (light + 0.05) / 0.05 if ink == "black" else 1.05 / (light + 0.05)
        assert ratio >= 4.5


NOTEBOOK = """
import os, sys, types
os.environ["MPLBACKEND"] = "module://matplotlib_inline.backend_inline"
from IPython.core.interactiveshell import InteractiveShell
from IPython.utils.capture import capture_output
sys.modules["ipykernel"] = types.ModuleType("ipykernel")
shell = InteractiveShell.instance()
shell.run_cell("import numpy as np, utils; maps = np.ones((1, 1, 2, 2))")
cells = ["utils.head_grid(maps, list('ab'))", "utils.show(_, 'a.png')"]
cells += ["utils.heatmap(maps[0, 0], list('ab'))"]
cells += ["figure = utils.heatmap(maps[0, 0], list('ab')).figure; figure"]
for cell in cells:
    with capture_output() as told:
        result = shell.run_cell(cell)
    shown = shell.display_formatter.format(result.result)[0] if result.result else {}
    pictures = ["image/png" in output.data for output in told.outputs]
    print(sum(pictures) + ("image/png" in shown))
"""


def test_a_notebook_shows_a_figure_once(tmp_path):
    pytest.importorskip("IPython")
    environment = {**os.environ, "PYTHONPATH": str(Path(utils.__file__).parent)}
    told = subprocess.run(
        [sys.executable, "-c", NOTEBOOK],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert told.stdout.split() == ["1", "1", "1", "1"], told.stderr


def test_a_page_shows_pictures_within_the_window_and_says_what_they_show():
    page = utils.page_of(
        [("a.png", 'A "finding"', "One."), ("b.pdf", "B", "Two.")], "T"
    )
    assert "<title>T</title>" in page and "max-width: 100%" in page
    assert '<img src="a.png" alt="A &quot;finding&quot;">' in page
    assert '<object data="b.pdf" title="B">' in page and "aspect-ratio" in page
    assert page.count("<figcaption>") == 2


def test_a_film_is_slow_and_holds_its_end(tmp_path):
    moments = [np.tril(np.full((1, 4, 4), weight)) for weight in (0.1, 0.5, 0.9)]
    captions, path = ["first", "second", "third"], tmp_path / "film.gif"
    marked = {"names": ["L1H1"], "mark": [(2, 1)], "title": "a film"}
    utils.film(moments, WORDS, captions, path, **marked)
    times = []
    with Image.open(path) as film:
        for frame in range(film.n_frames):
            film.seek(frame)
            times.append(film.info["duration"])
    assert len(times) == 3 and times[-1] >= 3000 and min(times) >= 500
    assert os.listdir(tmp_path) == ["film.gif"]
