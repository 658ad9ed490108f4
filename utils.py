"""Drawing for Toy GPT: arrays and words in, matplotlib axes and figures out.

Nothing here knows a model or a corpus, and nothing but `show` opens a window: whoever
asks for a picture owns it. Functions for one picture take `ax=None` and return the axes;
functions for several return the figure. `save` writes a figure and closes it.

Arrays are whatever `np.asarray` takes. T is the number of words. An attention map is
(T, T): its rows look, its columns are looked at, and a row never looks to the right,
so everything above the diagonal is left blank rather than coloured as a zero.
"""

import os
import re
import sys
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
import matplotlib.pyplot as plt
import seaborn as sns
from matplotlib.animation import PillowWriter
from matplotlib.backends import backend_registry
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator, PercentFormatter
from PIL import Image  # matplotlib writes its own pictures with it

try:  # a backend can also fail to load: no such module, no display, no toolkit
    plt.switch_backend(matplotlib.rcParams["backend"])
except (ImportError, RuntimeError):
    plt.switch_backend("agg")

CMAP = "mako_r"  # perceptually uniform; its zero is a tint, so blank stays distinct
NEED_CMAP = "rocket_r"  # another quantity, on another scale, in another colour
DIVERGING_CMAP = "vlag"  # blue, pale, red: safe for colour-blind readers
HIGHLIGHT = "#E8590C"  # orange stands out from every shade of CMAP
GREY = "#868E96"
PALETTE = ("#357BA3", "#CED4DA", HIGHLIGHT, "#38AAAC")
ENDINGS = (".png", ".svg", ".pdf")


# --- one attention map ---------------------------------------------------------------


def row_labels(words, last="."):
    """Name each of the T rows by the word read and the next one: "the ▸ cat".

    A causal model settles a word in the row of the word before it, so a row is about
    both. The last word is followed by `last`, the end of the sentence.
    """
    return [f"{word} ▸ {after}" for word, after in zip(words, [*words[1:], last])]


def heatmap(
    weights, words, *, ax=None, title=None, rows=None, mark=(), numbers=None, cbar=False
):
    """Draw one attention map, weights (T, T), and return its axes.

    rows:    T row labels, `row_labels(words)` by default
    mark:    (row, column) cells to outline, such as the pairs a relation expects
    numbers: write the weight into each cell; None does so where it is legible
    cbar:    add a colour bar
    """
    weights = _causal(weights, words, ndim=2)
    rows = row_labels(words) if rows is None else rows
    _expect(len(rows) == len(words), f"{len(rows)} row labels, {len(words)} words")
    if ax is None:
        cell = max(0.42, 2.2 / len(words))
        size = [cell * len(words) + _inches(names, 9) + 0.5 for names in (rows, words)]
        _, ax = plt.subplots(figsize=size, layout="compressed")
    else:  # the labels have yet to take some of the room
        cell = 0.8 * min(_room(ax)) / len(words)
    points = 72 * cell
    sns.heatmap(
        weights.filled(0),
        mask=weights.mask,
        vmin=0,
        vmax=1,
        cmap=CMAP,
        square=True,
        linewidths=0.5,
        annot=bool(points >= 14 if numbers is None else numbers),
        fmt=".2f",
        annot_kws={"fontsize": np.clip(points / 2.9, 4, 9)},
        cbar=cbar,
        cbar_kws={"label": "attention weight", "ticks": [0, 0.5, 1], "shrink": 0.8},
        xticklabels=False,
        yticklabels=False,
        ax=ax,
    )
    _label(ax, words, rows, fontsize=np.clip(0.7 * points, 5, 9))
    _outline(ax, mark)
    _title(ax, title)
    return ax


