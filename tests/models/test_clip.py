"""CLIP: the two towers, and what they are for."""

import numpy as np
import pytest

from tinymm import UserError
from tinymm.data import Tokenizer
from tinymm.functional import info_nce_backward, info_nce_forward
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


@pytest.mark.peer
def test_both_towers_and_the_loss_as_in_torch():
    """float64: the output and every gradient, of parameters and pixels."""
    torch = pytest.importorskip("torch")
    F = torch.nn.functional
    rng = np.random.default_rng(0)
    config = CLIPConfig(vocabulary_size=11, image_size=9, channels=(4, 5), strides=(1, 2), directions=3, d_model=6, d_hidden=7)
    model = CLIPModel(config, rng).astype(np.float64)
    for parameter in model.parameters():
        parameter.value = parameter.value + 0.2 * rng.normal(size=parameter.shape)
    images, ids = rng.normal(size=(3, 9, 9, 3)), np.array([[6, 7, 0], [8, 9, 10], [6, 0, 0]])
    p = {name: torch.tensor(parameter.value, requires_grad=True) for name, parameter in model.named_parameters()}
    x_in = torch.tensor(images, requires_grad=True)

    def conv(x, name, stride=1, padding=1):
        return F.conv2d(x, p[f"{name}.weight"].permute(3, 2, 0, 1), stride=stride, padding=padding)

    def norm(x, name):
        return F.batch_norm(x, None, None, p[f"{name}.gain"], p[f"{name}.bias"], training=True, eps=1e-5)

    def block(x, name, stride=1):
        return F.relu(norm(conv(x, f"{name}.conv", stride), f"{name}.norm"))

    x = x_in.permute(0, 3, 1, 2)
    edges = F.relu(F.conv2d(x, torch.tensor(model.encoder.slopes.filters).permute(3, 2, 0, 1), padding=1))
    x = block(torch.cat([x, edges], 1), "encoder.blocks.0")
    out = norm(conv(block(x, "encoder.blocks.1.first", 2), "encoder.blocks.1.conv"), "encoder.blocks.1.norm")
    x = F.relu(out + norm(conv(x, "encoder.blocks.1.shortcut", 2, 0), "encoder.blocks.1.shortcut_norm"))
    x = x.permute(0, 2, 3, 1).flatten(1, 2) @ p["encoder.project.weight"] + p["encoder.project.bias"] + p["encoder.positions.weight"]
    x = F.layer_norm(x, (6,), p["encoder.norm.gain"], p["encoder.norm.bias"])
    a = F.normalize(x.flatten(1) @ p["image_head.weight"] + p["image_head.bias"], dim=-1)
    real = torch.tensor(ids != 0, dtype=torch.float64)
    t = (p["words.weight"][torch.tensor(ids)] * (real / real.sum(1, keepdim=True))[..., None]).sum(1)
    t = F.layer_norm(t, (6,), p["norm.gain"], p["norm.bias"])
    t = F.gelu(t @ p["wide.weight"] + p["wide.bias"]) @ p["narrow.weight"] + p["narrow.bias"]
    b = F.normalize(t, dim=-1)
    logits = p["log_scale"].exp() * a @ b.T
    expected = (F.cross_entropy(logits, torch.arange(3)) + F.cross_entropy(logits.T, torch.arange(3))) / 2
    expected.backward()

    our_a, image = model.encode_images(images, training=True)
    our_b, text = model.encode_texts(ids)
    loss, cache = info_nce_forward(our_a, our_b, model.log_scale.value)
    d_a, d_b, d_s = info_nce_backward(1.0, cache)
    model.log_scale.grad += d_s
    model.encode_texts_backward(d_b, text)
    d_images = model.encode_images_backward(d_a, image)
    np.testing.assert_allclose(loss, expected.item(), rtol=1e-10)
    np.testing.assert_allclose(d_images, x_in.grad.numpy(), rtol=1e-9, atol=1e-13)
    for name, parameter in model.named_parameters():
        theirs = p[name].grad.numpy()
        assert np.abs(parameter.grad - theirs).max() <= 1e-10 * np.abs(theirs).max() + 1e-14, name
