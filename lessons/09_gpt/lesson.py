# %% [markdown]
# # 9. GPT
#
# **You will learn** how the pieces of the chapters before become a language model that writes: the loss over all places
# of a text at once, its gradient when one table is used at both ends of the model, how to draw the next token
# (temperature, top-k, top-p), and the key-value cache, which makes writing fast.
#
# **You need** the gradient check (chapter 1), cross-entropy (chapter 2), Adam (chapter 3), the scatter-add (chapter 4),
# masks (chapter 6), heads (chapter 7) and the block (chapter 8).
#
# **It takes** up to a minute to run, and less than 300 MB. The texts are *Alice's Adventures in Wonderland* and
# quatrains (poems of four lines) of the Tang dynasty.
#
# ## The picture
#
# A language model guesses the next token of a text. That is enough to write: guess, append, guess again. And it needs
# no labels, since the text itself says what came next.
#
#     reads        t   h   e   _   c   a
#                  |   |   |   |   |   |        each place sees itself and what is left of it
#     guesses      h   e   _   c   a   t
#
# **Every place is an example.** A text of $T + 1$ tokens gives $T$ guesses. Thanks to the causal mask (chapter 6), one
# pass through the model makes them all, and none can see its own answer.
#
# ## The loss
#
# Let $x_t$ be the token at place $t$ (in this section $x$ is a token; later it is a token's vector). The probability of a
# whole text is the product of the probabilities of its tokens, each given those before it. That is the chain rule of
# probability, with nothing left out:
#
# $$ p(x_1, \dots, x_T) = p(x_1)\; p(x_2 \mid x_1)\; p(x_3 \mid x_1, x_2) \cdots p(x_T \mid x_1, \dots, x_{T-1}) $$
#
# Minus its logarithm is a sum over places. The loss is the mean over all places: the cross-entropy of chapter 2, once for
# each place. A batch has $B$ texts, numbered by $b$. Each has $T$ places, and the label $y_{b,t}$ is what came next. (The
# first token of a text is given, not guessed.)
#
# $$ L = -\frac1N \sum_{b, t} \log p(y_{b,t} \mid x_{b,1}, \dots, x_{b,t}), \qquad y_{b,t} = x_{b,t+1}, \qquad N = B\,T $$
#
# **Perplexity** is $e^L$. A model that hesitates between 10 equally likely tokens at each place has $L = \log 10$, and
# so the perplexity 10: it tells among how many tokens the model hesitates. By pencil and paper: three guesses gave the
# right token the probabilities $\tfrac12, \tfrac14, \tfrac12$. Then
# $L = (\log 2 + 2 \log 2 + \log 2) / 3 = \tfrac43 \log 2 = 0.924$, and the perplexity is $2^{4/3} = 2.52$. (The mean is
# taken of the logarithms, and only then the exponential.)

# %%
import os
import re
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")                   # for matrices as small as here one thread is the fastest
import numpy as np

from tinymm import gradient_check
from tinymm.data import load_corpus
from tinymm.functional import (
    attention_backward, attention_forward, embedding_backward, embedding_forward, gelu_backward, gelu_forward,
    layer_norm_backward, layer_norm_forward,
)
from tinymm.learning.figures import new_figure, show

FAST = os.environ.get("TINYMM_FAST") == "1"
rng = np.random.default_rng(9)

right = np.array([1 / 2, 1 / 4, 1 / 2])
print(f"loss {-np.log(right).mean():.3f}, perplexity {np.exp(-np.log(right).mean()):.3f}")
assert np.isclose(np.exp(-np.log(right).mean()), 2 ** (4 / 3))

# %% [markdown]
# ## The text, in windows
#
# We read *Alice* letter by letter: a token is a character. The last tenth of the book is for validation. A **window**
# of $T$ tokens is what the model reads; its **labels** are the same stretch of text, one place further. Of "hello" the
# model reads "hell", and guesses "ello": the first token is only read, the last one only guessed. So $T + 1$ tokens are
# cut from the text.

# %%
T, B = 32, 8 if FAST else 16                                          # tokens in a window, windows in a batch

corpus = load_corpus("alice")                                         # one text for training, one for validation
# line ends become single spaces
train_text, held_out_text = (" ".join(part[0].split()) for part in (corpus.train, corpus.validation))
alphabet = sorted(set(train_text) | set(held_out_text))
number = {character: i for i, character in enumerate(alphabet)}
V = len(alphabet)
train_ids = np.array([number[character] for character in train_text])           # (M,)  M characters
held_out_ids = np.array([number[character] for character in held_out_text])     # (M,)


def windows(stream, starts, T):
    """The T tokens from each start on, and their labels: the tokens one place further. stream (M,), starts (B,)."""
    places = starts[:, None] + np.arange(T + 1)                       # (B, T + 1)  one token more than is read
    tokens = stream[places]                                           # (B, T + 1)
    return tokens[:, :-1], tokens[:, 1:]                              # (B, T), (B, T)


def as_text(ids):
    return "".join(alphabet[i] for i in ids)


ids, labels = windows(train_ids, np.array([7]), 24)
# STOP: labels[0, t] is ids[0, t + 1]
print(f"{len(train_ids):,} characters to learn from, {len(held_out_ids):,} to test with, {V} different ones")
print("reads  ", repr(as_text(ids[0])))
print("guesses", repr(as_text(labels[0])))
assert (labels[:, :-1] == ids[:, 1:]).all()

# %% [markdown]
# ## What counting can do
#
# A loss says nothing without another beside it. There are $V$ different characters. Who knows nothing says $1/V$ for each,
# and has the loss $\log V$. Who counts how frequent each character is (**unigrams**) does better. (One is added to each
# count, so that no probability is 0.) Who counts which character follows which (**bigrams**) does better still:
#
# $$ p(b \mid a) = \frac{n(a, b) + c\; p(b)}{n(a) + c} $$
#
# $n(a, b)$ is how often $b$ followed $a$, $n(a) = \sum_b n(a, b)$, and $p(b)$ is the unigram probability. The $c$ counts
# that are mixed in (we take $c = 10$) give a pair that never occurred some probability too; else its loss would be
# infinite. The sum over $b$ is still $(n(a) + c) / (n(a) + c) = 1$.
#
# A loss can also be told in **bits**: with the logarithm to the base 2, which is $L / \log 2$.

# %%
def unigrams(stream, V):
    counts = np.bincount(stream, minlength=V) + 1.0                   # (V,)
    return counts / counts.sum()


def bigrams(stream, V, c, before, after):
    """p(after | before), for arrays of ids of any one shape."""
    counts = np.zeros((V, V), np.float32)                             # (V, V)  row a, column b
    np.add.at(counts, (stream[:-1], stream[1:]), 1)
    mixed_in = c * unigrams(stream, V)[after]                         # (...)
    return (counts[before, after] + mixed_in) / (counts.sum(axis=1)[before] + c)


before, after = held_out_ids[:-1], held_out_ids[1:]
counted = {"knows nothing": np.log(V), "unigrams": -np.log(unigrams(train_ids, V)[after]).mean(),
           "bigrams": -np.log(bigrams(train_ids, V, 10, before, after)).mean()}
