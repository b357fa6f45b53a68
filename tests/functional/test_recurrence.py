"""The LSTM: what its gates do, and that padding changes nothing."""

import numpy as np
import pytest

from tinymm.functional import lstm_backward, lstm_cell_forward, lstm_forward


@pytest.fixture
def rng():
    return np.random.default_rng(5)


def weights(rng, E=3, D=4):
    return {"weight_x": rng.normal(size=(E, 4 * D)), "weight_h": rng.normal(size=(D, 4 * D)), "bias": rng.normal(size=4 * D)}


def gates(D=2, **biases):
    """All weights zero, so that the gates are what their biases say."""
    bias = np.concatenate([np.full(D, biases.get(name, 0.0)) for name in "ifgo"])
    return {"weight_x": np.zeros((3, 4 * D)), "weight_h": np.zeros((D, 4 * D)), "bias": bias}


def test_open_forget_gate_and_closed_input_gate_keep_the_memory():
    h, c = np.zeros((1, 2)), np.array([[0.7, -1.3]])
    (_, new_c), _ = lstm_cell_forward(np.ones((1, 3)), h, c, **gates(i=-50, f=50, g=2, o=0))
    np.testing.assert_allclose(new_c, c)


def test_closed_forget_gate_and_open_input_gate_write_the_candidate():
    (new_h, new_c), _ = lstm_cell_forward(np.ones((1, 3)), np.zeros((1, 2)), np.full((1, 2), 9.0), **gates(i=50, f=-50, g=0.5, o=50))
    np.testing.assert_allclose(new_c, np.tanh(0.5) * np.ones((1, 2)))
    np.testing.assert_allclose(new_h, np.tanh(np.tanh(0.5)) * np.ones((1, 2)))


def test_a_sequence_is_the_cell_step_by_step(rng):
    x, w = rng.normal(size=(2, 3, 3)), weights(rng)
    out, _ = lstm_forward(x, **w)
    h, c = np.zeros((2, 4)), np.zeros((2, 4))
    for t in range(3):
        (h, c), _ = lstm_cell_forward(x[:, t], h, c, **w)
        np.testing.assert_array_equal(out[:, t], h)


def test_padding_keeps_the_state_whatever_stands_there(rng):
    x, w = rng.normal(size=(2, 5, 3)), weights(rng)
    mask = np.arange(5) < np.array([[5], [2]])
    out, _ = lstm_forward(x, **w, mask=mask)
    short, _ = lstm_forward(x[1:, :2], **w)
    np.testing.assert_allclose(out[1, -1], short[0, -1])
    other = x.copy()
    other[1, 2:] = 1e6
    np.testing.assert_array_equal(lstm_forward(other, **w, mask=mask)[0], out)


def test_two_halves_are_the_whole_if_the_second_begins_where_the_first_ended(rng):
    x, w = rng.normal(size=(2, 5, 3)), weights(rng)
    whole, _ = lstm_forward(x, **w)
    first, cache = lstm_forward(x[:, :2], **w)
    last = cache.steps[-1]
    memory = last.gates[1] * last.c + last.gates[0] * last.gates[2]
    second, _ = lstm_forward(x[:, 2:], **w, h0=first[:, -1], c0=memory)
    np.testing.assert_allclose(np.concatenate([first, second], axis=1), whole, rtol=1e-12)


def test_only_a_given_beginning_has_a_gradient(rng):
    x, w, start = rng.normal(size=(2, 3, 3)), weights(rng), rng.normal(size=(2, 4))
    for given, there in (({}, (False, False)), ({"h0": start}, (True, False)), ({"c0": start}, (False, True))):
        out, cache = lstm_forward(x, **w, **given)
        *_, d_h0, d_c0 = lstm_backward(np.ones_like(out), cache)
        assert (d_h0 is not None, d_c0 is not None) == there


def test_float32_stays_float32(rng):
    w = {name: array.astype(np.float32) for name, array in weights(rng).items()}
    assert lstm_forward(rng.normal(size=(1, 2, 3)).astype(np.float32), **w)[0].dtype == np.float32


@pytest.mark.parametrize("change, words", [
    ({"x": np.zeros((2, 3))}, r"x must have shape \(B, T, E\)"), ({"weight_h": np.zeros((4, 12))}, "weight_h must have shape"),
    ({"weight_x": np.zeros((2, 16))}, "weight_x must have shape"), ({"bias": np.zeros(4)}, "bias"),
    ({"mask": np.ones((2, 3))}, "mask must be boolean"), ({"h0": np.ones((1, 4))}, r"h0 must have shape \(B, D\)"),
    ({"c0": np.ones((2, 3))}, r"c0 must have shape \(B, D\)"),
])
def test_wrong_arguments(rng, change, words):
    with pytest.raises(ValueError, match=words):
        lstm_forward(**({"x": rng.normal(size=(2, 3, 3))} | weights(rng) | change))
