"""Attention in O(T) memory: the numba twins of `functional/attention.py`, on two rungs.

    attention_forward / attention_backward                      fast, with vector instructions
    readable_attention_forward / readable_attention_backward    the same tiles in plain loops: read and step this first

Both take the arguments of the functional pair and give its results. What happens is in attention_tiles.py; here the arguments are
checked and brought into the form of the kernels: q, k, v as (B, H, length, width), the mask as (1, M, T, S) with an index into M for
each head, so that a mask that broadcasts is never written out.
"""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm import functional
from tinymm.functional.attention import Array, Mask, check_attention
from tinymm.kernels import threads
from tinymm.kernels.attention_tiles import KEY_TILE, QUERY_BLOCK, STRIP, backward_parts, forward_blocks
from tinymm.kernels.tile_arithmetic import SIMD

NO_MASK = np.ones((1, 1, 1), np.uint8)
CACHE_LINE = 64         # bytes
SMALL = 2**18           # multiplications and additions that are worth a call of a kernel


class AttentionCache(NamedTuple):
    """What the backward pass needs: nothing of size (T, S). B, H and the like stand for any leading axes."""

    q: Array                        # (..., T, K)
    k: Array                        # (..., S, K)
    v: Array                        # (..., S, V)
    mask: Mask | None               # broadcasts to (..., T, S)
    causal: bool
    out: Array                      # (..., T, V)
    highest: Array                  # (B, H, T)  the highest score of each query
    total: Array                    # (B, H, T)  sum over keys of e^(score - highest); 0 for a query without any key


def attention_forward(
    q: Array, k: Array, v: Array, mask: Mask | None = None, causal: bool = False
) -> tuple[Array, AttentionCache]:
    """Attend from T queries to S keys, and return the weighted means of their values.

        out = softmax(Q K^T / sqrt(K)) V            Vaswani et al. 2017, eq. (1), in tiles: Dao et al. 2022, algorithm 1

    Args:
        q: queries (..., T, K).   k: keys (..., S, K).   v: values (..., S, V), with the same leading axes; float32 or float64.
        mask: True where attention is allowed; broadcasts to (..., T, S). A row without a True gives zeros.
        causal: query t sees keys up to t + S - T only; the other tiles are not even computed.

    Returns:
        out (..., T, V) in the dtype of q, and the cache for `attention_backward`.

    Raises:
        ValueError: as `tinymm.functional.attention_forward`.
        TypeError: the arrays are neither float32 nor float64.
    """
    return _forward(q, k, v, mask, causal, simd=SIMD)


def attention_backward(d_out: Array, cache: AttentionCache) -> tuple[Array, Array, Array]:
    """Gradients of `attention_forward` with respect to q, k and v, given the gradient of its output (..., T, V).

    The weights are computed once more, tile by tile; the equations are those of `tinymm.functional.attention_backward`.
    The cache holds the output itself: do not change it in place before.
    """
    return _backward(d_out, cache, simd=SIMD)


def attention_backward_steps(d_out: Array, cache: AttentionCache) -> tuple[Array, Array, Array]:
    """The same gradients one forward line at a time, which needs the whole table of weights: the functional pair, for comparison."""
    _, whole = functional.attention_forward(cache.q, cache.k, cache.v, cache.mask, cache.causal)
    return functional.attention_backward_steps(d_out, whole)


def readable_attention_forward(
    q: Array, k: Array, v: Array, mask: Mask | None = None, causal: bool = False
) -> tuple[Array, AttentionCache]:
    """`attention_forward` on the first rung: the same tiles, in plain loops."""
    return _forward(q, k, v, mask, causal, simd=None)


def readable_attention_backward(d_out: Array, cache: AttentionCache) -> tuple[Array, Array, Array]:
    """`attention_backward` on the first rung: the same tiles, in plain loops."""
    return _backward(d_out, cache, simd=None)


