import os
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tinymm import UserError
from tinymm.data import load_image
from tinymm.data import images as images_module

RED = (200, 30, 40)


def red_left(width=40, height=40, mode="RGB"):
    """White, but red in the left half."""
    image = Image.new("RGB", (width, height), "white")
    image.paste(RED, (0, 0, width // 2, height))
    return image.convert(mode)


# ---- the same picture from any source

def test_path_image_and_array_give_the_same(tmp_path):
    image = red_left(64, 64)
    image.save(tmp_path / "a.png")
    expected = np.asarray(image)
    for source in (tmp_path / "a.png", str(tmp_path / "a.png"), image, expected):
        out = load_image(source)
        assert out.dtype == np.uint8 and np.array_equal(out, expected)


def test_the_result_is_a_copy():
    pixels = np.zeros((64, 64, 3), np.uint8)
    load_image(pixels)[...] = 9
    assert pixels.max() == 0


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "bmp", "tiff", "webp", "ppm", "ico", "tga"])
def test_formats(tmp_path, extension):
    path = tmp_path / f"a.{extension}"
    red_left(64, 64).save(path)
    out = load_image(path).astype(int)
    assert np.abs(out[8:56, 8:24] - RED).max() < 12 and out[8:56, 40:56].min() > 243


def test_the_image_of_the_caller_is_left_alone(tmp_path):
    red_left(2000, 1000).save(tmp_path / "a.jpg")
    with Image.open(tmp_path / "a.jpg") as image:
        load_image(image)
        assert image.size == (2000, 1000)


# ---- modes

def in_mode(image, mode):
    """Convert an RGBA image, over a mode between where Pillow knows no direct way."""
    if mode == "P":
        return image.convert("RGB").quantize(8)
    alone = {"RGBA", "RGBa", "LA"}
    steps = {"PA": ("RGB", "P", "PA"), "La": ("LA", "La")}.get(mode, (mode,) if mode in alone else ("RGB", mode))
    result = image
    for step in steps:
        result = result.convert(step)
    if mode == "PA":
        result.putalpha(image.getchannel("A"))
    assert result.mode == mode
    return result


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "RGBX", "RGBa", "CMYK", "YCbCr", "HSV", "P", "PA"])
def test_colour_modes(mode):
    out = load_image(in_mode(red_left(mode="RGBA"), mode), 40).astype(int)
    assert np.abs(out[:, :18] - RED).max() < 50 and out[:, 22:].min() > 240      # 50: the palette of "PA" is coarse


def test_lab():
    out = load_image(Image.new("LAB", (8, 8), (255, 128, 128)), 8)
    assert out.shape == (8, 8, 3)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "La", "I", "F"])
def test_grey_modes(mode):
    grey = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 20, axis=1).repeat(40, axis=0))
    image = in_mode(grey.convert("RGBA"), mode) if mode in ("LA", "La") else grey.convert(mode)
    out = load_image(image, 40)
    assert out[:, :18].max() == 0 and out[:, 22:].min() == 255


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I;16L", "I;16N"])
def test_16_bit_modes(mode):
    values = np.zeros((40, 40), ">u2" if mode == "I;16B" else "=u2" if mode == "I;16N" else "<u2")
    values[:, 13:26], values[:, 26:] = 32896, 65535
    out = load_image(Image.frombytes(mode, (40, 40), values.tobytes()), 40)
    assert out[:, :13].max() == 0 and np.all(out[:, 13:26] == 128) and out[:, 26:].min() == 255


def test_16_bit_png(tmp_path):
    values = np.full((30, 30), 32896, np.uint16)
    values[:, :15] = 65535
    Image.fromarray(values).save(tmp_path / "a.png")
    out = load_image(tmp_path / "a.png", 30)
    assert out[:, :14].min() == 255 and abs(int(out[15, 25, 0]) - 128) <= 1


