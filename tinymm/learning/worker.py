"""The process in which a learner's code runs: `python -m tinymm.learning.worker CHAPTER ANSWERS [EXERCISE]`.

It may loop forever, raise, print, or end the process; `check` watches from outside. For every exercise a line of JSON is
written to the file descriptor in TINYMM_REPORT: first {"began": number}, then the result.
"""

import bdb
import builtins
import contextlib
import copy
import faulthandler
import inspect
import io
import json
import os
import pdb
import re
import sys
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from tinymm.errors import UserError
from tinymm.gradcheck import gradient_check
from tinymm.learning.chapters import FOLDER, Chapter, import_file
from tinymm.learning.compare import (
    Watched, agrees, as_arrays, cause_of_error, difference, first_wrong_step, forgets_to_add, is_numeric, likely_cause, run_and_watch,
    values_over_time,
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
    result = Result(exercise.number, exercise.function, exercise.title)
    try:
        with np.errstate(all="ignore"):
            answer = getattr(answers, exercise.function, None)
            if not callable(answer):
                raise Wrong(f"there is no function called {exercise.function} in {Path(answers.__file__).name}")
            for seed in SEEDS:
                _check_once(exercise, answer, solutions, np.random.default_rng([seed, exercise.number]))
            if exercise.forward:
                _check_gradient(exercise, answer, solutions)
    except NotImplementedError as stub:
        result.state, other = "not begun", re.search(r"exercise (\d+)", str(stub))
        if other and int(other[1]) != exercise.number:
            result.lines = [f"it calls exercise {other[1]}, which is not begun"]
    except Wrong as wrong:
        stopped_by = [_told(wrong.__cause__, answers)] if wrong.__cause__ else []
        result.state, result.lines, result.step = "wrong", stopped_by + wrong.lines, wrong.step
    except bdb.BdbQuit:
        raise
    except (Exception, SystemExit) as error:
        cause = cause_of_error(error)
        result.state, result.lines = "wrong", [_told(error, answers)] + ([f"likely: {cause}"] if cause else [])
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
    if isinstance(yours.error, TypeError) and not yours.error.__traceback__.tb_next:      # it was not even entered
        raise Wrong(f"{exercise.function} should take the arguments {inspect.signature(reference)}: {yours.error}")
    if yours.error:
        _explain_error(exercise, yours, right, names, values_over_time(reference, copy.deepcopy(arguments)))
    if yours.result is None and right.result is not None:
        raise Wrong(f"{exercise.function} returns None: is the `return` missing?")
    _check_unchanged(exercise, given, arguments, answer)
    _compare(exercise, yours, right, names, arguments, forgets_to_add(answer, reference))


def _upstream(out: Any, rng: np.random.Generator) -> Any:
    return rng.normal(size=np.shape(out)) if np.ndim(out) else float(rng.normal() + 2)


def _check_unchanged(exercise: Exercise, after: Any, before: Any, answer: Any) -> None:
    names = list(before) if isinstance(before, dict) else list(inspect.signature(answer).parameters)
    for name, (a, b) in zip(names, zip(after.values(), before.values()) if isinstance(before, dict) else zip(after, before)):
        mine, theirs = as_arrays(name, a), as_arrays(name, b)
        changed = next((label for (label, x), (_, y) in zip(mine, theirs)
                        if isinstance(y, (np.ndarray, int, float, str, list, tuple)) and not agrees(x, y, 0)), None)
        if changed or len(mine) != len(theirs):
            raise Wrong(f"{exercise.function} changes its input {changed or name} in place; "
                        "work on a new array (x = x + 1, not x += 1), or on a copy")


def _explain_error(exercise: Exercise, yours: Watched, right: Watched, names: list[str], earlier: dict[str, list[Any]]) -> None:
    """An exception is often the late trace of an array that was wrong before: then that is told, else just the exception."""
    step, before = first_wrong_step(yours.steps, right.steps, names, exercise.tolerance, earlier)
    if step is None or isinstance(yours.error, NotImplementedError):
        raise yours.error
    cause = likely_cause(yours.steps[step], right.steps[step], exercise.tolerance) or cause_of_error(yours.error)
    raise Wrong(*_about_step(exercise, step, before, yours, right), *([f"likely: {cause}"] if cause else []), step=step) from yours.error


def _about_step(exercise: Exercise, step: str, before: list[str], yours: Watched, right: Watched) -> list[str]:
    """The first wrong step, and its numbers."""
    known = f"{', '.join(f'`{s}`' for s in before[-2:])} {'is' if len(before[-2:]) == 1 else 'are'} right, " if before else ""
    fact = exercise.facts.get(step)
    return [f"{known}`{step}` is the first wrong one" + (f": {fact}" if fact else ""),
            _table(f"`{step}`", yours.steps[step], right.steps[step])]


def _compare(exercise: Exercise, yours: Watched, right: Watched, names: list[str], arguments: Any, unadded: set[str]) -> None:
    expected, tolerance = right.result, exercise.tolerance
    label = "the result" if not isinstance(expected, (tuple, list)) else "result"
    mine, theirs = as_arrays(label, yours.result), as_arrays(label, expected)
    if [name for name, _ in mine] != [name for name, _ in theirs]:
        cause = _known_mistake(exercise, yours.result, arguments)
        raise Wrong(f"{exercise.function} should return {_form(expected)}, but yours returns {_form(yours.result)}",
                    *([f"likely: {cause}"] if cause else []))
    if exercise.forward and len(theirs) == len(exercise.differentiable) > 1:
        theirs = [(f"d_{name}", b) for name, (_, b) in zip(exercise.differentiable, theirs)]
    if exercise.function.endswith("_forward"):
        theirs = [(name.replace("result[1]", "cache"), b) for name, b in theirs]
    step, before = first_wrong_step(yours.steps, right.steps, names, tolerance)
    wrong = [(name, a, b) for (_, a), (name, b) in zip(mine, theirs) if not agrees(a, b, tolerance)]
    if wrong:
        name, a, b = min(wrong, key=lambda part: np.shape(part[1]) == np.shape(part[2]))     # shapes first
        lines = [_table(*part) for part in wrong[:4]]
        cause = likely_cause(a, b, tolerance)
        if step is not None:
            sentence, numbers = _about_step(exercise, step, before, yours, right)
            known = any(line.endswith(numbers.partition("` ")[2]) for line in lines)      # said of the result already
            lines += [sentence] if known else [sentence, numbers]
            cause = likely_cause(yours.steps[step], right.steps[step], tolerance) or cause
        if (step or name) in unadded:
            cause = f"`{step or name} =` keeps only the last part, but the parts add up: `{step or name} +=`"
        other = next((label for label, value in theirs if label != name and agrees(a, value, tolerance)), None)
        if other:
            cause = f"{name} is what {other} should be: are they in another order?"
        cause = _known_mistake(exercise, yours.result, arguments) or cause
        if cause:
            lines.append(f"likely: {cause}")
        raise Wrong(*lines, step=step or name)
    for (_, a), (name, b) in zip(mine, theirs):
        if type(b) is np.ndarray and isinstance(a, np.ndarray) and type(a) is not np.ndarray:
            raise Wrong(f"{name} is a {type(a).__name__}; it should be an array of NumPy", step=name)
        if isinstance(b, (int, np.integer)) and not isinstance(b, bool) and isinstance(a, (float, np.floating)):
            raise Wrong(f"{name} has the right value, but is a {type(a).__name__}; it should be a whole number", step=name)
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
        out, cache = forward(**inputs)
        steps = run_and_watch(answer, (_upstream(out, rng), cache)).steps
        narrow = next((f"`{name}` is {value.dtype}" for name, value in steps.items()
                       if isinstance(value, np.ndarray) and value.dtype in (np.float16, np.float32)), None)
        raise Wrong("the values agree, but the gradient check fails:", *str(report).splitlines()[:6],
                    *([f"likely: {narrow}, which cuts digits off"] if narrow else []))


def _form(value: Any, depth: int = 0) -> str:
    """What a result is made of, down to a cache within a result."""
    if isinstance(value, (tuple, list)):
        what, count = type(value).__name__, len(value)
        if depth == 2 or count > 12 or all(isinstance(item, (int, float, str)) for item in value):
            return f"{'an' if what[0] in 'AEIO' else 'a'} {what} of {count}"
        return f"({', '.join(_form(item, depth + 1) for item in value)}{',' if count == 1 else ''})"
    if isinstance(value, np.ndarray):
        return f"an array {value.shape}" + ("" if is_numeric(value) else f" of dtype {value.dtype}")
    return "None" if value is None else "a number" if is_numeric(value) else _short(value)


def _table(name: str, yours: Any, expected: Any) -> str:
    """One line: name, shapes, the largest relative error, where, and both values there."""
    if not is_numeric(expected) or not is_numeric(yours):
        a, b = (_form(value) if isinstance(value, np.ndarray) else _short(value) for value in (expected, yours))
        return f"{name} should be {a}, but is {b}"
    if np.shape(yours) != np.shape(expected):
        return f"{name} should have shape {np.shape(expected)}, but has {np.shape(yours)}"
    worst = difference(yours, expected)
    if worst is None:
        return f"{name} is right"
    place = f" at {list(worst.index)}" if worst.index else ""
    return (f"{name} {np.shape(expected) or ''} relative error {worst.error:.1e}{place}: "
            f"yours {worst.yours:.6g}, expected {worst.expected:.6g}")


def _short(value: Any) -> str:
    try:
        return _cut(repr(value), 70)
    except Exception:      # a __repr__ that fails
        return f"a {type(value).__name__}"


def _cut(text: str, most: int) -> str:
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most - 3] + "..."


