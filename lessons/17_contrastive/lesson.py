# %% [markdown]
# # 17. Contrastive learning
#
# **You will learn** how a model brings images and texts into one space, in which a picture can be searched by words: vectors of length 1 and
# their backward, the loss of CLIP (InfoNCE) and its backward, the temperature and its gradient; and what decides whether the model knows a
# drawing by an artist whom it has never seen.
#
# **You need** softmax and cross-entropy (chapter 2), AdamW (chapter 3), the scatter-add (chapter 4), the mean over the words of a text (chapter
# 10), convolution (chapter 12) and the blocks with batch norm (chapter 13).
#
# **It takes** about 30 seconds to run, and less than 600 MB. It trains with the compiled kernels, so the first run on a machine takes longer. The
# data are 259 emoji (animals, plants, food, games), each drawn by five artists, with their names.
#
# ## The picture
#
#     a drawing --image tower--> a vector a ----+                         name 1   name 2   name 3
#                                               +--> how alike?   drawing 1  [0.9]    0.1      0.0
#     a name  ----text tower---> a vector b ----+                 drawing 2   0.2    [0.8]     0.3
#                                                                 drawing 3   0.1     0.2     [0.9]
#
# Two networks, called **towers**: one reads images, the other texts. Both end in a vector of the same width $D$. A drawing and its name shall get
# nearly the same vector, and all other pairs different ones. No classes are needed, and nobody writes labels: that a drawing and a name came
# together is all that is known. This is **contrastive learning**, and the model is **CLIP** (Radford et al. 2021).
#
# What is it good for? The towers need each other only in training. Afterwards any words can be compared with any image, also words that were
# never a class. Here: train on four artists, and find the names of the drawings of a fifth.

# %%
import os
import textwrap

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")                   # for matrices as small as here one thread is the fastest
import numpy as np

from tinymm import gradient_check, gradient_check_module
from tinymm.data import load_emoji
from tinymm.data.bucketing import pad_sentences
from tinymm.data.emoji import TEST_ARTIST, TRAINING_ARTISTS, VALIDATION_ARTIST
from tinymm.data.image_augmentation import Augmentation, augment, crop_to_drawing
from tinymm.data.tokenizer import Tokenizer
from tinymm.functional import info_nce_backward as library_backward, info_nce_forward as library_forward
from tinymm.functional import l2_normalize_backward as library_unit_backward, l2_normalize_forward as library_unit_forward
from tinymm.layers import ConvBlock, Linear, Module, Parameter
from tinymm.learning.figures import new_figure, show
from tinymm.memory import keep_freed_memory
from tinymm.training.nearest_drawing import nearest_drawings, outline_features, pixel_features
from tinymm.training.optimizers import AdamW

FAST = os.environ.get("TINYMM_FAST") == "1"
keep_freed_memory()                                                  # each step makes the same large arrays again
rng = np.random.default_rng(17)

emoji = load_emoji()
artists = (*TRAINING_ARTISTS, TEST_ARTIST)
by_all = np.all([emoji.present[artist] for artist in artists], axis=0)                   # (1586,)  some drew fewer
chosen = np.flatnonzero(by_all & np.isin(emoji.groups, (3, 4, 6)))                       # (N,)  animals and plants, food, games
names, N = [emoji.names[i] for i in chosen], len(chosen)
drawings = {artist: np.stack([crop_to_drawing(emoji.drawings[artist][i], 16) for i in chosen]) for artist in artists}    # (N, 16, 16, 3)
print(f"{N} emoji by {', '.join(artists)}; the test artist is {TEST_ARTIST}")
assert N == 259 and len(set(names)) == N and drawings[TEST_ARTIST].shape == (N, 16, 16, 3)


def sheet(name, images, captions, left, colors=None):
    """A picture of images (rows, columns, side, side, 3), each with its caption above it, and words at the left of each row."""
    rows, columns, side = images.shape[:3]
    gap = side // 3
    paper = np.full((rows, gap + side, columns, side + gap, 3), 255, np.uint8)           # (rows, H, columns, W, 3)
    paper[:, gap:, :, gap:] = images.swapaxes(1, 2)
    paper = paper.reshape(rows * (gap + side), -1, 3)                                    # (rows H, columns W, 3)  white between the images
    figure, axes = new_figure(9, 9 * len(paper) / paper.shape[1])
    axes.imshow(paper)
    for (row, column), caption in np.ndenumerate(captions):
        axes.text((column + 0.5) * (side + gap) + gap / 2, row * (gap + side) + 0.85 * gap, textwrap.shorten(caption, 21, placeholder=" ..."),
                  ha="center", fontsize=6.5, color="black" if colors is None else colors[row, column])
    axes.set_yticks([row * (gap + side) + gap + side / 2 for row in range(len(left))], left)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.set_frame_on(False)
    show(figure, name)


shown = ("cat face", "lion", "penguin", "octopus", "red apple", "pizza", "soccer ball", "jack-o-lantern")
columns = [names.index(name) for name in shown]
sheet("17_artists", np.stack([drawings[artist][columns] for artist in artists]), np.array([shown] + [[""] * 8] * 4), artists)

# %% [markdown]
# All of it has $16 \times 16$ pixels here, so that training takes seconds. The artists agree about what belongs to a cat, but hardly about
# colours and places. The last row is the artist of the test.
#
# ## Length 1
#
# "Alike" shall mean: they point in the same direction. The **cosine** of two vectors is the dot product of the two after each was brought to
# length 1 (**l2 normalisation**; the length is the root of the sum of squares, also called the l2 norm):
#
# $$ a = \frac{x}{|x|}, \qquad |x| = \sqrt{\sum_i x_i^2}, \qquad \cos(x, y) = a \cdot b = \sum_i a_i b_i \quad\text{with}\quad b = \frac{y}{|y|} $$
#
# It lies between $-1$ (opposite) and $1$ (the same direction). By hand: $x = (3, 4)$ has length 5, so $a = (0.6, 0.8)$.
#
# **Backward, the long way.** $r = |x|$ is step F1, $a = x / r$ is F2. An entry $x_i$ acts on $a_i$ directly, and on all entries through $r$:
#
# $$ dr = -\sum_i da_i \frac{x_i}{r^2}, \qquad dx_i = \frac{da_i}{r} + dr\, \frac{\partial r}{\partial x_i},
# \qquad \frac{\partial r}{\partial x_i} = \frac{2 x_i}{2 \sqrt{\sum_k x_k^2}} = \frac{x_i}{r} = a_i $$
#
# **The short way.** $x_i / r$ is $a_i$, so $dr = -(da \cdot a) / r$, and with it
#
# $$ dx = \frac{da - a\, (a \cdot da)}{|x|} $$
#
# $a\,(a \cdot da)$ is the part of $da$ that points along $a$, outwards or inwards: the **radial part**. It is removed, as stretching $x$ does not
# change $a$. What is left points along the circle, and is divided by the length: on a vector twice as long the same step turns half as far. By
# hand, with $da = (1, 0)$: $a \cdot da = 0.6$, and $dx = ((1, 0) - 0.6\,(0.6, 0.8)) / 5 = (0.64, -0.48) / 5 = (0.128, -0.096)$. And
# $x \cdot dx = 0.384 - 0.384 = 0$.

