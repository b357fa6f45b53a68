"""Cross-entropy: how surprised the model is by the right answer. The number that training makes small.

    p = softmax(logits),    L = mean over the tokens that count of  -sum_v y_v log p_v

y is the target distribution: 1 for the label and 0 for the rest, or with label smoothing e (Szegedy et al. 2016,
section 7)  y_v = (1 - e) 1[v = label] + e / V.  A model that knows nothing says p = 1 / V, and L = log V.

The short backward. With log p_v = x_v - log sum_u exp(x_u), one token has the loss

    L = -sum_v y_v x_v + log sum_u exp(x_u)          since the y_v sum to 1
    dL/dx_v = -y_v + exp(x_v) / sum_u exp(x_u)
    d_x = p - y

"What the model said, minus what was right": the simplest gradient of the whole project, and the one that starts
every backward pass. It lies between -1 and 1 whatever the logits are, and is 0 only where the model says exactly y.
`cross_entropy_backward_steps` reaches it by undoing the forward line by line.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class CrossEntropyCache(NamedTuple):
    """What the backward pass needs. M is the number of labels that count."""

    probabilities: Array             # (M, V)  softmax of the logits that count
    total: Array                     # (M, 1)  the sum of the shifted exponentials; only for the `_steps`
    targets: NDArray[np.integer]     # (M,)    their labels
    counts: NDArray[np.bool_]        # (...)   True where the label counts
    label_smoothing: float


def cross_entropy_forward(
    logits: Array, labels: NDArray[np.integer], ignore_index: int = -100, label_smoothing: float = 0.0
) -> tuple[np.floating, CrossEntropyCache]:
    """L = mean over the labels that count of -sum_v y_v log softmax(logits)_v.

    Args:
        logits: scores (..., V).   labels: integers (...), each in 0 to V - 1, or `ignore_index`.
        ignore_index: positions with this label (padding, the prompt) count neither in the sum nor in the mean.
        label_smoothing: the part of y that is spread evenly over all V classes, 0 to 1.

    Returns:
        The loss, a scalar in the dtype of logits, and the cache for `cross_entropy_backward`.
        When no label counts, the loss is 0 and all gradients are 0.

    Raises:
        ValueError: shapes that do not fit, an empty axis, labels that are not integers or out of range,
            label_smoothing outside 0 to 1.
    """
    check_cross_entropy(logits, labels, ignore_index, label_smoothing)

    counts = labels != ignore_index                                # (...)
    x = logits[counts]                                             # (M, V)  F1  what is ignored is left out
    targets = labels[counts]                                       # (M,)
    row = np.arange(len(targets))                                  # (M,)
    highest = x.max(axis=-1, keepdims=True)                        # (M, 1)  F2
    highest = np.where(highest == -np.inf, 0, highest)             # (M, 1)      a row that holds nothing possible
    shifted = x - highest                                          # (M, V)  F3
    exps = np.exp(shifted)                                         # (M, V)  F4
    total = exps.sum(axis=-1, keepdims=True)                       # (M, 1)  F5
    total = np.where(total > 0, total, 1)                          # (M, 1)      a row that holds nothing possible
    log_p = shifted - np.log(total)                                # (M, V)  F6
    losses = -log_p[row, targets]                                  # (M,)    F7  -log p of the label
    if label_smoothing > 0:
        spread = -log_p.mean(axis=-1)                              # (M,)    F8  the mean over all classes
        losses = (1 - label_smoothing) * losses + label_smoothing * spread   # (M,)  F9
    loss = losses.sum() / max(len(targets), 1)                     # ()      F10 the mean

    return loss, CrossEntropyCache(exps / total, total, targets, counts, label_smoothing)


def cross_entropy_backward(d_out: float, cache: CrossEntropyCache) -> Array:
    """Gradient of `cross_entropy_forward` with respect to logits (..., V): (p - y) / M at labels that count, else 0.

    d_out is the gradient of the scalar loss, 1.0 when the loss is what training makes small.
    """
    probabilities, _, targets, counts, label_smoothing = cache
    classes = probabilities.shape[-1]
    row = np.arange(len(targets))                                  # (M,)

    each = float(d_out) / max(len(targets), 1)                     # ()      undoes F10: a token's share of the mean
    d_x = probabilities * each                                     # (M, V)  p ...
    d_x[row, targets] -= (1 - label_smoothing) * each              # (M, V)  ... - y: the label ...
    d_x -= label_smoothing / classes * each                        # (M, V)  ... and the even part. Undoes F9 ... F2
    d_logits = np.zeros((*counts.shape, classes), d_x.dtype)       # (..., V)
    d_logits[counts] = d_x                                         # (..., V)  undoes F1
    return d_logits


def cross_entropy_backward_steps(d_out: float, cache: CrossEntropyCache) -> Array:
    """The same gradient, one forward line at a time, from the last to the first."""
    probabilities, total, targets, counts, label_smoothing = cache
    classes = probabilities.shape[-1]
    row = np.arange(len(targets))                                  # (M,)
    exps = probabilities * total                                   # (M, V)  F4, as it was

    each = float(d_out) / max(len(targets), 1)                     # ()      undoes F10: a token's share of the mean
    d_losses = np.full((len(targets), 1), each, exps.dtype)        # (M, 1)
    d_spread = label_smoothing * d_losses                          # (M, 1)  undoes F9: the even part ...
    d_losses = (1 - label_smoothing) * d_losses                    # (M, 1)      ... and the label's part
    d_log_p = np.zeros_like(exps)                                  # (M, V)
    d_log_p -= d_spread / classes                                  # (M, V)  undoes F8: a mean reaches each term
    d_log_p[row, targets] -= d_losses[:, 0]                        # (M, V)  undoes F7: only the label's entry was read
    d_shifted = d_log_p                                            # (M, V)  undoes F6: log p holds `shifted` ...
    d_total = -d_log_p.sum(axis=-1, keepdims=True) / total         # (M, 1)      ... and -log total, in every entry
    d_exps = d_total                                               # (M, 1)  undoes F5: a sum reaches each term
    d_shifted = d_shifted + d_exps * exps                          # (M, V)  undoes F4: the slope of exp is exp
    d_x = d_shifted                                                # (M, V)  undoes F3: the slope of x - highest is 1
    # F2: the maximum would get -sum(d_shifted), which is 0: a common shift of a row has no effect (softmax.py).
    d_logits = np.zeros((*counts.shape, classes), d_x.dtype)       # (..., V)
    d_logits[counts] = d_x                                         # (..., V)  undoes F1
    return d_logits


def check_cross_entropy(logits: Array, labels: NDArray[np.integer], ignore_index: int, label_smoothing: float) -> None:
    """Raise the ValueErrors of `cross_entropy_forward`."""
    if logits.ndim < 1 or logits.size == 0:
        raise ValueError(f"logits must have shape (..., V) without an empty axis, got {logits.shape}")
    if labels.shape != logits.shape[:-1]:
        raise ValueError(f"labels must have shape {logits.shape[:-1]} to fit logits {logits.shape}, got {labels.shape}")
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"labels must be integers, got {labels.dtype}")
    classes = logits.shape[-1]
    wrong = (labels != ignore_index) & ((labels < 0) | (labels >= classes))
    if wrong.any():
        raise ValueError(f"labels must lie in 0 to {classes - 1} to fit logits {logits.shape}, "
                         f"or be ignore_index = {ignore_index}, got {labels[wrong][0]}")
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must lie in 0 to 1, got {label_smoothing}")
