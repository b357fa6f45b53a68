"""Chapter 13, an image encoder: one way to solve the exercises."""

import numpy as np

from tinymm.functional import conv2d_backward, conv2d_forward, relu_backward, relu_forward


def running_statistics(x, running_mean, running_variance, momentum):
    M = x[..., 0].size
    mean = x.mean(axis=(0, 1, 2))                                                      # (C,)
    variance = x.var(axis=(0, 1, 2)) * M / (M - 1)                                     # (C,)
    new_mean = (1 - momentum) * running_mean + momentum * mean                         # (C,)
    new_variance = (1 - momentum) * running_variance + momentum * variance             # (C,)
    return new_mean, new_variance


def batch_norm_forward(x, gain, bias, running_mean, running_variance, training, epsilon):
    if training:
        mean = x.mean(axis=(0, 1, 2))                                                  # (C,)
        centred = x - mean                                                             # (B, H, W, C)
        variance = (centred**2).mean(axis=(0, 1, 2))                                   # (C,)
    else:
        mean = running_mean                                                            # (C,)
        centred = x - mean                                                             # (B, H, W, C)
        variance = running_variance                                                    # (C,)
    scale = 1 / np.sqrt(variance + epsilon)                                            # (C,)
    normed = centred * scale                                                           # (B, H, W, C)
    out = gain * normed + bias                                                         # (B, H, W, C)
    return out, (normed, scale, gain, training)


def batch_norm_backward(d_out, cache):
    normed, scale, gain, training = cache
    M = d_out[..., 0].size
    d_gain = (d_out * normed).sum(axis=(0, 1, 2))                                      # (C,)
    d_bias = d_out.sum(axis=(0, 1, 2))                                                 # (C,)
    if training:
        shift = d_bias / M                                                             # (C,)
        along = d_gain / M                                                             # (C,)
        d_x = gain * scale * (d_out - shift - normed * along)                          # (B, H, W, C)
    else:
        d_x = gain * scale * d_out                                                     # (B, H, W, C)
    return d_x, d_gain, d_bias


def _norm(x, gain, bias):
    return batch_norm_forward(x, gain, bias, 0, 1, True, 1e-5)


def residual_forward(x, W_1, g_1, b_1, W_2, g_2, b_2, W_s, g_s, b_s, stride):
    a, conv_1 = conv2d_forward(x, W_1, stride=stride, padding=1)                       # (B, H', W', C')
    n, norm_1 = _norm(a, g_1, b_1)                                                     # (B, H', W', C')
    r, relu_1 = relu_forward(n)                                                        # (B, H', W', C')
    c, conv_2 = conv2d_forward(r, W_2, padding=1)                                      # (B, H', W', C')
    branch, norm_2 = _norm(c, g_2, b_2)                                                # (B, H', W', C')
    p, conv_s = conv2d_forward(x, W_s, stride=stride)                                  # (B, H', W', C')
    skip, norm_s = _norm(p, g_s, b_s)                                                  # (B, H', W', C')
    out, relu_out = relu_forward(branch + skip)                                        # (B, H', W', C')
    return out, (conv_1, norm_1, relu_1, conv_2, norm_2, conv_s, norm_s, relu_out)


def residual_backward(d_out, cache):
    conv_1, norm_1, relu_1, conv_2, norm_2, conv_s, norm_s, relu_out = cache
    d_sum = relu_backward(d_out, relu_out)                                             # (B, H', W', C')
    d_c, d_g_2, d_b_2 = batch_norm_backward(d_sum, norm_2)                             # (B, H', W', C')
    d_r, d_W_2, _ = conv2d_backward(d_c, conv_2)                                       # (B, H', W', C')
    d_n = relu_backward(d_r, relu_1)                                                   # (B, H', W', C')
    d_a, d_g_1, d_b_1 = batch_norm_backward(d_n, norm_1)                               # (B, H', W', C')
    d_through, d_W_1, _ = conv2d_backward(d_a, conv_1)                                 # (B, H, W, C)
    d_p, d_g_s, d_b_s = batch_norm_backward(d_sum, norm_s)                             # (B, H', W', C')
    d_past, d_W_s, _ = conv2d_backward(d_p, conv_s)                                    # (B, H, W, C)
    d_x = d_through + d_past                                                           # (B, H, W, C)
    return d_x, d_W_1, d_g_1, d_b_1, d_W_2, d_g_2, d_b_2, d_W_s, d_g_s, d_b_s


def cut_patches(images, P):
    B, H, W, C = images.shape
    grid = images.reshape(B, H // P, P, W // P, P, C)                                  # (B, H/P, P, W/P, P, C)
    squares = grid.transpose(0, 1, 3, 2, 4, 5)                                         # (B, H/P, W/P, P, P, C)
    patches = squares.reshape(B, -1, P * P * C)                                        # (B, N, P P C)
    return patches


def tokens_forward(images, weight, bias, positions, P):
    patches = cut_patches(images, P)                                                   # (B, N, P P C)
    tokens = patches @ weight + bias                                                   # (B, N, D)
    return tokens + positions, (patches, weight, images.shape, P)


def tokens_backward(d_out, cache):
    patches, weight, (B, H, W, C), P = cache
    d_positions = d_out.sum(axis=0)                                                    # (N, D)
    d_bias = d_out.sum(axis=(0, 1))                                                    # (D,)
    d_weight = patches.reshape(-1, P * P * C).T @ d_out.reshape(-1, d_out.shape[-1])   # (P P C, D)
    d_patches = d_out @ weight.T                                                       # (B, N, P P C)
    d_squares = d_patches.reshape(B, H // P, W // P, P, P, C)                          # (B, H/P, W/P, P, P, C)
    d_images = d_squares.transpose(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)               # (B, H, W, C)
    return d_images, d_weight, d_bias, d_positions
