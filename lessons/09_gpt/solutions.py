"""Chapter 9, GPT: one way to solve the exercises."""

import numpy as np


def windows(stream, starts, T):
    places = starts[:, None] + np.arange(T + 1)                       # (B, T + 1)
    tokens = stream[places]                                           # (B, T + 1)
    return tokens[:, :-1], tokens[:, 1:]                              # (B, T), (B, T)


def tied_forward(ids, labels, table, weight):
    x = table[ids]                                                    # (B, T, D)
    hidden = x @ weight                                               # (B, T, D)
    logits = hidden @ table.T                                         # (B, T, V)
    shifted = logits - logits.max(axis=-1, keepdims=True)             # (B, T, V)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))    # (B, T, V)
    losses = -np.take_along_axis(log_p, labels[..., None], axis=-1)   # (B, T, 1)
    return losses.mean(), (ids, labels, table, weight, x, hidden, np.exp(log_p))


def tied_backward(d_loss, cache):
    ids, labels, table, weight, x, hidden, p = cache
    V, D = table.shape
    y = np.zeros(p.shape)                                             # (B, T, V)
    np.put_along_axis(y, labels[..., None], 1, axis=-1)
    d_logits = d_loss * (p - y) / labels.size                         # (B, T, V)
    d_head = d_logits.reshape(-1, V).T @ hidden.reshape(-1, D)        # (V, D)
    d_hidden = d_logits @ table                                       # (B, T, D)
    d_weight = x.reshape(-1, D).T @ d_hidden.reshape(-1, D)           # (D, D)
    d_x = d_hidden @ weight.T                                         # (B, T, D)
    d_read = np.zeros((V, D))                                         # (V, D)
    np.add.at(d_read, ids, d_x)
    d_table = d_head + d_read                                         # (V, D)
    return d_table, d_weight


def perplexity(probabilities):
    return np.exp(-np.log(probabilities).mean())                      # ()


def filter_top(p, top_k=None, top_p=None):
    order = np.argsort(-p)                                            # (V,)
    ranked = p[order]                                                 # (V,)
    before = ranked.cumsum() - ranked                                 # (V,)
    keep = np.ones(len(p), bool)                                      # (V,)
    if top_k is not None:
        keep[top_k:] = False
    if top_p is not None:
        keep &= before < top_p
    kept = np.zeros(len(p))                                           # (V,)
    kept[order] = np.where(keep, ranked, 0)
    return kept / kept.sum()                                          # (V,)


def attention_step(q, k, v, keys, values):
    new_keys = np.concatenate([keys, k], axis=-2)                     # (B, H, S + 1, d)
    new_values = np.concatenate([values, v], axis=-2)                 # (B, H, S + 1, d)
    scores = q @ new_keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1])     # (B, H, 1, S + 1)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))        # (B, H, 1, S + 1)
    weights = exps / exps.sum(axis=-1, keepdims=True)                 # (B, H, 1, S + 1)
    return weights @ new_values, new_keys, new_values                 # (B, H, 1, d)