# %%
def l2_normalize_forward(x):
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))            # (..., 1)  F1
    unit = x / length                                                # (..., D)  F2
    return unit, (unit, length)


def l2_normalize_backward(d_unit, cache):
    unit, length = cache
    along = (d_unit * unit).sum(axis=-1, keepdims=True)              # (..., 1)  how much of d_unit is radial
    # STOP: d_unit - unit * along has no radial part: its dot product with unit is 0
    d_x = (d_unit - unit * along) / length                           # (..., D)  undoes F2 and F1
    return d_x


def l2_normalize_backward_long(d_unit, x):
    length = np.sqrt((x * x).sum(axis=-1, keepdims=True))            # (..., 1)
    d_length = -(d_unit * x / length**2).sum(axis=-1, keepdims=True) # (..., 1)  undoes F2
    return d_unit / length + d_length * x / length                   # (..., D)  undoes F2; F1


x, d_unit = np.array([3.0, 4.0]), np.array([1.0, 0.0])               # (D,), (D,)
unit, cache = l2_normalize_forward(x)
print("unit", unit, " d_x", l2_normalize_backward(d_unit, cache).round(3))
assert np.allclose(unit, [0.6, 0.8]) and np.allclose(l2_normalize_backward(d_unit, cache), [0.128, -0.096])

x, d_unit = rng.normal(size=(2, 3, 5)), rng.normal(size=(2, 3, 5))   # (..., D)
d_x = l2_normalize_backward(d_unit, l2_normalize_forward(x)[1])      # (..., D)
assert np.allclose(d_x, l2_normalize_backward_long(d_unit, x)) and np.allclose((d_x * x).sum(axis=-1), 0)
assert np.allclose(d_x, library_unit_backward(d_unit, library_unit_forward(x)[1]))
longer = x - 0.1 * d_x                                               # (..., D)  a step of gradient descent
assert (np.linalg.norm(longer, axis=-1) > np.linalg.norm(x, axis=-1)).all()
report = gradient_check(l2_normalize_forward, l2_normalize_backward, {"x": x}, rng=rng)
print(report)
assert report.ok

figure, axes = new_figure(5.4, 4)
angles = np.linspace(-0.3, 2, 100)
axes.plot(np.cos(angles), np.sin(angles), color="gray", linewidth=0.8)
for x, color in ((np.array([1.6, 1.2]), "C0"), (np.array([3.2, 2.4]), "C1")):
    unit, cache = l2_normalize_forward(x)
    d_x = l2_normalize_backward(np.array([0.2, 1.0]), cache)         # (D,)
    for start, arrow, shade in (((0, 0), x, "lightgray"), (x, d_x, color)):
        axes.annotate("", np.add(start, arrow), start, arrowprops={"arrowstyle": "->", "color": shade, "linewidth": 1.6})
    axes.text(*(x + [0.08, -0.1]), f"x, length {np.linalg.norm(x):.1f}", color=color)
    axes.text(*(x + d_x + [-0.28, 0.05]), "dx", color=color)
radial = unit * (unit @ [0.2, 1.0])                                  # (D,)
for end, label in (([0.2, 1.0], "da"), (radial, "radial part"), ([0.2, 1.0] - radial, "what is left")):
    axes.annotate("", unit + end, unit, arrowprops={"arrowstyle": "->", "linestyle": "-" if label == "da" else ":"})
    axes.text(*(unit + end + ([0.04, -0.16] if label == "radial part" else [-0.2, 0.04])), label, fontsize=8)
axes.set_xlim(-0.2, 4.5)
axes.set_ylim(-0.2, 3)
axes.set_aspect("equal")
show(figure, "17_radial")

# %% [markdown]
# Two vectors $x$ in the same direction have the same $a$, on the grey circle, and the same $da$ (black). Each gets the part of it along the
# circle, the longer one half as much. As $dx$ stands at a right angle to $x$, every plain step of $x$ itself makes it longer, whichever sign it
# has: $|x - \eta\, dx|^2 = |x|^2 + \eta^2 |dx|^2$ (Pythagoras).
#
# ## InfoNCE
#
# A batch has $B$ drawings with the vectors $a_i$ and their names with the vectors $b_i$. Compare all with all: $B^2$ cosines, of which the
# $B$ on the diagonal belong to right pairs. They are multiplied by a scale $s$, of which more below:
#
# $$ l_{ij} = s\; a_i \cdot b_j $$
#
# Now read each *row* as the logits of a question with $B$ possible answers: which of these names belongs to drawing $i$? The label is $i$. And
# each *column*: which of these drawings belongs to name $j$? The label is $j$. Both are cross-entropies (chapter 2). The loss is the mean of the
# two, called **InfoNCE** (van den Oord et al. 2018; with both directions: Radford et al. 2021):
#
# $$ p_{ij} = \frac{e^{l_{ij}}}{\sum_k e^{l_{ik}}} \qquad q_{ij} = \frac{e^{l_{ij}}}{\sum_k e^{l_{kj}}} \qquad
# L = -\frac{1}{2B} \sum_i \left(\log p_{ii} + \log q_{ii}\right) $$
#
# $p$ is the softmax of the rows, so its rows sum to 1; $q$ that of the columns, so its columns sum to 1. The wrong pairs are called
# **negatives**. They cost nothing: each drawing of the batch is a wrong answer for all other names. Who guesses has the loss $\log B$.
#
# **By hand**, with $B = 2$ and $s = 5$. The second drawing is nearer to the first name than to its own:
#
# $$ a_1 = (1, 0),\; a_2 = (0.6, 0.8),\; b_1 = (0.8, 0.6),\; b_2 = (0, 1): \qquad
# \cos = \begin{pmatrix} 0.8 & 0 \\ 0.96 & 0.8 \end{pmatrix} \qquad l = \begin{pmatrix} 4 & 0 \\ 4.8 & 4 \end{pmatrix} $$
#
# Row 1: $p_{11} = 1 / (1 + e^{-4}) = 0.982$. Row 2: $p_{22} = 1 / (1 + e^{0.8}) = 0.310$. Column 1 is $(4, 4.8)$, so $q_{11} = 0.310$, and column
# 2 is $(0, 4)$, so $q_{22} = 0.982$. With $-\log 0.982 = 0.018$ and $-\log 0.310 = 1.171$ the loss is
# $(0.018 + 1.171 + 1.171 + 0.018) / 4 = 0.595$.
#
# In code the logarithm of the softmax is computed directly, with the largest number subtracted first (chapter 2), so that nothing overflows, and
# no probability is rounded to 0 before its logarithm is taken.

