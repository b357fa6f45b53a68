# %% [markdown]
# # 5. Recurrence
#
# **You will learn** how a network reads a text word by word; how its gradient walks back through time, and why it
# vanishes on the way; the LSTM cell, forward and backward, which mends that; and the loss of a yes-or-no answer, whose
# gradient is again $p - y$. At the end an LSTM judges film reviews.
#
# **You need** chapters 1 and 2; from chapter 3 Adam, clipping and the validation set; from chapter 4 one-hot rows and the
# embedding.
#
# **It takes** about half a minute to run, and less than 200 MB. The data are sentences of real film reviews.
#
# ## The picture
#
# A **recurrent network** has a **state** $h$, a vector: what it remembers of the text so far. Each word is a vector, too,
# $x_t$. At each word the same **cell**, one formula with the same weights, makes the next state out of the last one and
# the word:
#
# $$ h_t = \tanh( x_t W_x + h_{t-1} W_h + b ) $$
#
# (Elman 1990; we call it the **simple network**.) Written side by side for all times, it is a deep network with one layer
# for each word, and all layers share their weights.

# %%
import os

import numpy as np

from tinymm import gradient_check
from tinymm.data import Tokenizer, load_sentiment
from tinymm.data.bucketing import BucketedOrder, pad_sentences
from tinymm.functional import binary_cross_entropy_backward as library_bce_backward
from tinymm.functional import binary_cross_entropy_forward as library_bce_forward
from tinymm.functional import cross_entropy_backward, cross_entropy_forward
from tinymm.functional import lstm_backward as library_backward, lstm_forward as library_forward
from tinymm.learning.figures import new_figure, show
from tinymm.training.bag_of_words import BagOfWords, fit_on

FAST = os.environ.get("TINYMM_FAST") == "1"
rng = np.random.default_rng(5)

figure, axes = new_figure(8, 2.6)
for t, word in enumerate(("a", "film", "of", "wit")):
    axes.text(2 * t, 0, f'"{word}"', ha="center", va="center")
    axes.text(2 * t, 1, f"$h_{t + 1}$", ha="center", va="center", bbox={"boxstyle": "round,pad=0.5", "facecolor": "#dbe8f6"})
    axes.annotate("", (2 * t, 0.7), (2 * t, 0.2), arrowprops={"arrowstyle": "->"})
    if t:
        axes.annotate("", (2 * t - 0.35, 1.1), (2 * t - 1.65, 1.1), arrowprops={"arrowstyle": "->"})
        axes.annotate("", (2 * t - 1.65, 0.9), (2 * t - 0.35, 0.9), arrowprops={"arrowstyle": "->", "color": "crimson"})
axes.annotate("", (7.65, 1.1), (6.35, 1.1), arrowprops={"arrowstyle": "->"})
axes.annotate("", (6.35, 0.9), (7.65, 0.9), arrowprops={"arrowstyle": "->", "color": "crimson"})
axes.text(7.8, 1, "answer, loss", va="center")
axes.text(3, 1.75, "forward: the state goes from word to word", ha="center")
axes.text(3, 1.45, "backward: the gradient goes back", ha="center", color="crimson")
axes.set_xlim(-0.7, 9)
axes.set_ylim(-0.3, 2)
axes.set_axis_off()
show(figure, "05_unrolled")

# %% [markdown]
# ## By pencil and paper
#
# Let state and input be single numbers, leave the $\tanh$ away, and take $W_x = 1$, $W_h = \tfrac12$, $b = 0$. The inputs
# $1, 0, 0, 0$ give the states $1, \tfrac12, \tfrac14, \tfrac18$: the first word fades by half with each step. And
# backward? ($dh_t$ is $\partial L / \partial h_t$, as before.) If the loss says $dh_4 = 1$, then $dh_3 = \tfrac12$,
# $dh_2 = \tfrac14$, $dh_1 = \tfrac18$. **The gradient fades as the memory does**: after 20 steps it is
# $0.5^{20} \approx 10^{-6}$, and the network can hardly learn that the first word was important. With $W_h = 2$ it is the
# other way round: $2^{20} \approx 10^6$, the gradient **explodes**.
#
# And the weight, which was used four times? Here $h_4 = W_h^3$, whose slope is $3 W_h^2 = \tfrac34$. By steps: $W_h$ acts
# on each $h_t$ with the factor $h_{t-1}$, the state before, which is 0 before the first word. So its gradient is
# $\sum_t h_{t-1}\, dh_t = 0 \cdot \tfrac18 + 1 \cdot \tfrac14 + \tfrac12 \cdot \tfrac12 + \tfrac14 \cdot 1 = \tfrac34$,
# the same.

# %%
for W_h in (0.5, 2.0):
    h, states = 0.0, []
    for x in (1.0, 0.0, 0.0, 0.0):
        h = x + h * W_h
        states.append(h)
    d_states = [W_h**steps_back for steps_back in (3, 2, 1, 0)]
    d_W_h = sum(before * d_state for before, d_state in zip([0.0, *states], d_states))
    print(f"W_h = {W_h}: states {states}, gradients of the states {d_states}, of W_h {d_W_h}; after 20 steps {W_h**20:.1e}")
    assert states[-1] == W_h**3 and d_W_h == 3 * W_h**2 and abs(abs(np.log10(W_h**20)) - 6) < 0.03
    if W_h == 0.5:
        assert states == [1, 1 / 2, 1 / 4, 1 / 8] and d_states == [1 / 8, 1 / 4, 1 / 2, 1] and d_W_h == 3 / 4

