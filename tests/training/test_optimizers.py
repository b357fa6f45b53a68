"""The optimizers against hand-computed steps, against PyTorch, and over a checkpoint."""

import math

import numpy as np
import pytest

from tinymm.layers.module import Module, Parameter
from tinymm.training.optimizers import ALIGNMENT, BLOCK, SGD, Adam, AdamW, clip_by_global_norm


class Toy(Module):
    def __init__(self, rng, dtype=np.float64, rows=3):
        self.gain = Parameter(rng.standard_normal(5).astype(dtype))
        self.weight = Parameter(rng.standard_normal((rows, 5)).astype(dtype))
        self.scale = Parameter(np.asarray(rng.standard_normal(), dtype))
        self.kernel = Parameter(rng.standard_normal((2, 3, 4, 2)).astype(dtype))


class Tied(Module):
    def __init__(self, rng):
        self.first = Parameter(rng.standard_normal((2, 3)))
        self.second = self.first


def fill_gradients(module, seed):
    rng = np.random.default_rng(seed)
    for parameter in module.parameters():
        parameter.grad[...] = rng.standard_normal(parameter.shape)


def values(module):
    return {name: parameter.value.copy() for name, parameter in module.named_parameters()}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_parameters_become_aligned_views_of_the_flat_buffers_without_a_change(dtype):
    module = Toy(np.random.default_rng(0), dtype)
    before = values(module)
    optimizer = AdamW(module)
    for name, parameter in module.named_parameters():
        np.testing.assert_array_equal(parameter.value, before[name])
        assert parameter.value.dtype == dtype
        assert np.shares_memory(parameter.value, optimizer.values)
        assert np.shares_memory(parameter.grad, optimizer.gradients)
        assert parameter.value.ctypes.data % ALIGNMENT == 0
        assert np.shares_memory(parameter.value, optimizer.values[:optimizer.decayed]) == (parameter.value.ndim >= 2)
    fill_gradients(module, 1)
    optimizer.zero_grad()
    assert all((parameter.grad == 0).all() for parameter in module.parameters())


def test_first_steps_of_sgd_by_hand():
    module = Toy(np.random.default_rng(0))
    optimizer, before = SGD(module, momentum=0.5), values(module)
    for parameter in module.parameters():
        parameter.grad[...] = 2
    optimizer.step(0.1)     # v = 2, theta -= 0.2
    optimizer.step(0.1)     # v = 0.5 * 2 + 2 = 3, theta -= 0.3
    for name, value in values(module).items():
        np.testing.assert_allclose(value, before[name] - 0.5, rtol=1e-14)


def test_first_steps_of_adam_by_hand():
    module = Toy(np.random.default_rng(0))
    optimizer, before = Adam(module, beta1=0.9, beta2=0.99, eps=1e-30), values(module)
    fill_gradients(module, 1)
    first = {name: parameter.grad.copy() for name, parameter in module.named_parameters()}
    optimizer.step(0.1)     # m_hat = g and sqrt(v_hat) = |g|: the first step is lr sign(g)
    after = values(module)
    for name, value in after.items():
        np.testing.assert_allclose(value, before[name] - 0.1 * np.sign(first[name]), rtol=1e-12)
    fill_gradients(module, 2)
    optimizer.step(0.1)
    for name, parameter in module.named_parameters():
        m = (0.9 * 0.1 * first[name] + 0.1 * parameter.grad) / (1 - 0.9**2)
        v = (0.99 * 0.01 * first[name]**2 + 0.01 * parameter.grad**2) / (1 - 0.99**2)
        np.testing.assert_allclose(parameter.value, after[name] - 0.1 * m / np.sqrt(v), rtol=1e-12)


def test_adamw_decays_matrices_and_kernels_only_and_not_through_the_gradient():
    module = Toy(np.random.default_rng(0))
    optimizer, before = AdamW(module, weight_decay=0.5), values(module)
    optimizer.zero_grad()
    optimizer.step(0.1)
    after = values(module)
    for name in ("weight", "kernel"):
        np.testing.assert_allclose(after[name], 0.95 * before[name], rtol=1e-14)
    for name in ("gain", "scale"):
        np.testing.assert_array_equal(after[name], before[name])


