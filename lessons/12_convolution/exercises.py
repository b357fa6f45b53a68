"""Chapter 12, convolution: the exercises. Fill in the functions, and run `tinymm check 12`.

Use the names of the lesson for your arrays (padded, columns, d_rows, d_columns ...): the checker then can tell you the first
one that is wrong. Each exercise may call your answers to those before it.

B images, H x W pixels, C channels; H' x W' windows; kh x kw places in a kernel. `tinymm check 12.2 --hint` gives a hint.
"""

import numpy as np


def output_size(n, k, stride, padding):
    """How many windows there are along one axis. A window counts only if it lies whole in the padded image.

    Args:
        n: pixels along the axis.   k: the size of the kernel along it.   stride: pixels from one window to the next.
        padding: zeros put on at each of the two ends.

    Returns:
        a whole number.
    """
    raise NotImplementedError("Lesson 12, exercise 1")


def im2col(padded, kh, kw, stride):
    """Every window of the images as a row of a matrix.

        window (b, i, j) holds padded[b, i * stride + u, j * stride + v, c],  u = 0 .. kh - 1,  v = 0 .. kw - 1

    The windows come in the order b, i, j, and the entries of a row in the order u, v, c. Name the steps windows
    (B, H', W', kh, kw, C), and columns.

    Args:
        padded: images with their padding (B, H, W, C).   kh, kw, stride: whole numbers.

    Returns:
        columns (B H' W', kh kw C), a new array.
    """
    raise NotImplementedError("Lesson 12, exercise 2")


def conv2d_forward(x, weight, bias, stride, padding):
    """Convolution as one matrix product (without turning the kernel over):

        out[b, i, j, o] = bias[o] + sum over u, v, c of  padded[b, i * stride + u, j * stride + v, c] * weight[u, v, c, o]

    Name the steps padded (B, H+2p, W+2p, C_in), columns, rows (B H' W', C_out), and out.

    Args:
        x: images (B, H, W, C_in).   weight: (kh, kw, C_in, C_out).   bias: (C_out,).   stride, padding: whole numbers.

    Returns:
        out (B, H', W', C_out), and the cache (x, columns, weight, stride, padding).
    """
    raise NotImplementedError("Lesson 12, exercise 3")


def col2im(d_columns, shape, kh, kw, stride):
    """The backward of im2col: every entry goes back to the pixel that it was copied from. A pixel that lay in several windows
    gets the sum, and a pixel that lay in none gets 0.

    Name the steps d_windows (B, H', W', kh, kw, C), and d_padded.

    Args:
        d_columns: (B H' W', kh kw C), in the order of im2col.   shape: (B, H, W, C), that of the images with their padding.
        kh, kw, stride: whole numbers.

    Returns:
        d_padded (B, H, W, C).
    """
    raise NotImplementedError("Lesson 12, exercise 4")


def conv2d_backward(d_out, cache):
    """The gradients of x, weight and bias.

    Name the steps d_rows (B H' W', C_out), d_bias, d_weight, d_columns (B H' W', kh kw C_in), d_padded (B, H+2p, W+2p, C_in),
    and d_x.

    Args:
        d_out: (B, H', W', C_out).   cache: (x, columns, weight, stride, padding), as `conv2d_forward` returns it; x (B, H, W, C_in)
            has no padding, and is there for its shape.

    Returns:
        d_x (B, H, W, C_in), d_weight (kh, kw, C_in, C_out), d_bias (C_out,).
    """
    raise NotImplementedError("Lesson 12, exercise 5")


def max_pool2d_backward(d_out, cache):
    """The gradient of x, when out is the largest of each window and channel: all of it goes to the place that won.

    Windows may overlap (stride below size), and then a pixel may win in several of them. Name the steps d_places
    (B, H', W', size * size, C), which is 0 but where a place won, d_columns (B H' W', size * size * C), and d_x.

    Args:
        d_out: (B, H', W', C).   cache: (x, winner, size, stride); winner (B, H', W', C) holds the number of the place that won,
            u * size + v, and x (B, H, W, C) is there for its shape. There is no padding.

    Returns:
        d_x (B, H, W, C).
    """
    raise NotImplementedError("Lesson 12, exercise 6")
