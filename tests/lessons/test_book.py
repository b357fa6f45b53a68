"""The book and what stands around the lessons: it is built for real, and its pages are read."""

import html
import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit

import pytest

from tinymm import UserError
from tinymm.data.shipped import SOURCE_TREE
from tinymm.learning.chapters import chapters, import_file

ROOT = SOURCE_TREE.parent
LESSONS = [chapter for chapter in chapters(ROOT / "lessons") if (chapter.path / "lesson.py").exists()]
NAMES = [chapter.path.name for chapter in LESSONS]
NEEDED = ["sphinx", "myst_nb", "jupytext", "furo", "sphinx_design", "latex2mathml", "ziamath"]
needs_sphinx = pytest.mark.skipif(not all(map(find_spec, NEEDED)), reason='pip install -e ".[book]"')


# ---- the book -------------------------------------------------------------------------------------------------------


class Page(HTMLParser):
    """What the tests ask of a page."""

    QUIET = {"pre", "code", "script", "style", "title"}      # where a $ is no math
    VOID = {"img", "link", "meta", "br", "hr", "input", "wbr", "source"}

    def __init__(self, path):
        super().__init__()
        self.path, self.ids, self.links, self.loaded, self.pictures, self.tags, self.text = path, set(), [], [], [], [], []
        self.words, self.open = [], []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.tags.append(tag)
        self.ids.add(given.get("id"))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        if tag == "img":
            self.pictures.append(given["src"])
        if tag in ("img", "script", "iframe", "source") and given.get("src"):
            self.loaded.append(given["src"])
        if tag == "link" and given.get("rel") in ("stylesheet", "icon", "shortcut icon", "preload"):
            self.loaded.append(given["href"])
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        self.words.append(data)
        if not self.QUIET & set(self.open):
            self.text.append(data)


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The pages of a book that was built just now, by their paths."""
    folder = tmp_path_factory.mktemp("book")
    variables = os.environ | {"TINYMM_FAST": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-j", "auto", "-d", folder / "doctrees", ROOT / "lessons", folder / "book"]
    done = subprocess.run(command, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stderr[-5000:]
    return {path.relative_to(folder / "book").as_posix(): Page(path) for path in sorted((folder / "book").rglob("*.html"))}


def problems(pages):
    """Links that lead nowhere, and what is loaded from elsewhere."""
    found, by_path = [], {page.path.resolve(): page for page in pages.values()}
    for name, page in pages.items():
        found += [f"{name}: {target} is not of this book" for target in page.loaded if urlsplit(target).netloc]
        for target in page.links + page.loaded:
            address, anchor = urldefrag(target)
            if urlsplit(target).scheme:
                continue
            path = (page.path.parent / unquote(address.partition("?")[0])).resolve() if address else page.path.resolve()
            if not path.is_file():
                found.append(f"{name}: {target} leads nowhere")
            elif anchor and path in by_path and unquote(anchor) not in by_path[path].ids:
                found.append(f"{name}: there is no place {target}")
    return found


@needs_sphinx
@pytest.mark.slow
def test_links_and_pictures_are_there(book):
    assert problems(book) == []
    assert sum(len(page.links) for page in book.values()) > 1000


@needs_sphinx
@pytest.mark.slow
@pytest.mark.parametrize("chapter", LESSONS, ids=NAMES)
def test_each_chapter_has_its_page(book, chapter):
    page, source = book[f"{chapter.path.name}/lesson.html"], (chapter.path / "lesson.py").read_text(encoding="utf-8")
    words = "".join(page.words)
    assert f"{chapter.path.name}/lesson.html" in book["index.html"].links
    assert len(page.pictures) == len(re.findall(r"^\s*show\(", source, re.M)) or re.search(r"^ +show\(", source, re.M)
    assert page.pictures and "math" in page.tags and "Figure size" not in words
    assert page.tags.count("details") >= source.count(":::{dropdown}") + len(chapter.exercises())
    assert all(exercise.function in words for exercise in chapter.exercises())
    assert any(link.startswith("../source/tinymm/") and "#" in link for link in page.links)
    if chapter.exercises():
        assert f"../source/lessons/{chapter.path.name}/exercises.py.html" in page.links


@needs_sphinx
@pytest.mark.slow
def test_no_formula_is_left_as_it_was_written(book):
    for name, page in book.items():
        if not name.startswith("source/"):
            text = "".join(page.text)
            assert "$" not in text and not re.search(r"\\[a-zA-Z]+", text), name


@needs_sphinx
@pytest.mark.slow
def test_no_bracket_before_a_formula_is_lost(book):
    """A formula takes the bracket before it and the full stop behind it on its own line of text."""
    words = "".join(book["05_recurrence/lesson.html"].words)
    assert "One entry, for one text (i counts the entries of the word" in words
    for name, page in book.items():
        if not name.startswith("source/"):
            text = "".join(page.text)
            assert text.count("(") == text.count(")"), name


@needs_sphinx
@pytest.mark.slow
def test_long_lines_of_output_are_folded_and_pictures_have_a_name(book):
    shown = book["06_attention/lesson.html"].path.read_text(encoding="utf-8")
    assert set(re.findall(r'<img[^>]* alt="([^"]*)"', shown)) == {
        f"Picture: {name}. The code above draws it." for name in ("division", "masks")}
    for name in (f"{chapter}/lesson.html" for chapter in NAMES):
        outputs = re.findall(r'<div class="output [^"]*"><div class="highlight"><pre>(.*?)</pre>', book[name].path.read_text(encoding="utf-8"), re.S)
        lines = [line for output in outputs for line in re.sub("<(?!span class=.long)[^>]+>", "", output).splitlines()]
        assert lines and all(len(html.unescape(line)) <= 96 for line in lines if "<span" not in line)
    assert 'class="long"' in book["04_tokens_embeddings/lesson.html"].path.read_text(encoding="utf-8")


@needs_sphinx
@pytest.mark.slow
def test_the_checks_of_the_pages_can_fail(tmp_path):
    (tmp_path / "page.html").write_text('<a href="no.html">a</a><a href="#no">b</a><a href="#yes" id="yes">c</a><img src="no.png">'
                                        '<script src="https://example.org/x.js"></script><code>$5</code> $x$')
    page = Page(tmp_path / "page.html")
    assert len(problems({"page.html": page})) == 4
    assert "".join(page.text).count("$") == 2


@needs_sphinx
def test_an_unknown_command_of_a_formula_is_found_out(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "lessons" / "_book")
    mathml = import_file(ROOT / "lessons" / "_book" / "mathml.py")
    assert "".join(mathml.to_mathml(r"\frac{a}{2}", "inline").itertext()) == "a2"
    with pytest.raises(ValueError, match=r"\\nonsense"):
        mathml.to_mathml(r"\nonsense{a}", "inline")


# ---- what stands around the lessons ---------------------------------------------------------------------------------


def test_the_first_page_lists_every_chapter():
    rows = re.findall(r"^\| \[(\d+)\. (.+?)\]\((\d\d_\w+)/lesson\.py\)", (ROOT / "lessons" / "index.md").read_text(encoding="utf-8"), re.M)
    assert [int(number) for number, _, _ in rows] == list(range(1, len(rows) + 1))
    listed = {folder: f"# # {number}. {title}" for number, title, folder in rows}
    for chapter in LESSONS:
        assert listed[chapter.path.name] == (chapter.path / "lesson.py").read_text(encoding="utf-8").splitlines()[1]


def test_the_glossary_has_each_word_once():
    lines = (ROOT / "lessons" / "glossary.md").read_text(encoding="utf-8").split("```{glossary}")[1].split("```")[0].splitlines()
    terms = [line for line in lines if line and not line.startswith((" ", ":"))]
    assert len(terms) > 50 and len(terms) == len(set(terms))


def test_launch_json_starts_what_is_there():
    settings = json.loads((ROOT / ".vscode" / "launch.json").read_text(encoding="utf-8"))["configurations"]
    by_name = {item["name"]: item for item in settings}
    assert {"Debug this lesson", "Debug this exercise's check", "Debug the kernels without JIT"} <= by_name.keys()
    for item in settings:
        program = item.get("program", "${file}").replace("${workspaceFolder}", str(ROOT))
        assert program == "${file}" or Path(program).is_file()
        assert item.get("module", "tinymm") == "tinymm" and item["type"] == "debugpy"
    assert by_name["Debug the kernels without JIT"]["env"]["NUMBA_DISABLE_JIT"] == "1"


def test_the_check_that_can_be_debugged_agrees_with_the_checker(capsys):
    from tinymm.learning import check

    program = import_file(ROOT / "lessons" / "debug_check.py")
    chapter = next(chapter for chapter in LESSONS if chapter.number == 6)
    assert program.main(str(chapter.path / "lesson.py")) == 1
    assert capsys.readouterr().out.splitlines() == check.tell(chapter, check.check_chapter(chapter))
    assert program.main(str(chapter.path / "exercises.py"), "2") == 1
    assert "6.2" in capsys.readouterr().out
    with pytest.raises(UserError, match="is in no chapter"):
        program.main(str(ROOT / "setup.cfg"))
