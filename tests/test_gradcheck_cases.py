"""Everything the project has passes the gradient checker, nothing is left out, and a mutated gradient never passes."""

import re

import numpy as np
import pytest

from tinymm import functional, gradient_check, gradient_check_module
from tinymm.gradcheck import cases as gradcheck_cases
from tinymm.gradcheck import FLOOR

SUBJECTS = gradcheck_cases.discover()
PAIRS = [subject.name for subject in SUBJECTS if subject.kind == "pair"]
BACKWARDS = [
    (pair, name)
    for pair in PAIRS
    for name in (f"{pair}_backward", f"{pair}_backward_steps")
    if hasattr(functional, name)
]


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def test_discovery_finds_what_there_is():
    assert {"attention", "batch_norm", "conv2d", "conv2d_reference", "cross_entropy", "dropout", "gelu"} <= set(PAIRS)
    assert {("layer", "Linear"), ("layer", "ImageEncoder"), ("model", "text_image")} <= set(SUBJECTS)


def test_everything_has_an_example_and_every_example_belongs_to_something():
    assert [subject for subject in SUBJECTS if not gradcheck_cases.examples(*subject)] == []
    tables = {"pair": gradcheck_cases.PAIRS, "layer": gradcheck_cases.LAYERS, "model": gradcheck_cases.MODELS}
    assert {(kind, name) for kind, table in tables.items() for name in table} == set(SUBJECTS)


@pytest.mark.parametrize("subject", SUBJECTS, ids=lambda subject: subject.name)
def test_every_backward_is_the_derivative(subject):
    for report in gradcheck_cases.run(*subject, np.random.default_rng(0)):
        assert report.ok, report
        for row in report.rows:
            assert row.error < 1e-7, report
            # A gradient of 0 proves nothing, except where it must be 0: a softmax does not see a bias on all its keys.
            assert row.largest > 10 * FLOOR or row.name.endswith("key.bias"), report


def test_a_new_pair_without_an_example_fails(monkeypatch, rng):
    monkeypatch.setattr(functional, "cube_forward", lambda x: (x**3, x), raising=False)
    assert "cube" in [subject.name for subject in gradcheck_cases.discover()]
    (report,) = gradcheck_cases.run_all(rng, ["cube"])
    assert not report.ok and "no example" in str(report)


def test_a_forward_without_a_backward_fails(monkeypatch, rng):
    monkeypatch.delattr(functional, "tanh_backward")
    (report,) = gradcheck_cases.run_all(rng, ["tanh"])
    assert not report.ok and "no tanh_backward" in str(report)


# ------------------------------------------------------------------------------------ wrong gradients


def parts(gradients):
    return list(gradients) if isinstance(gradients, tuple) else [gradients]


def scaled(gradient):
    return gradient * 1.001


def negated(gradient):
    return -gradient


def one_entry_off(gradient):
    """Only the largest entry is wrong."""
    wrong = gradient.copy()
    wrong.flat[np.abs(gradient).argmax()] *= 1.01
    return wrong


def shifted(gradient):
    """The right numbers in the wrong places (a single number has no other place: it moves itself)."""
    return np.roll(gradient, 1) if gradient.size > 1 else gradient + 1


@pytest.mark.parametrize("mutation", [scaled, negated, one_entry_off, shifted])
@pytest.mark.parametrize("pair, name", BACKWARDS, ids=[name for _, name in BACKWARDS])
def test_a_mutated_backward_of_any_pair_fails(pair, name, mutation, rng):
    """Of each backward, each of the gradients that it returns."""
    forward, right = getattr(functional, f"{pair}_forward"), getattr(functional, name)
    example = next(iter(gradcheck_cases.PAIRS[pair].values()))(rng)
    out, cache = forward(**example.inputs)
    count = len(parts(right(np.ones(np.shape(out)), cache)))
    for wrong in range(count):

        def mutated(d_out, cache, wrong=wrong):
            gradients = parts(right(d_out, cache))
            gradients[wrong] = mutation(gradients[wrong])
            return tuple(gradients)

        report = gradient_check(forward, mutated, example.inputs, rng=rng, constants=example.constants, max_entries=5)
        assert [row.ok for row in report.rows] == [i != wrong for i in range(count)], report


@pytest.mark.parametrize("kind, name", [
    pytest.param(*subject, marks=[pytest.mark.slow] if subject.kind == "model" else []) for subject in SUBJECTS if subject.kind != "pair"])
def test_a_mutated_gradient_of_any_layer_and_model_fails(kind, name, rng):
    """The gradient of one parameter, drawn at random, is off by a thousandth; without parameters that of the input."""
    module, inputs, _ = next(iter(gradcheck_cases.examples(kind, name).values()))(rng)
    names = [name for name, _ in module.named_parameters() if not name.endswith("key.bias")]
    wrong = str(rng.choice(names)) if names else "x"
    right = module.backward

    def mutated(d_out, cache):
        before = {name: parameter.grad.copy() for name, parameter in module.named_parameters()}
        d_x = right(d_out, cache)
        for name, parameter in module.named_parameters():
            if name == wrong:
                parameter.grad[...] = before[name] + 1.001 * (parameter.grad - before[name])
        return 1.001 * d_x if wrong == "x" else d_x

    module.backward = mutated
    report = gradient_check_module(module, inputs, rng=rng, max_entries=1)
    assert [row.name for row in report.rows if not row.ok] == [wrong], report


# ------------------------------------------------------------------------------------ what is printed, and dtypes


def test_main_prints_the_table_and_a_summary(capsys, monkeypatch):
    assert gradcheck_cases.main(["softmax", "Linear"]) == 0
    out = capsys.readouterr().out
    assert "softmax (axis 1), step by step: pass" in out and "Linear: pass" in out
    assert re.search(r"\d+ checks, \d+ arrays, \d+ entries, \d+\.\d s\nlargest relative error \S+, in ", out)
    assert out.endswith("all pass\n")
    monkeypatch.setattr(functional, "softmax_backward", lambda d_out, cache: np.zeros_like(d_out))
    assert gradcheck_cases.main(["softmax"]) == 1
    assert "2 FAILED: softmax; softmax (axis 1)\n" in capsys.readouterr().out


def test_main_knows_only_what_there_is():
    with pytest.raises(ValueError, match="no pair, layer or model called 'sotfmax'; there are attention, "):
        gradcheck_cases.main(["sotfmax"])


@pytest.mark.parametrize("name", PAIRS)
def test_float32_stays_float32(name, rng):
    """Training is in float32: no pair may return float64 when it got none, in none of its variants."""
    for make in gradcheck_cases.PAIRS[name].values():
        inputs = {
            key: value.astype(np.float32) if isinstance(value, np.ndarray) and value.dtype == np.float64 else value
            for key, value in make(rng).inputs.items()
        }
        out, cache = getattr(functional, f"{name}_forward")(**inputs)
        assert all(part.dtype == np.float32 for part in parts(out))
        draws = [np.float32(1.5) if np.ndim(part) == 0 else rng.normal(size=part.shape).astype(np.float32) for part in parts(out)]
        d_out = tuple(draws) if isinstance(out, tuple) else draws[0]
        for suffix in ("_backward", "_backward_steps"):
            backward = getattr(functional, name + suffix, None)
            for gradient in parts(backward(d_out, cache)) if backward else []:
                assert gradient is None or gradient.dtype == np.float32
