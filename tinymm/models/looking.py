"""What a model looked at: who attends to whom in every layer and head, and which pixels the answer hangs on.

A model that attends has one method more, whose arguments are what the model reads, in the order in which a user gives them:

    look(image, question) -> Inspection          or look(text), look(image), ...

`tinymm.plots.looking` draws an Inspection, `tinymm look` calls both; neither knows the models.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymm import functional

Array = NDArray[np.floating]


@dataclass(frozen=True)
class AttentionMaps:
    """One kind of attention of a forward pass, such as "words at the image", in every layer and head.

    Raises:
        ValueError: weights do not fit rows and columns (or the cells of the grid).
    """

    name: str                         # of the file that it is drawn into
    title: str                        # what is seen in it
    weights: Array                    # (L, H, T, S): layers, heads, who looks, who is seen
    rows: Sequence[str]               # T
    columns: Sequence[str] = ()       # S; empty if the keys are the cells of an image
    grid: tuple[int, int] | None = None    # rows and columns of these cells, rows * columns = S

    def __post_init__(self) -> None:
        keys = len(self.columns) if self.grid is None else self.grid[0] * self.grid[1]
        if self.weights.ndim != 4 or self.weights.shape[2:] != (len(self.rows), keys):
            raise ValueError(f"weights must be (L, H, T, S) = (L, H, {len(self.rows)}, {keys}), got {self.weights.shape}")


@dataclass(frozen=True)
class PixelGradient:
    """How ln p(word) changes with each pixel: d ln p / d brightness, in nats, where 0 is black and 1 is full red, green or blue."""

    word: str
    probability: float     # p(word)
    gradient: Array        # (H, W, 3)


@dataclass(frozen=True)
class Inspection:
    """What a model's `look` finds."""

    asked: str                                  # what was read, in a few words
    answer: str                                 # what came out of it
    attention: Sequence[AttentionMaps]
    image: NDArray[np.uint8] | None = None      # (H, W, 3), as the model saw it
    pixels: Sequence[PixelGradient] = ()        # one for each word of the answer


def words_and_image(to_words: Array, to_image: Array, words: Sequence[str]) -> tuple[Array, list[str]]:
    """Attention that one softmax shares out over words and image: (..., T, T) and (..., T, N) -> (..., T, 1 + T), and its columns.

    All cells of the image together are the first column, so that each row sums to 1 again.
    """
    return np.concatenate([to_image.sum(axis=-1, keepdims=True), to_words], axis=-1), ["(image)", *words]


def log_probability(logits: Array, chosen: NDArray[np.integer]) -> tuple[NDArray[np.float64], Array]:
    """ln p of the chosen one of each row of logits (n, V): (n,), and its gradient with respect to the logits (n, V).

    In float64: a model that is sure has a p so close to 1 that float32 would round the gradient 1 - p away.
    """
    rows = np.arange(len(chosen))
    log_p, cache = functional.log_softmax_forward(logits.astype(np.float64))                # (n, V)
    d_log_p = np.zeros_like(log_p)                                                          # (n, V)
    d_log_p[rows, chosen] = 1
    return log_p[rows, chosen], functional.log_softmax_backward(d_log_p, cache).astype(logits.dtype)
