"""Exact match, majority answers, and the metrics file."""

import math

import numpy as np
import pytest

from tinymm.training.metrics import MetricsFile, exact_match, exact_match_by_group, majority_answers, token_accuracy
from tinymm.training.metrics import recall_at_k


def test_exact_match():
    assert exact_match(["a", "b", "c", "d"], ["a", "b", "c", "x"]) == 0.75
    assert math.isnan(exact_match([], []))
    with pytest.raises(ValueError, match="got 1 and 2"):
        exact_match(["a"], ["a", "b"])


def test_exact_match_by_group():
    groups = ["y/n", "color", "y/n", "y/n"]
    found = exact_match_by_group(["yes", "red", "no", "no"], ["yes", "blue", "no", "yes"], groups)
    assert found == {"y/n": (2 / 3, 3), "color": (0.0, 1)} and list(found) == ["y/n", "color"]
    with pytest.raises(ValueError, match="equally many"):
        exact_match_by_group(["a"], ["a"], [])


def test_token_accuracy_ignores_what_does_not_count():
    logits = np.array([[[0, 1.0], [1.0, 0], [0, 1.0]]])
    assert token_accuracy(logits, np.array([[1, 1, -100]])) == 0.5
    assert math.isnan(token_accuracy(logits, np.full((1, 3), -100)))


def test_majority_answers_and_their_ties():
    commonest, overall = majority_answers(["q", "q", "q", "p", "p"], ["yes", "no", "no", "b", "a"])
    assert commonest == {"q": "no", "p": "a"} and overall == "no"
    assert majority_answers([], []) == ({}, "")


def test_recall_at_k_by_hand():
    similarity = np.array([[0.9, 0.1, 0.3], [0.7, 0.5, 0.6], [0.2, 0.4, 0.4]])      # ranks 1, 3, 2 (a tie against us)
    assert [recall_at_k(similarity, k) for k in (1, 2, 3)] == [pytest.approx(share) for share in (1 / 3, 2 / 3, 1)]
    assert recall_at_k(np.zeros((4, 4)), 3) == 0.0 and recall_at_k(np.full((2, 2), np.nan)) == 0.0
    both = np.array([[True, False, True], [False, False, True], [True, True, False]])
    assert recall_at_k(similarity, 1, both) == pytest.approx(1 / 3)                 # ranks 1, 2, 2 (a tie again)
    assert math.isnan(recall_at_k(np.zeros((0, 3))))
    for bad in (dict(similarity=np.zeros(3)), dict(similarity=np.eye(2), k=0), dict(similarity=np.zeros((3, 2)))):
        with pytest.raises(ValueError, match="similarity"):
            recall_at_k(**bad)


def test_new_columns_appear_at_the_right_and_numbers_stay_readable(tmp_path):
    path = tmp_path / "metrics.csv"
    with MetricsFile(path) as metrics:
        metrics.write({"step": 10, "seconds": 1.5, "loss": np.float32(0.25)})
        metrics.write({"step": 20, "seconds": 3.0, "loss": 1 / 3, "accuracy": 1.0})
        metrics.write({"step": 30, "seconds": 4.0, "loss": 0.1})
        metrics.sync()
    assert path.read_text() == "step,seconds,loss,accuracy\n10,1.5,0.25,\n20,3,0.333333,1\n30,4,0.1,\n"


def test_resuming_drops_later_rows_and_half_lines(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_text("step,seconds,loss,exact\n10,1.5,0.25,\n20,3,0.2,1\n30,4,0.1,\n40,5")
    with MetricsFile(path, last_step=20) as metrics:
        assert metrics.seconds == 3.0
        metrics.write({"step": 25, "seconds": 3.5, "loss": 0.15})
    assert path.read_text() == "step,seconds,loss,exact\n10,1.5,0.25,\n20,3,0.2,1\n25,3.5,0.15,\n"
    with MetricsFile(path, last_step=100):
        pass
    assert path.read_text().count("\n") == 4
    with MetricsFile(path):
        pass
    assert path.read_text() == "step,seconds\n"


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"nonsense", b"step,seconds\nten,1\n", b"step,seconds\n,\n"])
def test_a_damaged_metrics_file_does_not_stop_a_resumed_training(tmp_path, content):
    path = tmp_path / "metrics.csv"
    path.write_bytes(content)
    with MetricsFile(path, last_step=10) as metrics:
        metrics.write({"step": 11, "seconds": 1.0})
    assert path.read_text() == "step,seconds\n11,1\n"
