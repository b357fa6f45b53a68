"""The attention benchmark: what it prints is measured right, and mistakes are told before the work."""

import numpy as np
import pytest
from numba.core import config

from tinymm import UserError, bench
from tinymm.bench import attention as bench_attention
from tinymm.bench.attention import FAST, NUMPY, READABLE, SDPA, TORCH, Shape, Timing

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="times of compiled code")
TINY = Shape(2, 2, 24, 24, 16, True)


@pytest.fixture
def ours(capsys):
    """The competitors that need no other package."""
    return [c for c in bench_attention.competitors() if c.name in (FAST, READABLE, NUMPY)]


def test_measure_and_table(ours):
    timings = bench_attention.measure(TINY, ours, turns=2)
    assert list(timings) == [FAST, READABLE, NUMPY]
    assert all(0 < t.forward < t.both < 1 and t.error < 2e-6 for t in timings.values())
    text = bench_attention.table(TINY, timings, peak=100.0)
    assert "(2,2,24,16) causal" in text and len(text.splitlines()) == 4
    assert bench_attention.summary({TINY: timings}) == ""            # no PyTorch, nothing to sum up


def test_a_wrong_competitor_is_seen_in_the_error(ours):
    fast = ours[0]
    wrong = fast._replace(backward=lambda given, state: [1.01 * g for g in fast.backward(given, state)])
    assert bench_attention.measure(TINY, [wrong], turns=1)[FAST].error > 5e-3


@pytest.mark.peer
def test_pytorch_computes_the_same():
    pytest.importorskip("torch")
    for shape in (TINY, Shape(2, 2, 12, 30, 16)):
        timings = bench_attention.measure(shape, bench_attention.competitors(), turns=1)
        assert {SDPA, TORCH} < timings.keys() and all(t.error < 3e-6 for t in timings.values())


def test_summary_takes_the_worst_shape():
    cross = Shape(1, 1, 8, 16, 8)
    names = (FAST, READABLE, NUMPY, SDPA, TORCH)
    results = {TINY: dict(zip(names, [Timing(f, b, 1e-7) for f, b in ((1, 2), (2, 5), (9, 9), (2, 4), (3, 9))])),
               cross: dict(zip(names, [Timing(f, b, 3e-7) for f, b in ((1, 2), (3, 6), (9, 9), (4, 4), (2, 2))]))}
    text = bench_attention.summary(results)
    assert "3e-07" in text
    assert "self-attention, fast / PyTorch SDPA: forward 0.50, forward and backward 0.50" in text
    assert "cross-attention, fast / the faster of PyTorch's: forward 0.50, forward and backward 1.00" in text
    assert "readable / PyTorch SDPA: forward 1.00, forward and backward 1.50" in text


def test_extra_memory_sees_the_table_of_weights(ours):
    shape = Shape(1, 2, 1500, 1500, 16)
    extra = {c.name: bench_attention.extra_memory(c, shape) for c in ours}
    if None in extra.values():
        pytest.skip("this system does not tell")
    assert extra[NUMPY] > 4 * 2 * 1500**2 and extra[FAST] < 4e6 and extra[READABLE] < 4e6


@pytest.mark.slow
def test_quick_run_with_picture(tmp_path, capsys):
    path = tmp_path / "attention.png"
    assert bench.main(["attention", "--quick", "--turns", "1", "--threads", "2", "--plot", str(path)]) == 0
    printed = capsys.readouterr().out
    assert "GFLOP/s" in printed and "(8,8,256,64) full" in printed
    assert path.stat().st_size > 10_000


def test_picture(tmp_path):
    points = {FAST: [(64, 1e-3, 2e5), (128, 2e-3, None)], NUMPY: [(64, 1e-2, 3e6)], READABLE: []}
    bench_attention.draw(points, tmp_path / "a.svg", threads=2)
    assert (tmp_path / "a.svg").stat().st_size > 1000


@pytest.mark.parametrize("argv", [["--turns", "-1"], ["--threads", "0"], ["--plot", "nowhere/at/all.png"], ["--plot", "x.doc"]])
def test_mistakes_are_told_before_the_work(argv):
    with pytest.raises(UserError):
        bench.main(["attention", *argv])


def test_usage(capsys):
    assert bench.main(["--help"]) == 0 and "tinymm bench step" in capsys.readouterr().out
    assert bench.main([]) == 2 and "usage" in capsys.readouterr().err
    assert bench.main(["nonsense"]) == 2


def test_operations():
    assert Shape(1, 1, 10, 10, 4).operations() == (1600, 4800)
    assert Shape(1, 1, 10, 10, 4, True).operations() == (800, 2400)
    np.testing.assert_equal(str(Shape(16, 4, 32, 256, 64)), "(16,4,32x256,64) cross")
