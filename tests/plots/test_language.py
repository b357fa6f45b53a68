"""Heat maps of text attention: what is written where, and what is refused."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from tinymm.plots.language import TextMap, draw_text_attention


def test_words_stand_beside_the_rows_and_above_the_columns(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: drawn.append(figure))
    weights = np.random.default_rng(0).random((2, 3))
    large = TextMap("mean", ["zwei", "<end>"], ["a", " ", "two"], weights)
    draw_text_attention([[large], [TextMap("head", large.rows, large.columns, weights, words=False)] * 2], tmp_path / "map.png", "Title")
    (axes,) = drawn[0].axes
    place = {text.get_text(): text.get_position() for text in axes.texts}
    assert {"zwei", "<end>", "a", "␣", "two", "mean", "head", "Title"} <= place.keys()
    left, right, bottom, top = axes.images[0].get_extent()
    assert place["zwei"][0] < left and top < place["zwei"][1] < place["<end>"][1] < bottom
    assert left < place["a"][0] < place["␣"][0] < place["two"][0] < right and place["a"][1] < top
    np.testing.assert_array_equal(axes.images[0].get_array(), weights)
    assert len(axes.images) == 3 and axes.images[1].get_extent()[3] > bottom      # the next line is below
    assert axes.get_xlim()[1] >= axes.images[2].get_extent()[1] and axes.get_ylim()[0] >= axes.images[2].get_extent()[2]


def test_weights_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"\(T, S\) = \(1, 2\), got \(2, 1\)"):
        TextMap("", ["a"], ["b", "c"], np.zeros((2, 1)))
