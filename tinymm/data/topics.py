"""A film or a product: which of the two does a review sentence speak of?

    load_topics().train          as many sentences of each; label 1: a product, 0: a film
    load_topics().validation     for choosing a recipe
    load_topics().test           nothing is tuned on it

The film sentences are those of `tinymm.data.sentiment`, in its split. Product reviews hold many sentences each; they are split by
review, so that no review has sentences in two parts. Both come from Hutto and Gilbert (ICWSM 2014), MIT.
"""

import zlib
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.sentiment import load_sentiment, read_rated

PARTS = ("train", "validation", "test")


class TopicSet(NamedTuple):
    texts: tuple[str, ...]         # N of them
    labels: NDArray[np.int64]      # (N,)  1 of a product, 0 of a film


@dataclass(frozen=True)
class Topics:
    train: TopicSet
    validation: TopicSet
    test: TopicSet


@cache
def load_topics() -> Topics:
    """Read and mix the shipped sentences; the same for everybody, always.

    Raises:
        UserError: a file is missing or damaged.
    """
    films, products = load_sentiment(), load_product_sentences()
    return Topics(*(_mixed(getattr(films, part).texts, products[part], seed) for seed, part in enumerate(PARTS)))


def load_product_sentences() -> dict[str, tuple[str, ...]]:
    """The sentences of the product reviews: "train", "validation" and "test"; about 70, 10 and 20 % of the reviews."""
    numbers, _, texts = read_rated("product_review_snippets.tsv.gz")
    reviews = [number.split("_")[0] for number in numbers]
    tenths = np.array([zlib.crc32(f"product {review}".encode()) % 10 for review in reviews])      # (N,)
    chosen = tenths >= 3, tenths == 0, (tenths > 0) & (tenths < 3)
    return {part: tuple(texts[i] for i in np.flatnonzero(where)) for part, where in zip(PARTS, chosen)}


def _mixed(films: tuple[str, ...], products: tuple[str, ...], seed: int) -> TopicSet:
    """All the product sentences and as many about films, in random order."""
    rng = np.random.default_rng(seed)
    texts = (*products, *(films[i] for i in rng.permutation(len(films))[:len(products)]))
    order = rng.permutation(len(texts))
    return TopicSet(tuple(texts[i] for i in order), (order < len(products)).astype(np.int64))
