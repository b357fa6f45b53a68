# %% [markdown]
# # 8. The Transformer block
#
# **You will learn** the three remaining pieces of a Transformer: layer norm with its three-term gradient, GELU, and residual connections; why they
# are needed; and how a whole block with its backward is put together from what you have.
#
# **You need** chapters 1, 6 and 7.
#
# **It takes** about two seconds to run, and less than 150 MB. The arrays are made up.
#
# ## The picture
#
#     x ---- norm ---- attention ---- + ---- norm ---- W_1 ---- gelu ---- W_2 ---- + ---- out
#      \                             /  \                                         /
#       `--------- as it is --------'    `--------------- as it is --------------'
#
# A Transformer is a pile of such **blocks**. A block has two **sublayers**: attention, in which words take from each other,
# and the **feed-forward part**, two linear layers with a bend between them, which works on each word alone. Around each
# runs a **residual connection**: what goes in is added to what comes out. Before each stands a **layer norm**. The new
# pieces first, then the whole.
#
# ## Layer norm
#
# Deep in a network numbers grow and shrink. Layer norm (Ba et al. 2016) brings each word's vector back to mean 0 and variance 1, and then lets it have
# the spread $g$, the **gain**, and the mean $b$, the **bias**, that training finds best; both have one number for each entry of the vector:
#
# $$ \mu = \frac1D \sum_j x_j, \qquad \sigma^2 = \frac1D \sum_j (x_j - \mu)^2, \qquad \hat x_i = \frac{x_i - \mu}{\sqrt{\sigma^2 + \epsilon}}, \qquad y_i = g_i \hat x_i + b_i $$
#
# $\epsilon$, such as $10^{-5}$, keeps the division finite when all entries are equal. By hand: $x = (1, 3)$ has $\mu = 2$
# and $\sigma = 1$, so $\hat x = (-1, 1)$, but for $\epsilon$.

# %%
import numpy as np

from tinymm import gradient_check
from tinymm.functional import erf, layer_norm_backward as library_backward, layer_norm_forward as library_forward
from tinymm.functional import attention_backward, attention_forward
from tinymm.learning.figures import new_figure, show

rng = np.random.default_rng(8)


def layer_norm_forward(x, gain, bias, epsilon=1e-5):
    mean = x.mean(axis=-1, keepdims=True)                             # (..., 1)  F1
    centred = x - mean                                                # (..., D)  F2
    variance = (centred**2).mean(axis=-1, keepdims=True)              # (..., 1)  F3
    scale = 1 / np.sqrt(variance + epsilon)                           # (..., 1)  F4
    normed = centred * scale                                          # (..., D)  F5
    # STOP: normed has mean 0 and variance 1 in each row
    out = gain * normed + bias                                        # (..., D)  F6
    return out, (normed, scale, gain)


out, _ = layer_norm_forward(np.array([1.0, 3.0]), np.ones(2), np.zeros(2))
print("layer norm of (1, 3):", out.round(3))
assert np.allclose(out, [-1, 1], atol=1e-4) and not np.isclose(out[1], 1, rtol=1e-7)

# %% [markdown]
# ## Its backward, the long way
#
# $dy$ is $\partial L / \partial y$, and so on; $c$ is `centred`, $v$ `variance`, $s$ `scale`. The marks F6 to F1 are those of the code above.
#
# **F6**: entry by entry $y = g\, \hat x + b$, so $d\hat x = g\, dy$, and gain and bias, used by every word, get sums over
# all words: $dg = \sum dy\,\hat x$, $db = \sum dy$.
#
# **F5**, $\hat x = c\, s$: $\; dc = s\, d\hat x$, and, since $s$ acts on all entries of its word, $ds = \sum_i d\hat x_i\, c_i$.
#
# **F4**, $s = (v + \epsilon)^{-1/2}$: $\; dv = -\tfrac12 s^3\, ds$.
#
# **F3**, $v = \frac1D \sum c_j^2$: $\; dc_j$ gets another $\frac{2}{D} c_j\, dv$.
#
# **F2** and **F1**, $c_j = x_j - \frac1D \sum_k x_k$: $x_j$ acts on $c_j$ with 1, and on every $c_k$ with $-\frac1D$, so
# $\; dx_j = dc_j - \frac1D \sum_k dc_k$.

