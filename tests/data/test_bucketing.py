"""Batches of texts of about the same length."""

import numpy as np
import pytest

from tinymm.data.bucketing import BucketedOrder, pad_sentences


def test_padding():
    np.testing.assert_array_equal(pad_sentences([[6, 9, 8], [6]]), [[6, 9, 8], [6, 0, 0]])
    with pytest.raises(ValueError, match="at least one"):
        pad_sentences([])


def test_an_epoch_has_every_text_once_but_what_is_left_over():
    lengths = np.random.default_rng(0).integers(2, 40, 1003)
    order = BucketedOrder(lengths, 10, seed=3)
    epochs = [np.concatenate([order.rows(step) for step in range(start, start + 100)]) for start in (0, 100)]
    for rows in epochs:
        assert len(rows) == len(set(rows.tolist())) == 1000
    assert epochs[0].tolist() != epochs[1].tolist()


def test_a_batch_is_a_pure_function_of_seed_and_step():
    lengths = np.random.default_rng(0).integers(2, 40, 200)
    ahead, back = BucketedOrder(lengths, 8, seed=3), BucketedOrder(lengths, 8, seed=3)
    rows = [ahead.rows(step) for step in range(80)]
    for step in reversed(range(80)):
        np.testing.assert_array_equal(back.rows(step), rows[step])
    assert any((BucketedOrder(lengths, 8, seed=4).rows(step) != rows[step]).any() for step in range(5))


def test_there_is_little_padding_and_lengths_come_in_no_order():
    lengths = np.random.default_rng(0).integers(2, 40, 5000)
    order = BucketedOrder(lengths, 16, seed=0)
    widest = np.array([lengths[order.rows(step)].max() for step in range(order.batches)])
    padded = 16 * widest.sum() / sum(lengths[order.rows(step)].sum() for step in range(order.batches))
    assert padded < 1.08                                       # without buckets 1.8
    assert abs(np.corrcoef(widest[:-1], widest[1:])[0, 1]) < 0.3


def test_a_set_smaller_than_a_batch_is_the_batch():
    order = BucketedOrder([5, 3, 4], 32, seed=0)
    assert sorted(order.rows(0).tolist()) == sorted(order.rows(7).tolist()) == [0, 1, 2]
    for lengths, size in (([], 3), ([4], 0)):
        with pytest.raises(ValueError, match="at least one length"):
            BucketedOrder(lengths, size, seed=0)
