import re

import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import (
    log_softmax_backward, log_softmax_forward, softmax_backward, softmax_backward_steps, softmax_forward,
)

PAIRS = {
    "short": (softmax_forward, softmax_backward),
    "steps": (softmax_forward, softmax_backward_steps),
    "log": (log_softmax_forward, log_softmax_backward),
}


@pytest.fixture
def rng():
    return np.random.default_rng(3)


@pytest.mark.parametrize("pair", PAIRS)
@pytest.mark.parametrize("axis", [-1, 0, 1, 2, -2])
def test_gradients(rng, pair, axis):
    forward, backward = PAIRS[pair]
    report = gradient_check(forward, backward, {"x": 2 * rng.normal(size=(2, 3, 5)), "axis": axis}, rng=rng)
    assert report.ok, report


@pytest.mark.parametrize("axis", [-1, 0, 1])
def test_the_steps_are_the_short_formula(rng, axis):
    out, cache = softmax_forward(5 * rng.normal(size=(2, 3, 5)), axis)
    d_out = rng.normal(size=out.shape)
    short, steps = softmax_backward(d_out, cache), softmax_backward_steps(d_out, cache)
    np.testing.assert_allclose(steps, short, rtol=1e-12, atol=1e-14)


def test_the_short_formula_is_the_jacobian_times_a_vector(rng):
    p, cache = softmax_forward(rng.normal(size=4))
    jacobian = np.diag(p) - np.outer(p, p)
    d_p = rng.normal(size=4)
    np.testing.assert_allclose(softmax_backward(d_p, cache), jacobian @ d_p, atol=1e-15)


def test_known_values():
    out, _ = softmax_forward(np.log([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]]))
    np.testing.assert_allclose(out, [[0.125, 0.25, 0.625], [0.25, 0.25, 0.5]], rtol=1e-15)
    log_out, _ = log_softmax_forward(np.log([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]]))
    np.testing.assert_allclose(log_out, np.log([[0.125, 0.25, 0.625], [0.25, 0.25, 0.5]]), rtol=1e-14)


def test_a_shift_changes_nothing_and_equal_gradients_give_zero(rng):
    x = rng.normal(size=(3, 4))
    out, cache = softmax_forward(x)
    np.testing.assert_allclose(softmax_forward(x + 1000)[0], out, rtol=1e-10)
    np.testing.assert_allclose(softmax_backward(np.full((3, 4), 7.0), cache), 0, atol=1e-14)
    np.testing.assert_allclose(softmax_backward(rng.normal(size=(3, 4)), cache).sum(axis=-1), 0, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("pair", PAIRS)
def test_extreme_scores(dtype, pair):
    forward, backward = PAIRS[pair]
    x = np.array([[1e4, -1e4, 0.0], [-1e4, -1e4, -1e4 + 1], [-np.inf, 2.0, 2.0], [-np.inf, -np.inf, 5.0]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        out, cache = forward(x)
        d_x = backward(np.array([[1, 2, 3]] * 4, dtype), cache)
    probabilities = np.exp(out) if pair == "log" else out
    tail = 1 / (1 + 1 + np.e)
    expected = [[1, 0, 0], [tail, tail, np.e * tail], [0, 0.5, 0.5], [0, 0, 1]]
    np.testing.assert_allclose(probabilities, expected, rtol=1e-6)
    assert np.isfinite(d_x).all()


def test_the_logarithm_is_exact_where_the_probability_is_rounded_to_zero():
    out, _ = log_softmax_forward(np.array([0.0, -2000.0]))
    np.testing.assert_array_equal(out, [0, -2000])


@pytest.mark.parametrize("backward", [softmax_backward, softmax_backward_steps])
@pytest.mark.parametrize("axis", [0, 1])
def test_where_nothing_is_possible_all_is_zero(rng, axis, backward):
    x = rng.normal(size=(3, 4))
    x[1] = -np.inf
    x = x if axis == 1 else x.T.copy()
    with np.errstate(all="raise"):
        out, cache = softmax_forward(x, axis)
        d_x = backward(rng.normal(size=x.shape), cache)
    out, d_x = (out, d_x) if axis == 1 else (out.T, d_x.T)
    np.testing.assert_array_equal(out[1], 0)
    np.testing.assert_array_equal(d_x[1], 0)
    np.testing.assert_allclose(out[[0, 2]].sum(axis=-1), 1, rtol=1e-15)


def test_log_softmax_where_nothing_is_possible():
    with np.errstate(all="raise"):
        out, _ = log_softmax_forward(np.full((2, 3), -np.inf))
    np.testing.assert_array_equal(out, -np.inf)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("pair", PAIRS)
def test_keeps_dtype_and_inputs(rng, dtype, pair):
    forward, backward = PAIRS[pair]
    x = rng.normal(size=(3, 4)).astype(dtype)
    x[2] = -np.inf
    kept = x.copy()
    out, cache = forward(x)
    kept_out = out.copy()
    d_out = np.ones_like(x)
    d_x = backward(d_out, cache)
    assert out.dtype == d_x.dtype == dtype
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(out, kept_out)
    np.testing.assert_array_equal(d_out, 1)


@pytest.mark.parametrize("forward", [softmax_forward, log_softmax_forward])
@pytest.mark.parametrize(("shape", "axis", "message"), [
    ((2, 0), -1, "x must have at least one entry along axis -1, got shape (2, 0)"),
    ((0, 2), 0, "x must have at least one entry along axis 0, got shape (0, 2)"),
    ((2, 3), 2, "axis 2 does not exist in x of shape (2, 3)"),
    ((2, 3), -3, "axis -3 does not exist in x of shape (2, 3)"),
    ((), -1, "axis -1 does not exist in x of shape ()"),
])
def test_bad_axes(forward, shape, axis, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        forward(np.zeros(shape), axis)
