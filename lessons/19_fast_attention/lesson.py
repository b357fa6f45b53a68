# %% [markdown]
# # 19. Fast attention
#
# **You will learn** where the time and the memory of attention go; the online softmax, which needs no second look at a row; attention one tile of
# keys at a time, forward and backward, without the table of weights; how to compile such loops; and what all this is worth, measured.
#
# **You need** attention and its backward (chapter 6), and the gradient check (chapter 1).
#
# **It takes** about 25 seconds on one processor, and up to 550 MB, most of it for the table that we shall get rid of. The first run also compiles
# the library's kernels, and takes half a minute longer. The arrays are made up.
#
# ## The picture
#
#     chapter 6                                  this chapter
#
#              keys                                       keys
#            +-------------------+                      +-----+ . . . . . . . +
#            |                   |                      |     |               .      a tile of scores comes,
#    queries |  T x S scores,    |              queries | tile|  ->  ->  ->   .      is used up, and is gone;
#            |  then T x S       |                      |     |               .      three sums for each query
#            |  weights          |                      |     |               .      stay
#            +-------------------+                      +-----+ . . . . . . . +
#
# The large thing in attention is its table of scores and weights, one number for each query and each key. For 4,096 tokens it has 16.8 million
# entries, for each head of each layer. But nobody wants the table. We want the output, which is as small as the queries. So let the keys pass by
# in **tiles**, a few at a time, and keep only sums.
#
# There is one obstacle: the softmax divides by the sum of a whole row, and subtracts the largest score of a whole row, and both are known only at
# the row's end. How to begin before the end is the idea of this chapter.

# %%
import math
import os
import time
import tracemalloc
from functools import partial

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")               # all competitors of this lesson get one thread
import numpy as np
from numba import njit

from tinymm import functional, gradient_check, kernels
from tinymm.learning.figures import new_figure, show
from tinymm.memory import keep_freed_memory

FAST = os.environ.get("TINYMM_FAST") == "1"
keep_freed_memory()                                              # so that we measure our own work, not the system's handing out of memory
kernels.set_thread_count(1)
rng = np.random.default_rng(19)


def seconds(call, turns=5):
    """Processor time of a call, the median of some turns. What other programs take meanwhile does not count."""
    times = []
    for _ in range(turns):
        began = time.process_time()
        call()
        times.append(time.process_time() - began)
    return float(np.median(times))

# %% [markdown]
# ## Where the time goes
#
# A processor does two things: it computes, and it moves numbers between the main memory and itself. How fast is each? For the first, multiply two
# large matrices. A product of $(a, b)$ and $(b, c)$ takes $2abc$ **operations** (a multiplication and an addition each). For the second, copy an
# array that is too large for the processor's own small memory, its cache (not to be confused with what a forward keeps for its backward). The
# bytes that are moved a second are the **memory bandwidth**.

# %%
side = 512 if FAST else 1024
square = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)    # (side, side)
source = np.ones(2**22 if FAST else 2**24, np.float32)
target = np.empty_like(source)
computing = 2 * side**3 / seconds(lambda: square @ square)                   # operations a second
moving = 2 * source.nbytes / seconds(lambda: np.copyto(target, source))      # bytes a second: each is read and written
print(f"matrix product: {computing / 1e9:.0f} billion operations a second;  copy: {moving / 1e9:.1f} billion bytes a second")
print(f"in the time of moving one byte: {computing / moving:.1f} operations")
del source, target

# %% [markdown]
# The last number tells the lines of a program apart. Divide the operations of a line by the bytes that it moves: that is its **arithmetic
# intensity**. If it is above this number, the line waits for the arithmetic; if it is below, it waits for the memory, and computing less would
# not make it faster (Williams et al. 2009, the roofline model).
#
# - $Q K^\top$ has $2TSd$ operations, and moves $4(Td + Sd + TS)$ bytes in float32, 4 bytes a number. If $T$ and $S$ are much larger than $d$, the
#   intensity is nearly $2TSd / 4TS = d / 2$: 32 for $d = 64$.
# - `scores - highest` reads 4 bytes for each operation and writes 4. The intensity is $1/8$.
#
# Here are the lines of chapter 6's forward, each with the share of the time that it takes. In brackets stands how often the line walks over the
# whole table, reading or writing: 12 times in all.

# %%
T = 512 if FAST else 2048
q, k, v = np.random.default_rng(0).standard_normal((3, T, 64), dtype=np.float32)     # (T, d) each: d = 64, S = T, V = d


def clocked(q, k, v):
    """The seconds of each line of chapter 6's forward."""
    times = [time.process_time()]

    def done(array):
        times.append(time.process_time())
        return array

    scores = done(q @ k.T)                                       # (T, S)
    scores = done(scores / math.sqrt(q.shape[-1]))               # (T, S)
    highest = done(scores.max(axis=-1, keepdims=True))           # (T, 1)
    shifted = done(scores - highest)                             # (T, S)
    exps = done(np.exp(shifted))                                 # (T, S)
    total = done(exps.sum(axis=-1, keepdims=True))               # (T, 1)
    weights = done(exps / total)                                 # (T, S)
    out = done(weights @ v)                                      # (T, V)
    # STOP: compare the sizes of scores, shifted, exps and weights with that of out
    return np.diff(times)                                        # (8,)


names, walks = ("q k^T", "/ sqrt(d)", "max", "- max", "exp", "sum", "/ sum", "weights v"), (1, 2, 1, 2, 2, 1, 2, 1)
times = np.median([clocked(q, k, v) for _ in range(7)], axis=0)  # (8,)
assert sum(walks) == 12 and 4096**2 == 16_777_216
figure, axes = new_figure(7, 3)
colors = ["tab:blue" if name in ("q k^T", "weights v") else "tab:green" if name == "exp" else "tab:orange" for name in names]
axes.barh([f"{name}  ({count})" for name, count in zip(names, walks)], 100 * times / times.sum(), color=colors)
axes.invert_yaxis()
axes.set_xlabel(f"share of the time, in percent (T = S = {T:,}, d = 64)")
show(figure, "19_lines")
for label, color in (("the two products", "tab:blue"), ("the exponentials", "tab:green"), ("everything else", "tab:orange")):
    print(f"{label:17} {sum(t for t, c in zip(times, colors) if c == color) / times.sum():4.0%} of {1e3 * times.sum():.1f} ms")

