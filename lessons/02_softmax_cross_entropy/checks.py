"""What `tinymm check 2` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def large_scores(rng):
    return {"x": rng.normal(size=(2, 3, 5)) + np.array([[[0.0], [800.0], [-900.0]]])}


def labelled(rng):
    return {"logits": 2 * rng.normal(size=(4, 6)), "labels": rng.integers(6, size=4)}


def softmax(x, axis=-1):
    exps = np.exp(x - x.max(axis=axis, keepdims=True))
    return exps / exps.sum(axis=axis, keepdims=True)


def one_hot(p, labels):
    return np.eye(p.shape[-1])[labels]


FACTS = {
    "highest": "the largest score along the last axis, kept as an axis of size 1",
    "shifted": "the scores minus the largest of their row: none is above 0",
    "exps": "none is above 1, and the largest of each row is 1",
    "total": "the sum of the exponentials along the last axis, kept as an axis of size 1",
    "log_total": "the logarithm of the sum of the exponentials, kept as an axis of size 1",
    "p": "each row sums to 1",
    "log_p": "np.exp(log_p) sums to 1 in each row",
    "losses": "-log p of the label, one number a row",
    "inner": "the sum of p * d_out along the last axis, kept as an axis of size 1",
    "d_x": "each row sums to 0",
    "y": "1 at the label, and 0 elsewhere",
    "d_logits": "p - y, divided by the number of rows; each row sums to 0",
}

EXERCISES = [
    Exercise(
        1, "softmax_forward", "scores to probabilities", large_scores,
        hints=("Subtract the row's maximum first; keepdims=True keeps its axis.", "exps / exps.sum(axis=-1, keepdims=True)"),
        facts=FACTS,
        mistakes={"the softmax is over the wrong axis: it must be the last": lambda x: (softmax(x, 1),) * 2,
                  "the maximum and the sum are over the whole array; they must be over the last axis":
                  lambda x: (np.exp(x - x.max()) / np.exp(x - x.max()).sum(),) * 2},
    ),
    Exercise(
        2, "softmax_backward", "its gradient", lambda rng: {"x": rng.normal(size=(2, 3, 5))}, forward="softmax_forward",
        differentiable=("x",),
        hints=("No Jacobian is needed: p * (d_out - inner).", "inner = (p * d_out).sum(axis=-1, keepdims=True)"),
        facts=FACTS,
        mistakes={"the sum of the row is not subtracted: only the diagonal of the Jacobian is there": lambda d_out, p: p * d_out,
                  "this is the slope p (1 - p) of the diagonal only": lambda d_out, p: d_out * p * (1 - p)},
    ),
    Exercise(
        3, "log_softmax", "log p without p", large_scores,
        hints=("log(exp(a) / b) = a - log b.", "shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))"), facts=FACTS,
        mistakes={"the logarithm of the sum is missing": lambda x: x - x.max(axis=-1, keepdims=True)},
    ),
    Exercise(
        4, "cross_entropy_forward", "how surprised the model is", labelled,
        hints=("Use your log_softmax.", "log_p[np.arange(N), labels] picks one entry of each row."), facts=FACTS,
        mistakes={"the loss is the mean over the rows, not their sum": lambda logits, labels:
                  (-np.log(softmax(logits))[np.arange(len(labels)), labels].sum(), (softmax(logits), labels)),
                  "log_p[:, labels] takes all labels from every row; one of each row is log_p[np.arange(N), labels]": lambda logits, labels:
                  (-np.log(softmax(logits))[:, labels].mean(), (softmax(logits), labels)),
                  "the cache must hold p, not log p": lambda logits, labels:
                  (-np.log(softmax(logits))[np.arange(len(labels)), labels].mean(), (np.log(softmax(logits)), labels)),
                  "the sign is missing: log p is negative, the loss is not": lambda logits, labels:
                  (np.log(softmax(logits))[np.arange(len(labels)), labels].mean(), (softmax(logits), labels))},
    ),
    Exercise(
        5, "cross_entropy_backward", "p - y", labelled, forward="cross_entropy_forward", differentiable=("logits",),
        hints=("y is 1 at the label of each row: y[np.arange(N), labels] = 1.", "d_loss * (p - y) / N"), facts=FACTS,
        mistakes={"the division by N is missing: the loss is a mean": lambda d_loss, cache:
                  d_loss * (cache[0] - one_hot(*cache)),
                  "it is y - p; it must be p - y": lambda d_loss, cache:
                  d_loss * (one_hot(*cache) - cache[0]) / len(cache[1]),
                  "d_loss is not used: the chain rule multiplies by it": lambda d_loss, cache:
                  (cache[0] - one_hot(*cache)) / len(cache[1]),
                  "the division is by all entries; it must be by the number of rows": lambda d_loss, cache:
                  d_loss * (cache[0] - one_hot(*cache)) / cache[0].size},
    ),
]
