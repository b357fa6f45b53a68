"""Twin of the backward of the embedding: each gradient is added to its row of the table, one after the other.

The loop runs in a single thread, since two could meet at the same row.
"""

import numpy as np

from tinymm.functional.embedding import Array, EmbeddingCache
from tinymm.kernels.loops import Loop
from tinymm.kernels.threads import run

__all__ = ["embedding_backward"]


def embedding_backward(d_out: Array, cache: EmbeddingCache) -> Array:
    """Twin of `functional.embedding_backward`."""
    width = d_out.shape[-1]
    d_weight = np.zeros((cache.rows, width), d_out.dtype)                        # (V, D)
    ids = np.ascontiguousarray(cache.ids, dtype=np.int64).reshape(-1)            # (N,)
    run(_add_rows, 1, (ids, np.ascontiguousarray(d_out).reshape(-1, width), d_weight))
    return d_weight


@Loop
def _add_rows(first, last, ids, d_out, d_weight):
    for n in range(len(ids)):
        row = ids[n]
        for i in range(d_out.shape[1]):
            d_weight[row, i] += d_out[n, i]                                      # undoes F1
