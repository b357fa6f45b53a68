# %% [markdown]
# # 13. An image encoder
#
# **You will learn** how an image becomes a row of vectors that a Transformer can read like words: batch norm with its backward,
# first line by line and then in three terms; what it does when the model is used, and the mistakes that are made there; the
# residual block of a convolutional network; and image tokens.
#
# **You need** AdamW (chapter 3), the sinusoidal positions (chapter 7), layer norm and residual connections (chapter 8), and
# convolution (chapter 12).
#
# **It takes** about 30 seconds to run, and less than 400 MB. The images are those of easy-VQA: 5,000 drawings of one coloured
# shape each.
#
# ## The picture
#
#     an image          feature maps                                  a grid          tokens
#
#     32 x 32 x 3   ->  32 x 32 x 8   ->   16 x 16 x 16   ->   8 x 8 x 32    ->    64 x 32
#                 conv             residual block     residual block        row by row
#
# A network of convolutions (a CNN, chapter 12) makes the image smaller, and looks at more of it at each
# step. The last feature maps are a grid of $8 \times 8$ places with 32 numbers each, one of each channel: "what is there". Written in
# one row, place after place, these are 64 vectors. To a Transformer they are nothing else than 64 words: **image tokens**.
#
# Three new things are needed: a norm for convolutions, a way past them, and a way to say where a token stands. First the data.
# The questions of easy-VQA come in chapter 16; here they and their answers only tell what is in an image. Where they do not tell both
# shape and colour, we leave the image out.

# %%
import copy
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")                   # for matrices as small as here one thread is the fastest
import numpy as np

from tinymm import gradient_check, gradient_check_module
from tinymm.data import load_easy_vqa
from tinymm.data.choice_questions import EASY_COLORS, EASY_SHAPES, easy_vqa_shapes
from tinymm.functional import (
    batch_norm_backward as library_norm_backward, batch_norm_forward as library_norm_forward, conv2d_backward, conv2d_forward,
    cross_entropy_backward, cross_entropy_forward, layer_norm_forward, relu_backward, relu_forward,
    sinusoidal_positions,
)
from tinymm.layers import BatchNorm, ConvBlock, LayerNorm, LearnedPositions, Linear, Module, Parameter, ResidualBlock
from tinymm.layers import ResidualImageEncoder
from tinymm.layers.image_encoder import grid_positions as library_positions
from tinymm.learning.figures import new_figure, show
from tinymm.memory import keep_freed_memory
from tinymm.training.optimizers import AdamW

FAST = os.environ.get("TINYMM_FAST") == "1"
keep_freed_memory()                                                  # each step makes the same large arrays again
rng = np.random.default_rng(13)


def images_and_labels(questions):
    """The images whose questions and answers tell both the shape and the colour, and these as numbers."""
    told = easy_vqa_shapes(questions)                                # "what color is the circle?" "red", and so on
    rows = [row for row, shape in enumerate(told) if shape is not None]
    shapes = np.array([EASY_SHAPES.index(told[row].kind) for row in rows])             # (N,)  0 to 2
    colors = np.array([EASY_COLORS.index(told[row].color) for row in rows])            # (N,)  0 to 7
    return questions.images[rows], shapes, colors


data = load_easy_vqa()
train_bytes, train_shapes, train_colors = images_and_labels(data.train)                # (N, 64, 64, 3), (N,), (N,)
test_bytes, test_shapes, test_colors = images_and_labels(data.test)
print(f"training: {len(train_bytes):,} of {len(data.train.images):,} images; test: {len(test_bytes)} of {len(data.test.images):,}")
assert (len(data.train.images), len(data.test.images), len(train_bytes), len(test_bytes)) == (4000, 1000, 3542, 880)


def scaled(pixels, side):
    """Bytes to numbers of about mean 0 and variance 1; side x side pixels, each the mean of a square of pixels."""
    size = pixels.shape[1] // side
    squares = pixels.reshape(len(pixels), side, size, side, size, 3)                   # (N, side, size, side, size, 3)
    return (squares.mean(axis=(2, 4), dtype=np.float32) / 255 - 0.9) / 0.2             # (N, side, side, 3)


def as_picture(x):
    """Back to numbers from 0 to 1, to be shown."""
    return np.clip(x * 0.2 + 0.9, 0, 1)


few = 400 if FAST else None
train_x, test_x = scaled(train_bytes[:few], 32), scaled(test_bytes[:few], 32)          # (N, 32, 32, 3)
assert abs(train_x.mean()) < 0.1 and 0.8 < train_x.var() < 1.3
figure, panels = new_figure(10, 1.7, 1, 8)
for axes, i in zip(panels, [np.flatnonzero(train_colors == color)[color % 3] for color in range(8)]):
    axes.imshow(as_picture(scaled(train_bytes[i:i + 1], 32)[0]))
    axes.set_title(f"{EASY_COLORS[train_colors[i]]}\n{EASY_SHAPES[train_shapes[i]]}", fontsize=8)
    axes.axis("off")
show(figure, "13_images")

# %% [markdown]
# ## Batch norm by hand
#
# Chapter 8 brought each word's vector to mean 0 and variance 1. **Batch norm** (Ioffe and Szegedy 2015) does the same with each
# **channel**: the mean and the variance are taken over all places of all images of the batch. A convolution uses one kernel
# for all these places, so its answers are numbers of one kind, and they get one common scale.
#
# By hand: one channel, and two images of two pixels each. The first image is $(0, 6)$, the second $(6, 8)$. All four numbers
# have the mean $5$. Their distances from it are $(-5, 1)$ and $(1, 3)$, the squares $25, 1, 1, 9$ have the mean $9$, so the
# spread is $\sqrt 9 = 3$, and the result
#
# $$ \hat x = \left(-\tfrac53,\; \tfrac13\right) \quad\text{and}\quad \left(\tfrac13,\; 1\right) $$
#
# Write all places of all images beneath each other, as the rows of a table with a column for each channel. Then layer norm
# looks at a row, and batch norm at a column:

# %%
figure, panels = new_figure(7, 3.2, 1, 2)
for axes, (title, rows, columns) in zip(panels, (("layer norm: one place", 4, slice(None)), ("batch norm: one channel", slice(None), 1))):
    table = np.zeros((6, 4))                                                           # (B H W, C)
    table[rows, columns] = 1
    axes.pcolormesh(table, cmap="Blues", vmin=0, vmax=2, edgecolor="white", linewidth=2)
    axes.axhline(3, color="gray")                                                      # between the two images
    axes.invert_yaxis()
    axes.set_title(title)
    axes.set_xticks(np.arange(4) + 0.5, [f"channel {c}" for c in range(4)], fontsize=7)
    axes.set_yticks(np.arange(6) + 0.5, [f"image {b}, place {i}" for b in range(2) for i in range(3)], fontsize=7)
    axes.tick_params(length=0)
show(figure, "13_axes")