# %%
def log_softmax(x, axis):
    shifted = x - x.max(axis=axis, keepdims=True)                    # (B, B)
    return shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))               # (B, B)


def info_nce_forward(a, b, log_scale):
    scale = np.exp(log_scale)                                        # ()      F1
    cosines = a @ b.T                                                # (B, B)  F2
    logits = scale * cosines                                         # (B, B)  F3
    log_p = log_softmax(logits, axis=1)                              # (B, B)  F4  rows: which name for this drawing?
    log_q = log_softmax(logits, axis=0)                              # (B, B)  F5  columns: which drawing for this name?
    # STOP: exp(log_p).sum(axis=1) and exp(log_q).sum(axis=0) are all 1
    loss = -(np.diag(log_p) + np.diag(log_q)).mean() / 2             # ()      F6
    return loss, (a, b, scale, logits, np.exp(log_p), np.exp(log_q))


a = np.array([[1, 0], [0.6, 0.8]])                                   # (B, D)
b = np.array([[0.8, 0.6], [0, 1]])                                   # (B, D)
loss, (_, _, _, logits, p, q) = info_nce_forward(a, b, np.log(5))
print("logits", logits.round(2).tolist(), " p", p.round(3).tolist(), " q", q.round(3).tolist(), f" loss {loss:.3f}")
assert np.allclose(logits, [[4, 0], [4.8, 4]]) and round(loss, 3) == 0.595
assert np.allclose(np.diag(p), [0.982, 0.310], atol=5e-4) and np.allclose(np.diag(q), [0.310, 0.982], atol=5e-4)

# %% [markdown]
# ## The temperature
#
# Why the scale? Because cosines differ by 2 at most. Suppose all is as good as it can be: 1 for every right pair, $-1$ for all others. Then with
# $s = 1$
#
# $$ L = -\log \frac{e^1}{e^1 + (B - 1)\, e^{-1}} = \log\left(1 + (B - 1)\, e^{-2}\right) $$
#
# With $B = 64$ that is 2.25, where guessing has $\log 64 = 4.16$. And even that cannot be reached, for many vectors cannot all be opposite to
# each other. The best that $B$ pairs can do is a cosine of $-1 / (B - 1)$ for each wrong pair (a question below shows why), which for large $B$
# is no more than a right angle. Then $L = \log(1 + (B - 1)\, e^{-s B / (B - 1)})$, for $B = 64$ and $s = 1$ that is 3.17. (It takes $D \ge B - 1$
# numbers; with fewer the loss stays a little above it.) The softmax would never be sure of anything, and the gradient goes on pulling at pairs
# that are right already.
#
# The other extreme is no better. If $s$ is large, the nearest wrong pair decides alone, every little mistake costs much, and the pairs that are
# right by a hair teach nothing any more. So $s$ is learned. As it must be positive, the parameter is its logarithm, `log_scale`. The
# **temperature** is $1 / s$; CLIP begins with 0.07, that is $s = 14.3$, and does not let $s$ rise above 100.

# %%
def smallest_loss(B, scale):
    return np.log1p((B - 1) * np.exp(-scale * B / (B - 1)))


assert round(np.log(64), 2) == 4.16 and round(np.log(1 + 63 * np.exp(-2)), 2) == 2.25 and round(smallest_loss(64, 1), 2) == 3.17
corners = np.eye(64) - 1 / 64                                        # (B, B)  64 directions, each pair equally far apart
corners, _ = l2_normalize_forward(corners)                           # (B, B)
assert np.isclose((corners @ corners.T)[0, 1], -1 / 63) and np.isclose(info_nce_forward(corners, corners, 0.0)[0], smallest_loss(64, 1))
print("B    guess   smallest loss at scale 1, 5, 14.3, 100")
for B in (2, 8, 64, 128):
    print(f"{B:<4} {np.log(B):5.2f}  ", *(f"{smallest_loss(B, scale):8.2g}" for scale in (1, 5, 1 / 0.07, 100)))

# %% [markdown]
# ## The backward, line by line
#
# **F6, F4, F5, the long way.** Put $p_{ii}$ and $q_{ii}$ into the loss. With $Z_i = \sum_k e^{l_{ik}}$ for the rows, and
# $Z'_j = \sum_k e^{l_{kj}}$ for the columns,
#
# $$ L = \frac{1}{2B} \left( \sum_i \log Z_i + \sum_j \log Z'_j - 2 \sum_i l_{ii} \right) $$
#
# A logit $l_{ij}$ acts in up to three places. In $\log Z_i$: $\partial \log Z_i / \partial l_{ij} = e^{l_{ij}} / Z_i = p_{ij}$. In $\log Z'_j$:
# $e^{l_{ij}} / Z'_j = q_{ij}$. And, if $i = j$, in the last sum, with $-2$. With $I$ for the matrix that has 1 on its diagonal and 0 elsewhere,
# and $dL$ for the gradient of the loss:
#
# $$ dl = dL\; \frac{p + q - 2I}{2B} $$
#
# **The short way.** Chapter 2 has $p - y$ for a cross-entropy, and here $y = I$: the rows give $(p - I) / B$, half of it as $L$ is a mean of two.
# The columns are the rows of $l^\top$; their gradient, turned back, is $(q - I) / B$, half of it. The sum is the same.
#
# **F3**, $l = s \cos$. Every entry used the one number $s$, so $ds = \sum_{ij} dl_{ij} \cos_{ij}$. **F1**, $s = e^t$ with $t$ for `log_scale`:
# $dt = s\, ds$, and $s$ goes into the sum:
#
# $$ d\cos = s\; dl \qquad dt = \sum_{ij} dl_{ij}\, l_{ij} $$
#
# **F2**, $\cos = a\, b^\top$, is a product (chapter 1): $da = d\cos\; b$ and $db = d\cos^\top a$.
#
# What do they say? Row $i$ of $da$ is $\frac{s\, dL}{2B} \sum_j (p_{ij} + q_{ij} - 2 I_{ij})\, b_j$. A step against it moves the drawing
# towards its name and away from the names with which it was confused, each as much as it was believed. And the scale?
# $\sum_j p_{ij}\, l_{ij}$ is the logit that the model expects, and $l_{ii}$ that of the right answer. So
#
# $$ dt = \frac{dL}{2B} \sum_i \Big( \sum_j p_{ij}\, l_{ij} - l_{ii} \Big) + \frac{dL}{2B} \sum_j \Big( \sum_i q_{ij}\, l_{ij} - l_{jj} \Big) $$
#
# Where the right answer is on average ahead of what was expected, $dt$ is negative, and the scale rises: the model may be surer. Where it is
# behind, the scale falls.
#
# By hand, with the numbers from above and $dL = 1$: $dl_{21} = (p_{21} + q_{21}) / 4 = (0.690 + 0.690) / 4 = 0.345$, by far the largest. It
# pushes drawing 2 away from name 1.