# %%
def layer_norm_backward_steps(d_out, cache):
    normed, scale, gain = cache
    D = normed.shape[-1]
    centred = normed / scale                                          # (..., D)
    d_normed = gain * d_out                                           # (..., D)  undoes F6
    d_centred = d_normed * scale                                      # (..., D)  undoes F5
    d_scale = (d_normed * centred).sum(axis=-1, keepdims=True)        # (..., 1)  undoes F5
    d_variance = -0.5 * scale**3 * d_scale                            # (..., 1)  undoes F4
    d_centred = d_centred + 2 / D * centred * d_variance              # (..., D)  undoes F3
    d_x = d_centred - d_centred.mean(axis=-1, keepdims=True)          # (..., D)  undoes F2 and F1
    return d_x

# %% [markdown]
# ## The short formula: three terms
#
# Put together. The second part of $dc$ is
# $\frac2D c_j \cdot (-\frac12 s^3) \sum_i d\hat x_i c_i = -\frac{s}{D}\, \hat x_j \sum_i d\hat x_i \hat x_i$, because
# $c = \hat x / s$. Its mean over $j$ is 0, since the $\hat x_j$ sum to 0. What is left:
#
# $$ dx_j = s\, \Big( d\hat x_j \;-\; \overline{d\hat x} \;-\; \hat x_j\, \overline{d\hat x \cdot \hat x} \Big) $$
#
# where a bar is the mean over the vector. Read it: the gradient, minus its part along $(1, \dots, 1)$, minus its part along
# $\hat x$. These are the two directions in which moving $x$ changes nothing after the norm: shifting all entries, and
# stretching them.

# %%
def layer_norm_backward(d_out, cache):
    normed, scale, gain = cache
    axes = tuple(range(d_out.ndim - 1))
    d_gain = (d_out * normed).sum(axis=axes)                          # (D,)
    d_bias = d_out.sum(axis=axes)                                     # (D,)
    d_normed = gain * d_out                                           # (..., D)
    mean = d_normed.mean(axis=-1, keepdims=True)                      # (..., 1)
    along = (d_normed * normed).mean(axis=-1, keepdims=True)          # (..., 1)
    d_x = scale * (d_normed - mean - normed * along)                  # (..., D)
    # STOP: d_x sums to 0 in each row, and so does d_x * normed, nearly
    return d_x, d_gain, d_bias


x, gain, bias = rng.normal(size=(2, 3, 5)), rng.normal(size=5), rng.normal(size=5)
out, cache = layer_norm_forward(x, gain, bias)
d_out = rng.normal(size=out.shape)
difference = np.abs(layer_norm_backward(d_out, cache)[0] - layer_norm_backward_steps(d_out, cache)).max()
print("long way and short formula differ by", difference)
assert difference < 1e-12
d_x = layer_norm_backward(d_out, cache)[0]
assert np.allclose(d_x.sum(axis=-1), 0) and np.abs((d_x * cache[0]).sum(axis=-1)).max() < 1e-3
expected = library_backward(d_out, library_forward(x, gain, bias)[1])
assert all(np.allclose(a, b) for a, b in zip(layer_norm_backward(d_out, cache), expected))
report = gradient_check(layer_norm_forward, layer_norm_backward, {"x": x, "gain": gain, "bias": bias}, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# ## GELU
#
# Between the two linear layers of the feed-forward part stands a bend. GELU (Hendrycks and Gimpel 2016) is a soft ReLU: $x$
# times the probability that a normal random number (mean 0, variance 1) lies below $x$. That probability is called
# $\Phi(x)$, and computed with the **error function** erf, which has no formula in simpler functions; `tinymm.functional`
# has it for arrays.
#
# $$ \mathrm{gelu}(x) = x\, \Phi(x), \qquad \Phi(x) = \tfrac12\Big(1 + \mathrm{erf}\frac{x}{\sqrt2}\Big) $$
#
# By hand: $\Phi(0) = \frac12$, so $\mathrm{gelu}(0) = 0$ with slope $\frac12$; for large $x$, $\Phi(x)$ is nearly 1, and $\mathrm{gelu}(x)$ nearly $x$.
#
# By the product rule its slope is $\Phi(x) + x\, \varphi(x)$, with the bell curve $\varphi(x) = e^{-x^2/2} / \sqrt{2\pi}$,
# the derivative of $\Phi$. Therefore $dx = dy\, \big(\Phi(x) + x\, \varphi(x)\big)$.

# %%
def gelu_forward(x):
    return x * 0.5 * (1 + erf(x / np.sqrt(2))), x


def gelu_backward(d_out, cache):
    x = cache
    below = 0.5 * (1 + erf(x / np.sqrt(2)))                           # (...)  Phi
    bell = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)                   # (...)  phi
    return d_out * (below + x * bell)


