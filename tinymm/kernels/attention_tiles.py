"""Attention without its table of weights: the order in which tiles of keys and values pass by a block of queries.

    Attention(Q, K, V) = softmax(Q K^T / sqrt(K)) V        Vaswani et al. 2017, eq. (1)

The table of scores (T, S) is the large thing in attention, and it need not exist. A block of queries meets one tile of keys after
another; the *online softmax* keeps, for each query, the highest score so far, the sum of exponentials and the weighted sum of
values, and rescales both sums when a higher score comes (Milakov and Gimelshein 2018; Rabe and Staats 2021; Dao et al. 2022).
The backward computes the weights a second time from the scores and the saved maximum and sum, instead of remembering them.

The log-sum-exp of a query is kept as its two parts, `highest` and `total`: in one number, highest + log(total), a large score
would swallow the logarithm.

This file is the same for both rungs; tile_arithmetic.py says what `simd` changes.

Tiles hold scores transposed: (keys, queries). Letters as everywhere; n keys of a tile, m queries of a block (with padding to whole vectors).
"""

from typing import NamedTuple

import numpy as np

from tinymm.functional.attention import Array
from tinymm.kernels.compilation import Kernel, compiled
from tinymm.kernels.registers import borrowed, head_of, keep_until_here, row_of, window
from tinymm.kernels.tile_arithmetic import (
    add_product, aligned, copy_row, copy_rows, copy_transposed, dot, fill_rows, scale_rows, softmax_gradient, softmax_step,
)

QUERY_BLOCK = 64        # queries that are worked on together
KEY_TILE = 64           # keys that pass by at a time
STRIP = 16              # steps of the staircase along the causal diagonal; a multiple of every vector's lanes

NOTHING, SOMETHING, EVERYTHING = 0, 1, 2


# ---- forward

class ForwardScratch(NamedTuple):
    """Memory of one thread, used again for each block of queries. K and V rounded up to whole vectors."""

    queries: Array      # (QUERY_BLOCK, K)
    queries_t: Array    # (K, QUERY_BLOCK)
    values: Array       # (S, V)  of one head
    weights: Array      # (KEY_TILE, QUERY_BLOCK)
    highest: Array      # (1, QUERY_BLOCK)
    total: Array        # (1, QUERY_BLOCK)
    rescale: Array      # (1, QUERY_BLOCK)
    out: Array          # (QUERY_BLOCK, V)


