"""Sentences of movie reviews, each rated by 20 people (Hutto and Gilbert, ICWSM 2014; MIT).

    load_sentiment().train         sentences with a label: 1 positive, 0 negative
    load_sentiment().validation    for choosing a recipe
    load_sentiment().test          nothing is tuned on it
    load_sentiment().unlabelled    what the training part holds beside: sentences in the neutral band

The split is by a checksum of the sentence's number in the source, so it is the same for everybody, always.
"""

import gzip
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymm.data.shipped import data_path
from tinymm.errors import UserError

NEUTRAL = 0.5     # a mean rating (-4 to 4) nearer to 0 is neither positive nor negative


@dataclass(frozen=True)
class SentenceSet:
    texts: tuple[str, ...]           # N of them
    ratings: NDArray[np.float64]     # (N,)  mean of 20 people's ratings, -4 to 4
    labels: NDArray[np.int64]        # (N,)  1 where the rating is above 0, else 0

    def __len__(self) -> int:
        return len(self.texts)


@dataclass(frozen=True)
class Sentiment:
    train: SentenceSet
    validation: SentenceSet
    test: SentenceSet
    unlabelled: SentenceSet          # its ratings are within the neutral band: do not use its labels


def load_sentiment() -> Sentiment:
    """Read the shipped sentences.

    Raises:
        UserError: the file is missing or damaged.
    """
    numbers, ratings, texts = read_rated("movie_review_snippets.tsv.gz")
    parts = np.array([zlib.crc32(number.encode()) % 10 for number in numbers])            # (N,)
    clear = np.abs(ratings) >= NEUTRAL                                                    # (N,)

    def chosen(where: NDArray[np.bool_]) -> SentenceSet:
        found = np.flatnonzero(where)
        return SentenceSet(tuple(texts[i] for i in found), ratings[found], (ratings[found] > 0).astype(np.int64))

    return Sentiment(train=chosen(clear & (parts >= 3)), validation=chosen(clear & (parts == 0)),
                     test=chosen(clear & (parts > 0) & (parts < 3)), unlabelled=chosen(~clear & (parts >= 3)))


def read_rated(name: str) -> tuple[list[str], NDArray[np.float64], list[str]]:
    """A file of rated sentences: their numbers in the source, mean ratings (N,), and texts.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = data_path("sentiment") / name
    try:
        with gzip.open(path, "rt", encoding="utf-8") as file:
            rows = [line.rstrip("\n").split("\t") for line in file]
        return [number for number, _, _ in rows], np.array([float(rating) for _, rating, _ in rows]), [text for _, _, text in rows]
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
