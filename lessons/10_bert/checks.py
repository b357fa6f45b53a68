"""What `tinymm check 10` looks at."""

import numpy as np

from tinymm.functional import gelu_backward, gelu_forward
from tinymm.learning.exercise import Exercise

N_SPECIAL, MASK, V = 3, 2, 11


def texts(rng):
    """Places of every kind: special tokens with a small draw, and chosen words of all three fates."""
    ids = rng.integers(N_SPECIAL, V, size=(3, 8))
    ids[:, 0], ids[1, 5:], ids[2, 3] = 1, 0, N_SPECIAL
    draw, fate = rng.random((3, 8)), rng.random((3, 8))
    draw[:, 0], draw[1, 6], draw[2, 1:5] = 0.01, 0.02, 0.1
    fate[2, 1:5] = [0.3, 0.83, 0.87, 0.95]
    other = N_SPECIAL + (ids + 2) % (V - N_SPECIAL)
    return {"ids": ids, "draw": draw, "fate": fate, "other": other, "share": 0.4, "mask_id": MASK, "n_special": N_SPECIAL}


def head(rng):
    chosen = rng.permutation([True] * 3 + [False] * 5).reshape(2, 4)
    return {"hidden": rng.normal(size=(2, 4, 5)), "table": rng.normal(size=(6, 5)), "W": rng.normal(size=(5, 5)) / 2, "b": rng.normal(size=5),
            "bias": rng.normal(size=6), "chosen": chosen, "labels": rng.integers(6, size=3)}


def sure_head(rng):
    inputs = head(rng)
    return inputs | {"bias": inputs["bias"] + 1000}


def neighbours(rng):
    inputs = head(rng)
    ids = rng.permutation([0, 1, 1, 2, 2, 2, 3, 4]).reshape(2, 4)                      # words repeat, and 5 is nowhere read
    return {name: inputs[name] for name in ("table", "W", "b", "bias")} | {"ids": ids, "chosen": inputs["chosen"], "labels": inputs["labels"]}


def padded(rng):
    return {"x": rng.normal(size=(3, 5, 4)), "real": np.arange(5) < rng.permutation([5, 1, 3])[:, None]}


FACTS = {
    "words": "True where the id is n_special or more",
    "chosen": "a word, and its draw is below share",
    "read": "at chosen places the mask, another word or the word itself, by fate; at all other places the token itself",
    "labels": "what stood at the chosen places: ids, not read",
    "h": "the M chosen rows of hidden: hidden[chosen]",
    "z": "h W + b",
    "a": "gelu_forward(z) gives a and its cache",
    "logits": "a times the transposed table, plus the bias of each word",
    "exps": "exp of the logits minus their row's largest: between 0 and 1",
    "p": "each row sums to 1",
    "y": "one 1 in each row, at the label",
    "d_logits": "d_loss (p - y) / M, with M the number of chosen places",
    "d_bias": "every chosen place used the bias: the sum of d_logits over the places",
    "d_table": "logits = a table^T: d_logits^T a",
    "d_a": "logits = a table^T: d_logits times the table",
    "d_z": "gelu_backward(d_a, gelu)",
    "d_W": "z = h W + b: h^T d_z",
    "d_b": "every chosen place used b: the sum of d_z over the places",
    "d_h": "z = h W + b: d_z W^T",
    "d_hidden": "d_h at the chosen places, and zero everywhere else",
    "counts": "how many real tokens each text has, as a column",
    "shares": "1 / n at real tokens, 0 at padding: each row sums to 1",
    "d_x": "to each token its share of d_out",
}

