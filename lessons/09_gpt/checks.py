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
    """The sums are 30, 56, 78, 96 ... / 128, without rounding. The checker's four seeds draw each of the limits once."""
    p = rng.permutation(np.array([30, 26, 22, 18, 14, 10, 8]) / 128)   # (V,)
    top_k, top_p = (
        (None, 78 / 128),     # three tokens have exactly top_p: that is enough
        (2, 0.5),             # top_p alone would keep three; with sums of what top_k has left, one
        (6, 0.5),             # top_p is the stricter one
        (3, None),
    )[rng.integers(4)]
    return {"p": p, "top_k": top_k, "top_p": top_p}


def one_more(rng):
    q, k, v = rng.normal(size=(3, 2, 3, 1, 5))
    keys, values = rng.normal(size=(2, 2, 3, 6, 5))
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
    "shifted": "logits minus the largest of its own row (over the last axis, kept as size 1): the largest is 0 now",
    "log_p": "shifted - log of the sum of exp(shifted): the exponentials of each row sum to 1",
    "losses": "-log_p at the label of each place: never negative",
    "y": "each row has a single 1, at the label",
    "d_logits": "d_loss (p - y) / N with N = B T: its rows sum to 0",
    "d_head": "logits = hidden table^T: the table gets d_logits^T hidden, summed over all places, and nothing else yet",
    "d_hidden": "logits = hidden table^T: hidden gets d_logits table",
    "d_weight": "hidden = x weight: x^T d_hidden, summed over all places",
    "d_x": "hidden = x weight: d_hidden weight^T",
    "d_read": "the scatter-add: each row is the sum of d_x over all places that read it",
    "d_table": "two uses, two gradients: d_head + d_read",
    "order": "np.argsort(-p): the id of the likeliest token first",
    "ranked": "p in that order: it never rises",
    "before": "the sum of all that are likelier; it begins with 0",
    "keep": "in the order of ranked: the first so many are True, at most top_k, and only where before < top_p",
    "kept": "in the order of p again (kept[order] = ...), and 0 where nothing is kept",
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
                  "a window begins at its start, not one token later": lambda stream, starts, T:
                  _windows(stream, starts + 1, T),
                  "ids and labels are exchanged": lambda stream, starts, T:
                  (stream[starts[:, None] + np.arange(T) + 1], stream[starts[:, None] + np.arange(T)]),
                  "the last label is the token behind the window, not the first one again": lambda stream, starts, T:
                  (stream[starts[:, None] + np.arange(T)], np.roll(stream[starts[:, None] + np.arange(T)], -1, axis=1)),
                  "ids and labels have T tokens each, so T + 1 are cut from the stream": lambda stream, starts, T:
                  (stream[starts[:, None] + np.arange(T - 1)], stream[starts[:, None] + np.arange(T - 1) + 1]),
                  "the labels reach one token behind the window: they are T tokens too": lambda stream, starts, T:
                  (stream[starts[:, None] + np.arange(T)], stream[starts[:, None] + np.arange(T - 1) + 1]),
                  "each place has a label, not the last one alone": lambda stream, starts, T:
                  (stream[starts[:, None] + np.arange(T)], stream[starts + T]),
                  "this cuts windows away, not tokens: cut the last axis, tokens[:, :-1]": lambda stream, starts, T:
                  (stream[starts[:-1, None] + np.arange(T + 1)], stream[starts[1:, None] + np.arange(T + 1)]),
                  "a window is a row: starts[:, None] + np.arange(T + 1)": lambda stream, starts, T:
                  tuple(part.T for part in _windows(stream, starts, T))},
    ),
    Exercise(
        2, "tied_forward", "the loss over all places", tied_with_large_scores,
        hints=("The table does two things: table[ids], and hidden @ table.T.",
               "log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))",
               "np.take_along_axis(log_p, labels[..., None], axis=-1) picks an entry of each row; then the mean."), facts=FACTS,
        mistakes={"the loss is the mean over all places, not their sum": lambda ids, labels, table, weight:
                  _tied(ids, labels, table, weight, np.sum),
                  "the mean is over all B T places: divide by their number, not by the number of texts":
                  lambda ids, labels, table, weight: _tied(ids, labels, table, weight, lambda x: x.sum() / len(ids)),
                  "only the label's log p counts at a place, not the mean over all tokens":
                  lambda ids, labels, table, weight: _all_tokens(ids, labels, table, weight),
                  "hidden = x weight: the weight is not transposed":
                  lambda ids, labels, table, weight: _transposed(ids, labels, table, weight),
                  "the last part of the cache is the softmax, not its logarithm":
                  lambda ids, labels, table, weight: _log_p_kept(ids, labels, table, weight),
                  "the labels are to be guessed, not the ids": lambda ids, labels, table, weight:
                  _tied(ids, labels, table, weight, np.mean, ids),
                  "the sign is missing: log p is negative, the loss is not": lambda ids, labels, table, weight:
                  _tied(ids, labels, table, weight, lambda losses: -losses.mean()),
                  "the scores overflow in np.exp: subtract each row's maximum first": lambda ids, labels, table, weight:
                  _tied(ids, labels, table, weight, np.mean, softmax=_overflowing),
                  **{f"the scores overflow in np.exp: subtract the largest of each {what} first":
                     lambda ids, labels, table, weight, divided=divided:
                     _tied(ids, labels, table, weight, np.mean, softmax=lambda z: _log_softmax(z, (), divided=divided))
                     for what, divided in (("place", True), ("row", False))},
                  "a probability was rounded to 0 before its logarithm: log_p is shifted - log of the sum of exp(shifted)":
                  lambda ids, labels, table, weight: _tied(ids, labels, table, weight, np.mean, softmax=_rounded),
                  **{f"each place has a maximum of its own: logits.max(axis=-1, keepdims=True), not that of all {what}":
                     lambda ids, labels, table, weight, divided=divided:
                     _tied(ids, labels, table, weight, np.mean, softmax=lambda z: _log_softmax(z, None, divided=divided))
                     for what, divided in (("places", True), ("rows", False))},
                  "each place has a sum of its own: .sum(axis=-1, keepdims=True), not that of the whole array":
                  lambda ids, labels, table, weight:
                  _tied(ids, labels, table, weight, np.mean, softmax=lambda z: _log_softmax(z, total=None)),
                  "the softmax is over the V tokens, the last axis, not over the places":
                  lambda ids, labels, table, weight:
                  _tied(ids, labels, table, weight, np.mean, softmax=lambda z: _log_softmax(z, 1, 1)),
                  "log_p[:, :, labels] takes all labels at every place; np.take_along_axis takes one for each place":
                  lambda ids, labels, table, weight:
                  _tied(ids, labels, table, weight, np.mean, pick=lambda log_p, labels: log_p[:, :, labels])},
    ),
    Exercise(
        3, "tied_backward", "two gradients for one table", tied, forward="tied_forward", differentiable=("table", "weight"),
        hints=("From the last line of the forward to the first. d_logits is d_loss (p - y), divided by the number of places.",
               "d_head and d_hidden come from logits = hidden table^T; (B, T, .) becomes (B T, .) for a weight's gradient.",
               "np.add.at(d_read, ids, d_x), as in chapter 4.", "d_table = d_head + d_read"), facts=FACTS,
        mistakes={"d_table lacks what the output gave: d_logits^T hidden":
                  lambda d_loss, cache: _both_uses(d_loss, cache, head=0),
                  "d_table lacks what the input gave: the scatter-add of d_x":
                  lambda d_loss, cache: _both_uses(d_loss, cache, lookup=0),
                  "d_loss is not used: the chain rule multiplies by it":
                  lambda d_loss, cache: _both_uses(1.0, cache),
                  "ids repeat: d_read[ids] += d_x keeps only the last gradient of a row; np.add.at adds all":
                  lambda d_loss, cache: _both_uses(d_loss, cache, add=_last_only),
                  "the rows that were read are ids, not labels":
                  lambda d_loss, cache: _both_uses(d_loss, cache, read=cache[1]),
                  "the division by the number of places is missing: the loss is a mean":
                  lambda d_loss, cache: _both_uses(d_loss * cache[1].size, cache),
                  "divide by the number of all B T places, not by the number of texts":
                  lambda d_loss, cache: _both_uses(d_loss * cache[1].shape[1], cache),
                  "divide by the number of all B T places, not by the length of a text":
                  lambda d_loss, cache: _both_uses(d_loss * cache[1].shape[0], cache),
                  "divide by the number of places only; p.size also counts the tokens":
                  lambda d_loss, cache: _both_uses(d_loss / len(cache[2]), cache),
                  "it is y - p; it must be p - y": lambda d_loss, cache: _both_uses(-d_loss, cache),
                  "y is missing: p - y, not p": lambda d_loss, cache: _both_uses(d_loss, cache, y=0),
                  "that is the gradient of p; through the softmax it becomes p - y":
                  lambda d_loss, cache: _both_uses(d_loss, cache, start=lambda p, y: -y / p),
                  "p - y has the softmax in it already: do not go through the softmax again":
                  lambda d_loss, cache: _both_uses(
                      d_loss, cache, start=lambda p, y: p * ((p - y) - (p * (p - y)).sum(axis=-1, keepdims=True))),
                  "back through hidden = x weight goes the transpose: d_x = d_hidden weight^T":
                  lambda d_loss, cache: _both_uses(d_loss, cache, back=lambda weight: weight),
                  "x, not hidden, was read from the table: d_read collects d_x, not d_hidden":
                  lambda d_loss, cache: _both_uses(d_loss, cache, back=lambda weight: np.eye(len(weight))),
                  "d_weight is x^T d_hidden; yours is its transpose":
                  lambda d_loss, cache: (_both_uses(d_loss, cache)[0], _both_uses(d_loss, cache)[1].T),
                  "the two gradients are added, and not divided by 2: each use counts in full":
                  lambda d_loss, cache: (_both_uses(d_loss, cache)[0] / 2, _both_uses(d_loss, cache)[1]),
                  "d_read begins with zeros; yours begins with d_head, which then counts twice":
                  lambda d_loss, cache: _both_uses(d_loss, cache, head=2),
                  "d_read begins with zeros; yours is another name for d_head, so the sum is taken twice":
                  lambda d_loss, cache: (2 * _both_uses(d_loss, cache)[0], _both_uses(d_loss, cache)[1]),
                  "d_table comes first, then d_weight": lambda d_loss, cache: _both_uses(d_loss, cache)[::-1]},
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
                  "a mean over places, not a sum": lambda probabilities: np.exp(-np.log(probabilities).sum()),
                  "divide by the number of all places, probabilities.size, not by len":
                  lambda probabilities: np.exp(-np.log(probabilities).sum() / len(probabilities)),
                  "one mean over all places, not one for each row":
                  lambda probabilities: np.exp(-np.log(probabilities).mean(axis=-1)),
                  "one mean over all places, not one for each column":
                  lambda probabilities: np.exp(-np.log(probabilities).mean(axis=0)),
                  "one mean over all places; then the exponential, once":
                  lambda probabilities: np.exp(-np.log(probabilities).mean(axis=-1)).mean(),
                  "the base is that of the logarithm: e with np.log, 2 with np.log2":
                  lambda probabilities: 2 ** -np.log(probabilities).mean(),
                  "e goes with np.log, the natural logarithm; yours has the base 2":
                  lambda probabilities: np.exp(-np.log2(probabilities).mean()),
                  "e goes with np.log, the natural logarithm; yours has the base 10":
                  lambda probabilities: np.exp(-np.log10(probabilities).mean()),
                  "only the right tokens count, each place alike: no weights p before log p":
                  lambda probabilities: np.exp(-(probabilities * np.log(probabilities)).sum())},
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
                  "keep is in the order of ranked, so it cannot choose from p: kept[order] = np.where(keep, ranked, 0)":
                  lambda p, top_k, top_p: _first_ones(p, _filter(p, top_k, top_p)),
                  "top_p is a limit for what all likelier tokens have together, not for a token's own probability":
                  lambda p, top_k, top_p: _filter(np.where(p >= (top_p or 0), p, 0), top_k, None),
                  "divide by the sum: a softmax of probabilities gives even those that were cut some probability again":
                  lambda p, top_k, top_p: softmax(_filter(p, top_k, top_p, total=lambda kept: 1)),
                  "this keeps the unlikeliest tokens": lambda p, top_k, top_p: _filter(p, top_k, top_p, sign=-1),
                  "when the likelier ones have exactly top_p, that is enough: less than, not at most":
                  lambda p, top_k, top_p: _filter(p, top_k, top_p and top_p + 1e-9),
                  "with both limits a token must pass both; top_k changes nothing here (is there an `or` for an `and`?)":
                  lambda p, top_k, top_p: _filter(p, top_k if top_p is None else None, top_p),
                  "with both limits a token must pass both; top_p changes nothing here (is there an `or` for an `and`?)":
                  lambda p, top_k, top_p: _filter(p, top_k, top_p if top_k is None else None),
                  "the sums for top_p are those of p as it is given, not of what top_k has left":
                  lambda p, top_k, top_p: _filter(_filter(p, top_k, None), None, top_p),
                  "top_k tokens are kept, not top_k + 1": lambda p, top_k, top_p: _filter(p, top_k and top_k + 1, top_p)},
    ),
    Exercise(
        6, "attention_step", "a single new token", one_more,
        hints=("np.concatenate([keys, k], axis=-2): the new key is the last row.",
               "Then attention as in chapter 6, with one query and no mask.",
               "scores = q @ new_keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1]); the softmax is over the last axis."),
        facts=FACTS,
        mistakes={"the new place also sees itself: append its key and value before the scores are made":
                  lambda q, k, v, keys, values: (_attend(q, keys, values), *_step(q, k, v, keys, values)[1:]),
                  "the new key comes last, not first": lambda q, k, v, keys, values: _first(q, k, v, keys, values),
                  "the division by sqrt(d) is missing":
                  lambda q, k, v, keys, values: _step(q * np.sqrt(q.shape[-1]), k, v, keys, values),
                  "the division is by sqrt(d), not by d":
                  lambda q, k, v, keys, values: _step(q / np.sqrt(q.shape[-1]), k, v, keys, values),
                  "the division is by sqrt(d), where d is the length of a query, not the number of keys":
                  lambda q, k, v, keys, values:
                  _step(q * np.sqrt(q.shape[-1] / (keys.shape[-2] + 1)), k, v, keys, values),
                  "divide by sqrt(d), do not multiply by it":
                  lambda q, k, v, keys, values: _step(q * q.shape[-1], k, v, keys, values),
                  "the weights mix the values, not the keys": lambda q, k, v, keys, values:
                  (_step(q, k, k, keys, keys)[0], *_step(q, k, v, keys, values)[1:]),
                  "the keys and values that are returned have the new place too, as their last":
                  lambda q, k, v, keys, values: (_step(q, k, v, keys, values)[0], keys, values),
                  "a causal mask of one row leaves only the first place; here everything is past, and no mask is needed":
                  lambda q, k, v, keys, values: (values[:, :, :1] + 0, *_step(q, k, v, keys, values)[1:]),
                  "the softmax is over the last axis, the places that are looked at; over axis -2 there is one number only":
                  lambda q, k, v, keys, values: (_step(q, k, v, keys, values)[2].sum(axis=-2, keepdims=True),
                                                 *_step(q, k, v, keys, values)[1:]),
                  "the new keys come before the new values":
                  lambda q, k, v, keys, values: tuple(_step(q, k, v, keys, values)[i] for i in (0, 2, 1))},
    ),
]


