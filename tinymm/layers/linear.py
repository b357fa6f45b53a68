"""A learned linear map, the layer that everything else is made of."""

from typing import Any

import numpy as np

from tinymm.layers.module import Array, Module, Parameter


class Linear(Module):
    """out = x @ weight + bias, with weight (D_in, D_out) as in the papers.

    The weight starts uniform in +-sqrt(6 / (D_in + D_out)), which keeps the size of activations and of
    gradients about equal through the layer (Glorot & Bengio 2010, eq. 16); the bias starts at zero.
    """

    def __init__(self, d_in: int, d_out: int, rng: np.random.Generator, bias: bool = True):
        limit = (6.0 / (d_in + d_out)) ** 0.5
        self.weight = Parameter(rng.uniform(-limit, limit, (d_in, d_out)).astype(np.float32))   # (D_in, D_out)
        self.bias = Parameter(np.zeros(d_out, np.float32)) if bias else None                    # (D_out,)

    def forward(self, x: Array) -> tuple[Array, Any]:
        """x (..., D_in) -> out (..., D_out)."""
        return self.ops.linear_forward(x, self.weight.value, None if self.bias is None else self.bias.value)

    def backward(self, d_out: Array, cache: Any) -> Array:
        """d_out (..., D_out) -> d_x (..., D_in); adds the gradients of weight and bias."""
        d_x, d_weight, d_bias = self.ops.linear_backward(d_out, cache)
        self.weight.grad += d_weight
        if self.bias is not None:
            self.bias.grad += d_bias
        return d_x
