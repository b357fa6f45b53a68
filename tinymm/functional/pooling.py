"""Pooling: make an image smaller by keeping one number of each window and channel, its largest or its mean.

Average pooling is the "sub-sampling" of LeNet (LeCun et al. 1998); max pooling keeps the strongest answer of a feature
wherever in the window it was found, so small shifts change little. Neither has parameters. The geometry is that of a
convolution without padding: Dumoulin & Visin 2016, relation 15,  floor((n - size) / stride) + 1  windows along an axis.

Backward, the mean shares the gradient equally among its window. The maximum passes it all to the pixel that won, for
moving any other by a little changes nothing. Where two pixels tie the maximum has a kink and no derivative; the first
one in reading order takes the gradient, as PyTorch has it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class MaxPool2dCache(NamedTuple):
    """What the backward pass needs."""

    winner: NDArray[np.integer]         # (B, H', W', C)  which place of the window won: i * size + j
    x_shape: tuple[int, int, int, int]  # (B, H, W, C)
    size: int
    stride: int


def max_pool2d_forward(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, MaxPool2dCache]:
    """The largest value of each window of size x size pixels, for each channel.

    H' = (H - size) // stride + 1, and W' alike (Dumoulin & Visin 2016, relation 15). Rows and columns at the lower
    right that no whole stride reaches are not seen; their gradient is 0.

    Args:
        x: images (B, H, W, C).   size: height and width of the window.
        stride: pixels from one window to the next, by default `size`.

    Returns:
        out (B, H', W', C) in the dtype of x, and the cache for `max_pool2d_backward`. A NaN in the window wins.

    Raises:
        ValueError: x is not (B, H, W, C), has an empty axis, is smaller than the window, or size or stride is below 1.
    """
    stride = size if stride is None else stride
    height, width = _output_size(x, size, stride)

    slices = [x[:, rows, cols] for rows, cols in _places(size, stride, height, width)]
    places = np.stack(slices)                                                # (P, B, H', W', C)  F1  P = size * size
    winner = places.argmax(axis=0)                                           # (B, H', W', C)  F2  the first of equals
    out = np.take_along_axis(places, winner[None], axis=0)[0]                # (B, H', W', C)  F3
    return out, MaxPool2dCache(winner, x.shape, size, stride)


def max_pool2d_backward(d_out: Array, cache: MaxPool2dCache) -> Array:
    """Gradient of `max_pool2d_forward` with respect to x (B, H, W, C), given d_out (B, H', W', C)."""
    winner, x_shape, size, stride = cache
    _, height, width, _ = d_out.shape

    d_x = np.zeros(x_shape, dtype=d_out.dtype)                               # (B, H, W, C)
    for place, (rows, cols) in enumerate(_places(size, stride, height, width)):
        d_place = np.where(winner == place, d_out, 0)                        # (B, H', W', C)  undoes F3, F2
        d_x[:, rows, cols] += d_place                                        # (B, H', W', C)  undoes F1, also overlaps
    return d_x


class AvgPool2dCache(NamedTuple):
    """What the backward pass needs."""

    x_shape: tuple[int, int, int, int]  # (B, H, W, C)
    size: int
    stride: int


def avg_pool2d_forward(x: Array, size: int = 2, stride: int | None = None) -> tuple[Array, AvgPool2dCache]:
    """The mean of each window of size x size pixels, for each channel.

    Arguments, result and errors are those of `max_pool2d_forward`.
    """
    stride = size if stride is None else stride
    height, width = _output_size(x, size, stride)

    total = np.zeros((x.shape[0], height, width, x.shape[3]), dtype=x.dtype)    # (B, H', W', C)
    for rows, cols in _places(size, stride, height, width):
        total += x[:, rows, cols]                                            # (B, H', W', C)  F1
    out = total / (size * size)                                              # (B, H', W', C)  F2
    return out, AvgPool2dCache(x.shape, size, stride)


def avg_pool2d_backward(d_out: Array, cache: AvgPool2dCache) -> Array:
    """Gradient of `avg_pool2d_forward` with respect to x (B, H, W, C), given d_out (B, H', W', C)."""
    x_shape, size, stride = cache
    _, height, width, _ = d_out.shape

    d_total = d_out / (size * size)                                          # (B, H', W', C)  undoes F2
    d_x = np.zeros(x_shape, dtype=d_out.dtype)                               # (B, H, W, C)
    for rows, cols in _places(size, stride, height, width):
        d_x[:, rows, cols] += d_total                                        # (B, H', W', C)  undoes F1
    return d_x


def _places(size: int, stride: int, height: int, width: int) -> list[tuple[slice, slice]]:
    """For each place of the window, in reading order: the rows and columns of the image it touches over all windows."""
    return [
        (slice(i, i + (height - 1) * stride + 1, stride), slice(j, j + (width - 1) * stride + 1, stride))
        for i in range(size)
        for j in range(size)
    ]


def _output_size(x: Array, size: int, stride: int) -> tuple[int, int]:
    if x.ndim != 4 or x.size == 0:
        raise ValueError(f"x must be images (B, H, W, C) without an empty axis, got x {x.shape}")
    if size < 1 or stride < 1:
        raise ValueError(f"size and stride must be 1 or more, got size {size} and stride {stride}")
    if x.shape[1] < size or x.shape[2] < size:
        raise ValueError(f"the window must fit into the image, got size {size} and x {x.shape} (B, H, W, C)")
    return (x.shape[1] - size) // stride + 1, (x.shape[2] - size) // stride + 1
