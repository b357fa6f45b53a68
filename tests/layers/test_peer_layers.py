"""Every layer beside PyTorch: results, gradients of inputs and of each parameter, running statistics."""

import inspect

import numpy as np
import pytest

from tests import peer
from tests.peer import compare, torch
from tinymm import functional, layers
from tinymm.layers import Module

pytestmark = pytest.mark.peer

SHARED = np.array([1, 0, 1])                                                    # (R,)    three texts about two images
LENGTHS = np.array([7, 4, 1])
CAUSAL = functional.attention_mask(5, 5, causal=True)                           # (T, T)
CAUSAL_AFTER_IMAGE = functional.attention_mask(5, 4 + 5, causal=True)           # (T, N + T)
SOME = np.random.default_rng(1).random((3, 1, 5, 5)) < 0.6                      # (R, 1, T, T)
SOME[..., 0] = True                                                             # PyTorch gives NaN for a row without a key
SOME_OF_MEMORY = np.random.default_rng(2).random((3, 2, 5, 7)) < 0.6            # (R, H, T, S)
SOME_OF_MEMORY[..., 3] = True


def case(make, twin, shapes, *, counted=None, twin_options=None, arrays=None, **options):
    """make(rng) -> layer; shapes of the inputs by name; arrays: inputs that are given; options: of our forward."""
    def run(rng):
        inputs = {name: rng.normal(size=shape) for name, shape in shapes.items()} | (arrays or {})
        compare(make(rng), lambda w, **tensors: twin(w, **tensors, **(twin_options or {})), inputs, rng, counted=counted, **options)
    return run


def attention(twin_options, shapes, arrays=None, d_memory=None, **options):
    return case(lambda rng: layers.MultiHeadAttention(6, 2, rng, d_memory), peer.multi_head_attention, shapes,
                arrays=arrays, twin_options={"n_heads": 2} | twin_options, **options)


def joint(twin_options, arrays=None, **options):
    shapes = {"x": (3, 5, 6), "memory": (2 if arrays else 3, 4, 5)}
    return case(lambda rng: layers.JointAttention(6, 2, rng, 5), peer.joint_attention, shapes, arrays=arrays,
                twin_options={"n_heads": 2} | twin_options, **options)


def block(fusion, twin_options, shapes, arrays=None, norm="pre", activation="gelu", **options):
    kind = {"fusion": fusion, "norm": norm, "activation": activation}
    return case(lambda rng: layers.TransformerBlock(6, 2, 8, rng, **kind), peer.transformer_block, shapes, arrays=arrays,
                twin_options={"n_heads": 2} | kind | twin_options, **options)


def convolution(size, stride, padding, bias):
    return case(lambda rng: layers.Conv2d(3, 4, rng, size, stride, padding, bias), peer.conv2d, {"x": (2, 7, 6, 3)},
                twin_options={"stride": stride, "padding": padding})


def in_both_modes(make, twin, shapes, **twin_options):
    return {name: case(make, twin, shapes, twin_options=twin_options | {"training": training}, training=training)
            for name, training in (("training", True), ("evaluation", False))}


def embedding(w, ids):
    return peer.call(torch.nn.Embedding(*w["weight"].shape), {"weight": w["weight"]}, ids)


def learned_positions(w, x):
    return x + embedding(w, torch.arange(x.shape[1]))


def residual_of_linear(norm):
    return case(lambda rng: layers.Residual(layers.Linear(4, 4, rng), 4, norm), peer.residual, {"x": (2, 3, 4)},
                twin_options={"norm": norm, "sublayer": peer.linear})


def image_encoder(name, strides, **options):
    kind, channels = getattr(layers, name), (4, 5, 5)[:len(strides)]
    return in_both_modes(lambda rng: kind(9, channels, strides, 6, rng, **options), peer.image_encoder, {"images": (3, 9, 9, 3)},
                         strides=strides)


