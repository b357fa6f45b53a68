"""What an exercise is, and the facts that its checker needs.

A chapter is a folder `lessons/NN_topic/` with

    lesson.py       the lesson           exercises.py    stubs, which the learner fills in
    solutions.py    answers              checks.py       EXERCISES: a list of Exercise, in order

An exercise asks for one function. Its answer is compared with the function of the same name in solutions.py, on inputs
of unequal sizes: shapes, then values, then (where it has a `forward`) gradients by finite differences. When a value is
wrong, the local arrays of both functions are compared in the order in which the solution assigns them, so that the first
wrong step can be named. Exercises and solutions therefore use the same names for the same things.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Inputs = dict[str, Any]


@dataclass(frozen=True)
class Exercise:
    """One function to write.

    Attributes:
        number: within its chapter.   function: its name in exercises.py.   title: a few words.
        inputs: draws the arguments by name; called several times, with generators of different seeds.
        forward: for a backward, the forward (of solutions.py) whose derivative it is; then `inputs` are the forward's, and the
            answer is called as function(d_out, cache) with a random d_out.
        differentiable: the forward's inputs that have a gradient, in the order in which the backward returns them.
        hints: from a nudge to nearly the answer.
        facts: step name -> what must hold there ("its rows sum to 0"), said when that step is the first wrong one.
        mistakes: a likely mistake in words -> a function of the same arguments that makes it. If the answer equals its
            result, the words are shown.
        tolerance: largest allowed relative error of a value.
    """

    number: int
    function: str
    title: str
    inputs: Callable[[np.random.Generator], Inputs]
    hints: Sequence[str]
    forward: str | None = None
    differentiable: Sequence[str] = ()
    facts: Mapping[str, str] = field(default_factory=dict)
    mistakes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
    tolerance: float = 1e-6
