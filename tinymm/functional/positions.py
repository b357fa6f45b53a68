"""Positions: attention sees a set, not a sequence; these pairs tell it the order.

Two kinds are vectors added to the tokens, both in Vaswani et al. 2017, section 3.5 (which found them equally good):

    sinusoidal    PE(t, 2i) = sin(t / 10000^(2i / D)),   PE(t, 2i + 1) = cos(t / 10000^(2i / D))      fixed
    learned       row t of a table that is trained like any other weight (GPT, BERT)

The third adds nothing to the tokens. It turns the queries and the keys inside attention (Su et al. 2021):

    rotary        the pair (x[2i], x[2i + 1]) is turned by the angle t / 10000^(2i / K)               fixed

A dot product of two vectors, one turned by a and the other by b, depends on a - b alone. So how well a key answers a
query depends on what both say and on how far apart they stand, not on where.
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
    offset: int
    rows: int      # the number of rows of the table: the greatest length


def learned_positions_forward(x: Array, weight: Array, offset: int = 0) -> tuple[Array, LearnedPositionsCache]:
    """out[..., t, :] = x[..., t, :] + weight[offset + t].

    Args:
        x: tokens (..., T, D).   weight: the table (L, D), with L >= offset + T rows.
        offset: the place of the first of the T tokens, 0 or more; above 0 when earlier ones were read before.

    Returns:
        out (..., T, D) in the dtype of x, and the cache for `learned_positions_backward`.

    Raises:
        ValueError: a wrong rank, an empty axis, another width, a negative offset, or a sequence longer than the table.
    """
    if x.ndim < 2 or x.size == 0:
        raise ValueError(f"x must have shape (..., T, D) without an empty axis, got {x.shape}")
    if weight.ndim != 2 or weight.shape[1] != x.shape[-1]:
        raise ValueError(f"weight must have shape (L, {x.shape[-1]}) to fit x {x.shape}, got {weight.shape}")
    length, rows = x.shape[-2], weight.shape[0]
    if offset < 0:
        raise ValueError(f"offset must be 0 or more, got {offset}")
    if offset + length > rows:
        raise ValueError(f"x has {offset + length} positions, but weight {weight.shape} has only {rows}; "
                         "shorten x or enlarge the table")

    out = x + weight[offset:offset + length]                   # (..., T, D)  F1
    return out, LearnedPositionsCache(length, offset, rows)


def learned_positions_backward(d_out: Array, cache: LearnedPositionsCache) -> tuple[Array, Array]:
    """Gradients of `learned_positions_forward` with respect to x and weight. d_x is d_out itself, not a copy."""
    length, offset, rows = cache
    width = d_out.shape[-1]

    d_weight = np.zeros((rows, width), d_out.dtype)                     # (L, D)  unused rows get 0
    d_used = d_weight[offset:offset + length]                           # (T, D)  a view
    d_used += d_out.reshape(-1, length, width).sum(axis=0)              # (T, D)  undoes F1: a row served every sequence
    return d_out, d_weight


class RotaryCache(NamedTuple):
    cos: Array    # (T, K / 2)
    sin: Array    # (T, K / 2)


def rotary_forward(x: Array, offset: int = 0) -> tuple[Array, RotaryCache]:
    """Turn each pair of neighbours (x[2i], x[2i + 1]) by an angle that grows with the place t:

        out[t, 2i]     = x[t, 2i] cos(a) - x[t, 2i + 1] sin(a)
        out[t, 2i + 1] = x[t, 2i] sin(a) + x[t, 2i + 1] cos(a)          a = (offset + t) / 10000^(2i / K)

    Su et al. 2021, eq. (15) and (34). The pairs are neighbours, as in the paper and as in `sinusoidal_positions`. Some
    programs pair x[i] with x[i + K / 2] instead: the same function but for the order of the K numbers, which weights
    learned with one pairing must be reordered to.

    Args:
        x: queries or keys of one head, (..., T, K) with an even K.
        offset: the place of the first of the T vectors, 0 or more; above 0 when earlier ones were computed before.

    Returns:
        out (..., T, K) in the dtype of x, and the cache for `rotary_backward`.

    Raises:
        ValueError: a wrong rank, an empty axis, an odd K, or a negative offset.
    """
    if x.ndim < 2 or x.size == 0 or x.shape[-1] % 2:
        raise ValueError(f"x must have shape (..., T, K) with an even K and without an empty axis, got {x.shape}")
    if offset < 0:
        raise ValueError(f"offset must be 0 or more, got {offset}")
    length, width = x.shape[-2:]

    place = np.arange(offset, offset + length)[:, None]                 # (T, 1)
    angle = place / 10000.0 ** (np.arange(0, width, 2) / width)         # (T, K / 2)
    cos, sin = np.cos(angle).astype(x.dtype), np.sin(angle).astype(x.dtype)    # (T, K / 2)
    even, odd = x[..., 0::2], x[..., 1::2]                              # (..., T, K / 2)
    out = np.empty_like(x)                                              # (..., T, K)
    out[..., 0::2] = even * cos - odd * sin                             # (..., T, K / 2)  F1
    out[..., 1::2] = even * sin + odd * cos                             # (..., T, K / 2)  F2
    return out, RotaryCache(cos, sin)


def rotary_backward(d_out: Array, cache: RotaryCache) -> Array:
    """Gradient of `rotary_forward` with respect to x: the transpose of a rotation, which turns back by the same angle."""
    cos, sin = cache
    d_even, d_odd = d_out[..., 0::2], d_out[..., 1::2]                  # (..., T, K / 2)
    d_x = np.empty_like(d_out)                                          # (..., T, K)
    d_x[..., 0::2] = d_even * cos + d_odd * sin                         # (..., T, K / 2)  undoes F1 and F2 for x[2i]
    d_x[..., 1::2] = d_odd * cos - d_even * sin                         # (..., T, K / 2)  undoes F1 and F2 for x[2i + 1]
    return d_x
