"""Which words a model looked at: attention from text to text as heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from tinymm.plots.sheet import LINE, SOFT, heading, new_sheet, save, write


@dataclass(frozen=True)
class TextMap:
    """The attention weights of one head, or the mean of several: a row is a word that looks, a column one that is seen."""

    title: str
    rows: Sequence[str]              # T
    columns: Sequence[str]           # S
    weights: NDArray[np.floating]    # (T, S), 0 to 1
    words: bool = True               # write the words beside it; without them the map is small

    def __post_init__(self) -> None:
        if self.weights.shape != (len(self.rows), len(self.columns)):
            raise ValueError(f"weights must be (T, S) = {len(self.rows), len(self.columns)}, got {self.weights.shape}")


def draw_text_attention(lines: Sequence[Sequence[TextMap]], path: str | Path, title: str, below: str = "") -> Path:
    """Heat maps in lines, one below the other: white is 0, dark blue is 1."""
    places, top, widest = [], 0.75, max(5.0, 0.4 + 0.068 * len(below))      # inches
    for line in lines:
        left = 0.2
        for m in line:
            places.append((m, left, top))
            left += _size(m)[0] + 0.2
        widest, top = max(widest, left), top + max(_size(m)[1] for m in line) + 0.15
    figure, axes = new_sheet(widest, top)
    heading(axes, title, below=below)
    for m, left, top in places:
        cell = _cell(m)
        x, y = left + _label(m), top + _head(m)
        across, down = cell * len(m.columns), cell * len(m.rows)
        axes.imshow(m.weights, extent=(x, x + across, y + down, y), cmap="Blues", vmin=0, vmax=1, aspect="auto",
                    interpolation="nearest")
        axes.add_patch(Rectangle((x, y), across, down, fill=False, edgecolor=LINE, linewidth=0.8))
        write(axes, left, top, m.title, ha="left", fontsize=9 if m.words else 8, color=SOFT)
        if m.words:
            for i, word in enumerate(m.rows):
                write(axes, x - 0.05, y + (i + 0.5) * cell, _visible(word), ha="right", va="center", fontsize=8)
            for i, word in enumerate(m.columns):
                write(axes, x + (i + 0.5) * cell, y - 0.05, _visible(word), va="bottom", fontsize=8,
                      rotation=90 if len(word) > 1 else 0)
    return save(figure, path)


def _visible(token: str) -> str:
    """A token that is a space or a line end would leave an empty place."""
    return {" ": "␣", "\n": "↵"}.get(token, token)


def _cell(m: TextMap) -> float:
    return 0.19 if m.words else 0.09


def _label(m: TextMap) -> float:
    """Room for the rows' words, in inches."""
    return 0.1 + 0.075 * max(map(len, m.rows), default=0) if m.words else 0.0


def _head(m: TextMap) -> float:
    """Room for the title and the columns' words."""
    return 0.35 + 0.075 * max(map(len, m.columns), default=0) if m.words else 0.2


def _size(m: TextMap) -> tuple[float, float]:
    across = max(_label(m) + _cell(m) * len(m.columns), 0.062 * len(m.title))
    return across, _head(m) + _cell(m) * len(m.rows)
