"""What `tinymm check 8` looks at."""

import numpy as np

from tinymm.functional import erf
from tinymm.learning.exercise import Exercise


def norm(rng):
    return {"x": 3 + 2 * rng.normal(size=(2, 3, 5)), "gain": rng.normal(size=5), "bias": rng.normal(size=5), "epsilon": 0.1}


def feed_forward(rng):
    return {"x": rng.normal(size=(2, 3, 4)), "W_1": rng.normal(size=(4, 6)), "b_1": rng.normal(size=6),
            "W_2": rng.normal(size=(6, 4)), "b_2": rng.normal(size=4)}


def residual(rng):
    return {"x": rng.normal(size=(2, 3, 4)), "gain": rng.normal(size=4), "bias": rng.normal(size=4),
            "weight": rng.normal(size=(4, 4))}


FACTS = {
    "mean": "a mean over the last axis, kept as an axis of size 1",
    "centred": "x minus its mean: each row sums to 0",
    "variance": "the mean of the squares of centred, kept as an axis of size 1",
    "scale": "1 / sqrt(variance + epsilon), with epsilon inside of the root",
    "normed": "centred times scale",
    "out": "gain * normed + bias",
    "d_gain": "every word used the gain: the sum of d_out * normed over all leading axes",
    "d_bias": "every word used the bias: the sum of d_out over all leading axes",
    "d_normed": "out = gain normed + bias, so it is gain * d_out",
    "along": "the mean of d_normed * normed over the last axis, kept as an axis of size 1",
    "d_x": "scale (d_normed - mean - normed * along): three terms",
    "below": "Phi(x) = (1 + erf(x / sqrt(2))) / 2, between 0 and 1",
    "bell": "phi(x) = exp(-x^2 / 2) / sqrt(2 pi)",
    "d_active": "out = active W_2 + b_2, so it is d_out W_2^T",
    "d_W_2": "active^T d_out, summed over all words",
    "d_b_2": "the sum of d_out over all words",
    "d_hidden": "through the gelu: gelu_backward(d_active, hidden), where exercise 3 must be right",
    "d_W_1": "x^T d_hidden, summed over all words",
    "d_b_1": "the sum of d_hidden over all words",
    "d_weight": "normed_x^T d_out, summed over all words",
    "d_normed_x": "d_out W^T",
    "d_branch": "the first result of layer_norm_backward(d_normed_x, norm), where exercise 2 must be right",
}

EXERCISES = [
    Exercise(
        1, "layer_norm_forward", "mean 0, variance 1", norm,
        hints=("keepdims=True wherever a mean is taken.", "variance = (centred**2).mean(axis=-1, keepdims=True)"), facts=FACTS,
        mistakes={"mean and variance are over the last axis, of each word alone": lambda x, gain, bias, epsilon: _norm(
            x, gain, bias, epsilon, (0, 1)),
                  "the variance divides by D, not by D - 1": lambda x, gain, bias, epsilon: _norm(x, gain, bias, epsilon, -1, 1)},
    ),
    Exercise(
        2, "layer_norm_backward", "the three terms", norm, forward="layer_norm_forward", differentiable=("x", "gain", "bias"),
        hints=("d_gain and d_bias are sums over all axes but the last: axis=tuple(range(d_out.ndim - 1)).",
               "mean is that of d_normed; along is the mean of d_normed * normed.",
               "d_x = scale * (d_normed - mean - normed * along)"), facts=FACTS,
        mistakes={"two terms are missing: mean and variance depend on x, too": lambda d_out, cache: _norm_backward(d_out, cache, 0, 0),
                  "the term normed * along is missing": lambda d_out, cache: _norm_backward(d_out, cache, 1, 0),
                  "the mean of d_normed is missing": lambda d_out, cache: _norm_backward(d_out, cache, 0, 1)},
    ),
    Exercise(
        3, "gelu_backward", "through the soft bend", lambda rng: {"x": 1.5 * rng.normal(size=(3, 4))}, forward="gelu_forward",
        differentiable=("x",),
        hints=("The product rule: (x Phi)' = Phi + x phi.", "phi(x) = np.exp(-x**2 / 2) / np.sqrt(2 * np.pi)"),
        facts=FACTS | {"d_x": "d_out (below + x * bell): the product rule has two terms, and d_out multiplies both"},
        mistakes={"x phi(x) is missing: the product rule has two terms": lambda d_out, x: d_out * _below(x),
                  "d_out must multiply both terms: brackets are missing": lambda d_out, x: d_out * _below(x) + x * _bell(x),
                  "the second term is x phi(x), not phi(x)": lambda d_out, x: d_out * (_below(x) + _bell(x)),
                  "d_out is not used: the chain rule multiplies the slope by it": lambda d_out, x: _below(x) + x * _bell(x),
                  "this is the slope of an approximation of gelu by tanh; here it is the exact one, with erf":
                  lambda d_out, x: d_out * _slope_with_tanh(x)},
    ),
    Exercise(
        4, "feed_forward_backward", "two linear layers and a bend", feed_forward, forward="feed_forward_forward",
        differentiable=("x", "W_1", "b_1", "W_2", "b_2"),
        hints=("Exercise 3 of chapter 1 twice, with your gelu_backward between them.",
               "d_active = d_out @ W_2.T; d_hidden = gelu_backward(d_active, hidden)."),
        facts=FACTS | {"d_x": "hidden = x W_1 + b_1, so it is d_hidden W_1^T"},
    ),
    Exercise(
        5, "residual_backward", "both arms", residual, forward="residual_forward",
        differentiable=("x", "gain", "bias", "weight"),
        hints=("x goes two ways: directly to out, and through norm and weight. Their gradients are added.",
               "d_x = d_out + d_branch"),
        facts=FACTS | {"d_x": "the direct arm and the branch: d_out + d_branch"},
        mistakes={"the direct arm is missing: d_x = d_out + d_branch": lambda d_out, cache: _residual(d_out, cache, 0, 1),
                  "the branch is missing: d_x = d_out + d_branch": lambda d_out, cache: _residual(d_out, cache, 1, 0)},
    ),
]


def _below(x):
    return 0.5 * (1 + erf(x / np.sqrt(2)))


def _bell(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def _norm(x, gain, bias, epsilon, axis, ddof=0):
    scale = 1 / np.sqrt(x.var(axis=axis, keepdims=True, ddof=ddof) + epsilon)
    normed = (x - x.mean(axis=axis, keepdims=True)) * scale
    return gain * normed + bias, (normed, scale, gain)


def _norm_backward(d_out, cache, with_mean, with_along):
    normed, scale, gain = cache
    axes, d_normed = tuple(range(d_out.ndim - 1)), gain * d_out
    mean = with_mean * d_normed.mean(axis=-1, keepdims=True)
    along = with_along * (d_normed * normed).mean(axis=-1, keepdims=True)
    return scale * (d_normed - mean - normed * along), (d_out * normed).sum(axis=axes), d_out.sum(axis=axes)


def _residual(d_out, cache, direct, branch):
    norm, normed_x, weight = cache
    d_branch, d_gain, d_bias = _norm_backward(d_out @ weight.T, norm, 1, 1)
    d_weight = normed_x.reshape(-1, len(weight)).T @ d_out.reshape(-1, len(weight))
    return direct * d_out + branch * d_branch, d_gain, d_bias, d_weight


def _slope_with_tanh(x):
    root = np.sqrt(2 / np.pi)
    t = np.tanh(root * (x + 0.044715 * x**3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t**2) * root * (1 + 3 * 0.044715 * x**2)
