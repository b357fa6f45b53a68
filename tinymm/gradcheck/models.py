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


def clip(rng: Generator, **options: Any) -> ModuleExample:
    config = models.CLIPConfig(vocabulary_size=11, image_size=8, channels=(4, 5), strides=(1, 2), directions=3, d_model=6, d_hidden=7, **options)
    model = models.CLIPModel(config, rng)
    model.words.weight.value *= 20
    return module(model, rng, images=n(rng, 2, 8, 8, 3), ids=PADDED_IDS, training=True, max_entries=8,
                  **({"rng": rng.spawn(1)[0]} if config.dropout else {}))


def gpt(rng: Generator, **options: Any) -> ModuleExample:
    config = models.GPTConfig(vocabulary_size=11, d_model=6, n_heads=3, d_ff=8, max_length=5, n_layers=2, **options)
    return module(models.GPTModel(config, rng), rng, ids=PADDED_IDS, max_entries=4, **(dropout(rng) if config.dropout else {}))


QUESTIONS_ABOUT = {"vocabulary_size": 11, "image_size": 9, "channels": (4, 5), "strides": (1, 2), "d_model": 6, "n_heads": 3, "d_ff": 8, "max_length": 5}


def image_text(model: Any, config: Any, rng: Generator) -> ModuleExample:
    return module(model(config, rng), rng, images=n(rng, 2, 9, 9, 3), ids=PADDED_IDS, image_index=SHARED, max_entries=2,
                  **(dropout(rng) if config.dropout else {}))


def multimodal_bert(rng: Generator, **options: Any) -> ModuleExample:
    config = models.MultimodalBERTConfig(answers=("no", "red", "two", "yes"), **QUESTIONS_ABOUT, **options)
    return image_text(models.MultimodalBERT, config, rng)


def image_qa(rng: Generator, **options: Any) -> ModuleExample:
    return image_text(models.ImageQA, models.ImageQAConfig(**QUESTIONS_ABOUT, **options), rng)


MODELS: ModuleExamples = {
    "text_image": {
        "concatenate": lambda rng: text_image(rng, fusion="concatenate", norm="pre", n_layers=2, dropout=0.2),
        "cross, post-norm": lambda rng: text_image(rng, fusion="cross", norm="post", n_layers=1, dropout=0.2),
        "joint": lambda rng: text_image(rng, fusion="joint", norm="pre", n_layers=2),
        "residual": lambda rng: text_image(rng, fusion="joint", norm="pre", n_layers=1, residual=True, directions=2),
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
    "multimodal_bert": {
        "pre-norm, dropout": lambda rng: multimodal_bert(rng, norm="pre", n_layers=2, dropout=0.2),
        "post-norm": lambda rng: multimodal_bert(rng, norm="post", n_layers=1, dropout=0.0),
    },
    "image_qa": {"two layers": lambda rng: image_qa(rng, n_layers=2)},
    "gpt": {
        "learned positions, dropout": lambda rng: gpt(rng, dropout=0.2),
        "rotary, RMS norm, SwiGLU": lambda rng: gpt(
            rng, positions="rotary", normalization="rms_norm", activation="swiglu", dropout=0.0),
    },
    "encoder_decoder": {
        "pre-norm, shared embeddings, dropout": lambda rng: encoder_decoder(rng, norm="pre", decoder_layers=2, dropout=0.2),
        "post-norm, learned positions": lambda rng: encoder_decoder(
            rng, norm="post", positions="learned", shared_embeddings=False, decoder_layers=1, activation="gelu"),
    },
    "clip": {"dropout": lambda rng: clip(rng, dropout=0.2)},
}
