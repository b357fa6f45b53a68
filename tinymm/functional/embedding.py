"""Embedding: each token id picks its row of a table of learned vectors.

    out[b, t] = W[ids[b, t]]

It is the door between words and arithmetic, and nothing else than a linear layer on one-hot vectors, without the
multiplications by zero. The backward sends each gradient back to the row it was read from. A word that occurs several
times reads the same row several times, so its gradients add up:

    d_W[i] = sum over all (b, t) with ids[b, t] = i of d_out[b, t]
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class EmbeddingCache(NamedTuple):
    ids: NDArray[np.integer]    # (...)
    rows: int                   # V, the number of rows of the table


def embedding_forward(ids: NDArray[np.integer], weight: Array) -> tuple[Array, EmbeddingCache]:
    """out = weight[ids].

    Args:
        ids: integers of any shape (...), usually (B, T), each in 0 to V - 1.   weight: the table (V, D).

    Returns:
        out (..., D) in the dtype of weight, and the cache for `embedding_backward`.

    Raises:
        ValueError: ids are not integers, are empty, or lie outside the table (a negative id does not count from the
            end); weight is not (V, D).
    """
    if weight.ndim != 2 or weight.size == 0:
        raise ValueError(f"weight must have shape (V, D) without an empty axis, got {weight.shape}")
    if not np.issubdtype(ids.dtype, np.integer):
        raise ValueError(f"ids must be integers, got {ids.dtype}")
    if ids.size == 0:
        raise ValueError(f"ids must not have an empty axis, got {ids.shape}")
    rows = weight.shape[0]
    if ids.min() < 0 or ids.max() >= rows:
        raise ValueError(f"ids must lie in 0 to {rows - 1} to fit weight {weight.shape}, "
                         f"got {ids.min()} to {ids.max()}")

    out = weight[ids]                                          # (..., D)  F1
    return out, EmbeddingCache(ids, rows)


def embedding_backward(d_out: Array, cache: EmbeddingCache) -> Array:
    """Gradient of `embedding_forward` with respect to weight (V, D), given d_out (..., D)."""
    ids, rows = cache
    d_weight = np.zeros((rows, d_out.shape[-1]), d_out.dtype)  # (V, D)  rows that were never read get 0
    # `d_weight[ids] += d_out` would keep only one of several gradients of the same row.
    np.add.at(d_weight, ids, d_out)                            # (V, D)  undoes F1: adds, however often an id occurs
    return d_weight