# %% [markdown]
# The products (blue) are what attention is about. An exponential (green) is a little program of its own. The orange lines hardly compute
# anything; they walk over the table. What they cost depends on the machine. A large GPU computes more than a hundred operations in the time of
# moving a byte. There, moving the table takes most of the time, and that is why tiles were brought into attention (Dao et al. 2022). A processor
# with slower arithmetic and a large cache loses less. But the memory is a problem everywhere: the backward needs `weights`, so each head of each
# layer keeps its table until then.
#
# ## The online softmax, with four numbers
#
# Take one query and four keys. The scores are $0, \ln 2, 0, \ln 4$, so their exponentials are $1, 2, 1, 4$, with the sum 8. The values are
# $8, 4, 0, 2$. The output is $(1 \cdot 8 + 2 \cdot 4 + 1 \cdot 0 + 4 \cdot 2) / 8 = 3$.
#
# Now the keys come one by one, and we may not look back. Keep three numbers: the largest score so far, $m$; the sum of the exponentials so far,
# $l$; and the sum of the exponentials times the values, $a$. All exponentials are those of the score **minus $m$**, so that nothing overflows
# (chapter 2). When a larger score comes, $m$ grows, and what was summed before was shifted by the wrong number. That is easily mended:
# $e^{s - m_{new}} = e^{s - m_{old}} \cdot e^{m_{old} - m_{new}}$, and the second factor is the same for all earlier keys. So multiply both sums
# by the **correction factor** $c = e^{m_{old} - m_{new}}$.
#
#     key   score   value       m      c      e^(score - m)    l                  a
#      1    0       8           0      0      1                1                  8
#      2    ln 2    4           ln 2   1/2    1                1/2 + 1   = 3/2    8/2 + 1*4   = 8
#      3    0       0           ln 2   1      1/2              3/2 + 1/2 = 2      8 + 1/2*0   = 8
#      4    ln 4    2           ln 4   1/2    1                2/2 + 1   = 2      8/2 + 1*2   = 6
#
# At the end $a / l = 6 / 2 = 3$. (At the beginning $m = -\infty$, so the first $c$ is $e^{-\infty} = 0$.)

# %%
def online(scores, values, corrected=True):
    """One query, its keys one by one: m, l and a after each of them."""
    m, l, a, states = -np.inf, 0.0, 0.0, []
    for score, value in zip(scores, values):
        new_m = max(m, score)
        correction = np.exp(m - new_m) if corrected else 1.0
        l = correction * l + np.exp(score - new_m)
        a = correction * a + np.exp(score - new_m) * value
        m = new_m
        # STOP: compare m, correction, l and a with the table above
        states.append((m, l, a))
    return np.array(states)                                      # (S, 3)


four_scores, four_values = np.log([1.0, 2, 1, 4]), np.array([8.0, 4, 0, 2])
states = online(four_scores, four_values)
print("m", states[:, 0].round(3), " l", states[:, 1], " a", states[:, 2], " output", states[-1, 2] / states[-1, 1])
assert np.allclose(states[:, 1], [1, 1.5, 2, 2]) and np.allclose(states[:, 2], [8, 8, 8, 6])

# %% [markdown]
# With thirty random keys: on the left the scores, and $m$, which climbs like a staircase. On the right the mean so far, $a / l$: it ends at the
# true output, the dashed line. The red line forgets the correction.

# %%
many_scores, many_values = np.random.default_rng(39).normal(size=(2, 30)) * [[2], [1]]         # (S,) each
exps = np.exp(many_scores)                                       # (S,)
truth, ends = (exps * many_values).sum() / exps.sum(), []
figure, (left, right) = new_figure(9, 3, 1, 2)
left.plot(many_scores, "o", markersize=4, label="score")
for corrected, label, style in ((True, "with the correction", "tab:blue"), (False, "without it", "tab:red")):
    states = online(many_scores, many_values, corrected)
    right.plot(states[:, 2] / states[:, 1], color=style, label=label)
    ends.append(states[-1, 2] / states[-1, 1])
left.step(range(30), states[:, 0], where="post", color="black", label="m")
right.axhline(truth, color="black", linestyle="--", linewidth=1, label="the true output")
right.set_ylabel("a / l")
for axes in (left, right):
    axes.set_xlabel("key")
    axes.legend(frameon=False)
show(figure, "19_online")
print(f"true {truth:.4f}, with the correction {ends[0]:.4f}, without it {ends[1]:.4f}")
assert np.isclose(ends[0], truth) and abs(ends[1] - truth) > 0.3

# %% [markdown]
# ## The equation, and why the order does not matter
#
# The same for a whole tile of $n$ keys, with scores $s_j$ and values $v_j$ (now vectors, so $a$ is a vector, too):
#
# $$ m' = \max\!\big(m, \max_j s_j\big), \qquad c = e^{m - m'}, \qquad l' = c\, l + \sum_j e^{s_j - m'}, \qquad
# a' = c\, a + \sum_j e^{s_j - m'} v_j $$
#
# (Milakov and Gimelshein 2018 for $m$ and $l$; Rabe and Staats 2021 and Dao et al. 2022 for attention.) **Claim:** after any tiles, with $J$ the
# set of all keys that have come,
#
# $$ m = \max_{j \in J} s_j, \qquad l = \sum_{j \in J} e^{s_j - m}, \qquad a = \sum_{j \in J} e^{s_j - m} v_j $$
#
# **Proof**, by induction. At the beginning $J$ is empty, the sums are 0, and $m$ is $-\infty$. If the claim holds before a tile, then
# $c\, l = \sum_{J} e^{s_j - m} e^{m - m'} = \sum_{J} e^{s_j - m'}$, which are the old terms under the new maximum; the tile adds its own. The
# same holds for $a$.
#
# On the right side of the claim stand a maximum and two sums over a *set*. They know nothing of an order, nor of how the keys were cut into
# tiles. So all orders and all cuts give the same, but for rounding. Two parts $A$ and $B$ of the keys can even be worked on apart, by two
# processors, and be **merged** at the end, by the same argument:
#
# $$ m = \max(m_A, m_B), \qquad l = e^{m_A - m}\, l_A + e^{m_B - m}\, l_B, \qquad a = e^{m_A - m}\, a_A + e^{m_B - m}\, a_B $$
#
# In code all $T$ queries take the step together, and $a$ is called `acc`, since it accumulates. One detail: a query that may see no key of the
# first tiles has only scores of $-\infty$, and $-\infty - (-\infty)$ is NaN. So $m$ begins with the **lowest finite number** instead: then
# $m - m' = 0$ and $c = 1$ while nothing is seen, $e^{-\infty - m'} = 0$, and the sums stay 0.

