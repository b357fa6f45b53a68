"""Chapter 11, encoder and decoder: one way to solve the exercises."""

import numpy as np

from tinymm.functional import attention_backward, attention_forward


def product_gradient(left, d_out):
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def shift(texts, pad, end):
    B, L = texts.shape
    lengths = (texts != pad).sum(axis=1)                              # (B,)
    target = np.concatenate([np.full((B, 1), end), texts], axis=1)    # (B, L + 1)
    labels = np.concatenate([texts, np.full((B, 1), pad)], axis=1)    # (B, L + 1)
    labels[np.arange(B), lengths] = end
    labels[np.arange(L + 1) > lengths[:, None]] = -100
    return target, labels


def cross_forward(x, memory, W_q, W_k, W_v, W_o, readable):
    q = x @ W_q                                                       # (B, T, D)
    k = memory @ W_k                                                  # (B, S, D)
    v = memory @ W_v                                                  # (B, S, D)
    mixed, attention = attention_forward(q, k, v, readable[:, None, :])   # (B, T, D)
    out = mixed @ W_o                                                 # (B, T, D)
    return out, (x, memory, W_q, W_k, W_v, W_o, attention, mixed)


def cross_backward(d_out, cache):
    x, memory, W_q, W_k, W_v, W_o, attention, mixed = cache
    d_W_o = product_gradient(mixed, d_out)                            # (D, D)
    d_mixed = d_out @ W_o.T                                           # (B, T, D)
    d_q, d_k, d_v = attention_backward(d_mixed, attention)            # (B, T, D), (B, S, D), (B, S, D)
    d_W_v = product_gradient(memory, d_v)                             # (D, D)
    d_W_k = product_gradient(memory, d_k)                             # (D, D)
    d_W_q = product_gradient(x, d_q)                                  # (D, D)
    d_memory = d_k @ W_k.T + d_v @ W_v.T                              # (B, S, D)
    d_x = d_q @ W_q.T                                                 # (B, T, D)
    return d_x, d_memory, d_W_q, d_W_k, d_W_v, d_W_o


def stack_forward(x, memory, W, readable):
    caches = []
    for layer in W:
        y, cache = cross_forward(x, memory, *layer, readable)         # (B, T, D)
        x = x + y                                                     # (B, T, D)
        caches.append(cache)
    return x, caches


def stack_backward(d_out, caches):
    d_x, d_memory, d_W = d_out, 0, []
    for cache in reversed(caches):
        d_branch, d_part, *d_layer = cross_backward(d_x, cache)       # (B, T, D), (B, S, D), four (D, D)
        d_memory = d_memory + d_part                                  # (B, S, D)
        d_x = d_x + d_branch                                          # (B, T, D)
        d_W.insert(0, d_layer)
    return d_x, d_memory, np.array(d_W)


def greedy(decode, B, pad, end, longest):
    text = np.full((B, 1), end)                                       # (B, 1)
    done = np.zeros(B, bool)                                          # (B,)
    while not done.all() and text.shape[1] <= longest:
        logits = decode(text)                                         # (B, t, V)
        following = logits[:, -1].argmax(axis=-1)                     # (B,)
        following[done] = pad
        text = np.concatenate([text, following[:, None]], axis=1)     # (B, t + 1)
        done |= following == end
    return text[:, 1:]
