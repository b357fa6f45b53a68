"""easy-VQA: 5,000 drawings of one coloured shape each, and 48,248 questions about them (V. Zhou 2019, MIT).

    load_easy_vqa().train    4,000 images, 38,575 questions
    load_easy_vqa().test     1,000 images,  9,673 questions       the official split, kept as published
"""

import csv
import gzip
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymm.data.shipped import data_path
from tinymm.errors import UserError


@dataclass(frozen=True)
class QuestionSet:
    """One part of the split: images, and questions that each point to one of them."""

    images: NDArray[np.uint8]        # (N, 64, 64, 3)
    image_index: NDArray[np.int64]   # (Q,)  question q is about images[image_index[q]]
    questions: tuple[str, ...]       # Q of them
    answers: tuple[str, ...]         # Q of them

    def __len__(self) -> int:
        return len(self.questions)

    def about(self, images: NDArray[np.integer]) -> "QuestionSet":
        """The questions about some of the images, with these images alone."""
        place = np.full(len(self.images), -1)
        place[images] = np.arange(len(images))
        rows = np.flatnonzero(place[self.image_index] >= 0)
        return QuestionSet(self.images[images], place[self.image_index[rows]],
                           tuple(self.questions[row] for row in rows), tuple(self.answers[row] for row in rows))


def split_by_image(questions: QuestionSet, share: float, rng: np.random.Generator) -> tuple[QuestionSet, QuestionSet]:
    """Keep back a share of the images with all their questions: (the rest, what is kept back)."""
    order = rng.permutation(len(questions.images))
    count = round(share * len(order))
    return questions.about(np.sort(order[count:])), questions.about(np.sort(order[:count]))


@dataclass(frozen=True)
class EasyVQA:
    train: QuestionSet
    test: QuestionSet
    answers: tuple[str, ...]         # the 13 possible answers


def load_easy_vqa(folder: str | Path | None = None) -> EasyVQA:
    """Read the shipped data set, or a copy of it in `folder`.

    Raises:
        UserError: a file is missing, damaged, or its parts do not fit together.
    """
    folder = data_path("easy_vqa") if folder is None else Path(folder)
    try:
        answers = tuple((folder / "answers.txt").read_text(encoding="utf-8").split())
        with np.load(folder / "images.npz", allow_pickle=False) as images:
            train = _question_set(images["train"], folder / "train_questions.tsv.gz", answers)
            test = _question_set(images["test"], folder / "test_questions.tsv.gz", answers)
    except FileNotFoundError as error:
        raise UserError(f"easy-VQA is incomplete: {error.filename} is missing") from None
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"easy-VQA in {folder} cannot be read: {error}") from None
    return EasyVQA(train, test, answers)


def _question_set(images: NDArray[np.uint8], table: Path, answers: tuple[str, ...]) -> QuestionSet:
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"the images must be uint8 of shape (N, H, W, 3), got {images.dtype} {images.shape}")
    with gzip.open(table, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    if not rows or rows[0] != ["image", "question", "answer"] or any(len(row) != 3 for row in rows):
        raise ValueError(f"{table.name} must have the columns image, question, answer in every line")
    image_index = np.array([int(row[0]) for row in rows[1:]], dtype=np.int64)
    if image_index.size and not 0 <= image_index.min() <= image_index.max() < len(images):
        raise ValueError(f"{table.name} names an image outside 0..{len(images) - 1}")
    if unknown := {row[2] for row in rows[1:]} - set(answers):
        raise ValueError(f"{table.name} has answers that answers.txt does not list: {sorted(unknown)[:3]}")
    return QuestionSet(images, image_index, tuple(row[1] for row in rows[1:]), tuple(row[2] for row in rows[1:]))
