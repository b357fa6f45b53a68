"""Normalization: give activations mean 0 and variance 1, then let the network choose its own scale and offset.

Layer norm looks at one token: its D features share a mean and a variance (Ba et al. 2016). It stands before or
after every attention and feed-forward block of a Transformer. Batch norm looks at one channel: all places of all
images of the batch share a mean and a variance (Ioffe & Szegedy 2015). It stands between the convolutions of the
image encoder. RMS norm (Zhang & Sennrich 2019) is a layer norm that leaves the mean where it is; many later language
models use it. In layer norm and batch norm the same three lines do the work; only the axes of the means differ:

    centred = x - mean(x)      normalized = centred / sqrt(mean(centred^2) + eps)      out = normalized * gain + bias

The backward pass has three terms. Write n for `normalized`, r for 1 / sqrt(variance + eps), N for the number of
values that share a mean, and g_i = d_out_i * gain for the gradient that arrives at n_i. An input x_j moves n_i in
three ways:

    directly,               dn_i/dx_j =  r                if i = j
    through the mean,       dn_i/dx_j = -r / N            every centred value falls when the mean rises
    through the variance,   dn_i/dx_j = -r n_i n_j / N    because n_i = r centred_i, and dr/dx_j = -r^2 n_j / N

(The mean inside the variance adds nothing: moving it moves the variance by -2 mean(centred) = 0.) The gradient of x_j
is the sum over all i of g_i dn_i/dx_j:

    d_x_j = r * ( g_j - mean(g) - n_j * mean(g * n) )

In words: take away from g its mean, and its part along n. Those are the two directions in which a step of x changes
nothing (adding a constant to all values, and, but for eps, stretching them), so no gradient may point there.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


# ---------------------------------------------------------------------------------------------------- layer norm


class LayerNormCache(NamedTuple):
    """What the backward pass needs. The leading axes are any, also none."""

    normalized: Array  # (..., D)  each row has mean 0 and variance 1
    rstd: Array        # (..., 1)  one over the standard deviation
    gain: Array        # (D,)


def layer_norm_forward(x: Array, gain: Array, bias: Array, eps: float = 1e-5) -> tuple[Array, LayerNormCache]:
    """Normalize each row of x over its last axis:  out = (x - mean) / sqrt(variance + eps) * gain + bias.

    Ba et al. 2016, eq. (3) and (4). The variance divides by D, not by D - 1; eps stands inside the root.

    Args:
        x: (..., D).   gain, bias: (D,).   eps: keeps a constant row from dividing by zero.

    Returns:
        out (..., D) in the dtype of x, and the cache for `layer_norm_backward`.

    Raises:
        ValueError: x has no last axis or an empty one, or gain and bias are not (D,).
    """
    _check_last_axis(x, gain=gain, bias=bias)

    mean = x.mean(axis=-1, keepdims=True)                          # (..., 1)  F1
    centred = x - mean                                             # (..., D)  F2
    variance = (centred * centred).mean(axis=-1, keepdims=True)    # (..., 1)  F3
    rstd = 1 / np.sqrt(variance + eps)                             # (..., 1)  F4
    normalized = centred * rstd                                    # (..., D)  F5  mean 0, variance 1
    out = normalized * gain + bias                                 # (..., D)  F6  the network may undo all of it
    return out, LayerNormCache(normalized, rstd, gain)


def layer_norm_backward(d_out: Array, cache: LayerNormCache) -> tuple[Array, Array, Array]:
    """Gradients of `layer_norm_forward` with respect to x (..., D), gain (D,) and bias (D,), given d_out (..., D)."""
    normalized, rstd, gain = cache
    leading = tuple(range(d_out.ndim - 1))                         #               every axis but the last

    d_bias = d_out.sum(axis=leading)                               # (D,)      undoes F6
    d_gain = (d_out * normalized).sum(axis=leading)                # (D,)      undoes F6
    d_normalized = d_out * gain                                    # (..., D)  undoes F6
    shift = d_normalized.mean(axis=-1, keepdims=True)              # (..., 1)      a shift of x would change nothing
    stretch = (d_normalized * normalized).mean(axis=-1, keepdims=True)    # (..., 1)  nor would a stretch
    d_x = rstd * (d_normalized - shift - normalized * stretch)     # (..., D)  undoes F5 to F1
    return d_x, d_gain, d_bias


def layer_norm_backward_steps(d_out: Array, cache: LayerNormCache) -> tuple[Array, Array, Array]:
    """The same gradients as `layer_norm_backward`, undoing one primitive step of the forward a line."""
    normalized, rstd, gain = cache
    width = d_out.shape[-1]
    leading = tuple(range(d_out.ndim - 1))
    centred = normalized / rstd                                    # (..., D)      F5, read backwards

    d_bias = d_out.sum(axis=leading)                               # (D,)      undoes F6
    d_gain = (d_out * normalized).sum(axis=leading)                # (D,)      undoes F6
    d_normalized = d_out * gain                                    # (..., D)  undoes F6
    d_rstd = (d_normalized * centred).sum(axis=-1, keepdims=True)  # (..., 1)  undoes F5: one rstd served D products
    d_centred = d_normalized * rstd                                # (..., D)  undoes F5
    d_variance = d_rstd * (-0.5 * rstd**3)                         # (..., 1)  undoes F4: (v + eps)^(-1/2)
    d_centred = d_centred + d_variance * 2 * centred / width       # (..., D)  undoes F3: a second use of centred
    d_x = d_centred                                                # (..., D)  undoes F2
    d_mean = -d_centred.sum(axis=-1, keepdims=True)                # (..., 1)  undoes F2: one mean served D differences
    d_x = d_x + d_mean / width                                     # (..., D)  undoes F1
    return d_x, d_gain, d_bias


# ------------------------------------------------------------------------------------------------------ RMS norm


class RMSNormCache(NamedTuple):
    """What the backward pass needs. The leading axes are any, also none."""

    normalized: Array  # (..., D)  the mean of the squares of each row is 1
    rrms: Array        # (..., 1)  one over the root of the mean square
    gain: Array        # (D,)


def rms_norm_forward(x: Array, gain: Array, eps: float = 1e-5) -> tuple[Array, RMSNormCache]:
    """Divide each row of x by its root mean square:  out = x / sqrt(mean(x^2) + eps) * gain.

    Zhang & Sennrich 2019, eq. (4). Nothing is subtracted, and there is no bias.

    Args:
        x: (..., D).   gain: (D,).   eps: keeps a row of zeros from dividing by zero.

    Returns:
        out (..., D) in the dtype of x, and the cache for `rms_norm_backward`.

    Raises:
        ValueError: x has no last axis or an empty one, or gain is not (D,).
    """
    _check_last_axis(x, gain=gain)

    mean_square = (x * x).mean(axis=-1, keepdims=True)             # (..., 1)  F1
    rrms = 1 / np.sqrt(mean_square + eps)                          # (..., 1)  F2
    normalized = x * rrms                                          # (..., D)  F3
    out = normalized * gain                                        # (..., D)  F4
    return out, RMSNormCache(normalized, rrms, gain)


def rms_norm_backward(d_out: Array, cache: RMSNormCache) -> tuple[Array, Array]:
    """Gradients of `rms_norm_forward` with respect to x (..., D) and gain (D,), given d_out (..., D).

    The formula of layer norm without the term of the mean: only stretching x changes nothing.
    """
    normalized, rrms, gain = cache
    leading = tuple(range(d_out.ndim - 1))                         #               every axis but the last

    d_gain = (d_out * normalized).sum(axis=leading)                # (D,)      undoes F4
    d_normalized = d_out * gain                                    # (..., D)  undoes F4
    stretch = (d_normalized * normalized).mean(axis=-1, keepdims=True)    # (..., 1)
    d_x = rrms * (d_normalized - normalized * stretch)             # (..., D)  undoes F3 to F1
    return d_x, d_gain


def rms_norm_backward_steps(d_out: Array, cache: RMSNormCache) -> tuple[Array, Array]:
    """The same gradients as `rms_norm_backward`, undoing one primitive step of the forward a line."""
    normalized, rrms, gain = cache
    width = d_out.shape[-1]
    leading = tuple(range(d_out.ndim - 1))
    x = normalized / rrms                                          # (..., D)      F3, read backwards

    d_gain = (d_out * normalized).sum(axis=leading)                # (D,)      undoes F4
    d_normalized = d_out * gain                                    # (..., D)  undoes F4
    d_rrms = (d_normalized * x).sum(axis=-1, keepdims=True)        # (..., 1)  undoes F3: one rrms served D products
    d_x = d_normalized * rrms                                      # (..., D)  undoes F3
    d_mean_square = d_rrms * (-0.5 * rrms**3)                      # (..., 1)  undoes F2: (m + eps)^(-1/2)
    d_x = d_x + d_mean_square * 2 * x / width                      # (..., D)  undoes F1: a second use of x
    return d_x, d_gain


# ---------------------------------------------------------------------------------------------------- batch norm


class BatchNormCache(NamedTuple):
    """What the backward pass needs, and the running statistics after this batch."""

    normalized: Array        # (..., C)
    rstd: Array              # (C,)  one over the standard deviation of each channel
    gain: Array              # (C,)
    running_mean: Array      # (C,)  for the layer to keep: new in training, the one that came in evaluation
    running_variance: Array  # (C,)
    training: bool


def batch_norm_forward(
    x: Array,
    gain: Array,
    bias: Array,
    running_mean: Array,
    running_variance: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNormCache]:
    """Normalize each channel of x over all other axes:  out = (x - mean) / sqrt(variance + eps) * gain + bias.

    Ioffe & Szegedy 2015, algorithm 1. In training the mean and the (biased) variance are those of this batch; in
    evaluation they are the running ones, so that the answer for one image does not depend on its neighbours.
    The function changes nothing in place. In training the cache holds the new running statistics,

        running <- (1 - momentum) * running + momentum * batch

    with the unbiased variance (division by N - 1, N = the number of values of one channel), as PyTorch has it.

    Args:
        x: (..., C); images are (B, H, W, C).   gain, bias, running_mean, running_variance: (C,).
        training: use the statistics of the batch, or the running ones.

    Returns:
        out (..., C) in the dtype of x, and the cache for `batch_norm_backward`.

    Raises:
        ValueError: an empty axis, a vector that is not (C,), or a single value a channel in training (its variance
            would be 0 whatever it is).
    """
    _check_last_axis(x, gain=gain, bias=bias, running_mean=running_mean, running_variance=running_variance)
    count = x.size // x.shape[-1]                                  #           N, the values that share a mean
    if training and count < 2:
        raise ValueError(
            f"batch norm in training needs 2 or more values for each channel, got x {x.shape}: use a larger batch"
        )
    rows = x.reshape(-1, x.shape[-1])                              # (N, C)        all axes but the channels in one

    if training:
        mean = rows.mean(axis=0)                                   # (C,)      F1
        centred = rows - mean                                      # (N, C)    F2
        variance = (centred * centred).mean(axis=0)                # (C,)      F3
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_variance = (1 - momentum) * running_variance + momentum * count / (count - 1) * variance
    else:
        centred = rows - running_mean                              # (N, C)    F2  the mean is a constant here
        variance = running_variance                                # (C,)          and so is the variance
    rstd = 1 / np.sqrt(variance + eps)                             # (C,)      F4
    normalized = centred * rstd                                    # (N, C)    F5
    out = normalized * gain + bias                                 # (N, C)    F6
    cache = BatchNormCache(normalized.reshape(x.shape), rstd, gain, running_mean, running_variance, training)
    return out.reshape(x.shape), cache


def batch_norm_backward(d_out: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """Gradients of `batch_norm_forward` with respect to x (..., C), gain (C,) and bias (C,), given d_out (..., C).

    In training it is the three-term formula of the top of this file, with means over the batch; in evaluation the
    mean and the variance are constants, and only the first of the three terms is left.
    """
    normalized, rstd, gain, _, _, training = cache
    leading = tuple(range(d_out.ndim - 1))
    count = d_out.size // d_out.shape[-1]

    d_bias = d_out.sum(axis=leading)                               # (C,)      undoes F6
    d_gain = (d_out * normalized).sum(axis=leading)                # (C,)      undoes F6
    if training:
        shift = d_bias / count                                     # (C,)          mean(g) / gain; as a channel has
        stretch = d_gain / count                                   # (C,)          mean(g n) / gain; one gain, it waits
        d_x = gain * rstd * (d_out - shift - normalized * stretch) # (..., C)  undoes F6 to F1
    else:
        d_x = gain * rstd * d_out                                  # (..., C)  undoes F6, F5, F2
    return d_x, d_gain, d_bias


def batch_norm_backward_steps(d_out: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """The same gradients as `batch_norm_backward`, undoing one primitive step of the forward a line."""
    normalized, rstd, gain, _, _, training = cache
    leading = tuple(range(d_out.ndim - 1))
    count = d_out.size // d_out.shape[-1]
    centred = normalized / rstd                                    # (..., C)      F5, read backwards

    d_bias = d_out.sum(axis=leading)                               # (C,)      undoes F6
    d_gain = (d_out * normalized).sum(axis=leading)                # (C,)      undoes F6
    d_normalized = d_out * gain                                    # (..., C)  undoes F6
    d_centred = d_normalized * rstd                                # (..., C)  undoes F5
    if not training:
        return d_centred, d_gain, d_bias                           #           undoes F2: the mean was a constant
    d_rstd = (d_normalized * centred).sum(axis=leading)            # (C,)      undoes F5: one rstd served N products
    d_variance = d_rstd * (-0.5 * rstd**3)                         # (C,)      undoes F4
    d_centred = d_centred + d_variance * 2 * centred / count       # (..., C)  undoes F3: a second use of centred
    d_x = d_centred                                                # (..., C)  undoes F2
    d_mean = -d_centred.sum(axis=leading)                          # (C,)      undoes F2: one mean served N differences
    d_x = d_x + d_mean / count                                     # (..., C)  undoes F1
    return d_x, d_gain, d_bias


def _check_last_axis(x: Array, **vectors: Array) -> None:
    if x.ndim == 0 or x.size == 0:
        raise ValueError(f"x must have at least one axis and no empty one, got x {x.shape}")
    for name, vector in vectors.items():
        if vector.shape != x.shape[-1:]:
            raise ValueError(
                f"{name} must have the shape of the last axis of x, {x.shape[-1:]}, "
                f"got {name} {vector.shape} and x {x.shape}"
            )