# %% [markdown]
# (The coloured numbers share a mean and a variance.)
#
# ## The equation
#
# For one channel $c$ of $x$ of shape $(B, H, W, C)$, with $M = B H W$ numbers:
#
# $$ \mu_c = \frac1M \sum_{b=1}^{B} \sum_{h=1}^{H} \sum_{w=1}^{W} x_{bhwc}, \qquad
#    \sigma^2_c = \frac1M \sum_{b,h,w} (x_{bhwc} - \mu_c)^2 $$
#
# $$ \hat x_{bhwc} = \frac{x_{bhwc} - \mu_c}{\sqrt{\sigma^2_c + \epsilon}}, \qquad y_{bhwc} = g_c\, \hat x_{bhwc} + b_c $$
#
# (Ioffe and Szegedy 2015, algorithm 1.) A sum over three axes is one sum for NumPy: `axis=(0, 1, 2)`. Each channel has one
# gain $g_c$ and one bias $b_c$. So arrays of shape $(C)$ meet arrays of shape $(B, H, W, C)$, and broadcasting along the last
# axis does the rest.
#
# ## Training is one thing, using another
#
# An image's result now depends on its **neighbours in the batch**: had the second image been darker, $\hat x$ of the first would
# be another one. In training this does no harm, as the neighbours are drawn anew in each step. But an answer must not depend on
# what else is asked at that moment. So the layer keeps two more arrays of shape $(C)$, the **running statistics**: a mean and a
# variance that follow those of the batches,
#
# $$ \text{running} \leftarrow (1 - m)\, \text{running} + m\, \text{batch} $$
#
# with $m = 0.1$, called the **momentum** of a batch norm. (In chapter 3 that word stood for the share that is kept. Here it is the
# share that is new.) Training normalises with the batch, and updates the running statistics on the way. Evaluation, which is all
# use after training, normalises with the running ones, which are then two constants, and changes nothing.
#
# One detail: the four numbers lie closer to *their own* mean $5$ than to the mean of all images, so a batch's variance is a
# little too small on average, by the factor $(M-1)/M$ if the numbers are independent. The running variance takes
# $\sigma^2 \cdot M / (M - 1)$, which makes up for it. By hand: $9 \cdot 4/3 = 12$. The running mean starts at $0$ and the running
# variance at $1$; after this batch they are
# $0.9 \cdot 0 + 0.1 \cdot 5 = 0.5$ and $0.9 \cdot 1 + 0.1 \cdot 12 = 2.1$.

# %%
def running_statistics(x, running_mean, running_variance, momentum=0.1):
    """What the layer keeps for later; only called in training."""
    M = x[..., 0].size                                                                 # numbers of a channel: B H W
    mean = x.mean(axis=(0, 1, 2))                                                      # (C,)
    variance = x.var(axis=(0, 1, 2)) * M / (M - 1)                                     # (C,)
    new_mean = (1 - momentum) * running_mean + momentum * mean                         # (C,)
    new_variance = (1 - momentum) * running_variance + momentum * variance             # (C,)
    return new_mean, new_variance


def batch_norm_forward(x, gain, bias, running_mean, running_variance, training, epsilon=1e-5):
    if training:
        mean = x.mean(axis=(0, 1, 2))                                                  # (C,)          F1
        centred = x - mean                                                             # (B, H, W, C)  F2
        variance = (centred**2).mean(axis=(0, 1, 2))                                   # (C,)          F3
    else:
        centred = x - running_mean                                                     # (B, H, W, C)  F2  a constant
        variance = running_variance                                                    # (C,)              and another
    scale = 1 / np.sqrt(variance + epsilon)                                            # (C,)          F4
    normed = centred * scale                                                           # (B, H, W, C)  F5
    # STOP: in training normed has mean 0 and variance 1 in each channel; in evaluation only about
    out = gain * normed + bias                                                         # (B, H, W, C)  F6
    return out, (normed, scale, gain, training)


x = np.array([[0.0, 6.0], [6.0, 8.0]]).reshape(2, 1, 2, 1)                             # (B, H, W, C)
one, zero = np.ones(1), np.zeros(1)                                                    # (C,)
out, by_hand = batch_norm_forward(x, one, zero, zero, one, True, epsilon=0)
print("by hand:", out.ravel().round(3), " running:", *running_statistics(x, zero, one))
assert np.allclose(out.ravel(), [-5 / 3, 1 / 3, 1 / 3, 1])
assert np.allclose(running_statistics(x, zero, one), [[0.5], [2.1]])

x = 2 + 3 * rng.normal(size=(4, 5, 3, 6))                                              # (B, H, W, C)
gain, bias, zeros, ones = rng.normal(size=6), rng.normal(size=6), np.zeros(6), np.ones(6)
expected, library_cache = library_norm_forward(x, gain, bias, zeros, ones, True)
assert np.allclose(batch_norm_forward(x, gain, bias, zeros, ones, True)[0], expected)
assert np.allclose(running_statistics(x, zeros, ones), (library_cache.running_mean, library_cache.running_variance))
table = x.reshape(-1, 6)                                                               # (B H W, C)
sideways = layer_norm_forward(table.T, np.ones(len(table)), np.zeros(len(table)))[0].T # (B H W, C)
assert np.allclose(batch_norm_forward(x, ones, zeros, zeros, ones, True)[0].reshape(-1, 6), sideways)
print("batch norm of the table = layer norm of the transposed table")

# %% [markdown]
# How fast do the running statistics follow? Each step keeps $0.9$ of the old, so after $k$ steps $0.9^k$ of the start is
# left: 35 % after 10 steps, and less than 1 % after 44.
#
# **Break it:** one image in two batches, once among images as they come, once among black ones. With the statistics of the
# batch its numbers change. With running statistics not a single bit of them does.

# %%
assert round(0.9**10, 2) == 0.35 and 0.9**44 < 0.01 < 0.9**43
kernel = rng.normal(size=(3, 3, 3, 6)) / 5                                             # (3, 3, 3, C)
mixed = train_x[:8].astype(np.float64)                                                 # (8, 32, 32, 3)
dark = np.concatenate([mixed[:1], np.full_like(mixed[1:], -4.5)])                      # (8, 32, 32, 3)  -4.5 is black, (0 - 0.9) / 0.2
running = running_statistics(conv2d_forward(train_x[:200].astype(np.float64), kernel)[0], zeros, ones, momentum=1.0)
for label, training in (("statistics of the batch", True), ("running statistics", False)):
    outs = [batch_norm_forward(conv2d_forward(images, kernel)[0], ones, zeros, *running, training)[0] for images in (mixed, dark)]
    first = [out[0] for out in outs]                                                   # (30, 30, C) each
    moved = np.abs(first[0] - first[1]).max()
    print(f"{label:24} the first image's numbers move by up to {moved:.2f}")
    assert moved > 0.5 if training else moved == 0

# %% [markdown]
# ## The backward, the long way
#
# As before, $dy$ is short for $\partial L / \partial y$. One channel is as good as any, so leave the index $c$ out, and number the
# $M$ places of all images by a single $i$. $c_i$ is `centred`, $v$ `variance`, $s$ `scale`. In training **both the mean and the
# variance depend on every** $x_i$. So $x_i$ acts on the loss along three ways: through its own $c_i$, through the mean, and
# through the variance. Walking back line by line meets all three, and adds them up.
#
# **F6**, $y_i = g \hat x_i + b$: $\; d\hat x_i = g\, dy_i$. Gain and bias served all $M$ places:
# $\; dg = \sum_i dy_i\, \hat x_i$ and $db = \sum_i dy_i$.
#
# **F5**, $\hat x_i = c_i\, s$: $\; dc_i = s\, d\hat x_i$. One $s$ served all $M$ places: $\; ds = \sum_i d\hat x_i\, c_i$.
#
# **F4**, $s = (v + \epsilon)^{-1/2}$: $\; dv = -\tfrac12 (v + \epsilon)^{-3/2}\, ds = -\tfrac12 s^3\, ds$.
#
# **F3**, $v = \frac1M \sum_i c_i^2$, the second use of $c_i$: $\; dc_i$ gets $\frac2M c_i\, dv$ **more**.
#
# **F2**, $c_i = x_i - \mu$: $\; dx_i = dc_i$ so far, and one $\mu$ was taken from all $M$ places: $\; d\mu = -\sum_i dc_i$.
#
# **F1**, $\mu = \frac1M \sum_i x_i$, the second use of $x_i$: $\; dx_i$ gets $\frac1M d\mu$ **more**.
#
# In evaluation there is no F1 and no F3, as the running statistics do not depend on $x$. Then F2 ends it: $dx_i = dc_i$.

