"""The attention kernels, both rungs, against the functional pair in float64."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba.core import config

from tinymm import functional, gradient_check, kernels
from tinymm.kernels.threads import use_threads

STEPPING = bool(config.DISABLE_JIT)         # every loop is then plain Python: small sizes, few examples
FAST = (kernels.attention_forward, kernels.attention_backward)
READABLE = (kernels.readable_attention_forward, kernels.readable_attention_backward)
RUNGS = pytest.mark.parametrize("rung", [FAST, READABLE], ids=["fast", "readable"])
# the readable rung in float64 needs another quarter of a minute to compile, and only the slow tests do that
COMBINATIONS = pytest.mark.parametrize("rung, dtype", [
    pytest.param(FAST, np.float32, id="fast-float32"), pytest.param(FAST, np.float64, id="fast-float64"),
    pytest.param(READABLE, np.float32, id="readable-float32"),
    pytest.param(READABLE, np.float64, id="readable-float64", marks=[] if STEPPING else pytest.mark.slow)])
PRECISION = {np.float32: 2**-23, np.float64: 2**-52}


def make_mask(kind: str, rng: np.random.Generator, leading: tuple, T: int, S: int):
    """A boolean mask of the kind, or None."""
    if kind == "none":
        return None
    if kind == "padding" and len(leading) == 2:
        return functional.attention_mask(T, S, padding=np.arange(S) < rng.integers(0, S + 1, (leading[0], 1)))
    if kind == "prefix":
        return functional.attention_mask(T, S, causal=True, prefix=int(rng.integers(0, S + 1)))
    shape = {"padding": (1, S), "whole": (*leading, T, S), "table": (T, S), "keys": (S,), "queries": (*leading, T, 1),
             "nothing": (1, 1), "first axis": (*leading[:1], *[1] * len(leading[1:]), T, S)}[kind]
    return np.zeros(shape, bool) if kind == "nothing" else rng.random(shape) < 0.6


def make_array(layout: str, rng: np.random.Generator, shape: tuple, dtype) -> np.ndarray:
    """Random numbers of the shape, laid out in memory in one of several ways."""
    if layout == "heads" and len(shape) > 2:                     # as a layer makes them: (..., T, H, K) seen as (..., H, T, K)
        return rng.standard_normal((*shape[:-3], shape[-2], shape[-3], shape[-1])).astype(dtype).swapaxes(-2, -3)
    if layout == "part":                                         # every second row, from the middle of wider ones
        return rng.standard_normal((*shape[:-2], 2 * shape[-2], shape[-1] + 3)).astype(dtype)[..., ::2, 2:-1]
    if layout == "columns":
        return rng.standard_normal((*shape[:-2], shape[-1], shape[-2])).astype(dtype).swapaxes(-1, -2)
    if layout == "backwards":
        return rng.standard_normal(shape).astype(dtype)[..., ::-1, ::-1]
    return rng.standard_normal(shape).astype(dtype)


def compare(rung, q, k, v, d_out, mask, causal) -> None:
    """Forward and backward against the functional pair in float64, relative to the largest entry of each array."""
    before = [x.copy() for x in (q, k, v, d_out)]
    out, cache = rung[0](q, k, v, mask, causal)
    gradients = rung[1](d_out, cache)
    exact = [x.astype(np.float64) for x in (q, k, v)]
    expected, exact_cache = functional.attention_forward(*exact, mask, causal)
    expected_gradients = functional.attention_backward(d_out.astype(np.float64), exact_cache)

    # a score s is known to s * precision, and so is the exponent of a weight; gradients lose digits where large terms cancel
    scores = np.abs(exact[0]) @ np.abs(exact[1]).swapaxes(-1, -2) * exact_cache.scale
    error = PRECISION[q.dtype.type] * (16 + 2 * scores.max())
    size_d_weights = np.abs(d_out).max() * np.abs(v).max() * v.shape[-1] ** 0.5
    floors = (0, size_d_weights * np.abs(exact[1]).max() * exact_cache.scale, size_d_weights * np.abs(exact[0]).max() * exact_cache.scale, 0)
    for name, actual, wanted, floor in zip(("out", "d_q", "d_k", "d_v"), (out, *gradients), (expected, *expected_gradients), floors):
        assert actual.dtype == q.dtype and actual.shape == wanted.shape
        assert np.isfinite(actual).all(), name
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=error * max(np.abs(wanted).max(), floor) + 1e-37, err_msg=name)
    if mask is not None:
        dead = ~np.broadcast_to(mask, exact_cache.weights.shape).any(axis=-1)
        assert not out[dead].any() and not gradients[0][dead].any()
    for x, copy in zip((q, k, v, d_out), before):
        np.testing.assert_array_equal(x, copy)


@st.composite
def problems(draw):
    """Sizes, mask and layout of one call: everything around the tile sizes 64 and 16, but mostly small."""
    length = st.integers(1, 9) if STEPPING else st.one_of(st.integers(1, 20), st.integers(60, 70), st.integers(120, 150))
    width = st.integers(1, 5) if STEPPING else st.one_of(st.integers(1, 20), st.sampled_from([16, 32, 48, 64, 80]))
    return {"leading": draw(st.sampled_from([(), (3,), (2, 2), (1, 2), (2, 1, 3)])), "T": draw(length), "S": draw(length),
            "K": draw(width), "V": draw(width), "causal": draw(st.booleans()),
            "mask": draw(st.sampled_from(["none", "padding", "prefix", "whole", "table", "keys", "queries", "nothing", "first axis"])),
            "layout": draw(st.sampled_from(["plain", "heads", "part", "columns", "backwards"])),
            "seed": draw(st.integers(0, 99))}


@COMBINATIONS
@settings(max_examples=5 if STEPPING else 40)
@given(problem=problems())
def test_same_as_functional(rung, dtype, problem):
    rng = np.random.default_rng(problem["seed"])
    leading, T, S, K, V = (problem[name] for name in ("leading", "T", "S", "K", "V"))
    q, k, v, d_out = (make_array(problem["layout"], rng, (*leading, *shape), dtype) for shape in ((T, K), (S, K), (S, V), (T, V)))
    compare(rung, q, k, v, d_out, make_mask(problem["mask"], rng, leading, T, S), problem["causal"])


@COMBINATIONS
@settings(max_examples=5 if STEPPING else 25)
@given(seed=st.integers(0, 99), q_size=st.sampled_from([0.0, 1e-42, 1e-30, 1.0, 32.0, 2.0**13]), k_size=st.sampled_from([1e-42, 1e-4, 1.0, 32.0, 2.0**20]),
       v_size=st.sampled_from([1e-42, 1.0, 1e6]), causal=st.booleans(), mask=st.sampled_from(["none", "whole", "padding", "nothing"]))
def test_extreme_values(rung, dtype, seed, q_size, k_size, v_size, causal, mask):
    """Denormal numbers, and scores up to 2**38: the softmax is then one key alone, or equal shares of equal keys."""
    rng = np.random.default_rng(seed)
    T, S, K, V = (5, 7, 4, 3) if STEPPING else (21, 70, 16, 9)
    q, k, v, d_out = (rng.integers(-3, 4, (2, 2, *shape)).astype(dtype) for shape in ((T, K), (S, K), (S, V), (T, V)))
    k[..., 1::2, :] = k[..., : S - 1 : 2, :][..., : S // 2, :]                            # pairs of equal keys share the weight
    q, k, v = q * dtype(q_size), k * dtype(k_size), v * dtype(v_size)
    large = q_size * k_size > 100
    # the large sizes are powers of two: the scores have no rounding errors, and ties stay ties
    made = make_mask(mask, rng, (2, 2), T, S)
    if not large:
        compare(rung, q, k, v, d_out, made, causal)
        return
    out, cache = rung[0](q, k, v, made, causal)
    gradients = rung[1](d_out, cache)
    exact = [x.astype(np.float64) for x in (q, k, v)]
    expected, exact_cache = functional.attention_forward(*exact, made, causal)
    expected_gradients = functional.attention_backward(d_out.astype(np.float64), exact_cache)
    largest = {name: max(1.0, float(np.abs(x).max())) for name, x in (("q", q), ("k", k))}
    d_weight = 1e-4 * np.abs(v).max() + 16 * np.finfo(dtype).smallest_subnormal      # how far off a product with v may be
    allowed = (d_weight, d_weight * largest["k"], d_weight * largest["q"], 1e-4)
    for actual, wanted, atol in zip((out, *gradients), (expected, *expected_gradients), allowed):
        assert np.isfinite(actual).all()
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=atol)


@RUNGS
def test_equal_keys_share_whatever_their_score(rung):
    """The logarithm of the sum must not drown in a large maximum: a log-sum-exp in one number loses it."""
    q, k = np.full((1, 1, 3, 4), 2.0**20, np.float32), np.full((1, 1, 8, 4), 2.0**10, np.float32)
    v = np.arange(8, dtype=np.float32)[None, None, :, None]
    out, cache = rung[0](q, k, v)
    np.testing.assert_allclose(out, 3.5, rtol=1e-6)
    d_v = rung[1](np.ones_like(out), cache)[2]
    np.testing.assert_allclose(d_v, 3 / 8, rtol=1e-6)


@RUNGS
def test_scores_of_minus_infinity_and_nan(rung):
    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((1, 2, n, 4)).astype(np.float32) for n in (3, 5, 5))
    q[..., 0], k[..., 0] = 1, 0
    k[0, 0, 2, 0] = -np.inf                                      # a key that nobody may see, said with a number
    k[0, 1, :, 0] = -np.inf                                      # no key at all for the second head
    with np.errstate(invalid="ignore"):
        expected, _ = functional.attention_forward(q.astype(np.float64), k.astype(np.float64), v.astype(np.float64))
    np.testing.assert_allclose(rung[0](q, k, v)[0], expected, rtol=2e-5, atol=1e-6)
    assert not rung[0](q, k, v)[0][0, 1].any()
    q[0, 0, 1, 1] = np.nan
    out = rung[0](q, k, v)[0]
    assert np.isnan(out[0, 0, 1]).all() and np.isfinite(out[0, 0, 0]).all()          # nan stays in its row


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("kind", ["none", "whole", "padding"])
def test_gradients_against_finite_differences(kind, causal):
    rng = np.random.default_rng(2)
    T, S, K, V = 3, 5, 4, 2
    inputs = {"q": rng.standard_normal((2, 3, T, K)), "k": rng.standard_normal((2, 3, S, K)), "v": rng.standard_normal((2, 3, S, V)),
              "mask": make_mask(kind, rng, (2, 3), T, S), "causal": causal}
    report = gradient_check(*FAST, inputs, rng=rng, max_entries=16)
    assert report.ok, str(report)


@pytest.mark.skipif(STEPPING, reason="one thread only")
@pytest.mark.parametrize("shape", [(3, 2, 70, 70, 16), (1, 1, 200, 130, 16), (1, 3, 150, 300, 32), (40, 4, 12, 28, 16)])
@pytest.mark.parametrize("causal", [False, True])
@RUNGS
def test_same_bits_with_any_number_of_threads(rung, shape, causal):
    """Also where there are fewer heads than threads, and the backward is cut another way."""
    B, H, T, S, K = shape
    rng = np.random.default_rng(3)
    q, k, v, d_out = (rng.standard_normal((B, H, n, K)).astype(np.float32) for n in (T, S, S, T))
    mask = rng.random((B, 1, T, S)) < 0.7
    results = []
    for count in (1, 2, 3):
        with use_threads(count):
            out, cache = rung[0](q, k, v, mask, causal)
            results.append((out, *rung[1](d_out, cache)))
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_array_equal(a, b)


@pytest.mark.skipif(STEPPING, reason="sizes for compiled code")
@pytest.mark.parametrize("shape", [(4, 2, 64, 64, 32), (1, 2, 300, 300, 64), (2, 2, 32, 200, 32)])
def test_precision_of_float32(shape):
    B, H, T, S, K = shape
    rng = np.random.default_rng(4)
    q, k, v, d_out = (rng.standard_normal((B, H, n, K)).astype(np.float32) for n in (T, S, S, T))
    out, cache = kernels.attention_forward(q, k, v, causal=T == S)
    expected, exact = functional.attention_forward(*(x.astype(np.float64) for x in (q, k, v)), causal=T == S)
    for actual, wanted in zip((out, *kernels.attention_backward(d_out, cache)),
                              (expected, *functional.attention_backward(d_out.astype(np.float64), exact))):
        assert np.abs(actual - wanted).max() <= 2e-6 * np.abs(wanted).max()


@pytest.mark.parametrize("call, message", [
    (lambda f, x: f(x, x[..., :2], x), "same width"),
    (lambda f, x: f(x, x, x[..., :2, :]), "same length"),
    (lambda f, x: f(x, x[:1], x), "leading axes"),
    (lambda f, x: f(x[0, 0, 0], x, x), "must have shape"),
    (lambda f, x: f(x[..., :0, :], x, x), "without an empty axis"),
    (lambda f, x: f(x, x, x, np.ones((3, 3))), "boolean"),
    (lambda f, x: f(x, x, x, np.ones((3, 5), bool)), "broadcast"),
])
def test_bad_input_is_refused_as_the_functional_pair_refuses_it(call, message):
    x = np.ones((2, 2, 3, 4), np.float32)
    for forward in (functional.attention_forward, kernels.attention_forward, kernels.readable_attention_forward):
        with pytest.raises(ValueError, match=message):
            call(forward, x)


def test_bad_dtypes_and_gradients():
    x = np.ones((2, 2, 3, 4), np.float32)
    with pytest.raises(TypeError, match="float32 or float64"):
        kernels.attention_forward(*[x.astype(np.float16)] * 3)
    _, cache = kernels.attention_forward(x, x, x)
    with pytest.raises(ValueError, match="shape of the output"):
        kernels.attention_backward(np.ones((2, 2, 3, 5), np.float32), cache)


def test_backward_in_any_order_and_as_often_as_wanted():
    rng = np.random.default_rng(5)
    q, k, v, d_out = (rng.standard_normal((2, 3, 5, 4)).astype(np.float32) for _ in range(4))
    _, first = kernels.attention_forward(q, k, v)
    _, second = kernels.attention_forward(k, q, v, causal=True)
    expected = kernels.attention_backward(d_out, first)
    kernels.attention_backward(d_out, second)
    for a, b in zip(expected, kernels.attention_backward(d_out, first)):
        np.testing.assert_array_equal(a, b)


def test_steps_need_the_table_but_agree():
    rng = np.random.default_rng(6)
    q, k, v, d_out = (rng.standard_normal((2, 3, 5, 4)) for _ in range(4))
    _, cache = kernels.attention_forward(q, k, v, causal=True)
    for a, b in zip(kernels.attention_backward(d_out, cache), kernels.attention_backward_steps(d_out, cache)):
        np.testing.assert_allclose(a, b, atol=1e-12)


@pytest.mark.skipif(STEPPING, reason="sizes for compiled code")
def test_no_table_of_scores_is_made():
    """(T, S) = (3000, 3000) in float32 would be 36 MB."""
    import tracemalloc
    q = np.random.default_rng(7).standard_normal((1, 1, 3000, 16)).astype(np.float32)
    mask = np.ones((1, 1, 1, 3000), bool)
    kernels.attention_backward(*kernels.attention_forward(q[:, :, :8], q[:, :, :8], q[:, :, :8]))     # compile
    tracemalloc.start()
    out, cache = kernels.attention_forward(q, q, q, mask)
    kernels.attention_backward(out, cache)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3e6


@pytest.mark.skipif(bool(config.DISABLE_JIT), reason="long sequences")
@pytest.mark.parametrize("forward, backward", [
    (kernels.attention_forward, kernels.attention_backward),
    (kernels.readable_attention_forward, kernels.readable_attention_backward)])
def test_errors_do_not_grow_with_the_length(forward, backward):
    rng = np.random.default_rng(0)
    for T, S in ((16, 16384), (16384, 16)):          # long sums over keys, long sums over queries
        q, k, v, d_out = (rng.standard_normal((1, n, 16), dtype=np.float32) for n in (T, S, S, T))
        out, cache = forward(q, k, v)
        exact_out, exact = functional.attention_forward(*(x.astype(np.float64) for x in (q, k, v)))
        results = (out, *backward(d_out, cache))
        expected = (exact_out, *functional.attention_backward(d_out.astype(np.float64), exact))
        for actual, wanted in zip(results, expected):
            assert np.abs(actual - wanted).max() < 2e-6 * np.abs(wanted).max()
        scores = q.astype(np.float64) @ k.astype(np.float64).swapaxes(-1, -2) / 4
        total = np.exp(scores - cache.highest.reshape(1, T, 1)).sum(-1)
        assert np.abs(cache.total.reshape(1, T) / total - 1).max() < 2e-6