# %% [markdown]
# ## Forward and backward through time
#
# A batch of texts at once: $x$ has the shape $(B, T, E)$, with $B$ texts, $T$ words, and vectors with $E$ entries. The
# state has $D$ entries. So $W_x$ is $(E, D)$, $W_h$ is $(D, D)$, and $b$ is $(D)$. Before the first word the state is 0.
#
# One entry, for one text ($i$ counts the entries of the word, $j$ and $k$ those of the state):
#
# $$ z_{tj} = \sum_i x_{ti} (W_x)_{ij} + \sum_k h_{t-1, k} (W_h)_{kj} + b_j, \qquad h_{tj} = \tanh z_{tj} $$
#
# **The slope of tanh.** With $\tanh z = (e^z - e^{-z}) / (e^z + e^{-z})$, the quotient rule gives
# $\big( (e^z + e^{-z})^2 - (e^z - e^{-z})^2 \big) / (e^z + e^{-z})^2 = 1 - \tanh^2 z$.
#
# **The long way.** $h_{t-1, k}$ acts on every $h_{tj}$, with the slope
#
# $$ (J_t)_{kj} = \frac{\partial h_{tj}}{\partial h_{t-1, k}} = (1 - h_{tj}^2)\, (W_h)_{kj} $$
#
# The output of each time is the state itself, $\mathrm{out}_t = h_t$, and we are given $d\mathrm{out}$, what its users
# say. The state at $t$ acts on the output of a later time $s$ through all the steps between them, and the shares of all
# $s \ge t$ add up (a gradient stands as a column here):
#
# $$ dh_t = \sum_{s \ge t} J_{t+1} J_{t+2} \cdots J_s\; d\mathrm{out}_s $$
#
# (where $s = t$ the product has no factor, and $d\mathrm{out}_t$ stands alone).
#
# **The short formula.** Take the term $s = t$ out of the sum. All others have the factor $J_{t+1}$ in front, and what
# remains behind it is $dh_{t+1}$:
#
# $$ dh_t = d\mathrm{out}_t + J_{t+1}\, dh_{t+1} $$
#
# The state $h_t$ goes **two ways**: out, to whoever uses it, and on to the next step. So the backward begins at the last
# word, with nothing from behind, and walks to the first. At each time it undoes the two lines of the forward, which are
# marked F1 and F2 in the code below:
#
# **F2**, $h = \tanh z$: $\;dz_t = dh_t\,(1 - h_t^2)$.
#
# **F1**, $z_t = x_t W_x + h_{t-1} W_h + b$, is two linear layers with one sum. As in chapter 1: $dx_t = dz_t W_x^\top$,
# and $dz_t W_h^\top$ is what goes back to step $t - 1$. It is $J_t\, dh_t$, without ever building $J_t$: entry $k$ of
# that is $\sum_j (1 - h_{tj}^2) (W_h)_{kj}\, dh_{tj} = \sum_j dz_{tj} (W_h)_{kj}$.
#
# **The weights** are used at every step, so their gradients are **sums over time**: $(W_h)_{kj}$ acts on $z_{tj}$ of
# every text and every time, with the factor $h_{t-1, k}$, and so $dW_x = \sum_t x_t^\top dz_t$,
# $dW_h = \sum_t h_{t-1}^\top dz_t$; the products also add up the texts of the batch (chapter 1). $db$ is the sum of
# $dz_t$ over all times and texts.
#
# That is **backpropagation through time** (Werbos 1990). It is nothing new: the chain rule, and a sum for whatever is
# used several times.

# %%
def rnn_forward(x, weight_x, weight_h, bias):
    B, T, _ = x.shape
    states = np.zeros((B, T + 1, len(weight_h)), x.dtype)            # (B, T + 1, D)  at 0 the state before the first word
    for t in range(T):
        z = x[:, t] @ weight_x + states[:, t] @ weight_h + bias      # (B, D)  F1
        states[:, t + 1] = np.tanh(z)                                # (B, D)  F2
    return states[:, 1:], (x, states, weight_x, weight_h)


def rnn_backward(d_out, cache):
    x, states, weight_x, weight_h = cache
    d_x = np.zeros_like(x)                                           # (B, T, E)
    d_weight_x = np.zeros_like(weight_x)                             # (E, D)
    d_weight_h = np.zeros_like(weight_h)                             # (D, D)
    d_bias = np.zeros_like(weight_h[0])                              # (D,)
    from_next = np.zeros_like(states[:, 0])                          # (B, D)  nothing comes after the last word
    for t in reversed(range(x.shape[1])):
        d_h = d_out[:, t] + from_next                                # (B, D)  the state went out, and on
        # STOP: how much of d_h was said at time t, and how much came from later times?
        d_z = d_h * (1 - states[:, t + 1]**2)                        # (B, D)  undoes F2
        d_x[:, t] = d_z @ weight_x.T                                 # (B, E)  undoes F1
        d_weight_x += x[:, t].T @ d_z                                # (E, D)  undoes F1: the same weights at each step
        d_weight_h += states[:, t].T @ d_z                           # (D, D)  undoes F1
        d_bias += d_z.sum(axis=0)                                    # (D,)    undoes F1
        from_next = d_z @ weight_h.T                                 # (B, D)  undoes F1: back to step t - 1
    return d_x, d_weight_x, d_weight_h, d_bias


def uniform(D, *shape):
    return rng.uniform(-1, 1, size=shape) / np.sqrt(D)               # how recurrent weights usually start


