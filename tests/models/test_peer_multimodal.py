"""The two models that put BERT on top of a CNN beside PyTorch: from pixels and words to answers, and back to every weight and pixel."""

import numpy as np
import pytest

from tests import peer
from tests.peer import F, compare, torch
from tinymm.models import ImageQA, ImageQAConfig, MultimodalBERT, MultimodalBERTConfig

pytestmark = pytest.mark.peer

# One residual block changes the size, the last does not; 7 words look at 9 image tokens.
SIZES = {"vocabulary_size": 13, "d_model": 12, "n_heads": 3, "n_layers": 2, "d_ff": 10, "max_length": 8, "image_size": 11,
         "channels": (4, 5, 5), "strides": (2, 2, 1)}
SHARED = np.array([1, 0, 3, 1, 2])      # five questions about four images
SPANS = np.array([[2, 4], [3, 3], [1, 1], [1, 4], [5, 6]])
ANSWERS = tuple("abcdefgh")
NORMS = pytest.mark.parametrize("norm", ["pre", "post"])
MODES = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def images_and_questions(rng):
    return {"images": rng.normal(size=(4, 11, 11, 3)), "ids": peer.padded_texts(rng, (7, 4, 2, 5, 7), 13), "image_index": SHARED}


def image_text_encoder(w, images, ids, image_index, config, training):
    memory = peer.image_encoder(w.part("image"), images, config.strides, training)                    # (B, N, D)
    return peer.bert_encoder(w.part("text"), ids, config, memory, image_index)                        # (R, T, D)


def classifier(w, config, **inputs):
    x = image_text_encoder(w.part("encoder"), **inputs, config=config)                                # (R, T, D)
    return peer.linear(w.part("head"), x[:, 0])                                                       # (R, A)


def pointer(w, ids, config, **inputs):
    x = image_text_encoder(w.part("encoder"), ids=ids, **inputs, config=config)                       # (R, T, D)
    q = peer.linear(w.part("query"), x[:, 0]).unflatten(-1, (2, -1))                                  # (R, 2, D)
    return torch.einsum("rtd,rkd->rtk", x + F.embedding(ids, w["keys.weight"]), q) / config.d_model ** 0.5


def words_of(ids):
    """All places of a question but <cls>, the first, and padding: only there can an answer begin or end."""
    return (ids != peer.PAD) & (np.arange(ids.shape[1]) > 0)


@MODES
@NORMS
def test_multimodal_bert(rng, norm, training):
    model = MultimodalBERT(MultimodalBERTConfig(**SIZES, norm=norm, answers=ANSWERS), rng)
    compare(model, lambda w, **tensors: classifier(w, **tensors, config=model.config, training=training), images_and_questions(rng), rng,
            training=training)


def test_the_loss_of_multimodal_bert(rng):
    model = MultimodalBERT(MultimodalBERTConfig(**SIZES, answers=ANSWERS), rng)
    labels = rng.integers(len(ANSWERS), size=len(SHARED))

    def loss(w, **tensors):
        return F.cross_entropy(classifier(w.part("model"), **tensors, config=model.config, training=True), torch.tensor(labels))

    compare(peer.Loss(model, "cross_entropy", labels), loss, images_and_questions(rng), rng, training=True)


@MODES
@NORMS
def test_image_qa(rng, norm, training):
    model, inputs = ImageQA(ImageQAConfig(**SIZES, norm=norm), rng), images_and_questions(rng)
    compare(model, lambda w, **tensors: pointer(w, **tensors, config=model.config, training=training), inputs, rng,
            training=training, counted=words_of(inputs["ids"])[..., None])


def test_the_loss_of_image_qa_leaves_places_out(rng):
    """Elsewhere than at the words of its question an answer has the probability 0: a logit of minus infinity."""
    model, inputs = ImageQA(ImageQAConfig(**SIZES), rng), images_and_questions(rng)
    allowed = words_of(inputs["ids"])

    def loss(w, **tensors):
        logits = pointer(w.part("model"), **tensors, config=model.config, training=True)
        places = logits.masked_fill(torch.tensor(~allowed)[..., None], -torch.inf)                    # (R, T, 2)
        return F.cross_entropy(places, torch.tensor(SPANS))    # over the T places; the mean of first and last, of all questions

    compare(peer.Loss(model, "span_cross_entropy", SPANS, allowed), loss, inputs, rng, training=True)
