import re

import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import (
    batch_norm_backward,
    batch_norm_backward_steps,
    batch_norm_forward,
    layer_norm_backward,
    layer_norm_backward_steps,
    layer_norm_forward,
    rms_norm_backward,
    rms_norm_backward_steps,
    rms_norm_forward,
)

ONES, ZEROS = np.ones(3), np.zeros(3)


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def layer_norm_inputs(rng, shape):
    return {"x": 3 + 2 * rng.normal(size=shape), "gain": rng.normal(size=shape[-1]), "bias": rng.normal(size=shape[-1])}


def batch_norm_inputs(rng, shape, training):
    running = {"running_mean": rng.normal(size=shape[-1]), "running_variance": rng.uniform(0.5, 2, size=shape[-1])}
    return layer_norm_inputs(rng, shape) | running | {"training": training}


# ---------------------------------------------------------------------------------------------------- layer norm


@pytest.mark.parametrize("backward", [layer_norm_backward, layer_norm_backward_steps])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_layer_norm_gradients(rng, backward, shape):
    report = gradient_check(layer_norm_forward, backward, layer_norm_inputs(rng, shape), rng=rng)
    assert report.ok, report


def test_layer_norm_steps_are_the_short_formula(rng):
    out, cache = layer_norm_forward(**layer_norm_inputs(rng, (2, 3, 5)))
    d_out = rng.normal(size=out.shape)
    for short, steps in zip(layer_norm_backward(d_out, cache), layer_norm_backward_steps(d_out, cache), strict=True):
        np.testing.assert_allclose(steps, short, rtol=1e-10, atol=1e-12)


def test_layer_norm_known_values():
    x = np.array([[1.0, 3.0, 5.0], [-6.0, 0.0, 6.0]])  # means 3, 0; variances 8/3, 24
    out, cache = layer_norm_forward(x, np.array([1.0, 2.0, 1.0]), np.array([0.0, 7.0, 0.0]), eps=0.0)
    high = np.sqrt(1.5)
    np.testing.assert_allclose(out, [[-high, 7, high], [-high, 7, high]], rtol=1e-14)
    np.testing.assert_allclose(cache.rstd, [[np.sqrt(3 / 8)], [np.sqrt(1 / 24)]], rtol=1e-14)


def test_layer_norm_gradient_has_no_part_that_could_not_matter(rng):
    """A constant added to a row, or the row stretched, changes nothing: d_x is orthogonal to both directions."""
    x = rng.normal(size=(4, 6))
    out, cache = layer_norm_forward(x, np.ones(6), np.zeros(6), eps=0.0)
    np.testing.assert_allclose(layer_norm_forward(5 * x - 2, np.ones(6), np.zeros(6), eps=0.0)[0], out, atol=1e-12)
    d_x, _, _ = layer_norm_backward(rng.normal(size=(4, 6)), cache)
    assert np.abs(d_x).max() > 0.1
    np.testing.assert_allclose(d_x.sum(axis=-1), 0, atol=1e-13)
    np.testing.assert_allclose((d_x * x).sum(axis=-1), 0, atol=1e-13)


def test_layer_norm_of_a_constant_row_is_the_bias():
    bias = np.array([1.0, 2.0, 3.0])
    out, cache = layer_norm_forward(np.full((2, 3), 7.0), ONES, bias)
    np.testing.assert_array_equal(out, [bias, bias])
    assert np.isfinite(layer_norm_backward(np.array([[1.0, 0, 0], [0, 1, 0]]), cache)[0]).all()


def test_layer_norm_of_one_token_does_not_depend_on_the_others(rng):
    inputs = layer_norm_inputs(rng, (4, 5))
    alone, _ = layer_norm_forward(inputs["x"][2], inputs["gain"], inputs["bias"])
    np.testing.assert_allclose(layer_norm_forward(**inputs)[0][2], alone, rtol=1e-14)


# ---------------------------------------------------------------------------------------------------- batch norm


