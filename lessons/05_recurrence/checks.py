"""What `tinymm check 5` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def sequence(rng):
    return {"x": rng.normal(size=(3, 5, 2)), "weight_x": rng.normal(size=(2, 4)), "weight_h": rng.normal(size=(4, 4)) / 2,
            "bias": rng.normal(size=4)}


def cell(rng):
    return {"x": rng.normal(size=(3, 5)), "h": rng.normal(size=(3, 4)), "c": rng.normal(size=(3, 4)),
            "weight_x": rng.normal(size=(5, 16)) / 2, "weight_h": rng.normal(size=(4, 16)) / 2, "bias": rng.normal(size=16)}


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
    "i": "the sigmoid of the first quarter of z, z[:, :D]",
    "f": "the sigmoid of the second quarter of z, z[:, D:2 * D]",
    "g": "the tanh, not the sigmoid, of the third quarter of z, z[:, 2 * D:3 * D]",
    "o": "the sigmoid of the last quarter of z, z[:, 3 * D:]",
    "new_c": "f c + i g: what is kept, plus what is written",
    "tanh_c": "the tanh of the new memory",
    "new_h": "o times the tanh of the new memory",
    "d_new_h": "d_out is (d_new_h, d_new_c), in this order",
    "d_new_c": "d_out is (d_new_h, d_new_c), in this order",
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
    "positive": "max(z, 0), for each logit",
    "log_sum": "log(1 + e^-|z|), between 0 and log 2",
    "losses": "max(z, 0) - z y + log_sum, straight from the logits: never negative; log 2 where z is 0",
    "p": "the sigmoid of the logits",
    "d_logits": "d_loss (p - y) / N",
}
THROUGH_TIME = {
    "d_z": "(compared at the first word, where the walk ends; if an error stopped the loop before that, mend only the error) d_h "
           "times the slope of the tanh, 1 - states[:, t + 1]**2, where d_h is d_out[:, t] plus from_next, which is d_z W_h^T of "
           "the step after",
    "from_next": "(compared at the first word, where the walk ends) d_z W_h^T, what goes back to the step before",
    "d_x": "d_x[:, t] is d_z W_x^T, for each time",
    "d_weight_x": "the sum over all times of x_t^T d_z",
    "d_weight_h": "the sum over all times of h_(t-1)^T d_z, with the state before the step, states[:, t]",
    "d_bias": "the sum of d_z over the batch and all times",
}


def from_cache(names):
    """A fact about everything that a backward takes out of its cache."""
    return dict.fromkeys(names.split(", "), f"it comes from the cache, ({names}) in this order, unchanged")


def sigmoid_slope(s):
    return s * (1 - s)


def tanh_slope(t):
    return 1 - t**2


# ---- the exercises with a mistake in them ---------------------------------------------------------------------------


def _right(x, h, weight_h, bias):
    return np.tanh(x + h @ weight_h + bias)


def _rnn(step, begin=np.zeros, result=lambda states, cache: (states[:, 1:], cache)):
    """rnn_forward, with another step or another result."""
    def wrong(x, weight_x, weight_h, bias):
        states = begin((len(x), x.shape[1] + 1, len(weight_h)))
        for t in range(x.shape[1]):
            states[:, t + 1] = step(x[:, t] @ weight_x, states[:, t], weight_h, bias)
        return result(states, (x, states, weight_x, weight_h))
    return wrong


def _back(chain=lambda d_h, d_z, weight_h: d_z @ weight_h.T, slope=lambda before, after: tanh_slope(after), total=True,
          d_of=lambda d_out, t: d_out[:, t], late=False, state=0, order=(0, 1, 2, 3), times=lambda T: reversed(range(T)),
          bias=lambda d_z: d_z.sum(axis=0)):
    """rnn_backward, with one of these pieces changed."""
    def wrong(d_out, cache):
        x, states, weight_x, weight_h = cache
        d_x, sums, from_next = np.zeros_like(x), [0, 0, 0], np.zeros_like(states[:, 0])
        for t in times(x.shape[1]):
            d_h = d_of(d_out, t) + (0 if late else from_next)
            d_z = d_h * slope(states[:, t], states[:, t + 1]) + (from_next if late else 0)
            d_x[:, t] = d_z @ weight_x.T
            parts = (x[:, t].T @ d_z, states[:, t + state].T @ d_z, bias(d_z))
            sums = [total * a + b for a, b in zip(sums, parts)]
            from_next = chain(d_h, d_z, weight_h)
        results = (d_x, *sums)
        return tuple(results[place] for place in order)
    return wrong


def _cell(order=(0, 1, 2, 3), bends=(sigmoid, sigmoid, np.tanh, sigmoid), memory=lambda h, c, i, f, g: f * c + i * g,
          tanh=lambda c, new_c: np.tanh(new_c), show=lambda o, tanh_c, new_c: o * tanh_c, sum_up=lambda x, h, c, b: x + h + b,
          quarters=lambda z: np.split(z, 4, axis=-1), result=lambda new_h, new_c, cache: ((new_h, new_c), cache)):
    """lstm_cell_forward, with one of these pieces changed."""
    def wrong(x, h, c, weight_x, weight_h, bias):
        parts = quarters(sum_up(x @ weight_x, h @ weight_h, c @ weight_h, bias))
        i, f, g, o = (bend(parts[place]) for bend, place in zip(bends, order))
        new_c = memory(h, c, i, f, g)
        tanh_c = tanh(c, new_c)
        return result(show(o, tanh_c, new_c), new_c, (x, h, c, weight_x, weight_h, i, f, g, o, tanh_c))
    return wrong


def _keeps_quarters(x, h, c, weight_x, weight_h, bias):
    states, cache = _cell()(x, h, c, weight_x, weight_h, bias)
    return states, (*cache[:5], *np.split(x @ weight_x + h @ weight_h + bias, 4, axis=-1), cache[-1])


def _cell_back(memory=lambda d_new_h, d_new_c, o, tanh_c, c: d_new_c + d_new_h * o * tanh_slope(tanh_c), gate=sigmoid_slope,
               candidate=tanh_slope, swap_fc=False, swap_ig=False, past=False, shown=False, order=(0, 1, 2, 3),
               results=(0, 1, 2, 3, 4, 5), swap_given=False, again=False, bias=lambda d_z: d_z.sum(axis=0)):
    """lstm_cell_backward, with one of these pieces changed."""
    def wrong(d_out, cache):
        x, h, c, weight_x, weight_h, i, f, g, o, tanh_c = cache
        d_new_h, d_new_c = reversed(d_out) if swap_given else d_out
        d_o = d_new_h * (o if shown else tanh_c)
        d_memory = memory(d_new_h, d_new_c, o, tanh_c, c)
        d_f, d_c = d_memory * (f if swap_fc else c), (d_new_c if past else d_memory) * (c if swap_fc else f)
        d_i, d_g = d_memory * (i if swap_ig else g), d_memory * (g if swap_ig else i)
        parts = (d_i * gate(i), d_f * gate(f), d_g * candidate(g), d_o * gate(o))
        d_z = np.concatenate([parts[place] for place in order], axis=-1)
        d_h = d_z @ weight_h.T + (d_new_h if again else 0)
        right = (d_z @ weight_x.T, d_h, d_c, x.T @ d_z, h.T @ d_z, bias(d_z))
        return tuple(right[place] for place in results)
    return wrong


def _losses(logits, targets):
    return np.maximum(logits, 0) - logits * targets + np.log1p(np.exp(-np.abs(logits)))


LEAST = (1e-7, 1e-8, 1e-9, 1e-10, 1e-12, 1e-15)      # what is often added to a probability, or the least that it may be


def _held_back(logits, targets, least):
    p = sigmoid(logits)
    return (-targets * np.log(p + least) - (1 - targets) * np.log(1 - p + least)).mean()


def _loss(loss, cache=lambda z, y: (z, y)):
    return lambda logits, targets: (loss(logits, targets), cache(logits, targets))


def _loss_back(formula):
    return lambda d_loss, cache: formula(d_loss, sigmoid(cache[0]), *cache)


# ---- the exercises -------------------------------------------------------------------------------------------------

EXERCISES = [
    Exercise(
        1, "rnn_forward", "word by word", sequence,
        hints=("states = np.zeros((B, T + 1, D)): the first state is that before the first word.",
               "In a loop over t: states[:, t + 1] = np.tanh(x[:, t] @ weight_x + states[:, t] @ weight_h + bias).",
               "out is states[:, 1:]."),
        facts=FACTS | {"z": "x_t W_x + h_(t-1) W_h + b"},
        mistakes={
            "the tanh is missing": _rnn(lambda x, h, W, b: x + h @ W + b),
            "it is the tanh, not the sigmoid": _rnn(lambda x, h, W, b: sigmoid(x + h @ W + b)),
            "the tanh bends the whole sum: h_(t-1) W_h belongs inside": _rnn(lambda x, h, W, b: np.tanh(x + b) + h @ W),
            "the state before the step is not used": _rnn(lambda x, h, W, b: np.tanh(x + b)),
            "the bias is missing": _rnn(lambda x, h, W, b: np.tanh(x + h @ W)),
            "the state is multiplied by W_h, not by its transpose": _rnn(lambda x, h, W, b: np.tanh(x + h @ W.T + b)),
            "the state before the first word is zeros": _rnn(lambda x, h, W, b: np.tanh(x + h @ W + b), np.ones),
            "out are the states after the words, states[:, 1:]; you return those before": _rnn(
                _right, result=lambda states, cache: (states[:, :-1], cache)),
            "out are the states after the words, states[:, 1:]; the zeros at the front do not belong to it": _rnn(
                _right, result=lambda states, cache: (states, cache)),
            "out are the states of all times, not only the last one": _rnn(
                _right, result=lambda states, cache: (states[:, -1], cache)),
            "the states of the cache begin with the zeros before the first word, T + 1 in all": _rnn(
                _right, result=lambda states, cache: (states[:, 1:], (cache[0], states[:, 1:], *cache[2:]))),
            "the cache is not returned: return out, (x, states, weight_x, weight_h)": _rnn(
                _right, result=lambda states, cache: states[:, 1:])},
    ),
    Exercise(
        2, "rnn_backward", "back through time", sequence, forward="rnn_forward",
        differentiable=("x", "weight_x", "weight_h", "bias"),
        hints=("for t in reversed(range(T)): first d_h = d_out[:, t] + from_next, which is zeros at the last word.",
               "d_z = d_h * (1 - states[:, t + 1]**2), with the state after the step.",
               "The weights were used at each step: d_weight_x += x[:, t].T @ d_z, d_weight_h += states[:, t].T @ d_z.",
               "At the end of each turn from_next = d_z @ weight_h.T, for the step before."),
        facts=THROUGH_TIME | from_cache("x, states, weight_x, weight_h"),
        mistakes={
            "what comes back from the next step is missing: d_h is d_out[:, t] plus d_z W_h^T of the step after": _back(
                chain=lambda d_h, d_z, W: 0 * d_z),
            "d_out of each time must be added, not only that of the last word": _back(
                d_of=lambda d_out, t: d_out[:, t] * (t == d_out.shape[1] - 1)),
            "what comes back from the next step goes through this tanh, too: add it before the slope": _back(late=True),
            "the times must be walked from the last to the first": _back(times=range),
            "the first word is left out: the loop must go down to t = 0": _back(times=lambda T: range(T - 1, 0, -1)),
            "the slope of the tanh is that at the state after the step: states[:, t + 1], not states[:, t]": _back(
                slope=lambda before, after: tanh_slope(before)),
            "the slope of the tanh is 1 - h^2: the square is missing": _back(slope=lambda before, after: 1 - after),
            "the states are what the tanh gave; its slope is 1 - states^2, with no further tanh": _back(
                slope=lambda before, after: tanh_slope(np.tanh(after))),
            "the slope of the tanh is missing": _back(slope=lambda before, after: 1),
            "what goes to the step before is d_z W_h^T, not d_z W_h": _back(chain=lambda d_h, d_z, W: d_z @ W),
            "what goes to the step before is d_z W_h^T, not d_h W_h^T: through the tanh first": _back(
                chain=lambda d_h, d_z, W: d_h @ W.T),
            "what goes to the step before is d_z W_h^T: it must go through W_h": _back(chain=lambda d_h, d_z, W: d_z),
            "the weights' gradients are sums over all times: += instead of =": _back(total=False),
            "W_h was multiplied by the state before the step, states[:, t]": _back(state=1),
            "the results stand in the order d_x, d_weight_x, d_weight_h, d_bias": _back(order=(0, 2, 1, 3))},
    ),
    Exercise(
        3, "lstm_cell_forward", "keep, write, show", cell,
        hints=("z = x @ weight_x + h @ weight_h + bias, and then its quarters: z[:, :D], z[:, D:2 * D] ...",
               "Three sigmoids and, for g, a tanh.", "new_c = f * c + i * g; new_h = o * np.tanh(new_c)"),
        facts=FACTS,
        mistakes={
            "input and forget gate are swapped: the order is i, f, g, o": _cell(order=(1, 0, 2, 3)),
            "candidate and output gate are swapped: the order is i, f, g, o": _cell(order=(0, 1, 3, 2)),
            "the quarters of z are runs of D neighbours: z[:, :D], not z[:, ::4]": _cell(
                quarters=lambda z: [z[:, start::4] for start in range(4)]),
            "the candidate g is a tanh, not a sigmoid": _cell(bends=(sigmoid,) * 4),
            "the gates i, f and o are sigmoids; only g is a tanh": _cell(bends=(np.tanh,) * 4),
            "the sigmoids and the tanh of the four quarters are missing": _cell(bends=(lambda z: z,) * 4),
            "the state before the step is missing from z": _cell(sum_up=lambda x, h, c, b: x + b),
            "z is made of the word and the state h, not of the memory c": _cell(sum_up=lambda x, h, c, b: x + c + b),
            "the bias is missing from z": _cell(sum_up=lambda x, h, c, b: x + h),
            "the input gate is missing: c' = f c + i g": _cell(memory=lambda h, c, i, f, g: f * c + g),
            "f keeps the memory and i writes the candidate: c' = f c + i g": _cell(
                memory=lambda h, c, i, f, g: i * c + f * g),
            "what is written has a gate of its own, i, not 1 - f": _cell(memory=lambda h, c, i, f, g: f * c + (1 - f) * g),
            "what is kept is the memory c, not the state h": _cell(memory=lambda h, c, i, f, g: f * h + i * g),
            "the state shows the new memory, c'; yours shows c": _cell(tanh=lambda c, new_c: np.tanh(c)),
            "the state shows the tanh of the memory, not the memory itself": _cell(tanh=lambda c, new_c: new_c),
            "h' = o tanh(c'), not o c'": _cell(show=lambda o, tanh_c, new_c: o * new_c),
            "the results are swapped: (new_h, new_c)": _cell(result=lambda new_h, new_c, cache: ((new_c, new_h), cache)),
            "state and memory belong together in a pair: return (new_h, new_c), cache": _cell(
                result=lambda new_h, new_c, cache: (new_h, new_c, cache)),
            "the memory must be returned beside the state: return (new_h, new_c), cache": _cell(
                result=lambda new_h, new_c, cache: (new_h, cache)),
            "the cache is not returned: return (new_h, new_c), cache": _cell(
                result=lambda new_h, new_c, cache: (new_h, new_c)),
            "the cache keeps i, f, g and o as they come out of sigmoid and tanh, not the quarters of z": _keeps_quarters,
            "the last entry of the cache is tanh_c, not c'": _cell(
                result=lambda new_h, new_c, cache: ((new_h, new_c), (*cache[:-1], new_c))),
            "the last entry of the cache, tanh_c, is missing": _cell(
                result=lambda new_h, new_c, cache: ((new_h, new_c), cache[:-1])),
            "the cache keeps h and c as they were before the step": _cell(
                result=lambda new_h, new_c, cache: ((new_h, new_c), (cache[0], new_h, new_c, *cache[3:]))),
            "the cache keeps c as it was before the step": _cell(
                result=lambda new_h, new_c, cache: ((new_h, new_c), (*cache[:2], new_c, *cache[3:])))},
    ),
    Exercise(
        4, "lstm_cell_backward", "the gradient's free way", cell, forward="lstm_cell_forward",
        differentiable=("x", "h", "c", "weight_x", "weight_h", "bias"),
        hints=("Walk back through the lines of the forward: h' first, then c', then the gates, then the two products.",
               "c' goes two ways: d_memory = d_new_c + d_new_h * o * (1 - tanh_c**2).",
               "In f c + i g each factor gets d_memory times its partner.",
               "Before the bends: d_i * i * (1 - i), d_f * f * (1 - f), d_g * (1 - g**2), d_o * o * (1 - o), side by side in d_z, "
               "by np.concatenate."),
        facts=FACTS | from_cache("x, h, c, weight_x, weight_h, i, f, g, o, tanh_c"),
        mistakes={
            "d_out is (d_new_h, d_new_c); yours takes them the other way round": _cell_back(swap_given=True),
            "h' = o tanh(c'): o gets d_new_h times its partner, tanh_c, not times o": _cell_back(shown=True),
            "the way of c' through h' is missing: + d_new_h * o * (1 - tanh_c**2)": _cell_back(
                lambda d_new_h, d_new_c, o, tanh_c, c: d_new_c),
            "what the next step says of the memory is missing: + d_new_c": _cell_back(
                lambda d_new_h, d_new_c, o, tanh_c, c: d_new_h * o * tanh_slope(tanh_c)),
            "d_new_c comes from the next step directly: only d_new_h * o goes through the tanh": _cell_back(
                lambda d_new_h, d_new_c, o, tanh_c, c: (d_new_c + d_new_h * o) * tanh_slope(tanh_c)),
            "on the way through h' the output gate o is missing": _cell_back(
                lambda d_new_h, d_new_c, o, tanh_c, c: d_new_c + d_new_h * tanh_slope(tanh_c)),
            "on the way through h' the slope of the tanh is missing": _cell_back(
                lambda d_new_h, d_new_c, o, tanh_c, c: d_new_c + d_new_h * o),
            "the slope of the tanh is 1 - tanh_c^2: the square is missing": _cell_back(
                lambda d_new_h, d_new_c, o, tanh_c, c: d_new_c + d_new_h * o * (1 - tanh_c)),
            "tanh_c is what the tanh gave; its slope is 1 - tanh_c^2, with no further tanh": _cell_back(
                lambda d_new_h, d_new_c, o, tanh_c, c: d_new_c + d_new_h * o * tanh_slope(np.tanh(tanh_c))),
            "the slope of the tanh is that at the new memory, 1 - tanh_c^2; c is the memory before": _cell_back(
                lambda d_new_h, d_new_c, o, tanh_c, c: d_new_c + d_new_h * o * tanh_slope(np.tanh(c))),
            "the old memory gets the whole d_memory times f, not only d_new_c times f": _cell_back(past=True),
            "in f c each factor gets d_memory times its partner: f and c are swapped": _cell_back(swap_fc=True),
            "in i g each factor gets d_memory times its partner: i and g are swapped": _cell_back(swap_ig=True),
            "the slopes of the sigmoids and of the tanh are missing in d_z": _cell_back(
                gate=lambda s: 1, candidate=lambda t: 1),
            "g came from a tanh: its slope is 1 - g^2, not g (1 - g)": _cell_back(candidate=sigmoid_slope),
            "i, f and o came from sigmoids: their slope is s (1 - s), not 1 - s^2": _cell_back(gate=tanh_slope),
            "i, f and o are what the sigmoid gave: the slope is i (1 - i), with no further sigmoid": _cell_back(
                gate=lambda s: sigmoid_slope(sigmoid(s))),
            "the quarters of d_z stand in the order i, f, g, o; yours has o before g": _cell_back(order=(0, 1, 3, 2)),
            "the quarters of d_z stand in the order i, f, g, o; yours has f before i": _cell_back(order=(1, 0, 2, 3)),
            "the old state went into z only: d_new_h is the gradient of the new one, and is not added": _cell_back(
                again=True),
            "d_bias is (4 D,), as the bias: the sum of d_z over the batch, without keepdims": _cell_back(
                bias=lambda d_z: d_z.sum(axis=0, keepdims=True)),
            "the results stand in the order d_x, d_h, d_c, d_weight_x ...; yours has the weights before d_h and d_c": _cell_back(
                results=(0, 3, 4, 5, 1, 2)),
            "the results stand in the order d_x, d_h, d_c, d_weight_x ...; d_c and d_h are swapped": _cell_back(
                results=(0, 2, 1, 3, 4, 5))},
    ),
    Exercise(
        5, "binary_cross_entropy_forward", "yes or no", sure_answers,
        hints=("Use the stable form, in three lines and a mean.",
               "np.log1p(u) is log(1 + u); u is np.exp(-np.abs(logits)).",
               "losses = np.maximum(logits, 0) - logits * targets + log_sum"),
        facts=FACTS,
        mistakes={
            "the loss is the mean, not the sum": _loss(lambda z, y: _losses(z, y).sum()),
            "the loss is one number: the mean of the losses is missing": _loss(_losses),
            "yes and no are swapped: the middle term is -z y": _loss(lambda z, y: _losses(-z, y).mean()),
            "the middle term has a minus: max(z, 0) - z y + ...": _loss(lambda z, y: (_losses(z, y) + 2 * z * y).mean()),
            "an exponential overflows: it is log(1 + e^-|z|), where e^-|z| is never above 1": _loss(
                lambda z, y: np.log(1 + np.exp(np.abs(z))).mean()),
            "a probability was rounded to 0 or 1 before its logarithm: use the stable form, straight from the logits": _loss(
                lambda z, y: (-y * np.log(sigmoid(z)) - (1 - y) * np.log(1 - sigmoid(z))).mean()),
            **{f"a probability that is kept {least:g} above 0 has a wrong logarithm: use the stable form, straight from the logits":
               _loss(lambda z, y, least=least: _held_back(z, y, least)) for least in LEAST},
            "the first term is max(z, 0), which is 0 for a negative z, not z": _loss(
                lambda z, y: (_losses(z, y) - np.maximum(z, 0) + z).mean()),
            "the first term is max(z, 0), which is 0 for a negative z, not |z|": _loss(
                lambda z, y: (_losses(z, y) - np.maximum(z, 0) + np.abs(z)).mean()),
            "np.max is the largest of all logits; np.maximum(logits, 0) compares each with 0": _loss(
                lambda z, y: (_losses(z, y) - np.maximum(z, 0) + np.max(z)).mean()),
            "the 1 + is missing: it is log(1 + u) with u = e^-|z|": _loss(
                lambda z, y: (np.maximum(z, 0) - z * y - np.abs(z)).mean()),
            "the logarithm is missing: it is log(1 + u) with u = e^-|z|, not u": _loss(
                lambda z, y: (np.maximum(z, 0) - z * y + np.exp(-np.abs(z))).mean()),
            "the cache is (logits, targets), in this order": _loss(lambda z, y: _losses(z, y).mean(), lambda z, y: (y, z)),
            "the cache holds the logits, not their probabilities": _loss(
                lambda z, y: _losses(z, y).mean(), lambda z, y: (sigmoid(z), y)),
            "the cache is not returned: return loss, (logits, targets)":
            lambda logits, targets: _losses(logits, targets).mean()},
    ),
    Exercise(
        6, "binary_cross_entropy_backward", "p - y once more", answers, forward="binary_cross_entropy_forward",
        differentiable=("logits",),
        hints=("p is the sigmoid of the logits; sigmoid is given.",
               "d_loss times (p - y), divided by the number of answers."),
        facts=FACTS | from_cache("logits, targets"),
        mistakes={
            "d_loss is not used: the chain rule multiplies by it": _loss_back(lambda d_loss, p, z, y: (p - y) / len(z)),
            "the slope of the sigmoid is in p - y already: do not multiply by p (1 - p) again": _loss_back(
                lambda d_loss, p, z, y: d_loss * (p - y) * p * (1 - p) / len(z)),
            "that is the gradient of p; times the slope of the sigmoid, p (1 - p), it becomes p - y": _loss_back(
                lambda d_loss, p, z, y: d_loss * (-y / p + (1 - y) / (1 - p)) / len(z)),
            "that is only the slope of the sigmoid; the gradient of the loss is p - y": _loss_back(
                lambda d_loss, p, z, y: d_loss * p * (1 - p) / len(z)),
            "p is the sigmoid of the logits, not the logits": _loss_back(lambda d_loss, p, z, y: d_loss * (z - y) / len(z)),
            "p is the probability of yes, not the answer 0 or 1": _loss_back(
                lambda d_loss, p, z, y: d_loss * ((z > 0) - y) / len(z)),
            "each answer has a probability of its own: a sigmoid, not a softmax over the batch": _loss_back(
                lambda d_loss, p, z, y: d_loss * (np.exp(z) / np.exp(z).sum() - y) / len(z)),
            "each logit has a gradient of its own: divide by N, do not take the mean": _loss_back(
                lambda d_loss, p, z, y: d_loss * (p - y).mean())},
    ),
]
