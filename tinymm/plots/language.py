"""Which words a model looked at: attention from text to text as heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from tinymm.plots.sheet import LINE, SOFT, color_bar, heading, new_sheet, save, write

WIDEST = 15.0     # inches: further heads of a layer go into the next line


@dataclass(frozen=True)
class TextMap:
    """The attention weights of one head, or the mean of several: a row is a word that looks, a column one that is seen."""

    title: str
    rows: Sequence[str]              # T
    columns: Sequence[str]           # S
    weights: NDArray[np.floating]    # (T, S), 0 to 1
    words: bool = True               # write the words beside it; without them the map is small
    row_words: bool = True           # those of the rows too: not if a map to the left has the same rows

    def __post_init__(self) -> None:
        if self.weights.shape != (len(self.rows), len(self.columns)):
            raise ValueError(f"weights must be (T, S) = {len(self.rows), len(self.columns)}, got {self.weights.shape}")


def draw_text_attention(lines: Sequence[Sequence[TextMap]], path: str | Path, title: str, below: str = "") -> Path:
    """Heat maps in lines, one below the other: white is 0, dark blue is 1."""
    places, top = [], 0.75                                                  # inches
    widest = max(5.0, 0.4 + 0.068 * len(below), 2.6 + 0.115 * len(title))
    for line in lines:
        left = 0.2
        for m in line:
            places.append((m, left, top))
            left += _size(m)[0] + 0.2
        widest, top = max(widest, left), top + max(_size(m)[1] for m in line) + 0.15
    figure, axes = new_sheet(widest, top)
    heading(axes, title, below=below)
    color_bar(axes, widest - 0.45, 0.2, "Blues", "0", "1")
    for m, left, top in places:
        cell = _cell(m)
        x, y = left + _label(m), top + _head(m)
        across, down = cell * len(m.columns), cell * len(m.rows)
        axes.imshow(m.weights, extent=(x, x + across, y + down, y), cmap="Blues", vmin=0, vmax=1, aspect="auto",
                    interpolation="nearest")
        axes.add_patch(Rectangle((x, y), across, down, fill=False, edgecolor=LINE, linewidth=0.8))
        write(axes, left, top, m.title, ha="left", fontsize=9 if m.words else 8, color=SOFT)
        if m.words and m.row_words:
            for i, word in enumerate(m.rows):
                write(axes, x - 0.05, y + (i + 0.5) * cell, _visible(word), ha="right", va="center", fontsize=8)
        if m.words:
            for i, word in enumerate(m.columns):
                write(axes, x + (i + 0.5) * cell, y - 0.05, _visible(word), va="bottom", fontsize=8,
                      rotation=90 if len(word) > 1 else 0)
    return save(figure, path)


def head_lines(rows: Sequence[str], columns: Sequence[str], weights: NDArray[np.floating]) -> list[list[TextMap]]:
    """Lines for `draw_text_attention`: the means over all heads and over those of each layer, then layer by layer a map for each head.

    weights: (L, H, T, S). The heads have words beside them if those of a layer then fit into two lines.
    """
    heads = [[TextMap(f"layer {layer}, head {head}", rows, columns, one) for head, one in enumerate(of_layer, 1)]
             for layer, of_layer in enumerate(weights, 1)]
    means = [TextMap("mean over all heads", rows, columns, weights.mean(axis=(0, 1)))]
    if len(weights) > 1:
        means += [TextMap(f"mean over layer {layer}", rows, columns, of_layer.mean(axis=0)) for layer, of_layer in enumerate(weights, 1)]
    words = len(_side_by_side(heads[0])) <= 2
    lines = _side_by_side(means)
    for of_layer in heads:
        lines += _side_by_side([replace(m, words=words) for m in of_layer])
    return lines


def _side_by_side(maps: Sequence[TextMap]) -> list[list[TextMap]]:
    """Maps with the same rows in as few lines as there is room for; the first of each line has the words of the rows."""
    first, other = maps[0], replace(maps[0], row_words=False)
    together = 1 + max(0, int((WIDEST - _size(first)[0]) / (_size(other)[0] + 0.2)))
    return [[replace(m, row_words=i == 0) for i, m in enumerate(maps[start:start + together])] for start in range(0, len(maps), together)]


def _visible(token: str) -> str:
    """A token that is a space or a line end would leave an empty place."""
    return {" ": "␣", "\n": "↵"}.get(token, token)


def _cell(m: TextMap) -> float:
    return 0.19 if m.words else 0.09


def _label(m: TextMap) -> float:
    """Room for the rows' words, in inches."""
    return 0.1 + 0.075 * max(map(len, m.rows), default=0) if m.words and m.row_words else 0.0


def _head(m: TextMap) -> float:
    """Room for the title and the columns' words."""
    return 0.35 + 0.075 * max(map(len, m.columns), default=0) if m.words else 0.2


def _size(m: TextMap) -> tuple[float, float]:
    across = max(_label(m) + _cell(m) * len(m.columns), 0.062 * len(m.title))
    return across, _head(m) + _cell(m) * len(m.rows)
