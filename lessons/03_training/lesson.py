# %% [markdown]
# # 3. Training
#
# **You will learn** how weights should start, why small batches are enough, what momentum, Adam and AdamW do with a gradient, how the length of the
# steps should change over time, how one bad step is kept from doing harm, and the first test of any new model: can it learn one batch by heart?
#
# **You need** chapters 1 and 2.
#
# **It takes** about five seconds to run, and less than 200 MB. The data are the handwritten digits.
#
# ## A network with two layers
#
# $$ h = \mathrm{relu}(x W_1 + b_1), \qquad \mathrm{logits} = h W_2 + b_2 $$
#
# The pairs of `tinymm.functional` are those of the last two chapters. A model here is nothing but a dictionary of arrays.
# The $F$ numbers of $h$ are the **hidden units**: they are neither given nor asked for. $B$ is the number of examples that
# are worked on at once, the **batch**.

# %%
import os

import numpy as np

from tinymm import gradient_check
from tinymm.data import load_digits
from tinymm.functional import (
    cross_entropy_backward, cross_entropy_forward, linear_backward, linear_forward, relu_backward, relu_forward,
)
from tinymm.learning.figures import new_figure, show

FAST = os.environ.get("TINYMM_FAST") == "1"
digits = load_digits()
train_x, train_labels = digits.train.images.reshape(-1, 64), digits.train.labels      # (N, 64), (N,)
test_x, test_labels = digits.test.images.reshape(-1, 64), digits.test.labels


def loss_and_gradients(model, x, labels):
    hidden, cache_1 = linear_forward(x, model["W1"], model["b1"])                     # (B, F)   F1
    active, cache_2 = relu_forward(hidden)                                            # (B, F)   F2
    logits, cache_3 = linear_forward(active, model["W2"], model["b2"])                # (B, 10)  F3
    loss, cache_4 = cross_entropy_forward(logits, labels)                             # ()       F4

    d_logits = cross_entropy_backward(1.0, cache_4)                                   # (B, 10)  undoes F4
    d_active, d_W2, d_b2 = linear_backward(d_logits, cache_3)                         # (B, F)   undoes F3
    d_hidden = relu_backward(d_active, cache_2)                                       # (B, F)   undoes F2
    _, d_W1, d_b1 = linear_backward(d_hidden, cache_1)                                #          undoes F1
    return loss, {"W1": d_W1, "b1": d_b1, "W2": d_W2, "b2": d_b2}


def accuracy(model, x, labels):
    hidden = np.maximum(x @ model["W1"] + model["b1"], 0)                             # (N, F)
    return ((hidden @ model["W2"] + model["b2"]).argmax(axis=1) == labels).mean()

# %% [markdown]
# Four backwards in a row, each checked before. Is the chain right too? The checker wants a pair: here the forward computes the gradients
# along with the loss, and the cache hands them over. (Of an array with more than 64 entries it tries 64, and one random direction
# through all of them: that makes 65.)

# %%
def network_forward(x, labels, **model):
    return loss_and_gradients(model, x, labels)


def network_backward(d_loss, cache):
    return tuple(d_loss * gradient for gradient in cache.values())


rng = np.random.default_rng(3)
inputs = {"x": train_x[:5], "labels": train_labels[:5], "W1": rng.normal(size=(64, 6)) / 8, "b1": rng.normal(size=6),
          "W2": rng.normal(size=(6, 10)), "b2": rng.normal(size=10)}
report = gradient_check(network_forward, network_backward, inputs, rng=rng, constants=("x", "labels"))
print(report)
assert report.ok

# %% [markdown]
# ## How should the weights start?
#
# Not at zero: then all hidden units are equal, get equal gradients, and stay equal for ever. So they start at random. But
# how large? The **variance** of a random number with mean 0 is the mean of its square. Take a layer with $D$ inputs of
# variance 1, and weights of mean 0 and variance $s^2$, all independent. Each output is a sum of $D$ products; a product has
# variance $1 \cdot s^2$, and variances add, so the output has $D s^2$. After ten layers it has been multiplied by
# $(D s^2)^{10}$: it explodes or vanishes, unless $D s^2 = 1$. ReLU makes the negative half of the outputs 0, and so halves
# the mean square; therefore $D s^2 = 2$, that is $s^2 = 2 / D$, for ReLU networks (He et al. 2015). The picture follows the
# root of the mean square through 20 layers.

