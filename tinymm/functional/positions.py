"""Positions: attention sees a set, not a sequence; these vectors, added to the tokens, tell it the order.

Two kinds, both in Vaswani et al. 2017, section 3.5 (which found them equally good):

    sinusoidal    PE(t, 2i) = sin(t / 10000^(2i / D)),   PE(t, 2i + 1) = cos(t / 10000^(2i / D))      fixed
    learned       row t of a table that is trained like any other weight (GPT, BERT)
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.floating]


def sinusoidal_positions(length: int, width: int, dtype: DTypeLike = np.float64) -> Array:
    """The fixed table of Vaswani et al. 2017, section 3.5: each pair of columns is a clock hand of another speed.

    Column 2i holds sin and column 2i + 1 cos of t / 10000^(2i / D). The wave lengths run from 2 pi to 10000 * 2 pi.
    A step of n positions turns each hand by a fixed angle, so PE(t + n) is a rotation of PE(t) whatever t is.

    Returns:
        (length, width) in the given dtype. An odd width ends in a sine without its cosine.

    Raises:
        ValueError: length or width is below 1.
    """
    if length < 1 or width < 1:
        raise ValueError(f"length and width must be at least 1, got {length} and {width}")
    position = np.arange(length)[:, None]                      # (T, 1)
    even = np.arange(0, width, 2)                              # (ceil(D / 2),)        2i
    angle = position / 10000.0 ** (even / width)               # (T, ceil(D / 2))
    table = np.empty((length, width))                          # (T, D)
    table[:, 0::2] = np.sin(angle)
    table[:, 1::2] = np.cos(angle[:, : width // 2])
    return table.astype(dtype)


class LearnedPositionsCache(NamedTuple):
    length: int    # T
    rows: int      # the number of rows of the table: the greatest length


def learned_positions_forward(x: Array, weight: Array) -> tuple[Array, LearnedPositionsCache]:
    """out[..., t, :] = x[..., t, :] + weight[t].

    Args:
        x: tokens (..., T, D).   weight: the table (L, D), with L >= T rows; the first T are used.

    Returns:
        out (..., T, D) in the dtype of x, and the cache for `learned_positions_backward`.

    Raises:
        ValueError: a wrong rank, an empty axis, another width, or a sequence longer than the table.
    """
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"x must have shape (..., T, D) without an empty axis, got {x.shape}")
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(f"weight must have shape (L, {x.shape[-1]}) to fit x {x.shape}, got {weight.shape}")
    length, rows = x.shape[-2], weight.shape[0]
    if length > rows:
        raise ValueError(f"x has {length} positions, but weight {weight.shape} has only {rows}; "
                         "shorten x or enlarge the table")

    out = x + weight[:length]                                  # (..., T, D)  F1
    return out, LearnedPositionsCache(length, rows)


def learned_positions_backward(d_out: Array, cache: LearnedPositionsCache) -> tuple[Array, Array]:
    """Gradients of `learned_positions_forward` with respect to x and weight. d_x is d_out itself, not a copy."""
    length, rows = cache
    width = d_out.shape[-1]

    d_weight = np.zeros((rows, width), d_out.dtype)                     # (L, D)  unused rows get 0
    d_weight[:length] = d_out.reshape(-1, length, width).sum(axis=0)    # (T, D)  undoes F1: a row served every sequence
    return d_out, d_weight
