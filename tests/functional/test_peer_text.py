"""The pairs of the text side beside PyTorch: same results, same gradients."""

import numpy as np
import pytest

from tinymm import functional as F

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

TOLERANCE = {np.float64: {"rtol": 1e-10, "atol": 1e-12}, np.float32: {"rtol": 1e-4, "atol": 2e-6}}
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@pytest.fixture
def rng():
    return np.random.default_rng(9)


def compare(ours, peer, arrays, rng, dtype):
    """Run (forward, backward) and a torch function on the same arrays, and compare results and gradients."""
    forward, backward = ours
    arrays = [array.astype(dtype) for array in arrays]
    out, cache = forward(*arrays)
    d_out = np.asarray(rng.normal(size=np.shape(out))).astype(dtype)
    grads = backward(d_out, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)

    tensors = [torch.tensor(array, requires_grad=True) for array in arrays]
    peer_out = peer(*tensors)
    peer_out.backward(torch.tensor(d_out))
    np.testing.assert_allclose(out, peer_out.detach().numpy(), **TOLERANCE[dtype])
    for grad, tensor in zip(grads, tensors, strict=True):
        np.testing.assert_allclose(grad, tensor.grad.numpy(), **TOLERANCE[dtype])


@DTYPES
def test_linear(rng, dtype):
    arrays = [rng.normal(size=shape) for shape in [(2, 3, 5), (5, 4), (4,)]]
    ours = F.linear_forward, F.linear_backward
    compare(ours, lambda x, w, b: torch.nn.functional.linear(x, w.T, b), arrays, rng, dtype)


@DTYPES
@pytest.mark.parametrize("name", ["relu", "sigmoid", "tanh", "softmax", "log_softmax", "gelu", "gelu tanh form"])
def test_activations(rng, name, dtype):
    peer = {
        "relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "softmax": lambda x: torch.softmax(x, -1),
        "log_softmax": lambda x: torch.log_softmax(x, -1), "gelu": torch.nn.functional.gelu,
        "gelu tanh form": lambda x: torch.nn.functional.gelu(x, approximate="tanh"),
    }[name]
    word, *form = name.split(" ", 1)
    forward = getattr(F, f"{word}_forward")
    ours = (lambda x: forward(x, approximate=True)) if form else forward
    compare((ours, getattr(F, f"{word}_backward")), peer, [3 * rng.normal(size=(4, 50))], rng, dtype)


@DTYPES
@pytest.mark.parametrize("kind", ["none", "causal", "mask"])
def test_attention(rng, kind, dtype):
    length = 6 if kind == "causal" else 4
    arrays = [rng.normal(size=shape) for shape in [(2, 3, length, 5), (2, 3, 6, 5), (2, 3, 6, 7)]]
    mask = rng.random((2, 1, length, 6)) < 0.6
    mask[..., 0] = True    # PyTorch gives NaN for a row without a key
    options = {"none": {}, "causal": {"causal": True}, "mask": {"mask": mask}}[kind]
    peer_options = {"none": {}, "causal": {"is_causal": True}, "mask": {"attn_mask": torch.tensor(mask)}}[kind]
    compare(
        (lambda q, k, v: F.attention_forward(q, k, v, **options), F.attention_backward),
        lambda q, k, v: torch.nn.functional.scaled_dot_product_attention(q, k, v, **peer_options), arrays, rng, dtype,
    )


@DTYPES
def test_embedding(rng, dtype):
    ids = rng.integers(0, 8, size=(3, 20))
    compare(
        (lambda weight: F.embedding_forward(ids, weight), F.embedding_backward),
        lambda weight: torch.nn.functional.embedding(torch.tensor(ids), weight), [rng.normal(size=(8, 5))], rng, dtype,
    )


@DTYPES
@pytest.mark.parametrize("smoothing", [0.0, 0.1, 1.0])
def test_cross_entropy(rng, smoothing, dtype):
    labels = rng.integers(0, 7, size=(4, 10))
    labels[rng.random(labels.shape) < 0.3] = -100
    peer_labels = torch.tensor(labels.ravel())
    compare(
        (lambda logits: F.cross_entropy_forward(logits, labels, label_smoothing=smoothing), F.cross_entropy_backward),
        lambda logits: torch.nn.functional.cross_entropy(logits.reshape(-1, 7), peer_labels, label_smoothing=smoothing),
        [4 * rng.normal(size=(4, 10, 7))], rng, dtype,
    )


@DTYPES
def test_rms_norm(rng, dtype):
    arrays = [1 + rng.normal(size=(3, 4, 7)), rng.normal(size=7)]
    compare((lambda x, gain: F.rms_norm_forward(x, gain, 1e-6), F.rms_norm_backward),
            lambda x, gain: torch.nn.functional.rms_norm(x, (7,), gain, 1e-6), arrays, rng, dtype)


@DTYPES
def test_swiglu(rng, dtype):
    arrays = [3 * rng.normal(size=(4, 50)), rng.normal(size=(4, 50))]
    compare((F.swiglu_forward, F.swiglu_backward), lambda gate, value: torch.nn.functional.silu(gate) * value, arrays, rng, dtype)


@DTYPES
def test_rotary(rng, dtype):
    def peer(x):
        angle = torch.outer(torch.arange(5, 11, dtype=torch.float64), 10000.0 ** (-torch.arange(0, 8, 2, dtype=torch.float64) / 8))
        turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(torch.ones_like(angle), angle).to(x.dtype.to_complex())
        return torch.view_as_real(turned).flatten(-2)

    compare((lambda x: F.rotary_forward(x, 5), F.rotary_backward), peer, [rng.normal(size=(2, 3, 6, 8))], rng, dtype)
