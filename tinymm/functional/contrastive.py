"""Contrastive learning: pull together what belongs together, push apart the rest (van den Oord et al. 2018; CLIP: Radford et al. 2021).

A batch has B pairs, such as drawings and their names. Each drawing a_i is compared with each name b_j, both as vectors of
length 1, by their dot product; a temperature makes the differences large enough for a softmax:

    S_ij = e^s a_i . b_j            s = log(1 / temperature), learned
    L = (cross-entropy of the rows of S, right column i  +  cross-entropy of the columns, right row j) / 2

Each row asks "which of the B names is this drawing's?", each column "which drawing is this name's?". The other pairs of the
batch are the wrong answers, so a larger batch is a harder question.

Why a temperature: dot products of unit vectors lie between -1 and 1, and a softmax of such numbers is nearly even. Those of
the B - 1 wrong pairs cannot all lie below -1 / (B - 1), so without it the loss could not fall below
log(1 + (B - 1) e^(-B / (B - 1))), for B = 256 about 4.5. With e^s = 100 the right pair needs to be ahead by 0.1 only.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.functional.losses import cross_entropy_backward, cross_entropy_forward

Array = NDArray[np.floating]


class L2NormalizeCache(NamedTuple):
    """What the backward pass needs."""

    out: Array                    # (..., D)
    divisor: Array                # (..., 1)
    is_short: NDArray[np.bool_]   # (..., 1)  True where eps was the divisor


def l2_normalize_forward(x: Array, eps: float = 1e-8) -> tuple[Array, L2NormalizeCache]:
    """out = x / max(|x|, eps) along the last axis: vectors of length 1.

    Args:
        x: (..., D).   eps: vectors shorter than this are divided by it instead, so that zero stays zero.

    Returns:
        out (..., D), and the cache for `l2_normalize_backward`.

    Raises:
        ValueError: x is a scalar or its last axis is empty.
    """
    if x.ndim < 1 or x.shape[-1] == 0:
        raise ValueError(f"x must have shape (..., D) with D at least 1, got {x.shape}")
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))          # (..., 1)  F1
    is_short = length < eps                                        # (..., 1)
    divisor = np.where(is_short, x.dtype.type(eps), length)        # (..., 1)  F2
    out = x / divisor                                              # (..., D)  F3
    return out, L2NormalizeCache(out, divisor, is_short)


def l2_normalize_backward(d_out: Array, cache: L2NormalizeCache) -> Array:
    """d_x = (d_out - out (out . d_out)) / |x|: the part along x is lost, as stretching x changes nothing."""
    out, divisor, is_short = cache
    along = (d_out * out).sum(axis=-1, keepdims=True)              # (..., 1)
    along = np.where(is_short, 0, along)                           # (..., 1)  undoes F2: eps does not depend on x
    return (d_out - out * along) / divisor                         # (..., D)  undoes F3, F1


class InfoNCECache(NamedTuple):
    """What the backward pass needs."""

    a: Array              # (B, D)
    b: Array              # (B, D)
    similarity: Array     # (B, B)  S
    scale: np.floating    # e^s
    rows: Any             # caches of the two cross-entropies
    columns: Any


def info_nce_forward(a: Array, b: Array, log_scale: Array) -> tuple[np.floating, InfoNCECache]:
    """The symmetric InfoNCE loss: see the head of this file.

    Args:
        a, b: (B, D) each, vectors of length 1; row i of a belongs to row i of b.   log_scale: s, of shape ().

    Returns:
        The loss, a scalar in the dtype of a, and the cache for `info_nce_backward`.

    Raises:
        ValueError: shapes that differ, or no pair.
    """
    if a.ndim != 2 or a.shape != b.shape or a.size == 0:
        raise ValueError(f"a and b must have the same shape (B, D) without an empty axis, got {a.shape} and {b.shape}")
    if np.ndim(log_scale) != 0:
        raise ValueError(f"log_scale must be a single number, of shape (), got {np.shape(log_scale)}")
    right = np.arange(len(a))                                                    # (B,)    item i belongs to item i
    scale = np.exp(log_scale)                                                    # ()      F1
    similarity = scale * (a @ b.T)                                               # (B, B)  F2
    rows_loss, rows = cross_entropy_forward(similarity, right)                   # ()      F3
    columns_loss, columns = cross_entropy_forward(similarity.T, right)           # ()      F4
    loss = (rows_loss + columns_loss) / 2                                        # ()      F5
    return loss, InfoNCECache(a, b, similarity, scale, rows, columns)


def info_nce_backward(d_out: float, cache: InfoNCECache) -> tuple[Array, Array, Array]:
    """Gradients of a, b and log_scale. d_out is the gradient of the scalar loss.

    With the softmax of the rows P and of the columns Q (losses.py: p - y):  d_S = (P - I + Q - I) / (2 B).
    """
    a, b, similarity, scale, rows, columns = cache
    d_half = float(d_out) / 2                                                    # ()      undoes F5
    d_similarity = cross_entropy_backward(d_half, columns).T                     # (B, B)  undoes F4
    d_similarity = d_similarity + cross_entropy_backward(d_half, rows)           # (B, B)  undoes F3: S was read twice
    d_a = scale * (d_similarity @ b)                                             # (B, D)  undoes F2
    d_b = scale * (d_similarity.T @ a)                                           # (B, D)  undoes F2
    d_log_scale = (d_similarity * similarity).sum()                              # ()      undoes F2, F1: dS/ds = S
    return d_a, d_b, np.asarray(d_log_scale, a.dtype)
