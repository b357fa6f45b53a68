"""Dropout: while training, a random part of the numbers is set to zero, so that no unit can rely on another.

    out = x m / (1 - rate),   m = 1 with probability 1 - rate, else 0        Srivastava et al. 2014

Dividing by 1 - rate keeps the expected value equal to x ("inverted" dropout), so evaluation needs no change at all.
Given m, the layer is a multiplication by a constant; the backward multiplies by the same constant.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class DropoutCache(NamedTuple):
    factor: Array | None    # (...)  0 or 1 / (1 - rate); None when nothing was dropped


def dropout_forward(
    x: Array, rate: float, rng: np.random.Generator | None, training: bool = True
) -> tuple[Array, DropoutCache]:
    """Set each entry to 0 with probability `rate`, and divide the others by 1 - rate.

    Args:
        x: an array of any shape.   rate: 0 <= rate < 1.
        rng: the generator to draw from; each call draws x.size numbers. Not used when nothing is dropped.
        training: with False (or rate 0) out is x itself.

    Returns:
        out in the shape and dtype of x, and the cache for `dropout_backward`.

    Raises:
        ValueError: rate lies outside [0, 1), or rng is missing.
    """
    if not 0 <= rate < 1:
        raise ValueError(f"rate must lie in 0 <= rate < 1, got {rate}")
    if not training or rate == 0:
        return x, DropoutCache(None)
    if rng is None:
        raise ValueError("rng must be a numpy.random.Generator while training, got None")

    kept = rng.random(x.shape, dtype=np.float32) >= rate       # (...)  F1
    factor = kept.astype(x.dtype)                              # (...)
    factor /= 1 - rate                                         # (...)  F2
    out = x * factor                                           # (...)  F3
    return out, DropoutCache(factor)


def dropout_backward(d_out: Array, cache: DropoutCache) -> Array:
    """Gradient of `dropout_forward` with respect to x: what was dropped gets 0, the rest is scaled as it was."""
    if cache.factor is None:
        return d_out
    return d_out * cache.factor                                # (...)  undoes F3; the factor does not depend on x
