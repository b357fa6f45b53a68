"""Pictures of a search: what was asked, what was found, with scores."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymm.data.emoji import Emoji
from tinymm.plots.sheet import INK, RIGHT, SOFT, WRONG, heading, new_sheet, save, show_image, wrap, write


def draw_contact_sheet(title: str, images: Sequence[NDArray[np.uint8]], names: Sequence[str], scores: Sequence[float],
                       path: str | Path, query: NDArray[np.uint8] | None = None, columns: int = 6) -> Path:
    """Images in the order found, each with its name and score; the image that was searched with comes first."""
    side, gap, head = 1.45, 0.2, 0.62
    cells = ([(query, "searched", None)] if query is not None else []) + list(zip(images, names, scores))
    lines = -(-len(cells) // columns)
    figure, axes = new_sheet(min(columns, max(len(cells), 3)) * (side + gap) + gap, head + lines * (side + 0.62))
    heading(axes, title)
    for i, (image, name, score) in enumerate(cells):
        left, top = gap + i % columns * (side + gap), head + i // columns * (side + 0.62)
        show_image(axes, image, left, top, side, edge=INK if score is None else SOFT, width=2.4 if score is None else 1.0)
        write(axes, left + side / 2, top + side + 0.05, wrap(name, 24, 2), fontsize=8, color=INK, linespacing=1.05)
        if score is not None:
            write(axes, left + side - 0.04, top + 0.04, f"{score:.2f}", fontsize=8, color=INK, ha="right",
                  bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.2})
    return save(figure, path)


def draw_finds(emoji: Emoji, artist: str, rows: NDArray[np.integer], similarity: NDArray[np.floating], path: str | Path,
               count: int = 12, first: int = 3) -> Path:
    """Some drawings of an artist, spread evenly, each with the names found first; the right one is green."""
    side, gap, head, columns, right_of = 0.95, 0.25, 0.62, 3, 2.35
    chosen = np.linspace(0, len(rows) - 1, count).astype(np.intp)
    width, height = columns * (side + right_of + gap) + gap, head + -(-count // columns) * (side + gap)
    figure, axes = new_sheet(width, height)
    heading(axes, f"Names found for drawings by {artist}, an artist never seen in training")
    for i, place in enumerate(chosen):
        left, top = gap + i % columns * (side + right_of + gap), head + i // columns * (side + gap)
        show_image(axes, emoji.drawings[artist][rows[place]], left, top, side)
        order = np.argsort(-similarity[place], kind="stable")
        for line, found in enumerate(order[:first]):
            is_right = found == rows[place]
            write(axes, left + side + 0.1, top + 0.02 + 0.2 * line, f"{similarity[place, found]:.2f}  {wrap(emoji.names[found], 26, 1)}",
                  ha="left", fontsize=8.5, color=RIGHT if is_right else INK, weight="bold" if is_right else "normal")
        rank = int(np.flatnonzero(order == rows[place])[0]) + 1
        if rank > first:
            write(axes, left + side + 0.1, top + 0.02 + 0.2 * first, f"right: {wrap(emoji.names[rows[place]], 24, 1)}, place {rank}", ha="left",
                  fontsize=7.8, color=WRONG)
    return save(figure, path)
