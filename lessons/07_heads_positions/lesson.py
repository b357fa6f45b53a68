# %% [markdown]
# # 7. Heads and positions
#
# **You will learn** how one attention becomes several that look at different things, and three ways to tell attention where a word stands: fixed
# waves, learned vectors, and rotations.
#
# **You need** chapter 1 (the linear layer) and chapter 6.
#
# **It takes** about two seconds to run, and less than 150 MB. The arrays are made up.
#
# ## One head looks at one thing
#
# The weights of a query sum to 1. A word that must look at its verb *and* at its subject can only mix the two. So attention is done several
# times side by side, each time with queries, keys and values of its own, of smaller width. Each is a **head** (Vaswani et al. 2017,
# section 3.2.2):
#
# $$ \mathrm{head}_h = \mathrm{Attention}(X W^Q_h,\; X W^K_h,\; X W^V_h), \qquad \mathrm{out} = [\mathrm{head}_1, \dots, \mathrm{head}_H]\; W^O $$
#
# $X$ holds the vectors of the words, one in each row, and queries, keys and values are all made from it: that is
# **self-attention**. The brackets put the heads side by side. The last matrix, $W^O$, mixes them.
#
# With model width $D$ and $H$ heads a head has width $K = D / H$ (the $d$ of chapter 6). The scores of $T$ words take
# $T^2 K$ products in a head, and $H T^2 K = T^2 D$ in all heads: as much as one head of full width.
#
# ## Heads are a reshape
#
# Nobody computes the heads one after the other. The $H$ matrices $W^Q_h$ (each $D \times K$) stand side by side in one
# $W^Q$ ($D \times D$). Its product has the queries of all heads in one row; a reshape cuts the row into heads, and a
# transpose brings the heads in front, where attention takes them along like a batch ($B$ texts of $T$ words):
#
# $$ (B, T, D) \to (B, T, H, K) \to (B, H, T, K) $$

# %%
import numpy as np

from tinymm import gradient_check
from tinymm.functional import attention_backward, attention_forward, sinusoidal_positions
from tinymm.learning.figures import new_figure, show

rng = np.random.default_rng(7)


