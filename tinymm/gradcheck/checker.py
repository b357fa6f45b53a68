"""The gradient checker: is a hand-written backward pass the derivative of its forward pass?

A derivative can be measured without any algebra: move one number of the input a little up and a little down, and see
how much the output moves. That is slow, but it cannot share a mistake with the formula. To get a single number out
of an output array, the checker draws a random d_out of the output's shape and looks at  L = sum(d_out * out),  whose
gradient is exactly what `backward(d_out, cache)` claims to return. (Never use ones for d_out: the outputs of a softmax
always sum to 1, so L would be constant, all true gradients 0, and a backward that returns zeros would pass.)

Everything runs in float64; float32 inputs are converted first, in copies. `tinymm.gradcheck.numeric` measures the derivative
to 1e-11 or better. The relative error of an entry is

    |analytic - numeric| / max(floor, |analytic| + |numeric|)

and the floor turns it into an absolute error for tiny gradients, of which the measurement knows few digits. So choose
inputs of order 1, whose gradients are far above the floor; `largest` in the report tells how large they were.

Every entry of a small array is checked. Of a large one it is a sample, spread over the array, and one random direction:
all entries move at once, so that no wrong entry goes unseen.

At a kink (ReLU at 0, a maximum at a tie) there is no derivative. Such entries are skipped and counted. What is a kink
is decided from the measured values only, never from the analytic gradient, so a wrong backward cannot hide behind one;
and an array with too many skipped entries fails.
"""

import copy
import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.gradcheck.numeric import STEP, lines, measured_slope
from tinymm.gradcheck.report import GradientReport, GradientRow
from tinymm.layers.module import Module

__all__ = ["GradientReport", "GradientRow", "gradient_check", "gradient_check_module"]

Array = NDArray[np.floating]

TOLERANCE = 1e-6       # the largest relative error that passes
FLOOR = 1e-3           # gradients below this are compared by absolute error
MAX_ENTRIES = 64       # of an array that are checked; a larger array is sampled
MAX_SKIPPED = 0.2      # of the entries of an array that may be skipped as kinks (one always may)


def gradient_check(
    forward: Callable[..., tuple[Any, Any]],
    backward: Callable[[Any, Any], Any],
    inputs: Mapping[str, Any],
    *,
    rng: np.random.Generator,
    constants: Sequence[str] = (),
    name: str | None = None,
    tolerance: float = TOLERANCE,
    floor: float = FLOOR,
    step: float = STEP,
    max_entries: int = MAX_ENTRIES,
    max_skipped: float = MAX_SKIPPED,
) -> GradientReport:
    """Compare `backward` with finite differences of `forward`, for each floating array among the inputs.

        report = gradient_check(layer_norm_forward, layer_norm_backward, {"x": x, "gain": gain, "bias": bias}, rng=rng)
        print(report); assert report.ok

    Args:
        forward: called as forward(**inputs), returns (out, cache). `out` is an array, a scalar, or a tuple of them.
        backward: called as backward(d_out, cache) with a random d_out like `out` (a tuple for a tuple), returns the
            gradients of the floating arrays in the order of `inputs`: a tuple, or the bare array when there is one.
        inputs: argument name -> value. Floating arrays are converted to float64 and differentiated, the rest is passed
            as it is. A numpy Generator is copied, and rewound before each call: dropout always draws the same numbers.
        constants: names of floating arrays that have no gradient.
        tolerance, floor: an array passes if  |a - n| <= tolerance * max(floor, |a| + |n|)  wherever it is checked.
        step: of the first central difference, times max(1, |x|).
        max_entries: arrays with more entries are checked at this many of them, and along one random direction.
        max_skipped: the share of an array's entries that may lie at a kink.

    Raises:
        ValueError: the check itself makes no sense: nothing to differentiate, an unknown name in `constants`, a forward
            that does not return (out, cache). What is wrong with the backward is said in the report instead.
    """
    name = name or getattr(forward, "__name__", "function").removesuffix("_forward")
    started = time.perf_counter()
    report = GradientReport(name)
    arguments = _own_copies(inputs)
    wanted = _differentiable(name, arguments, constants)
    if not wanted:
        raise ValueError(f"no input of {name} is a floating array to differentiate, got {_kinds(inputs)}")
    rewind = _rewinder(arguments)
    probe = _Probe(name, lambda: forward(**rewind()), arguments, rng, report)
    gradients = _gradients_by_name(backward, probe, list(wanted), report)
    _compare(wanted, gradients, probe, _Settings(tolerance, floor, step, max_entries, max_skipped), rng, report)
    report.seconds = time.perf_counter() - started
    return report