# %%
def info_nce_backward(d_loss, cache):
    a, b, scale, logits, p, q = cache
    B = len(a)
    d_logits = d_loss * (p + q - 2 * np.eye(B, dtype=p.dtype)) / (2 * B)                 # (B, B)  undoes F6, F5, F4
    # STOP: d_logits is negative on the diagonal only, and all of it sums to 0
    d_log_scale = (d_logits * logits).sum()                                              # ()      undoes F3, F1
    d_cosines = scale * d_logits                                                         # (B, B)  undoes F3
    d_a = d_cosines @ b                                                                  # (B, D)  undoes F2
    d_b = d_cosines.T @ a                                                                # (B, D)  undoes F2
    return d_a, d_b, d_log_scale


def info_nce_backward_long(d_loss, a, b, log_scale):
    B, scale, cosines = len(a), np.exp(log_scale), a @ b.T
    exps = np.exp(scale * cosines)                                                       # (B, B)
    rows, columns = exps.sum(axis=1), exps.sum(axis=0)                                   # (B,)    Z and Z'
    d_rows, d_columns = d_loss / (2 * B * rows), d_loss / (2 * B * columns)              # (B,)    of log Z / 2B
    d_exps = d_rows[:, None] + d_columns[None, :]                                        # (B, B)  each acts on one row and one column sum
    d_logits = d_exps * exps                                                             # (B, B)
    d_logits[np.arange(B), np.arange(B)] -= d_loss / B                                   # (B, B)  2 of 2B
    d_scale = (d_logits * cosines).sum()                                                 # ()
    d_cosines = d_logits * scale                                                         # (B, B)
    d_a, d_b = np.zeros_like(a), np.zeros_like(b)                                        # (B, D)
    for i, j in np.ndindex(B, B):                                                        # one cosine after the other
        d_a[i] += d_cosines[i, j] * b[j]
        d_b[j] += d_cosines[i, j] * a[i]
    return d_a, d_b, d_scale * scale


loss, cache = info_nce_forward(a, b, np.log(5))
d_logits = (cache[4] + cache[5] - 2 * np.eye(2)) / 4                                     # (B, B)
print("d_logits", d_logits.round(3).tolist())
assert round(d_logits[1, 0], 3) == 0.345 and abs(d_logits.sum()) < 1e-12

x, y, log_scale = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), np.array(1.5)        # (B, D), (B, D), ()
a, b = l2_normalize_forward(x)[0], l2_normalize_forward(y)[0]                            # (B, D)
loss, cache = info_nce_forward(a, b, log_scale)
long, short = info_nce_backward_long(1.7, a, b, log_scale), info_nce_backward(1.7, cache)
theirs, their_cache = library_forward(a, b, log_scale)
print("long and short way differ by", max(np.abs(one - other).max() for one, other in zip(long, short)))
assert np.isclose(loss, theirs) and all(np.allclose(one, other) for one, other in zip(long, short))
assert all(np.allclose(one, other) for one, other in zip(short, library_backward(1.7, their_cache)))

# %% [markdown]
# The towers end in $x$ and $y$, which have any length. So the whole loss is: twice the normalisation, then InfoNCE; and back. The gradient check
# walks through all of it.

# %%
def clip_forward(x, y, log_scale):
    a, unit_a = l2_normalize_forward(x)                                                  # (B, D)  F1
    b, unit_b = l2_normalize_forward(y)                                                  # (B, D)  F2
    loss, contrast = info_nce_forward(a, b, log_scale)                                   # ()      F3
    return loss, (unit_a, unit_b, contrast)


def clip_backward(d_loss, cache):
    unit_a, unit_b, contrast = cache
    d_a, d_b, d_log_scale = info_nce_backward(d_loss, contrast)                          # (B, D), (B, D), ()  undoes F3
    d_y = l2_normalize_backward(d_b, unit_b)                                             # (B, D)  undoes F2
    d_x = l2_normalize_backward(d_a, unit_a)                                             # (B, D)  undoes F1
    return d_x, d_y, d_log_scale


for forward, backward, inputs in ((info_nce_forward, info_nce_backward, {"a": a, "b": b}), (clip_forward, clip_backward, {"x": x, "y": y})):
    report = gradient_check(forward, backward, inputs | {"log_scale": log_scale}, rng=rng)
    print(report)
    assert report.ok

# %% [markdown]
# **Break it:** the same name twice in a batch, with two drawings. Then a negative is none: a **false negative**. Rows 0 and 1 below have the same
# $b$. The labels ask drawing 0 to prefer name 0 to name 1, which is impossible. So these rows cannot be better than $p = (\tfrac12, \tfrac12)$,
# and the loss has a floor above 0, however large the scale.
#
# Does it spoil the gradient? Compare with labels that are fair, $\tfrac12$ for each of the two names, in $y$ instead of $I$. The loss asks for
# other logits. But the two names are one row of the table, and get the sum (chapter 4): there the difference cancels, to the last digit. What the
# loss asks for is that *both* drawings are equally near to the name. That is no harm. Harm comes from names that differ and mean the same, such
# as "boat" and "ship": they are pushed apart.

# %%
same = np.array([0, 0, 1, 2])                                                            # (B,)  which name each drawing has
table, images = rng.normal(size=(3, 6)), rng.normal(size=(4, 6))                         # (3, D), (B, D)
fair = (same[:, None] == same) / (same[:, None] == same).sum(axis=1, keepdims=True)      # (B, B)  instead of I
a, b = l2_normalize_forward(images)[0], l2_normalize_forward(table)[0][same]             # (B, D)
_, (_, _, scale, logits, p, q) = info_nce_forward(a, b, np.log(5))
gradients = []
for labels in (np.eye(4), fair):
    d_cosines = scale * (p + q - 2 * labels) / 8                                         # (B, B)
    d_table = np.zeros((3, 6))                                                           # (3, D)
    np.add.at(d_table, same, d_cosines.T @ a)
    gradients.append((d_cosines @ b, d_table, (d_cosines * logits).sum()))
