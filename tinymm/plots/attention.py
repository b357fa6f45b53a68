"""Where a model looked in an image while it wrote each word."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from numpy.typing import NDArray

from tinymm.models.looking import AttentionMaps
from tinymm.plots.sheet import SOFT, heading, new_sheet, save, show_image, wrap, write

NIGHT = np.array([16, 20, 38], dtype=np.float64)      # what the unlooked-at part of an image fades into
FLOOR = 0.22                                          # so much of it is always seen
DARK_EDGE = withStroke(linewidth=2.6, foreground="#101426")     # white on a bright image stays readable


@dataclass(frozen=True)
class Look:
    """Where the model looked while it wrote each word."""

    image: NDArray[np.uint8]      # (H, W, 3)
    prompt: str
    words: Sequence[str]
    attention: NDArray[np.floating]   # (words, grid_h, grid_w): each map is at least 0

    def __post_init__(self) -> None:
        if self.attention.ndim != 3 or len(self.words) != len(self.attention):
            raise ValueError(
                f"attention must be (words, grid_h, grid_w) with {len(self.words)} words, got {self.attention.shape}"
            )


def mean_look(maps: AttentionMaps, image: NDArray[np.uint8], prompt: str) -> Look:
    """Where each word looked in the image, the mean over layers and heads."""
    return Look(image, prompt, maps.rows, maps.weights.mean(axis=(0, 1)).reshape(len(maps.rows), *maps.grid))


def draw_attention(looks: Sequence[Look], path: str | Path, title: str, columns: int = 8) -> Path:
    """For each image: the image under its prompt, then a panel for every generated word.

    In a word's panel the image is lit where the model looked while it wrote that word and dark where it did not;
    the strongest image token is framed, with its share of the attention that the image gets. Equal attention everywhere
    lights it all. Short answers share a line; a long caption goes on in the next one.
    """
    side, gap, above, top = 1.5, 0.1, 0.36, 0.74             # inches
    places, used = _arrange([1 + len(look.words) for look in looks], columns)
    widest = max((column + 1 for cells in places for _, column in cells), default=0)
    figure, axes = new_sheet(max(widest, 4) * (side + gap) + 0.4, top + (used or 1) * (side + above) + 0.1)
    below = "lit: looked at    framed: the strongest image token, with its share of what the image gets"
    heading(axes, title, below=below)
    for look, cells in zip(looks, places):
        for panel, (row, column) in enumerate(cells):
            x, y = 0.2 + column * (side + gap), top + above + row * (side + above)
            if panel == 0:
                show_image(axes, look.image, x, y, side)
                write(axes, x, y - 0.05, wrap(look.prompt, 27, 2), ha="left", va="bottom", fontsize=7.8, color=SOFT)
            else:
                attention = look.attention[panel - 1]
                show_image(axes, lit(look.image, attention), x, y, side, edge="white")
                _frame_strongest(axes, attention, x, y, side)
                write(axes, x + side / 2, y - 0.05, look.words[panel - 1], va="bottom", fontsize=10, weight="bold")
    return save(figure, path)


def _arrange(sizes: Sequence[int], columns: int) -> tuple[list[list[tuple[int, int]]], int]:
    """Places (row, column) for groups of panels, and the rows used. Groups stay together if they fit into a row."""
    places: list[list[tuple[int, int]]] = []
    row, column = 0, 0
    for size in sizes:
        if column and column + size > columns:
            row, column = row + 1, 0
        cells = []
        for _ in range(size):
            if column == columns:
                row, column = row + 1, 1          # the first column is for the images themselves
            cells.append((row, column))
            column += 1
        places.append(cells)
    return places, row + (column > 0)


def lit(image: NDArray[np.uint8], attention: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The image (H, W, 3), dark where the attention (grid_h, grid_w) is small and unchanged where it is largest.

    The map is enlarged smoothly (bilinearly between the centres of its cells).
    """
    light = np.maximum(np.nan_to_num(np.asarray(attention, dtype=np.float64)), 0)
    light = light / (light.max() or 1.0)
    light = _enlarge(_enlarge(light, image.shape[0]).T, image.shape[1]).T[..., None]        # (H, W, 1)
    light = FLOOR + (1 - FLOOR) * light
    return np.rint(image * light + NIGHT * (1 - light)).astype(np.uint8)


def _enlarge(grid: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """Stretch the first axis of a grid to this size, linearly between the centres of its cells."""
    places = (np.arange(size) + 0.5) * len(grid) / size - 0.5
    return np.stack([np.interp(places, np.arange(len(grid)), column) for column in grid.T], axis=1)


def _frame_strongest(axes: Axes, attention: NDArray[np.floating], left: float, top: float, side: float) -> None:
    total = float(np.sum(attention))
    if not total > 0:
        return
    row, column = np.unravel_index(int(np.argmax(attention)), attention.shape)
    height, width = side / attention.shape[0], side / attention.shape[1]
    inset = 0.02     # the line stays inside the image
    corner = (left + column * width + inset, top + row * height + inset)
    frame = Rectangle(corner, width - 2 * inset, height - 2 * inset, fill=False, edgecolor="white", linewidth=1.3)
    frame.set_path_effects([DARK_EDGE])
    axes.add_patch(frame)
    share = f"{float(attention[row, column]) / total:.0%}"
    write(axes, left + side - 0.05, top + side - 0.05, share, ha="right", va="bottom",
           color="white", fontsize=8, weight="bold", path_effects=[DARK_EDGE])
