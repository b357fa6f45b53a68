"""The whole text-image model beside PyTorch, with each of its three fusions: from pixels and words to logits, and back to every weight."""

import numpy as np
import pytest

from tests import peer
from tests.peer import F, Weights, compare, torch
from tinymm.bench.torch_twin import TorchModel
from tinymm.models import TextImageConfig, TextImageModel

pytestmark = pytest.mark.peer

CHANNELS, STRIDES = (4, 5), (2, 2)
SHARED = np.array([1, 0, 1])      # three texts about two images
SIZES = {"image_size": 9, "channels": CHANNELS, "strides": STRIDES, "d_model": 6, "n_heads": 3, "n_layers": 2, "d_ff": 8, "max_length": 5}


def model_and_inputs(rng, **options):
    model = TextImageModel(TextImageConfig(11, **SIZES, **options), rng)
    return model, {"images": rng.normal(size=(2, 9, 9, 3)), "ids": rng.integers(11, size=(3, 4)), "image_index": SHARED}


def text_image(w, images, ids, image_index, config, training):
    """The model with the modules of torch.nn."""
    length = ids.shape[1]
    tokens = peer.image_encoder(w.part("encoder"), images, config.strides, training)                      # (B, N, D)
    x = peer.words_and_positions(w, ids)                                                                  # (R, T, D)
    options = {"n_heads": config.n_heads, "norm": config.norm, "fusion": None if config.fusion == "concatenate" else config.fusion}
    n = 0 if config.fusion == "cross" else tokens.shape[1]                  # keys before the words, in the first attention
    memory, allowed = (tokens, image_index), np.tri(length, n + length, n, dtype=bool)
    if config.fusion == "concatenate":
        x = torch.cat([tokens[image_index], x], dim=1)                                                    # (R, N + T, D)
        memory, allowed = (), np.tri(n + length, dtype=bool) | (np.arange(n + length) < n)
    x = peer.transformer_blocks(w.part("blocks"), x, *memory, allowed=allowed, **options)[:, -length:]
    if config.norm == "pre":
        x = peer.layer_norm(w.part("norm"), x)
    return F.linear(x, w["words.weight"], w["head_bias"])


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("fusion", ["concatenate", "cross", "joint"])
def test_logits_and_gradients(rng, fusion, norm, training):
    model, inputs = model_and_inputs(rng, fusion=fusion, norm=norm)
    compare(model, lambda w, **tensors: text_image(w, **tensors, config=model.config, training=training), inputs, rng, training=training)


def test_residual_encoder_with_slopes(rng):
    model, inputs = model_and_inputs(rng, residual=True, directions=2)
    compare(model, lambda w, **tensors: text_image(w, **tensors, config=model.config, training=True), inputs, rng, training=True)


def test_the_twin_of_the_benchmark(rng):
    """It puts several of our linear maps side by side: here every one of its weights comes from ours, and so do the gradients."""
    model, inputs = model_and_inputs(rng, fusion="joint")
    twin = TorchModel(model)

    def run(w, images, ids, image_index):
        return peer.call(twin, of_benchmark(w, model.config), images.permute(0, 3, 1, 2), ids, image_index)

    compare(model, run, inputs, rng, training=True)


def of_benchmark(w: Weights, config):
    """Our weights by the names of `TorchModel`: of a convolution block the members 0 (convolution) and 1 (batch norm) of three."""
    theirs = {"words": w["words.weight"], "positions": w["positions.weight"], "head_bias": w["head_bias"],
              "encoder.positions": w["encoder.positions.weight"]}
    theirs |= w.as_linear("encoder.project", "encoder.project") | w.as_norm("encoder.norm", "encoder.norm") | w.as_norm("norm", "norm")
    for i in range(len(config.channels)):
        block, conv, norm = f"encoder.blocks.{i}", f"encoder.blocks.{3 * i}", f"encoder.blocks.{3 * i + 1}"
        theirs |= w.as_norm(norm, f"{block}.norm")
        theirs |= {f"{conv}.weight": w[f"{block}.conv.weight"].permute(3, 2, 0, 1), f"{norm}.running_mean": w[f"{block}.norm.running_mean"],
                   f"{norm}.running_var": w[f"{block}.norm.running_variance"], f"{norm}.num_batches_tracked": torch.tensor(0)}
    for i in range(config.n_layers):
        block, attention, wide = f"blocks.{i}", f"blocks.{i}.attention.sublayer", f"blocks.{i}.feed_forward.sublayer"
        theirs |= w.as_linear(f"{block}.attention.text", *(f"{attention}.{name}" for name in ("query", "key", "value")))
        theirs |= w.as_linear(f"{block}.attention.image", f"{attention}.image_key", f"{attention}.image_value")
        theirs |= w.as_linear(f"{block}.attention.output", f"{attention}.output")
        theirs |= w.as_linear(f"{block}.wide", f"{wide}.wide") | w.as_linear(f"{block}.narrow", f"{wide}.narrow")
        theirs |= w.as_norm(f"{block}.norm", f"{block}.attention.norm") | w.as_norm(f"{block}.wide_norm", f"{block}.feed_forward.norm")
    return theirs


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_down_to_the_pixels(rng, smoothing):
    """Model and cross-entropy as one, some labels left out."""
    model, inputs = model_and_inputs(rng, fusion="joint")
    labels, options = np.array([[3, 0, 7, 10], [0, 1, 1, 0], [5, 9, 0, 2]]), {"ignore_index": 0, "label_smoothing": smoothing}

    def loss(w, **tensors):
        logits = text_image(w.part("model"), **tensors, config=model.config, training=False)
        return F.cross_entropy(logits.flatten(0, 1), torch.tensor(labels).flatten(), **options)

    compare(peer.Loss(model, "cross_entropy", labels, **options), loss, inputs, rng)
