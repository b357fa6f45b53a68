"""Chapter 6, attention: the exercises. Fill in the functions, and run `tinymm check 6`.

Use the names of the lesson for your arrays (scores, weights, d_weights, d_scores ...): the checker then can tell you the
first one that is wrong. T is the number of queries, S of keys and values, d the width of a query or key, V that of a value.
`tinymm check 6.2 --hint` gives a hint.
"""

import numpy as np


def causal_mask(T):
    """Which keys may a query see? Query t sees the keys 0 .. t.

    Args:
        T: the number of queries, and of keys.

    Returns:
        a boolean array (T, T), True where query (row) may see key (column).
    """
    raise NotImplementedError("Lesson 6, exercise 1")


def attention_scores(q, k, allowed=None):
    """How well each key answers each query:  scores = q k^T / sqrt(d),  and -inf where looking is not allowed.

    Args:
        q: queries (..., T, d).   k: keys (..., S, d).   allowed: boolean, True where looking is allowed, broadcasts to
            (..., T, S); None allows all.

    Returns:
        scores (..., T, S).
    """
    raise NotImplementedError("Lesson 6, exercise 2")


def attention_forward(q, k, v, allowed=None):
    """Attention(q, k, v) = softmax(q k^T / sqrt(d)) v.

    Large scores must not overflow: subtract the largest of each row first (`highest`), as in chapter 2.

    Args:
        q: queries (..., T, d).   k: keys (..., S, d).   v: values (..., S, V).   allowed: as in `attention_scores`.

    Returns:
        out (..., T, V), and the cache (q, k, v, weights) for the backward; weights (..., T, S).
    """
    raise NotImplementedError("Lesson 6, exercise 3")


def attention_backward(d_out, cache):
    """The gradients of q, k and v.

    Name the steps d_weights (..., T, S), d_v, mean (..., T, 1), d_scores (..., T, S), d_q, d_k.

    Args:
        d_out: (..., T, V).   cache: (q, k, v, weights), as `attention_forward` returns it.

    Returns:
        d_q (..., T, d), d_k (..., S, d), d_v (..., S, V).
    """
    raise NotImplementedError("Lesson 6, exercise 4")
