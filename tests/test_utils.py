"""Pictures: what is drawn where, in which colours, whatever the caller has set."""

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


def title(ax):
    return ax.get_title(loc="left")


def values(ax):
    """The numbers that the colours of a panel stand for."""
    return ax.collections[0].get_array()


def outlined(ax):
    """The (row, column) cells."""
    return [(patch.get_y(), patch.get_x()) for patch in ax.patches]


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


def test_a_map_stands_as_its_words_do():
    weights = np.tril(np.arange(16).reshape(4, 4) / 16)
    ax = utils.heatmap(weights, WORDS, mark=[(3, 1)])
    assert [label.get_text() for label in ax.get_xticklabels()] == WORDS
    assert np.array_equal(values(ax).filled(0), weights)
    assert ax.yaxis_inverted() and not ax.xaxis_inverted()  # <s> is at the upper left
    assert outlined(ax) == [(3, 1)]


def test_a_row_is_named_by_its_word_and_the_next():
    labels = [text.get_text() for text in utils.heatmap(MAP, WORDS).get_yticklabels()]
    assert labels == ["<s> ▸ the", "the ▸ $a$", "$a$ ▸ $$", "$$ ▸ …"]


def test_the_future_is_blank_unless_there_is_weight_on_it():
    edited = MAP.copy()
    edited[0, 3] = 0.5
    for weights, blank in ((MAP, 6), (edited, 5)):
        drawn = values(utils.heatmap(weights, WORDS))
        assert np.ma.count_masked(drawn) == blank


@pytest.mark.parametrize(("n_layer", "n_head", "T"), [(1, 1, 1), (3, 8, 12), (2, 6, 5)])
def test_a_panel_shows_the_head_of_its_title(n_layer, n_head, T):
    heads = np.arange(n_layer * n_head).reshape(n_layer, n_head)
    maps = np.multiply.outer(heads / heads.size, np.tril(np.ones((T, T))))
    bands = [f"layer {layer + 1}" for layer in range(n_layer)]
    mark = [[(0, 0)] * head for head in heads.flat]  # a cell more in each panel
    figure = utils.head_grid(maps, ["longest-of-words"] * T, bands=bands, mark=mark)
    panels = {title(ax): ax for ax in figure.axes}
    for (layer, head), number in np.ndenumerate(heads):
        ax = panels[f"L{layer + 1}H{head + 1}"]
        assert values(ax)[T - 1, 0] == maps[layer, head, T - 1, 0]
        assert len(outlined(ax)) == number
    assert [panels[f"L{layer + 1}H1"].get_ylabel() for layer in range(n_layer)] == bands


def test_all_heads_and_the_bar_beside_them_have_one_scale():
    *panels, bar = utils.head_grid([[MAP, MAP / 2]], WORDS).axes
    assert {ax.collections[0].get_clim() for ax in panels} == {(0, 1)}
    assert bar.get_ylim() == (0, 1)


def test_a_saved_picture_has_the_colours_of_the_colour_map(tmp_path):
    figure = utils.head_grid(np.full((1, 1, 1, 1), 0.7), ["the"])
    path = utils.save(figure, tmp_path / "new" / "a.png")
    image = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    wanted = np.round(255 * np.array(matplotlib.colormaps[utils.CMAP](0.7)[:3]))
    assert (np.abs(image - wanted).max(axis=1) <= 1).sum() > 500


@pytest.mark.parametrize(("ending", "begin"), [("svg", b"<svg"), ("pdf", b"%PDF")])
def test_the_ending_of_a_path_is_the_format_of_its_picture(ending, begin, tmp_path):
    path = utils.save(utils.head_grid(MAP[None, None], WORDS), tmp_path / f"a.{ending}")
    assert begin in path.read_bytes()


class HalfDrawn:
    """A figure whose drawing breaks off in the middle of the file."""

    def savefig(self, path, **_):
        Path(path).write_bytes(b"half")
        raise OSError("the disk is full")


