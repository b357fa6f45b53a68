"""`tinymm check`: run the exercise checker over a learner's files, and say what is done, what is wrong, and what is next."""

import contextlib
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from tinymm.errors import UserError
from tinymm.learning.chapters import Chapter, chapters
from tinymm.learning.exercise import Exercise
from tinymm.learning.worker import Result

SECONDS = 20.0      # an exercise may take so long
MARKS = {"right": "✓", "wrong": "✗", "not begun": "·"}


class Outdated(Exception):
    """The file was saved again before all was checked."""


def check_chapter(chapter: Chapter, only: int | None = None, answers: Path | None = None,
                  seconds: float = SECONDS, outdated: Callable[[], bool] = lambda: False) -> list[Result]:
    """The results of a chapter's exercises, in order. `answers` is the learner's exercises.py unless given.

    The learner's code runs in a process of its own; what hangs or dies there is a result like any other.

    Raises:
        Outdated: `outdated()` became true meanwhile.
    """
    answers = answers or chapter.path / "exercises.py"
    wanted = [exercise for exercise in chapter.exercises() if only in (None, exercise.number)]
    results: list[Result] = []
    while len(results) < len(wanted):
        todo = wanted[len(results):]
        results += _run(chapter, todo if only is None and not results else todo[:1], answers, seconds, outdated)
    return results


def _run(chapter: Chapter, todo: list[Exercise], answers: Path, seconds: float,
         outdated: Callable[[], bool]) -> list[Result]:
    """Results of one worker, at least one."""
    results: list[Result] = []
    read, write = os.pipe()
    only = str(todo[0].number) if len(todo) == 1 else ""
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "tinymm.learning.worker", str(chapter.path.resolve()), str(answers.resolve()), only]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                                   pass_fds=(write,), env=os.environ | {"TINYMM_REPORT": str(write), "MPLBACKEND": "Agg"},
                                   start_new_session=True)
        os.close(write)
        buffer, deadline, hung, imported = b"", time.monotonic() + seconds, False, False
        try:
            while len(results) < len(todo):
                ready, _, _ = select.select([read], [], [], min(0.3, max(0, deadline - time.monotonic())))
                if outdated():
                    raise Outdated
                if not ready and time.monotonic() < deadline:
                    continue
                part = os.read(read, 65536) if ready else b""
                if not part:
                    hung = not ready
                    break
                *lines, buffer = (buffer + part).split(b"\n")
                for line in map(json.loads, lines):
                    deadline = time.monotonic() + seconds
                    imported = True
                    if len(results) < len(todo) and line.get("number") == todo[len(results)].number:    # a fork reports twice
                        results.append(Result(**line))
            if hung:
                process.send_signal(signal.SIGABRT)     # faulthandler then writes where it was
            if len(results) < len(todo):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(2)
        finally:
            os.close(read)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # also what it started
            process.wait()
        errors.seek(0)
        trace = errors.read()
    if len(results) < len(todo):
        line = _last_line_of(trace, answers)
        where = f"; it was in line {line} of {answers.name}" if line else ""
        last = trace.strip().splitlines()[-1:] if process.returncode == 1 and not hung else []      # Python's own words
        what = (f"it did not finish within {seconds:.0f} seconds{where}: does a loop never end?" if hung
                else f"it ended the whole Python process ({_ending(process.returncode)}){where}{': '.join(['', *last])[:200]}")
        for exercise in todo[len(results):] if not imported else [todo[len(results)]]:
            results.append(Result(exercise.number, exercise.function, exercise.title, "wrong", [what]))
    return results


def _ending(code: int) -> str:
    """What an exit code says; -11, say, stands for the signal SIGSEGV."""
    try:
        name = signal.Signals(-code).name
    except ValueError:
        return f"exit code {code}"
    return f"{name}: is the memory full?" if name == "SIGKILL" else name


def _last_line_of(trace: str, answers: Path) -> int | None:
    """The line of the learner's file in a trace that faulthandler wrote (the innermost call comes first)."""
    for line in trace.splitlines():
        match = re.search(r'", line (\d+)', line)
        if match and f'"{answers.resolve()}"' in line:
            return int(match[1])
    return None


# ---- what is printed ------------------------------------------------------------------------------------------------


