"""The Transformer as it was first published: an encoder reads one text, a decoder writes another (Vaswani et al. 2017).

    source ids (B, S) --embedding + positions--> encoder blocks --> memory (B, S, D)
                                                                        |  cross-attention, in every decoder block
    target ids (B, T) --embedding + positions--> decoder blocks --------'--> next-token logits (B, T, V)

The encoder sees the whole source at once; the decoder sees the memory, and of its own text only what it has written so
far. It translates, rewrites, summarises: whatever turns one text into another. The decoder's text begins with <end>, the
token that also closes it, so it needs no further special token:

    it reads    <end> drei  hundert
    it writes   drei  hundert <end>

Padding stands at the right of both texts. In the source it is masked from every key. In the target it needs no mask: no
word sees what follows it, and the loss leaves the padding's own logits out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm import functional
from tinymm.errors import UserError
from tinymm.layers import Embedding, LayerNorm, LearnedPositions, Linear, Module, TransformerBlock
from tinymm.layers.attention import attention_weights
from tinymm.layers.module import Array
from tinymm.models.generation import beam_search, generate
from tinymm.models.looking import AttentionMaps, Inspection

POSITIONS = ("sinusoidal", "learned")
PAD = 0     # the id of <pad> in every tokenizer of tinymm


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """Everything that fixes the shapes of the model; saved beside its weights.

    shared_embeddings: one table (V, D) for the source's words, the target's words and, transposed, the output (section
        3.4 of the paper). Otherwise each of the three has its own.
    norm: "post" as in the paper, or "pre", which trains without a long warm-up (Xiong et al. 2020).
    """

    vocabulary_size: int
    d_model: int = 64
    n_heads: int = 4
    encoder_layers: int = 2
    decoder_layers: int = 2
    d_ff: int = 256
    source_length: int = 64     # the longest source, and
    target_length: int = 64     # the longest target, <end> included
    positions: str = "sinusoidal"
    norm: str = "pre"
    activation: str = "relu"
    shared_embeddings: bool = True
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}; got {self.positions!r}")


class EmbedCache(NamedTuple):
    words: Any
    positions: Any
    dropout: Any


class EncoderCache(NamedTuple):
    embed: EmbedCache
    blocks: list[Any]
    norm: Any


class DecoderCache(NamedTuple):
    embed: EmbedCache
    blocks: list[Any]
    norm: Any
    head: Any


class EncoderDecoderCache(NamedTuple):
    encoder: EncoderCache
    decoder: DecoderCache


class EncoderDecoderModel(Module):
    """See the head of this file. `tokenizer` is set by whoever trains or loads the model; generation needs it."""

    tokenizer: Any = None

    def __init__(self, config: EncoderDecoderConfig, rng: np.random.Generator):
        c = self.config = config
        scale = c.d_model ** -0.5      # times sqrt(D) in `embed`: entries of order 1, like those of the positions
        self.target_words = Embedding(c.vocabulary_size, c.d_model, rng, scale)
        self.source_words = self.target_words if c.shared_embeddings else Embedding(c.vocabulary_size, c.d_model, rng, scale)
        if c.positions == "learned":
            self.source_positions = LearnedPositions(c.source_length, c.d_model, rng)
            self.target_positions = LearnedPositions(c.target_length, c.d_model, rng)
        sizes = (c.d_model, c.n_heads, c.d_ff, rng)
        options = {"norm": c.norm, "dropout": c.dropout, "activation": c.activation}
        self.encoder = [TransformerBlock(*sizes, **options) for _ in range(c.encoder_layers)]
        self.decoder = [TransformerBlock(*sizes, fusion="cross", **options) for _ in range(c.decoder_layers)]
        if c.norm == "pre":      # pre-norm blocks leave their sum unnormalised
            self.encoder_norm, self.decoder_norm = LayerNorm(c.d_model), LayerNorm(c.d_model)
        if not c.shared_embeddings:
            self.head = Linear(c.d_model, c.vocabulary_size, rng, bias=False)

    # ---- the equations ----------------------------------------------------------------------------------------------

    def forward(self, source: NDArray[np.integer], target: NDArray[np.integer], *, training: bool = False,
                rng: np.random.Generator | None = None) -> tuple[Array, EncoderDecoderCache]:
        """Logits of the next token at every place of every target.

        Args:
            source: (B, S) token ids, padded at the right with <pad>.
            target: (B, T) token ids, each text after <end>, padded at the right.
            training: dropout, which needs rng.

        Returns:
            logits (B, T, V), and the cache for `backward`.

        Raises:
            ValueError: ids that are not (B, S) and (B, T), or longer than the model's lengths.
        """
        memory, encoder = self.encode(source, training=training, rng=rng)                                   # (B, S, D)  F1
        logits, decoder = self.decode(memory, source != PAD, target, training=training, rng=rng)            # (B, T, V)  F2
        return logits, EncoderDecoderCache(encoder, decoder)

    def backward(self, d_logits: Array, cache: EncoderDecoderCache) -> None:
        """d_logits (B, T, V): adds the gradients of all parameters. Token ids have none."""
        d_memory = self.decode_backward(d_logits, cache.decoder)                                            # (B, S, D)  undoes F2
        self.encode_backward(d_memory, cache.encoder)                                                       #            undoes F1

    def encode(self, source: NDArray[np.integer], *, training: bool = False,
               rng: np.random.Generator | None = None) -> tuple[Array, EncoderCache]:
        """The reading half: source ids (B, S) -> memory (B, S, D). Nothing looks at padding."""
        x, embed = self.embed(source, "source", training, rng)                              # (B, S, D)  F1
        mask = functional.attention_mask(source.shape[1], source.shape[1], padding=source != PAD)    # (B, 1, 1, S)
        blocks, norm = [], None
        for block in self.encoder:
            x, cache = block.forward(x, mask=mask, training=training, rng=rng)              # (B, S, D)  F2
            blocks.append(cache)
        if self.config.norm == "pre":
            x, norm = self.encoder_norm.forward(x)                                          # (B, S, D)  F3
        return x, EncoderCache(embed, blocks, norm)

    def encode_backward(self, d_memory: Array, cache: EncoderCache) -> None:
        """d_memory (B, S, D): adds the gradients of the encoder's parameters."""
        d_x = d_memory                                                                      # (B, S, D)
        if cache.norm is not None:
            d_x = self.encoder_norm.backward(d_x, cache.norm)                               # (B, S, D)  undoes F3
        for block, block_cache in zip(reversed(self.encoder), reversed(cache.blocks)):
            d_x = block.backward(d_x, block_cache)                                          # (B, S, D)  undoes F2
        self.embed_backward(d_x, cache.embed, "source")                                     #            undoes F1

    def decode(self, memory: Array, readable: NDArray[np.bool_], target: NDArray[np.integer], *,
               memory_index: NDArray[np.integer] | None = None, training: bool = False,
               rng: np.random.Generator | None = None) -> tuple[Array, DecoderCache]:
        """The writing half: memory (B, S, D) and target ids (R, T) -> logits (R, T, V).

        Args:
            readable: (B, S), True where the memory is of a real token.
            memory_index: (R,), the source that each target belongs to; None when target r belongs to source r.
        """
        readable = readable if memory_index is None else readable[memory_index]             # (R, S)
        memory_mask = functional.attention_mask(target.shape[1], memory.shape[1], padding=readable)    # (R, 1, 1, S)
        x, embed = self.embed(target, "target", training, rng)                              # (R, T, D)  F1
        blocks, norm = [], None
        for block in self.decoder:
            x, cache = block.forward(x, memory, causal=True, memory_mask=memory_mask, memory_index=memory_index,
                                     training=training, rng=rng)                            # (R, T, D)  F2
            blocks.append(cache)
        if self.config.norm == "pre":
            x, norm = self.decoder_norm.forward(x)                                          # (R, T, D)  F3
        if self.config.shared_embeddings:
            # likeness to each word
            logits, head = self.ops.linear_forward(x, self.target_words.weight.value.T, None)   # (R, T, V)  F4
        else:
            logits, head = self.head.forward(x)                                             # (R, T, V)  F4
        return logits, DecoderCache(embed, blocks, norm, head)

    def decode_backward(self, d_logits: Array, cache: DecoderCache) -> Array:
        """d_logits (R, T, V) -> d_memory (B, S, D)."""
        if self.config.shared_embeddings:
            d_x, d_weight, _ = self.ops.linear_backward(d_logits, cache.head)               # (R, T, D)  undoes F4
            self.target_words.weight.grad += d_weight.T                                     # (V, D)     tied: F1 adds its part
        else:
            d_x = self.head.backward(d_logits, cache.head)                                  # (R, T, D)  undoes F4
        if cache.norm is not None:
            d_x = self.decoder_norm.backward(d_x, cache.norm)                               # (R, T, D)  undoes F3
        d_memory = 0
        for block, block_cache in zip(reversed(self.decoder), reversed(cache.blocks)):
            d_x, d_part = block.backward(d_x, block_cache)                                  # (R, T, D), (B, S, D)  undoes F2
            d_memory = d_memory + d_part                                                    # (B, S, D)  all blocks saw it
        self.embed_backward(d_x, cache.embed, "target")                                     #            undoes F1
        return d_memory

    def embed(self, ids: NDArray[np.integer], side: str, training: bool,
              rng: np.random.Generator | None) -> tuple[Array, EmbedCache]:
        """dropout(sqrt(D) E[id] + position)   (sections 3.4, 3.5 and 5.4): ids (B, T) of a side -> x (B, T, D)."""
        longest = self.config.source_length if side == "source" else self.config.target_length
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= longest:
            raise ValueError(f"{side} must be (B, length) with a length from 1 to {longest}, got {ids.shape}")
        words = self.source_words if side == "source" else self.target_words
        x, words_cache = words.forward(ids)                                                 # (B, T, D)  F1
        x = x * x.dtype.type(self.config.d_model ** 0.5)                                    # (B, T, D)  F2
        positions, dropout = None, None
        if self.config.positions == "learned":
            table = self.source_positions if side == "source" else self.target_positions
            x, positions = table.forward(x)                                                 # (B, T, D)  F3
        else:
            x = x + functional.sinusoidal_positions(*x.shape[1:], x.dtype)                  # (B, T, D)  F3  a constant
        if training and self.config.dropout:
            x, dropout = self.ops.dropout_forward(x, self.config.dropout, rng)              # (B, T, D)  F4
        return x, EmbedCache(words_cache, positions, dropout)

    def embed_backward(self, d_x: Array, cache: EmbedCache, side: str) -> None:
        """d_x (B, T, D): adds the gradients of the side's tables."""
        if cache.dropout is not None:
            d_x = self.ops.dropout_backward(d_x, cache.dropout)                             # (B, T, D)  undoes F4
        if cache.positions is not None:
            table = self.source_positions if side == "source" else self.target_positions
            d_x = table.backward(d_x, cache.positions)                                      # (B, T, D)  undoes F3
        d_x = d_x * d_x.dtype.type(self.config.d_model ** 0.5)                              # (B, T, D)  undoes F2
        words = self.source_words if side == "source" else self.target_words
        words.backward(d_x, cache.words)                                                    #            undoes F1

    # ---- what it is for ---------------------------------------------------------------------------------------------

    def translate(self, texts: str | Sequence[str], **options: Any) -> str | list[str]:
        """Turn a text (into a string), or each of a list of texts (into a list), into what the model was trained to write.

        Options: beams above 1 for beam search; or temperature (0 is greedy), top_k, top_p and rng for sampling.

        Raises:
            UserError: a text that is empty or too long, or with a word the model has never seen.
        """
        single = isinstance(texts, str)
        sources = [self.source_ids(text) for text in ([texts] if single else texts)]
        written = [self._tokenizer().decode(ids) for ids in self.generate_ids(sources, **options)]
        return written[0] if single else written

    def source_ids(self, text: str) -> list[int]:
        """The token ids of a text, as the encoder reads it. Raises UserError if it cannot be read."""
        tokenizer = self._tokenizer()
        ids = tokenizer.encode(text)
        if not ids:
            raise UserError("the text is empty; give the model something to read")
        unknown = tokenizer.unknown_words(text)
        if unknown:
            raise UserError(f"the model has never seen {', '.join(map(repr, unknown))}; use what its training texts use")
        if len(ids) > self.config.source_length:
            raise UserError(f"the text has {len(ids)} tokens, but the model reads at most {self.config.source_length}; "
                            "shorten it")
        return ids

    def generate_ids(self, sources: Sequence[Sequence[int]], *, beams: int = 1, chunk: int = 512,
                     **options: Any) -> list[list[int]]:
        """Write the target of each source: ids without <end>. Every source is encoded once; options as in `translate`."""
        tokenizer, written = self._tokenizer(), []
        for start in range(0, len(sources), chunk):
            source = padded(sources[start:start + chunk])                                                # (B, S)
            memory, _ = self.encode(source)                                                              # (B, S, D)

            def next_logits(sequences: list[list[int]], rows: NDArray[np.integer]) -> Array:
                target = padded(sequences)                                                               # (R, T)
                logits, _ = self.decode(memory, source != PAD, target, memory_index=rows)                # (R, T, V)
                return logits[np.arange(len(sequences)), [len(sequence) - 1 for sequence in sequences]]  # (R, V)

            begun = [[tokenizer.end_id]] * len(source)
            common = {"end_id": tokenizer.end_id, "max_new_tokens": self.config.target_length}
            written += (beam_search(next_logits, begun, beams=beams, **common) if beams > 1
                        else generate(next_logits, begun, **common, **options))
        return written

    def alignment(self, text: str) -> tuple[list[str], list[str], Array]:
        """Which source tokens the model looked at while it wrote each token of its translation.

        Returns:
            The source's tokens (S), the written tokens (T) with <end> last if the model wrote it, and the
            cross-attention weights (layers, H, T, S) at the place that led to each written token.
        """
        _, source, written, cache = self._write(text)
        return source, written, self._attention(cache.decoder.blocks, "cross_attention")

    def look(self, text: str) -> Inspection:
        """All attention while the text is read and its translation written: of each text to itself, and from one to the other."""
        answer, source, written, cache = self._write(text)
        cross = self._attention(cache.decoder.blocks, "cross_attention")                    # (L, H, T, S)
        of_source = self._attention(cache.encoder.blocks, "attention")                      # (L, H, S, S)
        of_target = self._attention(cache.decoder.blocks, "attention")                      # (L, H, T, T)
        return Inspection(text, answer, (
            AttentionMaps("alignment", "What was read for each token written", cross, written, source),
            AttentionMaps("source", "Which tokens of the source each of them looks at", of_source, source, source),
            AttentionMaps("target", "What was looked at of the own text", of_target, written, ["<end>", *written[:-1]])))

    def _write(self, text: str) -> tuple[str, list[str], list[str], EncoderDecoderCache]:
        """Translate a text: the translation, the tokens of both, and the cache of a pass over them."""
        tokenizer = self._tokenizer()
        source = self.source_ids(text)
        new = self.generate_ids([source])[0]
        written = [*new, tokenizer.end_id][:self.config.target_length]
        _, cache = self.forward(np.array([source]), np.array([[tokenizer.end_id, *written[:-1]]]))
        return tokenizer.decode(new), [tokenizer.tokens[i] for i in source], [tokenizer.tokens[i] for i in written], cache

    @staticmethod
    def _attention(blocks: Sequence[Any], name: str) -> Array:
        """The weights (layers, H, T, S) of one of the attentions of each block, for a single text."""
        return np.stack([attention_weights(getattr(block, name).sublayer)[0] for block in blocks])

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise UserError("this model has no tokenizer; load it from a run folder with tinymm.load, or set model.tokenizer")
        return self.tokenizer


def padded(sequences: Sequence[Sequence[int]]) -> NDArray[np.int64]:
    """Sequences of ids as one table (B, T), padded at the right with <pad>."""
    table = np.full((len(sequences), max(len(sequence) for sequence in sequences)), PAD, np.int64)
    for row, sequence in zip(table, sequences):
        row[:len(sequence)] = sequence
    return table
