# %% [markdown]
# # 11. Encoder and decoder
#
# **You will learn** how a model turns one text into another: teacher forcing and the shift, cross-attention with a
# gradient that goes two ways, why the encoder's gradient is a sum over all decoder layers, what padding may not do, and
# greedy decoding. At the end your model translates number words it has never read.
#
# **You need** chapters 6 to 8 (attention, positions, the block), cross-entropy from chapter 2, AdamW from chapter 3, and
# tokens and their table of vectors from chapter 4. Chapter 9 helps, but you can do without it.
#
# **It takes** about half a minute to run, and less than 300 MB. The texts are number words, English and German, whose
# right translation can be computed.
#
# ## The picture
#
#     source   forty - seven                                             target
#                   |                                                       |
#          encoder blocks:                                      <end> sieben  und
#          every word sees every word                                       |
#                   |                                              decoder blocks:
#                memory  ---- keys and values ---->   each word sees itself and the words before it,
#               (B, S, D)                             and, by cross-attention, the whole memory
#                                                                           |
#                                                              sieben  und  vierzig       (then <end>)
#
# The **encoder** reads the whole source at once and makes one vector of each word: the **memory**. The **decoder** writes
# the target word by word. In each of its blocks it looks at the memory (Vaswani et al. 2017, figure 1). $S$ is the length
# of the source, $T$ that of the target; they differ. $B$ is the number of texts, and $D$ the width of a vector.
#
# Here a token is a word or a punctuation mark, so that "forty-seven" is three tokens. The tokenizer gives each its
# number, the **id**. Two tokens are special: `<pad>` fills short texts up, so that a batch is a rectangle, and `<end>`
# closes a text.

# %%
import os
import time

import numpy as np

from tinymm import gradient_check
from tinymm.data import Tokenizer, fact_pairs, number_pairs
from tinymm.functional import (
    attention_backward, attention_forward, cross_entropy_backward, cross_entropy_forward, sinusoidal_positions,
)
from tinymm.layers import Embedding, LayerNorm, Linear, Module, MultiHeadAttention, TransformerBlock
from tinymm.layers.attention import attention_weights
from tinymm.learning.figures import new_figure, show
from tinymm.training.optimizers import AdamW

FAST = os.environ.get("TINYMM_FAST") == "1"
rng = np.random.default_rng(11)

train, held_out = number_pairs(8000, rng), number_pairs(100 if FAST else 500, rng, "validation")
assert not set(train.sources) & set(held_out.sources)                            # no number is in both
tokenizer = Tokenizer.build([*train.sources, *train.targets])
PAD, END = tokenizer.pad_id, tokenizer.end_id
for source, target in list(zip(train.sources, train.targets))[47:8000:1600]:
    print(f"{source}   ->   {target}")

# %% [markdown]
# German says the units before the tens: "seven and forty". So a translator cannot go word by word; it must know which
# word to read next. (The training has all numbers below 100, and others of three to six digits.)
#
# ## Teacher forcing, and the shift
#
# The probability of a whole text is a product: the first word, times the second given the first, and so on. With $x$ the
# source and $y = y_1, \dots, y_T$ the target, whose last word $y_T$ is `<end>`,
#
# $$ P(y \mid x) = \prod_t P(y_t \mid y_1, \dots, y_{t-1},\, x), \qquad
#    L = -\frac1T \sum_t \log P(y_t \mid y_1, \dots, y_{t-1},\, x) $$
#
# By hand: if the model gives the three words of a text the probabilities $0.5$, $0.25$ and $0.8$, the text has
# probability $0.1$, and the loss is $(0.693 + 1.386 + 0.223) / 3 = 0.768$, a third of $-\log 0.1$.
#
# To compute all factors at once, the decoder reads **the right text**, not what it has written itself. That is **teacher
# forcing** (Williams and Zipser 1989). At each place it must say the next word, so what it reads is what it must say,
# **shifted by one place to the right**. Something must stand in front: we take the token `<end>` a second time.
#
#     it reads     <end>   sieben   und      vierzig
#     it says      sieben  und      vierzig  <end>
#
# The causal mask of chapter 6 is what makes this honest: without it, the decoder would see at its own input, one place
# further on, the word that it must say.
#
# In a batch a text of $n$ words has $n + 1$ labels: its words, and `<end>` directly behind the last one. Behind that
# there is nothing to say. These places get the label $-100$, a number that no token has, and the library's cross-entropy
# takes the mean over all other places of the batch. So $\frac1T$ becomes one over the number of true labels.

# %%
assert np.isclose(-np.log([0.5, 0.25, 0.8]).mean(), 0.7675, atol=1e-4) and np.isclose(-np.log(0.1) / 3, 0.7675, atol=1e-4)


def padded(sequences):
    table = np.full((len(sequences), max(map(len, sequences))), PAD)             # (B, L)
    for row, ids in zip(table, sequences):
        row[:len(ids)] = ids
    return table


