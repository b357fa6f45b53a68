# %% [markdown]
# # 14. Fusion
#
# **You will learn** three ways in which words can look at an image: in one sequence with it, by cross-attention, and by one attention
# over the keys and values of both; why the last one is a mixture of two attentions with a learned share; its backward, with loops
# and in short; what the three cost; and, with small models that answer questions about drawn scenes, which of them learns
# sooner, and why.
#
# **You need** attention and masks (chapter 6), the Transformer block (chapter 8), cross-attention (chapter 11), image tokens
# (chapter 13), and AdamW (chapter 3).
#
# **It takes** about 40 seconds to run, and less than 300 MB. The images are scenes drawn by `tinymm.data`: two shapes of different colours.
#
# ## The picture
#
# A model that works with more than one kind of input, here text and images, is **multimodal**, and each kind is a
# **modality**. Bringing them together is called **fusion**. We have what is needed: an image is a row of $N$ image tokens (chapter
# 13), a text is a row of $T$ words, and attention lets vectors look at each other. What is left to choose is **who asks whom,
# and with whose weights**:
#
#     concatenate     one sequence [image tokens, words], one self-attention for all of it
#     cross           the words look at the words; then, in a second attention, at the image tokens
#     joint           the words look at [image tokens, words] at once; each modality has its own weights for keys and values
#
# All keep two rules. A word sees the whole image, but only itself and the words before it (the causal mask), so that the
# model can also write. And no image token sees a word, so the image need not be worked out again for every new
# question. For one sequence both rules are in a **prefix mask** (Dong et al. 2019): the image is a prefix that everyone sees
# whole. In the picture $N = 4$ and $T = 3$. Each row is a query, each column a key, and white is forbidden.

# %%
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")                   # for matrices as small as here one thread is the fastest
import numpy as np
from matplotlib.colors import ListedColormap

from tinymm import gradient_check, gradient_check_module
from tinymm.data import COLORS, PAIRS, SHAPES, draw_scenes, sample_scene
from tinymm.functional import attention_backward, attention_forward, attention_mask, cross_entropy_backward, cross_entropy_forward
from tinymm.layers import Embedding, ImageEncoder, JointAttention, LayerNorm, LearnedPositions, Linear, Module, MultiHeadAttention
from tinymm.layers import TransformerBlock
from tinymm.layers.attention import attention_weights
from tinymm.learning.figures import new_figure, show
from tinymm.memory import keep_freed_memory
from tinymm.training.optimizers import AdamW

FAST = os.environ.get("TINYMM_FAST") == "1"
keep_freed_memory()                                                  # each step makes the same large arrays again
rng = np.random.default_rng(14)


def prefix_mask(N, T):
    """Who may see whom in [image tokens, words]: True where the query (row) may see the key (column)."""
    place = np.arange(N + T)                                         # (N+T,)
    return (place < N) | (place <= place[:, None])                   # (N+T, N+T)  the image, or what is not later


N, T = 4, 3
mask = prefix_mask(N, T)                                             # (N+T, N+T)
# STOP: mask[N:] are the rows of the words: all that joint attention needs
assert (mask == attention_mask(N + T, N + T, causal=True, prefix=N)).all() and not mask[:N, N:].any()
assert (mask[N:] == attention_mask(T, N + T, causal=True)).all()     # the library's causal mask already lets T queries see N keys more
names = [f"image {n}" for n in range(N)] + ["the", "circle", "is"]
blue, orange = 1, 2                                                  # keys and values by the words' weights, by the image's own
shown = {"concatenate": (mask * blue, names, names), "cross: first the words ...": (mask[N:, N:] * blue, names[N:], names[N:]),
         "... then the image": (np.full((T, N), orange), names[N:], names[:N]),
         "joint": (mask[N:] * np.where(np.arange(N + T) < N, orange, blue), names[N:], names)}
figure, panels = new_figure(11, 3.4, 1, 4)
for axes, (title, (table, queries, keys)) in zip(panels, shown.items()):
    axes.pcolormesh(table, cmap=ListedColormap(["white", "#9ecae1", "#fdae6b"]), vmin=0, vmax=2, edgecolor="gray", linewidth=0.5)
    axes.set_xticks(np.arange(len(keys)) + 0.5, keys, rotation=90, fontsize=8)
    axes.set_yticks(np.arange(len(queries)) + 0.5, queries, fontsize=8)
    axes.set(xlim=(-0.05, N + T + 0.05), ylim=(N + T + 0.05, -0.05), aspect="equal")               # the first row on top
    axes.xaxis.set_ticks_position("top")
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    axes.set_title(title, fontsize=10, loc="left")
show(figure, "14_masks")

# %% [markdown]
# Blue keys (and their values) are made with the words' weights, orange ones with weights of the image's own. When all keys are blue the
# weights are **shared**; orange ones are **modality-specific**. In the first panel the image tokens are queries, too: they change
# from block to block. In the others they stay as the encoder made them, and every block looks at the same ones.
#
# ## An example for pencil and paper
#
# One query, two words and two image tokens. The scores at the words are $0$ and $0$, so their exponentials are $1$ and $1$. The scores at
# the image tokens are $\log 3$ and $0$, with exponentials $3$ and $1$. The values of the words are $(6, 0)$ and $(0, 0)$, those of the
# image tokens $(0, 4)$ and $(0, 0)$.
#
# **Cross** takes two softmaxes. At the words the weights are $(\frac12, \frac12)$, which gives $(3, 0)$; at the image tokens
# $(\frac34, \frac14)$, which gives $(0, 3)$. **Joint** takes one softmax over all four. The exponentials sum to $6$, and the
# weights are $(\frac16, \frac16)$ at the words and $(\frac36, \frac16)$ at the image: together $(1, 2)$.
#
# The image holds $4$ of the $6$, so its **share** is $\frac46$. And $\frac46 (0, 3) + \frac26 (3, 0) = (1, 2)$: joint attention is a *mixture*
# of the two results, and the share says how much of each.

# %%
q, k_t, k_i = np.ones((1, 1)), np.zeros((2, 1)), np.array([[np.log(3)], [0.0]])          # (1, D), (T, D), (N, D) with D = 1
v_t, v_i = np.array([[6.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 4.0], [0.0, 0.0]])        # (T, V), (N, V)
at_words, at_image = attention_forward(q, k_t, v_t)[0], attention_forward(q, k_i, v_i)[0]           # (1, V)
together, cache = attention_forward(q, np.concatenate([k_i, k_t]), np.concatenate([v_i, v_t]))      # (1, V)
print("at the words", at_words[0], " at the image", at_image[0], " joint", together[0], " weights", cache.weights[0].round(3))
assert np.allclose(at_words, [3, 0]) and np.allclose(at_image, [0, 3])
assert np.allclose(together, [1, 2]) and np.allclose(together, 4 / 6 * at_image + 2 / 6 * at_words)

