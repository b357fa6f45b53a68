"""Twin of the linear layer: the equations of `tinymm.functional.linear`, in blocks held in registers (products.py).

The bias is what the sums of a block start from, and d_bias is summed while the rows of d_out are copied, so neither
costs a walk of its own over a large array.
"""

import numpy as np

from tinymm.functional import linear as readable
from tinymm.functional.linear import Array, LinearCache
from tinymm.kernels.loops import Loop
from tinymm.kernels.products import (
    BLOCK, aligned_zeros, copy_rows, copy_to_panels, in_panels, in_vectors, sum_products,
)
from tinymm.kernels.registers import lanes_of, window
from tinymm.kernels.threads import run
from tinymm.kernels.tile_arithmetic import aligned

__all__ = ["LinearCache", "linear_backward", "linear_forward"]

PIECES = 8     # of the rows, whose parts of d_weight are summed apart: the same for any number of threads
ROWS = 64      # rows worked on together: of x and of d_out they fit into a core's nearest cache


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, LinearCache]:
    """Twin of `functional.linear_forward`."""
    if not _fits(x, weight, bias):
        return readable.linear_forward(x, weight, bias)                          #               says what is wrong
    out = _product(x, weight, bias)                                              # (..., D_out)  F1, F2
    return out, LinearCache(x, weight, bias)


def linear_backward(d_out: Array, cache: LinearCache) -> tuple[Array, Array, Array | None]:
    """Twin of `functional.linear_backward`."""
    x, weight, bias = cache
    d_out = np.ascontiguousarray(d_out)
    d_weight, d_bias = _parameter_gradients(x, d_out, bias is not None)          # (D_in, D_out), (D_out,) undoes F1, F2
    d_x = _product(d_out, weight.T, None)                                        # (..., D_in)             undoes F1
    return d_x, d_weight, d_bias


def _fits(x: Array, weight: Array, bias: Array | None) -> bool:
    return (weight.ndim == 2 and x.ndim >= 1 and x.shape[-1] == len(weight) and x.size > 0 and weight.size > 0
            and (bias is None or bias.shape == weight.shape[1:]))


def _product(x: Array, weight: Array, bias: Array | None) -> Array:
    d_in, d_out = weight.shape
    rows = np.ascontiguousarray(x).reshape(-1, d_in)                             # (N, D_in)
    out = np.empty((max(len(rows), BLOCK), d_out), x.dtype)                      # (N, D_out)
    if len(rows) < BLOCK:                                                        # a block at least
        rows = np.concatenate([rows, np.zeros((BLOCK - len(rows), d_in), x.dtype)])
    panels = in_panels(weight)                                                   # (V, D_in, w)
    begin = aligned_zeros((BLOCK, panels.shape[0] * panels.shape[2]), x.dtype)   # (8, V w)
    if bias is not None:
        begin[:, :d_out] = bias
    run(_product_rows, -(-len(rows) // ROWS), (rows.reshape(-1), panels, begin, out), 2)
    return out[:x.size // d_in].reshape(*x.shape[:-1], d_out)


def _parameter_gradients(x: Array, d_out: Array, has_bias: bool) -> tuple[Array, Array | None]:
    d_in, width = x.shape[-1], d_out.shape[-1]
    rows, d_rows = np.ascontiguousarray(x).reshape(-1, d_in), d_out.reshape(-1, width)   # (N, D_in), (N, D_out)
    blocks = -(-d_in // BLOCK) * BLOCK
    if blocks > d_in:                                                            # whole blocks of rows of d_weight
        rows = np.concatenate([rows, np.zeros((len(rows), blocks - d_in), x.dtype)], axis=1)
    # (P, D_in + padding + 1, D_out + padding): parts of d_weight, and in the last row of d_bias
    sums = aligned_zeros((PIECES, blocks + 1, in_vectors(width, x.dtype)), x.dtype)
    run(_gradient_pieces, PIECES, (rows.reshape(-1), d_rows, sums))
    total = sums.sum(axis=0)                                                     # in one order, whoever made them
    return np.ascontiguousarray(total[:d_in, :width]), total[blocks, :width].copy() if has_bias else None


@Loop
def _product_rows(first, last, x, panels, begin, out):
    """out = x @ the matrix of the panels + begin, for the rows first * ROWS ... last * ROWS - 1."""
    depth, width, (n_rows, columns) = panels.shape[1], panels.shape[2], out.shape
    block = aligned(BLOCK, width, out)
    for row in range(first * ROWS, min(last * ROWS, n_rows), ROWS):
        whole = min(ROWS, n_rows - row) // BLOCK * BLOCK                         # rows in whole blocks
        for v in range(panels.shape[0]):
            panel, begin_v = window(panels[v], 0, 0, depth, width), window(begin, 0, v * width, BLOCK, width)
            used = min(width, columns - v * width)
            if used == lanes_of(out) or used == 2 * lanes_of(out):               # whole vectors: straight into `out`
                sum_products(window(out, row, v * width, whole, used), begin_v, x, row * depth, depth, 1, 1, 0, panel)
            else:
                for b in range(row, row + whole, BLOCK):
                    sum_products(window(block, 0, 0, BLOCK, width), begin_v, x, b * depth, depth, 1, 1, 0, panel)
                    copy_rows(window(out, b, v * width, BLOCK, used), window(block, 0, 0, BLOCK, used))
            if row + whole < min(row + ROWS, n_rows):                            # the last rows, in a block with others
                left = n_rows - row - whole
                start = (n_rows - BLOCK) * depth
                sum_products(window(block, 0, 0, BLOCK, width), begin_v, x, start, depth, 1, 1, 0, panel)
                copy_rows(window(out, n_rows - left, v * width, left, used), window(block, BLOCK - left, 0, left, used))


@Loop
def _gradient_pieces(first, last, x, d_out, sums):
    """For pieces of the rows: sums[p, :D_in] = x^T @ d_out, and sums[p, D_in] = the column sums of d_out."""
    n_rows, columns = d_out.shape
    d_in = sums.shape[1] - 1
    length = -(-n_rows // len(sums))
    width = min(2 * lanes_of(sums), sums.shape[2])
    panels = aligned(-(-columns // width) * ROWS, width, d_out).reshape(-1, ROWS, width)
    panels[:] = 0
    for piece in range(first, last):
        end = min((piece + 1) * length, n_rows)
        for row in range(piece * length, end, ROWS):
            count = min(ROWS, end - row)
            for n in range(row, row + count):
                for c in range(columns):
                    sums[piece, d_in, c] += d_out[n, c]                          # d_bias: undoes F2
            copy_to_panels(panels, 0, window(d_out, row, 0, count, columns))
            for v in range(len(panels)):
                total = window(sums[piece], 0, v * width, d_in, min(width, sums.shape[2] - v * width))
                right = window(panels[v], 0, 0, count, width)
                sum_products(total, total, x, row * d_in, 1, d_in, 1, 0, right)  # x^T d_out: undoes F1