# %%
def batch_norm_backward_steps(d_out, cache):
    normed, scale, gain, training = cache
    M = d_out[..., 0].size
    centred = normed / scale                                                           # (B, H, W, C)  F5, read backwards
    d_normed = gain * d_out                                                            # (B, H, W, C)  undoes F6
    d_gain = (d_out * normed).sum(axis=(0, 1, 2))                                      # (C,)          undoes F6
    d_bias = d_out.sum(axis=(0, 1, 2))                                                 # (C,)          undoes F6
    d_centred = scale * d_normed                                                       # (B, H, W, C)  undoes F5
    if not training:
        return d_centred, d_gain, d_bias                                               #               undoes F2
    d_scale = (d_normed * centred).sum(axis=(0, 1, 2))                                 # (C,)          undoes F5
    d_variance = -0.5 * scale**3 * d_scale                                             # (C,)          undoes F4
    d_centred = d_centred + 2 / M * centred * d_variance                               # (B, H, W, C)  undoes F3
    d_mean = -d_centred.sum(axis=(0, 1, 2))                                            # (C,)          undoes F2
    d_x = d_centred + d_mean / M                                                       # (B, H, W, C)  undoes F2 and F1
    # STOP: d_x sums to 0 in each channel
    return d_x, d_gain, d_bias

# %% [markdown]
# ## The short formula: three terms
#
# Put the lines into each other. $c_i = \hat x_i / s$, and $d\hat x_i = g\, dy_i$, so with F5 and F4
#
# $$ ds = \frac gs \sum_j dy_j\, \hat x_j = \frac gs\, dg, \qquad dv = -\tfrac12 s^3 \cdot \frac gs\, dg = -\tfrac12 g s^2\, dg $$
#
# and with F3
#
# $$ dc_i = s\, g\, dy_i + \frac2M \cdot \frac{\hat x_i}{s} \cdot \Big( -\tfrac12 g s^2\, dg \Big)
#    = g\, s\, \Big( dy_i - \hat x_i \frac{dg}{M} \Big) $$
#
# Now F2 and F1 take the mean of $dc$ away. The mean of $dy_i$ is $db / M$, and that of $\hat x_i$ is $0$. What is left:
#
# $$ dx_i = g\, s\, \Big( dy_i \;-\; \frac{db}{M} \;-\; \hat x_i\, \frac{dg}{M} \Big) $$
#
# Compare with layer norm in chapter 8: it is the same algebra along other axes. There a bar was the mean over a vector, and the
# gain, another one for each entry, had to stay inside of the means. Here all numbers that share a mean share the gain, too. So it
# moves out, and the two sums that are left inside are old friends: they **are** the gradients of the bias and of the gain.
#
# By hand: let only the last of the four numbers have a gradient, $dy = (0, 0, 0, 4)$. Then $db = 4$ and $db/M = 1$;
# $dg = 4 \cdot 1$ and $dg/M = 1$; with $g = 1$ and $s = \frac13$
#
# $$ dx = \tfrac13 \Big( 0 - 1 + \tfrac53,\;\; 0 - 1 - \tfrac13,\;\; 0 - 1 - \tfrac13,\;\; 4 - 1 - 1 \Big)
#       = \Big( \tfrac29,\; -\tfrac49,\; -\tfrac49,\; \tfrac69 \Big) $$
#
# These sum to $0$. And the first image gets a gradient, although nobody asked about it: it took part in the mean and the variance.

# %%
def batch_norm_backward(d_out, cache):
    normed, scale, gain, training = cache
    M = d_out[..., 0].size
    d_gain = (d_out * normed).sum(axis=(0, 1, 2))                                      # (C,)
    d_bias = d_out.sum(axis=(0, 1, 2))                                                 # (C,)
    if not training:
        return gain * scale * d_out, d_gain, d_bias                                    # (B, H, W, C): one term is left
    shift = d_bias / M                                                                 # (C,)
    along = d_gain / M                                                                 # (C,)
    d_x = gain * scale * (d_out - shift - normed * along)                              # (B, H, W, C)
    # STOP: d_x sums to 0 in each channel, and so does d_x * normed, nearly (but for epsilon)
    return d_x, d_gain, d_bias


d_x, _, _ = batch_norm_backward(np.array([0.0, 0, 0, 4]).reshape(2, 1, 2, 1), by_hand)
print("by hand:", d_x.ravel().round(3))
assert np.allclose(d_x.ravel(), [2 / 9, -4 / 9, -4 / 9, 6 / 9])

for training in (True, False):
    out, cache = batch_norm_forward(x, gain, bias, rng.normal(size=6), rng.random(6) + 0.5, training)
    d_out = rng.normal(size=out.shape)                                                 # (B, H, W, C)
    steps, short = batch_norm_backward_steps(d_out, cache), batch_norm_backward(d_out, cache)
    assert all(np.allclose(a, b, rtol=1e-10, atol=1e-10) for a, b in zip(steps, short))
    print("training" if training else "evaluation", "- long way and short formula differ by", np.abs(steps[0] - short[0]).max())
mine = batch_norm_backward(d_out, batch_norm_forward(x, gain, bias, zeros, ones, True)[1])
expected = library_norm_backward(d_out, library_norm_forward(x, gain, bias, zeros, ones, True)[1])
assert all(np.allclose(a, b) for a, b in zip(mine, expected)) and np.allclose(mine[0].sum(axis=(0, 1, 2)), 0)

# %% [markdown]
# ## The gradient check
#
# All sizes unequal, once in training and once in evaluation.

# %%
inputs = {"x": rng.normal(size=(3, 2, 5, 4)), "gain": rng.normal(size=4), "bias": rng.normal(size=4),
          "running_mean": rng.normal(size=4), "running_variance": rng.random(4) + 0.5}
for training in (True, False):
    report = gradient_check(batch_norm_forward, batch_norm_backward, inputs | {"training": training}, rng=rng,
                            constants=("running_mean", "running_variance"), name="training" if training else "evaluation")
    print(report)
    assert report.ok

# %% [markdown]
# **Break it:** in training take the batch's mean and variance for constants, as evaluation rightly does. The gradient check
# does not like that, but how bad is it? Give one channel a bias $a$ before the norm: $\mathrm{norm}(x + a)$. The norm takes $a$
# away again, so it changes nothing, and its true gradient is $0$. The wrong backward claims otherwise:

# %%
def backward_with_constants(d_out, cache):
    normed, scale, gain, _ = cache
    return batch_norm_backward(d_out, (normed, scale, gain, False))


report = gradient_check(batch_norm_forward, backward_with_constants, inputs | {"training": True}, rng=rng,
                        constants=("running_mean", "running_variance"), name="the mean as a constant")
