# %% [markdown]
# # 12. Convolution
#
# **You will learn** how a network looks at an image: one small filter for all places. Its forward first with loops and then
# as a single matrix product (im2col); its backward, first multiplication by multiplication and then in three short lines; max
# and average pooling; how far a network sees; and what it is worth that the same weights are used everywhere.
#
# **You need** the linear layer, ReLU and the gradient check (chapter 1), cross-entropy (chapter 2), the first weights and AdamW
# (chapter 3), and the scatter-add (chapter 4).
#
# **It takes** about 20 seconds to run, and less than 150 MB. The data are 1,797 real handwritten digits.
#
# ## The picture
#
#     image                         kernel          output
#
#     0  0  1  1                                    0  2  0
#     0 [0  1] 1                    -1  1           0 [2] 1        0 * -1  +  1 * 1
#     0 [0  1] 2                    -1  1           0  1  1      + 0 * -1  +  1 * 1   =   2
#     0  0  0  0
#
# A few numbers, the **kernel** (or filter), are laid on a **window** of the image, a piece of the same size. Each number is
# multiplied with the pixel below it, and the products are summed: that is one pixel of the output. Then the kernel moves on to
# the next window, **with the same numbers**. That is a **convolution**. This kernel takes the left column of its window from
# the right one, so it answers where the image becomes brighter from left to right: at a vertical edge, wherever it is.
#
# On a real digit, with kernels of $3 \times 3$: the first answers to vertical edges, the second to horizontal ones. Where the
# answer is red, the ink begins, from left to right or from top to bottom; where it is blue, it ends.

# %%
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")                   # for matrices as small as here one thread is the fastest
import numpy as np

from tinymm import gradient_check, gradient_check_module
from tinymm.data import load_digits
from tinymm.functional import (
    avg_pool2d_backward as library_avg_backward, avg_pool2d_forward as library_avg_forward,
    conv2d_backward as library_backward, conv2d_forward as library_forward,
    max_pool2d_backward as library_max_backward, max_pool2d_forward as library_max_forward,
)
from tinymm.functional import cross_entropy_backward, cross_entropy_forward, relu_backward, relu_forward
from tinymm.layers import Linear, Module, Parameter
from tinymm.learning.figures import new_figure, show
from tinymm.memory import keep_freed_memory
from tinymm.training.optimizers import AdamW

FAST = os.environ.get("TINYMM_FAST") == "1"
keep_freed_memory()                                                  # each step makes the same large arrays again
rng = np.random.default_rng(12)
digits = load_digits()
assert len(digits.train) + len(digits.test) == 1797


def slide(image, kernel):
    """One image (H, W), one kernel (kh, kw): the products of each window, summed."""
    kh, kw = kernel.shape
    # STOP: go on line by line, and look at window and out, and at window * kernel
    out = np.zeros((image.shape[0] - kh + 1, image.shape[1] - kw + 1))      # (H', W')
    for i, j in np.ndindex(out.shape):
        window = image[i:i + kh, j:j + kw]                           # (kh, kw)
        out[i, j] = (window * kernel).sum()
    return out


image = np.array([[0.0, 0, 1, 1],                                    # (H, W) = (4, 4)
                  [0.0, 0, 1, 1],
                  [0.0, 0, 1, 2],
                  [0.0, 0, 0, 0]])
kernel = np.array([[-1.0, 1],                                        # (kh, kw) = (2, 2)
                   [-1.0, 1]])
print(slide(image, kernel))
assert slide(image, kernel).tolist() == [[0, 2, 0], [0, 2, 1], [0, 1, 1]]

vertical = np.array([[-1.0, 0, 1], [-1, 0, 1], [-1, 0, 1]])          # (3, 3)
digit = np.pad(digits.train.images[0], 2)                            # (12, 12)  with paper on all sides
figure, panels = new_figure(7.5, 2.6, 1, 3)
looked_at = (("the digit", digit, "gray_r", 1), ("vertical edges", slide(digit, vertical), "RdBu_r", 3),
             ("horizontal edges", slide(digit, vertical.T), "RdBu_r", 3))
for axes, (title, shown, colors, limit) in zip(panels, looked_at):
    axes.imshow(shown, cmap=colors, vmin=0 if colors == "gray_r" else -limit, vmax=limit)
    axes.set_title(title)
    axes.set_axis_off()
show(figure, "12_edges")

# %% [markdown]
# ## The equation
#
# An image has several numbers at each pixel, its **channels**: red, green and blue, or one for a grey image. A kernel covers all
# channels of its window. And there are several kernels; each makes a channel of the output, also called a **feature map**. For
# an image $b$ of the batch, the window in row $i$ and column $j$, and the output channel $o$:
#
# $$ \mathrm{out}_{b,i,j,o} = \mathrm{bias}_o + \sum_{u=0}^{k_h - 1} \sum_{v=0}^{k_w - 1} \sum_{c}
# \mathrm{padded}_{b,\; i s + u,\; j s + v,\; c} \; \mathrm{weight}_{u,v,c,o} $$
#
# $u$ and $v$ are the row and the column within the kernel of $k_h \times k_w$ places, $c$ is the input channel. Two numbers
# more say where the windows lie:
#
# - The **stride** $s$: how many pixels it is from one window to the next. With $s = 2$ the output has about half the rows and columns.
# - The **padding** $p$: so many rows and columns of zeros are put around the image before, on each of the four sides. That is
#   `padded`. Without it the output would be smaller than the image, and the pixels at its edge would lie in few windows.
#
# **How large is the output?** Along an axis of $n$ pixels, `padded` has $n + 2p$. Window $i$ begins at pixel $i s$ and ends at
# $i s + k - 1$, and must not reach beyond the last pixel, $n + 2p - 1$. So $i \le (n + 2p - k) / s$, and as $i$ begins at 0,
#
# $$ n' = \left\lfloor \frac{n + 2p - k}{s} \right\rfloor + 1 $$
#
# where $\lfloor\,\rfloor$ rounds down. By hand: $n = 8$, $k = 3$, $p = 1$, $s = 2$ gives $\lfloor 7/2 \rfloor + 1 = 4$. The last
# window begins at pixel 6 and ends at 8, while pixel 9 of the ten is never seen. With $k = 3$, $p = 1$, $s = 1$ the output is
# as large as the image, whatever $n$ is.
#
# In the shapes, $B$ images of $H \times W$ pixels, $C_{in}$ and $C_{out}$ channels, and $H' \times W'$ windows.

# %%
def output_size(n, k, stride, padding):
    return (n + 2 * padding - k) // stride + 1


assert output_size(8, 3, 2, 1) == 4 and output_size(4, 2, 1, 0) == 3
assert all(output_size(n, 3, 1, 1) == n for n in range(1, 20))
assert all(output_size(n, k, s, p) == len([start for start in range(0, n + 2 * p, s) if start + k <= n + 2 * p])
           for n in range(4, 9) for k in (1, 2, 3, 4) for s in (1, 2, 3) for p in (0, 1, 2))

