import math

import numpy as np
import pytest

from tinymm import functional, gradient_check
from tinymm.functional import (
    erf, gelu_backward, gelu_forward, relu_backward, relu_forward, sigmoid_backward, sigmoid_forward, swiglu_backward,
    swiglu_forward,
)

PAIRS = {
    "relu": {}, "sigmoid": {}, "tanh": {}, "gelu": {}, "gelu tanh form": {"approximate": True},
}


def pair(name):
    word = name.split()[0]
    return getattr(functional, f"{word}_forward"), getattr(functional, f"{word}_backward")


@pytest.fixture
def rng():
    return np.random.default_rng(2)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("scale", [1.0, 4.0])
def test_gradients(rng, name, scale):
    forward, backward = pair(name)
    report = gradient_check(forward, backward, {"x": scale * rng.normal(size=(2, 3, 5)), **PAIRS[name]}, rng=rng)
    assert report.ok, report


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(), (0, 3), (4,), (2, 3)])
def test_keeps_dtype_shape_and_inputs(rng, name, dtype, shape):
    forward, backward = pair(name)
    x = np.asarray(rng.normal(size=shape)).astype(dtype)
    kept = x.copy()
    out, cache = forward(x, **PAIRS[name])
    d_out = np.ones_like(x)
    d_x = backward(d_out, cache)
    assert out.dtype == d_x.dtype == dtype and out.shape == d_x.shape == shape
    np.testing.assert_array_equal(x, kept)
    np.testing.assert_array_equal(d_out, 1)


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_large_inputs_stay_finite_and_silent(name, dtype):
    forward, backward = pair(name)
    x = np.array([-1e4, -100, -30, 0, 30, 100, 1e4], dtype)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        out, cache = forward(x, **PAIRS[name])
        d_x = backward(np.ones_like(x), cache)
    assert np.isfinite(out).all() and np.isfinite(d_x).all()
    slopes = {"relu": (0, 1), "gelu": (0, 1), "sigmoid": (0, 0), "tanh": (0, 0)}[name.split()[0]]    # left, right
    np.testing.assert_allclose(d_x[[0, -1]], slopes, atol=1e-6)


def test_relu_values_and_the_kink():
    out, cache = relu_forward(np.array([-2.0, 0.0, 3.0]))
    np.testing.assert_array_equal(out, [0, 0, 3])
    np.testing.assert_array_equal(relu_backward(np.array([5.0, 5.0, 5.0]), cache), [0, 0, 5])


def test_gelu_is_x_times_the_normal_distribution():
    x = np.linspace(-5, 5, 101)
    expected = [t * 0.5 * math.erfc(-t / math.sqrt(2)) for t in x]
    np.testing.assert_allclose(gelu_forward(x)[0], expected, rtol=0, atol=1e-15)


def test_gelu_tanh_form_is_near_but_not_the_same():
    x = np.linspace(-5, 5, 101)
    expected = [0.5 * t * (1 + math.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3))) for t in x]
    approximate = gelu_forward(x, approximate=True)[0]
    np.testing.assert_allclose(approximate, expected, rtol=0, atol=1e-15)
    difference = np.abs(approximate - gelu_forward(x)[0]).max()
    assert 1e-4 < difference < 5e-4


def test_gelu_backward_remembers_which_form_was_taken():
    x = np.array([0.7, 2.2])
    slopes = [gelu_backward(np.ones(2), gelu_forward(x, approximate=form)[1]) for form in (False, True)]
    assert np.abs(slopes[0] - slopes[1]).max() > 1e-5


def test_sigmoid_keeps_its_digits_far_out():
    x = np.array([-700.0, -40.0, 0.0, 40.0])
    out, cache = sigmoid_forward(x)
    np.testing.assert_allclose(out, [math.exp(-700), math.exp(-40), 0.5, 1], rtol=1e-15)
    d_x = sigmoid_backward(np.ones(4), cache)
    np.testing.assert_allclose(d_x[:3], [math.exp(-700), math.exp(-40), 0.25], rtol=1e-15)


def test_erf_is_exact_in_float64():
    x = np.concatenate([np.linspace(-7, 7, 2801), np.logspace(-300, 0, 61), [0.46875, np.nextafter(0.46875, 1), 30.0]])
    exact = np.array([math.erf(t) for t in x])
    np.testing.assert_allclose(erf(x), exact, rtol=1e-15, atol=0)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 6e-7), (np.float16, 5e-4)])
def test_erf_in_lower_precision(dtype, tolerance):
    x = np.linspace(-7, 7, 2801, dtype=dtype)
    exact = [math.erf(t) for t in x.astype(np.float64)]
    assert erf(x).dtype == dtype
    np.testing.assert_allclose(erf(x).astype(np.float64), exact, rtol=0, atol=tolerance)


def test_erf_at_the_ends_and_beside_zero():
    out = erf(np.array([np.inf, -np.inf, np.nan, 0.0, -0.0]))
    np.testing.assert_array_equal(out, [1, -1, np.nan, 0, 0])
    np.testing.assert_array_equal(np.signbit(out[3:]), [False, True])


def test_erf_works_through_long_and_strided_arrays():
    x = np.linspace(-3, 3, 3 * 20_000).reshape(3, 20_000).T    # longer than one piece, and not in the order of memory
    np.testing.assert_array_equal(erf(x)[::997, 1], [float(erf(np.float64(t))) for t in x[::997, 1]])
    assert erf(x).shape == x.shape


# ------------------------------------------------------------------------------------------------------ swiglu


def test_swiglu_gradients(rng):
    inputs = {"gate": 3 * rng.normal(size=(2, 3, 5)), "value": rng.normal(size=(2, 3, 5))}
    report = gradient_check(swiglu_forward, swiglu_backward, inputs, rng=rng)
    assert report.ok, report


def test_swiglu_known_values():
    gate, value = np.array([0.0, math.log(3), 800.0, -800.0]), np.array([5.0, 2.0, 3.0, 7.0])
    out, cache = swiglu_forward(gate, value)
    np.testing.assert_allclose(out, [0, 2 * 0.75 * math.log(3), 2400, 0], rtol=1e-14, atol=1e-300)
    d_gate, d_value = swiglu_backward(np.ones(4), cache)
    np.testing.assert_allclose(d_gate, [2.5, 2 * (0.75 + 0.1875 * math.log(3)), 3, 0], rtol=1e-14, atol=1e-300)
    np.testing.assert_allclose(d_value, out / value, rtol=1e-14)


def test_swiglu_shapes_must_agree():
    with pytest.raises(ValueError, match=r"got gate \(2, 3\) and value \(3,\)"):
        swiglu_forward(np.zeros((2, 3)), np.zeros(3))