print(report)
assert not report.ok and str(report).count("FAIL") == 2                                # the headline, and x
pixels, target = rng.normal(size=(3, 2, 5, 1)), 1 + rng.normal(size=(3, 2, 5, 1))      # (B, H, W, 1)
for label, backward in (("right", batch_norm_backward), ("wrong", backward_with_constants)):
    a, losses = 0.0, []
    for step in range(1000):
        out, cache = batch_norm_forward(pixels + a, one, zero, zero, one, True)        # (B, H, W, 1)
        losses.append(((out - target)**2).mean())
        a -= 0.1 * backward(2 * (out - target) / out.size, cache)[0].sum()
    # STOP: compare losses[0], losses[-1] and a
    print(f"{label}: loss {losses[0]:.4f} -> {losses[-1]:.4f}, and a = {a:.1f}")
    assert np.isclose(losses[0], losses[-1], rtol=1e-9) and (abs(a) < 1e-9 if label == "right" else a > 100)

# %% [markdown]
# The loss stays, and $a$ runs away. The authors of batch norm saw models blow up in this way, and so made mean and variance a part
# of the backward. It also shows why the convolution before a batch norm has no bias of its own.
#
# ## The residual block
#
# A block of a residual network (He et al. 2016) has two convolutions with their norms, and a way past them:
#
# $$ f(x) = \mathrm{norm}_2\big( W_2 * \mathrm{relu}( \mathrm{norm}_1( W_1 * x ) ) \big), \qquad
#    y = \mathrm{relu}\big( f(x) + \mathrm{skip}(x) \big) $$
#
#     x ---- conv ---- norm ---- relu ---- conv ---- norm ---- + ---- relu ---- y
#      \                                                      /
#       `------------- as it is, or conv 1x1 ---- norm ------'
#
# ($*$ is the convolution.) $f$ is the **branch**. Where input and output have the same shape, $\mathrm{skip}(x) = x$, as in chapter 8.
# But at some places an encoder must make the image smaller and take more channels. There $W_1$ moves with a stride of 2, and $x$
# no longer fits. Then the **skip** is the cheapest convolution that makes it fit: a kernel of $1 \times 1$, with the same stride. It
# looks at every second place of every second row, and mixes the channels there.
#
# Backward: a sum hands its gradient to both of its terms, and where two ways come from one $x$, their gradients are added
# (chapter 8). All the rest is pieces that have been checked before, in the opposite order.

# %%
def norm_forward(x, gain, bias):
    """Batch norm in training."""
    return batch_norm_forward(x, gain, bias, np.zeros_like(gain), np.ones_like(gain), True)


def branch_forward(x, W_1, g_1, b_1, W_2, g_2, b_2, stride=1, norm=norm_forward):
    a, conv_1 = conv2d_forward(x, W_1, stride=stride, padding=1)                       # (B, H', W', C')  F1
    n, norm_1 = norm(a, g_1, b_1)                                                      # (B, H', W', C')  F2
    r, relu_1 = relu_forward(n)                                                        # (B, H', W', C')  F3
    c, conv_2 = conv2d_forward(r, W_2, padding=1)                                      # (B, H', W', C')  F4
    branch, norm_2 = norm(c, g_2, b_2)                                                 # (B, H', W', C')  F5
    return branch, (conv_1, norm_1, relu_1, conv_2, norm_2)


def branch_backward(d_branch, cache, norm=batch_norm_backward):
    conv_1, norm_1, relu_1, conv_2, norm_2 = cache
    d_c, d_g_2, d_b_2 = norm(d_branch, norm_2)                                         # (B, H', W', C')  undoes F5
    d_r, d_W_2, _ = conv2d_backward(d_c, conv_2)                                       # (B, H', W', C')  undoes F4
    d_n = relu_backward(d_r, relu_1)                                                   # (B, H', W', C')  undoes F3
    d_a, d_g_1, d_b_1 = norm(d_n, norm_1)                                              # (B, H', W', C')  undoes F2
    d_x, d_W_1, _ = conv2d_backward(d_a, conv_1)                                       # (B, H, W, C)     undoes F1
    return d_x, d_W_1, d_g_1, d_b_1, d_W_2, d_g_2, d_b_2


def residual_forward(x, W_1, g_1, b_1, W_2, g_2, b_2, W_s, g_s, b_s, stride):
    branch, branch_cache = branch_forward(x, W_1, g_1, b_1, W_2, g_2, b_2, stride)     # (B, H', W', C')  F1 to F5
    p, conv_s = conv2d_forward(x, W_s, stride=stride)                                  # (B, H', W', C')  F6  1 x 1
    skip, norm_s = norm_forward(p, g_s, b_s)                                           # (B, H', W', C')  F7
    out, relu_out = relu_forward(branch + skip)                                        # (B, H', W', C')  F8
    return out, (branch_cache, conv_s, norm_s, relu_out)


def residual_backward(d_out, cache):
    branch_cache, conv_s, norm_s, relu_out = cache
    d_sum = relu_backward(d_out, relu_out)                                             # (B, H', W', C')  undoes F8
    # STOP: d_sum goes both ways, whole: a sum copies its gradient
    d_p, d_g_s, d_b_s = batch_norm_backward(d_sum, norm_s)                             # (B, H', W', C')  undoes F7
    d_past, d_W_s, _ = conv2d_backward(d_p, conv_s)                                    # (B, H, W, C)     undoes F6
    d_through, *d_weights = branch_backward(d_sum, branch_cache)                       # (B, H, W, C)     undoes F5 to F1
    d_x = d_through + d_past                                                           # (B, H, W, C)     x went both ways
    return d_x, *d_weights, d_W_s, d_g_s, d_b_s


inputs = {"x": rng.normal(size=(3, 6, 4, 2)), "W_1": rng.normal(size=(3, 3, 2, 5)), "g_1": rng.normal(size=5), "b_1": rng.normal(size=5),
          "W_2": rng.normal(size=(3, 3, 5, 5)), "g_2": rng.normal(size=5), "b_2": rng.normal(size=5),
          "W_s": rng.normal(size=(1, 1, 2, 5)), "g_s": rng.normal(size=5), "b_s": rng.normal(size=5), "stride": 2}
report = gradient_check(residual_forward, residual_backward, inputs, rng=rng, name="residual block")
print(report)
assert report.ok
block = ResidualBlock(2, 5, rng, stride=2).astype(np.float64)                          # the library's, with the same weights
for parameter, name in zip(block.parameters(), ("W_1", "g_1", "b_1", "W_2", "g_2", "b_2", "W_s", "g_s", "b_s")):
    parameter.value[...] = inputs[name]
out, cache = block.forward(inputs["x"], training=True)                                 # (B, H', W', C')
mine, my_cache = residual_forward(**inputs)
d_out = rng.normal(size=out.shape)
assert np.allclose(out, mine) and np.allclose(block.backward(d_out, cache), residual_backward(d_out, my_cache)[0])
print("x", inputs["x"].shape, "-> out", out.shape, "as in tinymm.layers.ResidualBlock")

# %% [markdown]
# ## Why a way past?
#
# Stack 16 blocks, which are 32 convolutions, with random weights of the usual size (variance $2/(9C)$, chapter 12), or 0.7 times as
# large; send a random gradient back, and measure its length at each block. Four kinds: with and without norms, with and
# without skips.

# %%
def no_norm_forward(x, gain, bias):
    return x, None


def no_norm_backward(d_out, cache):
    return d_out, 0, 0


DEPTH = 16