def _told(error: BaseException, answers: ModuleType | Path) -> str:
    """An exception in one line, with the line of the learner's file where it arose."""
    file = str(answers) if isinstance(answers, Path) else answers.__file__
    places = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    where = f" in line {places[-1].lineno}: {places[-1].line}" if places else ""
    try:
        text = str(error).strip().splitlines()
    except Exception:      # a __str__ that fails
        text = []
    return f"{type(error).__name__}{where}" + (f"  ({_cut(text[0], 200)})" if text else "")


def _no_keyboard(*prompt: Any, **options: Any) -> str:
    raise RuntimeError("input() and breakpoint() wait for a keyboard, and the checker has none; "
                       "`python lessons/debug_check.py FILE` has one")


class Beginning(io.StringIO):
    """Keeps the beginning of what is written into it."""

    def write(self, text: str) -> int:
        super().write(text[:max(0, PRINTED - self.tell())])
        return len(text)

    def close(self) -> None:
        """Whoever closes it may go on."""


def _limit_memory() -> None:
    """Half of the machine's memory may be used, so that an answer that takes ever more ends before others have to."""
    with contextlib.suppress(ImportError, OSError, ValueError):      # not every system can
        import resource

        half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
        resource.setrlimit(resource.RLIMIT_DATA, (half, resource.getrlimit(resource.RLIMIT_DATA)[1]))


