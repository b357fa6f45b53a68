"""Twin of max pooling: one loop over the windows, without a copy of the image for each place of the window."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.functional import pooling as readable
from tinymm.functional.pooling import Array
from tinymm.kernels.loops import Loop
from tinymm.kernels.threads import run


class MaxPool2dCache(NamedTuple):
    winner: NDArray[np.int32]           # (B, H', W', C)  which place of the window won: i * size + j
    x_shape: tuple[int, int, int, int]  # (B, H, W, C)
    size: int
    stride: int


def max_pool2d_forward(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, MaxPool2dCache]:
    """Twin of `functional.max_pool2d_forward`."""
    stride = size if stride is None else stride
    height, width = readable._output_size(x, size, stride)
    shape = (len(x), height, width, x.shape[3])
    out, winner = np.empty(shape, x.dtype), np.empty(shape, np.int32)            # (B, H', W', C)
    run(_max_pool, len(x), (np.ascontiguousarray(x), size, stride, out, winner))
    return out, MaxPool2dCache(winner, x.shape, size, stride)


def max_pool2d_backward(d_out: Array, cache: MaxPool2dCache) -> Array:
    """Twin of `functional.max_pool2d_backward`."""
    winner, x_shape, size, stride = cache
    d_x = np.zeros(x_shape, d_out.dtype)                                         # (B, H, W, C)
    run(_max_pool_backward, len(d_x), (np.ascontiguousarray(d_out), winner, size, stride, d_x))
    return d_x


@Loop
def _max_pool(first, last, x, size, stride, out, winner):
    _, height, width, channels = out.shape
    for b in range(first, last):
        for m in range(height):
            for n in range(width):
                for c in range(channels):
                    out[b, m, n, c] = x[b, m * stride, n * stride, c]                        # F1
                    winner[b, m, n, c] = 0
                for place in range(1, size * size):
                    i, j = divmod(place, size)
                    for c in range(channels):
                        value, best = x[b, m * stride + i, n * stride + j, c], out[b, m, n, c]
                        if value > best or (value != value and best == best):                # F2  the first NaN wins
                            out[b, m, n, c] = value                                          # F3
                            winner[b, m, n, c] = place


@Loop
def _max_pool_backward(first, last, d_out, winner, size, stride, d_x):
    _, height, width, channels = d_out.shape
    for b in range(first, last):
        for m in range(height):
            for n in range(width):
                for place in range(size * size):
                    i, j = divmod(place, size)
                    for c in range(channels):
                        if winner[b, m, n, c] == place:
                            d_x[b, m * stride + i, n * stride + j, c] += d_out[b, m, n, c]   # undoes F3, F2, F1
