"""Scaled dot-product attention: every query takes a weighted mean of the values.

    Attention(Q, K, V) = softmax(Q K^T / sqrt(K)) V        Vaswani et al. 2017, eq. (1)

This is where tokens look at each other: text at text, text at image, image at image. Everything else in a
Transformer works on each token alone. Who may look at whom is a boolean mask, built by `attention_mask`.

Why divide by sqrt(K): if the entries of q and k are independent with variance 1, then q . k, a sum of K
products, has variance K. Divided by sqrt(K) it has variance 1 again, and the softmax starts neither flat nor
saturated.

The backward. The forward has two matrix products with a softmax between them. For C = A B the chain rule gives

    dA = dC B^T        dB = A^T dC

so each of the two turns into two, four in all, and the softmax between them into its short formula (softmax.py):

    out    = P V          ->  d_V = P^T d_out            d_P = d_out V^T
    P      = softmax(S)   ->  d_S = P (d_P - rowsum(P d_P))                  element by element
    S      = Q K^T scale  ->  d_Q = d_S K scale          d_K = d_S^T Q scale

A kernel that saves memory does not keep P, and computes Q K^T once more: then the backward has five products.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Mask = NDArray[np.bool_]


class AttentionCache(NamedTuple):
    """What the backward pass needs. B, H and the like stand for any leading axes."""

    q: Array        # (..., T, K)
    k: Array        # (..., S, K)
    v: Array        # (..., S, V)
    weights: Array  # (..., T, S)  each row sums to 1, or to 0 where nothing may be attended
    total: Array    # (..., T, 1)  the sum of the shifted exponentials; only `attention_backward_steps` looks at it
    scale: float


def attention_forward(
    q: Array, k: Array, v: Array, mask: Mask | None = None, causal: bool = False
) -> tuple[Array, AttentionCache]:
    """Attend from T queries to S keys, and return the weighted means of their values.

    Args:
        q: queries (..., T, K).   k: keys (..., S, K).   v: values (..., S, V), with the same leading axes.
        mask: True where attention is allowed; broadcasts to (..., T, S). A row without a True gives zeros.
        causal: query t sees keys up to t + S - T only (the last query sees every key); combined with the mask.

    Returns:
        out (..., T, V) in the dtype of q, and the cache for `attention_backward`.

    Raises:
        ValueError: a wrong rank, an empty axis, widths of q and k or lengths of k and v or leading axes that differ,
            a mask that is not boolean or does not broadcast to (..., T, S).
    """
    check_attention(q, k, v, mask)
    scale = 1.0 / float(np.sqrt(q.shape[-1]))
    allowed = attention_mask(q.shape[-2], k.shape[-2], causal=causal, extra=mask)

    # Scaling the T x K queries gives the same as scaling the T x S scores, with less work.
    scores = (q * scale) @ k.swapaxes(-1, -2)                      # (..., T, S)  F1  how well a key answers a query
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)                # (..., T, S)  F2  what may not be seen cannot win
    highest = scores.max(axis=-1, keepdims=True)                   # (..., T, 1)  F3
    highest = np.where(highest == -np.inf, 0, highest)             # (..., T, 1)      a row without any key
    exps = np.exp(scores - highest)                                # (..., T, S)  F4  no overflow: the largest is 1
    total = exps.sum(axis=-1, keepdims=True)                       # (..., T, 1)  F5
    total = np.where(total > 0, total, 1)                          # (..., T, 1)      a row without any key
    weights = exps / total                                         # (..., T, S)  F6
    out = weights @ v                                              # (..., T, V)  F7
    return out, AttentionCache(q, k, v, weights, total, scale)


def attention_backward(d_out: Array, cache: AttentionCache) -> tuple[Array, Array, Array]:
    """Gradients of `attention_forward` with respect to q, k and v, given d_out (..., T, V)."""
    q, k, v, weights, _, scale = cache

    d_v = weights.swapaxes(-1, -2) @ d_out                         # (..., S, V)  undoes F7
    d_weights = d_out @ v.swapaxes(-1, -2)                         # (..., T, S)  undoes F7
    inner = (weights * d_weights).sum(axis=-1, keepdims=True)      # (..., T, 1)      softmax: d_s = p (d_p - p . d_p)
    d_scores = weights * (d_weights - inner)                       # (..., T, S)  undoes F6 ... F2 (masked: p = 0)
    d_q = (d_scores @ k) * scale                                   # (..., T, K)  undoes F1
    d_k = (d_scores.swapaxes(-1, -2) @ q) * scale                  # (..., S, K)  undoes F1
    return d_q, d_k, d_v


def attention_backward_steps(d_out: Array, cache: AttentionCache) -> tuple[Array, Array, Array]:
    """The same gradients, one forward line at a time, from the last to the first."""
    q, k, v, weights, total, scale = cache
    exps = weights * total                                         # (..., T, S)  F4, as it was

    d_weights = d_out @ v.swapaxes(-1, -2)                         # (..., T, S)  undoes F7: the left factor ...
    d_v = weights.swapaxes(-1, -2) @ d_out                         # (..., S, V)  ... and the right factor
    d_exps = d_weights / total                                     # (..., T, S)  undoes F6: the dividend ...
    d_quotients = -d_weights * exps / total**2                     # (..., T, S)      ... and the divisor,
    d_total = d_quotients.sum(axis=-1, keepdims=True)              # (..., T, 1)      which the whole row was divided by
    d_exps = d_exps + d_total                                      # (..., T, S)  undoes F5: a sum reaches each term
    d_shifted = d_exps * exps                                      # (..., T, S)  undoes F4: the slope of exp is exp
    d_scores = d_shifted                                           # (..., T, S)      the slope of scores - highest is 1
    # F3: the maximum would get -sum(d_shifted), which is 0: a common shift of a row has no effect (softmax.py).
    # F2: a masked score was replaced by -inf, so it gets 0. It has it already, since its exp is 0.
    d_scaled = d_scores @ k                                        # (..., T, K)  undoes F1: the left factor q * scale
    d_q = d_scaled * scale                                         # (..., T, K)      ... in it q
    d_k = d_scores.swapaxes(-1, -2) @ (q * scale)                  # (..., S, K)      ... and the right factor
    return d_q, d_k, d_v


def attention_mask(
    query_length: int,
    key_length: int,
    *,
    causal: bool = False,
    prefix: int = 0,
    padding: Mask | None = None,
    extra: Mask | None = None,
) -> Mask | None:
    """Who may look at whom: the one place where masks are made and combined. True means "may be seen".

    Args:
        query_length, key_length: T and S.
        causal: query t sees keys up to t + S - T. With T = S this is "itself and the past"; with T < S the queries are
            the last T positions of the sequence, as when generating with remembered keys.
        prefix: the first `prefix` keys are seen by every query, in spite of `causal`: an image or a prompt that is
            read as a whole before the text that follows it. Without `causal` it changes nothing.
        padding: (B, S), True where the key is a real token.
        extra: any further boolean array that broadcasts to (..., T, S).

    Returns:
        A boolean array that broadcasts to (..., T, S), all conditions and-ed: (T, S), with padding (B, 1, 1 or T, S);
        or None when no condition was given.

    Raises:
        ValueError: a length below 1, a prefix outside 0 to S, padding or extra not boolean or of a wrong shape.
    """
    if query_length < 1 or key_length < 1:
        raise ValueError(f"query_length and key_length must be at least 1, got {query_length} and {key_length}")
    if not 0 <= prefix <= key_length:
        raise ValueError(f"prefix must lie in 0 to key_length = {key_length}, got {prefix}")

    conditions: list[Mask] = []
    if causal:
        key = np.arange(key_length)                                        # (S,)
        query = np.arange(key_length - query_length, key_length)[:, None]  # (T, 1)  its place among the keys
        conditions.append((key <= query) | (key < prefix))                 # (T, S)
    if padding is not None:
        if padding.dtype != bool or padding.ndim != 2 or padding.shape[1] != key_length:
            raise ValueError(f"padding must be a boolean array of shape (B, S) with S = {key_length}, "
                             f"got {padding.dtype} {padding.shape}")
        conditions.append(padding[:, None, None, :])                       # (B, 1, 1, S)
    if extra is not None:
        if extra.dtype != bool or not _broadcasts(extra.shape[-2:], (query_length, key_length)):
            raise ValueError(f"extra must be a boolean array that broadcasts to (..., T, S) = "
                             f"(..., {query_length}, {key_length}), got {extra.dtype} {extra.shape}")
        conditions.append(extra)                                           # (..., T, S)

    if not conditions:
        return None
    allowed = conditions[0]
    for condition in conditions[1:]:
        allowed = allowed & condition                                      # (..., T, S)
    return allowed


def check_attention(q: Array, k: Array, v: Array, mask: Mask | None) -> None:
    """Raise the ValueErrors of `attention_forward`."""
    for name, array in (("q", q), ("k", k), ("v", v)):
        if array.ndim < 2 or array.size == 0:
            raise ValueError(f"{name} must have shape (..., length, width) without an empty axis, got {array.shape}")
    if q.shape[-1] != k.shape[-1]:
        raise ValueError(f"q and k must have the same width, got q {q.shape} and k {k.shape}")
    if k.shape[-2] != v.shape[-2]:
        raise ValueError(f"k and v must have the same length, got k {k.shape} and v {v.shape}")
    if not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise ValueError(f"q, k and v must have the same leading axes, got q {q.shape}, k {k.shape} and v {v.shape}")
    if mask is not None:
        scores_shape = (*q.shape[:-1], k.shape[-2])
        if mask.dtype != bool:
            raise ValueError(f"mask must be boolean, True where attention is allowed, got {mask.dtype}")
        if not _broadcasts(mask.shape, scores_shape):
            raise ValueError(f"mask must broadcast to (..., T, S) = {scores_shape}, got {mask.shape}")


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    """Whether an array of this shape can be broadcast to the target."""
    return len(shape) <= len(target) and all(n in (1, m) for n, m in zip(reversed(shape), reversed(target)))
