"""What the pictures show, that nothing in them is clipped, and that files are whole."""

import os
import subprocess
import sys
import warnings
from itertools import combinations
from pathlib import Path

os.environ["MPLBACKEND"] = "agg"

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import same_color
from matplotlib.patches import Rectangle
from PIL import Image

import utils

SHORT = ["<s>", "the", "quick", "brown", "fox"]
LONG = ["<s>"] + ["butterflies", "butterfly"] * 5 + ["butterflies"]
RELATIONS = [f"{name} → noun" for name in ("determiner", "conjunction", "adjective")]


@pytest.fixture(autouse=True)
def clean():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)  # missing glyphs, failed layouts
        yield
    plt.close("all")


def causal(*shape, T, sharpness=2.0):
    scores = np.random.default_rng(0).normal(size=(*shape, T, T)) * sharpness
    weights = np.tril(np.exp(scores))
    return weights / weights.sum(-1, keepdims=True)


def names(n_row, n_column, job=" · determiner → noun · 0.99"):
    return [[f"L{i}H{j}{job}" for j in range(n_column)] for i in range(n_row)]


def panels(figure):
    return [ax for ax in figure.axes if ax.get_label() != "<colorbar>"]


def colour_bars(figure):
    return [ax for ax in figure.axes if ax.get_label() == "<colorbar>"]


def cells(ax):
    """The drawn cells (T, T), blank ones masked."""
    T = int(max(ax.get_xlim()))
    return np.ma.reshape(ax.collections[0].get_array(), (T, T))


def outlined(ax):
    boxes = [box for box in ax.patches if isinstance(box, Rectangle)]
    return {(int(box.get_y()), int(box.get_x())) for box in boxes}


def tick_labels(ax, axis):
    """The tick labels with a text, within the limits of the axes."""
    low, high = sorted(getattr(ax, f"get_{axis}lim")())
    places = getattr(ax, f"get_{axis}ticks")()
    labels = getattr(ax, f"get_{axis}ticklabels")()
    return [
        label
        for place, label in zip(places, labels)
        if label.get_text() and low <= place <= high
    ]


def assert_readable(figure):
    """No label leaves the figure, and no two labels of an axis or titles overlap."""
    figure.draw_without_rendering()
    page = figure.bbox
    titles = []
    for ax in figure.axes:
        for axis in "xy":
            labels = tick_labels(ax, axis)
            boxes = [label.get_window_extent() for label in labels]
            for box in boxes:
                assert_inside(box, page)
            if labels and labels[0].get_rotation() % 90:
                assert_slanted_apart(labels)
            else:
                assert_apart(boxes)
        for text in (ax._left_title, ax.title, ax.xaxis.label, ax.yaxis.label):
            if text.get_text():
                assert_inside(text.get_window_extent(), page)
        if ax.get_title(loc="left"):
            titles.append(ax._left_title.get_window_extent())
    assert_apart(titles)


def assert_inside(box, page):
    assert box.x0 >= page.x0 - 1 and box.x1 <= page.x1 + 1
    assert box.y0 >= page.y0 - 1 and box.y1 <= page.y1 + 1


def assert_apart(boxes):
    for a, b in combinations(boxes, 2):
        width = min(a.x1, b.x1) - max(a.x0, b.x0)
        height = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(width, height) < 1, "labels overlap"


def assert_slanted_apart(labels):
    """Parallel lines of text: what counts is the distance across the lines."""
    starts = [label.get_transform().transform(label.get_position()) for label in labels]
    slant = np.radians(labels[0].get_rotation())
    apart = np.diff([x for x, _ in starts]) * np.sin(slant)
    assert apart.min() > labels[0].get_fontsize() * labels[0].figure.dpi / 72


# --- one map -------------------------------------------------------------------------


def test_row_labels_name_the_word_read_and_the_next():
    expected = ["<s> ▸ the", "the ▸ quick", "quick ▸ brown", "brown ▸ fox", "fox ▸ ."]
    assert utils.row_labels(SHORT) == expected
    assert utils.row_labels(["a"], last="?") == ["a ▸ ?"]


def test_heatmap_leaves_the_future_blank_and_shows_the_past():
    weights = causal(T=5)
    weights[4, 0] = 0  # a zero of the past is drawn, as a zero
    drawn = cells(utils.heatmap(weights, SHORT))
    assert (np.ma.getmaskarray(drawn) == np.triu(np.ones((5, 5), bool), 1)).all()
    assert np.allclose(drawn.filled(0), weights)


def test_blank_differs_from_zero():
    ax = utils.heatmap(causal(T=5), SHORT)
    zero = ax.collections[0].cmap(0.0)
    assert not np.allclose(zero[:3], ax.get_facecolor()[:3], atol=0.05)


