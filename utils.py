"""Drawing for Toy GPT: arrays and words in, matplotlib figures out.

Nothing here knows a model or a corpus. Figures belong to whoever asks for them: they are
made without pyplot, so nothing opens a window but `show`, and a style that the caller
has set changes nothing. `save` writes a figure, whole or not at all; `page_of` puts
pictures on a page, and `open_page` opens it in the browser.

Arrays are whatever `np.asarray` takes. T is the number of words. An attention map is
(T, T): its rows look, its columns are looked at. What lies above the diagonal is the
future: it is left blank, unless there is weight on it.
"""

import html
import io
import math
import os
import sys
import textwrap
import webbrowser
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

try:
    import matplotlib
except ValueError:  # MPLBACKEND names no backend at all: draw to files instead
    os.environ["MPLBACKEND"] = "agg"
    for name in [name for name in sys.modules if name.startswith("matplotlib.")]:
        del sys.modules[name]  # left over from the half import
    import matplotlib
import seaborn  # noqa: F401 (it brings the colour maps mako and vlag)
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image  # matplotlib needs it, so it is there

CMAP = "mako_r"  # perceptually uniform; its zero is a tint, so blank stays distinct
DIVERGING_CMAP = "vlag"  # blue, pale, red: safe for colour-blind readers
HIGHLIGHT = "#E8590C"  # orange stands out from every shade of CMAP
ACROSS = 4  # panels side by side
WIDTH = 8.6  # inches of a figure; at the README's 830 pixels a point is 1.3 pixels