# %%
sizes = {}
for label, scale in (("too small: 0.5 / D", 0.5), ("right for ReLU: 2 / D", 2.0), ("too large: 4 / D", 4.0)):
    x, sizes[label] = rng.normal(size=(200, 256)), []
    for layer in range(20):
        x = np.maximum(x @ rng.normal(0, np.sqrt(scale / 256), size=(256, 256)), 0)   # (200, 256)
        sizes[label].append(np.sqrt((x**2).mean()))
figure, axes = new_figure(6, 3)
for label, values in sizes.items():
    axes.semilogy(range(1, 21), values, label=label)
axes.set_xticks(range(2, 21, 2))
axes.set_xlabel("layer")
axes.set_ylabel("root of the mean square")
axes.legend(frameon=False)
show(figure, "03_start")
assert sizes["too small: 0.5 / D"][-1] < 1e-4 and 0.2 < sizes["right for ReLU: 2 / D"][-1] < 5 and sizes["too large: 4 / D"][-1] > 100

# %% [markdown]
# In code: `rng.normal(0, sqrt(2 / D_in), size)`, or the same with `sqrt(2 / D_in) * rng.normal(size=size)`: `normal` takes
# the standard deviation, which is the root of the variance. The last layer, whose outputs are the logits, may start
# smaller: then the first loss is near $\log 10$.

# %%
def new_model(seed=0, hidden=32):
    rng = np.random.default_rng(seed)
    return {"W1": rng.normal(0, np.sqrt(2 / 64), size=(64, hidden)), "b1": np.zeros(hidden),
            "W2": rng.normal(0, 0.1 * np.sqrt(1 / hidden), size=(hidden, 10)), "b2": np.zeros(10)}


loss, gradients = loss_and_gradients(new_model(), train_x, train_labels)
print(f"first loss {loss:.3f}; log 10 is {np.log(10):.3f}")
assert abs(loss - np.log(10)) < 0.05

# %% [markdown]
# ## The first test: one batch by heart
#
# Before any long training: can the model learn 16 examples by heart? It has enough weights. If the loss does not go to 0, there is a mistake
# in the model, its backward, or the **optimizer** (the rule that makes steps out of gradients), and no amount of data will mend it.

# %%
model = new_model()
for step in range(200):
    loss, gradients = loss_and_gradients(model, train_x[:16], train_labels[:16])
    for name in model:
        model[name] -= 0.5 * gradients[name]
# STOP: look at gradients: what is learned gives small ones
print(f"after 200 steps on one batch of 16: loss {loss:.4f}, right: {accuracy(model, train_x[:16], train_labels[:16]):.0%}")
assert loss < 0.02

# %% [markdown]
# ## Mini-batches
#
# The gradient over all 1,541 digits costs 1,541 forward and backward passes for one step. The mean over 32 of them, drawn
# at random, costs 1/48 of that. It is rough, but right on average, and points to the same side. Its error falls only with
# $1/\sqrt{B}$: four times the batch halves it. So many rough steps beat a few exact ones. We measure the error, and the
# **cosine** of the angle to the exact gradient: 1 is the same direction, 0 a right angle.

# %%
model = new_model()
_, exact = loss_and_gradients(model, train_x, train_labels)
assert len(train_x) == 1541 and round(1541 / 32) == 48 and len(test_x) == 256
deviation, cosine = [], []
batch_sizes = [4, 16, 64, 256]
for size in batch_sizes:
    errors, cosines = [], []
    for _ in range(40):
        rows = rng.choice(len(train_x), size, replace=False)
        _, rough = loss_and_gradients(model, train_x[rows], train_labels[rows])
        errors.append(np.linalg.norm(rough["W1"] - exact["W1"]) / np.linalg.norm(exact["W1"]))
        cosines.append((rough["W1"] * exact["W1"]).sum() / np.linalg.norm(rough["W1"]) / np.linalg.norm(exact["W1"]))
    deviation.append(np.mean(errors))
    cosine.append(np.mean(cosines))
print("batch size:", batch_sizes, " relative error of the gradient:", np.round(deviation, 2), " cosine:", np.round(cosine, 2))
assert 1.6 < deviation[0] / deviation[1] < 2.5 and 0.1 < cosine[0] < cosine[1] < cosine[2] < cosine[3]