report = gradient_check(gelu_forward, gelu_backward, {"x": rng.normal(size=(3, 4))}, rng=rng)
print(report)
assert report.ok and gelu_forward(np.zeros(1))[0] == 0 and gelu_backward(np.ones(1), np.zeros(1)) == 0.5
t = np.linspace(-3, 3, 200)
figure, axes = new_figure(5, 3)
axes.plot(t, gelu_forward(t)[0], label="gelu")
axes.plot(t, gelu_backward(np.ones_like(t), t), label="its slope")
axes.plot(t, np.maximum(t, 0), "--", color="gray", label="relu")
axes.set_xlabel("x")
axes.legend(frameon=False)
show(figure, "08_gelu")

# %% [markdown]
# ## Residual connections
#
# A sublayer does not replace its input, it adds to it (He et al. 2016): $\; y = x + f(x)$. So $x$ acts on $y$ along two
# ways: directly, with slope 1, and through $f$, the **branch**. By the chain rule they are added:
# $\; dx = dy + f\text{'s backward}(dy)$. The first term is the point: the gradient reaches every layer directly, however
# deep the network is.
#
# **Break it:** 30 layers $x \to \tanh(x W)$, with and without the residual connection. How much gradient arrives at the first layer?

# %%
depth, width = 30, 32
weights = [rng.normal(size=(width, width)) * 0.5 / np.sqrt(width) for _ in range(depth)]
arrived = {}
for label, residual in (("without", 0.0), ("with", 1.0)):
    x, states = rng.normal(size=(1, width)), []
    for W in weights:
        y = np.tanh(x @ W)                                            # (1, D)
        states.append(y)
        x = residual * x + y                                          # (1, D)
    d_x = rng.normal(size=x.shape)
    sizes = [np.linalg.norm(d_x)]
    for W, y in zip(reversed(weights), reversed(states)):
        d_x = residual * d_x + (d_x * (1 - y**2)) @ W.T               # (1, D)
        sizes.append(np.linalg.norm(d_x))
    arrived[label] = sizes
figure, axes = new_figure(5, 3)
for label, sizes in arrived.items():
    axes.semilogy(sizes, label=f"{label} residual connections")
axes.set_xlabel("layers walked back")
axes.set_ylabel("size of the gradient")
axes.legend(frameon=False)
show(figure, "08_residual")
# STOP: look at arrived["without"]: every layer takes about half of what was left
for label, sizes in arrived.items():
    print(f"{label:7} residual connections: gradient at the first layer / at the last: {sizes[-1] / sizes[0]:.1e}")
assert arrived["without"][-1] < 1e-4 * arrived["without"][0] and arrived["with"][-1] > arrived["with"][0]

# %% [markdown]
# ## Where does the norm stand?
#
# $$ \text{post-norm: } x \leftarrow \mathrm{norm}(x + f(x)) \qquad\qquad \text{pre-norm: } x \leftarrow x + f(\mathrm{norm}(x)) $$
#
# The first Transformer and BERT have post-norm. Then every layer's norm bends the straight path of the gradient, and
# training needs a careful warm-up. Pre-norm (GPT-2 and nearly all later models) leaves the path free (Xiong et al. 2020).
# The price: the sum is never normalised, so one more norm stands at the end of the model.
#
# ## The block
#
# $$ x \leftarrow x + \mathrm{Attention}(\mathrm{norm}_1(x)), \qquad x \leftarrow x + \mathrm{gelu}(\mathrm{norm}_2(x)\, W_1)\, W_2 $$
#
# The feed-forward part is wider inside, usually $F = 4D$. (Its biases, one for each linear layer, are left out here; their
# gradients are those of chapter 1.) Here is the whole block with one head, forward and backward, with nothing hidden; `g1`, `b1`
# and `g2`, `b2` are the gains and biases of the two norms. The
# backward is the residual rule twice: what comes back goes directly, and through the branch, and both are added.

