"""Twin of conv2d: the same sums as the im2col form, but the matrix of windows is never written to memory.

That matrix ("columns") repeats each pixel up to kh * kw times. Writing it, reading it twice and adding its gradient
back together takes longer than the multiplications. And it need not exist: along one line of an image (B, H, W, C) a
window is a stretch of kw * C neighbouring numbers, and the next window begins stride * C numbers further on. So for
each line i of the kernel, the windows of an image line are a matrix already, whose rows overlap:

    windows_i[n, k] = line[n * stride * C + k]                   (W', kw C_in)
    out_line = sum over i of  windows_i @ weight[i]              (W', C_out)

All three products are sums of this kind, and one micro-kernel (products.py) makes them all:

    out       = sum over the kernel's lines of   windows @ weight
    d_weight  = sum over all lines of            windows^T @ d_out
    d_x       = sum over the kernel's lines of   windows of d_out @ weight turned around

For d_x: line m - t of the output saw the image line y = s m + r (padding counted) through its kernel's line r + s t,
for t = 0, 1, ... So the image lines with the same remainder r after division by the stride s are a convolution of
d_out without stride, by every s-th line of the kernel, upside down. With the pixels of a line it is the same.

Images stand side by side in a *sheet*, with zeros between and around them, so that a line of windows runs through all
`GROUP` images and is long enough for blocks of 8 rows. The windows that straddle two images are computed for nothing.
"""

from typing import NamedTuple

import numpy as np

from tinymm.functional import convolution as readable
from tinymm.functional.convolution import Array
from tinymm.kernels.compilation import compiled
from tinymm.kernels.loops import Loop
from tinymm.kernels.products import BLOCK, aligned_zeros, copy_rows, copy_to_panels, in_panels, in_vectors, sum_products
from tinymm.kernels.registers import lanes_of, window
from tinymm.kernels.threads import run
from tinymm.kernels.tile_arithmetic import aligned
from tinymm.kernels.views import lattice, stretch

GROUP = 8    # images in a sheet


class Conv2dCache(NamedTuple):
    """The backward looks at the images again, which are far smaller than their windows."""

    x: Array           # (B, H, W, C_in)
    weight: Array      # (kh, kw, C_in, C_out)
    stride: int
    padding: int
    has_bias: bool


class Sheet(NamedTuple):
    """How images stand in a sheet. Its lines hold GROUP * pitch pixels."""

    images: int       # B, in all sheets together
    height: int       # of an image
    width: int
    channels: int
    top: int          # lines of zeros above the images
    left: int         # pixels of zeros before each image
    lines: int        # of the sheet
    pitch: int        # pixels from one image to the next


class Windows(NamedTuple):
    """A convolution of a sheet's images: out[b, out_top + m out_step, out_left + n out_step], m < height, n < width."""

    height: int
    width: int
    line: int              # where in the sheet the first window begins
    pixel: int
    stride: int
    kernel_height: int
    kernel_width: int
    weight_row: int        # where its weights begin
    out_top: int
    out_left: int
    out_step: int


def conv2d_forward(
    x: Array, weight: Array, bias: Array | None = None, stride: int = 1, padding: int = 0
) -> tuple[Array, Conv2dCache]:
    """Twin of `functional.conv2d_forward`."""
    batch, height, width = readable._output_size(x, weight, bias, stride, padding)
    kh, kw, c_in, c_out = weight.shape
    x = np.ascontiguousarray(x)

    out = np.empty((batch, height, width, c_out), x.dtype)                       # (B, H', W', C_out)
    windows = Windows(height, width, 0, 0, stride, kh, kw, 0, 0, 0, 1)
    _convolve(x, padding, padding, [windows], weight.reshape(-1, c_out), bias, out)
    return out, Conv2dCache(x, weight, stride, padding, bias is not None)


