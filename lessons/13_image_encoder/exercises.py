"""Chapter 13, an image encoder: the exercises. Fill in the functions, and run `tinymm check 13`.

Use the names of the lesson for your arrays (mean, centred, normed, d_gain, shift, d_x ...): the checker can then name the first
wrong one. B images, H x W places, C channels, M = B H W numbers of a channel, N tokens, D their width, P the side of a patch.
`tinymm check 13.3 --hint` gives a hint.
"""

import numpy as np

from tinymm.functional import conv2d_backward, relu_backward


def running_statistics(x, running_mean, running_variance, momentum):
    """What a batch norm keeps for later:  new = (1 - momentum) running + momentum batch.

    The batch's variance is the one with division by M - 1. Name the steps mean (C,), variance (C,), new_mean, new_variance.

    Args:
        x: (B, H, W, C).   running_mean, running_variance: (C,).   momentum: the share of the new, a number.

    Returns:
        new_mean (C,), new_variance (C,). Do not change the old ones.
    """
    raise NotImplementedError("Lesson 13, exercise 1")


def batch_norm_forward(x, gain, bias, running_mean, running_variance, training, epsilon):
    """out = gain (x - mean) / sqrt(variance + epsilon) + bias, for each channel.

    In training mean and variance (division by M) are those of x, over all axes but the last; in evaluation they are the running
    ones. Name the steps mean (C,), centred (B, H, W, C), variance (C,), scale (C,), which is 1 / sqrt(...), normed, out.

    Args:
        x: (B, H, W, C).   gain, bias, running_mean, running_variance: (C,).   training: True or False.   epsilon: a number.

    Returns:
        out (B, H, W, C), and the cache (normed, scale, gain, training).
    """
    raise NotImplementedError("Lesson 13, exercise 2")


def batch_norm_backward(d_out, cache):
    """The gradients of x, gain and bias, in training and in evaluation.

    Name the steps d_gain (C,), d_bias (C,), and for the three terms shift = d_bias / M and along = d_gain / M, both (C,), then d_x.
    In evaluation mean and variance are constants.

    Args:
        d_out: (B, H, W, C).   cache: (normed, scale, gain, training), as `batch_norm_forward` returns it.

    Returns:
        d_x (B, H, W, C), d_gain (C,), d_bias (C,).
    """
    raise NotImplementedError("Lesson 13, exercise 3")


def residual_backward(d_out, cache):
    """The gradients of a residual block whose skip is a convolution of 1 x 1:

        F1  a = conv(x, W_1)    F2  n = norm(a, g_1, b_1)    F3  r = relu(n)    F4  c = conv(r, W_2)    F5  branch = norm(c, g_2, b_2)
        F6  p = conv(x, W_s)    F7  skip = norm(p, g_s, b_s)                                            F8  out = relu(branch + skip)

    Use your `batch_norm_backward`, and `conv2d_backward(d_out, cache)`, which returns d_x, d_weight and None (for there is no bias),
    and `relu_backward(d_out, cache)`. Name the steps d_sum; d_c, d_g_2, d_b_2; d_r, d_W_2; d_n; d_a, d_g_1, d_b_1; d_through, d_W_1;
    d_p, d_g_s, d_b_s; d_past, d_W_s; d_x. (d_through is what x gets through the branch, d_past what it gets through the skip.)

    Args:
        d_out: (B, H', W', C').   cache: (conv_1, norm_1, relu_1, conv_2, norm_2, conv_s, norm_s, relu_out), the cache of each line.

    Returns:
        d_x, d_W_1, d_g_1, d_b_1, d_W_2, d_g_2, d_b_2, d_W_s, d_g_s, d_b_s.
    """
    raise NotImplementedError("Lesson 13, exercise 4")


def cut_patches(images, P):
    """The squares of P x P pixels of each image, row by row of squares, each as one vector (its pixels row by row, too).

    Name the steps grid (B, H/P, P, W/P, P, C), squares (B, H/P, W/P, P, P, C), patches.

    Args:
        images: (B, H, W, C); H and W are multiples of P.   P: the side of a square.

    Returns:
        patches (B, N, P P C), N = (H/P)(W/P).
    """
    raise NotImplementedError("Lesson 13, exercise 5")


def tokens_backward(d_out, cache):
    """The gradients of  patches = cut_patches(images, P),  tokens = patches weight + bias,  out = tokens + positions.

    Name the steps d_positions, d_bias, d_weight, d_patches (B, N, P P C), d_squares (B, H/P, W/P, P, P, C), d_images.

    Args:
        d_out: (B, N, D).   cache: (patches (B, N, P P C), weight (P P C, D), the shape (B, H, W, C) of images, P).

    Returns:
        d_images (B, H, W, C), d_weight (P P C, D), d_bias (D,), d_positions (N, D).
    """
    raise NotImplementedError("Lesson 13, exercise 6")