# %%
def online_step(m, l, acc, scores, values):
    new_m = np.maximum(m, scores.max(axis=-1, keepdims=True))    # (T, 1)
    correction = np.exp(m - new_m)                               # (T, 1)
    exps = np.exp(scores - new_m)                                # (T, n)
    new_l = correction * l + exps.sum(axis=-1, keepdims=True)    # (T, 1)
    new_acc = correction * acc + exps @ values                   # (T, V)
    return new_m, new_l, new_acc


def begin(T, V, dtype):
    """m, l and a before the first key."""
    return np.full((T, 1), np.finfo(dtype).min, dtype), np.zeros((T, 1), dtype), np.zeros((T, V), dtype)

# %% [markdown]
# ## Attention in tiles
#
# The forward is now a loop. What is kept has the size $T$; a tile has $T \cdot n$ entries, and $n$ does not grow with the text. At the end there
# is one division. A query that has seen no key at all has $l = 0$. It gets $m = 0$ and $l = 1$, so that its output is $0/1 = 0$, its weights are
# $e^{-\infty} / 1 = 0$, and the backward need not ask.
#
# The cache holds $m$ and $l$, two numbers for each query, where chapter 6 kept $S$ weights.
#
# (`math.sqrt` gives a number of Python. `np.sqrt(64)` gives a float64 of NumPy, and would turn all of float32 into float64.)

# %%
def tile_scores(q, k, tile, allowed):
    scores = q @ k[tile].T / math.sqrt(q.shape[-1])              # (T, n)  F1
    if allowed is not None:
        scores = np.where(allowed[:, tile], scores, -np.inf)     # (T, n)  F2
    return scores


def tiled_attention_forward(q, k, v, n, allowed=None):
    m, l, acc = begin(len(q), v.shape[-1], q.dtype)              # (T, 1), (T, 1), (T, V)
    for s0 in range(0, len(k), n):
        tile = slice(s0, s0 + n)                                 # the last tile may be shorter
        scores = tile_scores(q, k, tile, allowed)                # (T, n)
        m, l, acc = online_step(m, l, acc, scores, v[tile])      #         F3: e^(s - m), F4: their sum l, F5: the sum a
        # STOP: look at acc / l: the output as it would be if there were no more keys
    m, l = np.where(l > 0, m, 0), np.where(l > 0, l, 1)          # (T, 1) each
    out = acc / l                                                # (T, V)  F6
    return out, (q, k, v, n, allowed, out, m, l)


T, S, d, V = 5, 11, 4, 6
q, k, v = rng.normal(size=(T, d)), rng.normal(size=(S, d)), rng.normal(size=(S, V))
allowed = rng.random((T, S)) < 0.6                               # (T, S)
allowed[2] = False                                               # query 2 sees no key
allowed[3, :4] = False                                           # query 3 sees none of the first tile
expected, _ = functional.attention_forward(q, k, v, allowed)     # (T, V)
for n in (1, 4, 11, 100):
    out, cache = tiled_attention_forward(q, k, v, n, allowed)
    print(f"tiles of {n:3} keys: largest difference from chapter 6 {np.abs(out - expected).max():.0e}")
    assert np.allclose(out, expected, rtol=0, atol=1e-14) and not out[2].any()
order = rng.permutation(S)
out, _ = tiled_attention_forward(q, k[order], v[order], 4, allowed[:, order])
assert np.allclose(out, expected, rtol=0, atol=1e-14)            # any order of the keys

# %% [markdown]
# **Break it:** forget the correction factor. Then every key keeps the maximum of *its* time: $e^{s_j - m_{then}}$ instead of $e^{s_j - m}$. No
# NaN appears, and the output does not even look wrong. It is still a weighted mean with weights that sum to 1, because $l$ and $a$ have the same
# mistake. (With the four numbers: $14 / 3.5 = 4$ instead of 3.) But a key that came under an old, smaller maximum counts too much. When is the
# mistake invisible? When the largest score of every row comes in the first tile. Eight tiles of 32 keys, with scores of variance 1, but for one
# key whose score is 5; the numbers are the largest errors, relative to the largest output, when it stands in the first tile, in the second, and
# so on.

# %%
states = online(four_scores, four_values, corrected=False)
assert np.allclose(states[-1, 1:], [3.5, 14])
some_values, wrong_by = rng.normal(size=(256, 8)), []            # (S, V)
for place in range(8):
    scores = rng.normal(size=(50, 256))                          # (T, S)
    scores[:, 32 * place] = 5
    of_its_time = np.maximum.accumulate(scores.reshape(50, 8, 32).max(axis=-1), axis=-1)       # (T, 8)  m after each tile
    results = []
    for m in (scores.max(axis=-1, keepdims=True), np.repeat(of_its_time, 32, axis=-1)):        # (T, 1), (T, S)
        exps = np.exp(scores - m)                                # (T, S)
        results.append(exps @ some_values / exps.sum(axis=-1, keepdims=True))                  # (T, V)
    wrong_by.append(np.abs(results[1] - results[0]).max() / np.abs(results[0]).max())
