"""Chapter 2, softmax and cross-entropy: the exercises. Fill in the functions, and run `tinymm check 2`.

V is the number of scores, N the number of rows. `tinymm check 2.4 --hint` gives a hint.
"""

import numpy as np


def softmax_forward(x):
    """p_i = exp(x_i) / sum_j exp(x_j) along the last axis, without overflow.

    Args:
        x: scores (..., V).

    Returns:
        p (..., V), and the cache p.
    """
    raise NotImplementedError("Lesson 2, exercise 1")


def softmax_backward(d_out, cache):
    """The gradient of the scores:  d_x = p (d_p - sum_i p_i d_p_i).

    d_p is d_out here. Name the step inner (..., 1): the sum of p * d_out along the last axis.

    Args:
        d_out: (..., V).   cache: p (..., V).

    Returns:
        d_x (..., V).
    """
    raise NotImplementedError("Lesson 2, exercise 2")


def log_softmax(x):
    """log p, computed without computing p first:  x - max x - log sum exp(x - max x).

    Args:
        x: scores (..., V); they may be as large as 1000, and as far apart.

    Returns:
        log_p (..., V), all of it finite.
    """
    raise NotImplementedError("Lesson 2, exercise 3")


def cross_entropy_forward(logits, labels):
    """The mean over the rows of -log p[label], finite even where p is rounded to 0. (Call your log_softmax.)

    Args:
        logits: (N, V); they may be as large as 1000.   labels: integers (N,), 0 to V - 1.

    Returns:
        the loss, a number, and the cache (p (N, V), labels).
    """
    raise NotImplementedError("Lesson 2, exercise 4")


def cross_entropy_backward(d_loss, cache):
    """The gradient of the logits: (p - y) / N, times d_loss.

    Name the steps y (N, V), the right distribution, and d_logits. Do not change p in place: it belongs to the cache.

    Args:
        d_loss: a number.   cache: (p (N, V), labels (N,)).

    Returns:
        d_logits (N, V).
    """
    raise NotImplementedError("Lesson 2, exercise 5")
