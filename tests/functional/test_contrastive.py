"""InfoNCE and vectors of length 1 (the gradient checks are in test_gradcheck_cases.py)."""

import numpy as np
import pytest

from tinymm.functional import info_nce_backward, info_nce_forward, l2_normalize_backward, l2_normalize_forward


def unit(rng, *shape):
    return l2_normalize_forward(rng.normal(size=shape))[0]


def test_vectors_get_length_one_and_zero_stays_zero():
    x = np.array([[3.0, 4.0], [0.0, 0.0]])
    out, cache = l2_normalize_forward(x)
    np.testing.assert_allclose(out, [[0.6, 0.8], [0, 0]])
    d_x = l2_normalize_backward(np.array([[3.0, 4.0], [1e-9, 0]]), cache)
    np.testing.assert_allclose(d_x, [[0, 0], [0.1, 0]], atol=1e-15)      # along x nothing changes; below eps it is a division by eps


def test_by_hand_for_two_pairs():
    a, b = np.eye(2), np.eye(2)
    loss, cache = info_nce_forward(a, b, np.log(np.array(3.0)))
    p = np.exp(3) / (np.exp(3) + 1)
    np.testing.assert_allclose(loss, -np.log(p))
    d_a, d_b, d_s = info_nce_backward(1.0, cache)
    np.testing.assert_allclose(d_a, 3 * (1 - p) / 2 * np.array([[-1, 1], [1, -1]]) , rtol=1e-12)
    np.testing.assert_allclose(d_s, -3 * (1 - p), rtol=1e-12)


def test_symmetric_in_its_two_sides():
    rng = np.random.default_rng(0)
    a, b, s = unit(rng, 5, 3), unit(rng, 5, 3), np.array(0.7)
    loss, cache = info_nce_forward(a, b, s)
    other, turned = info_nce_forward(b, a, s)
    np.testing.assert_allclose(loss, other, rtol=1e-12)
    for x, y in zip(info_nce_backward(0.3, cache), np.array(info_nce_backward(0.3, turned), dtype=object)[[1, 0, 2]]):
        np.testing.assert_allclose(x, y, rtol=1e-12)


def test_keeps_float32_and_survives_a_large_scale():
    rng = np.random.default_rng(1)
    a, b = unit(rng, 6, 4).astype(np.float32), unit(rng, 6, 4).astype(np.float32)
    loss, cache = info_nce_forward(a, b, np.array(np.log(1e4), np.float32))
    assert loss.dtype == np.float32 and np.isfinite(loss)
    assert all(d.dtype == np.float32 and np.isfinite(d).all() for d in info_nce_backward(1.0, cache))


def test_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="same shape"):
        info_nce_forward(np.ones((3, 2)), np.ones((4, 2)), np.array(0.0))
    with pytest.raises(ValueError, match="single number"):
        info_nce_forward(np.ones((3, 2)), np.ones((3, 2)), np.zeros(1))
    with pytest.raises(ValueError, match="D at least 1"):
        l2_normalize_forward(np.ones((3, 0)))


@pytest.mark.peer
def test_the_same_as_torch():
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(2)
    x, y, s = rng.normal(size=(5, 3)), rng.normal(size=(5, 3)), np.array(1.1)
    a, a_cache = l2_normalize_forward(x)
    b, b_cache = l2_normalize_forward(y)
    loss, cache = info_nce_forward(a, b, s)
    d_a, d_b, d_s = info_nce_backward(0.7, cache)
    tx, ty, ts = (torch.tensor(v, requires_grad=True) for v in (x, y, s))
    logits = ts.exp() * torch.nn.functional.normalize(tx, dim=-1) @ torch.nn.functional.normalize(ty, dim=-1).T
    right = torch.arange(5)
    expected = (torch.nn.functional.cross_entropy(logits, right) + torch.nn.functional.cross_entropy(logits.T, right)) / 2
    (0.7 * expected).backward()
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-12)
    for ours, theirs in ((l2_normalize_backward(d_a, a_cache), tx), (l2_normalize_backward(d_b, b_cache), ty), (d_s, ts)):
        np.testing.assert_allclose(ours, theirs.grad.numpy(), rtol=1e-10, atol=1e-14)