# %%
def block_forward(x, g1, b1, W_q, W_k, W_v, W_o, g2, b2, W_1, W_2):
    a, norm_1 = layer_norm_forward(x, g1, b1)                         # (B, T, D)  F1
    mixed, attention = attention_forward(a @ W_q, a @ W_k, a @ W_v)   # (B, T, D)  F2
    x = x + mixed @ W_o                                               # (B, T, D)  F3
    c, norm_2 = layer_norm_forward(x, g2, b2)                         # (B, T, D)  F4
    hidden = c @ W_1                                                  # (B, T, F)  F5
    active, gelu = gelu_forward(hidden)                               # (B, T, F)  F6
    out = x + active @ W_2                                            # (B, T, D)  F7
    return out, (norm_1, a, attention, mixed, norm_2, c, gelu, active, W_q, W_k, W_v, W_o, W_1, W_2)


def product_gradient(left, d_out):
    """The gradient of W in left @ W, for any leading axes."""
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def block_backward(d_out, cache):
    norm_1, a, attention, mixed, norm_2, c, gelu, active, W_q, W_k, W_v, W_o, W_1, W_2 = cache
    d_W_2 = product_gradient(active, d_out)                           # (F, D)     undoes F7
    d_hidden = gelu_backward(d_out @ W_2.T, gelu)                     # (B, T, F)  undoes F7, F6
    d_W_1 = product_gradient(c, d_hidden)                             # (D, F)     undoes F5
    d_c = d_hidden @ W_1.T                                            # (B, T, D)  undoes F5
    d_branch, d_g2, d_b2 = layer_norm_backward(d_c, norm_2)           # (B, T, D)  undoes F4
    d_x = d_out + d_branch                                            # (B, T, D)  undoes F7: both arms
    # STOP: d_x is d_out plus what came through the feed-forward part

    d_W_o = product_gradient(mixed, d_x)                              # (D, D)     undoes F3
    d_q, d_k, d_v = attention_backward(d_x @ W_o.T, attention)        # (B, T, D)  undoes F3, F2
    d_W_q, d_W_k, d_W_v = (product_gradient(a, d) for d in (d_q, d_k, d_v))
    d_a = d_q @ W_q.T + d_k @ W_k.T + d_v @ W_v.T                     # (B, T, D)  undoes F2
    d_branch, d_g1, d_b1 = layer_norm_backward(d_a, norm_1)           # (B, T, D)  undoes F1
    d_x = d_x + d_branch                                              # (B, T, D)  undoes F3: both arms
    return d_x, d_g1, d_b1, d_W_q, d_W_k, d_W_v, d_W_o, d_g2, d_b2, d_W_1, d_W_2


