"""The mistakes that people make in a backward, and what the gradient checker says about each."""

import re

import numpy as np
import pytest

from tinymm import functional, gradient_check, gradient_check_module
from tinymm.functional import (
    attention_forward,
    batch_norm_forward,
    conv2d_backward,
    conv2d_forward,
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
    relu_forward,
    softmax_backward,
    softmax_forward,
)
from tinymm.layers import Module


@pytest.fixture
def rng():
    return np.random.default_rng(7)


# ------------------------------------------------------------------------------------ wrong numbers


def x_of(rng, *shape):
    return {"x": rng.normal(size=shape)}


def norm_inputs(rng):
    return x_of(rng, 4, 6) | {"gain": rng.normal(size=6), "bias": rng.normal(size=6)}


def linear_inputs(rng, d_in=5, d_out=3):
    return x_of(rng, 4, d_in) | {"weight": rng.normal(size=(d_in, d_out)), "bias": rng.normal(size=d_out)}


def softmax_zeros(d_out, cache):
    return np.zeros_like(d_out)


def softmax_without_the_inner_product(d_out, cache):
    return cache.out * d_out


def softmax_diagonal_only(d_out, cache):
    return d_out * cache.out * (1 - cache.out)


def softmax_over_the_wrong_axis(d_out, cache):
    return cache.out * (d_out - (cache.out * d_out).sum(axis=0, keepdims=True))


def layer_norm_terms(mean, variance):
    def backward(d_out, cache):
        g, n = d_out * cache.gain, cache.normalized
        d_x = g - mean * g.mean(-1, keepdims=True) - variance * n * (g * n).mean(-1, keepdims=True)
        return cache.rstd * d_x, (d_out * n).sum(0), d_out.sum(0)

    return backward


def layer_norm_forgets_the_gain(d_out, cache):
    d_x, d_gain, d_bias = layer_norm_backward(d_out, cache._replace(gain=np.ones_like(cache.gain)))
    return d_x, d_gain, d_bias


def layer_norm_swaps_gain_and_bias(d_out, cache):
    d_x, d_gain, d_bias = layer_norm_backward(d_out, cache)
    return d_x, d_bias, d_gain


def linear_transposed(d_out, cache):
    d_x, d_weight, d_bias = linear_backward(d_out, cache)
    return d_x, d_weight.T, d_bias


def linear_bias_mean(d_out, cache):
    d_x, d_weight, d_bias = linear_backward(d_out, cache)
    return d_x, d_weight, d_out.mean(axis=0)


def relu_passes_everything(d_out, cache):
    return d_out


def relu_passes_the_negative(d_out, cache):
    return np.where(cache.x < 0, d_out, 0)


def conv_without_flip(d_out, cache):
    d_x, d_weight, d_bias = conv2d_backward(d_out, cache)
    return d_x, d_weight[::-1, ::-1], d_bias


def attention_without_scale(d_out, cache):
    d_q, d_k, d_v = functional.attention_backward(d_out, cache)
    return d_q / cache.scale, d_k / cache.scale, d_v


def batch_norm_as_in_evaluation(d_out, cache):
    return functional.batch_norm_backward(d_out, cache._replace(training=False))


