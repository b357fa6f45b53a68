"""The gradient checker itself: kinks, accuracy, forms of input and output, modules, and the table."""

import numpy as np
import pytest

from tinymm import functional, gradient_check, gradient_check_module
from tinymm.functional import (
    layer_norm_backward,
    layer_norm_forward,
    linear_backward,
    linear_forward,
    relu_backward,
    relu_forward,
)
from tinymm.layers import BatchNorm, Linear, Module, Parameter


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def x_of(rng, *shape):
    return {"x": rng.normal(size=shape)}


def norm_inputs(rng):
    return x_of(rng, 4, 6) | {"gain": rng.normal(size=6), "bias": rng.normal(size=6)}


def double(x):
    return 2 * x, None


# ------------------------------------------------------------------------------------ kinks


def test_entries_at_a_kink_are_skipped_and_counted(rng):
    x = np.array([[1.0, 0.0, -2.0, 0.5], [-0.1, 3.0, 1e-4, -1e-3], [2.0, -2.0, 1.0, 4.0]])
    report = gradient_check(relu_forward, relu_backward, {"x": x}, rng=rng)
    (row,) = report.rows
    assert report.ok and (row.checked, row.skipped) == (11, 1), report  # only the exact 0: 1e-4 needs a smaller step


@pytest.mark.parametrize(
    "backward",
    [
        lambda d, cache: d,
        lambda d, cache: np.where(cache.x < 0, d, 0),
        lambda d, cache: 0 * d,
        lambda d, cache: 1.001 * relu_backward(d, cache),
    ],
)
def test_the_kink_detector_hides_no_wrong_backward(backward, rng):
    x = np.array([1e-3, 0.0, -1e-3, 1e-4, -1e-4, 0.5, -0.5])
    report = gradient_check(relu_forward, backward, {"x": x}, rng=rng)
    assert not report.ok and report.rows[0].skipped == 1, report


def test_a_maximum_at_a_tie_is_skipped(rng):
    x = rng.normal(size=(1, 4, 4, 2))
    x[0, 0, 0, 0] = x[0, 0, 1, 0] = 5.0
    report = gradient_check(functional.max_pool2d_forward, functional.max_pool2d_backward, {"x": x}, rng=rng)
    assert report.ok and report.rows[0].skipped == 2, report


def test_too_many_skipped_entries_fail(rng):
    report = gradient_check(relu_forward, relu_backward, {"x": np.array([0.0, 0.0, 1.0, 2.0, 3.0])}, rng=rng)
    assert not report.ok and "2 of 5 entries of x lie at a kink" in str(report)
    assert gradient_check(
        relu_forward, relu_backward, {"x": np.array([0.0, 0.0, 1.0, 2.0, 3.0])}, rng=rng, max_skipped=0.5
    ).ok
    assert not gradient_check(relu_forward, relu_backward, {"x": np.zeros(1)}, rng=rng).ok  # nothing was checked


def test_a_function_that_jumps_is_no_pass(rng):
    """Rounded to float32 inside: the differences measure the rounding, at any step."""
    report = gradient_check(
        lambda x: (np.sin(x).astype(np.float32).astype(np.float64), x),
        lambda d, x: d * np.cos(x),
        x_of(rng, 3, 4),
        rng=rng,
    )
    assert not report.ok


# ------------------------------------------------------------------------------------ accuracy


