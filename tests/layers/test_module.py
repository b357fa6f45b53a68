"""Modules: names, accumulation, tied weights, state."""

import numpy as np
import pytest

from tinymm.layers import BatchNorm, Linear, Module, TransformerBlock


class Tied(Module):
    """Two layers that share one weight."""

    def __init__(self, rng):
        self.first = Linear(5, 5, rng)
        self.second = Linear(5, 5, rng)
        self.second.weight = self.first.weight

    def forward(self, x):
        hidden, first = self.first.forward(x)
        out, second = self.second.forward(hidden)
        return out, (first, second)

    def backward(self, d_out, cache):
        return self.first.backward(self.second.backward(d_out, cache[1]), cache[0])


def test_names_are_dotted_and_unique():
    block = TransformerBlock(8, 2, 12, np.random.default_rng(0), fusion="cross")
    names = [name for name, _ in block.named_parameters()]
    assert len(names) == len(set(names))
    assert "attention.sublayer.query.weight" in names and "cross_attention.norm.gain" in names


def test_a_tied_parameter_is_named_once_and_gets_both_gradients():
    model = Tied(np.random.default_rng(0)).astype(np.float64)
    assert [name for name, _ in model.named_parameters()] == ["first.weight", "first.bias", "second.bias"]
    rng = np.random.default_rng(1)
    x, d_out = rng.standard_normal((3, 5)), rng.standard_normal((3, 5))
    _, cache = model.forward(x)
    model.backward(d_out, cache)
    w = model.first.weight
    numeric = np.zeros(w.shape)
    for i in np.ndindex(w.shape):
        kept = w.value[i]
        w.value[i] = kept + 1e-5
        up = (model.forward(x)[0] * d_out).sum()
        w.value[i] = kept - 1e-5
        numeric[i] = (up - (model.forward(x)[0] * d_out).sum()) / 2e-5
        w.value[i] = kept
    np.testing.assert_allclose(w.grad, numeric, rtol=1e-7, atol=1e-9)


def test_two_forwards_then_two_backwards_in_the_other_order():
    rng = np.random.default_rng(2)
    block = TransformerBlock(6, 3, 10, rng).astype(np.float64)
    xs = [rng.standard_normal((2, 4, 6)), rng.standard_normal((3, 5, 6))]
    d_outs = [rng.standard_normal(x.shape) for x in xs]
    one_by_one, total = [], 0
    for x, d_out in zip(xs, d_outs):
        block.zero_grad()
        _, cache = block.forward(x)
        one_by_one.append(block.backward(d_out, cache))
        total = total + block.attention.sublayer.key.weight.grad
    block.zero_grad()
    caches = [block.forward(x)[1] for x in xs]
    d_second, d_first = block.backward(d_outs[1], caches[1]), block.backward(d_outs[0], caches[0])
    np.testing.assert_array_equal(d_first, one_by_one[0])
    np.testing.assert_array_equal(d_second, one_by_one[1])
    np.testing.assert_allclose(block.attention.sublayer.key.weight.grad, total, rtol=1e-12)


def test_state_round_trip_includes_running_statistics():
    norm = BatchNorm(3)
    norm.forward(np.random.default_rng(0).standard_normal((7, 3)).astype(np.float32), training=True)
    other = BatchNorm(3)
    other.load_state({name: array.copy() for name, array in norm.state().items()})
    assert set(norm.state()) == {"gain", "bias", "running_mean", "running_variance"}
    np.testing.assert_array_equal(other.running_mean, norm.running_mean)
    assert not np.array_equal(other.running_mean, np.zeros(3))


def test_load_state_refuses_foreign_arrays_and_changes_nothing():
    layer = Linear(4, 3, np.random.default_rng(0))
    before = layer.weight.value.copy()
    with pytest.raises(ValueError, match="missing.*bias"):
        layer.load_state({"weight": np.ones((4, 3))})
    with pytest.raises(ValueError, match=r"bias has shape \(2,\)"):
        layer.load_state({"weight": np.ones((4, 3)), "bias": np.ones(2)})
    np.testing.assert_array_equal(layer.weight.value, before)


def test_backends():
    layer = Linear(4, 3, np.random.default_rng(0))
    with pytest.raises(ValueError, match="numpy.*numba"):
        layer.use_backend("cuda")
    assert layer.use_backend("numba").ops.__name__ == "tinymm.kernels"
    assert layer.use_backend("numpy").ops.__name__ == "tinymm.functional"


def test_constructors_refuse_sizes_that_do_not_fit():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="multiple of n_heads"):
        TransformerBlock(8, 3, 12, rng)
    with pytest.raises(ValueError, match="fusion must be"):
        TransformerBlock(8, 2, 12, rng, fusion="sum")
    with pytest.raises(ValueError, match="norm must be"):
        TransformerBlock(8, 2, 12, rng, norm="none")
