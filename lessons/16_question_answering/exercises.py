"""Chapter 16, question answering: the exercises. Fill in the functions, and run `tinymm check 16`.

Use the names of the lesson for your arrays (counts, shares, masked, log_p, p, y, d_logits, scores ...): the checker can then
tell you the first one that is wrong.

R texts, T places, D entries of a vector, G groups. Column 0 of the span's logits is the start, column 1 the end.
"""

import numpy as np


def blind_answers(train_questions, train_answers, questions):
    """The blind baseline: to each question the answer that was right most often for this very question in training.

    Of equally common answers take the first in the alphabet. To a question that never occurred in training, give the commonest
    of all training answers.

    Args:
        train_questions, train_answers: lists of N strings; answer n is right for question n.   questions: a list of strings.

    Returns:
        a list of strings, one for each of `questions`.
    """
    raise NotImplementedError("Lesson 16, exercise 1")


def accuracy_by_group(right, group):
    """The accuracy of each group, their mean (all groups count the same), and the least of them.

    Name the steps counts (G,), shares (G,), mean, worst.

    Args:
        right: booleans (N,); in a group all may be False.   group: integers (N,) from 0 to G - 1, each of which occurs.

    Returns:
        shares (G,), and two numbers: mean, worst.
    """
    raise NotImplementedError("Lesson 16, exercise 2")


def even_probabilities(group):
    """With which probability must each example be drawn, so that every group is drawn equally often?

    Within a group all examples have the same probability. Name the steps counts (G,), probabilities (N,).

    Args:
        group: integers (N,) from 0 to G - 1, each of which occurs.

    Returns:
        probabilities (N,), which sum to 1.
    """
    raise NotImplementedError("Lesson 16, exercise 3")


def span_loss_forward(h, W, allowed, spans):
    """The loss of a span: the mean of the cross-entropies of its first and of its last place.

        logits = h W, and -infinity where it is not allowed        p = softmax of the logits over the places
        loss = the mean over the texts of  -(log p[first, start] + log p[last, end]) / 2

    Name the steps logits, masked, shifted, powers (R, T, 2), total (R, 1, 2), log_p (R, T, 2), loss, p. It must be right for
    large logits, and where a probability is rounded to 0: take the loss from log_p.

    Args:
        h: (R, T, D).   W: (D, 2), its columns are start and end.
        allowed: booleans (R, T), True somewhere in each text.   spans: integers (R, 2), the first and the last place, both
            belong to the answer.

    Returns:
        loss, a number, and the cache (h, W, spans, p).
    """
    raise NotImplementedError("Lesson 16, exercise 4")


def span_loss_backward(d_loss, cache):
    """The gradients of h and W.

    Name the steps y (R, T, 2), d_logits (R, T, 2), d_W, d_h.

    Args:
        d_loss: a number.   cache: (h, W, spans, p), as `span_loss_forward` returns it; p is 0 where it is not allowed.

    Returns:
        d_h (R, T, D), d_W (D, 2).
    """
    raise NotImplementedError("Lesson 16, exercise 5")


def best_span(logits, allowed, longest):
    """The best span (i, j) of each text: the one with the largest start logit of i plus end logit of j, where

        both places are allowed,   i <= j,   and the span has at most `longest` places.

    Name the steps masked (R, T, 2), sums (R, T, T), fits (T, T), scores (R, T, T), best (R,), spans.

    Args:
        logits: (R, T, 2).   allowed: booleans (R, T), True somewhere in each text.   longest: a number, 1 or more;
            it may be larger than T.

    Returns:
        spans, integers (R, 2): the first and the last place.
    """
    raise NotImplementedError("Lesson 16, exercise 6")
