import re

import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import linear_backward, linear_forward


@pytest.fixture
def rng():
    return np.random.default_rng(1)


@pytest.mark.parametrize("leading", [(), (3,), (2, 3), (2, 3, 6)])
@pytest.mark.parametrize("with_bias", [True, False])
def test_gradients(rng, leading, with_bias):
    bias = rng.normal(size=4) if with_bias else None
    inputs = {"x": rng.normal(size=(*leading, 5)), "weight": rng.normal(size=(5, 4)), "bias": bias}
    report = gradient_check(linear_forward, linear_backward, inputs, rng=rng)
    assert report.ok, report


def test_known_values():
    x = np.array([[1.0, 2.0, 3.0], [0.0, -1.0, 1.0]])
    weight = np.array([[1.0, 0.0], [0.0, 1.0], [2.0, -1.0]])
    bias = np.array([10.0, 20.0])
    out, cache = linear_forward(x, weight, bias)
    np.testing.assert_array_equal(out, [[17.0, 19.0], [12.0, 18.0]])

    d_x, d_weight, d_bias = linear_backward(np.array([[1.0, 0.0], [0.0, 2.0]]), cache)
    np.testing.assert_array_equal(d_x, [[1.0, 0.0, 2.0], [0.0, 2.0, -2.0]])
    np.testing.assert_array_equal(d_weight, [[1.0, 0.0], [2.0, -2.0], [3.0, 2.0]])
    np.testing.assert_array_equal(d_bias, [1.0, 2.0])


def test_without_a_bias_the_gradient_of_the_bias_is_none(rng):
    out, cache = linear_forward(rng.normal(size=(2, 3)), rng.normal(size=(3, 5)))
    assert linear_backward(out, cache)[2] is None


def test_leading_axes_are_kept_and_may_be_strided(rng):
    x = rng.normal(size=(4, 3, 2, 5)).swapaxes(0, 2)    # a view whose rows do not lie one after the other
    weight, bias = rng.normal(size=(5, 7)), rng.normal(size=7)
    out, cache = linear_forward(x, weight, bias)
    np.testing.assert_allclose(out, np.einsum("abci,ij->abcj", x, weight) + bias, atol=1e-12)

    d_out = rng.normal(size=(4, 3, 2, 7)).swapaxes(0, 2)
    d_x, d_weight, d_bias = linear_backward(d_out, cache)
    np.testing.assert_allclose(d_x, np.einsum("abcj,ij->abci", d_out, weight), atol=1e-12)
    np.testing.assert_allclose(d_weight, np.einsum("abci,abcj->ij", x, d_out), atol=1e-12)
    np.testing.assert_allclose(d_bias, d_out.sum(axis=(0, 1, 2)), atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_dtype_and_inputs(rng, dtype):
    arrays = [rng.normal(size=shape).astype(dtype) for shape in [(2, 3, 5), (5, 4), (4,)]]
    kept = [array.copy() for array in arrays]
    out, cache = linear_forward(*arrays)
    d_out = np.ones_like(out)
    grads = linear_backward(d_out, cache)
    assert out.dtype == dtype and all(grad.dtype == dtype for grad in grads)
    for array, copy in zip(arrays, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    np.testing.assert_array_equal(d_out, 1)


@pytest.mark.parametrize(("x", "weight", "bias", "message"), [
    ((2, 3), (4, 5), None, "x must have shape (..., 4) to fit weight (4, 5), got (2, 3)"),
    ((), (4, 5), None, "x must have shape (..., 4) to fit weight (4, 5), got ()"),
    ((2, 3), (3,), None, "weight must have shape (D_in, D_out), got (3,)"),
    ((2, 3), (2, 3, 4), None, "weight must have shape (D_in, D_out), got (2, 3, 4)"),
    ((2, 3), (3, 5), (3,), "bias must have shape (5,) to fit weight (3, 5), got (3,)"),
    ((2, 3), (3, 5), (1, 5), "bias must have shape (5,) to fit weight (3, 5), got (1, 5)"),
    ((0, 3), (3, 5), None, "must not have an empty axis, got x (0, 3) and weight (3, 5)"),
    ((2, 0), (0, 5), None, "must not have an empty axis, got x (2, 0) and weight (0, 5)"),
])
def test_bad_shapes(x, weight, bias, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        linear_forward(np.zeros(x), np.zeros(weight), None if bias is None else np.zeros(bias))