def shift(texts):
    """Padded texts (B, L) -> what the decoder reads, and what it must say, both (B, T) with T = L + 1."""
    B, L = texts.shape
    lengths = (texts != PAD).sum(axis=1)                                         # (B,)
    target = np.concatenate([np.full((B, 1), END), texts], axis=1)               # (B, T)
    labels = np.concatenate([texts, np.full((B, 1), PAD)], axis=1)               # (B, T)
    labels[np.arange(B), lengths] = END                                          # in row b at column lengths[b]
    places = np.arange(L + 1)                                                    # (T,)
    labels[places > lengths[:, None]] = -100                                     # the loss leaves these places out
    return target, labels


target, labels = shift(padded([tokenizer.encode("sieben und vierzig"), tokenizer.encode("neun")]))
for name, table in (("reads", target), ("says ", labels)):
    for row in table:
        print(name, [tokenizer.tokens[i] if i >= 0 else "-" for i in row])
# STOP: compare target and labels; each label is what the next place reads
assert (target[0, 1:] == labels[0, :-1]).all() and (labels[1] == [tokenizer.id("neun"), END, -100, -100]).all()

logits = np.random.default_rng(0).normal(size=(*labels.shape, len(tokenizer)))   # (B, T, V)  V tokens
log_p = np.log(np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True))      # (B, T, V)
terms = [log_p[b, t, labels[b, t]] for b in range(2) for t in range(4) if labels[b, t] != -100]
print(len(terms), "labels count, out of", labels.size)
assert len(terms) == 6 and np.isclose(cross_entropy_forward(logits, labels)[0], -np.mean(terms))

# %% [markdown]
# ## Cross-attention, by pencil and paper
#
# In self-attention queries, keys and values come from one text. In **cross-attention** the queries come from the decoder,
# the keys and values from the memory. The rows of $X$ are the decoder's vectors, those of $M$ the memory's:
#
# $$ Q = X W_Q, \qquad K = M W_K, \qquad V = M W_V, \qquad
#    \mathrm{out} = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt D}\right) V\, W_O $$
#
# The weights are now a rectangle, $T \times S$: how much each word that is written takes from each word that was read.
#
# Let the memory hold two words, "forty" $= (1, 0)$ and "seven" $= (0, 1)$, so $D = 2$. Let all four matrices be the
# identity, and let the decoder ask with $q = (0, \sqrt2 \log 3)$. The scores are $(0, \log 3)$, their exponentials
# $(1, 3)$, and the weights $(\tfrac14, \tfrac34)$: three quarters of "seven". The output is $(\tfrac14, \tfrac34)$.
#
# Now backward, with $d\mathrm{out} = (0, 1)$. What does "seven" get? Along the **value** its weight times
# $d\mathrm{out}$, $\tfrac34 (0, 1)$. Along the **key** first $dp$, the dot product of $d\mathrm{out}$ with each value:
# $dp = (0, 1)$. Then $ds = p\,(dp - \sum p\,dp)$ of chapter 6: the sum is $\tfrac34$, so
# $ds = (-\tfrac{3}{16}, \tfrac{3}{16})$. And $dk = ds\, q / \sqrt2$, which is $\tfrac{3}{16} (0, \log 3)$ for "seven",
# and the opposite for "forty". The memory is used twice, as key and as value, so **both are added**: "seven" gets
# $(0,\, 0.75 + 0.206) = (0,\, 0.956)$.

# %%
memory = np.array([[[1.0, 0.0], [0.0, 1.0]]])                                    # (B, S, D) = (1, 2, 2)
q = np.array([[[0.0, np.sqrt(2) * np.log(3)]]])                                  # (B, T, D) = (1, 1, 2)
out, cache = attention_forward(q, memory, memory)                                # (B, T, D)
d_q, d_k, d_v = attention_backward(np.array([[[0.0, 1.0]]]), cache)
d_memory = d_k + d_v                                                             # (B, S, D)
# STOP: look at d_k and d_v; the two rows of d_k are opposite, as the shares of "forty" and "seven" sum to 1
print("out     ", out.round(3).tolist())
print("d_memory", d_memory.round(3).tolist())
assert np.allclose(out, [[[1 / 4, 3 / 4]]])
assert np.allclose(d_v, [[[0, 1 / 4], [0, 3 / 4]]]) and np.allclose(d_k[0, 1], [0, 0.206], atol=1e-3)
assert np.allclose(d_memory, [[[0, 1 / 4 - 3 / 16 * np.log(3)], [0, 3 / 4 + 3 / 16 * np.log(3)]]])

