"""Chapter 15, captioning: the exercises. Fill in the functions, and run `tinymm check 15`.

Use the names of the lesson for your arrays (p, y, share, d_values, d_scores, totals, chosen ...): the checker then can tell you
the first one that is wrong. B images or texts, T words, V words in the vocabulary, R captions, N image tokens, D width, K texts in
the beam. `tinymm check 15.3 --hint` gives a hint.
"""

import numpy as np


def sequence_loss_forward(logits, labels, real):
    """The mean over all real words of the batch of -log p of the label:

        L = - sum over b, t of  real[b, t] * log softmax(logits[b, t])[labels[b, t]]  /  M,    M the number of real words

    Name the steps log_p (B, T, V), right (B, T): log_p of the labels, and loss. Large logits must not overflow.

    Args:
        logits: (B, T, V).   labels: whole numbers (B, T), each from 0 to V - 1, also at the padding.
        real: boolean (B, T), True at the words that count.

    Returns:
        loss, a number, and the cache (p, labels, real), where p (B, T, V) holds the probabilities.
    """
    raise NotImplementedError("Lesson 15, exercise 1")


def sequence_loss_backward(d_loss, cache):
    """The gradient of the logits.

    Name the steps y (B, T, V), one-hot; share (B, T), what each place has in the mean; and d_logits.

    Args:
        d_loss: a number.   cache: (p, labels, real), as `sequence_loss_forward` returns it.

    Returns:
        d_logits (B, T, V).
    """
    raise NotImplementedError("Lesson 15, exercise 2")


def read_image_backward(d_out, cache):
    """The gradients of the words' vectors and of the image tokens, when every word of every caption looked at its image:

        memory = tokens[index],  weights = softmax(x memory^T / sqrt(D)),  out = weights memory

    A token was a key and a value, all words of a caption read the same tokens, and captions with the same index the same image.
    Name the steps d_values (R, N, D), d_weights (R, T, N), d_scores (R, T, N), d_keys (R, N, D), d_x (R, T, D), d_memory (R, N, D),
    and d_tokens (B, N, D).

    Args:
        d_out: (R, T, D).   cache: (x, memory, weights, index, B); x (R, T, D), memory (R, N, D), weights (R, T, N),
            index: whole numbers (R,), the image of each caption, from 0 to B - 1; B: how many images there are.

    Returns:
        d_x (R, T, D), and d_tokens (B, N, D).
    """
    raise NotImplementedError("Lesson 15, exercise 3")


def beam_step(scores, log_p, width):
    """Extend each of K beginnings by each of V words, and keep the best.

        the beginning k with the word v has the score  scores[k] + log_p[k, v]

    Name the steps totals (K, V), chosen: the places of the best in the flattened totals, new_scores, parents, words.

    Args:
        scores: (K,).   log_p: the logarithms of the probabilities of the next word (K, V).
        width: how many to keep; all K V if there are no more.

    Returns:
        new_scores, parents, words: arrays of the same length (at most width), the best first. parents says which beginning was
        extended (0 to K - 1), words by which word (0 to V - 1).
    """
    raise NotImplementedError("Lesson 15, exercise 4")


def beam_search(next_log_p, end, width, longest, power):
    """The best text that a beam of `width` finds. Use your `beam_step`.

    A text that says `end` leaves the beam and is set aside with its value  score / t ** power,  t its length with `end`. At each
    length the beam keeps the `width` best of all extensions, those that end among them; those that ended before take no place. The best
    value wins. If no text has ended after `longest` words, the best open one is taken, with the value score / longest ** power.
    You may stop when no text is open, or when no open one can win any more (see the lesson); the result is the same.

    Args:
        next_log_p: a function, the model. It takes K texts of t words each, an array of whole numbers (K, t) (at the beginning one
            text without words, (1, 0)), and returns the logarithms of the probabilities of the next word (K, V).
        end: the number of the word that ends a text.   width, longest: whole numbers, 1 or more.   power: a number, 0 or more.

    Returns:
        the text, an array of whole numbers (t,), with its `end` if it has one, and its value, a number.
    """
    raise NotImplementedError("Lesson 15, exercise 5")
