"""Chapter 12, convolution: one way to solve the exercises."""

import numpy as np


def output_size(n, k, stride, padding):
    return (n + 2 * padding - k) // stride + 1


def im2col(padded, kh, kw, stride):
    B, H, W, C = padded.shape
    H_out, W_out = output_size(H, kh, stride, 0), output_size(W, kw, stride, 0)
    windows = np.zeros((B, H_out, W_out, kh, kw, C), padded.dtype)                        # (B, H', W', kh, kw, C)
    for u in range(kh):
        for v in range(kw):
            windows[:, :, :, u, v] = padded[:, u:u + stride * H_out:stride, v:v + stride * W_out:stride]
    columns = windows.reshape(B * H_out * W_out, kh * kw * C)                             # (B H' W', kh kw C)
    return columns


def conv2d_forward(x, weight, bias, stride, padding):
    B, H, W, C_in = x.shape
    kh, kw, _, C_out = weight.shape
    H_out, W_out = output_size(H, kh, stride, padding), output_size(W, kw, stride, padding)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))          # (B, H+2p, W+2p, C_in)
    columns = im2col(padded, kh, kw, stride)                                              # (B H' W', kh kw C_in)
    rows = columns @ weight.reshape(-1, C_out) + bias                                     # (B H' W', C_out)
    out = rows.reshape(B, H_out, W_out, C_out)                                            # (B, H', W', C_out)
    return out, (x, columns, weight, stride, padding)


def col2im(d_columns, shape, kh, kw, stride):
    B, H, W, C = shape
    H_out, W_out = output_size(H, kh, stride, 0), output_size(W, kw, stride, 0)
    d_windows = d_columns.reshape(B, H_out, W_out, kh, kw, C)                             # (B, H', W', kh, kw, C)
    d_padded = np.zeros(shape, d_columns.dtype)                                           # (B, H+2p, W+2p, C)
    for u in range(kh):
        for v in range(kw):
            d_padded[:, u:u + stride * H_out:stride, v:v + stride * W_out:stride] += d_windows[:, :, :, u, v]
    return d_padded


def conv2d_backward(d_out, cache):
    x, columns, weight, stride, padding = cache
    B, H, W, C_in = x.shape
    kh, kw, _, C_out = weight.shape
    d_rows = d_out.reshape(-1, C_out)                                                     # (B H' W', C_out)
    d_bias = d_rows.sum(axis=0)                                                           # (C_out,)
    d_weight = (columns.T @ d_rows).reshape(weight.shape)                                 # (kh, kw, C_in, C_out)
    d_columns = d_rows @ weight.reshape(-1, C_out).T                                      # (B H' W', kh kw C_in)
    d_padded = col2im(d_columns, (B, H + 2 * padding, W + 2 * padding, C_in), kh, kw, stride)
    d_x = d_padded[:, padding:padding + H, padding:padding + W]                           # (B, H, W, C_in)
    return d_x, d_weight, d_bias


def max_pool2d_forward(x, size, stride):
    B, H, W, C = x.shape
    H_out, W_out = output_size(H, size, stride, 0), output_size(W, size, stride, 0)
    places = im2col(x, size, size, stride).reshape(B, H_out, W_out, size * size, C)       # (B, H', W', size^2, C)
    winner = places.argmax(axis=3)                                                        # (B, H', W', C)
    out = places.max(axis=3)                                                              # (B, H', W', C)
    return out, (x, winner, size, stride)


def max_pool2d_backward(d_out, cache):
    x, winner, size, stride = cache
    B, H_out, W_out, C = d_out.shape
    d_places = np.zeros((B, H_out, W_out, size * size, C), d_out.dtype)                   # (B, H', W', size^2, C)
    np.put_along_axis(d_places, winner[:, :, :, None], d_out[:, :, :, None], axis=3)
    d_columns = d_places.reshape(B * H_out * W_out, size * size * C)                      # (B H' W', size^2 C)
    d_x = col2im(d_columns, x.shape, size, size, stride)                                  # (B, H, W, C)
    return d_x
