"""Single facts about a scene, in any order, and the one sentence that sums them up: summarising with a right answer.

    small blue star above small orange heart ; large red circle left of small blue star
    a blue star right of a red circle and above an orange heart

The sentence is the caption of the scene (tinymm.data.scenes). The facts stand in random order, each as "left of" or "above".
Of three shapes in a line there is a fact for any two, and their order must be found; of a corner, the shape that both facts
are about comes first, which turns a fact round where it names that shape last. The caption tells no sizes.
"""

from itertools import combinations

import numpy as np

from tinymm.data.scenes import PAIRS, Scene, relation, sample_scene
from tinymm.data.text_pairs import TextPair, TextPairs, collect

LARGE = 20      # pixels: a shape whose longer side has more is called large


def facts_of(scene: Scene, rng: np.random.Generator) -> str:
    """How any two shapes in line stand to each other, "left of" or "above", in random order; or what a single shape is."""
    names = {shape: f"{'large' if max(shape.width, shape.height) > LARGE else 'small'} {shape.color} {shape.kind}"
             for shape in scene.shapes}
    if len(names) == 1:
        return names[scene.shapes[0]]
    facts = []
    for a, b in combinations(scene.shapes, 2):
        words = relation(a, b)
        if words in ("right of", "below"):
            words, a, b = relation(b, a), b, a
        if words:      # the outer two of a corner stand diagonally
            facts.append(f"{names[a]} {words} {names[b]}")
    return " ; ".join(facts[i] for i in rng.permutation(len(facts)))


def fact_pairs(count: int, rng: np.random.Generator, split: str = "train") -> TextPairs:
    """Facts and the caption, of scenes of a split without two shapes of the same name. No two splits share a caption."""

    def draw() -> tuple[str, TextPair]:
        scene = sample_scene(rng, PAIRS)
        while len({str(shape) for shape in scene.shapes}) < len(scene.shapes):
            scene = sample_scene(rng, PAIRS)
        kind = f"{len(scene.shapes)} shape{'s' * (len(scene.shapes) > 1)}"
        return scene.caption, TextPair(facts_of(scene, rng), scene.caption, kind)

    return collect(count, split, draw)
