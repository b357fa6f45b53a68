# %% [markdown]
# # 1. Gradients by hand
#
# **You will learn** what a gradient is, how to measure one without any algebra, how the chain rule gives it by a formula, and
# how to check the formula against the measurement. The linear layer, the work horse of all that follows, is built.
#
# **You need** Python, a little NumPy, and the derivative of $x^2$.
#
# **It takes** a second to run, and less than 100 MB.
#
# ## The slope
#
# Training makes one number small: the **loss** $L$, which says how wrong the model is. The loss depends on many numbers, the
# model's weights. For each weight we want to know: if it grows a little, does the loss grow or fall, and how fast? That is the
# **derivative** $dL/dw$, the slope of $L$ at $w$. All derivatives together are the **gradient**.
#
# A slope can be measured. Move $w$ a little up and a little down, and see how much $L$ moves:
#
# $$ \frac{dL}{dw} \approx \frac{L(w + h) - L(w - h)}{2h} $$
#
# This is the **central difference**. For $L(w) = w^2$ at $w = 3$ the true slope is $2w = 6$.

# %%
import numpy as np

from tinymm import gradient_check
from tinymm.learning.figures import new_figure, show

rng = np.random.default_rng(1)


def central_difference(f, w, h=1e-5):
    return (f(w + h) - f(w - h)) / (2 * h)


slope = central_difference(lambda w: w**2, 3.0)
print("measured slope of w^2 at 3:", slope)
assert abs(slope - 6) < 1e-8

# %% [markdown]
# ## How small should the step be?
#
# Too large a step measures the slope of a chord instead of the curve; that error falls with $h^2$. Too small a step loses digits: $L(w+h)$ and
# $L(w-h)$ agree in nearly all of their 16 digits, and the difference keeps only the rest; that error grows with $1/h$. In between
# lies a best step. We measure the slope of $e^w$ at $w = 1$, which is $e$.

# %%
steps = 10.0 ** np.arange(-12, 0.1, 0.5)
errors = {"central": [], "one-sided": []}
for h in steps:
    errors["central"].append(abs((np.exp(1 + h) - np.exp(1 - h)) / (2 * h) - np.e))
    errors["one-sided"].append(abs((np.exp(1 + h) - np.exp(1)) / h - np.e))
figure, axes = new_figure(6, 3.4)
for label, values in errors.items():
    axes.loglog(steps, np.maximum(values, 1e-16), "o-", markersize=3, label=label)
axes.set_xlabel("step h")
axes.set_ylabel("error of the slope")
axes.legend(frameon=False)
show(figure, "01_step")
best = steps[int(np.argmin(errors["central"]))]
print(f"best step of the central difference: {best:.0e}")
assert 1e-7 < best < 1e-4 and min(errors["central"]) < min(errors["one-sided"])

# %% [markdown]
# Computations with 16 digits (float64) are needed for this. In float32, with 7 digits, the same step fails:

# %%
slopes = {}
for kind in (np.float64, np.float32):
    one, h = kind(1), kind(1e-5)
    slopes[kind] = (np.exp(one + h) - np.exp(one - h)) / (2 * h)
    print(f"{kind.__name__}: slope {slopes[kind]:.9f}, relative error {abs(slopes[kind] - np.e) / np.e:.0e}")
assert abs(slopes[np.float64] - np.e) < 1e-9 and abs(slopes[np.float32] - np.e) > 1e-4

# %% [markdown]
# ## The chain rule
#
# Measuring is slow: a model with a million weights would need two million evaluations for one gradient. The **chain rule** gives all
# slopes in a single walk backwards. If $L$ depends on $y$, and $y$ on $x$, then
#
# $$ \frac{dL}{dx} = \frac{dL}{dy} \cdot \frac{dy}{dx} $$
#
# If $x$ acts on $L$ along several ways, the products of all ways are **added**. That is all of **backpropagation**: each piece of the
# model gets $dL/d(\text{its output})$, multiplies it by its own slope, and hands $dL/d(\text{its input})$ on.
#
# So each piece is a pair of functions here. The **forward** computes the output, and beside it a **cache**: what the way back will need. The
# **backward** gets the gradient of the output and the cache, and returns the gradients of the inputs and weights.
#
# We write `d_y` for $dL/dy$, for whatever $y$, and in formulas $dY$ where it is a matrix: it has the same shape as `y`, since it
# says for each entry how $L$ reacts. A derivative is written with $\partial$ where $L$ depends on many numbers and only the one
# named is moved. $W^\top$ is $W$ with rows and columns exchanged, `weight.T`.
#
# ## The linear layer, by pencil and paper
#
# $$ y = x W + b $$
#
# Take one row with two inputs, and two outputs. Behind each line stands the shape of its result: $N$ rows, $D_{in}$ inputs, $D_{out}$ outputs.

