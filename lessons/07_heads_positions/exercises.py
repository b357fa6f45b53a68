"""Chapter 7, heads and positions: the exercises. Fill in the functions, and run `tinymm check 7`.

Attention itself is given: `attention_forward(q, k, v)` and `attention_backward(d_out, cache)` compute what those of chapter 6 do.
"""

import numpy as np

from tinymm.functional import attention_backward, attention_forward


def split_heads(x, n_heads):
    """Cut the last axis into heads, and bring the heads in front of the words.

    Args:
        x: (B, T, D), B texts of T words, D a multiple of n_heads.   n_heads: H.

    Returns:
        (B, H, T, K) with K = D / H.
    """
    raise NotImplementedError("Lesson 7, exercise 1")


def merge_heads(x):
    """The way back: (B, H, T, K) -> (B, T, H K)."""
    raise NotImplementedError("Lesson 7, exercise 2")


def multi_head_forward(x, W_q, W_k, W_v, W_o, n_heads):
    """Self-attention with several heads: out = merge(Attention(q, k, v)) W_o.

    Name the steps q, k, v (B, H, T, K), mixed (B, H, T, K) and merged (B, T, D).

    Args:
        x: (B, T, D).   W_q, W_k, W_v, W_o: (D, D).   n_heads: H, a divisor of D.

    Returns:
        out (B, T, D), and the cache (x, W_q, W_k, W_v, W_o, n_heads, attention, merged), where attention is the cache that
        the given `attention_forward` returns, as it is.
    """
    raise NotImplementedError("Lesson 7, exercise 3")


def multi_head_backward(d_out, cache):
    """The gradients of x and of the four weights.

    Name the steps d_W_o, d_merged (B, T, D), d_mixed (B, H, T, K), d_q, d_k, d_v (B, T, D, after merging), d_W_q, d_W_k, d_W_v, d_x.

    Args:
        d_out: (B, T, D).   cache: as `multi_head_forward` returns it.

    Returns:
        d_x, d_W_q, d_W_k, d_W_v, d_W_o.
    """
    raise NotImplementedError("Lesson 7, exercise 4")


def sinusoidal_positions(T, D):
    """P[t, 2i] = sin(t / 10000^(2i/D)),   P[t, 2i + 1] = cos(t / 10000^(2i/D)).

    Name the step angle (T, D/2).

    Returns:
        positions (T, D).
    """
    raise NotImplementedError("Lesson 7, exercise 5")


def rotary_backward(d_out, cache):
    """The gradient of the rotation of the lesson: the entries 2i and 2i + 1 of position t turned back by the angle t 10000^(-2i/K).

    Name the steps angle (T, K/2), which is t 10000^(-2i/K) without a minus sign, even and odd (..., T, K/2), the entries of d_out at
    even and at odd places, and d_x.

    Args:
        d_out: (..., T, K).   cache: None.

    Returns:
        d_x (..., T, K).
    """
    raise NotImplementedError("Lesson 7, exercise 6")
