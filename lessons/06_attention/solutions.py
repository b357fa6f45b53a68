"""Chapter 6, attention: one way to solve the exercises."""

import numpy as np


def causal_mask(T):
    mask = np.arange(T)[None, :] <= np.arange(T)[:, None]         # (T, T)
    return mask


def attention_scores(q, k, allowed=None):
    d = q.shape[-1]
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(d)                  # (..., T, S)
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)               # (..., T, S)
    return scores


def attention_forward(q, k, v, allowed=None):
    scores = attention_scores(q, k, allowed)                      # (..., T, S)
    highest = scores.max(axis=-1, keepdims=True)                  # (..., T, 1)
    exps = np.exp(scores - highest)                               # (..., T, S)
    weights = exps / exps.sum(axis=-1, keepdims=True)             # (..., T, S)
    out = weights @ v                                             # (..., T, V)
    return out, (q, k, v, weights)


def attention_backward(d_out, cache):
    q, k, v, weights = cache
    d = q.shape[-1]
    d_weights = d_out @ v.swapaxes(-1, -2)                        # (..., T, S)
    d_v = weights.swapaxes(-1, -2) @ d_out                        # (..., S, V)
    mean = (weights * d_weights).sum(axis=-1, keepdims=True)      # (..., T, 1)
    d_scores = weights * (d_weights - mean)                       # (..., T, S)
    d_q = d_scores @ k / np.sqrt(d)                               # (..., T, d)
    d_k = d_scores.swapaxes(-1, -2) @ q / np.sqrt(d)              # (..., S, d)
    return d_q, d_k, d_v