def gradient_check_module(
    module: Module,
    inputs: Mapping[str, Any],
    *,
    rng: np.random.Generator,
    constants: Sequence[str] = (),
    name: str | None = None,
    tolerance: float = TOLERANCE,
    floor: float = FLOOR,
    step: float = STEP,
    max_entries: int = MAX_ENTRIES,
    max_skipped: float = MAX_SKIPPED,
) -> GradientReport:
    """Compare the backward of a layer or a whole model with finite differences, for all parameters and floating inputs.

    Arguments, result and errors are those of `gradient_check`, with module.forward and module.backward as the pair. The
    module is checked in float64 and is afterwards as it was: parameters, gradients, buffers and dtypes. Running
    statistics are put back before each call of the forward, so that a batch norm in training may update them. The
    backward runs twice, to see that it adds to `parameter.grad` and does not overwrite it.
    """
    name = name or type(module).__name__
    started = time.perf_counter()
    report = GradientReport(name)
    arguments = _own_copies(inputs)
    wanted_inputs = _differentiable(name, arguments, constants)
    rewind = _rewinder(arguments)
    kept = [(parameter, parameter.value, parameter.grad) for parameter in module.parameters()]
    kept_buffers = _buffers(module)
    try:
        module.astype(np.float64)
        parameters = dict(module.named_parameters())
        if not parameters and not wanted_inputs:
            raise ValueError(f"{name} has no parameter, and no floating array among its inputs {_kinds(inputs)}")
        buffers = [(owner, key, value.copy()) for owner, key, value in _buffers(module)]

        def forward() -> tuple[Any, Any]:
            for owner, key, value in buffers:
                setattr(owner, key, value.copy())
            return module.forward(**rewind())

        values = {key: parameter.value for key, parameter in parameters.items()}
        probe = _Probe(name, forward, arguments | values, rng, report)
        module.zero_grad()
        gradients = _gradients_by_name(module.backward, probe, list(wanted_inputs), report)
        once = {key: parameter.grad.copy() for key, parameter in parameters.items()}
        module.backward(probe.d_out, probe.cache)
        report.problems += [
            f"a second backward must add the same again to the gradient of {key}, but it did not: write grad += ..."
            for key, parameter in parameters.items()
            if parameter.grad.shape == once[key].shape
            and not np.allclose(parameter.grad, 2 * once[key], rtol=1e-9, atol=1e-12, equal_nan=True)
        ]
        settings = _Settings(tolerance, floor, step, max_entries, max_skipped)
        _compare(wanted_inputs | values, gradients | once, probe, settings, rng, report)
    finally:
        for parameter, value, grad in kept:
            parameter.value, parameter.grad = value, grad
        for owner, key, value in kept_buffers:
            setattr(owner, key, value)
    report.seconds = time.perf_counter() - started
    return report


# ------------------------------------------------------------------------------------ the forward, seen from outside


class _Settings(NamedTuple):
    tolerance: float
    floor: float
    step: float
    max_entries: int
    max_skipped: float


