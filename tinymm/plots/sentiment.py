"""Sentences with what a model thinks of them."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from tinymm.plots.sheet import INK, LINE, RIGHT, WRONG, heading, new_sheet, save, wrap, write


def draw_judgements(texts: Sequence[str], logits: NDArray[np.floating], labels: NDArray[np.integer], path: str | Path,
                    answers: Sequence[str] = ("negative", "positive"), count: int = 14) -> Path:
    """Sentences from surely answers[0] to surely answers[1], a bar for the probability, and whether it is right."""
    probability = 1 / (1 + np.exp(-logits.astype(np.float64)))                              # (N,)
    order = np.argsort(probability, kind="stable")
    shown = order[np.linspace(0, len(order) - 1, min(count, len(order))).astype(np.intp)]
    row, top = 0.42, 0.80                                                                    # inches
    figure, axes = new_sheet(9.5, top + row * len(shown) + 0.1)
    share = float(((probability > 0.5) == labels).mean())
    heading(axes, f"Test sentences, from surely {answers[0]} to surely {answers[1]}", f"{share:.1%} of {len(labels):,} are right",
            f"probability that it is {answers[1]}; green: right, red: wrong")
    for i, place in enumerate(shown):
        y, p = top + i * row, float(probability[place])
        right = (p > 0.5) == labels[place]
        axes.add_patch(Rectangle((0.2, y), 1.2, 0.2, facecolor=LINE))
        axes.add_patch(Rectangle((0.2, y), 1.2 * p, 0.2, facecolor=RIGHT if right else WRONG))
        write(axes, 1.5, y + 0.02, f"{p:.0%}", ha="left", color=RIGHT if right else WRONG, weight="bold")
        write(axes, 2.0, y, wrap(texts[place], 108, 2), ha="left", fontsize=8, color=INK)
    return save(figure, path)
