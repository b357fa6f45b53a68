"""What is measured: how often a text is exactly right, by kind, and the file that keeps it step by step."""

import csv
import io
import math
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from tinymm.training.checkpoints import write_atomically


@dataclass(frozen=True)
class Example:
    """One item of an evaluation: an image, what was asked (empty for a caption), what came, what is right."""

    image: NDArray[np.uint8]    # (H, W, 3)
    question: str
    given: str
    expected: str

    @property
    def right(self) -> bool:
        return self.given == self.expected


def exact_match(given: Sequence[str], expected: Sequence[str]) -> float:
    """The share of texts that are exactly right; NaN when there are none.

    Raises:
        ValueError: the two lists differ in length.
    """
    if len(given) != len(expected):
        raise ValueError(f"given and expected must be equally many, got {len(given)} and {len(expected)}")
    return sum(g == e for g, e in zip(given, expected)) / len(given) if len(given) else float("nan")


def exact_match_by_group(given: Sequence[str], expected: Sequence[str],
                         groups: Sequence[str]) -> dict[str, tuple[float, int]]:
    """For each group (a kind of question, say), the largest first: the share exactly right, and how many there are."""
    if not len(given) == len(expected) == len(groups):
        raise ValueError("given, expected and groups must be equally many, "
                         f"got {len(given)}, {len(expected)}, {len(groups)}")
    totals = Counter(groups)
    right = Counter(group for g, e, group in zip(given, expected, groups) if g == e)
    return {group: (right[group] / count, count) for group, count in totals.most_common()}


def token_accuracy(logits: NDArray[np.floating], labels: NDArray[np.integer], ignore_index: int = -100) -> float:
    """The share of labels (...) that have the highest of logits (..., V), but for ignored ones; NaN if none counts."""
    counted = labels != ignore_index
    total = int(counted.sum())
    return float((logits.argmax(axis=-1) == labels)[counted].sum() / total) if total else float("nan")


def perplexity(loss: float) -> float:
    """e^loss for a loss in nats a token: among so many equally likely tokens the model hesitates on average."""
    return math.exp(loss)


def majority_answers(questions: Iterable[str], answers: Iterable[str]) -> tuple[dict[str, str], str]:
    """The commonest answer to each question's text, and over all questions: what one can say without seeing the image.

    Ties go to the answer that is first in the alphabet.
    """
    counts: dict[str, Counter[str]] = {}
    overall: Counter[str] = Counter()
    for question, answer in zip(questions, answers, strict=True):
        counts.setdefault(question, Counter())[answer] += 1
        overall[answer] += 1
    return {question: _commonest(counter) for question, counter in counts.items()}, _commonest(overall)


def _commonest(counter: Counter[str]) -> str:
    return min(counter, key=lambda answer: (-counter[answer], answer)) if counter else ""


def recall_at_k(similarity: NDArray[np.floating], k: int = 1, matches: NDArray[np.bool_] | None = None) -> float:
    """The share of queries with a right item among the k most similar ones (Recall@K of retrieval); NaN without queries.

        R@k = (1 / N) sum_i [rank_i <= k],   rank_i = the number of wrong items at least as similar as the best right one, + 1

    An item that ties with the right one counts as more similar, so a model that finds all alike gets no credit.

    Args:
        similarity: (N, M), query i beside item j.   k: at least 1.
        matches: (N, M), True where item j is a right one for query i; None when that is item i alone.

    Raises:
        ValueError: a wrong rank or shape, k below 1, or a query without a right item.
    """
    if similarity.ndim != 2 or k < 1:
        raise ValueError(f"similarity must have shape (N, M) and k must be at least 1, got {similarity.shape} and {k}")
    matches = np.eye(*similarity.shape, dtype=bool) if matches is None else matches
    if matches.shape != similarity.shape or not matches.any(axis=1).all():
        raise ValueError("every query needs a right item, "
                         f"got matches {matches.shape} for similarity {similarity.shape}")
    best = np.where(matches, similarity, -np.inf).max(axis=1, keepdims=True)      # (N, 1)
    rank = (~matches & ~(similarity < best)).sum(axis=1) + 1                      # (N,)  a NaN counts against us too
    return float((rank <= k).mean()) if len(similarity) else float("nan")


class MetricsFile:
    """metrics.csv: one row per logged step; a cell is empty where nothing was measured.

    Args:
        last_step: rows after it are dropped, because the run resumes there and writes them again (0: an empty file).

    Attributes:
        seconds: the training time up to the last row that was kept.
    """

    def __init__(self, path: Path, last_step: int = 0):
        self.path = path
        self.rows = _read_rows(path, last_step) if last_step else []
        self.columns = list(dict.fromkeys(name for row in self.rows for name in row)) or ["step", "seconds"]
        self.seconds = float(self.rows[-1].get("seconds") or 0) if self.rows else 0.0
        self._file: TextIO | None = None

    def __enter__(self) -> "MetricsFile":
        self._rewrite()
        return self

    def __exit__(self, *_: Any) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def write(self, row: Mapping[str, float]) -> None:
        """Append one row; a name that was not there before becomes a new column at the right."""
        self.rows.append({name: f"{value:.6g}" if isinstance(value, (float, np.floating)) else str(value)
                          for name, value in row.items()})
        new = [name for name in row if name not in self.columns]
        if new or self._file is None:
            self.columns += new
            self._rewrite()
        else:
            self._file.write(self._line(self.rows[-1]))
            self._file.flush()

    def sync(self) -> None:
        """Bring all rows to the disk."""
        if self._file is not None:
            os.fsync(self._file.fileno())

    def _rewrite(self) -> None:
        if self._file is not None:
            self._file.close()
        lines = [self._line({name: name for name in self.columns})] + [self._line(row) for row in self.rows]
        write_atomically(self.path, "".join(lines).encode())
        self._file = open(self.path, "a", encoding="utf-8", newline="")

    def _line(self, row: Mapping[str, str]) -> str:
        line = io.StringIO()
        csv.writer(line, lineterminator="\n").writerow([row.get(name, "") for name in self.columns])
        return line.getvalue()


def _read_rows(path: Path, last_step: int) -> list[dict[str, str]]:
    """The rows up to a step. A killed process may have left half a line, but only after its last checkpoint."""
    rows: list[dict[str, str]] = []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                is_whole = None not in row and None not in row.values() and row.get("step", "").isdigit()
                if not is_whole or int(row["step"]) > last_step:
                    break
                rows.append({name: value for name, value in row.items() if name is not None})
    except (FileNotFoundError, UnicodeDecodeError, csv.Error):
        pass    # the curve is then incomplete; the training itself does not need it
    return rows
