"""An LSTM that tells whether a text is positive: it reads word by word, and a dense layer judges what it remembers.

    text ids (R, T)
          |  embedding                                             (R, T, E)
          |  LSTM                                                  (R, T, D)   the state after each word
          |  the mean of the states (or the last one)              (R, D)
          |  dense                                                 (R,)
    log-odds that the text is positive;  sigmoid -> its probability

The classic reads the answer off the last state, which must carry all of the text. The mean of all states lets every word
reach the answer by a short way, forward and backward, and learns faster from few texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm import functional
from tinymm.data.bucketing import pad_sentences
from tinymm.data.tokenizer import Tokenizer
from tinymm.errors import UserError
from tinymm.layers import LSTM, Embedding, Linear, Module
from tinymm.layers.module import Array

POOLINGS = ("mean", "last")


@dataclass(frozen=True)
class LSTMConfig:
    """Everything that fixes the shapes of the model; saved beside its weights."""

    vocabulary_size: int
    d_embedding: int = 64
    d_state: int = 64
    max_length: int = 60
    pooling: str = "mean"
    dropout: float = 0.5

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}; got {self.pooling!r}")


class LSTMModelCache(NamedTuple):
    words: Any
    dropped_words: Any
    lstm: Any
    shares: Array        # (R, 1, T)
    dropped_state: Any
    head: Any


class LSTMModel(Module):
    """See the head of this file. `tokenizer` is set by whoever trains or loads the model."""

    tokenizer: Tokenizer | None = None

    def __init__(self, config: LSTMConfig, rng: np.random.Generator):
        c = self.config = config
        self.words = Embedding(c.vocabulary_size, c.d_embedding, rng, scale=0.1)
        self.lstm = LSTM(c.d_embedding, c.d_state, rng)
        self.head = Linear(c.d_state, 1, rng)

    # ---- the equations ----------------------------------------------------------------------------------------------

    def forward(self, ids: NDArray[np.integer], *, training: bool = False,
                rng: np.random.Generator | None = None) -> tuple[Array, LSTMModelCache]:
        """ids (R, T), padded at the right -> logits (R,): the log-odds of "positive". With training=True there is dropout."""
        drop = training and self.config.dropout > 0
        dropped_words = dropped_state = None
        x, words = self.words.forward(ids)                                                      # (R, T, E)  F1
        if drop:
            x, dropped_words = self.ops.dropout_forward(x, self.config.dropout, rng)            # (R, T, E)  F2
        states, lstm = self.lstm.forward(x, ids != Tokenizer.pad_id)                            # (R, T, D)  F3
        shares = self.shares(ids).astype(x.dtype)                                               # (R, 1, T)
        pooled = (shares @ states)[:, 0]                                                        # (R, D)     F4
        if drop:
            pooled, dropped_state = self.ops.dropout_forward(pooled, self.config.dropout, rng)  # (R, D)     F5
        logits, head = self.head.forward(pooled)                                                # (R, 1)     F6
        return logits[:, 0], LSTMModelCache(words, dropped_words, lstm, shares, dropped_state, head)

    def backward(self, d_logits: Array, cache: LSTMModelCache) -> None:
        """d_logits (R,): adds the gradients of all parameters."""
        d_pooled = self.head.backward(d_logits[:, None], cache.head)                            # (R, D)     undoes F6
        if cache.dropped_state is not None:
            d_pooled = self.ops.dropout_backward(d_pooled, cache.dropped_state)                 # (R, D)     undoes F5
        d_states = cache.shares.swapaxes(1, 2) * d_pooled[:, None]                              # (R, T, D)  undoes F4
        d_x = self.lstm.backward(d_states, cache.lstm)                                          # (R, T, E)  undoes F3
        if cache.dropped_words is not None:
            d_x = self.ops.dropout_backward(d_x, cache.dropped_words)                           # (R, T, E)  undoes F2
        self.words.backward(d_x, cache.words)                                                   #            undoes F1

    def shares(self, ids: NDArray[np.integer]) -> Array:
        """How much of each state goes into the vector of its text: (R, 1, T), each row sums to 1."""
        real = ids != Tokenizer.pad_id                                                          # (R, T)
        count = real.sum(axis=1, keepdims=True)                                                 # (R, 1)
        if self.config.pooling == "last":
            return (np.arange(ids.shape[1]) == count - 1)[:, None].astype(float)
        return (real / count)[:, None].astype(float)

    # ---- what it is for ---------------------------------------------------------------------------------------------

    def predict(self, texts: str | Sequence[str]) -> float | list[float]:
        """The probability that a text is positive: a number for one text, a list for a list.

        Of a text that is longer than the model reads, the beginning counts, as in training.

        Raises:
            UserError: a text is empty, or the model has no tokenizer.
        """
        single = isinstance(texts, str)
        sentences = self.encode([texts] if single else list(texts))
        probabilities = functional.sigmoid_forward(self.logits(sentences))[0].tolist()
        return probabilities[0] if single else probabilities

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts as ids, cut off at max_length. Raises UserError for an empty one."""
        if self.tokenizer is None:
            raise UserError("this model has no tokenizer; load it from a run folder with tinymm.load, or set model.tokenizer")
        sentences = [self.tokenizer.encode(text)[:self.config.max_length] for text in texts]
        if not all(sentences):
            raise UserError("a text is empty; give a sentence such as 'a film of wit and grace'")
        return sentences

    def logits(self, sentences: Sequence[Sequence[int]], batch_size: int = 256) -> Array:
        """The logits (R,) of token ids, texts of about the same length together, so that little padding is computed."""
        out = np.zeros(len(sentences), self.head.weight.value.dtype)                            # (R,)
        order = np.argsort([len(sentence) for sentence in sentences], kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start:start + batch_size]
            out[rows], _ = self.forward(pad_sentences([sentences[row] for row in rows]))
        return out