# %% [markdown]
# ## A word about the name
#
# In mathematics a convolution turns the kernel over first: $\sum_u x_{i-u} w_u$. What networks compute, $\sum_u x_{i+u} w_u$, is
# there called a **cross-correlation**. On a single bright pixel the first prints the kernel as it is, the second its mirror image.
# For learned weights it makes no difference, as training would find the mirrored kernel just as well. But we shall meet the
# true convolution soon: it is the backward.

# %%
pixel, w = np.array([0, 0, 1, 0, 0]), np.array([1, 2, 3])
print("convolution", np.convolve(pixel, w, "valid"), " cross-correlation", np.correlate(pixel, w, "valid"))
assert np.convolve(pixel, w, "valid").tolist() == [1, 2, 3] and np.correlate(pixel, w, "valid").tolist() == [3, 2, 1]

# %% [markdown]
# ## The forward with loops
#
# The equation as it stands, one output after the other:

# %%
def conv2d_loops(x, weight, bias, stride, padding):
    B, H, W, C_in = x.shape
    kh, kw, _, C_out = weight.shape
    H_out, W_out = output_size(H, kh, stride, padding), output_size(W, kw, stride, padding)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))         # (B, H+2p, W+2p, C_in)
    out = np.zeros((B, H_out, W_out, C_out), x.dtype)                                    # (B, H', W', C_out)
    for b, i, j, o in np.ndindex(out.shape):
        window = padded[b, i * stride:i * stride + kh, j * stride:j * stride + kw]       # (kh, kw, C_in)
        out[b, i, j, o] = (window * weight[:, :, :, o]).sum() + bias[o]
    return out


out = conv2d_loops(image[None, :, :, None], kernel[:, :, None, None], np.zeros(1), 1, 0)   # (1, 3, 3, 1)
assert (out[0, :, :, 0] == slide(image, kernel)).all()

# %% [markdown]
# ## im2col: one matrix product
#
# For each window and each kernel the same is done: a dot product. Dot products of all rows with all columns are a matrix
# product, and processors are best at these. So write each window as a row (Chellapilla et al. 2006). For an image of
# $4 \times 4$ with its pixels numbered, and a kernel of $2 \times 2$:
#
#      0  1  2  3          window (0, 0)    0  1  4  5
#      4  5  6  7          window (0, 1)    1  2  5  6
#      8  9 10 11          window (0, 2)    2  3  6  7
#     12 13 14 15          window (1, 0)    4  5  8  9
#                          ...
#
# The rewriting is called **im2col**, "image to columns", and the matrix `columns` (after a function of MATLAB, which makes a column of
# each window). It has $B H' W'$ rows and $k_h k_w C_{in}$ columns. With the weight as a matrix of $k_h k_w C_{in}$ rows and
# $C_{out}$ columns, convolution is a **linear layer on windows**:
#
# $$ \mathrm{out} = \mathrm{columns} \cdot \mathrm{weight} + \mathrm{bias} $$
#
# To make `columns` quickly, do not walk over the windows, of which there are many, but over the places of the kernel, of which
# there are few. The pixels that one place $(u, v)$ meets, in all windows, are one slice: rows $u$, $u + s$, $u + 2s$ and so on,
# $H'$ of them, and likewise the columns.

# %%
def im2col(padded, kh, kw, stride):
    B, H, W, C = padded.shape
    H_out, W_out = output_size(H, kh, stride, 0), output_size(W, kw, stride, 0)
    windows = np.zeros((B, H_out, W_out, kh, kw, C), padded.dtype)                       # (B, H', W', kh, kw, C)
    for u in range(kh):
        for v in range(kw):
            windows[:, :, :, u, v] = padded[:, u:u + stride * H_out:stride, v:v + stride * W_out:stride]    # (B, H', W', C)
    return windows.reshape(B * H_out * W_out, kh * kw * C)                               # (B H' W', kh kw C)


def conv2d_forward(x, weight, bias, stride, padding):
    B, H, W, C_in = x.shape
    kh, kw, _, C_out = weight.shape
    H_out, W_out = output_size(H, kh, stride, padding), output_size(W, kw, stride, padding)
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))         # (B, H+2p, W+2p, C_in)  F1
    columns = im2col(padded, kh, kw, stride)                                             # (B H' W', kh kw C_in)  F2
    rows = columns @ weight.reshape(-1, C_out) + bias                                    # (B H' W', C_out)       F3
    # STOP: compare the shapes of x, columns, rows and out
    out = rows.reshape(B, H_out, W_out, C_out)                                           # (B, H', W', C_out)     F4
    return out, (x, columns, weight, stride, padding)                                    # x for its shape


numbers = np.arange(16).reshape(1, 4, 4, 1)
print(im2col(numbers, 2, 2, 1)[:4])
assert im2col(numbers, 2, 2, 1)[:4].tolist() == [[0, 1, 4, 5], [1, 2, 5, 6], [2, 3, 6, 7], [4, 5, 8, 9]]

x = rng.normal(size=(2, 7, 5, 3))                                                        # (B, H, W, C_in)
weight, bias = rng.normal(size=(3, 2, 3, 4)), rng.normal(size=4)                         # (kh, kw, C_in, C_out), (C_out,)
for stride, padding in ((1, 0), (1, 1), (2, 1), (3, 2)):
    out, _ = conv2d_forward(x, weight, bias, stride, padding)
    assert np.allclose(out, conv2d_loops(x, weight, bias, stride, padding))
    assert np.allclose(out, library_forward(x, weight, bias, stride, padding)[0])

some = digits.train.images[:20, :, :, None]                                              # (B, H, W, 1) = (20, 8, 8, 1)
eight, zeros = rng.normal(size=(3, 3, 1, 8)), np.zeros(8)
began = time.perf_counter()
slow = conv2d_loops(some, eight, zeros, 1, 1)                                            # (20, 8, 8, 8)
times = [time.perf_counter()]
for _ in range(5):
    quick, (_, columns, *_) = conv2d_forward(some, eight, zeros, 1, 1)
    times.append(time.perf_counter())
loops, im2col_time = times[0] - began, np.diff(times).min()                              # the best of five: the machine may be busy
print(f"20 digits, 8 kernels: loops {loops:.3f} s, im2col {im2col_time:.5f} s, {loops / im2col_time:.0f} times as fast; "
      f"columns holds {columns.size // some.size} numbers for each pixel")
assert np.allclose(slow, quick) and loops > 3 * im2col_time and columns.size == 9 * some.size

