"""The pairs of the image side, and the norms, beside PyTorch: same results, same gradients, same running statistics."""

import numpy as np
import pytest

from tinymm import functional as F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

TOLERANCE = {np.float64: {"rtol": 1e-9, "atol": 1e-11}, np.float32: {"rtol": 1e-4, "atol": 2e-5}}
dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def rng():
    return np.random.default_rng(8)


def tensors(*arrays):
    return [torch.tensor(array, requires_grad=True) for array in arrays]


def images(tensor):
    """Ours are (B, H, W, C), torch's (B, C, H, W)."""
    return tensor.permute(0, 3, 1, 2)


def compare(ours, d_out, gradients, peer_out, peer_inputs, dtype):
    peer_out.backward(torch.tensor(d_out))
    np.testing.assert_allclose(ours, peer_out.detach().numpy(), **TOLERANCE[dtype])
    for gradient, tensor in zip(gradients, peer_inputs, strict=True):
        assert gradient.dtype == dtype
        np.testing.assert_allclose(gradient, tensor.grad.numpy(), **TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize("eps", [1e-5, 1e-2])
def test_layer_norm(rng, dtype, eps):
    x, gain, bias = (rng.normal(size=shape).astype(dtype) for shape in [(2, 3, 7), 7, 7])
    out, cache = F.layer_norm_forward(x, gain, bias, eps)
    d_out = rng.normal(size=out.shape).astype(dtype)
    peers = tensors(x, gain, bias)
    compare(
        out,
        d_out,
        F.layer_norm_backward(d_out, cache),
        torch.nn.functional.layer_norm(peers[0], (7,), *peers[1:], eps),
        peers,
        dtype,
    )


@dtypes
@pytest.mark.parametrize("training", [True, False])
def test_batch_norm(rng, dtype, training):
    x, gain, bias, mean = (rng.normal(size=shape).astype(dtype) for shape in [(2, 3, 4, 5), 5, 5, 5])
    variance = rng.uniform(0.5, 2, size=5).astype(dtype)
    out, cache = F.batch_norm_forward(x, gain, bias, mean, variance, training, momentum=0.3, eps=1e-3)
    d_out = rng.normal(size=out.shape).astype(dtype)
    peers, running = tensors(x, gain, bias), [torch.tensor(mean), torch.tensor(variance)]
    peer_out = torch.nn.functional.batch_norm(images(peers[0]), *running, *peers[1:], training, 0.3, 1e-3).permute(
        0, 2, 3, 1
    )
    compare(out, d_out, F.batch_norm_backward(d_out, cache), peer_out, peers, dtype)
    for ours, theirs in zip((cache.running_mean, cache.running_variance), running):
        np.testing.assert_allclose(ours, theirs.numpy(), **TOLERANCE[dtype])


@dtypes
@pytest.mark.parametrize("form", ["conv2d", "conv2d_reference"])
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
def test_conv2d(rng, dtype, form, stride, padding):
    x, weight, bias = (rng.normal(size=shape).astype(dtype) for shape in [(2, 8, 7, 3), (3, 2, 3, 4), 4])
    out, cache = getattr(F, f"{form}_forward")(x, weight, bias, stride, padding)
    d_out = rng.normal(size=out.shape).astype(dtype)
    peers = tensors(x, weight, bias)
    peer_out = torch.nn.functional.conv2d(
        images(peers[0]), peers[1].permute(3, 2, 0, 1), peers[2], stride, padding
    ).permute(0, 2, 3, 1)
    compare(out, d_out, getattr(F, f"{form}_backward")(d_out, cache), peer_out, peers, dtype)


@dtypes
@pytest.mark.parametrize("pool", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize("size, stride", [(2, None), (3, 2), (2, 3)])
def test_pooling(rng, dtype, pool, size, stride):
    x = np.round(rng.normal(size=(2, 8, 7, 3)), 1).astype(dtype)  # rounded: some pixels tie
    out, cache = getattr(F, f"{pool}_forward")(x, size, stride)
    d_out = rng.normal(size=out.shape).astype(dtype)
    peers = tensors(x)
    peer_out = getattr(torch.nn.functional, pool)(images(peers[0]), size, stride).permute(0, 2, 3, 1)
    compare(out, d_out, [getattr(F, f"{pool}_backward")(d_out, cache)], peer_out, peers, dtype)
