# %% [markdown]
# # 6. Attention
#
# **You will learn** how a word of a text looks at the other words: scaled dot-product attention, forward and backward, and masks.
#
# **You need** chapter 1 (the chain rule for a matrix product) and chapter 2 (softmax).
#
# **It takes** about two seconds to run, and less than 150 MB. The arrays are made up: first a few numbers that can be checked by hand, then
# random ones.
#
# ## The picture
#
# A sentence is a row of vectors, one for each word. (Models cut a text into **tokens**, words or pieces of words; chapter 4. Here a token is a
# word.) In "the animal did not cross the street because **it** was tired", the
# vector of "it" should take something from the vector of "animal". Attention does that in three steps. Each word asks a
# question, the **query** $q$. Each word offers a label, the **key** $k$, and a content, the **value** $v$. A query is compared
# with every key; the better they fit, the more of that key's value is taken.
#
# $$ \mathrm{Attention}(Q, K, V) = \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt{d}}\right) V $$
#
# (Vaswani et al. 2017, equation 1.) The rows of $Q$ are the queries, those of $K$ the keys, those of $V$ the values, and
# $d$ is the number of entries of a query. $Q K^\top$ holds the **scores**, the dot product of each query with each key.
# Their softmax, row by row, are the **weights**: how much of each value is taken.
#
# In the shapes behind the code, `T` is the number of queries, `S` the number of keys and values, `d` the width of a query
# or key, and `V` the width of a value (only there; in the formulas $V$ is the array of the values).

# %%
import numpy as np

from tinymm import gradient_check
from tinymm.functional import attention_backward as library_backward
from tinymm.functional import attention_forward as library_forward
from tinymm.learning.figures import new_figure, show

rng = np.random.default_rng(6)

# %% [markdown]
# ## An example for pencil and paper
#
# One query, two keys, $d = 4$. The query fits the first key with score $2$, and the second with score $0$. Divided by
# $\sqrt{4} = 2$ that is $1$ and $0$, and the softmax of $(1, 0)$ is $(e, 1) / (e + 1) = (0.731, 0.269)$.

# %%
q = np.array([[1.0, 1.0, 0.0, 0.0]])                              # (T, d) = (1, 4)
k = np.array([[1.0, 1.0, 5.0, 0.0],                               # (S, d) = (2, 4)
              [0.0, 0.0, 0.0, 3.0]])
v = np.array([[10.0, 0.0],                                        # (S, V) = (2, 2)
              [0.0, 20.0]])

scores = q @ k.T / np.sqrt(4)                                     # (T, S)
exps = np.exp(scores - scores.max(axis=-1, keepdims=True))        # (T, S)
weights = exps / exps.sum(axis=-1, keepdims=True)                 # (T, S)
# STOP: look at scores, then at weights: each row of weights sums to 1
out = weights @ v                                                 # (T, V)
print("scores ", scores)
print("weights", weights.round(3))
print("out    ", out.round(3), "  = 0.731 * (10, 0) + 0.269 * (0, 20)")
assert np.allclose(weights, [[np.e / (np.e + 1), 1 / (np.e + 1)]])

# %% [markdown]
# ## The forward
#
# For whole arrays the same lines do. All leading axes (the batch, and in the next chapter the heads) go along by themselves,
# because `@` multiplies the last two axes. So does the transpose: `swapaxes(-1, -2)`.
#
# Sometimes a query must not see some keys: padding behind a short sentence, or, in a language model, the words that are
# still to come. A **mask** says where looking is allowed: True or False for each query and key, or an array that broadcasts
# to the scores $(\dots, T, S)$. A forbidden score becomes $-\infty$, and its weight $e^{-\infty} = 0$.

# %%
def attention_forward(q, k, v, allowed=None):
    d = q.shape[-1]
    scores = q @ k.swapaxes(-1, -2) / np.sqrt(d)                  # (..., T, S)  F1
    if allowed is not None:
        scores = np.where(allowed, scores, -np.inf)               # (..., T, S)  F2
    highest = scores.max(axis=-1, keepdims=True)                  # (..., T, 1)
    exps = np.exp(scores - highest)                               # (..., T, S)  F3
    weights = exps / exps.sum(axis=-1, keepdims=True)             # (..., T, S)  F4
    out = weights @ v                                             # (..., T, V)  F5
    return out, (q, k, v, weights)


