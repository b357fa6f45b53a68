"""The search for the first array that is not finite."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from tinymm.training.nonfinite import explain, first_nonfinite, named_arrays

GOOD, NAN, INF = np.ones((2, 3)), np.array([[1.0, 2.0], [np.nan, 4.0]]), np.array([1.0, np.inf], np.float32)


class Cache(NamedTuple):
    weights: np.ndarray
    inner: object
    scale: float = 1.0


@dataclass(frozen=True)
class Batch:
    ids: np.ndarray
    images: np.ndarray


def test_names_follow_the_nesting_in_order():
    blocks = [Cache(GOOD, None), Cache(GOOD, {"attention": (GOOD, np.arange(3))}, np.float32(2))]
    tree = {"blocks": blocks, "batch": Batch(np.arange(3), GOOD), "word": "text", "nothing": None, "flag": True}
    assert [name for name, _ in named_arrays(tree)] == [
        "blocks.0.weights", "blocks.0.scale", "blocks.1.weights", "blocks.1.inner.attention.0", "blocks.1.scale",
        "batch.images"]
    assert first_nonfinite(tree) is None


def test_the_first_bad_one_and_its_place():
    blocks = [Cache(GOOD, None), Cache(NAN, INF)]
    assert first_nonfinite({"blocks": blocks}) == "blocks.1.weights (NaN at [1, 0], shape (2, 2))"
    assert first_nonfinite(Cache(GOOD, INF)) == "inner (infinity at [1], shape (2,))"
    assert first_nonfinite(Cache(GOOD, None, float("nan"))) == "scale (NaN)"
    assert first_nonfinite(Batch(np.arange(3), NAN)).startswith("images (NaN")
    assert first_nonfinite(NAN).startswith("value (NaN")


def test_masked_scores_in_a_cache_give_no_false_alarm():
    masked = np.array([0.0, -np.inf])
    found = explain({}, None, {"scores": masked, "loss": NAN}, {})
    assert "in the forward pass loss" in found
    assert "in the forward pass scores" in explain({}, None, {"scores": masked}, {})     # but better than nothing
    assert first_nonfinite(masked) is not None and first_nonfinite(masked, minus_infinity_is_bad=False) is None


def test_the_order_is_parameters_batch_forward_gradients():
    bad = {"x": NAN}
    assert "the parameter x" in explain(bad, bad, bad, bad)
    assert "the batch's array x" in explain({}, bad, bad, bad)
    assert "in the forward pass x" in explain({}, {}, bad, bad)
    assert "the gradient of x" in explain({}, {}, None, bad)
    assert explain({}, {}, None, {}) == "no single array shows it"