# %% [markdown]
# ## Optimizers
#
# Let $g$ be the gradient, $\eta$ the length of a step, the **learning rate**.
#
# **SGD** (stochastic gradient descent): $\; w \leftarrow w - \eta\, g$.
#
# **Momentum** (Polyak 1964) keeps a running sum of the gradients. Where they agree from step to step it speeds up; where they change sign
# they cancel: $\; m \leftarrow \mu m + g, \quad w \leftarrow w - \eta\, m$. If $g$ stays the same, $m$ grows to
# $g + \mu g + \mu^2 g + \dots = g / (1 - \mu)$: with $\mu = 0.9$ the steps become ten times as long.
#
# **Adam** (Kingma and Ba 2015) divides by the usual size of each weight's own gradient, so that all weights move at a similar speed:
#
# $$ m \leftarrow \beta_1 m + (1 - \beta_1) g \qquad v \leftarrow \beta_2 v + (1 - \beta_2) g^2 $$
# $$ \hat m = \frac{m}{1 - \beta_1^t} \qquad \hat v = \frac{v}{1 - \beta_2^t} \qquad w \leftarrow w - \eta\, \frac{\hat m}{\sqrt{\hat v} + \epsilon} $$
#
# $m$ and $v$ start at 0, so after $t$ steps they hold only $1 - \beta^t$ of a full mean; the hats undo that. In the first step $\hat m = g$ and
# $\hat v = g^2$, so every weight moves by $\eta$.
#
# $\epsilon$ is tiny, and only keeps the division finite. Usual are $\mu = 0.9$, $\beta_1 = 0.9$, $\beta_2 = 0.999$ or less, $\epsilon = 10^{-8}$.
#
# **AdamW** (Loshchilov and Hutter 2019) also shrinks the weights, *beside* Adam's step and not through the gradient:
# $\; w \leftarrow w - \eta\, \lambda\, w$. Weights that are of no use fade away. This is **weight decay**.
#
# ### What the hats are for, the long way
#
# Insert $m$ into itself, from step $t$ back to the first:
#
# $$ m_t = (1 - \beta) g_t + \beta m_{t-1} = (1 - \beta) \big( g_t + \beta g_{t-1} + \beta^2 g_{t-2} + \dots + \beta^{t-1} g_1 \big) $$
#
# A weighted sum of all gradients so far. The weights sum to $(1 - \beta)(1 + \beta + \dots + \beta^{t-1}) = 1 - \beta^t$,
# by the formula of the geometric sum. Divided by that, $\hat m$ is a true weighted mean: its weights sum to 1.

# %%
beta, gs = 0.9, rng.normal(size=5)                                                    # five gradients of one weight
m = 0.0
for g in gs:
    m = beta * m + (1 - beta) * g
shares = (1 - beta) * beta ** np.arange(4, -1, -1)                                    # (t,)  of g_1 ... g_5
print(f"m {m:.6f}, long way {(shares * gs).sum():.6f}; the shares sum to {shares.sum():.5f}, 1 - beta^5 is {1 - beta**5:.5f}")
assert np.isclose(m, (shares * gs).sum()) and np.isclose(shares.sum(), 1 - beta**5)
assert np.isclose(m / (1 - beta**5), np.average(gs, weights=shares))

# %%
def sgd(w, g, state, rate):
    return w - rate * g


def momentum(w, g, state, rate, mu=0.9):
    state["m"] = mu * state.get("m", 0) + g
    return w - rate * state["m"]


def adamw(w, g, state, rate, beta1=0.9, beta2=0.999, decay=0.01, epsilon=1e-8):
    state["t"] = t = state.get("t", 0) + 1
    state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * g
    state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * g**2
    m_hat = state["m"] / (1 - beta1**t)
    v_hat = state["v"] / (1 - beta2**t)
    # STOP: in the first step m_hat / sqrt(v_hat) is +1 or -1 everywhere
    return w - rate * (m_hat / (np.sqrt(v_hat) + epsilon) + decay * w)


first = adamw(np.zeros(3), np.array([5.0, -0.01, 1e-4]), {}, 0.01)                    # three weights, very different gradients
print("Adam's first step:", first)
assert np.allclose(first, [-0.01, 0.01, -0.01], rtol=1e-3)


def train(update, rate_at, steps, seed=0, limit=np.inf):
    model, losses = new_model(seed), []
    states = {name: {} for name in model}
    for step in range(steps):
        rows = np.random.default_rng([seed, step]).integers(len(train_x), size=32)    # (B,)
        loss, gradients = loss_and_gradients(model, train_x[rows], train_labels[rows])
        losses.append(loss)
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))                 # () below, at "Clipping"
        for name in model:
            gradients[name] = min(1, limit / norm) * gradients[name]
            model[name] = update(model[name], gradients[name], states[name], rate_at(step))
    return model, losses


