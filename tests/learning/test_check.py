"""The checker as a learner meets it, with code that loops, dies, prints, or is no Python."""

import bdb
import os
import subprocess
import sys
import threading
import time
from types import ModuleType

import numpy as np
import pytest

from tinymm import UserError, cli
from tinymm.data.shipped import SOURCE_TREE
from tinymm.learning import check as checker
from tinymm.learning.chapters import Chapter, chapters, import_file
from tinymm.learning.exercise import Exercise
from tinymm.learning.worker import check

CHECKS = '''
from tinymm.learning.exercise import Exercise
EXERCISES = [
    Exercise(1, "double", "twice", lambda rng: {"x": rng.normal(size=(2, 3))}, hints=("Multiply.", "By 2.")),
    Exercise(2, "total", "the sum", lambda rng: {"x": rng.normal(size=(2, 3))}, hints=("x.sum()",)),
]
'''
SOLUTIONS = '''
def double(x):
    y = 2 * x
    return y
def total(x):
    return x.sum()
'''


@pytest.fixture
def answer(tmp_path):
    """Check answers to a small chapter."""
    folder = tmp_path / "lessons" / "04_small"
    folder.mkdir(parents=True)
    (folder / "checks.py").write_text(CHECKS)
    (folder / "solutions.py").write_text(SOLUTIONS)

    def results(text, **options):
        (folder / "exercises.py").write_text(text)
        chapter = Chapter(4, "small", folder)
        return checker.check_chapter(chapter, **options), chapter
    return results


def test_right_and_not_begun(answer):
    results, chapter = answer("def double(x):\n    return x + x\ndef total(x):\n    raise NotImplementedError\n")
    assert [result.state for result in results] == ["right", "not begun"]
    text = "\n".join(checker.tell(chapter, results, hints=1))
    assert "1 of 2 right" in text and "hint 1 of 1: x.sum()" in text and "Multiply" not in text
    text = "\n".join(checker.overview([(chapter, results)]))
    assert "✓·" in text and "next: 4.2 total" in text


@pytest.mark.parametrize("body, words", [
    ("while True:\n        pass", "it did not finish within 3 seconds; it was in line"),
    ("import os\n    os._exit(3)", "it ended the whole Python process (exit code 3)"),
    ("raise SystemExit", "SystemExit in line 2: raise SystemExit"),
    ("return undefined", "NameError in line 2: return undefined"),
    ("pass", "double returns None: is the `return` missing?"),
    ("x *= 2\n    return x", "changes its input x in place"),
    ("return -2 * x", "likely: only the sign is wrong"),
    ("return (2 * x).astype('float32')", "dtype float32; it should be float64"),
    ("return (2 * x).T", "it is the transpose of the right one"),
    ("return x", "likely: 2 times too small"),
    ("y = x\n    return y", "`y` is the first wrong one"),
    ("return x, x", "should return an array (2, 3), but yours returns (an array (2, 3), an array (2, 3))"),
    ("return [(2 * x, 3), None]", "should return an array (2, 3), but yours returns ((an array (2, 3), a number), None)"),
    ("y = x\n    return y @ y", "ValueError in line 3: return y @ y"),
    ("y = x\n    return y @ y", "`y` is the first wrong one"),       # what came before the exception
    ("input()\n    return x", "the checker has none"),
    ("return x / 0", "NaN or infinite"),
    ("raise KeyboardInterrupt", "KeyboardInterrupt in line 2"),
    ("import ctypes; ctypes.string_at(0)", "it ended the whole Python process (SIGSEGV); it was in line 2"),
    ("import sys; sys.stdout.close(); return x", "2 times too small"),
    ("breakpoint()", "breakpoint() wait for a keyboard"),
    ("import pdb; pdb.set_trace()", "`python lessons/debug_check.py FILE` has one"),
    ("return (2 * x).astype(int)", "its dtype int64 cuts digits off; it should be float64"),
    ("return (2 * x).astype(complex)", "should be an array (2, 3), but is an array (2, 3) of dtype complex128"),
    ("import numpy as np; return np.ma.masked_array(2 * x, mask=x > 0)", "is a MaskedArray; it should be an array of NumPy"),
    ("return x @ x", "the last size of A must be the last but one of B, here 3 and 2: is a transpose missing"),
    ("raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})", "Error in line 2"),
    ("return type('Odd', (), {'__repr__': lambda self: 1 / 0})()", "but is a Odd"),
])
def test_wrong_answers_are_told_kindly(answer, body, words):
    (first, second), _ = answer(f"def double(x):\n    {body}\ndef total(x):\n    return x.sum()\n", seconds=3)
    assert first.state == "wrong" and words in " ".join(first.lines)
    assert second.state == "right"        # one bad answer does not take the others down