def arcs(weights, words, *, ax=None, title=None, highlight=(), threshold=0.15):
    """Draw weights (T, T) as arcs over the sentence and return the axes.

    An arc leaves each word that looks and ends in an arrow head at the earlier word
    looked at; its width and opacity are the weight. Weights up to `threshold` and the
    diagonal are left out. `highlight` lists the (row, column) arcs in colour.
    """
    weights = _causal(weights, words, ndim=2)
    lengths = np.array([len(word) + 3 for word in words])
    middles = np.cumsum(lengths) - lengths / 2  # words set side by side, as in a line
    if ax is None:
        size = max(4, 0.085 * lengths.sum()), 2.6
        _, ax = plt.subplots(figsize=size, layout="constrained")
    fontsize = np.clip(72 * _room(ax)[0] / lengths.sum() / 0.6, 4, 11)
    top = (np.ptp(middles) / 2) ** 0.7 if len(words) > 1 else 1  # of the longest arc
    for middle, word in zip(middles, words):
        ax.text(middle, -0.05 * top, word, ha="center", va="top", fontsize=fontsize)

    turn = np.linspace(0, np.pi, 60)
    highlight = {tuple(pair) for pair in highlight}
    for row, column in np.argwhere(np.tril(weights.filled(0), -1) > threshold):
        weight, chosen = weights[row, column], (row, column) in highlight
        centre = (middles[row] + middles[column]) / 2
        radius = (middles[row] - middles[column]) / 2
        style = {
            "color": HIGHLIGHT if chosen else GREY,
            "alpha": 0.25 + 0.75 * weight,
            "zorder": 3 if chosen else 2,
            "gid": f"arc-{row}-{column}",  # the arc's name in an SVG
        }
        x, y = centre + radius * np.cos(turn), radius**0.7 * np.sin(turn)
        ax.plot(x, y, linewidth=0.5 + 3.5 * weight, solid_capstyle="butt", **style)
        ax.plot(x[-1], 0, marker="v", markersize=4 + 4 * weight, mew=0, **style)
    ax.set(xlim=(0, lengths.sum()), ylim=(-0.16 * top, 1.05 * top))
    ax.axis("off")
    _title(ax, title)
    return ax


# --- many attention maps -------------------------------------------------------------


def head_grid(weights, words, titles, *, mark=None, suptitle=None):
    """Draw every head of every layer on one colour scale and return the figure.

    weights: (n_layer, n_head, T, T)
    titles:  [layer][head], such as "L1H2 · adjective → noun · 0.99"
    mark:    {(layer, head): [(row, column), ...]}, the cells to outline
    """
    figure, _ = _grid(weights, words, titles, mark=mark, suptitle=suptitle)
    return figure


def compare_grid(
    rows_of_weights, words, titles, row_titles, *, rows=None, suptitle=None
):
    """Draw bands of heads one above the other, such as a trained and an untrained model.

    rows_of_weights: (n_band, n_head, T, T)
    titles:          [band][head], or [head] where all bands share their titles
    row_titles:      n_band names, written beside the bands
    rows:            T row labels, `row_labels(words)` by default
    """
    if len(titles) and isinstance(titles[0], str):
        titles = [titles] * len(rows_of_weights)
    labels = {"rows": rows, "suptitle": suptitle}
    figure, _ = _grid(rows_of_weights, words, titles, row_titles, **labels)
    return figure


def strip(maps, words, titles, *, heads, suptitle=None):
    """Draw moments of the same heads as a film strip and return the figure.

    maps:   (n_frame, n_head, T, T), drawn with a column a moment and a row a head
    titles: n_frame strings, such as "step 0"
    heads:  n_head names
    """
    by_head = np.swapaxes(_causal(maps, words, ndim=4), 0, 1)
    grid_titles = [titles] + [[""] * len(titles)] * (len(by_head) - 1)
    figure, _ = _grid(by_head, words, grid_titles, heads, suptitle=suptitle, cell=0.14)
    return figure


def film(maps, words, titles, path, *, heads, fps=4):
    """Write the moments of `strip` as an animated GIF and return its path.

    Only the cells and the heading change from one frame to the next: the rest is drawn
    once and kept as a backdrop. The last moment stays for two seconds.
    """
    path = Path(path)
    _expect(path.suffix.lower() == ".gif", f"a film ends in .gif, not {path.suffix!r}")
    maps = _causal(maps, words, ndim=4)
    _expect(len(titles) == len(maps), f"{len(titles)} titles, {len(maps)} moments")
    figure, panels = _grid(maps[:1], words, [heads], suptitle=titles[0])
    _keep_as_backdrop(figure, dpi=80)
    writer = PillowWriter(fps=fps)
    with _replacing(path) as draft, writer.saving(figure, draft, dpi=figure.dpi):
        for moment, title in zip(maps, titles):
            figure.suptitle(title)
            for panel, weights in zip(panels.flat, moment):
                panel.collections[0].set_array(weights)
            writer.grab_frame()
        for _ in range(2 * fps):  # equal frames become one that lasts longer
            writer.grab_frame()
    plt.close(figure)
    return path


def _keep_as_backdrop(figure, dpi):
    """Put a picture of the figure behind its cells, in place of labels and titles.

    Text is most of the cost of a frame: a film takes a third of the time this way.
    """
    figure.set_dpi(dpi)
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()  # the layout, with room for the heading
    figure.set_layout_engine("none")
    figure.suptitle("")
    canvas.draw()
    figure.figimage(np.array(canvas.buffer_rgba()), zorder=-1)
    for ax in figure.axes:
        ax.set_axis_off()
        ax.set_title("", loc="left")