print("error, the largest score in tile 1 to 8:", " ".join(f"{error:.2g}" for error in wrong_by))
assert wrong_by[0] < 1e-14 and min(wrong_by[1:]) > 0.1

# %% [markdown]
# A test of such code must therefore have several tiles, and scores that grow.
#
# ## The backward, the long way
#
# We know $dO$, the gradient of the output, and $m$ and $l$. The tiles are only another way to *compute*; the function is that of chapter 6. So we
# need not walk back through the corrections: for the gradient the claim above may stand in for the loop, and there $m$ is a constant (shifting a
# row changes nothing in the output, so $m$ gets no gradient). What is left to undo is, for one query,
#
# $$ \text{F6:}\;\; O = \frac{a}{l} \qquad \text{F5:}\;\; a = \sum_j e_j v_j \qquad \text{F4:}\;\; l = \sum_j e_j \qquad
# \text{F3:}\;\; e_j = e^{s_j - m} $$
#
# **F6:** $\; da = dO / l$, and $l$ divides every entry of $a$: $\; dl = -\sum_i dO_i\, a_i / l^2 = -(dO \cdot O) / l$.
#
# **F5 and F4:** $e_j$ acts through $a$ and through $l$: $\; de_j = da \cdot v_j + dl = (dO \cdot v_j - dO \cdot O) / l$.
#
# **F3:** $\; ds_j = de_j\, e_j$. With $p_j = e_j / l$ for the weight, and $dp_j = dO \cdot v_j$ for its gradient (as in chapter 6):
#
# $$ ds_j = p_j\, (dp_j - D), \qquad D = dO \cdot O $$
#
# Chapter 6 had the weighted mean $\sum_i p_i\, dp_i$ of the row in the place of $D$. They are equal, since the output is a mean, too:
#
# $$ \sum_i p_i\, dp_i = \sum_i p_i\, (dO \cdot v_i) = dO \cdot \sum_i p_i v_i = dO \cdot O $$
#
# That is what makes tiles possible in the backward. The sum on the left needs the whole row of $p$ and $dp$. The product on the right needs two
# short vectors, which we have (Dao et al. 2022). With the four numbers, and $dO = 1$: $dp = (8, 4, 0, 2)$, $D = 1 \cdot 3$, and
# $ds = (\tfrac18 \cdot 5, \tfrac28 \cdot 1, \tfrac18 \cdot (-3), \tfrac48 \cdot (-1)) = (0.625, 0.25, -0.375, -0.5)$, with the sum 0.

# %%
p = np.array([1, 2, 1, 4]) / 8                                   # (S,)
d_s = p * (four_values - 3)                                      # (S,)
assert d_s.tolist() == [0.625, 0.25, -0.375, -0.5] and d_s.sum() == 0

d_out = rng.normal(size=(T, V))
out, (*_, m, l) = tiled_attention_forward(q, k, v, 4, allowed)
exps = np.exp(tile_scores(q, k, slice(None), allowed) - m)       # (T, S)  all keys as one tile
acc = exps @ v                                                   # (T, V)
d_acc = d_out / l                                                # (T, V)  undoes F6
d_l = -(d_out * acc).sum(axis=-1, keepdims=True) / l**2          # (T, 1)  undoes F6
d_exps = d_acc @ v.T + d_l                                       # (T, S)  undoes F5 and F4
the_long_way = d_exps * exps                                     # (T, S)  undoes F3
weights, d_weights = exps / l, d_out @ v.T                       # (T, S) each
mean = (d_out * out).sum(axis=-1, keepdims=True)                 # (T, 1)  D
the_short_formula = weights * (d_weights - mean)                 # (T, S)
print("largest difference:", np.abs(the_long_way - the_short_formula).max())
assert np.allclose(the_long_way, the_short_formula, atol=1e-14)
assert np.allclose(mean, (weights * d_weights).sum(axis=-1, keepdims=True), atol=1e-14)        # chapter 6's mean

# %% [markdown]
# ## The backward in tiles
#
# In the code $D$ is called `mean`, as in chapter 6. The weights of a tile are computed once more, $p_j = e^{s_j - m} / l$, now with the final $m$
# and $l$: no correction is needed. Then everything is as in chapter 6, on one tile. The gradients of a tile's keys and values come from this tile
# alone. That of the queries gets a part from every tile, and they **add up**: `+=`.
#
# Count the products: $QK^\top$ again, $dP$, $dQ$, $dK$, $dV$. **Five** instead of four. That is the price: 7 products for forward and backward
# together instead of 6, one sixth more arithmetic, in exchange for the table.

# %%
def tiled_attention_backward(d_out, cache):
    q, k, v, n, allowed, out, m, l = cache
    d = q.shape[-1]
    mean = (d_out * out).sum(axis=-1, keepdims=True)             # (T, 1)  chapter 6's mean, without the row
    d_q, d_k, d_v = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v)
    for s0 in range(0, len(k), n):
        tile = slice(s0, s0 + n)
        scores = tile_scores(q, k, tile, allowed)                # (T, n)  F1 and F2, once more
        weights = np.exp(scores - m) / l                         # (T, n)  F3, once more, and the division
        # STOP: look at weights.sum(axis=-1): a tile has only its part of each row
        d_weights = d_out @ v[tile].T                            # (T, n)
        d_scores = weights * (d_weights - mean)                  # (T, n)  undoes F6 to F3
        d_q += d_scores @ k[tile] / math.sqrt(d)                 # (T, d)  undoes F1: every tile adds
        d_k[tile] += d_scores.T @ q / math.sqrt(d)               # (n, d)  undoes F1
        d_v[tile] += weights.T @ d_out                           # (n, V)  undoes F5 and F6
    return d_q, d_k, d_v


whole = functional.attention_backward(d_out, functional.attention_forward(q, k, v, allowed)[1])
for n in (1, 4, 11, 100):
    for mine, theirs in zip(tiled_attention_backward(d_out, tiled_attention_forward(q, k, v, n, allowed)[1]), whole):
        assert np.allclose(mine, theirs, rtol=0, atol=1e-13)
