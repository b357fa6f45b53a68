"""Chapter 16, question answering: one way to solve the exercises."""

from collections import Counter, defaultdict

import numpy as np


def blind_answers(train_questions, train_answers, questions):
    by_question = defaultdict(Counter)
    for question, answer in zip(train_questions, train_answers):
        by_question[question][answer] += 1
    anything = _commonest(Counter(train_answers))
    return [_commonest(by_question[question]) if question in by_question else anything for question in questions]


def _commonest(counts):
    return min(counts, key=lambda answer: (-counts[answer], answer))


def accuracy_by_group(right, group):
    counts = np.bincount(group)                                                # (G,)
    shares = np.bincount(group, weights=right) / counts                        # (G,)
    mean = shares.mean()                                                       # ()
    worst = shares.min()                                                       # ()
    return shares, mean, worst


def even_probabilities(group):
    counts = np.bincount(group)                                                # (G,)
    probabilities = 1 / (len(counts) * counts[group])                          # (N,)
    return probabilities


def span_loss_forward(h, W, allowed, spans):
    logits = h @ W                                                             # (R, T, 2)
    masked = np.where(allowed[:, :, None], logits, -np.inf)                    # (R, T, 2)
    shifted = masked - masked.max(axis=1, keepdims=True)                       # (R, T, 2)
    powers = np.exp(shifted)                                                   # (R, T, 2)
    total = powers.sum(axis=1, keepdims=True)                                  # (R, 1, 2)
    log_p = shifted - np.log(total)                                            # (R, T, 2)
    loss = -log_p[np.arange(len(h))[:, None], spans, [0, 1]].mean()            # ()
    p = powers / total                                                         # (R, T, 2)
    return loss, (h, W, spans, p)


def span_loss_backward(d_loss, cache):
    h, W, spans, p = cache
    y = np.zeros_like(p)                                                       # (R, T, 2)
    y[np.arange(len(h))[:, None], spans, [0, 1]] = 1
    d_logits = d_loss * (p - y) / (2 * len(h))                                 # (R, T, 2)
    d_W = h.reshape(-1, h.shape[-1]).T @ d_logits.reshape(-1, 2)               # (D, 2)
    d_h = d_logits @ W.T                                                       # (R, T, D)
    return d_h, d_W


def best_span(logits, allowed, longest):
    R, T, _ = logits.shape
    masked = np.where(allowed[:, :, None], logits, -np.inf)                    # (R, T, 2)
    sums = masked[:, :, None, 0] + masked[:, None, :, 1]                       # (R, T, T)
    fits = _fits(np.arange(T)[:, None], np.arange(T), longest)                 # (T, T)
    scores = np.where(fits, sums, -np.inf)                                     # (R, T, T)
    best = scores.reshape(R, T * T).argmax(axis=1)                             # (R,)
    spans = np.stack([best // T, best % T], axis=1)                            # (R, 2)
    return spans


def _fits(i, j, longest):
    return (i <= j) & (j < i + longest)
