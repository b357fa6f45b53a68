import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymm import gradient_check
from tinymm.functional import attention_backward, attention_backward_steps, attention_forward, attention_mask

BACKWARDS = [attention_backward, attention_backward_steps]
B, H, T, S, K, V = 2, 3, 4, 6, 5, 7


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def random_inputs(rng, t=T, s=S, dtype=np.float64):
    shapes = {"q": (B, H, t, K), "k": (B, H, s, K), "v": (B, H, s, V)}
    return {name: rng.normal(size=shape).astype(dtype) for name, shape in shapes.items()}


def mask_of_kind(kind, rng, t=T, s=S):
    """An array or None, and the `causal` flag."""
    padding = np.arange(s) < np.array([[s - 2], [3]])
    return {
        "none": (None, False),
        "causal": (None, True),
        "padding": (attention_mask(t, s, padding=padding), False),
        "causal and padding": (attention_mask(t, s, padding=padding), True),
        "prefix": (attention_mask(t, s, causal=True, prefix=3), False),
        "keys": (np.arange(s) != 1, False),
        "each row": (rng.random((B, H, t, s)) < 0.6, False),
        "one row empty": (np.arange(t)[:, None] != np.zeros(s), False),
        "all empty": (np.zeros((1, 1), bool), False),
        "each row and causal": (rng.random((B, H, t, s)) < 0.6, True),
    }[kind]


KINDS = ["none", "causal", "padding", "causal and padding", "prefix", "keys", "each row", "one row empty", "all empty",
         "each row and causal"]
LENGTHS = [(6, 4, True), (6, 4, False), (5, 5, True), (1, 4, True), (4, 1, False), (1, 1, False)]    # T, S, causal


def attention_in_loops(q, k, v, allowed):
    """The definition, one query and one key at a time."""
    out = np.zeros((*q.shape[:-1], v.shape[-1]))
    for where in np.ndindex(q.shape[:-1]):
        lead = where[:-1]
        keys = [s for s in range(k.shape[-2]) if allowed[(*where, s)]]
        strengths = [np.exp(q[where] @ k[(*lead, s)] / np.sqrt(q.shape[-1])) for s in keys]
        for s, strength in zip(keys, strengths, strict=True):
            out[where] += strength / sum(strengths) * v[(*lead, s)]
    return out


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("kind", KINDS)
def test_gradients(rng, kind, backward):
    mask, causal = mask_of_kind(kind, rng)
    inputs = {**random_inputs(rng), "mask": mask, "causal": causal}
    report = gradient_check(attention_forward, backward, inputs, rng=rng)
    assert report.ok, report


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize(("t", "s", "causal"), LENGTHS)
def test_gradients_of_other_lengths(rng, t, s, causal, backward):
    report = gradient_check(attention_forward, backward, {**random_inputs(rng, t, s), "causal": causal}, rng=rng)
    assert report.ok, report


@pytest.mark.parametrize("leading", [(), (3,), (2, 1, 3)])
def test_gradients_with_any_leading_axes(rng, leading):
    shapes = {"q": (*leading, 4, 5), "k": (*leading, 3, 5), "v": (*leading, 3, 2)}
    inputs = {name: rng.normal(size=shape) for name, shape in shapes.items()}
    report = gradient_check(attention_forward, attention_backward, inputs, rng=rng)
    assert report.ok, report