B, T, E, D = 3, 5, 2, 4
x = rng.normal(size=(B, T, E))
inputs = {"x": x, "weight_x": rng.normal(size=(E, D)), "weight_h": uniform(D, D, D), "bias": rng.normal(size=D)}
report = gradient_check(rnn_forward, rnn_backward, inputs, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# The long way and the short formula agree:

# %%
out, cache = rnn_forward(**inputs)
d_out = rng.normal(size=out.shape)                                   # (B, T, D)
states, weight_x, weight_h = cache[1:]
the_long_way = [np.zeros_like(array) for array in inputs.values()]   # d_x, d_weight_x, d_weight_h, d_bias
for text in range(B):
    for s in range(1, T + 1):                                        # in states the number 1 is after the first word
        d_h = d_out[text, s - 1]                                     # (D,)    from the output of time s ...
        for t in range(s, 0, -1):
            d_z = d_h * (1 - states[text, t]**2)                     # (D,)    ... its share for each time before
            the_long_way[0][text, t - 1] += weight_x @ d_z           # (E,)
            the_long_way[1] += np.outer(x[text, t - 1], d_z)         # (E, D)
            the_long_way[2] += np.outer(states[text, t - 1], d_z)    # (D, D)
            the_long_way[3] += d_z                                   # (D,)
            jacobian = weight_h * (1 - states[text, t]**2)           # (D, D)  J_t
            d_h = jacobian @ d_h                                     # (D,)    one step further back
the_short_formula = rnn_backward(d_out, cache)
for name, a, b in zip(("d_x", "d_weight_x", "d_weight_h", "d_bias"), the_long_way, the_short_formula):
    print(f"{name:11} largest difference {np.abs(a - b).max():.1e}")
    assert np.allclose(a, b)

# %% [markdown]
# ## Why the gradient vanishes
#
# From one state to the one before goes $\big(dh_t\,(1 - h_t^2)\big) W_h^\top$. Over $n$ steps the gradient is multiplied
# $n$ times: by slopes, which are at most 1, and by the same matrix. Only if these factors balance exactly does it keep
# its size. Usually it shrinks, and it shrinks exponentially (Hochreiter 1991; Bengio et al. 1994).
#
# For our start the factor can be estimated. The entries of $W_h$ are uniform between $-a$ and $a$ with $a = 1/\sqrt D$;
# their mean square, the variance, is $\frac{1}{2a} \int_{-a}^{a} w^2\, dw = a^2 / 3 = 1 / (3 D)$. An entry of
# $v W_h^\top$ is a sum of $D$ products with independent weights of mean 0, so variances add (chapter 3), and its mean
# square is $D \cdot 1/(3D) = 1/3$ of that of $v$: each step multiplies the length by about $\sqrt{1/3} = 0.58$, before
# the slopes make it still less. The measurement comes below, in one picture with the cure.
#
# ## The LSTM cell
#
# The cure (Hochreiter and Schmidhuber 1997; the forget gate came with Gers et al. 2000): a second vector $c$, the
# **memory**, which is not pressed through a matrix and a $\tanh$ at each step, but only **kept and added to**. Three
# **gates**, each a vector with a number between 0 and 1 for each entry of the memory, decide what happens. Each is
# computed from the word and the state by a **sigmoid**, $\sigma(z) = 1 / (1 + e^{-z})$, with weights of its own.
#
# | gate | equation | it decides |
# |---|---|---|
# | input | $i = \sigma(x W_{xi} + h W_{hi} + b_i)$ | how much of the candidate is written |
# | forget | $f = \sigma(x W_{xf} + h W_{hf} + b_f)$ | how much of the memory is kept |
# | candidate (no gate) | $g = \tanh(x W_{xg} + h W_{hg} + b_g)$ | what could be written |
# | output | $o = \sigma(x W_{xo} + h W_{ho} + b_o)$ | how much of the memory is shown |
#
# $$ c' = f\, c + i\, g \qquad\qquad h' = o \tanh(c') $$
#
# The prime means "after the step" (no derivative), and all these products are entry by entry, of vectors with $D$
# entries. From here on $i$ is the input gate, and no longer counts anything.
#
#           c ----(* f)-----(+ i g)-----+--------> c'       the memory: times f, plus something, and on
#                                       |
#                                     tanh
#                                       |
#           h --> i, f, g, o          (* o) -----> h'       the state: what is shown of it
#           x -->
#
# By hand, with single numbers: let the memory be $c = 2$, all weights 0, and the biases such that before the sigmoids and
# the tanh stand $z_i = 0$, $z_f = \log 3$, $z_g = \log 3$, $z_o = 0$. Then $i = o = \tfrac12$, and, since
# $e^{\log 3} = 3$, $f = 1 / (1 + \tfrac13) = \tfrac34$ and
# $g = (3 - \tfrac13) / (3 + \tfrac13) = (9 - 1) / (9 + 1) = \tfrac45$. So
# $c' = \tfrac34 \cdot 2 + \tfrac12 \cdot \tfrac45 = 1.9$ and $h' = \tfrac12 \tanh 1.9 = 0.478$.
#
# In code the four products are one, with the four matrices side by side, in the order $i, f, g, o$: $W_x$ is $(E, 4D)$,
# $W_h$ is $(D, 4D)$, $b$ is $(4D)$, and $z = x W_x + h W_h + b$ has the four parts $z_i, z_f, z_g, z_o$. The sigmoid is
# computed by way of the tanh. Multiply numerator and denominator of $1 / (1 + e^{-z})$ by $e^{z/2}$, then add and
# subtract $e^{-z/2}$:
#
# $$ \sigma(z) = \frac{e^{z/2}}{e^{z/2} + e^{-z/2}}
#    = \frac12 \cdot \frac{(e^{z/2} + e^{-z/2}) + (e^{z/2} - e^{-z/2})}{e^{z/2} + e^{-z/2}}
#    = \frac12 \Big( 1 + \tanh \frac z2 \Big) $$
#
# It never overflows.

# %%
def sigmoid(z):
    return 0.5 * (1 + np.tanh(z / 2))


def lstm_cell_forward(x, h, c, weight_x, weight_h, bias):
    D = h.shape[-1]
    z = x @ weight_x + h @ weight_h + bias                           # (B, 4 D)  F1
    i = sigmoid(z[:, :D])                                            # (B, D)    F2
    f = sigmoid(z[:, D:2 * D])                                       # (B, D)    F3
    g = np.tanh(z[:, 2 * D:3 * D])                                   # (B, D)    F4
    o = sigmoid(z[:, 3 * D:])                                        # (B, D)    F5
    new_c = f * c + i * g                                            # (B, D)    F6
    tanh_c = np.tanh(new_c)                                          # (B, D)    F7
    new_h = o * tanh_c                                               # (B, D)    F8
    # STOP: look at i, f, g and o, then at new_c: f of the old memory, plus i of the candidate
    return (new_h, new_c), (x, h, c, weight_x, weight_h, i, f, g, o, tanh_c)


(new_h, new_c), by_hand = lstm_cell_forward(np.zeros((1, 1)), np.zeros((1, 1)), np.array([[2.0]]), np.zeros((1, 4)),
                                            np.zeros((1, 4)), np.array([0, np.log(3), np.log(3), 0]))
print(f"c' = {new_c.item():.3f}, h' = {new_h.item():.3f}")
assert np.allclose(sigmoid(np.array([-2.0, 0, np.log(3)])), [1 / (1 + np.exp(2)), 1 / 2, 3 / 4]) and sigmoid(-1000.0) == 0
assert np.isclose(new_c.item(), 1.9) and abs(new_h.item() - 0.478) < 1e-3

# %% [markdown]
# ## Its backward, line by line
#
# We are given two gradients, $dh'$ and $dc'$: the next step used state and memory, and the state went out, too. ($dh'$ is
# `d_new_h` in the code, $dc'$ is `d_new_c`.)
#
# **F8**, $h' = o \cdot \tanh c'$, a product of two numbers in each entry: $\; do = dh' \tanh c'$, and $\tanh c'$ gets
# $dh'\, o$.
#
# **F7**, the $\tanh$: $c'$ gets $dh'\, o\, (1 - \tanh^2 c')$. This is **added** to the $dc'$ that was given, since $c'$
# goes two ways, on to the next step and into $h'$. The whole gradient of the memory is therefore (`d_memory`)
#
# $$ dm = dc' + dh'\, o\, (1 - \tanh^2 c') $$
#
# **F6**, $c' = f c + i g$: each factor gets $dm$ times its partner:
#
# $$ df = dm\, c \qquad dc = dm\, f \qquad di = dm\, g \qquad dg = dm\, i $$
#
# Look at $dc = dm\, f$. **From memory to memory the gradient is only multiplied by the forget gate**: no matrix, no slope
# of a $\tanh$. Where $f$ is near 1, it passes many steps undiminished.
#
# **F2 to F5**, the bends. The slope of $\sigma(z) = 1 / (1 + e^{-z})$ is
# $e^{-z} / (1 + e^{-z})^2 = \sigma(z) \cdot e^{-z} / (1 + e^{-z}) = \sigma(z)\, (1 - \sigma(z))$. That of the $\tanh$ we
# had. Both need only what the bend gave, not $z$: $dz_i = di\; i (1 - i)$, in the same way for $f$ and $o$; for the
# candidate $dz_g = dg\,(1 - g^2)$. The four side by side, in the order $i, f, g, o$, are $dz$.
#
# **F1** is again two linear layers with one sum: $dx = dz\, W_x^\top$, $\; dh = dz\, W_h^\top$, $\; dW_x = x^\top dz$,
# $\; dW_h = h^\top dz$, and $db$ is the sum of $dz$ over the texts.
#
# By hand, with the numbers from above, $dh' = 1$ and $dc' = 0$: $do = \tanh 1.9 = 0.956$. The memory gets
# $dm = \tfrac12 (1 - 0.956^2) = 0.043$, and from that $df = 0.043 \cdot 2 = 0.086$, $dc = 0.043 \cdot \tfrac34 = 0.032$,
# $di = 0.043 \cdot \tfrac45 = 0.034$, $dg = 0.043 \cdot \tfrac12 = 0.021$. Last,
# $dz_f = 0.086 \cdot \tfrac34 \cdot \tfrac14 = 0.016$, and in the same way $dz_i = 0.009$, $dz_g = 0.008$ and
# $dz_o = 0.239$.

# %%
def lstm_cell_backward(d_out, cache):
    x, h, c, weight_x, weight_h, i, f, g, o, tanh_c = cache
    d_new_h, d_new_c = d_out
    d_o = d_new_h * tanh_c                                           # (B, D)    undoes F8
    d_memory = d_new_c + d_new_h * o * (1 - tanh_c**2)               # (B, D)    undoes F8 and F7: both ways of c'
    d_f = d_memory * c                                               # (B, D)    undoes F6
    d_c = d_memory * f                                               # (B, D)    undoes F6
    d_i = d_memory * g                                               # (B, D)    undoes F6
    d_g = d_memory * i                                               # (B, D)    undoes F6
    d_z = np.concatenate([d_i * i * (1 - i), d_f * f * (1 - f),      # (B, 4 D)  undoes F2, F3,
                          d_g * (1 - g**2), d_o * o * (1 - o)], axis=-1)       # F4 and F5
    # STOP: compare d_c with d_new_c: only f and the part that came through h' lie between them
    d_x = d_z @ weight_x.T                                           # (B, E)    undoes F1
    d_h = d_z @ weight_h.T                                           # (B, D)    undoes F1
    d_weight_x = x.T @ d_z                                           # (E, 4 D)  undoes F1
    d_weight_h = h.T @ d_z                                           # (D, 4 D)  undoes F1
    d_bias = d_z.sum(axis=0)                                         # (4 D,)    undoes F1
    return d_x, d_h, d_c, d_weight_x, d_weight_h, d_bias


_, _, d_c, _, _, d_z = lstm_cell_backward((np.ones((1, 1)), np.zeros((1, 1))), by_hand)    # with one text d_bias is d_z
print("dc =", d_c.round(3), " dz =", d_z.round(3))
assert abs(d_c.item() - 0.032) < 1e-3 and np.allclose(d_z, [0.009, 0.016, 0.008, 0.239], atol=5e-4)
d_memory = 0.5 * (1 - np.tanh(1.9)**2)
assert np.allclose([np.tanh(1.9), d_memory], [0.956, 0.043], atol=5e-4)
assert np.allclose(d_memory * np.array([2, 3 / 4, 4 / 5, 1 / 2]), [0.086, 0.032, 0.034, 0.021], atol=5e-4)   # df dc di dg

report = gradient_check(lstm_cell_forward, lstm_cell_backward, {
    "x": rng.normal(size=(B, E)), "h": rng.normal(size=(B, D)), "c": rng.normal(size=(B, D)),
    "weight_x": rng.normal(size=(E, 4 * D)), "weight_h": uniform(D, D, 4 * D), "bias": rng.normal(size=4 * D)}, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# ## The whole text
#
# The loop over time is that of the simple network. Now two gradients go back from step to step, $dh$ and $dc$. To $dh$
# the gradient of the output is added at each step; the memory has no output.

# %%
def lstm_forward(x, weight_x, weight_h, bias):
    B, T, _ = x.shape
    h = c = np.zeros((B, len(weight_h)), x.dtype)                    # (B, D)
    out, steps = np.zeros((B, T, len(weight_h)), x.dtype), []        # (B, T, D)
    for t in range(T):
        (h, c), step = lstm_cell_forward(x[:, t], h, c, weight_x, weight_h, bias)
        out[:, t] = h
        steps.append(step)
    return out, steps


def lstm_backward(d_out, steps):
    d_h = d_c = np.zeros_like(d_out[:, 0])                           # (B, D)  nothing comes after the last word
    d_x, sums = [], [0, 0, 0]
    for t in reversed(range(len(steps))):
        d_x_t, d_h, d_c, *d_weights = lstm_cell_backward((d_out[:, t] + d_h, d_c), steps[t])
        # STOP: two gradients go back to step t - 1, d_h and d_c, both (B, D)
        sums = [total + d for total, d in zip(sums, d_weights)]      # the same weights at each step
        d_x.append(d_x_t)                                            # (B, E)
    return np.stack(d_x[::-1], axis=1), *sums                        # (B, T, E), (E, 4 D), (D, 4 D), (4 D,)


inputs = {"x": x, "weight_x": rng.normal(size=(E, 4 * D)), "weight_h": uniform(D, D, 4 * D), "bias": rng.normal(size=4 * D)}
report = gradient_check(lstm_forward, lstm_backward, inputs, rng=rng)
print(report)
assert report.ok
out, steps = lstm_forward(**inputs)
expected, cache = library_forward(**inputs)
d_out = rng.normal(size=out.shape)
assert np.allclose(out, expected)
assert all(np.allclose(mine, theirs) for mine, theirs in zip(lstm_backward(d_out, steps), library_backward(d_out, cache)))

# %% [markdown]
# The claim about the memory can be tested alone. If $W_h = 0$, nothing comes through $h$; then the gradient of the first
# memory must be that of the last one, times all forget gates, and nothing else.

# %%
_, steps = lstm_forward(**inputs | {"weight_h": np.zeros((D, 4 * D))})
last = rng.normal(size=(B, D))                                       # (B, D)  the gradient of the last memory
d_c = last
for step in reversed(steps):
    d_c = lstm_cell_backward((np.zeros((B, D)), d_c), step)[2]       # (B, D)     no state says anything
forget_gates = np.array([step[6] for step in steps])                 # (T, B, D)  f stands seventh in the cache
# STOP: compare d_c / last with forget_gates.prod(axis=0)
assert np.allclose(d_c, last * forget_gates.prod(axis=0))

# %% [markdown]
# ## How far does the gradient reach?
#
# Only the last state gets a gradient, as in a classifier that answers at the end. How long is the gradient of the word
# that stood $n$ steps before, compared with that of the last word? All weights are fresh from chance; the networks differ
# only in the forget gate's bias. With bias 0 the gate is about $\sigma(0) = 0.5$, with 1 about 0.73, with 3 about 0.95.

# %%
T, E, D = 50, 8, 32
x = rng.normal(size=(16, T, E))
d_out = np.zeros((16, T, D))                                         # (B, T, D)
d_out[:, -1] = rng.normal(size=(16, D))


def forget_bias(D, value):
    bias = np.zeros(4 * D)
    bias[D:2 * D] = value
    return bias


reach = {"simple network": rnn_backward(d_out, rnn_forward(x, uniform(D, E, D), uniform(D, D, D), np.zeros(D))[1])[0]}
weight_x, weight_h = uniform(D, E, 4 * D), uniform(D, D, 4 * D)
for value in (0, 1, 3):
    _, steps = lstm_forward(x, weight_x, weight_h, forget_bias(D, value))
    reach[f"LSTM, forget bias {value}"] = lstm_backward(d_out, steps)[0]                       # (B, T, E)
assert np.allclose(sigmoid(np.array([0, 1, 3])), [0.5, 0.73, 0.95], atol=0.005)
figure, axes = new_figure(6.5, 3.5)
for label, d_x in reach.items():
    sizes = np.linalg.norm(d_x, axis=(0, 2))                         # (T,)
    reach[label] = sizes[::-1] / sizes[-1]                           # (T,)  by distance: 0, 1, 2 ...
    axes.semilogy(reach[label], label=label)
axes.set_xlabel("distance in time, words")
axes.set_ylabel("gradient / that of the last word")
axes.legend(frameon=False)
show(figure, "05_reach")
factors = {label: (sizes[40] / sizes[10])**(1 / 30) for label, sizes in reach.items()}    # of one step, between 10 and 40
# STOP: look at factors: 0.5 to the power of 30 is 1e-9, and 0.95 to the power of 30 is 0.2
for label, sizes in reach.items():
    print(f"{label:22} at a distance of 30 words {sizes[30]:.0e}; each step multiplies by about {factors[label]:.2f}")
assert reach["simple network"][30] < 1e-5 and reach["LSTM, forget bias 3"][30] > 0.05
assert reach["LSTM, forget bias 0"][30] < 1e-3 * reach["LSTM, forget bias 1"][30]
assert 0.45 < factors["simple network"] < 0.62 and abs(np.sqrt(1 / 3) - 0.58) < 0.005
assert all(sigmoid(value) < factors[f"LSTM, forget bias {value}"] < sigmoid(value) + 0.15 for value in (0, 1, 3))
assert factors["LSTM, forget bias 3"] > 1

# %% [markdown]
# The lines are nearly straight on the logarithmic axis: each step multiplies by about the same factor. For the simple
# network it is near the estimated 0.58. For the LSTM it is the forget gate, and somewhat more, as the way through the
# gates and $h$ adds its part; with bias 3 both together even exceed 1 here, and the gradient slowly grows. So an LSTM is
# no cure by itself: with bias 0 its gradient vanishes almost like that of the simple network. That is why the forget bias
# starts at 1 or more (Gers et al. 2000; Jozefowicz et al. 2015), and training finds where to forget.
#
# ## Break it: remember the first word
#
# A task of memory alone. The first word is one of four; then come 19 words of noise, drawn from four others; then the
# question: which was the first? The words are one-hot vectors with 8 entries, and a linear layer (`head`) makes four
# scores of the last state. The loss is that of chapter 2, and guessing costs $\log 4 = 1.39$. All networks have states of
# the same width, the same data and the same Adam (an LSTM of that width has four times the weights). One more LSTM has
# the forget bias $-20$: its gate is nearly 0 ($\sigma(-20) = 2 \cdot 10^{-9}$), so $c' = i\, g$, and the additive path is
# cut.
#
# A long chain can also make the gradient explode, so it is clipped: all gradients together have at most the length 1
# (chapter 3).

# %%
def adam(model, gradients, moments, step, rate):                     # chapter 3, with beta1 = 0.9 and beta2 = 0.98
    for name, gradient in gradients.items():
        m, v = moments.setdefault(name, (np.zeros_like(gradient), np.zeros_like(gradient)))
        m += 0.1 * (gradient - m)
        v += 0.02 * (gradient**2 - v)
        m_hat, v_hat = m / (1 - 0.9**(step + 1)), v / (1 - 0.98**(step + 1))
        model[name] -= rate * m_hat / (np.sqrt(v_hat) + 1e-8)


def plain_descent(model, gradients, moments, step, rate):            # chapter 3: the step is as short as the gradient
    for name, gradient in gradients.items():
        model[name] -= rate * gradient


def learn_to_remember(kind, bias_f, seed, steps, optimizer=adam, rate=0.01, T=20, D=16):
    rng = np.random.default_rng(seed)
    width = D if kind == "rnn" else 4 * D
    model = {"weight_x": rng.uniform(-1, 1, size=(8, width)) / np.sqrt(D),
             "weight_h": rng.uniform(-1, 1, size=(D, width)) / np.sqrt(D),
             "bias": np.zeros(D) if kind == "rnn" else forget_bias(D, bias_f), "head": np.zeros((D, 4))}
    forward, backward = (rnn_forward, rnn_backward) if kind == "rnn" else (lstm_forward, lstm_backward)
    moments, losses = {}, []
    for step in range(steps):
        draw = np.random.default_rng([seed, step])
        first, words = draw.integers(4, size=32), draw.integers(4, 8, size=(32, T))      # (B,), (B, T)
        words[:, 0] = first
        out, cache = forward(np.eye(8)[words], model["weight_x"], model["weight_h"], model["bias"])    # (B, T, D)
        loss, surprise = cross_entropy_forward(out[:, -1] @ model["head"], first)        # ()
        d_logits = cross_entropy_backward(1.0, surprise)                                 # (B, 4)
        d_out = np.zeros_like(out)                                                       # (B, T, D)
        d_out[:, -1] = d_logits @ model["head"].T
        _, d_weight_x, d_weight_h, d_bias = backward(d_out, cache)
        gradients = {"weight_x": d_weight_x, "weight_h": d_weight_h, "bias": d_bias, "head": out[:, -1].T @ d_logits}
        norm = np.sqrt(sum((g**2).sum() for g in gradients.values()))
        optimizer(model, {name: g * min(1, 1 / norm) for name, g in gradients.items()}, moments, step, rate)
        losses.append(loss)
    return losses


assert np.allclose(np.log([4, 2]), [1.39, 0.69], atol=0.005)          # guessing among four words, and among two
figure, axes = new_figure(7, 3.5)
final = {}
contestants = {"simple network": ("rnn", None), "LSTM, forget bias 0": ("lstm", 0), "LSTM, forget bias 1": ("lstm", 1),
               "LSTM, forget bias 3": ("lstm", 3), "LSTM, path cut (bias -20)": ("lstm", -20)}
for color, (label, (kind, bias_f)) in enumerate(contestants.items()):
    final[label] = []
    for seed in range(1 if FAST else 3):
        losses = learn_to_remember(kind, bias_f, seed, 80 if FAST else 300)
        axes.plot(np.convolve(losses, np.ones(10) / 10, "valid"), color=f"C{color}", label=None if seed else label,
                  linewidth=1, linestyle="--" if bias_f == -20 else "-")
        final[label].append(round(float(np.mean(losses[-10:])), 2))
    print(f"{label:26} loss at the end, by seed: {final[label]}")
axes.set_xlabel("step")
axes.set_ylabel("loss, mean of 10 steps")
axes.legend(frameon=False, fontsize=8, loc=(0.6, 0.55))
show(figure, "05_remember")
assert max(final["LSTM, forget bias 3"]) < 0.1
assert min(final["LSTM, path cut (bias -20)"]) > 1 and min(final["LSTM, forget bias 0"]) > 1
assert max(final["simple network"] + final["LSTM, forget bias 1"]) < 0.8 and np.isclose(sigmoid(-20), 2e-9, rtol=0.05)
plain = {label: np.mean(learn_to_remember(*contestants[label], 0, 100 if FAST else 300, plain_descent, 0.3)[-10:])
         for label in ("simple network", "LSTM, forget bias 3")}
print("with plain gradient descent:", ", ".join(f"{label} {loss:.2f}" for label, loss in plain.items()))
assert plain["simple network"] > 1.3 and plain["LSTM, forget bias 3"] < (1.3 if FAST else 0.1)

# %% [markdown]
# With the memory held open (bias 3), the LSTM has the task in some dozens of steps. With bias 0, or with the path cut, it
# is still guessing at the end. (The two lines lie on each other at the top.) Bias 1 lies between. Be fair to the simple
# network: it finds a solution, or half of one (0.69 is $\log 2$: of the two bits that tell four words apart, one is
# remembered), and so does better than an LSTM with bias 0. For that it needs Adam, which divides by the size of the
# gradient, and so makes full steps even out of tiny ones. Plain gradient descent, whose steps are as short as the
# gradient, leaves it guessing, while the LSTM with bias 3 learns the task with that, too. It is the open memory that
# helps, and not the name LSTM.
#
# ## A yes-or-no answer: binary cross-entropy
#
# Is a review positive? One score $z$ is enough. $p = \sigma(z)$ is the probability of yes, and $1 - p$ that of no. As in
# chapter 2 the loss is minus the logarithm of the probability that the right answer got, the **binary cross-entropy**;
# with $y = 1$ for yes and $0$ for no:
#
# $$ L = -y \log p - (1 - y) \log(1 - p) $$
#
# By hand: $z = 0$ is $p = \tfrac12$, and $L = \log 2 = 0.693$ either way. ($y$ may also lie between: with 0.7 for "seven
# of ten people said yes" the formula stays the same.)
#
# **Its gradient.** The slope of the sigmoid is $dp/dz = p (1 - p)$. So
#
# $$ \frac{dL}{dz} = \Big( -\frac{y}{p} + \frac{1 - y}{1 - p} \Big)\, p (1 - p) = -y (1 - p) + (1 - y)\, p = p - y $$
#
# For a batch of $N$ answers the loss is the mean, so each gets its share: $dz_n = (p_n - y_n) / N$. **What the model
# said, minus what was right**, as for the softmax. That is no accident: a softmax over the two scores $(z, 0)$ gives
# $e^z / (e^z + 1) = \sigma(z)$.
#
# **The stable form.** For $z = -800$, $p$ is rounded to 0, and $\log p$ to $-\infty$. So $p$ is never computed in the
# forward. With $\log p = -\log(1 + e^{-z})$, and, since $1 - p = e^{-z} / (1 + e^{-z})$, with
# $\log(1 - p) = -z - \log(1 + e^{-z})$:
#
# $$ L = y \log(1 + e^{-z}) + (1 - y) \big( z + \log(1 + e^{-z}) \big) = z - z y + \log(1 + e^{-z}) $$
#
# For $z < 0$ the exponential is large; there use
# $\log(1 + e^{-z}) = \log\big( e^{-z} (e^{z} + 1) \big) = -z + \log(1 + e^{z})$. The first $z$ goes away, and
# $L = -z y + \log(1 + e^z)$ is left. Both cases in one line, since $\max(z, 0)$ is $z$ or 0, and $-|z|$ is $-z$ or $z$:
#
# $$ L = \max(z, 0) - z y + \log\big(1 + e^{-|z|}\big) $$
#
# Now no exponential is larger than 1.

# %%
def binary_cross_entropy_forward(logits, targets):
    positive = np.maximum(logits, 0)                                 # (N,)  F1
    log_sum = np.log1p(np.exp(-np.abs(logits)))                      # (N,)  F2: log(1 + e^-|z|)
    losses = positive - logits * targets + log_sum                   # (N,)  F3
    return losses.mean(), (logits, targets)                          # ()    F4


def binary_cross_entropy_backward(d_loss, cache):
    logits, targets = cache
    p = sigmoid(logits)                                              # (N,)
    # STOP: p - targets is positive where the answer is no (the score should fall), negative where it is yes
    return d_loss * (p - targets) / len(logits)                      # (N,)  undoes F4 ... F1


logits, targets = rng.normal(size=6), np.array([1.0, 0, 0, 1, 1, 0])
report = gradient_check(binary_cross_entropy_forward, binary_cross_entropy_backward,
                        {"logits": logits, "targets": targets}, rng=rng, constants=("targets",))
print(report)
assert report.ok
loss, cache = binary_cross_entropy_forward(logits, targets)
expected, library_cache = library_bce_forward(logits, targets)
assert np.isclose(loss, expected)
assert np.allclose(binary_cross_entropy_backward(1.0, cache), library_bce_backward(1.0, library_cache))
p = sigmoid(logits)                                                  # (N,)
the_long_way = (-targets / p + (1 - targets) / (1 - p)) * p * (1 - p) / len(p)     # (N,)
assert np.isclose(binary_cross_entropy_forward(np.zeros(2), np.array([0.0, 1]))[0], np.log(2))      # 0.693
assert np.isclose(loss, (-targets * np.log(p) - (1 - targets) * np.log(1 - p)).mean())
assert np.allclose(binary_cross_entropy_backward(1.0, cache), the_long_way)

# %% [markdown]
# **Break it:** a sure and wrong answer, by both forms.

# %%
with np.errstate(all="ignore"):
    p = 1 / (1 + np.exp(800.0))
    from_logit, _ = binary_cross_entropy_forward(np.array([-800.0]), np.array([1.0]))
    print("from the probability:", -np.log(p), "   from the logit:", from_logit)
    assert np.isinf(-np.log(p)) and from_logit == 800

# %% [markdown]
# ## Film reviews
#
# Sentences from film reviews, each rated by 20 people (Hutto and Gilbert 2014); those that they found neutral are left
# out, and the others are positive or negative. The words are looked up (chapter 4), the LSTM reads them, and a linear
# layer makes a score of the last state. Sentences of unequal length are padded at the right, and cut after 40 words. The
# LSTM reads the padding too, but we take the state at the **last real word**, and what is read later cannot change it.
#
# Its backward, from the last to the first, with pieces that you have:
#
# - **F4**, the score $s = h \cdot w + b$ of each text (a number; `head` is $w$, a vector like $h$): $dh = ds\, w$, and
#   $dw = \sum h\, ds$, $db = \sum ds$ over the texts.
# - **F3**, one state was picked from each text: $d\mathrm{out}$ is $dh$ there, and 0 at all other times.
# - **F2**, the LSTM: backpropagation through time.
# - **F1**, the lookup: the scatter-add (chapter 4).

# %%
data = load_sentiment()
tokenizer = Tokenizer.build(data.train.texts, limit=4000)            # the 4,000 commonest words; <unk> for others
sentences = {name: [tokenizer.encode(text)[:40] for text in part.texts]
             for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test))}