@pytest.mark.parametrize("start", [
    "import threading, time; threading.Thread(target=lambda: time.sleep(60)).start()", "import os; os.fork()",
    "import subprocess; subprocess.Popen(['sleep', '60'])",
])
def test_what_an_answer_started_ends_with_it(answer, start):
    begun = time.monotonic()
    results, _ = answer(f"def double(x):\n    {start}\n    return 2 * x\ndef total(x):\n    return x.sum()\n")
    assert [result.state for result in results] == ["right", "right"] and time.monotonic() - begun < 15


def test_other_arguments_are_told(answer):
    results, _ = answer("def double(a, b):\n    return a\ndef total():\n    return 1\n")
    assert "double should take the arguments (x): double() got an unexpected" in results[0].lines[0]
    assert "total should take the arguments (x)" in results[1].lines[0]


def test_megabytes_and_control_characters_are_not_printed(answer):
    results, chapter = answer("import sys\ndef double(x):\n    print('\\033[31m' + 'a' * 10**7)\n    sys.stderr.write('b')\n")
    lines = checker.tell(chapter, results)
    assert max(map(len, lines)) < 150 and "\033" not in "".join(lines) and "| ?[31maaa" in "\n".join(lines)


def test_the_memory_of_an_answer_is_limited(answer):
    half = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    results, _ = answer("import resource\n"
                        f"def double(x):\n    assert resource.getrlimit(resource.RLIMIT_DATA)[0] == {half}\n    return 2 * x\n")
    assert results[0].state == "right"


def test_a_file_that_never_ends_is_waited_for_once(answer):
    begun = time.monotonic()
    results, chapter = answer("while True:\n    pass\n", seconds=3)
    assert all("did not finish within 3 seconds" in result.lines[0] for result in results)
    assert time.monotonic() - begun < 6
    assert sum("did not finish" in line for line in checker.tell(chapter, results)) == 1


def test_an_error_outside_the_functions_is_told_with_its_line(answer):
    results, chapter = answer("x = 1\ny = undefined\n")
    assert "cannot be run: NameError in line 2: y = undefined" in results[0].lines[0]
    file = chapter.path / "exercises.py"
    file.unlink()
    assert checker.check_chapter(chapter)[0].lines == [f"there is no file {file}"]
    assert "exercises.py cannot be run: SyntaxError" in answer("\x00")[0][0].lines[0]       # not "line None"


def test_all_wrong_arrays_are_told_by_name_and_shapes_come_first():
    exercise = Exercise(1, "f_backward", "", lambda rng: {name: rng.normal(size=(2, 3)) for name in "ab"}, (), forward="f_forward",
                        differentiable=("a", "b"))
    solutions, answers = ModuleType("solutions"), ModuleType("answers")
    solutions.f_forward = lambda a, b: (a * 2 + b.sum(), None)
    solutions.f_backward = lambda d_out, cache: (2 * d_out, np.full((2, 3), d_out.sum()))
    answers.f_backward, answers.__file__ = lambda d_out, cache: (3 * d_out, d_out[0]), "answers.py"
    lines = check(exercise, answers, solutions).lines
    assert lines[0].startswith("d_a (2, 3) relative error") and lines[1] == "d_b should have shape (2, 3), but has (3,)"
    answers.f_backward = lambda d_out, cache: (np.full((2, 3), d_out.sum()), 2 * d_out)
    assert check(exercise, answers, solutions).lines[-1] == "likely: d_a is what d_b should be: are they in another order?"


def test_a_sum_that_is_only_set_is_told(tmp_path):
    def module(name, sign):
        file = tmp_path / f"{name}.py"
        file.write_text(f"def total(x):\n    d_x = 0 * x[0]\n    for row in x:\n        d_x {sign} row\n    return d_x\n")
        return import_file(file)
    exercise = Exercise(1, "total", "", lambda rng: {"x": rng.normal(size=(3, 2))}, ())
    result = check(exercise, module("answers", "="), module("solutions", "+="))
    assert result.lines[-1] == "likely: `d_x =` keeps only the last part, but the parts add up: `d_x +=`"


RUNNING = """
import numpy as np
def grows(x, words):
    total, doubled = np.zeros(x.shape[1]), []
    for row in x:
        total = total + row
        twice = 2 * row
    table = np.stack([total, twice])
    return table
"""


