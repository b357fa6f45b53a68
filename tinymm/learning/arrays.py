"""How an array is told in a line or two: shape, dtype, range, and its numbers when there are few."""

import functools
import sys
import sysconfig
import zlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymm.layers.module import Module, Parameter

PRINTED = 40             # an array of at most so many entries is printed whole
HASHED = 1 << 25         # of a larger one only so many bytes, spread evenly, are looked at for changes
OPENED = 12              # a list, dict or object of more arrays is not opened


def describe(name: str, array: NDArray[Any], width: int = 12) -> list[str]:
    """Lines such as

        scores       2x3 float64   min -1.41   mean 0.0821   max 2.3
                     [[ 0.12 -1.41  0.5 ]
                      [ 2.3  -0.77 -0.25]]

    and a warning if there are numbers that are not finite.
    """
    array = np.asarray(array)        # also what hides under a mask
    shape = "x".join(map(str, array.shape)) or "scalar"
    line = f"{name:<{width}} {shape} {array.dtype}"
    if array.size and array.dtype.kind in "fiuc":
        with np.errstate(all="ignore"):                 # whatever the script set
            numbers, finite, bad = _as_in_memory(array), True, 0
            if not np.isfinite(numbers.sum(dtype=np.promote_types(numbers.dtype, np.float64))):
                finite = np.isfinite(numbers)
                bad = numbers.size - np.count_nonzero(finite)
            if bad < numbers.size and array.dtype.kind != "c":
                low = numbers.min(where=finite, initial=np.inf) if bad else numbers.min()
                high = numbers.max(where=finite, initial=-np.inf) if bad else numbers.max()
                mean = numbers.mean(dtype=np.float64, where=finite)
                line += f"   min {low:.3g}   mean {mean:.3g}   max {high:.3g}"
        if bad:
            nan = np.count_nonzero(np.isnan(numbers))
            line += f"   !! {nan} NaN, {bad - nan} infinite"
    elif array.size and array.dtype.kind == "b":
        line += f"   {int(array.sum())} of {array.size} true"
    lines = [line]
    if 0 < array.size <= PRINTED and array.ndim:
        text = np.array2string(array, precision=3, suppress_small=True, max_line_width=100)
        lines += [" " * (width + 1) + row for row in text.splitlines()]
    return lines


def fingerprint(array: NDArray[Any]) -> tuple[Any, ...]:
    """Changes when the array does. Of very large arrays with gaps in memory a sample is looked at."""
    kind = array.shape, array.strides, array.dtype.str
    if array.dtype.hasobject:                       # its bytes are only addresses
        return *kind, repr(array)
    array = _as_in_memory(array[tuple(slice(1 if stride == 0 else None) for stride in array.strides)])    # broadcast: once
    step = max(1, array.nbytes // HASHED)
    if step > 1 and array.flags.c_contiguous:       # of all bytes the exclusive or, which is much faster than a checksum
        array = array.reshape(-1)
        data = array.view(np.uint8)
        kind += (int(np.bitwise_xor.reduce(data[:data.size // 8 * 8].view(np.uint64))),)
    return *kind, zlib.crc32(np.ascontiguousarray(array[::step] if array.ndim else array).reshape(-1).view(np.uint8))


def _as_in_memory(array: NDArray[Any]) -> NDArray[Any]:
    """The same numbers with the axes in the order in which they lie in memory, so that nothing need be copied."""
    return np.asarray(array).transpose(np.argsort(array.strides)[::-1])


def arrays_in(variables: Mapping[str, Any]) -> Iterator[tuple[str, NDArray[Any]]]:
    """The arrays among local variables; then those in lists, dicts and objects, and the values and gradients of parameters.

    A tuple, such as a cache, is not opened, nor is what belongs to an installed package.
    """
    shown = {name: value for name, value in variables.items() if not name.startswith("__")}
    for name, value in shown.items():
        if isinstance(value, (np.ndarray, np.floating)):
            yield name, np.asarray(value)
    for name, value in shown.items():
        if isinstance(value, Parameter):
            parts = _of_parameter(name, value)
        elif isinstance(value, dict):
            parts = [(f"{name}[{key!r}]", item) for key, item in value.items()] if len(value) <= OPENED else []
        elif isinstance(value, list):
            parts = [(f"{name}[{i}]", item) for i, item in enumerate(value)] if len(value) <= OPENED else []
        elif isinstance(value, Module) or not is_foreign(type(value).__module__):
            parts = [(f"{name}.{key}", item) for key, item in getattr(value, "__dict__", {}).items()]
            parts = [part for label, item in parts for part in
                     (_of_parameter(label, item) if isinstance(item, Parameter) else [(label, item)])]
        else:
            continue
        found = [(label, item) for label, item in parts if isinstance(item, np.ndarray)]
        yield from found if len(found) <= 2 * OPENED else []


def _of_parameter(name: str, parameter: Parameter) -> list[tuple[str, NDArray[Any]]]:
    return [(f"{name}.value", parameter.value), (f"{name}.grad", parameter.grad)]


@functools.cache
def is_foreign(module_name: str | None) -> bool:
    """Is it of the standard library or of an installed package (but tinymm)?"""
    if module_name is None:
        return True
    top = module_name.split(".")[0]
    if top in ("tinymm", "__main__"):
        return False
    if top in sys.stdlib_module_names:
        return True
    file = getattr(sys.modules.get(top), "__file__", None) or ""
    return any(file.startswith(sysconfig.get_path(place)) for place in ("purelib", "platlib", "stdlib"))


def parts_of(name: str, value: Any) -> list[tuple[str, NDArray[Any]]]:
    """The arrays that a function returned: the value itself, or the items of a tuple; a cache is not opened."""
    items = [(name, value)] if not type(value) is tuple else [(f"{name}[{i}]", item) for i, item in enumerate(value)]
    return [(label, np.asarray(item)) for label, item in items if isinstance(item, (np.ndarray, np.floating))]
