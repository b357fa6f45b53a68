"""What the pages get in addition to the files: the exercises below each lesson, and which chapters are still to come."""

import ast
import re
from fnmatch import fnmatch
from pathlib import Path

from tinymm.learning.chapters import Chapter

LESSON = re.compile(r"(\d\d)_(\w+)/lesson$")
PATTERN = re.compile(r"^(\S+_\*/lesson)\n", re.M)
LINK = re.compile(r"\[([^\]]+)\]\((\d\d_\w+/lesson\.py)\)")


def tasks(path: Path) -> dict[str, str]:
    """Of each function of a file: its first lines and its docstring, which say what to write."""
    source = path.read_text(encoding="utf-8")
    functions = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef)]
    return {node.name: "\n".join(source.splitlines()[node.lineno - 1:node.body[0].end_lineno]) for node in functions}


def exercises(chapter: Chapter) -> str:
    """A cell, in the percent format, that shows what a chapter asks for."""
    path, told = f"lessons/{chapter.path.name}", tasks(chapter.path / "exercises.py")
    lines = ["## The exercises", "", f"Fill in the functions in `{path}/exercises.py`, and run `tinymm check {chapter.number}`. "
             f"One way to solve them: `{path}/solutions.py`.", ""]
    for exercise in chapter.exercises():
        lines += [f"::::{{dropdown}} {chapter.number}.{exercise.number} `{exercise.function}`: {exercise.title}",
                  "```python", *told[exercise.function].splitlines(), "```", "::::", ""]
    return "\n\n# %% [markdown]\n" + "".join(f"# {line}".rstrip() + "\n" for line in lines)


def add_exercises(app, docname: str, content: list[str]) -> None:
    match, folder = LESSON.match(docname), (Path(app.srcdir) / docname).parent
    if match and (folder / "exercises.py").exists() and (folder / "checks.py").exists():
        content[0] += exercises(Chapter(int(match[1]), match[2], folder))
        app.env.note_dependency(str(folder / "exercises.py"), docname=docname)


def leave_out_chapters_to_come(app, docname: str, content: list[str]) -> None:
    """A link to a lesson that is not written yet becomes plain words, and a pattern that finds no lesson goes."""
    def link(match: re.Match) -> str:
        return match[0] if match[2].removesuffix(".py") in app.env.found_docs else f"{match[1]} (to come)"

    def pattern(match: re.Match) -> str:
        return match[0] if any(fnmatch(name, match[1]) for name in app.env.found_docs) else ""

    if not LESSON.match(docname):
        content[0] = PATTERN.sub(pattern, LINK.sub(link, content[0]))


def read_table_again(app, env, added, changed, removed) -> list[str]:
    """A chapter came or went: the table on the first page changes."""
    return ["index"] if any(LESSON.match(name) for name in added | removed) else []


def setup(app):
    app.connect("source-read", add_exercises)
    app.connect("source-read", leave_out_chapters_to_come)
    app.connect("env-get-outdated", read_table_again)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
