"""Binary cross-entropy: the loss of a yes-or-no answer, computed from the score and not from the probability.

    p = sigmoid(z) = 1 / (1 + e^-z)        L = mean of  -y log p - (1 - y) log(1 - p)

The stable form. With log p = -log(1 + e^-z) and log(1 - p) = -z - log(1 + e^-z),

    L = z - z y + log(1 + e^-z) = max(z, 0) - z y + log(1 + e^-|z|)

No e^|z| is ever computed, and no logarithm of a probability that rounding has made 0.

The short backward. dL/dz = 1 - y - e^-z / (1 + e^-z) = sigmoid(z) - y: what the model said, minus what was right, as for the
softmax (losses.py); a softmax over the two scores (z, 0) is this sigmoid.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.functional.activations import sigmoid_forward

Array = NDArray[np.floating]


class BinaryCrossEntropyCache(NamedTuple):
    """What the backward pass needs."""

    logits: Array     # (...)
    targets: Array    # (...)


def binary_cross_entropy_forward(logits: Array, targets: NDArray[np.number]) -> tuple[np.floating, BinaryCrossEntropyCache]:
    """L = mean of max(z, 0) - z y + log(1 + e^-|z|).

    Args:
        logits: scores z (...).   targets: y (...), 1 for yes and 0 for no, or anything between (soft targets).

    Returns:
        The loss, a scalar in the dtype of logits, and the cache for `binary_cross_entropy_backward`.

    Raises:
        ValueError: shapes that differ, no entry at all, or a target outside 0 to 1.
    """
    if logits.shape != targets.shape or logits.size == 0:
        raise ValueError(f"logits and targets must have the same shape with at least one entry, got {logits.shape} and {targets.shape}")
    if targets.min() < 0 or targets.max() > 1:
        raise ValueError(f"targets must lie between 0 and 1, got {targets.min()} to {targets.max()}")
    y = targets.astype(logits.dtype)                               # (...)
    positive = np.maximum(logits, 0)                               # (...)  F1
    log_sum = np.log1p(np.exp(-np.abs(logits)))                    # (...)  F2  log(1 + e^-|z|)
    losses = positive - logits * y + log_sum                       # (...)  F3
    loss = losses.sum() / logits.dtype.type(losses.size)           # ()     F4  the mean
    return loss, BinaryCrossEntropyCache(logits, y)


def binary_cross_entropy_backward(d_out: float, cache: BinaryCrossEntropyCache) -> Array:
    """Gradient with respect to logits (...): (sigmoid(z) - y) / N, N the number of entries. Targets are not differentiated."""
    logits, y = cache
    p, _ = sigmoid_forward(logits)                                 # (...)
    each = float(d_out) / logits.size                              # ()     undoes F4
    return (p - y) * each                                          # (...)  undoes F3 ... F1


def binary_cross_entropy_backward_steps(d_out: float, cache: BinaryCrossEntropyCache) -> Array:
    """The same gradient, one forward line at a time, from the last to the first."""
    logits, y = cache
    each = float(d_out) / logits.size                              # ()     undoes F4
    d_losses = np.full(logits.shape, each, logits.dtype)           # (...)
    d_logits = -y * d_losses                                       # (...)  undoes F3: the term -z y
    small = np.exp(-np.abs(logits))                                # (...)  e^-|z|
    d_logits += d_losses * small / (1 + small) * -np.sign(logits)  # (...)  undoes F2: the slope of -|z| is -sign z
    slope = np.where(logits > 0, 1, np.where(logits == 0, 0.5, 0)) # (...)  at 0 the two kinks cancel: max has 1/2 there
    d_logits += d_losses * slope                                   # (...)  undoes F1
    return d_logits