@pytest.mark.parametrize("backward", [batch_norm_backward, batch_norm_backward_steps])
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(7, 3), (2, 3, 4, 5)])
def test_batch_norm_gradients(rng, backward, training, shape):
    inputs = batch_norm_inputs(rng, shape, training)
    report = gradient_check(
        batch_norm_forward, backward, inputs, rng=rng, constants=("running_mean", "running_variance")
    )
    assert report.ok, report


@pytest.mark.parametrize("training", [True, False])
def test_batch_norm_steps_are_the_short_formula(rng, training):
    out, cache = batch_norm_forward(**batch_norm_inputs(rng, (2, 3, 4, 5), training))
    d_out = rng.normal(size=out.shape)
    for short, steps in zip(batch_norm_backward(d_out, cache), batch_norm_backward_steps(d_out, cache), strict=True):
        np.testing.assert_allclose(steps, short, rtol=1e-10, atol=1e-12)


def test_batch_norm_in_training_uses_the_batch(rng):
    inputs = batch_norm_inputs(rng, (2, 3, 4, 5), training=True) | {"gain": np.ones(5), "bias": np.zeros(5), "eps": 0.0}
    out, _ = batch_norm_forward(**inputs)
    np.testing.assert_allclose(out.mean(axis=(0, 1, 2)), 0, atol=1e-13)
    np.testing.assert_allclose(out.var(axis=(0, 1, 2)), 1, rtol=1e-12)


def test_batch_norm_running_statistics(rng):
    x = rng.normal(size=(6, 3))
    mean, variance = np.array([1.0, 2.0, 3.0]), np.array([1.0, 4.0, 9.0])
    _, cache = batch_norm_forward(x, ONES, ZEROS, mean, variance, True, momentum=0.25)
    np.testing.assert_allclose(cache.running_mean, 0.75 * mean + 0.25 * x.mean(axis=0), rtol=1e-14)
    np.testing.assert_allclose(cache.running_variance, 0.75 * variance + 0.25 * x.var(axis=0, ddof=1), rtol=1e-14)
    np.testing.assert_array_equal(mean, [1, 2, 3])  # the function is pure: the layer decides what to keep
    np.testing.assert_array_equal(variance, [1, 4, 9])


def test_batch_norm_in_evaluation_uses_the_running_statistics():
    x = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]])
    mean, variance = np.array([1.0, 0.0, 0.0]), np.array([1.0, 4.0, 0.25])
    out, cache = batch_norm_forward(
        x, np.array([1.0, 1.0, 2.0]), np.array([0.0, 5.0, 0.0]), mean, variance, False, eps=0.0
    )
    np.testing.assert_allclose(out, [[0, 6, 12], [2, 6, 4]], rtol=1e-14)
    np.testing.assert_array_equal(cache.running_mean, mean)
    np.testing.assert_array_equal(cache.running_variance, variance)
    alone, _ = batch_norm_forward(
        x[1], np.array([1.0, 1.0, 2.0]), np.array([0.0, 5.0, 0.0]), mean, variance, False, eps=0.0
    )
    np.testing.assert_array_equal(out[1], alone)  # nor does it need a batch


# ---------------------------------------------------------------------------------------------------- both


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("training", [True, False])
def test_the_dtype_stays(rng, dtype, training):
    x, gain, bias, mean, variance = (rng.uniform(1, 2, size=shape).astype(dtype) for shape in [(4, 3), 3, 3, 3, 3])
    for (out, cache), backward in [
        (layer_norm_forward(x, gain, bias), layer_norm_backward),
        (layer_norm_forward(x, gain, bias), layer_norm_backward_steps),
        (batch_norm_forward(x, gain, bias, mean, variance, training), batch_norm_backward),
        (batch_norm_forward(x, gain, bias, mean, variance, training), batch_norm_backward_steps),
    ]:
        assert out.dtype == dtype
        assert [value.dtype for value in cache if isinstance(value, np.ndarray)] == [dtype] * sum(
            isinstance(v, np.ndarray) for v in cache
        )
        assert [grad.dtype for grad in backward(out, cache)] == [dtype] * 3


