"""The derivative of a function that can only be called, measured as exactly as float64 allows.

The function is a forward pass, seen along a line: one entry of one input moves (or all entries at once, in a random
direction), and  L = sum(weights * outputs)  is what it moves.

- A central difference D(h) = (L(h) - L(-h)) / 2h has an error in h^2. Taken at h, h/2 and h/4 and combined, the errors
  in h^2 and h^4 cancel (Richardson 1911), so that a large first step will do, 0.008 max(1, |x|). A large step keeps
  round-off small, which is eps |out| / h. If the estimates do not agree yet the step is halved again.
- Outputs are subtracted before they are summed, so those that did not move cancel exactly.

What remains of error is 1e-13 to 1e-11 for outputs of order 1.

Kinks. ReLU at 0, or a maximum at a tie, has no derivative, and a difference across a kink measures a mean of two
slopes. The slopes above and below, (L(h) - L(0)) / h and (L(0) - L(-h)) / h, differ by h L'' where the function is
smooth: half the step, half the difference. Where that fails the step is halved, to get out of the way of the kink;
if it always fails there is no derivative to be had.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]

STEP = 8e-3         # of the first difference, times max(1, |x|)
HALVINGS = 14       # of the step at most: near a kink, or where the function is strongly curved
AGREEMENT = 1e-8    # two estimates in a row that differ by no more than this part, or round-off, are good enough
NO_KINK = 1e-7      # slopes on two sides that differ by no more than this part are the same


class Outputs(Protocol):
    """A function of arrays that it refers to: calling it gives the outputs for their present values."""

    center: Array     # (outputs,)  before anything moves
    weights: Array    # (outputs,)  of L

    def __call__(self) -> Array: ...


class Line(NamedTuple):
    """A line through one input, array[where] = start + t * direction, and the slope of L that a backward claims."""

    array: Array
    where: tuple[int, ...] | None      # None: all entries move at once
    direction: float | Array
    analytic: float

    @property
    def place(self) -> Any:
        """The index of what moves."""
        return ... if self.where is None else self.where


def lines(array: Array, gradient: Array, max_entries: int, rng: np.random.Generator) -> Iterator[Line]:
    """The lines along which an array is checked: its entries, or a sample of them and one random direction."""
    entries = np.arange(array.size)
    if array.size > max_entries:
        edges = np.linspace(0, array.size, max_entries + 1).astype(int)
        entries = rng.integers(edges[:-1], edges[1:])    # one from each of equal stretches
        direction = rng.normal(size=array.shape)
        direction /= np.linalg.norm(direction)
        yield Line(array, None, direction, float(np.vdot(gradient, direction)))
    for entry in entries:
        where = tuple(int(i) for i in np.unravel_index(entry, array.shape))
        yield Line(array, where, 1.0, float(gradient[where]))


def measured_slope(line: Line, outputs: Outputs, floor: float, step: float) -> float | None:
    """dL / dt at t = 0, or None where the function has no derivative. Slopes far below `floor` count as 0."""
    h = step * max(1.0, float(np.abs(line.array[line.place]).mean()))
    best, best_change, fourth_order = None, np.inf, None
    with np.errstate(all="ignore"):    # a step may leave the domain of a logarithm; the next one is shorter
        wide = _central_difference(line, h, outputs)
        for _ in range(HALVINGS):
            h = h / 2
            narrow = _central_difference(line, h, outputs)
            allowed = NO_KINK * max(narrow.size, floor) + 16 * narrow.noise
            smooth = abs(2 * narrow.bend - wide.bend) <= allowed                      # 0 up to h^3, unless at a kink
            previous, fourth_order = fourth_order, (4 * narrow.slope - wide.slope) / 3    # cancels h^2
            wide = narrow
            if not smooth:
                fourth_order = None                                                   # measured across a kink
            elif previous is not None:
                change = abs(fourth_order - previous)
                if change < best_change:
                    best, best_change = (16 * fourth_order - previous) / 15, change   # cancels h^4
                if change <= AGREEMENT * max(floor, abs(fourth_order)) + narrow.noise:
                    break
    return None if best is None else float(best)


class Difference(NamedTuple):
    """What two evaluations, at h and -h, tell."""

    slope: float    # (L(h) - L(-h)) / 2h
    bend: float     # the slope above minus the slope below: h L'' where the function is smooth
    size: float     # what the slope would be if nothing cancelled between the outputs
    noise: float    # what round-off in the outputs may do to the slope


def _central_difference(line: Line, h: float, outputs: Outputs) -> Difference:
    place = line.place
    start = line.array[place].copy()
    try:
        line.array[place] = start + h * line.direction
        up = outputs()
        line.array[place] = start - h * line.direction
        down = outputs()
    finally:
        line.array[place] = start
    change = outputs.weights * (up - down)    # (outputs,)
    bend = outputs.weights @ ((up - outputs.center) - (outputs.center - down)) / h
    noise = np.finfo(np.float64).eps * np.linalg.norm((outputs.weights * outputs.center)[change != 0]) / h
    return Difference(change.sum() / (2 * h), bend, np.abs(change).sum() / (2 * h), noise)
