"""Is an answer right, and if not: which step is the first wrong one, and what is the likely cause?"""

import bdb
import inspect
import math
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import numpy as np
from numpy.typing import NDArray

FLOOR = 1e-8     # differences below it are none


@dataclass(frozen=True)
class Difference:
    """Where two arrays differ most."""

    error: float             # |yours - expected| / max |expected|
    index: tuple[int, ...]
    yours: float
    expected: float


@dataclass(frozen=True)
class Watched:
    """A call, and what was seen of it."""

    result: Any
    steps: dict[str, Any]              # the local variables as they were when it returned, or when it was stopped
    error: BaseException | None        # by which it was stopped


def run_and_watch(function: Callable[..., Any], arguments: Mapping[str, Any] | Sequence[Any]) -> Watched:
    """Call a function, and keep its local variables."""
    code, seen = getattr(function, "__code__", None), {}

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame.f_code is code:
            seen.clear()
            seen.update({name: value.copy() if isinstance(value, np.ndarray) else value
                         for name, value in frame.f_locals.items()})

    result, stopped, before = None, None, sys.getprofile()
    sys.setprofile(watch)
    try:
        result = function(**arguments) if isinstance(arguments, Mapping) else function(*arguments)
    except bdb.BdbQuit:      # whoever debugs has had enough
        raise
    except (Exception, SystemExit) as error:
        stopped = error
    finally:
        sys.setprofile(before)
    return Watched(result, seen, stopped)


def values_over_time(function: Callable[..., Any], arguments: Mapping[str, Any] | Sequence[Any]) -> dict[str, list[Any]]:
    """Call a function, and collect for each local array every value that it ever had: one that grows in a loop has several."""
    code, seen = function.__code__, {}

    def watch(frame: FrameType, event: str, argument: Any) -> Any:
        if frame.f_code is not code:
            return None
        for name, value in frame.f_locals.items():
            if isinstance(value, np.ndarray):
                values = seen.setdefault(name, [])
                if not values or not np.array_equal(values[-1], value):
                    values.append(value.copy())
        return watch

    before = sys.gettrace()
    sys.settrace(watch)
    try:
        function(**arguments) if isinstance(arguments, Mapping) else function(*arguments)
    finally:
        sys.settrace(before)
    return seen


def as_arrays(name: str, value: Any) -> list[tuple[str, Any]]:
    """The parts of a result by name: an array or number is one; a tuple, list or dict has several."""
    if isinstance(value, Mapping):
        return [part for key, item in value.items() for part in as_arrays(f"{name}[{key!r}]", item)]
    if isinstance(value, (tuple, list)) and not all(isinstance(item, (int, float, str)) for item in value):
        return [part for i, item in enumerate(value) for part in as_arrays(f"{name}[{i}]", item)]
    return [(name, value)]


def is_numeric(value: Any) -> bool:
    return isinstance(value, (int, float, np.number, np.bool_)) or isinstance(value, np.ndarray) and value.dtype.kind in "fiub"


def difference(yours: Any, expected: Any) -> Difference | None:
    """The largest difference between two arrays of one shape; None if there is none at all."""
    a, b = np.asarray(yours, np.float64), np.asarray(expected, np.float64)
    if a.size == 0:
        return None
    with np.errstate(invalid="ignore"):
        gap = np.where(a == b, 0, np.abs(a - b))                # equal infinities are equal
    gap = np.where(np.isnan(gap), np.inf, gap)
    gap[np.isnan(a) & np.isnan(b)] = 0
    if not gap.any():
        return None
    index = tuple(int(i) for i in np.unravel_index(int(gap.argmax()), gap.shape))
    finite = np.abs(b[np.isfinite(b)])
    scale = max(float(finite.max()) if finite.size else 0.0, FLOOR)
    return Difference(float(gap[index]) / scale, index, float(a[index]), float(b[index]))