EXERCISES = [
    Exercise(
        1, "mask_words", "hide some words", texts,
        hints=("words = ids >= n_special; chosen = words & (draw < share).", "np.where(condition, this, that) chooses place by place.",
               "First the mask: np.where(chosen & (fate < 0.8), mask_id, ids); then the other word into that, where fate is from 0.8 to 0.9.",
               "labels = ids[chosen]"),
        facts=FACTS,
        mistakes={"special tokens are never chosen": lambda **inputs: _mask(**inputs, special=True),
                  "a tenth of the chosen words stays as it is: where fate is 0.9 or more": lambda **inputs: _mask(**inputs, kept=2.0),
                  "every chosen place becomes the mask: the fate is not used": lambda **inputs: _mask(**inputs, masked=2.0),
                  "the labels are what stood there, not what is read there": lambda **inputs: _mask(**inputs, from_read=True),
                  "the word itself and the word by chance are swapped": lambda **inputs: _mask(**inputs, swapped=True)},
    ),
    Exercise(
        2, "masked_loss_forward", "the loss at the chosen places", sure_head,
        hints=("hidden[chosen] with a boolean array takes the M rows out, text by text.", "The table's transpose makes the scores: a @ table.T + bias.",
               "Subtract each row's largest before np.exp.", "p[np.arange(M), labels] are the probabilities of the labels."),
        facts=FACTS,
        mistakes={"the loss is the mean over the chosen places, not the sum": lambda **inputs: _loss(**inputs, total=True),
                  "the mean is over the chosen places, not over all places": lambda **inputs: _loss(**inputs, over_all=True),
                  "the gelu is missing": lambda **inputs: _loss(**inputs, bend=False)},
    ),
    Exercise(
        3, "masked_loss_backward", "back to the chosen places", head, forward="masked_loss_forward",
        differentiable=("hidden", "table", "W", "b", "bias"),
        hints=("The beginning is p - y, times d_loss, divided by the number of chosen places.",
               "logits = a table^T + bias: d_bias = d_logits.sum(axis=0), d_table = d_logits.T @ a, d_a = d_logits @ table.",
               "d_z = gelu_backward(d_a, gelu); then d_W = h.T @ d_z, d_b = d_z.sum(axis=0), d_h = d_z @ W.T.",
               "d_hidden = np.zeros_like(hidden); d_hidden[chosen] = d_h"),
        facts=FACTS,
    ),
    Exercise(
        4, "neighbours_backward", "a table with two gradients", neighbours, forward="neighbours_forward",
        differentiable=("table", "W", "b", "bias"),
        hints=("masked_loss_backward gives d_hidden and the table's part as the output.",
               "Place t - 1 went into hidden_t, and so did t + 1: d_x[:, 1:] += d_hidden[:, :-1], and d_x[:, :-1] += d_hidden[:, 1:].",
               "The table's part as the input is a scatter-add: np.add.at(d_table, ids, d_x)."),
        facts=FACTS | {"d_x": "d_x_t = d_hidden_(t-1) + d_hidden_(t+1): both places that took x_t",
                       "d_table": "the sum of both parts, as the output and as the input"},
        mistakes={"the table's part as the input is missing": lambda d_loss, cache: _neighbours(d_loss, cache, read=0),
                  "the table's part as the output is missing": lambda d_loss, cache: _neighbours(d_loss, cache, said=0),
                  "words repeat: np.add.at, not d_table[ids] += d_x": lambda d_loss, cache: _neighbours(d_loss, cache, at=False),
                  "each place went to both of its neighbours, so its gradient comes from both": lambda d_loss, cache: _neighbours(d_loss, cache, right=0)},
    ),
    Exercise(
        5, "mean_pool_forward", "one vector for a text", padded,
        hints=("real.sum(axis=1, keepdims=True) are the numbers of real tokens.", "shares = real / counts; then the sum over T of shares[:, :, None] * x."),
        facts=FACTS,
        mistakes={"padding counts, too: the mean must be over the real tokens only": lambda x, real: (
                      x.mean(axis=1), np.full(real.shape, 1 / real.shape[1])),
                  "padding is left out of the sum, but counts in the division": lambda x, real: (
                      (real[:, :, None] * x).mean(axis=1), real / real.shape[1]),
                  "it is the mean, not the sum": lambda x, real: ((real[:, :, None] * x).sum(axis=1), real.astype(float))},
    ),
    Exercise(
        6, "mean_pool_backward", "to each its share", padded, forward="mean_pool_forward", differentiable=("x",),
        hints=("Every real token went into the mean with its share, so it gets this share of d_out.", "shares[:, :, None] * d_out[:, None, :]"),
        facts=FACTS,
        mistakes={"d_out must be multiplied by the shares": lambda d_out, cache: (cache > 0)[:, :, None] * d_out[:, None, :],
                  "padding gets no gradient": lambda d_out, cache: cache.max(axis=1)[:, None, None] * np.ones_like(cache)[:, :, None] * d_out[:, None, :]},
    ),
]


def _mask(ids, draw, fate, other, share, mask_id, n_special, special=False, kept=0.9, masked=0.8, from_read=False, swapped=False):
    chosen = (draw < share) & (special | (ids >= n_special))
    middle = (fate >= 0.9) if swapped else (fate >= masked) & (fate < kept)
    read = np.where(chosen & (fate < masked), mask_id, np.where(chosen & middle, other, ids))
    return read, chosen, (read if from_read else ids)[chosen]


def _loss(hidden, table, W, b, bias, chosen, labels, total=False, over_all=False, bend=True):
    h = hidden[chosen]
    a, gelu = gelu_forward(h @ W + b)
    if not bend:
        a = h @ W + b
    logits = a @ table.T + bias
    exps = np.exp(logits - logits.max(axis=-1, keepdims=True))
    p = exps / exps.sum(axis=-1, keepdims=True)
    losses = -np.log(p[np.arange(len(labels)), labels])
    return losses.sum() / (1 if total else chosen.size if over_all else len(labels)), (hidden, table, W, chosen, labels, h, gelu, a, p)


def _neighbours(d_loss, cache, read=1, said=1, at=True, right=1):
    ids, (hidden, table, W, chosen, labels, h, gelu, a, p) = cache
    d_logits = d_loss * (p - np.eye(len(table))[labels]) / len(labels)
    d_z = gelu_backward(d_logits @ table, gelu)
    d_hidden = np.zeros_like(hidden)
    d_hidden[chosen] = d_z @ W.T
    d_x = np.zeros_like(hidden)
    d_x[:, 1:] += right * d_hidden[:, :-1]
    d_x[:, :-1] += d_hidden[:, 1:]
    d_table = said * d_logits.T @ a
    if at:
        np.add.at(d_table, ids, read * d_x)
    else:
        d_table[ids] += d_x
    return d_table, h.T @ d_z, d_z.sum(axis=0), d_logits.sum(axis=0)
