"""What `tinymm check 13` looks at."""

import numpy as np

from tinymm.functional import conv2d_backward, relu_backward
from tinymm.learning.exercise import Exercise


def statistics(rng):
    return {"x": 2 + rng.normal(size=(2, 3, 4, 5)), "running_mean": rng.normal(size=5), "running_variance": rng.random(5) + 0.5,
            "momentum": 0.2}


def norm(rng):
    """Training in some draws, evaluation in others. Of exercise 3 the gradient check meets evaluation, that of exercise 4 training."""
    return {"x": 2 + 3 * rng.normal(size=(2, 3, 4, 5)), "gain": rng.normal(size=5), "bias": rng.normal(size=5),
            "running_mean": rng.normal(size=5), "running_variance": rng.random(5) + 0.5, "training": bool(rng.random() > 0.4),
            "epsilon": 0.1}


def residual(rng):
    inputs = {"x": rng.normal(size=(3, 6, 4, 2))}
    for end, shape in (("1", (3, 3, 2, 5)), ("2", (3, 3, 5, 5)), ("s", (1, 1, 2, 5))):
        inputs |= {f"W_{end}": rng.normal(size=shape), f"g_{end}": rng.normal(size=5), f"b_{end}": rng.normal(size=5)}
    return inputs | {"stride": 2}


def cut(rng):
    """4 x 2 squares of 3 x 3 pixels: as many squares down or across as pixels in one would hide a mistake."""
    return {"images": rng.normal(size=(5, 12, 6, 7)), "P": 3}


def tokens(rng):
    """5 x 4 squares of 2 x 2 pixels."""
    return {"images": rng.normal(size=(6, 10, 8, 3)), "weight": rng.normal(size=(12, 7)), "bias": rng.normal(size=7),
            "positions": rng.normal(size=(20, 7)), "P": 2}


FACTS = {
    "mean": "one for each channel, over all axes but the last: axis=(0, 1, 2)",
    "variance": "one for each channel, over axis=(0, 1, 2)",
    "new_mean": "(1 - momentum) running_mean + momentum mean",
    "new_variance": "(1 - momentum) running_variance + momentum variance",
    "centred": "x minus the mean of its channel",
    "scale": "1 / sqrt(variance + epsilon), with epsilon inside of the root",
    "normed": "centred times scale",
    "out": "gain * normed + bias",
    "d_gain": "every place of every image used the gain: the sum of d_out * normed over axis=(0, 1, 2)",
    "d_bias": "every place of every image used the bias: the sum of d_out over axis=(0, 1, 2)",
    "shift": "d_bias / M, with M = B H W the numbers of a channel, and without the gain, which stands in front of the bracket",
    "along": "d_gain / M, with M = B H W the numbers of a channel, and without the gain, which stands in front of the bracket",
    "d_x": "in training gain scale (d_out - shift - normed along), three terms; in evaluation gain scale d_out, the first alone",
}

BLOCK_FACTS = {
    "d_sum": "undoes F8: relu_backward(d_out, relu_out)",
    "d_c": "undoes F5: batch_norm_backward(d_sum, norm_2)[0] (is exercise 3 right?)", "d_g_2": "batch_norm_backward(d_sum, norm_2)[1]",
    "d_b_2": "batch_norm_backward(d_sum, norm_2)[2]",
    "d_r": "undoes F4: conv2d_backward(d_c, conv_2)[0]", "d_W_2": "conv2d_backward(d_c, conv_2)[1]",
    "d_n": "undoes F3: relu_backward(d_r, relu_1)",
    "d_a": "undoes F2: batch_norm_backward(d_n, norm_1)[0]", "d_g_1": "batch_norm_backward(d_n, norm_1)[1]",
    "d_b_1": "batch_norm_backward(d_n, norm_1)[2]",
    "d_through": "undoes F1: conv2d_backward(d_a, conv_1)[0]", "d_W_1": "conv2d_backward(d_a, conv_1)[1]",
    "d_p": "undoes F7: batch_norm_backward(d_sum, norm_s)[0]: the skip gets d_sum whole",
    "d_g_s": "batch_norm_backward(d_sum, norm_s)[1]", "d_b_s": "batch_norm_backward(d_sum, norm_s)[2]",
    "d_past": "undoes F6: conv2d_backward(d_p, conv_s)[0]", "d_W_s": "conv2d_backward(d_p, conv_s)[1]",
    "d_x": "x went both ways: d_through + d_past",
}