def tell(chapter: Chapter, results: list[Result], hints: int = 0) -> list[str]:
    """A chapter's results as lines, with up to so many hints for those that are not right yet."""
    done = sum(result.state == "right" for result in results)
    lines = [f"{chapter.number:02d}  {chapter.title}   {done} of {len(results)} right"]
    by_number = {exercise.number: exercise for exercise in chapter.exercises()}
    told: list[str] = []
    for result in results:
        lines.append(f"  {MARKS[result.state]} {chapter.number}.{result.number}  {result.function:<34}{result.title}")
        same = result.lines and result.lines == told       # such as a file that cannot be run
        lines += [f"        {line}" for line in (["as above"] if same else result.lines)]
        told = result.lines
        if result.state == "wrong" and result.printed.strip():
            lines += ["        your code printed:"] + [f"        | {_plain(line)}" for line in result.printed.splitlines()[:8]]
        if result.state != "right":
            tiers = by_number[result.number].hints
            lines += [f"        hint {i} of {len(tiers)}: {hint}" for i, hint in enumerate(tiers[:hints], start=1)]
    return lines


def _fitted(lines: list[str]) -> list[str]:
    """Long lines broken between words, for a narrow terminal; what follows stays indented."""
    width = max(40, shutil.get_terminal_size().columns)
    return [part for line in lines for part in
            textwrap.wrap(line, width, subsequent_indent=" " * (len(line) - len(line.lstrip()) + 2), break_on_hyphens=False) or [""]]


def _plain(line: str) -> str:
    """No control characters, and not endless."""
    return "".join(character if character.isprintable() else "?" for character in line.expandtabs(4)[:110])


def overview(all_results: list[tuple[Chapter, list[Result]]]) -> list[str]:
    """All chapters in a line each, and what is next."""
    lines, following = [], None
    for chapter, results in all_results:
        marks = "".join(MARKS[result.state] for result in results)
        done = sum(result.state == "right" for result in results)
        lines.append(f"{chapter.number:02d}  {chapter.title:<24} {marks:<8} {done} of {len(results)}")
        if following is None and done < len(results):
            following = chapter, next(result for result in results if result.state != "right")
    total = sum(len(results) for _, results in all_results)
    done = sum(result.state == "right" for _, results in all_results for result in results)
    lines.append(f"{done} of {total} exercises are right")
    if following:
        chapter, result = following
        lines.append(f"next: {chapter.number}.{result.number} {result.function} in {chapter.path / 'exercises.py'}; "
                     f"then `tinymm check {chapter.number}`")
    return lines


def run(target: str | None, *, hints: int = 0, watch: bool = False, solutions: bool = False,
        write: Callable[[str], None] = print) -> int:
    """The command: check everything (target None), a chapter ("6") or an exercise ("6.2"); returns 0 when all is right.

    Raises:
        UserError: there is no such chapter or exercise.
    """
    every = chapters()
    chosen, only = _choose(target, every)
    name = "solutions.py" if solutions else "exercises.py"
    while True:
        marks = _times(chosen, name)
        def outdated() -> bool:
            return watch and _times(chosen, name) != marks
        try:
            found = [(chapter, check_chapter(chapter, only, chapter.path / name, outdated=outdated))
                     for chapter in chosen if chapter.exercises()]
        except Outdated:
            continue
        lines = overview(found) if target is None else [line for item in found for line in tell(*item, hints)]
        if watch:
            write("\033[2J\033[H" if sys.stdout.isatty() else "----")
        write("\n".join(_fitted(lines) if sys.stdout.isatty() else lines))
        if not watch:
            return 0 if all(result.state == "right" for _, results in found for result in results) else 1
        write("watching; stop with Ctrl-C")
        sys.stdout.flush()
        while not outdated():
            time.sleep(0.3)


def _times(chosen: list[Chapter], name: str) -> list[tuple[int, int]]:
    """When each file was saved, and its size."""
    times = []
    for chapter in chosen:
        try:
            state = (chapter.path / name).stat()
            times.append((state.st_mtime_ns, state.st_size))
        except OSError:      # an editor may take it away for a moment
            times.append((0, 0))
    return times


def _choose(target: str | None, every: list[Chapter]) -> tuple[list[Chapter], int | None]:
    if target is None:
        return every, None
    first, _, second = target.partition(".")
    known = {chapter.number: chapter for chapter in every}
    if not first.isdecimal() or (second and not second.isdecimal()) or target.endswith("."):
        raise UserError(f"{target!r} is neither a chapter such as 6 nor an exercise such as 6.2")
    if int(first) not in known:
        raise UserError(f"there is no chapter {first}; there are {', '.join(map(str, known))}")
    chapter = known[int(first)]
    numbers = [exercise.number for exercise in chapter.exercises()]
    if second and int(second) not in numbers:
        raise UserError(f"chapter {first} has no exercise {second}; it has {', '.join(map(str, numbers)) or 'none'}")
    return [chapter], int(second) if second else None
