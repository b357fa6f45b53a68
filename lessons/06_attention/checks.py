"""What `tinymm check 6` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def queries_keys(rng):
    return {"q": rng.normal(size=(2, 3, 4, 5)), "k": rng.normal(size=(2, 3, 7, 5))}


def everything(rng):
    allowed = rng.random((2, 1, 4, 7)) < 0.6
    allowed[..., 0] = True                         # every query sees at least one key
    return queries_keys(rng) | {"v": rng.normal(size=(2, 3, 7, 6)), "allowed": allowed}


def sometimes_masked(rng):
    """Some draws have no mask, and scores whose exponentials overflow; the first has neither."""
    plain, given = rng.random() > 0.6, everything(rng)
    return given | {"q": 1000 * given["q"], "allowed": None} if plain else given


def softmax(x, axis=-1):
    exps = np.exp(x - x.max(axis=axis, keepdims=True))
    return exps / exps.sum(axis=axis, keepdims=True)


FACTS = {
    "scores": "scores[t, s] is the dot product of query t and key s, divided by sqrt(d); -inf where it is not allowed",
    "highest": "it is the largest score of each query, kept as an axis of size 1",
    "exps": "they lie between 0 and 1, and the largest of each row is 1",
    "weights": "each row sums to 1, and is 0 where looking is not allowed",
    "out": "weights v: for each query a weighted mean of the values",
    "d_weights": "out = weights v, and for C = A B the gradient of A is dC B^T",
    "d_v": "out = weights v, and for C = A B the gradient of B is A^T dC",
    "mean": "for each query, the sum of weights * d_weights over its keys",
    "d_scores": "weights * (d_weights - mean); then its rows sum to 0",
    "d_q": "scores = q k^T / sqrt(d): the gradient of q is d_scores k / sqrt(d)",
    "d_k": "scores = q k^T / sqrt(d): the gradient of k is d_scores^T q / sqrt(d)",
}

EXERCISES = [
    Exercise(
        1, "causal_mask", "a query sees no later key", lambda rng: {"T": int(rng.integers(4, 8))},
        hints=("np.arange(T) as a column and as a row can be compared.", "The entry (t, s) is True when s <= t.",
               "np.arange(T)[None, :] <= np.arange(T)[:, None]"),
        mistakes={"rows and columns are swapped: the query is the row, the key the column":
                  lambda T: np.triu(np.ones((T, T), bool)),
                  "a query may also see its own key: s <= t, not s < t": lambda T: np.tril(np.ones((T, T), bool), -1),
                  "True means that looking is allowed, not that it is forbidden": lambda T: np.triu(np.ones((T, T), bool), 1),
                  "the entries are True and False, not 0 and -inf": lambda T: np.where(np.tril(np.ones((T, T), bool)), 0, -np.inf)},
    ),
    Exercise(
        2, "attention_scores", "how well a key answers a query",
        lambda rng: {name: value for name, value in sometimes_masked(rng).items() if name != "v"},
        hints=("All leading axes go along by themselves; only the last two of k must be swapped.",
               "k.swapaxes(-1, -2), then @, then the division.", "np.where(allowed, scores, -np.inf) puts in the mask."),
        facts=FACTS,
        mistakes={"allowed may be None, and then all looking is allowed": lambda q, k, allowed:
                  np.where(allowed, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), -np.inf),
                  "the division by sqrt(d) is missing": lambda q, k, allowed:
                  np.where(allowed, q @ k.swapaxes(-1, -2), -np.inf),
                  "it is divided by d, not by sqrt(d)": lambda q, k, allowed:
                  np.where(allowed, q @ k.swapaxes(-1, -2) / q.shape[-1], -np.inf),
                  "the mask is the wrong way round: allowed is True where looking IS allowed": lambda q, k, allowed:
                  np.where(allowed, -np.inf, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])),
                  "a forbidden score must be -inf, not 0: e^0 is 1": lambda q, k, allowed:
                  np.where(allowed, q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1]), 0)},
    ),
    Exercise(
        3, "attention_forward", "softmax(q k^T / sqrt(d)) v", sometimes_masked,
        hints=("Call your attention_scores.", "The softmax is over the keys: axis=-1. Subtract the row's maximum first.",
               "keepdims=True keeps the summed axis, so that the division broadcasts."),
        facts=FACTS,
        mistakes={"the softmax is over the queries (axis -2); it must be over the keys (axis -1)":
                  lambda q, k, v, allowed: _forward(q, k, v, allowed, axis=-2),
                  "the division by sqrt(d) is missing": lambda q, k, v, allowed:
                  _forward(q * np.sqrt(q.shape[-1]), k, v, allowed, cached_q=q),
                  "the cache must hold the weights, not the scores": lambda q, k, v, allowed:
                  _forward(q, k, v, allowed, cached_scores=True),
                  "the mask is not used": lambda q, k, v, allowed: _forward(q, k, v, None),
                  "allowed may be None, and then all looking is allowed": lambda q, k, v, allowed:
                  _forward(q, k, v, False if allowed is None else allowed),
                  "exp overflows for large scores: subtract the largest of each row first": lambda q, k, v, allowed:
                  _forward(q, k, v, allowed, shift=False)},
    ),
    Exercise(
        4, "attention_backward", "the gradients of q, k and v", everything, forward="attention_forward",
        differentiable=("q", "k", "v"),
        hints=("Walk back through the lines of the forward, from the last to the first.",
               "For C = A B: dA = dC B^T and dB = A^T dC. You need it twice.",
               "For the softmax: d_scores = weights * (d_weights - mean), mean = (weights * d_weights).sum(axis=-1, keepdims=True).",
               "Both d_q and d_k are divided by sqrt(d). d_k needs the transpose of d_scores."),
        facts=FACTS,
        mistakes={"the mean is missing: d_scores = weights * (d_weights - mean)": lambda d_out, cache:
                  _backward(d_out, cache, lambda weights, d_weights: weights * d_weights),
                  "the softmax is passed over: d_scores is not d_weights": lambda d_out, cache:
                  _backward(d_out, cache, lambda weights, d_weights: d_weights),
                  "weights * (1 - weights) is the slope of a sigmoid; in a softmax every score acts on all weights of its row":
                  lambda d_out, cache: _backward(d_out, cache, lambda weights, d_weights: weights * (1 - weights) * d_weights),
                  "the division by sqrt(d) is missing": lambda d_out, cache:
                  _backward(d_out, cache, lambda weights, d_weights: np.sqrt(cache[0].shape[-1]) * weights * (
                      d_weights - (weights * d_weights).sum(axis=-1, keepdims=True)))},
    ),
]


def _forward(q, k, v, allowed, axis=-1, cached_q=None, cached_scores=False, shift=True):
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(q.shape[-1])
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)
    weights = softmax(scores, axis) if shift else np.exp(scores) / np.exp(scores).sum(axis=axis, keepdims=True)
    return weights @ v, (q if cached_q is None else cached_q, k, v, scores if cached_scores else weights)


def _backward(d_out, cache, through_softmax):
    q, k, v, weights = cache
    d_scores = through_softmax(weights, d_out @ v.swapaxes(-1, -2)) / np.sqrt(q.shape[-1])
    return d_scores @ k, d_scores.swapaxes(-1, -2) @ q, weights.swapaxes(-1, -2) @ d_out