# %% [markdown]
# The price is memory: each pixel is copied into up to $k_h k_w$ windows, here nine.
#
# ## The backward, the long way
#
# We know $\partial L / \partial\, \mathrm{out}$, called `d_out`. Look at a single multiplication of the forward: the pixel
# $\mathrm{padded}_{b,\,is+u,\,js+v,\,c}$ times the weight $\mathrm{weight}_{u,v,c,o}$ is added to $\mathrm{out}_{b,i,j,o}$. By the
# product rule it gives two contributions, one to each factor, and each is the **other** factor times $d\mathrm{out}$:
#
# $$ d\mathrm{padded}_{b,\,is+u,\,js+v,\,c} \;\text{+=}\; \mathrm{weight}_{u,v,c,o} \; d\mathrm{out}_{b,i,j,o} \qquad\quad
# d\mathrm{weight}_{u,v,c,o} \;\text{+=}\; \mathrm{padded}_{b,\,is+u,\,js+v,\,c} \; d\mathrm{out}_{b,i,j,o} $$
#
# It must be `+=` both times: a weight is used in every window, and a pixel lies in several windows, with another weight
# in each. What acts along several ways gets the sum over all ways. The bias is added to every window:
# $d\mathrm{bias}_o \;\text{+=}\; d\mathrm{out}_{b,i,j,o}$. The padding is no input, so its gradient is cut off at the end.
#
# By hand, with the image and the kernel from the top of the page, and a `d_out` that is 5 at window $(0, 0)$, 1 at window
# $(0, 1)$, and 0 elsewhere. Pixel $(0, 1)$ is the upper right corner of the first of them, with weight $1$, and the upper left
# corner of the second, with weight $-1$. So it gets $5 \cdot 1 + 1 \cdot (-1) = 4$. And the upper right weight met pixel
# $(0, 1)$, which is $0$, in the first, and pixel $(0, 2)$, which is $1$, in the second: it gets $5 \cdot 0 + 1 \cdot 1 = 1$.

# %%
def conv2d_backward_loops(d_out, x, weight, stride, padding):
    kh, kw, C_in, C_out = weight.shape
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))         # (B, H+2p, W+2p, C_in)
    d_padded, d_weight, d_bias = np.zeros_like(padded), np.zeros_like(weight), np.zeros(C_out)
    for b, i, j, o in np.ndindex(d_out.shape):
        d_bias[o] += d_out[b, i, j, o]
        for u, v, c in np.ndindex(kh, kw, C_in):
            row, column = i * stride + u, j * stride + v
            d_padded[b, row, column, c] += weight[u, v, c, o] * d_out[b, i, j, o]
            d_weight[u, v, c, o] += padded[b, row, column, c] * d_out[b, i, j, o]
    H, W = x.shape[1:3]
    return d_padded[:, padding:padding + H, padding:padding + W], d_weight, d_bias       # d_x (B, H, W, C_in)


d_out = np.zeros((1, 3, 3, 1))                                                           # (B, H', W', C_out)
d_out[0, 0, 0], d_out[0, 0, 1] = 5, 1
d_x, d_weight, d_bias = conv2d_backward_loops(d_out, image[None, :, :, None], kernel[:, :, None, None], 1, 0)
# STOP: look at d_x[0, :, :, 0]: only six pixels lie in the two windows
print("d_x, first two rows:", d_x[0, :2, :, 0].tolist(), " d_weight:", d_weight[:, :, 0, 0].tolist(), " d_bias:", d_bias)
assert d_x[0, :, :, 0].tolist() == [[-5, 4, 1, 0], [-5, 4, 1, 0], [0] * 4, [0] * 4]
assert d_weight[:, :, 0, 0].tolist() == [[0, 1], [0, 1]] and d_bias == 6

# %% [markdown]
# ## The short way
#
# Collect the contributions to one weight: the loops over $b$, $i$ and $j$ are a sum over all windows,
#
# $$ d\mathrm{weight}_{u,v,c,o} = \sum_{b,i,j} \mathrm{padded}_{b,\,is+u,\,js+v,\,c} \; d\mathrm{out}_{b,i,j,o} $$
#
# The first factor is what im2col wrote into row $(b, i, j)$ and column $(u, v, c)$ of `columns`. So this is a matrix product,
# $\mathrm{columns}^\top d\mathrm{out}$. We need not have looked: F3 is a linear layer, and chapter 1 has its three gradients.
# With $d\mathrm{out}$ as a matrix of $B H' W'$ rows and $C_{out}$ columns:
#
# $$ d\mathrm{weight} = \mathrm{columns}^\top d\mathrm{out} \qquad d\mathrm{bias} = \sum_{\text{rows}} d\mathrm{out} \qquad
# d\mathrm{columns} = d\mathrm{out} \; \mathrm{weight}^\top $$
#
# **F2**, im2col, only copied. Its backward, **col2im**, sends each entry of `d_columns` back to the pixel that it was copied from,
# and a pixel that was copied several times gets the sum. That is the **scatter-add** of chapter 4: there a row of the
# table was read by several words, here a pixel by several windows.
#
# Again walk over the places of the kernel. One place meets each pixel at most once, so one slice can take all its windows in
# one line. The overlaps are between *different* places, that is between different rounds of the loop, and there `+=` adds
# them up.
#
# **F1**, the padding: cut its rows and columns off, with `padding:padding + H`. (The shorter `padding:-padding` is an empty slice when
# the padding is 0.)

# %%
def col2im(d_columns, shape, kh, kw, stride):
    B, H, W, C = shape                                                                   # of the padded images
    H_out, W_out = output_size(H, kh, stride, 0), output_size(W, kw, stride, 0)
    d_windows = d_columns.reshape(B, H_out, W_out, kh, kw, C)                            # (B, H', W', kh, kw, C)
    # STOP: go on line by line, and watch d_padded fill up from one round of the loop to the next
    d_padded = np.zeros(shape, d_columns.dtype)                                          # (B, H+2p, W+2p, C)
    for u in range(kh):
        for v in range(kw):
            d_padded[:, u:u + stride * H_out:stride, v:v + stride * W_out:stride] += d_windows[:, :, :, u, v]    # (B, H', W', C)
    return d_padded


def conv2d_backward(d_out, cache):
    x, columns, weight, stride, padding = cache
    B, H, W, C_in = x.shape
    kh, kw, _, C_out = weight.shape
    d_rows = d_out.reshape(-1, C_out)                                                    # (B H' W', C_out)       undoes F4
    d_bias = d_rows.sum(axis=0)                                                          # (C_out,)               undoes F3
    d_weight = (columns.T @ d_rows).reshape(weight.shape)                                # (kh, kw, C_in, C_out)  undoes F3
    d_columns = d_rows @ weight.reshape(-1, C_out).T                                     # (B H' W', kh kw C_in)  undoes F3
    shape = (B, H + 2 * padding, W + 2 * padding, C_in)
    d_padded = col2im(d_columns, shape, kh, kw, stride)                                  # (B, H+2p, W+2p, C_in)  undoes F2
    d_x = d_padded[:, padding:padding + H, padding:padding + W]                          # (B, H, W, C_in)        undoes F1
    return d_x, d_weight, d_bias


for stride, padding in ((1, 0), (2, 1), (3, 2)):
    out, cache = conv2d_forward(x, weight, bias, stride, padding)
    d_out = rng.normal(size=out.shape)                                                   # (B, H', W', C_out)
    the_short_way = conv2d_backward(d_out, cache)
    the_long_way = conv2d_backward_loops(d_out, x, weight, stride, padding)
    theirs = library_backward(d_out, library_forward(x, weight, bias, stride, padding)[1])
    difference = max(np.abs(a - b).max() for a, b in zip(the_short_way, the_long_way))
    print(f"stride {stride}, padding {padding}: long and short way differ by {difference:.1e}")
    assert difference < 1e-12 and all(np.allclose(a, b) for a, b in zip(the_short_way, theirs))

