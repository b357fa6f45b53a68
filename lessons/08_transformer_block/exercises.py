"""Chapter 8, the Transformer block: the exercises. Fill in the functions, and run `tinymm check 8`.

D is the width of a word's vector, F the width inside the feed-forward part. `tinymm check 8.2 --hint` gives a hint.
"""

import numpy as np

from tinymm.functional import erf


def layer_norm_forward(x, gain, bias, epsilon):
    """y = gain (x - mean) / sqrt(variance + epsilon) + bias, mean and variance over the last axis.

    Name the steps mean (..., 1), centred (..., D), variance (..., 1), scale (..., 1), which is 1 / sqrt(...), and normed (..., D).

    Args:
        x: (..., D).   gain, bias: (D,).   epsilon: a small number.

    Returns:
        out (..., D), and the cache (normed, scale, gain).
    """
    raise NotImplementedError("Lesson 8, exercise 1")


def layer_norm_backward(d_out, cache):
    """The gradients of x, gain and bias: three terms for x.

    Name the steps d_gain, d_bias, d_normed (..., D), mean (..., 1), along (..., 1), d_x.

    Args:
        d_out: (..., D).   cache: (normed, scale, gain), as `layer_norm_forward` returns it.

    Returns:
        d_x (..., D), d_gain (D,), d_bias (D,).
    """
    raise NotImplementedError("Lesson 8, exercise 2")


def gelu_backward(d_out, cache):
    """The gradient of gelu(x) = x Phi(x): d_out (Phi(x) + x phi(x)).

    Name the steps below (Phi), bell (phi) and d_x. `erf` is imported above.

    Args:
        d_out: (...).   cache: x (...).

    Returns:
        d_x (...).
    """
    raise NotImplementedError("Lesson 8, exercise 3")


def feed_forward_backward(d_out, cache):
    """The gradients of  hidden = x W_1 + b_1,  active = gelu(hidden),  out = active W_2 + b_2.

    Use your `gelu_backward`, whose cache is its input. The weights and biases get sums over all words, as in chapter 1.
    Name the steps d_active (..., F), d_W_2, d_b_2, d_hidden (..., F), d_W_1, d_b_1, d_x.

    Args:
        d_out: (..., D).   cache: (x (..., D), W_1 (D, F), hidden (..., F), active (..., F), W_2 (F, D)).

    Returns:
        d_x, d_W_1, d_b_1, d_W_2, d_b_2.
    """
    raise NotImplementedError("Lesson 8, exercise 4")


def residual_backward(d_out, cache):
    """The gradients of a pre-norm residual connection around a linear layer:  out = x + norm(x) W.

    Use your `layer_norm_backward`. Name the steps d_weight, d_normed_x (..., D), d_branch (..., D), what comes
    back through norm and W, and d_x.

    Args:
        d_out: (..., D).   cache: (norm, normed_x, weight): the cache of layer_norm_forward, its output (..., D), and W (D, D).

    Returns:
        d_x (..., D), d_gain (D,), d_bias (D,), d_weight (D, D).
    """
    raise NotImplementedError("Lesson 8, exercise 5")