for label, loss in counted.items():
    print(f"{label:14} loss {loss:.3f}   perplexity {np.exp(loss):5.1f}   bits a character {loss / np.log(2):.2f}")
assert counted["knows nothing"] > counted["unigrams"] > counted["bigrams"]
follow = bigrams(train_ids, V, 10, np.arange(V)[:, None], np.arange(V))        # (V, V)  all pairs
assert np.allclose(follow.sum(axis=1), 1)

# %% [markdown]
# ## The head: one table at both ends
#
# At the beginning of the model, the table $E$ ($V \times D$) turns tokens into vectors: $x = E[\mathrm{ids}]$. At the
# end, each place has a vector $h$, and the model needs a score for each of the $V$ tokens. It takes the same table:
# **the score of a token is how well its row fits $h$**.
#
# $$ x_{n} = E_{\mathrm{ids}_n}, \qquad h = f(x), \qquad z_{nv} = \sum_j h_{nj} E_{vj} \quad (Z = H E^\top), \qquad p = \mathrm{softmax}(z) $$
#
# The table is **tied** (Press and Wolf 2017; Inan et al. 2017). It saves $V D$ weights, and a token's row learns from
# both uses. $n$ runs over all $N = B\,T$ places, and $f$ stands for the whole rest of the model.
#
# ### The gradient of the scores, over all places
#
# One place has the loss $\ell_n = -\log p_{n, y_n}$. With $\log p_{nv} = z_{nv} - \log \sum_u e^{z_{nu}}$:
#
# $$ \ell_n = -z_{n y_n} + \log \sum_u e^{z_{nu}}, \qquad
# \frac{\partial \ell_n}{\partial z_{nv}} = -[v = y_n] + \frac{e^{z_{nv}}}{\sum_u e^{z_{nu}}} = p_{nv} - [v = y_n] $$
#
# ($[v = y_n]$ is 1 where $v$ is the label, else 0.) $L$ is the mean of $N$ such terms, and $z_n$ is in one of them
# only. So $dZ = (P - Y) / N$, with one-hot rows $Y$: chapter 2, with $B\,T$ rows instead of $B$.
#
# ### The gradient of the table: two uses, two gradients
#
# Call the table at the input $E^{in}$, and that at the output $E^{out}$, as if they were two. $L(E^{in}, E^{out})$ is
# an ordinary function of two arguments. Now set both to $E$. By the chain rule, when $E$ moves, both arguments move,
# and
#
# $$ \frac{dL}{dE} = \frac{\partial L}{\partial E^{in}} + \frac{\partial L}{\partial E^{out}} $$
#
# **The output**, $z_{nv} = \sum_j h_{nj} E_{vj}$. Row $v$ of the table is used at each place $n$, in the score
# $z_{nv}$:
#
# $$ dE^{out}_{vj} = \sum_n dz_{nv}\, h_{nj} \quad\Rightarrow\quad dE^{out} = dZ^\top H, \qquad\qquad
# dh_{nj} = \sum_v dz_{nv}\, E_{vj} \quad\Rightarrow\quad dH = dZ\, E $$
#
# **The blocks** take $dH$ to $dX$.
#
# **The input**, $x_n = E_{\mathrm{ids}_n}$, is the lookup of chapter 4, and its backward the scatter-add:
#
# $$ dE^{in}_v = \sum_{n\,:\,\mathrm{ids}_n = v} dx_n $$
#
# ### By pencil and paper
#
# Two tokens $a$ and $b$, vectors of one number, $e_a = 1$ and $e_b = -1$, and nothing between input and output
# ($h = x$). The model reads $a$, and the label is $a$. The scores are $z = (e_a e_a, e_a e_b) = (1, -1)$, the
# probabilities $(0.8808, 0.1192)$, and $dz = (-0.1192, 0.1192)$. The output gives row $a$ the gradient
# $-0.1192\, h = -0.1192$ and row $b$ $0.1192$. Then $dh = -0.1192\, e_a + 0.1192\, e_b = -0.2384$, and the lookup gives
# it to row $a$. Together: $(-0.3576, 0.1192)$.
#
# Without any rule: $L = -\log p_a = \log(1 + e^{z_b - z_a}) = \log(1 + e^{e_a e_b - e_a^2})$. Its derivative by $e_a$
# is $p_b\,(e_b - 2 e_a) = 0.1192 \cdot (-3) = -0.3576$: the 2 comes from the two uses. Its derivative by $e_b$, which was
# used once, is $p_b\, e_a = 0.1192$.
#
# ### In code
#
# The smallest model with a tied table: a linear layer stands for the blocks. The check leaves `ids` and `labels` alone:
# they are whole numbers, and have no gradient.

# %%
def rows(x):
    """All places as rows of one matrix, for sums over them: (B, T, D) -> (B T, D)."""
    return x.reshape(-1, x.shape[-1])


def softmax(z):
    exps = np.exp(z - z.max(axis=-1, keepdims=True))                  # (..., V)
    return exps / exps.sum(axis=-1, keepdims=True)


def head_forward(hidden, table, labels):
    logits = hidden @ table.T                                         # (B, T, V)  F1
    shifted = logits - logits.max(axis=-1, keepdims=True)             # (B, T, V)  F2: no exponential is above 1
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))    # (B, T, V)  F3
    losses = -np.take_along_axis(log_p, labels[..., None], axis=-1)   # (B, T, 1)  F4: of the right token
    return losses.mean(), (hidden, table, labels, np.exp(log_p))      # ()         F5


def head_backward(d_loss, cache):
    hidden, table, labels, p = cache
    y = np.zeros_like(p)                                              # (B, T, V)
    np.put_along_axis(y, labels[..., None], 1, axis=-1)
    d_logits = d_loss * (p - y) / labels.size                         # (B, T, V)  undoes F5 ... F2
    # STOP: each row of d_logits sums to 0
    d_hidden = d_logits @ table                                       # (B, T, D)  undoes F1
    d_table = rows(d_logits).T @ rows(hidden)                         # (V, D)     undoes F1
    return d_hidden, d_table


def tied_forward(ids, labels, table, weight):
    x, lookup = embedding_forward(ids, table)                         # (B, T, D)  F1
    hidden = x @ weight                                               # (B, T, D)  F2: the blocks
    loss, head = head_forward(hidden, table, labels)                  # ()         F3: the same table again
    return loss, (lookup, x, weight, head)


def tied_backward(d_loss, cache):
    lookup, x, weight, head = cache
    d_hidden, d_head = head_backward(d_loss, head)                    # (B, T, D), (V, D)  undoes F3
    d_weight = rows(x).T @ rows(d_hidden)                             # (D, D)             undoes F2
    d_x = d_hidden @ weight.T                                         # (B, T, D)          undoes F2
    d_read = embedding_backward(d_x, lookup)                          # (V, D)             undoes F1
    d_table = d_head + d_read                                         # (V, D)             both uses
    return d_table, d_weight


table = np.array([[1.0], [-1.0]])                                     # the example for pencil and paper
loss, cache = tied_forward(np.array([[0]]), np.array([[0]]), table, np.eye(1))
by_hand = tied_backward(1.0, cache)[0]
print("d_table by pencil and paper:", by_hand.ravel().round(4))
assert np.allclose(softmax(np.array([1.0, -1.0])), [0.8808, 0.1192], atol=1e-4)
assert np.allclose(by_hand.ravel(), [-0.3576, 0.1192], atol=1e-4)