class _Probe:
    """A forward whose outputs are one flat vector, the random d_out that weights them, the cache of the first call."""

    def __init__(
        self,
        name: str,
        forward: Callable[[], tuple[Any, Any]],
        arguments: Mapping[str, Any],
        rng: np.random.Generator,
        report: GradientReport,
    ):
        self.forward, self.arguments = forward, arguments
        before = copy.deepcopy(_arrays_in(arguments))
        result = forward()
        if not isinstance(result, tuple) or len(result) != 2:
            raise ValueError(f"the forward of {name} must return (out, cache), got {_kind(result)}")
        out, self.cache = result
        if not any(_is_float(value) for value in _as_tuple(out)):
            raise ValueError(f"the forward of {name} must return a floating array or scalar as out, got {_kind(out)}")
        draws = [_random_like(value, rng) for value in _as_tuple(out)]
        self.d_out = tuple(draws) if isinstance(out, (tuple, list)) else draws[0]
        self.weights = np.concatenate([np.ravel(draw) for draw in draws if draw is not None])    # (outputs,)
        self.center = _flat(out)                                                                 # (outputs,)

        complain = report.problems.append
        for value in _as_tuple(out):
            if _is_float(value) and np.asarray(value).dtype != np.float64:
                complain(f"forward got float64 and returned {np.asarray(value).dtype}: keep the dtype of the input")
        bad = np.sum(~np.isfinite(self.center))
        if bad:
            complain(f"forward returned {bad} values that are NaN or infinite")
        report.problems += _changes(before, _arrays_in(arguments), "forward")
        if not np.array_equal(self(), self.center, equal_nan=True):
            complain("forward gave another result for the same inputs: it must not remember the last call or draw "
                     "random numbers of its own; pass a Generator as an input")

    def __call__(self) -> Array:
        """All outputs, for the values that the inputs have now: (outputs,)."""
        return _flat(self.forward()[0])


def _gradients_by_name(
    backward: Callable[[Any, Any], Any], probe: _Probe, names: list[str], report: GradientReport
) -> dict[str, Any]:
    """Call the backward once, and give its gradients the names of the inputs. Complaints go into the report."""
    given = {"inputs": probe.arguments, "d_out": probe.d_out, "cache": probe.cache}
    before = copy.deepcopy(_arrays_in(given))
    returned = backward(probe.d_out, probe.cache)
    report.problems += _changes(before, _arrays_in(given), "backward")

    gradients = list(returned) if isinstance(returned, (tuple, list)) else [returned]
    if len(gradients) > len(names):    # None may stand for an argument without a gradient: a missing bias, integer ids
        gradients = [gradient for gradient in gradients if gradient is not None]
    if len(gradients) != len(names):
        expected = f"{len(names)}: {', '.join(names)}" if names else "none"
        report.problems.append(f"backward returned {len(gradients)} gradients, expected {expected}")
        return {}
    return dict(zip(names, gradients, strict=True))


def _changes(before: dict[str, Array], after: dict[str, Array], who: str) -> list[str]:
    return [f"{who} changes {key} in place: work on a copy, the caller still needs it"
            for key, old in before.items() if not np.array_equal(old, after[key], equal_nan=old.dtype.kind == "f")]


# ------------------------------------------------------------------------------------ analytic against numeric


def _compare(
    wanted: Mapping[str, Array],
    gradients: Mapping[str, Any],
    probe: _Probe,
    settings: _Settings,
    rng: np.random.Generator,
    report: GradientReport,
) -> None:
    for name, array in wanted.items():
        if name not in gradients:
            continue    # the number of gradients was wrong, and that has been said
        problem = _gradient_problem(name, gradients[name], array)
        if problem:
            report.problems.append(problem)
            continue
        row = _check_array(name, array, np.array(gradients[name]), probe, settings, rng)
        report.rows.append(row)
        if row.skipped and not row.ok and row.error <= settings.tolerance:
            report.problems.append(
                f"{row.skipped} of {row.checked + row.skipped} entries of {name} lie at a kink or jump of the forward "
                "and have no derivative to check: choose other inputs (random, without ties and zeros)"
            )


def _gradient_problem(name: str, gradient: Any, array: Array) -> str | None:
    if gradient is None:
        return f"backward returned None as the gradient of {name}, expected an array {array.shape}"
    if np.shape(gradient) != array.shape:
        return f"the gradient of {name} must have the shape of {name}, {array.shape}, got {np.shape(gradient)}"
    if np.asarray(gradient).dtype != np.float64:
        return f"the gradient of {name} must keep the dtype float64, got {np.asarray(gradient).dtype}"
    if not np.isfinite(gradient).all():
        return f"the gradient of {name} has {np.sum(~np.isfinite(gradient))} entries that are NaN or infinite"
    return None