def split_heads(x, n_heads):
    B, T, D = x.shape
    return x.reshape(B, T, n_heads, D // n_heads).transpose(0, 2, 1, 3)       # (B, H, T, K)


def merge_heads(x):
    B, H, T, K = x.shape
    return x.transpose(0, 2, 1, 3).reshape(B, T, H * K)                       # (B, T, D)


row = np.arange(6.0).reshape(1, 1, 6)                                         # (B, T, D) = (1, 1, 6)
print("one row", row[0, 0], "in two heads:", split_heads(row, 2)[0, :, 0])
assert (merge_heads(split_heads(row, 2)) == row).all()

# %% [markdown]
# **Break it.** Leave out the transpose, and reshape straight to $(B, H, T, K)$. The shape is right, but the numbers of different words are mixed:

# %%
words = np.repeat(np.array([[1.0], [2.0], [3.0]]), 4, axis=1)[None]           # (1, T, D): word t is full of t + 1
print("right: head 0 sees", split_heads(words, 2)[0, 0].tolist())
print("wrong: head 0 sees", words.reshape(1, 2, 3, 2)[0, 0].tolist())
assert (words.reshape(1, 2, 3, 2) != split_heads(words, 2)).any()

# %% [markdown]
# ## Forward and backward
#
# A reshape and a transpose only move numbers, so their backward moves the gradients back: the backward of `split_heads` is `merge_heads`, and the
# other way round. The rest is linear layers (chapter 1) and attention (chapter 6). One thing is new: $X$ is used **three** times, for queries, keys and
# values, so its gradient is the sum of three. Line by line, from the last to the first, with the marks F1 to F6 of the code:
#
# - **F6**, $\text{out} = M W^O$ with $M$ the merged heads: $\;dW^O = M^\top d\,\text{out}$, summed over all words of all
#   texts, and $dM = d\,\text{out}\; {W^O}^\top$.
# - **F5**, the merge: $dM$ is split into heads.
# - **F4**, attention: chapter 6, for all heads at once, gives the gradients of the queries, keys and values of each head.
# - **F3, F2, F1**: these three are merged, $(B, H, T, K) \to (B, T, D)$; call them $dQ, dK, dV$. Then $dW^Q = X^\top dQ$,
#   summed over all words of all texts, and $dW^K$, $dW^V$ likewise; and
#   $\;dX = dQ\, {W^Q}^\top + dK\, {W^K}^\top + dV\, {W^V}^\top$.

# %%
def multi_head_forward(x, W_q, W_k, W_v, W_o, n_heads):
    q = split_heads(x @ W_q, n_heads)                                         # (B, H, T, K)  F1
    k = split_heads(x @ W_k, n_heads)                                         # (B, H, T, K)  F2
    v = split_heads(x @ W_v, n_heads)                                         # (B, H, T, K)  F3
    mixed, attention = attention_forward(q, k, v)                             # (B, H, T, K)  F4
    merged = merge_heads(mixed)                                               # (B, T, D)     F5
    out = merged @ W_o                                                        # (B, T, D)     F6
    return out, (x, W_q, W_k, W_v, W_o, n_heads, attention, merged)


def multi_head_backward(d_out, cache):
    x, W_q, W_k, W_v, W_o, n_heads, attention, merged = cache

    def weight_gradient(inputs, d_outputs):
        return inputs.reshape(-1, inputs.shape[-1]).T @ d_outputs.reshape(-1, d_outputs.shape[-1])

    d_W_o = weight_gradient(merged, d_out)                                    # (D, D)        undoes F6
    d_merged = d_out @ W_o.T                                                  # (B, T, D)     undoes F6
    d_mixed = split_heads(d_merged, n_heads)                                  # (B, H, T, K)  undoes F5
    d_q, d_k, d_v = (merge_heads(d) for d in attention_backward(d_mixed, attention))   # (B, T, D) each  undoes F4
    # STOP: d_q, d_k and d_v have the shape of x again
    d_W_q, d_W_k, d_W_v = (weight_gradient(x, d) for d in (d_q, d_k, d_v))     # (D, D) each  undoes F1 to F3
    d_x = d_q @ W_q.T + d_k @ W_k.T + d_v @ W_v.T                             # (B, T, D)     x was used three times
    return d_x, d_W_q, d_W_k, d_W_v, d_W_o


B, T, D, H = 2, 3, 8, 2
inputs = {"x": rng.normal(size=(B, T, D))} | {name: rng.normal(size=(D, D)) / 2 for name in ("W_q", "W_k", "W_v", "W_o")}
report = gradient_check(lambda **given: multi_head_forward(**given, n_heads=H), multi_head_backward, inputs, rng=rng,
                        name="multi_head")
print(report)
assert report.ok

# %% [markdown]
# The long way is one head after the other, each with its own columns of the matrices. It gives the same, forward and backward:

# %%
x, W_q, W_k, W_v, W_o = inputs.values()
K, heads, caches = D // H, [], []
for h in range(H):
    own = slice(h * K, (h + 1) * K)                                           # the columns of head h
    head, cache = attention_forward(x @ W_q[:, own], x @ W_k[:, own], x @ W_v[:, own])     # (B, T, K)
    heads.append(head)
    caches.append(cache)
the_long_way = np.concatenate(heads, axis=-1) @ W_o                           # (B, T, D)
out, cache = multi_head_forward(**inputs, n_heads=H)
d_out = rng.normal(size=out.shape)
d_merged, d_x = d_out @ W_o.T, np.zeros_like(x)                               # (B, T, D) each
for h in range(H):
    own = slice(h * K, (h + 1) * K)
    d_q, d_k, d_v = attention_backward(d_merged[..., own], caches[h])         # (B, T, K) each
    d_x += d_q @ W_q[:, own].T + d_k @ W_k[:, own].T + d_v @ W_v[:, own].T
print("largest difference, forward and backward:", np.abs(the_long_way - out).max(), np.abs(d_x - multi_head_backward(d_out, cache)[0]).max())
assert np.allclose(the_long_way, out) and np.allclose(d_x, multi_head_backward(d_out, cache)[0])

# %% [markdown]
# ## Attention does not know the order
#
# Shuffle the words of a sentence: each word's output stays the same, only its place changes. Attention sees a set. "The dog bites the man" and "the man
# bites the dog" are the same to it.

# %%
x = inputs["x"]
order = [2, 0, 1]
out, _ = multi_head_forward(**inputs, n_heads=H)
shuffled, _ = multi_head_forward(**(inputs | {"x": x[:, order]}), n_heads=H)
print("shuffled in, shuffled out:", np.allclose(shuffled, out[:, order]))
assert np.allclose(shuffled, out[:, order])

# %% [markdown]
# ## Sinusoidal positions
#
# So we add to each word a vector that says where it stands. Vaswani et al. 2017 (section 3.5) take waves of many lengths, from short to long, like the
# hands of a clock:
#
# $$ P_{t, 2i} = \sin\!\left(t / 10000^{2i/D}\right), \qquad P_{t, 2i+1} = \cos\!\left(t / 10000^{2i/D}\right) $$
#
# Here $t = 0, 1, \dots$ is the position, and $i = 0, 1, \dots, D/2 - 1$ numbers the waves: entry $2i$ is a sine, entry
# $2i + 1$ the cosine of the same angle. There is nothing to learn, so the backward is trivial: in $y = x + P$ the $P$ is
# constant, and $dx = dy$.

# %%
def sinusoidal(T, D):
    t = np.arange(T)[:, None]                                                 # (T, 1)
    angle = t / 10000 ** (np.arange(0, D, 2) / D)                             # (T, D/2)
    positions = np.zeros((T, D))
    positions[:, 0::2] = np.sin(angle)
    positions[:, 1::2] = np.cos(angle)
    return positions                                                          # (T, D)


positions = sinusoidal(60, 32)
assert np.allclose(positions, sinusoidal_positions(60, 32), atol=1e-6)
figure, (left, right) = new_figure(9, 3, 1, 2)
left.imshow(positions.T, aspect="auto", cmap="RdBu_r")
left.set_xlabel("position t")
left.set_ylabel("entry")
right.plot(positions @ positions[30])
right.set_xlabel("position t")
right.set_ylabel("dot product")
right.set_title("likeness to position 30")
show(figure, "07_sinusoidal")
likeness = positions @ positions.T                                            # (T, T)
assert np.allclose(np.diag(likeness, 5), likeness[0, 5])
assert np.abs(positions[:, 24::2]).max() < 0.1 and positions[:, 25::2].min() > 0.99

# %% [markdown]
# In the left picture red is 1, white 0, and blue $-1$. The waves of the lower rows are so long that up to position 60 they have hardly
# begun: their sines are still near 0, and their cosines near 1. The right picture shows the likeness, the dot product, of each position and
# position 30. It depends only on their distance (the assertion tests it for distance 5):
# $\sin a \sin b + \cos a \cos b = \cos(a - b)$, for every wave.
#
# ## Learned positions
#
# These are simpler still: a table of $T_{max}$ vectors, trained like any weight. Row $t$ is added to word
# $t$ of every text, so its gradient is the sum over the texts; rows that no word used get 0. BERT and GPT-2 do so. There
# is no vector for a position beyond the table.

# %%
def learned_forward(x, table):
    return x + table[: x.shape[1]], table.shape                               # (B, T, D)


def learned_backward(d_out, cache):
    d_table = np.zeros(cache)                                                 # (T_max, D)
    d_table[: d_out.shape[1]] = d_out.sum(axis=0)                             # (T, D)        summed over the texts
    return d_out, d_table


report = gradient_check(learned_forward, learned_backward, {"x": rng.normal(size=(2, 3, 4)), "table": rng.normal(size=(5, 4))}, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# ## Rotary positions
#
# Su et al. 2021 turn instead of adding. Take the entries of a query two by two as points of a plane, and rotate the $i$-th point by the angle
# $t\,\theta_i$, $\theta_i = 10000^{-2i/K}$; the keys likewise. The $i$-th point has the entries $2i$ and $2i + 1$, and the positions $t$ count from 0.
#
# $$ \begin{pmatrix} y_{2i} \\ y_{2i+1} \end{pmatrix} = \begin{pmatrix} \cos t\theta_i & -\sin t\theta_i \\ \sin t\theta_i & \cos t\theta_i \end{pmatrix}
# \begin{pmatrix} x_{2i} \\ x_{2i+1} \end{pmatrix} $$
#
# Call this matrix $R_t$. A dot product of two rotated points depends only on the *difference* of their angles. Rotating
# back is the transpose, and rotations one after the other add their angles, so
#
# $$ (R_t\, q)^\top (R_s\, k) = q^\top R_t^\top R_s\, k = q^\top R_{s-t}\; k $$
#
# The score of a query at $t$ and a key at $s$ depends on $s - t$, and on nothing else about the positions.
#
# The backward: $y = R_t\, x$ is a product, so $dx = R_t^\top dy$, the rotation back by the angle $-t\,\theta_i$. Written out, with $a = t\,\theta_i$:
#
# $$ dx_{2i} = \cos a \; dy_{2i} + \sin a \; dy_{2i+1}, \qquad dx_{2i+1} = -\sin a \; dy_{2i} + \cos a \; dy_{2i+1} $$

# %%
def rotate(x, sign=1):
    T, K = x.shape[-2:]
    angle = sign * np.arange(T)[:, None] * 10000 ** (-np.arange(0, K, 2) / K) # (T, K/2)
    even, odd = x[..., 0::2], x[..., 1::2]                                    # (..., T, K/2) each
    out = np.empty_like(x)
    out[..., 0::2] = even * np.cos(angle) - odd * np.sin(angle)
    out[..., 1::2] = even * np.sin(angle) + odd * np.cos(angle)
    return out                                                                # (..., T, K)


def rotary_forward(x):
    return rotate(x), None


def rotary_backward(d_out, cache):
    # STOP: the gradient is turned back by the same angles
    return rotate(d_out, sign=-1)


report = gradient_check(rotary_forward, rotary_backward, {"x": rng.normal(size=(2, 5, 6))}, rng=rng)
print(report)
assert report.ok

# the long way: the matrix of position 3, block by block, and its transpose for the backward
x, d_y, R = rng.normal(size=(5, 6)), rng.normal(size=(5, 6)), np.zeros((6, 6))
for i in range(3):
    c, s = np.cos(3 * 10000 ** (-2 * i / 6)), np.sin(3 * 10000 ** (-2 * i / 6))
    R[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = [[c, -s], [s, c]]
assert np.allclose(R @ x[3], rotate(x)[3]) and np.allclose(R.T @ d_y[3], rotary_backward(d_y, None)[3])
query = np.tile(rng.normal(size=6), (20, 1))                                  # (T, K)  the same query at 20 places
key = np.tile(rng.normal(size=6), (20, 1))                                    # (T, K)  and the same key
scores = rotate(query) @ rotate(key).T                                        # (T, T)
print("scores at distance 3:", np.diag(scores, -3).round(6)[:4], "...")
assert np.allclose(np.diag(scores, -3), np.diag(scores, -3)[0]) and not np.isclose(scores[3, 0], scores[2, 0])

# %% [markdown]
# ## Do positions matter? An experiment
#
# A task that needs them: which word came *first*? The answer is the first of six tokens, drawn at random. One attention step with a query that asks for
# place 0, with and without positions added; a linear layer on the attended mean, found by least squares, names the word. The query is
# not learned: it is the position vector of place 0, ten times as large, and its score is the highest there.

# %%
tokens = rng.integers(4, size=(400, 6))                                       # (N, T)
table = 0.1 * rng.normal(size=(4, 16))
answer = np.eye(4)[tokens[:, 0]]                                              # (N, 4)
rights = {}
for label, added in (("without positions", np.zeros((6, 16))), ("with positions", 2 * sinusoidal(6, 16))):
    x = table[tokens] + added                                                 # (N, T, D)
    query = 10 * added[0][None, None]                                         # (1, 1, D): asks for place 0
    mixed, _ = attention_forward(np.broadcast_to(query, (400, 1, 16)), x, x)  # (N, 1, D)
    features = np.c_[mixed[:, 0], np.ones(400)]                               # (N, D + 1)
    solution, *_ = np.linalg.lstsq(features[:300], answer[:300], rcond=None)
    rights[label] = ((features[300:] @ solution).argmax(axis=1) == tokens[300:, 0]).mean()
    print(f"{label:18} {rights[label]:.0%} right")
assert rights["with positions"] > 0.95 and 0.25 < rights["without positions"] < 0.7

# %% [markdown]
# Without positions the query is 0, all weights are equal, and the output is the mean of the six words. It tells which words
# are there, and so does better than the 25 % of a blind guess among four words, but it cannot tell which came first.
#
# ## Questions
#
# :::{dropdown} $D = 512$ and 8 heads. How wide is a head, and by what are the scores divided?
# $K = 64$, and the scores are divided by $\sqrt{64} = 8$: by the width of a head, not of the model.
# :::
#
# :::{dropdown} Why is the backward of split_heads merge_heads?
# Both only move numbers to other places. The gradient of a number must come back to where the number came from.
# :::
#
# :::{dropdown} Rotary positions turn queries and keys, but not values. Why?
# The positions shall change who looks at whom, and that is decided by queries and keys. The values are the content.
# :::
#
# ## What you can now do
#
# You can build multi-head attention with its backward, say why it needs positions, and give it these in three ways. Now do the exercises in
# `lessons/07_heads_positions/exercises.py`, and run `tinymm check 7`.
#
# ## To read
#
# - Vaswani et al. 2017, sections 3.2.2 and 3.5. Su et al. 2021, *RoFormer*.
# - Voita et al. 2019, *Analyzing Multi-Head Self-Attention*: what heads do, and how many can be cut.
