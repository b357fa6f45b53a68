"""Plain loops over contiguous arrays, which the compiler itself turns into vector instructions.

The twins in this package that are not matrix products read their arrays once, from front to back. For them nothing
more is needed than a loop that does all operations while a number is in a register; NumPy would walk over the whole
array once for every operation. A loop is written as the share of one thread, `loop(first, last, *arrays)`, for
`threads.run`.

numba, unlike NumPy, computes float32 with a plain integer or with a Python float in float64, at half the speed or less.
The loops therefore make their constants in the dtype of the array: `x.dtype.type(1)`.

Sums over all rows must not depend on the number of threads, not even in their last bit: they are made in pieces of
`ROWS` rows, whoever works on them, and the pieces are added in order.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numba.core import config

from tinymm.kernels.compilation import OPTIONS, Kernel, _announced, _with_cache

ROWS = 512           # rows that are summed in one piece: with 64 columns of float32 they fill 128 kB, part of a cache
AT_ONCE = 32_768     # numbers that a thread should get at least: handing it work takes as long as some 10,000 additions

# What the compiler may do: make a sum in any order (so that 8 or 16 partial sums grow side by side), fuse a * b + c.
# Unlike the full `fastmath` this keeps NaN and inf, by which training notices that it has gone wrong.
LOOP_OPTIONS = OPTIONS | {"fastmath": {"contract", "reassoc", "nsz", "arcp"}}


class Loop(Kernel):
    """A kernel for C-contiguous arrays, which the compiler must know to make vector instructions.

    For arrays of another layout it is compiled once more, and slower.
    """

    def __init__(self, function: Callable):
        self.function = function
        self.entry_points: dict[tuple, Callable] = {}
        self.dispatcher = None if config.DISABLE_JIT else _with_cache(numba.njit(**LOOP_OPTIONS)(function))

    def for_arguments(self, arguments: tuple) -> Callable:
        if self.dispatcher is None:
            return self.function
        key = tuple([(a.dtype, a.ndim, a.flags.c_contiguous) if isinstance(a, np.ndarray) else type(a)
                     for a in arguments])
        entry_point = self.entry_points.get(key)
        if entry_point is None:
            signature = tuple(_type_of(a) for a in arguments)
            with _announced():
                entry_point = self.entry_points[key] = self.dispatcher.compile(signature)
        return entry_point


def inlined(function: Callable) -> Callable:
    """A function that loops call."""
    return numba.njit(**LOOP_OPTIONS, inline="always")(function)


def rows_of(x: np.ndarray) -> np.ndarray:
    """(..., D) -> (N, D), C-contiguous: a view if x already is, else a copy."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


def pieces_of(rows: np.ndarray) -> int:
    """How many pieces of `ROWS` rows there are."""
    return -(-len(rows) // ROWS)


def rows_at_once(rows: np.ndarray) -> int:
    """How many rows a thread should get at least."""
    return max(1, AT_ONCE // rows.shape[1])


def pieces_at_once(rows: np.ndarray) -> int:
    """How many pieces of `ROWS` rows a thread should get at least."""
    return max(1, AT_ONCE // (ROWS * rows.shape[1]))


def _type_of(argument: Any) -> numba.types.Type:
    if isinstance(argument, np.ndarray):
        layout = "C" if argument.flags.c_contiguous else "A"
        return numba.types.Array(numba.from_dtype(argument.dtype), argument.ndim, layout)
    return numba.typeof(argument)
