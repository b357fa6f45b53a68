"""BERT: a Transformer encoder that reads a text from both sides, and learns by filling gaps (Devlin et al. 2019).

    <cls> the film is a <mask> of wit            one sentence, some of its words hidden
          |  words + positions                   (R, T, D)
          |  N Transformer blocks, no causal mask: every token sees every real token
          |  only the masked places              (M, D)
          |  dense, GELU, layer norm, and the likeness to each word of the table
    a guess for each hidden word                 (M, V)

GPT predicts the next word and may only look back. BERT may look both ways, as the word to predict is not in its input. What
the encoder has learnt from text alone is then the start of a model with few labels (`tinymm.models.bert_classifier`).

The paper adds a third table, for segments A and B, as its second task asks whether two sentences follow each other. Our texts
are single sentences without order, so there would be one segment only: a constant, which the positions can hold. That task
is left out too; it was found not to help (Liu et al. 2019, RoBERTa, section 4.2).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm import functional
from tinymm.data.tokenizer import Tokenizer
from tinymm.errors import UserError
from tinymm.layers import Embedding, LayerNorm, LearnedPositions, Linear, Module, Parameter, TransformerBlock
from tinymm.layers.attention import attention_weights
from tinymm.layers.module import Array
from tinymm.models.looking import AttentionMaps, Inspection

CLS, MASK = "<cls>", "<mask>"    # BERT's own special tokens: what stands first in a text, and what hides a word


@dataclass(frozen=True)
class BERTConfig:
    """Everything that fixes the shapes of the encoder; saved beside its weights."""

    vocabulary_size: int
    d_model: int = 96
    n_heads: int = 4
    n_layers: int = 2
    d_ff: int = 384
    max_length: int = 40      # of a text, <cls> included
    norm: str = "post"        # as in the paper
    dropout: float = 0.1


class BERTEncoderCache(NamedTuple):
    words: Any
    positions: Any
    norm: Any
    dropout: Any
    blocks: list[Any]


class BERTEncoder(Module):
    """Token ids (R, T) to vectors (R, T, D), each of which has seen the whole text.

    With fusion="cross" each block also looks at a memory, such as the tokens of an image (`tinymm.models.multimodal_bert`).
    """

    def __init__(self, config: BERTConfig, rng: np.random.Generator, fusion: str | None = None):
        c = self.config = config
        self.words = Embedding(c.vocabulary_size, c.d_model, rng)
        self.positions = LearnedPositions(c.max_length, c.d_model, rng)
        self.blocks = [TransformerBlock(c.d_model, c.n_heads, c.d_ff, rng, fusion, c.norm, c.dropout) for _ in range(c.n_layers)]
        self.norm = LayerNorm(c.d_model)    # the one that the blocks leave out: pre-norm the last, post-norm the first

    def forward(self, ids: NDArray[np.integer], memory: Array | None = None, *, memory_index: NDArray[np.integer] | None = None,
                training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, BERTEncoderCache]:
        """ids (R, T), padded with <pad> -> x (R, T, D). With training=True there is dropout, which needs rng.

        No token looks at padding; the vectors at padded places mean nothing. With fusion="cross": memory (B, S, D), and
        memory_index (R,), the memory that each text looks at (None: text r at memory r).

        Raises:
            ValueError: ids are not (R, T) with T from 1 to max_length.
        """
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= self.config.max_length:
            raise ValueError(f"ids must be (R, T) with T from 1 to max_length {self.config.max_length}, got {ids.shape}")
        pre_norm, norm, dropout, blocks = self.config.norm == "pre", None, None, []
        mask = functional.attention_mask(ids.shape[1], ids.shape[1], padding=ids != Tokenizer.pad_id)   # (R, 1, 1, T)
        x, words = self.words.forward(ids)                                            # (R, T, D)  F1
        x, positions = self.positions.forward(x)                                      # (R, T, D)  F2
        if not pre_norm:
            x, norm = self.norm.forward(x)                                            # (R, T, D)  F3
        if training and self.config.dropout:
            x, dropout = self.ops.dropout_forward(x, self.config.dropout, rng)        # (R, T, D)  F4
        for block in self.blocks:
            x, cache = block.forward(x, memory, mask=mask, memory_index=memory_index, training=training, rng=rng)   # (R, T, D)  F5
            blocks.append(cache)
        if pre_norm:
            x, norm = self.norm.forward(x)                                            # (R, T, D)  F6
        return x, BERTEncoderCache(words, positions, norm, dropout, blocks)

    def backward(self, d_out: Array, cache: BERTEncoderCache) -> Array | None:
        """d_out (R, T, D): adds the gradients of all parameters. Returns d_memory (B, S, D), or None where there is no memory."""
        pre_norm, d_x, d_memory = self.config.norm == "pre", d_out, None
        if pre_norm:
            d_x = self.norm.backward(d_x, cache.norm)                                 # (R, T, D)  undoes F6
        for block, block_cache in zip(reversed(self.blocks), reversed(cache.blocks)):
            if block.fusion is None:
                d_x = block.backward(d_x, block_cache)                                # (R, T, D)  undoes F5
            else:
                d_x, d_seen = block.backward(d_x, block_cache)                        # (R, T, D)  undoes F5
                d_memory = d_seen if d_memory is None else d_memory + d_seen          # (B, S, D)  every block looked at the same memory
        if cache.dropout is not None:
            d_x = self.ops.dropout_backward(d_x, cache.dropout)                       # (R, T, D)  undoes F4
        if not pre_norm:
            d_x = self.norm.backward(d_x, cache.norm)                                 # (R, T, D)  undoes F3
        d_x = self.positions.backward(d_x, cache.positions)                           # (R, T, D)  undoes F2
        self.words.backward(d_x, cache.words)                                         #            undoes F1
        return d_memory

    def attention(self, cache: BERTEncoderCache) -> Array:
        """The attention weights of a forward pass, (N, R, H, T, T) with a layer first; recomputed, for looking at."""
        return np.stack([attention_weights(block.attention.sublayer) for block in cache.blocks])


class BERTCache(NamedTuple):
    encoder: BERTEncoderCache
    masked: NDArray[np.bool_]    # (R, T)
    dense: Any
    activation: Any
    norm: Any
    decoder: Any


class BERTModel(Module):
    """The encoder with the head that guesses hidden words. `tokenizer` is set by whoever trains or loads the model."""

    tokenizer: Tokenizer | None = None

    def __init__(self, config: BERTConfig, rng: np.random.Generator):
        self.config = config
        self.encoder = BERTEncoder(config, rng)
        self.dense = Linear(config.d_model, config.d_model, rng)
        self.norm = LayerNorm(config.d_model)
        self.decoder_bias = Parameter(np.zeros(config.vocabulary_size, np.float32))    # (V,)  the weight is the table of words itself

    # ---- the equations ----------------------------------------------------------------------------------------------

    def forward(self, ids: NDArray[np.integer], masked: NDArray[np.bool_], *, training: bool = False,
                rng: np.random.Generator | None = None) -> tuple[Array, BERTCache]:
        """Logits of the hidden words.

        Args:
            ids: (R, T) token ids, padded at the right.
            masked: (R, T), True where a word is to be guessed: M places. The head, whose product with all V words is the
                dearest of the model, works at these only.
            training: dropout, which needs rng.

        Returns:
            logits (M, V), in the order of ids[masked], and the cache for `backward`.

        Raises:
            ValueError: masked is not boolean of the shape of ids, or True nowhere.
        """
        if masked.dtype != bool or masked.shape != ids.shape or not masked.any():
            raise ValueError(f"masked must be boolean {ids.shape} with at least one True, got {masked.dtype} {masked.shape}")
        x, encoder = self.encoder.forward(ids, training=training, rng=rng)                           # (R, T, D)  F1
        x = x[masked]                                                                                # (M, D)     F2
        x, dense = self.dense.forward(x)                                                             # (M, D)     F3
        x, activation = self.ops.gelu_forward(x)                                                     # (M, D)     F4
        x, norm = self.norm.forward(x)                                                               # (M, D)     F5
        table = self.encoder.words.weight.value                                                      # (V, D)
        logits, decoder = self.ops.linear_forward(x, table.T, self.decoder_bias.value)               # (M, V)     F6  likeness to each word
        return logits, BERTCache(encoder, masked, dense, activation, norm, decoder)

    def backward(self, d_logits: Array, cache: BERTCache) -> None:
        """d_logits (M, V): adds the gradients of all parameters."""
        d_x, d_table, d_bias = self.ops.linear_backward(d_logits, cache.decoder)                     # (M, D)     undoes F6
        self.encoder.words.weight.grad += d_table.T                                                  # (V, D)     a tied weight: F1 adds its own part
        self.decoder_bias.grad += d_bias                                                             # (V,)
        d_x = self.norm.backward(d_x, cache.norm)                                                    # (M, D)     undoes F5
        d_x = self.ops.gelu_backward(d_x, cache.activation)                                          # (M, D)     undoes F4
        d_x = self.dense.backward(d_x, cache.dense)                                                  # (M, D)     undoes F3
        d_encoded = np.zeros((*cache.masked.shape, d_x.shape[-1]), d_x.dtype)                        # (R, T, D)
        d_encoded[cache.masked] = d_x                                                                # (R, T, D)  undoes F2: no gradient elsewhere
        self.encoder.backward(d_encoded, cache.encoder)                                              #            undoes F1

    # ---- what it is for ---------------------------------------------------------------------------------------------

    def predict_masked(self, text: str, top: int = 5) -> list[list[tuple[str, float]]]:
        """For each <mask> in the text, in order, the likeliest words with their probabilities, the likeliest first.

        A word that the model has never read is taken as <unk>; special tokens are never guessed.

        Raises:
            UserError: the text has no <mask>, or is longer than the model reads.
            ValueError: top is below 1.
        """
        if top < 1:
            raise ValueError(f"top must be at least 1, got {top}")
        tokenizer = text_tokenizer(self)
        ids = np.array([self.encode(text)])                                                          # (1, T)
        masked = ids == tokenizer.id(MASK)                                                           # (1, T)
        if not masked.any():
            raise UserError(f"the text has no {MASK}; write {MASK} in place of each word to guess, "
                            f"as in 'the film is {MASK} .'")
        logits, _ = self.forward(ids, masked)                                                        # (M, V)
        logits[:, :len(tokenizer.special_tokens)] = -np.inf
        probabilities, _ = functional.softmax_forward(logits)                                        # (M, V)
        best = np.argsort(-probabilities, axis=-1, kind="stable")[:, :top]                           # (M, top)
        return [[(tokenizer.tokens[word], float(row[word])) for word in words] for row, words in zip(probabilities, best)]

    def attention(self, text: str) -> tuple[list[str], Array]:
        """The tokens of a text (with <cls>, and <mask> where it has one), and who looks at whom: weights (N, H, T, T).

        Raises:
            UserError: the text is longer than the model reads.
        """
        ids = self.encode(text)
        _, cache = self.encoder.forward(np.array([ids]))
        return [text_tokenizer(self).tokens[token] for token in ids], self.encoder.attention(cache)[:, 0]

    def look(self, text: str) -> Inspection:
        """All attention while the text is read, and the likeliest word for each <mask>. Errors as in `attention`, or the text is empty."""
        tokens, weights = self.attention(text)
        if len(tokens) == 1:
            raise UserError("the text is empty; give the model something to read")
        guesses = self.predict_masked(text, 1) if MASK in tokens else []
        answer = ", ".join(f"{word} ({probability:.0%})" for ((word, probability),) in guesses)
        return Inspection(text, answer, (AttentionMaps("words", "Which words each word looks at", weights, tokens, tokens),))

    def encode(self, text: str) -> list[int]:
        """<cls> and the words as ids; "<mask>" in the text is the special token.

        Raises:
            UserError: the text is longer than the model reads.
        """
        tokenizer = text_tokenizer(self)
        ids = [tokenizer.id(CLS)]
        for i, part in enumerate(text.split(MASK)):
            ids += ([tokenizer.id(MASK)] if i else []) + tokenizer.encode(part)
        if len(ids) > self.config.max_length:
            raise UserError(f"the text has {len(ids) - 1} words and signs, but the model reads at most {self.config.max_length - 1}; shorten it")
        return ids


def encode_sentences(tokenizer: Tokenizer, texts: Sequence[str], max_length: int) -> list[list[int]]:
    """<cls> and the words of each text as ids; what is longer than max_length is cut off at the end."""
    return [[tokenizer.id(CLS), *tokenizer.encode(text)][:max_length] for text in texts]


def text_tokenizer(model: Any) -> Tokenizer:
    """The tokenizer of a model. Raises UserError if it has none."""
    if model.tokenizer is None:
        raise UserError("this model has no tokenizer; load it from a run folder with tinymm.load, or set model.tokenizer")
    return model.tokenizer