# %% [markdown]
# ## One softmax is a mixture of two
#
# For one query let $a_s$ be its scores, and cut the sum of the softmax in two, over the image tokens ($i$) and over the words that it may
# see ($t$, for text):
#
# $$ Z_i = \sum_{s \,\in\, \text{image}} e^{a_s}, \qquad Z_t = \sum_{s \,\in\, \text{words}} e^{a_s} $$
#
# All weights have the divisor $Z_i + Z_t$. Put the divisor of each modality alone beside it:
#
# $$ \sum_s \frac{e^{a_s}}{Z_i + Z_t}\, v_s \;=\;
# \frac{Z_i}{Z_i + Z_t} \underbrace{\sum_{s \,\in\, \text{image}} \frac{e^{a_s}}{Z_i}\, v_s}_{\textstyle m_i} \;+\;
# \frac{Z_t}{Z_i + Z_t} \underbrace{\sum_{s \,\in\, \text{words}} \frac{e^{a_s}}{Z_t}\, v_s}_{\textstyle m_t} $$
#
# $m_i$ and $m_t$ are nothing else than the two attentions apart, each with a softmax of its own. With $\lambda = Z_i / (Z_i + Z_t)$,
#
# $$ \mathrm{Attention}(Q, [K_i, K_t], [V_i, V_t]) = \lambda\, m_i + (1 - \lambda)\, m_t $$
#
# (He et al. 2022 take an attention over added keys apart in this way.) Divide $\lambda$ by $Z_i$ above and below, and it is a gate,
# the sigmoid of chapter 5:
#
# $$ \lambda = \frac{1}{1 + Z_t / Z_i} = \sigma(\log Z_i - \log Z_t) $$
#
# So each word decides, by its query, how much it looks at the image and how much at the text: what one gets, the other loses. In
# cross-attention nothing competes. There both results come in full, each through a $W_O$ of its own, one after the other.
#
# For large scores $e^{a_s}$ overflows. As in chapter 2, subtract the largest from all scores. It must be one number for **both** kinds,
# so that the factor cancels between $Z_i$ and $Z_t$, and the largest of both, so that neither overflows.

# %%
def image_share(scores_i, scores_t):
    """The share of the image: scores at the image tokens (..., T, N), and at the words (..., T, T), -inf where it is forbidden."""
    highest = np.maximum(scores_i.max(axis=-1, keepdims=True), scores_t.max(axis=-1, keepdims=True))    # (..., T, 1)
    Z_i = np.exp(scores_i - highest).sum(axis=-1, keepdims=True)     # (..., T, 1)
    Z_t = np.exp(scores_t - highest).sum(axis=-1, keepdims=True)     # (..., T, 1)
    return Z_i / (Z_i + Z_t)                                         # (..., T, 1)


B, N, T, D = 2, 5, 3, 4
q, k_t, v_t = (rng.normal(size=(B, T, D)) for _ in range(3))         # (B, T, D)
k_i, v_i = (rng.normal(size=(B, N, D)) for _ in range(2))            # (B, N, D)
causal = prefix_mask(0, T)                                           # (T, T)
scores_i = q @ k_i.swapaxes(-1, -2) / np.sqrt(D)                     # (B, T, N)
scores_t = np.where(causal, q @ k_t.swapaxes(-1, -2) / np.sqrt(D), -np.inf)                        # (B, T, T)
share = image_share(scores_i, scores_t)                              # (B, T, 1)
mixed_i, _ = attention_forward(q, k_i, v_i)                          # (B, T, D)
mixed_t, _ = attention_forward(q, k_t, v_t, causal)                  # (B, T, D)
mixed, cache = attention_forward(q, np.concatenate([k_i, k_t], axis=1), np.concatenate([v_i, v_t], axis=1), prefix_mask(N, T)[N:])
# STOP: look at share[0]: the first word sees one word only, itself
print("the image's share, word by word:", share[0, :, 0].round(3), " mixture and joint attention differ by",
      np.abs(share * mixed_i + (1 - share) * mixed_t - mixed).max())
assert np.allclose(share * mixed_i + (1 - share) * mixed_t, mixed)                                 # (B, T, D)
assert np.allclose(share, cache.weights[..., :N].sum(axis=-1, keepdims=True))                      # (B, T, 1)
assert np.allclose(image_share(scores_i + 800, scores_t + 800), share)                             # no overflow

# %% [markdown]
# ## The forward of joint attention
#
# $$ \mathrm{out} = \mathrm{Attention}\big(Q,\; [K_i, K_t],\; [V_i, V_t]\big)\, W_O $$
#
# with $Q = X W_Q$ and $K_t = X W_{K_t}$, $V_t = X W_{V_t}$ from the words, and $K_i = M W_{K_i}$, $V_i = M W_{V_i}$ from the image
# tokens $M$. As these have weights of their own, they may also have a width of their own, $C$. One head, to see every line; the image comes first.

# %%
def joint_attention_forward(x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o):
    N, T = image.shape[1], x.shape[1]
    q = x @ W_q                                                      # (B, T, D)    F1
    k_t = x @ W_kt                                                   # (B, T, D)    F2
    v_t = x @ W_vt                                                   # (B, T, D)    F3
    k_i = image @ W_ki                                               # (B, N, D)    F4
    v_i = image @ W_vi                                               # (B, N, D)    F5
    k = np.concatenate([k_i, k_t], axis=1)                           # (B, N+T, D)  F6
    v = np.concatenate([v_i, v_t], axis=1)                           # (B, N+T, D)  F7
    mixed, attention = attention_forward(q, k, v, prefix_mask(N, T)[N:])     # (B, T, D)  F8
    # STOP: attention.weights is (B, T, N+T); each row sums to 1 over both modalities
    out = mixed @ W_o                                                # (B, T, D)    F9
    return out, (x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, attention, mixed)


def weights_of(D, C):
    shapes = {"W_q": (D, D), "W_kt": (D, D), "W_vt": (D, D), "W_ki": (C, D), "W_vi": (C, D), "W_o": (D, D)}
    return {name: rng.normal(size=shape) / 2 for name, shape in shapes.items()}