# %% [markdown]
# That it is the scatter-add, and nothing else, can be seen by calling it. Let im2col rewrite an image of pixel *numbers*: it gives
# for each window the numbers of its pixels. With these as ids, the image as the table, im2col is a lookup, and col2im is
# `np.add.at`:

# %%
padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))                                     # (B, 9, 7, C)
ids = im2col(np.arange(9 * 7).reshape(1, 9, 7, 1), 3, 2, 2)                              # (H' W', kh kw)
table = padded[0].reshape(-1, 3)                                                         # (9 * 7, C)  the pixels of the first image
looked_up = table[ids]                                                                   # (H' W', kh kw, C)
assert (looked_up.reshape(len(ids), -1) == im2col(padded[:1], 3, 2, 2)).all()
d_looked_up = rng.normal(size=looked_up.shape)                                           # (H' W', kh kw, C)
d_table = np.zeros_like(table)                                                           # (9 * 7, C)
np.add.at(d_table, ids, d_looked_up)
assert np.allclose(d_table.reshape(9, 7, 3), col2im(d_looked_up.reshape(len(ids), -1), (1, 9, 7, 3), 3, 2, 2)[0])
print("a pixel was read at most", np.bincount(ids.ravel()).max(), "times, and", (np.bincount(ids.ravel(), minlength=63) == 0).sum(),
      "of 63 pixels not at all")

# %% [markdown]
# ## The gradient check
#
# With a stride of 2, padding, and sizes that are all unequal, so that axes taken for each other show. **Break it:** in col2im write `=`
# instead of `+=`. The last place of the kernel that meets a pixel then wins, instead of the sum. All shapes are right, and the
# gradients of weight and bias are, too. Only the gradient of `x` is wrong, and with it everything below this layer.

# %%
inputs = {"x": rng.normal(size=(2, 12, 15, 5)), "weight": rng.normal(size=(4, 3, 5, 7)), "bias": rng.normal(size=7),
          "stride": 2, "padding": 1}                                                     # 6 x 8 windows
report = gradient_check(conv2d_forward, conv2d_backward, inputs, rng=rng)
print(report)
assert report.ok


def backward_that_overwrites(d_out, cache):
    x, columns, weight, stride, padding = cache
    B, H, W, C_in = x.shape
    kh, kw, _, C_out = weight.shape
    _, d_weight, d_bias = conv2d_backward(d_out, cache)
    d_windows = (d_out @ weight.reshape(-1, C_out).T).reshape(*d_out.shape[:3], kh, kw, C_in)    # (B, H', W', kh, kw, C_in)
    d_padded = np.zeros((B, H + 2 * padding, W + 2 * padding, C_in))                     # (B, H+2p, W+2p, C_in)
    for u, v in np.ndindex(kh, kw):
        d_padded[:, u:u + stride * d_out.shape[1]:stride, v:v + stride * d_out.shape[2]:stride] = d_windows[:, :, :, u, v]
    return d_padded[:, padding:padding + H, padding:padding + W], d_weight, d_bias


report = gradient_check(conv2d_forward, backward_that_overwrites, inputs, rng=rng)
print(report)
assert not report.ok and str(report).count("FAIL") == 2                                  # the headline, and x

# %% [markdown]
# ## The backward is a convolution, too
#
# Collect the contributions to one *pixel*, for stride 1. Pixel row $y$ was met in window $i$ by place $u$ if $i + u = y$, that is
# $i = y - u$, and likewise $j = z - v$ for pixel column $z$:
#
# $$ d\mathrm{padded}_{b,y,z,c} = \sum_{u,v,o} d\mathrm{out}_{b,\; y-u,\; z-v,\; o} \; \mathrm{weight}_{u,v,c,o} $$
#
# where $d\mathrm{out}$ is 0 outside of its range. There is the minus of the true convolution. To compute it with what we have,
# turn the kernel over, exchange the roles of the channels $c$ and $o$, and pad $d\mathrm{out}$ with $k - 1$ zeros at each end, so
# that the windows at the ends overlap it by a single pixel (a **full** convolution). With a stride $s$ above 1 the windows are $s$
# pixels apart: first put $s - 1$ zeros between neighbours of `d_out`.

# %%
out, cache = conv2d_forward(x, weight, bias, 1, 0)
d_out = rng.normal(size=out.shape)                                                       # (B, H', W', C_out)
full = np.pad(d_out, ((0, 0), (2, 2), (1, 1), (0, 0)))                                   # kh - 1 = 2, kw - 1 = 1
turned = weight[::-1, ::-1].swapaxes(2, 3)                                               # (kh, kw, C_out, C_in)
d_x, _ = conv2d_forward(full, turned, np.zeros(3), 1, 0)                                 # (B, H, W, C_in)
print("col2im and the turned kernel differ by", np.abs(d_x - conv2d_backward(d_out, cache)[0]).max())
assert np.allclose(d_x, conv2d_backward(d_out, cache)[0])

out, cache = conv2d_forward(x, weight, bias, 2, 0)                                       # (B, 3, 2, C_out)  stride 2
d_out = rng.normal(size=out.shape)
spread = np.zeros((2, 5, 3, 4))                                                          # (B, 2 * 3 - 1, 2 * 2 - 1, C_out)
spread[:, ::2, ::2] = d_out                                                              # zeros between its entries
d_x, _ = conv2d_forward(np.pad(spread, ((0, 0), (2, 2), (1, 1), (0, 0))), turned, np.zeros(3), 1, 0)    # (B, 7, 4, C_in)
assert np.allclose(d_x, conv2d_backward(d_out, cache)[0][:, :, :4]) and not conv2d_backward(d_out, cache)[0][:, :, 4].any()

# %% [markdown]
# (The fifth column of `x` is reached by no window there, so its gradient is 0.)
#
# ## A linear layer whose weights are shared
#
# Each output is a weighted sum of pixels, so a convolution *is* a linear layer from all pixels to all outputs, with a large matrix
# $M$. Its entries: mostly 0, as an output sees only its window; and the others are the same few numbers again and
# again. We read $M$ off by sending one pixel after the other through a convolution of $8 \times 8$ pixels.

# %%
one = rng.normal(size=(3, 3, 1, 1))                                                      # (kh, kw, 1, 1)
pixels = np.eye(64).reshape(64, 8, 8, 1)                                                 # (64, 8, 8, 1)  image n has a 1 at pixel n
M = conv2d_forward(pixels, one, np.zeros(1), 1, 1)[0].reshape(64, 64)                    # (64, 64)  from pixel (row) to output (column)
print(f"{M.size:,} entries, {np.count_nonzero(M)} not 0, {len(np.unique(M[M != 0]))} different ones")
assert len(np.unique(M[M != 0])) == 9 and np.count_nonzero(M) == 22 * 22
figure, axes = new_figure(4.6, 4)
shown = axes.imshow(M, cmap="RdBu_r", vmin=-np.abs(M).max(), vmax=np.abs(M).max())
axes.set_xlabel("output")
axes.set_ylabel("pixel")
figure.colorbar(shown)
show(figure, "12_matrix")

