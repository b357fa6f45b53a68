"""What attention does with one tile: matrix products, and the softmax of the scores.

Each step exists on two rungs. The argument `simd` says which, and numba compiles only that one:

- `simd=None`: plain loops, to be read first. numba's compiler turns the inner ones into vector instructions by itself.
- `simd=SIMD`: the same sums with register tiles (registers.py). They differ in one point only: a small block
  of the result stays in registers during the whole sum, where the plain loops load and store it for each few products.

The scores of a tile are kept transposed, one row a key and one column a query. The softmax of a query then runs down a column, and
many columns are computed side by side, one in each lane of a vector: no sum or maximum across the lanes of a vector.
"""

import numpy as np

from tinymm.kernels.compilation import compiled, compiled_sum, inlined
from tinymm.kernels.registers import (
    EIGHT, FOUR, ONE, REGISTERS, TWO, add, add_outer_product, exp, exp_of_number, filled, lanes_of, larger, load, load_square,
    multiply, row_of, scaled, stack_block,
    STACK_COLUMNS, store, subtract, sum_of_lanes, transpose, window,
)

SIMD = "simd"           # a word, because numba compiles for each value of a word that is passed (see compilation.py)

# Rows of a block of sums, by its width in vectors: enough independent sums to keep the multipliers busy, few enough for the registers.
ROWS_1, ROWS_2, ROWS_4 = (EIGHT, EIGHT, FOUR) if REGISTERS >= 32 else (EIGHT, FOUR, TWO)


# ---- matrix product

@compiled
def add_product(out, left, right, fresh, simd):
    """out (n, m) += left (n, k) @ right (k, m); with `fresh`, out = left @ right.

    On the simd rung m is rounded up to whole vectors, in out and in right.
    """
    if simd is None:
        _add_product_in_loops(out, left, right, fresh)
    else:
        _add_product_in_registers(out, left, right, fresh)


@compiled
def _add_product_in_loops(out, left, right, fresh):
    for column in range(0, out.shape[1], STACK_COLUMNS):
        m = min(STACK_COLUMNS, out.shape[1] - column)
        out_columns = window(out, 0, column, out.shape[0], m)
        right_columns = window(right, 0, column, right.shape[0], m)
        for row in range(0, left.shape[0], 4):
            _add_four_rows(out_columns, left, right_columns, fresh, row)


@compiled
def _add_four_rows(out, left, right, fresh, row):
    """Four rows at a time, and four products a step: a number that is loaded is used four times."""
    sums = stack_block(out)                                                            # (4, STACK_COLUMNS)
    last, m = left.shape[0] - 1, out.shape[1]
    i0, i1, i2, i3 = row, min(row + 1, last), min(row + 2, last), min(row + 3, last)   # past the end: the last row, again

    for r in range(4):
        for j in range(m):
            sums[r, j] = 0

    whole = left.shape[1] // 4 * 4
    for k in range(0, whole, 4):
        a00, a01, a02, a03 = left[i0, k], left[i0, k + 1], left[i0, k + 2], left[i0, k + 3]
        a10, a11, a12, a13 = left[i1, k], left[i1, k + 1], left[i1, k + 2], left[i1, k + 3]
        a20, a21, a22, a23 = left[i2, k], left[i2, k + 1], left[i2, k + 2], left[i2, k + 3]
        a30, a31, a32, a33 = left[i3, k], left[i3, k + 1], left[i3, k + 2], left[i3, k + 3]
        right0, right1, right2, right3 = row_of(right, k), row_of(right, k + 1), row_of(right, k + 2), row_of(right, k + 3)
        for j in range(m):
            b0, b1, b2, b3 = right0[j], right1[j], right2[j], right3[j]
            sums[0, j] += a00 * b0 + a01 * b1 + a02 * b2 + a03 * b3
            sums[1, j] += a10 * b0 + a11 * b1 + a12 * b2 + a13 * b3
            sums[2, j] += a20 * b0 + a21 * b1 + a22 * b2 + a23 * b3
            sums[3, j] += a30 * b0 + a31 * b1 + a32 * b2 + a33 * b3
    for k in range(whole, left.shape[1]):                                              # what is left of the depth
        right0 = row_of(right, k)
        for r, i in enumerate((i0, i1, i2, i3)):
            for j in range(m):
                sums[r, j] += left[i, k] * right0[j]

    for r in range(min(4, left.shape[0] - row)):
        to = row_of(out, row + r)
        for j in range(m):
            to[j] = sums[r, j] if fresh else to[j] + sums[r, j]


