"""Chapter 17, contrastive learning: one way to solve the exercises."""

import numpy as np


def l2_normalize_forward(x):
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))                                 # (..., 1)
    unit = x / length                                                                     # (..., D)
    return unit, (unit, length)


def l2_normalize_backward(d_unit, cache):
    unit, length = cache
    along = (d_unit * unit).sum(axis=-1, keepdims=True)                                   # (..., 1)
    d_x = (d_unit - unit * along) / length                                                # (..., D)
    return d_x


def log_softmax(x, axis):
    shifted = x - x.max(axis=axis, keepdims=True)                                         # (B, B)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))                # (B, B)


def info_nce_forward(a, b, log_scale):
    scale = np.exp(log_scale)                                                             # ()
    cosines = a @ b.T                                                                     # (B, B)
    logits = scale * cosines                                                              # (B, B)
    log_p = log_softmax(logits, axis=1)                                                   # (B, B)
    log_q = log_softmax(logits, axis=0)                                                   # (B, B)
    loss = -(np.diag(log_p) + np.diag(log_q)).mean() / 2                                  # ()
    return loss, (a, b, scale, logits, np.exp(log_p), np.exp(log_q))


def info_nce_backward(d_loss, cache):
    a, b, scale, logits, p, q = cache
    B = len(a)
    d_logits = d_loss * (p + q - 2 * np.eye(B)) / (2 * B)                                 # (B, B)
    d_log_scale = (d_logits * logits).sum()                                               # ()
    d_cosines = scale * d_logits                                                          # (B, B)
    d_a = d_cosines @ b                                                                   # (B, D)
    d_b = d_cosines.T @ a                                                                 # (B, D)
    return d_a, d_b, d_log_scale


def text_tower_forward(ids, table):
    real = ids != 0                                                                       # (B, T)
    shares = real / real.sum(axis=1, keepdims=True)                                       # (B, T)
    words = table[ids]                                                                    # (B, T, D)
    mean = (shares[..., None] * words).sum(axis=1)                                        # (B, D)
    unit, unit_cache = l2_normalize_forward(mean)                                         # (B, D)
    return unit, (ids, shares, table, unit_cache)


def text_tower_backward(d_unit, cache):
    ids, shares, table, unit_cache = cache
    d_mean = l2_normalize_backward(d_unit, unit_cache)                                    # (B, D)
    d_words = shares[..., None] * d_mean[:, None]                                         # (B, T, D)
    d_table = np.zeros_like(table)                                                        # (V, D)
    np.add.at(d_table, ids, d_words)
    return d_table


def recall_at_k(similarity, right, k):
    own = similarity[np.arange(len(similarity)), right][:, None]                          # (N, 1)
    rank = (similarity >= own).sum(axis=1)                                                # (N,)
    return (rank <= k).mean()
