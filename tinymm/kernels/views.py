"""Views of flat arrays, as the matrix products need them: without the price of a slice (no reference count, no check).

As in registers.py each has a plain-Python twin above it, which takes over when NUMBA_DISABLE_JIT=1.
"""

import numpy as np
from numba import types
from numba.np.arrayobj import make_array

from tinymm.kernels.registers import _make_view, machine_code


def _stretch(flat, start, length):
    return flat[start:start + length]


@machine_code(_stretch)
def stretch(typing, flat, start, length):
    """flat[start:start + length]. The array must outlive the view."""
    view = types.Array(flat.dtype, 1, "C")

    def generate(context, builder, signature, arguments):
        item_bytes = context.get_constant(types.intp, flat.dtype.bitwidth // 8)
        address = builder.gep(make_array(flat)(context, builder, arguments[0]).data, [arguments[1]])
        return _make_view(context, builder, view, address, [arguments[2]], [item_bytes])
    return view(flat, types.intp, types.intp), generate


def _lattice(flat, start, rows, row_step, columns, column_step):
    steps = (row_step * flat.itemsize, column_step * flat.itemsize)
    return np.lib.stride_tricks.as_strided(flat[start:], (rows, columns), steps)


@machine_code(_lattice)
def lattice(typing, flat, start, rows, row_step, columns, column_step):
    """The matrix of the numbers flat[start + r * row_step + c * column_step]. Rows may overlap.

    The array must outlive the view.
    """
    view = types.Array(flat.dtype, 2, "A")

    def generate(context, builder, signature, arguments):
        flat_, start_, rows_, row_step_, columns_, column_step_ = arguments
        item_bytes = context.get_constant(types.intp, flat.dtype.bitwidth // 8)
        address = builder.gep(make_array(flat)(context, builder, flat_).data, [start_])
        strides = [builder.mul(step, item_bytes) for step in (row_step_, column_step_)]
        return _make_view(context, builder, view, address, [rows_, columns_], strides)
    return view(flat, *[types.intp] * 5), generate