x_1, d_1 = rng.normal(size=(5, 8, 8, 1)), rng.normal(size=(5, 8, 8, 1))                  # (B, 8, 8, 1)
y_1, cache = conv2d_forward(x_1, one, np.zeros(1), 1, 1)
d_x, d_one, _ = conv2d_backward(d_1, cache)
assert np.allclose(y_1.reshape(5, 64), x_1.reshape(5, 64) @ M) and np.allclose(d_x.reshape(5, 64), d_1.reshape(5, 64) @ M.T)
d_M = x_1.reshape(5, 64).T @ d_1.reshape(5, 64)                                          # (64, 64)  as if all its entries were free
where = [[M == one[u, v, 0, 0] for v in range(3)] for u in range(3)]                     # in which places of M each weight stands
assert np.allclose(d_one[:, :, 0, 0], [[d_M[places].sum() for places in row] for row in where])

# %% [markdown]
# The last lines show once more what sharing does to a gradient: take the gradient of $M$ as if all its 4,096 entries were free, and
# **add up all entries in which the same weight stands**. That is `d_weight`. (And `d_x` is $d\mathrm{out}\, M^\top$.)
#
# From sharing follows a property that no free matrix has: **shift the input, and the output shifts along**. It is called
# **equivariance** to shifts. An edge looks the same everywhere, so it is found everywhere, also where training never showed one.

# %%
image_1 = digit[None, :, :, None]                                                        # (1, 12, 12, 1)
free = rng.normal(size=(144, 144)) / 12                                                  # (144, 144)  a linear layer without sharing


def shift(images, down, right):
    return np.roll(images, (down, right), axis=(1, 2))                                   # what leaves at one end is paper here


gaps = {}
for name, layer in (("convolution", lambda x: conv2d_forward(x, one, np.zeros(1), 1, 1)[0]),
                    ("free linear layer", lambda x: (x.reshape(1, 144) @ free).reshape(1, 12, 12, 1))):
    before, after = shift(layer(image_1), 1, -1), layer(shift(image_1, 1, -1))           # (1, 12, 12, 1)
    gaps[name] = np.abs(before - after).max() / np.abs(after).max()
    print(f"{name}: shift then layer, layer then shift: largest difference {gaps[name]:.1e} of the largest output")
assert gaps["convolution"] < 1e-12 and gaps["free linear layer"] > 0.1

# %% [markdown]
# ## Pooling
#
# Convolution says where a feature is. Often it is enough to know it roughly. **Pooling** takes each window of a feature map, for
# each channel by itself, and keeps one number: the largest (**max pooling**) or the mean (**average pooling**). It has no
# weights. Usual are windows of $2 \times 2$ with stride 2, which do not overlap and leave a quarter of the pixels. By hand:
#
#     1  3 | 2  0
#     5  4 | 1  2         max   5  2          mean   3.25  1.25
#     -----+-----               2  7                 0.5   5.25
#     0  0 | 7  7
#     0  2 | 6  1
#
# **Backward.** The mean of $n$ pixels has slope $1/n$ in each: all get $d\mathrm{out}/n$. The maximum has slope 1 in the pixel that
# won, for if it grows a little the output grows as much, and slope 0 in all others. So **all of `d_out` goes to the winner**.
# With `d_out` $10, 20, 30, 40$ the pixel $5$ gets $10$. In the second window two pixels have the largest value, 2: a **tie**.
# There the maximum has a kink, and no slope. We give all to the first in reading order, as PyTorch does; giving to
# both would count `d_out` twice. (In practice ties are mostly windows full of zeros behind a ReLU, and that lets nothing
# pass there anyway.)
#
# Both are short with what we have: im2col collects the windows, col2im brings the gradients back, also where
# windows overlap and one pixel wins in several. A pooling window treats each channel alone, so the places of
# the kernel are an axis of their own, of length `size * size`.

# %%
def collect(x, size, stride):
    """The pixels of each window, apart for each channel: (B, H', W', size * size, C)."""
    B, H, W, C = x.shape
    H_out, W_out = output_size(H, size, stride, 0), output_size(W, size, stride, 0)
    return im2col(x, size, size, stride).reshape(B, H_out, W_out, size * size, C)


def max_pool2d_forward(x, size, stride):
    places = collect(x, size, stride)                                                    # (B, H', W', size^2, C)  F1
    winner = places.argmax(axis=3)                                                       # (B, H', W', C)          the first of equals
    out = places.max(axis=3)                                                             # (B, H', W', C)          F2
    # STOP: winner says which place of each window won, u * size + v
    return out, (x, winner, size, stride)


def max_pool2d_backward(d_out, cache):
    x, winner, size, stride = cache
    B, H_out, W_out, C = d_out.shape
    d_places = np.zeros((B, H_out, W_out, size * size, C), d_out.dtype)                  # (B, H', W', size^2, C)
    np.put_along_axis(d_places, winner[:, :, :, None], d_out[:, :, :, None], axis=3)     # to the winner       undoes F2
    d_columns = d_places.reshape(B * H_out * W_out, size * size * C)                     # (B H' W', size^2 C)
    return col2im(d_columns, x.shape, size, size, stride)                                # (B, H, W, C)        undoes F1


def avg_pool2d_forward(x, size, stride):
    return collect(x, size, stride).mean(axis=3), (x, size, stride)                      # (B, H', W', C)


def avg_pool2d_backward(d_out, cache):
    x, size, stride = cache
    d_places = np.repeat(d_out[:, :, :, None] / size**2, size**2, axis=3)                # (B, H', W', size^2, C)
    return col2im(d_places.reshape(-1, size**2 * d_out.shape[3]), x.shape, size, size, stride)


corner = np.array([[1.0, 3, 2, 0], [5, 4, 1, 2], [0, 0, 7, 7], [0, 2, 6, 1]])[None, :, :, None]   # (1, 4, 4, 1)
d_out = np.array([[10.0, 20], [30, 40]])[None, :, :, None]                               # (1, 2, 2, 1)
largest, max_cache = max_pool2d_forward(corner, 2, 2)
mean, avg_cache = avg_pool2d_forward(corner, 2, 2)
print("max", largest.ravel(), " mean", mean.ravel(), " winners", max_cache[1].ravel())
print(max_pool2d_backward(d_out, max_cache)[0, :, :, 0])
assert largest.ravel().tolist() == [5, 2, 2, 7] and mean.ravel().tolist() == [3.25, 1.25, 0.5, 5.25]
assert max_pool2d_backward(d_out, max_cache)[0, :, :, 0].tolist() == [[0, 0, 20, 0], [10, 0, 0, 0], [0, 0, 40, 0], [0, 30, 0, 0]]
assert avg_pool2d_backward(d_out, avg_cache)[0, :2, :, 0].tolist() == [[2.5, 2.5, 5, 5]] * 2