def test_heatmap_marks_labels_and_scale():
    ax = utils.heatmap(causal(T=5), SHORT, mark=[(4, 2), (3, 1)], title="L1H2")
    assert outlined(ax) == {(4, 2), (3, 1)}
    assert [text.get_text() for text in tick_labels(ax, "x")] == SHORT
    assert [t.get_text() for t in tick_labels(ax, "y")] == utils.row_labels(SHORT)
    assert ax.get_title(loc="left") == "L1H2"
    assert ax.collections[0].get_clim() == (0, 1)
    assert ax.yaxis_inverted()  # the first word is the top row


def test_numbers_are_written_where_they_fit():
    weights = causal(T=5)
    written = [text.get_text() for text in utils.heatmap(weights, SHORT).texts]
    assert written == [f"{w:.2f}" for w in weights[np.tril_indices(5)]]
    assert not utils.heatmap(weights, SHORT, numbers=False).texts
    _, small = plt.subplots(figsize=(1, 1))
    assert not utils.heatmap(weights, SHORT, ax=small).texts


def test_numbers_stay_within_their_cells():
    ax = utils.heatmap(causal(T=12), LONG)
    ax.figure.draw_without_rendering()
    cell = ax.get_window_extent().width / 12
    assert ax.texts
    assert max(text.get_window_extent().width for text in ax.texts) < cell


def test_heatmap_colour_bar_is_a_choice():
    assert not colour_bars(utils.heatmap(causal(T=5), SHORT).figure)
    assert len(colour_bars(utils.heatmap(causal(T=5), SHORT, cbar=True).figure)) == 1


def test_heatmap_takes_tensors():
    torch = pytest.importorskip("torch")
    utils.heatmap(torch.tensor(causal(T=5)), SHORT)


# --- arcs ----------------------------------------------------------------------------


def arc_ends(ax, highlighted):
    """(row, column) of the arcs drawn in the highlight colour, or in another."""
    places = [text.get_position()[0] for text in ax.texts]
    ends = set()
    for line in ax.lines:
        x = line.get_xdata()
        coloured = same_color(line.get_color(), utils.HIGHLIGHT)
        if np.size(x) > 1 and coloured == highlighted:
            ends.add(tuple(int(np.argmin(np.abs(places - x[i]))) for i in (0, -1)))
    return ends


def test_arcs_join_the_words_and_highlight_the_pair():
    weights = np.eye(5)
    weights[4] = [0.05, 0.15, 0.6, 0.2, 0]
    weights[3] = [0.5, 0, 0.5, 0, 0]
    ax = utils.arcs(weights, SHORT, highlight=[(4, 2), (2, 1)])
    assert [text.get_text() for text in ax.texts] == SHORT
    assert arc_ends(ax, highlighted=True) == {(4, 2)}  # (2, 1) has no weight
    assert arc_ends(ax, highlighted=False) == {(4, 3), (3, 0), (3, 2)}


def test_a_heavier_arc_is_wider():
    weights = np.eye(5)
    weights[4] = [0, 0.2, 0.8, 0, 0]
    ax = utils.arcs(weights, SHORT)
    widths = {line.get_gid(): line.get_linewidth() for line in ax.lines[::2]}
    assert widths["arc-4-2"] > 2 * widths["arc-4-1"]


def test_words_under_arcs_stay_apart():
    ax = utils.arcs(causal(T=12), LONG, title="a title")
    ax.figure.draw_without_rendering()
    boxes = [text.get_window_extent() for text in ax.texts]
    assert_apart(boxes)
    for box in boxes:
        assert_inside(box, ax.figure.bbox)


# --- many maps -----------------------------------------------------------------------


@pytest.mark.parametrize("layers, heads", [(1, 1), (2, 4), (1, 8), (3, 4)])
def test_head_grid_shows_every_head_on_one_scale(layers, heads):
    weights = causal(layers, heads, T=5)
    figure = utils.head_grid(weights, SHORT, names(layers, heads), suptitle="heads")
    assert len(panels(figure)) == layers * heads
    assert len(colour_bars(figure)) == 1
    for ax, expected in zip(panels(figure), weights.reshape(-1, 5, 5)):
        assert ax.collections[0].get_clim() == (0, 1)
        assert np.allclose(cells(ax).filled(0), expected)
        assert np.ma.getmaskarray(cells(ax)).sum() == 10


def test_head_grid_marks_the_right_head():
    marks = {(1, 2): [(4, 2)]}
    weights = causal(2, 4, T=5)
    figure = utils.head_grid(weights, SHORT, names(2, 4), mark=marks)
    found = [outlined(ax) for ax in panels(figure)]
    assert found == [set()] * 6 + [{(4, 2)}] + [set()]


