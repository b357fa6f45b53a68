"""Chapter 3, training: the exercises. Fill in the functions, and run `tinymm check 3`.

An optimizer here is a function: it takes what it needs and returns new arrays; it changes nothing in place.
"""

import numpy as np


def he_start(d_in, d_out, rng):
    """The first weights of a layer before a ReLU: normal, mean 0, standard deviation sqrt(2 / D_in).

    Args:
        d_in, d_out: the widths.   rng: a numpy.random.Generator; call rng.normal(size=...) once, and scale.

    Returns:
        weight (D_in, D_out).
    """
    raise NotImplementedError("Lesson 3, exercise 1")


def momentum_step(w, g, m, rate, mu):
    """m' = mu m + g,   w' = w - rate m'.

    Args:
        w, g, m: weights, gradient and running sum, of equal shape.   rate, mu: numbers.

    Returns:
        w', m'. Name them new_w and new_m.
    """
    raise NotImplementedError("Lesson 3, exercise 2")


def warmup_cosine(step, steps, peak, warmup):
    """The learning rate of a step, counted from 0.

        step < warmup:    peak (step + 1) / warmup
        else:             peak (1 + cos(pi (step - warmup) / (steps - warmup))) / 2

    Args:
        step: from 0 to steps - 1.   steps: how many there are.   peak: the highest rate.   warmup: how many steps grow.

    Returns:
        a number.
    """
    raise NotImplementedError("Lesson 3, exercise 3")


def adamw_step(w, g, m, v, t, rate, beta1, beta2, decay, epsilon):
    """One step of AdamW (Loshchilov and Hutter 2019).

        m' = beta1 m + (1 - beta1) g             v' = beta2 v + (1 - beta2) g^2
        m_hat = m' / (1 - beta1^t)               v_hat = v' / (1 - beta2^t)
        w' = w - rate (m_hat / (sqrt(v_hat) + epsilon) + decay w)

    Name the steps new_m, new_v, m_hat, v_hat, step, new_w; step is what stands in the last bracket.

    Args:
        w, g, m, v: arrays of equal shape.   t: the number of this step, from 1.   The others: numbers.

    Returns:
        w', m', v'.
    """
    raise NotImplementedError("Lesson 3, exercise 4")


def clip_by_norm(gradients, limit):
    """Scale all gradients together so that their global norm is at most `limit`.

        norm = sqrt(sum over all arrays of the sum of squares)

    Args:
        gradients: a list of arrays.   limit: a number.

    Returns:
        two things: a list of new arrays (equal to the old ones if the norm is not above the limit), and the global norm before scaling.
    """
    raise NotImplementedError("Lesson 3, exercise 5")