@contextmanager
def own_style():
    """Draw the same, whatever style the caller has set. Also a decorator."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams["text.parse_math"] = False  # a word is never mathematics
        yield


def row_labels(words, last="…"):
    """Name each of the T rows by the word read and the next one: "the ▸ cat"."""
    return [f"{word} ▸ {after}" for word, after in zip(words, [*words[1:], last])]


@own_style()
def heatmap(weights, words, *, ax=None, title=None, rows=None, mark=()):
    """Draw one attention map, weights (T, T), and return its axes.

    ax:   where to draw; without it a figure of its own, which a notebook shows
    rows: T row labels, `row_labels(words)` by default; [] for none
    mark: (row, column) cells to outline, such as a relation's (row, source)

    Raises ValueError unless weights are (T, T) for the T words.
    """
    weights, T = np.asarray(weights, dtype=float), len(words)
    if weights.shape != (T, T) or not T:
        raise ValueError(f"weights of shape {weights.shape}, and {T} words")
    rows = row_labels(words) if rows is None else rows
    if ax is None:
        figure = new_figure(0.45 * T + 1.6, 0.45 * T + 1.1)
        ax = figure.add_subplot(axes_class=OnlyAxes)
    paint(ax, weights, future(weights))
    ax.set_aspect("equal")
    ax.set_xticks(np.arange(T) + 0.5, words, parse_math=False)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows, parse_math=False)
    ax.tick_params(axis="x", rotation=90)
    outline(ax, mark)
    if title:
        ax.set_title(title, fontsize=8, loc="left", parse_math=False)
    return ax


@own_style()
def head_grid(weights, words, titles=None, *, bands=None, mark=None, title=None):
    """Draw every head of every layer on one colour scale and return the figure.

    weights: (n_row, n_head, T, T); a row of panels is a layer, or all heads of a model
    titles:  one for each panel, row by row; L1H1, L1H2, … by default
    bands:   a name for each row of panels
    mark:    for each panel, row by row, the (row, column) cells to outline
    """
    weights = np.asarray(weights, dtype=float)
    if weights.ndim != 4:
        raise ValueError(f"weights of shape {weights.shape}: 4 dimensions are needed")
    n_row, n_head = weights.shape[:2]
    titles = titles or [
        f"L{r + 1}H{c + 1}" for r in range(n_row) for c in range(n_head)
    ]
    mark = mark or [()] * (n_row * n_head)
    across = min(n_head, ACROSS)  # more would be too small to read: they wrap
    down = math.ceil(n_head / across)
    panel = min(3.2, (WIDTH - 1.2) / across)  # inches
    bands_of_titles = (titles[i : i + n_head] for i in range(0, len(titles), n_head))
    lines = sum(max(t.count("\n") for t in band) for band in bands_of_titles)
    figure = new_figure(
        max(6, across * panel + 1.2),
        n_row * down * (panel + 0.3) + down * 0.15 * lines + 1.0,
    )
    axes = figure.subplots(n_row * down, across, squeeze=False)
    for i, name in enumerate(titles):
        row, head = divmod(i, n_head)
        ax = axes[row * down + head // across, head % across]
        first, last = head % across == 0, row == n_row - 1 and head + across >= n_head
        rows = None if first else []
        heatmap(weights[row, head], words, ax=ax, title=name, rows=rows, mark=mark[i])
        if not last:
            ax.set_xticks([])
        if head == 0 and bands:
            ax.set_ylabel(bands[row], fontsize=10, fontweight="bold")
    for ax in axes.flat:
        if not ax.has_data():
            ax.set_axis_off()
    colour_bar(figure, axes, "attention weight")
    heading(figure, title)
    return figure


@own_style()
def matrix(values, *, ax, title, caption="", blank=None, labels=None, limits=None):
    """Draw one matrix of a computation, values (rows, columns), into the axes.

    Values of both signs get a diverging map centred on zero, others a sequential one.

    blank:  a bool for each cell that has no value, such as the masked future
    labels: (names of the rows, names of the columns); with them, numbers in the
            cells of up to six columns
    limits: (lowest, highest) of the colours
    """
    values = np.asarray(values, dtype=float)
    blank = ~np.isfinite(values) if blank is None else np.asarray(blank)
    seen = values[~blank]
    low, high = limits or (seen.min(), seen.max())
    both = low < 0 < high
    if both and not limits:
        low, high = -max(-low, high), max(-low, high)
    cmap = DIVERGING_CMAP if both else CMAP
    digits = ".1f" if both else ".2f"
    numbers = digits if labels and values.shape[1] <= 6 else None
    mesh = paint(ax, values, blank, (low, high), cmap, numbers)
    rows, columns = labels or ([], [])
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    if any(len(str(name)) > 2 for name in columns):
        ax.tick_params(axis="x", rotation=90)
    bar = ax.figure.colorbar(mesh, ax=ax, aspect=30, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=0)
    ax.set_title(title, fontsize=10, loc="left")
    ax.set_xlabel(textwrap.fill(caption, 44), fontsize=8, color="0.3", loc="left")


STAGES = (  # of one head: the name of a matrix, its title, and what it says
    ("q", "query", "The features each word looks for."),
    ("k", "key", "The features it can be found by."),
    ("scores", "scores: q kᵀ / √d_k", "How well the two match."),
    ("weights", "weights: softmax", "Each row is shared out: it sums to 1."),
    ("v", "value", "The features each word hands over."),
    ("output", "output: weights × value", "The features the head passes on."),
)


@own_style()
def head_matrices(matrices, title, words=(), last="…"):
    """Draw the six matrices of one head and return the figure.

    matrices: {name of STAGES: (T, columns)}; scores of -inf are the masked future
    words:    T names of the rows, and of the columns of scores and weights
    last:     the word that comes after them
    """
    figure, scores = new_figure(WIDTH, 6.8), np.asarray(matrices["scores"])
    masked = np.isinf(scores)
    # A score that is 1 larger makes a weight e times as large: much less stays pale.
    most = max(1, np.abs(scores[~masked]).max())
    scales = {"scores": (-most, most), "weights": (0, 1)}
    for ax, (name, stage, caption) in zip(figure.subplots(2, 3).flat, STAGES):
        values, square = np.asarray(matrices[name]), name in ("scores", "weights")
        shown = {"title": stage, "caption": caption, "limits": scales.get(name)}
        if square:
            shown["blank"] = masked
        if words:
            features = range(1, values.shape[1] + 1)
            columns = words if square else [i if i % 4 == 0 else "" for i in features]
            rows = words if name in ("k", "v") else row_labels(words, last)
            shown["labels"] = rows, columns
        matrix(values, ax=ax, **shown)
    heading(figure, title)
    return figure


@own_style()
def side_by_side(maps, titles, title):
    """Draw attention maps of many words beside each other and return the figure.

    maps: (T, T) each, on one scale; it ends at 0.5 and says so, since weights do not.
    titles: one for each.
    """
    figure = new_figure(WIDTH, 4.4)
    axes = figure.subplots(1, len(maps), squeeze=False)[0]
    for ax, weights, name in zip(axes, maps, titles):
        shown = {"title": name, "caption": "Black: 0.5 or more.", "limits": (0, 0.5)}
        matrix(weights, ax=ax, blank=future(weights), **shown)
    heading(figure, title)
    return figure


@own_style()
def relation_matrices(looks, carries, relations, heads):
    """Draw where heads look beside what they carry; return the figure.

    looks, carries: (all heads, relations); colours end at 0 and 1, nan stays blank.
    Cells where the two differ by a half or more are outlined, and counted in the title,
    which claims nothing about relations that are blank.
    """
    both = [np.asarray(values, dtype=float) for values in (looks, carries)]
    for values in both:
        if values.shape != (len(heads), len(relations)):
            raise ValueError(f"shape {values.shape}, not {len(heads), len(relations)}")
    more = both[0] - both[1]  # nan where there is nothing to compare
    apart = np.argwhere(np.abs(more) >= 0.5)
    figure = new_figure(WIDTH, 2.3 + 0.34 * len(heads))
    axes = figure.subplots(1, 2, squeeze=False)
    for ax, values, name in zip(axes[0], both, ("where it looks", "what it carries")):
        paint(ax, values, np.isnan(values), numbers=".2f")
        ax.set_title(name, fontsize=11, loc="left")
        ax.set_yticks(np.arange(len(heads)) + 0.5, heads)
        ax.set_xticks(np.arange(len(relations)) + 0.5, relations)
        ax.tick_params(axis="x", rotation=40)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
        outline(ax, apart)
    colour_bar(figure, axes, "share of the cases, of the decision")
    where = f"{len(apart)} outlined cells" if len(apart) > 1 else "the outlined cell"
    only_looks = (more[tuple(apart.T)] > 0).all()  # no head carries without looking
    what = "Looking is not yet carrying" if only_looks else "Looking is not carrying"
    title = f"{what}: in {where} they are 0.5 or more apart"
    if not len(apart):
        title = "Looking and carrying are nowhere 0.5 apart"
    if np.isnan(more).all():
        title = "The model knows no relation"
    elif np.isnan(more).any():
        title += "\nBlank: a relation that the model does not know"
    heading(figure, title)
    return figure


@own_style()
def film(moments, words, captions, path, *, names, mark, title):
    """Write an animated GIF of heads in training, and return its path.

    moments: (n_moment, n_head, T, T). captions: one for each moment. mark: the (row,
    column) cells to outline in each panel. The last moment stays for three seconds.
    """
    path, frames = Path(path), []
    figure = head_grid(
        moments[:1],
        words,
        names,
        mark=[mark] * len(names),
        title=f"{title}\n{captions[0]}",
    )
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    for weights, caption in zip(moments, captions):
        heading(figure, f"{title}\n{caption}")
        for ax, panel in zip(figure.axes, weights):
            ax.collections[0].set_array(np.ma.array(panel, mask=future(panel)))
        figure.canvas.draw()
        frames.append(Image.fromarray(np.array(figure.canvas.buffer_rgba())))
    times = [*[600] * (len(frames) - 1), 3000]  # milliseconds
    with replacing(path) as draft:
        frames[0].save(
            draft, save_all=True, append_images=frames[1:], duration=times, loop=0
        )
    return path


# --- figures and files ---------------------------------------------------------------


class OnlyAxes(Axes):
    """The only axes of a figure: a notebook that is given them shows the figure."""

    def _repr_png_(self):
        return self.figure._repr_png_()


class Picture(Figure):
    """A figure that a notebook shows once: pyplot does not know it."""

    @own_style()
    def _repr_png_(self):
        self.savefig(file := io.BytesIO(), format="png", dpi=100)
        return file.getvalue()


def new_figure(width, height):
    """An empty figure, in inches, that no window belongs to."""
    figure = Picture(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def future(weights):
    """The cells above the diagonal, unless an edited mask has put weight on them."""
    weights = np.asarray(weights)
    return np.triu(np.ones(weights.shape, dtype=bool), 1) & (weights == 0)


def paint(ax, values, blank, limits=(0, 1), cmap=CMAP, numbers=None):
    """Colour the cells of a matrix and return the mesh.

    blank: a bool for each cell that stays white. numbers: the format of a number in
    each other cell, such as ".2f", black or white, whichever is easier to read there.
    """
    shown, large = np.ma.array(values, mask=blank), np.size(values) > 2000
    mesh = ax.pcolormesh(
        shown,
        vmin=limits[0],
        vmax=limits[1],
        cmap=cmap,
        edgecolors="none" if large else "white",
        linewidth=0.5,
        rasterized=large,
    )
    ax.set(xlim=(0, shown.shape[1]), ylim=(shown.shape[0], 0))
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, pad=2, labelsize=8)
    luminance = mesh.to_rgba(shown)[..., :3] ** 2.2 @ (0.2126, 0.7152, 0.0722)
    for row, column in np.argwhere(~np.asarray(blank)) if numbers else ():
        text = format(values[row, column], numbers)
        text = text.lstrip("-") if float(text) == 0 else text  # never "-0.0"
        # In full: seaborn redefines the short names, "k" becomes a dark grey.
        ink = "black" if luminance[row, column] > 0.18 else "white"
        style = {"ha": "center", "va": "center", "fontsize": 8, "color": ink}
        ax.text(column + 0.5, row + 0.5, text, **style)
    return mesh


def outline(ax, cells):
    """Outline (row, column) cells."""
    for row, column in cells:
        # Not clipped, so that an outline at the edge is as thick as the others.
        style = {"fill": False, "edgecolor": HIGHLIGHT, "lw": 1.8, "clip_on": False}
        ax.add_patch(Rectangle((column, row), 1, 1, zorder=5, **style))


def colour_bar(figure, axes, label):
    """Beside all panels, from 0 to 1."""
    colours = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1), CMAP)
    aspect = 4 * figure.get_figheight()  # a bar of about a quarter of an inch
    bar = figure.colorbar(colours, ax=axes, ticks=[0, 0.5, 1], aspect=aspect, pad=0.01)
    bar.set_label(label, fontsize=8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)


def heading(figure, text):
    """The finding, over all panels."""
    if text:
        columns = int(figure.get_figwidth() * 10)
        if max(map(len, text.splitlines())) > columns:
            text = text.replace(", ", ",\n")  # between its clauses
        lines = [textwrap.fill(line, columns) for line in text.splitlines()]
        figure.suptitle("\n".join(lines), fontsize=12)


@contextmanager
def replacing(path):
    """A draft that takes the place of path when all is well, and is gone otherwise.

    Raises OSError where the folder can't be made or written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".toy-gpt-{os.getpid()}{path.suffix}")
    try:
        yield draft
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@own_style()
def save(figure, path):
    """Write a figure as PNG, SVG or PDF, by the ending of the path; return the path.

    The folder is made where it is missing. Raises ValueError for another ending, OSError
    where it can't be written.
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg", ".pdf"):
        raise ValueError(f"{path}: a picture ends in .png, .svg or .pdf")
    with replacing(path) as draft:
        figure.savefig(draft, dpi=120)
    return path


PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>
body {{ max-width: 65rem; margin: auto; padding: 1rem; font: 1rem/1.5 sans-serif; }}
figure {{ margin: 3rem 0; }}
img {{ max-width: 100%; }}
object {{ width: 100%; aspect-ratio: 4 / 3; }}
</style>
<h1>{title}</h1>
{pictures}
</html>
"""


