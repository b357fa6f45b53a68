"""What `tinymm check 1` looks at."""

from tinymm.learning.exercise import Exercise


def linear(rng):
    return {"x": rng.normal(size=(2, 3, 4)), "weight": rng.normal(size=(4, 5)), "bias": rng.normal(size=5)}


def two_layers(rng):
    return {"x": rng.normal(size=(3, 4)), "weight_1": rng.normal(size=(4, 6)), "weight_2": rng.normal(size=(6, 5))}


def sum_of_cubes(x):
    return float((x**3 + x).sum())


def slope_of_sum_of_cubes(x):
    return 3 * x**2 + 1


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
        1, "numerical_gradient", "measure a gradient", lambda rng: {"f": sum_of_cubes, "x": rng.normal(size=(2, 3))},
        hints=("np.ndindex(x.shape) runs over all indices of an array.", "Move one entry of a copy of x, not of x itself.",
               "step = np.zeros_like(x); step[index] = h; then f(x + step) - f(x - step)."), facts=FACTS,
        mistakes={"the division is by 2 h: the two points are 2 h apart": lambda f, x: 2 * slope_of_sum_of_cubes(x),
                  "only one side is measured: f(x + h) - f(x), divided by h": lambda f, x: slope_of_sum_of_cubes(x) + 3e-5 * x},
        tolerance=1e-7,
    ),
    Exercise(
        2, "linear_forward", "x W + b", linear,
        hints=("@ multiplies the last axis of x with the first of weight; leading axes go along.",
               "The bias (D_out,) broadcasts over all rows by itself."), facts=FACTS,
        mistakes={"the bias is missing": lambda x, weight, bias: (x @ weight, (x, weight))},
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
        4, "relu_backward", "through max(x, 0)", lambda rng: {"x": rng.normal(size=(3, 4))}, forward="relu_forward",
        differentiable=("x",),
        hints=("The slope of max(x, 0) is 1 where x > 0, and 0 elsewhere.", "d_out * (x > 0)"),
        mistakes={"the condition is on x, the input, not on d_out": lambda d_out, x: d_out * (d_out > 0),
                  "the slope is 1 where x is above 0, not where it is below": lambda d_out, x: d_out * (x < 0),
                  "where x is not above 0 the gradient is 0: the slope is missing": lambda d_out, x: d_out,
                  "d_out is not used: the chain rule multiplies the slope by it": lambda d_out, x: (x > 0) * 1.0},
    ),
    Exercise(
        5, "two_layers_backward", "the chain rule over three steps", two_layers, forward="two_layers_forward",
        differentiable=("x", "weight_1", "weight_2"),
        hints=("Undo the forward from its last line to its first.",
               "Each product gives two gradients, as in exercise 3; between them stands exercise 4.",
               "d_active = d_out @ weight_2.T, then d_hidden = d_active * (hidden > 0), then the first layer."),
        facts=FACTS | {"d_x": "hidden = x W_1, so it is d_hidden W_1^T"},
    ),
]