def _forward(q, k, v, mask, causal, simd):
    check_attention(q, k, v, mask)
    dtype = np.result_type(q, k, v)
    if dtype not in (np.float32, np.float64):
        raise TypeError(f"the attention kernels compute in float32 or float64, got q {q.dtype}, k {k.dtype}, v {v.dtype}; "
                        "convert with astype")
    q_, k_, v_ = (_as_heads(x, dtype) for x in (q, k, v))                        # (B, H, T, K), (B, H, S, K), (B, H, S, V)
    B, H, T, K = q_.shape
    S, V = v_.shape[2:]
    out = _empty_like(q_, V)                                                     # (B, H, T, V)
    highest, total = np.empty((2, B, H, T), dtype)                               # (B, H, T) each
    blocks = -(-T // QUERY_BLOCK)
    threads.run(forward_blocks, B * H * blocks, (
        q_, k_, v_, *_as_mask(mask, q_, S, q.shape[:-2]), causal, dtype.type(1 / math.sqrt(K)), out, highest, total, simd),
        pieces_at_once=_pieces(QUERY_BLOCK * S * (K + V)))
    out = out.reshape(*q.shape[:-1], V)
    return out, AttentionCache(q, k, v, mask, causal, out, highest, total)


def _backward(d_out, cache, simd):
    q, k, v, mask, causal, out, highest, total = cache
    if d_out.shape != out.shape:
        raise ValueError(f"d_out must have the shape of the output, {out.shape}, got {d_out.shape}")
    dtype = out.dtype
    q_, k_, v_, out_, d_out_ = (_as_heads(x, dtype) for x in (q, k, v, out, d_out))
    B, H, T, K = q_.shape
    S, V = v_.shape[2:]
    d_q = _empty_like(q_, K)                                                     # (B, H, T, K)
    d_k, d_v = (_empty_like(x, -(-x.shape[-1] // STRIP) * STRIP) for x in (k_, v_))   # (B, H, S, K), (B, H, S, V), in whole vectors

    def run(query_parts, key_parts):
        threads.run(backward_parts, B * H * query_parts * key_parts, (
            q_, k_, v_, *_as_mask(mask, q_, S, q.shape[:-2]), causal, dtype.type(1 / math.sqrt(K)), out_,
            _read_only(highest), _read_only(total), d_out_, query_parts, key_parts, d_q, d_k, d_v, simd),
            pieces_at_once=_pieces(T * S * (3 * K + 2 * V) // (query_parts * key_parts)))

    if 5 * -(-B * H // threads.thread_count()) <= 7 * B * H / threads.thread_count():
        run(1, 1)                                           # a thread takes whole heads: five products a tile
    else:
        run(-(-T // QUERY_BLOCK), 1)                        # too few heads for the threads: d_q by parts of the queries, three products,
        run(1, -(-S // KEY_TILE))                           # then d_k and d_v by parts of the keys, four products
    return (d_q.reshape(q.shape), d_k[..., :K].reshape(k.shape), d_v[..., :V].reshape(v.shape))


def _as_heads(x: Array, dtype: np.dtype) -> Array:
    """A read-only view (B, H, length, width), B and H made of the leading axes; copied only if the kernels cannot read it in place."""
    x = x.astype(dtype, copy=False)
    x = x.reshape(-1, *x.shape[-3:]) if x.ndim > 2 else x[None, None]
    if x.strides[-1] != x.itemsize and x.shape[-1] > 1 or not x.flags.aligned:
        x = np.ascontiguousarray(x)
    return _read_only(x)


def _as_mask(mask: Mask | None, q: Array, keys: int, leading: tuple[int, ...]) -> tuple[NDArray[np.uint8], NDArray[np.intp], bool]:
    """The mask as (1, M, T, S), for each head (B, H) the index into M, and whether there is a mask at all.

    Axes along which the mask is broadcast stay unwritten: M counts only different masks, and T or S may have stride 0.
    """
    B, H, T, _ = q.shape
    if mask is None:
        return _read_only(np.broadcast_to(NO_MASK, (1, 1, T, keys))), np.zeros((B, H), np.intp), False
    mask = mask.reshape((1,) * (len(leading) + 2 - mask.ndim) + mask.shape)      # as many axes as q
    mask = mask[tuple([slice(1) if stride == 0 else slice(None) for stride in mask.strides])]
    mask = np.ascontiguousarray(mask).view(np.uint8)
    M = math.prod(mask.shape[:-2])
    index = np.broadcast_to(np.arange(M).reshape(mask.shape[:-2]), leading).reshape(B, H)
    return _read_only(np.broadcast_to(mask.reshape(1, M, *mask.shape[-2:]), (1, M, T, keys))), np.ascontiguousarray(index), True


def _pieces(work: int) -> int:
    return max(1, SMALL // max(1, work))


def _read_only(x: np.ndarray) -> np.ndarray:
    view = x.view()
    view.flags.writeable = False
    return view


def _empty_like(x: Array, width: int) -> Array:
    """Uninitialised (..., width) whose axes lie in memory as those of x: heads then merge back without a copy.

    It begins where a cache line does, so that vectors that are whole numbers of lines do not straddle two.
    """
    order = np.argsort([-stride for stride in x.strides[:-1]], kind="stable")
    shape = (*(x.shape[axis] for axis in order), width)
    buffer = np.empty(math.prod(shape) + CACHE_LINE // x.itemsize, x.dtype)
    first = (-buffer.ctypes.data % CACHE_LINE) // x.itemsize
    array = buffer[first:first + math.prod(shape)].reshape(shape)
    return array.transpose(*np.argsort(order), x.ndim - 1)
