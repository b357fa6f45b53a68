"""Chapter 4, tokens and embeddings: one way to solve the exercises."""

from collections import Counter

import numpy as np


def commonest_pair(words):
    counts = Counter()
    for tokens, n in words.items():
        for pair in zip(tokens, tokens[1:]):
            counts[pair] += n
    best = min(counts, key=lambda pair: (-counts[pair], pair))
    return best, counts[best]


def merge_pair(tokens, pair):
    merged, i = [], 0
    while i < len(tokens):
        if tokens[i:i + 2] == pair:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return tuple(merged)


def encode(word, merges):
    tokens = tuple(word)
    for pair in merges:
        tokens = merge_pair(tokens, pair)
    return tokens


def embedding_forward(ids, table):
    return table[ids], (ids, len(table))                                     # (B, T, D)


def embedding_backward(d_out, cache):
    ids, V = cache
    d_table = np.zeros((V, d_out.shape[-1]), d_out.dtype)                    # (V, D)
    np.add.at(d_table, ids, d_out)                                           # (V, D)
    return d_table


def bigram_forward(ids, table, head, following):
    hidden = table[ids]                                                      # (N, D)
    logits = hidden @ head                                                   # (N, V)
    shifted = logits - logits.max(axis=-1, keepdims=True)                    # (N, V)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))    # (N, V)
    loss = -log_p[np.arange(len(ids)), following].mean()                     # ()
    p = np.exp(log_p)                                                        # (N, V)
    return loss, (ids, hidden, head, p, following)


def bigram_backward(d_loss, cache):
    ids, hidden, head, p, following = cache
    N, V = p.shape
    y = np.zeros((N, V))                                                     # (N, V)
    y[np.arange(N), following] = 1
    d_logits = d_loss * (p - y) / N                                          # (N, V)
    d_head = hidden.T @ d_logits                                             # (D, V)
    d_hidden = d_logits @ head.T                                             # (N, D)
    d_table = np.zeros((V, hidden.shape[-1]))                                # (V, D)
    np.add.at(d_table, ids, d_hidden)
    return d_table, d_head
