"""Chapter 10, BERT: one way to solve the exercises."""

import numpy as np

from tinymm.functional import gelu_backward, gelu_forward


def mask_words(ids, draw, fate, other, share, mask_id, n_special):
    words = ids >= n_special                                          # (R, T)
    chosen = words & (draw < share)                                   # (R, T)
    read = np.where(chosen & (fate < 0.8), mask_id, ids)              # (R, T)
    read = np.where(chosen & (fate >= 0.8) & (fate < 0.9), other, read)   # (R, T)
    labels = ids[chosen]                                              # (M,)
    return read, chosen, labels


def masked_loss_forward(hidden, table, W, b, bias, chosen, labels):
    h = hidden[chosen]                                                # (M, D)
    z = h @ W + b                                                     # (M, D)
    a, gelu = gelu_forward(z)                                         # (M, D)
    logits = a @ table.T + bias                                       # (M, V)
    shifted = logits - logits.max(axis=-1, keepdims=True)             # (M, V)
    powers = np.exp(shifted)                                          # (M, V)
    total = powers.sum(axis=-1, keepdims=True)                        # (M, 1)
    log_p = shifted - np.log(total)                                   # (M, V)
    loss = -log_p[np.arange(len(labels)), labels].mean()              # ()
    p = powers / total                                                # (M, V)
    return loss, (hidden, table, W, chosen, labels, h, gelu, a, p)


def masked_loss_backward(d_loss, cache):
    hidden, table, W, chosen, labels, h, gelu, a, p = cache
    y = np.zeros_like(p)                                              # (M, V)
    y[np.arange(len(labels)), labels] = 1
    d_logits = d_loss * (p - y) / len(labels)                         # (M, V)
    d_bias = d_logits.sum(axis=0)                                     # (V,)
    d_table = d_logits.T @ a                                          # (V, D)
    d_a = d_logits @ table                                            # (M, D)
    d_z = gelu_backward(d_a, gelu)                                    # (M, D)
    d_W = h.T @ d_z                                                   # (D, D)
    d_b = d_z.sum(axis=0)                                             # (D,)
    d_h = d_z @ W.T                                                   # (M, D)
    d_hidden = np.zeros_like(hidden)                                  # (R, T, D)
    d_hidden[chosen] = d_h
    return d_hidden, d_table, d_W, d_b, d_bias


def neighbours_forward(table, W, b, bias, ids, chosen, labels):
    x = table[ids]                                                    # (R, T, D)
    hidden = np.zeros_like(x)                                         # (R, T, D)
    hidden[:, 1:] += x[:, :-1]
    hidden[:, :-1] += x[:, 1:]
    loss, head = masked_loss_forward(hidden, table, W, b, bias, chosen, labels)
    return loss, (ids, head)


def neighbours_backward(d_loss, cache):
    ids, head = cache
    d_hidden, d_head, d_W, d_b, d_bias = masked_loss_backward(d_loss, head)
    d_x = np.zeros_like(d_hidden)                                     # (R, T, D)
    d_x[:, 1:] += d_hidden[:, :-1]
    d_x[:, :-1] += d_hidden[:, 1:]
    d_read = np.zeros_like(d_head)                                    # (V, D)
    np.add.at(d_read, ids, d_x)
    d_table = d_head + d_read                                         # (V, D)
    return d_table, d_W, d_b, d_bias


def mean_pool_forward(x, real):
    counts = real.sum(axis=1, keepdims=True)                          # (R, 1)
    shares = (real / counts).astype(x.dtype)                          # (R, T)
    out = (shares[:, :, None] * x).sum(axis=1)                        # (R, D)
    return out, shares


def mean_pool_backward(d_out, cache):
    shares = cache                                                    # (R, T)
    d_x = shares[:, :, None] * d_out[:, None, :]                      # (R, T, D)
    return d_x