for label, text in list(zip(data.train.labels, data.train.texts))[::2000]:              # the file begins with the positive ones
    print("+" if label else "-", text)
print("sentences:", ", ".join(f"{name} {len(part):,}" for name, part in sentences.items()))
print(f"{data.train.labels.mean():.1%} of the training sentences are positive")
assert len(sentences["train"]) == 7027


def new_classifier(seed, E=32, D=32):
    rng = np.random.default_rng(seed)
    model = {"table": 0.1 * rng.normal(size=(len(tokenizer), E)),
             "weight_x": rng.uniform(-1, 1, size=(E, 4 * D)) / np.sqrt(D),
             "weight_h": rng.uniform(-1, 1, size=(D, 4 * D)) / np.sqrt(D), "bias": forget_bias(D, 1),
             "head": np.zeros(D), "head_bias": np.zeros(())}
    return {name: value.astype(np.float32) for name, value in model.items()}


def classifier_forward(model, ids):
    x = model["table"][ids]                                                                    # (B, T, E)  F1
    out, steps = lstm_forward(x, model["weight_x"], model["weight_h"], model["bias"])          # (B, T, D)  F2
    rows, last = np.arange(len(ids)), (ids != tokenizer.pad_id).sum(axis=1) - 1                # (B,), (B,)
    state = out[rows, last]                                                                    # (B, D)     F3
    # STOP: compare last with ids: it is the place of the last token that is not padding
    return state @ model["head"] + model["head_bias"], (ids, out, steps, rows, last, state)     # (B,)      F4


