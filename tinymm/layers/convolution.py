"""Convolution and pooling layers, and the block that the image encoder stacks."""

from typing import Any, NamedTuple

import numpy as np

from tinymm.layers.module import Array, Module, Parameter
from tinymm.layers.normalization import BatchNorm


class Conv2d(Module):
    """A square convolution over images (B, H, W, C_in) with weight (kh, kw, C_in, C_out).

    The weight starts normal with variance 2 / (kh kw C_in), made for the ReLU that follows (He et al. 2015, eq. 10).
    `bias=False` before a batch norm, which would subtract it again.
    """

    def __init__(self, c_in: int, c_out: int, rng: np.random.Generator, size: int = 3, stride: int = 1,
                 padding: int = 1, bias: bool = True):
        scale = (2.0 / (size * size * c_in)) ** 0.5
        self.weight = Parameter((scale * rng.standard_normal((size, size, c_in, c_out))).astype(np.float32))
        self.bias = Parameter(np.zeros(c_out, np.float32)) if bias else None
        self.stride, self.padding = stride, padding

    def forward(self, x: Array) -> tuple[Array, Any]:
        """x (B, H, W, C_in) -> out (B, H', W', C_out) with H' = (H + 2 padding - kh) // stride + 1."""
        bias = None if self.bias is None else self.bias.value
        return self.ops.conv2d_forward(x, self.weight.value, bias, self.stride, self.padding)

    def backward(self, d_out: Array, cache: Any, input_gradient: bool = True) -> Array | None:
        """d_out (B, H', W', C_out) -> d_x (B, H, W, C_in), or None (and less work) without input_gradient."""
        d_x, d_weight, d_bias = self.ops.conv2d_backward(d_out, cache, input_gradient)
        self.weight.grad += d_weight
        if self.bias is not None:
            self.bias.grad += d_bias
        return d_x


class MaxPool2d(Module):
    """The largest value of each window."""

    def __init__(self, size: int = 2, stride: int | None = None):
        self.size, self.stride = size, stride

    def forward(self, x: Array) -> tuple[Array, Any]:
        """x (B, H, W, C) -> out (B, H', W', C)."""
        return self.ops.max_pool2d_forward(x, self.size, self.stride)

    def backward(self, d_out: Array, cache: Any) -> Array:
        return self.ops.max_pool2d_backward(d_out, cache)


class AvgPool2d(Module):
    """The mean of each window."""

    def __init__(self, size: int = 2, stride: int | None = None):
        self.size, self.stride = size, stride

    def forward(self, x: Array) -> tuple[Array, Any]:
        """x (B, H, W, C) -> out (B, H', W', C)."""
        return self.ops.avg_pool2d_forward(x, self.size, self.stride)

    def backward(self, d_out: Array, cache: Any) -> Array:
        return self.ops.avg_pool2d_backward(d_out, cache)


def slope_filters(directions: int) -> Array:
    """Kernels (3, 3, 3, 2E) that give the slope of the brightness along E directions of a half circle, and its negative.

    Each is cos(angle) d/dx + sin(angle) d/dy with Sobel's smoothed differences, summed over the three colours.
    """
    d_x = np.outer([1, 2, 1], [-1, 0, 1]) / 8                                              # (3, 3)
    angles = np.pi * np.arange(directions) / directions                                    # (E,)
    slopes = np.cos(angles) * d_x[..., None] + np.sin(angles) * d_x.T[..., None]           # (3, 3, E)
    both = np.concatenate([slopes, -slopes], axis=-1)                                      # (3, 3, 2E)
    return np.repeat(both[:, :, None], 3, axis=2).astype(np.float32)                       # (3, 3, 3, 2E)


class SlopesCache(NamedTuple):
    conv: Any
    relu: Any


class Slopes(Module):
    """Colours, and beside them the slopes of the brightness: rises and falls in E directions, found by fixed filters.

    Nothing is learnt here. Few images that differ much in colour (emoji by different artists) do not teach a CNN to look at outlines
    first; so it is told.
    """

    buffers = ("filters",)

    def __init__(self, directions: int):
        self.filters = slope_filters(directions)         # (3, 3, 3, 2E)  saved, but not trained

    def forward(self, x: Array) -> tuple[Array, SlopesCache]:
        """x (B, H, W, 3) -> out (B, H, W, 3 + 2E)."""
        slopes, conv = self.ops.conv2d_forward(x, self.filters, None, 1, 1)                # (B, H, W, 2E)      F1
        slopes, relu = self.ops.relu_forward(slopes)                                       # (B, H, W, 2E)      F2  rise and fall apart
        return np.concatenate([x, slopes], axis=-1), SlopesCache(conv, relu)               # (B, H, W, 3 + 2E)  F3

    def backward(self, d_out: Array, cache: SlopesCache) -> Array:
        """d_out (B, H, W, 3 + 2E) -> d_x (B, H, W, 3)."""
        d_x, d_slopes = d_out[..., :3], np.ascontiguousarray(d_out[..., 3:])          # (B, H, W, 3|2E)  undoes F3
        d_slopes = self.ops.relu_backward(d_slopes, cache.relu)                            # (B, H, W, 2E)    undoes F2
        return d_x + self.ops.conv2d_backward(d_slopes, cache.conv)[0]                     # (B, H, W, 3)     undoes F1: the pixels went both ways


class ConvBlockCache(NamedTuple):
    conv: Any
    norm: Any
    relu: Any


class ConvBlock(Module):
    """relu(batch_norm(conv(x))): find a pattern, put it on a common scale, keep where it is present."""

    def __init__(self, c_in: int, c_out: int, rng: np.random.Generator, size: int = 3, stride: int = 1):
        self.conv = Conv2d(c_in, c_out, rng, size, stride, padding=size // 2, bias=False)
        self.norm = BatchNorm(c_out)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, ConvBlockCache]:
        """x (B, H, W, C_in) -> out (B, H', W', C_out)."""
        x, conv = self.conv.forward(x)                   # (B, H', W', C_out)  F1
        x, norm = self.norm.forward(x, training)         # (B, H', W', C_out)  F2
        x, relu = self.ops.relu_forward(x)               # (B, H', W', C_out)  F3
        return x, ConvBlockCache(conv, norm, relu)

    def backward(self, d_out: Array, cache: ConvBlockCache, input_gradient: bool = True) -> Array | None:
        d_x = self.ops.relu_backward(d_out, cache.relu)  # (B, H', W', C_out)  undoes F3
        d_x = self.norm.backward(d_x, cache.norm)        # (B, H', W', C_out)  undoes F2
        return self.conv.backward(d_x, cache.conv, input_gradient)   # (B, H, W, C_in)     undoes F1
