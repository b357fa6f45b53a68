"""Binary cross-entropy from logits."""

import numpy as np
import pytest

from tinymm.functional import (
    binary_cross_entropy_backward, binary_cross_entropy_backward_steps, binary_cross_entropy_forward, cross_entropy_forward,
)


def test_by_hand():
    loss, cache = binary_cross_entropy_forward(np.array([0.0, np.log(3)]), np.array([1, 0]))
    assert loss == pytest.approx((np.log(2) + np.log(4)) / 2)
    np.testing.assert_allclose(binary_cross_entropy_backward(1.0, cache), [-0.25, 0.375])


def test_huge_scores_overflow_nowhere():
    with np.errstate(all="raise", under="ignore"):
        loss, cache = binary_cross_entropy_forward(np.array([1e4, -1e4, 1e4]), np.array([1, 0, 0]))
        d_logits = binary_cross_entropy_backward(1.0, cache)
    assert loss == pytest.approx(1e4 / 3)
    np.testing.assert_allclose(d_logits, [0, 0, 1 / 3])


def test_it_is_the_softmax_of_a_score_beside_0():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=7), rng.integers(2, size=7)
    two, _ = cross_entropy_forward(np.stack([np.zeros(7), z], axis=1), y)
    assert binary_cross_entropy_forward(z, y)[0] == pytest.approx(two)


def test_both_backwards_agree_also_at_0():
    _, cache = binary_cross_entropy_forward(np.array([0.0, -2.0, 3.0], np.float32), np.array([1.0, 0.3, 0.0]))
    short, long = binary_cross_entropy_backward(2.0, cache), binary_cross_entropy_backward_steps(2.0, cache)
    np.testing.assert_allclose(short, long, rtol=1e-6)
    assert short.dtype == long.dtype == np.float32


@pytest.mark.parametrize("logits, targets, words", [
    (np.zeros(2), np.zeros(3), "same shape"), (np.zeros(0), np.zeros(0), "at least one entry"),
    (np.zeros(2), np.array([0, 2]), "between 0 and 1"),
])
def test_wrong_arguments(logits, targets, words):
    with pytest.raises(ValueError, match=words):
        binary_cross_entropy_forward(logits, targets)