def test_a_picture_that_breaks_off_leaves_the_old_one(tmp_path):
    (tmp_path / "a.png").write_bytes(b"old")
    with pytest.raises(OSError, match="full"):
        utils.save(HalfDrawn(), tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.png"]


def test_what_cannot_be_drawn_or_written_is_said(tmp_path):
    with pytest.raises(ValueError, match="4 words"):
        utils.heatmap(MAP[:3, :3], WORDS)
    with pytest.raises(ValueError, match="ends in"):
        utils.save(utils.head_grid(MAP[None, None], WORDS), tmp_path / "a.jpg")
    assert not list(tmp_path.iterdir())


def test_looks_stand_left_and_carries_right_each_with_its_number():
    looks, carries, relations = [0.1, 0.2], [-0.001, 0.9], ["a → b", "c → d"]
    figure = utils.relation_matrices([looks], [carries], relations, ["H"])
    left, right = figure.axes[:2]
    assert (title(left), title(right)) == ("where it looks", "what it carries")
    assert [values(ax)[0].tolist() for ax in (left, right)] == [looks, carries]
    assert [text.get_text() for text in left.texts] == ["0.10", "0.20"]
    assert [text.get_text() for text in right.texts] == ["0.00", "0.90"]  # not -0.00


CLAIMS = {  # looks and carries of two relations, what the title says, what is outlined
    "looks": ([1, 1], [0, 1], "is not yet carrying: in the outlined cell", [(0, 0)]),
    "carries": ([0, 1], [1, 1], "is not carrying: in the outlined cell", [(0, 0)]),
    "enough": ([0, 0.75], [0, 0.25], "not yet carrying: in the outlined", [(0, 1)]),
    "too little": ([0, 0.7], [0, 0.3], "nowhere 0.5 apart", []),
    "both": ([1, 0], [0, 1], "is not carrying: in 2 outlined cells", [(0, 0), (0, 1)]),
    "alike": ([1, 1], [1, 1], "nowhere 0.5 apart", []),
    "blank": ([1, 1], [np.nan, 1], "nowhere 0.5 apart\nBlank: a relation that", []),
    "nothing": ([1, 1], [np.nan, np.nan], "The model knows no relation", []),
}


@pytest.mark.parametrize("case", CLAIMS)
def test_the_matrices_outline_and_say_where_looking_is_not_carrying(case):
    looks, carries, said, cells = CLAIMS[case]
    figure = utils.relation_matrices([looks], [carries], ["a → b", "c → d"], ["H"])
    assert said in figure.get_suptitle()
    assert ("apart" in figure.get_suptitle()) == (case != "nothing")
    assert [outlined(ax) for ax in figure.axes[:2]] == [cells, cells]


def test_each_matrix_of_a_head_stands_under_its_name():
    matrices = {name: MAP * i for i, name in enumerate(MATRICES, 1)}
    drawn = utils.head_matrices(matrices, "six", WORDS).axes
    drawn = {title(ax).split(":")[0]: values(ax) for ax in drawn}
    for name, shown in {"query": "q", "key": "k", "value": "v"}.items():
        assert np.array_equal(drawn[name], matrices[shown])
    for name in ("scores", "weights", "output"):
        assert np.array_equal(drawn[name], matrices[name])


def test_maps_beside_each_other_stand_under_their_titles():
    figure = utils.side_by_side([MAP, MAP / 2], ["whole", "half"], "two")
    panels = {title(ax): ax for ax in figure.axes}
    for name, drawn in (("whole", MAP), ("half", MAP / 2)):
        assert np.array_equal(values(panels[name]).filled(0), drawn)
        assert "0.5 or more" in panels[name].get_xlabel()


def test_zero_is_the_middle_of_the_colours_where_both_signs_are():
    ax = utils.new_figure(3, 3).subplots()
    utils.matrix([[-0.2, 0, 1]], ax=ax, title="")
    low, high = ax.collections[0].get_clim()
    assert low == -high


def test_weights_are_on_one_scale_and_tiny_scores_stay_pale():
    scores = np.where(MAP > 0, 0.01, -np.inf)
    figure = utils.head_matrices({**MATRICES, "scores": scores, "weights": MAP}, "six")
    limits = {title(ax): ax.collections[0].get_clim() for ax in figure.axes[:6]}
    assert limits["weights: softmax"] == (0, 1)
    assert limits["scores: q kᵀ / √d_k"] == (-1, 1)


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
    numbers = np.linspace(0, 1, 6)[None]
    ax = utils.relation_matrices(numbers, numbers, list("abcdef"), ["H"]).axes[0]
    inks = [text.get_color() for text in ax.texts]
    # WCAG: (light + 0.05) / (dark + 0.05) is 4.5 or more.
    colours = ax.collections[0].to_rgba(numbers)[0, :, :3]
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


def test_outside_of_a_notebook_a_figure_is_shown_as_a_file(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(matplotlib.rcParams, "backend", "agg")  # there is no screen
    utils.show(utils.heatmap(MAP, WORDS).figure, tmp_path / "a.png")
    assert capsys.readouterr().out.split() == [str(tmp_path / "a.png")]
    assert os.listdir(tmp_path) == ["a.png"]


def test_a_page_shows_pictures_within_the_window_and_says_what_they_show():
    page = utils.page_of(
        [("a.png", 'A "finding"', "One."), ("b.pdf", "B", "Two.")], "T"
    )
    assert "<title>T</title>" in page and "max-width: 100%" in page
    assert '<img src="a.png" alt="A &quot;finding&quot;">' in page
    assert '<object data="b.pdf" title="B">' in page and "aspect-ratio" in page
    assert page.count("<figcaption>") == 2


def film(path, weights, captions):
    """The frames of a film of one head, each with how long it stays, in milliseconds."""
    moments = [np.tril(np.full((1, 4, 4), weight)) for weight in weights]
    told = {"names": ["L1H1"], "mark": [(2, 1)], "title": "a film"}
    with Image.open(utils.film(moments, WORDS, captions, path, **told)) as frames:
        for number in range(frames.n_frames):
            frames.seek(number)
            yield np.asarray(frames.convert("L")), frames.info["duration"]


@pytest.mark.parametrize(
    ("weights", "captions"),
    [
        ((0.1, 0.5, 0.9), ("same", "same", "same")),
        ((0.5,) * 3, ("i", 9 * "i", 99 * "i")),
    ],
    ids=["weights", "captions"],
)
def test_a_film_shows_each_moment_in_its_turn(weights, captions, tmp_path):
    light = [frame.mean() for frame, _ in film(tmp_path / "a.gif", weights, captions)]
    assert len(light) == 3 and light == sorted(light, reverse=True)


def test_a_film_is_slow_and_holds_its_end(tmp_path):
    times = [time for _, time in film(tmp_path / "a.gif", (0.1, 0.5, 0.9), "abc")]
    assert len(times) == 3 and times[-1] >= 3000 and min(times) >= 500
    assert os.listdir(tmp_path) == ["a.gif"]
