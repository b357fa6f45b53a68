import math
import re

import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import (
    cross_entropy_backward, cross_entropy_backward_steps, cross_entropy_forward, log_softmax_forward, softmax_forward,
)

BACKWARDS = [cross_entropy_backward, cross_entropy_backward_steps]
LABELS = np.array([[1, -100, 4], [0, 3, -100]])
OUT_OF_RANGE = "labels must lie in 0 to 4 to fit logits (2, 5), or be ignore_index ="


@pytest.fixture
def rng():
    return np.random.default_rng(8)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_gradients(rng, smoothing, backward):
    inputs = {"logits": 2 * rng.normal(size=(2, 3, 5)), "labels": LABELS, "label_smoothing": smoothing}
    report = gradient_check(cross_entropy_forward, backward, inputs, rng=rng)
    assert report.ok, report


@pytest.mark.parametrize(("shape", "labels"), [
    ((5,), np.array(3)), ((4, 6), np.array([5, 0, 0, 1])), ((2, 1, 3, 4), np.ones((2, 1, 3), np.uint8)),
])
def test_gradients_with_any_leading_axes(rng, shape, labels):
    inputs = {"logits": rng.normal(size=shape), "labels": labels}
    report = gradient_check(cross_entropy_forward, cross_entropy_backward, inputs, rng=rng)
    assert report.ok, report


