# %% [markdown]
# # 2. Softmax and cross-entropy
#
# **You will learn** how a model says "I think it is a 3, or perhaps an 8", how wrong that is as a number, and why the gradient of that
# number is so simple: what the model said, minus what was right.
#
# **You need** chapter 1.
#
# **It takes** about two seconds to run, and less than 150 MB. The data are 1,797 real handwritten digits.
#
# ## From scores to probabilities
#
# A linear layer gives ten numbers for an image, one for each digit: the **scores**, also called **logits**. They may be negative, and add up
# to anything. Probabilities must lie between 0 and 1 and add up to 1. The **softmax** makes the one into the other:
#
# $$ p_i = \frac{e^{x_i}}{\sum_j e^{x_j}} $$
#
# The possible answers are called **classes**; $V$ is their number, here 10, and so the number of scores. $e^x$ makes
# everything positive; the division makes the sum 1. Larger scores get larger shares.

# %%
import os

import numpy as np

from tinymm import gradient_check
from tinymm.data import load_digits
from tinymm.functional import cross_entropy_backward as library_backward
from tinymm.functional import cross_entropy_forward as library_forward
from tinymm.learning.figures import new_figure, show

FAST = os.environ.get("TINYMM_FAST") == "1"
rng = np.random.default_rng(2)

scores = np.array([2.0, 1.0, 0.0])                       # (V,)
exps = np.exp(scores)                                    # (V,)  7.39, 2.72, 1.00
p = exps / exps.sum()                                    # (V,)
print("probabilities", p.round(3), "sum", p.sum())
assert np.allclose(p, [0.665, 0.245, 0.090], atol=1e-3)

# %% [markdown]
# ## Stable softmax
#
# $e^{1000}$ is too large: the largest number of 16 digits (float64) is about $e^{709.8}$. But only differences of scores
# matter: if $c$ is subtracted from all of them, numerator and denominator both get the factor $e^{-c}$. With $c$ the
# largest score, the largest exponential is $e^0 = 1$, and nothing overflows.
#
# **Break it:**

# %%
large = np.array([1000.0, 999.0, 998.0])                 # (V,)
with np.errstate(over="ignore", invalid="ignore"):
    naive = np.exp(large) / np.exp(large).sum()          # (V,)
shifted = np.exp(large - large.max())                    # (V,)
stable = shifted / shifted.sum()                         # (V,)
print("naive ", naive)
print("stable", stable.round(3))
assert np.isnan(naive).all() and np.allclose(stable, p)
assert abs(np.log(np.finfo(np.float64).max) - 709.8) < 0.05

# %% [markdown]
# ## Cross-entropy: how surprised is the model?
#
# The right answer is class $t$. If the model gave it probability $p_t$, the loss is
#
# $$ L = -\log p_t $$
#
# with the natural logarithm, as in `np.log`. Sure and right, $p_t = 1$: loss 0. A coin toss, $p_t = 1/2$: loss 0.69. Sure and wrong,
# $p_t \to 0$: the loss grows without limit. A model that knows nothing says $1/10$ for each digit, and its loss is $\log 10 = 2.30$.
# Remember that number: it is the first thing to look at when a training begins.

# %%
figure, axes = new_figure(5, 3)
share = np.linspace(0.005, 1, 200)
axes.plot(share, -np.log(share))
axes.plot(0.1, np.log(10), "o", color="black")
axes.annotate("knows nothing of ten digits: 2.30", (0.1, np.log(10)), (0.17, 2.6))
axes.set_xlabel("probability of the right answer")
axes.set_ylabel("loss")
show(figure, "02_loss")
assert abs(np.log(10) - 2.3026) < 1e-4 and abs(np.log(2) - 0.69) < 0.005

# %% [markdown]
# It is called **cross-entropy**: of two distributions $y$ and $p$ that is $-\sum_v y_v \log p_v$. Here $y$ is the right
# distribution, 1 for $t$ and 0 for the others, and only $-\log p_t$ is left of the sum.
#
# ## The backward, the long way
#
# First the softmax alone. How does $p_i$ react to $x_j$? Write $Z = \sum_k e^{x_k}$, and $[i = j]$ for 1 if $i = j$ and 0 if not. By the quotient rule:
#
# $$ \frac{\partial p_i}{\partial x_j} = \frac{[i = j]\, e^{x_i} Z - e^{x_i} e^{x_j}}{Z^2} = p_i \big( [i = j] - p_j \big) $$
#
# This table of $V \times V$ slopes is the **Jacobian** of the softmax. Write $dp_i$ for $\partial L / \partial p_i$, and so
# on. By the chain rule, $d x_j = \sum_i d p_i \, p_i ([i = j] - p_j)$. Of the terms with $[i = j]$ only $dp_j\, p_j$ is left, so
#
# $$ dx_j = p_j \Big( dp_j - \sum_i p_i\, dp_i \Big) $$
#
# Nobody ever builds the Jacobian: the short formula needs $V$ numbers, not $V^2$. Nor does it need the scores: $p$ is all that the cache must hold.
# For an array `(..., V)` each row is a softmax of its own: the sum is over the last axis, with `keepdims=True`, which keeps that
# axis with size 1, so that every row meets its own sum.