def _grid(
    maps,
    words,
    titles,
    row_titles=None,
    *,
    rows=None,
    mark=None,
    suptitle=None,
    cell=None,
):
    """Draw maps (n_row, n_column, T, T) as panels; return the figure and its axes.

    The panels use pcolormesh, which seaborn.heatmap is made of: seaborn redraws the
    whole figure for every panel, which takes seconds for a strip of twenty-four.
    """
    maps = _causal(maps, words, ndim=4)
    n_row, n_column, T, _ = maps.shape
    shape = [len(row) for row in titles]
    _expect(shape == [n_column] * n_row, f"{shape} titles, {n_row} × {n_column} maps")
    if row_titles is not None:
        _expect(len(row_titles) == n_row, f"{len(row_titles)} names, {n_row} rows")
    cell = cell or (0.23 if n_column <= 4 else 0.18)
    panel = max(cell * T, 1.1 if cell < 0.18 else 2.1)  # inches; a title needs its room
    fontsize = np.clip(0.62 * 72 * panel / T, 5.5, 8.5)
    rows = row_labels(words) if rows is None else rows
    figure, axes = plt.subplots(
        n_row,
        n_column,
        squeeze=False,
        layout="compressed",
        figsize=(
            n_column * (panel + 0.1) + _inches(rows, fontsize) + 1.1,
            n_row * (panel + 0.45) + _inches(words, fontsize) + 0.4,
        ),
    )
    for (row, column), ax in np.ndenumerate(axes):
        mesh = ax.pcolormesh(
            maps[row, column], vmin=0, vmax=1, cmap=CMAP, edgecolors="w", linewidth=0.4
        )
        ax.set(xlim=(0, T), ylim=(T, 0), aspect="equal")
        ax.spines[:].set_visible(False)
        first, last = column == 0, row == n_row - 1
        _label(ax, words if last else (), rows if first else (), fontsize)
        _outline(ax, (mark or {}).get((row, column), ()))
        # A head's name on one line and its job on the next fit over a narrow panel.
        _title(ax, titles[row][column].replace(" · ", "\n", 1), fontsize=9, width=panel)
        if first and row_titles is not None:
            ax.set_ylabel(row_titles[row], fontsize=10, fontweight="bold")
    bar = figure.colorbar(mesh, ax=axes, ticks=[0, 0.5, 1], aspect=25 * n_row, pad=0.01)
    bar.set_label("attention weight", fontsize=9)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, length=0)
    if suptitle:
        figure.suptitle(suptitle, fontsize=12)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.08)
    return figure, axes


# --- other pictures ------------------------------------------------------------------


def relation_matrices(top1, nats, relations, heads, *, suptitle=None):
    """Draw where heads look beside what they are needed for; return the figure.

    top1: (n_head, n_relation) in 0..1, how often a head looks first at the right word
    nats: (n_head, n_relation), how much the loss rises where the head is removed
    """
    top1, nats = (np.asarray(values, dtype=float) for values in (top1, nats))
    shape = len(heads), len(relations)
    for values in (top1, nats):
        _expect(values.shape == shape, f"shape {values.shape}, not {shape}")
    needs = {"vmin": min(0, np.nanmin(nats)), "vmax": max(0.01, np.nanmax(nats))}
    looks = {"vmin": 0, "vmax": 1}
    figure, axes = plt.subplots(
        1,
        2,
        layout="constrained",
        figsize=(2.8 + 1.4 * shape[1], 1.3 + 0.38 * shape[0] + _inches(relations, 7)),
    )
    for ax, values, scale, cmap, title, unit in (
        (axes[0], top1, looks, CMAP, "where it looks", "top-1 accuracy"),
        (axes[1], nats, needs, NEED_CMAP, "what it is needed for", "nats lost without"),
    ):
        sns.heatmap(
            np.round(values, 2) + 0.0,  # adding 0.0 turns a "-0.00" into "0.00"
            **scale,
            cmap=cmap,
            annot=True,
            fmt=".2f",
            annot_kws={"fontsize": 9},
            linewidths=0.5,
            cbar_kws={"label": unit, "pad": 0.02},
            xticklabels=False,
            yticklabels=False,
            ax=ax,
        )
        _label(ax, relations, heads, fontsize=9, rotation=40)
        _title(ax, title)
    if suptitle:
        figure.suptitle(suptitle, fontsize=12)
    return figure


def ink(background):
    """The colour of a text that is legible on a colour (r, g, b, …), each in 0..1."""
    luminance = np.power(background[:3], 2.2) @ (0.21, 0.72, 0.07)
    return "0.15" if luminance > 0.2 else "w"