steps = 150 if FAST else 600
curves, rights = {}, {}
for label, update, rate in (("SGD, 0.1", sgd, 0.1), ("SGD, 1.0", sgd, 1.0), ("momentum, 0.1", momentum, 0.1), ("AdamW, 0.01", adamw, 0.01)):
    model, losses = train(update, lambda step: rate, steps)
    curves[label], rights[label] = losses, accuracy(model, test_x, test_labels)
    print(f"{label:14} loss of the last 50 steps {np.mean(losses[-50:]):.3f}, test {rights[label]:.1%}")
figure, axes = new_figure(6, 3.2)
for label, losses in curves.items():
    axes.semilogy(np.convolve(losses, np.ones(20) / 20, "valid"), label=label)
axes.set_xlabel("step")
axes.set_ylabel("loss, mean of 20 steps")
axes.legend(frameon=False)
show(figure, "03_optimizers")
assert max(np.mean(curves[label][-50:]) for label in ("momentum, 0.1", "AdamW, 0.01")) < np.mean(curves["SGD, 0.1"][-50:])
assert max(curves["SGD, 1.0"][20:]) > 1.5 * max(curves["momentum, 0.1"][20:])

# %% [markdown]
# Momentum and AdamW are far ahead of SGD with rate 0.1. Is momentum only SGD with ten times longer steps? Then SGD with rate 1 should
# do as well. With 600 steps it comes near in the end, but on the way its loss leaps up: there each batch alone makes a step of the full
# length, while in momentum's sum over many batches what changes sign cancels. Which of momentum and AdamW wins, depends on the task
# and on the rates.
#
# (The test set has only 256 digits: two models that differ by one percent differ by three digits.)
#
# The random numbers of step $s$ come from `default_rng([seed, s])`. So a training can be stopped and resumed anywhere, and the same seed gives the
# same weights, bit for bit. `tinymm train` does it in the same way.
#
# ## Warm-up and cosine
#
# Long steps are good far from the goal, short ones near it. A common plan: start near 0 and grow for some steps
# (**warm-up**: Adam's $v$ has seen too few gradients yet to be a good guess), then fall along half a cosine to 0. With $s$
# the step, counted from 0, $S$ their number and $W$ that of the warm-up:
#
# $$ \eta_s = \eta_{max} \frac{s + 1}{W} \;\; \text{for } s < W, \qquad \eta_s = \frac{\eta_{max}}{2} \Big( 1 + \cos \pi \frac{s - W}{S - W} \Big) \;\; \text{after that.} $$
#
# By hand: at $s = W$ the cosine is 1, so $\eta = \eta_{max}$, the **peak**; at $s = S$ it would be $-1$, so $\eta = 0$.

