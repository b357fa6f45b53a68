"""The micro-kernel of the linear layer and of convolution: a small block of a matrix product, held in vector registers.

A processor can do two fused multiply-adds of a whole vector at a time, but only if it need not fetch or store a number
for each. 8 rows by 2 vectors of sums fill 16 registers and share each number that is fetched: 2 vectors of the right
matrix and 8 numbers of the left one serve 16 multiply-adds. A processor with 16 registers in all takes 4 rows: 8 sums,
and room for the factors; with 8 rows it would have to keep sums in memory, at half the speed. A BLAS library does the same; it
is made for large square matrices, while ours are thousands of rows by 16 to 256 columns, and come with a bias to add and a
gradient to sum.

The right matrix is cut into *panels*, two vectors of columns wide, one after the other in memory: `DEPTH` rows of a
panel stay in the processor's nearest cache while many blocks of rows pass by.
"""

import math

import numpy as np

from tinymm.functional.linear import Array
from tinymm.kernels.compilation import compiled
from tinymm.kernels.registers import EIGHT, FOUR, ONE, REGISTERS, TWO, add_outer_product, lanes, lanes_of, load, store, window
from tinymm.kernels.views import lattice

BLOCK = 8      # rows of a block
ROWS = EIGHT if REGISTERS >= 32 else FOUR    # of a block that are in registers at once
DEPTH = 256    # rows of a panel that are used at a time: 32 kB


@compiled
def sum_products(out, begin, source, start, row_step, column_step, lines, line_step, panel):
    """out (R, w) = begin + the sum over n < lines of left_n (R, depth) @ panel[n depth:(n + 1) depth]  (depth, w)

        left_n[r, k] = source[start + r row_step + k column_step + n line_step]

    Args:
        out: a view; R is a multiple of 8, and w one or two vectors. The panel may be wider.
        begin: a view (R, w), which may be out itself; or (8, w), the same for all blocks.
    """
    if out.shape[1] > lanes_of(out):
        _sum_stretches(out, begin, source, start, row_step, column_step, lines, line_step, panel, TWO)
    else:
        _sum_stretches(out, begin, source, start, row_step, column_step, lines, line_step, panel, ONE)


@compiled
def _sum_stretches(out, begin, source, start, row_step, column_step, lines, line_step, panel, vectors):
    depth = panel.shape[0] // lines
    lines_at_once = lines if lines * depth <= DEPTH else 1
    depth_at_once = depth if lines_at_once > 1 else DEPTH
    for n in range(0, lines, lines_at_once):
        for k in range(0, depth, depth_at_once):                       # one stretch of the panel
            first = start + n * line_step + k * column_step
            right = window(panel, n * depth + k, 0, lines_at_once * min(depth_at_once, depth - k), panel.shape[1])
            before = begin if n == 0 and k == 0 else out               # between two stretches the sums wait in `out`
            for row in range(0, out.shape[0], len(ROWS)):
                before_row = row if before.shape[0] > BLOCK else row % BLOCK
                _sum_block(out, row, before, before_row, source, first + row * row_step, row_step, column_step,
                           lines_at_once, line_step, right, vectors)


@compiled
def _sum_block(out, row, before, before_row, source, start, row_step, column_step, lines, line_step, right, vectors):
    """4 or 8 rows of `sum_products`, in registers from the first product to the last."""
    depth = right.shape[0] // lines
    sums = load(before, before_row, 0, ROWS, vectors)                                          # (rows, w)
    for n in range(lines):
        left = lattice(source, start + n * line_step, len(ROWS), row_step, depth, column_step) # (rows, depth)
        right_n = window(right, n * depth, 0, depth, right.shape[1])                           # (depth, w)
        for k in range(depth):
            sums = add_outer_product(sums, left, 0, right_n, 0, k)
    store(out, row, 0, sums)


@compiled
def copy_rows(target, origin):
    """target = origin, both (n, C), a vector at a time as far as that goes."""
    rows, columns = target.shape
    whole = columns // lanes_of(target) * lanes_of(target)
    for n in range(rows):
        for c in range(0, whole, lanes_of(target)):
            store(target, n, c, load(origin, n, c, ONE, ONE))
        for c in range(whole, columns):
            target[n, c] = origin[n, c]


@compiled
def copy_to_panels(panels, row, origin):
    """panels[v, row + n, c] = origin[n, v w + c]. Further columns of the panels are left as they are."""
    width = panels.shape[2]
    for v in range(panels.shape[0]):
        columns = min(width, origin.shape[1] - v * width)
        part = window(origin, 0, v * width, origin.shape[0], columns)
        copy_rows(window(panels[v], row, 0, origin.shape[0], columns), part)


def in_vectors(columns: int, dtype: np.dtype) -> int:
    """`columns` rounded up to whole vectors."""
    return -(-columns // lanes(dtype)) * lanes(dtype)


def panel_width(columns: int, dtype: np.dtype) -> int:
    """Two vectors, or one if the matrix has no more columns."""
    return lanes(dtype) if columns <= lanes(dtype) else 2 * lanes(dtype)


def in_panels(matrix: Array) -> Array:
    """A matrix (K, D) as its panels (V, K, w), with zeros in place of missing columns."""
    width = panel_width(matrix.shape[1], matrix.dtype)
    depth, columns = matrix.shape
    panels = aligned_zeros((-(-columns // width), depth, width), matrix.dtype)
    for v, panel in enumerate(panels):
        part = matrix[:, v * width:(v + 1) * width]
        panel[:, :part.shape[1]] = part
    return panels


def aligned_zeros(shape: tuple[int, ...], dtype: np.dtype) -> Array:
    """Zeros that begin where a cache line (64 bytes) does: a vector then never straddles two."""
    size = math.prod(shape)
    buffer = np.zeros(size + 64 // dtype.itemsize, dtype)
    first = (-buffer.ctypes.data % 64) // dtype.itemsize
    return buffer[first:first + size].reshape(shape)