def import_answers(path: Path) -> ModuleType:
    """The learner's file as a module.

    Raises:
        UserError: it cannot be run.
    """
    if not path.is_file():
        raise UserError(f"there is no file {path}")
    try:
        return import_file(path)
    except SyntaxError as error:
        where = f", line {error.lineno}" if error.lineno else ""
        raise UserError(f"{path.name}{where} cannot be run: {type(error).__name__}: {error.msg}") from error
    except bdb.BdbQuit:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{path.name} cannot be run: {_told(error, path)}") from error


def main(folder: str, answers: str, only: str = "") -> None:
    """Check a chapter, one exercise after the other, and report each."""
    # The learner's prints must not get into the reports, which have a channel of their own.
    report = os.fdopen(int(os.environ["TINYMM_REPORT"]), "w", buffering=1)
    builtins.input = sys.breakpointhook = pdb.set_trace = _no_keyboard
    faulthandler.enable(file=sys.stderr)
    path = Path(folder)
    match = FOLDER.match(path.name)
    chapter = Chapter(int(match[1]), match[2], path)
    exercises = [exercise for exercise in chapter.exercises() if not only or exercise.number == int(only)]
    solutions = import_file(path / "solutions.py")
    _limit_memory()
    module, wrong = None, ""
    with contextlib.redirect_stdout(Beginning()), contextlib.redirect_stderr(Beginning()):
        try:
            module = import_answers(Path(answers))
        except UserError as error:
            wrong = str(error)
        except BaseException as error:      # such as KeyboardInterrupt, which nobody pressed
            wrong = f"{Path(answers).name} cannot be run: {_told(error, Path(answers))}"
    for exercise in exercises:
        result, printed = Result(exercise.number, exercise.function, exercise.title, "wrong", [wrong]), Beginning()
        if module:
            print(json.dumps({"began": exercise.number}), file=report)
            try:
                with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
                    result = check(exercise, module, solutions)
            except BaseException as error:
                result.lines = [_told(error, module)]
        result.printed = printed.getvalue()
        print(json.dumps(asdict(result)), file=report)
    os._exit(0)      # threads of an answer may go on for ever


if __name__ == "__main__":
    main(*sys.argv[1:])
