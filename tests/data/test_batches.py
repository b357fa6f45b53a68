from dataclasses import replace

import numpy as np
import pytest

from tinymm.data import IGNORE, BatchSettings, QuestionSet, Tokenizer, TrainingBatches
from tinymm.data import compose_scenes, make_batch, make_scenes
from tinymm.data.batches import ground_and_box


@pytest.fixture(scope="module")
def questions():
    """Ten images, each with a dark box on an even ground, and two to six questions."""
    rng = np.random.default_rng(0)
    images = np.empty((10, 64, 64, 3), np.uint8)
    index, texts, answers = [], [], []
    for i in range(10):
        images[i] = rng.integers(200, 256, size=3)
        y, x = rng.integers(2, 40, size=2)
        images[i, y:y + 9, x:x + 14] = (i, 0, 0)       # the red channel tells which image it is
        for n in range(2 + i % 5):
            index.append(i)
            texts.append("what is number " + "one " * n + "?")
            answers.append(f"answer{i}")
    return QuestionSet(images, np.array(index), tuple(texts), tuple(answers))


@pytest.fixture(scope="module")
def scenes():
    return make_scenes(12, np.random.default_rng(1))


@pytest.fixture(scope="module")
def tokenizer(questions, scenes):
    return Tokenizer.build([*questions.questions, *questions.answers, *scenes.captions, *scenes.mirrored_captions])


SETTINGS = BatchSettings(question_images=4, questions_per_image=3, scenes=5, max_shift=6, word_dropout=0)


@pytest.fixture
def batches(questions, scenes, tokenizer):
    return TrainingBatches(questions, scenes, tokenizer, seed=3, settings=SETTINGS)


def assert_same(a, b):
    for name in ("images", "ids", "labels", "image_index"):
        assert np.array_equal(getattr(a, name), getattr(b, name)), name


def test_a_batch_is_a_function_of_seed_and_step(batches, questions, scenes, tokenizer):
    first = [batches.batch(step) for step in (5, 0, 5)]
    again = TrainingBatches(questions, scenes, tokenizer, seed=3, settings=SETTINGS)
    assert_same(first[0], first[2])
    assert_same(first[0], again.batch(5))
    other = TrainingBatches(questions, scenes, tokenizer, seed=4, settings=SETTINGS)
    assert not np.array_equal(first[0].images, first[1].images)
    assert not np.array_equal(first[0].images, other.batch(5).images)


def test_shapes_and_types(batches):
    batch = batches.batch(0)
    assert batch.images.shape == (9, 64, 64, 3) and batch.images.dtype == np.uint8
    assert batch.ids.shape == batch.labels.shape and batch.ids.shape[0] == len(batch.image_index)
    assert batch.ids.dtype == batch.labels.dtype == batch.image_index.dtype == np.int64
    assert (batch.ids != Tokenizer.pad_id).any(axis=0).all()          # no wider than the longest text


def test_each_image_once_with_its_questions(batches, questions):
    for step in range(6):
        batch = batches.batch(step)
        assert set(batch.image_index.tolist()) == set(range(9))
        shown = [int(image[..., 0].min()) for image in batch.images[:4]]
        assert len(set(shown)) == 4
        for b, i in enumerate(shown):
            assert (batch.image_index == b).sum() == min(3, (questions.image_index == i).sum())
        assert np.array_equal(batch.image_index[-5:], np.arange(4, 9))


def test_an_epoch_shows_every_image_once(questions, tokenizer):
    settings = BatchSettings(question_images=5, questions_per_image=1, scenes=0)
    batches = TrainingBatches(questions, None, tokenizer, 0, settings)
    orders = []
    for epoch in range(3):
        shown = [int(image[..., 0].min()) for step in (0, 1) for image in batches.batch(2 * epoch + step).images]
        assert sorted(shown) == list(range(10))
        orders.append(shown)
    assert orders[0] != orders[1]