# %%
x = np.array([[1.0, 2.0]])                       # (N, D_in)      = (1, 2)
weight = np.array([[3.0, 0.0],                   # (D_in, D_out)  = (2, 2)
                   [1.0, 4.0]])
bias = np.array([10.0, 20.0])                    # (D_out,)
y = x @ weight + bias                            # (N, D_out)
print("y =", y, " = (1*3 + 2*1 + 10,  1*0 + 2*4 + 20)")
assert (y == [[15, 28]]).all()

# %% [markdown]
# Suppose that the rest of the model says `d_y` $= (1, -1)$: the loss grows with $y_0$ and falls with $y_1$. What does $x_1$, the second
# input, do? It acts on $y_0$ with factor $W_{10} = 1$, and on $y_1$ with factor $W_{11} = 4$. So
# $dL/dx_1 = 1 \cdot 1 + (-1) \cdot 4 = -3$. And $W_{10}$? It acts only on $y_0$, with factor $x_1 = 2$: $dL/dW_{10} = 2$.
#
# ## The backward, line by line
#
# One entry of the output, for row $n$ and output $j$:
#
# $$ y_{nj} = \sum_i x_{ni} W_{ij} + b_j $$
#
# **The input.** $x_{ni}$ acts on all outputs $j$ of its row, with factor $W_{ij}$:
# $\;\dfrac{\partial L}{\partial x_{ni}} = \sum_j \dfrac{\partial L}{\partial y_{nj}} W_{ij}$, and that is the matrix product $dX = dY\, W^\top$.
#
# **The weight.** $W_{ij}$ acts on output $j$ of every row $n$, with factor $x_{ni}$:
# $\;\dfrac{\partial L}{\partial W_{ij}} = \sum_n x_{ni} \dfrac{\partial L}{\partial y_{nj}}$, that is $dW = X^\top dY$.
#
# **The bias.** $b_j$ acts on output $j$ of every row, with factor 1: $\;\dfrac{\partial L}{\partial b_j} = \sum_n \dfrac{\partial L}{\partial y_{nj}}$.
#
# What is used by many rows gets the sum over these rows. You need not learn the order of the factors by heart: `d_weight` must have the
# shape of `weight`, and only one order of the factors gives it.

# %%
def linear_forward(x, weight, bias):
    out = x @ weight + bias                      # (N, D_out)
    return out, (x, weight)


def linear_backward(d_out, cache):
    x, weight = cache
    d_x = d_out @ weight.T                       # (N, D_in)
    d_weight = x.T @ d_out                       # (D_in, D_out)
    d_bias = d_out.sum(axis=0)                   # (D_out,)
    # STOP: compare the shapes: d_x with x, d_weight with weight, d_bias with a row of d_out
    return d_x, d_weight, d_bias


y, cache = linear_forward(x, weight, bias)
d_x, d_weight, d_bias = linear_backward(np.array([[1.0, -1.0]]), cache)
print("d_x =", d_x)
print("d_weight =\n", d_weight)
assert d_x[0, 1] == -3 and d_weight[1, 0] == 2

# %% [markdown]
# The long way, the three sums entry by entry, gives the same as the three short lines:

# %%
x, weight, bias = rng.normal(size=(4, 3)), rng.normal(size=(3, 5)), rng.normal(size=5)
g = rng.normal(size=(4, 5))                                       # (N, D_out)  some d_out
N, D_in, D_out = 4, 3, 5
long_x = [[sum(g[n, j] * weight[i, j] for j in range(D_out)) for i in range(D_in)] for n in range(N)]
long_weight = [[sum(x[n, i] * g[n, j] for n in range(N)) for j in range(D_out)] for i in range(D_in)]
long_bias = [sum(g[n, j] for n in range(N)) for j in range(D_out)]
for the_long_way, the_short_line in zip((long_x, long_weight, long_bias), linear_backward(g, (x, weight))):
    assert np.allclose(the_long_way, the_short_line)

