"""What `tinymm check 1` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def linear(rng):
    return {"x": rng.normal(size=(2, 3, 4)), "weight": rng.normal(size=(4, 5)), "bias": rng.normal(size=5)}


def two_layers(rng):
    return {"x": rng.normal(size=(3, 4)), "weight_1": rng.normal(size=(4, 6)), "weight_2": rng.normal(size=(6, 5))}


def with_a_zero(rng):
    x = rng.normal(size=(3, 4))
    x[1, 2] = 0
    return {"x": x}


def any_shape(rng):
    return {"f": sum_of_cubes, "x": rng.normal(size=((2, 3, 2), (2, 3), (4,))[rng.integers(3)]), "h": 0.01}


def sum_of_cubes(x):
    return float((x**3 + x).sum())


def slopes(x, h):
    """The central differences of sum_of_cubes with step h; the true slopes are 3 x^2 + 1."""
    return 3 * x**2 + 1 + h**2


def moved_together(x, h, first):
    """What is measured if all entries with the same indices before axis `first` are moved at once."""
    return np.broadcast_to(slopes(x, h).sum(axis=tuple(range(first, x.ndim)), keepdims=True), x.shape).copy()


def first_entry_only(x, h):
    return np.where(np.arange(x.size).reshape(x.shape) == 0, slopes(x, h), 0)


FACTS = {
    "gradient": "(f(x + step) - f(x - step)) / (2 h), where step is h at one entry and 0 elsewhere",
    "out": "x @ weight + bias",
    "rows": "x.reshape(-1, D_in): all leading axes become one",
    "d_rows": "d_out.reshape(-1, D_out): all leading axes become one",
    "d_bias": "the bias was added to every row: its gradient is the sum over all rows",
    "d_weight": "y = x W: every row used the weight, so it is x^T d_out, a sum over the rows",
    "d_x": "y = x W: the gradient of x is d_out W^T",
    "d_active": "out = active W_2, so it is d_out W_2^T",
    "d_weight_2": "out = active W_2, so it is active^T d_out",
    "d_hidden": "active = max(hidden, 0): d_active passes where hidden is above 0",
    "d_weight_1": "hidden = x W_1, so it is x^T d_hidden",
}

EXERCISES = [
    Exercise(
        1, "numerical_gradient", "measure a gradient", any_shape,
        hints=("np.ndindex(x.shape) runs over all indices of an array.", "Move one entry of a copy of x, not of x itself.",
               "step = np.zeros_like(x); step[index] = h; then f(x + step) - f(x - step)."), facts=FACTS,
        mistakes={"the division is by 2 h: the two points are 2 h apart": lambda f, x, h: 2 * slopes(x, h),
                  "only one side is measured: f(x + h) - f(x), divided by h": lambda f, x, h: slopes(x, h) + 3 * h * x,
                  "only one side is measured: f(x) - f(x - h), divided by h": lambda f, x, h: slopes(x, h) - 3 * h * x,
                  "a / 2 * h divides by 2 and then multiplies by h: write a / (2 * h)": lambda f, x, h: h**2 * slopes(x, h),
                  "the argument h is not used": lambda f, x, h: slopes(x, 1e-5),
                  "x + h moves all entries at once: move one at a time, and write its slope to its place":
                  lambda f, x, h: slopes(x, h).sum(),
                  "all entries are moved at once; one at a time must be moved": lambda f, x, h: moved_together(x, h, 0),
                  "x[i] is a whole row: it moves all of its entries at once; np.ndindex(x.shape) runs over single entries":
                  lambda f, x, h: moved_together(x, h, 1),
                  "two loops are enough for two axes only; np.ndindex(x.shape) runs over all": lambda f, x, h: moved_together(x, h, 2),
                  "the entries before are still moved: begin each measurement with a fresh step, or copy of x":
                  lambda f, x, h: slopes(x, h).cumsum().reshape(x.shape),
                  "only the first entry is measured: does the `return` stand inside of the loop?":
                  lambda f, x, h: first_entry_only(x, h)},
        tolerance=1e-7,
    ),
    Exercise(
        2, "linear_forward", "x W + b", linear,
        hints=("@ multiplies the last axis of x with the first of weight; leading axes go along.",
               "The bias (D_out,) broadcasts over all rows by itself."), facts=FACTS,
        mistakes={"the bias is missing": lambda x, weight, bias: (x @ weight, (x, weight)),
                  "the cache is (x, weight), in this order": lambda x, weight, bias: (x @ weight + bias, (weight, x))},
    ),
    Exercise(
        3, "linear_backward", "the gradients of x, weight and bias", linear, forward="linear_forward",
        differentiable=("x", "weight", "bias"),
        hints=("Start with the shapes: d_weight must be (D_in, D_out), d_bias (D_out,), d_x as x.",
               "Make the leading axes into one: x.reshape(-1, x.shape[-1]), and d_out likewise.",
               "d_bias = d_rows.sum(axis=0); d_weight = rows.T @ d_rows; d_x = d_out @ weight.T."),
        facts=FACTS,
    ),
    Exercise(
        4, "relu_backward", "through max(x, 0)", with_a_zero, forward="relu_forward",
        differentiable=("x",),
        hints=("The slope of max(x, 0) is 1 where x > 0, and 0 elsewhere.", "d_out * (x > 0)"),
        mistakes={"the condition is on x, the input, not on d_out": lambda d_out, x: d_out * (d_out > 0),
                  "the slope is 1 where x is above 0, not where it is below": lambda d_out, x: d_out * (x < 0),
                  "at x = 0 the gradient is 0: x > 0, not x >= 0": lambda d_out, x: d_out * (x >= 0),
                  "this is max(x, 0), the forward": lambda d_out, x: np.maximum(x, 0),
                  "the slope of max(x, 0) is 1 where x is above 0, not x": lambda d_out, x: d_out * np.maximum(x, 0),
                  "where x is not above 0 the gradient is 0: the slope is missing": lambda d_out, x: d_out,
                  "d_out is not used: the chain rule multiplies the slope by it": lambda d_out, x: (x > 0) * 1.0},
    ),
    Exercise(
        5, "two_layers_backward", "the chain rule over three steps", two_layers, forward="two_layers_forward",
        differentiable=("x", "weight_1", "weight_2"),
        hints=("Undo the forward from its last line to its first.",
               "Each product gives two gradients, as in exercise 3; between them stands exercise 4.",
               "d_active = d_out @ weight_2.T, then d_hidden = d_active * (hidden > 0), then the first layer."),
        facts=FACTS | {"d_active": FACTS["d_active"] + "; does a later line such as d_active *= ... change it?",
                       "d_x": "hidden = x W_1, so it is d_hidden W_1^T"},
    ),
]