WRONG = {
    "softmax: zeros": (softmax_forward, softmax_zeros, lambda rng: x_of(rng, 3, 4)),
    "softmax: p d_p": (softmax_forward, softmax_without_the_inner_product, lambda rng: x_of(rng, 3, 4)),
    "softmax: the diagonal of the Jacobian": (softmax_forward, softmax_diagonal_only, lambda rng: x_of(rng, 3, 4)),
    "softmax: axis": (softmax_forward, softmax_over_the_wrong_axis, lambda rng: x_of(rng, 4, 4)),
    "softmax: twice": (softmax_forward, lambda d, cache: 2 * softmax_backward(d, cache), lambda rng: x_of(rng, 3, 4)),
    "softmax: sign": (softmax_forward, lambda d, cache: -softmax_backward(d, cache), lambda rng: x_of(rng, 3, 4)),
    "layer norm: no term of the mean": (layer_norm_forward, layer_norm_terms(0, 1), norm_inputs),
    "layer norm: no term of the variance": (layer_norm_forward, layer_norm_terms(1, 0), norm_inputs),
    "layer norm: sign of a term": (layer_norm_forward, layer_norm_terms(1, -1), norm_inputs),
    "layer norm: no gain": (layer_norm_forward, layer_norm_forgets_the_gain, norm_inputs),
    "layer norm: gain for bias": (layer_norm_forward, layer_norm_swaps_gain_and_bias, norm_inputs),
    "linear: transposed": (linear_forward, linear_transposed, lambda rng: linear_inputs(rng, 4, 4)),
    "linear: mean for sum": (linear_forward, linear_bias_mean, linear_inputs),
    "relu: passes everything": (relu_forward, relu_passes_everything, lambda rng: x_of(rng, 3, 4)),
    "relu: passes the negative": (relu_forward, relu_passes_the_negative, lambda rng: x_of(rng, 3, 4)),
    "conv2d: flipped": (
        conv2d_forward,
        conv_without_flip,
        lambda rng: x_of(rng, 2, 5, 6, 3) | {"weight": rng.normal(size=(3, 2, 3, 4)), "bias": rng.normal(size=4)},
    ),
    "attention: no scale": (
        attention_forward,
        attention_without_scale,
        lambda rng: {"q": rng.normal(size=(4, 5)), "k": rng.normal(size=(6, 5)), "v": rng.normal(size=(6, 3))},
    ),
    "batch norm: constants in training": (
        batch_norm_forward,
        batch_norm_as_in_evaluation,
        lambda rng: norm_inputs(rng) | {"running_mean": None, "running_variance": None, "training": True},
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_backward_fails(name, rng):
    forward, backward, make = WRONG[name]
    inputs = make(rng)
    if "running_mean" in inputs:
        inputs |= {"running_mean": np.zeros(6), "running_variance": np.ones(6)}
    report = gradient_check(
        forward, backward, inputs, rng=rng, constants=[key for key in inputs if key.startswith("running")]
    )
    assert not report.ok
    assert report.worst.error > 1e-3 and not report.worst.ok and "FAIL" in str(report)


# ------------------------------------------------------------------------------------ mistakes that no number shows


def double(x):
    return 2 * x, (x,)


def in_place_d_out(d_out, cache):
    d_out *= 2
    return d_out


def in_place_cache(d_out, cache):
    cache[0][...] = 0
    return 2 * d_out


def in_place_forward(x):
    y = x * 2
    x += 1
    return y, None


class Counting:
    calls = 0

    def __call__(self, x):
        self.calls += 1
        return 2 * x + 1e-9 * self.calls, None


PROBLEMS = {
    "too few gradients": (
        layer_norm_forward,
        lambda d, cache: layer_norm_backward(d, cache)[:2],
        "backward returned 2 gradients, expected 3: x, gain, bias",
    ),
    "too many gradients": (double, lambda d, cache: (2 * d, d), "backward returned 2 gradients, expected 1: x"),
    "nothing returned": (
        double,
        lambda d, cache: None,
        "backward returned None as the gradient of x, expected an array (4, 6)",
    ),
    "None for one": (
        layer_norm_forward,
        lambda d, cache: (None, *layer_norm_backward(d, cache)[1:]),
        "backward returned None as the gradient of x",
    ),
    "wrong shape": (double, lambda d, cache: 2 * d.T, "the gradient of x must have the shape of x, (4, 6), got (6, 4)"),
    "broadcastable shape": (
        double,
        lambda d, cache: 2 * d[None],
        "the gradient of x must have the shape of x, (4, 6), got (1, 4, 6)",
    ),
    "wrong dtype": (
        double,
        lambda d, cache: (2 * d).astype(np.float32),
        "the gradient of x must keep the dtype float64, got float32",
    ),
    "NaN": (double, lambda d, cache: np.where(d > 0, 2 * d, np.nan), "entries that are NaN or infinite"),
    "d_out changed": (double, in_place_d_out, "backward changes d_out in place"),
    "cache changed": (double, in_place_cache, "backward changes cache.0 in place"),
    "input changed": (in_place_forward, lambda d, cache: 2 * d, "forward changes x in place"),
    "NaN forward": (lambda x: (np.where(x > 0, x, np.nan), None), lambda d, cache: d, "forward returned"),
    "float32 forward": (
        lambda x: (2 * x.astype(np.float32), None),
        lambda d, cache: 2.0 * d,
        "forward got float64 and returned float32",
    ),
    "memory": (Counting(), lambda d, cache: 2 * d, "forward gave another result for the same inputs"),
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_a_problem_is_named(name, rng):
    forward, backward, sentence = PROBLEMS[name]
    inputs = norm_inputs(rng) if forward is layer_norm_forward else x_of(rng, 4, 6)
    report = gradient_check(forward, backward, inputs, rng=rng)
    assert not report.ok
    assert sentence in "\n".join(report.problems) and sentence in str(report)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda rng: gradient_check(double, in_place_d_out, {"x": np.arange(3)}, rng=rng),
            "no input of double is a floating array to differentiate, got x: an array (3,) of int64",
        ),
        (
            lambda rng: gradient_check(double, in_place_d_out, x_of(rng, 3), rng=rng, constants=["y"]),
            "constants must name inputs of double, ['x'], got ['y']",
        ),
        (
            lambda rng: gradient_check(lambda x: 2 * x, in_place_d_out, x_of(rng, 3), rng=rng),
            "must return (out, cache), got an array (3,) of float64",
        ),
        (
            lambda rng: gradient_check(lambda x: (x > 0, None), in_place_d_out, x_of(rng, 3), rng=rng),
            "must return a floating array or scalar as out",
        ),
        (
            lambda rng: gradient_check_module(Module(), {"x": None}, rng=rng),
            "Module has no parameter, and no floating array among its inputs x: NoneType",
        ),
    ],
)
def test_a_check_that_makes_no_sense_is_an_error(call, message, rng):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(rng)