B, T, S, d, V = 2, 3, 5, 4, 6
q, k, v = rng.normal(size=(B, T, d)), rng.normal(size=(B, S, d)), rng.normal(size=(B, S, V))
out, cache = attention_forward(q, k, v)
expected, _ = library_forward(q, k, v)
print("out", out.shape, "largest difference from tinymm.functional:", np.abs(out - expected).max())
assert np.allclose(out, expected)

# %% [markdown]
# ## Why divide by $\sqrt d$?
#
# Let the entries of $q$ and $k$ be independent, with mean 0 and variance 1. A product $q_i k_i$ has variance 1, and a sum of $d$
# of them has variance $d$. So without the division the scores grow with $\sqrt d$, and the softmax of large scores is nearly a
# maximum: one weight is 1, and all others 0. Then almost no gradient reaches the scores, as we shall see in the backward.
#
# **Break it:** leave the division out, and look at the largest weight of each row.

# %%
widths = [4, 16, 64, 256]
largest = {"with the division": [], "without it": []}
for width in widths:
    many_q, many_k = rng.normal(size=(500, width)), rng.normal(size=(32, width))
    for label, divisor in (("with the division", np.sqrt(width)), ("without it", 1.0)):
        s = many_q @ many_k.T / divisor                           # (500, 32)
        e = np.exp(s - s.max(axis=-1, keepdims=True))             # (500, 32)
        largest[label].append((e / e.sum(axis=-1, keepdims=True)).max(axis=-1).mean())
figure, axes = new_figure(6, 3.2)
for label, values in largest.items():
    axes.plot(widths, values, "o-", label=label)
axes.set_xscale("log", base=2)
axes.set_xlabel("width d")
axes.set_ylabel("largest of 32 weights, mean")
axes.set_ylim(0, 1)
axes.legend(frameon=False)
show(figure, "06_division")
print(f"{'d':17}", *(f"{width:5}" for width in widths))
for label, values in largest.items():
    print(f"{label:17}", *(f"{value:5.2f}" for value in values))
assert largest["without it"][-1] > 0.8 and np.ptp(largest["with the division"]) < 0.05

# %% [markdown]
# With the division the largest of 32 weights is nearly the same at every width; without it, attention at width 256 looks at
# practically one key.
#
# ## The backward, line by line
#
# We know $\partial L / \partial\,\mathrm{out}$, called `d_out`, and walk back through F5, F4 with F3, F2, F1. $O$ stands
# for the output, $P$ for the weights, and $dP$ for $\partial L / \partial P$.
#
# **F5**, $O = P V$. For any product $C = A B$ chapter 1 showed
# $dA = dC\, B^\top$ and $dB = A^\top dC$. Here
#
# $$ dP = dO\, V^\top \qquad dV = P^\top dO $$
#
# **F3 and F4**, the softmax of a row. First the long way. With $e_j = \exp(s_j)$ and $Z = \sum_j e_j$, the weights are $p_j = e_j / Z$.
# An $e_j$ acts on $L$ directly through $p_j$, and on all weights through $Z$:
#
# $$ de_j = \frac{dp_j}{Z} + dZ, \qquad dZ = -\sum_i dp_i \frac{e_i}{Z^2}, \qquad ds_j = de_j\, e_j $$
#
# (The row's maximum is subtracted only for safety; it changes nothing in $p$, so it has no gradient.) Put together:
#
# $$ ds_j = \frac{e_j}{Z}\, dp_j - \frac{e_j}{Z} \sum_i dp_i \frac{e_i}{Z} = p_j \Big( dp_j - \sum_i p_i\, dp_i \Big) $$
#
# That is the short formula: subtract from each $dp_j$ the weighted mean of the row, and multiply by $p_j$. Three things follow.
# The $ds$ of a row **sum to 0**, since adding a constant to all scores changes nothing. Where $p_j = 0$, at a masked
# place, $ds_j = 0$: F2 needs no line of its own. And where one weight is nearly 1, all $ds$ of the row are nearly 0: the other
# weights are nearly 0, and the weighted mean is nearly the $dp_j$ of the one. That is the harm of leaving out the $\sqrt d$.
#
# **F1**, with $A$ for the array of the scores: $A = Q K^\top / \sqrt d$, is again a product:
#
# $$ dQ = \frac{dA\, K}{\sqrt d} \qquad dK = \frac{dA^\top Q}{\sqrt d} $$
#
# So the backward has four matrix products where the forward has two. (Code that saves memory by not keeping $P$ computes $Q K^\top$ a second time,
# which makes five; chapter 19.)

