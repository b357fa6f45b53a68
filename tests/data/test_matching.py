"""Statements about scenes: the true one is the caption, the false one is a caption of another scene."""

import numpy as np
import pytest

from tinymm.data.batches import IGNORE, BatchSettings, TrainingBatches
from tinymm.data.matching import false_caption, make_statements, state
from tinymm.data.scenes import HELD_OUT_PAIRS, PAIRS, SceneSet, Shape, compose_scenes, describe, make_scenes
from tinymm.data.tokenizer import Tokenizer


def words_that_differ(a, b):
    return [(x, y) for x, y in zip(a.split(), b.split(), strict=True) if x != y and {x, y} != {"a", "an"}]


def test_a_false_caption_is_wrong_about_one_word_or_about_who_stands_where(rng):
    kinds = {"one word": 0, "changed places": 0}
    for scene in compose_scenes(400, rng).scenes:
        caption = false_caption(scene.shapes, rng)
        assert caption != scene.caption
        wrong = words_that_differ(scene.caption, caption)
        if len(wrong) == 1:
            kinds["one word"] += 1
        else:
            kinds["changed places"] += 1
            assert sorted(caption.replace("an ", "a ").split()) == sorted(scene.caption.replace("an ", "a ").split())
    assert min(kinds.values()) > 60


def test_a_false_caption_of_training_has_no_pair_that_is_held_out(rng):
    said = " ".join(false_caption(scene.shapes, rng) for scene in compose_scenes(400, rng).scenes)
    assert not any(f"{color} {kind}" in said for color, kind in HELD_OUT_PAIRS)


def test_shapes_of_one_name_are_not_exchanged(rng):
    twins = [Shape("star", "red", left, 20, 10, 10, (225, 40, 40)) for left in (5, 45)]
    for _ in range(50):
        assert false_caption(twins, rng, PAIRS) != describe(twins)


def test_statements_come_in_pairs_and_the_words_do_not_tell(rng):
    scenes = compose_scenes(300, rng, "unseen")
    statements = make_statements(scenes, rng)
    assert statements.answers == ("yes", "no") * 300 and statements.images.shape == (300, 64, 64, 3)
    assert statements.image_index.tolist() == [i for i in range(300) for _ in range(2)]
    assert statements.questions[0] == f"{scenes.captions[0]} ?" != statements.questions[1]
    assert len(make_statements(compose_scenes(0, rng), rng)) == 0
    assert state(scenes.scenes[0].shapes, True, rng) == (f"{scenes.captions[0]} ?", "yes")


@pytest.fixture(scope="module")
def scenes():
    return compose_scenes(12, np.random.default_rng(5))


@pytest.fixture(scope="module")
def tokenizer(scenes):
    return Tokenizer.build([" ".join(f"{color} {kind}" for color, kind in PAIRS), *scenes.captions, *scenes.mirrored_captions, "an yes no ?"])


def test_a_batch_asks_about_each_scene_as_it_is_shown(scenes, tokenizer):
    batches = TrainingBatches(None, scenes, tokenizer, 3, BatchSettings(question_images=0, scenes=6, matching=True, word_dropout=0.0))
    answers = set()
    for step in range(6):
        batch = batches.batch(step)
        assert batch.parts == (("captions", 6), ("matching", 6)) and batch.image_index.tolist() == [*range(6), *range(6)]
        for caption, ids, labels in zip(batch.labels[:6], batch.ids[6:], batch.labels[6:]):
            true, said = tokenizer.decode(caption[caption != IGNORE]), tokenizer.decode(ids[:ids.tolist().index(tokenizer.answer_id)])
            answer = tokenizer.decode(labels[labels != IGNORE])
            assert answer == ("yes" if said == f"{true}?" else "no")
            answers.add(answer)
    assert answers == {"yes", "no"}
    again = batches.batch(5)
    np.testing.assert_array_equal(again.ids, batch.ids)


def test_matching_alone_and_impossible_settings(scenes, tokenizer):
    alone = BatchSettings(question_images=0, scenes=4, captions=False, matching=True)
    assert TrainingBatches(None, scenes, tokenizer, 3, alone).batch(0).parts == (("matching", 4),)
    with pytest.raises(ValueError, match="captions, matching or both"):
        TrainingBatches(None, scenes, tokenizer, 3, BatchSettings(question_images=0, scenes=4, captions=False))
    drawn = make_scenes(4, np.random.default_rng(0))
    assert isinstance(drawn, SceneSet)
    with pytest.raises(TypeError, match="SceneList"):
        TrainingBatches(None, drawn, tokenizer, 3, alone)
