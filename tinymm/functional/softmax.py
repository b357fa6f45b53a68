"""Softmax: turns any scores into weights that are positive and sum to 1.

    p_i = exp(x_i) / sum_j exp(x_j)

Attention uses it to share a query's attention over the keys; the loss uses its logarithm to turn the
model's last scores (logits) into probabilities of the next token.

Subtracting the same number from all x_i changes nothing, since exp(x_i - m) = exp(x_i) / exp(m) and exp(m)
cancels. With m = max(x) the largest exponential is exp(0) = 1, and nothing can overflow.

The short backward. From the quotient rule,  dp_i / dx_j = p_i (1[i = j] - p_j):  raising x_j raises p_j and
lowers all the others. The Jacobian is a full matrix, but we only ever need it times a vector d_p:

    d_x_j = sum_i d_p_i p_i (1[i = j] - p_j) = p_j d_p_j - p_j sum_i p_i d_p_i
    d_x   = p (d_p - p . d_p)

One dot product and one multiplication; no matrix is built. Two things to see in it: the entries of d_x sum
to 0 (a common shift of x has no effect), and if all d_p are equal d_x is 0 (the sum of p cannot change).
`softmax_backward_steps` finds the same by undoing the forward line by line.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class SoftmaxCache(NamedTuple):
    """What the backward pass needs. The softmax runs along `axis`; the shapes here are for the last one."""

    out: Array      # (..., V)  the probabilities
    total: Array    # (..., 1)  the sum of the shifted exponentials; only `softmax_backward_steps` looks at it
    axis: int


def softmax_forward(x: Array, axis: int = -1) -> tuple[Array, SoftmaxCache]:
    """p_i = exp(x_i) / sum_j exp(x_j) along one axis.

    Args:
        x: scores of any shape; -inf means "impossible".
        axis: the axis whose entries will sum to 1. The shapes below are for the last.

    Returns:
        out in the shape and dtype of x, and the cache for `softmax_backward`.
        Where all scores are -inf nothing is possible: those p are 0, not NaN.

    Raises:
        ValueError: x has no such axis, or that axis is empty.
    """
    _check_axis(x, axis)

    highest = x.max(axis=axis, keepdims=True)                      # (..., 1)  F1
    highest = np.where(highest == -np.inf, 0, highest)             # (..., 1)      all impossible: not -inf - -inf
    shifted = x - highest                                          # (..., V)  F2  the largest is 0
    exps = np.exp(shifted)                                         # (..., V)  F3  the largest is 1
    total = exps.sum(axis=axis, keepdims=True)                     # (..., 1)  F4
    total = np.where(total > 0, total, 1)                          # (..., 1)      all impossible: 0 / 1
    out = exps / total                                             # (..., V)  F5
    return out, SoftmaxCache(out, total, axis)


def softmax_backward(d_out: Array, cache: SoftmaxCache) -> Array:
    """Gradient of `softmax_forward` with respect to x: d_x = p (d_p - p . d_p)."""
    out, _, axis = cache

    inner = (out * d_out).sum(axis=axis, keepdims=True)            # (..., 1)  p . d_p
    return out * (d_out - inner)                                   # (..., V)  undoes F5 ... F1 at once


def softmax_backward_steps(d_out: Array, cache: SoftmaxCache) -> Array:
    """The same gradient, one forward line at a time, from the last to the first."""
    out, total, axis = cache
    exps = out * total                                             # (..., V)  F3, as it was

    d_exps = d_out / total                                         # (..., V)  undoes F5: the dividend ...
    d_quotients = -d_out * exps / total**2                         # (..., V)      ... and the divisor,
    d_total = d_quotients.sum(axis=axis, keepdims=True)            # (..., 1)      which every entry was divided by
    d_exps = d_exps + d_total                                      # (..., V)  undoes F4: a sum reaches each term
    d_shifted = d_exps * exps                                      # (..., V)  undoes F3: the slope of exp is exp
    d_x = d_shifted                                                # (..., V)  undoes F2: the slope of x - highest is 1
    # F1: the maximum would get -sum(d_shifted). That is 0, as a common shift has no effect on p: in the sum the two
    # parts of d_exps cancel. So nothing goes back through the maximum, and it may be treated as a constant.
    return d_x


class LogSoftmaxCache(NamedTuple):
    """What the backward pass needs."""

    out: Array    # (..., V)  the logarithms of the probabilities
    axis: int


def log_softmax_forward(x: Array, axis: int = -1) -> tuple[Array, LogSoftmaxCache]:
    """log p_i = x_i - log sum_j exp(x_j) along one axis.

    The logarithm of `softmax_forward` would lose all that softmax rounds to 0; here log p may be -1000 and still exact.

    Args and errors are those of `softmax_forward`. Returns out in the shape and dtype of x, and the cache.
    -inf stays -inf, also where all scores are -inf.
    """
    _check_axis(x, axis)

    highest = x.max(axis=axis, keepdims=True)                      # (..., 1)
    highest = np.where(highest == -np.inf, 0, highest)             # (..., 1)      all impossible
    shifted = x - highest                                          # (..., V)  F1
    total = np.exp(shifted).sum(axis=axis, keepdims=True)          # (..., 1)  F2
    total = np.where(total > 0, total, 1)                          # (..., 1)      all impossible
    shifted -= np.log(total)                                       # (..., V)  F3  in place, this is now log p
    return shifted, LogSoftmaxCache(shifted, axis)


def log_softmax_backward(d_out: Array, cache: LogSoftmaxCache) -> Array:
    """Gradient of `log_softmax_forward` with respect to x.

    d log p_i / d x_j = 1[i = j] - p_j, so d_x_j = d_out_j - p_j sum_i d_out_i.
    """
    out, axis = cache

    d_x = np.exp(out)                                              # (..., V)  p
    d_x *= -d_out.sum(axis=axis, keepdims=True)                    # (..., V)  undoes F3 (log total), F2
    d_x += d_out                                                   # (..., V)  undoes F3 (shifted), F1
    return d_x


def _check_axis(x: Array, axis: int) -> None:
    if not -x.ndim <= axis < x.ndim:
        raise ValueError(f"axis {axis} does not exist in x of shape {x.shape}, which has {x.ndim} axes")
    if x.shape[axis] == 0:
        raise ValueError(f"x must have at least one entry along axis {axis}, got shape {x.shape}")
