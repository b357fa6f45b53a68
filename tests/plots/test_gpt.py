"""The text coloured by surprise: which colour, which characters, and what happens without a Chinese font."""

from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure

from tinymm.models.looking import AttentionMaps, Inspection
from tinymm.plots import gpt as plots
from tinymm.plots.gpt import ACROSS, draw_heads, draw_surprise


class Fake:
    """Each word is a token; a token is as surprising as it is long."""

    def surprise(self, text):
        tokens = [text[i:i + 5] for i in range(0, len(text), 5)]
        return tokens, np.arange(len(tokens), dtype=float)

    config = SimpleNamespace(max_length=9)

    def read(self, text):
        return list(text)

    def inspect(self, ids):
        tokens = ["<end>", *ids]
        return Inspection("", "", (AttentionMaps("words", "", np.full((1, 2, len(tokens), len(tokens)), 0.5), tokens, tokens),))


@pytest.fixture
def drawn(monkeypatch):
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path, **_: figures.append(figure))
    return figures


def texts_of(figure):
    return [text.get_text() for text in figure.axes[0].texts]


def grounds(figure):
    """Those of tokens; the bar of colours stands above them."""
    return [patch for patch in figure.axes[0].patches if patch.get_y() > 0.7]


def test_colours_and_lines(drawn, tmp_path):
    draw_surprise(Fake(), ["Alice\nwas " + "x" * 2 * ACROSS, "so"], tmp_path / "a.png")
    patches, oranges = grounds(drawn[0]), colormaps["Oranges"]
    assert [patch.get_facecolor() for patch in patches[:10]] == [oranges(nats / 8) for nats in (0, 1, 2, 3, 4, 5, 6, 7, 8, 8)]
    lines = [round((patch.get_y() - 0.75) / plots.LINE) for patch in patches]
    assert lines[:3] == [0, 0, 1] and lines == sorted(lines) and lines[-1] == 3      # a line end, two full lines, and the second text
    assert {"A", "↵", "x", "s"} <= set(texts_of(drawn[0]))
    assert all(patch.get_x() + patch.get_width() <= drawn[0].axes[0].get_xlim()[1] for patch in patches)


def test_chinese_characters_are_twice_as_wide_and_need_a_font(drawn, tmp_path, monkeypatch):
    for font in ((), ("Noto Sans CJK TC",)):
        monkeypatch.setattr(plots, "chinese_font", lambda: font)
        draw_surprise(Fake(), ["春眠不覺曉"], tmp_path / "a.png")
        draw_heads(Fake(), "春眠", tmp_path / "b.png")
    without, heads_without, with_font, heads_with = map(texts_of, drawn)
    assert "春" not in without and any("no font" in text for text in without) and {"<end>", "1", "2"} <= set(heads_without)
    assert "春" in with_font and not any("no font" in text for text in with_font) and "眠" in heads_with
    assert grounds(drawn[0])[0].get_width() == pytest.approx(10 * plots.CELL - 0.012)