D, F = 4, 6
inputs = {"x": rng.normal(size=(2, 3, D)), "g1": rng.normal(size=D), "b1": rng.normal(size=D)}
inputs |= {name: rng.normal(size=(D, D)) / 2 for name in ("W_q", "W_k", "W_v", "W_o")}
inputs |= {"g2": rng.normal(size=D), "b2": rng.normal(size=D), "W_1": rng.normal(size=(D, F)), "W_2": rng.normal(size=(F, D))}
report = gradient_check(block_forward, block_backward, inputs, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# Ten weights and one input, all right. **Break it:** forget the direct way around attention. All shapes are right, and so
# are the gradients of this block's weights, for they are computed before the mistake. Only `x` is wrong; but `x` is what
# the block below gave, so everything below would be wrong too.

# %%
def block_backward_without_the_direct_way(d_out, cache):
    d_x, *others = block_backward(d_out, cache)
    norm_1, norm_2, c, gelu, W_1, W_2 = (cache[i] for i in (0, 4, 5, 6, 12, 13))
    arm = d_out + layer_norm_backward(gelu_backward(d_out @ W_2.T, gelu) @ W_1.T, norm_2)[0]        # what comes back at F3
    return d_x - arm, *others


report = gradient_check(block_forward, block_backward_without_the_direct_way, inputs, rng=rng)
print(report)
assert not report.ok and str(report).count("FAIL") == 2                # the headline, and x

# %% [markdown]
# The library's block, with heads, masks, dropout and both places of the norm, is `tinymm/layers/transformer.py`.
#
# ## The block from your own answers
#
# With the exercises of chapters 1, 2, 6, 7 and 8 you have written every piece of a block with several heads, a mask and biases, and of
# the loss above it. Put them together in a file of your own, `my_block.py` in the project's folder. The names of the chapters' folders
# begin with a digit, which `import` does not take; this reads a file all the same:
#
# ```python
# from pathlib import Path
#
# from tinymm.learning.chapters import import_file
#
# attention = import_file(Path("lessons/06_attention/exercises.py"))
# block = import_file(Path("lessons/08_transformer_block/exercises.py"))
# ```
#
# The forward goes down this table, line by line. The backward goes up, undoes each line, and adds the gradients where an array was used
# more than once.
#
# | forward | backward | exercises |
# |---|---|---|
# | `a`: the first norm of `x` | `layer_norm_backward` | 8.1, 8.2 |
# | `q`, `k`, `v`: three linear layers of `a` | `linear_backward` three times; `d_a` is a sum of three | 1.2, 1.3 |
# | cut each into heads | `merge_heads` of each gradient | 7.1, 7.2 |
# | attention with the causal mask | `attention_backward` | 6.1 to 6.4 |
# | merge the heads | `split_heads` | 7.1, 7.2 |
# | a linear layer | `linear_backward` | 1.2, 1.3 |
# | `x` plus that | both arms, added above the first norm | 8.5 |
# | `c`: the second norm of the new `x` | `layer_norm_backward` | 8.1, 8.2 |
# | `hidden`, `active` and the second linear layer; keep `(c, W_1, hidden, active, W_2)` | `feed_forward_backward` | 8.3, 8.4 |
# | the new `x` plus that | both arms, added above the second norm | 8.5 |
# | `logits`: a linear layer; then the loss | `cross_entropy_backward`, `linear_backward` | 2.4, 2.5 |
#
# The loss of chapter 2 wants a row for each word: reshape `logits` to $(B\,T, \text{classes})$ before it, and the gradient back after it. GELU's
# forward is that of this lesson. Then `gradient_check(forward, backward, inputs, rng=rng, constants=("labels",))` tells for each weight whether
# its gradient is right; return the gradients in the order of `inputs`. (The bias of the keys gets 0: it adds the same number to all scores of a
# row.) The project does the same with the solutions, in `tests/lessons/test_block_of_answers.py`: look there when you are stuck.
#
# ## Questions
#
# :::{dropdown} How many weights has a block of width $D$ with a feed-forward width of $4D$?
# Attention has four matrices of $D \times D$, so $4 D^2$; feed-forward $D \times 4D$ and $4D \times D$, so $8 D^2$;
# together $12 D^2$. Norms and biases are small beside it.
# :::
#
# :::{dropdown} Double $x$ before a layer norm. What changes?
# Nothing (but for $\epsilon$). So the gradient along $x$ must vanish, and it does: $x$ lies in the plane of $(1, \dots, 1)$ and $\hat x$, and
# the second and the third term take away what lies there.
# :::
#
# :::{dropdown} The backward of $y = x + f(x)$ is $dx = dy + \dots$. What does a beginner often write?
# Only the branch, without $dy$, as in the last experiment; or the branch applied to a wrong gradient, when one residual connection follows another.
# :::
#
# ## What you can now do
#
# You can derive the gradient of layer norm, build a Transformer block and its whole backward, and say what each residual
# connection adds to it. Now do `lessons/08_transformer_block/exercises.py`, and run `tinymm check 8`; then put your answers together,
# as above.
#
# ## To read
#
# - Ba, Kiros and Hinton 2016, *Layer Normalization*. He et al. 2016, *Deep Residual Learning*.
# - Hendrycks and Gimpel 2016, *Gaussian Error Linear Units*.
# - Xiong et al. 2020, *On Layer Normalization in the Transformer Architecture*.