C = 6
inputs = {"x": rng.normal(size=(B, T, D)), "image": rng.normal(size=(B, N, C))} | weights_of(D, C)
out, cache = joint_attention_forward(**inputs)                       # (B, T, D)
layer = JointAttention(D, 1, rng, d_memory=C).astype(np.float64)     # the library's
for part, name in ((layer.query, "W_q"), (layer.key, "W_kt"), (layer.value, "W_vt"), (layer.image_key, "W_ki"),
                   (layer.image_value, "W_vi"), (layer.output, "W_o")):
    part.weight.value[...] = inputs[name]
expected, layer_cache = layer.forward(inputs["x"], inputs["image"], causal=True)
print("largest difference from tinymm.layers.JointAttention:", np.abs(out - expected).max())
assert np.allclose(out, expected)

# %% [markdown]
# **Share the weights, and it is concatenation.** If image and words have the same width and the same weights ($W_{K_i} = W_{K_t}$,
# $W_{V_i} = W_{V_t}$), then $[M W_K, X W_K] = [M, X]\, W_K$: projecting each and joining them is the same as joining them first. So the
# rows of the words are those of a self-attention over $[M, X]$ with the prefix mask. Only these rows: concatenation also works out
# new vectors for the image tokens. In a model of several blocks that is the second difference between the two, for the next block
# sees these new ones.

# %%
def self_attention(sequence, W_q, W_k, W_v, W_o, allowed):
    mixed, _ = attention_forward(sequence @ W_q, sequence @ W_k, sequence @ W_v, allowed)              # (B, N+T, D)
    return mixed @ W_o                                               # (B, N+T, D)


image = rng.normal(size=(B, N, D))                                   # (B, N, D)  as wide as the words
W_q, W_k, W_v, W_o = (rng.normal(size=(D, D)) / 2 for _ in range(4))
rows, _ = joint_attention_forward(inputs["x"], image, W_q, W_k, W_v, W_k, W_v, W_o)                # (B, T, D)
whole = self_attention(np.concatenate([image, inputs["x"]], axis=1), W_q, W_k, W_v, W_o, prefix_mask(N, T))    # (B, N+T, D)
assert np.allclose(whole[:, N:], rows)
print("joint attention with shared weights = the words' rows of concatenation, to", np.abs(whole[:, N:] - rows).max())

# %% [markdown]
# ## What the three cost
#
# Weights, for one attention without biases: concatenation has $W_Q, W_K, W_V, W_O$, so $4 D^2$. Joint attention has two more, $6 D^2$;
# cross has two whole attentions, $8 D^2$. Now the multiplications for one text. A vector times a matrix of $D \times D$ is $D^2$ of them. A
# query at a key is $D$ for the score, and $D$ more for the value.
#
# | | $D^2$ times | $2 D$ times |
# |---|---|---|
# | concatenate | $4 (N + T)$ | $(N + T)^2$ |
# | cross | $4 T + (2 T + 2 N)$ | $T^2 + T N$ |
# | joint | $4 T + 2 N$ | $T (N + T)$ |
#
# (Forbidden scores are computed and then thrown away.) So concatenation costs most where the image is long. Its feed-forward part
# also works on $N + T$ vectors, those of the others on $T$. For $N = 64$, $T = 3$ and $D = 32$, as in the experiment below:

# %%
N, T, D = 64, 3, 32
cost = {"concatenate": 4 * (N + T) * D**2 + 2 * (N + T)**2 * D, "cross": (6 * T + 2 * N) * D**2 + 2 * T * (T + N) * D,
        "joint": (4 * T + 2 * N) * D**2 + 2 * T * (N + T) * D}
layers = {"concatenate": [MultiHeadAttention], "cross": [MultiHeadAttention] * 2, "joint": [JointAttention]}
for name, parts in layers.items():
    weights = sum(p.value.size for part in parts for p in part(D, 2, rng).parameters() if p.value.ndim == 2)
    print(f"{name:12} {weights:6,} weights  {cost[name]:8,} multiplications, {2 * N * D**2 / cost[name]:.0%} for the image's keys and values")
    assert weights == {"concatenate": 4, "cross": 8, "joint": 6}[name] * D**2
assert min(2 * N * D**2 / cost[name] for name in ("cross", "joint")) > 0.8 and cost["concatenate"] > 3 * max(cost["cross"], cost["joint"])

# %% [markdown]
# With cross and joint nearly all work is the image's keys and values. They do not depend on the words. So with many questions about one image, or
# while a text is written word by word, they are computed once (the cache of keys and values, chapter 9).
#
# ## The backward, line by line
#
# The marks are those of the forward. As before, $dM$ is short for $\partial L / \partial M$.
#
# **F9**, $\mathrm{out} = \mathrm{mixed}\, W_O$: $\; dW_O = \mathrm{mixed}^\top d\mathrm{out}$, $\; d\mathrm{mixed} = d\mathrm{out}\, W_O^\top$.
#
# **F8** is the attention of chapter 6, with $N + T$ keys. Its backward gives $dQ$ with $T$ rows, and $dK$, $dV$ with $N + T$ rows. The mask
# needs no line of its own: where the weight $P_{ts} = 0$, the gradient of the score is 0.
#
# **F7 and F6**, the concatenation. Row $s$ of $K$ **is** row $s$ of $K_i$ as long as $s < N$, and row $s - N$ of $K_t$ from there on. Each number was
# copied once, with slope 1. So each gradient goes back to where its number came from:
#
# $$ dK_i = \text{rows } 0 \dots N - 1 \text{ of } dK, \qquad dK_t = \text{rows } N \dots N + T - 1 \text{ of } dK $$
#
# **The backward of a concatenation is a cut.** The other way round, of a vector that was cut in two both parts were used, and the backward
# of a cut is a concatenation. (If one part is not used, zeros stand in its place.)
#
# **F5 to F1** are five products: $dW_{V_i} = M^\top dV_i$, $dW_{K_i} = M^\top dK_i$, $dW_{V_t} = X^\top dV_t$, $dW_{K_t} = X^\top dK_t$,
# $dW_Q = X^\top dQ$. Two of them used $M$, and three used $X$:
#
# $$ dM = dK_i\, W_{K_i}^\top + dV_i\, W_{V_i}^\top \qquad\qquad dX = dQ\, W_Q^\top + dK_t\, W_{K_t}^\top + dV_t\, W_{V_t}^\top $$
#
# A word gets three contributions, as it asks, is compared, and is taken from. An image token gets two: it never asks. First the long way, for one
# query $t$ and one key $s$ at a time. The cut is the `if`.

