"""Layer norm and RMS norm for the Transformer, batch norm for the convolutions."""

from typing import Any

import numpy as np

from tinymm.layers.module import Array, Module, Parameter


class LayerNorm(Module):
    """Each vector to mean 0 and variance 1, then a learned gain and bias (Ba et al. 2016)."""

    def __init__(self, d_model: int, eps: float = 1e-5):
        self.gain = Parameter(np.ones(d_model, np.float32))    # (D,)
        self.bias = Parameter(np.zeros(d_model, np.float32))   # (D,)
        self.eps = eps

    def forward(self, x: Array) -> tuple[Array, Any]:
        """x (..., D) -> out (..., D)."""
        return self.ops.layer_norm_forward(x, self.gain.value, self.bias.value, self.eps)

    def backward(self, d_out: Array, cache: Any) -> Array:
        d_x, d_gain, d_bias = self.ops.layer_norm_backward(d_out, cache)
        self.gain.grad += d_gain
        self.bias.grad += d_bias
        return d_x


class RMSNorm(Module):
    """Each vector divided by its root mean square, then a learned gain (Zhang & Sennrich 2019)."""

    def __init__(self, d_model: int, eps: float = 1e-5):
        self.gain = Parameter(np.ones(d_model, np.float32))    # (D,)
        self.eps = eps

    def forward(self, x: Array) -> tuple[Array, Any]:
        """x (..., D) -> out (..., D)."""
        return self.ops.rms_norm_forward(x, self.gain.value, self.eps)

    def backward(self, d_out: Array, cache: Any) -> Array:
        d_x, d_gain = self.ops.rms_norm_backward(d_out, cache)
        self.gain.grad += d_gain
        return d_x


NORMALIZATIONS: dict[str, type[Module]] = {"layer_norm": LayerNorm, "rms_norm": RMSNorm}    # by their names in a config


class BatchNorm(Module):
    """Each channel to mean 0 and variance 1 over the batch and all places (Ioffe & Szegedy 2015).

    In training the statistics are the batch's own, and the running ones move towards them by `momentum`;
    in evaluation the running ones are used, so that a picture's result does not depend on its neighbours.
    """

    buffers = ("running_mean", "running_variance")

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5):
        self.gain = Parameter(np.ones(channels, np.float32))     # (C,)
        self.bias = Parameter(np.zeros(channels, np.float32))    # (C,)
        self.running_mean = np.zeros(channels, np.float32)       # (C,)
        self.running_variance = np.ones(channels, np.float32)    # (C,)
        self.momentum, self.eps = momentum, eps

    def forward(self, x: Array, training: bool = False) -> tuple[Array, Any]:
        """x (..., C) -> out (..., C). With training=True the running statistics are updated."""
        out, cache = self.ops.batch_norm_forward(x, self.gain.value, self.bias.value, self.running_mean,
                                                 self.running_variance, training, self.momentum, self.eps)
        if training:
            self.running_mean[...] = cache.running_mean
            self.running_variance[...] = cache.running_variance
        return out, cache

    def backward(self, d_out: Array, cache: Any) -> Array:
        d_x, d_gain, d_bias = self.ops.batch_norm_backward(d_out, cache)
        self.gain.grad += d_gain
        self.bias.grad += d_bias
        return d_x
