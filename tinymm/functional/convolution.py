"""Convolution: the same small linear layer, applied to every window of an image.

    out[b, y, x, o] = bias[o] + sum over i, j, c of  padded[b, y s + i, x s + j, c] * weight[i, j, c, o]

LeCun et al. 1989 trained it by backpropagation; LeNet (LeCun et al. 1998) made it a system. Here it is the first
stage of the image encoder: it turns pixels into the tokens that the Transformer reads. (As everywhere in this field
the kernel is not flipped, so strictly this is a cross-correlation.) Dumoulin & Visin 2016, relation 6, gives the
number of places of a kernel of size k on an axis of length n with padding p and stride s:  floor((n + 2p - k) / s) + 1.

The file computes the same function twice.

- `conv2d_reference` is the definition. It walks over the kh * kw places of the kernel; each place is a matrix
  (C_in, C_out) that multiplies one strided slice of the image.
- `conv2d` is the fast form, "im2col" (Chellapilla et al. 2006): copy each window into a row of a matrix, once, and
  the whole convolution is a single large matrix product, the operation that processors are best at.

The backward is that of a linear layer over windows: d_weight = windows^T d_out, d_windows = d_out weight^T. Then the
windows go back into the image ("col2im"). A pixel was copied into up to kh * kw windows, so its gradient is the sum
over all of them, and the padding's share is dropped.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

Array = NDArray[np.floating]


class Conv2dCache(NamedTuple):
    """What the backward pass of the im2col form needs."""

    columns: Array                      # (B H' W', kh kw C_in)  one row a window
    weight: Array                       # (kh, kw, C_in, C_out)
    x_shape: tuple[int, int, int, int]  # (B, H, W, C_in)
    stride: int
    padding: int
    has_bias: bool


def conv2d_forward(
    x: Array, weight: Array, bias: Array | None = None, stride: int = 1, padding: int = 0
) -> tuple[Array, Conv2dCache]:
    """Slide the kernel over the images and return its answer at each place: the im2col form.

    Chellapilla et al. 2006. H' = (H + 2 padding - kh) // stride + 1, and W' alike (Dumoulin & Visin 2016, relation 6).
    Rows and columns at the lower right that no whole stride reaches are not seen; their gradient is 0.

    Args:
        x: images (B, H, W, C_in).   weight: (kh, kw, C_in, C_out).   bias: (C_out,) or None.
        stride: pixels from one window to the next.   padding: zeros added on each of the four sides.

    Returns:
        out (B, H', W', C_out) in the dtype of x, and the cache for `conv2d_backward`.

    Raises:
        ValueError: a wrong rank, an empty axis, channels that do not match, stride < 1, padding < 0, or a kernel that
            is larger than the padded image.
    """
    batch, height, width = _output_size(x, weight, bias, stride, padding)
    kh, kw, c_in, c_out = weight.shape

    padded = _pad(x, padding)                                                # (B, H+2p, W+2p, C_in)    F1
    windows = sliding_window_view(padded, (kh, kw), axis=(1, 2))             # all windows, as a view (.., C_in, kh, kw)
    windows = windows[:, ::stride, ::stride].transpose(0, 1, 2, 4, 5, 3)     # (B, H', W', kh, kw, C_in)    still a view
    columns = windows.reshape(batch * height * width, kh * kw * c_in)        # (B H' W', kh kw C_in)    F2  copied apart
    out = columns @ weight.reshape(kh * kw * c_in, c_out)                    # (B H' W', C_out)         F3
    if bias is not None:
        out += bias                                                          # (B H' W', C_out)         F4
    cache = Conv2dCache(columns, weight, x.shape, stride, padding, bias is not None)
    return out.reshape(batch, height, width, c_out), cache


def conv2d_backward(
    d_out: Array, cache: Conv2dCache, input_gradient: bool = True
) -> tuple[Array | None, Array, Array | None]:
    """Gradients of `conv2d_forward` with respect to x, weight and bias, given d_out (B, H', W', C_out).

    d_bias is None when the forward had no bias. With input_gradient=False d_x is None and costs nothing: the first layer of
    a network in training has no use for the gradient of its pixels.
    """
    columns, weight, x_shape, stride, padding, has_bias = cache
    kh, kw, c_in, c_out = weight.shape
    batch, height, width, _ = d_out.shape
    d_rows = d_out.reshape(-1, c_out)                                        # (B H' W', C_out)

    d_bias = d_rows.sum(axis=0) if has_bias else None                        # (C_out,)                 undoes F4
    d_weight = (columns.T @ d_rows).reshape(weight.shape)                    # (kh, kw, C_in, C_out)    undoes F3
    if not input_gradient:
        return None, d_weight, d_bias
    d_columns = d_rows @ weight.reshape(-1, c_out).T                         # (B H' W', kh kw C_in)    undoes F3
    d_windows = d_columns.reshape(batch, height, width, kh, kw, c_in)        # (B, H', W', kh, kw, C_in)
    d_padded = np.zeros(_padded_shape(x_shape, padding), dtype=d_columns.dtype)    # (B, H+2p, W+2p, C_in)
    for i in range(kh):
        for j in range(kw):                                                  #     place (i, j) of all windows at once
            rows, cols = _places(i, height, stride), _places(j, width, stride)
            d_padded[:, rows, cols] += d_windows[:, :, :, i, j]              # (B, H', W', C_in)        undoes F2
    d_x = _unpad(d_padded, padding)                                          # (B, H, W, C_in)          undoes F1
    return d_x, d_weight, d_bias


class Conv2dReferenceCache(NamedTuple):
    """What the backward pass of the reference form needs."""

    padded: Array  # (B, H+2p, W+2p, C_in)
    weight: Array  # (kh, kw, C_in, C_out)
    stride: int
    padding: int
    has_bias: bool


def conv2d_reference_forward(
    x: Array, weight: Array, bias: Array | None = None, stride: int = 1, padding: int = 0
) -> tuple[Array, Conv2dReferenceCache]:
    """The same function as `conv2d_forward`, written as its definition: a sum over the places of the kernel.

    Arguments, result and errors are those of `conv2d_forward`.
    """
    batch, height, width = _output_size(x, weight, bias, stride, padding)
    kh, kw, _, c_out = weight.shape

    padded = _pad(x, padding)                                                # (B, H+2p, W+2p, C_in)    F1
    out = np.zeros((batch, height, width, c_out), dtype=padded.dtype)        # (B, H', W', C_out)
    for i in range(kh):
        for j in range(kw):
            seen = padded[:, _places(i, height, stride), _places(j, width, stride)]    # (B, H', W', C_in)  F2
            out = out + seen @ weight[i, j]                                  # (B, H', W', C_out)       F3
    if bias is not None:
        out = out + bias                                                     # (B, H', W', C_out)       F4
    return out, Conv2dReferenceCache(padded, weight, stride, padding, bias is not None)


def conv2d_reference_backward(d_out: Array, cache: Conv2dReferenceCache) -> tuple[Array, Array, Array | None]:
    """The same gradients as `conv2d_backward`, place by place of the kernel."""
    padded, weight, stride, padding, has_bias = cache
    kh, kw, _, _ = weight.shape
    _, height, width, _ = d_out.shape

    d_bias = d_out.sum(axis=(0, 1, 2)) if has_bias else None                 # (C_out,)                 undoes F4
    d_weight = np.zeros_like(weight)                                         # (kh, kw, C_in, C_out)
    d_padded = np.zeros_like(padded)                                         # (B, H+2p, W+2p, C_in)
    for i in range(kh):
        for j in range(kw):
            rows, cols = _places(i, height, stride), _places(j, width, stride)
            seen = padded[:, rows, cols]                                     # (B, H', W', C_in)            F2 again
            d_weight[i, j] = np.tensordot(seen, d_out, axes=([0, 1, 2], [0, 1, 2]))    # (C_in, C_out)  undoes F3
            d_padded[:, rows, cols] += d_out @ weight[i, j].T                # (B, H', W', C_in)        undoes F3, F2
    d_x = _unpad(d_padded, padding)                                          # (B, H, W, C_in)          undoes F1
    return d_x, d_weight, d_bias


def _places(start: int, count: int, stride: int) -> slice:
    """The pixels that one place of the kernel touches along one axis, over all `count` windows."""
    return slice(start, start + (count - 1) * stride + 1, stride)


def _padded_shape(shape: tuple[int, ...], padding: int) -> tuple[int, int, int, int]:
    batch, height, width, channels = shape
    return batch, height + 2 * padding, width + 2 * padding, channels


def _pad(x: Array, padding: int) -> Array:
    if padding == 0:
        return x
    padded = np.zeros(_padded_shape(x.shape, padding), dtype=x.dtype)
    padded[:, padding:-padding, padding:-padding] = x
    return padded


def _unpad(padded: Array, padding: int) -> Array:
    return padded[:, padding:-padding, padding:-padding] if padding else padded


def _output_size(x: Array, weight: Array, bias: Array | None, stride: int, padding: int) -> tuple[int, int, int]:
    """B, H' and W' (Dumoulin & Visin 2016, relation 6), after the checks that both forms share."""
    if x.ndim != 4 or x.size == 0:
        raise ValueError(f"x must be images (B, H, W, C_in) without an empty axis, got x {x.shape}")
    if weight.ndim != 4 or weight.size == 0:
        raise ValueError(f"weight must be (kh, kw, C_in, C_out) without an empty axis, got weight {weight.shape}")
    if weight.shape[2] != x.shape[3]:
        raise ValueError(
            f"x and weight must have the same C_in, got x {x.shape} and weight {weight.shape} (kh, kw, C_in, C_out)"
        )
    if bias is not None and bias.shape != weight.shape[3:]:
        raise ValueError(f"bias must be (C_out,) = {weight.shape[3:]}, got bias {bias.shape} and weight {weight.shape}")
    if stride < 1:
        raise ValueError(f"stride must be 1 or more, got {stride}")
    if padding < 0:
        raise ValueError(f"padding must be 0 or more, got {padding}")
    height, width = (n + 2 * padding - k for n, k in zip(x.shape[1:3], weight.shape[:2], strict=True))
    if height < 0 or width < 0:
        raise ValueError(
            f"the kernel must fit into the padded image, got weight {weight.shape}, x {x.shape} and padding {padding}: "
            "use more padding"
        )
    return x.shape[0], height // stride + 1, width // stride + 1
