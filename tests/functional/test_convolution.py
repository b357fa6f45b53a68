import re

import numpy as np
import pytest

from tinymm import gradient_check
from tinymm.functional import (
    conv2d_backward,
    conv2d_forward,
    conv2d_reference_backward,
    conv2d_reference_forward,
)

FORMS = {
    "im2col": (conv2d_forward, conv2d_backward),
    "reference": (conv2d_reference_forward, conv2d_reference_backward),
}
both_forms = pytest.mark.parametrize("form", FORMS)


@pytest.fixture
def rng():
    return np.random.default_rng(5)


# Images 7x9, 8x7, 6x6: at stride 2 and 3 some leave a remainder, some do not.
@pytest.mark.parametrize("stride", [1, 2, 3])
@pytest.mark.parametrize("padding", [0, 1, 2])
@pytest.mark.parametrize("image", [(7, 9), (8, 7), (6, 6)])
@pytest.mark.parametrize("kernel", [(3, 3), (2, 4), (5, 1), (1, 1)])
def test_the_two_forms_are_equal(rng, stride, padding, image, kernel):
    x, weight, bias = rng.normal(size=(2, *image, 3)), rng.normal(size=(*kernel, 3, 4)), rng.normal(size=4)
    (out, cache), (reference, reference_cache) = (
        forward(x, weight, bias, stride, padding) for forward, _ in FORMS.values()
    )
    assert out.shape == (2, *((n + 2 * padding - k) // stride + 1 for n, k in zip(image, kernel)), 4)
    np.testing.assert_allclose(out, reference, atol=1e-12)
    d_out = rng.normal(size=out.shape)
    gradients = conv2d_backward(d_out, cache), conv2d_reference_backward(d_out, reference_cache)
    for gradient, expected, array in zip(*gradients, (x, weight, bias), strict=True):
        assert gradient.shape == expected.shape == array.shape
        np.testing.assert_allclose(gradient, expected, atol=1e-11)


@both_forms
@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"stride": 3, "padding": 2}])
def test_gradients(rng, form, options):
    forward, backward = FORMS[form]
    inputs = {
        "x": rng.normal(size=(2, 6, 5, 3)),
        "weight": rng.normal(size=(3, 2, 3, 4)),
        "bias": rng.normal(size=4),
    } | options
    report = gradient_check(forward, backward, inputs, rng=rng)
    assert report.ok, report


@both_forms
def test_the_definition_at_every_place(rng, form):
    """One window at a time, straight from the equation at the top of the file."""
    x, weight, bias = rng.normal(size=(2, 6, 5, 3)), rng.normal(size=(3, 2, 3, 4)), rng.normal(size=4)
    out, _ = FORMS[form][0](x, weight, bias, stride=2, padding=1)
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    for b, y, z, o in np.ndindex(out.shape):
        window = padded[b, 2 * y : 2 * y + 3, 2 * z : 2 * z + 2]
        assert out[b, y, z, o] == pytest.approx(bias[o] + (window * weight[..., o]).sum(), abs=1e-12)


@both_forms
def test_known_values(form):
    image = np.arange(12.0).reshape(1, 3, 4, 1)
    edge = np.array([[[[1.0]], [[-1.0]]]])  # (1, 2, 1, 1): left minus right
    out, cache = FORMS[form][0](image, edge, np.array([0.5]))
    np.testing.assert_array_equal(out, np.full((1, 3, 3, 1), -0.5))
    d_x, d_weight, d_bias = FORMS[form][1](np.ones((1, 3, 3, 1)), cache)
    np.testing.assert_array_equal(d_x[0, :, :, 0], [[1, 0, 0, -1]] * 3)  # inner pixels are in two windows
    np.testing.assert_array_equal(
        d_weight[..., 0, 0], [[0 + 1 + 2 + 4 + 5 + 6 + 8 + 9 + 10, 1 + 2 + 3 + 5 + 6 + 7 + 9 + 10 + 11]]
    )
    np.testing.assert_array_equal(d_bias, [9])