# %%
p = rng.dirichlet(np.ones(5))                            # (V,)  random numbers above 0 with the sum 1
d_p = rng.normal(size=5)                                 # (V,)
jacobian = np.diag(p) - np.outer(p, p)                   # (V, V)
the_long_way = jacobian.T @ d_p                          # (V,)
the_short_formula = p * (d_p - (p * d_p).sum())          # (V,)
print("jacobian rows sum to", jacobian.sum(axis=1).round(12))
assert np.allclose(the_long_way, the_short_formula) and np.allclose(jacobian.sum(axis=1), 0)

# %% [markdown]
# ## The backward of both together: $p - y$
#
# Now $L = -\log p_t$, so $dp_t = -1/p_t$, and 0 for the other classes. The short formula gives $\sum_i p_i\, dp_i = -1$, and then
#
# - for $j = t$: $\;dx_t = p_t(-1/p_t + 1) = p_t - 1$
# - for the others: $\;dx_j = p_j(0 + 1) = p_j$
#
# In one line, with $y$ the right distribution:
#
# $$ dx = p - y $$
#
# The same directly: $L = -x_t + \log \sum_k e^{x_k}$, whose derivative with respect to $x_j$ is $-y_j + e^{x_j}/Z$.
#
# It could not be better: each entry of the gradient lies between $-1$ and $1$ whatever the scores are, it is large where
# the model is wrong, and 0 where it is sure and right. The division by $p_t$, which may be tiny, has vanished. That is why
# softmax and loss are computed together.
#
# For a **batch**, $N$ examples at once, one in each row, the loss is the mean over the rows, so each row gets a share of
# $1/N$. A backward gets the gradient of its output, here `d_loss`. The loss is the end of the chain, and $dL/dL = 1$, so
# training calls it with 1. It still multiplies by `d_loss`: the loss may be one of several, each with its own factor.

# %%
def cross_entropy_forward(logits, labels):
    N = len(labels)
    shifted = logits - logits.max(axis=-1, keepdims=True)                # (N, V)  F1
    log_total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))      # (N, 1)  F2
    log_p = shifted - log_total                                          # (N, V)  F3
    loss = -log_p[np.arange(N), labels].mean()                           # ()      F4
    return loss, (np.exp(log_p), labels)


def cross_entropy_backward(d_loss, cache):
    p, labels = cache
    N = len(labels)
    d_logits = p.copy()                                                  # (N, V)  p ...
    d_logits[np.arange(N), labels] -= 1                                  # (N, V)  ... - y
    d_logits *= d_loss / N                                               # (N, V)  each row's share of the mean
    # STOP: every row of d_logits sums to 0: what is taken from one class goes to the others
    return d_logits


logits, labels = rng.normal(size=(4, 6)), np.array([5, 0, 2, 2])
loss, cache = cross_entropy_forward(logits, labels)
expected, library_cache = library_forward(logits, labels)
print("loss", loss, " tinymm.functional:", expected)
assert np.isclose(loss, expected)
d_logits = cross_entropy_backward(1.0, cache)                            # (N, V)
assert np.allclose(d_logits, library_backward(1.0, library_cache))
assert np.allclose(d_logits.sum(axis=1), 0) and np.abs(d_logits * len(labels)).max() <= 1

# labels are whole numbers and have no gradient: constants=("labels",) tells the checker to leave them alone
report = gradient_check(cross_entropy_forward, cross_entropy_backward, {"logits": logits, "labels": labels}, rng=rng,
                        constants=("labels",))
print(report)
assert report.ok

# %% [markdown]
# The long way agrees too: backward through $-\log p_t$, then through the Jacobian of each row.

# %%
p = cache[0]                                                             # (N, V)
d_p = np.zeros_like(p)                                                   # (N, V)
d_p[np.arange(4), labels] = -1 / p[np.arange(4), labels] / 4             # the loss is the mean of 4 rows
the_long_way = np.array([(np.diag(row) - np.outer(row, row)).T @ d_row for row, d_row in zip(p, d_p)])     # (N, V)
print("p - y and the long way differ by", np.abs(the_long_way - d_logits).max())
assert np.allclose(the_long_way, d_logits)

# %% [markdown]
# Note F3: the *logarithm* of $p$ is computed without computing $p$ first. If $p$ is tiny, rounding makes it 0, and $\log 0$ is $-\infty$:

# %%
shifted = np.array([0.0, -800.0])                                        # (V,)  two scores, the largest subtracted
with np.errstate(divide="ignore"):
    of_p = np.log(np.exp(shifted) / np.exp(shifted).sum())               # (V,)
