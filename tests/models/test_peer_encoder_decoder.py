"""The whole encoder-decoder beside PyTorch, with every choice of its configuration: logits, loss, and the gradient of every weight."""

import numpy as np
import pytest

from tests import peer
from tests.peer import F, compare, torch
from tinymm.models import EncoderDecoderConfig, EncoderDecoderModel

pytestmark = pytest.mark.peer

SIZES = {"vocabulary_size": 13, "d_model": 12, "n_heads": 3, "encoder_layers": 1, "decoder_layers": 2, "d_ff": 10, "source_length": 8,
         "target_length": 9, "dropout": 0.0}


def model_and_inputs(rng, **options):
    inputs = {"source": peer.padded_texts(rng, (4, 7, 2, 5), 13), "target": peer.padded_texts(rng, (5, 3, 6, 1), 13)}
    return EncoderDecoderModel(EncoderDecoderConfig(**SIZES, **options), rng), inputs


def encoder_decoder(w, source, target, config):
    """The model with the modules of torch.nn."""
    options = {"n_heads": config.n_heads, "norm": config.norm, "activation": config.activation}
    tables = {"target": w["target_words.weight"], "source": w["target_words.weight" if config.shared_embeddings else "source_words.weight"]}

    def embed(side, ids):
        x = F.embedding(ids, tables[side]) * config.d_model ** 0.5
        learned = config.positions == "learned"
        return x + (w[f"{side}_positions.weight"][:ids.shape[1]] if learned else peer.sinusoidal_positions(*x.shape[1:]))

    def last_norm(half, x):
        return peer.layer_norm(w.part(f"{half}_norm"), x) if config.norm == "pre" else x

    readable = (source != peer.PAD)[:, None, None]                                                         # (B, 1, 1, S)
    memory = peer.transformer_blocks(w.part("encoder"), embed("source", source), allowed=readable, **options)
    memory = last_norm("encoder", memory)                                                                  # (B, S, D)
    x = peer.transformer_blocks(w.part("decoder"), embed("target", target), memory, fusion="cross",
                                allowed=np.tri(target.shape[1], dtype=bool), memory_allowed=readable, **options)
    x = last_norm("decoder", x)                                                                            # (B, T, D)
    return F.linear(x, tables["target"]) if config.shared_embeddings else peer.linear(w.part("head"), x)   # (B, T, V)


@peer.every_choice(positions=["sinusoidal", "learned"], norm=["pre", "post"], activation=["relu", "gelu"], shared_embeddings=[True, False])
def test_logits_and_gradients(rng, options):
    model, inputs = model_and_inputs(rng, **options)
    compare(model, lambda w, **tensors: encoder_decoder(w, **tensors, config=model.config), inputs, rng)


def test_the_loss_leaves_padding_out(rng):
    model, inputs = model_and_inputs(rng)
    labels = np.where(inputs["target"] == peer.PAD, -100, rng.integers(13, size=inputs["target"].shape))

    def loss(w, **tensors):
        logits = encoder_decoder(w.part("model"), **tensors, config=model.config)
        return F.cross_entropy(logits.flatten(0, 1), torch.tensor(labels).flatten())

    compare(peer.Loss(model, "cross_entropy", labels), loss, inputs, rng)