def test_kernels_may_decay_at_a_rate_of_their_own():
    module = Toy(np.random.default_rng(0))
    optimizer, before = AdamW(module, weight_decay=0.5, kernel_decay=2.0), values(module)
    optimizer.zero_grad()
    optimizer.step(0.1)
    after = values(module)
    for name, kept in (("weight", 0.95), ("kernel", 0.8), ("gain", 1), ("scale", 1)):
        np.testing.assert_allclose(after[name], kept * before[name], rtol=1e-14)


def test_a_module_on_the_numba_backend_is_moved_by_the_kernel_to_the_same_place():
    readable, fast = (Toy(np.random.default_rng(0), rows=70) for _ in range(2))
    optimizers = [AdamW(module, 0.8, 0.95, 1e-6, 0.1, 0.3) for module in (readable, fast.use_backend("numba"))]
    for step in range(3):
        for module, optimizer in zip((readable, fast), optimizers):
            fill_gradients(module, step)
            optimizer.step(0.05)
    for name, value in values(readable).items():
        np.testing.assert_allclose(values(fast)[name], value, rtol=1e-12, atol=1e-14)


def test_blocks_give_the_same_as_one_piece_and_stay_float32():
    small, large = (Toy(np.random.default_rng(0), np.float32, rows) for rows in (3, BLOCK))
    large.weight.value[:3] = small.weight.value
    optimizers = AdamW(small), AdamW(large)
    assert optimizers[1].values.size > 2 * BLOCK
    for seed in range(3):
        fill_gradients(small, seed)
        large.weight.grad[:3] = small.weight.grad
        for optimizer in optimizers:
            optimizer.step(0.01)
    assert large.weight.value.dtype == np.float32
    np.testing.assert_array_equal(small.weight.value, large.weight.value[:3])


def test_a_tied_parameter_is_moved_once():
    module = Tied(np.random.default_rng(0))
    optimizer, before = SGD(module, momentum=0.0), module.first.value.copy()
    module.first.grad += 1
    module.second.grad += 2
    optimizer.step(0.1)
    assert module.first.value is module.second.value
    np.testing.assert_allclose(module.first.value, before - 0.3, rtol=1e-14)


@pytest.mark.parametrize("kind", [SGD, Adam, AdamW])
def test_a_saved_state_goes_on_as_if_unbroken(kind):
    unbroken, broken = Toy(np.random.default_rng(0)), Toy(np.random.default_rng(0))
    optimizer, first_half = kind(unbroken), kind(broken)
    for seed in range(6):
        fill_gradients(unbroken, seed)
        optimizer.step(0.01)
    for seed in range(3):
        fill_gradients(broken, seed)
        first_half.step(0.01)
    saved, weights = {name: array.copy() for name, array in first_half.state().items()}, values(broken)

    other = Toy(np.random.default_rng(9))
    second_half = kind(other)
    other.load_state(weights)
    second_half.load_state(saved)
    for seed in range(3, 6):
        fill_gradients(other, seed)
        second_half.step(0.01)
    for name, value in values(other).items():
        np.testing.assert_array_equal(value, values(unbroken)[name])


def test_a_foreign_state_is_refused_and_changes_nothing():
    optimizer = Adam(Toy(np.random.default_rng(0)))
    with pytest.raises(ValueError, match="not this one"):
        optimizer.load_state(SGD(Toy(np.random.default_rng(0))).state())
    with pytest.raises(ValueError, match=r"weight has shape \(4, 5\)"):
        optimizer.load_state(Adam(Toy(np.random.default_rng(0), rows=4)).state())
    assert optimizer.steps_taken == 0


def test_mistakes_are_named():
    module = Toy(np.random.default_rng(0))
    optimizer = Adam(module)
    module.astype(np.float32)
    with pytest.raises(ValueError, match="was given a new array"):
        optimizer.step(0.1)
    with pytest.raises(ValueError, match="no parameters"):
        Adam(Module())
    module.gain.value = module.gain.value.astype(np.float64)
    with pytest.raises(ValueError, match="one dtype"):
        Adam(module)
    with pytest.raises(ValueError, match="beta1"):
        Adam(Toy(np.random.default_rng(0)), beta1=1.0)
    with pytest.raises(ValueError, match="eps"):
        Adam(Toy(np.random.default_rng(0)), eps=0.0)
    with pytest.raises(ValueError, match="weight_decay"):
        AdamW(Toy(np.random.default_rng(0)), weight_decay=-1.0)
    with pytest.raises(ValueError, match="kernel_decay"):
        AdamW(Toy(np.random.default_rng(0)), kernel_decay=-1.0)


