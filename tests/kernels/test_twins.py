"""Each numba twin computes the same function as its functional pair: results, gradients, dtypes, errors, bits."""

import inspect

import numpy as np
import pytest
from numba.core import config

from tinymm import functional, kernels
from tinymm.gradcheck import gradient_check
from tinymm.gradcheck.cases import PAIRS
from tinymm.kernels.optimizer import adamw_update
from tinymm.kernels.threads import use_threads

TOLERANCE = {np.float32: 3e-6, np.float64: 1e-12}    # of the largest entry


def twins() -> list[str]:
    """The pairs of which this package replaces a function, attention apart, which has tests of its own."""
    names = [name.removesuffix("_backward") for name in functional.__all__ if name.endswith("_backward")]
    return [name for name in names if name != "attention"
            and getattr(kernels, f"{name}_backward") is not getattr(functional, f"{name}_backward")]


# Arguments beyond those of the gradient checks: sizes of more than one piece, block or sheet, and odd ones.
def draw(rng, *shape):
    return rng.standard_normal(shape)


def images(shape, kernel, c_out, stride, padding):
    return lambda r: {"x": draw(r, *shape), "weight": draw(r, *kernel, shape[3], c_out), "bias": draw(r, c_out),
                      "stride": stride, "padding": padding}


def batch(shape, training, **options):
    return lambda r: {"x": 2 + draw(r, *shape), "gain": draw(r, shape[-1]), "bias": draw(r, shape[-1]),
                      "running_mean": draw(r, shape[-1]), "running_variance": r.uniform(1, 2, shape[-1]),
                      "training": training, **options}


def labelled(shape, ignored=0.0, scale=1.0, **options):
    return lambda r: {"logits": scale * draw(r, *shape), **options,
                      "labels": np.where(r.random(shape[:-1]) < ignored, -100, r.integers(0, shape[-1], shape[:-1]))}


LARGER = {
    "linear": [lambda r: {"x": draw(r, 1, 3), "weight": draw(r, 3, 5), "bias": draw(r, 5)},
               lambda r: {"x": draw(r, 37, 31, 17), "weight": draw(r, 17, 90), "bias": draw(r, 90)},
               lambda r: {"x": draw(r, 140, 700), "weight": draw(r, 700, 33), "bias": draw(r, 33)},
               lambda r: {"x": draw(r, 8, 64), "weight": draw(r, 64, 32), "bias": None}],
    "relu": [lambda r: {"x": draw(r, 70, 31, 33)}],
    "gelu": [lambda r: {"x": 3 * draw(r, 70, 31, 33)}, lambda r: {"x": draw(r, 5), "approximate": True}],
    "layer_norm": [lambda r: {"x": 2 + draw(r, 19, 57, 65), "gain": draw(r, 65), "bias": draw(r, 65), "eps": 1e-3}],
    "batch_norm": [batch((3, 57, 41, 3), True, momentum=0.3, eps=1e-3), batch((3, 57, 41, 3), False, eps=1e-3),
                   batch((16, 16, 16, 16), True), batch((16, 16, 16, 16), False)],
    "embedding": [lambda r: {"ids": r.integers(0, 11, (6, 70)), "weight": draw(r, 11, 33)},
                  lambda r: {"ids": r.integers(0, 3, (2, 5), dtype=np.int32), "weight": draw(r, 3, 1)}],
    "conv2d": [images((17, 9, 12, 3), (3, 3), 16, 2, 1), images((9, 8, 8, 4), (3, 3), 40, 2, 1),
               images((9, 6, 5, 40), (3, 3), 33, 1, 1), images((2, 6, 5, 3), (3, 2), 17, 1, 0),
               images((1, 5, 5, 2), (1, 1), 7, 1, 0), images((2, 9, 8, 3), (2, 3), 4, 3, 2),
               images((2, 7, 6, 3), (1, 1), 3, 2, 0), images((2, 6, 6, 2), (3, 3), 3, 1, 4),
               images((3, 5, 6, 3), (5, 4), 2, 1, 2), images((2, 8, 8, 1), (2, 2), 1, 3, 1),
               images((1, 4, 4, 2), (3, 3), 3, 5, 3), images((1, 1, 1, 2), (1, 1), 3, 3, 1)],
    "max_pool2d": [lambda r: {"x": draw(r, 9, 7, 8, 5), "size": 3, "stride": 2},
                   lambda r: {"x": draw(r, 2, 9, 8, 17), "size": 2, "stride": 3},
                   lambda r: {"x": np.round(draw(r, 3, 6, 6, 4))}],    # with ties
    "cross_entropy": [labelled((31, 40, 67), 0.4, 5.0),
                      lambda r: {"logits": draw(r, 3, 5), "labels": np.full(3, 7), "ignore_index": 7},    # none counts
                      labelled((7, 5), label_smoothing=0.3),
                      lambda r: {"logits": np.where(r.random((4, 6)) < 0.4, -np.inf, 0.0),
                                 "labels": np.array([-100, 1, 2, 3])}],
}
if config.DISABLE_JIT:    # the kernels then run as plain Python: small sizes only
    LARGER = {name: [] for name in LARGER}