@pytest.mark.parametrize("kind", KINDS)
def test_the_steps_are_the_short_formula(rng, kind):
    mask, causal = mask_of_kind(kind, rng)
    out, cache = attention_forward(**random_inputs(rng), mask=mask, causal=causal)
    d_out = rng.normal(size=out.shape)
    for short, steps in zip(attention_backward(d_out, cache), attention_backward_steps(d_out, cache), strict=True):
        np.testing.assert_allclose(steps, short, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("kind", KINDS)
def test_is_the_definition(rng, kind):
    inputs = random_inputs(rng)
    mask, causal = mask_of_kind(kind, rng)
    allowed = np.ones((B, H, T, S), bool) if mask is None else np.broadcast_to(mask, (B, H, T, S))
    if causal:
        allowed = allowed & [[key <= query + S - T for key in range(S)] for query in range(T)]
    out, _ = attention_forward(**inputs, mask=mask, causal=causal)
    np.testing.assert_allclose(out, attention_in_loops(**inputs, allowed=allowed), atol=1e-13)


def test_known_values():
    q = np.array([[2.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    k = np.array([[np.log(3), 0.0, 0.0, 0.0], [0.0, 5.0, 0.0, 0.0]])    # scores: log 3 and 0; 0 and 0
    v = np.array([[4.0, 0.0, 1.0], [8.0, 4.0, 1.0]])
    out, cache = attention_forward(q, k, v)
    np.testing.assert_allclose(cache.weights, [[0.75, 0.25], [0.5, 0.5]], rtol=1e-15)
    np.testing.assert_allclose(out, [[5.0, 1.0, 1.0], [6.0, 2.0, 1.0]], rtol=1e-15)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_without_any_key_are_zero(rng, dtype, backward):
    inputs = random_inputs(rng, t=6, s=4, dtype=dtype)
    with np.errstate(all="raise"):
        out, cache = attention_forward(**inputs, causal=True)    # the first two queries stand before the first key
        grads = backward(np.ones_like(out), cache)
    np.testing.assert_array_equal(out[..., :2, :], 0)
    np.testing.assert_array_equal(grads[0][..., :2, :], 0)
    assert np.abs(out[..., 2:, :]).min() > 0
    assert all(np.isfinite(grad).all() for grad in grads)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_scores(rng, dtype, backward):
    inputs = random_inputs(rng, dtype=dtype)
    inputs["q"] *= dtype(1e4)
    with np.errstate(over="raise", invalid="raise", divide="raise"):
        out, cache = attention_forward(**inputs, causal=True)
        grads = backward(np.ones_like(out), cache)
    assert np.isfinite(out).all() and all(np.isfinite(grad).all() for grad in grads)
    np.testing.assert_allclose(cache.weights.sum(axis=-1), 1, rtol=1e-6)


def test_a_masked_key_has_no_influence(rng):
    inputs = random_inputs(rng)
    mask = np.arange(S) != 2
    out, cache = attention_forward(**inputs, mask=mask)
    _, d_k, d_v = attention_backward(rng.normal(size=out.shape), cache)
    np.testing.assert_array_equal(d_k[..., 2, :], 0)
    np.testing.assert_array_equal(d_v[..., 2, :], 0)

    inputs["k"][..., 2, :], inputs["v"][..., 2, :] = 1e6, -1e6
    np.testing.assert_array_equal(attention_forward(**inputs, mask=mask)[0], out)


def test_a_causal_query_does_not_see_its_future(rng):
    inputs = random_inputs(rng, t=5, s=5)
    out, _ = attention_forward(**inputs, causal=True)
    inputs["k"][..., 3:, :] += 1
    inputs["v"][..., 3:, :] += 1
    changed, _ = attention_forward(**inputs, causal=True)
    np.testing.assert_array_equal(changed[..., :3, :], out[..., :3, :])
    assert np.abs(changed[..., 3:, :] - out[..., 3:, :]).min() > 0


def test_a_causal_query_alone_is_the_last_row(rng):
    inputs = random_inputs(rng, t=5, s=5)
    out, _ = attention_forward(**inputs, causal=True)
    last, _ = attention_forward(inputs["q"][..., -1:, :], inputs["k"], inputs["v"], causal=True)
    np.testing.assert_allclose(last, out[..., -1:, :], atol=1e-14)


@pytest.mark.parametrize("backward", BACKWARDS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", ["none", "each row and causal"])
def test_keeps_dtype_and_inputs(rng, kind, dtype, backward):
    inputs = random_inputs(rng, dtype=dtype)
    mask, causal = mask_of_kind(kind, rng)
    kept = {name: array.copy() for name, array in inputs.items()}
    kept_mask = None if mask is None else mask.copy()
    out, cache = attention_forward(**inputs, mask=mask, causal=causal)
    d_out = np.ones_like(out)
    grads = backward(d_out, cache)
    assert out.dtype == dtype and all(grad.dtype == dtype for grad in grads)
    for name, array in inputs.items():
        np.testing.assert_array_equal(array, kept[name])
    assert mask is None or np.array_equal(mask, kept_mask)
    np.testing.assert_array_equal(d_out, 1)


@pytest.mark.parametrize(("q", "k", "v", "mask", "message"), [
    ((5,), (3, 5), (3, 4), None, "q must have shape (..., length, width) without an empty axis, got (5,)"),
    ((2, 5), (0, 5), (0, 4), None, "k must have shape (..., length, width) without an empty axis, got (0, 5)"),
    ((2, 5), (3, 5), (3, 0), None, "v must have shape (..., length, width) without an empty axis, got (3, 0)"),
    ((2, 5), (3, 4), (3, 5), None, "q and k must have the same width, got q (2, 5) and k (3, 4)"),
    ((2, 5), (3, 5), (4, 5), None, "k and v must have the same length, got k (3, 5) and v (4, 5)"),
    ((2, 2, 5), (1, 3, 5), (1, 3, 4), None,
     "q, k and v must have the same leading axes, got q (2, 2, 5), k (1, 3, 5) and v (1, 3, 4)"),
    ((2, 2, 5), (2, 3, 5), (1, 3, 4), None,
     "q, k and v must have the same leading axes, got q (2, 2, 5), k (2, 3, 5) and v (1, 3, 4)"),
    ((2, 5), (3, 5), (3, 4), np.ones((2, 4), bool), "mask must broadcast to (..., T, S) = (2, 3), got (2, 4)"),
    ((2, 5), (3, 5), (3, 4), np.ones((6, 2, 3), bool), "mask must broadcast to (..., T, S) = (2, 3), got (6, 2, 3)"),
    ((2, 5), (3, 5), (3, 4), np.ones((2, 3)), "mask must be boolean, True where attention is allowed, got float64"),
    ((2, 5), (3, 5), (3, 4), np.ones((2, 3), int), "mask must be boolean, True where attention is allowed, got int64"),
])
def test_bad_input(q, k, v, mask, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        attention_forward(np.zeros(q), np.zeros(k), np.zeros(v), mask)


# ---------------------------------------------------------------------------------------------- the mask builder


def test_mask_causal():
    np.testing.assert_array_equal(attention_mask(3, 3, causal=True), np.tri(3, dtype=bool))
    np.testing.assert_array_equal(attention_mask(2, 4, causal=True), [[1, 1, 1, 0], [1, 1, 1, 1]])    # the last 2 of 4
    np.testing.assert_array_equal(attention_mask(4, 2, causal=True), [[0, 0], [0, 0], [1, 0], [1, 1]])


def test_mask_prefix():
    expected = [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [1, 1, 1, 1]]
    np.testing.assert_array_equal(attention_mask(4, 4, causal=True, prefix=2), expected)
    np.testing.assert_array_equal(attention_mask(2, 4, causal=True, prefix=2), expected[2:])
    np.testing.assert_array_equal(attention_mask(3, 3, causal=True, prefix=3), np.ones((3, 3)))


def test_mask_padding():
    padding = np.array([[True, True, False], [True, False, False]])
    mask = attention_mask(2, 3, padding=padding)
    assert mask.shape == (2, 1, 1, 3) and mask.dtype == bool
    np.testing.assert_array_equal(mask[:, 0, 0], padding)


def test_mask_padding_hides_a_padded_prefix_too():
    mask = attention_mask(3, 3, causal=True, prefix=2, padding=np.array([[True, False, True]]))
    np.testing.assert_array_equal(mask[0, 0], [[1, 0, 0], [1, 0, 0], [1, 0, 1]])


def test_nothing_masked_is_none():
    assert attention_mask(3, 4) is None
    assert attention_mask(3, 4, prefix=2) is None    # without `causal` every key is seen anyhow


@given(
    t=st.integers(1, 5), s=st.integers(1, 5), batch=st.integers(1, 3), causal=st.booleans(), prefix=st.integers(0, 5),
    use_padding=st.booleans(), extra_shape=st.sampled_from(["none", "S", "T1", "TS", "BHTS"]),
    seed=st.integers(0, 1000),
)
@settings(max_examples=60)
def test_mask_is_every_condition_at_once(t, s, batch, causal, prefix, use_padding, extra_shape, seed):
    rng = np.random.default_rng(seed)
    prefix = min(prefix, s)
    padding = rng.random((batch, s)) < 0.7 if use_padding else None
    shapes = {"none": None, "S": (s,), "T1": (t, 1), "TS": (t, s), "BHTS": (batch, 2, t, s)}
    extra = None if shapes[extra_shape] is None else rng.random(shapes[extra_shape]) < 0.7
    mask = attention_mask(t, s, causal=causal, prefix=prefix, padding=padding, extra=extra)

    full = np.ones((batch, 2, t, s), bool) if mask is None else np.broadcast_to(mask, (batch, 2, t, s))
    extra_full = np.broadcast_to(True if extra is None else extra, full.shape)
    for b, h, query, key in np.ndindex(full.shape):
        seen = not causal or key <= query + s - t or key < prefix
        seen = seen and (padding is None or padding[b, key]) and extra_full[b, h, query, key]
        assert full[b, h, query, key] == seen


@pytest.mark.parametrize(("arguments", "message"), [
    ({"query_length": 0, "key_length": 3}, "query_length and key_length must be at least 1, got 0 and 3"),
    ({"query_length": 2, "key_length": 3, "prefix": 4}, "prefix must lie in 0 to key_length = 3, got 4"),
    ({"query_length": 2, "key_length": 3, "prefix": -1}, "prefix must lie in 0 to key_length = 3, got -1"),
    ({"query_length": 2, "key_length": 3, "padding": np.ones((5, 4), bool)},
     "padding must be a boolean array of shape (B, S) with S = 3, got bool (5, 4)"),
    ({"query_length": 2, "key_length": 3, "padding": np.ones((5, 3), int)},
     "padding must be a boolean array of shape (B, S) with S = 3, got int64 (5, 3)"),
    ({"query_length": 2, "key_length": 3, "padding": np.ones(3, bool)},
     "padding must be a boolean array of shape (B, S) with S = 3, got bool (3,)"),
    ({"query_length": 2, "key_length": 3, "extra": np.ones((3, 2), bool)},
     "extra must be a boolean array that broadcasts to (..., T, S) = (..., 2, 3), got bool (3, 2)"),
    ({"query_length": 2, "key_length": 3, "extra": np.ones((2, 3))},
     "extra must be a boolean array that broadcasts to (..., T, S) = (..., 2, 3), got float64 (2, 3)"),
])
def test_bad_mask_arguments(arguments, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        attention_mask(**arguments)
