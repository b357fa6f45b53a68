"""Hidden words: how many, which, and what stands in their place."""

import numpy as np
import pytest

from tinymm.data.masking import CHOSEN, choice_weights, mask_words

PAD, UNK, CLS, MASK, N_SPECIAL, V = 0, 1, 6, 7, 8, 500
EVEN = (np.arange(V) >= N_SPECIAL).astype(float)      # every word as readily as another


def texts(rows, length, rng):
    """(R, T): <cls>, words and some <unk>, padded to different lengths."""
    ids = rng.integers(N_SPECIAL, V, (rows, length))
    ids[:, 0] = CLS
    ids[rng.random(ids.shape) < 0.05] = UNK
    ids[np.arange(length) >= rng.integers(length // 2, length + 1, (rows, 1))] = PAD
    return ids


def test_the_shares_of_what_is_hidden():
    rng = np.random.default_rng(0)
    ids = texts(2000, 40, rng)
    got = mask_words(ids, MASK, EVEN, rng)
    words = ids >= N_SPECIAL
    np.testing.assert_array_equal(got.masked.sum(axis=1), np.maximum(np.rint(CHOSEN * words.sum(axis=1)), 1))
    assert got.masked.sum() / words.sum() == pytest.approx(0.15, abs=0.005)
    read = got.ids[got.masked]
    hidden, same = (read == MASK).mean(), (read == got.labels).mean()
    assert hidden == pytest.approx(0.8, abs=0.015) and same == pytest.approx(0.1, abs=0.01)      # 4 standard deviations
    others = read[(read != MASK) & (read != got.labels)]
    assert others.size / read.size == pytest.approx(0.1, abs=0.01)
    assert others.min() < N_SPECIAL + 20 and others.max() > V - 20                # words of the whole list ...
    assert len(np.unique(others)) > 300                                           # ... and many of them


def test_special_tokens_are_neither_chosen_nor_put_in_and_the_rest_stays():
    rng = np.random.default_rng(1)
    ids = texts(300, 20, rng)
    before = ids.copy()
    got = mask_words(ids, MASK, EVEN, rng)
    assert (before[got.masked] >= N_SPECIAL).all()
    read = got.ids[got.masked]
    assert ((read >= N_SPECIAL) | (read == MASK)).all()
    np.testing.assert_array_equal(ids, before)
    np.testing.assert_array_equal(got.ids[~got.masked], before[~got.masked])
    np.testing.assert_array_equal(got.labels, before[got.masked])


def test_every_place_is_chosen_about_as_often():
    ids = np.tile(np.arange(N_SPECIAL, N_SPECIAL + 10), (4000, 1))
    often = mask_words(ids, MASK, EVEN, np.random.default_rng(2)).masked.mean(axis=0)
    np.testing.assert_allclose(often, 0.2, atol=0.03)      # round(1.5) = 2 of 10


def test_a_short_text_has_one_hidden_word_and_a_text_without_words_none():
    ids = np.array([[CLS, 9, PAD, PAD], [CLS, 9, 10, 11], [CLS, UNK, UNK, PAD]])
    for seed in range(20):
        assert mask_words(ids, MASK, EVEN, np.random.default_rng(seed)).masked.sum(axis=1).tolist() == [1, 1, 0]


def test_the_same_generator_hides_the_same_words():
    ids = texts(30, 20, np.random.default_rng(3))
    one, two, other = (mask_words(ids, MASK, EVEN, np.random.default_rng(seed)) for seed in (4, 4, 5))
    np.testing.assert_array_equal(one.ids, two.ids)
    assert (one.masked != other.masked).any()


def test_weights_say_which_words_are_rather_chosen():
    ids = np.tile([CLS, 10, 11, 12, 13], (6000, 1))
    weights = EVEN.copy()
    weights[11], weights[12] = 0.25, 4
    masked = mask_words(ids, MASK, weights, np.random.default_rng(5), share=0.25).masked
    np.testing.assert_array_equal(masked.sum(axis=1), 1)
    np.testing.assert_allclose(masked.mean(axis=0), [0, 0.16, 0.04, 0.64, 0.16], atol=0.025)     # one of four: in proportion


def test_frequent_words_are_chosen_less_often():
    weights = choice_weights(np.array([0.5, 0.4, 0.09, 0.009, 0.001]), n_special=1, threshold=0.01)
    np.testing.assert_allclose(weights, [0, np.sqrt(0.01 / 0.4), 1 / 3, 1, 1])
