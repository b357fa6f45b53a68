"""The linear layer: every output is a weighted sum of all inputs, plus a bias.

    y = x W + b

It is the work horse of the Transformer: the projections to queries, keys and values, both halves of the
feed-forward part and the final scores over the vocabulary are linear layers. W is (D_in, D_out), so the
code reads like the papers.

The backward. One entry of the product is  y[n, j] = sum_i x[n, i] W[i, j] + b[j].  Hence

    dL/dx[n, i] = sum_j dL/dy[n, j] W[i, j]      ->  d_x      = d_out W^T
    dL/dW[i, j] = sum_n x[n, i] dL/dy[n, j]      ->  d_weight = x^T d_out
    dL/db[j]    = sum_n dL/dy[n, j]              ->  d_bias   = the column sums of d_out

A value that is used many times receives the sum of what comes back from every use: W and b are used by
each of the N rows, so their gradients sum over n. The shapes alone would have told the order of the factors.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class LinearCache(NamedTuple):
    """What the backward pass needs."""

    x: Array              # (..., D_in)
    weight: Array         # (D_in, D_out)
    bias: Array | None    # (D_out,)


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, LinearCache]:
    """y = x W + b, over the last axis of x.

    Args:
        x: (..., D_in), with any leading axes.   weight: (D_in, D_out).   bias: (D_out,), or None for no bias.

    Returns:
        out (..., D_out) in the dtype of x and weight, and the cache for `linear_backward`.

    Raises:
        ValueError: a wrong rank, widths that do not match, or an empty axis.
    """
    if weight.ndim != 2:
        raise ValueError(f"weight must have shape (D_in, D_out), got {weight.shape}")
    d_in, d_out = weight.shape
    if x.ndim < 1 or x.shape[-1] != d_in:
        raise ValueError(f"x must have shape (..., {d_in}) to fit weight {weight.shape}, got {x.shape}")
    if x.size == 0 or weight.size == 0:
        raise ValueError(f"x and weight must not have an empty axis, got x {x.shape} and weight {weight.shape}")
    if bias is not None and bias.shape != (d_out,):
        raise ValueError(f"bias must have shape ({d_out},) to fit weight {weight.shape}, got {bias.shape}")

    rows = x.reshape(-1, d_in)                     # (N, D_in)         one tall matrix: one product in all
    out = rows @ weight                            # (N, D_out)    F1
    if bias is not None:
        out += bias                                # (N, D_out)    F2  in place: `out` is new, nobody else holds it
    out = out.reshape(*x.shape[:-1], d_out)        # (..., D_out)
    return out, LinearCache(x, weight, bias)


def linear_backward(d_out: Array, cache: LinearCache) -> tuple[Array, Array, Array | None]:
    """Gradients of `linear_forward` with respect to x, weight and bias (None without one), given d_out (..., D_out)."""
    x, weight, bias = cache
    d_in, width = weight.shape

    rows = x.reshape(-1, d_in)                     # (N, D_in)
    d_rows = d_out.reshape(-1, width)              # (N, D_out)
    d_bias = None
    if bias is not None:
        d_bias = d_rows.sum(axis=0)                # (D_out,)       undoes F2: the bias was added to every row
    d_weight = rows.T @ d_rows                     # (D_in, D_out)  undoes F1: a sum over all N rows
    d_x = (d_rows @ weight.T).reshape(x.shape)     # (..., D_in)    undoes F1
    return d_x, d_weight, d_bias