def conv2d_backward(
    d_out: Array, cache: Conv2dCache, input_gradient: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """Twin of `functional.conv2d_backward`."""
    d_out = np.ascontiguousarray(d_out)
    d_bias = d_out.sum(axis=(0, 1, 2)) if cache.has_bias else None               # (C_out,)              undoes F4
    d_weight = _weight_gradient(d_out, cache)                                    # (kh, kw, C_in, C_out) undoes F3
    d_x = _image_gradient(d_out, cache) if input_gradient else None              # (B, H, W, C_in)       undoes F3 to F1
    return d_x, d_weight, d_bias


def _weight_gradient(d_out: Array, cache: Conv2dCache) -> Array:
    x, weight, stride, padding, _ = cache
    kh, kw, c_in, c_out = weight.shape
    batch, height, width, _ = d_out.shape
    sheet = _sheet_for(x, padding, padding, [Windows(height, width, 0, 0, stride, kh, kw, 0, 0, 0, 1)])
    rows = _round_up(kw * c_in, BLOCK)
    sheets = -(-batch // GROUP)
    sums = aligned_zeros((sheets, kh * rows, in_vectors(c_out, x.dtype)), x.dtype)
    run(_sum_over_windows, len(sums), (x.reshape(-1), sheet, d_out.reshape(-1), d_out.shape, stride, kh, kw, sums))
    total = sums.sum(axis=0).reshape(kh, rows, -1)                               # in one order, whoever made them
    return np.ascontiguousarray(total[:, :kw * c_in, :c_out]).reshape(weight.shape)


class Part(NamedTuple):
    """The image lines (or the pixels of a line) that leave the same remainder after division by the stride."""

    remainder: int
    taps: int        # how many lines of the kernel have seen them
    begin: int       # where in d_out the window of the first one begins; negative if it begins outside
    first: int       # the first one
    count: int


def _parts(length: int, kernel: int, stride: int, padding: int) -> list[Part]:
    parts = []
    for remainder in range(min(stride, kernel)):
        m = -(-max(padding - remainder, 0) // stride)
        first, taps = m * stride + remainder - padding, len(range(remainder, kernel, stride))
        if first < length:
            parts.append(Part(remainder, taps, m + 1 - taps, first, -(-(length - first) // stride)))
    return parts


def _image_gradient(d_out: Array, cache: Conv2dCache) -> Array:
    x, weight, stride, padding, _ = cache
    kh, kw, c_in, _ = weight.shape
    d_x = (np.empty if stride <= min(kh, kw) else np.zeros)(x.shape, d_out.dtype)    # a small kernel misses some pixels
    lines, pixels = _parts(x.shape[1], kh, stride, padding), _parts(x.shape[2], kw, stride, padding)
    if not lines or not pixels:
        return d_x
    above, before = (max(0, -min(part.begin for part in parts)) for parts in (lines, pixels))
    windows, kernels, row = [], [], 0
    for i in lines:
        for j in pixels:
            kernel = weight[i.remainder::stride, j.remainder::stride][::-1, ::-1]            # upside down
            kernels.append(kernel.swapaxes(2, 3).reshape(-1, c_in))                          # (taps C_out, C_in)
            windows.append(Windows(i.count, j.count, above + i.begin, before + j.begin, 1, i.taps, j.taps, row,
                                   i.first, j.first, stride))
            row += len(kernels[-1])
    _convolve(d_out, above, before, windows, np.concatenate(kernels), None, d_x)
    return d_x


def _convolve(
    images: Array, above: int, before: int, windows: list[Windows], weight: Array, bias: Array | None, out: Array
) -> None:
    panels = in_panels(weight)                                                   # (V, kh kw C_in, w)
    begin = aligned_zeros((BLOCK, panels.shape[0] * panels.shape[2]), weight.dtype)      # (8, V w)  where sums start
    if bias is not None:
        begin[:, :weight.shape[1]] = bias
    run(_convolve_sheets, -(-len(images) // GROUP), (
        images.reshape(-1), _sheet_for(images, above, before, windows), np.array(windows), panels, begin,
        out.reshape(-1), out.shape))


def _sheet_for(images: Array, above: int, before: int, windows: list[Windows]) -> Sheet:
    """The smallest sheet for windows that begin up to `above` lines and `before` pixels outside the images.

    The zeros behind an image are those before the next one. All windows have the same stride.
    """
    batch, height, width, channels = images.shape
    stride = windows[0].stride
    last_line = max(w.line + (w.height - 1) * stride + w.kernel_height for w in windows)
    last_pixel = max(w.pixel + (w.width - 1) * stride + w.kernel_width for w in windows)
    pitch = max(before + width, last_pixel - before, max(w.width for w in windows) * stride)
    pitch = _round_up(pitch, stride)                                             # so that windows stay in step
    return Sheet(batch, height, width, channels, above, before, max(above + height, last_line), pitch)


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit


# ---- the kernels; they see images, d_out and out as flat arrays


@Loop
def _convolve_sheets(first, last, images, sheet, all_windows, panels, begin, out, out_shape):
    _, out_height, out_width, out_channels = out_shape
    line_length = GROUP * sheet.pitch * sheet.channels             # numbers in a line of the sheet
    panel_width = panels.shape[2]
    source = _empty_sheet(sheet, images)
    sums = aligned(GROUP * sheet.pitch + BLOCK, len(panels) * panel_width, images)   # one line of windows
    for group in range(first, last):
        count = _fill_sheet(source, images, sheet, group)
        for w in range(len(all_windows)):
            height, width, line, pixel, stride, kernel_height, kernel_width, weight_row = all_windows[w][:8]
            top, left, step = all_windows[w][8:]
            depth = kernel_width * sheet.channels
            places = sheet.pitch // stride                         # windows from one image to the next
            rows = -(-count * places // BLOCK) * BLOCK
            for m in range(height):
                start = (line + m * stride) * line_length + pixel * sheet.channels
                for v in range(len(panels)):
                    column = v * panel_width
                    right = window(panels[v], weight_row, 0, kernel_height * depth, panel_width)
                    sum_products(window(sums, 0, column, rows, panel_width),
                                 window(begin, 0, column, BLOCK, panel_width),
                                 source, start, stride * sheet.channels, 1, kernel_height, line_length, right)
                for b in range(count):
                    image = group * GROUP + b
                    place = ((image * out_height + top + m * step) * out_width + left) * out_channels
                    target = lattice(out, place, width, step * out_channels, out_channels, 1)
                    copy_rows(target, window(sums, b * places, 0, width, out_channels))


@Loop
def _sum_over_windows(first, last, images, sheet, d_out, d_out_shape, stride, kh, kw, sums):
    """sums[group] = the sum over the windows of its images of window^T @ d_out, a part of d_weight."""
    _, height, width, channels = d_out_shape
    line_length = GROUP * sheet.pitch * sheet.channels
    places = sheet.pitch // stride
    rows, columns = sums.shape[1] // kh, sums.shape[2]
    panel_width = min(2 * lanes_of(sums), columns)
    source = _empty_sheet(sheet, images)
    panels = aligned(-(-columns // panel_width) * height * GROUP * places, panel_width, images)
    panels = panels.reshape(-1, height * GROUP * places, panel_width)    # d_out; 0 where windows straddle two images
    panels[:] = 0
    for group in range(first, last):
        count = _fill_sheet(source, images, sheet, group)
        for y in range(height):
            for b in range(count):
                place = ((group * GROUP + b) * height + y) * width * channels
                origin = lattice(d_out, place, width, channels, channels, 1)
                copy_to_panels(panels, (y * count + b) * places, origin)
        for v in range(len(panels)):
            right = window(panels[v], 0, 0, height * count * places, panel_width)
            for i in range(kh):
                column = v * panel_width
                total = window(sums[group], i * rows, column, rows, min(panel_width, columns - column))
                sum_products(total, total, source, i * line_length, 1, stride * sheet.channels,
                             height, stride * line_length, right)


@compiled
def _empty_sheet(sheet, like):
    # A block of 8 windows at the end may read a little more than the sheet.
    sheet_and_more = aligned(1, (sheet.lines * GROUP + BLOCK) * sheet.pitch * sheet.channels, like)[0]
    sheet_and_more[:] = 0
    return sheet_and_more


@compiled
def _fill_sheet(source, images, sheet, group):
    """Copy the images of a group to their places; what lies between them stays zero. Returns their number."""
    count = min(GROUP, sheet.images - group * GROUP)
    length = sheet.width * sheet.channels
    for b in range(count):
        for y in range(sheet.height):
            place = (((y + sheet.top) * GROUP + b) * sheet.pitch + sheet.left) * sheet.channels
            origin = stretch(images, ((group * GROUP + b) * sheet.height + y) * length, length)
            target = stretch(source, place, length)
            for i in range(length):
                target[i] = origin[i]
    return count
