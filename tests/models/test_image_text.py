"""The two heads on the image-text encoder, multimodal BERT and ImageQA: what sees what, and the user's questions."""

import numpy as np
import pytest
from PIL import Image

from tinymm import UserError
from tinymm.data.tokenizer import Tokenizer
from tinymm.models import ImageQA, ImageQAConfig, MultimodalBERT, MultimodalBERTConfig
from tinymm.models.bert import CLS
from tinymm.models.image_qa import may_answer

SIZES = {"image_size": 9, "channels": (4, 5), "strides": (1, 2), "d_model": 12, "n_heads": 3, "d_ff": 16, "n_layers": 2, "max_length": 12}
ANSWERS = ("red", "blue", "yes")
QUESTION = "is the circle red or blue ?"


def small(kind, dtype=np.float64, **changes):
    rng = np.random.default_rng(3)
    tokenizer = Tokenizer.build([QUESTION, "or a dark star"], extra=(CLS,))
    sizes = {"vocabulary_size": len(tokenizer)} | SIZES | changes
    model = ImageQA(ImageQAConfig(**sizes), rng) if kind == "image_qa" else MultimodalBERT(MultimodalBERTConfig(answers=ANSWERS, **sizes), rng)
    model.astype(dtype)
    for parameter in model.parameters():
        parameter.value += 0.2 * rng.normal(size=parameter.shape).astype(dtype)
    model.tokenizer = tokenizer
    return model


def asked(rng, model):
    """Three questions of unequal length about two images."""
    ids = rng.integers(len(model.tokenizer.special_tokens), model.config.vocabulary_size, size=(3, 6))
    ids[:, 0] = model.tokenizer.id(CLS)
    ids[1, 4:] = ids[2, 5:] = Tokenizer.pad_id
    return rng.uniform(-1, 1, (2, 9, 9, 3)), ids, np.array([1, 0, 1])


KINDS = pytest.mark.parametrize("kind", ["multimodal_bert", "image_qa"])


@KINDS
def test_an_image_is_encoded_once_and_seen_by_its_questions_alone(kind, rng):
    model = small(kind)
    images, ids, index = asked(rng, model)
    logits, _ = model.forward(images, ids, index)
    np.testing.assert_allclose(model.forward(images[index], ids)[0], logits, rtol=1e-10)
    other = images.copy()
    other[0] = -other[0]
    moved = np.abs(model.forward(other, ids, index)[0] - logits).reshape(3, -1).max(axis=1)
    assert ((moved > 1e-6) == (index == 0)).all()


@KINDS
def test_padding_changes_nothing(kind, rng):
    model = small(kind)
    images, ids, index = asked(rng, model)
    wide, narrow = model.forward(images, np.pad(ids, [(0, 0), (0, 4)]), index)[0], model.forward(images, ids, index)[0]
    real = may_answer(ids) if kind == "image_qa" else slice(None)
    np.testing.assert_allclose(wide[:, :6][real] if kind == "image_qa" else wide, narrow[real], rtol=1e-10)


@KINDS
def test_many_questions_in_parts_are_as_one_by_one(kind, rng):
    model = small(kind, np.float32)
    pictures = rng.integers(256, size=(2, 9, 9, 3), dtype=np.uint8)
    _, ids, index = asked(rng, model)
    np.testing.assert_allclose(model.encoder.read(pictures, ids, index, chunk=2), model.encoder.read(pictures, ids, index), rtol=1e-5, atol=1e-6)


@KINDS
def test_one_or_many_questions_about_paths_pictures_and_arrays(kind, rng, tmp_path):
    model = small(kind, np.float32)
    array = rng.integers(256, size=(20, 20, 3), dtype=np.uint8)
    picture, path = Image.fromarray(array), tmp_path / "picture.png"
    picture.save(path)
    other = "is the star dark or red ?"
    one = model.answer(path, QUESTION)
    assert isinstance(one, str) and one
    assert model.answer([array, picture, path], QUESTION) == [one] * 3
    assert model.answer(array, [QUESTION, other]) == [one, model.answer(picture, other)]
    assert model.answer([path, path], [QUESTION, other]) == model.answer(path, [QUESTION, other])
    if kind == "image_qa":
        assert one.replace("?", " ?").strip() in QUESTION
    else:
        assert one in ANSWERS and model.predict(path, QUESTION) == one


@KINDS
def test_questions_that_cannot_be_answered_are_one_sentence(kind):
    model, image = small(kind), np.zeros((9, 9, 3), np.uint8)
    for question, part in (("", "the question is empty"), ("is the zebra red ?", "never seen the word 'zebra'"), ("red " * 12, "at most 11; shorten it")):
        with pytest.raises(UserError, match=part):
            model.answer(image, question)
    with pytest.raises(ValueError, match="equally many"):
        model.answer([image] * 3, [QUESTION] * 2)
    model.tokenizer = None
    with pytest.raises(UserError, match="no tokenizer"):
        model.answer(image, QUESTION)


def test_answers_are_words_of_the_question():
    """Whatever the logits are: a span never holds <cls> or padding, and never ends before it begins."""
    model, rng = small("image_qa", np.float32), np.random.default_rng(0)
    questions = ["is the circle red or blue ?", "red or blue ?", "a dark star"]
    for _ in range(20):
        model.query.weight.value[...] = rng.normal(size=(12, 24))
        for question, answer in zip(questions, model.answer(rng.integers(256, size=(9, 9, 3), dtype=np.uint8), questions)):
            assert answer and answer in question.replace(" ?", "?")
