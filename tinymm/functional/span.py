"""The loss of a span: where in a text an answer begins and where it ends (Devlin et al. 2019, section 4.2).

    is the circle red or blue ?          "blue": first = last = 5
                         ^
    p = softmax over the places of the start logits,    q = softmax over the places of the end logits
    L = mean over the texts of  -(log p_first + log q_last) / 2

Two classifications over the places of a text. A place that cannot be part of an answer, such as padding, has the logit
-infinity, so p = 0 and no gradient.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.functional.losses import CrossEntropyCache, cross_entropy_backward, cross_entropy_forward

Array = NDArray[np.floating]


class SpanCrossEntropyCache(NamedTuple):
    start: CrossEntropyCache
    end: CrossEntropyCache


def span_cross_entropy_forward(logits: Array, spans: NDArray[np.integer], allowed: NDArray[np.bool_]) -> tuple[np.floating, SpanCrossEntropyCache]:
    """L = mean over the texts of (cross-entropy of the first place + cross-entropy of the last place) / 2.

    Args:
        logits: (R, T, 2), for each place of each text: is it the first of the span, is it the last?
        spans: integers (R, 2), the first and the last place of the right span.
        allowed: boolean (R, T), True where a span may begin, end and pass.

    Returns:
        The loss, a scalar in the dtype of logits, and the cache for `span_cross_entropy_backward`.

    Raises:
        ValueError: shapes or types that do not fit, or a span that is not allowed or ends before it begins.
    """
    check_span(logits, allowed)
    if spans.shape != (len(logits), 2) or spans.dtype.kind not in "iu":
        raise ValueError(f"spans must be integers of shape (R, 2) = ({len(logits)}, 2), got {spans.dtype} {spans.shape}")
    row, length = np.arange(len(logits)), logits.shape[1]
    if (spans < 0).any() or (spans >= length).any() or (spans[:, 0] > spans[:, 1]).any() or not allowed[row[:, None], spans].all():
        raise ValueError(f"every span must lie in allowed places of 0 to {length - 1} and not end before it begins")

    start = np.where(allowed, logits[..., 0], -np.inf)                    # (R, T)  F1
    end = np.where(allowed, logits[..., 1], -np.inf)                      # (R, T)  F2
    start_loss, start_cache = cross_entropy_forward(start, spans[:, 0])   # ()      F3
    end_loss, end_cache = cross_entropy_forward(end, spans[:, 1])         # ()      F4
    loss = (start_loss + end_loss) / 2                                    # ()      F5
    return loss, SpanCrossEntropyCache(start_cache, end_cache)


def span_cross_entropy_backward(d_out: float, cache: SpanCrossEntropyCache) -> Array:
    """Gradient of `span_cross_entropy_forward` with respect to logits (R, T, 2)."""
    d_end = cross_entropy_backward(d_out / 2, cache.end)                  # (R, T)    undoes F5 and F4
    d_start = cross_entropy_backward(d_out / 2, cache.start)              # (R, T)    undoes F5 and F3
    return np.stack([d_start, d_end], axis=-1)                            # (R, T, 2) undoes F2 and F1: p = 0 where it is not allowed, and so is d


def best_span(logits: Array, allowed: NDArray[np.bool_]) -> NDArray[np.integer]:
    """The likeliest span of each text that does not end before it begins: (R, 2), its first and its last place.

        (first, last) = argmax over i <= j of  start_i + end_j

    The sum of logits is the log of p_i q_j but for a constant of the text. The two likeliest places alone may be in the wrong order.

    Args:
        logits: (R, T, 2).   allowed: boolean (R, T), True in at least one place of each text.
    """
    check_span(logits, allowed)
    length = logits.shape[1]
    start = np.where(allowed, logits[..., 0], -np.inf)                    # (R, T)
    end = np.where(allowed, logits[..., 1], -np.inf)                      # (R, T)
    scores = start[:, :, None] + end[:, None, :]                          # (R, T, T)  [r, i, j]: from i to j
    scores = np.where(np.tri(length, dtype=bool).T, scores, -np.inf)      # (R, T, T)  i <= j
    best = scores.reshape(len(logits), -1).argmax(axis=-1)                # (R,)
    return np.stack(np.divmod(best, length), axis=-1)                     # (R, 2)


def check_span(logits: Array, allowed: NDArray[np.bool_]) -> None:
    """Raise the ValueErrors of logits and allowed."""
    if logits.ndim != 3 or logits.shape[-1] != 2 or logits.size == 0:
        raise ValueError(f"logits must have shape (R, T, 2) without an empty axis, got {logits.shape}")
    if allowed.shape != logits.shape[:2] or allowed.dtype != bool or not allowed.any(axis=1).all():
        raise ValueError(f"allowed must be boolean of shape (R, T) = {logits.shape[:2]}, True somewhere in each text, got {allowed.dtype} {allowed.shape}")
