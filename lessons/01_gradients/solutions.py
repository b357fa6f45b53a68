"""Chapter 1, gradients: one way to solve the exercises."""

import numpy as np


def numerical_gradient(f, x, h=1e-5):
    gradient = np.zeros_like(x)
    for index in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[index] = h
        gradient[index] = (f(x + step) - f(x - step)) / (2 * h)
    return gradient


def linear_forward(x, weight, bias):
    out = x @ weight + bias                          # (..., D_out)
    return out, (x, weight)


def linear_backward(d_out, cache):
    x, weight = cache
    rows = x.reshape(-1, x.shape[-1])                # (N, D_in)
    d_rows = d_out.reshape(-1, d_out.shape[-1])      # (N, D_out)
    d_bias = d_rows.sum(axis=0)                      # (D_out,)
    d_weight = rows.T @ d_rows                       # (D_in, D_out)
    d_x = d_out @ weight.T                           # (..., D_in)
    return d_x, d_weight, d_bias


def relu_forward(x):
    return np.maximum(x, 0), x


def relu_backward(d_out, cache):
    x = cache
    d_x = d_out * (x > 0)                            # (...)
    return d_x


def two_layers_forward(x, weight_1, weight_2):
    hidden = x @ weight_1                            # (N, F)
    active = np.maximum(hidden, 0)                   # (N, F)
    out = active @ weight_2                          # (N, D_out)
    return out, (x, weight_1, hidden, active, weight_2)


def two_layers_backward(d_out, cache):
    x, weight_1, hidden, active, weight_2 = cache
    d_active = d_out @ weight_2.T                    # (N, F)
    d_weight_2 = active.T @ d_out                    # (F, D_out)
    d_hidden = d_active * (hidden > 0)               # (N, F)
    d_weight_1 = x.T @ d_hidden                      # (D_in, F)
    d_x = d_hidden @ weight_1.T                      # (N, D_in)
    return d_x, d_weight_1, d_weight_2
