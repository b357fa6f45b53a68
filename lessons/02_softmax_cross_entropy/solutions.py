"""Chapter 2, softmax and cross-entropy: one way to solve the exercises."""

import numpy as np


def softmax_forward(x):
    highest = x.max(axis=-1, keepdims=True)                          # (..., 1)
    exps = np.exp(x - highest)                                       # (..., V)
    total = exps.sum(axis=-1, keepdims=True)                         # (..., 1)
    p = exps / total                                                 # (..., V)
    return p, p


def softmax_backward(d_out, cache):
    p = cache
    inner = (p * d_out).sum(axis=-1, keepdims=True)                  # (..., 1)
    d_x = p * (d_out - inner)                                        # (..., V)
    return d_x


def log_softmax(x):
    shifted = x - x.max(axis=-1, keepdims=True)                      # (..., V)
    log_total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))  # (..., 1)
    log_p = shifted - log_total                                      # (..., V)
    return log_p


def cross_entropy_forward(logits, labels):
    log_p = log_softmax(logits)                                      # (N, V)
    row = np.arange(len(labels))                                     # (N,)
    losses = -log_p[row, labels]                                     # (N,)
    loss = losses.mean()                                             # ()
    return loss, (np.exp(log_p), labels)


def cross_entropy_backward(d_loss, cache):
    p, labels = cache
    N = len(labels)
    y = np.zeros(p.shape)                                            # (N, V)
    y[np.arange(N), labels] = 1                                      # (N, V)
    d_logits = d_loss * (p - y) / N                                  # (N, V)
    return d_logits