def page_of(pictures, title):
    """An HTML page of pictures below each other, none wider than the window.

    pictures: for each the name of its file, the finding it shows, and a caption.
    """
    parts = []
    for name, finding, caption in pictures:
        name, finding, caption = map(html.escape, (name, finding, caption))
        shown = f'<img src="{name}" alt="{finding}">'
        if name.endswith(".pdf"):  # which is no image; where it can't be shown, a link
            link = f'<a href="{name}">{finding}</a>'
            shown = f'<object data="{name}" title="{finding}">{link}</object>'
        parts.append(
            f"<figure>\n{shown}\n<figcaption>{caption}</figcaption>\n</figure>"
        )
    return PAGE.format(title=html.escape(title), pictures="\n".join(parts))


def open_page(path):
    """Open a page in the browser, and say so: where there is none, the reader can."""
    webbrowser.open(path.resolve().as_uri())
    print(f"Look at {path} in your browser.")


def show(figure, path):
    """Write the figure to path, and show it: in a notebook there, in a script with a
    screen in a window until that is closed. Prints the path."""
    print(save(figure, path))
    if "ipykernel" in sys.modules:  # a notebook
        from IPython.display import display

        display(figure)
        return
    with suppress(ImportError, RuntimeError):  # no screen, no toolkit
        import matplotlib.pyplot as plt

        if plt.get_backend().lower() not in ("agg", "svg", "pdf", "ps", "cairo"):
            window = plt.figure(figsize=figure.get_size_inches(), num=str(path))
            window.figimage(np.asarray(figure.canvas.buffer_rgba()), resize=True)
            plt.show()
