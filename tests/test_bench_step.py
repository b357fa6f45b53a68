"""The benchmark of a training step: its table, its notice of other work, and that all competitors compute the same."""

from dataclasses import replace

import numpy as np
import pytest

from tinymm.bench import machine
from tinymm.bench import step as bench_step
from tinymm.data.batches import BatchSettings
from tinymm.training.text_image import Recipe


@pytest.fixture(scope="module")
def found():
    recipe = replace(Recipe(), batch=BatchSettings(question_images=3, questions_per_image=2, scenes=4))
    return bench_step.competitors(recipe)


def test_table():
    seconds = {"tinymm numba": [0.02, 0.03, 0.01], "PyTorch eager": [0.05], "PyTorch eager, x": [0.04],
               "tinymm numpy": [0.2]}
    text = bench_step.table(seconds, 10)
    assert "20.0      10.0       500     1.00" in text and "10.00" in text
    assert text.endswith("tinymm numba / best PyTorch: 0.50 (below 1: tinymm is faster)")
    assert "PyTorch" not in bench_step.table({"tinymm numba": [0.02]}, 10)


def test_both_backends_make_the_same_step(found):
    results = {c.name: c.loss_and_norm() for c in found[0] if c.name.startswith("tinymm")}
    assert len(results) == 2
    np.testing.assert_allclose(results["tinymm numba"], results["tinymm numpy"], rtol=1e-4)


@pytest.mark.peer
def test_pytorch_makes_the_same_step(found):
    pytest.importorskip("torch")
    by_name = {c.name: c for c in found[0]}
    peers = [c for c in found[0] if c.name.startswith("PyTorch")]
    assert len(peers) == 2
    for _ in range(2):    # before an update, and after it
        expected = by_name["tinymm numpy"].loss_and_norm()
        for peer in peers:
            np.testing.assert_allclose(peer.loss_and_norm(), expected, rtol=1e-4)
        for competitor in found[0]:
            competitor.step(1e-3)


def test_measure_takes_turns(found):
    calls = []
    stub = [bench_step.Competitor(name, lambda rate, name=name: calls.append(name), lambda: (0, 0)) for name in "ab"]
    seconds = bench_step.measure(stub, turns=2)
    turn = bench_step.STEPS_A_TURN + 1
    assert "".join(calls) == ("a" * turn + "b" * turn) * 2
    assert [len(times) for times in seconds.values()] == [2 * bench_step.STEPS_A_TURN] * 2


def test_other_work_is_a_number_of_processors():
    processors = machine.OtherWork().processors()
    assert processors is None or processors >= 0


def test_mistakes_in_the_options():
    for options in (["--turns", "0"], ["--threads", "0"], ["--nonsense"]):
        with pytest.raises(SystemExit) as stopped:
            bench_step.main(options)
        assert stopped.value.code == 2
