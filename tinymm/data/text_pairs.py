"""Pairs of texts, one to read and one to write, and batches of them: what an encoder-decoder learns from.

Whether a pair belongs to the training, the validation or the test data follows from what it is about (a number, a date, a
scene), by a checksum: no two splits ever share an item, in whatever form its text comes, and no list must be kept.
"""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.batches import token_table

SPLITS = ("train", "validation", "test")
_ORDER = 5      # the stream of chance that orders the epochs


def split_of(item: str) -> str:
    """The split of an item: of every ten, about one is for validation, one for the test, and eight are for training."""
    return {0: "validation", 1: "test"}.get(zlib.crc32(item.encode()) % 10, "train")


class TextPair(NamedTuple):
    source: str
    target: str
    kind: str      # what sort of item it is; an evaluation counts each by itself


@dataclass(frozen=True)
class TextPairs:
    """N pairs of texts."""

    sources: tuple[str, ...]
    targets: tuple[str, ...]
    kinds: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.sources)

    def spread(self, limit: int) -> "TextPairs":
        """At most `limit` of them, evenly spread."""
        if len(self) <= limit:
            return self
        rows = np.linspace(0, len(self) - 1, limit).astype(np.intp)
        return TextPairs(*(tuple(column[row] for row in rows) for column in (self.sources, self.targets, self.kinds)))


def collect(count: int, split: str, draw: Callable[[], tuple[str, TextPair]]) -> TextPairs:
    """`count` pairs of a split, no two with the same source, from a function that draws (item, pair).

    Raises:
        ValueError: an unknown split, or so few different sources that the count is not reached.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    pairs: dict[str, TextPair] = {}
    for _ in range(100 * count):
        if len(pairs) == count:
            break
        item, pair = draw()
        if split_of(item) == split:
            pairs.setdefault(pair.source, pair)
    if len(pairs) < count:
        raise ValueError(f"there are only about {len(pairs)} different pairs of the split {split!r}, but count is {count}")
    return TextPairs(*map(tuple, zip(*pairs.values()))) if pairs else TextPairs((), (), ())


@dataclass(frozen=True)
class PairBatch:
    """Sources and targets as token ids, padded at the right with <pad>."""

    source: NDArray[np.int64]     # (B, S)
    target: NDArray[np.int64]     # (B, T)  <end>, then the text: what the decoder reads
    labels: NDArray[np.int64]     # (B, T)  the text, then <end>: what it shall write; -100 on the padding


def encode_pairs(pairs: TextPairs, tokenizer: Any) -> PairBatch:
    """All the pairs as one batch."""
    sources = [tokenizer.encode(text) for text in pairs.sources]
    end = [tokenizer.end_id]
    target, labels = token_table([(end, tokenizer.encode(text) + end) for text in pairs.targets])
    source = np.full((len(pairs), max(map(len, sources), default=0)), tokenizer.pad_id, np.int64)      # (B, S)
    for row, ids in zip(source, sources):
        row[:len(ids)] = ids
    return PairBatch(source, target, labels)


def choose(table: PairBatch, rows: NDArray[np.integer] | Sequence[int], pad_id: int) -> PairBatch:
    """Some of the pairs, no wider than the longest of them."""
    source, labels = table.source[rows], table.labels[rows]                          # (B, S), (B, T)
    S, T = (int((ids != empty).sum(axis=1).max()) for ids, empty in ((source, pad_id), (labels, -100)))
    return PairBatch(source[:, :S], table.target[rows, :T], labels[:, :T])


class PairBatches:
    """Training batches as a pure function of (seed, step). In every epoch each pair comes once, in a new order."""

    def __init__(self, pairs: TextPairs, tokenizer: Any, seed: int, size: int):
        if not 1 <= size <= len(pairs):
            raise ValueError(f"the batch size must be from 1 to the {len(pairs)} pairs, got {size}")
        self.table, self.pad_id = encode_pairs(pairs, tokenizer), tokenizer.pad_id
        self.seed, self.size = seed, size
        self._epoch, self._order = -1, np.empty(0, np.int64)

    def batch(self, step: int) -> PairBatch:
        """The batch of a step, the same whenever it is asked for."""
        total = len(self.table.source)
        epoch, place = divmod(step, total // self.size)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, np.random.default_rng([self.seed, epoch, _ORDER]).permutation(total)
        return choose(self.table, self._order[place * self.size:(place + 1) * self.size], self.pad_id)
