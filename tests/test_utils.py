"""Pictures: the colours and the texts of what is drawn, whatever the caller has set."""

import matplotlib
import numpy as np
import pytest
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


@pytest.mark.parametrize("style", ["ggplot", "dark_background"])
def test_a_style_of_the_caller_changes_nothing(style):
    plain = pixels(utils.head_grid(MAP[None, None], WORDS))
    with matplotlib.style.context(style):
        styled = utils.head_grid(MAP[None, None], WORDS)
    assert np.array_equal(plain, pixels(styled))


def test_words_are_never_mathematics():
    figure = utils.head_grid(MAP[None, None], WORDS)
    assert "$$" in texts(figure)
    pixels(figure)  # "$$" is not an error
    assert not any(t.get_parse_math() for t in figure.axes[0].findobj(Text))


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
    figure = utils.relation_matrices(
        [[1, 0]], [[0, -0.001]], ["a → b", "c → d"], ["H"], "x"
    )
    assert [len(ax.patches) for ax in figure.axes[:2]] == [1, 1]
    assert "-0.00" not in texts(figure) and "0.00" in texts(figure)
