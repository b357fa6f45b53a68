"""GPT: a Transformer decoder that writes, learned from plain text by guessing every next token (Radford et al. 2018, 2019).

    ids (B, T) --embedding (+ positions)--> blocks: each token sees itself and the past --> norm --> logits (B, T, V)

Every place of a text is an example: the logits at place t are a guess at token t + 1. As no place sees what follows it (the
causal mask), one forward pass makes all T guesses at once, and none of them can cheat. The output's weight is the table of
embeddings itself (tied): a token is likely where the vector of the text resembles its own.

Every text that the model reads begins with <end>, the token that also closes a text; so it can begin from nothing.

Writing needs one guess at a time, and the tokens before stay what they are. Their keys and values need not be computed
again: they are kept (`KeysValues`), and each step puts a single token through the model. The logits are the same as without.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.errors import UserError
from tinymm.layers import NORMALIZATIONS, Embedding, KeysValues, LearnedPositions, Module, Parameter, TransformerBlock
from tinymm.layers.attention import attention_weights
from tinymm.layers.module import Array
from tinymm.models.generation import generate
from tinymm.models.looking import AttentionMaps, Inspection

POSITIONS = ("learned", "rotary")


@dataclass(frozen=True)
class GPTConfig:
    """Everything that fixes the shapes of the model; saved beside its weights.

    The defaults are the parts of GPT-2. With positions "rotary", normalization "rms_norm" and activation "swiglu" they are
    those of later models (Touvron et al. 2023); a swiglu has three matrices, so d_ff is then 2/3 of what it would be.
    """

    vocabulary_size: int
    d_model: int = 128
    n_heads: int = 4
    n_layers: int = 3
    d_ff: int = 512
    max_length: int = 128       # the most tokens that the model sees at once
    positions: str = "learned"
    normalization: str = "layer_norm"
    activation: str = "gelu"
    dropout: float = 0.3

    def __post_init__(self) -> None:
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {', '.join(POSITIONS)}; got {self.positions!r}")


class GPTCache(NamedTuple):
    words: Any
    positions: Any
    dropout: Any
    blocks: list[Any]
    norm: Any
    head: Any


class GPTModel(Module):
    """See the head of this file. `tokenizer` is set by whoever trains or loads the model; writing needs it."""

    tokenizer: Any = None

    def __init__(self, config: GPTConfig, rng: np.random.Generator):
        c = self.config = config
        self.words = Embedding(c.vocabulary_size, c.d_model, rng)
        if c.positions == "learned":
            self.positions = LearnedPositions(c.max_length, c.d_model, rng)
        self.blocks = [TransformerBlock(c.d_model, c.n_heads, c.d_ff, rng, dropout=c.dropout, activation=c.activation,
                                        normalization=c.normalization, rotary=c.positions == "rotary")
                       for _ in range(c.n_layers)]
        self.norm = NORMALIZATIONS[c.normalization](c.d_model)                 # pre-norm blocks leave their sum unnormalised
        self.head_bias = Parameter(np.zeros(c.vocabulary_size, np.float32))    # (V,)  how frequent each token is at all

    # ---- the equations ----------------------------------------------------------------------------------------------

    def forward(self, ids: NDArray[np.integer], *, training: bool = False, rng: np.random.Generator | None = None,
                past: Sequence[KeysValues] | None = None, offset: int = 0) -> tuple[Array, GPTCache]:
        """Logits of the next token at every place.

        Args:
            ids: (B, T) token ids.
            training: dropout, which needs rng.
            past, offset: for writing. ids are the tokens from place `offset` on; the keys and values of those before are in
                `past`, one item a block (`room` makes it), and those of ids are put there. Such a pass has no backward.

        Returns:
            logits (B, T, V), and the cache for `backward`.

        Raises:
            ValueError: ids that are not (B, T), or reach beyond max_length.
        """
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= self.config.max_length - offset:
            raise ValueError(f"ids must be (B, T) with T from 1 to {self.config.max_length - offset}, got {ids.shape}")
        x, words = self.words.forward(ids)                                                  # (B, T, D)  F1
        positions = dropout = None
        if self.config.positions == "learned":
            x, positions = self.positions.forward(x, offset)                                # (B, T, D)  F2
        if training and self.config.dropout:
            x, dropout = self.ops.dropout_forward(x, self.config.dropout, rng)              # (B, T, D)  F3
        blocks = []
        for i, block in enumerate(self.blocks):
            x, cache = block.forward(x, causal=True, training=training, rng=rng,
                                     past=None if past is None else past[i], offset=offset)   # (B, T, D)  F4
            blocks.append(cache)
        x, norm = self.norm.forward(x)                                                      # (B, T, D)  F5
        # likeness to each token
        logits, head = self.ops.linear_forward(x, self.words.weight.value.T, self.head_bias.value)   # (B, T, V)  F6
        return logits, GPTCache(words, positions, dropout, blocks, norm, head)

    def backward(self, d_logits: Array, cache: GPTCache) -> None:
        """d_logits (B, T, V): adds the gradients of all parameters. Token ids have none."""
        d_x, d_words, d_bias = self.ops.linear_backward(d_logits, cache.head)               # (B, T, D)  undoes F6
        self.words.weight.grad += d_words.T                                                 # (V, D)     tied: F1 adds its part
        self.head_bias.grad += d_bias
        d_x = self.norm.backward(d_x, cache.norm)                                           # (B, T, D)  undoes F5
        for block, block_cache in zip(reversed(self.blocks), reversed(cache.blocks)):
            d_x = block.backward(d_x, block_cache)                                          # (B, T, D)  undoes F4
        if cache.dropout is not None:
            d_x = self.ops.dropout_backward(d_x, cache.dropout)                             # (B, T, D)  undoes F3
        if cache.positions is not None:
            d_x = self.positions.backward(d_x, cache.positions)                             # (B, T, D)  undoes F2
        self.words.backward(d_x, cache.words)                                               #            undoes F1

    def room(self, rows: int = 1) -> list[KeysValues]:
        """Empty room for the keys and values of `rows` texts in every block."""
        c = self.config
        shape = (rows, c.n_heads, c.max_length, c.d_model // c.n_heads)                     # (R, H, S_max, K)
        dtype = self.words.weight.value.dtype
        return [KeysValues(np.zeros(shape, dtype), np.zeros(shape, dtype)) for _ in self.blocks]

    # ---- what it is for ---------------------------------------------------------------------------------------------

    def generate(self, prompt: str = "", *, max_new_tokens: int = 200, temperature: float = 0.0, top_k: int | None = None,
                 top_p: float | None = None, rng: np.random.Generator | None = None, keep: bool = True) -> str:
        """Go on with a text until the model ends it, or for max_new_tokens tokens; returns what is new.

        Args:
            temperature: 0 takes the likeliest token each time; above 0 tokens are drawn, which needs rng.
            top_k, top_p: draw only from the likeliest tokens, see `tinymm.models.generation.choose_tokens`.
            keep: keep keys and values; without, every step reads the whole text again: the same logits, more slowly.

        Raises:
            UserError: the prompt has a character that the tokenizer does not know.
        """
        tokenizer = self._tokenizer()
        start = [tokenizer.end_id, *self.read(prompt)]
        next_logits = self.next_logits() if keep else self.next_logits_anew()
        ids = generate(next_logits, [start], end_id=tokenizer.end_id, max_new_tokens=max_new_tokens, rng=rng,
                       temperature=temperature, top_k=top_k, top_p=top_p)[0]
        return tokenizer.decode(ids)

    def next_logits(self) -> Callable[[list[list[int]], Any], Array]:
        """What `generation.generate` asks for a single text, one token longer each time: keys and values are kept.

        When the room is full, the later part of the text is read anew (`seen`), and there is room for half as many again.
        """
        past: list[KeysValues] = []
        read: list[int] = []      # the tokens whose keys and values are in `past`

        def next_logits(sequences: list[list[int]], _: Any) -> Array:
            nonlocal past, read
            ids = self.seen(sequences[0])
            if not past or ids[:len(read)] != read:
                past, read = self.room(), []
            new = np.array([ids[len(read):]])                                               # (1, T)
            logits, _ = self.forward(new, past=past, offset=len(read))                      # (1, T, V)
            read = list(ids)
            return logits[:, -1]                                                            # (1, V)
        return next_logits

    def next_logits_anew(self) -> Callable[[list[list[int]], Any], Array]:
        """The same without keeping anything: every step puts the whole text through the model."""
        return lambda sequences, _: self.forward(np.array([self.seen(sequences[0])]))[0][:, -1]     # (1, V)

    def seen(self, ids: list[int]) -> list[int]:
        """The part of a text that the model sees at its end: <end> and as many of the last tokens as there is room for.

        The beginning moves by half of the room at once, as all keys and values must be computed anew when it moves.
        """
        room, step = self.config.max_length, max(1, self.config.max_length // 2)
        left_out = -(-max(0, len(ids) - room) // step) * step
        return ids[:1] + ids[1 + left_out:] if left_out else ids

    def read(self, text: str) -> list[int]:
        """The token ids of a text. Raises UserError if the tokenizer does not know a character."""
        unknown = self._tokenizer().unknown_words(text)
        if unknown:
            raise UserError(f"the model has never seen {', '.join(map(repr, unknown))}; "
                            "write with what its training texts use")
        return self._tokenizer().encode(text)

    def surprise(self, text: str) -> tuple[list[str], Array]:
        """How unexpected each of the first max_length tokens of a text is: the tokens as text, and -ln p of each (T,), in nats."""
        ids = self.read(text)[:self.config.max_length]
        logits, _ = self.forward(np.array([[self.tokenizer.end_id, *ids[:-1]]]))            # (1, T, V)
        log_p, _ = self.ops.log_softmax_forward(logits[0])                                  # (T, V)
        return [self.tokenizer.decode([token]) for token in ids], -log_p[np.arange(len(ids)), np.array(ids, np.intp)]

    def look(self, text: str) -> Inspection:
        """All attention while a text is read, and the token that would come next.

        Raises:
            UserError: the text is longer than the model sees at once, or has a character that the tokenizer does not know.
        """
        ids, room = self.read(text), self.config.max_length - 1
        if len(ids) > room:
            raise UserError(f"the text has {len(ids)} tokens, but the model sees at most {room} at once; shorten it")
        return self.inspect(ids)

    def inspect(self, ids: list[int]) -> Inspection:
        """`look` for a text that is already token ids, at most max_length - 1 of them."""
        tokenizer = self._tokenizer()
        logits, cache = self.forward(np.array([[tokenizer.end_id, *ids]]))                  # (1, T, V)
        weights = np.stack([attention_weights(block.attention.sublayer)[0] for block in cache.blocks])      # (L, H, T, T)
        tokens = ["<end>", *(tokenizer.decode([token]) for token in ids)]
        maps = AttentionMaps("words", "Which tokens each token looks at", weights, tokens, tokens)
        return Inspection(tokenizer.decode(ids), tokenizer.decode([int(logits[0, -1].argmax())]), (maps,))

    def _tokenizer(self) -> Any:
        if self.tokenizer is None:
            raise ValueError("the model has no tokenizer; set model.tokenizer first, or load a run with tinymm.load")
        return self.tokenizer
