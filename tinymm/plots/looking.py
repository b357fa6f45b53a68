"""The pictures of `tinymm look`: every attention map of a model, and how its answer depends on each pixel."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from numpy.typing import NDArray

from tinymm.models.looking import AttentionMaps, Inspection, PixelGradient
from tinymm.plots.attention import draw_attention, lit, mean_look
from tinymm.plots.language import draw_text_attention, head_lines
from tinymm.plots.sheet import SOFT, color_bar, heading, new_sheet, save, show_image, wrap, write

SIDE = 0.92             # inches: one head's look at the image
ACROSS = 12             # heads beside each other; a model with more has a line for each layer
SALIENCY, SIGNED = "inferno", "RdBu"
NAME = "(pixel − ground) · gradient"
ROWS = "each row is a token that looks, each column one that is seen; a row sums to 1"


def draw_inspection(inspection: Inspection, folder: str | Path) -> list[Path]:
    """Draw all that a model's `look` found: for attention NAME.png, at an image also NAME_heads.png; for the gradient pixels.png."""
    folder, pictures = Path(folder), []
    for maps in inspection.attention:
        path = folder / f"{maps.name}.png"
        if maps.grid is None:
            pictures.append(draw_text_attention(head_lines(maps.rows, maps.columns, maps.weights), path, maps.title, ROWS))
        elif maps.rows:
            pictures.append(draw_attention([mean_look(maps, inspection.image, inspection.asked)], path, f"{maps.title}: mean over all heads"))
            pictures.append(draw_image_heads(maps, inspection.image, folder / f"{maps.name}_heads.png"))
    if inspection.pixels:
        pictures.append(draw_pixels(inspection.image, inspection.pixels, inspection.asked, folder / "pixels.png"))
    return pictures


def draw_image_heads(maps: AttentionMaps, image: NDArray[np.uint8], path: str | Path) -> Path:
    """Where each head looked for each word: a line a word (or, with many heads, a line a layer), a column a head.

    Each panel is lit by its own largest weight. Where a head may also look at words, its share for the image stands below.
    """
    layers, heads, words, _ = maps.weights.shape
    lines = 1 if layers * heads <= ACROSS else layers                                       # of a word
    columns = layers * heads // lines
    weights = maps.weights.reshape(lines, columns, words, *maps.grid)
    shares = weights.sum(axis=(-2, -1))                                                     # (lines, columns, words)
    shared = bool(shares.min() < 0.995)
    down, layer_label = SIDE + (0.19 if shared else 0.06), 0.55 * (lines > 1)
    left, top = 0.3 + 0.095 * max(map(len, maps.rows)) + layer_label, 1.2
    title, below = f"{maps.title}: each head by itself", "lit: looked at, each panel by itself"
    if shared:
        below += "    per cent: what the image gets of this head's attention, the rest goes to words"
    figure, axes = new_sheet(max(left + (SIDE + 0.06) * columns + 0.2, 0.4 + 0.068 * len(below), 0.4 + 0.115 * len(title)),
                             top + words * (lines * down + 0.06) + 0.1)
    heading(axes, title, below=below)
    for t, word in enumerate(maps.rows):
        first = top + t * (lines * down + 0.06)
        write(axes, left - 0.12 - layer_label, first + lines * down / 2, word, ha="right", va="center", fontsize=10, weight="bold")
        for line, column in np.ndindex(lines, columns):
            x, y = left + (SIDE + 0.06) * column, first + line * down
            show_image(axes, lit(image, weights[line, column, t]), x, y, SIDE, edge="white")
            if shared:
                write(axes, x + SIDE / 2, y + SIDE + 0.02, f"{shares[line, column, t]:.0%}", fontsize=7.5, color=SOFT)
            if lines > 1 and column == 0:
                write(axes, left - 0.08, y + SIDE / 2, f"layer {line + 1}", ha="right", va="center", fontsize=8, color=SOFT)
            if t == line == 0:
                name = f"head {column + 1}" if lines > 1 else f"layer {column // heads + 1}\nhead {column % heads + 1}"
                write(axes, x + SIDE / 2, top - 0.08, name, va="bottom", fontsize=8.5, color=SOFT)
    return save(figure, path)