# %%
def backward_with_loops(d_out, cache):
    """d_x and d_image, from one pair of query and key after the other."""
    x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, attention, mixed = cache
    q, k, v, P = attention.q, attention.k, attention.v, attention.weights
    (B, T, D), N = x.shape, image.shape[1]
    d_mixed = d_out @ W_o.T                                          # (B, T, D)
    d_x, d_image = np.zeros_like(x), np.zeros_like(image)
    for b, t in np.ndindex(B, T):
        d_P = v[b] @ d_mixed[b, t]                                   # (N+T,)
        d_A = P[b, t] * (d_P - P[b, t] @ d_P)                        # (N+T,)  the scores, through the softmax
        for s in range(N + T):
            d_x[b, t] += d_A[s] * k[b, s] / np.sqrt(D) @ W_q.T       # (D,)    word t asked
            d_key, d_value = d_A[s] * q[b, t] / np.sqrt(D), P[b, t, s] * d_mixed[b, t]                 # (D,)
            if s < N:
                d_image[b, s] += d_key @ W_ki.T + d_value @ W_vi.T   # (C,)    image token s was looked at
            else:
                d_x[b, s - N] += d_key @ W_kt.T + d_value @ W_vt.T   # (D,)    word s - N was looked at
    return d_x, d_image


def product_gradient(left, d_out):
    """The gradient of W in left @ W, for any leading axes."""
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def joint_attention_backward(d_out, cache):
    x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, attention, mixed = cache
    N = image.shape[1]
    d_W_o = product_gradient(mixed, d_out)                           # (D, D)     undoes F9
    d_mixed = d_out @ W_o.T                                          # (B, T, D)  undoes F9
    d_q, d_k, d_v = attention_backward(d_mixed, attention)           # (B, T|N+T, D)  undoes F8
    # STOP: d_q has T rows; d_k has N + T: the first N belong to the image tokens, the others to the words
    d_v_i, d_v_t = d_v[:, :N], d_v[:, N:]                            # (B, N|T, D)  undoes F7
    d_k_i, d_k_t = d_k[:, :N], d_k[:, N:]                            # (B, N|T, D)  undoes F6
    d_W_vi = product_gradient(image, d_v_i)                          # (C, D)     undoes F5
    d_W_ki = product_gradient(image, d_k_i)                          # (C, D)     undoes F4
    d_W_vt = product_gradient(x, d_v_t)                              # (D, D)     undoes F3
    d_W_kt = product_gradient(x, d_k_t)                              # (D, D)     undoes F2
    d_W_q = product_gradient(x, d_q)                                 # (D, D)     undoes F1
    d_image = d_k_i @ W_ki.T + d_v_i @ W_vi.T                        # (B, N, C)  undoes F4, F5: used twice
    d_x = d_q @ W_q.T + d_k_t @ W_kt.T + d_v_t @ W_vt.T              # (B, T, D)  undoes F1 to F3: used three times
    return d_x, d_image, d_W_q, d_W_kt, d_W_vt, d_W_ki, d_W_vi, d_W_o