# %%
def warmup_cosine(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * 0.5 * (1 + np.cos(np.pi * (step - warmup) / (steps - warmup)))


plan = [warmup_cosine(step, steps, 0.1, steps // 10) for step in range(steps)]
assert np.isclose(plan[steps // 10], 0.1) and warmup_cosine(steps, steps, 0.1, steps // 10) == 0
figure, axes = new_figure(5, 2.4)
axes.plot(plan)
axes.set_xlabel("step")
axes.set_ylabel("learning rate")
show(figure, "03_plan")
final = {}
for peak in (0.01, 0.1):
    for label, scale in (("constant", np.full(steps, peak)), ("with the plan", peak / 0.1 * np.array(plan))):
        model, _ = train(adamw, lambda step: scale[step], steps)
        final[peak, label] = loss_and_gradients(model, train_x, train_labels)[0]
        print(f"AdamW, {peak}, {label:14} loss on all training digits {final[peak, label]:.4f}, test {accuracy(model, test_x, test_labels):.1%}")
assert final[0.1, "with the plan"] < 0.5 * final[0.1, "constant"] and final[0.01, "with the plan"] > final[0.01, "constant"]

# %% [markdown]
# With long steps, 0.1, the plan is far better: it ends with short ones. With 0.01 the constant rate wins: its steps are
# short enough for the end, and the plan makes most of them shorter still. So a plan is a way to *begin* with long steps,
# and no gain by itself.
#
# **Break it:** momentum with a learning rate 30 times too long.

# %%
with np.errstate(all="ignore"):
    _, broken = train(momentum, lambda step: 3.0, 60)
print("momentum with rate 3: loss", np.round(broken[:8], 1))
assert not max(broken) < 5

# %% [markdown]
# ## Clipping
#
# A gradient that is far too large, from a steep place or a strange batch, makes a step that ruins the model. A guard
# against it (Pascanu, Mikolov and Bengio 2013): take all gradients together as one long vector, and if its length, the
# **global norm**, is above a limit, shorten it to the limit. All gradients get the same factor, so the direction stays:
#
# $$ \text{norm} = \sqrt{\sum_{\text{arrays}} \sum_{\text{entries}} g^2}, \qquad g \leftarrow g \cdot \min\!\Big(1, \frac{\text{limit}}{\text{norm}}\Big) $$
#
# By hand: two arrays $(3)$ and $(0, 4)$ have the norm $\sqrt{9 + 16} = 5$; with limit 1 they become $(0.6)$ and $(0, 0.8)$;
# with limit 10 nothing changes. `train` above does it with its argument `limit`. The broken training again:

# %%
norm = np.sqrt(sum((g**2).sum() for g in (np.array([3.0]), np.array([0.0, 4.0]))))
assert norm == 5 and np.isclose(min(1, 1 / norm) * 3, 0.6) and min(1, 10 / norm) == 1
_, clipped = train(momentum, lambda step: 3.0, 60, limit=0.1)
print(f"momentum with rate 3: highest loss {max(broken):.1f}, with clipping {max(clipped):.1f};",
      f"mean of the last ten {np.mean(broken[-10:]):.1f}, with clipping {np.mean(clipped[-10:]):.1f}")
assert max(clipped) < 2.5 and np.mean(clipped[-10:]) < 0.6 and not np.mean(broken[-10:]) < 1

# %% [markdown]
# ## Overfitting
#
# That a model can learn examples by heart was a good sign above, but it is not the goal. A model with many weights can
# learn the training examples by heart. With only 60 of them, the training loss goes to 0, while the test loss turns and
# grows: the model becomes more and more sure, and not more right. That is **overfitting**. More data, weight decay, a smaller
# model or an earlier end help; which of them does, is found on data that are neither trained on nor tested on: the
# **validation** set.

# %%
model, states = new_model(hidden=128), {name: {} for name in new_model()}
few_x, few_labels = train_x[:60], train_labels[:60]
curve, test_right = {"training (60 digits)": [], "test": []}, []
for step in range(100 if FAST else 400):
    loss, gradients = loss_and_gradients(model, few_x, few_labels)
    curve["training (60 digits)"].append(loss)
    curve["test"].append(loss_and_gradients(model, test_x, test_labels)[0])
    test_right.append(accuracy(model, test_x, test_labels))
    for name in model:
        model[name] = adamw(model[name], gradients[name], states[name], 0.01, decay=0.0)
figure, axes = new_figure(6, 3)
for label, values in curve.items():
    axes.plot(values, label=label)
axes.set_xlabel("step")
axes.set_ylabel("loss")
axes.legend(frameon=False)
show(figure, "03_overfitting")
lowest = int(np.argmin(curve["test"]))
print(f"test loss: lowest {curve['test'][lowest]:.3f} in step {lowest}, with {test_right[lowest]:.1%} right;",
      f"last {curve['test'][-1]:.3f}, with {test_right[-1]:.1%} right")
assert curve["training (60 digits)"][-1] < 0.01 and curve["test"][-1] > 1.2 * curve["test"][lowest]
assert abs(test_right[-1] - test_right[lowest]) < 0.03

# %% [markdown]
# ## Questions
#
# :::{dropdown} Adam's first step moves every weight by the learning rate. Why?
# $\hat m = g$ and $\hat v = g^2$, so $\hat m / \sqrt{\hat v} = \pm 1$, however small $g$ is. That is one reason for the warm-up.
# :::
#
# :::{dropdown} Why is AdamW not the same as adding $\lambda w$ to the gradient?
# In the gradient it would be divided by $\sqrt{\hat v}$ too: weights with large gradients would hardly shrink. AdamW shrinks all at the same rate.
# :::
#
# :::{dropdown} The batch is four times as large. How much better is the gradient?
# Its error is half as large, at four times the cost.
# :::
#
# ## What you can now do
#
# You can start a network rightly, test it on one batch, train it with an optimizer that you have written yourself, clip its
# gradients, and see whether it overfits. Now do the exercises in `lessons/03_training/exercises.py`, and run
# `tinymm check 3`. The library's optimizers are in `tinymm/training/optimizers.py`.
#
# ## To read
#
# - He et al. 2015, *Delving Deep into Rectifiers*: how weights start. Glorot and Bengio 2010 for other activations.
# - Kingma and Ba 2015, *Adam*. Loshchilov and Hutter 2019, *Decoupled Weight Decay Regularization*; 2017, *SGDR*: the cosine.
# - Polyak 1964, *Some methods of speeding up the convergence of iteration methods*: momentum.
# - Pascanu, Mikolov and Bengio 2013, *On the difficulty of training recurrent neural networks*: clipping.