print("gradients with the labels I and the fair ones differ by", max(np.abs(one - other).max() for one, other in zip(*gradients)))
assert all(np.allclose(one, other, atol=1e-12) for one, other in zip(*gradients))
ideal = np.eye(3)[same]                                                                  # (B, D)  drawings exactly at their names
print(f"the smallest loss with one name twice among four: {info_nce_forward(ideal, ideal, np.log(100))[0]:.3f} = log(2) / 2")
assert np.isclose(info_nce_forward(ideal, ideal, np.log(100))[0], np.log(2) / 2)

# %% [markdown]
# ## The two towers
#
# The names have one to five words, whose order says little. So the **text tower** is the mean of its words' vectors, as in chapter 10: each real
# word has the share $1 / n$ of the $n$ words, and padding has 0. Backward, each word gets its share of the gradient, and the scatter-add (chapter
# 4) brings it into the table.
#
# The **image tower** is made of finished pieces: three blocks of convolution, batch norm and ReLU (chapter 13), which lead from $16 \times 16$
# pixels to $4 \times 4$ places with 64 channels, and a linear layer that makes $D = 64$ numbers of all of them.

# %%
class TextTower(Module):
    def __init__(self, vocabulary_size, D, rng):
        self.table = Parameter(rng.normal(0, 0.02, (vocabulary_size, D)).astype(np.float32))     # (V, D)

    def forward(self, ids):
        real = ids != Tokenizer.pad_id                                                   # (B, T)
        shares = (real / real.sum(axis=1, keepdims=True)).astype(self.table.value.dtype) # (B, T)     F1
        words = self.table.value[ids]                                                    # (B, T, D)  F2
        mean = (shares[..., None] * words).sum(axis=1)                                   # (B, D)     F3
        return mean, (ids, shares)

    def backward(self, d_mean, cache):
        ids, shares = cache
        d_words = shares[..., None] * d_mean[:, None]                                    # (B, T, D)  undoes F3
        # STOP: d_words is 0 where there is padding
        np.add.at(self.table.grad, ids, d_words)                                         # (V, D)     undoes F2


class ImageTower(Module):
    def __init__(self, D, rng):
        self.blocks = [ConvBlock(3, 16, rng), ConvBlock(16, 32, rng, stride=2), ConvBlock(32, 64, rng, stride=2)]
        self.head = Linear(4 * 4 * 64, D, rng)

    def forward(self, x, training=False):
        caches = []
        for block in self.blocks:                                                        # 16 x 16 x 16, then 8 x 8 x 32
            x, cache = block.forward(x, training)                                        # (B, 4, 4, 64) at last  F1
            caches.append(cache)
        out, head = self.head.forward(x.reshape(len(x), -1))                             # (B, D)                 F2
        return out, (caches, x.shape, head)

    def backward(self, d_out, cache):
        caches, shape, head = cache
        d_x = self.head.backward(d_out, head).reshape(shape)                             # (B, 4, 4, 64)          undoes F2
        for i in reversed(range(3)):
            d_x = self.blocks[i].backward(d_x, caches[i], input_gradient=i > 0)          # pixels need no gradient  undoes F1


class CLIP(Module):
    def __init__(self, D, rng):
        self.image, self.text = ImageTower(D, rng), TextTower(len(tokenizer), D, rng)
        self.log_scale = Parameter(np.array(np.log(1 / 0.07), np.float32))               # ()


tokenizer = Tokenizer.build(names)                                                       # all words of the names, each a number
ids = pad_sentences([tokenizer.encode(name) for name in names])                          # (N, T)
print(f"{len(tokenizer)} words; names such as {names[0]!r}: {ids[0].tolist()}")
report = gradient_check_module(TextTower(len(tokenizer), 3, rng), {"ids": ids[:7]}, rng=rng, max_entries=40)
print(str(report).splitlines()[0])
assert report.ok and len(tokenizer) == 325 and ids.shape == (N, 5)

# %% [markdown]
# ## Training
#
# The rules of the game. The drawings of the test artist come at the end of this chapter, and nothing was chosen by them. Everything was chosen
# with another artist left out, the validation artist; three remain for training. A batch is $B = 128$ different emoji, each by one of the
# artists, drawn by lot. As there are few drawings, each is used in eight versions: turned, shifted, stretched, and in other colours, by chance.
#
# `train` takes the loss as a pair of functions, so that we can break it below.

# %%
def ink(images):
    return 1 - np.asarray(images, np.float32) / 255                                      # (..., 16, 16, 3)  0 where it is white


def versions(artists, count):
    """Drawings (A * count, N, 16, 16, 3): each artist's as often as there are versions."""
    draw = np.random.default_rng(170)
    change = Augmentation(shift=1.0)
    return ink([augment(drawings[artist], draw, change) for artist in artists for _ in range(count)])


