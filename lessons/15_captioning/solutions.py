"""Chapter 15, captioning: one way to solve the exercises."""

import numpy as np


def sequence_loss_forward(logits, labels, real):
    shifted = logits - logits.max(axis=-1, keepdims=True)                                 # (B, T, V)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))                 # (B, T, V)
    right = np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]                 # (B, T)
    loss = -(right * real).sum() / real.sum()                                             # ()
    return loss, (np.exp(log_p), labels, real)


def sequence_loss_backward(d_loss, cache):
    p, labels, real = cache
    y = np.zeros_like(p)                                                                  # (B, T, V)
    np.put_along_axis(y, labels[..., None], 1, axis=-1)
    share = d_loss * real / real.sum()                                                    # (B, T)
    d_logits = share[..., None] * (p - y)                                                 # (B, T, V)
    return d_logits


def read_image_forward(x, tokens, index):
    memory = tokens[index]                                                                # (R, N, D)
    scores = x @ memory.swapaxes(-1, -2) / np.sqrt(x.shape[-1])                           # (R, T, N)
    exps = np.exp(scores - scores.max(axis=-1, keepdims=True))                            # (R, T, N)
    weights = exps / exps.sum(axis=-1, keepdims=True)                                     # (R, T, N)
    return weights @ memory, (x, memory, weights, index, len(tokens))


def read_image_backward(d_out, cache):
    x, memory, weights, index, B = cache
    R, N, D = memory.shape
    d_values = weights.swapaxes(-1, -2) @ d_out                                           # (R, N, D)
    d_weights = d_out @ memory.swapaxes(-1, -2)                                           # (R, T, N)
    mean = (weights * d_weights).sum(axis=-1, keepdims=True)                              # (R, T, 1)
    d_scores = weights * (d_weights - mean)                                               # (R, T, N)
    d_keys = d_scores.swapaxes(-1, -2) @ x / np.sqrt(D)                                   # (R, N, D)
    d_x = d_scores @ memory / np.sqrt(D)                                                  # (R, T, D)
    d_memory = d_values + d_keys                                                          # (R, N, D)
    d_tokens = np.zeros((B, N, D))                                                        # (B, N, D)
    np.add.at(d_tokens, index, d_memory)
    return d_x, d_tokens


def beam_step(scores, log_p, width):
    totals = scores[:, None] + log_p                                                      # (K, V)
    chosen = np.argsort(-totals, axis=None, kind="stable")[:width]                        # (K',)
    parents, words = np.divmod(chosen, log_p.shape[1])                                    # (K',), (K',)
    new_scores = totals[parents, words]                                                   # (K',)
    return new_scores, parents, words


def beam_search(next_log_p, end, width, longest, power):
    still_open, sums_so_far, aside = np.zeros((1, 0), int), np.zeros(1), []               # (K, t), (K,)
    for t in range(1, longest + 1):
        sums_so_far, extended, added = beam_step(sums_so_far, next_log_p(still_open), width)     # (K,) each
        still_open = np.concatenate([still_open[extended], added[:, None]], axis=1)       # (K, t)
        over = added == end                                                               # (K,)
        aside += zip(sums_so_far[over] / t ** power, still_open[over])
        still_open, sums_so_far = still_open[~over], sums_so_far[~over]                   # (K', t), (K',)
        if not len(still_open) or aside and max(value for value, _ in aside) >= sums_so_far[0] / longest ** power:
            break
    highest = max(aside or zip(sums_so_far / longest ** power, still_open), key=lambda pair: pair[0])
    return highest[1], highest[0]
