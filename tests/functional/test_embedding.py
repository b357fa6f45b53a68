import re

import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import embedding_backward, embedding_forward


@pytest.fixture
def rng():
    return np.random.default_rng(5)


@pytest.mark.parametrize("ids", [[[1, 1, 0], [4, 1, 4]], [2], 3, [[[0, 5], [5, 5]]]])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_gradients(rng, ids, dtype):
    inputs = {"ids": np.array(ids, dtype), "weight": rng.normal(size=(6, 4))}
    report = gradient_check(embedding_forward, embedding_backward, inputs, rng=rng)
    assert report.ok, report


def test_repeated_ids_accumulate():
    weight = np.zeros((4, 2))
    _, cache = embedding_forward(np.array([[3, 1, 3], [3, 0, 1]]), weight)
    d_out = np.arange(12.0).reshape(2, 3, 2)
    expected = [[8, 9], [2 + 10, 3 + 11], [0, 0], [0 + 4 + 6, 1 + 5 + 7]]
    np.testing.assert_array_equal(embedding_backward(d_out, cache), expected)


def test_backward_is_the_plain_sum(rng):
    ids = rng.integers(0, 50, size=(7, 40))
    _, cache = embedding_forward(ids, rng.normal(size=(50, 3)))
    d_out = rng.normal(size=(3, 7, 40)).transpose(1, 2, 0)    # a strided view
    expected = np.zeros((50, 3))
    np.add.at(expected, ids, d_out)
    np.testing.assert_allclose(embedding_backward(d_out, cache), expected, atol=1e-12)


def test_is_a_linear_layer_on_one_hot_vectors(rng):
    ids, weight = rng.integers(0, 6, size=(2, 3)), rng.normal(size=(6, 4))
    np.testing.assert_array_equal(embedding_forward(ids, weight)[0], np.eye(6)[ids] @ weight)


def test_out_is_a_copy(rng):
    weight = rng.normal(size=(6, 4))
    kept = weight.copy()
    out, _ = embedding_forward(np.arange(6), weight)
    out += 1
    np.testing.assert_array_equal(weight, kept)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_keeps_dtype_and_inputs(rng, dtype):
    ids, weight = np.array([[2, 0, 2]]), rng.normal(size=(3, 4)).astype(dtype)
    out, cache = embedding_forward(ids, weight)
    d_out = np.ones_like(out)
    d_weight = embedding_backward(d_out, cache)
    assert out.dtype == d_weight.dtype == dtype and d_weight.shape == weight.shape
    np.testing.assert_array_equal(ids, [[2, 0, 2]])
    np.testing.assert_array_equal(d_out, 1)


@pytest.mark.parametrize(("ids", "weight", "message"), [
    (np.array([0, 5]), (5, 2), "ids must lie in 0 to 4 to fit weight (5, 2), got 0 to 5"),
    (np.array([[1, -1]]), (5, 2), "ids must lie in 0 to 4 to fit weight (5, 2), got -1 to 1"),
    (np.array([0.0, 1.0]), (5, 2), "ids must be integers, got float64"),
    (np.array([True, False]), (5, 2), "ids must be integers, got bool"),
    (np.zeros((2, 0), int), (5, 2), "ids must not have an empty axis, got (2, 0)"),
    (np.array([0]), (5,), "weight must have shape (V, D) without an empty axis, got (5,)"),
    (np.array([0]), (5, 0), "weight must have shape (V, D) without an empty axis, got (5, 0)"),
])
def test_bad_input(ids, weight, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        embedding_forward(ids, np.zeros(weight))
