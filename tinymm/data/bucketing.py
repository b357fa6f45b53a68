"""Texts of unequal length in batches with little padding.

Sentences of about the same length go into one batch ("bucketing"). To sort all of them would show the model the same neighbours
in every epoch; so an epoch is first shuffled, then cut into pools of some batches, and only within a pool sorted.
At last the batches are shuffled, so that lengths come in no order.
"""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tinymm.data.tokenizer import Tokenizer

POOL = 20    # batches in a pool


def pad_sentences(sentences: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Token ids of unequal length as one table (R, T), T the longest, with <pad> at the right.

    Raises:
        ValueError: there is no sentence.
    """
    if not sentences:
        raise ValueError("sentences must hold at least one")
    ids = np.full((len(sentences), max(map(len, sentences))), Tokenizer.pad_id, np.int64)    # (R, T)
    for row, sentence in zip(ids, sentences):
        row[:len(sentence)] = sentence
    return ids


class BucketedOrder:
    """Which sentences a step gets, a pure function of (seed, step): each once an epoch, but for what is left over at its end."""

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int):
        """A batch is never larger than the set.

        Raises:
            ValueError: no lengths, or batch_size below 1.
        """
        if not len(lengths) or batch_size < 1:
            raise ValueError(f"there must be at least one length and batch_size 1, got {len(lengths)} and {batch_size}")
        self.lengths, self.seed = np.asarray(lengths), seed
        self.batch_size = min(batch_size, len(lengths))
        self.batches = len(lengths) // self.batch_size    # in an epoch
        self._epoch = lru_cache(maxsize=2)(self._new_epoch)

    def rows(self, step: int) -> NDArray[np.integer]:
        """The sentences of this step, as places in `lengths`."""
        epoch, place = divmod(step, self.batches)
        return self._epoch(epoch)[place]

    def _new_epoch(self, epoch: int) -> NDArray[np.integer]:
        """(batches, batch_size)"""
        rng = np.random.default_rng([self.seed, epoch])
        order = rng.permutation(len(self.lengths))[:self.batches * self.batch_size]
        pool = POOL * self.batch_size
        parts = [order[start:start + pool] for start in range(0, len(order), pool)]
        order = np.concatenate([part[np.argsort(self.lengths[part], kind="stable")] for part in parts])
        return rng.permutation(order.reshape(self.batches, self.batch_size))
