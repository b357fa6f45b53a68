"""BERT beside PyTorch, as the model that fills gaps and as the one that judges texts: logits, loss, and the gradient of every weight."""

import numpy as np
import pytest

from tests import peer
from tests.peer import F, compare, torch
from tinymm.models import BERTClassifier, BERTClassifierConfig, BERTConfig, BERTModel

pytestmark = pytest.mark.peer

SIZES = {"vocabulary_size": 13, "d_model": 12, "n_heads": 3, "n_layers": 2, "d_ff": 10, "max_length": 9, "dropout": 0.0}
LENGTHS = (7, 4, 2, 5, 7)
NORMS = pytest.mark.parametrize("norm", ["pre", "post"])
POOLINGS = pytest.mark.parametrize("pooling", ["cls", "mean"])


def masked_model(w, ids, masked, config):
    """With the modules of torch.nn; the decoder's weight is the table of words."""
    x = peer.bert_encoder(w.part("encoder"), ids, config)[masked]                                    # (M, D)
    x = peer.layer_norm(w.part("norm"), F.gelu(peer.linear(w.part("dense"), x)))                     # (M, D)
    return F.linear(x, w["encoder.words.weight"], w["decoder_bias"])                                 # (M, V)


def model_with_gaps(rng, norm):
    ids = peer.padded_texts(rng, LENGTHS, 13)
    masked = (rng.random(ids.shape) < 0.4) & (ids != peer.PAD)
    return BERTModel(BERTConfig(**SIZES, norm=norm), rng), {"ids": ids, "masked": masked}


@NORMS
def test_the_masked_model(rng, norm):
    model, inputs = model_with_gaps(rng, norm)
    compare(model, lambda w, **tensors: masked_model(w, **tensors, config=model.config), inputs, rng)


@NORMS
def test_the_loss_of_the_masked_model(rng, norm):
    model, inputs = model_with_gaps(rng, norm)
    labels = rng.integers(13, size=inputs["masked"].sum())

    def loss(w, **tensors):
        return F.cross_entropy(masked_model(w.part("model"), **tensors, config=model.config), torch.tensor(labels))

    compare(peer.Loss(model, "cross_entropy", labels), loss, inputs, rng)


def classifier(w, ids, config):
    x = peer.bert_encoder(w.part("encoder"), ids, config)                                            # (R, T, D)
    pooled = x[:, 0] if config.pooling == "cls" else peer.mean_of_real(x, ids)                       # (R, D)
    return peer.linear(w.part("head"), pooled)[:, 0]                                                 # (R,)


def classifier_and_inputs(rng, **options):
    return BERTClassifier(BERTClassifierConfig(**SIZES, **options), rng), {"ids": peer.padded_texts(rng, LENGTHS, 13)}


@NORMS
@POOLINGS
def test_the_classifier(rng, pooling, norm):
    model, inputs = classifier_and_inputs(rng, pooling=pooling, norm=norm)
    compare(model, lambda w, ids: classifier(w, ids, model.config), inputs, rng)


@POOLINGS
def test_the_loss_of_the_classifier(rng, pooling):
    model, inputs = classifier_and_inputs(rng, pooling=pooling)
    labels = np.array([1, 0, 1, 1, 0])

    def loss(w, ids):
        return F.binary_cross_entropy_with_logits(classifier(w.part("model"), ids, model.config), torch.tensor(labels).double())

    compare(peer.Loss(model, "binary_cross_entropy", labels), loss, inputs, rng)
