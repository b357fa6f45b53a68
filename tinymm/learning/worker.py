"""The process in which a learner's code runs: `python -m tinymm.learning.worker CHAPTER ANSWERS [EXERCISE]`.

It may loop forever, raise, print, or end the process; `check` watches from outside. For every exercise a line of JSON is
written to the file descriptor in TINYMM_REPORT: first {"began": number}, then the result.
"""

import builtins
import contextlib
import copy
import faulthandler
import inspect
import io
import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tinymm.gradcheck import gradient_check
from tinymm.learning.chapters import FOLDER, Chapter, import_file
from tinymm.learning.compare import (
    Watched, agrees, as_arrays, difference, first_wrong_step, is_numeric, likely_cause, run_and_watch,
)
from tinymm.learning.exercise import Exercise

SEEDS = (1, 2, 3, 4)
PRINTED = 600     # characters of what the answer prints that are shown


@dataclass
class Result:
    """What was found out about one exercise."""

    number: int
    function: str
    title: str
    state: str = "right"           # "right", "wrong", "not begun"
    lines: list[str] = field(default_factory=list)
    step: str | None = None        # the first wrong step
    printed: str = ""


class Wrong(Exception):
    """The answer is wrong; the text says how."""

    def __init__(self, *lines: str, step: str | None = None):
        super().__init__("\n".join(lines))
        self.lines, self.step = list(lines), step


def check(exercise: Exercise, answers: ModuleType, solutions: ModuleType) -> Result:
    """Check one exercise of a learner's module against the solutions."""
    result, printed = Result(exercise.number, exercise.function, exercise.title), io.StringIO()
    try:
        with contextlib.redirect_stdout(printed), np.errstate(all="ignore"):
            answer = getattr(answers, exercise.function, None)
            if not callable(answer):
                raise Wrong(f"there is no function called {exercise.function} in {Path(answers.__file__).name}")
            for seed in SEEDS:
                _check_once(exercise, answer, solutions, np.random.default_rng([seed, exercise.number]))
            if exercise.forward:
                _check_gradient(exercise, answer, solutions)
    except NotImplementedError:
        result.state = "not begun"
    except Wrong as wrong:
        stopped_by = [_told(wrong.__cause__, answers)] if wrong.__cause__ else []
        result.state, result.lines, result.step = "wrong", stopped_by + wrong.lines, wrong.step
    except (Exception, SystemExit) as error:
        result.state, result.lines = "wrong", [_told(error, answers)]
    result.printed = printed.getvalue()[:PRINTED]
    return result


def _check_once(exercise: Exercise, answer: Any, solutions: ModuleType, rng: np.random.Generator) -> None:
    inputs = exercise.inputs(rng)
    reference = getattr(solutions, exercise.function)
    if exercise.forward:
        out, cache = getattr(solutions, exercise.forward)(**copy.deepcopy(inputs))
        arguments: Any = (_upstream(out, rng), cache)
    else:
        arguments = inputs
    right, given = run_and_watch(reference, copy.deepcopy(arguments)), copy.deepcopy(arguments)
    yours = run_and_watch(answer, given)
    names = list(inspect.signature(reference).parameters)
    if yours.error:
        _explain_error(exercise, yours, right, names)
    if yours.result is None and right.result is not None:
        raise Wrong(f"{exercise.function} returns None: is the `return` missing?")
    _check_unchanged(exercise, given, arguments, answer)
    _compare(exercise, yours, right, names, arguments)


def _upstream(out: Any, rng: np.random.Generator) -> Any:
    return rng.normal(size=np.shape(out)) if np.ndim(out) else float(rng.normal() + 2)


def _check_unchanged(exercise: Exercise, after: Any, before: Any, answer: Any) -> None:
    names = list(before) if isinstance(before, dict) else list(inspect.signature(answer).parameters)
    for name, (a, b) in zip(names, zip(after.values(), before.values()) if isinstance(before, dict) else zip(after, before)):
        for (label, x), (_, y) in zip(as_arrays(name, a), as_arrays(name, b)):
            if isinstance(y, np.ndarray) and not agrees(x, y, 0):
                raise Wrong(f"{exercise.function} changes its input {label} in place; work on a new array (x = x + 1, not x += 1)")


def _explain_error(exercise: Exercise, yours: Watched, right: Watched, names: list[str]) -> None:
    """An exception is often the late trace of an array that was wrong before: then that is told, else just the exception."""
    step, before = first_wrong_step(yours.steps, right.steps, names, exercise.tolerance)
    if step is None or isinstance(yours.error, NotImplementedError):
        raise yours.error
    raise Wrong(*_about_step(exercise, step, before, yours, right), step=step) from yours.error


def _about_step(exercise: Exercise, step: str, before: list[str], yours: Watched, right: Watched) -> list[str]:
    """The first wrong step, and its numbers."""
    known = f"{', '.join(f'`{s}`' for s in before[-2:])} {'is' if len(before[-2:]) == 1 else 'are'} right, " if before else ""
    fact = exercise.facts.get(step)
    return [f"{known}`{step}` is the first wrong one" + (f": {fact}" if fact else ""),
            _table(f"`{step}`", yours.steps[step], right.steps[step])]