# %% [markdown]
# ## Forward and backward
#
# One head, to see every line; several heads are the reshape of chapter 7. What attention gives before $W_O$ is called
# `mixed`: for each word that is written, a mixture of values. `readable` is False where the source is padding: no word
# may look there. It has the shape $(B, S)$, the mask needs one that broadcasts to $(B, T, S)$, so `readable[:, None, :]`
# gives it an axis of size 1 for the queries.
#
# Then backward, with the marks F5 to F1 of the code below. For a product $C = A B$ chapter 1 showed $dA = dC\, B^\top$
# and $dB = A^\top dC$. We write the formulas for one text; all texts share the matrices, so $dW_O$, $dW_V$, $dW_K$ and
# $dW_Q$ are summed over the texts, which `product_gradient` does.
#
# **F5**, $\mathrm{out} = \mathrm{mixed}\, W_O$, is a product: $\; dW_O = \mathrm{mixed}^\top d\mathrm{out}$ and
# $d\mathrm{mixed} = d\mathrm{out}\, W_O^\top$.
#
# **F4** is the attention of chapter 6, with $A = Q K^\top / \sqrt D$ the scores and $P$ the weights, their softmax:
#
# $$ dV = P^\top d\mathrm{mixed}, \qquad dP = d\mathrm{mixed}\, V^\top, \qquad
#    dA_{ts} = P_{ts} \Big( dP_{ts} - \sum_j P_{tj}\, dP_{tj} \Big) $$
#
# $$ dQ = \frac{dA\, K}{\sqrt D}, \qquad dK = \frac{dA^\top Q}{\sqrt D} $$
#
# No formula is new, but look at the shapes. $P$ and $dA$ are $T \times S$. So $dQ$ has $T$ rows, one for each word that
# is written, and $dK$ and $dV$ have $S$ rows, one for each word that was read.
#
# **F3**, $V = M W_V$: $\; dW_V = M^\top dV$, and $M$ gets $dV\, W_V^\top$. **F2**, $K = M W_K$: $\; dW_K = M^\top dK$,
# and $M$ gets $dK\, W_K^\top$ besides. **F1**, $Q = X W_Q$: $\; dW_Q = X^\top dQ$, and $X$ gets $dQ\, W_Q^\top$. At the
# end there are **two** gradients of vectors:
#
# $$ dX = dQ\, W_Q^\top \qquad\qquad dM = dK\, W_K^\top + dV\, W_V^\top $$
#
# The first goes on down the decoder. The second leaves the decoder, and is how the encoder learns at all: it has no loss
# of its own.

# %%
def cross_forward(x, memory, W_q, W_k, W_v, W_o, readable):
    q = x @ W_q                                                                  # (B, T, D)  F1
    k = memory @ W_k                                                             # (B, S, D)  F2
    v = memory @ W_v                                                             # (B, S, D)  F3
    mixed, attention = attention_forward(q, k, v, readable[:, None, :])          # (B, T, D)  F4
    out = mixed @ W_o                                                            # (B, T, D)  F5
    return out, (x, memory, W_q, W_k, W_v, W_o, attention, mixed)


def product_gradient(left, d_out):
    """The gradient of W in left @ W, for any leading axes."""
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def cross_backward(d_out, cache):
    x, memory, W_q, W_k, W_v, W_o, attention, mixed = cache
    d_W_o = product_gradient(mixed, d_out)                                       # (D, D)     undoes F5
    d_mixed = d_out @ W_o.T                                                      # (B, T, D)  undoes F5
    d_q, d_k, d_v = attention_backward(d_mixed, attention)                       # (B, T, D), (B, S, D), (B, S, D)  undoes F4
    # STOP: d_q has T rows, d_k and d_v have S rows
    d_W_v = product_gradient(memory, d_v)                                        # (D, D)     undoes F3
    d_W_k = product_gradient(memory, d_k)                                        # (D, D)     undoes F2
    d_W_q = product_gradient(x, d_q)                                             # (D, D)     undoes F1
    d_memory = d_k @ W_k.T + d_v @ W_v.T                                         # (B, S, D)  undoes F3 and F2: used twice
    d_x = d_q @ W_q.T                                                            # (B, T, D)  undoes F1
    return d_x, d_memory, d_W_q, d_W_k, d_W_v, d_W_o


# %% [markdown]
# The products hide sums. The long way, for the vector $m_s$ of a single word of the source. Its value is
# $v_s = m_s W_V$, and each word $t$ that is written takes the share $P_{ts}$ of it, so
# $dv_s = \sum_t P_{ts}\, d\mathrm{mixed}_t$. Its key is $k_s = m_s W_K$, and each $t$ compares its question with it,
# $A_{ts} = q_t \cdot k_s / \sqrt D$, so $dk_s = \sum_t dA_{ts}\, q_t / \sqrt D$. Both come back through their matrix,
# and are added:
#
# $$ dm_s = \sum_t P_{ts}\, d\mathrm{mixed}_t\, W_V^\top + \sum_t dA_{ts}\, \frac{q_t}{\sqrt D}\, W_K^\top $$
#
# **All words that are written speak to $m_s$**, each as loudly as it looked there. And where $P_{ts} = 0$, at padding,
# also $dA_{ts} = 0$: what nobody may read gets no gradient. The long way with loops, beside the short formula:

# %%
B, T, S, D = 2, 3, 5, 4
readable = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)                    # (B, S)  the second: two places of padding
inputs = {"x": rng.normal(size=(B, T, D)), "memory": rng.normal(size=(B, S, D))}
inputs |= {name: rng.normal(size=(D, D)) / 2 for name in ("W_q", "W_k", "W_v", "W_o")} | {"readable": readable}
out, cache = cross_forward(**inputs)
d_out = rng.normal(size=out.shape)
P = cache[6].weights                                                             # (B, T, S)
q, v = inputs["x"] @ inputs["W_q"], inputs["memory"] @ inputs["W_v"]             # (B, T, D), (B, S, D)
d_mixed = d_out @ inputs["W_o"].T                                                # (B, T, D)
the_long_way = np.zeros((B, S, D))
for b in range(B):
    for t in range(T):
        d_P = v[b] @ d_mixed[b, t]                                               # (S,)
        for s in range(S):
            d_score = P[b, t, s] * (d_P[s] - P[b, t] @ d_P)                      # ()
            the_long_way[b, s] += P[b, t, s] * d_mixed[b, t] @ inputs["W_v"].T   # (D,)  m_s as a value
            the_long_way[b, s] += d_score * q[b, t] / np.sqrt(D) @ inputs["W_k"].T   # (D,)  m_s as a key
d_memory = cross_backward(d_out, cache)[1]
print("long way and short formula differ by", np.abs(the_long_way - d_memory).max())
print("gradient at the padding of the second source:", d_memory[1, 3:].ravel())
assert np.allclose(the_long_way, d_memory) and not d_memory[1, 3:].any()

# %% [markdown]
# The gradient check, and the library's own layer with one head and our matrices:

# %%
report = gradient_check(cross_forward, cross_backward, inputs, rng=rng)
print(report)
assert report.ok

layer = MultiHeadAttention(D, 1, rng).astype(np.float64)
for part, name in ((layer.query, "W_q"), (layer.key, "W_k"), (layer.value, "W_v"), (layer.output, "W_o")):
    part.weight.value[...] = inputs[name]
expected, layer_cache = layer.forward(inputs["x"], inputs["memory"], mask=readable[:, None, None, :])
assert np.allclose(out, expected)
both = zip(cross_backward(d_out, cache), layer.backward(d_out, layer_cache))
assert all(np.allclose(mine, theirs) for mine, theirs in both)

# %% [markdown]
# ## Several layers: the gradients of the memory add up
#
# A decoder has several blocks, and **each looks at the same memory**. Take $N$ layers, each only a cross-attention
# $f_n$ with four matrices of its own, and a residual connection:
#
# $$ x_n = x_{n-1} + f_n(x_{n-1}, M), \qquad n = 1, \dots, N $$
#
# The long way: give each layer **a copy of its own**, $f_n(x_{n-1}, M_n)$ with $M_1 = M$, $\dots$, $M_N = M$. Nothing
# has changed, but now each copy is used once, by one layer. Its gradient $dM_n$ is what `cross_backward` of that layer
# returns, for the $dx_n$ that has come down to it. And moving $M$ moves all copies by the same,
# $\partial M_n / \partial M = 1$, so by the chain rule their gradients are added:
#
# $$ dM = \sum_{n=1}^{N} \frac{\partial M_n}{\partial M}\, dM_n = \sum_{n=1}^{N} dM_n, \qquad\qquad
#    dx_{n-1} = dx_n + d(\text{branch})_n $$
#
# The second equation is the residual connection of chapter 8; $d(\text{branch})_n$ is the $dX$ that `cross_backward` of
# layer $n$ returns. So the short way needs no copies: we walk back through the layers, the last one first, and add each
# one's part to a sum.

# %%
def stack_forward(x, memory, W, readable):
    """W (N, 4, D, D): the four matrices of each of N layers."""
    caches = []
    for layer in W:
        y, cache = cross_forward(x, memory, *layer, readable)                    # (B, T, D)
        x = x + y                                                                # (B, T, D)
        caches.append(cache)                                                     # the first layer's first
    return x, caches


def stack_backward(d_out, caches):
    d_x, d_memory, d_W = d_out, 0, []
    for cache in reversed(caches):
        d_branch, d_part, *d_layer = cross_backward(d_x, cache)                  # (B, T, D), (B, S, D)
        d_memory = d_memory + d_part                                             # (B, S, D)  every layer adds its part
        d_x = d_x + d_branch                                                     # (B, T, D)  both arms of the residual
        d_W.insert(0, d_layer)                                                   # four (D, D), in front of the later layers'
        # STOP: look at d_part and d_memory; every layer that we walk back through changes the sum
    return d_x, d_memory, np.array(d_W)                                          # (B, T, D), (B, S, D), (N, 4, D, D)


