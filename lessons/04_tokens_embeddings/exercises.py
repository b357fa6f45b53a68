"""Chapter 4, tokens and embeddings: the exercises. Fill in the functions, and run `tinymm check 4`.

V is the number of tokens in the vocabulary, D the length of a vector. (B, T) are B texts of T tokens each, (N,) are N tokens.
Use the names of the lesson for your arrays (d_logits, d_head, d_hidden ...): the checker then can tell you the first one
that is wrong. `tinymm check 4.2 --hint` gives a hint.
"""

import numpy as np


def commonest_pair(words):
    """The pair of neighbouring tokens that occurs most often; of equally common pairs the first in the alphabet.

        {("l", "o", "w"): 5, ("s", "l", "o", "w"): 2}  ->  ("l", "o"), 7

    ("o", "w") has 7 too. First in the alphabet is the pair with the smaller first token, then with the smaller second token,
    as Python compares tuples. A pair that a word holds twice counts twice for each time that the word occurs.

    Args:
        words: a dictionary, the tokens of a word (a tuple of strings) -> how often it occurs. At least one word has two
            tokens or more.

    Returns:
        the pair, a tuple of two strings, and how often it occurs in all words together, a whole number.
    """
    raise NotImplementedError("Lesson 4, exercise 1")


def merge_pair(tokens, pair):
    """The tokens with each occurrence of the pair made into one token, from left to right.

        merge_pair(("a", "a", "a", "b"), ("a", "a"))  ->  ("aa", "a", "b")

    Args:
        tokens: a tuple of strings.   pair: a tuple of two strings.

    Returns:
        a tuple of strings; joined they are the same text as before.
    """
    raise NotImplementedError("Lesson 4, exercise 2")


def encode(word, merges):
    """The tokens of a word: begin with its letters, and make the merges in the order in which they were learned.

        encode("lowest", [("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w")])  ->  ("low", "est")

    Call your merge_pair; the checker can judge encode only when exercise 2 is right.

    Args:
        word: a string.   merges: a list of pairs of strings, the first learned first.

    Returns:
        a tuple of strings.
    """
    raise NotImplementedError("Lesson 4, exercise 3")


def embedding_backward(d_out, cache):
    """The gradient of out = table[ids], a scatter-add:  d_table[i] = sum of all d_out[b, t] with ids[b, t] = i.

    Args:
        d_out: (B, T, D).   cache: (ids, V), whole numbers (B, T), and the number of rows of the table.

    Returns:
        d_table (V, D); a row that no id names is 0.
    """
    raise NotImplementedError("Lesson 4, exercise 4")


def bigram_forward(ids, table, head, following):
    """A model that guesses the next token from one token, and its loss.

        hidden = table[ids]      logits = hidden head      p = softmax(logits)      loss = mean of -log p[n, following[n]]

    It must be right for logits such as 1000, too. Name the steps hidden (N, D), logits, shifted (the logits minus the largest
    of their row), log_p (N, V), loss.

    Args:
        ids: the tokens that are read, whole numbers (N,).   table: (V, D).   head: (D, V).
        following: the token behind each of them, whole numbers (N,).

    Returns:
        loss, a number, and the cache (ids, hidden, head, p, following); p (N, V). (The first entry is the ids alone here; the
        lesson keeps the cache of its embedding_forward there.)
    """
    raise NotImplementedError("Lesson 4, exercise 5")


def bigram_backward(d_loss, cache):
    """The gradients of table and head, for the loss of `bigram_forward`.

    If you call your embedding_backward (exercise 4, which must then be right), its cache is (ids, V): the table has V rows,
    as many as p has columns.

    Name the steps y (N, V), which is 1 at the right token and else 0, d_logits (N, V), d_head (D, V), d_hidden (N, D) and
    d_table (V, D).

    Args:
        d_loss: a number.   cache: (ids, hidden, head, p, following), as `bigram_forward` returns it.

    Returns:
        d_table (V, D), d_head (D, V).
    """
    raise NotImplementedError("Lesson 4, exercise 6")
