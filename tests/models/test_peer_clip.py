"""CLIP beside PyTorch: both towers, their similarities and the contrastive loss, back to every weight, pixel and the temperature."""

import pytest

from tests import peer
from tests.peer import F, compare, torch
from tinymm import functional
from tinymm.layers import Module
from tinymm.models import CLIPConfig, CLIPModel

pytestmark = pytest.mark.peer

SIZES = {"vocabulary_size": 13, "image_size": 9, "channels": (4, 5, 5), "strides": (1, 2, 1), "d_model": 6, "d_hidden": 7, "max_length": 8}


def model_and_inputs(rng, lengths, **options):
    model = CLIPModel(CLIPConfig(**SIZES, **options), rng)
    return model, {"images": rng.normal(size=(4, 9, 9, 3)), "ids": peer.padded_texts(rng, lengths, 13)}


def similarities(w, images, ids, config, training):
    x = peer.image_encoder(w.part("encoder"), images, config.strides, training)                             # (B, N, D)
    a = F.normalize(peer.linear(w.part("image_head"), x.flatten(1)), dim=-1)                                # (B, D)
    x = peer.mean_of_real(F.embedding(ids, w["words.weight"]), ids)                                         # (R, D)
    b = F.normalize(peer.feed_forward(w, peer.layer_norm(w.part("norm"), x)), dim=-1)                       # (R, D)
    return w["log_scale"].exp() * F.cosine_similarity(a[:, None], b, dim=-1)                                # (B, R)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("directions", [0, 3])
def test_similarities_and_gradients(rng, directions, training):
    """Of four images and five texts."""
    model, inputs = model_and_inputs(rng, (7, 4, 1, 5, 3), directions=directions)
    compare(model, lambda w, **tensors: similarities(w, **tensors, config=model.config, training=training), inputs, rng, training=training)


class Contrast(Module):
    """The towers and their loss, as training puts them together."""

    def __init__(self, model):
        self.model = model

    def forward(self, images, ids):
        a, image = self.model.encode_images(images, training=True)
        b, text = self.model.encode_texts(ids)
        loss, cache = functional.info_nce_forward(a, b, self.model.log_scale.value)
        return loss, (image, text, cache)

    def backward(self, d_loss, caches):
        image, text, cache = caches
        d_a, d_b, d_log_scale = functional.info_nce_backward(d_loss, cache)
        self.model.log_scale.grad += d_log_scale
        self.model.encode_texts_backward(d_b, text)
        return self.model.encode_images_backward(d_a, image)


def test_the_contrastive_loss(rng):
    """Image i belongs to text i, and text i to image i."""
    model, inputs = model_and_inputs(rng, (7, 4, 1, 5))

    def loss(w, **tensors):
        scores, right = similarities(w.part("model"), **tensors, config=model.config, training=True), torch.arange(4)
        return (F.cross_entropy(scores, right) + F.cross_entropy(scores.T, right)) / 2

    compare(Contrast(model), loss, inputs, rng)
