"""An example for every layer of `tinymm.layers`."""

from typing import Any

from tinymm import layers
from tinymm.functional import attention_mask
from tinymm.gradcheck.examples import (
    LEFT_PADDED, REPEATED_IDS, RIGHT_PADDED, Generator, ModuleExamples, dropout, module, n, text_and_memory,
)
from tinymm.layers import Module


def block(rng: Generator, **options: Any) -> Module:
    return layers.TransformerBlock(6, 3, 8, rng, **options)


def image_encoder(rng: Generator) -> Module:
    return layers.ImageEncoder(9, (4, 5), (2, 2), 6, rng)


LAYERS: ModuleExamples = {
    "Linear": {
        "": lambda rng: module(layers.Linear(5, 4, rng), rng, x=n(rng, 2, 3, 5)),
        "no bias": lambda rng: module(layers.Linear(5, 4, rng, bias=False), rng, x=n(rng, 3, 5)),
    },
    "Embedding": {"": lambda rng: module(layers.Embedding(7, 4, rng), rng, ids=REPEATED_IDS)},
    "LearnedPositions": {"": lambda rng: module(layers.LearnedPositions(6, 5, rng), rng, x=n(rng, 2, 3, 5))},
    "RMSNorm": {"": lambda rng: module(layers.RMSNorm(6), rng, x=1 + n(rng, 2, 3, 6))},
    "LayerNorm": {"": lambda rng: module(layers.LayerNorm(6), rng, x=n(rng, 2, 3, 6))},
    "BatchNorm": {
        "training": lambda rng: module(layers.BatchNorm(5), rng, x=n(rng, 2, 3, 4, 5), training=True),
        "evaluation": lambda rng: module(layers.BatchNorm(5), rng, x=n(rng, 2, 3, 4, 5)),
    },
    "Conv2d": {"": lambda rng: module(layers.Conv2d(3, 4, rng, stride=2), rng, x=n(rng, 2, 6, 5, 3))},
    "ConvBlock": {
        "training": lambda rng: module(layers.ConvBlock(3, 4, rng, stride=2), rng, x=n(rng, 2, 6, 5, 3), training=True),
        "evaluation": lambda rng: module(layers.ConvBlock(3, 4, rng), rng, x=n(rng, 2, 6, 5, 3)),
    },
    "Slopes": {"": lambda rng: module(layers.Slopes(2), rng, x=n(rng, 2, 6, 5, 3))},
    "MaxPool2d": {"": lambda rng: module(layers.MaxPool2d(2), rng, x=n(rng, 2, 5, 6, 3))},
    "AvgPool2d": {"": lambda rng: module(layers.AvgPool2d(2), rng, x=n(rng, 2, 5, 6, 3))},
    "LSTM": {
        "": lambda rng: module(layers.LSTM(3, 4, rng), rng, x=n(rng, 2, 5, 3)),
        "padding": lambda rng: module(layers.LSTM(3, 4, rng), rng, x=n(rng, 2, 7, 3), mask=RIGHT_PADDED),
    },
    "MultiHeadAttention": {
        "self, causal": lambda rng: module(layers.MultiHeadAttention(6, 3, rng), rng, x=n(rng, 2, 4, 6), causal=True),
        "self, causal, rotary": lambda rng: module(
            layers.MultiHeadAttention(12, 3, rng, rotary=True), rng, x=n(rng, 2, 5, 12), causal=True),
        "cross, padding": lambda rng: module(
            layers.MultiHeadAttention(6, 3, rng, d_memory=5), rng, x=n(rng, 2, 4, 6), memory=n(rng, 2, 7, 5),
            mask=attention_mask(4, 7, padding=RIGHT_PADDED)),
        "cross, shared memory": lambda rng: module(
            layers.MultiHeadAttention(6, 3, rng, d_memory=5), rng, **text_and_memory(rng, 7, 5), causal=True),
    },
    "JointAttention": {
        "": lambda rng: module(layers.JointAttention(6, 3, rng, 5), rng, **text_and_memory(rng, 7, 5), causal=True),
    },
    "FeedForward": {
        "gelu": lambda rng: module(layers.FeedForward(4, 7, rng), rng, x=n(rng, 2, 3, 4)),
        "relu": lambda rng: module(layers.FeedForward(4, 7, rng, activation="relu"), rng, x=n(rng, 2, 3, 4)),
    },
    "GatedFeedForward": {"": lambda rng: module(layers.GatedFeedForward(4, 7, rng), rng, x=n(rng, 2, 3, 4))},
    "Residual": {
        "pre-norm, dropout": lambda rng: module(
            layers.Residual(layers.Linear(4, 4, rng), 4, "pre", 0.3), rng, x=n(rng, 2, 3, 4), **dropout(rng)),
        "post-norm": lambda rng: module(layers.Residual(layers.Linear(4, 4, rng), 4, "post"), rng, x=n(rng, 2, 3, 4)),
        "RMS norm": lambda rng: module(
            layers.Residual(layers.Linear(4, 4, rng), 4, normalization="rms_norm"), rng, x=n(rng, 2, 3, 4)),
    },
    "TransformerBlock": {
        "pre-norm, causal": lambda rng: module(block(rng), rng, x=n(rng, 2, 4, 6), causal=True),
        "rotary, RMS norm, SwiGLU": lambda rng: module(
            block(rng, rotary=True, normalization="rms_norm", activation="swiglu"), rng, x=n(rng, 2, 4, 6), causal=True),
        "post-norm, padding": lambda rng: module(
            block(rng, norm="post"), rng, x=n(rng, 2, 4, 6), mask=attention_mask(4, 4, padding=LEFT_PADDED)),
        "cross, dropout": lambda rng: module(
            block(rng, fusion="cross", dropout=0.2), rng, **text_and_memory(rng, 5, 6), causal=True, **dropout(rng)),
        "joint": lambda rng: module(block(rng, fusion="joint"), rng, **text_and_memory(rng, 5, 6), causal=True),
    },
    "ImageEncoder": {
        "training": lambda rng: module(image_encoder(rng), rng, images=n(rng, 2, 9, 9, 3), training=True),
        "evaluation": lambda rng: module(image_encoder(rng), rng, images=n(rng, 2, 9, 9, 3)),
    },
    "ResidualBlock": {
        "training": lambda rng: module(layers.ResidualBlock(3, 4, rng, stride=2), rng, x=n(rng, 2, 6, 5, 3), training=True),
        "same size": lambda rng: module(layers.ResidualBlock(3, 3, rng), rng, x=n(rng, 2, 4, 5, 3), training=True),
        "evaluation": lambda rng: module(layers.ResidualBlock(3, 4, rng), rng, x=n(rng, 2, 4, 5, 3)),
    },
    "ResidualImageEncoder": {
        "": lambda rng: module(layers.ResidualImageEncoder(9, (4, 5, 5), (2, 2, 1), 6, rng), rng,
                               images=n(rng, 2, 9, 9, 3), training=True),
        "slopes": lambda rng: module(layers.ResidualImageEncoder(9, (4, 5), (2, 2), 6, rng, directions=2), rng,
                                     images=n(rng, 2, 9, 9, 3), training=True),
    },
}