TEXT, TEXT_AND_MEMORY = {"x": (3, 5, 6)}, {"x": (3, 5, 6), "memory": (3, 7, 6)}
SHARED_MEMORY = {"x": (3, 5, 6), "memory": (2, 4, 6)}
INDEX = {"memory_index": SHARED}
REPEATED = np.array([[1, 4, 4, 0, 1], [6, 1, 2, 2, 2], [0, 3, 6, 5, 4]])

CASES = {
    "Linear": {
        "": case(lambda rng: layers.Linear(5, 4, rng), peer.linear, {"x": (2, 3, 5)}),
        "no bias": case(lambda rng: layers.Linear(5, 4, rng, bias=False), peer.linear, {"x": (3, 5)}),
    },
    "Embedding": {"": case(lambda rng: layers.Embedding(7, 4, rng), embedding, {}, arrays={"ids": REPEATED})},
    "LearnedPositions": {"": case(lambda rng: layers.LearnedPositions(6, 5, rng), learned_positions, {"x": (2, 3, 5)})},
    "LayerNorm": {"": case(lambda rng: layers.LayerNorm(6), peer.layer_norm, {"x": (2, 3, 6)})},
    "RMSNorm": {"": case(lambda rng: layers.RMSNorm(6), peer.rms_norm, {"x": (2, 3, 6)})},
    "BatchNorm": in_both_modes(lambda rng: layers.BatchNorm(5, momentum=0.3, eps=1e-3), peer.batch_norm, {"x": (2, 3, 4, 5)},
                               momentum=0.3, eps=1e-3),
    "Conv2d": {
        f"size {size}, stride {stride}, padding {padding}{', no bias' * (not bias)}": convolution(size, stride, padding, bias)
        for size, stride, padding, bias in [(3, 1, 1, True), (3, 2, 1, False), (2, 3, 0, True), (1, 1, 0, False),
                                            (5, 2, 2, True), (3, 1, 2, False)]
    },
    "ConvBlock": in_both_modes(lambda rng: layers.ConvBlock(3, 4, rng, stride=2), peer.conv_block, {"x": (2, 7, 6, 3)}, stride=2),
    "Slopes": {"": case(lambda rng: layers.Slopes(2), peer.slopes, {"x": (2, 6, 5, 3)})},
    "MaxPool2d": {f"size {size}, stride {stride}": case(
        lambda rng, size=size, stride=stride: layers.MaxPool2d(size, stride),
        lambda w, x, size=size, stride=stride: peer.images_first(torch.nn.MaxPool2d(size, stride), x), {"x": (2, 7, 6, 3)})
        for size, stride in [(2, None), (3, 2)]},
    "AvgPool2d": {f"size {size}, stride {stride}": case(
        lambda rng, size=size, stride=stride: layers.AvgPool2d(size, stride),
        lambda w, x, size=size, stride=stride: peer.images_first(torch.nn.AvgPool2d(size, stride), x), {"x": (2, 7, 6, 3)})
        for size, stride in [(2, None), (3, 2)]},
    "LSTM": {
        "": case(lambda rng: layers.LSTM(3, 4, rng), peer.lstm, {"x": (2, 5, 3)}),
        "padding": case(lambda rng: layers.LSTM(3, 4, rng), peer.lstm, {"x": (3, 7, 3)}, twin_options={"lengths": LENGTHS},
                        mask=np.arange(7) < LENGTHS[:, None], counted=(np.arange(7) < LENGTHS[:, None])[..., None]),
    },
    "MultiHeadAttention": {
        "self": attention({}, TEXT),
        "self, causal": attention({"allowed": CAUSAL}, TEXT, causal=True),
        "self, mask": attention({"allowed": SOME}, TEXT, mask=SOME),
        "self, mask and causal": attention({"allowed": SOME & CAUSAL}, TEXT, mask=SOME, causal=True),
        "self, causal, rotary": case(lambda rng: layers.MultiHeadAttention(8, 2, rng, rotary=True), peer.rotary_attention, {"x": (3, 5, 8)},
                                     twin_options={"n_heads": 2, "allowed": CAUSAL}, causal=True),
        "cross, mask per head": attention({"allowed": SOME_OF_MEMORY}, TEXT_AND_MEMORY, mask=SOME_OF_MEMORY),
        "cross, other width": attention({}, {"x": (3, 5, 6), "memory": (3, 7, 4)}, d_memory=4),
        "cross, causal, shared memory": attention({"allowed": functional.attention_mask(5, 7, causal=True)},
                                                  {"x": (3, 5, 6), "memory": (2, 7, 4)}, INDEX, d_memory=4, causal=True),
    },
    "JointAttention": {
        "": joint({}),
        "causal, shared image": joint({"allowed": CAUSAL_AFTER_IMAGE}, INDEX, causal=True),
        "mask": joint({"allowed": np.concatenate([SOME_OF_MEMORY[:, :, :, :4], SOME.repeat(2, axis=1)], axis=-1)},
                      mask=np.concatenate([SOME_OF_MEMORY[:, :, :, :4], SOME.repeat(2, axis=1)], axis=-1)),
    },
    "FeedForward": {
        activation: case(lambda rng, activation=activation: layers.FeedForward(4, 7, rng, activation), peer.feed_forward, {"x": (2, 3, 4)},
                         twin_options={"activation": activation}) for activation in ("gelu", "relu")
    },
    "GatedFeedForward": {"": case(lambda rng: layers.GatedFeedForward(4, 7, rng), peer.gated_feed_forward, {"x": (2, 3, 4)})},
    "Residual": {"pre-norm": residual_of_linear("pre"), "post-norm": residual_of_linear("post")},
    "TransformerBlock": {
        f"{name}, {norm}-norm": run for norm in ("pre", "post") for name, run in {
            "self, causal": block(None, {"allowed": CAUSAL}, TEXT, norm=norm, causal=True),
            "self, relu": block(None, {}, TEXT, norm=norm, activation="relu"),
            "cross": block("cross", {"allowed": CAUSAL, "memory_allowed": SOME_OF_MEMORY[0, 0]}, TEXT_AND_MEMORY, norm=norm, causal=True,
                           memory_mask=SOME_OF_MEMORY[0, 0]),
            "cross, shared memory": block("cross", {"allowed": CAUSAL}, SHARED_MEMORY, INDEX, norm=norm, causal=True),
            "joint": block("joint", {"allowed": CAUSAL_AFTER_IMAGE}, SHARED_MEMORY, INDEX, norm=norm, causal=True),
        }.items()
    },
    "ImageEncoder": image_encoder("ImageEncoder", (2, 2)),
    "ResidualBlock": {
        "stride 2": case(lambda rng: layers.ResidualBlock(3, 4, rng, stride=2), peer.residual_block, {"x": (2, 7, 6, 3)},
                         twin_options={"training": True, "stride": 2}, training=True),
        "same size": case(lambda rng: layers.ResidualBlock(3, 3, rng), peer.residual_block, {"x": (2, 4, 5, 3)}),
    },
    "ResidualImageEncoder": image_encoder("ResidualImageEncoder", (2, 1, 2))
    | {f"slopes, {mode}": run for mode, run in image_encoder("ResidualImageEncoder", (2, 2), directions=2).items()},
}


@pytest.mark.parametrize("name, variant", [(name, variant) for name, variants in CASES.items() for variant in variants])
def test_layer(name, variant):
    CASES[name][variant](np.random.default_rng(len(name) + len(variant)))


def test_every_layer_has_its_peer():
    there = {name for name in layers.__all__ if inspect.isclass(kind := getattr(layers, name)) and issubclass(kind, Module)}
    assert there - {"Module"} == CASES.keys()


def test_a_wrong_gradient_is_found_by_name(rng, monkeypatch):
    right = functional.linear_backward
    monkeypatch.setattr(functional, "linear_backward", lambda d_out, cache: (*right(d_out, cache)[:2], 1.000001 * right(d_out, cache)[2]))
    with pytest.raises(AssertionError, match="gradient of wide.bias"):
        CASES["FeedForward"]["relu"](rng)