TOKEN_FACTS = {
    "grid": "images.reshape(B, H // P, P, W // P, P, C): each of H and W becomes two axes, which square and which pixel in it",
    "squares": "the two axes of squares come before the two of pixels: grid.transpose(0, 1, 3, 2, 4, 5)",
    "patches": "squares.reshape(B, -1, P * P * C)",
    "d_positions": "every image used the same positions: the sum of d_out over the images, axis 0",
    "d_bias": "every token of every image used the bias: the sum of d_out over axis=(0, 1)",
    "d_weight": "tokens = patches weight + bias: patches^T d_out, summed over all tokens of all images",
    "d_patches": "tokens = patches weight + bias: d_out weight^T",
    "d_squares": "d_patches in the shape of squares, (B, H/P, W/P, P, P, C)",
    "d_images": "the axes 2 and 3 of d_squares are swapped back, then it has the shape of images",
}


# ---- the exercises with a mistake in them ---------------------------------------------------------------------------


def _running(axes=(0, 1, 2), factor=lambda M: M / (M - 1), M=lambda x: x[..., 0].size, old=lambda m: 1 - m, new=lambda m: m,
             root=lambda v: v, mean_too=False, result=lambda mean, variance: (mean, variance)):
    """running_statistics, with one of these pieces changed."""
    def wrong(x, running_mean, running_variance, momentum):
        count = M(x)
        mean = x.mean(axis=axes) * (factor(count) if mean_too else 1)
        variance = root(x.var(axis=axes)) * factor(count)
        return result(old(momentum) * running_mean + new(momentum) * mean,
                      old(momentum) * running_variance + new(momentum) * variance)
    return wrong


def _late(x, running_mean, running_variance, momentum):
    M = x[..., 0].size
    mean, variance = _running(factor=lambda M: 1)(x, running_mean, running_variance, momentum)
    return mean, variance * M / (M - 1)


def _forward(axes=(0, 1, 2), mode=lambda training: training, mean_mode=lambda training: training, ddof=0,
             scale=lambda v, epsilon: 1 / np.sqrt(v + epsilon), out=lambda n, gain, bias: gain * n + bias,
             result=lambda out, normed, scale, gain, training: (out, (normed, scale, gain, training))):
    """batch_norm_forward, with one of these pieces changed."""
    def wrong(x, gain, bias, running_mean, running_variance, training, epsilon):
        keep = {} if axes == (0, 1, 2) else {"keepdims": True}
        mean = x.mean(axis=axes, **keep) if mean_mode(training) else running_mean
        variance = x.var(axis=axes, ddof=ddof, **keep) if mode(training) else running_variance
        s = scale(variance, epsilon)
        normed = (x - mean) * s
        return result(out(normed, gain, bias), normed, s, gain, training)
    return wrong


def _always(value):
    return {"mode": lambda training: value, "mean_mode": lambda training: value}


def _backward(three=lambda training: training, M=lambda d: d[..., 0].size, gain_sum=lambda d, n, g: (d * n).sum(axis=(0, 1, 2)),
              bias_sum=lambda d, n, g: d.sum(axis=(0, 1, 2)), inside=lambda d, shift, n, along: d - shift - n * along,
              front=lambda g, s: g * s, means=None, result=lambda x, g, b: (x, g, b)):
    """batch_norm_backward, with one of these pieces changed."""
    def wrong(d_out, cache):
        normed, scale, gain, training = cache
        d_gain, d_bias = gain_sum(d_out, normed, gain), bias_sum(d_out, normed, gain)
        shift, along = means(d_out, normed, gain) if means else (d_bias / M(d_out), d_gain / M(d_out))
        d_x = front(gain, scale) * (inside(d_out, shift, normed, along) if three(training) else d_out)
        return result(d_x, d_gain, d_bias)
    return wrong


def _gain_inside(d_out, cache):
    """d_normed in the bracket, but means of d_out."""
    normed, scale, gain, training = cache
    M, d_gain, d_bias = d_out[..., 0].size, (d_out * normed).sum(axis=(0, 1, 2)), d_out.sum(axis=(0, 1, 2))
    return scale * (gain * d_out - (d_bias / M + normed * d_gain / M if training else 0)), d_gain, d_bias


