"""Any picture in, a square of RGB bytes out.

`load_image` takes what a user has (a path, a Pillow image, an array) and gives the uint8 (size, size, 3) array that
the model was trained on. It turns the picture upright as its EXIF data say, lays transparency on white, fits the
whole picture into the square and fills what is left with the colour of the picture's border. Whatever
cannot be used is refused with one sentence.
"""

import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from tinymm.errors import UserError

MAX_PIXELS = 100_000_000   # larger ones are refused before they are decoded: a small file can claim any size

ImageSource = str | os.PathLike[str] | Image.Image | NDArray[np.uint8]

# What Pillow's decoders raise on damaged files. MemoryError: a file that claims absurd sizes in its inner tables.
_DAMAGED = (OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError,
            AttributeError, MemoryError, struct.error, zlib.error)


def load_image(source: ImageSource, size: int = 64) -> NDArray[np.uint8]:
    """Read a picture and fit it into a square.

    Args:
        source: a path, a Pillow image, or a uint8 array (H, W), (H, W, 1), (H, W, 3) or (H, W, 4).
        size: the side of the square in pixels.

    Returns:
        uint8 (size, size, 3), RGB.

    Raises:
        UserError: the file is missing, no picture, damaged or too large; the array has another shape or type.
        ValueError: size is not positive.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, got {size}")
    if isinstance(source, np.ndarray):
        return _fit(_from_array(source), size)
    if isinstance(source, Image.Image):
        return _fit(_decode(source, "the image"), size)
    if not isinstance(source, (str, os.PathLike)):
        raise UserError(f"an image must be a path, a Pillow image or a uint8 array, got {type(source).__name__}")
    path, name = Path(source), f"the image {os.fspath(source)}"
    try:
        if path.is_dir():
            raise UserError(f"{name} is a folder, not a file")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                 # Pillow warns of what is checked below, and of odd EXIF
            with Image.open(path) as image:
                _check_size(image, name)
                image.draft(None, (4 * size, 4 * size))     # lets the JPEG decoder skip detail that is not needed
                return _fit(_decode(image, name), size)
    except FileNotFoundError:
        raise UserError(f"{name} does not exist") from None
    except PermissionError:
        raise UserError(f"{name} may not be read: permission denied") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name} is refused: it has more than {MAX_PIXELS // 10**6} million pixels") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is not a picture in a format that Pillow can open") from None
    except _DAMAGED as error:
        raise UserError(f"{name} cannot be read: {error or type(error).__name__}") from None


def _from_array(array: NDArray[np.uint8]) -> Image.Image:
    shape_is_right = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if array.dtype != np.uint8 or not shape_is_right:
        came = f"{array.dtype} {array.shape}"
        raise UserError(f"an image array must be uint8 of shape (H, W) or (H, W, 1, 3 or 4), got {came}")
    if 0 in array.shape:
        raise UserError(f"the image array has no pixels: its shape is {array.shape}")
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    return _to_rgb(Image.fromarray(np.ascontiguousarray(array)))


def _check_size(image: Image.Image, name: str) -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise UserError(f"{name} has no pixels: its size is {width}x{height}")
    if width * height > MAX_PIXELS:
        raise UserError(f"{name} is refused: it has more than {MAX_PIXELS // 10**6} million pixels")


def _decode(image: Image.Image, name: str) -> Image.Image:
    """The first frame of a picture as upright RGB."""
    _check_size(image, name)
    try:
        image.load()
        return _to_rgb(ImageOps.exif_transpose(image))
    except _DAMAGED as error:
        raise UserError(f"{name} is damaged: {error or type(error).__name__}") from None


def _to_rgb(image: Image.Image) -> Image.Image:
    """Any mode of Pillow to RGB; what is transparent becomes white."""
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        values = np.asarray(image, dtype=np.float64)
        if image.mode == "F":                               # no fixed range: stretch what is there
            values = np.nan_to_num(values, posinf=0, neginf=0)
            low, high = values.min(), values.max()
            values = (values - low) * (255 / (high - low)) if high > low else np.clip(values, 0, 255)
        elif image.mode != "I" or values.max() > 255:       # 16-bit grey; Pillow often gives it as mode I
            values = values / 257
        image = Image.fromarray(np.clip(values, 0, 255).round().astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        if image.mode == "La":                              # Pillow converts it to LA only
            image = image.convert("LA")
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        image = Image.alpha_composite(white, image)
    return image.convert("RGB")


def _fit(image: Image.Image, size: int) -> NDArray[np.uint8]:
    """Scale the whole picture into the square; fill the rest with the median colour of the picture's border."""
    scale = size / max(image.size)
    width, height = (max(1, round(length * scale)) for length in image.size)
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=3.0)
    pixels = np.asarray(image, dtype=np.uint8)
    if width == height:
        return pixels.copy()
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    out = np.empty((size, size, 3), dtype=np.uint8)
    out[...] = np.median(border, axis=0).astype(np.uint8)
    top, left = (size - height) // 2, (size - width) // 2
    out[top:top + height, left:left + width] = pixels
    return out
