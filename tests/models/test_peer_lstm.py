"""The LSTM model beside one built of PyTorch's layers: the same weights give the same logits, loss and gradients."""

import numpy as np
import pytest

from tinymm import functional
from tinymm.data.tokenizer import Tokenizer
from tinymm.models.lstm import LSTMConfig, LSTMModel

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer

IDS = np.array([[7, 9, 6, 8, 10], [8, 6, 7, 0, 0], [10, 0, 0, 0, 0]])      # (R, T)
LABELS = np.array([1, 0, 1])


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_the_whole_model_is_that_of_torch(pooling):
    rng = np.random.default_rng(0)
    model = LSTMModel(LSTMConfig(11, d_embedding=5, d_state=4, pooling=pooling, dropout=0.0), rng).astype(np.float64)
    for parameter in model.parameters():
        parameter.value += 0.3 * rng.normal(size=parameter.shape)
    logits, cache = model.forward(IDS)
    loss, loss_cache = functional.binary_cross_entropy_forward(logits, LABELS)
    model.backward(functional.binary_cross_entropy_backward(1.0, loss_cache), cache)

    words, head_weight, head_bias = (torch.tensor(parameter.value, requires_grad=True) for parameter in
                                     (model.words.weight, model.head.weight, model.head.bias))
    lstm = torch.nn.LSTM(5, 4, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(torch.tensor(model.lstm.weight_x.value.T))
        lstm.weight_hh_l0.copy_(torch.tensor(model.lstm.weight_h.value.T))
        lstm.bias_ih_l0.copy_(torch.tensor(model.lstm.bias.value))
        lstm.bias_hh_l0.zero_()
    lengths = (IDS != Tokenizer.pad_id).sum(axis=1)
    packed = torch.nn.utils.rnn.pack_padded_sequence(words[torch.tensor(IDS)], torch.tensor(lengths), batch_first=True)
    states, (last, _) = lstm(packed)
    states, _ = torch.nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
    pooled = last[0] if pooling == "last" else states.sum(dim=1) / torch.tensor(lengths)[:, None]
    peer_logits = (pooled @ head_weight + head_bias)[:, 0]
    peer_loss = torch.nn.functional.binary_cross_entropy_with_logits(peer_logits, torch.tensor(LABELS, dtype=torch.float64))
    peer_loss.backward()

    pairs = [(logits, peer_logits.detach()), (loss, peer_loss.detach()), (model.words.weight.grad, words.grad),
             (model.lstm.weight_x.grad.T, lstm.weight_ih_l0.grad), (model.lstm.weight_h.grad.T, lstm.weight_hh_l0.grad),
             (model.lstm.bias.grad, lstm.bias_ih_l0.grad), (model.head.weight.grad, head_weight.grad),
             (model.head.bias.grad, head_bias.grad)]
    for ours, theirs in pairs:
        assert np.abs(ours - theirs.numpy()).max() / np.abs(theirs.numpy()).max() < 1e-10
