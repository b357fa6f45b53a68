"""Chapter 5, recurrence: the exercises. Fill in the functions, and run `tinymm check 5`.

Use the names of the lesson for your arrays (d_z, d_memory, d_bias ...): the checker can then name the first wrong one.
"""

import numpy as np


def sigmoid(z):
    """1 / (1 + e^-z), without overflow. It is given."""
    return 0.5 * (1 + np.tanh(z / 2))


def rnn_forward(x, weight_x, weight_h, bias):
    """A simple recurrent network:  h_t = tanh(x_t W_x + h_(t-1) W_h + b),  from a state of zeros.

    Args:
        x: (B, T, E).   weight_x: (E, D).   weight_h: (D, D).   bias: (D,).

    Returns:
        out (B, T, D), the state after each word, and the cache (x, states, weight_x, weight_h), where states (B, T + 1, D)
        are the zeros before the first word, states[:, 0], and then the states of out.
    """
    raise NotImplementedError("Lesson 5, exercise 1")


def rnn_backward(d_out, cache):
    """Backpropagation through time: the gradients of x, weight_x, weight_h and bias.

    At each time, from the last to the first, d_h (B, D) is d_out[:, t] plus from_next (B, D), what the step after gave back
    (zeros at the last word); d_z (B, D) is the gradient before the tanh. Name the sums d_x, d_weight_x, d_weight_h, d_bias.

    Args:
        d_out: (B, T, D).   cache: (x, states, weight_x, weight_h), as `rnn_forward` returns it.

    Returns:
        d_x (B, T, E), d_weight_x (E, D), d_weight_h (D, D), d_bias (D,).
    """
    raise NotImplementedError("Lesson 5, exercise 2")


def lstm_cell_forward(x, h, c, weight_x, weight_h, bias):
    """One step of an LSTM:  z = x W_x + h W_h + b,  of which the four quarters are, in this order,

        i = sigmoid(z_i)      f = sigmoid(z_f)      g = tanh(z_g)      o = sigmoid(z_o)
        c' = f c + i g        h' = o tanh(c')                (products entry by entry)

    Name the steps z (B, 4 D), i, f, g, o, new_c, tanh_c, new_h (B, D).

    Args:
        x: (B, E).   h, c: state and memory before the step (B, D).
        weight_x: (E, 4 D).   weight_h: (D, 4 D).   bias: (4 D,).

    Returns:
        (new_h, new_c), each (B, D), and the cache (x, h, c, weight_x, weight_h, i, f, g, o, tanh_c).
    """
    raise NotImplementedError("Lesson 5, exercise 3")


def lstm_cell_backward(d_out, cache):
    """The gradients of x, h, c, weight_x, weight_h and bias.

    Name the steps d_o, d_memory (the whole gradient of c', both ways), d_f, d_c, d_i, d_g (B, D), d_z (B, 4 D), and then the
    six results.

    Args:
        d_out: (d_new_h, d_new_c), each (B, D).   cache: as `lstm_cell_forward` returns it.

    Returns:
        d_x (B, E), d_h (B, D), d_c (B, D), d_weight_x (E, 4 D), d_weight_h (D, 4 D), d_bias (4 D,).
    """
    raise NotImplementedError("Lesson 5, exercise 4")


def binary_cross_entropy_forward(logits, targets):
    """The loss of yes-or-no answers, from the logits:  L = mean of  max(z, 0) - z y + log(1 + e^-|z|).

    It must be right for logits such as -1000 and 1000, too. Name the steps positive, which is max(z, 0), log_sum, which is
    log(1 + e^-|z|), losses (N,), all three terms, and loss, their mean.

    Args:
        logits: z (N,).   targets: y (N,), between 0 and 1.

    Returns:
        loss, a number, and the cache (logits, targets).
    """
    raise NotImplementedError("Lesson 5, exercise 5")


def binary_cross_entropy_backward(d_loss, cache):
    """The gradient of the logits: what the model said, minus what was right. Name the steps p (N,), d_logits (N,).

    Args:
        d_loss: a number.   cache: (logits (N,), targets (N,)).

    Returns:
        d_logits (N,).
    """
    raise NotImplementedError("Lesson 5, exercise 6")
