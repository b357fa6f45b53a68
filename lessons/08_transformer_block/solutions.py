"""Chapter 8, the Transformer block: one way to solve the exercises."""

import numpy as np

from tinymm.functional import erf


def layer_norm_forward(x, gain, bias, epsilon):
    mean = x.mean(axis=-1, keepdims=True)                             # (..., 1)
    centred = x - mean                                                # (..., D)
    variance = (centred**2).mean(axis=-1, keepdims=True)              # (..., 1)
    scale = 1 / np.sqrt(variance + epsilon)                           # (..., 1)
    normed = centred * scale                                          # (..., D)
    out = gain * normed + bias                                        # (..., D)
    return out, (normed, scale, gain)


def layer_norm_backward(d_out, cache):
    normed, scale, gain = cache
    axes = tuple(range(d_out.ndim - 1))
    d_gain = (d_out * normed).sum(axis=axes)                          # (D,)
    d_bias = d_out.sum(axis=axes)                                     # (D,)
    d_normed = gain * d_out                                           # (..., D)
    mean = d_normed.mean(axis=-1, keepdims=True)                      # (..., 1)
    along = (d_normed * normed).mean(axis=-1, keepdims=True)          # (..., 1)
    d_x = scale * (d_normed - mean - normed * along)                  # (..., D)
    return d_x, d_gain, d_bias


def gelu_forward(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2))), x


def gelu_backward(d_out, cache):
    x = cache
    below = 0.5 * (1 + erf(x / np.sqrt(2)))                           # (...)
    bell = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)                   # (...)
    d_x = d_out * (below + x * bell)                                  # (...)
    return d_x


def feed_forward_forward(x, W_1, b_1, W_2, b_2):
    hidden = x @ W_1 + b_1                                            # (..., F)
    active, _ = gelu_forward(hidden)                                  # (..., F)
    return active @ W_2 + b_2, (x, W_1, hidden, active, W_2)


def feed_forward_backward(d_out, cache):
    x, W_1, hidden, active, W_2 = cache
    axes = tuple(range(d_out.ndim - 1))
    d_active = d_out @ W_2.T                                          # (..., F)
    d_W_2 = active.reshape(-1, active.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])   # (F, D)
    d_b_2 = d_out.sum(axis=axes)                                      # (D,)
    d_hidden = gelu_backward(d_active, hidden)                        # (..., F)
    d_W_1 = x.reshape(-1, x.shape[-1]).T @ d_hidden.reshape(-1, d_hidden.shape[-1])       # (D, F)
    d_b_1 = d_hidden.sum(axis=axes)                                   # (F,)
    d_x = d_hidden @ W_1.T                                            # (..., D)
    return d_x, d_W_1, d_b_1, d_W_2, d_b_2


def residual_forward(x, gain, bias, weight):
    normed_x, norm = layer_norm_forward(x, gain, bias, 1e-5)          # (..., D)
    return x + normed_x @ weight, (norm, normed_x, weight)


def residual_backward(d_out, cache):
    norm, normed_x, weight = cache
    D = d_out.shape[-1]
    d_weight = normed_x.reshape(-1, D).T @ d_out.reshape(-1, D)       # (D, D)
    d_normed_x = d_out @ weight.T                                     # (..., D)
    d_branch, d_gain, d_bias = layer_norm_backward(d_normed_x, norm)  # (..., D), (D,), (D,)
    d_x = d_out + d_branch                                            # (..., D)
    return d_x, d_gain, d_bias, d_weight