def test_labels_are_the_next_tokens_after_the_prompt(batches, questions, tokenizer):
    asked = (tokenizer.decode(tokenizer.encode(question)) for question in questions.questions)
    known = set(zip(asked, questions.image_index.tolist(), questions.answers))
    batch = batches.batch(1)
    for ids, labels, b in zip(batch.ids.tolist(), batch.labels.tolist(), batch.image_index.tolist()):
        length = sum(i != tokenizer.pad_id for i in ids)
        prompt = ids.index(tokenizer.answer_id) if ids[0] == tokenizer.question_id else 0
        assert labels[:prompt] == [IGNORE] * prompt and set(labels[length:]) <= {IGNORE}
        assert labels[prompt:length] == [*ids[prompt + 1:length], tokenizer.end_id]
        if ids[0] == tokenizer.question_id:
            image = int(batch.images[b][..., 0].min())
            assert (tokenizer.decode(ids[:prompt]), image, tokenizer.decode(labels[prompt:length])) in known
        else:
            assert ids[0] == tokenizer.caption_id and b >= SETTINGS.question_images


def test_a_scene_has_the_caption_of_the_side_it_is_seen_from(batches, scenes, tokenizer):
    both = set()
    for step in range(4):
        batch = batches.batch(step)
        for row in range(-5, 0):
            image = batch.images[batch.image_index[row]]
            plain = [i for i in range(12) if np.array_equal(scenes.images[i], image)]
            mirrored = [i for i in range(12) if np.array_equal(scenes.images[i, :, ::-1], image)]
            caption = scenes.captions[plain[0]] if plain else scenes.mirrored_captions[mirrored[0]]
            assert tokenizer.decode(batch.ids[row]) == caption
            both.add(bool(plain))
    assert both == {True, False}


def test_shifting_moves_the_whole_shape_and_keeps_the_ground(questions, tokenizer):
    settings = BatchSettings(question_images=10, questions_per_image=1, scenes=0, max_shift=6)
    batches = TrainingBatches(questions, None, tokenizer, 0, settings)
    ground, box = ground_and_box(questions.images)
    moves = set()
    for step in range(20):
        for image in batches.batch(step).images:
            i = int(image[..., 0].min())
            inside = (image == (i, 0, 0)).all(axis=-1)
            assert inside.sum() == 9 * 14 and np.all(image[~inside] == ground[i])
            moves.add(int(np.flatnonzero(inside.any(axis=1))[0] - box[i, 0]))
    assert min(moves) == -6 and max(moves) == 6


def test_without_augmentation_the_images_are_the_originals(questions, tokenizer):
    settings = BatchSettings(question_images=10, questions_per_image=1, scenes=0, max_shift=0, mirror=False)
    for image in TrainingBatches(questions, None, tokenizer, 0, settings).batch(0).images:
        assert np.array_equal(image, questions.images[image[..., 0].min()])


def test_word_dropout_hides_words_of_captions_and_nothing_else(questions, scenes, tokenizer):
    settings = replace(SETTINGS, word_dropout=0.4)
    plain, gaps = (TrainingBatches(questions, scenes, tokenizer, 3, s) for s in (SETTINGS, settings))
    hidden, words = 0, 0
    for step in range(30):
        a, b = plain.batch(step), gaps.batch(step)
        assert np.array_equal(a.images, b.images) and np.array_equal(a.labels, b.labels)
        differs = a.ids != b.ids
        assert np.all(b.ids[differs] == Tokenizer.unk_id) and np.all(a.ids[differs] > Tokenizer.end_id)
        assert not differs[:-5].any()                                   # the questions are whole
        hidden, words = hidden + differs.sum(), words + (a.ids[-5:] > Tokenizer.end_id).sum()
    assert abs(hidden / words - 0.4) < 0.05


@pytest.mark.parametrize(("change", "message"), [
    ({"word_dropout": 1.5}, "word_dropout must be from 0 to 1, got 1.5"),
    ({"word_dropout": -0.1}, "word_dropout must be from 0 to 1"),
    ({"open_question_weight": 0.0}, "open_question_weight must be above 0, got 0.0"),
])
def test_settings_out_of_range(questions, scenes, tokenizer, change, message):
    with pytest.raises(ValueError, match=message):
        TrainingBatches(questions, scenes, tokenizer, 0, replace(SETTINGS, **change))


