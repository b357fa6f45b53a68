"""Find the first array that went wrong, by name, when a training step meets NaN or infinity.

A normal step pays nothing: the loop looks only at the loss and at the gradients' norm, which it has anyway. When one of
them is not finite, the arrays of that step are walked in the order in which they were computed: parameters, batch,
the caches of the forward pass, gradients. The first bad one is where to look.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymm.errors import UserError


class NonFiniteError(UserError, FloatingPointError):
    """The loss or a gradient became NaN or infinite; the text names the first array in which it shows."""


def named_arrays(value: Any, name: str = "") -> Iterator[tuple[str, NDArray[Any]]]:
    """Every floating array (and float) in nested NamedTuples, dataclasses, dicts, lists and tuples, with dotted names.

    A cache's fields are in the order of its forward's steps, so the walk follows the computation:
    `blocks.1.attention.weights` comes after `blocks.0.feed_forward.hidden`.
    """
    if isinstance(value, (float, np.floating, np.ndarray)):
        array = np.asarray(value)
        if np.issubdtype(array.dtype, np.floating):
            yield name, array
        return
    if isinstance(value, Mapping):
        parts: Iterable[tuple[Any, Any]] = value.items()
    elif hasattr(value, "_fields"):
        parts = zip(value._fields, value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        parts = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    elif isinstance(value, (list, tuple)):
        parts = enumerate(value)
    else:
        return
    for part_name, part in parts:
        yield from named_arrays(part, f"{name}.{part_name}" if name else str(part_name))


def first_nonfinite(value: Any, *, minus_infinity_is_bad: bool = True) -> str | None:
    """The first array with NaN or infinity, and where: "w (NaN at [2, 0], shape (3, 4))"; None if all are finite."""
    for name, array in named_arrays(value):
        bad = ~np.isfinite(array) if minus_infinity_is_bad else np.isnan(array) | (array == np.inf)
        if bad.any():
            place = tuple(int(i) for i in np.unravel_index(int(bad.argmax()), array.shape))
            found = "NaN" if np.isnan(array[place]) else "infinity"
            return f"{name or 'value'} ({found}" + (f" at {list(place)}, shape {array.shape})" if array.ndim else ")")
    return None


def explain(parameters: Any, batch: Any, trace: Any, gradients: Any) -> str:
    """Which of a step's arrays went wrong first, as part of a sentence. `trace` holds the forward caches, or None.

    Minus infinity inside a cache is the usual way to mask a score, so it only counts if nothing else is wrong.
    """
    found = (("the parameter", first_nonfinite(parameters)),
             ("the batch's array", first_nonfinite(batch)),
             ("in the forward pass", first_nonfinite(trace, minus_infinity_is_bad=False)),
             ("the gradient of", first_nonfinite(gradients)),
             ("in the forward pass", first_nonfinite(trace)))
    for where, name in found:
        if name is not None:
            return f"the first array that is not finite is {where} {name}"
    return "no single array shows it"
