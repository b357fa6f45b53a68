"""`tinymm step FILE`: Python's debugger, which after every line shows the arrays that the line made or changed.

All commands of pdb work; the most useful ones, and three of our own:

    n   next line            s   step into the call on this line       c   go on to the next `# STOP:` or breakpoint
    r   finish this function u d  up and down the calls                 p x   print x          q   quit
    arrays     every array of this function            formula   the equation in the docstring of this function
    stops      the places marked `# STOP:` in this file

Steps lead into the script, its neighbours and tinymm, but not into NumPy and the standard library. A line marked
`# STOP: what to look at` is a breakpoint, and its words are shown there.
"""

import ast
import linecache
import os
import pdb
import re
import signal
import sys
import textwrap
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

import numpy as np

from tinymm.errors import UserError
from tinymm.learning.arrays import arrays_in, describe, fingerprint, is_foreign, parts_of

STOP = re.compile(r"#\s*STOP:\s*(.*)")
INDENT = "    "


class _Text(str):
    """A text that is shown without quotes."""

    __repr__ = str.__str__


class ArrayDebugger(pdb.Pdb):
    """pdb with eyes for arrays."""

    def __init__(self, **options: Any):
        super().__init__(skip=["numpy", "numpy.*"], **options)    # `is_skipped_module` decides
        self.prompt = "(step) "
        self._seen: dict[FrameType, dict[str, tuple[Any, ...]]] = {}

    # ---- what is shown ----------------------------------------------------------------------------------------------

    def sigint_handler(self, signum: int, frame: FrameType | None) -> None:
        """Ctrl-C stops at the next line; a second one ends a call that does not come to a next line."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        super().sigint_handler(signum, frame)

    def user_call(self, frame: FrameType, argument_list: Any) -> None:
        """Do not stop on the `def` line: the first line of the body comes next, with the arguments shown."""

    def user_line(self, frame: FrameType) -> None:
        self.show_changes(frame)
        self.show_stop(frame)
        super().user_line(frame)

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        """Show what the function returns, and go on to the line that called it."""
        self.show_changes(frame)
        self._seen.pop(frame, None)
        for label, array in parts_of("returns", return_value):
            self.show(label, array)

    def user_exception(self, frame: FrameType, exc_info: Any) -> None:
        """Do not stop while an exception passes; one that nobody catches ends the script, and is shown there."""

    def show_changes(self, frame: FrameType) -> None:
        """Every array that is new or different since this function was last looked at."""
        found = dict(arrays_in(frame.f_locals))
        now = {name: fingerprint(array) for name, array in found.items()}
        before = self._seen.get(frame)
        own = {id(array) for name, array in found.items() if name.isidentifier()}
        for name, array in found.items():
            inside = not name.isidentifier()               # in a list, a dict or an object
            if inside and (before is None and frame.f_code.co_name != "<module>" or id(array) in own):
                continue                                   # part of an argument, or seen by a name of its own
            if before is None or before.get(name) != now[name]:
                self.show(name, array)
        self._seen[frame] = now

    def show(self, name: str, array: Any) -> None:
        for line in describe(name, array):
            self.message(INDENT + line)

    def show_stop(self, frame: FrameType) -> None:
        words = marks(frame.f_code.co_filename).get(frame.f_lineno)
        if words is not None:
            self.message(f"{INDENT}STOP  {words}" if words else f"{INDENT}STOP")

    def is_skipped_module(self, module_name: str | None) -> bool:
        return module_name == __name__ or is_foreign(module_name)

    def _getval_except(self, *arguments: Any) -> Any:
        """What `display` shows: pdb asks whether it changed, which an array answers entry by entry, and its text at once."""
        value = super()._getval_except(*arguments)
        return _Text(value) if isinstance(value, np.ndarray) else value

    # ---- commands ---------------------------------------------------------------------------------------------------

    def do_arrays(self, argument: str) -> None:
        """arrays: show every array of the current function, also those that did not change."""
        found = list(arrays_in(self.curframe.f_locals))
        for name, array in found:
            self.show(name, array)
        if not found:
            self.message("there are no arrays here yet")

    def do_formula(self, argument: str) -> None:
        """formula: show the equation in the docstring of the current function."""
        for line in formula(self.curframe.f_code, self.curframe.f_globals):
            self.message(INDENT + line)

    def do_stops(self, argument: str) -> None:
        """stops: list the places marked `# STOP:` in the current file."""
        places = marks(self.curframe.f_code.co_filename)
        for number, words in places.items():
            self.message(f"{INDENT}line {number}: {words}")
        if not places:
            self.message("no line of this file is marked `# STOP:`")


def marks(filename: str) -> dict[int, str]:
    """The lines where `# STOP:` says to stop, with its words: the line itself, or the next statement below a comment."""
    lines = linecache.getlines(filename)
    if not any(STOP.search(line) for line in lines):
        return {}
    starts = sorted({node.lineno for node in ast.walk(ast.parse("".join(lines))) if isinstance(node, ast.stmt)})
    found = {}
    for number, line in enumerate(lines, start=1):
        mark = STOP.search(line)
        if mark:
            place = next((start for start in starts if start >= number), None)
            if place is not None:
                found[place] = mark.group(1).strip()
    return found


def formula(code: CodeType, variables: Mapping[str, Any]) -> list[str]:
    """The equation of a function: the indented lines at the head of its docstring (or a first line with an equals sign),
    else of its forward's, where it is a backward, else of its file's."""
    forward = re.sub(r"_backward(_steps)?$", "_forward", code.co_name)
    documented = [getattr(variables.get(name), "__doc__", None) for name in dict.fromkeys((code.co_name, forward))]
    for text in [*documented, variables.get("__doc__")]:
        first, equations = _equations(text or "")
        if equations or "=" in first:
            return [first, *equations]
    return [next((_equations(text)[0] for text in documented if text), f"{code.co_name} has no docstring")]


def _equations(text: str) -> tuple[str, list[str]]:
    """The first line of a docstring, and its indented lines before "Args:"."""
    first, _, rest = text.partition("\n")
    rows = textwrap.dedent(rest).splitlines()
    end = next((i for i, row in enumerate(rows) if row.rstrip() in ("Args:", "Returns:", "Raises:")), len(rows))
    return first.strip(), [row for row in rows[:end] if row.startswith("    ")]


def run(file: str | Path, arguments: Sequence[str] = ()) -> int:
    """Step through a script as `python FILE ARGUMENTS` would run it; returns the exit code.

    Raises:
        UserError: there is no such file, or it is no Python.
    """
    path = Path(file)
    try:
        code = compile(path.read_bytes(), str(path.resolve()), "exec")      # bytes: the file names its encoding
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (SyntaxError, ValueError) as error:
        where = f", line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        raise UserError(f"{path}{where} is no valid Python: {error.msg if isinstance(error, SyntaxError) else error}") from error
    debugger = ArrayDebugger()
    for number in marks(str(path.resolve())):
        debugger.set_break(str(path.resolve()), number)
    saved = sys.argv, sys.path[0], sys.modules["__main__"], sys.breakpointhook, pdb.set_trace
    sys.argv, sys.path[0] = [str(path), *arguments], str(path.resolve().parent)
    sys.breakpointhook = pdb.set_trace = lambda *_, **__: debugger.set_trace(sys._getframe(1))
    debugger.message("n: next line   s: step into a call   c: to the next STOP   arrays, formula   h: help   q: quit")
    try:
        while True:
            try:
                return _run_once(debugger, code, path)
            except pdb.Restart:
                debugger.message("from the start again")
    finally:
        sys.argv, sys.path[0], sys.modules["__main__"], sys.breakpointhook, pdb.set_trace = saved


def _run_once(debugger: ArrayDebugger, code: CodeType, path: Path) -> int:
    """The exit code of the script; after an exception, when the user has looked around."""
    sys.modules["__main__"] = main = type(sys)("__main__")
    main.__file__ = str(path.resolve())
    try:
        debugger.run(code, main.__dict__)
    except SystemExit as stop:
        if isinstance(stop.code, int) or stop.code is None:
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except pdb.Restart:
        raise
    except (Exception, KeyboardInterrupt) as error:
        debugger.message("".join(traceback.format_exception_only(error)).strip())
        debugger.message("the script ended here; look around with arrays, p, u and d, and leave with q")
        debugger.reset()
        _end_in_our_code(error.__traceback__)
        debugger.interaction(None, error.__traceback__ if sys.version_info < (3, 13) else error)
        return 1
    return 0


def _end_in_our_code(trace: TracebackType | None) -> None:
    """Let a traceback end in our own code, not deep inside a package that it called."""
    last = trace
    while trace:
        if not is_foreign(trace.tb_frame.f_globals.get("__name__")):
            last = trace
        trace = trace.tb_next
    if last:
        last.tb_next = None


def without_jit() -> None:
    """Let numba's kernels run as plain Python, so that steps lead into them. Before numba is imported."""
    if "numba" in sys.modules:
        raise UserError("numba is loaded already; set the environment variable NUMBA_DISABLE_JIT=1 instead")
    os.environ["NUMBA_DISABLE_JIT"] = "1"
