"""Multi-head attention, on one sequence, from one to another, and jointly over text and image.

All three compute   Attention(Q, K, V) = softmax(Q K^T / sqrt(K)) V   per head (Vaswani et al. 2017, 3.2) and
differ only in where the keys and values come from:

    self      Q, K, V all from the text
    cross     Q from the text;  K, V from the image
    joint     Q from the text;  K = [K_text, K_image],  V = [V_text, V_image], each modality with its own projection

Rows of text may share an image (several questions about one picture). The image is then projected once, and
`memory_index` says which image each row looks at.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm import functional
from tinymm.layers.linear import Linear
from tinymm.layers.module import Array, Module


def split_heads(x: Array, n_heads: int) -> Array:
    """(B, T, D) -> (B, H, T, K) with D = H K: head h reads the h-th stretch of K numbers of each vector."""
    batch, length, width = x.shape
    return x.reshape(batch, length, n_heads, width // n_heads).swapaxes(1, 2)


def merge_heads(x: Array) -> Array:
    """(B, H, T, K) -> (B, T, D), the inverse (and so also the backward) of `split_heads`."""
    batch, n_heads, length, width = x.shape
    return x.swapaxes(1, 2).reshape(batch, length, n_heads * width)


class SelectCache(NamedTuple):
    table: Any                # cache of the embedding lookup, or None where row r simply is item r
    shape: tuple[int, ...]    # of one item


def select_forward(ops: Any, items: Array, index: NDArray[np.integer] | None) -> tuple[Array, SelectCache]:
    """Row r becomes items[index[r]]. It is an embedding lookup, whose backward sums over the rows that shared an item."""
    if index is None:
        return items, SelectCache(None, items.shape[1:])
    rows, table = ops.embedding_forward(index, items.reshape(len(items), -1))    # (R, N D)
    return rows.reshape(len(index), *items.shape[1:]), SelectCache(table, items.shape[1:])   # (R, N, D)


def select_backward(ops: Any, d_rows: Array, cache: SelectCache) -> Array:
    """d_rows (R, N, D) -> d_items (B, N, D)."""
    if cache.table is None:
        return d_rows
    d_items = ops.embedding_backward(d_rows.reshape(len(d_rows), -1), cache.table)   # (B, N D)
    return d_items.reshape(len(d_items), *cache.shape)


class KeysValues(NamedTuple):
    """Room for the keys and values of a text that grows (the "KV cache"); places that were not written yet hold zeros."""

    keys: Array      # (R, H, S_max, K)
    values: Array    # (R, H, S_max, K)

    def put(self, k: Array, v: Array, offset: int) -> tuple[Array, Array]:
        """Write k and v (R, H, T, K) at places offset to offset + T; returns all keys and values up to there."""
        end = offset + k.shape[2]
        if end > self.keys.shape[2]:
            raise ValueError(f"there is room for {self.keys.shape[2]} keys, but the text has {end} tokens")
        self.keys[:, :, offset:end], self.values[:, :, offset:end] = k, v
        return self.keys[:, :, :end], self.values[:, :, :end]                # (R, H, S, K) with S = offset + T


class MultiHeadAttentionCache(NamedTuple):
    query: Any
    key: Any
    value: Any
    select_key: SelectCache
    select_value: SelectCache
    rotary: Any      # of the queries; the keys were turned by the same angles
    attention: Any
    output: Any
    mask: NDArray[np.bool_] | None
    causal: bool
    is_cross: bool


class MultiHeadAttention(Module):
    """Self-attention over x, or cross-attention from x to a memory, with H heads side by side.

    Args:
        d_model: width D of x, a multiple of n_heads.   d_memory: width of the memory, d_model if not given.
        rotary: turn queries and keys by their places (Su et al. 2021); for self-attention only.
    """

    def __init__(self, d_model: int, n_heads: int, rng: np.random.Generator, d_memory: int | None = None,
                 rotary: bool = False):
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads, got d_model {d_model} and n_heads {n_heads}")
        self.n_heads, self.rotary = n_heads, rotary
        self.query = Linear(d_model, d_model, rng)
        self.key = Linear(d_memory or d_model, d_model, rng)
        self.value = Linear(d_memory or d_model, d_model, rng)
        self.output = Linear(d_model, d_model, rng)

    def forward(self, x: Array, memory: Array | None = None, *, mask: NDArray[np.bool_] | None = None, causal: bool = False,
                memory_index: NDArray[np.integer] | None = None, past: KeysValues | None = None,
                offset: int = 0) -> tuple[Array, MultiHeadAttentionCache]:
        """x (R, T, D), memory (B, S, D_memory) or None for self-attention -> out (R, T, D).

        mask: True where attention is allowed; broadcasts to (R, H, T, S).
        memory_index: (R,), the memory each row looks at; not needed when row r looks at memory r.
        past, offset: for writing token by token. x are the tokens from place `offset` on; the keys and values of those
            before stand in `past`, and those of x are put there too. Such a pass has no backward.
        """
        if self.rotary and memory is not None:
            raise ValueError("rotary positions are for self-attention: places in a text and in a memory are not the same")
        source = x if memory is None else memory                                       # (B, S, D_memory)
        q, query = self.query.forward(x)                                               # (R, T, D)     F1
        k, key = self.key.forward(source)                                              # (B, S, D)     F2
        v, value = self.value.forward(source)                                          # (B, S, D)     F3
        k, select_key = select_forward(self.ops, k, memory_index)                      # (R, S, D)     F4
        v, select_value = select_forward(self.ops, v, memory_index)                    # (R, S, D)     F5
        q, k, v = (split_heads(a, self.n_heads) for a in (q, k, v))                    # (R, H, T|S, K) F6
        rotary = None
        if self.rotary:
            q, rotary = self.ops.rotary_forward(q, offset)                             # (R, H, T, K)  F7
            k, _ = self.ops.rotary_forward(k, offset)                                  # (R, H, T, K)  F8
        if past is not None:
            k, v = past.put(k, v, offset)                                              # (R, H, S, K)
        heads, attention = self.ops.attention_forward(q, k, v, mask, causal)           # (R, H, T, K)  F9
        out, output = self.output.forward(merge_heads(heads))                          # (R, T, D)     F10
        return out, MultiHeadAttentionCache(query, key, value, select_key, select_value, rotary, attention, output,
                                            mask, causal, memory is not None)

    def backward(self, d_out: Array, cache: MultiHeadAttentionCache) -> Array | tuple[Array, Array]:
        """d_out (R, T, D) -> d_x (R, T, D), and for cross-attention also d_memory (B, S, D_memory)."""
        d_heads = split_heads(self.output.backward(d_out, cache.output), self.n_heads)     # (R, H, T, K)  undoes F10
        d_q, d_k, d_v = self.ops.attention_backward(d_heads, cache.attention)              # (R, H, T|S, K) undoes F9
        if cache.rotary is not None:
            d_k = self.ops.rotary_backward(d_k, cache.rotary)                              # (R, H, T, K)  undoes F8
            d_q = self.ops.rotary_backward(d_q, cache.rotary)                              # (R, H, T, K)  undoes F7
        d_q, d_k, d_v = merge_heads(d_q), merge_heads(d_k), merge_heads(d_v)               # (R, T|S, D)   undoes F6
        d_v = select_backward(self.ops, d_v, cache.select_value)                           # (B, S, D)     undoes F5
        d_k = select_backward(self.ops, d_k, cache.select_key)                             # (B, S, D)     undoes F4
        d_source = self.value.backward(d_v, cache.value)                                   # (B, S, D_mem) undoes F3
        d_source = d_source + self.key.backward(d_k, cache.key)                            # (B, S, D_mem) undoes F2
        d_x = self.query.backward(d_q, cache.query)                                        # (R, T, D)     undoes F1
        return (d_x, d_source) if cache.is_cross else d_x + d_source

    def weights(self, cache: MultiHeadAttentionCache) -> Array:
        """The attention weights (R, H, T, S) of a forward pass, for looking at; recomputed, as fast kernels do not keep them."""
        return attention_weights(cache)


class JointAttentionCache(NamedTuple):
    query: Any
    key: Any
    value: Any
    image_key: Any
    image_value: Any
    select_key: SelectCache
    select_value: SelectCache
    attention: Any
    output: Any
    mask: NDArray[np.bool_] | None
    causal: bool


class JointAttention(Module):
    """h = Attention(Q, [K_t, K_i], [V_t, V_i]): text looks at itself and at the image in a single softmax.

    Text and image have their own key and value projections, so each modality keeps its own language and meets
    the other only in the dot product. Attention does not care about the order of its keys; the image comes first here, so
    that `causal` (query t sees keys up to t + S - T) hides later words and never the image.
    """

    def __init__(self, d_model: int, n_heads: int, rng: np.random.Generator, d_memory: int | None = None):
        if n_heads < 1 or d_model % n_heads:
            raise ValueError(f"d_model must be a multiple of n_heads, got d_model {d_model} and n_heads {n_heads}")
        self.n_heads = n_heads
        self.query = Linear(d_model, d_model, rng)
        self.key = Linear(d_model, d_model, rng)
        self.value = Linear(d_model, d_model, rng)
        self.image_key = Linear(d_memory or d_model, d_model, rng)
        self.image_value = Linear(d_memory or d_model, d_model, rng)
        self.output = Linear(d_model, d_model, rng)

    def forward(self, x: Array, memory: Array, *, mask: NDArray[np.bool_] | None = None, causal: bool = False,
                memory_index: NDArray[np.integer] | None = None) -> tuple[Array, JointAttentionCache]:
        """Text x (R, T, D) and image tokens memory (B, N, D_memory) -> out (R, T, D). A mask broadcasts to (R, H, T, N + T)."""
        q, query = self.query.forward(x)                                               # (R, T, D)      F1
        k_text, key = self.key.forward(x)                                              # (R, T, D)      F2
        v_text, value = self.value.forward(x)                                          # (R, T, D)      F3
        k_image, image_key = self.image_key.forward(memory)                            # (B, N, D)      F4
        v_image, image_value = self.image_value.forward(memory)                        # (B, N, D)      F5
        k_image, select_key = select_forward(self.ops, k_image, memory_index)          # (R, N, D)      F6
        v_image, select_value = select_forward(self.ops, v_image, memory_index)        # (R, N, D)      F7
        k = np.concatenate([k_image, k_text], axis=1)                                  # (R, N + T, D)  F8
        v = np.concatenate([v_image, v_text], axis=1)                                  # (R, N + T, D)  F9
        q, k, v = (split_heads(a, self.n_heads) for a in (q, k, v))                    # (R, H, T|N+T, K) F10
        heads, attention = self.ops.attention_forward(q, k, v, mask, causal)           # (R, H, T, K)   F11
        out, output = self.output.forward(merge_heads(heads))                          # (R, T, D)      F12
        return out, JointAttentionCache(query, key, value, image_key, image_value, select_key, select_value,
                                        attention, output, mask, causal)

    def backward(self, d_out: Array, cache: JointAttentionCache) -> tuple[Array, Array]:
        """d_out (R, T, D) -> d_x (R, T, D) and d_memory (B, N, D_memory)."""
        n_image = cache.select_key.shape[0]
        d_heads = split_heads(self.output.backward(d_out, cache.output), self.n_heads)   # (R, H, T, K)     undoes F12
        d_q, d_k, d_v = self.ops.attention_backward(d_heads, cache.attention)            # (R, H, T|N+T, K) undoes F11
        d_q, d_k, d_v = merge_heads(d_q), merge_heads(d_k), merge_heads(d_v)             # (R, T|N+T, D)    undoes F10
        d_v_image, d_v_text = d_v[:, :n_image], d_v[:, n_image:]                         # (R, N|T, D)      undoes F9
        d_k_image, d_k_text = d_k[:, :n_image], d_k[:, n_image:]                         # (R, N|T, D)      undoes F8
        d_v_image = select_backward(self.ops, d_v_image, cache.select_value)             # (B, N, D)        undoes F7
        d_k_image = select_backward(self.ops, d_k_image, cache.select_key)               # (B, N, D)        undoes F6
        d_memory = self.image_value.backward(d_v_image, cache.image_value)               # (B, N, D_memory) undoes F5
        d_memory = d_memory + self.image_key.backward(d_k_image, cache.image_key)        # (B, N, D_memory) undoes F4
        d_x = self.value.backward(d_v_text, cache.value)                                 # (R, T, D)        undoes F3
        d_x = d_x + self.key.backward(d_k_text, cache.key)                               # (R, T, D)        undoes F2
        d_x = d_x + self.query.backward(d_q, cache.query)                                # (R, T, D)        undoes F1
        return d_x, d_memory

    def weights(self, cache: JointAttentionCache) -> Array:
        """The attention weights (R, H, T, N + T) of a forward pass, image tokens first; recomputed for looking at."""
        return attention_weights(cache)


def attention_weights(cache: MultiHeadAttentionCache | JointAttentionCache) -> Array:
    """The weights of a forward pass from the queries, keys and mask that it kept: (R, H, T, S)."""
    kept = cache.attention
    return functional.attention_forward(kept.q, kept.k, kept.v, cache.mask, cache.causal)[1].weights
