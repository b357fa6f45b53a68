import itertools
import re

import numpy as np
import pytest

from tinymm.data import COLORS, HELD_OUT_PAIRS, PAIRS, SHAPES, TRAINING_PAIRS
from tinymm.data import Scene, Shape, draw_scene, make_scenes, sample_scene
from tinymm.data.scenes import describe, relation

GROUND = ((240, 240, 240),) * 4


def shape(kind="circle", color="red", x=32, y=32, size=16):
    return Shape(kind, color, x - size // 2, y - size // 2, size, size, COLORS[color])


def pairs_of(caption):
    return re.findall(r"an? (\w+) (\w+)", caption)


def grammar(caption):
    """The caption with each shape replaced by a number."""
    numbers = itertools.count()
    return re.sub(r"an? \w+ \w+", lambda _: str(next(numbers)), caption)


# ---- captions

def test_captions_of_hand_made_scenes():
    circle, star, heart = shape(x=12, y=12), shape("star", "blue", x=50, y=14), shape("heart", "orange", x=14, y=50)
    assert describe([circle]) == "a red circle"
    assert describe([star, circle]) == "a red circle left of a blue star"
    assert describe([heart, circle]) == "a red circle above an orange heart"
    assert describe([heart, star, circle]) == "a red circle left of a blue star and above an orange heart"
    corner = shape("cross", "green", x=50, y=50)
    assert describe([star, corner, heart]) == "a green cross right of an orange heart and below a blue star"
    middle = shape("triangle", "black", x=31, y=16)
    assert describe([star, middle, circle]) == "a red circle left of a black triangle left of a blue star"


def test_a_caption_does_not_depend_on_the_order_of_the_shapes():
    rng = np.random.default_rng(1)
    for _ in range(50):
        scene = sample_scene(rng, count=3)
        assert {describe(order) for order in itertools.permutations(scene.shapes)} == {scene.caption}


@pytest.mark.parametrize("places", [
    [(20, 20), (44, 44)], [(20, 20), (44, 20), (20, 29)], [(10, 10), (30, 30), (50, 50)],
])
def test_scenes_that_cannot_be_described(places):
    with pytest.raises(ValueError, match="row, a column or a corner"):
        describe([shape(x=x, y=y) for x, y in places])


def test_a_caption_needs_one_to_three_shapes():
    for count in (0, 4):
        with pytest.raises(ValueError, match=f"one to three shapes, got {count}"):
            describe([shape()] * count)


def test_relations_are_mirror_images_of_each_other():
    opposite = {"left of": "right of", "right of": "left of", "above": "below", "below": "above", None: None}
    rng = np.random.default_rng(2)
    for x, y in rng.integers(-20, 21, size=(200, 2)).tolist():
        if x == y == 0:
            continue
        a, b = shape(), shape(x=32 + x, y=32 + y)
        assert relation(b, a) == opposite[relation(a, b)]


# ---- sampling

def test_shapes_are_well_apart_and_clearly_placed():
    rng = np.random.default_rng(3)
    for _ in range(400):
        scene = sample_scene(rng)
        for s in scene.shapes:
            assert 1 <= s.left and s.left + s.width <= 63 and 1 <= s.top and s.top + s.height <= 63
        for a, b in itertools.combinations(scene.shapes, 2):
            gap_x = max(a.left, b.left) - min(a.left + a.width, b.left + b.width)
            gap_y = max(a.top, b.top) - min(a.top + a.height, b.top + b.height)
            assert max(gap_x, gap_y) >= 3
        # no borderline: a stricter and a laxer reading of "in line" give the same caption
        assert describe(scene.shapes, slack=0.4) == describe(scene.shapes, slack=0.6) == scene.caption


def test_every_form_of_the_grammar_occurs():
    rng = np.random.default_rng(4)
    forms = {grammar(sample_scene(rng).caption) for _ in range(400)}
    corners = {f"0 {h} of 1 and {v} 2" for h in ("left", "right") for v in ("above", "below")}
    assert forms == {"0", "0 left of 1", "0 above 1", "0 left of 1 left of 2", "0 above 1 above 2"} | corners


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_count_can_be_chosen(count):
    scene = sample_scene(np.random.default_rng(5), count=count, must_have=("red", "star"))
    assert len(scene.shapes) == count and ("red", "star") in pairs_of(scene.caption)


def test_a_wrong_count():
    with pytest.raises(ValueError, match="count must be 1, 2 or 3, got 4"):
        sample_scene(np.random.default_rng(0), count=4)


# ---- the split

def test_held_out_pairs_are_spread():
    assert len(PAIRS) == len(COLORS) * len(SHAPES) == 48
    assert len(set(HELD_OUT_PAIRS)) == 8 and len(TRAINING_PAIRS) == 40
    assert sorted(color for color, _ in HELD_OUT_PAIRS) == sorted(COLORS)       # each colour once
    assert {kind for _, kind in HELD_OUT_PAIRS} == set(SHAPES)                  # each shape once or twice
    for kind in SHAPES:
        assert sum(held == kind for _, held in HELD_OUT_PAIRS) <= 2


@pytest.mark.parametrize("split", ["train", "seen"])
def test_held_out_pairs_never_occur_in(split):
    scenes = make_scenes(600, np.random.default_rng(6), split)
    used = {pair for caption in scenes.captions for pair in pairs_of(caption)}
    assert used == set(TRAINING_PAIRS)
    assert {pair for caption in scenes.mirrored_captions for pair in pairs_of(caption)} == used


def test_every_unseen_caption_has_a_held_out_pair_and_each_occurs():
    scenes = make_scenes(200, np.random.default_rng(7), "unseen")
    held = [set(pairs_of(caption)) & set(HELD_OUT_PAIRS) for caption in scenes.captions]
    assert all(held) and set().union(*held) == set(HELD_OUT_PAIRS)


def test_make_scenes_is_a_function_of_the_generator():
    a, b, c = (make_scenes(20, np.random.default_rng(seed)) for seed in (8, 8, 9))
    assert np.array_equal(a.images, b.images) and a.captions == b.captions
    assert not np.array_equal(a.images, c.images)
    assert len(make_scenes(0, np.random.default_rng(0))) == 0


def test_make_scenes_refuses():
    with pytest.raises(ValueError, match="split must be one of train, seen, unseen, got 'test'"):
        make_scenes(1, np.random.default_rng(0), "test")
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        make_scenes(-1, np.random.default_rng(0))


# ---- the picture

@pytest.mark.parametrize("kind", SHAPES)
def test_a_shape_fills_its_place_with_its_colour_and_nothing_else(kind):
    a = shape(kind, "blue", x=20, y=40, size=20)
    pixels = np.asarray(draw_scene(Scene((a,), GROUND))).astype(int)
    drawn = np.abs(pixels - 240).sum(axis=-1) > 0
    rows, columns = np.flatnonzero(drawn.any(axis=1)), np.flatnonzero(drawn.any(axis=0))
    assert 29 <= rows[0] and rows[-1] <= 51 and 9 <= columns[0] and columns[-1] <= 31
    assert rows[-1] - rows[0] >= 17 and columns[-1] - columns[0] >= 17
    assert tuple(pixels[40, 20]) == COLORS["blue"]
    assert drawn.sum() > 0.3 * 400
    solid = (pixels == COLORS["blue"]).all(axis=-1)
    if kind not in ("rectangle", "cross"):
        assert (drawn & ~solid).any()                                           # the edge is smooth


def test_two_shapes_of_one_scene_are_where_the_caption_says():
    rng = np.random.default_rng(10)
    for _ in range(30):
        scene = sample_scene(rng, count=2)
        pixels = np.asarray(draw_scene(scene)).astype(int)
        first, second = scene.shapes if scene.caption.startswith(str(scene.shapes[0])) else scene.shapes[::-1]
        for s in (first, second):
            assert tuple(pixels[int(s.y), int(s.x)]) == s.rgb
        assert first.x < second.x if "left of" in scene.caption else first.y < second.y


def test_the_mirrored_scene_is_the_mirrored_picture():
    rng = np.random.default_rng(11)
    for _ in range(30):
        scene = sample_scene(rng)
        pixels, mirrored = (np.asarray(draw_scene(s)).astype(int) for s in (scene, scene.mirrored()))
        assert np.abs(pixels[:, ::-1] - mirrored).mean() < 2                    # but for the rounding at the edges
        assert scene.mirrored().mirrored().caption == scene.caption
        assert sorted(pairs_of(scene.mirrored().caption)) == sorted(pairs_of(scene.caption))


def test_the_ground_runs_between_its_corners():
    corners = ((0, 0, 0), (200, 0, 0), (0, 200, 0), (200, 200, 0))
    pixels = np.asarray(draw_scene(Scene((), corners))).astype(int)
    assert pixels.shape == (64, 64, 3)
    assert np.all(np.diff(pixels[:, :, 0], axis=1) >= 0) and np.all(np.diff(pixels[:, :, 1], axis=0) >= 0)
    assert pixels[0, 0].max() < 8 and pixels[-1, -1].min() < 8 < 190 < pixels[-1, -1, 0]
