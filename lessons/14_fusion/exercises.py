"""Chapter 14, fusion: the exercises. Fill in the functions, and run `tinymm check 14`.

Use the names of the lesson for your arrays (share, k_t, k_i, mixed, d_k_i, d_image ...): the checker can then tell you the first
one that is wrong. Each exercise may call your answers to those before it. `attention_forward` and `attention_backward` of chapter 6
are imported below: use them.

B texts, T words in each, N image tokens for each text; D the width of the words, C that of the image tokens. `tinymm check 14.2 --hint`
gives a hint.
"""

import numpy as np

from tinymm.functional import attention_backward, attention_forward


def product_gradient(left, d_out):
    """The gradient of W in left @ W, for any leading axes. It is given."""
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def prefix_mask(N, T):
    """Who may see whom in the sequence [N image tokens, T words]? All see the whole image; a word also sees itself and the words
    before it; an image token sees no word.

    Args:
        N, T: whole numbers; N may be 0.

    Returns:
        a boolean array (N + T, N + T), True where the query (row) may see the key (column).
    """
    raise NotImplementedError("Lesson 14, exercise 1")


def image_share(scores_i, scores_t):
    """How much of one softmax over both kinds of keys falls to the image:

        share = Z_i / (Z_i + Z_t),   Z_i = sum of e^score over the image tokens,   Z_t = the same over the words

    Large scores must not overflow: subtract the largest of both kinds first. Name the steps highest, Z_i, Z_t (all (..., T, 1); Z_i and Z_t
    after the subtraction), and share.

    Args:
        scores_i: the scores at the image tokens (..., T, N).   scores_t: those at the words (..., T, T), -inf where looking is forbidden.

    Returns:
        share (..., T, 1).
    """
    raise NotImplementedError("Lesson 14, exercise 2")


def joint_attention_forward(x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o):
    """One attention of the words over the image tokens and the words, with one head:

        out = Attention(x W_q, [image W_ki, x W_kt], [image W_vi, x W_vt]) W_o

    The image comes first, and a word sees the whole image, itself and the words before it. Name the steps q, k_t, v_t (B, T, D),
    k_i, v_i (B, N, D), k, v (B, N + T, D), mixed (B, T, D), out. `attention_forward(q, k, v, mask)` divides by sqrt(D), takes a mask
    (T, N + T), and returns mixed and its cache.

    Args:
        x: the words' vectors (B, T, D).   image: the image tokens (B, N, C).   W_q, W_kt, W_vt, W_o: (D, D).   W_ki, W_vi: (C, D).

    Returns:
        out (B, T, D), and the cache (x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, attention, mixed), where attention is the cache of
        `attention_forward`.
    """
    raise NotImplementedError("Lesson 14, exercise 3")


def joint_attention_backward(d_out, cache):
    """The gradients of the words, of the image tokens, and of the six weights.

    Name the steps d_W_o, d_mixed (B, T, D), d_q (B, T, D), d_k and d_v (B, N + T, D), d_v_i and d_k_i (B, N, D), d_v_t and d_k_t
    (B, T, D), d_W_vi, d_W_ki, d_W_vt, d_W_kt, d_W_q, d_image, d_x. `attention_backward(d_mixed, attention)` gives d_q, d_k, d_v.

    Args:
        d_out: (B, T, D).   cache: (x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, attention, mixed), as `joint_attention_forward` returns it.

    Returns:
        d_x (B, T, D), d_image (B, N, C), d_W_q, d_W_kt, d_W_vt (D, D), d_W_ki, d_W_vi (C, D), d_W_o (D, D).
    """
    raise NotImplementedError("Lesson 14, exercise 4")


def concatenated_backward(d_out, cache):
    """The gradients of concatenation: one self-attention over sequence = [image, x] with the prefix mask, of which ALL rows go on:

        q, k, v = sequence W_q, sequence W_k, sequence W_v        out = Attention(q, k, v) W_o

    Name the steps d_W_o, d_mixed, d_q, d_k, d_v (all (B, N + T, D)), d_W_v, d_W_k, d_W_q, d_sequence (B, N + T, D), d_image, d_x.

    Args:
        d_out: (B, N + T, D), the image's rows first.   cache: (sequence, N, W_q, W_k, W_v, W_o, attention, mixed); sequence (B, N + T, D),
            attention the cache of `attention_forward`, mixed (B, N + T, D) what it gave.

    Returns:
        d_x (B, T, D), d_image (B, N, D), d_W_q, d_W_k, d_W_v, d_W_o (D, D).
    """
    raise NotImplementedError("Lesson 14, exercise 5")