def train(pool, loss_pair=(clip_forward, clip_backward), scale=None, steps=2 if FAST else 120, B=128, seed=0):
    """`scale` fixes the scale; without it, it is learned. Returns the model, and for each step the loss and the scale."""
    model = CLIP(64, np.random.default_rng(seed)).use_backend("numpy" if FAST else "numba")
    optimizer, course = AdamW(model, beta2=0.98), []
    if scale is not None:
        model.log_scale.value[...] = np.log(scale)
    for step in range(steps):
        epoch, place = divmod(step, N // B)                                              # in an epoch no emoji comes twice
        rows = np.random.default_rng([seed, epoch]).permutation(N)[place * B:(place + 1) * B]    # (B,)
        which = np.random.default_rng([seed, step, 1]).integers(len(pool), size=B)       # (B,)        whose drawing, which version
        x, image = model.image.forward(pool[which, rows], training=True)                 # (B, D)      F1
        y, text = model.text.forward(ids[rows])                                          # (B, D)      F2
        loss, cache = loss_pair[0](x, y, model.log_scale.value)                          # ()          F3
        d_x, d_y, d_log_scale = loss_pair[1](1.0, cache)                                 # (B, D), (B, D), ()  undoes F3
        # STOP: on the first step, is d_log_scale positive or negative?
        optimizer.zero_grad()
        model.text.backward(d_y, text)                                                   #             undoes F2
        model.image.backward(d_x, image)                                                 #             undoes F1
        if scale is None:
            model.log_scale.grad += d_log_scale
        optimizer.step(0.01 * min(1, (step + 1) / 20) * (1 - step / steps))              # warm-up, then down to 0 (chapter 3)
        if scale is None:
            np.minimum(model.log_scale.value, np.log(100), out=model.log_scale.value)    # the scale stays below 100
        course.append((float(loss), float(np.exp(model.log_scale.value))))
    return model, np.array(course)


def vectors(model, artist):
    """All drawings of an artist and all names, as vectors of length 1."""
    x, y = model.image.forward(ink(drawings[artist]))[0], model.text.forward(ids)[0]     # (N, D)
    return l2_normalize_forward(x)[0], l2_normalize_forward(y)[0]                        # (N, D)


# %% [markdown]
# **Recall@k** measures a search: the share of the queries whose right item is among the first $k$ found. The **rank** of the right item is 1 plus
# the number of others that are at least as similar. (A tie counts against us; otherwise a model that finds everything alike would be perfect.)

# %%
def recall_at_k(similarity, right, k):
    own = similarity[np.arange(len(similarity)), right][:, None]                         # (N, 1)  that of the right item
    rank = (similarity >= own).sum(axis=1)                                               # (N,)    itself is counted: so the best rank is 1
    return (rank <= k).mean()


hand = np.array([[0.9, 0.1, 0.3], [0.5, 0.2, 0.4], [0.6, 0.7, 0.7]])                     # (3, 3)  ranks of the diagonal: 1, 3, 2
assert np.allclose([recall_at_k(hand, np.arange(3), k) for k in (1, 2, 3)], [1 / 3, 2 / 3, 1])


def recalls(similarity):
    """Recall at 1, 5 and 10: drawings as queries (rows), then names as queries (columns)."""
    return np.array([[recall_at_k(s, np.arange(N), k) for k in (1, 5, 10)] for s in (similarity, similarity.T)])     # (2, 3)


def as_text(figures):
    return "   |   ".join("  ".join(f"{share:6.1%}" for share in direction) for direction in figures)


three = tuple(artist for artist in TRAINING_ARTISTS if artist != VALIDATION_ARTIST)
pool = versions(three, 1 if FAST else 8)                                                 # (3 * 8, N, 16, 16, 3)
model, course = train(pool)
print(f"trained on {', '.join(three)}; loss {course[0, 0]:.2f} -> {course[-10:, 0].mean():.2f}, "
      f"scale {course[0, 1]:.1f} -> {course[-1, 1]:.1f}")
by_model = {}
for artist in (three[0], VALIDATION_ARTIST):
    a, b = vectors(model, artist)
    by_model[artist] = recalls(a @ b.T)
    print(f"{artist:10} {as_text(by_model[artist])}   (drawing to name at 1, 5, 10 | name to drawing)")

untrained = CLIP(64, np.random.default_rng(0))
some = np.arange(0, N, 8)                                                                # (33,)
figure, panels = new_figure(8, 3.8, 1, 2)
for axes, (title, looked_at) in zip(panels, (("before training", untrained), ("after it", model))):
    a, b = vectors(looked_at, VALIDATION_ARTIST)
    shown = axes.imshow(a[some] @ b[some].T, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_title(title)
    axes.set_xlabel("name")
    axes.set_ylabel("drawing")
figure.colorbar(shown, ax=panels, label="cosine")
show(figure, "17_matrix")

# %% [markdown]
# Before training every name is about as near to all drawings (the picture has stripes): a network with random weights sends all images in nearly
# one direction. Afterwards the diagonal stands out, though this artist was not in the training. For artists of the training the model knows
# nearly everything; for the one left out about half is found at first, and three of four among the first ten.
#
# The first loss lies above $\log 128 = 4.85$, that of guessing: with $s = 14.3$ the model is already rather sure, and of the wrong things. So at
# the beginning the scale must fall, and does. Later the right answers get ahead, and it rises (left picture). Where would it come to rest? On the
# right, the loss of the trained model on all 259 pairs of an artist, if only the scale is changed. At the lowest point the gradient of the scale
# is 0.

# %%
figure, panels = new_figure(9, 3.4, 1, 2)
panels[0].plot(course[:, 1], color="C2")
panels[0].set_xlabel("step")
panels[0].set_title("the scale in training")
scales, best = np.geomspace(1, 100, 60), {}
for artist, label in ((three[0], "of the training"), (VALIDATION_ARTIST, "left out")):
    a, b = vectors(model, artist)
    losses = [info_nce_forward(a, b, np.log(scale))[0] for scale in scales]
    best[artist] = scales[np.argmin(losses)]
    panels[1].semilogx(scales, losses, label=f"{artist}, {label}")
panels[1].axvline(course[-1, 1], color="C2", linewidth=0.8)
panels[1].set_xlabel("scale (the line: as learned)")
panels[1].set_title("loss of the trained model")
panels[1].set_ylim(0, 7)
panels[1].legend(frameon=False)
show(figure, "17_temperature")
print(f"first loss {course[0, 0]:.2f}, lowest scale {course[:, 1].min():.1f}; best scale:",
      ", ".join(f"{artist} {scale:.1f}" for artist, scale in best.items()))
if not FAST:
    assert course[0, 0] > np.log(128) and course[:30, 1].min() < course[0, 1] < course[-1, 1] < 40
    assert best[VALIDATION_ARTIST] < course[-1, 1] < best[three[0]]
    assert by_model[three[0]].min() > 0.9 and 0.4 < by_model[VALIDATION_ARTIST][:, 0].mean() < 0.65
    assert 0.65 < by_model[VALIDATION_ARTIST][:, 2].mean() < 0.85

# %% [markdown]
# It would go on rising for the drawings that are known. For the artist left out the model is surer than it is right: there a lower scale would
# have the smaller loss. How sure to be is learned, too, and is learned on the artists of the training. (The order in which things are found does
# not depend on it.)
#
# ## What matters
#
# **Break it**, in several ways. Each is trained from the same first weights, on the same batches of 128 drawings:
#
# - *groups of 32, of 8, of 2*: the batch is cut, and each drawing is compared only with the names of its group. All else stays as it is, also the
#   number of steps. So only the number of negatives differs: 31, 7 or 1 instead of 127. (With smaller batches there would also be more steps;
#   this is the cleaner question.)
# - *scale 1* and *scale 100*: the scale is fixed.
# - *no normalisation*: the logits are $x \cdot y$, with $s = 1$.
# - *no versions*: each drawing as it is.
# - *names shifted*: the labels are wrong by one place. Drawing $i$ of the batch shall find name $i + 1$. (It has 30 steps only.)

# %%
def in_groups(size):
    """The loss with a batch cut into groups: the mean of theirs."""
    def forward(x, y, log_scale):
        parts = [clip_forward(x[i:i + size], y[i:i + size], log_scale) for i in range(0, len(x), size)]
        return np.mean([loss for loss, _ in parts]), [cache for _, cache in parts]

    def backward(d_loss, caches):
        parts = [clip_backward(d_loss / len(caches), cache) for cache in caches]         # each group: (G, D), (G, D), ()
        return np.concatenate([d_x for d_x, _, _ in parts]), np.concatenate([d_y for _, d_y, _ in parts]), sum(d for _, _, d in parts)
    return forward, backward


def roll_back(d_x, d_y, d_log_scale):
    return d_x, np.roll(d_y, 1, axis=0), d_log_scale                                     # (B, D), (B, D), ()


shifted = (lambda x, y, log_scale: clip_forward(x, np.roll(y, -1, axis=0), log_scale),
           lambda d_loss, cache: roll_back(*clip_backward(d_loss, cache)))
for pair in (in_groups(2), shifted):                                                     # their backwards are right, too
    assert gradient_check(*pair, {"x": x, "y": y, "log_scale": log_scale}, rng=rng, name="broken").ok
ways = {"as it is": (model, course), "groups of 32": train(pool, in_groups(32)), "groups of 8": train(pool, in_groups(8)),
        "groups of 2": train(pool, in_groups(2)), "scale 1": train(pool, scale=1), "scale 100": train(pool, scale=100),
        "no normalisation": train(pool, (info_nce_forward, info_nce_backward), scale=1),
        "no versions": train(ink([drawings[artist] for artist in three])),
        "names shifted": train(pool, shifted, steps=2 if FAST else 30)}
first, last = {}, {}
print(f"{'':18} last losses   {VALIDATION_ARTIST}: drawing to name at 1, 5, 10 | name to drawing")
for way, (broken, its_course) in ways.items():
    a, b = vectors(broken, VALIDATION_ARTIST)
    if way == "no normalisation":
        a, b = broken.image.forward(ink(drawings[VALIDATION_ARTIST]))[0], broken.text.forward(ids)[0]     # (N, D)
        products = np.outer(np.linalg.norm(a, axis=1), np.linalg.norm(b, axis=1))        # (N, N)  |x| |y| of each pair
    figures = recalls(a @ b.T)
    first[way], last[way] = figures[:, 0].mean(), its_course[-10:, 0].mean()
    print(f"{way:18} {last[way]:11.2f}   {as_text(figures)}")
low, high = np.percentile(products, (10, 90))
print(f"without normalisation |x| |y| lies between {low:.0f} and {high:.0f} for eight pairs of ten")
assert round(smallest_loss(128, 1), 2) == 3.86 and round(np.sqrt(0.5 * 0.5 / N), 2) == 0.03
if not FAST:
    assert first["groups of 2"] + 0.05 < first["groups of 8"] < first["as it is"] and first["groups of 2"] + 0.1 < first["as it is"]
    assert last["groups of 2"] < last["groups of 8"] < last["groups of 32"] < last["as it is"] < 0.5 and first["groups of 2"] < first["groups of 32"]
    assert smallest_loss(128, 1) < last["scale 1"] < 4.3
    assert first["scale 1"] + 0.05 < first["as it is"] and first["scale 100"] < first["as it is"]
    assert abs(first["no normalisation"] - first["as it is"]) < 0.12 and 8 < low < high < 80
    assert last["no versions"] < 0.05 and first["no versions"] < first["as it is"]
    assert last["names shifted"] > np.log(128) - 0.1 and first["names shifted"] < 0.03

# %% [markdown]
# (A share of 50 % of 259 drawings has a standard error of 3 %, so a difference of two or three percent says nothing. With other first weights all
# figures move by about two percent, but the large differences stay.)
#
# - **Negatives.** One wrong name at a time is an easy question. Of the four sizes of groups it has the smallest loss, and the worst search. So losses
#   of different batch sizes cannot be compared, and a low loss is worth as much as its question is hard. CLIP was trained with batches of 32,768.
# - **Scale 1.** The loss cannot fall below 3.86, and comes near to that. The search is worse: the gradient goes on pulling at pairs that are
#   right, instead of the few that are confused. **Scale 100** is too sharp from the start.
# - **No normalisation** does little harm here. Without a scale the towers made one: the product of the lengths is roughly as large as the $s$
#   that was learned above. What is lost is the meaning of the numbers. A cosine of 0.8 is the same for all; with products, long vectors are found
#   more often whatever is searched.
# - **No versions.** The loss is nearly 0: the 777 drawings are learned by heart. What does not change from version to version is what another
#   artist shares.
# - **Names shifted.** In each batch another neighbour: nothing can be learned but to guess, $\log 128 = 4.85$. A wrong label raises no error.
#
# ## The artist never seen
#
# Now the test. The model is trained again, by all four artists of the training, with everything as it was chosen. Beside it stand three searches
# that learn nothing. *Pixels*: take the nearest drawing of the training, pixel by pixel, and its name; or, for a name, the test drawing nearest
# to one of that name. *Outlines*: the same with edges, counted by direction in small cells (Dalal and Triggs 2005), and blurred colours; once
# with the $16 \times 16$ pixels that our model sees, and once with the $32 \times 32$ of the original. And chance.

# %%
final, _ = train(versions(TRAINING_ARTISTS, 1 if FAST else 8))
a, b = vectors(final, TEST_ARTIST)
similarity = a @ b.T                                                                     # (N, N)
large = {artist: np.stack([crop_to_drawing(emoji.drawings[artist][i], 32) for i in chosen]) for artist in artists}     # (N, 32, 32, 3)
tested = {"CLIP": recalls(similarity)}
for label, features, images in (("pixels", pixel_features, drawings), ("outlines", outline_features, drawings),
                                ("outlines, 32 x 32", outline_features, large)):
    known = features(np.concatenate([images[artist] for artist in TRAINING_ARTISTS]))    # (4 N, ...)
    tested[label] = recalls(nearest_drawings(features(images[TEST_ARTIST]), known, np.tile(np.arange(N), 4), N))
tested["chance"] = np.array([[1, 5, 10]] * 2) / N                                        # (2, 3)
print(f"{TEST_ARTIST:18} drawing to name at 1, 5, 10 | name to drawing")
for label, figures in tested.items():
    print(f"{label:18} {as_text(figures)}")
if not FAST:
    assert tested["CLIP"][:, 0].mean() > 0.5 and tested["CLIP"][1, 0] > tested["pixels"][1, 0] + 0.1
    assert abs(tested["CLIP"][0, 0] - tested["pixels"][0, 0]) < 0.1 and tested["CLIP"][0, 0] < tested["outlines, 32 x 32"][0, 0]

order = np.argsort(-similarity, axis=1)                                                  # (N, N)  for each drawing the names, the nearest first
shown = np.linspace(0, N - 1, 24).astype(int).reshape(3, 8)                              # (3, 8)
rank = (order == np.arange(N)[:, None]).argmax(axis=1)[shown]                            # (3, 8)  0: the right name is the first
captions = np.array(names)[order[shown, 0]]                                              # (3, 8)
sheet("17_finds", large[TEST_ARTIST][shown], captions, (), np.where(rank == 0, "green", np.where(rank < 5, "black", "red")))

# %% [markdown]
# Each drawing with the name that is found first. Green: it is right. Black: the right one is among the first five. Red: it is not.
# A good half of all 259 is right. From names to drawings CLIP is far ahead of pixels. From drawings to names it only equals them, and
# edges by hand with four times as many pixels are better. They compare drawings with drawings, and keep all 1,036 of the training; CLIP has seen
# them, but must compare with words. (README has the same for all 1,586 emoji: there, too, edges by hand find more of the first names.)
#
# ## Search
#
# In exchange CLIP can be asked in words, also in words that are no emoji's name. Each row shows what is found first among the drawings of the
# artist never seen; above each stands its name.

# %%
def search(words, count):
    query, _ = l2_normalize_forward(final.text.forward(np.array([tokenizer.encode(words)]))[0])      # (1, D)
    return np.argsort(-(a @ query[0]))[:count]                                           # (count,)


queries = ("tree", "medal", "green", "baby chick", "drink")
found = np.stack([search(words, 8) for words in queries])                                # (5, 8)
sheet("17_search", large[TEST_ARTIST][found], np.array(names)[found], queries)
pixels = drawings[TEST_ARTIST].astype(float)                                             # (N, 16, 16, 3)
green = (pixels[..., 1] - pixels[..., [0, 2]].mean(axis=-1)).mean(axis=(1, 2))           # (N,)  how much more green than red and blue
print(f"how green: all drawings {green.mean():.0f}, those found by 'green' {green[found[2]].mean():.0f}")
having = {word: sum(word in name.split() for name in names) for word in ("green", "drink")}
print("names with the word:", having)
assert {"green apple", "green salad"} <= set(names)
assert having["green"] == 2 and having["drink"] == 1 and (FAST or green[found[2]].mean() > green.mean() + green.std())

# %% [markdown]
# "Green" stands in two names only, "green apple" and "green salad", and yet most of what it finds is green. It could not have learned that from
# names; the drawings taught it. But "drink" stands in a single name, always together with "tropical", so only the sum of the two words was ever
# trained. That is the limit of 259 names. CLIP had 400 million texts.
#
# At last the space itself, from its 64 numbers pressed flat into the two directions in which these vectors differ most (**PCA**, principal
# components). Stars are names, dots drawings of the training, crosses those of the artist never seen.

# %%
picked = [names.index(name) for name in ("cat face", "lion", "penguin", "red apple", "pizza", "palm tree")]
seen = np.stack([vectors(final, artist)[0][picked] for artist in TRAINING_ARTISTS])      # (4, 6, D)
points = np.concatenate([seen.reshape(-1, 64), b[picked]])                               # (30, D)
centre = points.mean(axis=0)                                                             # (D,)
plane = np.linalg.svd(points - centre)[2][:2].T                                          # (D, 2)
figure, axes = new_figure(6, 4.6)
for n, i in enumerate(picked):
    star = (b[i] - centre) @ plane                                                       # (2,)
    axes.plot(*((seen[:, n] - centre) @ plane).T, "o", color=f"C{n}")
    axes.plot(*((a[i] - centre) @ plane), "x", color=f"C{n}", markersize=10, markeredgewidth=2)
    axes.plot(*star, "*", color=f"C{n}", markersize=14, markeredgecolor="black")
    axes.text(*(star + 0.03), names[i])
axes.margins(0.12)
show(figure, "17_space")

# %% [markdown]
# ## Questions
#
# :::{dropdown} Why can the mean cosine of the wrong pairs not be lower than $-1 / (B - 1)$, when all right pairs have 1?
# If all right pairs have 1, then $a_i = b_i$. The sum of *all* cosines is $\sum_{ij} a_i \cdot a_j = |\sum_i a_i|^2 \ge 0$. Of it $B$ are the
# right pairs, so the $B (B - 1)$ wrong ones sum to $-B$ at least. The loss is smallest when all wrong ones are equal, because $\log \sum e^z$ is
# convex. (That it does not help to have less than 1 for the right pairs needs one line more: right minus wrong mean is a covariance, at most
# $B / (B - 1)$.)
# :::
#
# :::{dropdown} A model with batches of 8 has the loss 0.05, one with batches of 128 has 0.15. Which one is better?
# The losses do not say. Finding one of 8 is easier than one of 128; guessing has $\log 8 = 2.08$ and $\log 128 = 4.85$. Compare a search among
# the same items.
# :::
#
# :::{dropdown} What happens in `l2_normalize_forward` if x is all zeros?
# A division 0 / 0, and NaN. A vector without a direction cannot be normalised. The library divides by a tiny number instead, and zero stays zero.
# :::
#
# :::{dropdown} Four processes have 32 pairs each, and average their gradients (chapter 20). Is that a batch of 128?
# No. Each drawing meets only 31 wrong names: that is "groups of 32". For 128 each process needs the vectors of all others (they are small),
# before the loss.
# :::
#
# :::{dropdown} How does CLIP sort photos into classes that it was never trained for?
# Make a text of each class, such as "a photo of a dog", and take the class whose text is nearest. That is called **zero-shot** classification.
# Our drawings by the artist never seen were sorted into 259 names in this way.
# :::
#
# ## What you can now do
#
# You can bring vectors to length 1 and send a gradient back through it, write InfoNCE and its backward, say what the temperature is for and when
# it rises, and judge a search by its recall, with honest baselines and an artist left out. Now do `lessons/17_contrastive/exercises.py`, and run
# `tinymm check 17`. The library's pairs are `tinymm/functional/contrastive.py`, the larger model is `tinymm/models/clip.py`: `tinymm train clip`,
# then `tinymm search`.
#
# ## To read
#
# - van den Oord, Li and Vinyals 2018, *Representation Learning with Contrastive Predictive Coding*: InfoNCE.
# - Radford et al. 2021, *Learning Transferable Visual Models From Natural Language Supervision*: CLIP; figure 3 is the loss in a few lines.
# - Wu, Xiong, Yu and Lin 2018, *Unsupervised Feature Learning via Non-Parametric Instance Discrimination*: where the temperature 0.07 comes from.
# - Wang and Isola 2020, *Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere*.
# - Khosla et al. 2020, *Supervised Contrastive Learning*: several right answers in a batch.
# - Dalal and Triggs 2005, *Histograms of Oriented Gradients for Human Detection*.
