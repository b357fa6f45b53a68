"""Chapter 11, encoder and decoder: the exercises. Fill in the functions, and run `tinymm check 11`.

Use the names of the lesson for your arrays (q, k, v, mixed, d_mixed, d_memory ...): the checker can then tell you the first
one that is wrong. B is the number of texts, S the length of the source, T of the target, D the width,
V the number of tokens. `attention_forward` and `attention_backward` of chapter 6 are imported below: use them.
"""

import numpy as np

from tinymm.functional import attention_backward, attention_forward


def product_gradient(left, d_out):
    """The gradient of W in left @ W, for any leading axes. It is given."""
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def shift(texts, pad, end):
    """What the decoder reads, and what it must say: the same text, one place further on.

        texts      a b c          texts      d - -
        target     E a b c        target     E d - -
        labels     a b c E        labels     d E x x        E is `end`, - is `pad`, x is -100

    Name the steps lengths (B,), the number of words of each text, target (B, L + 1), labels (B, L + 1).

    Args:
        texts: token ids (B, L), filled up at the right with the number `pad`, which stands nowhere else.
        pad, end: numbers, any two; `end` does not occur in the texts.

    Returns:
        target (B, L + 1), which begins with `end`, and labels (B, L + 1): the text, then `end`, then -100 at all places
        behind it. Do not change texts.
    """
    raise NotImplementedError("Lesson 11, exercise 1")


def cross_forward(x, memory, W_q, W_k, W_v, W_o, readable):
    """Cross-attention with one head:  out = softmax(q k^T / sqrt(D)) v W_o,  q = x W_q,  k = memory W_k,  v = memory W_v.

    Name the steps q (B, T, D), k and v (B, S, D), mixed (B, T, D): what the attention gives, before W_o.

    Args:
        x: the decoder's vectors (B, T, D).   memory: the encoder's vectors (B, S, D).   W_q, W_k, W_v, W_o: (D, D).
        readable: boolean (B, S), False where the source is padding. `attention_forward(q, k, v, mask)` takes a mask that
            broadcasts to (B, T, S), True where looking is allowed; it returns mixed and its cache.

    Returns:
        out (B, T, D), and the cache (x, memory, W_q, W_k, W_v, W_o, attention, mixed), where attention is the cache of
        `attention_forward`.
    """
    raise NotImplementedError("Lesson 11, exercise 2")


def cross_backward(d_out, cache):
    """The gradients of x, of the memory, and of the four weights.

    Name the steps d_W_o, d_mixed (B, T, D), d_q (B, T, D), d_k and d_v (B, S, D), d_W_v, d_W_k, d_W_q, d_memory, d_x.
    `attention_backward(d_mixed, attention)` gives d_q, d_k, d_v.

    Args:
        d_out: (B, T, D).   cache: (x, memory, W_q, W_k, W_v, W_o, attention, mixed), as `cross_forward` returns it.

    Returns:
        d_x (B, T, D), d_memory (B, S, D), d_W_q, d_W_k, d_W_v, d_W_o (D, D).
    """
    raise NotImplementedError("Lesson 11, exercise 3")


def stack_backward(d_out, caches):
    """The gradients of a decoder of N layers which all look at the same memory:

        x <- x + cross(x, memory, W[n]),  n = 0 .. N - 1,  where cross is `cross_forward` with the four matrices W[n]

    Use your `cross_backward`; it must be right first. Name the sums d_x (B, T, D) and d_memory (B, S, D), the parts of a
    layer d_branch (B, T, D) and d_part (B, S, D), and the weights' gradients d_W.

    Args:
        d_out: (B, T, D).   caches: a list of the N caches of `cross_forward`, the first layer's first.

    Returns:
        d_x (B, T, D), d_memory (B, S, D), d_W (N, 4, D, D), for each layer its d_W_q, d_W_k, d_W_v, d_W_o.
    """
    raise NotImplementedError("Lesson 11, exercise 4")


def greedy(decode, B, pad, end, longest):
    """Write B texts, each time the likeliest next word, until all have said `end`, or have `longest` words.

    Name the steps text (B, t), which begins with a column of `end`, done (B,), boolean, and following (B,), the next words.

    Args:
        decode: a function, the decoder with the source already in it; in the lesson it would be
            `model.decode(memory, readable, text)[0]`. It takes what was written so far, ids (B, t) beginning with `end`, and
            returns the logits (B, t, V), at each place those of the next word.
        B, pad, end, longest: numbers. A text that has said `end` gets `pad` in all later columns.

    Returns:
        what was written: an array of whole numbers (B, at most longest), without the `end` in front, but with the `end`
        that a text has said itself. It has as many columns as the longest of the texts.
    """
    raise NotImplementedError("Lesson 11, exercise 5")