def test_compare_grid_names_its_bands():
    weights = causal(2, 4, T=5)
    bands = ["trained", "untrained"]
    for titles in (names(2, 4), names(2, 4)[0]):
        figure = utils.compare_grid(weights, SHORT, titles, bands)
        assert len(colour_bars(figure)) == 1
        labels = [ax.get_ylabel() for ax in panels(figure)]
        assert [label for label in labels if label] == bands


def test_strip_has_a_column_a_moment_and_a_row_a_head():
    maps = causal(3, 2, T=5)
    titles = ["step 0", "step 10", "step 20"]
    figure = utils.strip(maps, SHORT, titles, heads=["L1H1", "L1H2"])
    drawn = panels(figure)
    assert len(drawn) == 6 and len(colour_bars(figure)) == 1
    assert [ax.get_title(loc="left") for ax in drawn] == titles + [""] * 3
    assert np.allclose(cells(drawn[5]).filled(0), maps[2, 1])


def test_film_is_a_gif_that_rests_on_its_last_moment(tmp_path):
    maps = causal(4, 2, T=5)
    titles = [f"step {i}" for i in range(4)]
    path = tmp_path / "new" / "film.gif"
    assert utils.film(maps, SHORT, titles, path, heads=["H1", "H2"], fps=2) == path
    with Image.open(path) as film:
        assert film.format == "GIF" and film.n_frames == 4
        durations = []
        for frame in range(4):
            film.seek(frame)
            durations.append(film.info["duration"])
    assert durations[0] == 500 and durations[-1] >= 2000
    assert os.listdir(path.parent) == ["film.gif"]
    assert not plt.get_fignums()


# --- other pictures ------------------------------------------------------------------


def test_relation_matrices_have_a_scale_each():
    top1, nats = np.full((4, 3), 0.5), np.full((4, 3), 2.0)
    nats[0, 0] = -0.001
    heads = ["L1H1", "L1H2", "L1H3", "L1H4"]
    figure = utils.relation_matrices(top1, nats, RELATIONS, heads)
    left, right = panels(figure)
    assert len(colour_bars(figure)) == 2
    assert left.collections[0].get_clim() == (0, 1)
    assert right.collections[0].get_clim()[1] == 2
    assert [text.get_text() for text in right.texts][:2] == ["0.00", "2.00"]
    assert [text.get_text() for text in tick_labels(left, "y")] == heads
    assert [text.get_text() for text in tick_labels(left, "x")] == RELATIONS


def test_matrix_centres_both_signs_on_zero_and_blanks_infinity():
    scores = np.array([[-1.0, -np.inf], [2.0, 0.5]])
    image = utils.matrix(scores, title="scores = Q Kᵀ  (2, 2)").images[0]
    assert image.get_clim() == (-2, 2)
    assert image.get_array().mask.tolist() == [[False, True], [False, False]]


def test_matrix_takes_a_scale_a_map_and_blank_cells():
    blank = np.triu(np.ones((3, 3), bool), 1)
    ax = utils.matrix(np.ones((3, 3)), blank=blank, vmin=0, vmax=5, cmap="viridis")
    image = ax.images[0]
    assert image.get_clim() == (0, 5) and image.get_cmap().name == "viridis"
    assert (image.get_array().mask == blank).all()
    assert len(colour_bars(ax.figure)) == 1


def test_bars_show_each_group():
    groups = {"model": [0.6, 0.4], "truth": [0.5, 0.5]}
    ax = utils.bars(["eats", "sleeps"], groups, title="fox ▸ ?")
    drawn = {
        group.get_label(): [bar.get_width() for bar in group] for group in ax.containers
    }
    assert drawn == groups
    assert ax.yaxis_inverted()
    assert ax.xaxis.get_major_formatter()(0.5) == "50%"


# --- nothing clipped, nothing refused in silence -------------------------------------

CAPTION = "Every query meets every key: one number for each pair of the 128 tokens."


@pytest.mark.parametrize(
    "draw",
    [
        lambda: utils.heatmap(causal(T=12), LONG, title="L1H1", cbar=True).figure,
        lambda: utils.head_grid(causal(1, 4, T=12), LONG, names(1, 4), suptitle="all"),
        lambda: utils.head_grid(causal(2, 4, T=12), LONG, names(2, 4)),
        lambda: utils.head_grid(causal(1, 8, T=12), LONG, names(1, 8)),
        lambda: utils.head_grid(causal(1, 8, T=5), SHORT, names(1, 8)),
        lambda: utils.strip(
            causal(6, 2, T=12),
            LONG,
            [f"step {i}00" for i in range(6)],
            heads=["A", "B"],
        ),
        lambda: utils.relation_matrices(
            np.ones((4, 3)), np.ones((4, 3)), RELATIONS, ["H1", "H2", "H3", "H4"]
        ),
        lambda: (
            (
                utils.matrix(
                    np.eye(9), title="scores = Q Kᵀ / √d  (9, 9)", caption=CAPTION
                )
            ).figure
        ),
        lambda: utils.bars(LONG[1:], {"model": np.full(11, 1.0)}).figure,
    ],
)
def test_no_text_is_clipped_or_overlaps(draw):
    assert_readable(draw())