def classifier_backward(model, d_logits, cache):
    ids, out, steps, rows, last, state = cache
    d_state = d_logits[:, None] * model["head"]                                                # (B, D)     undoes F4
    d_out = np.zeros_like(out)                                                                 # (B, T, D)
    d_out[rows, last] = d_state                                                                # (B, T, D)  undoes F3
    d_x, d_weight_x, d_weight_h, d_bias = lstm_backward(d_out, steps)                          # (B, T, E)  undoes F2
    d_table = np.zeros_like(model["table"])                                                    # (V, E)
    np.add.at(d_table, ids, d_x)                                                               # (V, E)     undoes F1
    return {"table": d_table, "weight_x": d_weight_x, "weight_h": d_weight_h, "bias": d_bias, "head": state.T @ d_logits,
            "head_bias": d_logits.sum()}


def tiny_forward(ids, **model):
    logits, cache = classifier_forward(model, ids)
    return logits, (model, cache)


def tiny_backward(d_logits, cache):
    model, cache = cache
    return tuple(classifier_backward(model, d_logits, cache).values())


V, E, D, pad = 9, 3, 4, tokenizer.pad_id
report = gradient_check(tiny_forward, tiny_backward, {
    "ids": np.array([[5, 7, 5, 8], [8, 6, pad, pad]]), "table": rng.normal(size=(V, E)),
    "weight_x": rng.normal(size=(E, 4 * D)), "weight_h": uniform(D, D, 4 * D), "bias": rng.normal(size=4 * D),
    "head": rng.normal(size=D), "head_bias": rng.normal(size=())}, rng=rng, name="classifier")