def test_gradients_with_another_ignored_label(rng):
    inputs = {"logits": rng.normal(size=(2, 3, 5)), "labels": np.array([[1, 0, 4], [0, 3, 2]]), "ignore_index": 0}
    report = gradient_check(cross_entropy_forward, cross_entropy_backward, inputs, rng=rng)
    assert report.ok, report
    _, cache = cross_entropy_forward(**inputs)
    np.testing.assert_array_equal(cross_entropy_backward(1.0, cache)[[0, 1], [1, 0]], 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_steps_are_the_short_formula(rng, smoothing):
    _, cache = cross_entropy_forward(5 * rng.normal(size=(2, 3, 5)), LABELS, label_smoothing=smoothing)
    short, steps = cross_entropy_backward(0.7, cache), cross_entropy_backward_steps(0.7, cache)
    np.testing.assert_allclose(steps, short, rtol=1e-12, atol=1e-15)


def test_the_gradient_is_p_minus_y_shared_by_the_labels_that_count(rng):
    logits = rng.normal(size=(2, 3, 5))
    _, cache = cross_entropy_forward(logits, LABELS)
    expected = softmax_forward(logits)[0]
    for where in np.ndindex(LABELS.shape):
        if LABELS[where] == -100:
            expected[where] = 0
        else:
            expected[where][LABELS[where]] -= 1
    np.testing.assert_allclose(cross_entropy_backward(1.0, cache), expected / 4, atol=1e-15)


def test_known_values():
    logits = np.log([[1.0, 2.0, 5.0], [1.0, 1.0, 2.0]])
    loss, _ = cross_entropy_forward(logits, np.array([2, 0]))
    assert loss == pytest.approx((-math.log(0.625) - math.log(0.25)) / 2, rel=1e-14)
    assert np.ndim(loss) == 0
    smooth, _ = cross_entropy_forward(logits[1:], np.array([0]), label_smoothing=0.3)
    assert smooth == pytest.approx(-0.8 * math.log(0.25) - 0.1 * math.log(0.25) - 0.1 * math.log(0.5), rel=1e-14)


def test_knowing_nothing_costs_log_v():
    assert cross_entropy_forward(np.zeros((2, 3, 5)), LABELS)[0] == pytest.approx(math.log(5), rel=1e-14)


def test_is_the_mean_negative_log_softmax(rng):
    logits = 3 * rng.normal(size=(2, 3, 5))
    log_p = log_softmax_forward(logits)[0]
    expected = -np.mean([log_p[where][LABELS[where]] for where in np.ndindex(LABELS.shape) if LABELS[where] >= 0])
    assert cross_entropy_forward(logits, LABELS)[0] == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_when_no_label_counts_all_is_zero(rng, dtype, backward):
    logits = rng.normal(size=(2, 3, 5)).astype(dtype)
    with np.errstate(all="raise"):
        loss, cache = cross_entropy_forward(logits, np.full((2, 3), -100), label_smoothing=0.1)
        d_logits = backward(1.0, cache)
    assert loss == 0 and loss.dtype == dtype
    np.testing.assert_array_equal(d_logits, np.zeros_like(logits))
    assert d_logits.dtype == dtype


def test_ignored_logits_may_hold_anything(rng):
    logits = rng.normal(size=(2, 3, 5))
    loss, _ = cross_entropy_forward(logits, LABELS)
    logits[0, 1], logits[1, 2] = np.nan, np.inf
    loss_again, cache = cross_entropy_forward(logits, LABELS)
    assert loss_again == loss
    np.testing.assert_array_equal(cross_entropy_backward(1.0, cache)[0, 1], 0)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits(dtype, backward):
    logits = np.array([[1e4, -1e4, 0.0], [1e4, -1e4, 0.0], [-np.inf, 0.0, 0.0]], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        loss, cache = cross_entropy_forward(logits, np.array([0, 1, 2]))
        d_logits = backward(3.0, cache)
    assert loss == pytest.approx((0 + 2e4 + math.log(2)) / 3, rel=1e-6)
    np.testing.assert_allclose(d_logits, [[0, 0, 0], [1, -1, 0], [0, 0.5, -0.5]], atol=1e-6)


@pytest.mark.parametrize("backward", BACKWARDS)
def test_an_impossible_label_costs_infinitely_much_but_is_not_nan(backward):
    loss, cache = cross_entropy_forward(np.array([[-np.inf, 0.0], [-np.inf, -np.inf]]), np.array([0, 1]))
    assert loss == np.inf
    np.testing.assert_allclose(backward(2.0, cache), [[-1, 1], [0, -1]])


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_dtype_and_inputs(rng, dtype, smoothing, backward):
    logits, labels = rng.normal(size=(2, 3, 5)).astype(dtype), LABELS.copy()
    kept = logits.copy()
    loss, cache = cross_entropy_forward(logits, labels, label_smoothing=smoothing)
    d_logits = backward(np.float64(1.0), cache)    # a float64 scalar must not make float64 of everything
    assert loss.dtype == d_logits.dtype == dtype and d_logits.shape == logits.shape
    np.testing.assert_array_equal(logits, kept)
    np.testing.assert_array_equal(labels, LABELS)
    np.testing.assert_array_equal(backward(1.0, cache), d_logits)    # the cache can be used again


@pytest.mark.parametrize(("logits", "labels", "options", "message"), [
    ((2, 5), np.array([0, 5]), {}, f"{OUT_OF_RANGE} -100, got 5"),
    ((2, 5), np.array([0, -1]), {}, f"{OUT_OF_RANGE} -100, got -1"),
    ((2, 5), np.array([0, -100]), {"ignore_index": -1}, f"{OUT_OF_RANGE} -1, got -100"),
    ((2, 5), np.array([0.0, 1.0]), {}, "labels must be integers, got float64"),
    ((2, 5), np.array([True, False]), {}, "labels must be integers, got bool"),
    ((2, 5), np.array([0, 1, 2]), {}, "labels must have shape (2,) to fit logits (2, 5), got (3,)"),
    ((2, 5), np.zeros((2, 5), int), {}, "labels must have shape (2,) to fit logits (2, 5), got (2, 5)"),
    ((), np.array(0), {}, "logits must have shape (..., V) without an empty axis, got ()"),
    ((2, 0), np.array([0, 0]), {}, "logits must have shape (..., V) without an empty axis, got (2, 0)"),
    ((0, 5), np.zeros(0, int), {}, "logits must have shape (..., V) without an empty axis, got (0, 5)"),
    ((2, 5), np.array([0, 1]), {"label_smoothing": 1.5}, "label_smoothing must lie in 0 to 1, got 1.5"),
    ((2, 5), np.array([0, 1]), {"label_smoothing": -0.1}, "label_smoothing must lie in 0 to 1, got -0.1"),
])
def test_bad_input(logits, labels, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        cross_entropy_forward(np.zeros(logits), labels, **options)
