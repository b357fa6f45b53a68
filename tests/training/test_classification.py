"""Precision, recall, F1, by hand."""

import numpy as np
import pytest

from tinymm.training.classification import accuracy, binary_scores, confusion_matrix, macro_scores, micro_scores

GIVEN, EXPECTED = np.array([0, 0, 1, 1, 1, 2]), np.array([0, 1, 1, 1, 0, 1])


def test_by_hand():
    assert accuracy(GIVEN, EXPECTED) == pytest.approx(3 / 6)
    np.testing.assert_array_equal(confusion_matrix(GIVEN, EXPECTED, 3), [[1, 1, 0], [1, 2, 1], [0, 0, 0]])
    assert binary_scores(GIVEN, EXPECTED) == pytest.approx((2 / 3, 2 / 4, 4 / 7))
    assert binary_scores(GIVEN, EXPECTED, positive=0) == pytest.approx((1 / 2, 1 / 2, 1 / 2))
    assert macro_scores(GIVEN, EXPECTED, 3) == pytest.approx((np.mean([1 / 2, 2 / 3, 0]), np.mean([1 / 2, 1 / 2, 0]),
                                                              np.mean([1 / 2, 4 / 7, 0])))
    assert micro_scores(GIVEN, EXPECTED, 3) == pytest.approx((0.5, 0.5, 0.5))


def test_nothing_called_and_nothing_there():
    assert binary_scores(np.zeros(3, int), np.ones(3, int)) == (0, 0, 0)
    assert binary_scores(np.ones(3, int), np.zeros(3, int)) == (0, 0, 0)
    assert np.isnan(accuracy(np.zeros(0, int), np.zeros(0, int)))


def test_wrong_arguments():
    with pytest.raises(ValueError, match="one shape"):
        accuracy(np.zeros(2, int), np.zeros(3, int))
    with pytest.raises(ValueError, match="0 to 1"):
        confusion_matrix(np.array([2]), np.array([0]), 2)