report = gradient_check(tiled_attention_forward, tiled_attention_backward, {"q": q, "k": k, "v": v, "n": 4, "allowed": allowed},
                        rng=rng, constants=("n", "allowed"))
print(report)
assert report.ok

# %% [markdown]
# ## What the maximum and the sum are good for
#
# **Rounding.** float32 has 24 binary digits. Does the online sum, which is corrected again and again, lose some of them? 4,096 scores for each of
# 50 queries, once as they come and once in rising order, where nearly every tile of 16 brings a new maximum. Beside it the softmax without a
# maximum. Then all scores are shifted by 100: that changes nothing in the weights. All errors are against float64, relative to the largest
# output.

# %%
def weighted_mean(scores, values, way):
    if way == "online":
        m, l, acc = begin(len(scores), values.shape[-1], scores.dtype)
        for s0 in range(0, len(values), 16):
            m, l, acc = online_step(m, l, acc, scores[:, s0:s0 + 16], values[s0:s0 + 16])
        return acc / l                                           # (T, V)
    exps = np.exp(scores - (scores.max(axis=-1, keepdims=True) if way == "with the maximum" else 0))         # (T, S)
    return exps @ values / exps.sum(axis=-1, keepdims=True)      # (T, V)


ways, errors = ("no maximum", "with the maximum", "online"), {}
base, values = 3 * rng.normal(size=(50, 4096)), rng.normal(size=(4096, 8))           # (T, S), (S, V)
for label, scores in (("as they come", base), ("in rising order", np.sort(base)), ("shifted by 100", base + 100)):
    scores, values_32 = scores.astype(np.float32), values.astype(np.float32)
    exact = weighted_mean(scores.astype(np.float64), values_32.astype(np.float64), "with the maximum")       # (T, V)
    with np.errstate(all="ignore"):
        errors[label] = [np.abs(weighted_mean(scores, values_32, way) - exact).max() / np.abs(exact).max() for way in ways]
    print(f"{label:16}", "   ".join(f"{way} {error:.0e}" for way, error in zip(ways, errors[label])))
assert all(error < 5e-6 for row in errors.values() for error in row[1:])
assert max(errors["as they come"]) < 5e-6 and np.isnan(errors["shifted by 100"][0])

# %% [markdown]
# The online sum is as exact as the softmax of the whole row; hundreds of corrections do no harm. Without a maximum $e^{100}$ overflows in
# float32, and $\infty / \infty$ is NaN.
#
# **Two numbers or one?** Instead of $m$ and $l$ many programs save a single number, the **log-sum-exp** $L = m + \ln l$, from which
# $p_j = e^{s_j - L}$. On paper it is the same. **Break it:** let the scores lie near $2^{20}$, about a million. With 24 digits, neighbouring
# numbers in float32 then have a distance of $2^{-3} = 0.125$. The scores themselves are rounded so, but they are what is given; $m$ is one of
# them, and $s_j - m$ is exact. The sum $m + \ln l$, however, is rounded to a multiple of $0.125$, so it is off by up to $0.0625$, and all weights
# of a row by up to $e^{0.0625} - 1 = 6.4$ percent.

# %%
large = (2.0**20 + rng.normal(size=(200, 64))).astype(np.float32)                    # (T, S)
m, l, _ = online_step(*begin(200, 1, np.float32), large, np.zeros((64, 1), np.float32))
two_numbers = (np.exp(large - m) / l).sum(axis=-1)               # (T,)  the sum of the weights of each row
one_number = np.exp(large - (m + np.log(l))).sum(axis=-1)        # (T,)
print(f"sum of the weights, from m and l: {two_numbers.min():.6f} to {two_numbers.max():.6f}, "
      f"from L: {one_number.min():.3f} to {one_number.max():.3f}")
assert np.spacing(np.float32(2**20)) == 0.125 and f"{100 * math.expm1(0.0625):.1f}" == "6.4"
assert np.abs(two_numbers - 1).max() < 1e-5 and 0.03 < np.abs(one_number - 1).max() < 0.065

# %% [markdown]
# For scores of an ordinary size one number is good enough. This library keeps two, so that a shift of all scores stays harmless.
#
# ## Masks, and tiles that need no work
#
# In a language model query $t$ sees the keys up to $t + S - T$: with $T = S$ itself and the past, with $T < S$ also all that was read before. Cut
# the queries into blocks as well, and look at a block $t_0 \dots t_1 - 1$ and a tile $s_0 \dots s_1 - 1$. Two corners of it decide:
#
# - If even the **last query** does not see the **first key**, $s_0 > t_1 - 1 + S - T$, the block sees nothing of the tile. It is skipped.
# - If already the **first query** sees the **last key**, $s_1 - 1 \le t_0 + S - T$, everything is seen, and no mask is needed.
# - Only the tiles in between, along the diagonal, need a mask, and it follows from the places alone. No table of True and False is ever made.
#
# The picture is drawn from a full mask, cut into tiles; the corners give the same, which is exercise 5.

