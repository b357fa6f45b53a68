"""The image encoder: a tiny CNN that turns a picture into a short sequence of tokens.

Each strided convolution halves the picture and looks at more of it; what is left at the end is a small grid, and each
of its cells, seen as one vector, is an image token: "what is at this place". From here on the Transformer treats
image tokens exactly as it treats word vectors.
"""

from typing import Any, NamedTuple

import numpy as np

from tinymm import functional
from tinymm.layers.convolution import ConvBlock
from tinymm.layers.embedding import LearnedPositions
from tinymm.layers.linear import Linear
from tinymm.layers.module import Array, Module
from tinymm.layers.normalization import LayerNorm


def grid_positions(grid_size: int, d_model: int) -> Array:
    """Where the positions start: (N, D), the sinusoids of a cell's row beside those of its column.

    From random ones "left of" and "above" would have to be learnt cell by cell; here near cells begin alike.
    """
    n_columns = d_model // 2
    rows = functional.sinusoidal_positions(grid_size, d_model - n_columns)               # (grid, D - D/2)
    columns = functional.sinusoidal_positions(grid_size, max(n_columns, 1))[:, :n_columns]   # (grid, D/2)
    return np.concatenate([rows.repeat(grid_size, axis=0), np.tile(columns, (grid_size, 1))], axis=1)   # (N, D)


class ImageEncoderCache(NamedTuple):
    blocks: list[Any]
    grid_shape: tuple[int, ...]
    project: Any
    positions: Any
    norm: Any


class ImageEncoder(Module):
    """Images (B, H, W, C_in) -> image tokens (B, N, D), one for each cell of the last feature map, row by row.

    Args:
        image_size: height and width of the pictures.   channels, strides: one of each per convolution block.
        c_in: channels of the pictures, 3 for red, green and blue.
    """

    def __init__(self, image_size: int, channels: tuple[int, ...], strides: tuple[int, ...], d_model: int,
                 rng: np.random.Generator, c_in: int = 3):
        if len(channels) != len(strides) or not channels:
            raise ValueError(f"channels and strides need one entry per block, got {channels} and {strides}")
        self.blocks = self.make_blocks((c_in, *channels), strides, rng)
        self.grid_size = image_size
        for stride in strides:
            self.grid_size = (self.grid_size - 1) // stride + 1
        self.project = Linear(channels[-1], d_model, rng)
        self.positions = LearnedPositions(self.grid_size ** 2, d_model, rng)
        self.positions.weight.value[...] = grid_positions(self.grid_size, d_model)
        self.norm = LayerNorm(d_model)

    @staticmethod
    def make_blocks(channels: tuple[int, ...], strides: tuple[int, ...], rng: np.random.Generator) -> list[Module]:
        """The CNN: block i leads from channels[i] to channels[i + 1]."""
        return [ConvBlock(c_in, c_out, rng, stride=stride) for c_in, c_out, stride in zip(channels, channels[1:], strides)]

    def forward(self, images: Array, training: bool = False) -> tuple[Array, ImageEncoderCache]:
        """images (B, H, W, C_in) -> tokens (B, N, D)."""
        x, blocks = images, []
        for block in self.blocks:
            x, cache = block.forward(x, training)                      # (B, H', W', C)  F1
            blocks.append(cache)
        grid_shape = x.shape
        x = x.reshape(len(x), -1, x.shape[-1])                         # (B, N, C)       F2  each cell of the grid is a token
        x, project = self.project.forward(x)                           # (B, N, D)       F3  into the width of the words
        x, positions = self.positions.forward(x)                       # (B, N, D)       F4  where the cell is
        x, norm = self.norm.forward(x)                                 # (B, N, D)       F5
        return x, ImageEncoderCache(blocks, grid_shape, project, positions, norm)

    def backward(self, d_tokens: Array, cache: ImageEncoderCache, input_gradient: bool = True) -> Array | None:
        """d_tokens (B, N, D) -> d_images (B, H, W, C_in), or None without input_gradient: training does not need it."""
        d_x = self.norm.backward(d_tokens, cache.norm)                 # (B, N, D)       undoes F5
        d_x = self.positions.backward(d_x, cache.positions)            # (B, N, D)       undoes F4
        d_x = self.project.backward(d_x, cache.project)                # (B, N, C)       undoes F3
        d_x = d_x.reshape(cache.grid_shape)                            # (B, H', W', C)  undoes F2
        for i in reversed(range(len(self.blocks))):                    # (B, H, W, C)    undoes F1
            d_x = self.blocks[i].backward(d_x, cache.blocks[i], input_gradient or i > 0)
        return d_x