def _windows(stream, starts, T):
    return stream[starts[:, None] + np.arange(T)], stream[starts[:, None] + np.arange(T) + 1]


def _log_softmax(logits, largest=-1, total=-1, divided=False):
    """log p and p. The maximum and the sum are over one axis each, None is all axes, and largest=() subtracts nothing."""
    shifted = logits if largest == () else logits - logits.max(axis=largest, keepdims=True)
    exps = np.exp(shifted)
    sums = exps.sum(axis=total, keepdims=True)
    log_p = shifted - np.log(sums)
    return log_p, exps / sums if divided else np.exp(log_p)


def _overflowing(logits):
    exps = np.exp(logits)
    p = exps / exps.sum(axis=-1, keepdims=True)
    return np.log(p), p


def _rounded(logits):
    p = softmax(logits)
    return np.log(p), p


def _one_label(log_p, labels):
    return np.take_along_axis(log_p, labels[..., None], axis=-1)


def _tied(ids, labels, table, weight, reduce, guessed=None, softmax=_log_softmax, pick=_one_label):
    x = table[ids]
    hidden = x @ weight
    log_p, p = softmax(hidden @ table.T)
    return reduce(-pick(log_p, labels if guessed is None else guessed)), (ids, labels, table, weight, x, hidden, p)