def lengths_on_the_way_back(norms, skips, size, rng, C=8):
    """The gradient's length behind each block, from the last to the first, as a share of that at the end."""
    norm, undo = (norm_forward, batch_norm_backward) if norms else (no_norm_forward, no_norm_backward)
    x, caches = rng.normal(size=(8, 8, 8, C)), []                                      # (B, H, W, C)
    for _ in range(DEPTH):
        W_1, W_2 = (size * rng.normal(size=(3, 3, C, C)) * np.sqrt(2 / (9 * C)) for _ in range(2))
        branch, cache = branch_forward(x, W_1, np.ones(C), np.zeros(C), W_2, np.ones(C), np.zeros(C), norm=norm)
        x, relu = relu_forward(branch + x if skips else branch)                        # (B, H, W, C)
        caches.append((cache, relu))
    d_x = rng.normal(size=x.shape)                                                     # (B, H, W, C)
    lengths = [np.linalg.norm(d_x)]
    for cache, relu in reversed(caches):
        d_sum = relu_backward(d_x, relu)                                               # (B, H, W, C)
        d_x = branch_backward(d_sum, cache, undo)[0] + (d_sum if skips else 0)         # (B, H, W, C)
        lengths.append(np.linalg.norm(d_x))
    return np.array(lengths) / lengths[0]


kinds = {"no norms, no skips": (False, False), "norms alone": (True, False), "skips alone": (False, True), "norms and skips": (True, True)}
lengths = {(kind, size): lengths_on_the_way_back(*how, size, np.random.default_rng(0)) for kind, how in kinds.items() for size in (0.7, 1)}
for kind in kinds:
    print(f"{kind:20} at the first block {lengths[kind, 0.7][-1]:8.2g} times the gradient with small weights, "
          f"{lengths[kind, 1][-1]:6.2g} times with usual ones")
at_first = {key: values[-1] for key, values in lengths.items()}
assert at_first["no norms, no skips", 0.7] < 1e-5 and at_first["skips alone", 1] > 10 * at_first["skips alone", 0.7]
assert at_first["norms alone", 1] > 100 and np.isclose(at_first["norms alone", 1], at_first["norms alone", 0.7], rtol=0.1)
assert at_first["norms and skips", 1] < 15 and np.isclose(at_first["norms and skips", 1], at_first["norms and skips", 0.7], rtol=0.1)
assert 1.1 < at_first["norms alone", 1] ** (1 / (2 * DEPTH)) < 1.21
print(f"norms alone: {at_first['norms alone', 1] ** (1 / (2 * DEPTH)):.2f} times at each convolution")
kept = np.maximum(rng.normal(size=1_000_000), 0)                                       # (1,000,000,)  normal numbers behind a ReLU
assert np.isclose((kept**2).mean(), 0.5, atol=0.005) and np.isclose(kept.var(), 0.34, atol=0.005)
assert round(np.sqrt(0.5 / 0.34), 2) == 1.21

# %% [markdown]
# Without norms all depends on the size of the weights: a little too small, and nothing arrives. With norms it does not matter at
# all, since a norm takes every common factor out.
#
# But then, in a plain stack, the gradient **grows** with every block. A ReLU halves the mean square of normal numbers, and of what
# comes back; the usual size of the weights undoes just that, in both directions. But behind the ReLU the mean is not 0 any more, and
# the *variance*, by which the next norm measures, is not $\frac12$ but only $0.34$. So the norm stretches more than it should: at every
# convolution the gradient becomes about $\sqrt{0.5 / 0.34} = 1.21$ times as long (Yang et al. 2019; in our small stack it is a little
# less). With skips, a part of the gradient goes past all norms.
#
# What does that do to training? We come back to it when there is a model to train.
#
# ## From maps to tokens
#
# The last feature maps of the CNN are $(B, H', W', C)$. A Transformer reads $(B, N, D)$. Take the places row by row, so $N = H' W'$; bring
# the $C$ channels to the width $D$ of the words with a linear layer; and add to each token a vector that says **where** it stands, for
# attention does not see any order (chapter 7). In the equation $n$ is the place in row $h$ and column $w$, that is
# $n = h\, W' + w$:
#
# $$ t_{bn} = x_{bhw}\, W + a + p_n $$
#
# With the bias $a$ and the position $p_n$. And before that? One can also do without a CNN: cut the *image* itself into square **patches**
# of $P \times P$ pixels, and take all $P P C$ numbers of a patch as its vector. That is how the Vision Transformer (**ViT**,
# Dosovitskiy et al. 2021) begins. It is the same function, with $P > 1$:

# %%
def cut_patches(images, P):
    """The squares of P x P pixels, row by row, each as one vector."""
    B, H, W, C = images.shape
    grid = images.reshape(B, H // P, P, W // P, P, C)                                  # (B, H/P, P, W/P, P, C)
    squares = grid.transpose(0, 1, 3, 2, 4, 5)                                         # (B, H/P, W/P, P, P, C)
    # STOP: squares[0, 1, 2] is a square of the image, as it was
    return squares.reshape(B, -1, P * P * C)                                           # (B, N, P P C)


def tokens_forward(images, weight, bias, positions, P):
    patches = cut_patches(images, P)                                                   # (B, N, P P C)  F1
    tokens = patches @ weight + bias                                                   # (B, N, D)      F2
    out = tokens + positions                                                           # (B, N, D)      F3
    return out, (patches, weight, images.shape, P)


small = np.arange(16).reshape(1, 4, 4, 1)                                              # (B, H, W, C)
print("an image of 4 x 4 pixels:", *small[0, :, :, 0].tolist(), "\nits 4 patches:           ", *cut_patches(small, 2)[0].tolist())
assert cut_patches(small, 2)[0, 1].tolist() == [2, 3, 6, 7] and np.array_equal(cut_patches(small, 1)[0, :, 0], np.arange(16))

# %% [markdown]
# A linear layer on patches that do not overlap is nothing but a **convolution whose stride is the size of its kernel**: cutting
# is the im2col of chapter 12, and the reshaped kernel is the weight.

# %%
images, P, D = rng.normal(size=(2, 12, 8, 3)), 4, 5                                    # (B, H, W, C)
kernel, bias = rng.normal(size=(P, P, 3, D)), rng.normal(size=D)                       # (P, P, C, D), (D,)
maps, _ = conv2d_forward(images, kernel, bias, stride=P)                               # (B, H/P, W/P, D)
tokens, _ = tokens_forward(images, kernel.reshape(-1, D), bias, np.zeros((6, D)), P)   # (B, N, D)
print("largest difference of a convolution with stride 4 and a linear layer on patches:", np.abs(maps.reshape(2, 6, D) - tokens).max())
assert np.allclose(maps.reshape(2, 6, D), tokens)

# %% [markdown]
# Backward. **F3**: every image used the same position, so $dp_n = \sum_b dt_{bn}$. **F2** is a linear layer (chapter 1), used at $B N$
# places. **F1** only moved numbers; so each gradient goes back to where its number came from. The transpose $(0, 1, 3, 2, 4, 5)$
# swaps the axes 2 and 3, and swapping once more puts them back.

# %%
def tokens_backward(d_out, cache):
    patches, weight, (B, H, W, C), P = cache
    d_positions = d_out.sum(axis=0)                                                    # (N, D)         undoes F3
    d_bias = d_out.sum(axis=(0, 1))                                                    # (D,)           undoes F2
    d_weight = patches.reshape(-1, P * P * C).T @ d_out.reshape(-1, d_out.shape[-1])   # (P P C, D)     undoes F2
    d_patches = d_out @ weight.T                                                       # (B, N, P P C)  undoes F2
    d_squares = d_patches.reshape(B, H // P, W // P, P, P, C)                          # (B, H/P, W/P, P, P, C)
    d_images = d_squares.transpose(0, 1, 3, 2, 4, 5).reshape(B, H, W, C)               # (B, H, W, C)   undoes F1
    return d_images, d_weight, d_bias, d_positions


inputs = {"images": rng.normal(size=(4, 6, 10, 3)), "weight": rng.normal(size=(12, 7)), "bias": rng.normal(size=7),
          "positions": rng.normal(size=(15, 7)), "P": 2}                               # 3 x 5 squares of 2 x 2 pixels
report = gradient_check(tokens_forward, tokens_backward, inputs, rng=rng, name="tokens")
print(report)
assert report.ok

# %% [markdown]
# ## Positions with two directions
#
# Which vectors $p_n$? If the 64 places of a grid of $8 \times 8$ were simply numbered 0 to 63, the place **below** another one
# would be 8 numbers away, as far as one at the other end of the row. So we give half of the $D$ entries to the row and half to
# the column: $p_n = (\mathrm{PE}(h), \mathrm{PE}(w))$, with the sinusoids $\mathrm{PE}$ of chapter 7 in $D / 2$ entries each.
# This is where they start; the library lets training change them.
#
# The picture shows the dot product of the position in row 3 and column 3 with all others. High means: looks similar.

# %%
def grid_positions(H, W, D):
    rows = sinusoidal_positions(H, D // 2)                                             # (H, D/2)
    columns = sinusoidal_positions(W, D // 2)                                          # (W, D/2)
    return np.concatenate([np.repeat(rows, W, axis=0), np.tile(columns, (H, 1))], axis=1)      # (H W, D)


positions = {"numbered from 0 to 63": sinusoidal_positions(64, 32), "row and column": grid_positions(8, 8, 32)}       # (N, D)
assert np.array_equal(positions["row and column"], library_positions(8, 32))
figure, panels = new_figure(6, 3, 1, 2)
for axes, (label, p) in zip(panels, positions.items()):
    similar = (p @ p[3 * 8 + 3]).reshape(8, 8)                                         # (H', W')
    axes.imshow(similar, cmap="Blues")
    axes.set_title(label)
    print(f"{label:22} with itself {similar[3, 3]:.1f}, its right neighbour {similar[3, 4]:.1f}, the one below {similar[4, 3]:.1f}")
    assert np.isclose(similar[4, 3], similar[3, 4]) == (label == "row and column")
show(figure, "13_positions")

# %% [markdown]
# ## The encoder
#
# Everything together: blocks, tokens, positions, and at the end a layer norm, so that image tokens come to the Transformer with
# the size of words. It is the library's `ResidualImageEncoder`, and an assert below holds the two equal. To train it we need a
# question. Our **head** is the simplest that there is: the mean of all tokens, and a linear layer to $3 + 8$ logits, for the
# shape and for the colour.

# %%
class Encoder(Module):
    def __init__(self, blocks, channels, grid, D, rng):
        self.blocks = blocks
        self.project = Linear(channels, D, rng)
        self.positions = LearnedPositions(grid * grid, D, rng)
        self.positions.weight.value[...] = grid_positions(grid, grid, D)               # (N, D)
        self.norm = LayerNorm(D)

    def forward(self, images, training=False):
        x, blocks = images, []
        for block in self.blocks:
            x, cache = block.forward(x, training)                                      # (B, H', W', C)  F1
            blocks.append(cache)
        grid = x.shape
        x = x.reshape(len(x), -1, x.shape[-1])                                         # (B, N, C)       F2
        x, project = self.project.forward(x)                                           # (B, N, D)       F3
        x, positions = self.positions.forward(x)                                       # (B, N, D)       F4
        tokens, norm = self.norm.forward(x)                                            # (B, N, D)       F5
        return tokens, (blocks, grid, project, positions, norm)

    def backward(self, d_tokens, cache, input_gradient=True):
        blocks, grid, project, positions, norm = cache
        d_x = self.norm.backward(d_tokens, norm)                                       # (B, N, D)       undoes F5
        d_x = self.positions.backward(d_x, positions)                                  # (B, N, D)       undoes F4
        d_x = self.project.backward(d_x, project).reshape(grid)                        # (B, H', W', C)  undoes F3 and F2
        for i in reversed(range(len(blocks))):                                         # (B, H, W, 3)    undoes F1
            d_x = self.blocks[i].backward(d_x, blocks[i], input_gradient or i > 0)     # pixels need no gradient in training
        return d_x


class Classifier(Module):
    def __init__(self, encoder, D, rng):
        self.encoder, self.head = encoder, Linear(D, len(EASY_SHAPES) + len(EASY_COLORS), rng)

    def forward(self, images, training=False):
        tokens, encoder = self.encoder.forward(images, training)                       # (B, N, D)   F1
        logits, head = self.head.forward(tokens.mean(axis=1))                          # (B, 3 + 8)  F2
        return logits, (encoder, head, tokens.shape)

    def backward(self, d_logits, cache, input_gradient=True):
        encoder, head, (B, N, D) = cache
        d_mean = self.head.backward(d_logits, head)                                    # (B, D)      undoes F2
        d_tokens = np.repeat(d_mean[:, None] / N, N, axis=1)                           # (B, N, D)   undoes F2: to each its share
        return self.encoder.backward(d_tokens, encoder, input_gradient)                #             undoes F1


def small_classifier(rng):
    """3 -> 8 -> 16 -> 32 channels; 32 x 32 -> 32 x 32 -> 16 x 16 -> 8 x 8 places."""
    blocks = [ConvBlock(3, 8, rng), ResidualBlock(8, 16, rng, stride=2), ResidualBlock(16, 32, rng, stride=2)]
    return Classifier(Encoder(blocks, 32, 8, 32, rng), 32, rng)


tiny = Classifier(Encoder([ConvBlock(3, 2, rng), ResidualBlock(2, 4, rng, stride=2)], 4, 3, 4, rng), 4, rng)
for name, training in (("the whole, training", True), ("the whole, evaluation", False)):
    report = gradient_check_module(tiny, {"images": rng.normal(size=(2, 6, 6, 3)), "training": training}, rng=rng, max_entries=4, name=name)
    print(str(report).splitlines()[0])
    assert report.ok

model = small_classifier(np.random.default_rng(1))
twin = ResidualImageEncoder(32, (8, 16, 32), (1, 2, 2), 32, rng)
twin.load_state(model.encoder.state())                                                 # the names of all weights are the same
assert np.allclose(twin.forward(test_x[:3])[0], model.encoder.forward(test_x[:3])[0])
print(f"{sum(parameter.value.size for parameter in model.parameters()):,} weights")

# %% [markdown]
# The loss is the sum of two cross-entropies, one for the shape and one for the colour. Who guesses has about
# $\log 3 + \log 8 = 3.18$.

# %%
def train(model, images, steps, rate=0.01, size=16):
    optimizer, losses = AdamW(model, beta2=0.98), []
    for step in range(steps):
        rows = np.random.default_rng([13, step]).integers(len(images), size=size)      # (B,)
        logits, cache = model.forward(images[rows], training=True)                     # (B, 3 + 8)
        shape_loss, shape_cache = cross_entropy_forward(logits[:, :3], train_shapes[rows])
        color_loss, color_cache = cross_entropy_forward(logits[:, 3:], train_colors[rows])
        d_logits = np.concatenate([cross_entropy_backward(1.0, shape_cache), cross_entropy_backward(1.0, color_cache)], axis=1)
        optimizer.zero_grad()
        model.backward(d_logits.astype(np.float32), cache, input_gradient=False)
        # STOP: how large are the gradients of the first and of the last convolution?
        optimizer.step(rate * min(1, (step + 1) / 20) * (1 - step / steps))            # warm-up (chapter 3), then straight down to 0
        losses.append(shape_loss + color_loss)
    return np.array(losses)


def answers(model, images, size=100, training=False):
    """Shape and colour of each image, as numbers; `size` images at a time."""
    kept = copy.deepcopy(model.state())
    logits = np.concatenate([model.forward(images[i:i + size], training)[0] for i in range(0, len(images), size)])     # (N, 3 + 8)
    model.load_state(kept)                                                             # as if it had not been in training
    return np.stack([logits[:, :3].argmax(axis=1), logits[:, 3:].argmax(axis=1)])      # (2, N)


steps, tested = (16, 100) if FAST else (500, len(test_x))
right_answers = np.stack([test_shapes, test_colors])[:, :tested]                       # (2, N)
start = time.perf_counter()
losses = train(model, train_x, steps)
shape_share, color_share = (answers(model, test_x[:tested]) == right_answers).mean(axis=1)
print(f"losses {losses[:10].mean():.2f} -> {losses[-10:].mean():.2f}; right, of {tested} test images: shape {shape_share:.1%}, "
      f"colour {color_share:.1%}   ({time.perf_counter() - start:.0f} s)")
assert round(np.log(3) + np.log(8), 2) == 3.18 and losses[-10:].mean() < losses[:10].mean()
if not FAST:
    assert shape_share > 0.9 and color_share > 0.98

# %% [markdown]
# The test images are those of the official split. The colour is the easier question. The shape needs edges and corners, of every
# size and at every place.
#
# ## Used in the wrong way
#
# **Break it:** two ways to use the trained model wrongly in which all shapes are right, and no error is raised.
#
# 1. *Statistics of the batch* instead of the running ones. With a batch of 100 mixed images it does little. In batches of a
#    single image each channel is normalised over this image alone: how strongly a channel answers here, compared with other
#    images, is lost. And if all images of a batch have the same colour, the mean takes out what they share.
# 2. *The running statistics are forgotten*: weights were saved, but running mean and variance were not, and are 0 and 1 again.
#
# Besides the accuracy we count how many answers, shapes and colours together, differ from those of the right way.

# %%
def forgetful(model):
    """The same weights, and running statistics as at the beginning."""
    twin = copy.deepcopy(model)
    for _, module in twin.modules():
        if isinstance(module, BatchNorm):
            module.running_mean[...], module.running_variance[...] = 0, 1
    return twin


alone = answers(model, test_x[:tested], size=1)                                        # (2, N)  evaluation, one image at a time
together = answers(model, test_x[:tested])                                             # (2, N)  evaluation, 100 at a time
sorted_answers = np.empty_like(alone)                                                  # (2, N)
for color in range(8):
    same = np.flatnonzero(right_answers[1] == color)                                   # the images of one colour
    sorted_answers[:, same] = answers(model, test_x[same], size=len(same), training=True)
ways = {"running statistics, one by one": alone, "running statistics, 100 at a time": together,
        "batch statistics, 100 mixed": answers(model, test_x[:tested], training=True),
        "batch statistics, all of a colour": sorted_answers,
        "batch statistics, one by one": answers(model, test_x[:tested], size=1, training=True),
        "running statistics forgotten": answers(forgetful(model), test_x[:tested])}
print(f"{'':36} shape   colour   answers that differ")
right, differ = {}, {}
for way, given in ways.items():
    right[way], differ[way] = (given == right_answers).mean(axis=1), (given != alone).mean()
    print(f"{way:36} {right[way][0]:.1%}   {right[way][1]:.1%}   {differ[way]:.1%}")
assert differ["running statistics, 100 at a time"] < 0.01                              # rounding may turn a tie
if not FAST:
    assert differ["batch statistics, 100 mixed"] < 0.05 and right["batch statistics, all of a colour"][1] < 0.5
    assert right["batch statistics, one by one"].max() < 0.6 and right["running statistics forgotten"].max() < 0.7

# %% [markdown]
# ## A deep one, of four kinds
#
# Now the promise from above: do norms and skips matter in training? Four networks with 16 blocks after the first convolution, 33
# convolutions in all, on images of $16 \times 16$ pixels. They start from the same weights, of the usual size, and see the same
# images. In two of them a bias stands in the place of each norm. In two of them $x$ is not added: such a block is nothing but two
# convolutions, each with its norm and ReLU. On the left stands what a random gradient did in the stacks from above, solid with small
# weights and dashed with usual ones. (With norms the two lines are one.)

# %%
class NoNorm(Module):
    """A bias for each channel, where a batch norm stood."""

    def __init__(self, channels):
        self.bias = Parameter(np.zeros(channels, np.float32))                          # (C,)

    def forward(self, x, training=False):
        return x + self.bias.value, None                                               # (B, H, W, C)

    def backward(self, d_out, cache):
        self.bias.grad += d_out.sum(axis=(0, 1, 2))
        return d_out


def without_norms(model):
    for _, module in list(model.modules()):
        for name, part in list(module.children()):
            if isinstance(part, BatchNorm):
                setattr(module, name, NoNorm(len(part.gain.value)))
    return model


def deep_classifier(skips, depth, rng):
    blocks = [ConvBlock(3, 12, rng, stride=2)]
    for _ in range(depth):
        blocks += [ResidualBlock(12, 12, rng)] if skips else [ConvBlock(12, 12, rng), ConvBlock(12, 12, rng)]
    return Classifier(Encoder(blocks, 12, 8, 12, rng), 12, rng)


tiny_x, deep = scaled(train_bytes[:few], 16), {}                                       # (N, 16, 16, 3)
for kind, (norms, skips) in kinds.items():
    network = deep_classifier(skips, 4 if FAST else DEPTH, np.random.default_rng(1))
    deep[kind] = train(network if norms else without_norms(network), tiny_x, 3 if FAST else 100)
figure, panels = new_figure(9, 3.4, 1, 2)
for kind, values in deep.items():
    (line,) = panels[0].semilogy(lengths[kind, 0.7], label=kind)
    panels[0].semilogy(lengths[kind, 1], "--", color=line.get_color())
    width = 1 if FAST else 10
    smooth = np.convolve(values, np.ones(width) / width, mode="valid")                 # a mean over 10 steps
    panels[1].plot(np.arange(len(smooth)) + width, smooth)
panels[0].set_title("a random gradient")
panels[0].set_xlabel("blocks walked back")
panels[0].set_ylabel("its length")
panels[0].legend(frameon=False, fontsize=8)
panels[1].axhline(np.log(3) + np.log(8), color="gray", linewidth=0.8)
panels[1].set_title("loss in training")
panels[1].set_xlabel("step")
show(figure, "13_depth")
last = {kind: values[-20:].mean() for kind, values in deep.items()}
print({kind: f"last losses {loss:.2f}" for kind, loss in last.items()})
if not FAST:
    assert all(last["norms and skips"] < loss - 0.3 for kind, loss in last.items() if kind != "norms and skips")

# %% [markdown]
# Left, dashed: with weights of the usual size not even skips alone keep the gradient's length; it grows as much as with norms alone.
# Right: the grey line is guessing. Only norms and skips **together** get far below it in these 100 steps. (With other first weights
# the other three change their order, but stay behind.) The rate is not to blame: 0.003, 0.01 and 0.03 were tried for each of the
# four, and none of the others comes near. Nor is overfitting, as these are losses in training. He et al.
# saw it at a larger scale: deeper plain networks, also with norms, had larger errors *on the images that they were trained on*. (A
# network of two blocks, as ours above, can do without norms if its first weights have the right size. The deeper, the less.)
#
# ## What does a token see?
#
# Chapter 12 worked out receptive fields. Here the kernels of size 3 with the strides $1, 2, 1, 2, 1$ give
# $1 \to 3 \to 5 \to 9 \to 13 \to 21$: a token can see $21 \times 21$ of the $32 \times 32$ pixels, and the token in row $h$ and
# column $w$ of the grid has its middle at pixel $(4h, 4w)$. The skips do not widen it: they only are shorter ways to the same place.
# Does it use all of it alike? The backward tells: the gradient of one token by the pixels, a mean over some images. **In evaluation:**
# in training every pixel of every image of the batch acts on every token, through the means, as the gradient by hand has shown.

# %%
def seen_by(model, images, row, column):
    """|gradient| of a random direction of one token by the pixels of its image, summed over the colours; the mean over the images."""
    tokens, cache = model.encoder.forward(images)                                      # (B, N, D)  in evaluation
    d_tokens = np.zeros_like(tokens)                                                   # (B, N, D)
    d_tokens[:, row * 8 + column] = np.random.default_rng(0).normal(size=tokens.shape[-1])
    d_images = model.encoder.backward(d_tokens, cache)                                 # (B, H, W, 3)
    model.encoder.zero_grad()                                                          # these are no gradients of a loss
    return np.abs(d_images).sum(axis=-1).mean(axis=0)                                  # (H, W)


field, apart = 1, 1
for stride in (1, 2, 1, 2, 1):
    field, apart = field + 2 * apart, apart * stride
assert (field, apart) == (21, 4)
figure, panels = new_figure(10, 2.6, 1, 4)
for axes, (row, column) in zip(panels, ((0, 0), (3, 4), (7, 2), (5, 7))):
    seen = seen_by(model, test_x[:5 if FAST else 100], row, column)                    # (H, W)
    ys, xs = np.nonzero(seen)
    for places, middle in ((ys, 4 * row), (xs, 4 * column)):
        assert (places.min(), places.max()) == (max(0, middle - 10), min(31, middle + 10))
    near = seen[max(0, 4 * row - 5):4 * row + 6, max(0, 4 * column - 5):4 * column + 6].sum() / seen.sum()
    print(f"token ({row}, {column}): rows {ys.min()} to {ys.max()}, columns {xs.min()} to {xs.max()}; "
          f"{near:.0%} of the gradient within 5 pixels of the middle")
    assert FAST or near > 0.4
    axes.imshow(seen, cmap="Blues")
    axes.plot([xs.min() - 0.5, xs.max() + 0.5, xs.max() + 0.5, xs.min() - 0.5, xs.min() - 0.5],
              [ys.min() - 0.5, ys.min() - 0.5, ys.max() + 0.5, ys.max() + 0.5, ys.min() - 0.5], color="C1")
    axes.set_title(f"token of row {row}, column {column}", fontsize=10)
show(figure, "13_receptive_fields")

# %% [markdown]
# The box is what the token can see. Within it, the middle counts most, as many ways lead there (Luo et al. 2016).
#
# And what does a token *say*? The head is linear and takes the mean over tokens, so a logit is the mean of what the head
# makes of each single token. That is a map of evidence: for each place, how much it speaks for a class. Below for the right
# shape, against the mean of the two others; red speaks for it, blue against it.

# %%
chosen = [np.flatnonzero(test_shapes[:100] == shape)[i] for shape in range(3) for i in (0, 1)]
tokens, _ = model.encoder.forward(test_x[chosen])                                      # (B, N, D)
scores = tokens @ model.head.weight.value + model.head.bias.value                      # (B, N, 3 + 8)
assert np.allclose(scores.mean(axis=1), model.forward(test_x[chosen])[0], atol=1e-4)
figure, panels = new_figure(10, 3.6, 2, 6)
for axes, i, score in zip(panels.T, chosen, scores):
    right_shape = test_shapes[i]
    evidence = 1.5 * (score[:, right_shape] - score[:, :3].mean(axis=1)).reshape(8, 8) # (H', W')  right minus mean of the two others
    largest = np.abs(evidence).max()
    axes[0].imshow(as_picture(test_x[i]))
    axes[0].set_title(EASY_SHAPES[right_shape], fontsize=9)
    axes[1].imshow(evidence, cmap="RdBu_r", vmin=-largest, vmax=largest)
    axes[0].axis("off")
    axes[1].axis("off")
show(figure, "13_evidence")

# %% [markdown]
# The evidence lies on the shape and around it, as far as a token sees. Far from it a token knows nothing of it, and says little.
# That is what the Transformer of the next chapters gets: 64 vectors that each tell of one region, and may be
# looked at one by one.
#
# ## Questions
#
# :::{dropdown} 16 images, and 32 channels of 8 x 8 places. How many means does a batch norm take, and over how many numbers each?
# 32 means, one for each channel, each over $16 \cdot 8 \cdot 8 = 1024$ numbers. A layer norm would take 1024 means, over 32 numbers each.
# :::
#
# :::{dropdown} Multiply the weights in front of a batch norm by 10. What happens to its output in training, and to the gradient of these weights?
# The output does not change (but for $\epsilon$). The same loss is reached with weights 10 times as large, so the gradient is a
# *tenth*: $\hat x$ has not changed, but the scale $s$ in front of the bracket is a tenth.
# :::
#
# :::{dropdown} A batch of one image, and channels of 1 x 1 place, in training. What comes out of a batch norm?
# $M = 1$: the mean is the number itself, so $\hat x = 0$, and the output is the bias, whatever the image is. The library refuses it.
# :::
#
# :::{dropdown} Why do Transformers have layer norm and not batch norm?
# Texts differ in length, so padding would get into the means; one writes word by word, with a "batch" of one; and each
# answer must not depend on others in training either, if what is trained shall be what is used. Layer norm looks at a single
# token, always in the same way.
# :::
#
# :::{dropdown} The skip's $1 \times 1$ convolution with stride 2 throws three of four pixels away. Is that not bad?
# The branch still sees them: its first kernel is $3 \times 3$. The skip need not carry everything, only a straight way.
# :::
#
# :::{dropdown} ViT with patches of 16 x 16 pixels, an image of 224 x 224: how many tokens, and how many numbers has each patch?
# $14 \cdot 14 = 196$ tokens; $16 \cdot 16 \cdot 3 = 768$ numbers.
# :::
#
# ## What you can now do
#
# You can derive the gradient of batch norm through mean and variance, say which statistics are used when and what goes wrong
# otherwise, put together a residual block with its backward, and turn an image into tokens, by a CNN or by patches. Now do
# `lessons/13_image_encoder/exercises.py`, and run `tinymm check 13`. The library's encoder is `tinymm/layers/residual_encoder.py`.
#
# ## To read
#
# - Ioffe and Szegedy 2015, *Batch Normalization: Accelerating Deep Network Training by Reducing Internal Covariate Shift*.
# - He, Zhang, Ren and Sun 2016, *Deep Residual Learning for Image Recognition*.
# - Dosovitskiy et al. 2021, *An Image is Worth 16x16 Words: Transformers for Image Recognition at Scale*.
# - Yang et al. 2019, *A Mean Field Theory of Batch Normalization*. Luo et al. 2016, *Understanding the Effective Receptive Field in
#   Deep Convolutional Neural Networks*. V. Zhou 2019, *easy-VQA*: the images.
