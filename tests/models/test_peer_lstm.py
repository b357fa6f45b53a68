"""The LSTM model beside one of PyTorch's layers: logits, loss, and the gradient of every weight, for texts of different lengths."""

import numpy as np
import pytest

from tests import peer
from tests.peer import F, compare, torch
from tinymm.models import LSTMConfig, LSTMModel

pytestmark = pytest.mark.peer

POOLINGS = pytest.mark.parametrize("pooling", ["mean", "last"])


def model_and_inputs(rng, pooling):
    model = LSTMModel(LSTMConfig(11, d_embedding=5, d_state=4, pooling=pooling, dropout=0.0), rng)
    return model, {"ids": peer.padded_texts(rng, (6, 3, 1), 11)}


def lstm_model(w, ids, pooling):
    lengths = peer.real_lengths(ids)
    states = peer.lstm(w.part("lstm"), F.embedding(ids, w["words.weight"]), lengths)                        # (R, T, D)
    pooled = peer.mean_of_real(states, ids) if pooling == "mean" else states[torch.arange(len(ids)), lengths - 1]
    return peer.linear(w.part("head"), pooled)[:, 0]                                                        # (R,)


@POOLINGS
def test_logits_and_gradients(rng, pooling):
    model, inputs = model_and_inputs(rng, pooling)
    compare(model, lambda w, ids: lstm_model(w, ids, pooling), inputs, rng)


@POOLINGS
def test_the_loss(rng, pooling):
    model, inputs = model_and_inputs(rng, pooling)
    labels = np.array([1, 0, 1])

    def loss(w, ids):
        return F.binary_cross_entropy_with_logits(lstm_model(w.part("model"), ids, pooling), torch.tensor(labels).double())

    compare(peer.Loss(model, "binary_cross_entropy", labels), loss, inputs, rng)
