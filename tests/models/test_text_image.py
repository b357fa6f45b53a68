"""The text-image model as a whole: its gradient, what may see what, and the questions a user puts to it."""

import numpy as np
import pytest

from tinymm import UserError, functional, gradient_check_module
from tinymm.data.tokenizer import Tokenizer
from tinymm.models.text_image import FUSIONS, TextImageConfig, TextImageModel

TEXTS = ["what color is the shape ?", "is there a circle ?", "red", "blue", "yes", "no", "a red circle left of a blue square"]


def small(fusion="joint", norm="pre", dtype=np.float64, **changes):
    tokenizer = Tokenizer.build(TEXTS)
    sizes = {"vocabulary_size": len(tokenizer), "image_size": 8, "channels": (3, 5), "strides": (2, 2), "d_model": 6,
             "n_heads": 2, "n_layers": 2, "d_ff": 7, "max_length": 14}
    model = TextImageModel(TextImageConfig(fusion=fusion, norm=norm, **sizes | changes), np.random.default_rng(0)).astype(dtype)
    model.tokenizer = tokenizer
    return model


def batch(rng, model, rows=5, length=4, images=3):
    return (rng.uniform(-1, 1, (images, model.config.image_size, model.config.image_size, 3)),
            rng.integers(0, model.config.vocabulary_size, (rows, length)), np.array([2, 0, 1, 1, 2])[:rows])


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("norm", ["pre", pytest.param("post", marks=pytest.mark.slow)])
def test_gradient_of_the_whole_model(fusion, norm):
    rng = np.random.default_rng(1)
    model = small(fusion, norm, image_size=5, strides=(2, 1))
    for table in (model.words, model.positions, model.encoder.positions):
        table.weight.value *= 50     # from 0.02 to order 1: a layer norm bends sharply around tiny vectors
    images, ids, index = batch(rng, model, rows=4, length=3)
    report = gradient_check_module(model, {"images": images, "ids": ids, "image_index": index}, rng=rng, max_entries=2)
    assert report.ok, str(report)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_word_sees_its_image_and_no_later_word(fusion):
    rng = np.random.default_rng(2)
    model = small(fusion)
    images, ids, index = batch(rng, model)
    logits, _ = model.forward(images, ids, index)
    later = ids.copy()
    later[:, 2] = (later[:, 2] + 1) % model.config.vocabulary_size
    moved = np.abs(model.forward(images, later, index)[0] - logits).max(axis=(0, 2))
    assert (moved[:2] < 1e-12).all() and (moved[2:] > 1e-9).all()
    other = images.copy()
    other[1] = -other[1]
    moved = np.abs(model.forward(other, ids, index)[0] - logits).max(axis=(1, 2))
    assert ((moved > 1e-9) == (index == 1)).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_images_encoded_once_equal_images_repeated(fusion):
    rng = np.random.default_rng(3)
    model = small(fusion)
    images, ids, index = batch(rng, model)
    np.testing.assert_allclose(model.forward(images, ids, index)[0], model.forward(images[index], ids)[0], rtol=1e-10)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_padding_at_the_right_changes_no_logit_before_it(fusion):
    rng = np.random.default_rng(4)
    model = small(fusion)
    images, ids, index = batch(rng, model)
    padded = np.pad(ids, [(0, 0), (0, 3)])
    np.testing.assert_allclose(model.forward(images, padded, index)[0][:, :4], model.forward(images, ids, index)[0], rtol=1e-10)


def test_the_first_loss_is_about_ln_v():
    rng = np.random.default_rng(5)
    model = small(d_model=32, n_heads=4, d_ff=64)
    images, ids, index = batch(rng, model)
    logits, _ = model.forward(images, ids, index, training=True)
    loss, _ = functional.cross_entropy_forward(logits, rng.integers(0, model.config.vocabulary_size, ids.shape))
    assert abs(loss - np.log(model.config.vocabulary_size)) < 0.8


@pytest.mark.parametrize("fusion", FUSIONS)
def test_one_batch_can_be_learnt_by_heart(fusion):
    rng = np.random.default_rng(6)
    model = small(fusion, dtype=np.float32, d_model=16, d_ff=32)
    images, ids, index = batch(rng, model)
    images, labels = images.astype(np.float32), rng.integers(0, model.config.vocabulary_size, ids.shape)
    first, second = ([np.zeros_like(p.value) for p in model.parameters()] for _ in range(2))
    for step in range(1, 151):
        model.zero_grad()
        logits, cache = model.forward(images, ids, index, training=True)
        loss, loss_cache = functional.cross_entropy_forward(logits, labels)
        model.backward(functional.cross_entropy_backward(1.0, loss_cache), cache)
        for p, m, v in zip(model.parameters(), first, second):
            m += 0.1 * (p.grad - m)
            v += 0.01 * (p.grad ** 2 - v)
            p.value -= 0.01 * (m / (1 - 0.9 ** step)) / (np.sqrt(v / (1 - 0.99 ** step)) + 1e-8)
    assert loss < 0.02 and (logits.argmax(-1) == labels).all()


def test_answers_come_one_or_many():
    model = small(dtype=np.float32)
    image = np.random.default_rng(7).integers(0, 256, (8, 8, 3), np.uint8)
    single = model.answer(image, "what color is the shape?")
    assert isinstance(single, str)
    assert model.answer([image], ["what color is the shape?"]) == [single]
    assert model.answer(image, ["what color is the shape?", "is there a circle?"])[0] == single
    assert model.answer([image, 255 - image], "what color is the shape?")[0] == single
    assert isinstance(model.caption(image), str) and len(model.caption(np.stack([image, image, image]))) == 3
    assert isinstance(model.caption(image, beams=3), str)
    drawn = [model.caption(image, temperature=1.0, rng=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert drawn[0] == drawn[1]


def test_what_cannot_be_asked_is_said():
    model = small(dtype=np.float32)
    image = np.zeros((8, 8, 3), np.uint8)
    for question, sentence in [("", "empty"), ("   ", "empty"), ("where is the zebra?", "'where', 'zebra'"), ("a " * 40, "at most")]:
        with pytest.raises(UserError, match=sentence):
            model.answer(image, question)
    with pytest.raises(ValueError, match="equally many"):
        model.answer([image, image], ["is there a circle?"] * 3)
    with pytest.raises(ValueError, match="at least one image"):
        model.caption([])
    model.tokenizer = None
    with pytest.raises(UserError, match="tokenizer"):
        model.caption(image)


def test_the_configuration_is_checked():
    with pytest.raises(ValueError, match="fusion must be one of"):
        TextImageConfig(vocabulary_size=9, fusion="sum")
    model = small()
    with pytest.raises(ValueError, match="max_length"):
        model.forward(np.zeros((1, 8, 8, 3)), np.zeros((1, 15), int))