def draw_pixels(image: NDArray[np.uint8], gradients: Sequence[PixelGradient], asked: str, path: str | Path) -> Path:
    """How ln p of each word depends on each pixel: two panels a word, each coloured by its own largest value.

    |d ln p / d pixel|, the largest of the three colours: where a small change would matter most (Simonyan et al. 2014). And
    (pixel - ground) d ln p / d pixel, summed over the colours: what the pixel adds to ln p (blue) or takes from it (red) by
    not being of the image's ground (its median colour), to first order.
    """
    if len(gradients) > 1:
        probability = float(np.prod([word.probability for word in gradients]))
        gradients = [PixelGradient("all words", probability, sum(word.gradient for word in gradients)), *gradients]
    alone = len(gradients) == 1                  # then both panels stand beside the image, else one below the other
    side, gap, label, under = 2.3 if alone else 1.5, 0.1, 0.4, 0.26                         # inches
    columns = 7
    bands = [gradients[i:i + columns] for i in range(0, len(gradients), columns)]
    height = label + (1 if alone else 2) * (side + under)
    below = ("the gradient of ln p(word), in nats per unit of brightness (0 to 1)    blue, red: what a pixel adds to ln p by not being "
             "ground, or takes from it")
    width = max(0.4 + (3 if alone else 1 + max(map(len, bands))) * (side + gap), 7.5)
    top = 0.95
    figure, axes = new_sheet(width, top + len(bands) * height + 0.05)
    heading(axes, "How the answer depends on each pixel", below=wrap(below, int((width - 2.2) / 0.066), 2))
    color_bar(axes, width - 0.55, 0.2, SALIENCY, "0", "max")
    color_bar(axes, width - 0.55, 0.44, SIGNED, "−max", "max")
    values = image / 255.0                                                                  # (H, W, 3)
    ground = np.median(values, axis=(0, 1))                                                 # (3,)
    for i, words in enumerate(bands):
        y = top + i * height + label
        show_image(axes, image, 0.2, y, side)
        write(axes, 0.2, y - 0.05, wrap(asked, 27 if side < 2 else 40, 2), ha="left", va="bottom", fontsize=7.8, color=SOFT)
        if alone:
            write(axes, 0.2 + 2 * (side + gap), y - 0.05, NAME, ha="left", va="bottom", fontsize=8.5, color=SOFT)
        else:
            middle = y + side + under + side / 2
            write(axes, 0.1 + side, middle, NAME.replace("· ", "·\n"), ha="right", va="center", fontsize=8.5, color=SOFT)
        for column, word in enumerate(words, 1):
            x = 0.2 + column * (side + gap)
            title = f"{word.word}\np = {_probability(word.probability)}"
            write(axes, x, y - 0.05, title, ha="left", va="bottom", fontsize=9, weight="bold", linespacing=1.1)
            size = np.abs(word.gradient).max(axis=-1)                                       # (H, W)
            part = ((values - ground) * word.gradient).sum(axis=-1)                         # (H, W)
            _draw_scores(axes, size, 0.0, SALIENCY, x, y, side)
            _draw_scores(axes, part, -1.0, SIGNED, *((x + side + gap, y) if alone else (x, y + side + under)), side)
    return save(figure, path)


def _draw_scores(axes: Axes, scores: NDArray[np.floating], low: float, cmap: str, x: float, y: float, side: float) -> None:
    """Scores (H, W) as a coloured image, low * max to max, with its max below."""
    highest = float(np.abs(scores).max())
    share = (scores / highest - low) / (1 - low) if highest else np.full(scores.shape, -low / (1 - low))
    show_image(axes, np.rint(255 * colormaps[cmap](share)[..., :3]).astype(np.uint8), x, y, side)
    write(axes, x + side / 2, y + side + 0.03, f"max {_short(highest)}", fontsize=7.5, color=SOFT)


def _short(value: float) -> str:
    return f"{value:.2g}".replace("e-0", "e-")


def _probability(p: float) -> str:
    """0.97, and what is nearer to 1 by what is missing."""
    return f"{p:.2f}" if p < 0.995 else f"1 − {_short(1 - p)}" if p < 1 else "1"