def agrees(yours: Any, expected: Any, tolerance: float) -> bool:
    """Same shape, and equal within the tolerance (numbers), or equal (everything else)."""
    if is_numeric(expected):
        if not is_numeric(yours) or np.shape(yours) != np.shape(expected):
            return False
        worst = difference(yours, expected)
        return worst is None or worst.error <= tolerance
    if isinstance(expected, (tuple, list, Mapping)):
        mine, theirs = as_arrays("", yours), as_arrays("", expected)
        if [name for name, _ in mine] != [name for name, _ in theirs]:
            return False
        if len(theirs) == 1 and theirs[0][1] is expected:
            return not isinstance(yours, np.ndarray) and yours == expected
        return all(agrees(a, b, tolerance) for (_, a), (_, b) in zip(mine, theirs))
    try:
        return bool(yours == expected)
    except ValueError:
        return False


def first_wrong_step(yours: Mapping[str, Any], expected: Mapping[str, Any], arguments: Sequence[str], tolerance: float,
                     earlier: Mapping[str, Sequence[Any]] | None = None) -> tuple[str | None, list[str]]:
    """The first local array that differs, in the order in which the solution assigns them, and those right before it.

    A name that the answer does not use is passed over; so is a list, which grows to an array later, and the last row or entry of
    the right array: a loop over the rows left it there. `earlier` holds other values that are right, for an answer that was stopped in the middle.
    """
    right = []
    for name, value in expected.items():
        if name in arguments or name not in yours or not is_numeric(value) or not np.ndim(value):
            continue
        if isinstance(yours[name], (list, Mapping)) or _last_part(yours[name], value, tolerance):
            continue
        if not any(agrees(yours[name], known, tolerance) for known in (value, *(earlier or {}).get(name, ()))):
            return name, right
        right.append(name)
    return None, right


def _last_part(yours: Any, expected: NDArray[Any], tolerance: float) -> bool:
    return is_numeric(yours) and any(
        agrees(yours, expected[index], tolerance) for count in range(1, expected.ndim + 1)
        for index, sizes in (((-1,) * count, expected.shape[:count]), ((..., *(-1,) * count), expected.shape[-count:])) if min(sizes) > 1)


def likely_cause(yours: Any, expected: Any, tolerance: float) -> str | None:
    """A guess at the mistake from the two values alone, in words."""
    if not is_numeric(yours) or not is_numeric(expected):
        return None
    a, b = np.asarray(yours, np.float64), np.asarray(expected, np.float64)
    if a.shape != b.shape:
        return _cause_of_shape(a, b, tolerance)
    if not np.isfinite(a).all() and np.isfinite(b).all():
        return "there are NaN or infinite numbers: a division by 0, a log of 0, or an exp that overflows"
    if not (a.size and np.isfinite(a).all() and np.isfinite(b).all()):
        return None
    if a.ndim and not a.any():
        return "it is all zeros: is something written to a copy, or never added?"
    if a.ndim >= 2 and a.shape[-1] == a.shape[-2] and agrees(a.swapaxes(-1, -2), b, tolerance):
        return "it is the transpose of the right one"
    sums = _sums_to_one(a, b)
    if sums:
        return sums
    return _cause_of_ratio(a, b, tolerance) or _cause_of_type(yours, expected)


def _cause_of_type(yours: Any, expected: Any) -> str | None:
    """Are there not digits enough?"""
    mine, right = np.asarray(yours).dtype, np.asarray(expected).dtype
    return f"its dtype {mine} cuts digits off; it should be {right}" if right.kind == "f" and (
        mine.kind in "iub" or mine.itemsize < right.itemsize) else None


def forgets_to_add(answer: Callable[..., Any], reference: Callable[..., Any]) -> set[str]:
    """The names which the solution adds up with `+=`, and the answer only sets with `=`."""
    try:
        mine, right = inspect.getsource(answer), inspect.getsource(reference)
    except (OSError, TypeError, SyntaxError, IndexError):      # there is no source to read
        return set()
    target = r"^\s*(\w+)(?:\[[^\]]*\])? *"
    added = [set(re.findall(target + r"\+=", text, re.MULTILINE)) for text in (right, mine)]
    return (added[0] - added[1]) & set(re.findall(target + "=[^=]", mine, re.MULTILINE))


