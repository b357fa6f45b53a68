"""Twin of cross-entropy: softmax and loss of a row in one loop, and its gradient in another.

NumPy picks the rows that count out of the logits, and walks over the copy once for every operation.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.functional import losses as readable
from tinymm.functional.losses import Array
from tinymm.kernels.loops import Loop, rows_at_once, rows_of
from tinymm.kernels.threads import run


class CrossEntropyCache(NamedTuple):
    """M is the number of labels that count."""

    probabilities: Array              # (M, V)
    targets: NDArray[np.integer]      # (M,)    their labels
    places: NDArray[np.integer]       # (M,)    their rows among the N
    shape: tuple[int, ...]            # (..., V)  of the logits
    label_smoothing: float


def cross_entropy_forward(
    logits: Array, labels: NDArray[np.integer], ignore_index: int = -100, label_smoothing: float = 0.0
) -> tuple[np.floating, CrossEntropyCache]:
    """Twin of `functional.cross_entropy_forward`."""
    readable.check_cross_entropy(logits, labels, ignore_index, label_smoothing)
    places = np.flatnonzero(labels != ignore_index)                              # (M,)      F1
    targets = labels.reshape(-1)[places].astype(np.int64)                        # (M,)
    probabilities = np.empty((len(places), logits.shape[-1]), logits.dtype)      # (M, V)
    losses = np.empty(len(places), logits.dtype)                                 # (M,)
    arguments = (rows_of(logits), places, targets, logits.dtype.type(label_smoothing), probabilities, losses)
    run(_cross_entropy_forward, len(places), arguments, rows_at_once(probabilities))
    loss = losses.sum() / logits.dtype.type(max(len(places), 1))                 # ()        F10 the mean
    return loss, CrossEntropyCache(probabilities, targets, places, logits.shape, label_smoothing)


def cross_entropy_backward(d_out: float, cache: CrossEntropyCache) -> Array:
    """Twin of `functional.cross_entropy_backward`."""
    probabilities, targets, places, shape, label_smoothing = cache
    each = float(d_out) / max(len(places), 1)                                    #           undoes F10
    d_logits = np.zeros(shape, probabilities.dtype)                              # (..., V)
    of_label, of_all = (1 - label_smoothing) * each, label_smoothing / shape[-1] * each
    constants = (probabilities.dtype.type(constant) for constant in (each, of_label, of_all))
    arguments = (probabilities, places, targets, *constants, rows_of(d_logits))
    run(_cross_entropy_backward, len(places), arguments, rows_at_once(probabilities))
    return d_logits


@Loop
def _cross_entropy_forward(first, last, x, places, targets, smoothing, probabilities, losses):
    classes = x.shape[1]
    for m in range(first, last):
        row, zero = places[m], x.dtype.type(0)
        highest = x[row, 0]
        for v in range(1, classes):
            highest = max(highest, x[row, v])                                    # F2
        if highest == -np.inf:
            highest = zero                                                       #     a row that holds nothing possible
        total = shifts = zero
        for v in range(classes):
            shifted = x[row, v] - highest                                        # F3
            shifts += shifted
            probabilities[m, v] = np.exp(shifted)                                # F4
            total += probabilities[m, v]                                         # F5
        if total == 0:                                                           #     but a NaN stays one
            total = x.dtype.type(1)
        for v in range(classes):
            probabilities[m, v] /= total
        loss = np.log(total) - (x[row, targets[m]] - highest)                    # F6, F7
        if smoothing > 0:
            spread = np.log(total) - shifts / x.dtype.type(classes)              # F8
            loss += smoothing * (spread - loss)                                  # F9
        losses[m] = loss


@Loop
def _cross_entropy_backward(first, last, probabilities, places, targets, each, of_label, of_all, d_x):
    classes = probabilities.shape[1]
    for m in range(first, last):
        row = places[m]
        for v in range(classes):
            d_x[row, v] = probabilities[m, v] * each - of_all                    # p - y: the even part of y ...
        d_x[row, targets[m]] -= of_label                                         # ... and the label. Undoes F10 to F1