def test_clipping_keeps_the_direction_and_returns_the_old_norm():
    gradients = np.array([3.0, 0.0, 4.0])
    assert clip_by_global_norm(gradients, 10.0) == pytest.approx(5.0)
    np.testing.assert_array_equal(gradients, [3, 0, 4])
    assert clip_by_global_norm(gradients, 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(gradients, [0.6, 0, 0.8], rtol=1e-14)
    assert clip_by_global_norm(np.zeros(3), 1.0) == 0.0
    with pytest.raises(ValueError, match="limit"):
        clip_by_global_norm(gradients, 0.0)


def test_clipping_survives_squares_that_overflow_and_leaves_nan_to_be_seen():
    gradients = np.array([3e20, 4e20], np.float32)
    with np.errstate(over="ignore"):
        assert clip_by_global_norm(gradients, 1.0) == pytest.approx(5e20, rel=1e-6)
    np.testing.assert_allclose(gradients, [0.6, 0.8], rtol=1e-6)
    assert gradients.dtype == np.float32
    assert math.isnan(clip_by_global_norm(np.array([1.0, np.nan]), 1.0))
    bad = np.array([1.0, -np.inf])
    assert clip_by_global_norm(bad, 1.0) == math.inf
    np.testing.assert_array_equal(bad, [1.0, -np.inf])


@pytest.mark.peer
@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
def test_the_same_as_pytorch(kind):
    torch = pytest.importorskip("torch")
    module = Toy(np.random.default_rng(0))
    theirs = {name: torch.nn.Parameter(torch.tensor(parameter.value)) for name, parameter in module.named_parameters()}
    if kind == "SGD":
        optimizer, peer = SGD(module, momentum=0.8), torch.optim.SGD(theirs.values(), lr=1, momentum=0.8)
    elif kind == "Adam":
        optimizer, peer = Adam(module, 0.8, 0.95), torch.optim.Adam(theirs.values(), betas=(0.8, 0.95))
    else:
        groups = [{"params": [p for p in theirs.values() if p.ndim >= 2], "weight_decay": 0.3},
                  {"params": [p for p in theirs.values() if p.ndim < 2], "weight_decay": 0.0}]
        optimizer, peer = AdamW(module, 0.8, 0.95, weight_decay=0.3), torch.optim.AdamW(groups, betas=(0.8, 0.95))
    for step in range(8):
        fill_gradients(module, step)
        clip_by_global_norm(optimizer.gradients, 2.0)
        for name, parameter in module.named_parameters():
            theirs[name].grad = torch.tensor(parameter.grad)
        for group in peer.param_groups:
            group["lr"] = 0.01 * (step + 1)
        optimizer.step(0.01 * (step + 1))
        peer.step()
        for name, parameter in module.named_parameters():
            np.testing.assert_allclose(parameter.value, theirs[name].detach().numpy(), rtol=1e-12, atol=1e-13)


@pytest.mark.peer
def test_clipping_is_that_of_pytorch():
    torch = pytest.importorskip("torch")
    module = Toy(np.random.default_rng(0))
    optimizer = SGD(module)
    fill_gradients(module, 1)
    theirs = [torch.nn.Parameter(torch.zeros(parameter.shape)) for parameter in module.parameters()]
    for mine, peer in zip(module.parameters(), theirs):
        peer.data, peer.grad = torch.tensor(mine.value), torch.tensor(mine.grad)
    norm = float(torch.nn.utils.clip_grad_norm_(theirs, 2.0))
    assert clip_by_global_norm(optimizer.gradients, 2.0) == pytest.approx(norm, rel=1e-12)
    for mine, peer in zip(module.parameters(), theirs):    # PyTorch adds 1e-6 to the norm before it divides
        np.testing.assert_allclose(mine.grad, peer.grad.numpy(), rtol=1e-6)
