"""What all pictures share: colours, an empty figure, a sheet for images and words, saving.

Matplotlib is used through its object interface (a Figure of its own for each picture, saved by the Agg
renderer), so nothing global is changed and no display is needed.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
from matplotlib import colormaps, font_manager
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

INK, SOFT, LINE = "#1f2933", "#6b7785", "#d9dee4"
RIGHT, WRONG = "#15803d", "#c81e1e"
SERIES = ("#2563eb", "#d97706", "#7c3aed", "#0d9488", "#be185d", "#4b5563")
DPI = 144
# Matplotlib's own font has no Chinese characters; the first of these that is installed lends its own.
CHINESE_FONTS = ("Noto Sans CJK TC", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans TC", "Source Han Sans TC", "PingFang TC",
                 "PingFang SC", "Heiti TC", "Hiragino Sans", "Microsoft JhengHei", "Microsoft YaHei", "SimHei", "WenQuanYi Zen Hei",
                 "WenQuanYi Micro Hei", "AR PL UMing TW", "Arial Unicode MS")


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
    options: dict[str, object] = {"color": INK, "fontsize": 9, "ha": "center", "va": "top", "family": ["DejaVu Sans", *chinese_font()]}
    axes.text(x, y, text, parse_math=False, **(options | style))


@lru_cache
def chinese_font() -> tuple[str, ...]:
    """The name of an installed font with Chinese characters; none where there is none."""
    installed = {font.name for font in font_manager.fontManager.ttflist}
    return tuple(name for name in CHINESE_FONTS if name in installed)[:1]


def is_chinese(character: str) -> bool:
    """Whether a character or sign is one that takes two places in a line."""
    return "\u2e80" <= character <= "\uffef"


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


def color_bar(axes: Axes, right: float, top: float, cmap: str, low: str, high: str, width: float = 0.8) -> None:
    """What the colours of a map mean: a bar from `low` to `high`, which ends at `right`."""
    steps, height = 40, 0.13
    for i in range(steps):
        color = colormaps[cmap]((i + 0.5) / steps)
        axes.add_patch(Rectangle((right - width + i * width / steps, top), width / steps, height, facecolor=color, edgecolor=color, linewidth=0.3))
    axes.add_patch(Rectangle((right - width, top), width, height, fill=False, edgecolor=LINE, linewidth=0.8))
    write(axes, right - width - 0.05, top + height / 2, low, ha="right", va="center", fontsize=8, color=SOFT)
    write(axes, right + 0.05, top + height / 2, high, ha="left", va="center", fontsize=8, color=SOFT)


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
