"""Drawing for Toy GPT: arrays and words in, matplotlib figures out.

Nothing here knows a model or a corpus. Figures belong to whoever asks for them: they are
made without pyplot, so nothing opens a window but `show`, and a style that the caller
has set changes nothing. `save` writes a figure, whole or not at all.

Arrays are whatever `np.asarray` takes. T is the number of words. An attention map is
(T, T): its rows look, its columns are looked at. What lies above the diagonal is the
future: it is left blank, unless there is weight on it.
"""

import os
import sys
import tempfile
import textwrap
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
import seaborn as sns
from matplotlib.animation import PillowWriter
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text

CMAP = "mako_r"  # perceptually uniform; its zero is a tint, so blank stays distinct
DIVERGING_CMAP = "vlag"  # blue, pale, red: safe for colour-blind readers
HIGHLIGHT = "#E8590C"  # orange stands out from every shade of CMAP
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

    rows: T row labels, `row_labels(words)` by default; [] for none
    mark: (row, column) cells to outline, such as the pairs a relation expects

    Raises ValueError where the shapes do not fit together.
    """
    weights, T = np.asarray(weights, dtype=float), len(words)
    if weights.shape != (T, T) or not T:
        raise ValueError(f"weights of shape {weights.shape}, and {T} words")
    rows = row_labels(words) if rows is None else rows
    if ax is None:
        ax = new_figure(0.45 * T + 1.6, 0.45 * T + 1.1).subplots()
    future = np.triu(np.ones((T, T), dtype=bool), 1) & (weights == 0)
    # What seaborn.heatmap is made of; that draws the whole figure for every panel.
    shown = np.ma.array(weights, mask=future)
    ax.pcolormesh(shown, vmin=0, vmax=1, cmap=CMAP, edgecolors="w", linewidth=0.5)
    ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal")
    ax.spines[:].set_visible(False)
    ax.set_xticks(np.arange(T) + 0.5, words)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.tick_params(length=0, pad=2, labelsize=8)
    ax.tick_params(axis="x", rotation=90)
    ax.tick_params(axis="y", rotation=0)
    for row, column in mark:
        # Not clipped, so that an outline at the edge is as thick as the others.
        style = {"fill": False, "edgecolor": HIGHLIGHT, "lw": 1.8, "clip_on": False}
        ax.add_patch(Rectangle((column, row), 1, 1, zorder=5, **style))
    if title:
        ax.set_title(title, fontsize=9, loc="left")
    literal(ax)
    return ax


@own_style()
def head_grid(weights, words, titles=None, *, bands=None, mark=None, title=None):
    """Draw every head of every layer on one colour scale and return the figure.

    weights: (n_row, n_head, T, T), a row of panels a layer, or a model
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
    panel = max(1.9, min(2.6, 7.4 / n_head))  # inches
    figure = new_figure(n_head * panel + 1.3, n_row * (panel + 0.35) + 1.2)
    axes = figure.subplots(n_row, n_head, squeeze=False)
    for i, ax in enumerate(axes.flat):
        row, column = divmod(i, n_head)
        rows = None if column == 0 else []
        heatmap(
            weights[row, column], words, ax=ax, title=titles[i], rows=rows, mark=mark[i]
        )
        if row < n_row - 1:
            ax.set_xticks([])
        if column == 0 and bands:
            ax.set_ylabel(bands[row], fontsize=10, fontweight="bold")
    scale(figure, axes, "attention weight")
    heading(figure, title)
    return figure


@own_style()
def matrix(values, *, ax, title, caption="", blank=None, labels=None, limits=None):
    """Draw one matrix of a computation, values (rows, columns), into the axes.

    Values of both signs get a diverging map centred on zero, others a sequential one.

    blank:  a bool for each cell that has no value, such as the masked future
    labels: (names of the rows, names of the columns); with them, numbers in the cells
    limits: (lowest, highest) of the colours
    """
    values = np.asarray(values, dtype=float)
    blank = ~np.isfinite(values) if blank is None else np.asarray(blank)
    seen = values[~blank]
    low, high = limits or (seen.min(), seen.max())
    both = low < 0 < high
    if both and not limits:
        low, high = -max(-low, high), max(-low, high)
    sns.heatmap(
        np.where(blank, 0, values),
        mask=blank,
        vmin=low,
        vmax=high,
        cmap=DIVERGING_CMAP if both else CMAP,
        annot=bool(labels) and values.shape[1] <= 6,  # else there is no room
        fmt=".1f",
        annot_kws={"fontsize": 7},
        cbar_kws={"aspect": 30, "pad": 0.03},
        yticklabels=labels[0] if labels else False,
        xticklabels=labels[1] if labels else False,
        rasterized=values.size > 2000,
        ax=ax,
    )
    ax.tick_params(length=0, labelsize=8)
    ax.tick_params(axis="y", rotation=0)
    ax.collections[0].colorbar.ax.tick_params(labelsize=7, length=0)
    ax.set_title(title, fontsize=10, loc="left")
    ax.set_xlabel(textwrap.fill(caption, 44), fontsize=8, color="0.3", loc="left")
    literal(ax)


