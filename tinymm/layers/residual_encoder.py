"""The residual image encoder: the tiny CNN with a way past each block (He et al. 2015).

    out = relu(x + norm(conv(relu(norm(conv(x))))))

The block only has to learn what to change in x. The sum copies d_out into both ways (as in a Transformer block), so the
gradient reaches the first layers however many blocks there are.
"""

from typing import Any, NamedTuple

import numpy as np

from tinymm.layers.convolution import Conv2d, ConvBlock, Slopes
from tinymm.layers.image_encoder import ImageEncoder
from tinymm.layers.module import Array, Module
from tinymm.layers.normalization import BatchNorm


class ResidualBlockCache(NamedTuple):
    first: Any
    conv: Any
    norm: Any
    shortcut: tuple[Any, Any] | None
    relu: Any


class ResidualBlock(Module):
    """Two convolutions, and x added before the last ReLU.

    Where the block changes the number of channels or the size, x goes through a convolution of 1 x 1 and a batch norm
    (option B of He et al. 2015, 3.3), so that the two can be added.
    """

    def __init__(self, c_in: int, c_out: int, rng: np.random.Generator, stride: int = 1):
        self.first = ConvBlock(c_in, c_out, rng, stride=stride)
        self.conv = Conv2d(c_out, c_out, rng, bias=False)
        self.norm = BatchNorm(c_out)
        self.shortcut = self.shortcut_norm = None
        if stride > 1 or c_in != c_out:
            self.shortcut = Conv2d(c_in, c_out, rng, size=1, stride=stride, padding=0, bias=False)
            self.shortcut_norm = BatchNorm(c_out)

    def forward(self, x: Array, training: bool = False) -> tuple[Array, ResidualBlockCache]:
        """x (B, H, W, C_in) -> out (B, H', W', C_out)."""
        shortcut = None
        out, first = self.first.forward(x, training)                        # (B, H', W', C_out)  F1
        out, conv = self.conv.forward(out)                                  # (B, H', W', C_out)  F2
        out, norm = self.norm.forward(out, training)                        # (B, H', W', C_out)  F3
        if self.shortcut is not None:
            x, cache = self.shortcut.forward(x)                             # (B, H', W', C_out)  F4
            x, norm_cache = self.shortcut_norm.forward(x, training)         # (B, H', W', C_out)  F5
            shortcut = cache, norm_cache
        out, relu = self.ops.relu_forward(out + x)                          # (B, H', W', C_out)  F6
        return out, ResidualBlockCache(first, conv, norm, shortcut, relu)

    def backward(self, d_out: Array, cache: ResidualBlockCache, input_gradient: bool = True) -> Array | None:
        """d_out (B, H', W', C_out) -> d_x (B, H, W, C_in), or None without input_gradient."""
        d_sum = self.ops.relu_backward(d_out, cache.relu)                   # (B, H', W', C_out)  undoes F6: both ways get d_sum
        d_past = d_sum
        if cache.shortcut is not None:
            d_past = self.shortcut_norm.backward(d_past, cache.shortcut[1])                     # (B, H', W', C_out)  undoes F5
            d_past = self.shortcut.backward(d_past, cache.shortcut[0], input_gradient)          # (B, H, W, C_in)     undoes F4
        d_x = self.norm.backward(d_sum, cache.norm)                         # (B, H', W', C_out)  undoes F3
        d_x = self.conv.backward(d_x, cache.conv)                           # (B, H', W', C_out)  undoes F2
        d_x = self.first.backward(d_x, cache.first, input_gradient)         # (B, H, W, C_in)     undoes F1
        return d_x + d_past if input_gradient else None                     # (B, H, W, C_in)     x went both ways


class ResidualImageEncoder(ImageEncoder):
    """An `ImageEncoder` whose first block is a plain convolution and whose others are residual.

    Args:
        directions: E, of `Slopes`, which then come before the first convolution; 0: there are none.
    """

    def __init__(self, image_size: int, channels: tuple[int, ...], strides: tuple[int, ...], d_model: int,
                 rng: np.random.Generator, directions: int = 0):
        super().__init__(image_size, channels, strides, d_model, rng, c_in=3 + 2 * directions)
        self.slopes = Slopes(directions) if directions else None

    @staticmethod
    def make_blocks(channels: tuple[int, ...], strides: tuple[int, ...], rng: np.random.Generator) -> list[Module]:
        """The CNN: block i leads from channels[i] to channels[i + 1]."""
        kinds = [ConvBlock] + [ResidualBlock] * (len(strides) - 1)
        return [kind(c_in, c_out, rng, stride=stride)
                for kind, c_in, c_out, stride in zip(kinds, channels, channels[1:], strides)]

    def forward(self, images: Array, training: bool = False) -> tuple[Array, tuple[Any, Any]]:
        """images (B, H, W, 3) -> tokens (B, N, D)."""
        x, slopes = (images, None) if self.slopes is None else self.slopes.forward(images)     # (B, H, W, 3 + 2E)  F1
        tokens, encoder = super().forward(x, training)                                         # (B, N, D)          F2
        return tokens, (slopes, encoder)

    def backward(self, d_tokens: Array, cache: tuple[Any, Any], input_gradient: bool = True) -> Array | None:
        """d_tokens (B, N, D) -> d_images (B, H, W, 3), or None without input_gradient."""
        slopes, encoder = cache
        d_x = super().backward(d_tokens, encoder, input_gradient)                              # (B, H, W, 3 + 2E)  undoes F2
        return d_x if d_x is None or slopes is None else self.slopes.backward(d_x, slopes)     # (B, H, W, 3)       undoes F1
