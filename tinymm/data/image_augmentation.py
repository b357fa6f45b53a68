"""Other versions of a drawing, so that a model learns what all of them share: turned, sized, moved, and in other colours.

Everything is a pure function of images and a generator, for a whole batch at once.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Images = NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """How far each change goes; each image draws its own. 0 switches a change off."""

    rotation: float = 15.0       # degrees, either way
    scale: float = 0.15          # width and height by a factor of 1 +- this
    shear: float = 0.1
    shift: float = 2.0           # pixels
    saturation: float = 0.6      # how far colours move towards or away from grey
    channel_mix: float = 0.3     # the share of a random mixture of the three channels
    gamma: float = 0.4           # brightness to the power e^+-this


def augment(images: NDArray[np.uint8], rng: np.random.Generator, how: Augmentation = Augmentation()) -> Images:
    """(B, H, W, 3) uint8 on white -> float32 (B, H, W, 3), 0 to 255."""
    return change_colors(warp(images, *draw_warps(images.shape, rng, how)), rng, how)


def draw_warps(shape: tuple[int, ...], rng: np.random.Generator, how: Augmentation) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """For each image a matrix (B, 2, 2) and a shift (B, 2): the place in the old image of a place in the new one, from the centre."""
    B = shape[0]
    angle = np.radians(rng.uniform(-how.rotation, how.rotation, B))
    sizes = 1 + rng.uniform(-how.scale, how.scale, (B, 2))
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], axis=-1).reshape(B, 2, 2)
    shear = np.tile(np.eye(2), (B, 1, 1))
    shear[:, 0, 1] = rng.uniform(-how.shear, how.shear, B)
    return turn @ shear / sizes[:, None], rng.uniform(-how.shift, how.shift, (B, 2))


def warp(images: NDArray[np.uint8], matrices: NDArray[np.float64], shifts: NDArray[np.float64]) -> Images:
    """Look up each new pixel in the old image, between four pixels (bilinear); outside of it all is white."""
    B, H, W, C = images.shape
    padded = np.full((B, H + 2, W + 2, C), 255, np.float32)                                      # (B, H + 2, W + 2, C)  a white border
    padded[:, 1:-1, 1:-1] = images
    rows, columns = np.meshgrid(np.arange(H) - (H - 1) / 2, np.arange(W) - (W - 1) / 2, indexing="ij")
    grid = np.stack([rows.ravel(), columns.ravel()])                                             # (2, H W)
    places = matrices @ grid + shifts[..., None] + np.array([[(H + 1) / 2], [(W + 1) / 2]])      # (B, 2, H W)
    y = np.clip(places[:, 0], 0, H + 0.999).astype(np.float32)                                   # (B, H W)
    x = np.clip(places[:, 1], 0, W + 0.999).astype(np.float32)
    top, left = y.astype(np.int32), x.astype(np.int32)                                           # (B, H W)
    down, right = np.modf(y)[0][..., None], np.modf(x)[0][..., None]                             # (B, H W, 1)
    flat = padded.reshape(-1, C)
    first = np.arange(B, dtype=np.int32)[:, None] * ((H + 2) * (W + 2)) + top * (W + 2) + left   # (B, H W)
    above = flat[first] * (1 - right) + flat[first + 1] * right                                  # (B, H W, C)
    below = flat[first + W + 2] * (1 - right) + flat[first + W + 3] * right
    return (above * (1 - down) + below * down).reshape(B, H, W, C)


def change_colors(images: Images, rng: np.random.Generator, how: Augmentation) -> Images:
    """Saturation, a mixture of channels, and gamma; white stays white."""
    B = len(images)

    def spread(limit: float, *shape: int) -> NDArray[np.float32]:
        return rng.uniform(-limit, limit, (B, *shape)).astype(np.float32)

    mix = np.tile(np.eye(3, dtype=np.float32), (B, 1, 1))
    strength = (1 + spread(how.saturation))[:, None, None]                                       # (B, 1, 1)
    mix = strength * mix + (1 - strength) / 3                                                    # (B, 3, 3)  each column sums to 1
    share = rng.uniform(0, how.channel_mix, (B, 1, 1)).astype(np.float32)
    mix = (1 - share) * mix + share * rng.dirichlet(np.ones(3), (B, 3)).astype(np.float32).swapaxes(1, 2)
    out = np.clip(images.reshape(B, -1, 3) @ mix, 0, 255) / 255                                  # (B, H W, 3)
    out = out ** np.exp(spread(how.gamma))[:, None, None]                                        # (B, H W, 3)
    return (255 * out).reshape(images.shape)


def crop_to_drawing(image: NDArray[np.uint8], size: int, margin: float = 0.04) -> NDArray[np.uint8]:
    """Cut away the white around a drawing and fit what is left into a square (size, size, 3), its proportions kept."""
    ink = (image < 250).any(axis=-1)                                                             # (H, W)
    if not ink.any():
        return np.full((size, size, 3), 255, np.uint8)
    rows, columns = np.flatnonzero(ink.any(axis=1)), np.flatnonzero(ink.any(axis=0))
    part = Image.fromarray(image[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1])
    side = max(1, round(size * (1 - 2 * margin)))
    factor = side / max(part.size)
    part = part.resize((max(1, round(part.width * factor)), max(1, round(part.height * factor))), Image.Resampling.BILINEAR)
    square = Image.new("RGB", (size, size), (255, 255, 255))
    square.paste(part, ((size - part.width) // 2, (size - part.height) // 2))
    return np.array(square)