def _block(at_sum=relu_backward, inner=relu_backward, to_skip=lambda d_sum, d_out: d_sum, to_branch=lambda d_sum, d_p, d_out: d_sum,
           x=lambda through, past: through + past, norm=_backward(), order=tuple(range(10))):
    """residual_backward, with one of these pieces changed."""
    def wrong(d_out, cache):
        conv_1, norm_1, relu_1, conv_2, norm_2, conv_s, norm_s, relu_out = cache
        d_sum = at_sum(d_out, relu_out)
        d_p, d_g_s, d_b_s = norm(to_skip(d_sum, d_out), norm_s)
        d_past, d_W_s, _ = conv2d_backward(d_p, conv_s)
        d_c, d_g_2, d_b_2 = norm(to_branch(d_sum, d_p, d_out), norm_2)
        d_r, d_W_2, _ = conv2d_backward(d_c, conv_2)
        d_a, d_g_1, d_b_1 = norm(inner(d_r, relu_1), norm_1)
        d_through, d_W_1, _ = conv2d_backward(d_a, conv_1)
        results = (x(d_through, d_past), d_W_1, d_g_1, d_b_1, d_W_2, d_g_2, d_b_2, d_W_s, d_g_s, d_b_s)
        return tuple(results[place] for place in order)
    return wrong


def _nothing(d_out, cache):
    return d_out


