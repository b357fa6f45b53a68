"""What `tinymm check 5` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def sequence(rng):
    return {"x": rng.normal(size=(3, 5, 2)), "weight_x": rng.normal(size=(2, 4)), "weight_h": rng.normal(size=(4, 4)) / 2,
            "bias": rng.normal(size=4)}


def cell(rng):
    return {"x": rng.normal(size=(3, 5)), "h": rng.normal(size=(3, 4)), "c": rng.normal(size=(3, 4)), "weight_x": rng.normal(size=(5, 16)) / 2,
            "weight_h": rng.normal(size=(4, 16)) / 2, "bias": rng.normal(size=16)}


def answers(rng):
    return {"logits": 2 * rng.normal(size=7), "targets": rng.random(7)}


def sure_answers(rng):
    inputs = answers(rng)
    inputs["logits"][:4] = [1000, -1000, 800, -800]
    inputs["targets"][:4] = [1, 0, 0, 1]
    return inputs


def sigmoid(z):
    return 0.5 * (1 + np.tanh(z / 2))


FACTS = {
    "states": "zeros first, then tanh(x_t W_x + h_(t-1) W_h + b) for each word",
    "z": "x W_x + h W_h + b, with the state before the step",
    "i": "the sigmoid of the first quarter of z",
    "f": "the sigmoid of the second quarter of z",
    "g": "the tanh, not the sigmoid, of the third quarter of z",
    "o": "the sigmoid of the last quarter of z",
    "new_c": "f c + i g: what is kept, plus what is written",
    "tanh_c": "the tanh of the new memory",
    "new_h": "o times the tanh of the new memory",
    "d_o": "h' = o tanh(c'), so it is d_new_h * tanh_c",
    "d_memory": "c' goes two ways: d_new_c from the next step, and d_new_h * o * (1 - tanh_c**2) through h'",
    "d_f": "c' = f c + i g, so it is d_memory * c",
    "d_c": "c' = f c + i g, so it is d_memory * f",
    "d_i": "c' = f c + i g, so it is d_memory * g",
    "d_g": "c' = f c + i g, so it is d_memory * i",
    "d_z": "the slope of a sigmoid s is s (1 - s), that of a tanh t is 1 - t^2; the order is i, f, g, o",
    "d_x": "z = x W_x + ..., so it is d_z W_x^T",
    "d_h": "z = h W_h + ..., so it is d_z W_h^T",
    "d_weight_x": "x^T d_z",
    "d_weight_h": "h^T d_z, with the state before the step",
    "d_bias": "every text used the bias: the sum of d_z over the batch",
    "positive": "max(z, 0)",
    "log_sum": "log(1 + e^-|z|), between 0 and log 2",
    "losses": "never negative; log 2 where z is 0",
    "p": "the sigmoid of the logits",
    "d_logits": "d_loss (p - y) / N",
}
THROUGH_TIME = {
    "d_x": "d_x[:, t] is d_z W_x^T, for each time",
    "d_weight_x": "the sum over all times of x_t^T d_z",
    "d_weight_h": "the sum over all times of h_(t-1)^T d_z, with the state before the step, states[:, t]",
    "d_bias": "the sum of d_z over the batch and all times",
    "d_h": "what comes back from the next step plus d_out[:, t]; then d_z W_h^T goes on to the step before",
    "d_z": "d_h times the slope of the tanh, 1 - h_t^2, with the state after the step, states[:, t + 1]",
}

EXERCISES = [
    Exercise(
        1, "rnn_forward", "word by word", sequence,
        hints=("states = np.zeros((B, T + 1, D)): the first state is that before the first word.",
               "In a loop over t: states[:, t + 1] = np.tanh(x[:, t] @ weight_x + states[:, t] @ weight_h + bias).", "out is states[:, 1:]."),
        facts=FACTS | {"z": "x_t W_x + h_(t-1) W_h + b"},
        mistakes={"the tanh is missing": lambda x, weight_x, weight_h, bias: _rnn(x, weight_x, weight_h, bias, bend=lambda z: z),
                  "the state before the step is not used": lambda x, weight_x, weight_h, bias: _rnn(x, weight_x, 0 * weight_h, bias, keep=weight_h),
                  "the state is multiplied by W_h, not by its transpose":
                  lambda x, weight_x, weight_h, bias: _rnn(x, weight_x, weight_h.T, bias, keep=weight_h)},
    ),
    Exercise(
        2, "rnn_backward", "back through time", sequence, forward="rnn_forward", differentiable=("x", "weight_x", "weight_h", "bias"),
        hints=("for t in reversed(range(T)): first d_h = d_h + d_out[:, t].", "d_z = d_h * (1 - states[:, t + 1]**2), with the state after the step.",
               "The weights were used at each step: d_weight_x += x[:, t].T @ d_z, d_weight_h += states[:, t].T @ d_z.",
               "At the end of each turn d_h = d_z @ weight_h.T goes on to the step before."),
        facts=THROUGH_TIME,
        mistakes={"what comes back from the next step is missing: d_h = d_h + d_out[:, t]": lambda d_out, cache: _back(d_out, cache, chain=0),
                  "the weights' gradients are sums over all times: += instead of =": lambda d_out, cache: _back(d_out, cache, total=False),
                  "d_out of each time must be added, not only that of the last word": lambda d_out, cache: _back(d_out, cache, last_only=True)},
    ),
    Exercise(
        3, "lstm_cell_forward", "keep, write, show", cell,
        hints=("z = x @ weight_x + h @ weight_h + bias, and then its quarters: z[:, :D], z[:, D:2 * D] ...",
               "Three sigmoids and, for g, a tanh.", "new_c = f * c + i * g; new_h = o * np.tanh(new_c)"),
        facts=FACTS,
        mistakes={"input and forget gate are swapped: the order is i, f, g, o": lambda **inputs: _cell(**inputs, order=(1, 0, 2, 3)),
                  "candidate and output gate are swapped: the order is i, f, g, o": lambda **inputs: _cell(**inputs, order=(0, 1, 3, 2)),
                  "the candidate g is a tanh, not a sigmoid": lambda **inputs: _cell(**inputs, bend=sigmoid),
                  "the state shows the tanh of the memory, not the memory itself": lambda **inputs: _cell(**inputs, shown=lambda c: c)},
    ),
    Exercise(
        4, "lstm_cell_backward", "the gradient's free way", cell, forward="lstm_cell_forward",
        differentiable=("x", "h", "c", "weight_x", "weight_h", "bias"),
        hints=("Walk back through the lines of the forward: h' first, then c', then the gates, then the two products.",
               "c' goes two ways: d_memory = d_new_c + d_new_h * o * (1 - tanh_c**2).",
               "In f c + i g each factor gets d_memory times its partner.",
               "Before the bends: d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g**2), d_o * o * (1 - o), side by side in d_z."),
        facts=FACTS,
    ),
    Exercise(
        5, "binary_cross_entropy_forward", "yes or no", sure_answers,
        hints=("Use the stable form, in three lines and a mean.", "np.log1p(u) is log(1 + u); u is np.exp(-np.abs(logits))."),
        facts=FACTS,
        mistakes={"the loss is the mean, not the sum": lambda logits, targets: (_losses(logits, targets).sum(), (logits, targets)),
                  "yes and no are swapped: the middle term is -z y": lambda logits, targets: (_losses(-logits, targets).mean(), (logits, targets)),
                  "it is log(1 + e^-|z|), with a minus": lambda logits, targets: (
                      (np.maximum(logits, 0) - logits * targets + np.logaddexp(0, np.abs(logits))).mean(), (logits, targets))},
    ),
    Exercise(
        6, "binary_cross_entropy_backward", "p - y once more", answers, forward="binary_cross_entropy_forward", differentiable=("logits",),
        hints=("p is the sigmoid of the logits; sigmoid is given.", "d_loss times (p - y), divided by the number of answers."),
        facts=FACTS,
        mistakes={"the slope of the sigmoid is in p - y already: do not multiply by p (1 - p) again": lambda d_loss, cache:
                  d_loss * (sigmoid(cache[0]) - cache[1]) * sigmoid(cache[0]) * (1 - sigmoid(cache[0])) / len(cache[0]),
                  "p is the sigmoid of the logits, not the logits": lambda d_loss, cache: d_loss * (cache[0] - cache[1]) / len(cache[0])},
    ),
]


def _rnn(x, weight_x, weight_h, bias, bend=np.tanh, keep=None):
    states = np.zeros((len(x), x.shape[1] + 1, len(weight_h)))
    for t in range(x.shape[1]):
        states[:, t + 1] = bend(x[:, t] @ weight_x + states[:, t] @ weight_h + bias)
    return states[:, 1:], (x, states, weight_x, weight_h if keep is None else keep)


def _back(d_out, cache, chain=1, total=True, last_only=False):
    x, states, weight_x, weight_h = cache
    d_x, sums, d_h = np.zeros_like(x), [0, 0, 0], np.zeros_like(states[:, 0])
    for t in reversed(range(x.shape[1])):
        d_h = chain * d_h + (0 if last_only and t < x.shape[1] - 1 else d_out[:, t])
        d_z = d_h * (1 - states[:, t + 1]**2)
        d_x[:, t] = d_z @ weight_x.T
        parts = (x[:, t].T @ d_z, states[:, t].T @ d_z, d_z.sum(axis=0))
        sums = [total * a + b for a, b in zip(sums, parts)]
        d_h = d_z @ weight_h.T
    return d_x, *sums


def _cell(x, h, c, weight_x, weight_h, bias, order=(0, 1, 2, 3), bend=np.tanh, shown=np.tanh):
    quarters = np.split(x @ weight_x + h @ weight_h + bias, 4, axis=-1)
    i, f, g, o = (quarters[place] for place in order)
    i, f, g, o = sigmoid(i), sigmoid(f), bend(g), sigmoid(o)
    new_c = f * c + i * g
    return (o * shown(new_c), new_c), (x, h, c, weight_x, weight_h, i, f, g, o, shown(new_c))


def _losses(logits, targets):
    return np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))