maps = rng.normal(size=(2, 7, 6, 3))                                                     # (B, H, W, C)
for mine, mine_back, theirs, theirs_back in (
        (max_pool2d_forward, max_pool2d_backward, library_max_forward, library_max_backward),
        (avg_pool2d_forward, avg_pool2d_backward, library_avg_forward, library_avg_backward)):
    report = gradient_check(mine, mine_back, {"x": maps, "size": 3, "stride": 2}, rng=rng)   # windows that overlap
    print(report)
    out, cache = mine(maps, 3, 2)
    other, other_cache = theirs(maps, 3, 2)
    d_out = rng.normal(size=out.shape)                                                   # (B, H', W', C)
    assert report.ok and np.allclose(out, other) and np.allclose(mine_back(d_out, cache), theirs_back(d_out, other_cache))

# %% [markdown]
# ## How far does it see?
#
# The **receptive field** of an output is the piece of the image that it depends on. One convolution of size 3 sees 3 pixels along an
# axis. A second one on top sees 3 outputs of the first, which lie one pixel apart: $3 + 2 = 5$ pixels. If there was a stride of 2
# between, they lie two pixels apart. In general, with $r$ the field so far and $a$ the distance of neighbours in pixels, both 1 at
# the beginning, a stage of size $k$ and stride $s$ makes
#
# $$ r \leftarrow r + (k - 1)\, a, \qquad a \leftarrow a\, s $$
#
# The network below is a convolution of size 3, pooling of size and stride 2, and a convolution of size 3:
# $1 \to 3 \to 4 \to 8$. Each of its outputs sees $8 \times 8$ pixels, as many as a digit has. And the backward can *measure* it:
# put a 1 into one output, walk back, and see which pixels get a gradient. (With mean instead of maximum, and positive weights, so that
# no way is closed.)

# %%
field, apart = 1, 1
for k, s in ((3, 1), (2, 2), (3, 1)):
    field, apart = field + (k - 1) * apart, apart * s
y, first = conv2d_forward(np.zeros((1, 16, 16, 1)), np.ones((3, 3, 1, 1)), np.zeros(1), 1, 1)     # (1, 16, 16, 1)
y, pooled = avg_pool2d_forward(y, 2, 2)                                                           # (1, 8, 8, 1)
y, second = conv2d_forward(y, np.ones((3, 3, 1, 1)), np.zeros(1), 1, 1)                           # (1, 8, 8, 1)
d_y = np.zeros_like(y)
d_y[0, 4, 4] = 1
d_x = conv2d_backward(avg_pool2d_backward(conv2d_backward(d_y, second)[0], pooled), first)[0]     # (1, 16, 16, 1)
rows, columns = np.nonzero(d_x[0, :, :, 0])
# STOP: look at d_x[0, :, :, 0]: the pixels in the middle of the field act along more ways than those at its rim
print(f"receptive field: {field} by the formula; measured {np.ptp(rows) + 1} x {np.ptp(columns) + 1}, rows {rows.min()} to {rows.max()}")
assert field == 8 and np.ptp(rows) + 1 == np.ptp(columns) + 1 == 8 and len(rows) == 64

# %% [markdown]
# ## Three models with as many weights
#
# What is sharing worth? Three models read images of $12 \times 12$ pixels, in which a digit of $8 \times 8$ lies **anywhere**; there are
# $5 \cdot 5$ places for it.
#
# - The linear layer of chapter 2: $144 \cdot 10 + 10 = 1450$ weights and biases.
# - The network of chapter 3, two linear layers with a ReLU between them (a **multilayer perceptron**, MLP). With 9 hidden units it has
#   $144 \cdot 9 + 9 + 9 \cdot 10 + 10 = 1405$.
# - A convolutional network, **CNN**: 8 kernels of $3 \times 3$, ReLU, max pooling, 16 kernels of $3 \times 3 \times 8$, ReLU. Then one
#   max pooling over all places keeps of each of the 16 feature maps only the largest number: was the feature found, wherever?
#   A linear layer makes ten logits of the 16. That is $80 + 1168 + 170 = 1418$. The kernels' first weights have the variance
#   $2 / (k_h k_w C_{in})$: it is the $2 / D$ of chapter 3, as $k_h k_w C_{in}$ numbers go into each output.

# %%
class LinearModel(Module):
    def __init__(self, rng):
        self.first = Linear(144, 10, rng)

    def forward(self, x):
        return self.first.forward(x.reshape(len(x), 144))                                # (B, 10)

    def backward(self, d_logits, cache):
        self.first.backward(d_logits, cache)


class MLP(Module):
    def __init__(self, rng, hidden=9):
        self.first, self.last = Linear(144, hidden, rng), Linear(hidden, 10, rng)

    def forward(self, x):
        x, first = self.first.forward(x.reshape(len(x), 144))                            # (B, F)   F1
        x, relu = relu_forward(x)                                                        # (B, F)   F2
        logits, last = self.last.forward(x)                                              # (B, 10)  F3
        return logits, (first, relu, last)

    def backward(self, d_logits, cache):
        first, relu, last = cache
        d_x = self.last.backward(d_logits, last)                                         # (B, F)   undoes F3
        self.first.backward(relu_backward(d_x, relu), first)                             #          undoes F2, F1


class CNN(Module):
    def __init__(self, rng):
        self.kernels_1 = Parameter(rng.normal(0, np.sqrt(2 / 9), (3, 3, 1, 8)).astype(np.float32))
        self.bias_1 = Parameter(np.zeros(8, np.float32))
        self.kernels_2 = Parameter(rng.normal(0, np.sqrt(2 / 72), (3, 3, 8, 16)).astype(np.float32))
        self.bias_2 = Parameter(np.zeros(16, np.float32))
        self.last = Linear(16, 10, rng)

    def forward(self, x):
        x, conv_1 = conv2d_forward(x, self.kernels_1.value, self.bias_1.value, 1, 1)     # (B, 12, 12, 8)  F1
        x, relu_1 = relu_forward(x)                                                      # (B, 12, 12, 8)  F2
        x, pool_1 = max_pool2d_forward(x, 2, 2)                                          # (B, 6, 6, 8)    F3
        x, conv_2 = conv2d_forward(x, self.kernels_2.value, self.bias_2.value, 1, 1)     # (B, 6, 6, 16)   F4
        x, relu_2 = relu_forward(x)                                                      # (B, 6, 6, 16)   F5
        x, pool_2 = max_pool2d_forward(x, x.shape[1], 1)                                 # (B, 1, 1, 16)   F6  one window: all
        # STOP: x[0, 0, 0] are 16 numbers: how strongly each feature was found
        logits, last = self.last.forward(x[:, 0, 0])                                     # (B, 10)         F7
        return logits, (conv_1, relu_1, pool_1, conv_2, relu_2, pool_2, last)

    def backward(self, d_logits, cache):
        conv_1, relu_1, pool_1, conv_2, relu_2, pool_2, last = cache
        d_x = self.last.backward(d_logits, last)[:, None, None]                          # (B, 1, 1, 16)   undoes F7
        d_x = relu_backward(max_pool2d_backward(d_x, pool_2), relu_2)                    # (B, 6, 6, 16)   undoes F6, F5
        d_x, d_kernels, d_bias = conv2d_backward(d_x, conv_2)                            # (B, 6, 6, 8)    undoes F4
        self.kernels_2.grad += d_kernels
        self.bias_2.grad += d_bias
        d_x = relu_backward(max_pool2d_backward(d_x, pool_1), relu_1)                    # (B, 12, 12, 8)  undoes F3, F2
        d_x, d_kernels, d_bias = conv2d_backward(d_x, conv_1)                            # (B, 12, 12, 1)  undoes F1
        self.kernels_1.grad += d_kernels
        self.bias_1.grad += d_bias
        return d_x