# %% [markdown]
# **More axes.** Later $x$ is `(B, T, D_in)`: $B$ texts of $T$ words. We write `(..., D_in)` for any axes in front, the
# **leading axes**. The forward `x @ weight + bias` needs no change, nor does `d_out @ weight.T`. But the weight was used by
# every word of every text, so its gradient sums over all leading axes. Make them into one, and it is the old formula:
# `rows = x.reshape(-1, x.shape[-1])` is $(N, D_{in})$, with $N = B\,T$ here, and `d_out` likewise.

# %%
x3, d_out3 = rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 5))       # (B, T, D_in), (B, T, D_out)
rows, d_rows = x3.reshape(-1, 4), d_out3.reshape(-1, 5)                   # (N, D_in), (N, D_out) = (6, 4), (6, 5)
assert np.allclose(rows.T @ d_rows, sum(x3[b].T @ d_out3[b] for b in range(2)))

# %% [markdown]
# ## The same by measuring
#
# To measure, we need a single number $L$. We choose $L = \sum_{nj} g_{nj}\, y_{nj}$ with random numbers $g$: its gradient
# with respect to $y$ is just $g$, so `linear_backward(g, cache)` must give the measured slopes.

# %%
out, cache = linear_forward(x, weight, bias)     # x (4, 3), weight (3, 5), bias (5,), and g from above
d_x, d_weight, d_bias = linear_backward(g, cache)

measured = np.zeros_like(weight)                 # (D_in, D_out)
for i in range(weight.shape[0]):
    for j in range(weight.shape[1]):
        moved_up, moved_down = weight.copy(), weight.copy()
        moved_up[i, j] += 1e-5
        moved_down[i, j] -= 1e-5
        up = (g * (x @ moved_up + bias)).sum()
        down = (g * (x @ moved_down + bias)).sum()
        measured[i, j] = (up - down) / 2e-5
error = np.abs(measured - d_weight).max() / np.abs(d_weight).max()
print("largest relative difference between formula and measurement:", error)
assert error < 1e-8

# %% [markdown]
# `tinymm.gradient_check` does that for every array of a pair of functions. It is the examiner of this whole project: each
# backward in `tinymm` passes it, and so will yours. A line of its table shows the entry of an array where both differ most: where
# it is, what the backward says (*analytic*), and what was measured (*numeric*). (Kinks, the column with zeros, are explained below.)

