"""The LSTM and the binary cross-entropy beside PyTorch."""

import numpy as np
import pytest

from tinymm.functional import (
    binary_cross_entropy_backward, binary_cross_entropy_forward, lstm_backward, lstm_forward,
)

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.peer
CLOSE = {"rtol": 1e-10, "atol": 1e-12}


@pytest.mark.parametrize("given", [False, True], ids=["from zero", "from h0, c0"])
def test_lstm_with_texts_of_unequal_length(given):
    rng = np.random.default_rng(0)
    B, T, E, D = 3, 6, 4, 5
    lengths = np.array([6, 3, 1])
    x = rng.normal(size=(B, T, E))
    weight_x, weight_h, bias = rng.normal(size=(E, 4 * D)), rng.normal(size=(D, 4 * D)), rng.normal(size=4 * D)
    peer = torch.nn.LSTM(E, D, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        peer.weight_ih_l0.copy_(torch.tensor(weight_x.T))
        peer.weight_hh_l0.copy_(torch.tensor(weight_h.T))
        peer.bias_ih_l0.copy_(torch.tensor(bias))
        peer.bias_hh_l0.zero_()
    x_ = torch.tensor(x, requires_grad=True)
    h0, c0 = rng.normal(size=(2, B, D)) if given else (None, None)
    start = [torch.tensor(h0[None], requires_grad=True), torch.tensor(c0[None], requires_grad=True)] if given else None
    packed = torch.nn.utils.rnn.pack_padded_sequence(x_, torch.tensor(lengths), batch_first=True)
    expected, _ = torch.nn.utils.rnn.pad_packed_sequence(peer(packed, start)[0], batch_first=True)

    mask = np.arange(T) < lengths[:, None]
    out, cache = lstm_forward(x, weight_x, weight_h, bias, mask, h0, c0)
    np.testing.assert_allclose(out * mask[..., None], expected.detach().numpy(), **CLOSE)
    d_out = rng.normal(size=out.shape) * mask[..., None]
    expected.backward(torch.tensor(d_out))
    d_x, d_weight_x, d_weight_h, d_bias, d_h0, d_c0 = lstm_backward(d_out, cache)
    for ours, theirs in ((d_x, x_.grad), (d_weight_x.T, peer.weight_ih_l0.grad), (d_weight_h.T, peer.weight_hh_l0.grad),
                         (d_bias, peer.bias_ih_l0.grad)):
        np.testing.assert_allclose(ours, theirs.numpy(), **CLOSE)
    if given:
        np.testing.assert_allclose(d_h0, start[0].grad[0].numpy(), **CLOSE)
        np.testing.assert_allclose(d_c0, start[1].grad[0].numpy(), **CLOSE)


def test_binary_cross_entropy():
    rng = np.random.default_rng(1)
    logits, targets = 3 * rng.normal(size=(4, 5)), rng.random((4, 5))
    z = torch.tensor(logits, requires_grad=True)
    expected = torch.nn.functional.binary_cross_entropy_with_logits(z, torch.tensor(targets))
    expected.backward()
    loss, cache = binary_cross_entropy_forward(logits, targets)
    np.testing.assert_allclose(loss, expected.item(), **CLOSE)
    np.testing.assert_allclose(binary_cross_entropy_backward(1.0, cache), z.grad.numpy(), **CLOSE)