def _compare(exercise: Exercise, yours: Watched, right: Watched, names: list[str], arguments: Any) -> None:
    expected, tolerance = right.result, exercise.tolerance
    label = "the result" if not isinstance(expected, (tuple, list)) else "result"
    mine, theirs = as_arrays(label, yours.result), as_arrays(label, expected)
    if [name for name, _ in mine] != [name for name, _ in theirs]:
        cause = _known_mistake(exercise, yours.result, arguments)
        raise Wrong(f"{exercise.function} should return {_form(expected)}, but yours returns {_form(yours.result)}",
                    *([f"likely: {cause}"] if cause else []))
    step, before = first_wrong_step(yours.steps, right.steps, names, tolerance)
    for (name, a), (_, b) in zip(mine, theirs):
        if agrees(a, b, tolerance):
            continue
        lines = [_table(name, a, b)]
        cause = likely_cause(a, b, tolerance)
        if step is not None:
            lines += _about_step(exercise, step, before, yours, right)
            cause = likely_cause(yours.steps[step], right.steps[step], tolerance) or cause
        cause = _known_mistake(exercise, yours.result, arguments) or cause
        if cause:
            lines.append(f"likely: {cause}")
        raise Wrong(*lines, step=step or name)
    for (name, a), (_, b) in zip(mine, theirs):
        if isinstance(b, np.ndarray) and isinstance(a, np.ndarray) and a.dtype != b.dtype:
            raise Wrong(f"{name} has the right values but dtype {a.dtype}; it should be {b.dtype}", step=name)


def _known_mistake(exercise: Exercise, yours: Any, arguments: Any) -> str | None:
    for words, wrong in exercise.mistakes.items():
        given = copy.deepcopy(arguments)
        try:
            value = wrong(**given) if isinstance(given, dict) else wrong(*given)
        except Exception:      # a mistake that cannot even be made with these inputs
            continue
        if agrees(yours, value, exercise.tolerance):
            return words
    return None


def _check_gradient(exercise: Exercise, answer: Any, solutions: ModuleType) -> None:
    """The backward against finite differences: an examiner that shares no formula with the solution."""
    rng = np.random.default_rng([3, exercise.number])
    forward, inputs = getattr(solutions, exercise.forward), exercise.inputs(rng)
    constants = tuple(name for name in inputs if name not in exercise.differentiable)
    report = gradient_check(forward, answer, inputs, rng=rng, constants=constants, max_entries=12)
    if not report.ok:
        raise Wrong("the values agree, but the gradient check fails:", *str(report).splitlines()[:6])


def _form(value: Any, depth: int = 0) -> str:
    """What a result is made of, down to a cache within a result."""
    if isinstance(value, (tuple, list)):
        what, count = type(value).__name__, len(value)
        if depth == 2 or count > 12 or all(isinstance(item, (int, float, str)) for item in value):
            return f"a {what} of {count}"
        return f"({', '.join(_form(item, depth + 1) for item in value)}{',' if count == 1 else ''})"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape}"
    return "None" if value is None else "a number" if is_numeric(value) else f"{type(value).__name__} {_short(value)}"


def _table(name: str, yours: Any, expected: Any) -> str:
    """One line: name, shapes, the largest relative error, where, and both values there."""
    if not is_numeric(expected) or not is_numeric(yours):
        return f"{name} should be {_short(expected)}, but is {_short(yours)}"
    if np.shape(yours) != np.shape(expected):
        return f"{name} should have shape {np.shape(expected)}, but has {np.shape(yours)}"
    worst = difference(yours, expected)
    if worst is None:
        return f"{name} is right"
    place = f" at {list(worst.index)}" if worst.index else ""
    return (f"{name} {np.shape(expected) or ''} relative error {worst.error:.1e}{place}: "
            f"yours {worst.yours:.6g}, expected {worst.expected:.6g}")


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 70 else text[:67] + "..."


def _told(error: BaseException, answers: ModuleType) -> str:
    """An exception in one line, with the line of the learner's file where it arose."""
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == answers.__file__]
    where = f" in line {places[-1].lineno}: {places[-1].line}" if places else ""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}{where}" + (f"  ({text[0]})" if text else "")


def _no_keyboard(prompt: str = "") -> str:
    raise RuntimeError("input() waits for a keyboard, and the checker has none")


def main(folder: str, answers: str, only: str = "") -> None:
    """Check a chapter, one exercise after the other, and report each."""
    # The learner's prints must not get into the reports, which have a channel of their own.
    report = os.fdopen(int(os.environ["TINYMM_REPORT"]), "w", buffering=1)
    builtins.input = _no_keyboard
    faulthandler.enable(file=sys.stderr)
    path = Path(folder)
    match = FOLDER.match(path.name)
    chapter = Chapter(int(match[1]), match[2], path)
    exercises = [exercise for exercise in chapter.exercises() if not only or exercise.number == int(only)]
    solutions = import_file(path / "solutions.py")
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            module = import_file(Path(answers))
    except (Exception, SystemExit) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) else ""
        text = f"{Path(answers).name}{where} cannot be run: {type(error).__name__}: {getattr(error, 'msg', error)}"
        for exercise in exercises:
            print(json.dumps(asdict(Result(exercise.number, exercise.function, exercise.title, "wrong", [text]))), file=report)
        return
    for exercise in exercises:
        print(json.dumps({"began": exercise.number}), file=report)
        print(json.dumps(asdict(check(exercise, module, solutions))), file=report)


if __name__ == "__main__":
    main(*sys.argv[1:])
