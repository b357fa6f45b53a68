"""Chapter 9, GPT: the exercises. Fill in the functions, and run `tinymm check 9`.

B texts of T tokens have N = B T places. There are V different tokens, each with a vector of D numbers.
`tinymm check 9.3 --hint` gives a hint.
"""

import numpy as np


def windows(stream, starts, T):
    """What the model reads, and what it must guess: the tokens one place further.

        ids[b, t] = stream[starts[b] + t]        labels[b, t] = stream[starts[b] + t + 1]

    Name the steps places (B, T + 1), which are starts[b] + 0 ... starts[b] + T, and tokens (B, T + 1), those at the places.

    Args:
        stream: the token ids of a long text (M,).   starts: where the windows begin (B,).   T: the length of a window.

    Returns:
        ids (B, T), labels (B, T).
    """
    raise NotImplementedError("Lesson 9, exercise 1")


def tied_forward(ids, labels, table, weight):
    """The loss of a model with one table at both ends, over all places; a linear layer stands for the blocks.

        x = table[ids],   hidden = x weight,   logits = hidden table^T
        loss = mean over all N places of -log softmax(logits)[label]

    table^T is the transpose (D, V). Scores may be large: subtract each row's maximum before any exponential, and take the
    logarithm of the sum, not of the softmax: log softmax(logits) = shifted - log(sum of exp(shifted)).

    Name the steps x (B, T, D), hidden (B, T, D), logits (B, T, V), shifted (B, T, V), log_p (B, T, V), losses (B, T, 1).

    Args:
        ids, labels: token ids (B, T).   table: (V, D).   weight: (D, D).

    Returns:
        loss (a number), and the cache (ids, labels, table, weight, x, hidden, p), where p (B, T, V) is the softmax.
    """
    raise NotImplementedError("Lesson 9, exercise 2")


def tied_backward(d_loss, cache):
    """The gradients of table and weight. The table was used twice.

    Name the steps y (B, T, V), which is one-hot, d_logits (B, T, V), d_head (V, D), what the table gets from the
    output, d_hidden (B, T, D), d_weight (D, D), d_x (B, T, D), d_read (V, D), what the table gets from the input, and
    d_table (V, D).

    Args:
        d_loss: a number.   cache: (ids, labels, table, weight, x, hidden, p), as `tied_forward` returns it.

    Returns:
        d_table (V, D), d_weight (D, D).
    """
    raise NotImplementedError("Lesson 9, exercise 3")


def perplexity(probabilities):
    """The perplexity of texts:  e to the power of the mean of -log p, one mean over all places.

    Args:
        probabilities: what the model gave to the right token at each place, an array of any shape.

    Returns:
        a number.
    """
    raise NotImplementedError("Lesson 9, exercise 4")


def filter_top(p, top_k=None, top_p=None):
    """A distribution without its tail, divided by the sum of what is left.

    top_k keeps the k likeliest tokens. top_p keeps a token if all likelier ones together have less than top_p. With
    both, a token must pass both; the sums for top_p are those of p as it is given. None means that there is no such limit.

    Name the steps order (V,), the ids from the likeliest on, ranked (V,), p in that order, before (V,), what all that are
    likelier have together, keep (V,), True or False in the order of ranked, and kept (V,), in the order of p and not yet
    divided.

    Args:
        p: probabilities (V,), no two of them equal.   top_k: 1 or more, or None.   top_p: above 0, at most 1, or None.

    Returns:
        probabilities (V,).
    """
    raise NotImplementedError("Lesson 9, exercise 5")


def attention_step(q, k, v, keys, values):
    """Attention of one new place with the key-value cache:  out = softmax(q K^T / sqrt(d)) V, K and V with the new row.

    There are H heads of width d, and S places in the past; the new place comes after them, and also sees itself.

    Name the steps new_keys (B, H, S + 1, d), new_values (B, H, S + 1, d), scores (B, H, 1, S + 1), and weights of the
    same shape.

    Args:
        q, k, v: query, key and value of the new place, (B, H, 1, d).   keys, values: those of the past, (B, H, S, d).

    Returns:
        out (B, H, 1, d), new_keys, new_values (the new arrays; those of the past stay as they are).
    """
    raise NotImplementedError("Lesson 9, exercise 6")
