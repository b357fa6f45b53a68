"""How an array is told in a line or two: shape, dtype, range, and its numbers when there are few."""

import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymm.layers.module import Module, Parameter

PRINTED = 40             # an array of at most so many entries is printed whole
HASHED = 1 << 22         # of a larger one only so many bytes, spread evenly, are looked at for changes


def describe(name: str, array: NDArray[Any], width: int = 12) -> list[str]:
    """Lines such as

        scores       (2, 3) float64   min -1.41   mean 0.0821   max 2.3
                     [[ 0.12 -1.41  0.5 ]
                      [ 2.3  -0.77 -0.25]]

    and a warning if there are numbers that are not finite.
    """
    shape = "x".join(map(str, array.shape)) or "scalar"
    line = f"{name:<{width}} {shape} {array.dtype}"
    if array.size and array.dtype.kind in "fiu":
        finite = array[np.isfinite(array)]
        if finite.size:
            low, mean, high = finite.min(), finite.mean(), finite.max()
            line += f"   min {low:.3g}   mean {mean:.3g}   max {high:.3g}"
        bad = array.size - finite.size
        if bad:
            nan = int(np.isnan(array).sum())
            line += f"   !! {nan} NaN, {bad - nan} infinite"
    elif array.size and array.dtype.kind == "b":
        line += f"   {int(array.sum())} of {array.size} true"
    lines = [line]
    if 0 < array.size <= PRINTED and array.ndim:
        text = np.array2string(array, precision=3, suppress_small=True, max_line_width=100)
        lines += [" " * (width + 1) + row for row in text.splitlines()]
    return lines


def fingerprint(array: NDArray[Any]) -> tuple[Any, ...]:
    """Changes when the array does. Of very large arrays a sample is looked at."""
    flat = array.reshape(-1) if array.flags.c_contiguous else array.ravel()
    step = max(1, flat.nbytes // HASHED)
    return array.shape, array.dtype.str, zlib.crc32(np.ascontiguousarray(flat[::step]).view(np.uint8))


def arrays_in(variables: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays among local variables, and the values and gradients of the parameters that a module owns itself."""
    for name, value in variables.items():
        if name.startswith("__"):
            continue
        if isinstance(value, (np.ndarray, np.floating)):
            yield name, np.asarray(value)
        elif isinstance(value, Parameter):
            yield f"{name}.value", value.value
            yield f"{name}.grad", value.grad
        elif isinstance(value, Module):
            for attribute, parameter in vars(value).items():
                if isinstance(parameter, Parameter):
                    yield f"{name}.{attribute}.value", parameter.value
                    yield f"{name}.{attribute}.grad", parameter.grad


def parts_of(name: str, value: Any) -> list[tuple[str, NDArray[Any]]]:
    """The arrays that a function returned: the value itself, or the items of a tuple; a cache is not opened."""
    items = [(name, value)] if not type(value) is tuple else [(f"{name}[{i}]", item) for i, item in enumerate(value)]
    return [(label, np.asarray(item)) for label, item in items if isinstance(item, (np.ndarray, np.floating))]
