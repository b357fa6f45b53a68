"""Chapter 1, gradients: the exercises. Fill in the functions, and run `tinymm check 1`.

`tinymm check 1.3 --hint` gives a hint; `--hint --hint` two.
"""

import numpy as np


def numerical_gradient(f, x, h=1e-5):
    """The gradient of a function of an array, measured entry by entry with central differences.

        gradient[i] = (f(x with x[i] + h) - f(x with x[i] - h)) / (2 h)

    Args:
        f: takes an array of the shape of x and returns a number.   x: an array of any shape.   h: the step.

    Returns:
        gradient, in the shape of x. x itself must be left as it was, to the last digit: x + h - h is not always x.
    """
    raise NotImplementedError("Lesson 1, exercise 1")


def linear_forward(x, weight, bias):
    """out = x W + b, for x with any leading axes ("More axes" in the lesson).

    Args:
        x: (..., D_in).   weight: (D_in, D_out).   bias: (D_out,).

    Returns:
        out (..., D_out), and the cache (x, weight).
    """
    raise NotImplementedError("Lesson 1, exercise 2")


def linear_backward(d_out, cache):
    """The gradients of x, weight and bias.

    Name the steps rows (N, D_in) and d_rows (N, D_out), x and d_out with all leading axes made into one, then d_bias, d_weight,
    d_x.

    Args:
        d_out: (..., D_out).   cache: (x, weight), as `linear_forward` returns it.

    Returns:
        d_x (..., D_in), d_weight (D_in, D_out), d_bias (D_out,).
    """
    raise NotImplementedError("Lesson 1, exercise 3")


def relu_backward(d_out, cache):
    """The gradient of y = max(x, 0): d_out where x is above 0, else 0 (also where x is 0).

    Args:
        d_out: (...).   cache: x (...).

    Returns:
        d_x (...).
    """
    raise NotImplementedError("Lesson 1, exercise 4")


def two_layers_backward(d_out, cache):
    """The gradients of  hidden = x W_1,  active = max(hidden, 0),  out = active W_2 : the chain rule over three steps.

    F is the width of the hidden layer. Name the steps d_active (N, F), d_weight_2, d_hidden (N, F), d_weight_1, d_x, each a new
    array.

    Args:
        d_out: (N, D_out).   cache: (x (N, D_in), weight_1 (D_in, F), hidden (N, F), active (N, F), weight_2 (F, D_out)).

    Returns:
        d_x (N, D_in), d_weight_1 (D_in, F), d_weight_2 (F, D_out).
    """
    raise NotImplementedError("Lesson 1, exercise 5")
