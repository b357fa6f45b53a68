"""Questions with two choices about pictures of shapes: the answer stands in the question, and only the picture tells which it is.

    is the circle red or blue ?                               color    the only circle of the picture
    is the red shape a circle or a star ?                     shape    the only red one
    do you see a red star or a green star ?                   thing    exactly one of the two is there
    is the heart in the left or right half ?                  side     also: in the top or bottom half
    is the heart to the left or to the right of the cross ?   place    also: left or right of, above or below

A question says nothing about its answer. The right choice comes first or second by lot; and in a test set each question is
asked about two pictures with opposite answers (`balanced`; the idea of VQA 2, Goyal et al. 2017), so that whoever does not
look gets exactly half of them right.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.easy_vqa import EasyVQA, QuestionSet
from tinymm.data.scenes import COLORS, PAIRS, SHAPES, SIZE, Scene, Shape, draw_scenes, relation, sample_scene

EASY_COLORS = ("black", "blue", "brown", "gray", "green", "red", "teal", "yellow")
EASY_SHAPES = ("circle", "rectangle", "triangle")
SILENT = ("a", "an", "to", "the")     # before a choice; an answer leaves them out: "a circle" is answered by "circle"
CLEARLY = 6      # pixels from the middle of the picture, from which on a shape is in one half
KINDS = ("color", "shape", "thing", "side", "place")


@dataclass(frozen=True)
class World:
    """What there may be in a picture."""

    colors: tuple[str, ...]
    shapes: tuple[str, ...]


SCENES, EASY_VQA = World(tuple(COLORS), SHAPES), World(EASY_COLORS, EASY_SHAPES)


class Choice(NamedTuple):
    """A question without the order of its choices: `before` RIGHT or WRONG `after` ?"""

    kind: str
    before: str
    right: str
    wrong: str
    after: str = ""

    def asked(self, right_first: bool) -> "SpanQuestion":
        first, second = (self.right, self.wrong) if right_first else (self.wrong, self.right)
        question = " ".join(part for part in (self.before, first, "or", second, self.after, "?") if part)
        start = len(self.before.split()) + (0 if right_first else len(first.split()) + 1)
        words = self.right.split()
        silent = next(i for i, word in enumerate(words) if word not in SILENT)
        return SpanQuestion(self.kind, question, start + silent, start + len(words) - 1)


class SpanQuestion(NamedTuple):
    """A question, and where among its words the answer begins and ends (both included)."""

    kind: str
    question: str
    first: int
    last: int

    @property
    def answer(self) -> str:
        return " ".join(self.question.split()[self.first:self.last + 1])


def choices_about(shapes: Sequence[Shape], world: World, rng: np.random.Generator) -> list[Choice]:
    """A question of every kind that can be asked about these shapes, which one by lot.

    Where the picture has further colours or shapes, half of the wrong choices are one of those: to know what is there is not
    enough, it must be known where.
    """
    questions = []
    colors, kinds = [shape.color for shape in shapes], [shape.kind for shape in shapes]
    there = {(shape.color, shape.kind) for shape in shapes}

    if only := [shape for shape in shapes if kinds.count(shape.kind) == 1]:
        shape = _any(only, rng)
        name = "shape" if len(shapes) == 1 and rng.random() < 0.5 else shape.kind
        questions.append(Choice("color", f"is the {name}", shape.color, _another(shape.color, colors, world.colors, rng)))

    if only := [shape for shape in shapes if colors.count(shape.color) == 1]:
        shape = _any(only, rng)
        name = "shape" if len(shapes) == 1 and rng.random() < 0.5 else f"{shape.color} shape"
        questions.append(Choice("shape", f"is the {name}", _a(shape.kind), _a(_another(shape.kind, kinds, world.shapes, rng))))

    shape = _any(shapes, rng)
    others = [(color, shape.kind) for color in world.colors] + [(shape.color, kind) for kind in world.shapes]
    color, kind = _any([pair for pair in others if pair not in there], rng)
    questions.append(Choice("thing", _any(("do you see", "is there"), rng), str(shape), _a(f"{color} {kind}")))

    named = [(shape, name) for shape in shapes if (name := _name(shape, shapes)) is not None]
    off_centre = [(name, side, other) for shape, name in named for middle, (low, high) in ((shape.x, ("left", "right")), (shape.y, ("top", "bottom")))
                  if abs(middle - SIZE / 2) > CLEARLY for side, other in [(low, high) if middle < SIZE / 2 else (high, low)]]
    if off_centre:
        name, side, other = _any(off_centre, rng)
        questions.append(Choice("side", f"is the {name} in the", side, other, "half"))

    in_line = [(a, b) for a in named for b in named if a is not b and relation(a[0], b[0]) is not None]
    if in_line:
        (a, first), (b, second) = _any(in_line, rng)
        questions.append(_place(relation(a, b), f"is the {first}", f"the {second}", rng))
    return questions


def _place(right: str, before: str, other: str, rng: np.random.Generator) -> Choice:
    if right in ("above", "below"):
        return Choice("place", before, right, "below" if right == "above" else "above", other)
    side, opposite = ("left", "right") if right == "left of" else ("right", "left")
    to = _any(("", "to the "), rng)
    return Choice("place", before, to + side, to + opposite, f"of {other}")


def _name(shape: Shape, shapes: Sequence[Shape]) -> str | None:
    """How a shape is called so that no other is meant: by its kind, with its colour where it must be; None if that is not enough."""
    alike = [other for other in shapes if other.kind == shape.kind]
    if len(alike) == 1:
        return shape.kind
    return f"{shape.color} {shape.kind}" if [other.color for other in alike].count(shape.color) == 1 else None


def _another(right: str, present: Sequence[str], possible: Sequence[str], rng: np.random.Generator) -> str:
    nearby = sorted(set(present) - {right})
    return _any(nearby if nearby and rng.random() < 0.5 else [word for word in possible if word != right], rng)


def _a(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _any(items: Sequence, rng: np.random.Generator):
    return items[int(len(items) * rng.random())]


def vocabulary() -> list[str]:
    """Every text that a question may be made of."""
    words = [*SCENES.colors, *SCENES.shapes, *EASY_VQA.colors, *EASY_VQA.shapes]
    return [*words, "is the shape a or an ?", "do you see", "is there", "to the left or right of", "above below", "in top bottom half"]


# ---- what there is in the pictures ------------------------------------------------------------------------------------


def easy_vqa_shapes(questions: QuestionSet) -> list[Shape | None]:
    """The shape of each image of easy-VQA as its questions and answers tell; None where they do not tell colour and kind.

    "what color is the circle ?" with "red" tells both, "is there not a red shape ?" with "no" the colour.
    """
    known: list[dict[str, set[str]]] = [{"color": set(), "kind": set()} for _ in questions.images]
    for image, question, answer in zip(questions.image_index.tolist(), questions.questions, questions.answers):
        words = question.rstrip("?").split()
        denied = "not" in words or "no" in words
        for part, names in (("color", EASY_COLORS), ("kind", EASY_SHAPES)):
            if answer in names:
                known[image][part].add(answer)
            elif answer not in ("yes", "no") or (answer == "yes") != denied:
                known[image][part].update(set(words) & set(names))
    if any(len(names) > 1 for facts in known for names in facts.values()):
        raise ValueError("questions and answers contradict each other: an image has two colours or two shapes")
    return [Shape(facts["kind"].pop(), facts["color"].pop(), 0, 0, SIZE, SIZE, (0, 0, 0)) if all(facts.values()) else None
            for facts in known]


def random_scenes(n: int, rng: np.random.Generator, count: int | None = None) -> list[Scene]:
    """Scenes of all colours and shapes, each with each equally often, so that no colour is likelier for one shape than another.

    Args:
        count: how many shapes in each, 1 to 3; None: as `sample_scene` draws it.
    """
    return [sample_scene(rng, PAIRS, count=count) for _ in range(n)]


# ---- a set to test on -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class SpanSet:
    """Pictures, and questions that each point to one of them."""

    images: NDArray[np.uint8]        # (N, 64, 64, 3)
    image_index: NDArray[np.intp]    # (Q,)
    questions: tuple[SpanQuestion, ...]
    names: tuple[str, ...]           # Q of them: the data and the kind of the question, "scenes, color"

    def __len__(self) -> int:
        return len(self.questions)

    def spread(self, limit: int) -> "SpanSet":
        """At most `limit` questions, evenly spread over the set, with only the images they are about."""
        rows = np.linspace(0, len(self) - 1, min(limit, len(self))).astype(np.intp)
        images, image_index = np.unique(self.image_index[rows], return_inverse=True)
        return SpanSet(self.images[images], image_index, tuple(self.questions[row] for row in rows), tuple(self.names[row] for row in rows))


def balanced(choices: Sequence[tuple[int, Choice]], rng: np.random.Generator) -> list[tuple[int, SpanQuestion]]:
    """Of (picture, question) those that find a partner: the very same question about another picture, with the other answer."""
    groups: dict[tuple, dict[str, list[tuple[int, Choice]]]] = defaultdict(lambda: defaultdict(list))
    for image, choice in choices:
        groups[choice.before, frozenset((choice.right, choice.wrong)), choice.after][choice.right].append((image, choice))
    asked = []
    for by_answer in groups.values():
        if len(by_answer) == 2:
            for (image, choice), (other_image, other) in zip(*by_answer.values()):
                right_first = bool(rng.random() < 0.5)
                asked += [(image, choice.asked(right_first)), (other_image, other.asked(not right_first))]
    return asked


def make_span_set(easy: tuple[NDArray[np.uint8], Sequence[Shape | None]], scenes: Sequence[Scene], rng: np.random.Generator) -> SpanSet:
    """Balanced questions about images of easy-VQA (with their shapes) and about scenes."""
    images, shapes = easy
    asked, names = [], []
    for name, pictures, world, offset in (
        ("easy-VQA", [[shape] if shape else [] for shape in shapes], EASY_VQA, 0),
        ("scenes", [scene.shapes for scene in scenes], SCENES, len(images)),
    ):
        choices = [(offset + i, choice) for i, there in enumerate(pictures) if there for choice in choices_about(there, world, rng)]
        found = balanced(choices, rng)
        asked += found
        names += [f"{name}, {question.kind}" for _, question in found]
    drawn = np.concatenate([images, draw_scenes(scenes)])
    return SpanSet(drawn, np.array([image for image, _ in asked], np.intp), tuple(question for _, question in asked), tuple(names))
