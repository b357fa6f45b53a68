"""The schedule at its corners."""

import math

import pytest

from tinymm.training.schedules import warmup_cosine


def test_corners_of_warmup_and_cosine():
    rate = [warmup_cosine(step, steps=110, peak=2.0, warmup=10, floor=0.5) for step in range(111)]
    assert rate[0] == pytest.approx(2 / 11)
    assert rate[10] == 2.0                                  # the peak, directly after the warm-up
    assert rate[60] == pytest.approx((2 + 0.5) / 2)         # half of the way down
    assert rate[110] == 0.5
    assert rate[:11] == sorted(rate[:11]) and rate[10:] == sorted(rate[10:], reverse=True)
    assert rate[35] == pytest.approx(0.5 + 1.5 * (1 + math.cos(math.pi / 4)) / 2)


def test_no_warmup_only_warmup_and_behind_the_end():
    assert warmup_cosine(0, steps=10, peak=1.0) == 1.0
    assert warmup_cosine(10, steps=10, peak=1.0) == pytest.approx(0.0, abs=1e-15)
    assert warmup_cosine(1000, steps=10, peak=1.0, floor=0.1) == pytest.approx(0.1)
    assert warmup_cosine(9, steps=10, peak=1.0, warmup=10) == pytest.approx(10 / 11)
    assert all(warmup_cosine(step, steps=10, peak=1.0, warmup=3) > 0 for step in range(10))


@pytest.mark.parametrize("wrong", [{"steps": 0}, {"warmup": 11}, {"warmup": -1}, {"floor": 2.0}, {"floor": -0.1},
                                   {"step": -1}])
def test_mistakes_are_named(wrong):
    arguments = {"step": 1, "steps": 10, "peak": 1.0} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        warmup_cosine(arguments.pop("step"), **arguments)