@pytest.mark.parametrize("old, new, words, not_words", [
    # stopped in the second round: both are right so far, and only the error is told
    ("twice = 2 * row", "twice = 2 * row if row is x[0] or total[0] == x[0, 0] else 1 / nothing", "NameError", "first wrong"),
    ("twice = 2 * row", "twice = 3 * row if total[0] == x[0, 0] else 1 / nothing", "`twice` is the first wrong one", "`total` is the"),
    ("table = np.stack([total, twice])", "table = total\n    return table @ x.T @ x.T", "likely: an axis is summed away", "transpose is"),
    # a loop over the rows leaves the last row of the right table behind
    ("table = np.stack([total, twice])\n    return table", "table = twice\n    return np.stack([total, 2 * total])", "result", "first wrong"),
    ("table = np.stack([total, twice])", "total = [2 * total]\n    table = np.stack([*total, twice])", "`table` is the first wrong one", "`total`"),
    ("total, doubled", "words.pop(); total, doubled", "changes its input words in place", "first wrong"),
    ("total, doubled", "words['b'] = 3; total, doubled", "changes its input words['b'] in place", "first wrong"),
    ("return table", "return (table, x.shape)", "should return an array", "first wrong"),
])
def test_what_is_told_of_loops_and_of_changed_words(tmp_path, old, new, words, not_words):
    texts = {"solutions": RUNNING, "answers": RUNNING.replace(old, new)}
    if "words.pop" in new:
        given = ["a", "b"]
    else:
        given = {"a": 1, "b": 2}
    for name, text in texts.items():
        (tmp_path / f"{name}.py").write_text(text)
    solutions, answers = (import_file(tmp_path / f"{name}.py") for name in texts)
    exercise = Exercise(1, "grows", "", lambda rng: {"x": rng.normal(size=(3, 2)), "words": given}, ())
    assert texts["answers"] != RUNNING and check(exercise, solutions, solutions).state == "right"
    told = "\n".join(check(exercise, answers, solutions).lines)
    assert words in told and not_words not in told


def test_a_call_of_an_unfinished_exercise_is_told(answer):
    results, chapter = answer("def double(x):\n    return total(x)\ndef total(x):\n    raise NotImplementedError('Lesson 4, exercise 2')\n")
    assert [result.state for result in results] == ["not begun", "not begun"]
    assert [result.lines for result in results] == [["it calls exercise 2, which is not begun"], []]


def test_digits_that_are_cut_off_on_the_way_are_told():
    exercise = Exercise(1, "f_backward", "", lambda rng: {"x": rng.normal(size=(2, 3))}, (), forward="f_forward", differentiable=("x",),
                        tolerance=1e-3)
    solutions, answers = ModuleType("solutions"), ModuleType("answers")
    solutions.f_forward = lambda x: (x * x, x)
    solutions.f_backward = lambda d_out, x: 2 * x * d_out

    def f_backward(d_out, x):
        short = d_out.astype(np.float16)
        return 2 * x * short
    answers.f_backward, answers.__file__ = f_backward, "answers.py"
    assert check(exercise, answers, solutions).lines[-1] == "likely: `short` is float16, which cuts digits off"


def test_a_shape_in_the_cache_may_be_an_array_in_the_answer():
    exercise = Exercise(1, "f_forward", "", lambda rng: {"x": rng.normal(size=(2, 3))}, ())
    solutions, answers = ModuleType("solutions"), ModuleType("answers")
    solutions.f_forward = lambda x: (x, (x, x.shape))
    answers.f_forward, answers.__file__ = lambda x: (x, (x, x)), "answers.py"
    assert check(exercise, answers, solutions).lines[0].startswith("cache[1] should be (2, 3), but is")


def test_long_lines_fit_a_narrow_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "50")
    fitted = checker._fitted(["        " + "a word and another " * 6])
    assert len(fitted) > 2 and max(map(len, fitted)) <= 50 and all(line.startswith("        ") for line in fitted)


def test_lists_and_words_are_shown_as_they_are():
    solutions, answers = ModuleType("solutions"), ModuleType("answers")
    solutions.f, answers.f, answers.__file__ = lambda n: ["a", "b"], lambda n: ["a", "c"], "answers.py"
    result = check(Exercise(1, "f", "", lambda rng: {"n": 2}, ()), answers, solutions)
    assert result.lines[0] == "result should be ['a', 'b'], but is ['a', 'c']"


def test_a_whole_number_is_no_float():
    solutions, answers = ModuleType("solutions"), ModuleType("answers")
    solutions.f, answers.f, answers.__file__ = lambda n: n // 2, lambda n: n / 2, "answers.py"
    result = check(Exercise(1, "f", "", lambda rng: {"n": 4}, ()), answers, solutions)
    assert result.lines == ["the result has the right value, but is a float; it should be a whole number"]


