"""What all pictures share: colours, an empty figure, a sheet for images and words, saving.

Matplotlib is used through its object interface (a Figure of its own for each picture, saved by the Agg
renderer), so nothing global is changed and no display is needed.
"""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

INK, SOFT, LINE = "#1f2933", "#6b7785", "#d9dee4"
RIGHT, WRONG = "#15803d", "#c81e1e"
SERIES = ("#2563eb", "#d97706", "#7c3aed", "#0d9488", "#be185d", "#4b5563")
DPI = 144


def new_figure(width: float, height: float) -> Figure:
    """An empty white figure of this size in inches, tied to the Agg renderer."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    return path


def new_sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure for images and texts: one pair of axes over all of it, in inches from the upper left corner.

    (One for every image would be the usual way, but axes are slow to make and to draw.)
    """
    figure = new_figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def write(axes: Axes, x: float, y: float, text: str, **style: object) -> None:
    """Text, by default centred under its place. `$` is a character here, not a formula."""
    options: dict[str, object] = {"color": INK, "fontsize": 9, "ha": "center", "va": "top"}
    axes.text(x, y, text, parse_math=False, **(options | style))


def show_image(axes: Axes, image: NDArray[np.uint8], left: float, top: float, side: float,
                edge: str = LINE, width: float = 1.0) -> None:
    """An image on a sheet, in a square of this side, with a border."""
    smoothing = "nearest" if len(image) < 128 else "antialiased"      # the pixels of a small image may be seen
    axes.imshow(image, extent=(left, left + side, top + side, top), aspect="auto", interpolation=smoothing)
    axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=edge, linewidth=width))


def heading(axes: Axes, title: str, note: str = "", below: str = "", top: float = 0.0) -> None:
    """A title at the left, a note at the right, and a small line below the title."""
    write(axes, 0.2, top + 0.16, title, ha="left", fontsize=12.5, weight="bold")
    write(axes, axes.get_xlim()[1] - 0.2, top + 0.18, note, ha="right", fontsize=10, color=SOFT)
    write(axes, 0.2, top + 0.44, below, ha="left", fontsize=8.5, color=SOFT)


def wrap(text: str, width: int, lines: int) -> str:
    """Break text at spaces into at most this many lines; what does not fit ends in an ellipsis."""
    rows: list[str] = [""]
    for word in text.split():
        if len(rows[-1]) + len(word) + 1 <= width or not rows[-1]:
            rows[-1] = f"{rows[-1]} {word}".strip()
        else:
            rows.append(word)
    rows = [row if len(row) <= width else row[: width - 1] + "…" for row in rows]
    if len(rows) > lines:
        rows = rows[:lines]
        rows[-1] = rows[-1][: width - 2].rstrip() + " …"
    return "\n".join(rows)