# %%
def attention_backward(d_out, cache):
    q, k, v, weights = cache
    d = q.shape[-1]
    d_weights = d_out @ v.swapaxes(-1, -2)                        # (..., T, S)  undoes F5
    d_v = weights.swapaxes(-1, -2) @ d_out                        # (..., S, V)  undoes F5
    mean = (weights * d_weights).sum(axis=-1, keepdims=True)      # (..., T, 1)
    d_scores = weights * (d_weights - mean)                       # (..., T, S)  undoes F4 and F3
    # STOP: look at d_scores.sum(axis=-1): every row sums to 0
    d_q = d_scores @ k / np.sqrt(d)                               # (..., T, d)  undoes F1
    d_k = d_scores.swapaxes(-1, -2) @ q / np.sqrt(d)              # (..., S, d)  undoes F1
    return d_q, d_k, d_v

# %% [markdown]
# The long way and the short formula agree. And with scores 100 times as large less than a tenth of the gradient reaches them:

# %%
d_out = rng.normal(size=out.shape)
d_weights = d_out @ v.swapaxes(-1, -2)                            # (B, T, S)
scores = q @ k.swapaxes(-1, -2) / np.sqrt(d)                      # (B, T, S)
exps = np.exp(scores - scores.max(axis=-1, keepdims=True))        # (B, T, S)
Z = exps.sum(axis=-1, keepdims=True)                              # (B, T, 1)
d_Z = -(d_weights * exps / Z**2).sum(axis=-1, keepdims=True)      # (B, T, 1)
d_exps = d_weights / Z + d_Z                                      # (B, T, S)
the_long_way = d_exps * exps                                      # (B, T, S)
weights = exps / Z                                                # (B, T, S)
the_short_formula = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True))        # (B, T, S)
print("largest difference:", np.abs(the_long_way - the_short_formula).max())
assert np.allclose(the_long_way, the_short_formula)
assert np.allclose(the_short_formula.sum(axis=-1), 0)
sharp = exps**100 / (exps**100).sum(axis=-1, keepdims=True)       # (B, T, S)  the softmax of 100 scores
d_sharp = sharp * (d_weights - (sharp * d_weights).sum(axis=-1, keepdims=True))     # (B, T, S)
sizes = [np.abs(gradient).mean() for gradient in (the_short_formula, d_sharp)]
print(f"mean size of d_scores: {sizes[0]:.3f}, with the large scores {sizes[1]:.0e}")
assert sizes[1] < 0.1 * sizes[0]

# %% [markdown]
# ## The gradient check
#
# The checker knows nothing of these formulas: it moves each number a little and looks at what happens. The second time with a mask, to see
# that F2 indeed needs no line of its own.

# %%
report = gradient_check(attention_forward, attention_backward, {"q": q, "k": k, "v": v}, rng=rng)
print(report)
assert report.ok
some = np.array([[True, False, True, True, False], [True, True, True, False, True], [False, True, False, False, False]])      # (T, S)
report = gradient_check(attention_forward, attention_backward, {"q": q, "k": k, "v": v, "allowed": some}, rng=rng, constants=("allowed",),
                        name="with a mask")