stack = {"x": inputs["x"], "memory": inputs["memory"], "W": rng.normal(size=(3, 4, D, D)) / 2, "readable": readable}
report = gradient_check(stack_forward, stack_backward, stack, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# And the long way in code, with a copy for each layer. The checker moves each copy alone; their gradients add up to that
# of the memory:

# %%
def copies_forward(x, copies, W, readable):
    caches = []
    for layer, copy in zip(W, copies):                                           # copies (N, B, S, D)
        y, cache = cross_forward(x, copy, *layer, readable)                      # (B, T, D)
        x = x + y                                                                # (B, T, D)
        caches.append(cache)
    return x, caches


def copies_backward(d_out, caches):
    d_x, d_copies, d_W = d_out, [], []
    for cache in reversed(caches):
        d_branch, d_copy, *d_layer = cross_backward(d_x, cache)                  # (B, T, D), (B, S, D)
        d_x = d_x + d_branch                                                     # (B, T, D)
        d_copies.insert(0, d_copy)
        d_W.insert(0, d_layer)
    return d_x, np.array(d_copies), np.array(d_W)                                # (N, B, S, D)


with_copies = {"x": stack["x"], "copies": np.stack([stack["memory"]] * 3), "W": stack["W"], "readable": readable}
assert gradient_check(copies_forward, copies_backward, with_copies, rng=rng).ok
out, caches = stack_forward(**stack)
d_copies = copies_backward(d_out, copies_forward(**with_copies)[1])[1]           # (N, B, S, D)
print("size of the gradient of each copy:", np.linalg.norm(d_copies.reshape(3, -1), axis=1).round(2))
assert np.allclose(d_copies.sum(axis=0), stack_backward(d_out, caches)[1])

# %% [markdown]
# **Break it:** keep the part of one layer only. It is a likely mistake, since it is just a `=` in place of a `+`. No
# shape is wrong, nothing crashes, and the gradients of `x` and of all weights stay right:

# %%
def stack_backward_overwriting(d_out, caches):
    d_x, d_memory, d_W = d_out, 0, []
    for cache in reversed(caches):
        d_branch, d_memory, *d_layer = cross_backward(d_x, cache)                # overwrites what the later layers said
        d_x = d_x + d_branch
        d_W.insert(0, d_layer)
    return d_x, d_memory, np.array(d_W)


report = gradient_check(stack_forward, stack_backward_overwriting, stack, rng=rng)
print(report)
assert [row.name for row in report.rows if not row.ok] == ["memory"]

# %% [markdown]
# ## The model
#
# Everything else is there already: `TransformerBlock` is the block of chapter 8 with several heads, and with
# `fusion="cross"` it has a cross-attention between its self-attention and its feed-forward part, with a layer norm and a
# residual connection like the others. (Its backward then returns two gradients, `d_x` and `d_memory`, like ours.) Its
# masks have an axis for the heads besides, $(B, 1, 1, S)$. The encoder has one block without cross-attention, the decoder
# `layers` blocks with it. The blocks are pre-norm, so one more norm stands at the end of each half. From here on $V$ is
# again the number of tokens.
#
# `Module` is the library's base class of layers and models: it finds all their weights, for the optimizer and for
# `zero_grad`, which sets all gradients to 0 before they are added up.
#
# One table serves the words of both languages. Its entries begin with a spread of $1 / \sqrt D$, and what is read from
# it is multiplied by $\sqrt D$ (Vaswani et al. 2017, section 3.4), so that words are as large as positions. Both halves
# read it, so both add to its gradient. The two halves:

# %%
class Translator(Module):
    def __init__(self, V, D, heads, layers, rng, source_positions=True):
        self.D, self.source_positions = D, source_positions
        self.words = Embedding(V, D, rng, D ** -0.5)
        self.encoder = [TransformerBlock(D, heads, 4 * D, rng)]
        self.decoder = [TransformerBlock(D, heads, 4 * D, rng, fusion="cross") for _ in range(layers)]
        self.encoder_norm, self.decoder_norm = LayerNorm(D), LayerNorm(D)
        self.head = Linear(D, V, rng)

    def encode(self, source, readable):
        x, words = self.words.forward(source)                                    # (B, S, D)  F1
        x = x * self.D ** 0.5                                                    # (B, S, D)  F2  entries of order 1
        if self.source_positions:
            x = x + sinusoidal_positions(*x.shape[1:], x.dtype)                  # (B, S, D)  F3
        blocks = []
        for block in self.encoder:
            x, cache = block.forward(x, mask=readable[:, None, None, :])         # (B, S, D)  F4  no query looks at padding
            blocks.append(cache)
        memory, norm = self.encoder_norm.forward(x)                              # (B, S, D)  F5
        return memory, (words, blocks, norm)

    def decode(self, memory, readable, target):
        x, words = self.words.forward(target)                                    # (B, T, D)  F1
        x = x * self.D ** 0.5 + sinusoidal_positions(target.shape[1], self.D, x.dtype)   # (B, T, D)  F2, F3
        blocks = []
        for block in self.decoder:
            x, cache = block.forward(x, memory, causal=True,
                                     memory_mask=readable[:, None, None, :])     # (B, T, D)  F4
            blocks.append(cache)
        x, norm = self.decoder_norm.forward(x)                                   # (B, T, D)  F5
        logits, head = self.head.forward(x)                                      # (B, T, V)  F6
        return logits, (words, blocks, norm, head)

    def decode_backward(self, d_logits, cache):
        words, blocks, norm, head = cache
        d_x = self.decoder_norm.backward(self.head.backward(d_logits, head), norm)   # (B, T, D)  undoes F6, F5
        d_memory = 0
        for block, block_cache in zip(reversed(self.decoder), reversed(blocks)):
            d_x, d_part = block.backward(d_x, block_cache)                       # (B, T, D), (B, S, D)  undoes F4
            d_memory = d_memory + d_part                                         # (B, S, D)  every block looked at it
        self.words.backward(d_x * self.D ** 0.5, words)                          #            undoes F3, F2, F1
        return d_memory

    def encode_backward(self, d_memory, cache):
        words, blocks, norm = cache
        d_x = self.encoder_norm.backward(d_memory, norm)                         # (B, S, D)  undoes F5
        for block, block_cache in zip(reversed(self.encoder), reversed(blocks)):
            d_x = block.backward(d_x, block_cache)                               # (B, S, D)  undoes F4
        self.words.backward(d_x * self.D ** 0.5, words)                          #            undoes F3, F2, F1: same table

# %% [markdown]
# Is the whole of it right? The gradient checker moves the table of words, which stands at the far end of both halves, and
# the key matrix of the decoder's first block. The layers add their gradients to `parameter.grad`, so we read them there.

# %%
small = Translator(8, 4, 2, 2, rng).astype(np.float64)
some_source = np.array([[6, 7, 6, 3], [7, 3, PAD, PAD]])                         # (B, S)
some_target = np.array([[END, 6, 3], [END, 7, PAD]])                             # (B, T)


def small_forward(words, key):
    small.words.weight.value, small.decoder[0].cross_attention.sublayer.key.weight.value = words, key
    memory, encoder = small.encode(some_source, some_source != PAD)              # (B, S, D)
    logits, decoder = small.decode(memory, some_source != PAD, some_target)      # (B, T, V)
    return logits, (encoder, decoder)


def small_backward(d_logits, cache):
    small.zero_grad()
    small.encode_backward(small.decode_backward(d_logits, cache[1]), cache[0])
    return small.words.weight.grad, small.decoder[0].cross_attention.sublayer.key.weight.grad


report = gradient_check(small_forward, small_backward, {"words": small.words.weight.value,
                        "key": small.decoder[0].cross_attention.sublayer.key.weight.value}, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# ## Training
#
# Each step takes 64 pairs, computes the logits of all words of all targets at once, and walks back through both halves.
# (`AdamW` is chapter 3. The learning rate rises over 50 steps, and falls to 0 at the end.)

# %%
sources, targets = ([tokenizer.encode(text) for text in texts] for texts in (train.sources, train.targets))
held_out_sources = padded([tokenizer.encode(text) for text in held_out.sources])   # (N, S)


def fit(model, steps, rate=5e-3):
    optimizer, losses = AdamW(model, beta2=0.98), []
    for step in range(steps):
        rows = np.random.default_rng([11, step]).integers(len(sources), size=64)
        source, (target, labels) = padded([sources[i] for i in rows]), shift(padded([targets[i] for i in rows]))
        memory, encoder = model.encode(source, source != PAD)                    # (B, S, D)
        logits, decoder = model.decode(memory, source != PAD, target)            # (B, T, V)
        loss, cache = cross_entropy_forward(logits, labels)
        optimizer.zero_grad()
        d_memory = model.decode_backward(cross_entropy_backward(1.0, cache), decoder)   # (B, S, D)
        # STOP: d_memory is all that the encoder ever hears of the loss
        model.encode_backward(d_memory, encoder)
        optimizer.step(rate * min(1, (step + 1) / 50) * (1 - step / steps))
        losses.append(float(loss))
    return losses


V, steps = len(tokenizer), 12 if FAST else 400
start = time.perf_counter()
translator = Translator(V, 48, 4, 2, np.random.default_rng(1))
losses = fit(translator, steps)
n_weights = sum(p.value.size for p in translator.parameters())
print(f"{n_weights:,} weights, {steps} steps in {time.perf_counter() - start:.0f} s; "
      f"loss {losses[0]:.2f} (log V is {np.log(V):.2f}) -> {losses[-1]:.3f}")

# %% [markdown]
# ## Greedy decoding
#
# Now nobody gives the right text. The model begins with `<end>`, takes the likeliest word, **reads its own word**, and
# so on until it says `<end>`. The source is encoded once; the decoder runs once for each word. Taking the likeliest word
# each time is called **greedy**; it need not find the likeliest text (chapter 15 looks further ahead, with beams). Texts
# of a batch end at different times. A text that has ended gets `<pad>` in all further columns, and we stop when all have
# ended, or after `longest` words.

# %%
def greedy(model, source, longest=12, readable=None):
    readable = source != PAD if readable is None else readable                   # (B, S)
    memory, _ = model.encode(source, readable)                                   # (B, S, D)
    text = np.full((len(source), 1), END)                                        # (B, 1)
    done = np.zeros(len(source), bool)                                           # (B,)
    while not done.all() and text.shape[1] <= longest:
        logits, _ = model.decode(memory, readable, text)                         # (B, T, V)
        following = logits[:, -1].argmax(axis=-1)                                # (B,)  only the last place is new
        following[done] = PAD                                                    # a finished text stays finished
        # STOP: look at [tokenizer.tokens[i] for i in following]
        text = np.concatenate([text, following[:, None]], axis=1)                # (B, T + 1)
        done |= following == END
    return [tokenizer.decode(row) for row in text[:, 1:]]


def by_digits(written):
    """How many of the held-out numbers of 3, 4, 5 and 6 digits are exactly right."""
    right = np.array([text == target for text, target in zip(written, held_out.targets)])
    kinds = np.array(held_out.kinds)                                             # such as "4 digits"
    return {kind: right[kinds == kind].mean() for kind in sorted(set(held_out.kinds))} | {"all": right.mean()}


written = greedy(translator, held_out_sources)
for i in range(4):
    verdict = "right" if written[i] == held_out.targets[i] else f"WRONG: {held_out.targets[i]}"
    print(f"{held_out.sources[i]}\n    -> {written[i]}   {verdict}")
scores = by_digits(written)
print(", ".join(f"{kind}: {share:.1%}" for kind, share in scores.items()))
assert FAST or scores["all"] > 0.95

# %% [markdown]
# None of these numbers was in the training; the first cell asserts it.
#
# ## The alignment
#
# Where did the decoder look while it wrote? The weights of the cross-attention say it: each row is a word that is
# written, each column a word that was read. Bahdanau et al. 2015 drew such pictures of their translations (figure 3).

# %%
text = "five hundred and twelve thousand and forty-seven"      # 512,047 is not in the training either
source = np.array([tokenizer.encode(text)])                                      # (1, S)
answer = greedy(translator, source)[0]
said = [*tokenizer.encode(answer), END]                                          # (T,)
memory, _ = translator.encode(source, source != PAD)
_, (_, blocks, _, _) = translator.decode(memory, source != PAD, np.array([[END, *said[:-1]]]))
maps = [attention_weights(block.cross_attention.sublayer)[0].mean(axis=0) for block in blocks]   # (T, S) each, heads' mean
figure, panels = new_figure(10, 5, 1, 2)
for number, (axes, weights) in enumerate(zip(panels, maps), 1):
    axes.imshow(weights, vmin=0, vmax=1, cmap="Blues")
    axes.set_xticks(range(source.shape[1]), [tokenizer.tokens[i] for i in source[0]], rotation=60, ha="right")
    axes.set_yticks(range(len(said)), [tokenizer.tokens[i] for i in said])
    axes.set_title(f"decoder block {number}")
    axes.set_xlabel("read")
panels[0].set_ylabel("written")
show(figure, "11_alignment")
print(text, "->", answer)
read, wrote = source[0].tolist(), {tokenizer.tokens[i]: t for t, i in enumerate(said)}
for word, partner in (("sieben", "seven"), ("und", "-"), ("vierzig", "forty")):
    assert FAST or maps[1][wrote[word]].argmax() == read.index(tokenizer.id(partner))   # in the second block
assert text not in train.sources and np.allclose([weights.sum(axis=1) for weights in maps], 1, atol=1e-5)

# %% [markdown]
# In the lower right corner of the second block the order turns round: when "sieben" is written, "seven" has the largest
# weight, for "und" the hyphen, and for "vierzig" "forty". Nobody told the model which word belongs to which; the loss of
# the next word was enough. (With `TINYMM_FAST=1` the training is too short for that. With two other seeds of the model
# these three words looked at the same places, and other rows changed.)
#
# Do not read too much into such pictures: the memory's vector of "seven" has already looked at its neighbours, in the
# encoder. A weight says where something was taken, not what.
#
# ## Break it: no positions in the source
#
# Chapter 7 said that attention sees a set: if the words change places, their vectors change places with them, and nothing
# else. Take the source's positions away, and train again. The decoder still knows its own places. What can be lost?

# %%
without = Translator(V, 48, 4, 2, np.random.default_rng(1), source_positions=False)
broken_losses = fit(without, steps)
broken_scores = by_digits(greedy(without, held_out_sources))
figure, (left, right) = new_figure(9, 3.2, 1, 2)
trained = (("with positions", losses, scores), ("without", broken_losses, broken_scores))
for place, (label, curve, shares) in enumerate(trained):
    left.semilogy(curve, label=label)
    right.bar(np.arange(5) + 0.4 * place - 0.2, shares.values(), 0.4, label=label)
left.set_xlabel("step")
left.set_ylabel("loss")
left.legend(frameon=False)
right.set_xticks(range(5), shares)
right.set_ylabel("exactly right")
show(figure, "11_positions")
pair = np.array([tokenizer.encode(text) for text in ("three hundred and five", "five hundred and three")])   # (2, S)
answers = [greedy(model, pair) for model in (translator, without)]
for number, source in enumerate(pair):
    print(f"{tokenizer.decode(source)}:  {answers[0][number]!r} with positions, {answers[1][number]!r} without")
memory, _ = without.encode(pair, pair != PAD)                                    # (B, S, D)
# STOP: memory[0] and memory[1] hold the same vectors; the first and the last have changed places
assert np.allclose(memory[0, [3, 1, 2, 0]], memory[1], atol=1e-4) and answers[1][0] == answers[1][1]
shares = [broken_scores[f"{digits} digits"] for digits in (3, 4, 5, 6)]
assert FAST or shares[-1] < 0.5 and shares == sorted(shares, reverse=True)       # the more digits, the fewer right

# %% [markdown]
# "three hundred and five" and "five hundred and three" are the same set of words, so the model without positions must
# write the same for both. It knows all the words, and guesses their order. The more digits, the more orders there are,
# and the fewer numbers it gets right.
#
# ## Break it: no padding mask
#
# A batch is a rectangle, so short sources are filled up with `<pad>`. What a text becomes may not depend on who is next
# to it in the batch. We take the 200 shortest held-out texts, add more and more padding, and translate them with the
# mask and without it (all places readable). Most of the 200 have some padding from the beginning, as they are not
# equally long.

# %%
shortest = np.argsort([len(tokenizer.encode(text)) for text in held_out.sources], kind="stable")[:200]
table = padded([tokenizer.encode(held_out.sources[i]) for i in shortest])        # (200, S)
translations = {"with the mask": [], "without": []}
paddings = [0, 2, 4] if FAST else [0, 1, 2, 3, 4, 6, 8]
for extra in paddings:
    longer = np.pad(table, ((0, 0), (0, extra)), constant_values=PAD)            # (200, S + extra)
    for label, readable in (("with the mask", longer != PAD), ("without", np.ones(longer.shape, bool))):
        translations[label].append(greedy(translator, longer, readable=readable))
wanted = np.array([held_out.targets[i] for i in shortest])                       # (200,)
assert (table == PAD).any(axis=1).mean() > 0.5
exact = {label: [np.mean(np.array(written) == wanted) for written in some] for label, some in translations.items()}
print("further padding", *(f"{extra:6}" for extra in paddings))
for label, shares in exact.items():
    print(f"{label:15}", *(f"{share:6.1%}" for share in shares))
figure, axes = new_figure(5, 3)
for label, shares in exact.items():
    axes.plot(paddings, shares, "o-", label=label)
axes.set_xlabel("further places of padding")
axes.set_ylabel("exactly right")
axes.set_ylim(0, 1.05)
axes.legend(frameon=False)
show(figure, "11_padding")
assert all(written == translations["with the mask"][0] for written in translations["with the mask"])
assert FAST or exact["without"][-1] < 0.5 * exact["with the mask"][-1]

# %% [markdown]
# With the mask the padding changes no word of any translation. Without it, places that hold no word get a share of every
# softmax, and the more there are, the larger it is. The target needs no mask for its padding: it stands behind the text,
# where the causal mask hides it already, and the label $-100$ leaves its own logits out of the loss.
#
# ## The same model summarises
#
# Nothing above knows that it is about numbers. Give it other pairs, and it does other work: here the source is a heap of
# facts in any order, and the target the one sentence that sums them up.

# %%
facts = fact_pairs(3, rng)
for source, target in zip(facts.sources, facts.targets):
    print(f"{source}\n    -> {target}")

# %% [markdown]
# `tinymm train encoder_decoder --data facts` trains the library's model on them (`tinymm/models/encoder_decoder.py`, the
# two halves above with a few more options); `--data dates` makes `1987-03-03` of "Tuesday, March 3rd, 1987".
#
# ## Questions
#
# :::{dropdown} Why does the decoder not simply copy the label, which it reads one place later?
# It may not see that place: the causal mask hides it. Try it with `causal=False` in `decode`: the loss falls as far, and
# hardly any held-out number is right, since in greedy decoding there is no next place to copy from.
# :::
#
# :::{dropdown} Reading the right text, the model finds each next word of the target the likeliest one. Will greedy decoding write the target exactly?
# Yes. Its first word is right, so it reads the right word, so its second is right, and so on. That is why a validation
# needs only one forward pass in place of one for each word.
# :::
#
# :::{dropdown} And when it makes a mistake?
# Then it reads something that it never met in training, where all texts were right; mistakes can pull further mistakes
# after them. It is called exposure bias (Ranzato et al. 2016).
# :::
#
# :::{dropdown} Put the mistake of the overwritten `d_memory` into `decode_backward`, and train. What do you expect?
# Try it: the loss falls as far, and the held-out numbers are as right. The encoder still hears one layer, and all the
# other gradients are right. That is the trouble with such mistakes: only a gradient check finds them.
# :::
#
# :::{dropdown} How many dot products of queries with keys does a block of the decoder compute, for a source of 1,000 words and a target of 10?
# $10 \cdot 10$ in the self-attention and $10 \cdot 1000$ in the cross-attention; the encoder needs $1000 \cdot 1000$ in
# each of its blocks, but only once for the whole target.
# :::
#
# ## What you can now do
#
# You can build a model that turns one text into another, bring the gradient home along both ways, and look at what it
# read. In chapters 14 and 15 the memory will hold an image, and the decoder will hardly notice. Now do
# `lessons/11_encoder_decoder/exercises.py`, and run `tinymm check 11`.
#
# ## To read
#
# - Vaswani et al. 2017, *Attention Is All You Need*. Sutskever, Vinyals and Le 2014, *Sequence to Sequence Learning with
#   Neural Networks*: the idea, with an LSTM (chapter 5).
# - Bahdanau, Cho and Bengio 2015, *Neural Machine Translation by Jointly Learning to Align and Translate*.