@pytest.mark.parametrize(
    "draw, number",
    [
        (lambda: utils.heatmap(np.ones((5, 4)), SHORT), r"\(5, 4\).*5 words"),
        (lambda: utils.heatmap(np.ones((5, 5)), SHORT[:3]), r"\(5, 5\).*3 words"),
        (lambda: utils.heatmap(np.ones((5, 5)), SHORT, rows=["a"]), "1 row"),
        (lambda: utils.arcs(np.ones((2, 5, 5)), SHORT), r"\(2, 5, 5\)"),
        (lambda: utils.head_grid(causal(1, 4, T=5), SHORT, names(1, 3)), r"3.*1 × 4"),
        (lambda: utils.head_grid(causal(4, T=5), SHORT, names(1, 4)), r"\(4, 5, 5\)"),
        (
            lambda: utils.compare_grid(causal(2, 4, T=5), SHORT, names(2, 4), ["a"]),
            "1 names, 2 rows",
        ),
        (
            lambda: utils.strip(causal(2, 1, T=5), SHORT, ["a"], heads=["H"]),
            r"1.*1 × 2",
        ),
        (
            lambda: utils.relation_matrices(
                np.ones((2, 3)), np.ones((2, 4)), RELATIONS, ["H1", "H2"]
            ),
            r"\(2, 4\).*\(2, 3\)",
        ),
        (lambda: utils.matrix(np.ones(3)), "not 1"),
        (lambda: utils.bars(["a"], {"model": [0.1, 0.2]}), "2 values.*1 labels"),
    ],
)
def test_shapes_that_do_not_fit_are_refused_with_their_numbers(draw, number):
    with pytest.raises(ValueError, match=number):
        draw()
    assert not plt.get_fignums()  # refused before a figure is made


# --- files and windows ---------------------------------------------------------------


@pytest.mark.parametrize(
    "ending, start", [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".PDF", b"%PDF")]
)
def test_save_writes_what_the_ending_says(tmp_path, ending, start):
    path = tmp_path / "deep" / f"map{ending}"
    figure = utils.heatmap(causal(T=5), SHORT).figure
    assert utils.save(figure, str(path)) == path
    assert path.read_bytes().startswith(start)
    assert path.stat().st_size < 300_000
    assert os.listdir(path.parent) == [path.name]
    assert not plt.get_fignums()


@pytest.mark.parametrize("name", ["map.jpeg", "map"])
def test_save_refuses_other_endings(tmp_path, name):
    with pytest.raises(ValueError, match=r"png.*svg.*pdf") as refusal:
        utils.save(plt.figure(), tmp_path / name)
    assert repr(Path(name).suffix) in str(refusal.value)
    assert not os.listdir(tmp_path)


def test_film_refuses_other_endings(tmp_path):
    with pytest.raises(ValueError, match=r"'\.mp4'"):
        utils.film(causal(1, 1, T=5), SHORT, ["a"], tmp_path / "f.mp4", heads=["H"])


def test_a_failing_write_leaves_the_old_file_whole(tmp_path, monkeypatch):
    path = tmp_path / "map.png"
    path.write_bytes(b"old")
    figure = plt.figure()

    def fail(draft, **options):
        Path(draft).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(figure, "savefig", fail)
    with pytest.raises(OSError, match="no space"):
        utils.save(figure, path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["map.png"]


def test_fifty_figures_leave_none_open(tmp_path):
    weights = causal(T=2)
    for index in range(50):
        figure = utils.arcs(weights, ["a", "b"]).figure
        utils.save(figure, tmp_path / f"{index}.svg")
    assert not plt.get_fignums()


@pytest.mark.parametrize(
    "setting",
    [
        {"DISPLAY": ":987"},
        {"MPLBACKEND": "nonsense"},
        {"MPLBACKEND": "module://not_there"},
        {"MPLBACKEND": "tkagg"},
    ],
    ids=str,
)
def test_without_a_screen_figures_are_still_drawn(setting, tmp_path):
    hidden = {"DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    root = Path(utils.__file__).parent
    code = (
        "import utils; print(utils.has_screen());"
        "utils.save(utils.bars(['a'], {'model': [1]}).figure, 'bars.png')"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        env={**kept, **setting, "PYTHONPATH": str(root)},
        cwd=tmp_path,
        capture_output=True,
        check=False,
        text=True,
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "False"
    assert not run.stderr
    assert (tmp_path / "bars.png").exists()
