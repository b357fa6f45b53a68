"""The position-wise feed-forward network, plain and gated: the half of a Transformer block that works on each vector alone."""

from typing import Any, NamedTuple

import numpy as np

from tinymm.layers.linear import Linear
from tinymm.layers.module import Array, Module


class FeedForwardCache(NamedTuple):
    wide: Any
    activation: Any
    narrow: Any


class FeedForward(Module):
    """FFN(x) = activation(x W_1 + b_1) W_2 + b_2   (Vaswani et al. 2017, eq. 2), with GELU (Hendrycks & Gimpel 2016) or ReLU."""

    def __init__(self, d_model: int, d_ff: int, rng: np.random.Generator, activation: str = "gelu"):
        if activation not in ("gelu", "relu"):
            raise ValueError(f'activation must be "gelu" or "relu", got {activation!r}')
        self.wide = Linear(d_model, d_ff, rng)
        self.narrow = Linear(d_ff, d_model, rng)
        self.activation = activation

    def forward(self, x: Array) -> tuple[Array, FeedForwardCache]:
        """x (..., D) -> out (..., D), through a layer of width F."""
        activation_forward = self.ops.gelu_forward if self.activation == "gelu" else self.ops.relu_forward
        hidden, wide = self.wide.forward(x)                  # (..., F)  F1
        hidden, activation = activation_forward(hidden)      # (..., F)  F2
        out, narrow = self.narrow.forward(hidden)            # (..., D)  F3
        return out, FeedForwardCache(wide, activation, narrow)

    def backward(self, d_out: Array, cache: FeedForwardCache) -> Array:
        activation_backward = self.ops.gelu_backward if self.activation == "gelu" else self.ops.relu_backward
        d_hidden = self.narrow.backward(d_out, cache.narrow)             # (..., F)  undoes F3
        d_hidden = activation_backward(d_hidden, cache.activation)       # (..., F)  undoes F2
        return self.wide.backward(d_hidden, cache.wide)                  # (..., D)  undoes F1


class GatedFeedForwardCache(NamedTuple):
    gate: Any
    value: Any
    swiglu: Any
    narrow: Any


class GatedFeedForward(Module):
    """FFN(x) = (silu(x W) * x V) W_2, without biases   (SwiGLU; Shazeer 2020, eq. 6).

    Three matrices instead of two: with 2/3 of the width it has the parameters of a `FeedForward`.
    """

    def __init__(self, d_model: int, d_ff: int, rng: np.random.Generator):
        self.gate = Linear(d_model, d_ff, rng, bias=False)
        self.value = Linear(d_model, d_ff, rng, bias=False)
        self.narrow = Linear(d_ff, d_model, rng, bias=False)

    def forward(self, x: Array) -> tuple[Array, GatedFeedForwardCache]:
        """x (..., D) -> out (..., D), through a layer of width F."""
        gate, gate_cache = self.gate.forward(x)                              # (..., F)  F1
        value, value_cache = self.value.forward(x)                           # (..., F)  F2
        hidden, swiglu = self.ops.swiglu_forward(gate, value)                # (..., F)  F3
        out, narrow = self.narrow.forward(hidden)                            # (..., D)  F4
        return out, GatedFeedForwardCache(gate_cache, value_cache, swiglu, narrow)

    def backward(self, d_out: Array, cache: GatedFeedForwardCache) -> Array:
        d_hidden = self.narrow.backward(d_out, cache.narrow)                 # (..., F)  undoes F4
        d_gate, d_value = self.ops.swiglu_backward(d_hidden, cache.swiglu)   # (..., F)  undoes F3
        d_x = self.value.backward(d_value, cache.value)                      # (..., D)  undoes F2
        return d_x + self.gate.backward(d_gate, cache.gate)                  # (..., D)  undoes F1: x went both ways
