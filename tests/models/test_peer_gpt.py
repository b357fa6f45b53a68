"""The whole GPT beside PyTorch, with every choice of its configuration: logits, loss, and the gradient of every weight."""

import numpy as np
import pytest

from tests import peer
from tests.peer import F, Weights, compare, torch
from tinymm.bench.gpt_twin import TorchGPT
from tinymm.models import GPTConfig, GPTModel

pytestmark = pytest.mark.peer

SIZES = {"vocabulary_size": 11, "d_model": 12, "n_heads": 3, "n_layers": 2, "d_ff": 10, "max_length": 7, "dropout": 0.0}
EVERY_CHOICE = peer.every_choice(positions=["learned", "rotary"], normalization=["layer_norm", "rms_norm"], activation=["gelu", "relu", "swiglu"])


def model_and_inputs(rng, **options):
    return GPTModel(GPTConfig(**SIZES, **options), rng), {"ids": rng.integers(11, size=(2, 5))}


def gpt(w, ids, config):
    """The model with the modules of torch.nn."""
    x = peer.words_and_positions(w, ids) if config.positions == "learned" else F.embedding(ids, w["words.weight"])     # (B, T, D)
    x = peer.transformer_blocks(w.part("blocks"), x, n_heads=config.n_heads, activation=config.activation,
                                rotary=config.positions == "rotary", allowed=np.tri(ids.shape[1], dtype=bool))
    return F.linear(peer.vector_norm(w.part("norm"), x), w["words.weight"], w["head_bias"])


@EVERY_CHOICE
def test_logits_and_gradients(rng, options):
    model, inputs = model_and_inputs(rng, **options)
    compare(model, lambda w, ids: gpt(w, ids, model.config), inputs, rng)


def test_the_loss(rng):
    model, inputs = model_and_inputs(rng)
    labels = rng.integers(11, size=(2, 5))

    def loss(w, ids):
        return F.cross_entropy(gpt(w.part("model"), ids, model.config).flatten(0, 1), torch.tensor(labels).flatten())

    compare(peer.Loss(model, "cross_entropy", labels), loss, inputs, rng)


@EVERY_CHOICE
def test_the_twin_of_the_benchmark(rng, options):
    """It puts several of our linear maps side by side: here every one of its weights comes from ours, and so do the gradients."""
    model, inputs = model_and_inputs(rng, **options)
    twin = TorchGPT(model)
    compare(model, lambda w, ids: peer.call(twin, of_benchmark(w, model.config), ids), inputs, rng)


def of_benchmark(w: Weights, config):
    """Our weights by the names of `TorchGPT`."""
    theirs = {"words": w["words.weight"], "head_bias": w["head_bias"]} | w.as_norm("norm", "norm")
    if config.positions == "learned":
        theirs["positions"] = w["positions.weight"]
    wide = ("gate", "value") if config.activation == "swiglu" else ("wide",)
    for i in range(config.n_layers):
        block, attention, feed_forward = f"blocks.{i}", f"blocks.{i}.attention.sublayer", f"blocks.{i}.feed_forward.sublayer"
        theirs |= w.as_norm(f"{block}.norm", f"{block}.attention.norm") | w.as_norm(f"{block}.wide_norm", f"{block}.feed_forward.norm")
        theirs |= w.as_linear(f"{block}.attention.project", *(f"{attention}.{name}" for name in ("query", "key", "value")))
        theirs |= w.as_linear(f"{block}.attention.output", f"{attention}.output")
        theirs |= w.as_linear(f"{block}.feed_forward.wide", *(f"{feed_forward}.{name}" for name in wide))
        theirs |= w.as_linear(f"{block}.feed_forward.narrow", f"{feed_forward}.narrow")
    return theirs