CASES = [(name, number) for name in twins() for number in range(len(LARGER[name]) + len(PAIRS[name]))]


def arguments(name: str, number: int, dtype: type) -> dict:
    rng = np.random.default_rng([17, number])
    if number < len(LARGER[name]):
        drawn = LARGER[name][number](rng)
    else:
        drawn = list(PAIRS[name].values())[number - len(LARGER[name])](rng).inputs
    return cast(drawn, dtype)


def cast(inputs: dict, dtype: type) -> dict:
    return {key: value.astype(dtype) if isinstance(value, np.ndarray) and value.dtype.kind == "f" else value
            for key, value in inputs.items()}


def upstream(out) -> np.ndarray | float:
    """A gradient of the output, the same for the same shape."""
    return 1.7 if np.ndim(out) == 0 else np.random.default_rng(3).standard_normal(out.shape).astype(out.dtype)


def gradients(namespace, name: str, inputs: dict, d_out=None) -> tuple:
    """The output and all gradients, as a flat tuple."""
    out, cache = getattr(namespace, f"{name}_forward")(**inputs)
    if d_out is None:
        d_out = upstream(out)
    d_inputs = getattr(namespace, f"{name}_backward")(d_out, cache)
    return out, *(d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)), cache


def assert_close(actual, expected, dtype) -> None:
    for a, e in zip(actual, expected, strict=True):
        if e is None:
            assert a is None
            continue
        assert a.shape == e.shape and a.dtype == e.dtype
        finite = np.isfinite(e)
        assert np.array_equal(np.isfinite(a), finite)
        largest = np.max(np.abs(e), initial=0, where=finite)
        np.testing.assert_allclose(a, e, rtol=0, atol=float(TOLERANCE[dtype] * max(largest, 1e-3)))


def test_there_are_twins_for_what_a_training_step_spends_time_on():
    assert set(twins()) == set(LARGER)


@pytest.mark.parametrize("name", twins())
def test_same_signature(name):
    for half in ("forward", "backward"):
        functions = (getattr(namespace, f"{name}_{half}") for namespace in (kernels, functional))
        twin, pair = (inspect.signature(function).parameters.values() for function in functions)
        assert [(p.name, p.default) for p in twin] == [(p.name, p.default) for p in pair]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name, number", CASES)
def test_same_result(name, number, dtype):
    inputs = arguments(name, number, dtype)
    before = {key: value.copy() for key, value in inputs.items() if isinstance(value, np.ndarray)}
    with np.errstate(invalid="ignore"):
        *actual, cache = gradients(kernels, name, inputs)
        # against the truth, not against another float32 computation
        d_out = upstream(actual[0])
        d_out = d_out if np.ndim(d_out) == 0 else d_out.astype(np.float64)
        *expected, other_cache = gradients(functional, name, cast(inputs, np.float64), d_out)
    assert_close(actual, [e if e is None else e.astype(dtype) for e in expected], dtype)
    if name == "batch_norm":
        statistics = [[c.running_mean, c.running_variance] for c in (cache, other_cache)]
        assert_close(statistics[0], [s.astype(dtype) for s in statistics[1]], dtype)
    for key, value in before.items():
        assert np.array_equal(inputs[key], value), f"{key} was changed"


def other_layout(value):
    """An array's values with other strides: every other column of a wider array."""
    return np.repeat(value, 2, axis=-1)[..., ::2] if isinstance(value, np.ndarray) else value


@pytest.mark.parametrize("name", twins())
def test_inputs_in_any_layout(name):
    inputs = arguments(name, 0, np.float32)
    strided = {key: other_layout(value) for key, value in inputs.items()}
    assert any(not v.flags.c_contiguous for v in strided.values() if isinstance(v, np.ndarray))
    d_out = upstream(getattr(functional, f"{name}_forward")(**inputs)[0])
    contiguous = gradients(kernels, name, inputs, d_out)[:-1]
    for a, e in zip(gradients(kernels, name, strided, other_layout(d_out))[:-1], contiguous):
        assert (a is None and e is None) or np.array_equal(a, e)


@pytest.mark.parametrize("name", twins())
@pytest.mark.parametrize("threads", [2, 3])
def test_same_bits_with_any_number_of_threads(name, threads):
    for number in range(len(LARGER[name])):
        inputs = arguments(name, number, np.float32)
        with use_threads(1), np.errstate(invalid="ignore"):
            alone = gradients(kernels, name, inputs)[:-1]
        with use_threads(threads), np.errstate(invalid="ignore"):
            shared = gradients(kernels, name, inputs)[:-1]
        for a, e in zip(shared, alone):
            assert (a is None and e is None) or np.array_equal(a, e, equal_nan=True)


