import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import dropout_backward, dropout_forward


@pytest.fixture
def rng():
    return np.random.default_rng(7)


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("training", [True, False])
def test_gradients(rng, rate, training):
    inputs = {"x": rng.normal(size=(3, 4, 5)), "rate": rate, "rng": np.random.default_rng(0), "training": training}
    report = gradient_check(dropout_forward, dropout_backward, inputs, rng=rng)
    assert report.ok, report


def test_keeps_the_right_share_and_the_mean(rng):
    x = np.ones((200, 500))
    out, _ = dropout_forward(x, 0.3, rng)
    np.testing.assert_allclose(np.unique(out), [0, 1 / 0.7])
    assert abs((out == 0).mean() - 0.3) < 0.01    # six standard deviations
    assert abs(out.mean() - 1) < 0.015


def test_the_gradient_passes_where_the_input_passed(rng):
    x = rng.normal(size=(20, 30))
    out, cache = dropout_forward(x, 0.5, rng)
    d_x = dropout_backward(np.ones_like(x), cache)
    np.testing.assert_array_equal(d_x == 0, out == 0)
    np.testing.assert_array_equal(d_x[out != 0], 2)


@pytest.mark.parametrize(("rate", "training"), [(0.0, True), (0.5, False)])
def test_nothing_dropped_draws_nothing(rate, training):
    x = np.ones((3, 4))
    rng = np.random.default_rng(0)
    out, cache = dropout_forward(x, rate, rng, training)
    np.testing.assert_array_equal(out, x)
    np.testing.assert_array_equal(dropout_backward(x, cache), x)
    assert rng.random() == np.random.default_rng(0).random()
    np.testing.assert_array_equal(dropout_forward(x, rate, None, training)[0], x)


def test_the_generator_decides():
    x = np.ones((5, 6))
    same = [dropout_forward(x, 0.5, np.random.default_rng(3))[0] for _ in range(2)]
    np.testing.assert_array_equal(*same)
    rng = np.random.default_rng(3)
    assert not np.array_equal(dropout_forward(x, 0.5, rng)[0], dropout_forward(x, 0.5, rng)[0])


def test_float32_and_float64_drop_the_same():
    ones = [np.ones((5, 6), dtype) for dtype in (np.float32, np.float64)]
    np.testing.assert_array_equal(*[dropout_forward(x, 0.5, np.random.default_rng(3))[0] for x in ones])


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_keeps_dtype_and_inputs(rng, dtype):
    x = np.ones((3, 4), dtype)
    out, cache = dropout_forward(x, 0.5, rng)
    d_out = np.ones_like(x)
    d_x = dropout_backward(d_out, cache)
    assert out.dtype == d_x.dtype == dtype
    np.testing.assert_array_equal(x, 1)
    np.testing.assert_array_equal(d_out, 1)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_bad_rate(rng, rate):
    with pytest.raises(ValueError, match=f"rate must lie in 0 <= rate < 1, got {rate}"):
        dropout_forward(np.ones(3), rate, rng)


def test_missing_generator():
    with pytest.raises(ValueError, match="rng must be a numpy.random.Generator while training, got None"):
        dropout_forward(np.ones(3), 0.5, None)