print(report)
assert report.ok


def judge(model, sentences):
    """The logits of many sentences, 256 at a time."""
    parts = [classifier_forward(model, pad_sentences(sentences[i:i + 256]))[0] for i in range(0, len(sentences), 256)]
    return np.concatenate(parts)                                                               # (N,)


def accuracy(logits, labels):
    return ((logits > 0) == labels).mean()

# %% [markdown]
# `d_out[rows, last] = ...` may be a plain assignment, since no place occurs twice. For the table it must be `np.add.at`:
# words repeat (chapter 4).
#
# We train 800 steps of 32 sentences (`BucketedOrder` puts sentences of similar length together, so that there is little
# padding), look at the **validation** sentences now and then, and keep the weights that were best there. The test
# sentences are not touched.

# %%
model, moments = new_classifier(0), {}
order = BucketedOrder([len(sentence) for sentence in sentences["train"]], 32, seed=0)
steps, every = (100, 50) if FAST else (800, 80)
history, recent, best, best_share = [], [], None, 0.0
for step in range(steps):
    rows = order.rows(step)                                                                    # (B,)
    targets = data.train.labels[rows].astype(np.float32)                                       # (B,)
    logits, cache = classifier_forward(model, pad_sentences([sentences["train"][row] for row in rows]))
    loss, loss_cache = binary_cross_entropy_forward(logits, targets)
    recent.append(loss)
    d_logits = binary_cross_entropy_backward(1.0, loss_cache)                                  # (B,)
    adam(model, classifier_backward(model, d_logits, cache), moments, step, 0.005 * (1 - step / steps))
    if (step + 1) % every == 0:
        logits = judge(model, sentences["validation"])                                         # (N,)
        share = accuracy(logits, data.validation.labels)
        loss, _ = binary_cross_entropy_forward(logits, data.validation.labels)
        history.append((step + 1, np.mean(recent), loss, share))
        recent = []
        if share > best_share:
            best, best_share = {name: value.copy() for name, value in model.items()}, share