def test_a_debugger_can_be_left():
    answers = ModuleType("answers")

    def leave(x):
        raise bdb.BdbQuit
    answers.double = leave
    exercise = Exercise(1, "double", "", lambda rng: {"x": rng.normal(size=2)}, ())
    solutions = ModuleType("solutions")
    solutions.double = lambda x: 2 * x
    with pytest.raises(bdb.BdbQuit):
        check(exercise, answers, solutions)


@pytest.mark.parametrize("arguments, words", [
    ((), "python lessons/debug_check.py"), (("lessons/06_attention/exercises.py", "9"), "chapter 6 has no exercise 9"),
    (("README.md",), "README.md is in no chapter"),
])
def test_mistakes_of_debug_check(arguments, words):
    root = SOURCE_TREE.parent
    ended = subprocess.run([sys.executable, "lessons/debug_check.py", *arguments], cwd=root, capture_output=True, text=True)
    assert ended.returncode == 1 and words in ended.stderr and "Traceback" not in ended.stderr


def test_what_the_answer_prints_is_shown_and_does_no_harm(answer):
    results, chapter = answer('def double(x):\n    print("half way", x.shape)\n    return x\n')
    assert "| half way (2, 3)" in "\n".join(checker.tell(chapter, results))
    assert "there is no function called total" in results[1].lines[0]


def test_a_file_that_is_no_python(answer):
    results, _ = answer("def double(x:\n")
    assert [result.state for result in results] == ["wrong", "wrong"]
    assert "exercises.py, line 1 cannot be run: SyntaxError" in results[0].lines[0]


def test_the_command(answer, tmp_path, monkeypatch, capsys):
    answer(SOLUTIONS.replace("2 * x", "3 * x"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(["check"]) == 1
    assert "1 of 2 exercises are right" in capsys.readouterr().out
    assert cli.main(["check", "4.2"]) == 0
    assert cli.main(["check", "4", "--solutions"]) == 0
    assert cli.main(["check", "4.1", "--hint", "--hint"]) == 1
    out = capsys.readouterr().out
    assert "hint 2 of 2: By 2." in out and "likely: it is 1.5 times the right one" in out


@pytest.mark.parametrize("target, words", [
    ("5", "there is no chapter 5; there are 4"), ("4.3", "chapter 4 has no exercise 3; it has 1, 2"),
    ("²", "'²' is neither a chapter"), ("four", "'four' is neither a chapter such as 6 nor an exercise such as 6.2"),
])
def test_mistakes_of_the_command(answer, tmp_path, monkeypatch, target, words):
    answer(SOLUTIONS)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=words):
        checker.run(target)


def test_no_lessons(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("tinymm.learning.chapters.SOURCE_TREE", tmp_path / "data")
    with pytest.raises(UserError, match="there is no folder lessons/ here"):
        chapters()


def test_watch_checks_again_after_a_save(answer, tmp_path, monkeypatch):
    answer("def double(x):\n    return x\ndef total(x):\n    return x.sum()\n")
    monkeypatch.chdir(tmp_path)
    shown = []

    def write(text):
        shown.append(text)
        if len(shown) == 3:      # after the first round: save a right answer
            path = tmp_path / "lessons" / "04_small" / "exercises.py"
            path.write_text(SOLUTIONS)
            os.utime(path, (1, 1))
        if len(shown) == 6:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        checker.run("4", watch=True, write=write)
    assert "1 of 2 right" in shown[1] and "2 of 2 right" in shown[4]


def test_a_save_ends_the_check_of_an_answer_that_hangs(answer, tmp_path, monkeypatch):
    folder = answer("raise NotImplementedError")[1].path
    (folder / "exercises.py").write_text("while True:\n    pass\n")
    monkeypatch.chdir(tmp_path)
    threading.Timer(1.5, lambda: (folder / "exercises.py").write_text(SOLUTIONS)).start()
    shown, begun = [], time.monotonic()

    def write(text):
        shown.append(text)
        if "right" in text:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        checker.run("4", watch=True, write=write)
    assert "2 of 2 right" in shown[-1] and time.monotonic() - begun < 15


def test_why_python_did_not_even_begin(answer, tmp_path, monkeypatch):
    (tmp_path / "json.py").write_text("raise ImportError('I am not json')")
    monkeypatch.chdir(tmp_path)
    results, _ = answer(SOLUTIONS)
    assert "exit code 1): ImportError: I am not json" in results[0].lines[0]
