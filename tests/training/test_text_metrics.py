"""Token F1 and BLEU: by hand, and beside sacreBLEU."""

import math

import numpy as np
import pytest

from tinymm.training.text_metrics import bleu, token_f1


def split(*texts):
    return [text.split() for text in texts]


def test_token_f1_by_hand():
    # 2 of 3 given tokens are right, 2 of 4 expected ones were found: 2 * 2 / 7. "a" counts once, as it is expected once.
    assert token_f1(split("a a b"), split("a b c d")) == pytest.approx(4 / 7)
    assert token_f1(split("b a"), split("a b")) == 1.0
    assert token_f1(split("a", "", ""), split("b", "b", "")) == pytest.approx(1 / 3)
    assert math.isnan(token_f1([], []))
    with pytest.raises(ValueError, match="got 1 and 0"):
        token_f1(split("a"), [])


def test_bleu_by_hand():
    # p_1 = 5/6 (one "the" too many is clipped), p_2 = 3/5, p_3 = 2/4, p_4 = 1/3; as long as the reference
    given, expected = split("the cat the on the mat"), split("the cat sat on the mat")
    assert bleu(given, expected) == 0.0      # no 4-gram, not even a trigram "the cat the" fits
    assert bleu(given, expected, max_order=2) == pytest.approx(math.sqrt(5 / 6 * 3 / 5))
    given = split("a cat sat on the mat")
    assert bleu(given, expected) == pytest.approx((5 / 6 * 4 / 5 * 3 / 4 * 2 / 3) ** 0.25)
    assert bleu(split("the cat sat on"), expected) == pytest.approx(math.exp(1 - 6 / 4))      # all right, but too short
    assert bleu(expected, expected) == 1.0
    assert bleu(split("x y"), expected, smoothing="exp") == 0.0     # no 3-gram at all: nothing to smooth
    assert bleu(split("the the the the the"), split("the cat"), max_order=1) == pytest.approx(1 / 5)
    assert math.isnan(bleu([], []))
    assert bleu(split(""), split("a b")) == 0.0


def test_smoothing_halves_again_for_each_order_without_a_match():
    given, expected = split("a b x c d"), split("a c b d e")
    # p_1 = 4/5; no pair fits: 1/2 of 4, then 1/4 of 3, then 1/8 of 2; the reference is as long
    right = (4 / 5 * (1 / 2) / 4 * (1 / 4) / 3 * (1 / 8) / 2) ** 0.25
    assert bleu(given, expected, smoothing="exp") == pytest.approx(right)
    assert bleu(given, expected) == 0.0


def test_what_bleu_refuses():
    with pytest.raises(ValueError, match="got 2 and 1"):
        bleu(split("a", "b"), split("a"))
    with pytest.raises(ValueError, match="'floor'"):
        bleu(split("a"), split("a"), smoothing="floor")


@pytest.mark.peer
@pytest.mark.parametrize("smoothing", [None, "exp"])
@pytest.mark.parametrize("words", [2, 4, 30])
def test_bleu_is_that_of_sacrebleu(smoothing, words):
    sacrebleu = pytest.importorskip("sacrebleu")
    rng = np.random.default_rng(words)
    for _ in range(8):
        expected = [[f"w{i}" for i in rng.integers(words, size=rng.integers(1, 12))] for _ in range(5)]
        given = [[word if rng.random() < 0.7 else "w0" for word in text][:rng.integers(1, 12)] for text in expected]
        peer = sacrebleu.corpus_bleu([" ".join(text) for text in given], [[" ".join(text) for text in expected]],
                                     smooth_method=smoothing or "none", tokenize="none", force=True)
        assert bleu(given, expected, smoothing=smoothing) == pytest.approx(peer.score / 100, abs=1e-12)