@both_forms
def test_backward_is_the_adjoint_of_forward(rng, form):
    """conv is linear in x, so <conv(x), d> = <x, d_x> for every x and d: also at the pixels no window reaches."""
    forward, backward = FORMS[form]
    x, weight = rng.normal(size=(2, 9, 8, 3)), rng.normal(size=(2, 3, 3, 4))
    out, cache = forward(x, weight, None, 4, 0)  # rows 6 to 8 and column 7 are not seen
    d_out = rng.normal(size=out.shape)
    d_x, d_weight, d_bias = backward(d_out, cache)
    assert d_bias is None
    assert np.vdot(out, d_out) == pytest.approx(np.vdot(x, d_x), rel=1e-12)
    assert np.vdot(out, d_out) == pytest.approx(np.vdot(weight, d_weight), rel=1e-12)
    np.testing.assert_array_equal(d_x[:, 6:], 0)
    np.testing.assert_array_equal(d_x[:, :, 7], 0)
    assert (np.abs(d_x).sum(axis=(0, 3))[:6:4, :3] > 0).all()


@both_forms
def test_a_shifted_image_gives_a_shifted_answer(rng, form):
    x, weight = rng.normal(size=(1, 8, 8, 2)), rng.normal(size=(3, 3, 2, 4))
    out, shifted = (FORMS[form][0](image, weight)[0] for image in (x, np.roll(x, 1, axis=2)))
    np.testing.assert_allclose(shifted[:, :, 1:], out[:, :, :-1], atol=1e-13)


@both_forms
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_dtype_stays_and_the_inputs_too(rng, form, dtype):
    x, weight, bias = (rng.normal(size=shape).astype(dtype) for shape in [(2, 5, 6, 3), (3, 2, 3, 4), 4])
    kept = x.copy(), weight.copy(), bias.copy()
    for padding in (0, 1):
        out, cache = FORMS[form][0](x, weight, bias, 1, padding)
        assert out.dtype == dtype
        assert [gradient.dtype for gradient in FORMS[form][1](out, cache)] == [dtype] * 3
    for array, before in zip((x, weight, bias), kept):
        np.testing.assert_array_equal(array, before)


@both_forms
def test_arrays_that_are_not_contiguous(rng, form):
    """A flipped image is a view with negative strides, as augmentation makes it."""
    x, weight = rng.normal(size=(2, 5, 6, 3)), rng.normal(size=(4, 3, 2, 3)).transpose(2, 1, 3, 0)
    out, cache = FORMS[form][0](x[:, :, ::-1], weight)
    expected, expected_cache = FORMS[form][0](x[:, :, ::-1].copy(), weight.copy())
    np.testing.assert_allclose(out, expected, atol=1e-13)
    d_out = rng.normal(size=out.shape[::-1]).transpose()
    for gradient, other in zip(FORMS[form][1](d_out, cache)[:2], FORMS[form][1](d_out.copy(), expected_cache)[:2]):
        np.testing.assert_allclose(gradient, other, atol=1e-12)


@both_forms
@pytest.mark.parametrize(
    "x, weight, bias, stride, padding, message",
    [
        (
            (5, 6, 3),
            (3, 3, 3, 4),
            None,
            1,
            0,
            "x must be images (B, H, W, C_in) without an empty axis, got x (5, 6, 3)",
        ),
        ((0, 5, 6, 3), (3, 3, 3, 4), None, 1, 0, "without an empty axis, got x (0, 5, 6, 3)"),
        (
            (2, 5, 6, 3),
            (3, 3, 4),
            None,
            1,
            0,
            "weight must be (kh, kw, C_in, C_out) without an empty axis, got weight (3, 3, 4)",
        ),
        ((2, 5, 6, 3), (3, 3, 4, 3), None, 1, 0, "must have the same C_in, got x (2, 5, 6, 3) and weight (3, 3, 4, 3)"),
        ((2, 5, 6, 3), (3, 3, 3, 4), (3,), 1, 0, "bias must be (C_out,) = (4,), got bias (3,)"),
        ((2, 5, 6, 3), (3, 3, 3, 4), (4,), 0, 0, "stride must be 1 or more, got 0"),
        ((2, 5, 6, 3), (3, 3, 3, 4), (4,), 1, -1, "padding must be 0 or more, got -1"),
        (
            (2, 2, 6, 3),
            (5, 3, 3, 4),
            (4,),
            1,
            1,
            "the kernel must fit into the padded image, got weight (5, 3, 3, 4), x (2, 2, 6, 3) and padding 1",
        ),
    ],
)
def test_bad_input(form, x, weight, bias, stride, padding, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        FORMS[form][0](np.ones(x), np.ones(weight), None if bias is None else np.ones(bias), stride, padding)