out, cache = joint_attention_forward(**inputs)
d_out = rng.normal(size=out.shape)                                   # (B, T, D)
short, long = joint_attention_backward(d_out, cache), backward_with_loops(d_out, cache)
print("long and short way differ by", max(np.abs(a - b).max() for a, b in zip(short, long)))
assert all(np.allclose(a, b) for a, b in zip(short, long))
assert all(np.allclose(a, b) for a, b in zip(short, layer.backward(d_out, layer_cache)))               # the library's d_x and d_memory
report = gradient_check(joint_attention_forward, joint_attention_backward, inputs, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# **Break it:** two mistakes. First, forget that words are looked at by words, so that $dX$ keeps only what came through the query. All
# gradients of the weights are right, and so is $dM$; only the check of `x` fails.
#
# Second, a wrong mask. The causal triangle for $T$ queries and $N + T$ keys must begin *behind* the image. `np.tril(np.ones((T, N + T)))`
# begins at the first image token: word $t$ then sees $t + 1$ image tokens, and (as $N \ge T$) no word at all, not even itself. No error is raised,
# and the gradient check passes, for it is the right gradient of a wrong model. But the backward can show who saw what: put
# a `d_out` at one word only, and see where a gradient arrives.

# %%
def backward_of_queries_only(d_out, cache):
    _, d_image, *d_weights = joint_attention_backward(d_out, cache)
    d_q, _, _ = attention_backward(d_out @ cache[7].T, cache[8])     # (B, T, D)
    return d_q @ cache[2].T, d_image, *d_weights


report = gradient_check(joint_attention_forward, backward_of_queries_only, inputs, rng=rng)
print(report)
assert not report.ok and str(report).count("FAIL") == 2              # the headline, and x

N, T, D = 5, 3, 4
masks = {"right": prefix_mask(N, T)[N:], "np.tril": np.tril(np.ones((T, N + T), bool)), "none": np.ones((T, N + T), bool)}
for label, allowed in masks.items():
    some = {"q": rng.normal(size=(T, D)), "k": rng.normal(size=(N + T, D)), "v": rng.normal(size=(N + T, D)), "mask": allowed}
    assert gradient_check(attention_forward, attention_backward, some, rng=np.random.default_rng(0), constants=("mask",)).ok
    _, cache = attention_forward(**some)                             # (T, D)
    d_out = np.zeros((T, D))                                         # (T, D)
    d_out[0] = rng.normal(size=D)                                    # the loss depends on the first word's result only
    _, _, d_v = attention_backward(d_out, cache)                     # (N+T, D)
    reached = d_v.any(axis=-1)                                       # (N+T,)
    print(f"mask {label:8} the first word saw image tokens {np.flatnonzero(reached[:N])}, words {np.flatnonzero(reached[N:])}")
    assert reached.tolist() == allowed[0].tolist() and reached[N + 1:].any() == (label == "none")

# %% [markdown]
# ## Shared weights: the gradients add up
#
# If $W_{K_i}$ and $W_{K_t}$ are one matrix $W_K$, a change of $W_K$ changes both. By the chain rule
#
# $$ dW_K = dW_{K_i} + dW_{K_t} = M^\top dK_i + X^\top dK_t = [M, X]^\top\, [dK_i, dK_t] $$
#
# On the right stands what the backward of concatenation computes: a product over all rows of the sequence. This sum is all that sharing
# means. One matrix must serve both modalities, and each pulls at it. In our model: assign `image_key = key`, and as layers *add* to
# `grad`, both parts arrive in the same array.
#
# ## The gradient of the share
#
# How does joint attention learn *how much* to look at the image? $\mathrm{mixed} = \lambda\, m_i + (1 - \lambda)\, m_t$ gives
# $d\lambda = d\mathrm{mixed} \cdot (m_i - m_t)$: more of the image is good if its content serves the loss better than the text's. With
# $\lambda = \sigma(\ell)$, $\ell = \log Z_i - \log Z_t$, and the slope of the sigmoid, $d\ell = \lambda (1 - \lambda)\, d\lambda$. Adding a
# number to all scores of the image adds it to $\ell$, and changes neither $m_i$ nor $m_t$. So $d\ell$ is the sum of the gradients of these scores:
#
# $$ \sum_{s \,\in\, \text{image}} da_s = \lambda\, (1 - \lambda)\; d\mathrm{mixed} \cdot (m_i - m_t), \qquad
# \sum_{s \,\in\, \text{words}} da_s = -\sum_{s \,\in\, \text{image}} da_s $$
#
# What the keys of one modality gain, the others lose. And if $\lambda$ is near 0 or near 1, hardly any gradient gets through.

# %%
d_mixed = rng.normal(size=mixed.shape)                               # (B, T, D)  for the mixture from above, with B, N, T, D = 2, 5, 3, 4
v = np.concatenate([v_i, v_t], axis=1)                               # (B, N+T, D)
P = attention_forward(q, np.concatenate([k_i, k_t], axis=1), v, prefix_mask(N, T)[N:])[1].weights     # (B, T, N+T)
d_P = d_mixed @ v.swapaxes(-1, -2)                                   # (B, T, N+T)
d_A = P * (d_P - (P * d_P).sum(axis=-1, keepdims=True))              # (B, T, N+T)
d_share = (d_mixed * (mixed_i - mixed_t)).sum(axis=-1)               # (B, T)
# STOP: look at d_A[0, 0]: its first N entries and the others have opposite sums
assert np.allclose(d_A[..., :N].sum(axis=-1), (share * (1 - share))[..., 0] * d_share)
assert np.allclose(d_A[..., N:].sum(axis=-1), -d_A[..., :N].sum(axis=-1))

# %% [markdown]
# ## Many image tokens, few words
#
# At the start queries and keys know nothing of each other, so all scores come from the same lot, and $Z$ is about proportional to the
# *number* of keys: $\lambda \approx N / (N + T)$. An image has many tokens, and a question few words. In the picture 3 words and 1 to 256
# image tokens, with random vectors; the points are means of 500 queries.

# %%
numbers, T, D = [1, 4, 16, 64, 256], 3, 32
shares, slopes = [], []
for N in numbers:
    q, k_i, k_t = rng.normal(size=(500, 1, D)), rng.normal(size=(500, N, D)), rng.normal(size=(500, T, D))     # (500, 1|N|T, D)
    share = image_share(q @ k_i.swapaxes(-1, -2) / np.sqrt(D), q @ k_t.swapaxes(-1, -2) / np.sqrt(D))        # (500, 1, 1)
    shares.append(share.mean())
    slopes.append((share * (1 - share)).mean())
    assert abs(shares[-1] - N / (N + T)) < 0.03
every = np.arange(1, 257)
figure, axes = new_figure(5.5, 3)
axes.semilogx(every, every / (every + T), color="C0", label="N / (N + T)")
axes.semilogx(numbers, shares, "o", color="C0", label="the image's share at the start")
axes.semilogx(numbers, slopes, "s--", color="C1", label="share (1 - share)")
axes.set_xticks(numbers, numbers)
axes.minorticks_off()
axes.set_xlabel("image tokens N, beside 3 words")
axes.legend(frameon=False, fontsize=8)
show(figure, "14_share")
assert round(3 / 67, 2) == round(64 / 67 * 3 / 67, 2) == 0.04
print("shares at the start:", dict(zip(numbers, np.round(shares, 2).tolist())))

# %% [markdown]
# With 64 image tokens the last word, which sees all 3, looks at the words with 4 % of its attention, and what it learns about the share is
# multiplied by about $0.04$. Cross-attention knows no such thing: it looks at the words with a whole softmax.
#
# ## Which colour is the circle?
#
# The task: a scene with two shapes of different kinds and different colours, out of 6 kinds and 8 colours, and a text to complete:
# "the circle is", then the colour. Each scene has two texts, one for each shape.
#
# - Who does not see the image can be right in **1 of 8**: kinds and colours are drawn independently.
# - Who sees the image but does not use the word "circle" in looking can be right in **1 of 2**.
# - For more, text and image must meet: *find the shape of which the text speaks, and take its colour*.
#
# All models get the same eyes. An encoder of chapter 13, without skips, learns on its own to say at the token nearest to the middle of each
# shape what is there: which kind, and which colour. Then it is **frozen**: its weights do not change any more, and its tokens are
# computed once for all scenes. That is often done with large encoders (LLaVA and Flamingo, below), and here it keeps the comparison
# clean: what is learned afterwards is fusion only.

# %%
def draw(n, seed):
    """n scenes: pixels (n, 32, 32, 3), and for the two shapes of each their kinds, colours and tokens (n, 2)."""
    draws, scenes = np.random.default_rng(seed), []
    while len(scenes) < n:
        a, b = (scene := sample_scene(draws, PAIRS, count=2)).shapes
        if a.kind != b.kind and a.color != b.color:
            scenes.append(scene)
    pixels = np.concatenate([draw_scenes(scenes[i:i + 64]) for i in range(0, n, 64)])                  # (n, 64, 64, 3)
    images = pixels.reshape(n, 32, 2, 32, 2, 3).mean(axis=(2, 4), dtype=np.float32) / 127.5 - 1        # (n, 32, 32, 3)
    kinds = np.array([[SHAPES.index(shape.kind) for shape in scene.shapes] for scene in scenes])       # (n, 2)
    colors = np.array([[list(COLORS).index(shape.color) for shape in scene.shapes] for scene in scenes])           # (n, 2)
    rows, columns = (np.array([[min(7, round(getattr(shape, axis) / 8)) for shape in scene.shapes] for scene in scenes])
                     for axis in "yx")                               # (n, 2)  the token of row h and column w lies at pixel (8h, 8w) of 64
    return images, kinds, colors, rows * 8 + columns


def fit(model, steps, rate, one_step):
    """Train: one_step(draws, step) makes the forward and backward of one batch."""
    optimizer = AdamW(model)
    for step in range(steps):
        optimizer.zero_grad()
        one_step(np.random.default_rng([14, step]), step)
        optimizer.step(rate * min(1, (step + 1) / 40) * (1 - step / steps))


started = time.perf_counter()
training, validation, test = (draw(n, seed) for seed, n in enumerate((200, 20, 30) if FAST else (3000, 60, 250)))
encoder = ImageEncoder(32, (16, 32, 32), (2, 2, 1), 32, np.random.default_rng(0))                      # to N = 8 x 8 tokens, D = 32
probe = Linear(32, len(SHAPES) + len(COLORS), np.random.default_rng(1))
eyes = Module()                                                      # both in one, for the optimizer
eyes.encoder, eyes.probe = encoder, probe


def see(draws, step):
    rows = draws.integers(len(training[0]), size=32)                 # (B,)
    images, kinds, colors, places = (part[rows] for part in training)
    tokens, cache = encoder.forward(images, training=True)           # (B, N, D)
    here = (np.arange(32)[:, None], places)
    logits, probe_cache = probe.forward(tokens[here])                # (B, 2, 6 + 8)
    _, kind_cache = cross_entropy_forward(logits[..., :6], kinds)
    _, color_cache = cross_entropy_forward(logits[..., 6:], colors)
    d_logits = np.concatenate([cross_entropy_backward(1.0, kind_cache), cross_entropy_backward(1.0, color_cache)], axis=-1)
    d_tokens = np.zeros_like(tokens)                                 # (B, N, D)
    np.add.at(d_tokens, here, probe.backward(d_logits.astype(np.float32), probe_cache))
    encoder.backward(d_tokens, cache, input_gradient=False)


def tokens_of(images):
    return np.concatenate([encoder.forward(images[i:i + 100])[0] for i in range(0, len(images), 100)])             # (n, N, D)


fit(eyes, 8 if FAST else 300, 1e-2, see)
seen = {"training": tokens_of(training[0]), "validation": tokens_of(validation[0]), "test": tokens_of(test[0])}
said = probe.forward(seen["test"][np.arange(len(test[0]))[:, None], test[3]])[0]                       # (n, 2, 6 + 8)
kind_right, color_right = (said[..., :6].argmax(axis=-1) == test[1]).mean(), (said[..., 6:].argmax(axis=-1) == test[2]).mean()
print(f"the eyes, on test scenes: kind right {kind_right:.1%}, colour {color_right:.1%}   ({time.perf_counter() - started:.0f} s)")
assert FAST or kind_right > 0.88 and color_right > 0.97

figure, panels = new_figure(10, 2.1, 1, 5)
for n, axes in enumerate(panels):
    axes.imshow((test[0][n] + 1) / 2)
    axes.set_title("\n".join(f"the {SHAPES[kind]} is {list(COLORS)[color]}" for kind, color in zip(test[1][n], test[2][n])), fontsize=8)
    axes.axis("off")
show(figure, "14_scenes")

# %% [markdown]
# ## Four models
#
# One class for all. The library's block has the three kinds of looking built in; what is left is the order of things. The answer is read
# at the **last word**: a layer norm, and a linear layer to 8 colours. In `backward`, look at what happens to the gradient of the image tokens: with
# concatenation it walks down through all blocks, and is cut off at the end; else every block looked at the same tokens, and their
# parts are summed (chapter 11). Here nobody takes what `backward` returns, as the encoder is frozen. Else it would go on into the encoder.

# %%
WORDS = ["the", "is", *SHAPES]


class Fused(Module):
    def __init__(self, fusion, n_blocks, rng, D=32):
        self.concatenates, kind = fusion == "concatenate", fusion.split(",")[0]
        self.words, self.positions = Embedding(len(WORDS), D, rng), LearnedPositions(3, D, rng)
        self.blocks = [TransformerBlock(D, 2, 2 * D, rng, None if self.concatenates else kind, activation="relu") for _ in range(n_blocks)]
        if fusion == "joint, shared weights":
            for block in self.blocks:
                joint = block.attention.sublayer
                joint.image_key, joint.image_value = joint.key, joint.value
        self.norm, self.head = LayerNorm(D), Linear(D, len(COLORS), rng)

    def forward(self, image, ids):
        x, words = self.words.forward(ids)                           # (B, T, D)    F1
        x, positions = self.positions.forward(x)                     # (B, T, D)    F2
        N, T = image.shape[1], x.shape[1]
        if self.concatenates:
            x = np.concatenate([image, x], axis=1)                   # (B, N+T, D)  F3
        blocks = []
        for block in self.blocks:
            x, cache = block.forward(x, mask=prefix_mask(N, T)) if self.concatenates else block.forward(x, image, causal=True)
            blocks.append(cache)                                     # (B, T, D) or (B, N+T, D)  F4
        last, norm = self.norm.forward(x[:, -1:])                    # (B, 1, D)    F5
        logits, head = self.head.forward(last[:, 0])                 # (B, 8)       F6
        return logits, (words, positions, blocks, norm, head, x.shape, N)

    def backward(self, d_logits, cache):
        words, positions, blocks, norm, head, shape, N = cache
        d_x = np.zeros(shape, d_logits.dtype)                        # (B, T, D) or (B, N+T, D)
        d_x[:, -1:] = self.norm.backward(self.head.backward(d_logits, head)[:, None], norm)    # undoes F6, F5: 0 at all other places
        d_image = 0
        for block, cache in zip(reversed(self.blocks), reversed(blocks)):                      # undoes F4
            if self.concatenates:
                d_x = block.backward(d_x, cache)                     # (B, N+T, D)
            else:
                d_x, d_part = block.backward(d_x, cache)             # (B, T, D), (B, N, D)
                d_image = d_image + d_part                           # (B, N, D)
        # STOP: with concatenation d_x still holds the rows of the image; else d_image is the sum over the blocks
        if self.concatenates:
            d_image, d_x = d_x[:, :N], d_x[:, N:]                    # (B, N|T, D)  undoes F3: cut
        self.words.backward(self.positions.backward(d_x, positions), words)                    # undoes F2, F1
        return d_image


FUSIONS = ("concatenate", "joint, shared weights", "joint", "cross")
few_ids = np.array([[0, 4, 1], [0, 2, 1]])                           # (B, T)
for fusion in FUSIONS[::3] if FAST else FUSIONS:
    report = gradient_check_module(Fused(fusion, 2, rng, D=4), {"image": rng.normal(size=(2, 5, 4)), "ids": few_ids}, rng=rng,
                                   max_entries=1 if FAST else 4, name=fusion)
    print(str(report).splitlines()[0])
    assert report.ok

# %% [markdown]
# Now the training: the same scenes in the same order, the same number of steps, and three seeds for the first weights (one for
# concatenation, which takes longest). Every 50 steps the validation scenes are asked.

# %%
def texts(kinds, words=("the", None, "is")):
    """Two texts for each scene: kinds (n, 2) -> ids (2n, T)."""
    ids = np.array([WORDS.index(word) if word else -1 for word in words])                              # (T,)
    return np.where(ids < 0, kinds.reshape(-1, 1) + 2, ids)          # (2n, T)  the kind's word at the free place


def ask(model, tokens, kinds, **options):
    """The colours that the model says, (n, 2)."""
    image = np.repeat(tokens, 2, axis=0)                             # (2n, N, D)  both texts see the same image
    logits = [model.forward(image[i:i + 100], texts(kinds, **options)[i:i + 100])[0] for i in range(0, len(image), 100)]
    return np.concatenate(logits).argmax(axis=-1).reshape(-1, 2)     # (n, 2)


def train(fusion, n_blocks, seed, steps, **options):
    model, curve = Fused(fusion, n_blocks, np.random.default_rng(seed)), []

    def one_step(draws, step):
        if step % 50 == 0:
            curve.append((ask(model, seen["validation"], validation[1], **options) == validation[2]).mean())
        rows = draws.integers(len(training[0]), size=16)             # (16,)
        image = np.repeat(seen["training"][rows], 2, axis=0)         # (B, N, D) = (32, 64, 32)
        logits, cache = model.forward(image, texts(training[1][rows], **options))              # (B, 8)
        _, loss_cache = cross_entropy_forward(logits, training[2][rows].reshape(-1))
        model.backward(cross_entropy_backward(1.0, loss_cache).astype(np.float32), cache)

    fit(model, steps, 6e-3, one_step)
    curve.append((ask(model, seen["validation"], validation[1], **options) == validation[2]).mean())
    return model, curve


def right(model, tokens=seen["test"], **options):
    """On the test scenes: the share of right colours, and of colours that are those of one of the two shapes."""
    answers = ask(model, tokens, test[1], **options)                 # (n, 2)
    return (answers == test[2]).mean(), ((answers == test[2]) | (answers == test[2][:, ::-1])).mean()


steps, seeds = (6, 1) if FAST else (300, 3)
blank = tokens_of(np.zeros_like(test[0]))                            # (n, N, D)  an even grey
trained, curves, result = {}, {}, {}
for fusion in FUSIONS:
    began = time.process_time()
    runs = [train(fusion, 2, seed, steps) for seed in range(1 if fusion == "concatenate" else seeds)]
    trained[fusion], curves[fusion] = [model for model, _ in runs], [curve for _, curve in runs]
    weights = sum(p.value.size for p in trained[fusion][0].parameters())
    result[fusion] = {label: np.array([right(model, tokens) for model in trained[fusion]])             # (seeds, 2)
                      for label, tokens in (("image", seen["test"]), ("blank", blank))}
    (mean, one_of_both), (blind, _) = (shares.mean(axis=0) for shares in result[fusion].values())
    print(f"{fusion:22} {weights:,} weights, {(time.process_time() - began) / len(runs):.1f} s each: right {mean:.1%} (",
          ", ".join(f"{share:.1%}" for share in result[fusion]["image"][:, 0]),
          f"), a colour of the scene {one_of_both:.1%}, right with the image blank {blind:.1%}", sep="")
figure, axes = new_figure(7, 3.4)
for color, (fusion, some) in enumerate(curves.items()):
    for seed, curve in enumerate(some):
        axes.plot(np.linspace(0, steps, len(curve)), curve, color=f"C{color}", label=fusion if seed == 0 else None)
for level, label in ((1 / 2, "a colour of the scene, by chance"), (1 / 8, "blind")):
    axes.axhline(level, color="gray", linewidth=0.8, linestyle="--")
    axes.text(steps, level - 0.05, label, ha="right", fontsize=8, color="gray")
axes.set_ylim(0, 1)
axes.set_xlabel("step")
axes.set_ylabel("right, validation scenes")
axes.legend(frameon=False, fontsize=8)
show(figure, "14_fusions")
if not FAST:
    means = {fusion: shares["image"][:, 0].mean() for fusion, shares in result.items()}
    assert means["cross"] > 0.8 and all(means[fusion] < means["cross"] for fusion in FUSIONS[:3])
    assert all(shares["image"][:, 1].min() > 0.9 and np.abs(shares["blank"][:, 0] - 1 / 8).max() < 0.08 for shares in result.values())

# %% [markdown]
# (One learning rate for all, 0.006. On the validation scenes 0.003 and 0.01 were tried too; with each of them cross-attention was first.)
#
# All four soon say one of the two colours that are there: they see the image. With the image blank all are blind, as they must be. But *whose*
# colour it is, cross-attention finds far sooner than the others, which stay at one half for a long time, some seeds to the end. (Between
# own and shared weights these few runs do not decide: the seeds of one kind lie too far apart.) Is joint attention the weaker model,
# then? No. To see what happens, look at **where the answer is read**.
#
# It is read at "is", and "is" does not know which shape is meant: at the first block its query is made of the word "is" and its position alone.
# Cross-attention looks at the words **first**; then, in the same block, it asks the image with what it has read. In the joint attention of the first
# block "is" looks at "circle" and at the image *at the same time*. Its query, and so its scores at the image, are the same whether the text
# said "circle" or "star": only the share can differ. It takes **two blocks**: one to fetch "circle", one to look for it.
# The same holds for concatenation.

# %%
def looks(model, image, ids):
    """The weights at the image tokens of the last word, each block's, mean over heads and scaled to the sum 1: (blocks, B, N)."""
    _, (_, _, blocks, *_) = model.forward(image, ids)
    parts = [(cache.cross_attention or cache.attention).sublayer for cache in blocks]
    at_image = [attention_weights(part)[:, :, -1, :image.shape[1]] for part in parts]          # (B, H, N) each
    return np.array([(w / w.sum(axis=-1, keepdims=True)).mean(axis=1) for w in at_image])


pair = np.repeat(seen["test"][:1], 2, axis=0), texts(test[1][:1])    # one scene, and the texts for both shapes
gap = {fusion: np.abs(np.diff(looks(trained[fusion][0], *pair), axis=1)).max(axis=(1, 2)) for fusion in FUSIONS}
for fusion, (first, second) in gap.items():
    print(f"{fusion:22} the two texts look at the image differently by up to {first:.6f} in block 1, {second:.3f} in block 2")
    assert (first < 1e-5) == (fusion != "cross")

# %% [markdown]
# **The test:** leave out "is". The text is "the circle", and the answer is read at "circle", which knows what to look for from the
# beginning. Now **one** block must be enough for all. And with "is" and one block, only cross-attention should get beyond one half.

# %%
one_block = {(fusion, words): right(train(fusion, 1, 0, steps * 2 // 3, words=words)[0], words=words)[0]
             for fusion in ("concatenate", "joint", "cross") for words in (("the", None, "is"), ("the", None))
             if (fusion, len(words)) != ("concatenate", 3)}
for (fusion, words), share in one_block.items():
    print(f"one block, {fusion:12} {' '.join(word or '...' for word in words):12} right {share:.1%}")
if not FAST:
    assert all(share > 0.7 for (_, words), share in one_block.items() if len(words) == 2)
    assert one_block["cross", ("the", None, "is")] > 0.7 and one_block["joint", ("the", None, "is")] < 0.65

# %% [markdown]
# So it is: where one look is enough, all three learn the task. Cross-attention's advantage was the second look in each block, for which it
# has a second set of weights. (Concatenation with "is" is left out to save time.)
#
# ## Where they look
#
# One scene and its two texts, and the weights of the last word at the image, scaled to the sum 1. Beside cross-attention stands that
# one of the joint models which is best on the validation scenes.

# %%
joint_best = trained["joint"][np.argmax([curve[-1] for curve in curves["joint"]])]
figure, panels = new_figure(9, 4, 2, 5)
maps = {name: looks(model, *pair) for name, model in (("cross", trained["cross"][0]), ("joint", joint_best))}      # (blocks, B, N) each
for row in range(2):
    panels[row, 0].imshow((test[0][0] + 1) / 2)
    panels[row, 0].set_title(f"the {SHAPES[test[1][0, row]]} is ...", fontsize=9)
    for column, (name, block) in enumerate((("cross", 0), ("cross", 1), ("joint", 0), ("joint", 1)), 1):
        panels[row, column].imshow(maps[name][block, row].reshape(8, 8), cmap="Blues", vmin=0)
        panels[row, column].set_title(f"{name}, block {block + 1}", fontsize=9)
for axes in panels.flat:
    axes.set_xticks([])
    axes.set_yticks([])
show(figure, "14_looks")
print(f"right on test scenes: cross {right(trained['cross'][0])[0]:.1%}, joint {right(joint_best)[0]:.1%}")
assert np.allclose(*maps["joint"][0], atol=1e-5)

# %% [markdown]
# Above and below differ only in the shape that the text names. In the first block of joint attention the two maps are the same, as they must
# be; as far as the model has learned to tell the shapes apart, it does so in the second block. The maps of cross-attention differ in the
# first block already. (The shades are scaled to the largest weight of each map. A map is a mean over two heads, which may look at
# different places.)
#
# ## Which one?
#
# - **Cross** adds a second set of weights, and the order "first the text, then the image". It can be put between the blocks of a language
#   model that exists already, which stays as it is (Flamingo, Alayrac et al. 2022).
# - **Concatenate** needs no new layer at all, only image tokens of the words' width. That is why it is used most with large language
#   models (LLaVA, Liu et al. 2023). It pays for long images, unless keys and values are kept; and it does not tell
#   the modalities apart, unless their vectors do.
# - **Joint** stands between: one look, weights for each modality. mPLUG-Owl2 (Ye et al. 2024) has such keys and values within a language
#   model. In Stable Diffusion 3 (Esser et al. 2024) image tokens ask, too, with weights of their own.
#
# Our figures are about 300 steps of small models with one kind of question. They do not say which fusion is best in a large
# model with dozens of blocks: there, two blocks for "first read, then look" are cheap. They say what to look for.
#
# ## Questions
#
# :::{dropdown} A gradient check of joint attention has $N = T$, and the same numbers in $W_{K_i}$ and $W_{K_t}$. Which mistakes does it miss?
# A cut at $T$ instead of $N$; and $dK_i\, W_{K_t}^\top$ in $dM$, the wrong matrix with the right numbers. Sizes that can be confused
# must differ, and so must weights.
# :::
#
# :::{dropdown} The image comes first in the keys. What changes in joint attention if the words come first?
# The columns of the mask, and where the backward cuts. The result does not: attention is a sum over keys, in any order. But the
# library's causal mask, by which query $t$ sees the keys up to $t + N$, then hides the image's last tokens, and shows later words.
# :::
#
# :::{dropdown} Image tokens never see words here. What would be won and lost if they did?
# The image could be read with the question in mind: "circle" could already mark the circle's tokens. But their vectors would have to be worked out
# anew for each question, and while a text is written, for each new word, or else only for the question.
# :::
#
# :::{dropdown} How could one let joint attention start with a share of one half, whatever $N$ is?
# Add $b = -\log(N / T)$ to all scores of the image: that multiplies $Z_i$ by $e^b = T / N$. (So the last word begins with about one half.
# A word before it sees fewer words: word $t$, counted from 0, needs $t + 1$ instead of $T$.) Whether the experiment above would end in another way
# is worth a try; it cannot be told from what we have seen.
# :::
#
# :::{dropdown} Is there a share with cross-attention?
# Not in a softmax. What each attention adds to the residual stream has a size, which $W_V$ and $W_O$ set for all words alike. Flamingo adds a
# learned gate, the same for all words, that begins at 0. A share that depends on the word is what joint attention has.
# :::
#
# ## What you can now do
#
# You can let words see an image in three ways, say what each costs and who sees whom, take a joint softmax apart into two attentions and a share,
# write its backward with the cut and the sums, and find out by a small experiment why one model learns sooner than another. Now do
# `lessons/14_fusion/exercises.py`, and run `tinymm check 14`. The library's layer is `JointAttention` in `tinymm/layers/attention.py`, and
# a whole model with all three is `tinymm/models/text_image.py`.
#
# ## To read
#
# - Vaswani et al. 2017, *Attention Is All You Need*: cross-attention. Dong et al. 2019, *Unified Language Model Pre-training for Natural
#   Language Understanding and Generation*: the masks.
# - Alayrac et al. 2022, *Flamingo: a Visual Language Model for Few-Shot Learning*. Liu et al. 2023, *Visual Instruction Tuning*: LLaVA.
# - Ye et al. 2024, *mPLUG-Owl2: Revolutionizing Multi-modal Large Language Model with Modality Collaboration*. Esser et al. 2024,
#   *Scaling Rectified Flow Transformers for High-Resolution Image Synthesis*: Stable Diffusion 3.
# - He et al. 2022, *Towards a Unified View of Parameter-Efficient Transfer Learning*: the mixture.