def cause_of_error(error: BaseException) -> str | None:
    """A guess at the mistake behind an exception."""
    text = str(error)
    if isinstance(error, ValueError) and "matmul" in text and "mismatch" in text:
        sizes = re.search(r"size (\d+) is different from (\d+)", text)
        return (f"in A @ B the last size of A must be the last but one of B, here {sizes[2]} and {sizes[1]}: "
                "is a transpose missing, or one too many?") if sizes else None
    if isinstance(error, ValueError) and "not aligned" in text or "could not be broadcast" in text:
        return "the shapes do not fit: is a transpose missing, or keepdims=True?"
    return None


def _cause_of_shape(a: NDArray[np.floating], b: NDArray[np.floating], tolerance: float) -> str | None:
    if a.ndim == b.ndim and a.ndim >= 2 and agrees(a.swapaxes(-1, -2), b, tolerance):
        return "it is the transpose of the right one"
    if a.ndim == b.ndim and sorted(a.shape) == sorted(b.shape):
        return "the sizes are right but in another order: is a transpose missing, or one too many?"
    if a.size == b.size:
        return "it has the right number of entries: a reshape or a transpose is missing"
    for axes in ([axis] for axis in range(a.ndim)):
        if agrees(a.sum(axis=tuple(axes)), b, tolerance):
            return f"a sum over axis {axes[0]} is missing: what was broadcast in the forward is summed in the backward"
    if a.ndim > b.ndim:
        return "a sum over the batch is missing: what was broadcast in the forward is summed in the backward"
    if a.ndim < b.ndim:
        return "an axis is summed away that should stay (keepdims=True keeps it with size 1)"
    return None


def _sums_to_one(a: NDArray[np.floating], b: NDArray[np.floating]) -> str | None:
    """Is it a softmax over another axis than the right one?"""
    def axes(x: NDArray[np.floating]) -> set[int]:
        return {axis for axis in range(x.ndim) if x.shape[axis] > 1 and np.allclose(x.sum(axis=axis), 1, atol=1e-6)}
    if b.ndim >= 1 and (b >= 0).all():
        right, found = axes(b), axes(a)
        if right and found and not right & found:
            return f"a softmax over the wrong axis: axis {min(found)} sums to 1, but axis {min(right)} should"
        if right and np.isclose(a.sum(), 1) and b.size > 1 and not found:
            return "a softmax over the whole array instead of over one axis"
        if right and not found:
            return f"the sums over axis {min(right)} should be 1"
    return None


def _cause_of_ratio(a: NDArray[np.floating], b: NDArray[np.floating], tolerance: float) -> str | None:
    """Is it the right array times a constant, which the sizes explain?"""
    large = np.abs(b) > 1e-6 * np.abs(b).max() if b.size else np.zeros(0, bool)
    if not large.any():
        return None
    ratios = a[large] / b[large]
    ratio = float(np.median(ratios))
    if ratio == 0 or math.isclose(ratio, 1, rel_tol=1e-5) or not agrees(a, ratio * b, max(1e-6, 10 * tolerance)):
        shift = a - b
        if a.size > 1 and np.allclose(shift, shift.flat[0], atol=1e-9):
            return "it is off by the same number everywhere: a term is missing"
        return None
    if math.isclose(ratio, -1, rel_tol=1e-6):
        return "only the sign is wrong"
    size = abs(ratio)
    for count in range(2, 200):
        for factor, words in ((count, f"{count} times too large: a division by {count} is missing (a mean is meant, not a sum?)"),
                              (1 / count, f"{count} times too small: a mean where a sum is meant, or a division too many?"),
                              (math.sqrt(count), f"sqrt({count}) times too large: is a division by sqrt({count}) missing?"),
                              (1 / math.sqrt(count), f"sqrt({count}) times too small: a division by sqrt({count}) too many?")):
            if math.isclose(size, factor, rel_tol=1e-6):
                return words + (" and the sign is wrong" if ratio < 0 else "")
    return f"it is {ratio:.4g} times the right one" if a.size > 1 else None      # of a single number that says nothing
