"""The baselines of the emoji task: no learning, the name of the nearest training drawing.

By pixels; and by outlines and colours: histograms of oriented slopes (HOG: Dalal & Triggs 2005), which forgive small shifts, beside
the blurred pixels. The sizes of the second were chosen on the validation artist, like the model's.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

CELL, DIRECTIONS = 2, 6
COLORS = 0.5          # how much a pixel's colour counts beside the slopes


def pixel_features(images: NDArray[np.uint8]) -> Array:
    """Images (B, H, W, 3) as vectors (B, 3HW), 0 where it is white."""
    return _ink(images).reshape(len(images), -1)


def outline_features(images: NDArray[np.uint8]) -> Array:
    """Slopes and blurred colours: (B, H, W, 3) -> (B, (H / 2 - 1) (W / 2 - 1) 4 * 6 + 3 H / 2 W / 2).

    The slope of a pixel is that of the colour with the steepest one. In each cell of 2 x 2 pixels the slopes are counted by direction (6
    of a half circle), weighted by their steepness and shared between the two nearest directions; the cells are blurred, and each
    block of 2 x 2 cells is brought to length 1.
    """
    ink = _blur(_ink(images))                                                                   # (B, H, W, 3)
    d_y, d_x = np.gradient(ink, axis=(1, 2))                                                    # (B, H, W, 3)
    steepest = np.hypot(d_x, d_y).argmax(axis=-1)[..., None]                                    # (B, H, W, 1)
    d_y, d_x = (np.take_along_axis(d, steepest, axis=-1)[..., 0] for d in (d_y, d_x))           # (B, H, W)
    steepness = np.hypot(d_x, d_y)                                                              # (B, H, W)
    place = np.arctan2(d_y, d_x) % np.pi / np.pi * DIRECTIONS                                   # (B, H, W)  0 to 6
    lower, share = np.floor(place).astype(int) % DIRECTIONS, place % 1                          # (B, H, W)
    bins = np.arange(DIRECTIONS)
    votes = (steepness * (1 - share))[..., None] * (lower[..., None] == bins)                   # (B, H, W, 6)
    votes += (steepness * share)[..., None] * ((lower[..., None] + 1) % DIRECTIONS == bins)     # (B, H, W, 6)
    B, H, W, _ = votes.shape
    cells = votes.reshape(B, H // CELL, CELL, W // CELL, CELL, DIRECTIONS).sum(axis=(2, 4))     # (B, h, w, 6)
    cells = _blur(cells, times=2)                                                               # (B, h, w, 6)
    blocks = np.concatenate([cells[:, :-1, :-1], cells[:, 1:, :-1], cells[:, :-1, 1:], cells[:, 1:, 1:]], axis=-1)   # (B, h-1, w-1, 24)
    blocks /= np.sqrt((blocks ** 2).sum(axis=-1, keepdims=True) + 1e-2)                         # (B, h-1, w-1, 24)
    colors = COLORS * _blur(ink, times=3)[:, ::2, ::2]                                          # (B, H / 2, W / 2, 3)
    return np.concatenate([blocks.reshape(B, -1), colors.reshape(B, -1)], axis=1)


def _ink(images: NDArray[np.uint8]) -> Array:
    """0 where it is white, 1 where there is nothing of a colour: float32, (B, H, W, 3)."""
    return (1 - images / np.float32(255)).astype(np.float32)


def _blur(x: Array, times: int = 1) -> Array:
    """(B, H, W, C): each pixel becomes the weighted mean of itself and its neighbours, 1 2 1 along H and W."""
    for _ in range(times):
        for axis in (1, 2):
            widths = [(0, 0)] * 4
            widths[axis] = (1, 1)
            padded = np.moveaxis(np.pad(x, widths, mode="edge"), axis, 0)
            x = np.moveaxis((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4, 0, axis)
    return x


def nearest_drawings(features: Array, known: Array, which: NDArray[np.integer], count: int) -> Array:
    """How like each of `count` names is: (M, count), minus the squared distance to the nearest known drawing of that name.

    Args:
        features: (M, F).   known: (K, F), the training drawings.   which: (K,), the name of each.
    """
    distance = (features ** 2).sum(axis=1)[:, None] - 2 * features @ known.T + (known ** 2).sum(axis=1)    # (M, K)
    out = np.full((count, len(features)), -np.inf, np.float32)                                             # (count, M)
    np.maximum.at(out, which, -distance.T)
    return out.T
