"""What `tinymm check 9` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def stream_and_starts(rng):
    return {"stream": rng.integers(50, size=40), "starts": rng.integers(30, size=3), "T": int(rng.integers(5, 10))}


def tied(rng):
    ids, labels = rng.integers(6, size=(2, 2, 5))
    ids[1, :2] = ids[0, 0]                         # an id that certainly repeats
    return {"ids": ids, "labels": labels, "table": rng.normal(size=(6, 3)), "weight": rng.normal(size=(3, 3))}


def tied_with_large_scores(rng):
    inputs = tied(rng)
    return inputs | {"weight": 400 * inputs["weight"]}


def right_tokens(rng):
    return {"probabilities": rng.uniform(0.01, 1, size=(3, 7))}


def with_a_tail(rng):
    p = softmax(rng.normal(size=9) * 1.5)
    way = rng.integers(3)
    return {"p": p, "top_k": None if way == 1 else int(rng.integers(3, 6)),
            "top_p": None if way == 2 else float(rng.uniform(0.5, 0.8))}


def one_more(rng):
    q, k, v = rng.normal(size=(3, 2, 3, 1, 4))
    keys, values = rng.normal(size=(2, 2, 3, 6, 4))
    return {"q": 3 * q, "k": k, "v": v, "keys": keys, "values": values}


def softmax(x):
    exps = np.exp(x - x.max(axis=-1, keepdims=True))
    return exps / exps.sum(axis=-1, keepdims=True)


FACTS = {
    "places": "starts as a column plus 0 ... T as a row: one more than is read",
    "tokens": "stream[places]: the last column is only guessed, the first only read",
    "x": "row ids[b, t] of the table",
    "hidden": "x weight",
    "logits": "logits[b, t, v] is the dot product of hidden[b, t] and row v of the same table",
    "shifted": "the largest score of each row is 0 now",
    "log_p": "shifted - log of the sum of exp(shifted): the exponentials of each row sum to 1",
    "losses": "-log_p at the label of each place",
    "y": "each row has a single 1, at the label",
    "d_logits": "d_loss (p - y) / N with N = B T: its rows sum to 0",
    "d_head": "logits = hidden table^T: the table gets d_logits^T hidden, summed over all places",
    "d_hidden": "logits = hidden table^T: hidden gets d_logits table",
    "d_weight": "hidden = x weight: x^T d_hidden, summed over all places",
    "d_x": "hidden = x weight: d_hidden weight^T",
    "d_read": "the scatter-add: each row is the sum of d_x over all places that read it",
    "d_table": "two uses, two gradients: d_head + d_read",
    "order": "np.argsort(-p): the number of the likeliest token first",
    "ranked": "p in that order: it never rises",
    "before": "the sum of all that are likelier; it begins with 0",
    "keep": "in the order of ranked: the first so many are True",
    "kept": "in the order of p again, and 0 where nothing is kept",
    "new_keys": "the keys of the past, then the new one, along axis -2",
    "new_values": "the values of the past, then the new one, along axis -2",
    "scores": "the new query with every key, its own too, divided by sqrt(d)",
    "weights": "a softmax over all S + 1 places; no mask is needed",
}

EXERCISES = [
    Exercise(
        1, "windows", "the shifted labels", stream_and_starts,
        hints=("An array of places picks tokens: stream[places] has the shape of places.",
               "starts[:, None] + np.arange(T + 1) is (B, T + 1).",
               "ids are tokens[:, :-1], labels are tokens[:, 1:]."), facts=FACTS,
        mistakes={"the labels are not shifted: the model would only have to copy": lambda stream, starts, T:
                  (stream[starts[:, None] + np.arange(T)],) * 2,
                  "the labels are one place further, not one place back": lambda stream, starts, T:
                  (stream[starts[:, None] + np.arange(T)], stream[starts[:, None] + np.arange(T) - 1]),
                  "ids and labels are exchanged": lambda stream, starts, T:
                  (stream[starts[:, None] + np.arange(T) + 1], stream[starts[:, None] + np.arange(T)]),
                  "the last label is the token behind the window, not the first one again": lambda stream, starts, T:
                  (stream[starts[:, None] + np.arange(T)], np.roll(stream[starts[:, None] + np.arange(T)], -1, axis=1))},
    ),
    Exercise(
        2, "tied_forward", "the loss over all places", tied_with_large_scores,
        hints=("The table does two things: table[ids], and hidden @ table.T.",
               "log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))",
               "np.take_along_axis(log_p, labels[..., None], axis=-1) picks an entry of each row; then the mean."), facts=FACTS,
        mistakes={"the loss is the mean over all places, not their sum": lambda ids, labels, table, weight:
                  _tied(ids, labels, table, weight, np.sum),
                  "the labels are to be guessed, not the ids": lambda ids, labels, table, weight:
                  _tied(ids, labels, table, weight, np.mean, ids)},
    ),
    Exercise(
        3, "tied_backward", "two gradients for one table", tied, forward="tied_forward", differentiable=("table", "weight"),
        hints=("From the last line of the forward to the first. d_logits is d_loss (p - y), divided by the number of places.",
               "d_head and d_hidden come from logits = hidden table^T; (B, T, .) becomes (B T, .) for a weight's gradient.",
               "np.add.at(d_read, ids, d_x), as in chapter 4.", "d_table = d_head + d_read"), facts=FACTS,
        mistakes={"d_table lacks what the output gave: d_logits^T hidden":
                  lambda d_loss, cache: _one_use(d_loss, cache, head=False),
                  "d_table lacks what the input gave: the scatter-add of d_x":
                  lambda d_loss, cache: _one_use(d_loss, cache, head=True)},
    ),
    Exercise(
        4, "perplexity", "between how many tokens does it hesitate?", right_tokens,
        hints=("First the loss: the mean of -log p.", "np.exp(-np.log(probabilities).mean())"),
        mistakes={"the exponential comes after the mean; this is the mean of 1/p":
                  lambda probabilities: (1 / probabilities).mean(),
                  "the sign is wrong: a perplexity is never below 1":
                  lambda probabilities: np.exp(np.log(probabilities).mean()),
                  "this is the loss; the perplexity is its exponential":
                  lambda probabilities: -np.log(probabilities).mean(),
                  "the mean is taken of the logarithms, not of the probabilities":
                  lambda probabilities: 1 / probabilities.mean(),
                  "a mean over places, not a sum": lambda probabilities: np.exp(-np.log(probabilities).sum())},
    ),
    Exercise(
        5, "filter_top", "without the tail", with_a_tail,
        hints=("Sort first: order = np.argsort(-p), ranked = p[order]. In that order both limits cut off an end.",
               "before = ranked.cumsum() - ranked: what all likelier tokens have together. The first token always stays.",
               "kept[order] = np.where(keep, ranked, 0) brings them back to their places."), facts=FACTS,
        mistakes={"what is left must be divided by its sum":
                  lambda p, top_k, top_p: _filter(p, top_k, top_p, total=lambda kept: 1),
                  "the token with which the sum reaches top_p stays":
                  lambda p, top_k, top_p: _filter(p, top_k, top_p, reach=1),
                  "the result is in the order of p, not sorted":
                  lambda p, top_k, top_p: -np.sort(-_filter(p, top_k, top_p)),
                  "this keeps the unlikeliest tokens": lambda p, top_k, top_p: _filter(p, top_k, top_p, sign=-1)},
    ),
    Exercise(
        6, "attention_step", "a single new token", one_more,
        hints=("np.concatenate([keys, k], axis=-2): the new key is the last row.",
               "Then attention as in chapter 6, with one query and no mask."),
        facts=FACTS,
        mistakes={"the new place also sees itself: append its key and value before the scores are made":
                  lambda q, k, v, keys, values: (_attend(q, keys, values), *_step(q, k, v, keys, values)[1:]),
                  "the new key comes last, not first": lambda q, k, v, keys, values: _first(q, k, v, keys, values),
                  "the division by sqrt(d) is missing":
                  lambda q, k, v, keys, values: _step(q * np.sqrt(q.shape[-1]), k, v, keys, values)},
    ),
]


def _tied(ids, labels, table, weight, reduce, guessed=None):
    x = table[ids]
    hidden = x @ weight
    logits = hidden @ table.T
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    losses = -np.take_along_axis(log_p, (labels if guessed is None else guessed)[..., None], axis=-1)
    return reduce(losses), (ids, labels, table, weight, x, hidden, np.exp(log_p))


def _one_use(d_loss, cache, head):
    ids, labels, table, weight, x, hidden, p = cache
    V, D = table.shape
    d_logits = (d_loss * (p - (np.arange(V) == labels[..., None])) / labels.size)
    d_hidden = d_logits @ table
    d_read = np.zeros((V, D))
    np.add.at(d_read, ids, d_hidden @ weight.T)
    d_head = d_logits.reshape(-1, V).T @ hidden.reshape(-1, D)
    return d_head if head else d_read, x.reshape(-1, D).T @ d_hidden.reshape(-1, D)


def _filter(p, top_k, top_p, total=np.sum, reach=0, sign=1):
    order = np.argsort(-sign * p)
    ranked = p[order]
    keep = np.arange(len(p)) < (len(p) if top_k is None else top_k)
    if top_p is not None:
        keep &= ranked.cumsum() - (1 - reach) * ranked < top_p
    kept = np.zeros(len(p))
    kept[order] = np.where(keep, ranked, 0)
    return kept / total(kept)


def _attend(q, keys, values):
    return softmax(q @ keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1])) @ values


def _step(q, k, v, keys, values):
    keys, values = np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2)
    return _attend(q, keys, values), keys, values


def _first(q, k, v, keys, values):
    keys, values = np.concatenate([k, keys], axis=-2), np.concatenate([v, values], axis=-2)
    return _attend(q, keys, values), keys, values
