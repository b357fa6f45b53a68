import re

import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import avg_pool2d_backward, avg_pool2d_forward, max_pool2d_backward, max_pool2d_forward

POOLS = {"max": (max_pool2d_forward, max_pool2d_backward), "avg": (avg_pool2d_forward, avg_pool2d_backward)}
both_pools = pytest.mark.parametrize("pool", POOLS)
# tiling, overlapping, with gaps; most leave rows or columns over
geometries = pytest.mark.parametrize("size, stride", [(2, None), (3, None), (3, 2), (2, 1), (2, 3), (1, 2)])


@pytest.fixture
def rng():
    return np.random.default_rng(6)


@both_pools
@geometries
def test_gradients(rng, pool, size, stride):
    forward, backward = POOLS[pool]
    report = gradient_check(
        forward, backward, {"x": rng.normal(size=(2, 5, 7, 3)), "size": size, "stride": stride}, rng=rng
    )
    assert report.ok, report
    assert report.rows[0].skipped == 0


@both_pools
@geometries
def test_every_window_by_its_definition(rng, pool, size, stride):
    x = rng.normal(size=(2, 5, 7, 3))
    out, _ = POOLS[pool][0](x, size, stride)
    stride = stride or size
    assert out.shape == (2, (5 - size) // stride + 1, (7 - size) // stride + 1, 3)
    for y, z in np.ndindex(out.shape[1:3]):
        window = x[:, y * stride : y * stride + size, z * stride : z * stride + size]
        expected = window.max(axis=(1, 2)) if pool == "max" else window.mean(axis=(1, 2))
        np.testing.assert_allclose(out[:, y, z], expected, rtol=1e-14)


def test_known_values():
    x = np.array([[1.0, 5.0, 2.0, 0.0, 9.0], [3.0, -1.0, 8.0, 4.0, 9.0]]).reshape(
        1, 2, 5, 1
    )  # the last column is not seen
    out, cache = max_pool2d_forward(x)
    np.testing.assert_array_equal(out[0, :, :, 0], [[5, 8]])
    d_x = max_pool2d_backward(np.array([10.0, 20.0]).reshape(1, 1, 2, 1), cache)
    np.testing.assert_array_equal(d_x[0, :, :, 0], [[0, 10, 0, 0, 0], [0, 0, 20, 0, 0]])
    out, cache = avg_pool2d_forward(x)
    np.testing.assert_array_equal(out[0, :, :, 0], [[2, 3.5]])
    d_x = avg_pool2d_backward(np.array([10.0, 20.0]).reshape(1, 1, 2, 1), cache)
    np.testing.assert_array_equal(d_x[0, :, :, 0], [[2.5, 2.5, 5, 5, 0], [2.5, 2.5, 5, 5, 0]])


def test_the_first_of_equal_pixels_takes_the_gradient():
    out, cache = max_pool2d_forward(np.full((1, 2, 2, 1), 3.0))
    np.testing.assert_array_equal(max_pool2d_backward(np.full_like(out, 7.0), cache)[0, :, :, 0], [[7, 0], [0, 0]])


def test_a_pixel_that_wins_twice_gets_both_gradients():
    x = np.array([[0.0, 0.0, 0.0], [0.0, 5.0, 0.0], [0.0, 0.0, 0.0]]).reshape(1, 3, 3, 1)
    out, cache = max_pool2d_forward(x, size=2, stride=1)
    d_x = max_pool2d_backward(np.array([1.0, 2.0, 3.0, 4.0]).reshape(1, 2, 2, 1), cache)
    assert d_x[0, 1, 1, 0] == 10 and d_x.sum() == 10


def test_nan_is_not_hidden():
    x = np.array([[1.0, np.nan], [3.0, 4.0]]).reshape(1, 2, 2, 1)
    assert np.isnan(max_pool2d_forward(x)[0]).all() and np.isnan(avg_pool2d_forward(x)[0]).all()


@both_pools
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays(rng, pool, dtype):
    out, cache = POOLS[pool][0](rng.normal(size=(2, 5, 7, 3)).astype(dtype), 3, 2)
    assert out.dtype == dtype and POOLS[pool][1](out, cache).dtype == dtype


@both_pools
@pytest.mark.parametrize(
    "shape, size, stride, message",
    [
        ((5, 7, 3), 2, None, "x must be images (B, H, W, C) without an empty axis, got x (5, 7, 3)"),
        ((2, 5, 0, 3), 2, None, "without an empty axis, got x (2, 5, 0, 3)"),
        ((2, 5, 7, 3), 0, None, "size and stride must be 1 or more, got size 0"),
        ((2, 5, 7, 3), 2, 0, "size and stride must be 1 or more, got size 2 and stride 0"),
        ((2, 5, 7, 3), 6, 1, "the window must fit into the image, got size 6 and x (2, 5, 7, 3)"),
    ],
)
def test_bad_input(pool, shape, size, stride, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        POOLS[pool][0](np.ones(shape), size, stride)
