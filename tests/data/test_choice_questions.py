"""Two-way questions: they are true, the answer is where it is said to be, and without the picture nobody knows it."""

from collections import Counter

import numpy as np
import pytest

from tinymm.data.choice_questions import (
    EASY_VQA, KINDS, SCENES, Choice, balanced, choices_about, easy_vqa_shapes, make_span_set, random_scenes, vocabulary,
)
from tinymm.data.easy_vqa import QuestionSet
from tinymm.data.scenes import Shape, relation
from tinymm.data.tokenizer import Tokenizer


def things(scene):
    return {str(shape) for shape in scene.shapes}


def named(scene, words):
    """The only shape that these words can mean."""
    (shape,) = [shape for shape in scene.shapes if words in (shape.kind, f"{shape.color} {shape.kind}", f"{shape.color} shape", "shape")]
    return shape


def test_the_right_choice_is_true_and_the_wrong_one_is_not(rng):
    kinds = Counter()
    for scene in random_scenes(300, rng):
        for choice in choices_about(scene.shapes, SCENES, rng):
            kinds[choice.kind] += 1
            assert choice.right != choice.wrong
            if choice.kind == "thing":
                assert choice.right in things(scene) and choice.wrong not in things(scene)
                continue
            if choice.kind == "side":
                seen = named(scene, choice.before.removeprefix("is the ").removesuffix(" in the"))
                middle, (low, high) = (seen.x, ("left", "right")) if choice.right in ("left", "right") else (seen.y, ("top", "bottom"))
                assert (choice.right, choice.wrong) == ((low, high) if middle < 32 else (high, low)) and abs(middle - 32) > 6
                continue
            if choice.kind == "place":
                shape = named(scene, choice.before.removeprefix("is the "))
                other = named(scene, choice.after.removeprefix("of ").removeprefix("the "))
                side = choice.right.removeprefix("to the ")
                assert relation(shape, other).split()[0] == side
                assert {side, choice.wrong.removeprefix("to the ")} in ({"left", "right"}, {"above", "below"})
            else:
                shape = named(scene, choice.before.removeprefix("is the "))
                assert choice.right.split()[-1] == (shape.color if choice.kind == "color" else shape.kind)
    assert set(kinds) == set(KINDS) and min(kinds.values()) > 50


@pytest.mark.parametrize("right_first, question, span", [
    (True, "is the cross to the left or to the right of the star ?", (5, 5)),
    (False, "is the cross to the right or to the left of the star ?", (9, 9)),
])
def test_where_the_answer_stands(right_first, question, span):
    asked = Choice("place", "is the cross", "to the left", "to the right", "of the star").asked(right_first)
    assert asked.question == question and (asked.first, asked.last) == span and asked.answer == "left"


def test_every_word_is_in_the_vocabulary_and_every_answer_in_its_place(rng):
    tokenizer, lengths = Tokenizer.build(vocabulary()), Counter()
    for scene in random_scenes(100, rng):
        for choice in choices_about(scene.shapes, SCENES, rng):
            for right_first in (False, True):
                asked = choice.asked(right_first)
                ids = tokenizer.encode(asked.question)
                assert Tokenizer.unk_id not in ids and len(ids) == len(asked.question.split())
                assert tokenizer.decode(ids[asked.first:asked.last + 1]) == asked.answer
                assert choice.right in (asked.answer, f"a {asked.answer}", f"an {asked.answer}", f"to the {asked.answer}")
                lengths[asked.last - asked.first + 1] += 1
    assert set(lengths) == {1, 2}


def test_without_the_picture_exactly_half_can_be_right(rng):
    images = np.zeros((40, 64, 64, 3), np.uint8)
    shapes = [Shape(kind, color, 0, 0, 64, 64, (0, 0, 0)) for kind in EASY_VQA.shapes[:2] for color in EASY_VQA.colors[:4] for _ in range(5)]
    asked = make_span_set((images, shapes), random_scenes(300, rng), rng)
    answers: dict[str, Counter] = {}
    for question in asked.questions:
        answers.setdefault(question.question, Counter())[question.first, question.last] += 1
    assert sum(max(counter.values()) for counter in answers.values()) == len(asked) / 2
    assert all(len(counter) == 2 for counter in answers.values())
    first = np.mean([question.first < question.question.split().index("or") for question in asked.questions])
    assert first == 0.5      # of each pair one right choice comes first, one second
    assert {name.split(", ")[0] for name in asked.names} == {"easy-VQA", "scenes"}
    part = asked.spread(10)
    assert len(part) == 10 and part.questions[-1] == asked.questions[-1]
    np.testing.assert_array_equal(part.images[part.image_index[-1]], asked.images[asked.image_index[-1]])


def test_a_question_without_a_partner_is_left_out(rng):
    red, blue = Choice("color", "is the star", "red", "blue"), Choice("color", "is the star", "blue", "red")
    other = Choice("color", "is the cross", "red", "blue")
    found = balanced([(0, red), (1, red), (2, blue), (3, other)], rng)
    assert [image for image, _ in found] == [0, 2] and found[0][1].question == found[1][1].question
    assert balanced([(0, red), (1, red)], rng) == []


def test_what_easy_vqa_says_about_its_images():
    images = np.zeros((4, 64, 64, 3), np.uint8)
    asked = [(0, "what color is the circle?", "red"), (1, "is there not a blue shape?", "no"), (1, "is a triangle present?", "yes"),
             (2, "is no circle present?", "yes"), (2, "what shape is present?", "rectangle"), (3, "is there a green shape?", "no")]
    index, questions, answers = zip(*asked)
    shapes = easy_vqa_shapes(QuestionSet(images, np.array(index), questions, answers))
    assert [shape and str(shape) for shape in shapes] == ["a red circle", "a blue triangle", None, None]
    with pytest.raises(ValueError, match="contradict"):
        easy_vqa_shapes(QuestionSet(images, np.array([0, 0]), ("is there a red shape?", "is there a blue shape?"), ("yes", "yes")))