print("log of p:", of_p, " shifted - log_total:", shifted - np.log(np.exp(shifted).sum()))
assert of_p[1] == -np.inf and shifted[1] - np.log(np.exp(shifted).sum()) == -800

# %% [markdown]
# ## Real digits
#
# Each image has 8 by 8 = 64 pixels, from 0 (white) to 1 (black); a linear layer makes ten scores of them: $64 \cdot 10 = 640$ weights
# and 10 biases. They are trained by going down the slope, as in chapter 1. The weights are set on the training digits; the test
# digits, which the model has never seen, say how good it is.

# %%
digits = load_digits()
x, labels = digits.train.images.reshape(-1, 64), digits.train.labels          # (N, 64), (N,)
test_x, test_labels = digits.test.images.reshape(-1, 64), digits.test.labels
assert len(x) + len(test_x) == 1797
weight, bias = np.zeros((64, 10)), np.zeros(10)
losses = []
for step in range(60 if FAST else 300):
    logits = x @ weight + bias                                                # (N, 10)
    loss, cache = cross_entropy_forward(logits, labels)
    losses.append(loss)
    # STOP: in the first step p is 0.1 everywhere, and the loss is log 10
    d_logits = cross_entropy_backward(1.0, cache)                             # (N, 10)
    weight -= 2.0 * (x.T @ d_logits)                                          # (64, 10)
    bias -= 2.0 * d_logits.sum(axis=0)                                        # (10,)
right = ((test_x @ weight + bias).argmax(axis=1) == test_labels).mean()
print(f"loss {losses[0]:.3f} -> {losses[-1]:.3f}; {right:.1%} of the test digits are right")
answers, truth = (np.r_[x, test_x] @ weight + bias).argmax(axis=1), np.r_[labels, test_labels]     # of all 1,797
confused = np.zeros((10, 10), int)                                            # (V, V): row the smaller, column the larger digit
np.add.at(confused, (np.minimum(answers, truth), np.maximum(answers, truth)), answers != truth)
one, other = np.unravel_index(confused.argmax(), confused.shape)
print(f"most often taken for each other: {one} and {other}, {confused.max()} times")
assert (one, other) == (1, 8)
assert np.isclose(losses[0], np.log(10)) and right > 0.9

# %% [markdown]
# Above, a training digit of each class. Below, the columns of the weight as images: where they are red, ink speaks for the digit;
# where blue, against it.

# %%
figure, panels = new_figure(9, 2.2, 2, 10)
for digit in range(10):
    panels[0, digit].imshow(digits.train.images[labels == digit][0], cmap="gray_r")
    panels[1, digit].imshow(weight[:, digit].reshape(8, 8), cmap="RdBu_r", vmin=-2, vmax=2)
for axes in panels.flat:
    axes.set_axis_off()
show(figure, "02_digits")

# %% [markdown]
# **Break it:** forget the mean (leave out the division by $N$). Nothing is wrong with the formula, but the steps are now as many times
# longer as there are digits.

# %%
weight, bias, broken = np.zeros((64, 10)), np.zeros(10), []
for step in range(20):
    loss, cache = cross_entropy_forward(x @ weight + bias, labels)
    broken.append(loss)
    d_logits = cross_entropy_backward(len(labels), cache)                     # (N, 10)
    weight -= 2.0 * (x.T @ d_logits)
    bias -= 2.0 * d_logits.sum(axis=0)
print("loss, step by step:", *(f"{loss:.1f}" for loss in broken[:6]))
assert max(broken) > 100

# %% [markdown]
# ## Questions
#
# :::{dropdown} The loss of the first step is 4.7 instead of 2.3, with ten classes. What do you suspect?
# The model does not start undecided: its first weights are probably too large, so that it is sure and mostly wrong.
# :::
#
# :::{dropdown} Why does every row of d_logits sum to 0?
# Adding the same number to all scores of a row does not change $p$, so the slope in that direction is 0. Or by counting: $p$ sums to 1,
# and so does $y$.
# :::
#
# :::{dropdown} The test accuracy is above 90 %, and the weights of a digit are only a template, one image. Which digits would you expect to be confused?
# Those that share most ink. The lesson counts it: 1 and 8 are taken for each other most often. Look at wrong ones:
# `np.flatnonzero(answers != truth)` lists them.
# :::
#
# ## What you can now do
#
# You can turn scores into probabilities without overflow, say how wrong they are, and start any backward pass: $p - y$. Now do the exercises in
# `lessons/02_softmax_cross_entropy/exercises.py`, and run `tinymm check 2`.
#
# ## To read
#
# - Bridle 1990, *Probabilistic interpretation of feedforward classification network outputs*: where the name softmax comes from.
# - Goodfellow, Bengio and Courville 2016, *Deep Learning*, section 6.2.2.
