"""The checker as a learner meets it, with code that loops, dies, prints, or is no Python."""

import pytest

from tinymm import UserError, cli
from tinymm.learning import check as checker
from tinymm.learning.chapters import Chapter, chapters

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
])
def test_wrong_answers_are_told_kindly(answer, body, words):
    (first, second), _ = answer(f"def double(x):\n    {body}\ndef total(x):\n    return x.sum()\n", seconds=3)
    assert first.state == "wrong" and words in " ".join(first.lines)
    assert second.state == "right"        # one bad answer does not take the others down


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
    ("four", "'four' is neither a chapter such as 6 nor an exercise such as 6.2"),
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
            import os
            os.utime(path, (1, 1))
        if len(shown) == 6:
            raise KeyboardInterrupt
    with pytest.raises(KeyboardInterrupt):
        checker.run("4", watch=True, write=write)
    assert "1 of 2 right" in shown[1] and "2 of 2 right" in shown[4]