count, train_loss, validation_loss, shares = np.array(history).T
figure, (left, right) = new_figure(9, 3.2, 1, 2)
left.plot(count, train_loss, "o-", label="training")
left.plot(count, validation_loss, "o-", label="validation")
left.set_ylabel("loss")
left.legend(frameon=False)
right.plot(count, shares, "o-", color="C1")
right.set_ylabel("validation accuracy")
for axes in (left, right):
    axes.set_xlabel("step")
show(figure, "05_sentiment")
print(f"best on the validation sentences: {best_share:.1%}")
if not FAST:
    assert validation_loss[-1] > validation_loss.min() + 0.02
    assert train_loss[-1] < train_loss[validation_loss.argmin()] - 0.05

# %% [markdown]
# The training loss (the mean since the last look) goes on falling long after the validation loss has turned: overfitting
# (chapter 3). 7,027 sentences are few.
#
# ## Watch it read
#
# The score can be computed after each word, as if the sentence ended there. We take those short validation sentences with
# a "but" or a "not" in which the probability of "positive" moves most.

# %%
def probability_by_word(model, ids):
    out, _ = lstm_forward(model["table"][ids], model["weight_x"], model["weight_h"], model["bias"])    # (B, T, D)
    return sigmoid(out @ model["head"] + model["head_bias"])                                   # (B, T)


turning, moves = [], {"but": [], "not": [], "other words": []}
part = slice(None, None, 4 if FAST else 1)                           # every fourth, not the first: those are nearly all positive
for ids, label in zip(sentences["validation"][part], data.validation.labels[part]):
    words = [tokenizer.tokens[i] for i in ids]
    p = probability_by_word(best, np.array([ids]))[0]                                          # (T,)
    for word, move in zip(words[1:], np.abs(np.diff(p))):
        moves[word if word in moves else "other words"].append(move)
    if 6 <= len(ids) <= 12 and {"but", "not"} & set(words):
        turning.append((np.ptp(p), words, p, label))
