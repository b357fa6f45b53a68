"""The baselines of the emoji task: no learning, the name of the nearest training drawing.

By pixels, and by histograms of oriented slopes (HOG: Dalal & Triggs 2005), which know outlines and forgive small shifts.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

CELL, DIRECTIONS = 4, 9


def pixel_features(images: NDArray[np.uint8]) -> Array:
    """Images (B, H, W, 3) as vectors (B, 3HW), 0 where it is white."""
    return (1 - images.reshape(len(images), -1) / 255).astype(np.float32)


def slope_features(images: NDArray[np.uint8]) -> Array:
    """Histograms of oriented slopes: (B, H, W, 3) -> (B, (H / 4 - 1) (W / 4 - 1) 4 * 9).

    In each cell of 4 x 4 pixels the slopes of the brightness are counted by direction (9 of a half circle), weighted by their
    steepness and shared between the two nearest directions; each block of 2 x 2 cells is then brought to length 1.
    """
    gray = _blur(images.mean(axis=-1) / 255)                                                    # (B, H, W)
    d_y, d_x = np.gradient(gray, axis=(1, 2))                                                   # (B, H, W)
    steepness = np.hypot(d_x, d_y)                                                              # (B, H, W)
    place = np.arctan2(d_y, d_x) % np.pi / np.pi * DIRECTIONS                                   # (B, H, W)  0 to 9
    lower, share = np.floor(place).astype(int) % DIRECTIONS, place % 1                          # (B, H, W)
    bins = np.arange(DIRECTIONS)
    votes = (steepness * (1 - share))[..., None] * (lower[..., None] == bins)                   # (B, H, W, 9)
    votes += (steepness * share)[..., None] * ((lower[..., None] + 1) % DIRECTIONS == bins)     # (B, H, W, 9)
    B, H, W, _ = votes.shape
    cells = votes.reshape(B, H // CELL, CELL, W // CELL, CELL, DIRECTIONS).sum(axis=(2, 4))     # (B, h, w, 9)
    blocks = np.concatenate([cells[:, :-1, :-1], cells[:, 1:, :-1], cells[:, :-1, 1:], cells[:, 1:, 1:]], axis=-1)   # (B, h-1, w-1, 36)
    blocks /= np.sqrt((blocks ** 2).sum(axis=-1, keepdims=True) + 1e-2)                         # (B, h-1, w-1, 36)
    return blocks.reshape(B, -1).astype(np.float32)


def _blur(gray: Array) -> Array:
    """Each pixel becomes the weighted mean of itself and its neighbours: 1 2 1 along both axes."""
    for axis in (1, 2):
        widths = [(0, 0)] * 3
        widths[axis] = (1, 1)
        padded = np.moveaxis(np.pad(gray, widths, mode="edge"), axis, 0)
        gray = np.moveaxis((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4, 0, axis)
    return gray


def nearest_drawings(features: Array, known: Array, which: NDArray[np.integer], count: int) -> Array:
    """How like each of `count` names is: (M, count), minus the squared distance to the nearest known drawing of that name.

    Args:
        features: (M, F).   known: (K, F), the training drawings.   which: (K,), the name of each.
    """
    distance = (features ** 2).sum(axis=1)[:, None] - 2 * features @ known.T + (known ** 2).sum(axis=1)    # (M, K)
    out = np.full((count, len(features)), -np.inf, np.float32)                                             # (count, M)
    np.maximum.at(out, which, -distance.T)
    return out.T
