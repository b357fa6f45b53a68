"""The loss of a span, and the best span of all."""

from itertools import combinations_with_replacement

import numpy as np
import pytest

from tinymm import functional
from tinymm.functional import best_span, span_cross_entropy_backward, span_cross_entropy_forward

ALLOWED = np.array([[0, 1, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0], [0, 1, 1, 1, 1, 1]], dtype=bool)
SPANS = np.array([[2, 4], [1, 1], [1, 5]])


def test_the_loss_is_the_mean_surprise_at_first_and_last(rng):
    logits = rng.normal(size=(3, 6, 2))
    loss, cache = span_cross_entropy_forward(logits, SPANS, ALLOWED)
    by_hand = []
    for row, (first, last) in enumerate(SPANS):
        for place, part in ((first, 0), (last, 1)):
            exps = np.exp(logits[row, ALLOWED[row], part])
            by_hand.append(-np.log(np.exp(logits[row, place, part]) / exps.sum()))
    assert loss == pytest.approx(np.mean(by_hand))
    d_logits = span_cross_entropy_backward(1.0, cache)
    assert d_logits.shape == logits.shape and not d_logits[~ALLOWED].any() and (d_logits[ALLOWED] != 0).all()
    np.testing.assert_allclose(d_logits.sum(axis=1), 0, atol=1e-15)


def test_the_dtype_is_kept(rng):
    logits = rng.normal(size=(3, 6, 2)).astype(np.float32)
    loss, cache = span_cross_entropy_forward(logits, SPANS, ALLOWED)
    assert loss.dtype == span_cross_entropy_backward(1.0, cache).dtype == np.float32


def test_the_best_span_is_the_best_of_all_pairs_in_order(rng):
    reversed_pairs = 0
    for _ in range(40):
        logits = rng.normal(size=(3, 6, 2))
        found = best_span(logits, ALLOWED)
        for row, span in enumerate(found):
            places = np.flatnonzero(ALLOWED[row])
            best = max(combinations_with_replacement(places, 2), key=lambda pair: logits[row, pair[0], 0] + logits[row, pair[1], 1])
            assert tuple(span) == best
            reversed_pairs += places[logits[row, places, 0].argmax()] > places[logits[row, places, 1].argmax()]
    assert reversed_pairs > 10      # there the two likeliest places alone are no span


@pytest.mark.parametrize("change, part", [
    ({"logits": np.zeros((3, 6))}, r"\(R, T, 2\)"),
    ({"logits": np.zeros((3, 6, 3))}, r"\(R, T, 2\)"),
    ({"allowed": ALLOWED.astype(int)}, "allowed must be boolean"),
    ({"allowed": ALLOWED & [[True], [False], [True]]}, "somewhere in each text"),
    ({"spans": SPANS[:2]}, "spans must be integers"),
    ({"spans": SPANS.astype(float)}, "spans must be integers"),
    ({"spans": SPANS[:, ::-1]}, "not end before it begins"),
    ({"spans": SPANS + 1}, "lie in allowed places"),
    ({"spans": SPANS - 2}, "lie in allowed places"),
])
def test_bad_input_is_named(change, part):
    with pytest.raises(ValueError, match=part):
        span_cross_entropy_forward(**{"logits": np.zeros((3, 6, 2)), "spans": SPANS, "allowed": ALLOWED} | change)


def test_every_public_name_is_there():
    assert {"best_span", "span_cross_entropy_forward", "span_cross_entropy_backward"} <= set(functional.__all__)


@pytest.mark.peer
def test_beside_pytorch(rng):
    torch = pytest.importorskip("torch")
    logits = 3 * rng.normal(size=(3, 6, 2))
    loss, cache = span_cross_entropy_forward(logits, SPANS, ALLOWED)
    peer = torch.tensor(logits, requires_grad=True)
    masked = peer.masked_fill(torch.tensor(~ALLOWED)[..., None], -torch.inf)
    cross_entropy = torch.nn.functional.cross_entropy
    peer_loss = (cross_entropy(masked[..., 0], torch.tensor(SPANS[:, 0])) + cross_entropy(masked[..., 1], torch.tensor(SPANS[:, 1]))) / 2
    peer_loss.backward()
    assert float(loss) == pytest.approx(peer_loss.item(), rel=1e-12)
    np.testing.assert_allclose(span_cross_entropy_backward(1.0, cache), peer.grad.numpy(), rtol=1e-10, atol=1e-14)