def test_float32_is_close_to_float64(rng):
    inputs = {key: value.astype(np.float32) for key, value in layer_norm_inputs(rng, (50, 64)).items()}
    exact = layer_norm_forward(**{key: value.astype(np.float64) for key, value in inputs.items()})[0]
    np.testing.assert_allclose(layer_norm_forward(**inputs)[0], exact, atol=1e-5)


@pytest.mark.parametrize(
    "call, message",
    [
        (
            lambda: layer_norm_forward(np.ones((2, 3)), np.ones(2), ZEROS),
            "gain must have the shape of the last axis of x, (3,), got gain (2,) and x (2, 3)",
        ),
        (
            lambda: layer_norm_forward(np.ones((2, 3)), ONES, np.zeros((1, 3))),
            "bias must have the shape of the last axis of x, (3,), got bias (1, 3)",
        ),
        (lambda: layer_norm_forward(np.ones((2, 0)), np.ones(0), np.ones(0)), "no empty one, got x (2, 0)"),
        (
            lambda: layer_norm_forward(np.array(1.0), ONES, ZEROS),
            "x must have at least one axis and no empty one, got x ()",
        ),
        (
            lambda: batch_norm_forward(np.ones((2, 3)), ONES, ZEROS, np.zeros(4), ONES, False),
            "running_mean must have the shape",
        ),
        (
            lambda: batch_norm_forward(np.ones((2, 3)), ONES, ZEROS, ZEROS, np.ones(2), True),
            "running_variance must have the shape",
        ),
        (
            lambda: batch_norm_forward(np.ones((1, 1, 3)), ONES, ZEROS, ZEROS, ONES, True),
            "2 or more values for each channel, got x (1, 1, 3)",
        ),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


# ------------------------------------------------------------------------------------------------------ RMS norm


@pytest.mark.parametrize("backward", [rms_norm_backward, rms_norm_backward_steps])
@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_rms_norm_gradients(rng, backward, shape):
    inputs = {"x": 1 + rng.normal(size=shape), "gain": rng.normal(size=shape[-1]), "eps": 0.1}
    report = gradient_check(rms_norm_forward, backward, inputs, rng=rng)
    assert report.ok, report


def test_rms_norm_steps_are_the_short_formula(rng):
    out, cache = rms_norm_forward(1 + rng.normal(size=(2, 3, 5)), rng.normal(size=5))
    d_out = rng.normal(size=out.shape)
    for short, steps in zip(rms_norm_backward(d_out, cache), rms_norm_backward_steps(d_out, cache), strict=True):
        np.testing.assert_allclose(steps, short, rtol=1e-10, atol=1e-12)


def test_rms_norm_known_values():
    out, _ = rms_norm_forward(np.array([[3.0, 4.0], [0.0, 0.0]]), np.array([1.0, 2.0]), eps=0.0001)
    np.testing.assert_allclose(out, [[3 / np.sqrt(12.5001), 8 / np.sqrt(12.5001)], [0, 0]], rtol=1e-14)


def test_rms_norm_of_a_centred_row_is_layer_norm(rng):
    x, gain = rng.normal(size=(4, 6)), rng.normal(size=6)
    x -= x.mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(rms_norm_forward(x, gain)[0], layer_norm_forward(x, gain, np.zeros(6))[0], rtol=1e-12)
    assert np.abs(rms_norm_forward(x + 1, gain)[0] - layer_norm_forward(x + 1, gain, np.zeros(6))[0]).max() > 0.1


@pytest.mark.parametrize(("x", "gain"), [((), (1,)), ((2, 0), (0,)), ((2, 3), (2,)), ((2, 3), (1, 3))])
def test_rms_norm_bad_input(x, gain):
    with pytest.raises(ValueError, match="x must have at least one axis|gain must have the shape of the last axis"):
        rms_norm_forward(np.zeros(x), np.zeros(gain))