def test_floats_are_stretched_and_may_hold_anything():
    values = np.linspace(-3, 3, 400, dtype=np.float32).reshape(20, 20)
    out = load_image(Image.fromarray(values), 20)
    assert out.min() == 0 and out.max() == 255
    values[0, :3] = np.nan, np.inf, -np.inf
    assert load_image(Image.fromarray(values), 20).shape == (20, 20, 3)
    assert load_image(Image.fromarray(np.full((4, 4), 128, np.float32)), 4).min() == 128


# ---- transparency

@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA", "RGBa", "La"])
def test_what_is_transparent_is_white(mode):
    base = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    base.paste((0, 0, 0, 255), (0, 0, 20, 10))
    image = in_mode(base, mode)
    out = load_image(image, 20)
    assert out[:9].max() == 0 and out[11:].min() == 255


def test_half_transparent_is_mixed_with_white():
    assert abs(int(load_image(Image.new("RGBA", (8, 8), (0, 0, 0, 128)), 8)[0, 0, 0]) - 127) <= 1


@pytest.mark.parametrize("mode", ["P", "L", "RGB", "1"])
def test_a_transparent_colour_in_a_png(tmp_path, mode):
    image = Image.new("RGB", (20, 20), "black")
    image.paste((255, 0, 0), (0, 0, 10, 20))
    image = image.convert(mode)
    image.save(tmp_path / "a.png", transparency={"RGB": (0, 0, 0)}.get(mode, image.getpixel((15, 5))))
    out = load_image(tmp_path / "a.png", 20)
    assert out[:, 12:].min() == 255


# ---- size and orientation

@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 2), (64, 64), (63, 65), (1000, 30), (700, 500)])
def test_any_size_fits(size):
    out = load_image(Image.new("RGB", size, RED), 48)
    assert out.shape == (48, 48, 3) and np.abs(out.astype(int) - RED).max() <= 1


def test_the_whole_picture_is_kept_and_the_rest_has_the_colour_of_its_border():
    image = Image.new("RGB", (200, 100), (10, 200, 220))
    image.paste((255, 0, 0), (80, 30, 120, 70))
    out = load_image(image, 64)
    red = (out == (255, 0, 0)).all(axis=-1)
    assert red[28:36, 28:36].all() and red.sum() <= 15 * 15
    assert np.all(out[:16] == (10, 200, 220)) and np.all(out[-16:] == (10, 200, 220))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png"])
def test_exif_orientation(tmp_path, orientation, extension):
    upright = Image.new("RGB", (40, 64), "white")
    upright.paste(RED, (0, 0, 20, 32))                                           # the upper left quarter
    back = {2: [0], 3: [3], 4: [1], 5: [5], 6: [2], 7: [6], 8: [4]}.get(orientation, [])
    stored = upright
    for method in back:
        stored = stored.transpose(Image.Transpose(method))
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / f"a.{extension}", exif=exif, **({"quality": 95} if extension == "jpg" else {}))
    out = load_image(tmp_path / f"a.{extension}", 64).astype(int)
    assert np.abs(out[4:28, 16:28] - RED).max() < 25                             # the picture is in columns 12..51
    assert out[4:28, 36:50].min() > 230 and out[36:60, 16:48].min() > 230


def test_the_first_frame_of_an_animation(tmp_path):
    first, second = Image.new("RGB", (16, 16), RED), Image.new("RGB", (16, 16), "blue")
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert np.abs(load_image(tmp_path / "a.gif", 16).astype(int) - RED).max() < 8


# ---- arrays

@pytest.mark.parametrize("shape", [(20, 30), (20, 30, 1), (20, 30, 3), (20, 30, 4)])
def test_arrays(shape):
    out = load_image(np.full(shape, 255, np.uint8), 16)
    assert out.shape == (16, 16, 3) and out.min() == 255


def test_an_array_need_not_be_contiguous():
    pixels = np.random.default_rng(0).integers(0, 256, size=(16, 32, 3), dtype=np.uint8)[:, ::-2]
    assert np.array_equal(load_image(pixels, 16), pixels)