SMOOTH = {
    "exp": (np.exp, np.exp),
    "sin 20 x": (lambda x: np.sin(20 * x), lambda x: 20 * np.cos(20 * x)),
    "x^7": (lambda x: x**7, lambda x: 7 * x**6),
    "log near 0": (lambda x: np.log(np.abs(x)), lambda x: 1 / x),
    "1 / x": (lambda x: 1 / x, lambda x: -1 / x**2),
    "far away": (lambda x: np.sqrt(1000 + x), lambda x: 0.5 / np.sqrt(1000 + x)),
    "constant": (lambda x: 0 * x + 3, lambda x: 0 * x),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_the_measurement_is_exact_to_eight_digits(name, rng):
    f, derivative = SMOOTH[name]
    report = gradient_check(
        lambda x: (f(x), x), lambda d, x: d * derivative(x), {"x": rng.normal(size=(5, 8))}, rng=rng
    )
    assert report.ok and report.rows[0].skipped == 0 and report.worst.error < 1e-8, report


def test_large_numbers_get_large_steps(rng):
    report = gradient_check(lambda x: (x**2, x), lambda d, x: 2 * d * x, {"x": 1e8 * rng.normal(size=10)}, rng=rng)
    assert report.ok and report.worst.error < 1e-10, report


def test_one_wrong_entry_of_a_large_array_is_found(rng):
    """Seven of a thousand entries are looked at, and one random direction through all."""

    def backward(d_out, cache):
        d_x = 2 * d_out
        d_x[17, 31] *= 1.01
        return d_x

    x = rng.normal(size=(20, 50))
    report = gradient_check(double, backward, {"x": x}, rng=rng, max_entries=7)
    assert not report.ok and report.rows[0].checked == 8 and "all at once" in str(report)
    assert gradient_check(double, lambda d, cache: 2 * d, {"x": x}, rng=rng, max_entries=7).ok


# ------------------------------------------------------------------------------------ forms of input and output


def test_scalar_out(rng):
    report = gradient_check(lambda x: (np.sum(x**2), x), lambda d, x: 2 * d * x, x_of(rng, 3, 4), rng=rng)
    assert report.ok, report
    assert not gradient_check(
        lambda x: (float(np.sum(x**2)), x), lambda d, x: 2 * x, x_of(rng, 3, 4), rng=rng
    ).ok  # ignores d_out


def test_a_tuple_of_outputs(rng):
    def forward(x, y):
        return (x * y, x.sum(), np.argmax(x)), (x, y)

    def backward(d_out, cache):
        (d_product, d_sum, d_index), (x, y) = d_out, cache
        assert d_index is None
        return d_product * y + d_sum, d_product * x

    inputs = x_of(rng, 3, 4) | {"y": rng.normal(size=(3, 4))}
    assert gradient_check(forward, backward, inputs, rng=rng).ok
    report = gradient_check(forward, lambda d, cache: (d[0] * cache[1], d[0] * cache[0]), inputs, rng=rng)
    assert [row.ok for row in report.rows] == [False, True], report


def test_scalars_are_passed_and_0d_arrays_differentiated(rng):
    report = gradient_check(
        lambda x, scale, power: (scale * x**power, (x, scale)),
        lambda d, cache: (2 * d * cache[0] * cache[1], (d * cache[0] ** 2).sum()),
        x_of(rng, 3) | {"scale": np.array(1.5), "power": 2.0},
        rng=rng,
    )
    assert report.ok and [row.name for row in report.rows] == ["x", "scale"] and report.rows[1].shape == (), report


def test_float32_inputs_are_converted_and_nothing_of_the_caller_changes(rng):
    x = rng.normal(size=(3, 4)).astype(np.float32)
    kept, noise = x.copy(), np.random.default_rng(1)
    seen = []

    def forward(x, rng):
        seen.append(x.dtype)
        return functional.dropout_forward(x, 0.5, rng)

    report = gradient_check(forward, functional.dropout_backward, {"x": x, "rng": noise}, rng=rng)
    assert report.ok and report.worst.error < 1e-10, report
    assert set(seen) == {np.dtype(np.float64)} and x.dtype == np.float32
    np.testing.assert_array_equal(x, kept)
    assert noise.random() == np.random.default_rng(1).random()


def test_missing_arguments_may_have_no_gradient(rng):
    inputs = x_of(rng, 4, 5) | {"weight": rng.normal(size=(5, 3)), "bias": None}
    assert gradient_check(linear_forward, linear_backward, inputs, rng=rng).ok  # d_bias is None


def test_the_seed_decides(rng):
    reports = [
        str(
            gradient_check(
                layer_norm_forward,
                layer_norm_backward,
                norm_inputs(np.random.default_rng(1)),
                rng=np.random.default_rng(2),
            )
        )
        for _ in range(2)
    ]
    assert reports[0] == reports[1]


# ------------------------------------------------------------------------------------ modules


class Scale(Module):
    """x * weight + offset(last call): one line of it may be told to be wrong."""

    buffers = ("seen",)

    def __init__(self, fault=""):
        self.weight = Parameter(np.array([1.0, -2.0, 0.5], np.float32))
        self.seen = np.zeros(3, np.float32)
        self.fault = fault

    def forward(self, x):
        out = x * self.weight.value + (self.seen if self.fault == "buffer" else 0)
        self.seen += 1
        return out, x

    def backward(self, d_out, cache):
        d_weight = (d_out * cache).sum(axis=0)
        if self.fault == "overwrites":
            self.weight.grad[...] = d_weight
        elif self.fault != "forgets":
            self.weight.grad += d_weight
        return d_out * self.weight.value


def test_a_module_is_afterwards_as_it_was(rng):
    module = Scale("buffer")
    module.weight.grad += 5
    value, grad, seen = module.weight.value, module.weight.grad, module.seen
    before = value.copy(), grad.copy(), seen.copy()
    report = gradient_check_module(module, x_of(rng, 4, 3), rng=rng)
    assert report.ok and [row.name for row in report.rows] == ["x", "weight"], report
    assert module.weight.value is value and module.weight.grad is grad and module.seen is seen
    for array, kept in zip((value, grad, seen), before, strict=True):
        assert array.dtype == np.float32
        np.testing.assert_array_equal(array, kept)


def test_a_module_that_forgets_a_parameter_fails(rng):
    report = gradient_check_module(Scale("forgets"), x_of(rng, 4, 3), rng=rng)
    assert [row.ok for row in report.rows] == [True, False], report


def test_a_module_that_overwrites_its_gradient_fails(rng):
    report = gradient_check_module(Scale("overwrites"), x_of(rng, 4, 3), rng=rng)
    assert not report.ok and "add the same again to the gradient of weight" in str(report)


def test_a_tied_weight_gets_both_gradients(rng):
    class Tied(Module):
        def __init__(self, rng):
            self.up = Linear(4, 4, rng)
            self.down = self.up

        def forward(self, x):
            hidden, first = self.up.forward(x)
            hidden, relu = relu_forward(hidden)
            out, second = self.down.forward(hidden)
            return out, (first, relu, second)

        def backward(self, d_out, cache):
            return self.up.backward(relu_backward(self.down.backward(d_out, cache[2]), cache[1]), cache[0])

    report = gradient_check_module(Tied(rng), x_of(rng, 3, 4), rng=rng)
    assert report.ok and [row.name for row in report.rows] == ["x", "up.weight", "up.bias"], report


def test_running_statistics_are_put_back_before_each_call(rng):
    layer = BatchNorm(3)
    assert gradient_check_module(layer, x_of(rng, 5, 3) | {"training": True}, rng=rng).ok
    np.testing.assert_array_equal(layer.running_mean, np.zeros(3))
    np.testing.assert_array_equal(layer.running_variance, np.ones(3))


# ------------------------------------------------------------------------------------ the report


def without_the_mean(d_out, cache):
    d_x, d_gain, d_bias = layer_norm_backward(d_out, cache)
    return d_x + cache.rstd * (d_out * cache.gain).mean(axis=-1, keepdims=True), d_gain, d_bias


def test_the_table_is_to_be_read(rng):
    report = gradient_check(layer_norm_forward, without_the_mean, norm_inputs(rng), rng=rng)
    verdict, titles, *lines = str(report).splitlines()
    assert verdict == "layer_norm: FAIL"
    assert titles.split() == ["array", "shape", "checked", "kinks", "rel.", "error", "at", "analytic", "numeric"]
    assert [line.split()[0] for line in lines] == ["x", "gain", "bias"]
    assert [line.split()[-1] for line in lines] == ["FAIL", "pass", "pass"]
    row = report.worst
    assert row.name == "x" and row.shape == (4, 6) and row.checked == 24 and not row.ok
    assert row.error == abs(row.analytic - row.numeric) / (abs(row.analytic) + abs(row.numeric))
    assert f"{row.error:.1e}" in lines[0] and str(list(row.where)) in lines[0] and f"{row.numeric:.5g}" in lines[0]