def test_one_task_alone(questions, scenes, tokenizer):
    only = TrainingBatches(None, scenes, tokenizer, 0, BatchSettings(question_images=0, scenes=4)).batch(0)
    assert only.images.shape[0] == 4 and np.all(only.ids[:, 0] == tokenizer.caption_id)
    only = TrainingBatches(questions, None, tokenizer, 0, BatchSettings(question_images=4, scenes=0)).batch(0)
    assert only.images.shape[0] == 4 and np.all(only.ids[:, 0] == tokenizer.question_id)


def test_too_small_a_set(questions, scenes, tokenizer):
    with pytest.raises(ValueError, match="a batch of 11 question images needs at least as many, got 10"):
        TrainingBatches(questions, scenes, tokenizer, 0, BatchSettings(question_images=11, scenes=1))
    with pytest.raises(ValueError, match="a batch of 32 scenes needs at least as many, got 0"):
        TrainingBatches(questions, None, tokenizer, 0, BatchSettings(question_images=1))
    with pytest.raises(ValueError, match="a batch needs at least one image"):
        TrainingBatches(questions, scenes, tokenizer, 0, BatchSettings(question_images=0, scenes=0))


def test_scenes_may_be_drawn_when_they_are_needed(tokenizer):
    listed = compose_scenes(8, np.random.default_rng(2))
    tokens = Tokenizer.build([*listed.captions, *listed.mirrored_captions])
    settings = BatchSettings(question_images=0, scenes=4)
    for step in range(3):
        a, b = (TrainingBatches(None, scenes, tokens, 0, settings).batch(step) for scenes in (listed, listed.drawn()))
        for name in ("ids", "labels", "image_index"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
        assert np.abs(a.images.astype(int) - b.images).mean() < 1    # drawn in a mirror, or turned after drawing


def test_open_questions_are_drawn_more_often(tokenizer):
    images = np.zeros((1, 8, 8, 3), np.uint8)
    asked, answers = ("what?", "is it?", "is it not?", "is it it?"), ("red", "yes", "no", "yes")
    questions = QuestionSet(images, np.zeros(4, np.int64), asked, answers)
    tokens = Tokenizer.build([*questions.questions, "red", "yes", "no"])
    shares = []
    for weight in (1.0, 9.0):
        settings = BatchSettings(question_images=1, questions_per_image=1, scenes=0, open_question_weight=weight)
        batches = TrainingBatches(questions, None, tokens, 0, settings)
        shares.append(np.mean([tokens.encode("red")[0] in batches.batch(step).labels for step in range(400)]))
    assert abs(shares[0] - 1 / 4) < 0.08 and abs(shares[1] - 9 / 12) < 0.08


def test_make_batch():
    images = np.zeros((2, 4, 4, 3), np.uint8)
    batch = make_batch(images, [([2, 9, 3], [7, 5]), ([4], [8, 8, 8, 8, 5])], [1, 0])
    assert batch.ids.tolist() == [[2, 9, 3, 7, 0], [4, 8, 8, 8, 8]]
    assert batch.labels.tolist() == [[IGNORE, IGNORE, 7, 5, IGNORE], [8, 8, 8, 8, 5]]
    assert batch.image_index.tolist() == [1, 0]


@pytest.mark.parametrize(("texts", "index", "message"), [
    ([([4], [5])], [0, 1], "got 1 texts, 2 indices"), ([([], [5])], [0], "a prompt and a continuation"),
    ([([4], [])], [0], "a prompt and a continuation"), ([([4], [5])], [2], r"image_index must be in 0..1, got 2..2"),
])
def test_make_batch_refuses(texts, index, message):
    with pytest.raises(ValueError, match=message):
        make_batch(np.zeros((2, 4, 4, 3), np.uint8), texts, index)


def test_ground_and_box():
    images = np.full((2, 8, 10, 3), 7, np.uint8)
    images[0, 2:5, 3:9] = 1
    ground, box = ground_and_box(images)
    assert ground.tolist() == [[7, 7, 7]] * 2 and box.tolist() == [[2, 5, 3, 9], [0, 0, 0, 0]]