def _cut(axes):
    """cut_patches, with another order of the axes."""
    def wrong(images, P):
        B, H, W, C = images.shape
        return images.reshape(B, H // P, P, W // P, P, C).transpose(axes).reshape(B, -1, P * P * C)
    return wrong


def _far_apart(images, P):
    B, H, W, C = images.shape
    return images.reshape(B, P, H // P, P, W // P, C).transpose(0, 2, 4, 1, 3, 5).reshape(B, -1, P * P * C)


def _tokens(images=lambda d, shape, P: _put_back(d, shape, P), through=lambda d, weight: d @ weight.T,
            positions=lambda d: d.sum(axis=0), bias=lambda d: d.sum(axis=(0, 1)),
            weight_of=lambda patches, d: np.einsum("bnk,bnd->kd", patches, d), order=(0, 1, 2, 3)):
    """tokens_backward, with one of these pieces changed."""
    def wrong(d_out, cache):
        patches, weight, shape, P = cache
        results = (images(through(d_out, weight), shape, P), weight_of(patches, d_out), bias(d_out), positions(d_out))
        return tuple(results[place] for place in order)
    return wrong


def _put_back(d_patches, shape, P, axes=(0, 1, 3, 2, 4, 5)):
    B, H, W, C = shape
    return d_patches.reshape(B, H // P, W // P, P, P, C).transpose(axes).reshape(shape)


# ---- the exercises --------------------------------------------------------------------------------------------------

EXERCISES = [
    Exercise(
        1, "running_statistics", "what a batch norm keeps", statistics,
        hints=("x.mean(axis=(0, 1, 2)) and x.var(axis=(0, 1, 2)) have one number for each channel.",
               "M = x[..., 0].size is B H W. np.var divides by M; times M / (M - 1) it is divided by M - 1.",
               "new = (1 - momentum) * old + momentum * batch, for both."),
        facts=FACTS | {"variance": "that of each channel over axis=(0, 1, 2), divided by M - 1, with M = B H W"},
        mistakes={
            "momentum is the share of the new here, not of the old": _running(old=lambda m: m, new=lambda m: 1 - m),
            "the batch's variance must be divided by M - 1: times M / (M - 1)": _running(factor=lambda M: 1),
            "the factor is M / (M - 1), not (M - 1) / M": _running(factor=lambda M: (M - 1) / M),
            "M is B H W, all numbers of a channel, not the number of images": _running(M=len),
            "M is B H W, the numbers of one channel, not of all channels": _running(M=lambda x: x.size),
            "M is B H W, not H W: the images count, too": _running(M=lambda x: x[0, ..., 0].size),
            "the variance is kept, not its root": _running(root=np.sqrt),
            "the variance is kept, not its root (std)": _running(root=np.sqrt, factor=lambda M: np.sqrt(M / (M - 1))),
            "the variance is kept, not its root, and with division by M - 1": _running(root=np.sqrt, factor=lambda M: 1),
            "the old must shrink by 1 - momentum": _running(old=lambda m: 1),
            "the old is missing: it keeps 1 - momentum": _running(old=lambda m: 0),
            "the batch's part is missing its factor momentum": _running(new=lambda m: 1),
            "the factor M / (M - 1) is for the variance, not for the mean": _running(mean_too=True),
            "the factor M / (M - 1) is for the batch's variance, not for the running one, too": _late,
            "all places share one mean: axis=(0, 1, 2), not the images alone, axis 0": _running(axes=0),
            "the order is new_mean, new_variance": _running(result=lambda mean, variance: (variance, mean))},
    ),
    Exercise(
        2, "batch_norm_forward", "one mean for each channel", norm,
        hints=("if training: ... else: ... decides which mean and variance; the lines after it are the same for both.",
               "x.mean(axis=(0, 1, 2)) has shape (C,), and meets (B, H, W, C) by itself.",
               "scale = 1 / np.sqrt(variance + epsilon); normed = centred * scale; out = gain * normed + bias."),
        facts=FACTS | {"mean": "in training that of x over axis=(0, 1, 2); in evaluation running_mean",
                       "variance": "in training the mean of centred**2 over axis=(0, 1, 2), divided by M; in evaluation running_variance"},
        mistakes={
            "in evaluation mean and variance are the running ones; yours takes those of x": _forward(**_always(True)),
            "in training mean and variance are those of x; yours takes the running ones": _forward(**_always(False)),
            "in training the mean is that of x, too, not only the variance": _forward(mean_mode=lambda training: False),
            "in training the variance is that of x, too, not only the mean": _forward(mode=lambda training: False),
            "the variance divides by M here; M - 1 is only for the running one": _forward(ddof=1),
            "epsilon, an argument, is missing": _forward(scale=lambda v, epsilon: 1 / np.sqrt(v)),
            "epsilon stands inside of the root": _forward(scale=lambda v, epsilon: 1 / (np.sqrt(v) + epsilon)),
            "the root is missing": _forward(scale=lambda v, epsilon: 1 / (v + epsilon)),
            "that is a layer norm: the mean is over all axes but the last": _forward(axes=-1),
            "the images of a batch share one mean; yours takes one for each image": _forward(axes=(1, 2)),
            "all places share one mean; yours takes one for each place": _forward(axes=0),
            "each channel has its own mean; yours takes one for all": _forward(axes=(0, 1, 2, 3)),
            "gain and bias are missing": _forward(out=lambda n, gain, bias: n),
            "the gain is missing": _forward(out=lambda n, gain, bias: n + bias),
            "the bias is missing": _forward(out=lambda n, gain, bias: gain * n),
            "gain and bias are swapped": _forward(out=lambda n, gain, bias: bias * n + gain),
            "the gain multiplies normed alone, not the bias": _forward(out=lambda n, gain, bias: gain * (n + bias)),
            "the cache's second part is scale, which is 1 / sqrt(...), not the root itself": _forward(
                result=lambda out, normed, scale, gain, training: (out, (normed, 1 / scale, gain, training))),
            "the cache's first part is normed, before gain and bias": _forward(
                result=lambda out, normed, scale, gain, training: (out, (out, scale, gain, training))),
            "the cache must say whether it was training": _forward(
                result=lambda out, normed, scale, gain, training: (out, (normed, scale, gain)))},
    ),
    Exercise(
        3, "batch_norm_backward", "three terms or one", norm, forward="batch_norm_forward", differentiable=("x", "gain", "bias"),
        hints=("d_gain and d_bias are sums over images and places, in training and in evaluation.",
               "In training, both the mean and the variance depend on every x: three terms. In evaluation they are constants.",
               "M = d_out[..., 0].size; shift = d_bias / M; along = d_gain / M.",
               "d_x = gain * scale * (d_out - shift - normed * along) in training, gain * scale * d_out in evaluation."),
        facts=FACTS,
        mistakes={
            "in evaluation mean and variance are constants: only the first of the three terms is left": _backward(three=lambda t: True),
            "in training mean and variance depend on every x: two terms are missing": _backward(three=lambda t: False),
            "the term of the mean is missing, shift": _backward(inside=lambda d, shift, n, along: d - n * along),
            "the term of the variance is missing, normed * along": _backward(inside=lambda d, shift, n, along: d - shift),
            "the term of the variance is along times normed": _backward(inside=lambda d, shift, n, along: d - shift - along),
            "the term of the variance is half of what it must be: the slope of a square has a factor 2": _backward(
                inside=lambda d, shift, n, along: d - shift - n * along / 2),
            "shift and along are in each other's places: normed belongs to along": _backward(
                inside=lambda d, shift, n, along: d - along - n * shift),
            "the signs: both terms are taken away": _backward(inside=lambda d, shift, n, along: d + shift + n * along),
            "the sign of the last term: it is taken away": _backward(inside=lambda d, shift, n, along: d - shift + n * along),
            "the sign of shift: it is taken away": _backward(inside=lambda d, shift, n, along: d + shift - n * along),
            "the gain is missing from d_x: it stands in front of the bracket": _backward(front=lambda g, s: s),
            "the scale is missing from d_x: it stands in front of the bracket": _backward(front=lambda g, s: g),
            "the scale is 1 / sqrt(...) already: multiply by it": _backward(front=lambda g, s: g / s),
            "with the gain inside of the bracket it must stand at all three terms": _gain_inside,
            "M counts images and places, B H W; yours counts the images alone": _backward(M=len),
            "M counts the numbers of one channel, B H W; yours counts those of all channels": _backward(M=lambda d: d.size),
            "M counts images and places, B H W; yours counts the places of one image": _backward(M=lambda d: d[0, ..., 0].size),
            "M counts one channel of all images, B H W; yours counts all channels of one image": _backward(M=lambda d: d[0].size),
            "the forward divides by M, so M stands here, not M - 1": _backward(M=lambda d: d[..., 0].size - 1),
            "shift and along are means: the division by M is missing": _backward(M=lambda d: 1),
            "the images of a batch share their means; yours takes means for each image": _backward(
                means=lambda d, n, g: (d.mean(axis=(1, 2), keepdims=True), (d * n).mean(axis=(1, 2), keepdims=True))),
            "the gain is in it twice: it stands in front of the bracket, so the means are without it": _backward(
                means=lambda d, n, g: [g * mean for mean in _means(d, n)]),
            "the scale stands in front of the bracket once, not squared": _backward(front=lambda g, s: g * s**2),
            "that is a layer norm: the means are over images and places, not over the channels": _backward(
                means=lambda d, n, g: (d.mean(axis=-1, keepdims=True), (d * n).mean(axis=-1, keepdims=True))),
            "d_gain is the sum of d_out * normed; normed is missing": _backward(gain_sum=lambda d, n, g: d.sum(axis=(0, 1, 2)),
                                                                               means=lambda d, n, g: _means(d, n)),
            "d_gain is the sum of d_out * normed, without the gain": _backward(
                gain_sum=lambda d, n, g: g * (d * n).sum(axis=(0, 1, 2)), means=lambda d, n, g: _means(d, n)),
            "d_gain and d_bias are sums over images and places, not means": _backward(
                gain_sum=lambda d, n, g: (d * n).mean(axis=(0, 1, 2)), bias_sum=lambda d, n, g: d.mean(axis=(0, 1, 2)),
                means=lambda d, n, g: _means(d, n)),
            "the bias came after the gain: d_bias is the sum of d_out": _backward(
                bias_sum=lambda d, n, g: g * d.sum(axis=(0, 1, 2)), means=lambda d, n, g: _means(d, n)),
            "the order is d_x, d_gain, d_bias": _backward(result=lambda x, g, b: (x, b, g)),
            "d_x comes first: d_x, d_gain, d_bias": _backward(result=lambda x, g, b: (g, b, x))},
    ),
    Exercise(
        4, "residual_backward", "both ways", residual, forward="residual_forward",
        differentiable=("x", "W_1", "g_1", "b_1", "W_2", "g_2", "b_2", "W_s", "g_s", "b_s"),
        hints=("Undo F8, then F5 to F1 for the branch, then F7 and F6 for the skip.",
               "A sum copies its gradient: the branch and the skip both begin with d_sum.",
               "d_c, d_g_2, d_b_2 = batch_norm_backward(d_sum, norm_2); d_r, d_W_2, _ = conv2d_backward(d_c, conv_2); and so on.",
               "x went both ways: d_x = d_through + d_past."),
        facts=BLOCK_FACTS,
        mistakes={
            "x went past the branch, too: d_past is missing from d_x": _block(x=lambda through, past: through),
            "x went through the branch, too: d_through is missing from d_x": _block(x=lambda through, past: past),
            "the two ways are added, not subtracted": _block(x=lambda through, past: through - past),
            "a sum hands its whole gradient to both ways, not a half to each": _block(
                at_sum=lambda d, cache: relu_backward(d, cache) / 2),
            "the last relu is not undone: d_sum = relu_backward(d_out, relu_out)": _block(at_sum=_nothing),
            "the skip gets d_sum, too, which came through the last relu, not d_out": _block(to_skip=lambda d_sum, d_out: d_out),
            "the branch and the skip stand side by side: the branch gets d_sum, not what went through the skip's norm": _block(
                to_branch=lambda d_sum, d_p, d_out: d_p),
            "the branch gets d_sum, too, which came through the last relu, not d_out": _block(to_branch=lambda d_sum, d_p, d_out: d_out),
            "the relu within the branch is not undone": _block(inner=_nothing),
            "in training a norm's mean and variance depend on every x: is exercise 3 right?": _block(norm=_backward(three=lambda t: False)),
            "the skip's three gradients come last": _block(order=(0, 7, 8, 9, 1, 2, 3, 4, 5, 6)),
            "the gradients stand in the order of the walk back; they go in the order of the forward": _block(
                order=(0, 4, 5, 6, 1, 2, 3, 7, 8, 9))},
    ),
    Exercise(
        5, "cut_patches", "an image as a row of squares", cut,
        hints=("H becomes two axes: which square (H / P), and which row of pixels within it (P). W likewise.",
               "grid = images.reshape(B, H // P, P, W // P, P, C)",
               "Bring the two axes of squares together, and those of pixels: grid.transpose(0, 1, 3, 2, 4, 5), then reshape."),
        facts=TOKEN_FACTS,
        mistakes={
            "the transpose is missing: yours cuts pieces of whole rows, not squares": _cut((0, 1, 2, 3, 4, 5)),
            "the squares go row by row; yours go column by column": _cut((0, 3, 1, 2, 4, 5)),
            "the pixels of a square go row by row; yours go column by column": _cut((0, 1, 3, 4, 2, 5)),
            "the channels of a pixel stay together, as the last axis": _cut((0, 1, 3, 5, 2, 4)),
            "(B, H/P, P, W/P, P, C): the axes 2 and 3 are swapped, not 1 and 3": _cut((0, 3, 2, 1, 4, 5)),
            "neighbours must stay together: H becomes (H // P, P), not (P, H // P), and W likewise": _far_apart},
    ),
    Exercise(
        6, "tokens_backward", "back to the pixels", tokens, forward="tokens_forward",
        differentiable=("images", "weight", "bias", "positions"),
        hints=("Positions and bias were broadcast: their gradients are sums, over the images, and over images and tokens.",
               "patches.reshape(-1, P * P * C).T @ d_out.reshape(-1, D) for the weight, d_out @ weight.T for the patches.",
               "Then each number goes back to where it came from: reshape to (B, H/P, W/P, P, P, C), transpose(0, 1, 3, 2, 4, 5), reshape."),
        facts=TOKEN_FACTS,
        mistakes={
            "the squares must be put back in their places: the transpose is missing": _tokens(
                images=lambda d, shape, P: _put_back(d, shape, P, (0, 1, 2, 3, 4, 5))),
            "the gradient of the patches must be put back into an image": _tokens(images=lambda d, shape, P: d),
            "d_patches hold squares: reshape to (B, H/P, W/P, P, P, C) before the swap, not to (B, H/P, P, W/P, P, C)": _tokens(
                images=lambda d, shape, P: _cut((0, 1, 3, 2, 4, 5))(d.reshape(shape), P).reshape(shape)),
            "within a square rows and columns are swapped": _tokens(
                images=lambda d, shape, P: _put_back(d, shape, P, (0, 1, 4, 2, 3, 5))),
            "the positions are not shared among images by a mean: the gradient is the sum over the images": _tokens(
                positions=lambda d: d.mean(axis=0)),
            "each token has its own position: sum over the images alone": _tokens(
                positions=lambda d: d.sum(axis=(0, 1)) + 0 * d[0]),
            "each token has its own position: the sum over the images alone, of shape (N, D)": _tokens(positions=lambda d: d.sum(axis=(0, 1))),
            "the bias served every token of every image: the sum over both axes, not a mean": _tokens(bias=lambda d: d.mean(axis=(0, 1))),
            "the weight served all images: the sum over them, not the mean": _tokens(
                weight_of=lambda patches, d: np.einsum("bnk,bnd->kd", patches, d) / len(d)),
            "the weight served all images; yours takes the first alone": _tokens(weight_of=lambda patches, d: patches[0].T @ d[0]),
            "the order is d_images, d_weight, d_bias, d_positions": _tokens(order=(0, 3, 2, 1))},
    ),
]


def _means(d_out, normed):
    return d_out.mean(axis=(0, 1, 2)), (d_out * normed).mean(axis=(0, 1, 2))
