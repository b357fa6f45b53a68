"""Chapter 10, BERT: the exercises. Fill in the functions, and run `tinymm check 10`.

Use the names of the lesson for your arrays (chosen, h, z, a, logits, d_logits, d_table ...): the checker can then name the
first wrong one. `gelu_forward(z)` gives a and its cache, `gelu_backward(d_a, cache)` gives d_z: use them.

R texts, T places, M chosen places in all texts together, V tokens, D entries of a vector.
"""

import numpy as np

from tinymm.functional import gelu_backward, gelu_forward


def mask_words(ids, draw, fate, other, share, mask_id, n_special):
    """Hide words by the 80/10/10 rule.

    A place is chosen if its token is a word (its id is n_special or more) and its `draw` is below `share`. At a chosen place
    is read

        mask_id            where fate is below 0.8
        other              where fate is from 0.8 to below 0.9
        the word itself    where fate is 0.9 or more

    and at all other places the token itself. Name the steps words (R, T), chosen (R, T), read (R, T), labels (M,).

    Args:
        ids: token ids (R, T).   draw, fate: numbers from 0 to 1 (R, T).   other: ids of words drawn by chance (R, T).
        share, mask_id, n_special: numbers.

    Returns:
        read (R, T), chosen (R, T) boolean, labels (M,): the ids that stood at the M chosen places. Do not change ids.
    """
    raise NotImplementedError("Lesson 10, exercise 1")


def masked_loss_forward(hidden, table, W, b, bias, chosen, labels):
    """The head and its loss, over the chosen places only:

        h = hidden[chosen]      z = h W + b      a = gelu(z)      logits = a table^T + bias      p = softmax(logits)
        loss = the mean over the M chosen places of -log p[label]

    Name the steps h, z, a (M, D), gelu (the cache of gelu_forward), logits, shifted, log_p, p (M, V), loss. It must be right
    for large logits, and where a probability is rounded to 0: take the loss from log_p, as in the lesson.

    Args:
        hidden: (R, T, D).   table: (V, D).   W: (D, D).   b: (D,).   bias: (V,).
        chosen: boolean (R, T), True at M places.
        labels: (M,), in the order of hidden[chosen].

    Returns:
        loss, a number, and the cache (hidden, table, W, chosen, labels, h, gelu, a, p).
    """
    raise NotImplementedError("Lesson 10, exercise 2")


def masked_loss_backward(d_loss, cache):
    """The gradients of hidden, table, W, b and bias.

    Name the steps y (M, V), d_logits (M, V), d_bias, d_table, d_a (M, D), d_z (M, D), d_W, d_b, d_h (M, D), d_hidden.

    Args:
        d_loss: a number.   cache: (hidden, table, W, chosen, labels, h, gelu, a, p), as `masked_loss_forward` returns it.

    Returns:
        d_hidden (R, T, D), d_table (V, D), d_W (D, D), d_b (D,), d_bias (V,).
    """
    raise NotImplementedError("Lesson 10, exercise 3")


def neighbours_backward(d_loss, cache):
    """The gradients of the smallest model that reads both sides, with a table that is used at both ends:

        x = table[ids]      hidden_t = x_(t-1) + x_(t+1)      loss = masked_loss(hidden, table, W, b, bias, chosen, labels)

    (The first place has no left neighbour, the last no right one.) Use your `masked_loss_backward`. Name the steps d_hidden
    and d_head (V, D), the table's part as the output, both of which it gives; then d_x (R, T, D), d_read (V, D), the table's
    part as the input, and d_table.

    Args:
        d_loss: a number.   cache: (ids (R, T), head), where head is the cache of `masked_loss_forward`.

    Returns:
        d_table (V, D), d_W (D, D), d_b (D,), d_bias (V,).
    """
    raise NotImplementedError("Lesson 10, exercise 4")


def mean_pool_forward(x, real):
    """One vector for each text: the mean over its real tokens,  out = 1/n sum_t r_t x_t,

    where r_t is 1 at a real token and 0 at padding, and n is the number of real tokens of this text.

    Name the steps counts (R, 1), shares (R, T): how much of each token goes into the mean, out (R, D).

    Args:
        x: (R, T, D).   real: boolean (R, T), False at padding, and True somewhere in each row.

    Returns:
        out (R, D), and the cache shares (R, T).
    """
    raise NotImplementedError("Lesson 10, exercise 5")


def mean_pool_backward(d_out, cache):
    """The gradient of x: to each token its share of d_out. Name it d_x.

    Args:
        d_out: (R, D).   cache: shares (R, T), as `mean_pool_forward` returns it.

    Returns:
        d_x (R, T, D).
    """
    raise NotImplementedError("Lesson 10, exercise 6")
