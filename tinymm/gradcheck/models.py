"""An example for every model of the catalogue."""

from typing import Any

import numpy as np

from tinymm import models
from tinymm.gradcheck.examples import (
    SHARED, Generator, ModuleExample, ModuleExamples, dropout, module, n,
)


def text_image(rng: Generator, **options: Any) -> ModuleExample:
    config = models.TextImageConfig(vocabulary_size=11, image_size=9, channels=(4, 5), strides=(2, 2), d_model=6,
                                    n_heads=3, d_ff=8, max_length=5, **options)
    return module(models.TextImageModel(config, rng), rng, images=n(rng, 2, 9, 9, 3), ids=rng.integers(11, size=(3, 4)),
                  image_index=SHARED, max_entries=2, **(dropout(rng) if config.dropout else {}))


PADDED_IDS = np.array([[5, 3, 8, 6], [4, 9, 0, 0], [7, 3, 3, 0]])     # (R, T)  0 is <pad>
PADDED_SOURCES = np.array([[3, 9, 7, 0, 0], [2, 5, 10, 8, 1], [6, 6, 4, 2, 0]])     # (R, S)
HIDDEN_WORDS = np.array([[0, 1, 0, 1], [0, 1, 0, 0], [0, 0, 1, 0]], dtype=bool)


def bert(rng: Generator, **options: Any) -> ModuleExample:
    config = models.BERTConfig(vocabulary_size=11, d_model=6, n_heads=3, d_ff=8, max_length=5, **options)
    return module(models.BERTModel(config, rng), rng, ids=PADDED_IDS, masked=HIDDEN_WORDS, max_entries=8,
                  **(dropout(rng) if config.dropout else {}))


def bert_classifier(rng: Generator, **options: Any) -> ModuleExample:
    config = models.BERTClassifierConfig(vocabulary_size=11, d_model=6, n_heads=3, d_ff=8, max_length=5, **options)
    return module(models.BERTClassifier(config, rng), rng, ids=PADDED_IDS, max_entries=8, **(dropout(rng) if config.dropout else {}))


def encoder_decoder(rng: Generator, **options: Any) -> ModuleExample:
    config = models.EncoderDecoderConfig(vocabulary_size=11, d_model=6, n_heads=3, d_ff=8, source_length=6, target_length=5,
                                         encoder_layers=2, **options)
    return module(models.EncoderDecoderModel(config, rng), rng, source=PADDED_SOURCES, target=PADDED_IDS, max_entries=2,
                  **(dropout(rng) if config.dropout else {}))


def lstm(rng: Generator, **options: Any) -> ModuleExample:
    config = models.LSTMConfig(vocabulary_size=11, d_embedding=5, d_state=4, **options)
    model = models.LSTMModel(config, rng)
    model.words.weight.value *= 20      # inputs of order 1, else the gradients of the recurrent weights are tiny
    model.lstm.weight_h.value *= 2
    return module(model, rng, ids=PADDED_IDS, max_entries=16, **(dropout(rng) if config.dropout else {}))


MODELS: ModuleExamples = {
    "text_image": {
        "concatenate": lambda rng: text_image(rng, fusion="concatenate", norm="pre", n_layers=2, dropout=0.2),
        "cross, post-norm": lambda rng: text_image(rng, fusion="cross", norm="post", n_layers=1, dropout=0.2),
        "joint": lambda rng: text_image(rng, fusion="joint", norm="pre", n_layers=2),
    },
    "lstm": {
        "mean, dropout": lambda rng: lstm(rng, pooling="mean", dropout=0.3),
        "last": lambda rng: lstm(rng, pooling="last", dropout=0.0),
    },
    "bert": {
        "pre-norm, dropout": lambda rng: bert(rng, norm="pre", n_layers=2, dropout=0.2),
        "post-norm": lambda rng: bert(rng, norm="post", n_layers=2, dropout=0.0),
    },
    "bert_classifier": {
        "mean": lambda rng: bert_classifier(rng, pooling="mean", n_layers=2, dropout=0.2),
        "cls": lambda rng: bert_classifier(rng, pooling="cls", n_layers=1, dropout=0.0),
    },
    "encoder_decoder": {
        "pre-norm, shared embeddings, dropout": lambda rng: encoder_decoder(rng, norm="pre", decoder_layers=2, dropout=0.2),
        "post-norm, learned positions": lambda rng: encoder_decoder(
            rng, norm="post", positions="learned", shared_embeddings=False, decoder_layers=1, activation="gelu"),
    },
}