def matrix(
    values,
    *,
    ax=None,
    title=None,
    caption=None,
    blank=None,
    rows=None,
    columns=None,
    numbers=None,
    vmin=None,
    vmax=None,
    cmap=None,
):
    """Draw one matrix of a computation, values (rows, columns); return the axes.

    Values of both signs get a diverging map centred on zero, others a sequential one.
    Infinite values, such as masked scores, and cells where `blank` (the same shape) is
    true stay blank. The caption is wrapped under the matrix.

    rows, columns: names in place of counts
    numbers:       write each value into its cell, in this format, such as ".2f"
    """
    values = np.ma.masked_invalid(np.asarray(values, dtype=float))
    _expect(values.ndim == 2, f"a matrix has 2 dimensions, not {values.ndim}")
    if blank is not None:
        blank = np.asarray(blank, dtype=bool)
        _expect(blank.shape == values.shape, f"{blank.shape} is not {values.shape}")
        values = np.ma.masked_where(blank, values)
    if ax is None:
        _, ax = plt.subplots(figsize=(3.6, 3.6), layout="constrained")
    low, high = (values.min(), values.max()) if values.count() else (0, 1)
    if low < 0 < high:
        limit = max(-low, high)
        low, high, default = -limit, limit, DIVERGING_CMAP
    else:
        default = CMAP
    image = ax.imshow(
        values,
        vmin=low if vmin is None else vmin,
        vmax=high if vmax is None else vmax,
        cmap=cmap or default,
        aspect="auto",
        interpolation="nearest",
    )
    ax.spines[:].set_visible(False)
    ax.tick_params(labelsize=7, length=2, color=GREY, labelcolor="0.35")
    for axis, names in ((ax.xaxis, columns), (ax.yaxis, rows)):
        axis.set_major_locator(MaxNLocator(6, integer=True))
        if names is not None:
            axis.set_ticks(range(len(names)), names, fontsize=8)
            axis.set_tick_params(length=0)
    if numbers:
        for place, value in np.ma.ndenumerate(values):
            _number(ax, place, format(value, numbers), image.to_rgba(value))
    bar = ax.figure.colorbar(image, ax=ax, aspect=30, pad=0.03)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=7, length=0)
    width, _ = _room(ax)  # a constrained layout makes the axes a little wider
    _title(ax, title, fontsize=10, width=1.2 * width)
    if caption:
        caption = _wrap(caption, 1.1 * width, fontsize=8)
        ax.set_xlabel(caption, fontsize=8, color="0.35", loc="left", labelpad=6)
    return ax


def bars(labels, groups, *, ax=None, title=None):
    """Draw probabilities as grouped horizontal bars, top to bottom; return the axes.

    groups: {name: as many values in 0..1 as there are labels}, such as the model's
            probabilities and the truth
    """
    for name, values in groups.items():
        _expect(
            len(values) == len(labels),
            f"{len(values)} values of {name!r}, {len(labels)} labels",
        )
    if ax is None:
        size = 5, 0.9 + (0.12 + 0.17 * len(groups)) * len(labels)
        _, ax = plt.subplots(figsize=size, layout="constrained")
    middles, height = np.arange(len(labels)), 0.8 / len(groups)
    for index, (name, values) in enumerate(groups.items()):
        values = np.asarray(values, dtype=float)
        places = middles + (index - (len(groups) - 1) / 2) * height
        color = PALETTE[index % len(PALETTE)]
        drawn = ax.barh(places, values, 0.92 * height, label=name, color=color)
        texts = [f"{value:.0%}" for value in values]
        ax.bar_label(drawn, texts, padding=3, fontsize=7, color="0.35")
    ax.set_yticks(middles, labels, fontsize=9)
    ax.set(xlim=(0, 1.08), ylim=(len(labels) - 0.4, -0.6), xticks=np.arange(5) / 4)
    ax.xaxis.set_major_formatter(PercentFormatter(1))
    ax.tick_params(length=0)
    ax.tick_params(axis="x", labelsize=8, labelcolor="0.35")
    ax.grid(axis="x", color="0.92")
    ax.set_axisbelow(True)
    ax.spines[:].set_visible(False)
    if len(groups) > 1:
        ax.legend(frameon=False, fontsize=8, loc="lower right")
    _title(ax, title)
    return ax


# --- files and windows ---------------------------------------------------------------