turning.sort(key=lambda item: -item[0])
assert len(turning) >= 3
# STOP: look at p word by word
figure, panels = new_figure(9, 6.5, 3, 1)
for axes, (_, words, p, label) in zip(panels, turning):
    axes.axhline(0.5, color="gray", linewidth=0.8)
    axes.bar(range(len(p)), p - 0.5, bottom=0.5, color=np.where(p > 0.5, "C0", "C3"))
    axes.set_xticks(range(len(p)), words, fontsize=8)
    axes.set_ylim(0, 1)
    axes.set_ylabel("p(positive)")
    axes.set_title(f"the raters said: {'positive' if label else 'negative'}", fontsize=9)
show(figure, "05_reading")
for word, sizes in moves.items():
    print(f"{word:12} moves p by {np.mean(sizes):.3f} in the mean, {len(sizes)} times")
assert FAST or np.mean(moves["but"]) < 2 * np.mean(moves["other words"])

# %% [markdown]
# In our run the first two sentences are "a fairly harmless but ultimately lifeless ..." and "a sentimental but entirely
# irresistible portrait ...". Words such as "lifeless" and "irresistible" move the score, and the state carries it on to
# the end of the sentence. But "but", with which the judgement turns, moves it only somewhat more than an average word
# does (the means are printed). The third sentence, "a long ... for anyone but the most committed pokemon fan", is
# misjudged: "committed" and "fan" are friendly words, and that so few people are left is not understood. (With
# `TINYMM_FAST=1` the training is too short for all that.)
#
# ## Is that good?
#
# A figure says nothing without one beside it: that of a **baseline**, a simpler way to do the same. The simplest one
# always gives the answer that is commoner among the training sentences, "positive" by a hair; among the test sentences it
# is the rarer one. A much better one is a **bag of words**: logistic regression on which words and pairs of neighbours a
# sentence contains, wherever they stand. Now, once, the test sentences:

# %%
common = (data.train.labels.mean() >= 0.5) == data.test.labels                                 # (N,)
assert data.train.labels.mean() > 0.5 > common.mean()
if FAST:
    bag = BagOfWords(data.train.texts[::4]).fit(data.train.texts[::4], data.train.labels[::4], 3e-4)
else:
    bag = fit_on(data.train.texts, data.train.labels, data.validation.texts, data.validation.labels)
results = {"always the commoner answer": common.mean(),
           "bag of words and pairs": accuracy(bag.logits(data.test.texts), data.test.labels),
           "LSTM": accuracy(judge(best, sentences["test"]), data.test.labels)}
chance = np.sqrt(0.8 * 0.2 / len(data.test))                         # the standard deviation of a share of about 0.8
for label, share in results.items():
    print(f"{label:28} {share:.1%} of the test sentences")
print(f"(with {len(data.test):,} sentences, chance alone moves such a figure by about {chance:.1%} up or down)")
shuffled = [rng.permutation(sentence).tolist() for sentence in sentences["validation"]]
without_order = accuracy(judge(best, shuffled), data.validation.labels)
print(f"LSTM on validation sentences {best_share:.1%}, with their words shuffled {without_order:.1%}")
if FAST:
    assert min(results["LSTM"], results["bag of words and pairs"]) > 0.55
else:
    assert 0.74 < results["LSTM"] < results["bag of words and pairs"] + chance
    assert best_share - 0.08 < without_order < best_share + 0.01

# %% [markdown]
# Be honest about it: the LSTM does not beat counting words. As the bag of words shows, single words and pairs give most
# answers away, and 7,027 sentences seem to be too few to learn from them how words act on each other. How much of its
# judgement comes from the order of the words, the shuffled sentences show: little. That agrees with what we saw it read:
# it adds up single words. `tinymm train lstm` does somewhat more (the ratings instead of yes and no, and so also the
# neutral sentences), but a network pays only when there is more to learn from: chapter 10 reads much text before it sees
# the first label.
#
# Compare also the two figures of the LSTM, on the validation and on the test sentences. The weights are the best of ten
# looks at the validation sentences, and the best of ten is partly luck; so that figure promises too much. That is why
# there is a test set.
#
# ## Questions
#
# :::{dropdown} Why do $W_x$ and $W_h$ get a sum over all times, but $x_t$ does not?
# The weights are used at every time step, each $x_t$ at one only.
# :::
#
# :::{dropdown} In lstm_cell_backward, what is forgotten most often?
# That the gradient of the memory has two parts: the one from the next step, and the one through $h'$. With only one of
# them all shapes are right, and only a gradient check or a comparison tells.
# :::
#
# :::{dropdown} Can the gradient along the memory explode?
# Not along $c$ alone: it is multiplied by $f \le 1$. But through the gates and $h$ there are still matrices. So LSTMs,
# too, are trained with clipping.
# :::
#
# :::{dropdown} Which forget gate reaches 100 words, such that 37 % of the gradient is left?
# $f^{100} = 0.37$ gives $f = 0.99$. The sigmoid turned round: $f = 1 / (1 + e^{-z})$ gives $e^{-z} = (1 - f) / f$, so
# $z = \log \frac{f}{1 - f}$. That is a bias of about $\log(0.99 / 0.01) = 4.6$.
# :::
#
# :::{dropdown} A recurrent network must read word after word; why is that a problem on large machines?
# Step $t$ needs step $t - 1$, so the times cannot be computed together. Attention (chapter 6) has no such chain: every
# word reaches every other in one step, forward and backward.
# :::
#
# ## What you can now do
#
# You can carry a gradient through time, say why it vanishes and what an LSTM does about it, write its cell and its
# backward, and judge a result beside a baseline. Now do the exercises in `lessons/05_recurrence/exercises.py`, and run
# `tinymm check 5`. The library's LSTM, with a mask for padding, is `tinymm/functional/recurrence.py`; `tinymm train lstm`
# trains a larger one.
#
# ## To read
#
# - Elman 1990, *Finding Structure in Time*: the simple network. Werbos 1990, *Backpropagation Through Time: What It Does and
#   How to Do It*.
# - Hochreiter and Schmidhuber 1997, *Long Short-Term Memory*. Gers, Schmidhuber and Cummins 2000, *Learning to Forget*.
#   Jozefowicz, Zaremba and Sutskever 2015, *An Empirical Exploration of Recurrent Network Architectures*, on the forget
#   bias.
# - Bengio, Simard and Frasconi 1994, *Learning Long-Term Dependencies with Gradient Descent is Difficult*. Pascanu, Mikolov
#   and Bengio 2013, *On the Difficulty of Training Recurrent Neural Networks*, on clipping.
# - Hutto and Gilbert 2014, *VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text*: the rated
#   sentences.