# %%
length, block = 512, 64
whole_mask = np.tril(np.ones((length, length), bool))            # (T, S)
cut = whole_mask.reshape(length // block, block, length // block, block)             # (blocks, block, tiles, block)
kinds = cut.any(axis=(1, 3)).astype(int) + cut.all(axis=(1, 3))  # (blocks, tiles)  0 nothing, 1 something, 2 everything
figure, axes = new_figure(3.6, 3.4)
axes.imshow(kinds, cmap="Blues", vmin=0, vmax=3)
for (row, column), kind in np.ndenumerate(kinds):
    axes.text(column, row, ("", "mask", "all")[kind], ha="center", va="center", fontsize=8)
axes.set_xlabel("tile of 64 keys")
axes.set_ylabel("block of 64 queries")
show(figure, "19_tiles")
share = (kinds > 0).mean()
print(f"{(kinds > 0).sum()} of {kinds.size} tiles are computed ({share:.0%}), {(kinds == 1).sum()} of them with a mask")
assert (kinds > 0).sum() == 8 * 9 / 2 and (kinds == 1).sum() == 8

# %% [markdown]
# With $b$ blocks $b (b + 1) / 2$ of $b^2$ tiles are left, and for long texts that is half. Chapter 6 computes all scores, and then throws half of
# them away.
#
# ## The loops, compiled
#
# In NumPy each line of a tile is a call, and each walks over the tile. A compiled loop can do better: with **64 queries and 64 keys** at a time,
# a tile has 16 kB in float32, and stays in the fastest cache from its first use to its last. **numba** compiles functions of Python to machine
# code when they are first called with arguments of new types; such a compiler is called a **just-in-time compiler**. We write plain loops, and
# give its decorator `njit` two options: a product and a sum may be one instruction (`contract`), and a division by 0 is `inf` or NaN, as in
# NumPy. We do not allow it to assume that there are no infinities, as the common `fastmath=True` would: our masked scores are $-\infty$.
#
# The loops are ordered so that the *innermost* one always runs over the 64 queries, which lie side by side in memory. The compiler then takes 4,
# 8 or 16 of them in one instruction. That is why a tile is stored with a row for each key: `scores[s, t]`. All seven products of forward and
# backward become the same function:

# %%
ROWS, KEYS = 64, 64                                              # queries of a block, keys of a tile
LOWEST = np.finfo(np.float32).min
options = {"fastmath": {"contract"}, "error_model": "numpy"}


@njit(**options)
def add_product(out, left, right):
    """out (n, m) += left (n, k) @ right (k, m)"""
    for i in range(out.shape[0]):
        for j in range(left.shape[1]):
            for t in range(out.shape[1]):
                out[i, t] += left[i, j] * right[j, t]


@njit(**options)
def load_block(block, block_t, x, t0, factor):
    """block (ROWS, d) = factor times the rows t0 ... of x, zeros behind the last row; block_t is its transpose."""
    for t in range(block.shape[0]):
        for i in range(block.shape[1]):
            block[t, i] = x[t0 + t, i] * factor if t0 + t < x.shape[0] else 0
            block_t[i, t] = block[t, i]


@njit(**options)
def score_tile(scores, keys, q_t, ahead):
    """scores (n, ROWS) = keys q_t, and -inf where s > t + ahead: the query in column t does not see the key in row s."""
    for s in range(scores.shape[0]):
        for t in range(scores.shape[1]):
            scores[s, t] = 0 if s <= t + ahead else -np.inf      # -inf stays -inf, whatever is added
    add_product(scores, keys, q_t)


@njit(**options)
def softmax_step(scores, m, l, correction):
    """online_step without new_acc; m and l become the new ones, scores the exponentials. m, l, correction: (ROWS,)."""
    for t in range(m.shape[0]):
        correction[t] = m[t]
    for s in range(scores.shape[0]):
        for t in range(m.shape[0]):
            m[t] = max(m[t], scores[s, t])
    for t in range(m.shape[0]):
        correction[t] = math.exp(correction[t] - m[t])
        l[t] *= correction[t]
    for s in range(scores.shape[0]):
        for t in range(m.shape[0]):
            scores[s, t] = math.exp(scores[s, t] - m[t])
            l[t] += scores[s, t]


@njit(**options)
def forward_kernel(q, k, v, causal, scale, out, m, l):
    T, S, d, V, v_t = q.shape[0], k.shape[0], q.shape[1], v.shape[1], v.T
    block, q_t = np.empty((ROWS, d), q.dtype), np.empty((d, ROWS), q.dtype)
    scores, acc, correction = np.empty((KEYS, ROWS), q.dtype), np.empty((V, ROWS), q.dtype), np.empty(ROWS, q.dtype)
    for t0 in range(0, T, ROWS):
        load_block(block, q_t, q, t0, scale)
        m_block, l_block = m[t0:t0 + ROWS], l[t0:t0 + ROWS]
        for t in range(ROWS):
            m_block[t], l_block[t] = LOWEST, 0
            for i in range(V):
                acc[i, t] = 0
        seen = min(S, t0 + ROWS + S - T) if causal else S        # the tiles behind it are skipped
        for s0 in range(0, seen, KEYS):
            s1 = min(s0 + KEYS, seen)
            tile = scores[:s1 - s0]                              # (n, ROWS)
            score_tile(tile, k[s0:s1], q_t, t0 + S - T - s0 if causal else S)
            softmax_step(tile, m_block, l_block, correction)
            for i in range(V):
                for t in range(ROWS):
                    acc[i, t] *= correction[t]
            add_product(acc, v_t[:, s0:s1], tile)                # (V, ROWS)
        for t in range(min(ROWS, T - t0)):
            if l_block[t] == 0:
                l_block[t] = 1
            for i in range(V):
                out[t0 + t, i] = acc[i, t] / l_block[t]

# %% [markdown]
# The backward goes through the same blocks and tiles. Now a tile of keys meets *several blocks of queries*, one after the other, so `d_k` and
# `d_v` get a part from each of them: `add_product` adds.

# %%
@njit(**options)
def softmax_gradient(weights, d_weights, m, l, mean):
    """scores become the weights, and d_weights become d_scores."""
    for s in range(weights.shape[0]):
        for t in range(weights.shape[1]):
            weights[s, t] = math.exp(weights[s, t] - m[t]) / l[t]
            d_weights[s, t] = weights[s, t] * (d_weights[s, t] - mean[t])


@njit(**options)
def backward_kernel(q, k, v, causal, scale, out, m, l, d_out, d_q, d_k, d_v):
    T, S, d, V, k_t = q.shape[0], k.shape[0], q.shape[1], v.shape[1], k.T
    block, q_t = np.empty((ROWS, d), q.dtype), np.empty((d, ROWS), q.dtype)
    d_block, d_out_t = np.empty((ROWS, V), q.dtype), np.empty((V, ROWS), q.dtype)
    weights, d_scores = np.empty((KEYS, ROWS), q.dtype), np.empty((KEYS, ROWS), q.dtype)
    d_q_t, mean = np.empty((d, ROWS), q.dtype), np.empty(ROWS, q.dtype)
    for t0 in range(0, T, ROWS):
        load_block(block, q_t, q, t0, scale)
        load_block(d_block, d_out_t, d_out, t0, np.float32(1))
        for t in range(ROWS):
            mean[t] = 0
            for i in range(V):
                mean[t] += d_block[t, i] * out[min(t0 + t, T - 1), i]        # behind the last query d_block is 0
            for i in range(d):
                d_q_t[i, t] = 0
        seen = min(S, t0 + ROWS + S - T) if causal else S
        for s0 in range(0, seen, KEYS):
            s1 = min(s0 + KEYS, seen)
            p, d_s = weights[:s1 - s0], d_scores[:s1 - s0]       # (n, ROWS) each
            score_tile(p, k[s0:s1], q_t, t0 + S - T - s0 if causal else S)
            score_tile(d_s, v[s0:s1], d_out_t, S)                #          d_weights = v d_out^T, with nothing hidden
            softmax_gradient(p, d_s, m[t0:t0 + ROWS], l[t0:t0 + ROWS], mean)
            add_product(d_v[s0:s1], p, d_block)                  # (n, V)
            add_product(d_k[s0:s1], d_s, block)                  # (n, d)   block holds q / sqrt(d)
            add_product(d_q_t, k_t[:, s0:s1], d_s)               # (d, ROWS)
        for t in range(min(ROWS, T - t0)):
            for i in range(d):
                d_q[t0 + t, i] = d_q_t[i, t] * scale


def own_forward(q, k, v, causal=False):
    T, scale = len(q), np.float32(1 / math.sqrt(q.shape[-1]))
    out = np.empty((T, v.shape[-1]), np.float32)                 # (T, V)
    m, l = np.ones((2, -(-T // ROWS) * ROWS), np.float32)        # (T,) each, rounded up to whole blocks
    forward_kernel(q, k, v, causal, scale, out, m, l)
    return out, (q, k, v, causal, scale, out, m, l)


def own_backward(d_out, cache):
    q, k, v = cache[:3]
    d_q, d_k, d_v = np.empty_like(q), np.zeros_like(k), np.zeros_like(v)
    backward_kernel(*cache, d_out, d_q, d_k, d_v)
    return d_q, d_k, d_v


def draw(T, S, d, V):
    return [rng.standard_normal(shape, dtype=np.float32) for shape in ((T, d), (S, d), (S, V), (T, V))]


q, k, v, d_out = draw(70, 130, 16, 24)
# STOP: run with NUMBA_DISABLE_JIT=1, and step into forward_kernel: it is plain Python then
began = time.process_time()
out, cache = own_forward(q, k, v)
own_backward(d_out, cache)
compiled_in = time.process_time() - began
began = time.process_time()
own_backward(d_out, own_forward(q, k, v)[1])
print(f"first call, with the compiling: {compiled_in:.1f} s, second call: {1e3 * (time.process_time() - began):.2f} ms")

for T, S in ((70, 130), (130, 70), (100, 100)):
    for causal in (False, True):
        q, k, v, d_out = draw(T, S, 16, 24)
        out, cache = own_forward(q, k, v, causal)
        exact, exact_cache = functional.attention_forward(*(x.astype(np.float64) for x in (q, k, v)), causal=causal)
        exact = exact, *functional.attention_backward(d_out.astype(np.float64), exact_cache)
        for mine, theirs in zip((out, *own_backward(d_out, cache)), exact):
            assert np.allclose(mine, theirs, rtol=0, atol=5e-6 * np.abs(theirs).max())
        if causal and T > S:
            assert not out[:T - S].any()                         # the first queries see no key

# %% [markdown]
# It agrees with chapter 6 to within float32, for all sizes, also for queries that see no key.
#
# ## Measured
#
# All in one run, in turn, with one thread each, forward and backward together, one head of width 64, float32, without a mask. What the library
# adds to our loops: *tinymm readable* (`tinymm/kernels/`) has the same blocks and tiles, with loops that use each loaded number four times, and
# an exponential that the compiler can vectorise; *tinymm fast* holds its sums in the processor's registers through a whole product. Both keep
# their machine code on the disk, so that only the first run compiles. (The small run, with `TINYMM_FAST=1`, leaves them out.)

# %%
def numpy_tiled(q, k, v):
    return tiled_attention_forward(q, k, v, 128)


ways = {"chapter 6": (functional.attention_forward, functional.attention_backward), "tiles in NumPy": (numpy_tiled, tiled_attention_backward),
        "own kernel": (own_forward, own_backward)}
if not FAST:
    ways |= {"tinymm readable": (kernels.readable_attention_forward, kernels.readable_attention_backward),
             "tinymm fast": (kernels.attention_forward, kernels.attention_backward)}
lengths = (64, 128, 256) if FAST else (256, 512, 1024, 2048, 4096)


def in_turn(ways, length, turns):
    """The median seconds of each way, forward and backward."""
    q, k, v, d_out = draw(length, length, 64, 64)
    taken = {name: [] for name in ways}
    for turn in range(turns + 1):                                # the first one only gets warm
        for name, (forward, backward) in ways.items():
            began = time.process_time()
            backward(d_out, forward(q, k, v)[1])
            taken[name] += [time.process_time() - began] * (turn > 0)
    return {name: float(np.median(times)) for name, times in taken.items()}


measured = {length: in_turn(ways, length, 3 if length > 2000 else 7) for length in lengths}
print("milliseconds     " + "".join(f"{f'T = {length:,}':>12}" for length in lengths) + f"   time / chapter 6, T = {lengths[-1]:,}")
for name in ways:
    print(f"{name:17}" + "".join(f"{1e3 * measured[length][name]:12.2f}" for length in lengths)
          + f"{measured[lengths[-1]][name] / measured[lengths[-1]]['chapter 6']:12.2f}")

# %% [markdown]
# Memory next: the highest point of what NumPy allocates during a forward and backward, without the output and the gradients themselves.
# (`tracemalloc` sees the arrays that Python makes, but not those that compiled code makes within. Those of our kernel are counted by hand: seven
# blocks of 64 x 64 numbers or less, whatever the length.)

# %%
def extra_bytes(forward, backward, length):
    q, k, v, d_out = draw(length, length, 64, 64)
    tracemalloc.start()
    out, cache = forward(q, k, v)
    gradients = backward(d_out, cache)
    highest = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return highest - out.nbytes - sum(gradient.nbytes for gradient in gradients)


BLOCKS = 7 * 64 * 64 * 4 + 2 * 64 * 4                            # bytes
assert (2 * 8 * 4096 * 4, 8 * 4096 * 64 * 4, 8 * 4096**2 * 4) == (262_144, 8_388_608, 536_870_912)      # see the questions
memory = {name: [extra_bytes(*ways[name], length) + BLOCKS * (name == "own kernel") for length in lengths] for name in list(ways)[:3]}
for name, bytes_ in memory.items():
    print(f"{name:17}" + "".join(f"{one / 1e6:9.2f} MB" for one in bytes_))
assert memory["chapter 6"][-1] > 2 * 4 * lengths[-1]**2         # more than two tables of float32
if not FAST:
    assert memory["chapter 6"][-1] > 3.5 * memory["chapter 6"][-2]
    assert all(memory[name][-1] < 2.3 * memory[name][-2] for name in ("tiles in NumPy", "own kernel"))

figure, (left, right) = new_figure(9.5, 3.6, 1, 2)
for name in ways:
    left.plot(lengths, [1e3 * measured[length][name] for length in lengths], "o-", markersize=4, label=name)
for name, bytes_ in memory.items():
    right.plot(lengths, np.array(bytes_) / 1e6, "o-", markersize=4, label=name)
for axes, label in ((left, "milliseconds"), (right, "extra memory, MB")):
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(lengths, [f"{length:,}" for length in lengths])
    axes.set_xlabel("T = S")
    axes.set_ylabel(label)
    axes.legend(frameon=False, fontsize=8)
show(figure, "19_measured")

# %% [markdown]
# On logarithmic axes a power of $T$ is a straight line, and its slope is the power. **Memory:** chapter 6 has the slope 2. Tiles of all queries
# have the slope 1. Our kernel is nearly flat: it adds two numbers for each query to its blocks. **Time:** all have the slope 2 where the texts
# are long, since all compute $T^2$ scores; they differ by a factor.
#
# Be honest about the factors. Tiles in NumPy save the memory, but hardly any time: each tile is still walked over line by line, and the backward
# has a fifth product. Our own loops touch a tile while it is in the cache, but their matrix products are much slower than those behind NumPy's
# `@`, on which people have worked for decades: the innermost loop loads and stores a number of `out` for every single product. So our kernel may
# well lose to chapter 6. (Try it: take four terms $j$ in one line of `add_product`, and measure again.) The fast kernel has both, tiles and
# products that keep up. An algorithm that moves less is only as fast as the arithmetic inside.
#
# With the **causal** mask the skipped tiles come in. Each program with the mask, divided by the same one without:

# %%
pairs = {}
for name, (forward, backward) in ways.items():
    if name != "tiles in NumPy":
        pairs |= {name: (forward, backward), name + " causal": (partial(forward, causal=True), backward)}
halved = in_turn(pairs, lengths[-2], 7)
print(f"T = {lengths[-2]:,}:  " + ",  ".join(f"{name} {halved[name + ' causal'] / halved[name]:.2f}" for name in ways if name in pairs))

# %% [markdown]
# The kernels skip nearly half of the work; chapter 6 computes all scores first. The times for many heads and more threads, and beside PyTorch,
# are in the README of the project, and `tinymm bench attention` measures them on your machine. In models, `backend="numba"` takes the fast
# kernel.
#
# ## Questions
#
# :::{dropdown} Why is the correction factor never larger than 1?
# The maximum only grows, so $m_{old} - m_{new} \le 0$. Nothing that was summed can overflow. It can become 0, if the old scores are much smaller
# than the new one; but then their weights are 0 in float32 anyway.
# :::
#
# :::{dropdown} What must be kept for the backward? How much is it for 4,096 tokens, 8 heads of width 64, in float32?
# The inputs $Q$, $K$, $V$, the output, and two numbers for each query and head. The two numbers take $2 \cdot 8 \cdot 4096 \cdot 4$ bytes, 262
# kB; the output takes 8.4 MB. The weights of chapter 6 took 537 MB.
# :::
#
# :::{dropdown} Why does the result depend on the tile size in the last digits?
# Additions of floating-point numbers are rounded, so $(a + b) + c$ and $a + (b + c)$ may differ. The mathematics knows no order, the rounding
# does.
# :::
#
# :::{dropdown} When a model writes, it has one query and a thousand keys (chapter 9). Are tiles of use there?
# There the table is a single row, and its size is no problem. The time goes into reading all keys and values once: two operations for each number
# that is read, so the memory decides. What helps is the merge: several processors take a part of the keys each.
# :::
#
# ## What you can now do
#
# You can say which line of a program waits for the memory; compute a softmax in one pass, in any order and in parts; write attention and its
# backward without the table, and derive the term $D$ that makes it possible; skip what a mask hides; compile loops, and measure them fairly. Now
# do `lessons/19_fast_attention/exercises.py`, and run `tinymm check 19`. Then read `tinymm/kernels/attention_tiles.py`: you know its every step.
#
# ## To read
#
# - Milakov and Gimelshein 2018, *Online normalizer calculation for softmax*.
# - Rabe and Staats 2021, *Self-attention Does Not Need O(n²) Memory*.
# - Dao, Fu, Ermon, Rudra and Ré 2022, *FlashAttention: Fast and Memory-Efficient Exact Attention with IO-Awareness*.
# - Dao 2023, *FlashAttention-2: Faster Attention with Better Parallelism and Work Partitioning*.
# - Williams, Waterman and Patterson 2009, *Roofline: An Insightful Visual Performance Model for Multicore Architectures*.