def save(figure, path, close=True):
    """Write a figure as PNG, SVG or PDF by the path's ending, close it, return the path.

    The file appears whole or not at all: an older one survives a failing write.
    `close=False` keeps the figure for a window.
    """
    path = Path(path)
    _expect(
        path.suffix.lower() in ENDINGS,
        f"cannot save a figure as {path.suffix!r}: use {', '.join(ENDINGS)}",
    )
    with _replacing(path) as draft:
        figure.savefig(draft, dpi=150, bbox_inches="tight", pad_inches=0.15)
        if path.suffix.lower() == ".png":  # 256 colours take fewer bytes
            Image.open(draft).convert("RGB").quantize(256).save(draft, optimize=True)
    if close:
        plt.close(figure)
    return path


def show(figure, path):
    """Show a figure without waiting: in a window, or as a file at `path` where there
    is no screen. It takes the place of the figure shown before under that path."""
    if not has_screen():
        print(f"drawn into {save(figure, path)}")
        return
    plt.close(str(path))
    figure.set_label(str(path))
    figure.canvas.manager.set_window_title(str(path))
    plt.show(block=False)
    plt.pause(0.01)  # let the window appear


def has_screen():
    """Whether a window can really be opened here."""
    _, framework = backend_registry.resolve_backend(plt.get_backend())
    if framework in (None, "headless"):  # the backend draws to files, or to a notebook
        return False
    # The one sure test is to make a window, unseen, and close it; every toolkit has an
    # error of its own for a failure.
    with suppress(Exception), plt.ioff():
        plt.close(plt.figure())
        return True
    return False


@contextmanager
def _replacing(path):
    """Give a temporary path beside `path`, which replaces it if all goes well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}-{os.getpid()}{path.suffix}")
    try:
        yield draft
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


# --- shared parts --------------------------------------------------------------------


def _expect(condition, message):
    if not condition:
        raise ValueError(message)


def _causal(weights, words, ndim):
    """Check the shape of maps (..., T, T) and mask the future."""
    weights = np.asarray(weights, dtype=float)
    T = len(words)
    _expect(
        weights.ndim == ndim and weights.shape[-2:] == (T, T) and weights.size > 0,
        f"weights of shape {weights.shape} for {T} words: "
        f"expected {ndim} dimensions ending in ({T}, {T})",
    )
    future = np.triu(np.ones((T, T), dtype=bool), k=1)
    return np.ma.array(weights, mask=np.broadcast_to(future, weights.shape))


def _label(ax, columns, rows, fontsize, rotation=90):
    """Name the cells' columns and rows; cell i is centred on i + 0.5."""
    ax.set_xticks(np.arange(len(columns)) + 0.5, columns)
    ax.set_yticks(np.arange(len(rows)) + 0.5, rows)
    ax.tick_params(length=0, pad=2, labelsize=fontsize)
    slanted = {"ha": "right", "rotation_mode": "anchor"} if rotation != 90 else {}
    plt.setp(ax.get_xticklabels(), rotation=rotation, **slanted)
    plt.setp(ax.get_yticklabels(), rotation=0)


def _outline(ax, cells):
    for row, column in cells:
        # Not clipped, so that an outline at the edge is as thick as the others.
        style = {"fill": False, "edgecolor": HIGHLIGHT, "lw": 1.8, "clip_on": False}
        ax.add_patch(Rectangle((column, row), 1, 1, zorder=5, **style))


def _number(ax, place, text, background):
    """Write a number into the cell (row, column) of an image."""
    style = {"ha": "center", "va": "center", "fontsize": 7}
    text = text if float(text) else text.lstrip("-")  # no "-0.0"
    ax.text(*place[::-1], text, color=ink(background), **style)


def _title(ax, title, fontsize=11, width=None):
    if title:
        text = _wrap(title, width, fontsize) if width else title
        ax.set_title(text, fontsize=fontsize, loc="left", pad=6)


def _wrap(text, width, fontsize):
    """Break the lines of a text so that they fit `width` inches, never in "(2, 3)"."""
    columns = max(8, int(72 * width / (0.55 * fontsize)))  # 0.55 em: a usual letter
    text = re.sub(r"(?<=\d), (?=\d)", ",\N{NO-BREAK SPACE}", text)
    lines = [textwrap.fill(line, columns) for line in text.splitlines()]
    return "\n".join(lines).replace("\N{NO-BREAK SPACE}", " ")


def _room(ax):
    """The width and height of the axes in inches, before any layout changes them."""
    spec, figure = ax.get_subplotspec(), ax.get_figure(root=True)
    box = spec.get_position(figure) if spec else ax.get_position()
    return box.width * figure.get_figwidth(), box.height * figure.get_figheight()


def _inches(labels, fontsize):
    """About how long the longest label is, in inches."""
    return max(map(len, labels)) * 0.6 * fontsize / 72
