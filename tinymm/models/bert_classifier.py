"""BERT fine-tuned: the encoder that learnt to fill gaps, and one dense layer that reads a text's vector (Devlin et al. 2019, 3.2).

    <cls> a film of wit and grace
          |  BERTEncoder, started from a masked language model or from nothing     (R, T, D)
          |  one vector for the text: that of <cls>, or the mean of all tokens     (R, D)
          |  dense                                                                 (R,)
    log-odds that the text is positive

The paper pools by <cls>, which its next-sentence task has trained to speak for the text. Pre-trained by masked words
alone nothing has ever asked the vector of <cls> for anything, while each word's vector has been asked for its word: the mean is
then the better summary, and the default.
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
from tinymm.layers import Linear, Module
from tinymm.layers.module import Array
from tinymm.models.bert import BERTConfig, BERTEncoder, BERTEncoderCache, encode_sentences, text_tokenizer
from tinymm.models.looking import AttentionMaps, Inspection

POOLINGS = ("cls", "mean")


@dataclass(frozen=True)
class BERTClassifierConfig(BERTConfig):
    """The sizes of the encoder, and how a text becomes one vector."""

    pooling: str = "mean"

    def __post_init__(self) -> None:
        if self.pooling not in POOLINGS:
            raise ValueError(f"pooling must be one of {', '.join(POOLINGS)}; got {self.pooling!r}")


class BERTClassifierCache(NamedTuple):
    encoder: BERTEncoderCache
    shares: Array      # (R, 1, T)
    dropout: Any
    head: Any


class BERTClassifier(Module):
    """See the head of this file. `tokenizer` is set by whoever trains or loads the model."""

    tokenizer: Tokenizer | None = None

    def __init__(self, config: BERTClassifierConfig, rng: np.random.Generator):
        self.config = config
        self.encoder = BERTEncoder(config, rng)
        self.head = Linear(config.d_model, 1, rng)
        self.head.weight.value *= 0.1    # begin undecided: with few labels a loud answer by chance is not unlearnt in time

    # ---- the equations ----------------------------------------------------------------------------------------------

    def forward(self, ids: NDArray[np.integer], *, training: bool = False,
                rng: np.random.Generator | None = None) -> tuple[Array, BERTClassifierCache]:
        """ids (R, T), padded at the right -> logits (R,): the log-odds of "positive". With training=True there is dropout."""
        dropout = None
        x, encoder = self.encoder.forward(ids, training=training, rng=rng)                     # (R, T, D)  F1
        shares = self.shares(ids).astype(x.dtype)                                              # (R, 1, T)
        pooled = (shares @ x)[:, 0]                                                            # (R, D)     F2
        if training and self.config.dropout:
            pooled, dropout = self.ops.dropout_forward(pooled, self.config.dropout, rng)       # (R, D)     F3
        logits, head = self.head.forward(pooled)                                               # (R, 1)     F4
        return logits[:, 0], BERTClassifierCache(encoder, shares, dropout, head)

    def backward(self, d_logits: Array, cache: BERTClassifierCache) -> None:
        """d_logits (R,): adds the gradients of all parameters."""
        d_pooled = self.head.backward(d_logits[:, None], cache.head)                           # (R, D)     undoes F4
        if cache.dropout is not None:
            d_pooled = self.ops.dropout_backward(d_pooled, cache.dropout)                      # (R, D)     undoes F3
        d_x = cache.shares.swapaxes(1, 2) * d_pooled[:, None]                                  # (R, T, D)  undoes F2: to each token its share
        self.encoder.backward(d_x, cache.encoder)                                              #            undoes F1

    def shares(self, ids: NDArray[np.integer]) -> Array:
        """How much of each token goes into the vector of its text: (R, 1, T), each row sums to 1."""
        if self.config.pooling == "cls":
            shares = np.arange(ids.shape[1]) == np.zeros((len(ids), 1))                        # (R, T)  all of the first
        else:
            real = ids != Tokenizer.pad_id                                                     # (R, T)
            shares = real / real.sum(axis=1, keepdims=True)                                    # (R, T)  of real ones the same
        return shares[:, None].astype(float)

    # ---- what it is for ---------------------------------------------------------------------------------------------

    def predict(self, texts: str | Sequence[str], batch_size: int = 256) -> float | list[float]:
        """The probability that a text is positive: a number for one text, a list for a list.

        Of a text that is longer than the model reads, the beginning counts, as in training.

        Raises:
            UserError: a text is empty.
        """
        single = isinstance(texts, str)
        listed = [texts] if single else list(texts)
        sentences = encode_sentences(text_tokenizer(self), listed, self.config.max_length)
        if any(len(sentence) == 1 for sentence in sentences):    # nothing but <cls>
            raise UserError("a text is empty; give a sentence such as 'a film of wit and grace'")
        probabilities = functional.sigmoid_forward(self.logits(sentences, batch_size))[0].tolist()
        return probabilities[0] if single else probabilities

    def logits(self, sentences: Sequence[Sequence[int]], batch_size: int = 256) -> Array:
        """The logits (R,) of token ids, texts of about the same length together, so that little padding is computed."""
        out = np.zeros(len(sentences), self.head.weight.value.dtype)
        order = np.argsort([len(sentence) for sentence in sentences], kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start:start + batch_size]
            out[rows], _ = self.forward(pad_sentences([sentences[row] for row in rows]))
        return out

    def attention(self, text: str) -> tuple[list[str], Array]:
        """The tokens of a text, and who looks at whom: weights (N, H, T, T)."""
        (ids,) = encode_sentences(text_tokenizer(self), [text], self.config.max_length)
        _, cache = self.encoder.forward(np.array([ids]))
        return [text_tokenizer(self).tokens[token] for token in ids], self.encoder.attention(cache)[:, 0]

    def look(self, text: str) -> Inspection:
        """All attention while the text is read, and how likely it is positive. Errors as in `predict`."""
        probability = self.predict(text)
        tokens, weights = self.attention(text)
        maps = AttentionMaps("words", "Which words each word looks at", weights, tokens, tokens)
        return Inspection(text, f"positive: {probability:.0%}", (maps,))