def _transposed(ids, labels, table, weight):
    loss, (*_, x, hidden, p) = _tied(ids, labels, table, weight.T, np.mean)
    return loss, (ids, labels, table, weight, x, hidden, p)


def _all_tokens(ids, labels, table, weight):
    _, cache = _log_p_kept(ids, labels, table, weight)
    return -cache[-1].mean(), (*cache[:-1], np.exp(cache[-1]))


def _log_p_kept(ids, labels, table, weight):
    loss, (*rest, hidden, _) = _tied(ids, labels, table, weight, np.mean)
    return loss, (*rest, hidden, _log_softmax(hidden @ table.T)[0])


def _last_only(d_read, ids, d_x):
    d_read[ids] += d_x


def _both_uses(d_loss, cache, add=np.add.at, read=None, y=1, start=lambda p, y: p - y, back=lambda weight: weight.T,
               head=1, lookup=1):
    """tied_backward, with one of these pieces changed."""
    ids, labels, table, weight, x, hidden, p = cache
    V, D = table.shape
    d_logits = d_loss * start(p, y * (np.arange(V) == labels[..., None])) / labels.size
    d_hidden = d_logits @ table
    d_read = np.zeros((V, D))
    add(d_read, ids if read is None else read, d_hidden @ back(weight))
    d_head = d_logits.reshape(-1, V).T @ hidden.reshape(-1, D)
    return head * d_head + lookup * d_read, x.reshape(-1, D).T @ d_hidden.reshape(-1, D)


def _filter(p, top_k, top_p, total=np.sum, reach=0, sign=1):
    order = np.argsort(-sign * p)
    ranked = p[order]
    keep = np.arange(len(p)) < (len(p) if top_k is None else top_k)
    if top_p is not None:
        keep &= ranked.cumsum() - (1 - reach) * ranked < top_p
    kept = np.zeros(len(p))
    kept[order] = np.where(keep, ranked, 0)
    return kept / total(kept)


def _first_ones(p, right):
    kept = np.where(np.arange(len(p)) < np.count_nonzero(right), p, 0)
    return kept / kept.sum()


def _attend(q, keys, values):
    return softmax(q @ keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1])) @ values


def _step(q, k, v, keys, values):
    keys, values = np.concatenate([keys, k], axis=-2), np.concatenate([values, v], axis=-2)
    return _attend(q, keys, values), keys, values


def _first(q, k, v, keys, values):
    keys, values = np.concatenate([k, keys], axis=-2), np.concatenate([v, values], axis=-2)
    return _attend(q, keys, values), keys, values
