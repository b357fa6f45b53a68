"""`tinymm check`: run the exercise checker over a learner's files, and say what is done, what is wrong, and what is next."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tinymm.errors import UserError
from tinymm.learning.chapters import Chapter, chapters
from tinymm.learning.exercise import Exercise
from tinymm.learning.worker import Result

SECONDS = 20.0      # an exercise may take so long
MARKS = {"right": "✓", "wrong": "✗", "not begun": "·"}


def check_chapter(chapter: Chapter, only: int | None = None, answers: Path | None = None,
                  seconds: float = SECONDS) -> list[Result]:
    """The results of a chapter's exercises, in order. `answers` is the learner's exercises.py unless given.

    The learner's code runs in a process of its own; what hangs or dies there is a result like any other.
    """
    answers = answers or chapter.path / "exercises.py"
    wanted = [exercise for exercise in chapter.exercises() if only in (None, exercise.number)]
    results: list[Result] = []
    while len(results) < len(wanted):
        todo = wanted[len(results):]
        results += _run(chapter, todo if only is None and not results else todo[:1], answers, seconds)
    return results


def _run(chapter: Chapter, todo: list[Exercise], answers: Path, seconds: float) -> list[Result]:
    """Results of one worker, at least one."""
    results: list[Result] = []
    read, write = os.pipe()
    only = str(todo[0].number) if len(todo) == 1 else ""
    with tempfile.TemporaryFile("w+") as errors:
        command = [sys.executable, "-m", "tinymm.learning.worker", str(chapter.path.resolve()), str(answers.resolve()), only]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=errors,
                                   pass_fds=(write,), env=os.environ | {"TINYMM_REPORT": str(write), "MPLBACKEND": "Agg"})
        os.close(write)
        buffer, deadline, hung = b"", time.monotonic() + seconds, False
        try:
            while True:
                ready, _, _ = select.select([read], [], [], max(0, deadline - time.monotonic()))
                part = os.read(read, 65536) if ready else b""
                if not part:
                    hung = not ready
                    break
                *lines, buffer = (buffer + part).split(b"\n")
                for line in map(json.loads, lines):
                    deadline = time.monotonic() + seconds
                    if "began" not in line:
                        results.append(Result(**line))
        finally:
            os.close(read)
            if hung:
                process.send_signal(signal.SIGABRT)     # faulthandler then writes where it was
                try:
                    process.wait(2)
                except subprocess.TimeoutExpired:
                    process.kill()
            process.wait()
        errors.seek(0)
        trace = errors.read()
    if len(results) < len(todo):
        exercise = todo[len(results)]
        line = _last_line_of(trace, answers)
        where = f"; it was in line {line} of {answers.name}" if line else ""
        what = (f"it did not finish within {seconds:.0f} seconds{where}: does a loop never end?" if hung
                else f"it ended the whole Python process (exit code {process.returncode}){where}")
        results.append(Result(exercise.number, exercise.function, exercise.title, "wrong", [what]))
    return results


def _last_line_of(trace: str, answers: Path) -> int | None:
    """The line of the learner's file in a trace that faulthandler wrote (the innermost call comes first)."""
    for line in trace.splitlines():
        if f'"{answers.resolve()}", line ' in line:
            return int(line.split(", line ")[1].split()[0])
    return None


# ---- what is printed ------------------------------------------------------------------------------------------------


def tell(chapter: Chapter, results: list[Result], hints: int = 0) -> list[str]:
    """A chapter's results as lines, with up to so many hints for those that are not right yet."""
    done = sum(result.state == "right" for result in results)
    lines = [f"{chapter.number:02d}  {chapter.title}   {done} of {len(results)} right"]
    by_number = {exercise.number: exercise for exercise in chapter.exercises()}
    for result in results:
        lines.append(f"  {MARKS[result.state]} {chapter.number}.{result.number}  {result.function:<34}{result.title}")
        lines += [f"        {line}" for line in result.lines]
        if result.state == "wrong" and result.printed:
            lines += ["        your code printed:"] + [f"        | {line}" for line in result.printed.splitlines()[:8]]
        if result.state != "right":
            tiers = by_number[result.number].hints
            lines += [f"        hint {i} of {len(tiers)}: {hint}" for i, hint in enumerate(tiers[:hints], start=1)]
    return lines


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
        found = [(chapter, check_chapter(chapter, only, chapter.path / name)) for chapter in chosen if chapter.exercises()]
        lines = overview(found) if target is None else [line for item in found for line in tell(*item, hints)]
        if watch:
            write("\033[2J\033[H" if sys.stdout.isatty() else "----")
        write("\n".join(lines))
        if not watch:
            return 0 if all(result.state == "right" for _, results in found for result in results) else 1
        write("watching; stop with Ctrl-C")
        sys.stdout.flush()
        while _times(chosen, name) == marks:
            time.sleep(0.3)


def _times(chosen: list[Chapter], name: str) -> list[float]:
    return [file.stat().st_mtime if file.exists() else 0 for file in (chapter.path / name for chapter in chosen)]


def _choose(target: str | None, every: list[Chapter]) -> tuple[list[Chapter], int | None]:
    if target is None:
        return every, None
    first, _, second = target.partition(".")
    known = {chapter.number: chapter for chapter in every}
    if not first.isdigit() or (second and not second.isdigit()) or target.endswith("."):
        raise UserError(f"{target!r} is neither a chapter such as 6 nor an exercise such as 6.2")
    if int(first) not in known:
        raise UserError(f"there is no chapter {first}; there are {', '.join(map(str, known))}")
    chapter = known[int(first)]
    numbers = [exercise.number for exercise in chapter.exercises()]
    if second and int(second) not in numbers:
        raise UserError(f"chapter {first} has no exercise {second}; it has {', '.join(map(str, numbers)) or 'none'}")
    return [chapter], int(second) if second else None