MODELS = {"linear": (LinearModel, 0.03), "MLP": (MLP, 0.02), "CNN": (CNN, 0.02)}         # with a learning rate that suits each
counts = {name: sum(p.value.size for p in make(rng).parameters()) for name, (make, _) in MODELS.items()}
print("weights and biases:", counts)
assert counts == {"linear": 1450, "MLP": 1405, "CNN": 1418}
report = gradient_check_module(CNN(rng).astype(np.float64), {"x": rng.normal(size=(2, 12, 12, 1))}, rng=rng, max_entries=12)
print(report)
assert report.ok


def place(images, offsets):
    """Images (B, 8, 8) on paper of 12 x 12, each at its own row and column (0 to 4)."""
    paper = np.zeros((len(images), 12, 12, 1), np.float32)                               # (B, 12, 12, 1)
    for n, (down, right) in enumerate(offsets):
        paper[n, down:down + 8, right:right + 8, 0] = images[n]
    return paper


def anywhere(rng, n):
    return rng.integers(0, 5, size=(n, 2))                                               # (B, 2)


def centred(rng, n):
    return np.full((n, 2), 2)                                                            # (B, 2)


def train(name, steps, offsets, order=np.arange(144), seed=0):
    """Train one of the models. `order` is the order in which it sees the pixels."""
    make, rate = MODELS[name]
    model = make(np.random.default_rng(seed))
    if hasattr(model, "first"):
        model.first.weight.value[...] = model.first.weight.value[order]                  # row n belongs to pixel n: it goes along
    optimizer = AdamW(model)
    for step in range(steps):
        draw = np.random.default_rng([seed, step])
        rows = draw.integers(len(digits.train), size=32)                                 # (B,)
        x = place(digits.train.images[rows], offsets(draw, 32))                          # (B, 12, 12, 1)
        x = x.reshape(32, 144)[:, order].reshape(x.shape)                                # (B, 12, 12, 1)
        logits, cache = model.forward(x)                                                 # (B, 10)
        loss, loss_cache = cross_entropy_forward(logits, digits.train.labels[rows])
        optimizer.zero_grad()
        model.backward(cross_entropy_backward(1.0, loss_cache).astype(np.float32), cache)
        # STOP: kernels_1.grad has the shape of kernels_1: nine numbers for each kernel, summed over all windows of all images
        optimizer.step(rate * min(1, (step + 1) / 20) * (1 - step / steps))              # warm-up (chapter 3), then straight down to 0
    return model


def right(model, x, labels, order=np.arange(144)):
    return (model.forward(x.reshape(len(x), 144)[:, order].reshape(x.shape))[0].argmax(axis=1) == labels).mean()


steps, seeds = (60, 1) if FAST else (600, 3)
tested = np.tile(np.arange(len(digits.test)), 1 if FAST else 4)                          # (N,)  each test digit at four random places
test_x = place(digits.test.images[tested], anywhere(np.random.default_rng(99), len(tested)))     # (N, 12, 12, 1)
test_labels = digits.test.labels[tested]                                                 # (N,)
models = {name: [train(name, steps, anywhere, seed=seed) for seed in range(seeds)] for name in MODELS}
as_it_is = {name: np.mean([right(model, test_x, test_labels) for model in trained]) for name, trained in models.items()}
print("digits anywhere:", {name: f"{share:.1%}" for name, share in as_it_is.items()})

# %% [markdown]
# With as many weights, the CNN is far ahead. The other two must learn each digit at each of 25 places, and what they learn at one
# place says nothing about another. (The figures are means of three trainings, each from other first weights. Four learning rates were
# tried for each model, and the best one taken by these very test digits, so all three figures flatter a little. A longer
# training brings the MLP higher, but nowhere near the CNN.)
#
# **Break it:** shuffle the 144 pixels of every image, all in the same way. No information is lost, but a person would be. Nothing
# happens to the linear layer and the MLP: they never knew which pixels are neighbours. Pixel $n$ has row $n$ of the first weight,
# so if these rows are shuffled along at the start, as `train` does, every step of the training is the same but for
# rounding. The CNN is built on neighbours, and on the sameness of all places. Both are gone.

# %%
shuffled = np.random.default_rng(5).permutation(144)                                     # one fixed order, for all images
in_disorder = {name: np.mean([right(train(name, steps, anywhere, shuffled, seed), test_x, test_labels, shuffled)
                              for seed in range(seeds)]) for name in MODELS}
print("pixels shuffled:", {name: f"{share:.1%}" for name, share in in_disorder.items()})
if not FAST:
    assert as_it_is["linear"] < 0.45 and 0.4 < as_it_is["MLP"] < 0.65 and as_it_is["CNN"] > 0.85
    assert all(abs(as_it_is[name] - in_disorder[name]) < 0.02 for name in ("linear", "MLP")) and in_disorder["CNN"] < 0.5
figure, panels = new_figure(8, 2.8, 1, 3)
for axes, (title, shown) in zip(panels, (("a digit", test_x[0]), ("shuffled", test_x[0].reshape(144)[shuffled]))):
    axes.imshow(shown.reshape(12, 12), cmap="gray_r")
    axes.set_title(title)
    axes.set_axis_off()
for side, (label, shares) in enumerate((("as it is", as_it_is), ("shuffled", in_disorder))):
    panels[2].bar(np.arange(3) + 0.4 * side - 0.2, list(shares.values()), 0.38, label=label)
panels[2].set_xticks(range(3), MODELS)
panels[2].set_ylim(0, 1)
panels[2].set_title("right, of the test digits")
panels[2].legend(frameon=False)
show(figure, "12_anywhere")

# %% [markdown]
# **What did it find?** Above the eight kernels of the first layer, red for positive and blue for negative weights; below what each of
# them finds in one digit, behind the ReLU.

# %%
cnn = models["CNN"][0]
found, _ = relu_forward(conv2d_forward(test_x[:1], cnn.kernels_1.value, cnn.bias_1.value, 1, 1)[0])      # (1, 12, 12, 8)
figure, panels = new_figure(9, 2.5, 2, 9)
panels[0, 0].set_axis_off()
panels[1, 0].imshow(test_x[0, :, :, 0], cmap="gray_r")
limit = np.abs(cnn.kernels_1.value).max()
for n in range(8):
    panels[0, n + 1].imshow(cnn.kernels_1.value[:, :, 0, n], cmap="RdBu_r", vmin=-limit, vmax=limit)
    panels[1, n + 1].imshow(found[0, :, :, n], cmap="gray_r")
for axes in panels.flat:
    axes.set_xticks([])
    axes.set_yticks([])
