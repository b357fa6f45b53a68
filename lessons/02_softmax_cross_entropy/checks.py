"""What `tinymm check 2` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def large_scores(rng):
    return {"x": rng.normal(size=(2, 3, 5)) + np.array([[[0.0], [800.0], [-900.0]]])}


def far_apart(rng):
    """Scores that are so far apart that some p are rounded to 0."""
    x = large_scores(rng)["x"]
    x[:, :, 1] -= 800
    return {"x": x}


def labelled(rng):
    return {"logits": 2 * rng.normal(size=(4, 6)), "labels": rng.integers(6, size=4)}


def labelled_far_apart(rng):
    inputs = labelled(rng)
    inputs["logits"][1] += 900
    inputs["logits"][2, inputs["labels"][2]] -= 800
    return inputs


def log_softmax(x):
    shifted = x - x.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def losses(logits, labels):
    return -log_softmax(logits)[np.arange(len(labels)), labels]


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
    "p": "exp(x) / sum exp(x) along the last axis: each row sums to 1",
    "log_p": "log_softmax of the scores; np.exp(log_p) sums to 1 in each row",
    "losses": "-log p of the label, one number a row",
    "inner": "the sum of p * d_out along the last axis, kept as an axis of size 1",
    "d_x": "p * (d_out - inner); each row sums to 0",
    "y": "1 at the label, and 0 elsewhere",
    "d_logits": "d_loss * (p - y) / N; each row sums to 0",
}

EXERCISES = [
    Exercise(
        1, "softmax_forward", "scores to probabilities", large_scores,
        hints=("Subtract the row's maximum first; keepdims=True keeps its axis.", "exps / exps.sum(axis=-1, keepdims=True)"),
        facts=FACTS,
        mistakes={"the softmax is over the wrong axis: it must be the last": lambda x: (softmax(x, 1),) * 2,
                  "the maximum and the sum are over the whole array; they must be over the last axis":
                  lambda x: (np.exp(x - x.max()) / np.exp(x - x.max()).sum(),) * 2,
                  "the maximum is that of the whole array: rows far below it become 0 / 0; each row needs its own":
                  lambda x: (np.exp(x - x.max()) / np.exp(x - x.max()).sum(axis=-1, keepdims=True),) * 2},
    ),
    Exercise(
        2, "softmax_backward", "its gradient", lambda rng: {"x": rng.normal(size=(2, 3, 5))}, forward="softmax_forward",
        differentiable=("x",),
        hints=("No Jacobian is needed: p * (d_out - inner).", "inner = (p * d_out).sum(axis=-1, keepdims=True)"),
        facts=FACTS,
        mistakes={"the sum of the row is not subtracted: only the diagonal of the Jacobian is there": lambda d_out, p: p * d_out,
                  "this is the slope p (1 - p) of the diagonal only": lambda d_out, p: d_out * p * (1 - p),
                  "p multiplies the whole bracket: p * (d_out - inner)": lambda d_out, p:
                  p * d_out - (p * d_out).sum(axis=-1, keepdims=True),
                  "the factor p before the bracket is missing": lambda d_out, p: d_out - (p * d_out).sum(axis=-1, keepdims=True)},
    ),
    Exercise(
        3, "log_softmax", "log p without p", far_apart,
        hints=("log(exp(a) / b) = a - log b.", "shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))"), facts=FACTS,
        mistakes={"the logarithm of the sum is missing": lambda x: x - x.max(axis=-1, keepdims=True),
                  "p is computed first: where it is rounded to 0, its logarithm is minus infinity": lambda x: np.log(softmax(x)),
                  "the maximum is subtracted within the sum only; it must be subtracted from x too": lambda x:
                  log_softmax(x) + x.max(axis=-1, keepdims=True)},
    ),
    Exercise(
        4, "cross_entropy_forward", "how surprised the model is", labelled_far_apart,
        hints=("Use your log_softmax.", "log_p[np.arange(N), labels] picks one entry of each row."), facts=FACTS,
        mistakes={"the loss is the mean over the rows, not their sum": lambda logits, labels:
                  (losses(logits, labels).sum(), (softmax(logits), labels)),
                  "the mean is missing: the loss is one number": lambda logits, labels:
                  (losses(logits, labels), (softmax(logits), labels)),
                  "log_p[:, labels] takes all labels from every row; one of each row is log_p[np.arange(N), labels]": lambda logits, labels:
                  (-log_softmax(logits)[:, labels].mean(), (softmax(logits), labels)),
                  "p is computed first: where it is rounded to 0, its logarithm is minus infinity": lambda logits, labels:
                  (-np.log(softmax(logits))[np.arange(len(labels)), labels].mean(), (softmax(logits), labels)),
                  "the cache must hold p, not log p": lambda logits, labels:
                  (losses(logits, labels).mean(), (log_softmax(logits), labels)),
                  "the cache must hold p, not the logits": lambda logits, labels:
                  (losses(logits, labels).mean(), (logits, labels)),
                  "the cache is (p, labels), in this order": lambda logits, labels:
                  (losses(logits, labels).mean(), (labels, softmax(logits))),
                  "the sign is missing: log p is negative, the loss is not": lambda logits, labels:
                  (-losses(logits, labels).mean(), (softmax(logits), labels))},
    ),
    Exercise(
        5, "cross_entropy_backward", "p - y", labelled, forward="cross_entropy_forward", differentiable=("logits",),
        hints=("y is 1 at the label of each row: y[np.arange(N), labels] = 1.", "d_loss * (p - y) / N"),
        facts=FACTS | {"p": "it is right as it comes out of the cache, and already a softmax"},
        mistakes={"the division by N is missing: the loss is a mean": lambda d_loss, cache:
                  d_loss * (cache[0] - one_hot(*cache)),
                  "it is y - p; it must be p - y": lambda d_loss, cache:
                  d_loss * (one_hot(*cache) - cache[0]) / len(cache[1]),
                  "d_loss is not used: the chain rule multiplies by it": lambda d_loss, cache:
                  (cache[0] - one_hot(*cache)) / len(cache[1]),
                  "the division is by all entries; it must be by the number of rows": lambda d_loss, cache:
                  d_loss * (cache[0] - one_hot(*cache)) / cache[0].size,
                  "the division is by the number of classes; it must be by the number of rows": lambda d_loss, cache:
                  d_loss * (cache[0] - one_hot(*cache)) / cache[0].shape[1],
                  "this is the gradient of p; the way back goes on through the softmax": lambda d_loss, cache:
                  -d_loss * one_hot(*cache) / cache[0] / len(cache[1])},
    ),
]
