"""The Transformer block: attention and feed-forward, each inside a residual connection with layer norm.

Where the layer norm stands is the difference between two families (Xiong et al. 2020):

    post-norm   x <- LayerNorm(x + sublayer(x))      Vaswani et al. 2017, BERT
    pre-norm    x <- x + sublayer(LayerNorm(x))      GPT-2 and nearly all later ones

Pre-norm leaves a path from the loss to every layer that no norm bends, so it trains without a long warm-up. Later
language models also exchange three parts: RMS norm, SwiGLU and rotary positions (Touvron et al. 2023); all are options here.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.layers.attention import JointAttention, KeysValues, MultiHeadAttention
from tinymm.layers.feed_forward import FeedForward, GatedFeedForward
from tinymm.layers.module import Array, Module
from tinymm.layers.normalization import NORMALIZATIONS


class ResidualCache(NamedTuple):
    norm: Any
    sublayer: Any
    dropout: Any


class Residual(Module):
    """A sublayer with its residual connection, dropout (Srivastava et al. 2014) and layer (or RMS) norm, before or after it."""

    def __init__(self, sublayer: Module, d_model: int, norm: str = "pre", dropout: float = 0.0,
                 normalization: str = "layer_norm"):
        if norm not in ("pre", "post"):
            raise ValueError(f'norm must be "pre" or "post", got {norm!r}')
        self.sublayer = sublayer
        if normalization not in NORMALIZATIONS:
            raise ValueError(f"normalization must be one of {', '.join(NORMALIZATIONS)}; got {normalization!r}")
        self.norm = NORMALIZATIONS[normalization](d_model)
        self.pre_norm = norm == "pre"
        self.dropout = dropout

    def forward(self, x: Array, *inputs: Any, training: bool = False, rng: np.random.Generator | None = None,
                **options: Any) -> tuple[Array, ResidualCache]:
        """x (B, T, D) -> out (B, T, D). Further inputs and options go to the sublayer; rng is needed for dropout."""
        y, norm, dropout = x, None, None
        if self.pre_norm:
            y, norm = self.norm.forward(y)                                              # (B, T, D)  F1
        y, sublayer = self.sublayer.forward(y, *inputs, **options)                      # (B, T, D)  F2
        if training and self.dropout:
            y, dropout = self.ops.dropout_forward(y, self.dropout, rng)                 # (B, T, D)  F3
        out = x + y                                                                     # (B, T, D)  F4
        if not self.pre_norm:
            out, norm = self.norm.forward(out)                                          # (B, T, D)  F5
        return out, ResidualCache(norm, sublayer, dropout)

    def backward(self, d_out: Array, cache: ResidualCache) -> Array | tuple[Array, ...]:
        """d_out (B, T, D) -> d_x (B, T, D), followed by the gradients of further inputs if the sublayer has any."""
        if not self.pre_norm:
            d_out = self.norm.backward(d_out, cache.norm)                               # (B, T, D)  undoes F5
        d_y = d_out                                                                     # (B, T, D)  undoes F4, the sublayer's arm
        if cache.dropout is not None:
            d_y = self.ops.dropout_backward(d_y, cache.dropout)                         # (B, T, D)  undoes F3
        d_inputs = self.sublayer.backward(d_y, cache.sublayer)                          #            undoes F2
        d_y, *d_others = d_inputs if isinstance(d_inputs, tuple) else (d_inputs,)
        if self.pre_norm:
            d_y = self.norm.backward(d_y, cache.norm)                                   # (B, T, D)  undoes F1
        d_x = d_out + d_y                                                               # (B, T, D)  undoes F4, both arms
        return (d_x, *d_others) if d_others else d_x


class TransformerBlockCache(NamedTuple):
    attention: Any
    cross_attention: Any
    feed_forward: Any


class TransformerBlock(Module):
    """Attention, then feed-forward. `fusion` says how (and whether) the block looks at a memory, such as image tokens:

        None      self-attention only (GPT, BERT; also image and text concatenated into a single sequence)
        "cross"   self-attention, then cross-attention to the memory (the decoder of Vaswani et al. 2017)
        "joint"   one attention over the text's and the memory's keys and values together

    activation: "gelu", "relu" or "swiglu" (a `GatedFeedForward`).   normalization: "layer_norm" or "rms_norm".
    rotary: the self-attention turns queries and keys by their places; not with "joint".
    """

    def __init__(self, d_model: int, n_heads: int, d_ff: int, rng: np.random.Generator, fusion: str | None = None,
                 norm: str = "pre", dropout: float = 0.0, activation: str = "gelu", normalization: str = "layer_norm",
                 rotary: bool = False):
        if fusion not in (None, "cross", "joint"):
            raise ValueError(f'fusion must be None, "cross" or "joint", got {fusion!r}')
        if fusion == "joint" and rotary:
            raise ValueError("rotary positions are for self-attention; a block with fusion \"joint\" has none")

        def residual(sublayer: Module) -> Residual:
            return Residual(sublayer, d_model, norm, dropout, normalization)

        self.fusion = fusion
        self.attention = residual(JointAttention(d_model, n_heads, rng) if fusion == "joint"
                                  else MultiHeadAttention(d_model, n_heads, rng, rotary=rotary))
        if fusion == "cross":
            self.cross_attention = residual(MultiHeadAttention(d_model, n_heads, rng))
        self.feed_forward = residual(GatedFeedForward(d_model, d_ff, rng) if activation == "swiglu"
                                     else FeedForward(d_model, d_ff, rng, activation))

    def forward(self, x: Array, memory: Array | None = None, *, mask: NDArray[np.bool_] | None = None, causal: bool = False,
                memory_mask: NDArray[np.bool_] | None = None, memory_index: NDArray[np.integer] | None = None,
                training: bool = False, rng: np.random.Generator | None = None, past: KeysValues | None = None,
                offset: int = 0) -> tuple[Array, TransformerBlockCache]:
        """x (R, T, D), memory (B, N, D) unless fusion is None -> out (R, T, D).

        mask, causal: for the first attention (with "joint" its keys are the memory's N, then the text's T).
        memory_mask: for the cross-attention.   memory_index (R,): the memory that each row looks at.
        past, offset: for writing token by token, see `MultiHeadAttention`; not with "joint".
        """
        if (memory is None) != (self.fusion is None):
            raise ValueError(f"a block with fusion {self.fusion!r} {'takes no' if self.fusion is None else 'needs a'} memory")
        noise = {"training": training, "rng": rng}
        cross_attention = None
        if self.fusion == "joint":
            x, attention = self.attention.forward(x, memory, mask=mask, causal=causal, memory_index=memory_index, **noise)
        else:
            x, attention = self.attention.forward(x, mask=mask, causal=causal, past=past, offset=offset, **noise)   # (R, T, D)  F1
        if self.fusion == "cross":
            x, cross_attention = self.cross_attention.forward(x, memory, mask=memory_mask,
                                                              memory_index=memory_index, **noise)               # (R, T, D)  F2
        x, feed_forward = self.feed_forward.forward(x, **noise)                                                 # (R, T, D)  F3
        return x, TransformerBlockCache(attention, cross_attention, feed_forward)

    def backward(self, d_out: Array, cache: TransformerBlockCache) -> Array | tuple[Array, Array]:
        """d_out (R, T, D) -> d_x (R, T, D), and d_memory (B, N, D) unless fusion is None."""
        d_x = self.feed_forward.backward(d_out, cache.feed_forward)                      # (R, T, D)             undoes F3
        if self.fusion != "cross":
            return self.attention.backward(d_x, cache.attention)                         # (R, T, D) [, (B, N, D)]  undoes F1
        d_x, d_memory = self.cross_attention.backward(d_x, cache.cross_attention)        # (R, T, D), (B, N, D)  undoes F2
        return self.attention.backward(d_x, cache.attention), d_memory                   # (R, T, D)             undoes F1
