"""Links from the lessons to the source: a page for each Python file, and links from names and paths to them.

In a lesson's code, a name that was imported from tinymm leads to the line where it is defined. In its text, so does such a
name in `backquotes`, and the path of a file in `backquotes` leads to that file.
"""

import ast
import html
import importlib
import inspect
import re
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
PUBLISHED = ("tinymm/**/*.py", "lessons/*/*.py", ".vscode/launch.json")
TOKEN = re.compile(r'<span class="n">(\w+)</span>')
LITERAL = re.compile(r'<code class="[^"]*"><span class="pre">([^<]+)</span></code>')
STOP = re.compile(r'<span class="c1">(# STOP.*?)</span>')


def published() -> list[str]:
    """The files that have a page, as paths below the project's root."""
    files = [path.relative_to(ROOT).as_posix() for pattern in PUBLISHED for path in sorted(ROOT.glob(pattern))]
    return [file for file in files if not file.startswith("lessons/_")]


def page_of(file: str) -> str:
    """`source/tinymm/functional/attention.py` for a file: Sphinx adds the .html."""
    return f"source/{file.removeprefix('.')}"


# ---- which name is defined where ------------------------------------------------------------------------------------


def definitions(source: str) -> dict[int, str]:
    """Line -> name of the function, class or method that begins there."""
    found: dict[int, str] = {}

    def walk(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found[min([node.lineno, *(item.lineno for item in node.decorator_list)])] = prefix + node.name
            if isinstance(node, ast.ClassDef):
                walk(node.body, f"{prefix}{node.name}.")

    walk(ast.parse(source).body, "")
    return found


def imported_names(source: str) -> dict[str, tuple[str, str]]:
    """The names that a lesson imports from tinymm -> file and name there; not those that it also gives to something else."""
    tree, found = ast.parse(source), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "tinymm":
            module = importlib.import_module(node.module)
            for alias in node.names:
                place = place_of(getattr(module, alias.name, None) or importlib.import_module(f"{node.module}.{alias.name}"))
                if place:
                    found[alias.asname or alias.name] = place
    own = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    own |= {node.arg for node in ast.walk(tree) if isinstance(node, ast.arg)}
    own |= {node.name for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.ClassDef))}
    return {name: place for name, place in found.items() if name not in own}


def place_of(thing: Any) -> tuple[str, str] | None:
    """File and name of a module, function or class of this project."""
    thing = getattr(thing, "py_func", thing)                # what numba compiled
    if not isinstance(thing, ModuleType) and not inspect.isfunction(thing) and not inspect.isclass(thing):
        return None
    file = Path(inspect.getsourcefile(thing)).resolve()
    if not file.is_relative_to(ROOT):
        return None
    return file.relative_to(ROOT).as_posix(), "" if isinstance(thing, ModuleType) else thing.__qualname__


# ---- the pages ------------------------------------------------------------------------------------------------------


def source_pages(app):
    """A page for each file, with an anchor at each definition."""
    highlight = app.builder.highlighter.highlight_block
    for file in published():
        source = (ROOT / file).read_text(encoding="utf-8")
        python = file.endswith(".py")
        anchors = definitions(source) if python else {}
        block = highlight(source, "python" if python else "json", force=True, stripnl=False)
        before, inside, after = re.match(r"(.*?<pre>)(.*)(</pre>.*)", block, re.S).groups()
        lines = [f'<span id="{html.escape(anchors[number])}"></span>{line}' if number in anchors else line
                 for number, line in enumerate(inside.split("\n"), start=1)]
        body = f'<h1 class="path">{html.escape(file)}</h1>\n<div class="highlight-python source">' \
               + before + "\n".join(lines) + after + "</div>"
        yield page_of(file), {"title": file, "body": body}, "page.html"


def add_links(app, pagename: str, template: str, context: dict[str, Any], doctree) -> None:
    """Put the links into a page that Sphinx has made."""
    if doctree is None or "body" not in context:
        return
    lesson = Path(app.srcdir) / f"{pagename}.py"
    names = imported_names(lesson.read_text(encoding="utf-8")) if lesson.exists() else {}
    files = set(published())

    def link(text: str, file: str, name: str) -> str:
        target = app.builder.get_relative_uri(pagename, page_of(file)) + (f"#{name}" if name else "")
        return f'<a class="source" href="{html.escape(target)}" title="{html.escape(file)}">{text}</a>'

    def token(match: re.Match) -> str:
        return link(match[0], *names[match[1]]) if match[1] in names else match[0]

    def literal(match: re.Match) -> str:
        text = html.unescape(match[1]).removesuffix("()")
        if text in names:
            return link(match[0], *names[text])
        return link(match[0], text, "") if str(PurePosixPath(text)) in files else match[0]

    body = TOKEN.sub(token, context["body"])
    body = LITERAL.sub(literal, body)
    context["body"] = STOP.sub(r'<span class="c1 stop">\1</span>', body)


def setup(app):
    app.connect("html-collect-pages", source_pages)
    app.connect("html-page-context", add_links)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
