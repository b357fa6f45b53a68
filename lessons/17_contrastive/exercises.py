"""Chapter 17, contrastive learning: the exercises. Fill in the functions, and run `tinymm check 17`.

Use the names of the lesson for your arrays (along, logits, log_p, d_logits ...): the checker then can tell you the first one that
is wrong. Each exercise may call your answers to those before it.

B pairs of a drawing and a name, D numbers in a vector, T words in a name, V words in the table. `tinymm check 17.3 --hint`
gives a hint.
"""

import numpy as np


def l2_normalize_backward(d_unit, cache):
    """The gradient of x, when unit = x / length, with length = sqrt(sum of x^2) over the last axis.

    Name the steps along (..., 1), the part of d_unit that points along unit, and d_x.

    Args:
        d_unit: (..., D).   cache: (unit, length), as the lesson's `l2_normalize_forward` returns it; unit (..., D), length (..., 1).

    Returns:
        d_x (..., D).
    """
    raise NotImplementedError("Lesson 17, exercise 1")


def info_nce_forward(a, b, log_scale):
    """The InfoNCE loss of B pairs: row i of a belongs to row i of b, and every other pair is wrong.

        logits = e^log_scale a b^T      p: softmax of each row      q: softmax of each column
        loss = -1 / (2 B)  sum over i of  (log p[i, i] + log q[i, i])

    It must also work for a scale in the thousands: a large number overflows in exp, and a p that is rounded to 0 has no logarithm.
    Name the steps cosines, logits, log_p, log_q (all (B, B)). You may write a function `log_softmax(x, axis)` beside it.

    Args:
        a, b: vectors of length 1, (B, D) each.   log_scale: a single number.

    Returns:
        loss, and the cache (a, b, scale, logits, p, q), where scale is e^log_scale.
    """
    raise NotImplementedError("Lesson 17, exercise 2")


def info_nce_backward(d_loss, cache):
    """The gradients of a, b and log_scale.

    Name the steps d_logits (B, B), d_log_scale, d_cosines (B, B), d_a, d_b.

    Args:
        d_loss: the gradient of the loss, a number.   cache: (a, b, scale, logits, p, q), as `info_nce_forward` returns it.

    Returns:
        d_a (B, D), d_b (B, D), d_log_scale, a number.
    """
    raise NotImplementedError("Lesson 17, exercise 3")


def text_tower_backward(d_unit, cache):
    """The gradient of the table of words, through the whole text tower with the normalisation at its end. The forward is

        shares[i, t] = 1 / (number of real words of text i) for a real word, 0 for padding         (B, T)
        words = table[ids]                                                                         (B, T, D)
        mean[i] = sum over t of  shares[i, t] words[i, t]                                          (B, D)
        unit, unit_cache = l2_normalize_forward(mean)                                              (B, D)

    A word may come several times, in one text or in several. Name the steps d_mean, d_words (B, T, D), d_table.

    Args:
        d_unit: (B, D).   cache: (ids, shares, table, unit_cache); ids (B, T), shares (B, T), table (V, D) is there for its
            shape, unit_cache is what `l2_normalize_backward` wants.

    Returns:
        d_table (V, D).
    """
    raise NotImplementedError("Lesson 17, exercise 4")


def recall_at_k(similarity, right, k):
    """The share of the queries whose right item is among the k most similar ones.

    An item that is exactly as similar as the right one counts as if it came before it. Name the steps own (N, 1), the similarity
    of each query's right item, and rank (N,), which is 1 if no other item is as similar.

    Args:
        similarity: (N, M), a row for each query, a column for each item.   right: (N,), the number of each query's right item.
        k: at least 1.

    Returns:
        a number between 0 and 1.
    """
    raise NotImplementedError("Lesson 17, exercise 5")
