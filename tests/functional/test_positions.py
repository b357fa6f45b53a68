import math
import re

import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import (
    learned_positions_backward, learned_positions_forward, rotary_backward, rotary_forward, sinusoidal_positions,
)


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


def test_learned_positions_further_on_in_the_text(rng):
    """Two parts with their offsets are the whole, and each part's gradient reaches its own rows."""
    x, weight = rng.normal(size=(2, 5, 3)), rng.normal(size=(7, 3))
    whole, cache = learned_positions_forward(x, weight)
    _, d_weight = learned_positions_backward(np.ones_like(x), cache)
    parts = [learned_positions_forward(x[:, :2], weight), learned_positions_forward(x[:, 2:], weight, 2)]
    np.testing.assert_array_equal(np.concatenate([out for out, _ in parts], axis=1), whole)
    found = [learned_positions_backward(np.ones_like(out), part)[1] for out, part in parts]
    assert not found[1][:2].any() and not found[1][5:].any()
    np.testing.assert_array_equal(found[0] + found[1], d_weight)


@pytest.mark.parametrize("offset", [3, -1])
def test_learned_positions_bad_offset(offset):
    with pytest.raises(ValueError, match="5 positions|offset must be 0 or more, got -1"):
        learned_positions_forward(np.zeros((1, 2, 3)), np.zeros((4, 3)), offset)


# ------------------------------------------------------------------------------------------------------ rotary


@pytest.mark.parametrize("offset", [0, 3])
def test_rotary_turns_neighbours_as_complex_numbers(rng, offset):
    x = rng.normal(size=(2, 5, 6))
    out, _ = rotary_forward(x, offset)
    for t in range(5):
        for i in range(3):
            turned = complex(*x[1, t, 2 * i:2 * i + 2]) * np.exp(1j * (offset + t) / 10000 ** (2 * i / 6))
            np.testing.assert_allclose(out[1, t, 2 * i:2 * i + 2], [turned.real, turned.imag], rtol=1e-13, atol=1e-14)


def test_rotary_scores_depend_on_the_distance_alone(rng):
    q, k = rng.normal(size=(1, 8)), rng.normal(size=(1, 8))

    def score(query_place, key_place):
        return (rotary_forward(q, query_place)[0] @ rotary_forward(k, key_place)[0].T).item()

    assert score(9, 4) == pytest.approx(score(25, 20), rel=1e-12)
    assert abs(score(9, 4) - score(9, 5)) > 1e-3
    assert score(7, 7) == pytest.approx((q @ k.T).item(), rel=1e-12)


def test_rotary_backward_turns_back(rng):
    x = rng.normal(size=(3, 4, 6))
    out, cache = rotary_forward(x, 11)
    np.testing.assert_allclose(rotary_backward(out, cache), x, rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose((out**2).sum(-1), (x**2).sum(-1), rtol=1e-13)


def test_rotary_in_two_parts_is_the_whole(rng):
    x = rng.normal(size=(2, 7, 4)).astype(np.float32)
    whole, _ = rotary_forward(x)
    parts = [rotary_forward(x[:, :3])[0], rotary_forward(x[:, 3:], 3)[0]]
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)
    assert whole.dtype == np.float32


@pytest.mark.parametrize(("shape", "offset", "message"), [
    ((4, 3), 0, "even K"), ((4,), 0, "(..., T, K)"), ((0, 4), 0, "empty axis"), ((2, 4), -1, "offset must be 0 or more, got -1"),
])
def test_rotary_bad_input(shape, offset, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        rotary_forward(np.zeros(shape), offset)
