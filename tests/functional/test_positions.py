import math
import re

import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import learned_positions_backward, learned_positions_forward, sinusoidal_positions


@pytest.fixture
def rng():
    return np.random.default_rng(6)


@pytest.mark.parametrize("width", [1, 2, 6, 7])
def test_sinusoidal_is_the_formula(width):
    table = sinusoidal_positions(5, width)
    assert table.shape == (5, width) and table.dtype == np.float64
    for t in range(5):
        for column in range(width):
            angle = t / 10000 ** ((column - column % 2) / width)
            assert table[t, column] == pytest.approx(math.cos(angle) if column % 2 else math.sin(angle), abs=1e-15)


def test_sinusoidal_step_is_a_rotation():
    table = sinusoidal_positions(60, 8)
    hands = table[:, 0::2] + 1j * table[:, 1::2]    # sin + i cos
    turn = hands[7] / hands[0]                      # seven places on
    np.testing.assert_allclose(hands[7:], hands[:-7] * turn, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sinusoidal_dtype(dtype):
    assert sinusoidal_positions(3, 4, dtype).dtype == dtype


@pytest.mark.parametrize(("length", "width"), [(0, 4), (3, 0), (-1, 4)])
def test_sinusoidal_bad_sizes(length, width):
    with pytest.raises(ValueError, match=f"length and width must be at least 1, got {length} and {width}"):
        sinusoidal_positions(length, width)


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 4), (2, 5, 3, 4), (2, 7, 4)])
def test_learned_gradients(rng, shape):
    inputs = {"x": rng.normal(size=shape), "weight": rng.normal(size=(7, 4))}
    report = gradient_check(learned_positions_forward, learned_positions_backward, inputs, rng=rng)
    assert report.ok, report


def test_learned_values():
    x = np.zeros((2, 2, 3))
    weight = np.arange(12.0).reshape(4, 3)
    out, cache = learned_positions_forward(x, weight)
    np.testing.assert_array_equal(out, [weight[:2], weight[:2]])
    _, d_weight = learned_positions_backward(np.ones((2, 2, 3)), cache)
    np.testing.assert_array_equal(d_weight, [[2] * 3, [2] * 3, [0] * 3, [0] * 3])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_learned_keeps_dtype_and_inputs(rng, dtype):
    x, weight = rng.normal(size=(2, 3, 4)).astype(dtype), rng.normal(size=(5, 4)).astype(dtype)
    kept_x, kept_weight = x.copy(), weight.copy()
    out, cache = learned_positions_forward(x, weight)
    d_x, d_weight = learned_positions_backward(np.ones_like(out), cache)
    assert out.dtype == d_x.dtype == d_weight.dtype == dtype
    np.testing.assert_array_equal(x, kept_x)
    np.testing.assert_array_equal(weight, kept_weight)


@pytest.mark.parametrize(("x", "weight", "message"), [
    ((2, 6, 4), (5, 4), "x has 6 positions, but weight (5, 4) has only 5"),
    ((2, 3, 4), (5, 3), "weight must have shape (L, 4) to fit x (2, 3, 4), got (5, 3)"),
    ((2, 3, 4), (4,), "weight must have shape (L, 4) to fit x (2, 3, 4), got (4,)"),
    ((4,), (5, 4), "x must have shape (..., T, D) without an empty axis, got (4,)"),
    ((2, 0, 4), (5, 4), "x must have shape (..., T, D) without an empty axis, got (2, 0, 4)"),
])
def test_learned_bad_input(x, weight, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        learned_positions_forward(np.zeros(x), np.zeros(weight))
