"""A stream of tokens and the windows through which a language model reads it.

    texts     "ab" "cde"           stream    a b <end> c d e <end>

A window of T tokens is what the model must guess; it reads <end> and the first T - 1 of them:

    labels    b <end> c            ids       <end> b <end>

So a model also learns to begin, and what it reads always begins in the same way.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.batches import IGNORE


class Window(NamedTuple):
    """A batch of windows."""

    ids: NDArray[np.integer]       # (B, T)  what is read
    labels: NDArray[np.integer]    # (B, T)  the next token at each place; IGNORE where it does not count


@dataclass(frozen=True)
class TokenStream:
    tokens: NDArray[np.integer]    # (N,)
    end_id: int

    @classmethod
    def of(cls, texts: Sequence[str], tokenizer: Any) -> "TokenStream":
        """All texts one after the other, each closed by <end>."""
        tokens = [token for text in texts for token in (*tokenizer.encode(text), tokenizer.end_id)]
        return cls(np.array(tokens, np.int64), tokenizer.end_id)

    def __len__(self) -> int:
        return len(self.tokens)

    def windows(self, starts: Sequence[int] | NDArray[np.integer], length: int) -> Window:
        """Windows of T = `length` tokens that begin at these B places.

        Raises:
            ValueError: a window reaches beyond the stream.
        """
        starts = np.asarray(starts)                                          # (B,)
        if starts.min() < 0 or starts.max() + length > len(self):
            raise ValueError(f"windows of {length} tokens must begin in 0..{len(self) - length}, "
                             f"got {starts.min()}..{starts.max()}")
        labels = self.tokens[starts[:, None] + np.arange(length)]            # (B, T)
        first = np.full((len(labels), 1), self.end_id)                       # (B, 1)
        return Window(np.concatenate([first, labels[:, :-1]], axis=1), labels)

    def once(self, length: int, step: int, batch_size: int = 64) -> Iterator[Window]:
        """Windows in which every token of the stream counts exactly once, as labels.

        With step < length the windows overlap, and a token counts where it has more of the text before it.
        """
        starts, done = [], 0
        for start in range(0, len(self) - length + step, step):
            starts.append(min(start, len(self) - length))                    # the last one begins earlier, to fit
        for begin in range(0, len(starts), batch_size):
            window = self.windows(starts[begin:begin + batch_size], length)
            for start, row in zip(starts[begin:], window.labels):
                row[:done - start] = IGNORE                                  # counted before
                done = start + length
            yield window