def _check_array(
    name: str, array: Array, gradient: Array, probe: _Probe, settings: _Settings, rng: np.random.Generator
) -> GradientRow:
    checked, skipped, largest = 0, 0, 0.0
    error, where, analytic, numeric = 0.0, None, np.nan, np.nan
    for line in lines(array, gradient, settings.max_entries, rng):
        measured = measured_slope(line, probe, settings.floor, settings.step)
        if measured is None:
            skipped += 1
            continue
        here = abs(line.analytic - measured) / max(settings.floor, abs(line.analytic) + abs(measured))
        if not checked or here > error:
            error, where, analytic, numeric = here, line.where, line.analytic, measured
        checked, largest = checked + 1, max(largest, abs(measured))
    few_skipped = skipped <= max(1, settings.max_skipped * (checked + skipped))
    ok = checked > 0 and few_skipped and error <= settings.tolerance
    return GradientRow(name, array.shape, checked, skipped, error, where, analytic, numeric, largest, ok)


# ------------------------------------------------------------------------------------ values of all kinds


def _is_float_array(value: Any) -> bool:
    return isinstance(value, np.ndarray) and np.issubdtype(value.dtype, np.floating)


def _is_float(value: Any) -> bool:
    return _is_float_array(value) or isinstance(value, (float, np.floating))


def _as_tuple(out: Any) -> tuple[Any, ...]:
    return tuple(out) if isinstance(out, (tuple, list)) else (out,)


def _flat(out: Any) -> Array:
    return np.concatenate([np.ravel(value).astype(np.float64) for value in _as_tuple(out) if _is_float(value)])


def _random_like(value: Any, rng: np.random.Generator) -> Any:
    """d_out for one output: normal; for a scalar not near zero, as everything is multiplied by it."""
    if not _is_float(value):
        return None
    draw = rng.normal(size=np.shape(value))
    return draw if np.ndim(value) else float(draw + np.copysign(1, draw))


def _differentiable(name: str, arguments: Mapping[str, Any], constants: Sequence[str]) -> dict[str, Array]:
    unknown = [constant for constant in constants if constant not in arguments]
    if unknown:
        raise ValueError(f"constants must name inputs of {name}, {list(arguments)}, got {unknown}")
    return {key: value for key, value in arguments.items() if _is_float_array(value) and key not in constants}


def _own_copies(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Floating arrays in float64, to be moved in place, and Generators, to be rewound; the rest as it is."""
    own = dict(inputs)
    for key, value in inputs.items():
        if _is_float_array(value):
            own[key] = np.array(value, dtype=np.float64)
        elif isinstance(value, np.random.Generator):
            own[key] = copy.deepcopy(value)
    return own


def _rewinder(arguments: dict[str, Any]) -> Callable[[], dict[str, Any]]:
    """A function that returns the arguments with every Generator set back to where it stands now."""
    generators = [value.bit_generator for value in arguments.values() if isinstance(value, np.random.Generator)]
    starts = [(generator, generator.state) for generator in generators]

    def rewind() -> dict[str, Any]:
        for generator, state in starts:
            generator.state = state
        return arguments

    return rewind


def _buffers(module: Module) -> list[tuple[Module, str, Array]]:
    return [(owner, key, getattr(owner, key)) for _, owner in module.modules() for key in owner.buffers]


def _arrays_in(value: Any, path: str = "") -> dict[str, Array]:
    """Every array inside nested tuples, mappings and dataclasses, under a name such as cache.attention.weights."""
    if isinstance(value, np.ndarray):
        return {path: value}
    if isinstance(value, Mapping):
        items = value.items()
    elif hasattr(value, "_asdict"):
        items = value._asdict().items()
    elif isinstance(value, (tuple, list)):
        items = enumerate(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = vars(value).items()
    else:
        return {}
    found: dict[str, Array] = {}
    for key, item in items:
        found |= _arrays_in(item, f"{path}.{key}" if path else str(key))
    return found


def _kind(value: Any) -> str:
    if isinstance(value, np.ndarray):
        return f"an array {value.shape} of {value.dtype}"
    return f"a tuple of {len(value)}" if isinstance(value, tuple) else type(value).__name__


def _kinds(inputs: Mapping[str, Any]) -> str:
    return ", ".join(f"{key}: {_kind(value)}" for key, value in inputs.items()) or "no inputs"
