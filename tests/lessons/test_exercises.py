"""The exercises and their checker: solutions pass, stubs are not begun, wrong answers fail and the right step is named."""

import inspect
import types

import pytest
from tests.lessons.mutations import MUTATIONS

from tinymm.data.shipped import SOURCE_TREE
from tinymm.learning.chapters import chapters, import_file
from tinymm.learning.worker import check

CHAPTERS = {chapter.number: chapter for chapter in chapters(SOURCE_TREE.parent / "lessons")}
EXERCISES = [(number, exercise) for number, chapter in CHAPTERS.items() for exercise in chapter.exercises()]
NAMES = [f"{number}.{exercise.number}" for number, exercise in EXERCISES]


def module_of(chapter, name):
    return import_file(CHAPTERS[chapter].path / f"{name}.py")


def mutated(chapter, function, old, new):
    """The solutions as a module, with one piece of one function's source replaced."""
    path = CHAPTERS[chapter].path / "solutions.py"
    source, body = path.read_text(), inspect.getsource(getattr(module_of(chapter, "solutions"), function))
    assert body.count(old) == 1, f"{old!r} must occur once in {function}"
    module = types.ModuleType("mutated")
    module.__file__ = str(path)
    exec(compile(source.replace(body, body.replace(old, new)), "mutated", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("chapter, exercise", EXERCISES, ids=NAMES)
def test_the_solution_passes(chapter, exercise):
    result = check(exercise, module_of(chapter, "solutions"), module_of(chapter, "solutions"))
    assert (result.state, result.lines) == ("right", [])


@pytest.mark.parametrize("chapter, exercise", EXERCISES, ids=NAMES)
def test_the_stub_is_not_begun(chapter, exercise):
    exercises = module_of(chapter, "exercises")
    assert check(exercise, exercises, module_of(chapter, "solutions")).state == "not begun"
    with pytest.raises(NotImplementedError, match=f"Lesson {chapter}, exercise {exercise.number}"):
        stub = getattr(exercises, exercise.function)
        stub(*[None] * len(inspect.signature(stub).parameters))
    assert exercise.hints and getattr(exercises, exercise.function).__doc__


@pytest.mark.parametrize("chapter", MUTATIONS)
def test_wrong_answers_fail_and_the_step_is_named(chapter):
    number, changes = MUTATIONS[chapter]
    exercise = next(exercise for exercise in CHAPTERS[chapter].exercises() if exercise.number == number)
    assert len(changes) >= 10
    named = []
    for old, new, step in changes:
        result = check(exercise, mutated(chapter, exercise.function, old, new), module_of(chapter, "solutions"))
        assert result.state == "wrong", f"{new} passed"
        named.append(result.step == step or f"{new}: {result.step}, not {step}")
    assert sum(item is True for item in named) >= 0.9 * len(named), [item for item in named if item is not True]


@pytest.mark.parametrize("chapter, exercise", EXERCISES, ids=NAMES)
def test_the_named_mistakes_are_recognised(chapter, exercise):
    """An answer that makes the mistake which the words describe is told so."""
    solutions = module_of(chapter, "solutions")
    for words, wrong in exercise.mistakes.items():
        answers = types.ModuleType("answers")
        answers.__file__ = "answers.py"
        setattr(answers, exercise.function, wrong)
        result = check(exercise, answers, solutions)
        assert result.state == "wrong" and f"likely: {words}" in result.lines, result.lines


def test_every_chapter_has_its_central_exercise_among_the_mutations():
    assert {number for number, _ in EXERCISES} == set(MUTATIONS)
