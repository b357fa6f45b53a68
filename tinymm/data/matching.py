"""Statements about scenes that are true or false: does this text match this picture?

    a red circle left of a blue star ?     ->  yes      the scene's caption
    a red circle left of a green star ?    ->  no       one word is wrong,
    a blue star left of a red circle ?     ->  no       or two shapes have changed places

A false statement is as good a caption as a true one, only of another scene: the words alone don't tell.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tinymm.data.easy_vqa import QuestionSet
from tinymm.data.scenes import PAIRS, TRAINING_PAIRS, SceneList, Shape, describe


def state(shapes: Sequence[Shape], true: bool, rng: np.random.Generator, pairs: Sequence[tuple[str, str]] = TRAINING_PAIRS) -> tuple[str, str]:
    """A statement about a scene of these shapes, and "yes" or "no": whether it is true.

    Args:
        pairs: the pairs of colour and shape that a false statement may bring in.
    """
    return (f"{describe(shapes)} ?", "yes") if true else (f"{false_caption(shapes, rng, pairs)} ?", "no")


def false_caption(shapes: Sequence[Shape], rng: np.random.Generator, pairs: Sequence[tuple[str, str]] = TRAINING_PAIRS) -> str:
    """A caption that is wrong about one shape's colour or kind, or (a third of them, where there are several) exchanges two shapes."""
    true = describe(shapes)
    while True:
        changed = list(shapes)
        i = int(rng.integers(len(shapes)))
        if len(shapes) > 1 and rng.random() < 1 / 3:
            j = (i + int(rng.integers(1, len(shapes)))) % len(shapes)
            changed[i], changed[j] = _named(shapes[i], shapes[j]), _named(shapes[j], shapes[i])
        else:
            near = [pair for pair in pairs if (pair[0] == shapes[i].color) != (pair[1] == shapes[i].kind)]    # one of the two differs
            color, kind = near[int(rng.integers(len(near)))]
            changed[i] = replace(shapes[i], color=color, kind=kind)
        caption = describe(changed)
        if caption != true:      # two shapes of one name may change places
            return caption


def _named(shape: Shape, other: Shape) -> Shape:
    """The shape, where it is, with the name of another."""
    return replace(shape, color=other.color, kind=other.kind)


def make_statements(scenes: SceneList, rng: np.random.Generator) -> QuestionSet:
    """A true and a false statement about each scene."""
    asked, index = [], []
    for i, scene in enumerate(scenes.scenes):
        asked += [state(scene.shapes, true, rng, PAIRS) for true in (True, False)]
        index += [i, i]
    questions, answers = zip(*asked) if asked else ((), ())
    return QuestionSet(scenes.drawn().images, np.array(index, np.int64), questions, answers)
