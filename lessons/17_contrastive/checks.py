"""What `tinymm check 17` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def lengths(rng):
    """Vectors of very different lengths."""
    return {"x": rng.uniform(0.2, 3, (3, 4, 1)) * rng.normal(size=(3, 4, 5))}


def unit(x):
    return x / np.sqrt((x * x).sum(axis=-1, keepdims=True))


def pairs(rng):
    return {"a": unit(rng.normal(size=(6, 4))), "b": unit(rng.normal(size=(6, 4))), "log_scale": np.array(rng.uniform(0.5, 1.5))}


def sometimes_sure(rng):
    """After the first draws one with a scale in the thousands."""
    given = pairs(rng)
    return given | {"log_scale": np.array(7.5)} if rng.random() > 0.6 else given


def texts(rng):
    """Padding, words that repeat within a text and between texts, and two words that no text has."""
    return {"ids": np.array([[3, 1, 3, 0, 0], [1, 0, 0, 0, 0], [2, 6, 4, 4, 1], [6, 3, 0, 0, 0]])[rng.permutation(4)],
            "table": rng.normal(size=(8, 3))}


def ties(rng):
    """Many ties, more queries than items, and a k that is neither 1 nor all.

    Each row is there nine times, once with each item as the right one. So every way to sort finds k of 9, however it orders ties.
    """
    rows, order = np.floor(8 * rng.random((34, 9))**2) / 10, rng.permutation(34 * 9)
    return {"similarity": np.repeat(rows, 9, axis=0)[order], "right": np.tile(np.arange(9), 34)[order], "k": int(rng.integers(2, 5))}


FACTS = {
    "along": "for each vector the sum of d_unit * unit over the last axis, kept as an axis of size 1",
    "d_x": "(d_unit - unit * along) / length; then the dot product of each d_x with its x is 0",
    "cosines": "cosines[i, j] is the dot product of a[i] and b[j]",
    "logits": "e^log_scale times the cosines",
    "log_p": "the logarithm of the softmax of each row: exp(log_p) sums to 1 over axis 1; no p may be rounded, cut off or raised on the way",
    "log_q": "the logarithm of the softmax of each column: exp(log_q) sums to 1 over axis 0; no q may be rounded, cut off or raised on the way",
    "d_logits": "d_loss (p + q - 2 I) / (2 B); it is negative on the diagonal only, and all of it sums to 0",
    "d_cosines": "logits = scale cosines: scale times d_logits",
    "d_a": "cosines = a b^T: d_cosines b",
    "d_b": "cosines = a b^T: d_cosines^T a",
    "d_log_scale": "e^log_scale is its own slope: the sum of d_logits * logits",
    "d_mean": "what l2_normalize_backward makes of d_unit",
    "d_words": "each word gets its share of d_mean: shares[i, t] d_mean[i]; padding gets 0",
    "d_table": "each row gets the sum over all places where its word stands",
    "own": "own[i, 0] is similarity[i, right[i]]: a column (N, 1)",
    "rank": "the number of items at least as similar as the right one, itself included",
}


# ---- the exercises with a mistake in them ---------------------------------------------------------------------------


def _log_softmax(x, axis):
    shifted = x - x.max(axis=axis, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _forward(scale=np.exp, product=lambda a, b: a @ b.T, p_axis=1, q_axis=0, log_softmax=_log_softmax,
             total=lambda p, q: -(np.diag(p) + np.diag(q)).mean() / 2,
             kept=lambda log_scale, scale, logits, p, q: (scale, logits, np.exp(p), np.exp(q))):
    """info_nce_forward, with one of these pieces changed."""
    def wrong(a, b, log_scale):
        s = scale(log_scale)
        logits = s * product(a, b)
        log_p, log_q = log_softmax(logits, p_axis), log_softmax(logits, q_axis)
        return total(log_p, log_q), (a, b, *kept(log_scale, s, logits, log_p, log_q))
    return wrong


def _log_of_softmax(x, axis):
    exps = np.exp(x - x.max(axis=axis, keepdims=True))
    return np.log(exps / exps.sum(axis=axis, keepdims=True))


def _naive(x, axis):
    return np.log(np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True))


def _with_floor(x, axis):
    return np.log(np.exp(_log_softmax(x, axis)) + 1e-12)


def _largest_of_all(x, axis):
    shifted = x - x.max()
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))


def _plain(x, axis):
    return x - np.log(np.exp(x).sum(axis=axis, keepdims=True))


def _backward(through=lambda p, q, I: p + q - 2 * I, divisor=lambda B: 2 * B, loss=lambda d_loss: d_loss, d_a=lambda d, a, b, s: s * d @ b,
              d_b=lambda d, a, b, s: s * d.T @ a, d_scale=lambda d, logits, s: (d * logits).sum(), order=(0, 1, 2)):
    """info_nce_backward, with one of these pieces changed."""
    def wrong(d_loss, cache):
        a, b, s, logits, p, q = cache
        d = loss(d_loss) * through(p, q, np.eye(len(a))) / divisor(len(a))
        results = d_a(d, a, b, s), d_b(d, a, b, s), d_scale(d, logits, s)
        return tuple(results[place] for place in order)
    return wrong


def _unit_back(d_unit, cache, along=lambda d, unit, length: (d * unit).sum(axis=-1, keepdims=True), sign=-1, divide=lambda length: length):
    unit, length = cache
    return (d_unit + sign * unit * along(d_unit, unit, length)) / divide(length)


def _tower_back(through=_unit_back, share=lambda ids, shares: shares, scatter=np.add.at):
    """text_tower_backward, with one of these pieces changed."""
    def wrong(d_unit, cache):
        ids, shares, table, unit_cache = cache
        d_words = share(ids, shares)[..., None] * through(d_unit, unit_cache)[:, None]
        d_table = np.zeros_like(table)
        scatter(d_table, ids, d_words)
        return d_table
    return wrong


def _add_once(table, ids, values):
    table[ids] += values


def _add_once_per_text(table, ids, values):
    for row, parts in zip(ids, values):
        table[row] += parts


def _recall(rank=lambda s, own: (s >= own).sum(axis=1), inside=lambda rank, k: rank <= k, total=np.mean,
            own=lambda s, right: s[np.arange(len(s)), right][:, None]):
    """recall_at_k, with one of these pieces changed."""
    return lambda similarity, right, k: total(inside(rank(similarity, own(similarity, right)), k))


def _by_argsort(similarity, right, k):
    return (np.argsort(-similarity, axis=1)[:, :k] == right[:, None]).any(axis=1).mean()


EXERCISES = [
    Exercise(
        1, "l2_normalize_backward", "without the radial part", lengths, forward="l2_normalize_forward", differentiable=("x",),
        hints=("Which part of d_unit does nothing? Stretching x does not change unit.",
               "along = (d_unit * unit).sum(axis=-1, keepdims=True) is a dot product for each vector.",
               "d_x = (d_unit - unit * along) / length"),
        facts=FACTS,
        mistakes={
            "the length depends on x, too, so the radial part must be taken out: d_unit - unit * along": lambda d_unit, cache:
                _unit_back(d_unit, cache, sign=0),
            "the radial part is taken out, not added: minus, not plus": lambda d_unit, cache: _unit_back(d_unit, cache, sign=1),
            "the division by length is missing": lambda d_unit, cache: _unit_back(d_unit, cache, divide=lambda length: 1),
            "it is divided by length, not multiplied": lambda d_unit, cache: _unit_back(d_unit, cache, divide=lambda length: 1 / length),
            "it is divided by length, not by its square": lambda d_unit, cache: _unit_back(d_unit, cache, divide=lambda length: length**2),
            "along is a sum over the entries of a vector, not their mean": lambda d_unit, cache: _unit_back(
                d_unit, cache, along=lambda d, unit, length: (d * unit).mean(axis=-1, keepdims=True)),
            "the radial part is divided by length, too (are there brackets?), and along is the dot product with unit, not with x":
                lambda d_unit, cache: _unit_back(d_unit, cache, along=lambda d, unit, length: (d * unit * length).sum(axis=-1, keepdims=True)),
            "each vector for itself: the sum is over the last axis": lambda d_unit, cache: _unit_back(
                d_unit, cache, along=lambda d, unit, length: (d * unit).sum()),
        },
    ),
    Exercise(
        2, "info_nce_forward", "which name, which drawing?", sometimes_sure,
        hints=("logits = scale * (a @ b.T). Its rows and its columns are two cross-entropies, each with the diagonal as its labels.",
               "log_softmax: subtract the largest (keepdims=True), then subtract the logarithm of the sum of the exponentials.",
               "log_p over axis=1, log_q over axis=0; loss = -(np.diag(log_p) + np.diag(log_q)).mean() / 2",
               "The cache holds p and q: np.exp(log_p), np.exp(log_q)."),
        facts=FACTS,
        mistakes={
            "only the rows are asked; the columns are the other half": _forward(total=lambda p, q: -np.diag(p).mean()),
            "only the columns are asked; the rows are the other half": _forward(total=lambda p, q: -np.diag(q).mean()),
            "q is the softmax of the columns: over axis 0": _forward(q_axis=1),
            "p is the softmax of the rows, over axis 1, and q that of the columns, over axis 0; yours are exchanged":
                _forward(p_axis=0, q_axis=1),
            "it is the mean over the pairs, not the sum": _forward(total=lambda p, q: -(np.diag(p) + np.diag(q)).sum() / 2),
            "it is the mean of the two directions: a division by 2 is missing": _forward(total=lambda p, q: -(np.diag(p) + np.diag(q)).mean()),
            "only the diagonal belongs together: np.diag": _forward(total=lambda p, q: -(p + q).mean() / 2),
            "minus is missing: the logarithm of a probability is negative": _forward(total=lambda p, q: (np.diag(p) + np.diag(q)).mean() / 2),
            "the scale is e^log_scale": _forward(scale=lambda log_scale: log_scale),
            "the logits are multiplied by the scale, not divided": _forward(
                scale=lambda log_scale: np.exp(-log_scale),
                kept=lambda log_scale, s, logits, p, q: (np.exp(log_scale), logits, np.exp(p), np.exp(q))),
            "the scale is missing in the logits": _forward(
                scale=lambda log_scale: 1.0, kept=lambda log_scale, s, logits, p, q: (np.exp(log_scale), logits, np.exp(p), np.exp(q))),
            "a row is a drawing, a column a name: a @ b.T, not b @ a.T": _forward(product=lambda a, b: b @ a.T),
            "the cache must hold p and q, not their logarithms": _forward(kept=lambda log_scale, s, logits, p, q: (s, logits, p, q)),
            "the cache must hold the scale, not its logarithm": _forward(
                kept=lambda log_scale, s, logits, p, q: (log_scale, logits, np.exp(p), np.exp(q))),
            "the cache must hold the logits, with the scale in them": _forward(
                kept=lambda log_scale, s, logits, p, q: (s, logits / s, np.exp(p), np.exp(q))),
            "exp overflows for large logits: subtract the largest of each row or column first": _forward(log_softmax=_plain),
            "exp overflows for large logits: subtract the largest first, and compute log_softmax without the division":
                _forward(log_softmax=_naive),
            "a probability that is rounded to 0 has no logarithm: compute log_softmax directly": _forward(log_softmax=_log_of_softmax),
            "a small number added to p, or a limit below it, makes a large loss too small: compute log_softmax directly":
                _forward(log_softmax=_with_floor),
            "subtract the largest of each row or column, not the largest of all: else a whole row may be rounded to 0":
                _forward(log_softmax=_largest_of_all),
        },
    ),
    Exercise(
        3, "info_nce_backward", "towards its own, away from the others", pairs, forward="info_nce_forward",
        differentiable=("a", "b", "log_scale"),
        hints=("For a cross-entropy the gradient of the logits is p - y. Here y is the identity, and there are two of them.",
               "d_logits = d_loss * (p + q - 2 * np.eye(B)) / (2 * B)",
               "logits = scale * cosines with scale = e^log_scale. So d_cosines = scale * d_logits; and d_log_scale is a sum over all entries.",
               "cosines = a @ b.T: d_a = d_cosines @ b, d_b = d_cosines.T @ a. And d_log_scale = (d_logits * logits).sum()."),
        facts=FACTS,
        mistakes={
            "there are two labels on the diagonal, one of the rows and one of the columns: minus 2 I": _backward(through=lambda p, q, I: p + q - I),
            "the labels are missing: minus 2 I": _backward(through=lambda p, q, I: p + q),
            "each of the two has its label once: p - I + q - I": _backward(through=lambda p, q, I: p + q - 4 * I),
            "I is 1 on the diagonal only": _backward(through=lambda p, q, I: p + q - 2),
            "p (1 - p) is the slope of a sigmoid; softmax and cross-entropy together have p - y": _backward(
                through=lambda p, q, I: p * (1 - p) + q * (1 - q) - 2 * I),
            "the scale comes in with d_cosines, once; d_logits is without it": _backward(
                d_a=lambda d, a, b, s: s * s * d @ b, d_b=lambda d, a, b, s: s * s * d.T @ a, d_scale=lambda d, logits, s: s * (d * logits).sum()),
            "only the rows: q - I is missing": _backward(through=lambda p, q, I: p - I),
            "only the columns: p - I is missing": _backward(through=lambda p, q, I: q - I),
            "q has the places of the logits already: no transpose": _backward(through=lambda p, q, I: p + q.T - 2 * I),
            "only the sign is wrong: p - y": _backward(through=lambda p, q, I: 2 * I - p - q),
            "the loss is a mean over B pairs: divide by 2 B": _backward(divisor=lambda B: 2),
            "the loss is a mean of two directions: divide by 2 B": _backward(divisor=lambda B: B),
            "the division by 2 B is missing": _backward(divisor=lambda B: 1),
            "d_logits has B * B entries, but the mean was over B pairs: divide by 2 B": _backward(divisor=lambda B: 2 * B * B),
            "d_loss is missing": _backward(loss=lambda d_loss: 1),
            "the scale is missing in d_a and d_b": _backward(d_a=lambda d, a, b, s: d @ b, d_b=lambda d, a, b, s: d.T @ a),
            "the scale is missing in d_a": _backward(d_a=lambda d, a, b, s: d @ b),
            "the scale is missing in d_b": _backward(d_b=lambda d, a, b, s: d.T @ a),
            "d_a and d_b are multiplied by the scale, not divided": _backward(
                d_a=lambda d, a, b, s: d @ b / s, d_b=lambda d, a, b, s: d.T @ a / s),
            "d_b needs the transpose: d_cosines.T @ a": _backward(d_b=lambda d, a, b, s: s * d @ a),
            "d_a is made of the names, d_b of the drawings: d_cosines @ b": _backward(d_a=lambda d, a, b, s: s * d @ a),
            "that is the gradient of the scale; that of its logarithm is the scale times as large": _backward(
                d_scale=lambda d, logits, s: (d * logits).sum() / s),
            "the logits contain the scale already: one factor too many in d_log_scale": _backward(
                d_scale=lambda d, logits, s: (d * logits).sum() * s),
            "d_log_scale is a sum over all pairs, not a mean": _backward(d_scale=lambda d, logits, s: (d * logits).mean()),
            "d_log_scale takes all pairs, not the diagonal alone": _backward(d_scale=lambda d, logits, s: np.trace(d * logits)),
            "the results stand in the order d_a, d_b, d_log_scale": _backward(order=(1, 0, 2)),
            "d_a and d_b come first, then d_log_scale": _backward(order=(2, 0, 1)),
        },
    ),
    Exercise(
        4, "text_tower_backward", "back to the words", texts, forward="text_tower_forward", differentiable=("table",),
        hints=("Three lines of the forward, three of the backward: the normalisation, the mean, the lookup.",
               "d_mean = l2_normalize_backward(d_unit, unit_cache); d_words[i, t] = shares[i, t] * d_mean[i].",
               "shares[..., None] * d_mean[:, None] has the shape (B, T, D).",
               "The lookup's backward is the scatter-add of chapter 4: np.add.at(d_table, ids, d_words)."),
        facts=FACTS,
        mistakes={
            "the normalisation is passed over: d_mean is not d_unit": _tower_back(through=lambda d_unit, cache: d_unit),
            "each word has only its share in the mean": _tower_back(share=lambda ids, shares: np.ones(ids.shape)),
            "each real word has only its share in the mean: shares, not 1": _tower_back(share=lambda ids, shares: 1.0 * (ids != 0)),
            "the mean is over the real words, not over all T places": _tower_back(share=lambda ids, shares: np.full(ids.shape, 1 / ids.shape[1])),
            "a row that is named several times in one line, with = or +=, keeps only the last: np.add.at": _tower_back(scatter=_add_once),
            "a word may stand twice in one text, and += keeps only the last: np.add.at": _tower_back(scatter=_add_once_per_text),
            "is l2_normalize_backward right? The radial part must be gone": _tower_back(
                through=lambda d_unit, cache: _unit_back(d_unit, cache, sign=0)),
        },
    ),
    Exercise(
        5, "recall_at_k", "among the first k", ties,
        hints=("similarity[np.arange(N), right] picks one entry of each row.",
               "The rank is the number of items of the row that are at least as similar as the right one, itself included.",
               "rank = (similarity >= own).sum(axis=1), with own as a column; then (rank <= k).mean()."),
        facts=FACTS,
        mistakes={
            "an item that is as similar as the right one counts as before it: >=, not >": _recall(rank=lambda s, own: (s > own).sum(axis=1) + 1),
            "the best rank is 1, and rank k still is among the first k: >= counts the right item already": _recall(inside=lambda rank, k: rank < k),
            "the best rank is 1, not 0: one item too many is let in": _recall(rank=lambda s, own: (s >= own).sum(axis=1) - 1),
            "the most similar come first: >=, not <=": _recall(rank=lambda s, own: (s <= own).sum(axis=1)),
            "it is the share of the queries, not their number": _recall(total=np.sum),
            "one number is wanted, the share of the queries: .mean()": _recall(total=lambda inside: inside),
            "an argsort puts ties in any order, but they count against us: compare with the right item's similarity": _by_argsort,
            "the right item of row i is in column right[i]; yours is in column i": _recall(
                own=lambda s, right: s[np.arange(len(s)), np.arange(len(s)) % s.shape[1]][:, None]),
            "only the first item is looked at: k is not used": _recall(inside=lambda rank, k: rank <= 1),
        },
    ),
]
