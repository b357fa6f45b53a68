"""CLIP: the two towers, and what they are for."""

import numpy as np
import pytest

from tinymm import UserError
from tinymm.data import Tokenizer
from tinymm.layers.convolution import slope_filters
from tinymm.models import CLIPConfig, CLIPModel


@pytest.fixture
def model(rng):
    tokenizer = Tokenizer.build(["red heart", "blue car", "a red car"])
    config = CLIPConfig(vocabulary_size=len(tokenizer), image_size=16, channels=(4, 6), strides=(2, 2), d_model=8, d_hidden=10)
    made = CLIPModel(config, rng)
    made.tokenizer = tokenizer
    return made


def test_vectors_have_length_one(model, rng):
    images = [rng.integers(256, size=(20, 30, 3), dtype=np.uint8) for _ in range(3)]
    a, b = model.embed_image(images), model.embed_text(["red heart", "blue"])
    assert a.shape == (3, 8) and b.shape == (2, 8)
    np.testing.assert_allclose(np.linalg.norm(np.concatenate([a, b]), axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(model.embed_image(images[0]), a[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.embed_text("red heart"), b[0], rtol=1e-5)


def test_padding_and_order_of_words_do_not_matter(model):
    a, b = model.encode_texts(np.array([[6, 7]]))[0], model.encode_texts(np.array([[7, 6, 0, 0]]))[0]
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)


def test_white_around_a_drawing_does_not_matter(model):
    drawing = np.full((60, 60, 3), 255, np.uint8)
    drawing[20:50, 20:50] = (200, 30, 30)
    wide = np.pad(drawing, [(20, 20), (20, 20), (0, 0)], constant_values=255)
    assert model.embed_image(drawing) @ model.embed_image(wide) > 0.99 > model.embed_image(drawing) @ model.embed_image(255 - drawing)


def test_bad_texts_are_one_sentence(model):
    with pytest.raises(UserError, match="a text is empty"):
        model.embed_text("  ")
    with pytest.raises(UserError, match="knows none of the words of 'green tree'"):
        model.embed_text("green tree")
    model.tokenizer = None
    with pytest.raises(UserError, match="no tokenizer"):
        model.embed_text("red")


def test_slope_filters_see_their_direction_and_nothing_in_an_even_area():
    filters = slope_filters(4)                                       # (3, 3, 3, 8)
    np.testing.assert_allclose(filters.sum(axis=(0, 1)), 0, atol=1e-6)
    ramp = np.broadcast_to(np.arange(3.0)[None, :, None], (3, 3, 3))        # brighter to the right, by 1 a pixel, in three colours
    response = (filters * ramp[..., None]).sum(axis=(0, 1, 2))       # (8,)
    np.testing.assert_allclose(response[:4], 3 * np.cos(np.pi * np.arange(4) / 4), atol=1e-5)
    np.testing.assert_allclose(response[4:], -response[:4], atol=1e-6)


def test_the_temperature_is_clipped(model):
    model.log_scale.value[...] = 9
    model.clip_scale()
    np.testing.assert_allclose(np.exp(model.log_scale.value), 100, rtol=1e-5)
    model.log_scale.value[...] = 1
    model.clip_scale()
    assert model.log_scale.value == 1