@Kernel
def forward_blocks(first, last, q, k, v, mask, mask_index, masked, causal, scale, out, highest, total, simd):
    """Blocks first ... last - 1 of queries, counted through batch, heads and length.

    Args:
        q: (B, H, T, K).   k: (B, H, S, K).   v: (B, H, S, V).
        mask: (1, M, T, S) of 0 and 1, and mask_index (B, H) says which of the M belongs to a head; looked at if `masked`.
        out: (B, H, T, V).   highest, total: (B, H, T), all three written.
    """
    width, value_width = round_up(q.shape[3], STRIP), round_up(v.shape[3], STRIP)
    memory = ForwardScratch(
        queries=aligned(QUERY_BLOCK, width, q), queries_t=aligned(width, QUERY_BLOCK, q),
        values=aligned(k.shape[2], value_width, q), weights=aligned(KEY_TILE, QUERY_BLOCK, q),
        highest=aligned(1, QUERY_BLOCK, q), total=aligned(1, QUERY_BLOCK, q), rescale=aligned(1, QUERY_BLOCK, q),
        out=aligned(QUERY_BLOCK, value_width, q))
    scratch = borrowed(memory)
    heads, blocks = q.shape[1], -(-q.shape[2] // QUERY_BLOCK)
    for piece in range(first, last):
        batch_head, block = divmod(piece, blocks)
        b, h = divmod(batch_head, heads)
        if piece == first or block == 0:                                # a new head
            copy_rows(scratch.values, head_of(v, b, h), simd)
        forward_block(head_of(q, b, h), head_of(k, b, h), head_of(mask, 0, mask_index[b, h]), masked, causal, scale,
                      block * QUERY_BLOCK, head_of(out, b, h), head_of(highest, b, h), head_of(total, b, h), scratch, simd)
    keep_until_here(memory)


@compiled
def forward_block(q, k, mask, masked, causal, scale, t0, out, highest, total, scratch, simd):
    """Queries t0 ... t0 + QUERY_BLOCK - 1 of one head attend to all keys: out, highest and total of these rows."""
    T, S, V = q.shape[0], k.shape[0], out.shape[1]
    queries = min(QUERY_BLOCK, T - t0)
    m = round_up(queries, STRIP)
    ahead = S - T                                                       # with `causal`, query t sees keys 0 ... t + ahead

    queries_t = prepare_queries(q, t0, queries, m, scale, scratch.queries, scratch.queries_t, simd)   # (K, m)  F1  q * scale, transposed
    peak = window(scratch.highest, 0, 0, 1, m)                          # (1, m)
    sums = window(scratch.total, 0, 0, 1, m)                            # (1, m)
    rescale = window(scratch.rescale, 0, 0, 1, m)                       # (1, m)
    means = window(scratch.out, 0, 0, round_up(queries, 8), scratch.out.shape[1])   # (queries, V)
    for t in range(m):
        peak[0, t], sums[0, t] = np.finfo(q.dtype).min, 0          # the lowest finite number: lowest - lowest is 0, not nan

    fresh = True                                                        # no key seen yet: nothing to rescale or add to
    keys_seen = min(S, t0 + queries + ahead) if causal else S
    for s0 in range(0, keys_seen, KEY_TILE):
        n = min(KEY_TILE, keys_seen - s0)
        visible = look_at_mask(mask, t0, queries, s0, n) if masked else EVERYTHING
        if visible == NOTHING:
            continue
        offset = s0 - t0 - ahead if causal else -n                      # the query in column t sees the key in row s if s + offset <= t
        weights = window(scratch.weights, 0, 0, n, m)                   # (n, m)
        keys = window(k, s0, 0, n, k.shape[1])                          # (n, K)
        values = window(scratch.values, s0, 0, n, scratch.values.shape[1])   # (n, V)

        score_tile(weights, keys, queries_t, offset, simd)              # (n, m)  F1  scores = K Q^T
        hide_by_mask(weights, mask, t0, queries, s0, visible)           # (n, m)  F2  -inf where the mask forbids it
        hide_future(weights, offset, -np.inf)                           # (n, m)  F2  -inf where the causal rule forbids it
        softmax_step(weights, peak, sums, rescale, simd)                # (n, m)  F3  new maximum, F4 exponentials, F5 their sum
        if not fresh:
            scale_rows(means, rescale, simd)                              # (m, V)      what was summed under the old maximum
        sum_over_keys(means, weights, values, offset, fresh, simd)      # (m, V)  F7  sum of exponential * value
        fresh = False

    for t in range(queries):
        highest[t0 + t], total[t0 + t] = peak[0, t], sums[0, t]
        if sums[0, t] == 0:                                             #             a row without any key gives zeros
            fill_rows(out, t0 + t, t0 + t + 1, 0)
        else:
            copy_row(out, t0 + t, means, t, 1 / sums[0, t], simd)       # (m, V)  F6  divide by the sum, once at the end


# ---- backward

class BackwardScratch(NamedTuple):
    """Memory of one thread, used again for each block of queries."""

    queries: Array      # (QUERY_BLOCK, K)
    queries_t: Array    # (K, QUERY_BLOCK)
    d_out: Array        # (QUERY_BLOCK, V)
    d_out_t: Array      # (V, QUERY_BLOCK)
    keys: Array         # (S, K)  of one head
    weights: Array      # (KEY_TILE, QUERY_BLOCK)
    d_scores: Array     # (KEY_TILE, QUERY_BLOCK)
    highest: Array      # (1, QUERY_BLOCK)
    inner: Array        # (1, QUERY_BLOCK)
    d_queries: Array    # (QUERY_BLOCK, K)
    touched: Array      # (1, key tiles)  1 where d_k and d_v of the tile have been written, so that the next block adds


@Kernel
def backward_parts(first, last, q, k, v, mask, mask_index, masked, causal, scale, out, highest, total, d_out,
                   query_parts, key_parts, d_q, d_k, d_v, simd):
    """Parts first ... last - 1, counted through batch, heads, parts of the queries and parts of the keys.

    A part of the queries and a part of the keys meet here alone, so if there are several parts of keys, d_q is incomplete, and is not
    written; and likewise d_k and d_v if there are several parts of queries.

    Args:
        q, k, v, mask, mask_index, out, highest, total: see `forward_blocks`.   d_out: (B, H, T, V).
        query_parts, key_parts: in how many parts to cut T and S.
        d_q: (B, H, T, K), written.   d_k: (B, H, S, K) and d_v: (B, H, S, V), written; here K and V are rounded up to whole vectors.
    """
    width, value_width = round_up(q.shape[3], STRIP), round_up(v.shape[3], STRIP)
    memory = BackwardScratch(
        queries=aligned(QUERY_BLOCK, width, q), queries_t=aligned(width, QUERY_BLOCK, q),
        d_out=aligned(QUERY_BLOCK, value_width, q), d_out_t=aligned(value_width, QUERY_BLOCK, q),
        keys=aligned(k.shape[2], width, q), weights=aligned(KEY_TILE, QUERY_BLOCK, q), d_scores=aligned(KEY_TILE, QUERY_BLOCK, q),
        highest=aligned(1, QUERY_BLOCK, q), inner=aligned(1, QUERY_BLOCK, q), d_queries=aligned(QUERY_BLOCK, width, q),
        touched=aligned(1, round_up(-(-k.shape[2] // KEY_TILE), STRIP), q))
    scratch = borrowed(memory)
    heads, T, S = q.shape[1], q.shape[2], k.shape[2]
    for piece in range(first, last):
        rest, key_part = divmod(piece, key_parts)
        batch_head, query_part = divmod(rest, query_parts)
        b, h = divmod(batch_head, heads)
        s_first, s_last = part_of(S, KEY_TILE, key_part, key_parts)
        t_first, t_last = part_of(T, QUERY_BLOCK, query_part, query_parts)
        fill_rows(scratch.touched, 0, 1, 0)
        if key_parts == 1 and (piece == first or query_part == 0):      # a new head
            copy_rows(scratch.keys, head_of(k, b, h), simd)
        for t0 in range(t_first, t_last, QUERY_BLOCK):
            backward_block(
                head_of(q, b, h), head_of(k, b, h), head_of(v, b, h), head_of(mask, 0, mask_index[b, h]), masked, causal, scale,
                t0, s_first, s_last, head_of(out, b, h), head_of(highest, b, h), head_of(total, b, h), head_of(d_out, b, h),
                head_of(d_q, b, h), head_of(d_k, b, h), head_of(d_v, b, h), key_parts == 1, query_parts == 1, scratch, simd)
        for s0 in range(s_first, s_last, KEY_TILE):
            if query_parts == 1 and scratch.touched[0, s0 // KEY_TILE] == 0:      # keys that no query has seen
                fill_rows(head_of(d_k, b, h), s0, min(s0 + KEY_TILE, s_last), 0)
                fill_rows(head_of(d_v, b, h), s0, min(s0 + KEY_TILE, s_last), 0)
    keep_until_here(memory)


@compiled
def backward_block(q, k, v, mask, masked, causal, scale, t0, s_first, s_last, out, highest, total, d_out,
                   d_q, d_k, d_v, for_queries, for_keys, scratch, simd):
    """Queries t0 ... t0 + QUERY_BLOCK - 1 of one head against keys s_first ... s_last - 1: writes d_q, adds to d_k and d_v."""
    T, S = q.shape[0], k.shape[0]
    K, V = scratch.queries.shape[1], scratch.d_out.shape[1]
    queries = min(QUERY_BLOCK, T - t0)
    m = round_up(queries, STRIP)
    ahead = S - T

    queries_t = prepare_queries(q, t0, queries, m, scale, scratch.queries, scratch.queries_t, simd)   # (K, m)  F1
    prepare_d_out(d_out, out, highest, total, t0, queries, m, scratch, simd)
    block_q = window(scratch.queries, 0, 0, queries, K)                 # (queries, K)  q * scale
    block_d_out = window(scratch.d_out, 0, 0, queries, V)               # (queries, V)  d_out / total   undoes F6
    d_out_t = window(scratch.d_out_t, 0, 0, V, m)                       # (V, m)        the same, transposed
    peak = window(scratch.highest, 0, 0, 1, m)                          # (1, m)
    inner = window(scratch.inner, 0, 0, 1, m)                           # (1, m)
    block_d_q = window(scratch.d_queries, 0, 0, round_up(queries, 8), K)   # (queries, K)

    fresh = True
    keys_seen = min(s_last, t0 + queries + ahead) if causal else s_last
    for s0 in range(s_first, keys_seen, KEY_TILE):
        n = min(KEY_TILE, keys_seen - s0)
        visible = look_at_mask(mask, t0, queries, s0, n) if masked else EVERYTHING
        if visible == NOTHING:
            continue
        offset = s0 - t0 - ahead if causal else -n
        weights = window(scratch.weights, 0, 0, n, m)                   # (n, m)
        d_scores = window(scratch.d_scores, 0, 0, n, m)                 # (n, m)

        score_tile(weights, window(k, s0, 0, n, k.shape[1]), queries_t, offset, simd)      # (n, m)  F1  once more
        score_tile(d_scores, window(v, s0, 0, n, v.shape[1]), d_out_t, offset, simd)       # (n, m)  undoes F7: d_weights = V d_out^T
        hide_by_mask(weights, mask, t0, queries, s0, visible)                              # (n, m)  F2  once more
        hide_future(weights, offset, -np.inf)                                              # (n, m)  F2  once more
        hide_future(d_scores, offset, 0.0)                                                 # (n, m)      (these were not computed)
        softmax_gradient(weights, d_scores, peak, inner, simd)                             # (n, m)  F4  once more; undoes F5 ... F3
        if for_keys:
            first = scratch.touched[0, s0 // KEY_TILE] == 0
            sum_over_queries(window(d_v, s0, 0, n, V), weights, block_d_out, offset, first, simd)    # (n, V)  undoes F7
            sum_over_queries(window(d_k, s0, 0, n, K), d_scores, block_q, offset, first, simd)       # (n, K)  undoes F1
            if first:
                fill_rows(d_v, s0 + n, min(s0 + KEY_TILE, s_last), 0)                      # keys of the tile that are still ahead
                fill_rows(d_k, s0 + n, min(s0 + KEY_TILE, s_last), 0)
                scratch.touched[0, s0 // KEY_TILE] = 1
        if for_queries:
            keys = window(scratch.keys, s0, 0, n, K)                                       # (n, K)
            sum_over_keys(block_d_q, d_scores, keys, offset, fresh, simd)                  # (m, K)  undoes F1
        fresh = False

    if for_queries:
        for t in range(queries):
            if fresh:                                                   #             no key seen, no gradient
                fill_rows(d_q, t0 + t, t0 + t + 1, 0)
            else:
                copy_row(d_q, t0 + t, block_d_q, t, scale, simd)        # (m, K)  undoes the scale in F1


@compiled
def prepare_d_out(d_out, out, highest, total, t0, queries, m, scratch, simd):
    """The rows of d_out, each divided by its sum of exponentials (undoes F6), and inner = d_out . out, the mean of d_weights."""
    block = window(scratch.d_out, 0, 0, m, scratch.d_out.shape[1])
    for t in range(queries):
        sums = total[t0 + t]
        if sums == 0:                                                   # a row without any key has no gradient
            fill_rows(block, t, t + 1, 0)
        else:
            copy_row(block, t, d_out, t0 + t, 1 / sums, simd)
        scratch.inner[0, t] = dot(block, t, out, t0 + t, simd)
        scratch.highest[0, t] = highest[t0 + t]
    for t in range(queries, m):                                         # columns of padding: weight e^-inf = 0
        fill_rows(block, t, t + 1, 0)
        scratch.inner[0, t], scratch.highest[0, t] = 0, np.inf
    copy_transposed(window(scratch.d_out_t, 0, 0, scratch.d_out_t.shape[0], m), block, simd)


# ---- parts of both

@compiled
def prepare_queries(q, t0, queries, m, scale, block, block_t, simd):
    """block (m, K) = q * scale, zeros below the last query; and its transpose (K, m), which is returned."""
    rows = window(block, 0, 0, m, block.shape[1])
    for t in range(queries):
        copy_row(rows, t, q, t0 + t, scale, simd)
    fill_rows(rows, queries, m, 0)
    copy_transposed(window(block_t, 0, 0, block_t.shape[0], m), rows, simd)
    return window(block_t, 0, 0, q.shape[1], m)


@compiled
def score_tile(out, left, right, offset, simd):
    """out (n, m) = left (n, k) @ right (k, m), but for the part that `hide` fills: row s needs columns s + offset and later."""
    n, m = out.shape
    step = n if n + offset <= 1 else STRIP                              # below the causal diagonal: all at once
    for s in range(0, n, step):
        rows, column = min(step, n - s), first_column(s + offset, m)
        add_product(window(out, s, column, rows, m - column), window(left, s, 0, rows, left.shape[1]),
                    window(right, 0, column, right.shape[0], m - column), True, simd)


@compiled
def sum_over_queries(out, tile, right, offset, fresh, simd):
    """out (n, w) += tile (n, m) @ right (m, w): row s of the tile is zero left of column s + offset; `fresh`: = instead of +=."""
    n, queries = out.shape[0], right.shape[0]
    step = n if n + offset <= 1 else STRIP
    for s in range(0, n, step):
        rows, column = min(step, n - s), first_column(s + offset, queries)
        add_product(window(out, s, 0, rows, out.shape[1]), window(tile, s, column, rows, queries - column),
                    window(right, column, 0, queries - column, right.shape[1]), fresh, simd)


@compiled
def sum_over_keys(out, tile, right, offset, fresh, simd):
    """out (m, w) += tile (n, m)^T @ right (n, w): column t of the tile is zero below row t - offset; `fresh`: = instead of +=."""
    m, n = out.shape[0], right.shape[0]
    step = m if n + offset <= 1 else STRIP
    for t in range(0, m, step):
        rows = min(step, m - t)
        keys = max(0, min(n, t + rows - offset))
        add_product(window(out, t, 0, rows, out.shape[1]), window(tile, 0, t, keys, rows).T,
                    window(right, 0, 0, keys, right.shape[1]), fresh, simd)


@compiled
def hide_by_mask(scores, mask, t0, queries, s0, visible):
    """-inf in row s, column t, where the mask is 0 for query t and key s."""
    if visible == SOMETHING:
        seen = window(mask, t0, s0, queries, scores.shape[0])           # (queries, n)
        hidden = scores.dtype.type(-np.inf)
        for s in range(scores.shape[0]):
            row = row_of(scores, s)
            for t in range(queries):
                row[t] = row[t] if seen[t, s] != 0 else hidden


@compiled
def hide_future(tile, offset, value):
    """The value in row s, left of column s + offset: there the causal rule hides key s from query t."""
    if tile.shape[0] + offset > 1:
        for s in range(tile.shape[0]):
            row = row_of(tile, s)
            for t in range(min(tile.shape[1], s + offset)):
                row[t] = value


@compiled
def look_at_mask(mask, t0, queries, s0, n):
    """Does the mask show NOTHING, SOMETHING or EVERYTHING of a tile? Most tiles of a padding or prefix mask need no further look."""
    rows = 1 if mask.strides[0] == 0 else queries                       # broadcast along T: all rows are the same one
    columns = 1 if mask.strides[1] == 0 else n                          # broadcast along S
    seen = window(mask, t0, s0, rows, columns)
    shown = 0
    for t in range(rows):
        row = row_of(seen, t)
        for s in range(columns):
            shown += row[s]
    return NOTHING if shown == 0 else EVERYTHING if shown == rows * columns else SOMETHING


@compiled
def first_column(column, columns):
    """The causal diagonal rounded down to a whole strip, within 0 ... columns."""
    return max(0, min(columns, column)) // STRIP * STRIP


@compiled
def part_of(length, tile, part, parts):
    """First and last + 1 of the part-th of `parts` nearly equal runs of whole tiles."""
    tiles = -(-length // tile)
    return part * tiles // parts * tile, min(length, (part + 1) * tiles // parts * tile)


@compiled
def round_up(n, unit):
    return -(-n // unit) * unit
