"""What a classifier is measured by: accuracy, and precision, recall and F1 of each class and over all of them.

    precision = right among those called so / all called so        recall = right among those that are so / all that are so
    F1 = 2 precision recall / (precision + recall)                 the harmonic mean: high only if both are

Where a denominator is 0 (a class that is never named, or never occurs) the figure is 0.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Scores(NamedTuple):
    precision: float
    recall: float
    f1: float


def accuracy(given: NDArray[np.integer], expected: NDArray[np.integer]) -> float:
    """The share that is right; NaN when there is nothing."""
    _check(given, expected)
    return float((given == expected).mean()) if len(given) else float("nan")


def confusion_matrix(given: NDArray[np.integer], expected: NDArray[np.integer], classes: int) -> NDArray[np.integer]:
    """(classes, classes): entry (i, j) counts those of class i that were called j.

    Raises:
        ValueError: unequal lengths, or a class outside 0 to classes - 1.
    """
    _check(given, expected)
    if len(given) and (min(given.min(), expected.min()) < 0 or max(given.max(), expected.max()) >= classes):
        raise ValueError(f"classes must lie in 0 to {classes - 1}")
    return np.bincount(expected * classes + given, minlength=classes**2).reshape(classes, classes)


def binary_scores(given: NDArray[np.integer], expected: NDArray[np.integer], positive: int = 1) -> Scores:
    """Precision, recall and F1 of one class, here the positive one of a yes-or-no question."""
    _check(given, expected)
    called, is_so = given == positive, expected == positive
    return _scores(int((called & is_so).sum()), int(called.sum()), int(is_so.sum()))


def macro_scores(given: NDArray[np.integer], expected: NDArray[np.integer], classes: int) -> Scores:
    """The plain means over the classes of precision, recall and F1: each class counts the same, however rare it is."""
    each = [binary_scores(given, expected, positive=k) for k in range(classes)]
    return Scores(*(float(np.mean(column)) for column in zip(*each)))


def micro_scores(given: NDArray[np.integer], expected: NDArray[np.integer], classes: int) -> Scores:
    """Precision, recall and F1 of the counts summed over the classes.

    With exactly one class for each item each wrong item is one too many for a class and one too few for another,
    so all three are the accuracy.
    """
    matrix = confusion_matrix(given, expected, classes)
    return _scores(int(np.trace(matrix)), int(matrix.sum()), int(matrix.sum()))


def _scores(right: int, called: int, are: int) -> Scores:
    precision, recall = right / called if called else 0.0, right / are if are else 0.0
    return Scores(precision, recall, 2 * precision * recall / (precision + recall) if right else 0.0)


def _check(given: NDArray[np.integer], expected: NDArray[np.integer]) -> None:
    if given.shape != expected.shape or given.ndim != 1:
        raise ValueError(f"given and expected must be of one shape (N,), got {given.shape} and {expected.shape}")