print(report)
assert report.ok
for mine, theirs in zip(attention_backward(d_out, cache), library_backward(d_out, library_forward(q, k, v)[1])):
    assert np.allclose(mine, theirs)

# %% [markdown]
# ## Masks
#
# A **causal** mask lets query $t$ see the keys up to $t$, itself included: a language model must not read the word that it
# shall guess. A **padding** mask hides the places behind the end of a short text. Where both hold, they are joined with
# `&`. If each of $B$ texts has its own padding, its mask has the shape $(B, 1, S)$: the same for all queries of a text.
# Every query must see at least one key: if all its scores are $-\infty$, the row has no largest finite score, and
# $-\infty - (-\infty)$ is NaN, "not a number". (The library's attention takes care of that, and gives such a row zeros.)
#
# In the pictures a row belongs to a query; the darker, the larger the weight.

# %%
length = 6
causal = np.tril(np.ones((length, length), bool))                 # (T, S)
padding = np.arange(length) < 4                                   # (S,)     four real tokens, two of padding
x = rng.normal(size=(length, 8))                                  # (T, d)
figure, panels = new_figure(9, 3, 1, 3)
for axes, (title, mask) in zip(panels, (("no mask", None), ("causal", causal), ("causal and padding", causal & padding))):
    _, (_, _, _, w) = attention_forward(x, x, x, mask)            # (T, S)
    axes.imshow(w, vmin=0, vmax=1, cmap="Blues")
    axes.set_title(title)
    axes.set_xlabel("key")
    axes.set_ylabel("query")
show(figure, "06_masks")
assert np.allclose(np.triu(w, 1), 0) and np.allclose(w[:, 4:], 0)
print("row 2 of the last mask:", (causal & padding)[2].astype(int))
with np.errstate(invalid="ignore"):
    blind, _ = attention_forward(x, x, x, np.zeros((length, length), bool))
assert np.isnan(blind).all() and not library_forward(x, x, x, np.zeros((length, length), bool))[0].any()

# %% [markdown]
# **Break it:** does the causal mask really keep the future out? Change the last token, and see whether an earlier output moves.

# %%
changed = x.copy()
changed[-1] += 10
moved = {}
for label, mask in (("causal", causal), ("no mask", None)):
    before, _ = attention_forward(x, x, x, mask)
    after, _ = attention_forward(changed, changed, changed, mask)
    moved[label] = np.abs(after - before).max(axis=-1)            # (T,)
    print(f"{label:8} change of each output:", moved[label].round(3))
assert not moved["causal"][:-1].any() and moved["no mask"][:-1].all()

# %% [markdown]
# ## Questions
#
# :::{dropdown} A query sees exactly one key. What is its weight, and what is the gradient of its scores?
# The weight is 1, whatever the score. So the gradient of the score is 0: $p (dp - p\,dp) = 1 (dp - dp) = 0$.
# :::
#
# :::{dropdown} What happens if all keys are equal?
# All scores of a row are equal, all weights are $1/S$, and the output is the mean of the values. Attention without any
# difference between keys is averaging.
# :::
#
# :::{dropdown} Shuffle the keys and the values in the same way. What changes?
# Nothing: the output is a sum over keys. Attention does not know in which order its keys came. That is why positions must be added
# (chapter 7).
# :::
#
# :::{dropdown} How much memory do the weights take for 4,096 tokens, 8 heads, in float32?
# $8 \cdot 4096^2 \cdot 4$ bytes are 536,870,912, or 537 MB, and the backward needs $dP$ and $dS$ of the same size. Chapter 19 does without them.
# :::
#
# ## What you can now do
#
# You can write attention and its backward from the equation, name the shape of every array in it, say why there is a
# $\sqrt d$, and mask what must not be seen. Now do the exercises: `lessons/06_attention/exercises.py`, then `tinymm check 6`.
#
# ## To read
#
# - Vaswani et al. 2017, *Attention Is All You Need*, section 3.2.
# - Bahdanau, Cho and Bengio 2015, *Neural Machine Translation by Jointly Learning to Align and Translate*: where it began.