show(figure, "12_kernels")
everywhere, _ = relu_forward(conv2d_forward(test_x, cnn.kernels_1.value, cnn.bias_1.value, 1, 1)[0])     # (N, 12, 12, 8)
print("above 0, of all places of all test digits:", *(f"{share:.0%}" for share in (everywhere > 0).mean(axis=(0, 1, 2))))

# %% [markdown]
# Several answer to edges of one direction, like ours at the top; nobody asked for them. A kernel that is nowhere above 0, in any
# image (0 % in the line above), has died: behind the ReLU it is 0 everywhere, so no gradient reaches it any more, and training cannot bring it back.
#
# ## Places that training never showed
#
# Now train all three with the digit always **in the middle**, and test them at all 25 places. Each square of the picture
# is one place of the digit, from the upper left to the lower right.

# %%
few = slice(0, 64) if FAST else slice(0, 256)
centred_models = {name: train(name, steps, centred) for name in MODELS}
by_place = {name: np.zeros((5, 5)) for name in MODELS}
for down, right_by in np.ndindex(5, 5):
    moved = place(digits.test.images[few], np.full((256, 2), (down, right_by))[few])     # (N, 12, 12, 1)
    for name, model in centred_models.items():
        by_place[name][down, right_by] = right(model, moved, digits.test.labels[few])
figure, panels = new_figure(8, 3, 1, 3)
for axes, (name, shares) in zip(panels, by_place.items()):
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        axes.text(column, row, f"{share:.0%}", ha="center", va="center", fontsize=8, color="white" if share > 0.6 else "black")
    axes.set_title(name)
    axes.set_xticks(range(5), range(-2, 3))
    axes.set_yticks(range(5), range(-2, 3))
    axes.set_xlabel("shifted to the right by")
panels[0].set_ylabel("shifted down by")
show(figure, "12_shifts")
even = np.add.outer(np.arange(5) % 2, np.arange(5) % 2) == 0                             # (5, 5)  both shifts -2, 0 or 2
even[2, 2] = False
odd = np.add.outer(np.arange(5) % 2, np.arange(5) % 2) == 2                              # (5, 5)  both shifts -1 or 1
for name, shares in by_place.items():
    print(f"{name:7} in the middle {shares[2, 2]:.1%}, both shifts even {shares[even].mean():.1%}, both odd {shares[odd].mean():.1%}")
if not FAST:
    assert all(shares[2, 2] > 0.85 for shares in by_place.values()) and by_place["linear"][2, 2] > by_place["CNN"][2, 2] - 0.02
    assert by_place["CNN"][even].mean() > 0.6 and max(by_place[name][even].mean() for name in ("linear", "MLP")) < 0.2
    assert by_place["CNN"][odd].mean() < by_place["CNN"][even].mean() - 0.15

# %% [markdown]
# In the middle all three are good, and the CNN has no advantage: there is only one place to learn. A shift by two pixels ruins the
# first two, while the CNN still reads most digits. (With other first weights its figures after a shift move by ten percent and
# more, but the pattern stays.) But why is it so much worse after a shift by a *single* pixel? Because of the
# pooling with stride 2 (Zhang 2019). It takes its windows at pixels $0, 2, 4$ and so on. Shift its input by 2, and its output
# shifts by 1; shift it by 1, and the windows cut the feature maps in another way, and find other maxima. And why does a shift by 2
# do any harm? Because of the edge: around the feature maps the second convolution puts zeros, and there, two pixels nearer to the
# digit now, paper does not look like paper. Both can be seen if the same CNN reads the digits on a large sheet, far from every edge:

# %%
cnn, logits = centred_models["CNN"], {}
for right_by in (0, 1, 2):
    sheet = np.pad(digits.test.images[few], ((0, 0), (8, 8), (8 + right_by, 8 - right_by)))[..., None]    # (N, 24, 24, 1)
    logits[right_by] = cnn.forward(sheet.astype(np.float32))[0]                          # (N, 10)
moved_by = {n: np.abs(logits[n] - logits[0]).max() for n in (1, 2)}
print(f"on a large sheet: a shift by 1 changes the logits by up to {moved_by[1]:.2g}, a shift by 2 by {moved_by[2]:.2g}")
assert moved_by[2] < 1e-4 < 0.1 < moved_by[1]

# %% [markdown]
# There the shift by 2 changes nothing (but for rounding). So convolution gives equivariance to shifts for free, up to the image's edge;
# a max over all places makes **invariance** of it, the same answer after every shift; and a stride above 1 gives a part of
# it away, for speed. What is missing is learned: show the digits anywhere while training, as above.
#
# ## Questions
#
# :::{dropdown} A convolution has stride 2 and a kernel of 2 x 2. Is `=` in col2im then wrong, too?
# No: its windows do not overlap, so each pixel gets one contribution, and the mistake cannot be seen. That is why a check should have
# a stride below the kernel's size.
# :::
#
# :::{dropdown} Why may col2im write `d_padded[slice] += ...`, while chapter 4 needed `np.add.at`?
# A slice names each pixel once, so nothing is lost within one `+=`. Chapter 4's ids name the same row several times within one line,
# and then `+=` keeps only the last.
# :::
#
# :::{dropdown} A kernel of size 1 x 1: what does it compute?
# The same linear layer at every pixel, from its $C_{in}$ channels to $C_{out}$. im2col is then only a reshape. The linear
# layers in the feed-forward part of a Transformer do just that, with words for pixels.
# :::
#
# :::{dropdown} Two convolutions of 3 x 3 on top of each other, or one of 5 x 5: compare what they see, and their weights.
# Both see 5 x 5. With $C$ channels throughout the two have $2 \cdot 9\, C^2 = 18\, C^2$ weights, the one $25\, C^2$; and between the two there
# is room for another ReLU. That is why many networks are built of 3 x 3 (Simonyan and Zisserman 2015).
# :::
#
# :::{dropdown} Should an image encoder for questions such as "is the circle left of the square?" end with a max over all places?
# No: it forgets where everything is. Chapter 13 keeps the places, and makes a token of each.
# :::
#
# ## What you can now do
#
# You can write a convolution as loops and as one matrix product, derive its gradients in three ways (multiplication by multiplication,
# as a linear layer with a scatter-add, as a convolution with the turned kernel), do the same for pooling, say how far a network
# sees, and show with figures what shared weights are worth. Now do `lessons/12_convolution/exercises.py`, and run
# `tinymm check 12`. The library's pairs are `tinymm/functional/convolution.py` and `tinymm/functional/pooling.py`.
#
# ## To read
#
# - LeCun et al. 1989, *Backpropagation Applied to Handwritten Zip Code Recognition*. LeCun, Bottou, Bengio and Haffner 1998,
#   *Gradient-Based Learning Applied to Document Recognition*.
# - Chellapilla, Puri and Simard 2006, *High Performance Convolutional Neural Networks for Document Processing*: im2col.
# - Dumoulin and Visin 2016, *A guide to convolution arithmetic for deep learning*: sizes, strides and padding, with pictures.
# - Simonyan and Zisserman 2015, *Very Deep Convolutional Networks for Large-Scale Image Recognition*.
# - Zhang 2019, *Making Convolutional Networks Shift-Invariant Again*.