# %%
report = gradient_check(linear_forward, linear_backward, {"x": x, "weight": weight, "bias": bias}, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# **Break it.** A wrong backward often looks right. Here the bias gets the *mean* over the rows instead of the sum:

# %%
def wrong_backward(d_out, cache):
    d_x, d_weight, _ = linear_backward(d_out, cache)
    return d_x, d_weight, d_out.mean(axis=0)


report = gradient_check(linear_forward, wrong_backward, {"x": x, "weight": weight, "bias": bias}, rng=rng)
print(report)
assert not report.ok

# %% [markdown]
# **Break the check.** Why random $g$ and not ones? Take a layer whose outputs always add up to 1, such as the softmax of the next chapter.
# With ones, $L$ is constant, all slopes are 0, and a backward that returns zeros would pass:

# %%
def shares(x):                                   # each entry divided by the sum of its row
    return x / x.sum(axis=1, keepdims=True)


x = rng.uniform(1, 2, size=(4, 3))
moved_up, moved_down = x.copy(), x.copy()
moved_up[0, 0] += 1e-5
moved_down[0, 0] -= 1e-5
slope_with = {}
for label, g in (("ones", np.ones((4, 3))), ("random g", rng.normal(size=(4, 3)))):
    slope_with[label] = ((g * shares(moved_up)).sum() - (g * shares(moved_down)).sum()) / 2e-5
    print(f"measured slope with {label}: {slope_with[label]:.6f}")
assert abs(slope_with["ones"]) < 1e-9 < 1e-3 < abs(slope_with["random g"])

# %% [markdown]
# ## A bend: ReLU
#
# Two linear layers in a row are no more than one: $(x W_1) W_2 = x (W_1 W_2)$. So between them stands a bend. The simplest
# is **ReLU**, $y = \max(x, 0)$ for each entry: what is negative becomes 0. Its slope is 1 where $x > 0$, and 0 elsewhere.
# So its backward lets `d_y` pass where $x$ was above 0, and stops it elsewhere; the cache is $x$. For two layers,
# $\text{hidden} = x W_1$, $\text{active} = \max(\text{hidden}, 0)$, $\text{out} = \text{active}\, W_2$, the chain rule
# walks back: from `d_out` to `d_active`, to `d_hidden`, to `d_x`. By hand, with numbers:

# %%
hidden = np.array([[2.0, -1.0, 3.0]])            # (N, F) = (1, 3), with F the width between the layers
d_active = np.array([[5.0, 7.0, -4.0]])          # (N, F)
d_hidden = d_active * (hidden > 0)               # (N, F)
# STOP: the middle entry of hidden is negative, so nothing passes there
print("d_hidden =", d_hidden)
assert (d_hidden == [[5, 0, -4]]).all()

# %% [markdown]
# At $x = 0$ ReLU has a **kink**: the slope is 0 on the left, and 1 on the right. A measurement across it gives something in
# between, so the checker notices kinks and skips them; it counts them in its table.
#
# ## Down the slope
#
# With the gradient we can train: move every weight a little against its slope. The line $y = 2x - 1$, with a little noise, is found in
# 60 steps. The loss is the mean square of the error, and its gradient is $2\,(\text{prediction} - y) / N$.

# %%
inputs = rng.uniform(-1, 1, size=(50, 1))                         # (N, 1)
targets = 2 * inputs - 1 + 0.1 * rng.normal(size=(50, 1))         # (N, 1)
weight, bias = np.zeros((1, 1)), np.zeros(1)
losses = []
for step in range(60):
    prediction, cache = linear_forward(inputs, weight, bias)      # (N, 1)
    losses.append(float(((prediction - targets) ** 2).mean()))
    d_prediction = 2 * (prediction - targets) / len(targets)      # (N, 1)
    _, d_weight, d_bias = linear_backward(d_prediction, cache)
    # STOP: d_weight and d_bias shrink towards 0
    weight -= 0.5 * d_weight
    bias -= 0.5 * d_bias
print(f"weight {weight.item():.2f}, bias {bias.item():.2f}, loss {losses[0]:.3f} -> {losses[-1]:.4f}")
figure, (left, right) = new_figure(8, 3, 1, 2)
left.plot(inputs[:, 0], targets[:, 0], ".", color="gray")
left.plot([-1, 1], [bias.item() - weight.item(), bias.item() + weight.item()])
left.set_title("data, and the line that was found")
left.set_xlabel("x")
left.set_ylabel("y")
right.semilogy(losses)
right.set_title("loss")
right.set_xlabel("step")
show(figure, "01_line")
assert abs(weight.item() - 2) < 0.15 and abs(bias.item() + 1) < 0.1
assert max(abs(d_weight.item()), abs(d_bias.item())) < 1e-6

# %% [markdown]
# ## Questions
#
# :::{dropdown} A weight is used in two places of a model. What is its gradient?
# The sum of what comes back from both places. In code: `+=`, never `=`.
# :::
#
# :::{dropdown} `d_x` came out with the shape of `x`, but the check fails. Can that be?
# Yes, if two sizes are equal. With `D_in == D_out` a missing transpose has the right shape. That is why every check here uses
# unequal sizes.
# :::
#
# :::{dropdown} What is the gradient of ReLU, $y = \max(x, 0)$, at $x = 0$? What does the central difference measure there?
# There is none: the slope is 0 on the left and 1 on the right. By convention 0 is taken. The central difference gives
# $(h - 0) / 2h = 1/2$, whatever $h$ is.
# :::
#
# ## What you can now do
#
# You can measure any gradient, derive those of a linear layer and of ReLU, chain them, and find out whether code for a
# gradient is right. Now do the exercises in `lessons/01_gradients/exercises.py`, and run `tinymm check 1`.
#
# ## To read
#
# - Rumelhart, Hinton and Williams 1986, *Learning representations by back-propagating errors*.
# - Baydin et al. 2018, *Automatic differentiation in machine learning: a survey*: how frameworks do it for you.
