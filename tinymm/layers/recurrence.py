"""The LSTM layer."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymm.layers.module import Array, Module, Parameter


class LSTM(Module):
    """out[:, t] is the state after reading x[:, :t + 1] (Hochreiter and Schmidhuber 1997).

    Weights start uniform in +-1 / sqrt(D), as is usual for recurrent layers; the forget gate's bias starts at 1, so that
    the memory is kept until the network learns what to forget (Jozefowicz et al. 2015).
    """

    def __init__(self, d_in: int, d_state: int, rng: np.random.Generator):
        limit = d_state**-0.5
        self.weight_x = Parameter(rng.uniform(-limit, limit, (d_in, 4 * d_state)).astype(np.float32))      # (E, 4 D)
        self.weight_h = Parameter(rng.uniform(-limit, limit, (d_state, 4 * d_state)).astype(np.float32))   # (D, 4 D)
        bias = np.zeros(4 * d_state, np.float32)
        bias[d_state:2 * d_state] = 1
        self.bias = Parameter(bias)                                                                        # (4 D,)

    def forward(self, x: Array, mask: NDArray[np.bool_] | None = None) -> tuple[Array, Any]:
        """x (B, T, E), mask (B, T) with False at padding -> out (B, T, D)."""
        return self.ops.lstm_forward(x, self.weight_x.value, self.weight_h.value, self.bias.value, mask)

    def backward(self, d_out: Array, cache: Any) -> Array:
        """d_out (B, T, D) -> d_x (B, T, E); adds the gradients of both weights and the bias."""
        d_x, d_weight_x, d_weight_h, d_bias, _, _ = self.ops.lstm_backward(d_out, cache)
        self.weight_x.grad += d_weight_x
        self.weight_h.grad += d_weight_h
        self.bias.grad += d_bias
        return d_x