@own_style()
def relation_matrices(looks, carries, relations, heads, title):
    """Draw where heads look beside what they carry; return the figure.

    looks, carries: (n_head, n_relation), shares from 0 to 1; nan is drawn as blank.
    Cells where the two differ by a half or more are outlined.
    """
    both = [np.asarray(values, dtype=float) for values in (looks, carries)]
    for values in both:
        if values.shape != (len(heads), len(relations)):
            raise ValueError(f"shape {values.shape}, not {len(heads), len(relations)}")
    apart = np.argwhere(np.abs(both[0] - both[1]) >= 0.5)
    figure = new_figure(WIDTH + 0.8, 2.3 + 0.34 * len(heads))
    axes = figure.subplots(1, 2, squeeze=False)
    for ax, values, name in zip(axes[0], both, ("where it looks", "what it carries")):
        sns.heatmap(
            np.round(values, 2) + 0.0,  # adding 0.0 turns a "-0.00" into "0.00"
            vmin=0,
            vmax=1,
            cmap=CMAP,
            annot=True,
            fmt=".2f",
            annot_kws={"fontsize": 8},
            linewidths=0.5,
            cbar=False,
            xticklabels=relations,
            yticklabels=heads,
            ax=ax,
        )
        ax.set_title(name, fontsize=11, loc="left")
        ax.tick_params(length=0, labelsize=8)
        ax.tick_params(axis="x", rotation=40)
        for label in ax.get_xticklabels():
            label.set(ha="right", rotation_mode="anchor")
        for row, column in apart:
            style = {"fill": False, "edgecolor": HIGHLIGHT, "lw": 1.8, "clip_on": False}
            ax.add_patch(Rectangle((column, row), 1, 1, zorder=5, **style))
        literal(ax)
    scale(figure, axes, "share of the cases, of the decision")
    heading(figure, title)
    return figure


@own_style()
def film(moments, words, captions, path, *, names, mark, title, fps=2):
    """Write an animated GIF of heads in training, and return its path.

    moments: (n_moment, n_head, T, T). captions: one for each moment. mark: the (row,
    column) cells to outline in each panel. The last moment stays for three seconds.
    """
    path, writer = Path(path), PillowWriter(fps=fps)
    figure = head_grid(
        moments[:1],
        words,
        names,
        mark=[mark] * len(names),
        title=f"{title}\n{captions[0]}",
    )
    figure.draw_without_rendering()
    figure.set_layout_engine("none")
    with replacing(path) as draft, writer.saving(figure, draft, dpi=90):
        for weights, caption in zip(moments, captions):
            figure._suptitle.set_text(f"{title}\n{caption}")
            for ax, panel in zip(figure.axes, weights):
                panel = np.asarray(panel, dtype=float)
                future = np.triu(np.ones(panel.shape, dtype=bool), 1) & (panel == 0)
                ax.collections[0].set_array(np.ma.array(panel, mask=future))
            writer.grab_frame()
        for _ in range(3 * fps):
            writer.grab_frame()
    return path


# --- figures and files ---------------------------------------------------------------


def new_figure(width, height):
    """An empty figure, in inches, that no window belongs to."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def literal(ax):
    """A word is never read as mathematics, whatever dollar signs it has."""
    for text in ax.findobj(Text):
        text.set_parse_math(False)


def scale(figure, axes, label):
    """The colours of all panels, from 0 to 1."""
    colours = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, 1), CMAP)
    bar = figure.colorbar(colours, ax=axes, ticks=[0, 0.5, 1], aspect=30, pad=0.01)
    bar.set_label(label, fontsize=8)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)


def heading(figure, text):
    """The finding, over all panels."""
    if text:
        columns = int(figure.get_figwidth() * 10)
        lines = [textwrap.fill(line, columns) for line in text.splitlines()]
        figure.suptitle("\n".join(lines), fontsize=12).set_parse_math(False)


@contextmanager
def replacing(path):
    """A draft that takes the place of path when all is well, and is gone otherwise.

    Raises OSError, in words, where the folder can't be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(path.suffix, ".toy-gpt-", path.parent)
    os.close(handle)
    try:
        yield draft
        os.chmod(draft, 0o644)  # mkstemp's would shut out the rest of a class
        os.replace(draft, path)
    finally:
        with suppress(OSError):
            os.unlink(draft)


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
        figure.savefig(draft, dpi=150)
    return path


def show(figure, path):
    """Write the figure to path, and show it: in a notebook there, in a script with a
    screen in a window until that is closed. Prints the path."""
    print(save(figure, path))
    if "ipykernel" in sys.modules:
        from IPython.display import display

        display(figure)
        return
    with suppress(ImportError, RuntimeError):  # no screen, no toolkit
        import matplotlib.pyplot as plt

        if plt.get_backend().lower() not in ("agg", "svg", "pdf", "ps", "cairo"):
            window = plt.figure(figsize=figure.get_size_inches(), num=str(path))
            window.figimage(np.asarray(figure.canvas.buffer_rgba()), resize=True)
            plt.show()