@pytest.mark.parametrize("name", twins())
def test_gradients_against_finite_differences(name):
    for variant, example in PAIRS[name].items():
        case = example(np.random.default_rng(5))
        report = gradient_check(getattr(kernels, f"{name}_forward"), getattr(kernels, f"{name}_backward"), case.inputs,
                                rng=np.random.default_rng(6), constants=case.constants, max_entries=12)
        assert report.ok, f"{variant}\n{report}"


WRONG = {
    "linear": [{"weight": np.ones((2, 3, 4))}, {"x": np.ones((2, 4))}, {"x": np.ones((0, 3))}, {"bias": np.ones(3)}],
    "layer_norm": [{"gain": np.ones(3)}, {"x": np.ones(())}, {"x": np.ones((0, 65))}],
    "batch_norm": [{"bias": np.ones(2)}, {"running_mean": np.ones(2)}, {"x": np.ones((1, 3)), "training": True}],
    "conv2d": [{"x": np.ones((2, 3, 4))}, {"weight": np.ones((3, 3, 4, 2))}, {"bias": np.ones(2)}, {"stride": 0},
               {"padding": -1}, {"weight": np.ones((30, 3, 3, 16))}],
    "max_pool2d": [{"x": np.ones((3, 4, 5))}, {"size": 0}, {"stride": 0}, {"size": 9}],
    "cross_entropy": [{"labels": np.zeros((31, 41), int)}, {"labels": np.zeros((31, 40))},
                      {"labels": np.full((31, 40), 67)}, {"label_smoothing": 2.0}],
    "embedding": [{"ids": np.array([11])}, {"ids": np.array([-1])}, {"ids": np.array([0.5])}, {"weight": np.ones(3)}],
}


@pytest.mark.parametrize("name, wrong", [(name, wrong) for name, cases in WRONG.items() for wrong in cases])
def test_same_errors(name, wrong):
    inputs = arguments(name, 0, np.float64) | wrong
    with pytest.raises(ValueError) as expected:
        getattr(functional, f"{name}_forward")(**inputs)
    with pytest.raises(ValueError) as actual:
        getattr(kernels, f"{name}_forward")(**inputs)
    assert str(actual.value) == str(expected.value)


@pytest.mark.parametrize("name", ["relu", "gelu", "layer_norm", "linear", "batch_norm"])
def test_nan_is_not_lost(name):
    inputs = arguments(name, 0, np.float32)
    inputs["x"][(0,) * inputs["x"].ndim] = np.nan
    with np.errstate(invalid="ignore"):
        out = gradients(kernels, name, inputs)[0]
    assert np.isnan(out[(0,) * out.ndim])


def test_nan_reaches_the_loss():
    logits, labels = np.zeros((3, 5), np.float32), np.array([1, 2, -100])
    for place, is_lost in (((0, 3), False), ((2, 0), True)):    # in a row that counts, and in one that does not
        logits[:] = 0
        logits[place] = np.nan
        loss, cache = kernels.cross_entropy_forward(logits, labels)
        assert np.isnan(loss) != is_lost
        assert np.isnan(kernels.cross_entropy_backward(1.0, cache)).any() != is_lost


def test_conv2d_without_the_gradient_of_the_images():
    inputs = arguments("conv2d", 0, np.float32)
    out, cache = kernels.conv2d_forward(**inputs)
    _, *expected = kernels.conv2d_backward(out, cache)
    d_x, *actual = kernels.conv2d_backward(out, cache, input_gradient=False)
    assert d_x is None
    for a, e in zip(actual, expected):
        assert np.array_equal(a, e)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_adamw_update(dtype):
    """Against the equations of Loshchilov & Hutter 2019, Algorithm 2, in float64."""
    rng = np.random.default_rng(8)
    value, first, second = rng.standard_normal((3, 70_001))
    second = second**2
    arrays = [a.astype(dtype) for a in (value, first, second)]
    value, first, second = (a.astype(np.float64) for a in arrays)
    for step in (1, 2, 3):
        gradient = rng.standard_normal(value.size).astype(dtype)
        adamw_update(arrays[0], gradient, arrays[1], arrays[2], step=step, learning_rate=0.01, beta1=0.8, beta2=0.95,
                     eps=1e-6, weight_decay=0.1)
        g = gradient.astype(np.float64)
        first, second = 0.8 * first + 0.2 * g, 0.95 * second + 0.05 * g**2
        update = first / (1 - 0.8**step) / (np.sqrt(second / (1 - 0.95**step)) + 1e-6)
        value = value - 0.01 * 0.1 * value - 0.01 * update
    assert_close(arrays, [a.astype(dtype) for a in (value, first, second)], dtype)


def test_adamw_update_refuses_what_it_cannot_change_in_place():
    a = np.zeros(4, np.float32)
    for wrong in (np.zeros(5, np.float32), np.zeros(4), np.zeros((2, 2), np.float32), np.zeros(8, np.float32)[::2]):
        with pytest.raises(ValueError, match="flat contiguous"):
            adamw_update(a, wrong, a.copy(), a.copy(), step=1, learning_rate=0.1)