@compiled
def _add_product_in_registers(out, left, right, fresh):
    lanes = lanes_of(out)
    vectors, column = -(-out.shape[1] // lanes), 0
    while vectors >= 4:
        _add_columns(out, left, right, fresh, column, ROWS_4, FOUR)
        vectors, column = vectors - 4, column + 4 * lanes
    if vectors >= 2:
        _add_columns(out, left, right, fresh, column, ROWS_2, TWO)
        vectors, column = vectors - 2, column + 2 * lanes
    if vectors == 1:
        _add_columns(out, left, right, fresh, column, ROWS_1, ONE)


@compiled
def _add_columns(out, left, right, fresh, column, rows, vectors):
    n, row = left.shape[0], 0
    while row + len(rows) <= n:
        _add_block(out, left, right, fresh, row, column, rows, vectors)
        row += len(rows)
    while row < n:
        _add_block(out, left, right, fresh, row, column, ONE, vectors)
        row += 1


@compiled
def _add_block(out, left, right, fresh, row, column, rows, vectors):
    """The micro-kernel: a block of len(rows) x len(vectors) vectors of sums, in registers from its first product to its last."""
    sums = filled(out, 0.0, rows, vectors)
    for k in range(left.shape[1]):
        sums = add_outer_product(sums, left, row, right, column, k)
    if not fresh:                           # once, at the end: a sum of a few sums of 64 rounds less than one of thousands of products
        sums = add(sums, load(out, row, column, rows, vectors))
    store(out, row, column, sums)


# ---- softmax of a tile of scores

@compiled
def softmax_step(scores, highest, total, rescale, simd):
    """One step of the online softmax (Milakov and Gimelshein 2018, algorithm 3), for all queries of a tile.

    With m the highest score seen before, m' the highest now, and l the sum of exponentials:

        scores <- e^(scores - m')      rescale = e^(m - m')      l <- l * rescale + column sums of the new scores

    Args:
        scores: (keys, queries), replaced by the exponentials.
        highest, total, rescale: (1, queries) each.
    """
    if simd is None:
        _softmax_in_loops(scores, highest, total, rescale)
    else:
        lanes = lanes_of(scores)
        vectors, column = scores.shape[1] // lanes, 0
        while vectors >= 4:
            _softmax_in_registers(scores, highest, total, rescale, column, FOUR)
            vectors, column = vectors - 4, column + 4 * lanes
        if vectors >= 2:
            _softmax_in_registers(scores, highest, total, rescale, column, TWO)
            vectors, column = vectors - 2, column + 2 * lanes
        if vectors == 1:
            _softmax_in_registers(scores, highest, total, rescale, column, ONE)


@compiled
def _softmax_in_loops(scores, highest, total, rescale):
    keys, queries = scores.shape
    peak, sums, factor = row_of(highest, 0), row_of(total, 0), row_of(rescale, 0)       # (queries,) each
    of_tile = stack_block(scores)                                                       # (4, STACK_COLUMNS), one row is used
    for t in range(queries):
        factor[t] = peak[t]                                                             # m, for the moment
    for s in range(keys):
        row = row_of(scores, s)                                                         # (queries,)
        for t in range(queries):
            peak[t] = row[t] if row[t] > peak[t] else peak[t]                           # m'
    for t in range(queries):
        factor[t] = exp_of_number(factor[t] - peak[t])                                 # e^(m - m')
        of_tile[0, t] = 0
    for s in range(keys):
        row = row_of(scores, s)
        for t in range(queries):
            row[t] = exp_of_number(row[t] - peak[t])
            of_tile[0, t] += row[t]
    for t in range(queries):
        sums[t] = sums[t] * factor[t] + of_tile[0, t]


@compiled
def _softmax_in_registers(scores, highest, total, rescale, column, vectors):
    before = load(highest, 0, column, ONE, vectors)                                     # m
    peak = before
    for s in range(scores.shape[0]):
        peak = larger(peak, load(scores, s, column, ONE, vectors))                      # m'
    sums = filled(scores, 0.0, ONE, vectors)
    for s in range(scores.shape[0]):
        exps = exp(subtract(load(scores, s, column, ONE, vectors), peak))
        store(scores, s, column, exps)
        sums = add(sums, exps)
    factor = exp(subtract(before, peak))                                               # e^(m - m')
    store(rescale, 0, column, factor)
    store(highest, 0, column, peak)
    store(total, 0, column, add(multiply(load(total, 0, column, ONE, vectors), factor), sums))


@compiled
def softmax_gradient(scores, d_weights, highest, inner, simd):
    """The weights once more, and the gradient of the scores (see `softmax_backward`): d_s = p (d_p - p . d_p).

        scores <- p = e^(scores - m)         d_weights <- d_scores = p * (d_weights - inner)

    Args:
        scores: (keys, queries), replaced by the weights.   d_weights: (keys, queries), replaced by d_scores.
        highest, inner: (1, queries), m and the sum of p * d_p over all keys.
    """
    if simd is None:
        m, mean = row_of(highest, 0), row_of(inner, 0)                                  # (queries,) each
        for s in range(scores.shape[0]):
            p, d_p = row_of(scores, s), row_of(d_weights, s)                            # (queries,) each
            for t in range(scores.shape[1]):
                p[t] = exp_of_number(p[t] - m[t])
                d_p[t] = p[t] * (d_p[t] - mean[t])
    else:
        for column in range(0, scores.shape[1], lanes_of(scores)):
            m_, mean_ = load(highest, 0, column, ONE, ONE), load(inner, 0, column, ONE, ONE)
            for s in range(scores.shape[0]):
                weights = exp(subtract(load(scores, s, column, ONE, ONE), m_))
                store(scores, s, column, weights)
                store(d_weights, s, column, multiply(weights, subtract(load(d_weights, s, column, ONE, ONE), mean_)))


# ---- copies into scratch memory

@inlined
def copy_row(target, i, source, r, factor, simd):
    """target[i] = factor * source[r] as far as both reach, and zeros in what is left of target[i]."""
    width = min(target.shape[1], source.shape[1])
    to, origin = row_of(target, i), row_of(source, r)
    first = 0
    if simd is not None:
        first = width // lanes_of(target) * lanes_of(target)
        for j in range(0, first, lanes_of(target)):
            store(target, i, j, scaled(load(source, r, j, ONE, ONE), factor))
    for j in range(first, width):
        to[j] = factor * origin[j]
    for j in range(width, target.shape[1]):
        to[j] = 0


@compiled
def copy_rows(target, source, simd):
    """target (n or more, w or more) = source (n, w), and zeros around it. Scratch is aligned, and as wide as whole vectors."""
    for i in range(source.shape[0]):
        copy_row(target, i, source, i, source.dtype.type(1), simd)
    fill_rows(target, source.shape[0], target.shape[0], 0)


@compiled
def copy_transposed(target, source, simd):
    """target (w, n) = source (n, w) transposed; on the simd rung n and w are whole vectors."""
    if simd is None:
        for j in range(source.shape[1]):
            to = row_of(target, j)
            for i in range(source.shape[0]):
                to[i] = source[i, j]
    else:
        for i in range(0, source.shape[0], lanes_of(source)):
            for j in range(0, source.shape[1], lanes_of(source)):
                store(target, j, i, transpose(load_square(source, i, j)))


@compiled
def fill_rows(array, first, last, value):
    """array[first:last] = value."""
    for i in range(first, last):
        row = row_of(array, i)
        for j in range(array.shape[1]):
            row[j] = value


@compiled
def scale_rows(array, factors, simd):
    """array (n, w): row i times factors[0, i], which mostly is 1."""
    for i in range(array.shape[0]):
        if factors[0, i] != 1:
            copy_row(array, i, array, i, factors[0, i], simd)


@inlined
def dot(left, i, right, r, simd):
    """left[i] . right[r], as far as right reaches."""
    first, total = 0, left.dtype.type(0)
    if simd is not None:
        first = right.shape[1] // lanes_of(left) * lanes_of(left)
        sums = filled(left, 0.0, ONE, ONE)
        for j in range(0, first, lanes_of(left)):
            sums = add(sums, multiply(load(left, i, j, ONE, ONE), load(right, r, j, ONE, ONE)))
        total = sum_of_lanes(sums)
    return total + _dot_in_loops(row_of(left, i), row_of(right, r), first, right.shape[1])


@compiled_sum
def _dot_in_loops(a, b, first, last):
    total = a.dtype.type(0)
    for j in range(first, last):
        total += a[j] * b[j]
    return total


@compiled
def aligned(rows, columns, like):
    """Uninitialised scratch (rows, columns) that begins where a cache line (64 bytes) does: a vector then never straddles two."""
    buffer = np.empty(rows * columns + 64 // like.itemsize, like.dtype)
    first = (-buffer.ctypes.data % 64) // like.itemsize
    return buffer[first:first + rows * columns].reshape(rows, columns)