small = {"ids": np.array([[3, 1, 3], [0, 3, 1]]), "labels": np.array([[1, 3, 2], [3, 1, 6]]),
         "table": rng.normal(size=(7, 4)), "weight": rng.normal(size=(4, 4))}
report = gradient_check(tied_forward, tied_backward, small, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# The long way, place by place and with two tables, and the short formulas agree:

# %%
loss, cache = tied_forward(**small)
d_table, _ = tied_backward(1.0, cache)
ids, labels, table, weight = small.values()
d_in, d_out_table = np.zeros((7, 4)), np.zeros((7, 4))                # (V, D) each
for b in range(2):
    for t in range(3):
        h = table[ids[b, t]] @ weight                                 # (D,)
        d_z = softmax(table @ h) - (np.arange(7) == labels[b, t])     # (V,)
        d_z = d_z / 6                                                 # one of N = 6 places
        for v in range(7):
            d_out_table[v] += d_z[v] * h                              # each row was compared with h
        d_h = table.T @ d_z                                           # (D,)
        d_in[ids[b, t]] += weight @ d_h                               # only one row was read
print("largest difference:", np.abs(d_in + d_out_table - d_table).max())
print("rows with a gradient: from the input", np.count_nonzero(d_in.any(axis=1)), "of 7, from the output",
      np.count_nonzero(d_out_table.any(axis=1)), "of 7")
assert np.allclose(d_in + d_out_table, d_table)

# %% [markdown]
# The input reaches only the rows that were read. The output reaches **every** row at every step: the right token's row
# is pulled towards $h$, and all others are pushed away from it, each by its probability.
#
# **Break it:** forget one of the two. Nothing crashes, but the gradient check sees it:

# %%
for forget in ("the output's", "the input's"):
    def one_use(d_loss, cache, forget=forget):
        lookup, x, weight, head = cache
        d_hidden, d_head = head_backward(d_loss, head)                # (B, T, D), (V, D)
        d_read = embedding_backward(d_hidden @ weight.T, lookup)      # (V, D)
        return d_read if forget == "the output's" else d_head, rows(x).T @ rows(d_hidden)

    report = gradient_check(tied_forward, one_use, small, rng=rng)
    print(f"without {forget:12} gradient the check passes: {report.ok}")
    assert not report.ok

# %% [markdown]
# ## The model, from finished pieces
#
# | piece | from chapter | equation |
# |---|---|---|
# | embedding | 4 | $x = E[\mathrm{ids}]$ |
# | learned positions $P$, a vector for each place | 7 | $x \leftarrow x + P$ |
# | blocks, pre-norm, causal | 6, 7, 8 | $x \leftarrow x + \mathrm{Attention}(\mathrm{norm}(x))$, $\; x \leftarrow x + \mathrm{gelu}(\mathrm{norm}(x)\, W_1)\, W_2$ |
# | one more norm | 8 | $h = \mathrm{norm}(x)$ |
# | head | here | $z = h E^\top$ |
#
# That is GPT-2 (Radford et al. 2019), without the biases of its linear layers. The GELU is in the form with $\tanh$
# that GPT-2 used (`approximate=True`); it differs little from that of chapter 8, and is faster. The three matrices for
# queries, keys and values stand side by side in one $W_{qkv}$ ($D \times 3D$): one product instead of three. The library's
# `attention_forward` makes the causal mask itself (`causal=True`). In the shapes, $H$ heads have the width $K = D / H$,
# and the feed-forward part has the width $F = 4 D$.

# %%
def split_heads(x, n_heads):
    B, T, D = x.shape
    return x.reshape(B, T, n_heads, D // n_heads).swapaxes(1, 2)      # (B, H, T, K)


def merge_heads(x):
    B, H, T, K = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * K)                      # (B, T, D)


def block_forward(x, w, n_heads, causal):
    a, norm_1 = layer_norm_forward(x, w["gain_1"], w["bias_1"])       # (B, T, D)     F1
    qkv = np.split(a @ w["W_qkv"], 3, axis=-1)                        # (B, T, D), three times  F2
    q, k, v = (split_heads(part, n_heads) for part in qkv)            # (B, H, T, K)  F3
    mixed, attention = attention_forward(q, k, v, causal=causal)      # (B, H, T, K)  F4
    merged = merge_heads(mixed)                                       # (B, T, D)     F5
    x = x + merged @ w["W_o"]                                         # (B, T, D)     F6
    c, norm_2 = layer_norm_forward(x, w["gain_2"], w["bias_2"])       # (B, T, D)     F7
    active, gelu = gelu_forward(c @ w["W_1"], approximate=True)       # (B, T, F)     F8
    out = x + active @ w["W_2"]                                       # (B, T, D)     F9
    return out, (w, n_heads, a, norm_1, attention, merged, c, norm_2, active, gelu)


def block_backward(d_out, cache):
    w, n_heads, a, norm_1, attention, merged, c, norm_2, active, gelu = cache
    d = {"W_2": rows(active).T @ rows(d_out)}                         # (F, D)        undoes F9
    d_wide = gelu_backward(d_out @ w["W_2"].T, gelu)                  # (B, T, F)     undoes F9, F8
    d["W_1"] = rows(c).T @ rows(d_wide)                               # (D, F)        undoes F8
    d_c = d_wide @ w["W_1"].T                                         # (B, T, D)     undoes F8
    d_branch, d["gain_2"], d["bias_2"] = layer_norm_backward(d_c, norm_2)            # (B, T, D)  undoes F7
    d_x = d_out + d_branch                                            # (B, T, D)     both arms of F9
    d["W_o"] = rows(merged).T @ rows(d_x)                             # (D, D)        undoes F6
    d_mixed = split_heads(d_x @ w["W_o"].T, n_heads)                  # (B, H, T, K)  undoes F6, F5
    d_heads = attention_backward(d_mixed, attention)                  # (B, H, T, K), three times  undoes F4
    d_qkv = np.concatenate([merge_heads(part) for part in d_heads], axis=-1)         # (B, T, 3 D)  undoes F3
    d["W_qkv"] = rows(a).T @ rows(d_qkv)                              # (D, 3 D)      undoes F2
    d_a = d_qkv @ w["W_qkv"].T                                        # (B, T, D)     undoes F2
    d_branch, d["gain_1"], d["bias_1"] = layer_norm_backward(d_a, norm_1)            # (B, T, D)  undoes F1
    return d_x + d_branch, d                                          # (B, T, D)     both arms of F6


def blocks_of(w):
    """The weights of each block: those whose name begins with its number."""
    count = sum(name.endswith("W_qkv") for name in w)
    return [{name.split(".")[1]: value for name, value in w.items() if name.startswith(f"{i}.")} for i in range(count)]


def gpt_forward(w, ids, n_heads=4, causal=True):
    """ids (B, T) -> the vector of each place (B, T, D), before the head."""
    x, lookup = embedding_forward(ids, w["table"])                    # (B, T, D)  F1
    x = x + w["places"][:ids.shape[1]]                                # (B, T, D)  F2
    blocks = []
    for block in blocks_of(w):
        x, cache = block_forward(x, block, n_heads, causal)           # (B, T, D)  F3
        blocks.append(cache)
    hidden, norm = layer_norm_forward(x, w["gain"], w["bias"])        # (B, T, D)  F4
    return hidden, (lookup, len(w["places"]), blocks, norm)


def gpt_backward(d_hidden, cache):
    lookup, room, blocks, norm = cache
    d_x, d_gain, d_bias = layer_norm_backward(d_hidden, norm)         # (B, T, D)  undoes F4
    d = {"gain": d_gain, "bias": d_bias}
    for i in reversed(range(len(blocks))):
        d_x, d_block = block_backward(d_x, blocks[i])                 # (B, T, D)  undoes F3
        d |= {f"{i}.{name}": value for name, value in d_block.items()}
    d["places"] = np.zeros((room, d_x.shape[-1]), d_x.dtype)          # (room, D)  undoes F2
    d["places"][:d_x.shape[1]] = d_x.sum(axis=0)                      # each place served all texts of the batch
    d["table"] = embedding_backward(d_x, lookup)                      # (V, D)     undoes F1
    return d


def loss_forward(w, ids, labels, n_heads=4, causal=True):
    hidden, body = gpt_forward(w, ids, n_heads, causal)               # (B, T, D)
    loss, head = head_forward(hidden, w["table"], labels)             # ()
    return loss, (body, head)


def loss_backward(d_loss, cache):
    body, head = cache
    d_hidden, d_table = head_backward(d_loss, head)                   # (B, T, D), (V, D)
    d = gpt_backward(d_hidden, body)
    # STOP: d["table"] is so far only what the input gave
    d["table"] = d["table"] + d_table                                 # (V, D)  both uses
    return d


def new_gpt(V, T, D=64, n_blocks=2, seed=9):
    rng = np.random.default_rng(seed)

    def normal(size_in, size_out, scale=1.0):
        return scale * rng.normal(size=(size_in, size_out)) / np.sqrt(size_in)

    w = {"table": 0.1 * rng.normal(size=(V, D)), "places": 0.1 * rng.normal(size=(T, D))}
    for i in range(n_blocks):
        w |= {f"{i}.gain_1": np.ones(D), f"{i}.bias_1": np.zeros(D), f"{i}.W_qkv": normal(D, 3 * D),
              f"{i}.W_o": normal(D, D, 1 / np.sqrt(2 * n_blocks)),
              f"{i}.gain_2": np.ones(D), f"{i}.bias_2": np.zeros(D), f"{i}.W_1": normal(D, 4 * D),
              f"{i}.W_2": normal(4 * D, D, 1 / np.sqrt(2 * n_blocks))}
    w |= {"gain": np.ones(D), "bias": np.zeros(D)}
    return {name: value.astype(np.float32) for name, value in w.items()}

# %% [markdown]
# (What the blocks add to $x$ starts smaller, by $1 / \sqrt{2 \cdot \text{blocks}}$, as in GPT-2: $x$ is a sum of two
# such terms a block, and shall not grow with their number.)
#
# Is the whole backward right? The gradient check moves some numbers of every weight.

# %%
tiny = new_gpt(7, 5, D=8)
tiny_ids, tiny_labels = rng.integers(7, size=(2, 2, 4))               # (B, T) = (2, 4) each


def whole_forward(ids, labels, **w):
    return loss_forward(w, ids, labels, n_heads=2)


def whole_backward(d_loss, cache):
    d = loss_backward(d_loss, cache)
    return tuple(d[name] for name in tiny)


weights = {name: value + 0.3 * rng.normal(size=value.shape) for name, value in tiny.items()}
report = gradient_check(whole_forward, whole_backward, {"ids": tiny_ids, "labels": tiny_labels} | weights, rng=rng, max_entries=8)
print(report)
assert report.ok

# %% [markdown]
# ## Training
#
# The windows of a batch begin anywhere in the book. Adam with weight decay, warm-up and clipping are those of chapter 3;
# after the warm-up the rate falls along a line to a tenth. Before the first step the loss should be near
# $\log V = 4.26$, since the model knows nothing. (It is a little above: its scores are not all 0, but small random
# numbers.)

# %%
def adam_step(w, gradients, moments, step, rate):
    norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
    for name, g in gradients.items():
        g = g * min(1, 1 / norm)                                      # clipped at length 1
        m, v = moments.setdefault(name, (np.zeros_like(g), np.zeros_like(g)))
        m += 0.1 * (g - m)
        v += 0.02 * (g**2 - v)
        m_hat, v_hat = m / (1 - 0.9**(step + 1)), v / (1 - 0.98**(step + 1))
        w[name] -= rate * (m_hat / (np.sqrt(v_hat) + 1e-8) + 0.1 * w[name])


def train(w, stream, starts, T, steps, rate=8e-3, causal=True, seed=0):
    """Changes w; returns the loss of each step. starts: where windows may begin."""
    rng, moments, losses = np.random.default_rng(seed), {}, []
    for step in range(steps):
        ids, labels = windows(stream, rng.choice(starts, B), T)   # (B, T), (B, T)
        loss, cache = loss_forward(w, ids, labels, causal=causal)
        schedule = min(1, (step + 1) / 50) * (1 - 0.9 * step / steps)
        adam_step(w, loss_backward(1.0, cache), moments, step, rate * schedule)
        losses.append(loss)
    return np.array(losses)


def losses_by_place(w, stream, starts, T, causal=True):
    """The mean loss at each place of the windows (T,), 64 windows at a time."""
    total = np.zeros(T)                                               # (T,)
    for begin in range(0, len(starts), 64):
        ids, labels = windows(stream, starts[begin:begin + 64], T)    # (B, T), (B, T)
        p = softmax(gpt_forward(w, ids, causal=causal)[0] @ w["table"].T)       # (B, T, V)
        right = np.take_along_axis(p, labels[..., None], axis=-1)     # (B, T, 1)
        total += -np.log(right[..., 0]).sum(axis=0)
    return total / len(starts)


anywhere = np.arange(len(train_ids) - T)
test_starts = np.arange(0, len(held_out_ids) - T, 4 * T if FAST else T // 2)
model = new_gpt(V, T)
print(f"{sum(value.size for value in model.values()):,} weights")
began = time.perf_counter()
history = train(model, train_ids, anywhere, T, 70 if FAST else 950)
by_place = losses_by_place(model, held_out_ids, test_starts, T)       # (T,)
print(f"trained for {time.perf_counter() - began:.0f} s; first loss {history[0]:.2f}, "
      f"last ones {history[-50:].mean():.2f}")
print(f"on the end of the book: {by_place.mean():.3f} a character, perplexity {np.exp(by_place.mean()):.1f}; "
      f"bigrams {counted['bigrams']:.3f}, unigrams {counted['unigrams']:.3f}")

figure, (left, right) = new_figure(10, 3.4, 1, 2)
left.plot(np.convolve(history, np.ones(10) / 10, "valid"), label="GPT, training (means of 10 steps)")
left.set_ylim(None, 6)
for (label, loss), color in zip(counted.items(), ("lightgray", "silver", "gray")):
    left.axhline(loss, color=color, linestyle="--", label=label)
right.plot(by_place, "o-", markersize=3, label="GPT, end of the book")
right.axhline(counted["bigrams"], color="gray", linestyle="--", label="bigrams")
for axes, x in ((left, "step"), (right, "place in the window")):
    axes.set_xlabel(x)
    axes.set_ylabel("loss")
    axes.legend(loc="upper right", framealpha=1)
show(figure, "09_training")
assert round(np.log(V), 2) == 4.26 and 0 < history[0] - np.log(V) < 0.8
assert by_place.mean() < counted["unigrams"] if FAST else by_place.mean() < counted["bigrams"] - 0.4
if not FAST:
    assert by_place[0] > counted["bigrams"] and by_place[0] > by_place[1] + 0.3 > by_place[2] + 0.6
    assert abs(by_place[4:10].mean() - by_place[16:].mean()) < 0.15

# %% [markdown]
# The right picture shows where the gain comes from. At the first place of a window the model sees a single character.
# It cannot know more than bigrams do, and it is indeed no better. With the second and the third character it sees more,
# and its loss falls at once: **that is what attention adds**. Then the curve is flat. In these few seconds the model
# has learned to use the last few characters, and hardly anything beyond. Models that train longer, on more text, go on
# gaining with every place.
#
# ## Drawing the next token: temperature
#
# The model gives probabilities; which token do we write? Always the likeliest makes dull text that runs in circles. We
# draw. But how boldly? Divide the scores by a **temperature** $\tau$ before the softmax:
#
# $$ p_v(\tau) = \frac{e^{z_v / \tau}}{\sum_u e^{z_u / \tau}}, \qquad \frac{p_v(\tau)}{p_u(\tau)} = e^{(z_v - z_u)/\tau} = \left( \frac{p_v(1)}{p_u(1)} \right)^{1/\tau} $$
#
# $p_v(1)$ is the plain softmax. So **every ratio is raised to the power $1/\tau$**. For $\tau \to 0$ the likeliest
# token takes all, for $\tau \to \infty$ all become equal. By pencil and paper: $p = (\tfrac12, \tfrac14, \tfrac14)$
# with $\tau = \tfrac12$ is squared to $(\tfrac14, \tfrac1{16}, \tfrac1{16})$, and, divided by the sum $\tfrac38$, it is
# $(\tfrac23, \tfrac16, \tfrac16)$.
#
# Does a higher temperature always make the choice more open? The **entropy** $H = -\sum_v p_v \log p_v$ measures that
# (it is the logarithm of the number of tokens, if all are equally likely). With $\beta = 1/\tau$ and the number
# $Z = \sum_u e^{\beta z_u}$ (here $H$ and $Z$ are no matrices) we have $\log p_v = \beta z_v - \log Z$. Write
# $\langle z \rangle = \sum_v p_v z_v$ for the mean score. Line by line:
#
# $$ H = -\sum_v p_v (\beta z_v - \log Z) = \log Z - \beta \langle z \rangle \qquad \text{(the } p_v \text{ sum to 1)} $$
#
# $$ \frac{d \log Z}{d\beta} = \frac1Z \sum_v z_v e^{\beta z_v} = \langle z \rangle, \qquad
# \frac{dp_v}{d\beta} = p_v \frac{d \log p_v}{d\beta} = p_v (z_v - \langle z \rangle) $$
#
# $$ \frac{d \langle z \rangle}{d\beta} = \sum_v z_v\, p_v (z_v - \langle z \rangle) = \langle z^2 \rangle - \langle z \rangle^2 = \mathrm{Var}(z) $$
#
# $$ \frac{dH}{d\beta} = \langle z \rangle - \langle z \rangle - \beta\, \mathrm{Var}(z) = -\beta\, \mathrm{Var}(z), \qquad
# \frac{dH}{d\tau} = \frac{dH}{d\beta} \cdot \Big(-\frac1{\tau^2}\Big) = \frac{\mathrm{Var}(z)}{\tau^3} \ge 0 $$
#
# (The product rule: $\log Z$ gives $\langle z \rangle$, and $-\beta \langle z \rangle$ gives
# $-\langle z \rangle - \beta\, \mathrm{Var}(z)$.) A variance is never negative. So yes, always. Measured:

# %%
def entropy(p):
    return -(p * np.log(p)).sum()


z, tau, step = rng.normal(size=9), 0.7, 1e-5
p = softmax(z / tau)                                                  # (V,)
variance = (p * z**2).sum() - (p * z).sum()**2
measured = (entropy(softmax(z / (tau + step))) - entropy(softmax(z / (tau - step)))) / (2 * step)
print(f"dH/dtau: by the formula {variance / tau**3:.6f}, measured {measured:.6f}")
assert np.isclose(variance / tau**3, measured)
halved = softmax(np.log([1 / 2, 1 / 4, 1 / 4]) / 0.5)                 # (3,)
print("(1/2, 1/4, 1/4) at temperature 1/2:", halved.round(3))
assert np.allclose(halved, [2 / 3, 1 / 6, 1 / 6])

# %% [markdown]
# ## Cutting the tail: top-k and top-p
#
# Hundreds of unlikely tokens can together be likely. If 5 % of the probability is nonsense, a text of 100 tokens stays
# free of it with the probability $0.95^{100} = 0.6\,\%$. So one draws only among the best:
#
# - **top-k** (Fan et al. 2018): the $k$ likeliest tokens;
# - **top-p** (Holtzman et al. 2020): the likeliest tokens, until together they have at least the probability $p$. Where
#   the model is sure these are few, where it is not they are many.
#
# What is left is divided by its sum. By pencil and paper, with
# $(\tfrac12, \tfrac14, \tfrac18, \tfrac1{16}, \tfrac1{16})$ and top-p 0.8: the sums are $0.5, 0.75, 0.875$. The third
# token is needed to reach 0.8, so it stays: $(\tfrac47, \tfrac27, \tfrac17, 0, 0)$. In code: a token stays if what came
# **before** it is still less than $p$. So the first token always stays.
#
# With both limits a token must pass both; the sums for top-p are those of the distribution before top-k.

# %%
def filter_top(p, top_k=None, top_p=None):
    """The distribution p (V,) without its tail."""
    order = np.argsort(-p, kind="stable")                             # (V,)  likeliest first
    ranked = p[order]                                                 # (V,)
    before = ranked.cumsum() - ranked                                 # (V,)  the sum of all that are likelier
    keep = np.ones(len(p), bool)                                      # (V,)
    if top_k is not None:
        keep[top_k:] = False
    if top_p is not None:
        keep &= before < top_p
    kept = np.zeros_like(p)                                           # (V,)
    kept[order] = np.where(keep, ranked, 0)                           # back to the places where they were
    # STOP: look at order, before and keep
    return kept / kept.sum()


example = np.array([1 / 16, 1 / 2, 1 / 8, 1 / 4, 1 / 16])
print("top-p 0.8:", (filter_top(example, top_p=0.8) * 7).round(6), "/ 7")
print("top-k 2:  ", (filter_top(example, top_k=2) * 3).round(6), "/ 3")
print("both:     ", (filter_top(example, top_k=2, top_p=0.8) * 3).round(6), "/ 3")
assert np.allclose(filter_top(example, top_p=0.8) * 7, [0, 4, 1, 2, 0]) and round(0.95**100, 3) == 0.006

# %% [markdown]
# **To draw** from a distribution, lay the probabilities side by side from 0 to 1. The tokens are numbered from 0, and token
# $v$ gets the piece from $c_{v-1}$ to $c_v$, where $c_v = p_0 + \dots + p_v$ and $c_{-1} = 0$. Then throw one random number
# $u$, anywhere between 0 and 1 with equal chance, and see on which piece it falls. It falls on piece $v$ with the probability
# $c_v - c_{v-1} = p_v$, as it should. If it does, $c_0, \dots, c_{v-1}$ are at most $u$ and all later sums above it: the number
# of sums that are at most $u$ is $v$.

# %%
def draw(p, rng):
    """One token for each row of p (R, V) -> (R,)."""
    cumulative = p.cumsum(axis=-1)                                    # (R, V)
    u = rng.random((len(p), 1)) * cumulative[:, -1:]                  # (R, 1)  the last sum is 1, but for rounding
    return (cumulative <= u).sum(axis=-1)                             # (R,)


def choose(logits, rng, temperature=1.0, top_k=None, top_p=None):
    """The next token of each row of logits (R, V) -> (R,)."""
    if temperature == 0:
        return logits.argmax(axis=-1)                                 # (R,)
    p = softmax(logits.astype(np.float64) / temperature)              # (R, V)
    return draw(np.stack([filter_top(row, top_k, top_p) for row in p]), rng)


drawn = draw(np.tile(example, (40000, 1)), rng)                       # (40000,)
shares = np.bincount(drawn, minlength=5) / len(drawn)                 # (5,)
print("wanted", example, " drawn", shares.round(3))
assert np.abs(shares - example).max() < 0.01

prompt = "she w"
ids = np.array([[number[character] for character in prompt]])         # (1, T)
logits = gpt_forward(model, ids)[0][0, -1] @ model["table"].T         # (V,)
likely = np.argsort(-logits)[:14]                                     # (14,)
figure, panels = new_figure(11, 4.4, 2, 3)
ways = ((0.5, None, None), (1.0, None, None), (2.0, None, None), (1.0, 4, None), (1.0, None, 0.8), (0.7, None, 0.9))
for axes, (temperature, top_k, top_p) in zip(panels.flat, ways):
    p = filter_top(softmax(logits.astype(np.float64) / temperature), top_k, top_p)     # (V,)
    axes.bar(range(14), p[likely], color="C0" if top_k is None and top_p is None else "C1")
    axes.set_xticks(range(14), [alphabet[i].replace(" ", "_") for i in likely])
    cut = (f", top-k {top_k}" if top_k else "") + (f", top-p {top_p}" if top_p else "")
    axes.set_title(f"temperature {temperature}{cut}", fontsize=9)
    axes.set_ylim(0, 1)
for axes in panels[:, 0]:
    axes.set_ylabel("probability")
figure.suptitle(f'what comes after "{prompt}"? (the 14 likeliest characters)', fontsize=10)
show(figure, "09_drawing")

left_over = {}
for text in ("Alic", "said the "):
    ids = np.array([[number[character] for character in text]])       # (1, T)
    p = softmax(gpt_forward(model, ids)[0][0, -1] @ model["table"].T)  # (V,)
    left_over[text] = np.count_nonzero(filter_top(p, top_p=0.8))
    print(f"after {text!r} top-p 0.8 leaves {left_over[text]} of {V} characters")
assert left_over["Alic"] < left_over["said the "]

# %% [markdown]
# ## It writes
#
# Guess, append, and put the longer text through the model again. Several texts are written side by side, as rows of a
# batch. When the text is longer than the window, the model sees its last $T$ characters.
#
# How good is a sample? We count which share of its words occur in the book. (That says nothing about sense, but a
# character model must first learn to spell.)

# %%
def write(w, prompt, length, seed=0, rows=1, causal=True, **how):
    """Texts, ids (R, length), that begin with the ids prompt (T,). R is rows; how: what `choose` takes."""
    rng, ids = np.random.default_rng(seed), np.tile(prompt, (rows, 1))
    room = len(w["places"])
    while ids.shape[1] < length:
        hidden, _ = gpt_forward(w, ids[:, -room:], causal=causal)     # (R, T, D)
        following = choose(hidden[:, -1] @ w["table"].T, rng, **how)  # (R,)
        ids = np.concatenate([ids, following[:, None]], axis=1)       # (R, T + 1)
    return ids


words_of_the_book = set(re.findall("[A-Za-z]{2,}", train_text))          # of two letters or more


def known(texts):
    found = [word for text in texts for word in re.findall("[A-Za-z]{2,}", text)[:-1]]   # the last one may be cut
    return sum(word in words_of_the_book for word in found) / max(len(found), 1)


prompt = np.array([number[character] for character in "Alice "])      # (6,)
share = {}
for temperature, top_p in ((0, None), (0.5, None), (1.0, None), (1.0, 0.8), (2.0, None)):
    texts = write(model, prompt, 50 if FAST else 150, rows=6, temperature=temperature, top_p=top_p)      # (6, length)
    texts = [as_text(row) for row in texts]
    share[temperature, top_p] = known(texts)
    print(f"temperature {temperature}" + (f", top-p {top_p}" if top_p else ""),
          f"  {share[temperature, top_p]:.0%} of the words are in the book")
    assert temperature > 0 or len(set(texts)) == 1
    for text in texts[:1 if temperature == 0 else 2]:
        print("   ", text)
assert share[0.5, None] > share[2.0, None]
assert FAST or share[0.5, None] > share[1.0, 0.8] > share[1.0, None] > share[2.0, None] + 0.1

# %% [markdown]
# Cold text is spelled well and repeats itself; at temperature 0 all rows are the same, and soon run in a circle. Hot
# text falls apart. Between them one chooses by taste. Nothing here makes sense yet, and that is no surprise: the model
# has seen one short book, for seconds, letter by letter.
#
# ## The key-value cache
#
# `write` is wasteful. For each new character it puts the whole text through the model, and throws all places but the
# last away. What of it is really new?
#
# **Claim: what the model computes at place $s$ depends on the tokens $0 \dots s$ only.** Layer by layer:
#
# 1. At the input, $x^0_s = E_{\mathrm{ids}_s} + P_s$ depends on token $s$ alone.
# 2. Suppose that after $l$ blocks $x^l_s$ depends on tokens $0 \dots s$ only, for each $s$. Norm and products work on
#    each place alone, so this holds for $q_s, k_s, v_s$ too. Attention with the causal mask makes at place $s$ a sum
#    over the places $r \le s$, $\sum_{r \le s} p_{sr} v_r$, whose weights come from $q_s$ and $k_r$: again nothing
#    after $s$. The residual connection, the second norm and the feed-forward part are of each place alone. So
#    $x^{l+1}_s$ depends on tokens $0 \dots s$ only.
#
# By 1 and 2 it holds after every block, and the last norm and the head are of each place alone too. Hence a token that
# is appended at place $t$ changes **no key and no value of the past**, in any block. What does place $t$ need from the
# others? Only their keys and values; their queries have done their work. So we keep keys and values of each block, and
# put a **single token** through the model:
#
# $$ K \leftarrow \begin{pmatrix} K \\ k_t \end{pmatrix}, \qquad V \leftarrow \begin{pmatrix} V \\ v_t \end{pmatrix}, \qquad
# \mathrm{out}_t = \mathrm{softmax}\!\left( \frac{q_t K^\top}{\sqrt d} \right) V $$
#
# $q_t, k_t, v_t$ are rows, $K$ and $V$ are matrices with a row for each place (in the shapes V is still the number of tokens),
# and $d$ is the width of a head (the letter K in the shapes). No mask is needed: everything in the cache is past, or $t$ itself.

# %%
def attention_step(q, k, v, keys, values):
    """Attention of one new place. q, k, v: (B, H, 1, K); keys, values: (B, H, S, K), those of the S places of the past."""
    new_keys = np.concatenate([keys, k], axis=-2)                     # (B, H, S + 1, K)
    new_values = np.concatenate([values, v], axis=-2)                 # (B, H, S + 1, K)
    scores = q @ new_keys.swapaxes(-1, -2) / np.sqrt(q.shape[-1])     # (B, H, 1, S + 1)
    weights = softmax(scores)                                         # (B, H, 1, S + 1)
    out = weights @ new_values                                        # (B, H, 1, K)
    # STOP: new_keys and new_values are one place longer, and the rest of them is untouched
    return out, new_keys, new_values


def no_past(w, rows, n_heads=4):
    """An empty cache: for each block keys and values of no place."""
    D = w["table"].shape[1]
    nothing = np.zeros((rows, n_heads, 0, D // n_heads), w["table"].dtype)    # (B, H, 0, K)
    return [(nothing, nothing) for _ in blocks_of(w)]


def next_logits(w, tokens, past, n_heads=4):
    """One more token of each text, (B,) -> logits (B, V). past: (keys, values) of each block, brought up to date here."""
    place = past[0][0].shape[2]
    x = (w["table"][tokens] + w["places"][place])[:, None]            # (B, 1, D)
    for i, block in enumerate(blocks_of(w)):
        a, _ = layer_norm_forward(x, block["gain_1"], block["bias_1"])                       # (B, 1, D)
        q, k, v = (split_heads(part, n_heads) for part in np.split(a @ block["W_qkv"], 3, axis=-1))    # (B, H, 1, K)
        mixed, *past[i] = attention_step(q, k, v, *past[i])                                  # (B, H, 1, K)
        x = x + merge_heads(mixed) @ block["W_o"]                                            # (B, 1, D)
        c, _ = layer_norm_forward(x, block["gain_2"], block["bias_2"])                       # (B, 1, D)
        x = x + gelu_forward(c @ block["W_1"], approximate=True)[0] @ block["W_2"]           # (B, 1, D)
    hidden, _ = layer_norm_forward(x, w["gain"], w["bias"])           # (B, 1, D)
    return hidden[:, 0] @ w["table"].T                                # (B, V)


exact = {name: value.astype(np.float64) for name, value in model.items()}
ids, _ = windows(held_out_ids, np.array([100, 900, 1700]), T)         # (3, T)
at_once = gpt_forward(exact, ids)[0] @ exact["table"].T               # (3, T, V)
past = no_past(exact, 3)
one_by_one = np.stack([next_logits(exact, ids[:, t], past) for t in range(T)], axis=1)       # (3, T, V)
print("largest difference of the logits, all at once and one by one:", np.abs(at_once - one_by_one).max())
assert np.allclose(at_once, one_by_one, atol=1e-10)

# %% [markdown]
# ### How fast is it?
#
# Let the model have $L$ blocks of width $D$ (here $L$ is not the loss). A token passes $12 D^2 L$ weights (chapter 8), and
# looks at $t$ keys and $t$ values of width $D$ in each block, which takes $2\, t D L$ multiplications. Without the cache
# all $t$ tokens do so anew. Without the head, step $t$ costs about
#
# $$ \text{without the cache: } \; t \cdot 12 D^2 L + 2\, t^2 D L \qquad\qquad \text{with it: } \; 12 D^2 L + 2\, t D L $$
#
# multiplications: with the cache it is less by a factor of $t$. We measure it on a model with room for more tokens; the time does not depend on what
# the weights are.

# %%
room = 48 if FAST else 256
roomy = new_gpt(V, room)
random_ids = rng.integers(V, size=(1, room))                          # (1, T)
past, seconds = no_past(roomy, 1), {"with the cache": [], "without it": []}
for t in range(room):
    began = time.perf_counter()
    fast = next_logits(roomy, random_ids[:, t], past)                 # (1, V)
    middle = time.perf_counter()
    slow = gpt_forward(roomy, random_ids[:, :t + 1])[0][:, -1] @ roomy["table"].T            # (1, V)
    seconds["with the cache"].append(middle - began)
    seconds["without it"].append(time.perf_counter() - middle)
    assert np.allclose(fast, slow, atol=1e-3)
figure, axes = new_figure(6, 3.4)
for label, times in seconds.items():
    smooth = [1000 * np.median(times[max(0, t - 7):t + 1]) for t in range(room)]
    axes.plot(range(1, room + 1), smooth, label=label)
    print(f"{label:15} {room / sum(times):6.0f} tokens a second over {room} tokens, "
          f"{1 / np.median(times[-20:]):6.0f} at the end")
axes.set_xlabel("tokens so far")
axes.set_ylabel("milliseconds for the next token")
axes.set_ylim(0, None)
axes.legend(frameon=False)
show(figure, "09_cache")
assert FAST or np.median(seconds["without it"][-20:]) > 3 * np.median(seconds["with the cache"][-20:])
kept = sum(part.size for block in past for part in block)
print(f"the cache keeps {kept:,} numbers for {room} tokens, {kept // room} for each")
assert kept == room * 2 * 2 * 64                                      # 2 L D for each token, with L = 2 and D = 64
assert 2 * 12 * 768 * 2 * 1024 == 36_864 * 1024 == 37_748_736         # for a question below
assert np.log2([30, 5]).round(1).tolist() == [4.9, 2.3] and round(np.log2(30) / 4, 1) == 1.2      # and for another

# %% [markdown]
# With the cache the curve is nearly flat. What is left is mostly the time that Python and NumPy take for each call,
# however small; therefore the gain in this small model is less than $t$. The price is memory: $2 L D$ numbers for each
# token, a key and a value in each block. When the window is full, one drops the beginning of the text, and must fill the
# cache anew: each token that is left now has another place, so another learned position, and other keys and values.
#
# ## Break it: no mask
#
# Train the same model without the causal mask.

# %%
cheat = new_gpt(V, T)
cheated = train(cheat, train_ids, anywhere, T, 100 if FAST else 220, causal=False)
honest = losses_by_place(cheat, held_out_ids, test_starts, T).mean()
by_cheating = losses_by_place(cheat, held_out_ids, test_starts, T, causal=False)                 # (T,)
beside = history[:len(cheated)]                                       # (steps,)  with the mask, as many steps
print(f"training loss in the last 20 of {len(cheated)} steps: {cheated[-20:].mean():.3f} without the mask; with it after "
      f"{len(beside)} steps {beside[-20:].mean():.3f}")
print(f"on the end of the book: {by_cheating[-1]:.2f} at the last place, {by_cheating[:-1].mean():.3f} at the others")
print(f"the same weights, when the future is hidden: {honest:.2f}; who knows nothing has {np.log(V):.2f}")
texts = [as_text(row) for row in write(cheat, prompt, T, rows=6, causal=False)]
print("it writes:")
for text in texts[:3]:
    print("   ", text)
figure, axes = new_figure(6, 3.2)
axes.plot(beside, label="with the mask")
axes.plot(cheated, label="without it")
axes.set_xlabel("step")
axes.set_ylabel("training loss")
axes.set_ylim(0, None)
axes.legend(frameon=False)
show(figure, "09_no_mask")
assert honest > counted["unigrams"] and cheated[-20:].mean() < (beside[-20:].mean() if FAST else 0.2)
assert by_cheating[-1] > 2 and (FAST or by_cheating[:-1].mean() < 0.05)

# %% [markdown]
# The loss falls to almost nothing, and yet the model has learned nothing of use. The answer of place $t$ is the token
# that place $t + 1$ reads, so the model learned to look one place to the right. At the end of a text, where it has to
# write, there is nothing to the right. (What is left of the loss comes from the last place of the windows, the only one
# that sees no answer.) **A loss that is too good is a leak**, nearly always. (Without the mask there could be no cache
# either: each new token would change the vectors of all places before it, and with them their keys and values in every block
# but the first.)
#
# ## The same program in Chinese
#
# Nothing in the model knows English. Here are quatrains of the Tang dynasty, four lines of five characters each. Each
# window is one whole poem: it reads the line end before it, and guesses until the line end behind it.

# %%
poems = load_corpus("tang")                                           # many texts for training, many for validation
alphabet = sorted({character for part in poems for poem in part for character in poem} | {"\n"})
number = {character: i for i, character in enumerate(alphabet)}
tang_train, tang_held_out = (np.array([number[c] for c in "\n" + "\n".join(part) + "\n"]) for part in poems)     # (M,)
verse = len(poems.train[0]) + 1                                       # 20 characters, 4 marks, and the line end
assert verse == 25 and {len(poem) + 1 for part in poems for poem in part} == {verse}
tang = new_gpt(len(alphabet), verse)
print(f"{len(poems.train):,} poems, {len(alphabet):,} different characters; "
      f"{sum(value.size for value in tang.values()):,} weights, {tang['table'].size:,} of them in the table, "
      "which a model that is not tied would have twice")
train(tang, tang_train, np.arange(0, len(tang_train) - verse, verse), verse, 5 if FAST else 270)
poem_starts = np.arange(0, len(tang_held_out) - verse, 8 * verse if FAST else verse)
tang_place = losses_by_place(tang, tang_held_out, poem_starts, verse)    # (T,)
ids, labels = windows(tang_held_out, poem_starts, verse)              # (B, T), (B, T)
pairs = -np.log(bigrams(tang_train, len(alphabet), 300, ids, labels)).mean(axis=0)                       # (T,)
mark = np.isin(labels[0], [number[c] for c in "，。\n"])              # (T,)  the same places in each poem
for label, chosen in (("all places", mark | True), ("marks and line ends", mark), ("characters", ~mark)):
    print(f"{label:20} loss {tang_place[chosen].mean():.2f}, bigrams {pairs[chosen].mean():.2f}")
written = write(tang, np.array([number["\n"]]), verse, rows=10 if FAST else 50, temperature=0.8, top_p=0.9)
form = (np.isin(written[:, 1:], [number[c] for c in "，。\n"]) == mark[:-1]).all(axis=1).mean()
print(f"{form:.0%} of {len(written)} poems that it wrote have four lines of five characters. Some:")
for row in written[:4]:
    print("   ", as_text(row[1:]))
figure, axes = new_figure(7.5, 3.2)
axes.plot(pairs, "--", color="gray", label="bigrams")
axes.plot(tang_place, "o-", label="GPT")
axes.set_xlabel("place in the poem")
axes.set_ylabel("loss on new poems")
axes.legend(frameon=False, loc="lower left")
show(figure, "09_tang")
assert FAST or (form > 0.8 and tang_place[mark].mean() < 0.05 and tang_place[~mark].mean() < pairs[~mark].mean())

# %% [markdown]
# Be honest about it: the form is learned within seconds (the loss at marks falls to almost 0), and most of what the
# model gains on counting is that. At the characters themselves it is only a little better than bigrams (with $c = 300$,
# since pairs are rarer here than in English letters). With thousands of different characters, many of them seen a few
# times only, it needs more than a few seconds, and more poems. `tinymm train gpt --data tang` gives it minutes.
#
# ## Questions
#
# :::{dropdown} Labels that are not shifted, labels = ids: what would the model learn?
# To copy. The answer of place $t$ is what place $t$ reads, and the tied table even makes it easy: a row fits itself
# best. The loss falls to nothing, as without the mask.
# :::
#
# :::{dropdown} During training the model always reads the true text, also after a wrong guess. Why, and what is the catch?
# So all places can be computed at once (it is called teacher forcing). The catch: when it writes, it reads its own
# mistakes, which it never saw in training.
# :::
#
# :::{dropdown} GPT-2 has the perplexity 30 on some text, our character model 5. Is ours better?
# They guess other things: a token of GPT-2 has several characters. Comparable are bits a character: the loss of the
# whole text in bits, divided by its number of characters. If its tokens have four characters each, GPT-2 has
# $\log_2 30 / 4 = 1.2$ bits a character; ours has $\log_2 5 = 2.3$.
# :::
#
# :::{dropdown} A model has 12 blocks of width 768, and 2 bytes a number. How much memory does its cache take for 1,024 tokens?
# $2 \cdot 12 \cdot 768 \cdot 2 = 36{,}864$ bytes a token, so 37.7 MB for a text. A hundred readers at once need 3.8 GB:
# that is why later models share keys and values among heads.
# :::
#
# :::{dropdown} Why are old queries not kept?
# A query is used once, for the output of its own place. Later places ask with their own queries.
# :::
#
# :::{dropdown} top-k 1: which other setting does the same?
# Temperature 0: the likeliest token is the only one left.
# :::
#
# ## What you can now do
#
# You can build a language model and its whole backward from your own pieces, train it, measure it beside counting, let
# it write, and make that fast. Now do `lessons/09_gpt/exercises.py`, and run `tinymm check 9`. The library's model,
# with dropout, rotary positions and byte pairs, is `tinymm/models/gpt.py`; `tinymm train gpt` trains it.
#
# ## To read
#
# - Radford et al. 2019, *Language Models are Unsupervised Multitask Learners* (GPT-2). Bengio et al. 2003, *A Neural
#   Probabilistic Language Model*.
# - Press and Wolf 2017, *Using the Output Embedding to Improve Language Models*. Inan, Khosravi and Socher 2017, *Tying
#   Word Vectors and Word Classifiers*.
# - Fan, Lewis and Dauphin 2018, *Hierarchical Neural Story Generation* (top-k). Holtzman et al. 2020, *The Curious Case
#   of Neural Text Degeneration* (top-p).
