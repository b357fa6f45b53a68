"""Chapter 19, fast attention: the exercises. Fill in the functions, and run `tinymm check 19`.

Use the names of the lesson for your arrays (new_m, correction, exps, scores, weights, mean, d_scores ...): the checker then can tell
you the first one that is wrong. Each exercise may call your answers to those before it.

T queries, S keys and values, n keys of a tile; d is the width of a query or key, V that of a value. All arrays have two axes. m begins
with the lowest finite number, so it is never -inf. The checker compares numbers; whether a table of size (T, S) was made on the way, it
does not see. `tinymm check 19.1 --hint` gives a hint.
"""

import numpy as np


def online_step(m, l, acc, scores, values):
    """One tile of keys passes by: bring the maximum and both sums up to date.

        m' = max(m, largest score)     c = e^(m - m')     l' = c l + sum_j e^(s_j - m')     a' = c a + sum_j e^(s_j - m') v_j

    for each query. Large scores must not overflow, and a score may be -inf. Name the steps new_m (T, 1), correction (T, 1),
    exps (T, n), new_l (T, 1), new_acc (T, V). Do not change the arguments.

    Args:
        m, l: the maximum and the sum so far (T, 1).   acc: the sum of exponentials times values so far (T, V).
        scores: those of the tile (T, n).   values: (n, V).

    Returns:
        new_m (T, 1), new_l (T, 1), new_acc (T, V).
    """
    raise NotImplementedError("Lesson 19, exercise 1")


def merge(m_a, l_a, acc_a, m_b, l_b, acc_b):
    """Two processors have each seen a part of the keys. Make of their results what one would have that had seen all.

    Name the steps m (T, 1), factor_a (T, 1) and factor_b (T, 1), by which their sums are corrected, l (T, 1), acc (T, V).

    Args:
        m_a, l_a, acc_a: maximum (T, 1), sum (T, 1) and sum of values (T, V) of the first part.   m_b, l_b, acc_b: of the second.

    Returns:
        m (T, 1), l (T, 1), acc (T, V).
    """
    raise NotImplementedError("Lesson 19, exercise 2")


def tiled_attention_forward(q, k, v, n, allowed=None):
    """softmax(q k^T / sqrt(d)) v, one tile of n keys after the other; the last tile may be shorter.

    A query that sees no key gets zeros, and m = 0 and l = 1 in the cache. Use your `online_step`. Name the arrays scores (T, n), those
    of a tile, with its mask; m (T, 1), l (T, 1), acc (T, V), and out (T, V).

    Args:
        q: (T, d).   k: (S, d).   v: (S, V).   n: keys of a tile.
        allowed: boolean (T, S), True where looking is allowed; None allows all.

    Returns:
        out (T, V), and the cache (q, k, v, n, allowed, out, m, l), with the arguments as they came: None stays None.
    """
    raise NotImplementedError("Lesson 19, exercise 3")


def tiled_attention_backward(d_out, cache):
    """The gradients of q, k and v, one tile of n keys after the other. Make no array of size (T, S).

    Name the steps mean (T, 1), which is dO . O; of each tile scores, weights, d_weights, d_scores (T, n); and d_q, d_k, d_v.

    Args:
        d_out: (T, V).   cache: (q, k, v, n, allowed, out, m, l), as `tiled_attention_forward` returns it; allowed may be None.

    Returns:
        d_q (T, d), d_k (S, d), d_v (S, V).
    """
    raise NotImplementedError("Lesson 19, exercise 4")


def tile_kinds(T, S, rows, keys):
    """What does a causal mask show of each tile? Query t sees the keys 0 .. t + S - T.

    The queries are cut into blocks of `rows`, the keys into tiles of `keys`; the last of each may be shorter. Look at the corners
    of a tile only: do not make the mask of all queries and keys.

    Args:
        T, S: how many queries and keys; T may be larger than S, too.   rows, keys: how many of them in a block and in a tile.

    Returns:
        kinds, an array of dtype int (blocks, tiles): 0 where no query of the block sees a key of the tile, 2 where each sees all, else 1.
    """
    raise NotImplementedError("Lesson 19, exercise 5")