@pytest.mark.parametrize(("array", "message"), [
    (np.zeros((4, 4, 3)), r"must be uint8 .* got float64 \(4, 4, 3\)"),
    (np.zeros((4, 4, 2), np.uint8), r"got uint8 \(4, 4, 2\)"),
    (np.zeros(4, np.uint8), r"got uint8 \(4,\)"), (np.zeros((1, 4, 4, 3), np.uint8), r"got uint8 \(1, 4, 4, 3\)"),
    (np.zeros((0, 4, 3), np.uint8), r"has no pixels: its shape is \(0, 4, 3\)"),
])
def test_arrays_that_are_no_image(array, message):
    with pytest.raises(UserError, match=message):
        load_image(array)


# ---- what is refused, each time with one sentence

def refused(source):
    with pytest.raises(UserError) as caught:
        load_image(source)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_missing_file(tmp_path):
    assert refused(tmp_path / "none.png").endswith("none.png does not exist")


def test_folder(tmp_path):
    assert refused(tmp_path).endswith("is a folder, not a file")


@pytest.mark.skipif(getattr(os, "geteuid", lambda: 0)() == 0, reason="permissions do not bind this user")
def test_forbidden_file(tmp_path):
    red_left().save(tmp_path / "a.png")
    os.chmod(tmp_path / "a.png", 0)
    assert refused(tmp_path / "a.png").endswith("permission denied")


@pytest.mark.parametrize("content", [b"", b"hello, I am no picture", b"\x89PNG\r\n\x1a\n", bytes(1000)])
def test_no_picture(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    assert "is not a picture in a format that Pillow can open" in refused(tmp_path / "a.png")


def test_a_name_that_no_file_can_have():
    assert "cannot be read" in refused("a\0b.png")
    assert "the image" in refused("x" * 5000)


@pytest.mark.parametrize("extension", ["png", "jpg", "gif", "bmp", "tiff", "webp", "ppm"])
def test_truncated_files(tmp_path, extension):
    noise = np.random.default_rng(0).integers(0, 256, size=(50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / f"a.{extension}")
    content = (tmp_path / f"a.{extension}").read_bytes()
    (tmp_path / f"a.{extension}").write_bytes(content[:len(content) * 2 // 3])
    text = refused(tmp_path / f"a.{extension}")
    assert f"a.{extension}" in text


def png_header(width, height):
    """A PNG of a few bytes that claims any size."""
    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 15_000, 60_000, 2**31 - 1])
def test_decompression_bombs(tmp_path, side):
    (tmp_path / "bomb.png").write_bytes(png_header(side, side))
    assert refused(tmp_path / "bomb.png").endswith("is refused: it has more than 100 million pixels")


def test_a_large_image_object_is_refused_before_it_is_touched(monkeypatch):
    monkeypatch.setattr(images_module, "MAX_PIXELS", 1_000_000)
    assert "more than 1 million pixels" in refused(Image.new("1", (1001, 1000)))


def test_an_image_without_pixels():
    assert refused(Image.new("RGB", (0, 5))).endswith("has no pixels: its size is 0x5")


@pytest.mark.parametrize("source", [None, 7, b"bytes", ["a.png"]])
def test_what_is_no_source(source):
    assert refused(source).startswith("an image must be a path, a Pillow image or a uint8 array, got ")


def test_a_wrong_size():
    with pytest.raises(ValueError, match="size must be at least 1, got 0"):
        load_image(red_left(), 0)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["png", "jpg", "gif", "webp", "tiff", "bmp"]))
def test_damaged_files_give_a_picture_or_a_sentence_and_nothing_else(tmp_path_factory, seed, extension):
    rng = np.random.default_rng(seed)
    path = tmp_path_factory.mktemp("damaged") / f"a.{extension}"
    red_left(24, 24).save(path)
    content = bytearray(path.read_bytes())
    for place in rng.integers(len(content), size=rng.integers(1, 8)):
        content[place] = rng.integers(256)
    path.write_bytes(content)
    try:
        assert load_image(path).shape == (64, 64, 3)
    except UserError as error:
        assert "\n" not in str(error)
