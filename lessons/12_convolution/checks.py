"""What `tinymm check 12` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def axis(rng):
    """With every remainder of the division, which tells rounding up from rounding down; each mistake below gives another number."""
    return {"n": 20 + int(rng.integers(3)), "k": 7, "stride": 3, "padding": 9}


def images(rng):
    """Windows that overlap, a row and a column that none reaches, 5 x 6 windows, and no two sizes equal."""
    return {"padded": rng.normal(size=(4, 12, 13, 7)), "kh": 3, "kw": 2, "stride": 2}


def copies(rng):
    """6 x 2 windows, and a row that none reaches."""
    return {"d_columns": rng.normal(size=(5 * 6 * 2, 3 * 4 * 7)), "shape": (5, 14, 6, 7), "kh": 3, "kw": 4, "stride": 2}


def convolution(rng):
    """With and without padding."""
    return {"x": rng.normal(size=(2, 9, 6, 5)), "weight": rng.normal(size=(4, 3, 5, 7)), "bias": rng.normal(size=7), "stride": 2,
            "padding": int(rng.integers(3))}


def pooling(rng):
    """4 x 2 windows."""
    return {"x": rng.normal(size=(6, 10, 5, 7)), "size": 3, "stride": 2}


FACTS = {
    "windows": "windows[b, i, j, u, v, c] is padded[b, i stride + u, j stride + v, c]",
    "columns": "one row a window, in the order b, i, j; within a row the order is u, v, c",
    "padded": "x with `padding` rows and columns of zeros on each of its four sides, and none on the axes of batch and channels",
    "rows": "columns times the weight as a matrix (kh kw C_in, C_out), plus the bias",
    "out": "rows in the shape (B, H', W', C_out)",
    "d_windows": "d_columns in the shape (B, H', W', kh, kw, C)",
    "d_padded": "each pixel gets the sum over all windows that it lay in: begin with zeros, and add with +=",
    "d_rows": "d_out as a matrix: a row for each window, a column for each output channel",
    "d_bias": "every window of every image used the bias: the sum of d_rows over axis 0",
    "d_weight": "rows = columns weight + bias, a linear layer: columns^T d_rows, in the shape of weight",
    "d_columns": "rows = columns weight + bias, a linear layer: d_rows weight^T, with weight as a matrix (kh kw C_in, C_out)",
    "d_places": "d_out at the place that won, and 0 at the others of its window",
    "d_x": "what lies within the padding: d_padded without `padding` rows and columns on each side",
}


# ---- the exercises with a mistake in them ---------------------------------------------------------------------------


def _count(n, k, stride):
    return (n - k) // stride + 1


def _windows(padded, kh, kw, stride):
    B, H, W, C = padded.shape
    H_out, W_out = _count(H, kh, stride), _count(W, kw, stride)
    windows = np.zeros((B, H_out, W_out, kh, kw, C))
    for u, v in np.ndindex(kh, kw):
        windows[:, :, :, u, v] = padded[:, u:u + stride * H_out:stride, v:v + stride * W_out:stride]
    return windows


def _side_by_side(padded, kh, kw, stride):
    """As many windows as there should be, but with stride 1."""
    _, H, W, _ = padded.shape
    return _windows(padded, kh, kw, 1)[:, :_count(H, kh, stride), :_count(W, kw, stride)]


def _im2col(rewrite=lambda windows: windows, find=_windows, rows=1):
    """im2col, with one of these pieces changed."""
    def wrong(padded, kh, kw, stride):
        windows = rewrite(find(padded, kh, kw, stride))
        return windows.reshape(int(np.prod(windows.shape[:3 * rows])) if rows else len(windows), -1)
    return wrong


def _order(*axes):
    return lambda windows: windows.transpose(axes)


def _pad(x, padding):
    return np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))


def _forward(pad=_pad, turn=lambda weight: weight, bias_times=1, flat=lambda weight: weight.reshape(-1, weight.shape[-1]),
             kept=lambda x, padded, columns: (x, columns), shaped=lambda rows, shape: rows.reshape(shape),
             result=lambda out, cache: (out, cache)):
    """conv2d_forward, with one of these pieces changed."""
    def wrong(x, weight, bias, stride, padding):
        padded = pad(x, padding)
        windows = _windows(padded, *weight.shape[:2], stride)
        columns = windows.reshape(int(np.prod(windows.shape[:3])), -1)
        rows = columns @ flat(turn(weight)) + bias_times * bias
        out = shaped(rows, (*windows.shape[:3], weight.shape[-1]))
        return result(out, (*kept(x, padded, columns), weight, stride, padding))
    return wrong


def _col2im(d_columns, shape, kh, kw, stride, add=1, split=lambda d_windows: d_windows, divide=False, step=None):
    """col2im; add=0: the last window wins."""
    B, H, W, C = shape
    H_out, W_out = _count(H, kh, stride), _count(W, kw, stride)
    d_windows, stride = split(d_columns.reshape(B, H_out, W_out, kh, kw, C)), step or stride
    d_padded, met = np.zeros(shape), np.zeros(shape)
    for u, v in np.ndindex(kh, kw):
        place = (slice(None), slice(u, u + stride * H_out, stride), slice(v, v + stride * W_out, stride))
        d_padded[place] = add * d_padded[place] + d_windows[:, :, :, u, v]
        met[place] += 1
    return d_padded / np.maximum(met, 1) if divide else d_padded


def _first_only(d_columns, shape, kh, kw, stride):
    """+= within one line, at places that are named several times: only the last one is kept."""
    B, H, W, C = shape
    ids = _windows(np.arange(H * W).reshape(1, H, W, 1), kh, kw, stride).reshape(-1).astype(int)
    d_padded = np.zeros((B, H * W, C))
    d_padded[:, ids] += d_columns.reshape(B, len(ids), C)
    return d_padded.reshape(shape)


def _backward(add_up=np.sum, turn=lambda weight: weight, crop=lambda d_padded, p, H, W: d_padded[:, p:p + H, p:p + W],
              scatter=_col2im, scale=1, order=(0, 1, 2), bias_axes=None, weight_gradient=lambda columns, d_rows: columns.T @ d_rows):
    """conv2d_backward, with one of these pieces changed."""
    def wrong(d_out, cache):
        x, columns, weight, stride, p = cache
        B, H, W, C_in = x.shape
        kh, kw, _, C_out = weight.shape
        d_rows = d_out.reshape(-1, C_out)
        d_weight = scale * weight_gradient(columns, d_rows).reshape(weight.shape)
        d_columns = d_rows @ turn(weight).reshape(-1, C_out).T
        d_padded = scatter(d_columns, (B, H + 2 * p, W + 2 * p, C_in), kh, kw, stride)
        d_bias = d_out.sum(axis=bias_axes) if bias_axes else add_up(d_rows, axis=0)
        results = crop(d_padded, p, H, W), d_weight, d_bias
        return tuple(results[place] for place in order)
    return wrong


def _pool_back(give, scatter=_col2im):
    """max_pool2d_backward, where `give` fills the places of the windows."""
    def wrong(d_out, cache):
        x, winner, size, stride = cache
        d_places = give(d_out, winner, size)
        return scatter(d_places.reshape(-1, size * size * d_out.shape[3]), x.shape, size, size, stride)
    return wrong


def _last_window(d_out, cache):
    x, winner, size, stride = cache
    d_x = np.zeros(x.shape)
    for b, i, j, c in np.ndindex(d_out.shape):
        u, v = divmod(winner[b, i, j, c], size)
        d_x[b, i * stride + u, j * stride + v, c] = d_out[b, i, j, c]
    return d_x


def _won(d_out, winner, size):
    places = np.arange(size * size)[:, None]
    return np.where(winner[:, :, :, None] == places, d_out[:, :, :, None], 0.0)


EXERCISES = [
    Exercise(
        1, "output_size", "how many windows", axis,
        hints=("The padded axis has n + 2 padding pixels. Where may the last window begin?",
               "Window i ends at pixel i * stride + k - 1, which is n + 2 * padding - 1 at most.",
               "(n + 2 * padding - k) // stride + 1"),
        mistakes={
            "a number of windows is whole: round down with //": lambda n, k, stride, padding: (n + 2 * padding - k) / stride + 1,
            "the + 1, for the first window, stands behind the division and outside of it":
                lambda n, k, stride, padding: (n + 2 * padding - k) // stride,
            "the padding stands at both ends: 2 * padding": lambda n, k, stride, padding: (n + padding - k) // stride + 1,
            "the padding is missing": lambda n, k, stride, padding: (n - k) // stride + 1,
            "the padding makes the image larger: + 2 * padding": lambda n, k, stride, padding: (n - 2 * padding - k) // stride + 1,
            "a window that does not fit whole does not count: round down, not up":
                lambda n, k, stride, padding: -((k - n - 2 * padding) // stride) + 1,
            "the kernel's size is missing: the last window must end within the image":
                lambda n, k, stride, padding: (n + 2 * padding) // stride + 1,
        },
    ),
    Exercise(
        2, "im2col", "each window a row", images,
        hints=("Walk over the places (u, v) of the kernel: the pixels that one place meets in all windows are one slice.",
               "Rows u, u + stride, ... are padded[:, u:u + stride * H_out:stride].",
               "windows[:, :, :, u, v] = padded[:, u:u + stride * H_out:stride, v:v + stride * W_out:stride], then a reshape."),
        facts=FACTS,
        mistakes={
            "within a row the order is u, v, c; yours is c, u, v": _im2col(_order(0, 1, 2, 5, 3, 4)),
            "within a row the order is u, v, c; yours is v, u, c": _im2col(_order(0, 1, 2, 4, 3, 5)),
            "within a row the order is u, v, c; yours is u, c, v": _im2col(_order(0, 1, 2, 3, 5, 4)),
            "the windows come in the order b, i, j; yours is b, j, i": _im2col(_order(0, 2, 1, 3, 4, 5)),
            "the windows come in the order b, i, j; yours begins with i and j": _im2col(_order(1, 2, 0, 3, 4, 5)),
            "the stride is not used: window i begins at row i * stride, and so there are fewer windows": _im2col(
                find=lambda padded, kh, kw, stride: _windows(padded, kh, kw, 1)),
            "window i begins at row i * stride; yours begins at row i": _im2col(find=_side_by_side),
            "u and v count from the upper left of the window; yours is turned over": _im2col(lambda windows: windows[:, :, :, ::-1, ::-1]),
            "each window is a row of its own; yours has a row for each image": _im2col(rows=0),
            "a row is a window; yours has the windows as columns: transpose":
                lambda padded, kh, kw, stride: _im2col()(padded, kh, kw, stride).T,
        },
    ),
    Exercise(
        3, "conv2d_forward", "one matrix product", convolution,
        hints=("np.pad takes how much to put before and behind for each axis: ((0, 0), (padding, padding), (padding, padding), (0, 0)).",
               "columns = im2col(padded, kh, kw, stride), and the weight as a matrix is weight.reshape(-1, C_out).",
               "rows = columns @ weight.reshape(-1, C_out) + bias, then rows.reshape(B, H_out, W_out, C_out)."),
        facts=FACTS,
        mistakes={
            "the bias is missing": _forward(bias_times=0),
            "the kernel is not turned over here": _forward(turn=lambda weight: weight[::-1, ::-1]),
            "the padding is missing": _forward(pad=lambda x, padding: x),
            "the padding is zeros, not the pixels at the edge": _forward(
                pad=lambda x, p: np.pad(x, ((0, 0), (p, p), (p, p), (0, 0)), mode="edge")),
            "the weight becomes a matrix with weight.reshape(-1, C_out): a reshape, and no transpose":
                _forward(flat=lambda weight: weight.transpose(2, 0, 1, 3).reshape(-1, weight.shape[-1])),
            "weight.reshape(C_out, -1).T mixes up the kernels: the last axis must stay the last, weight.reshape(-1, C_out)":
                _forward(flat=lambda weight: weight.reshape(weight.shape[-1], -1).T),
            "the cache holds x, without the padding": _forward(kept=lambda x, padded, columns: (padded, columns)),
            "the cache holds x, and then columns": _forward(kept=lambda x, padded, columns: (columns, x)),
            "the cache holds columns, the padded image as rows of windows": _forward(kept=lambda x, padded, columns: (x, padded)),
            "out has one row a window; it must be (B, H', W', C_out)": _forward(shaped=lambda rows, shape: rows),
            "a reshape cannot move the channels to the front; here they stay last, (B, H', W', C_out)":
                _forward(shaped=lambda rows, shape: rows.reshape(shape[0], shape[3], shape[1], shape[2])),
            "the cache is not returned: return out, (x, columns, weight, stride, padding)":
                _forward(result=lambda out, cache: out),
        },
    ),
    Exercise(
        4, "col2im", "back to the pixels", copies,
        hints=("The same two loops as im2col, and the same slices, now on the left side.",
               "d_windows = d_columns.reshape(B, H_out, W_out, kh, kw, C), and d_padded begins as zeros.",
               "d_padded[:, u:u + stride * H_out:stride, v:v + stride * W_out:stride] += d_windows[:, :, :, u, v]"),
        facts=FACTS,
        mistakes={
            "windows overlap: += instead of =": lambda **given: _col2im(**given, add=0),
            "of all windows that a pixel lay in, yours keeps the last: += in a loop, or np.add.at where one line names a pixel several times":
                _first_only,
            "window i begins at row i * stride; yours begins at row i": lambda **given: _col2im(**given, step=1),
            "it is a sum over the windows, not their mean": lambda **given: _col2im(**given, divide=True),
            "u and v count from the upper left of the window; yours is turned over":
                lambda **given: _col2im(**given, split=lambda d_windows: d_windows[:, :, :, ::-1, ::-1]),
            "the entries of a row are in the order u, v, c; yours reads c, u, v": lambda **given: _col2im(
                **given, split=lambda d: d.reshape(*d.shape[:3], d.shape[5], *d.shape[3:5]).transpose(0, 1, 2, 4, 5, 3)),
        },
    ),
    Exercise(
        5, "conv2d_backward", "a linear layer on windows", convolution, forward="conv2d_forward", differentiable=("x", "weight", "bias"),
        hints=("d_out as a matrix has one row a window. Then it is the backward of a linear layer, exercise 3 of chapter 1.",
               "d_bias = d_rows.sum(axis=0), d_weight = columns.T @ d_rows, d_columns = d_rows @ weight.reshape(-1, C_out).T.",
               "col2im wants the shape with the padding: (B, H + 2 * padding, W + 2 * padding, C_in).",
               "d_x = d_padded[:, padding:padding + H, padding:padding + W]"),
        facts=FACTS | {"d_padded": "what col2im makes of d_columns, in the shape with the padding: each pixel gets the sum over all windows "
                                   "that it lay in"},
        mistakes={
            "the bias gets the sum over all windows, not the mean": _backward(add_up=np.mean),
            "the bias was used by all images, too: sum over the axes 0, 1 and 2": _backward(bias_axes=(1, 2)),
            "the bias was used at all places, too: sum over the axes 0, 1 and 2": _backward(bias_axes=(0,)),
            "the weight gets the sum over all windows, not the mean":
                _backward(weight_gradient=lambda columns, d_rows: columns.T @ d_rows / len(columns)),
            "d_rows^T columns is the transpose; a reshape does not turn it": _backward(
                weight_gradient=lambda columns, d_rows: d_rows.T @ columns),
            "col2im needs no turned kernel: d_columns = d_rows weight^T": _backward(turn=lambda weight: weight[::-1, ::-1]),
            "windows overlap: is col2im right? It must add with +=": _backward(scatter=lambda *given: _col2im(*given, add=0)),
            "padding:-padding is empty when the padding is 0; padding:padding + H is always right": _backward(
                crop=lambda d_padded, p, H, W: d_padded[:, p:-p, p:-p]),
            "the padding must be cut off from d_padded": _backward(crop=lambda d_padded, p, H, W: d_padded),
            "the padding stands on both sides: cut `padding` rows and columns off at the upper left, too":
                _backward(crop=lambda d_padded, p, H, W: d_padded[:, :H, :W]),
            "the padding stands on both sides: cut `padding` rows and columns off at the lower right, too":
                _backward(crop=lambda d_padded, p, H, W: d_padded[:, 2 * p:, 2 * p:]),
            "the results stand in the order d_x, d_weight, d_bias": _backward(order=(0, 2, 1)),
            "d_x comes first, then d_weight and d_bias": _backward(order=(1, 2, 0)),
        },
    ),
    Exercise(
        6, "max_pool2d_backward", "to the winner", pooling, forward="max_pool2d_forward", differentiable=("x",),
        hints=("Of the size * size places of a window one gets d_out, and the others 0. Then col2im brings them back.",
               "np.put_along_axis(d_places, winner[:, :, :, None], d_out[:, :, :, None], axis=3) writes d_out where winner points.",
               "col2im takes rows: d_places.reshape(B * H_out * W_out, size * size * C), with kernel sizes size and size."),
        facts=FACTS | {"d_columns": "d_places with one row a window: (B H' W', size * size * C)",
                       "d_x": "col2im with the shape of x: a pixel that won in several windows gets the sum"},
        mistakes={
            "all goes to the winner; yours shares d_out among all pixels of the window": _pool_back(
                lambda d_out, winner, size: np.repeat(d_out[:, :, :, None], size**2, axis=3) / size**2),
            "all goes to the winner; yours gives d_out to all pixels of the window": _pool_back(
                lambda d_out, winner, size: np.repeat(d_out[:, :, :, None], size**2, axis=3)),
            "the winner gets d_out, not 1": _pool_back(lambda d_out, winner, size: _won(np.ones_like(d_out), winner, size)),
            "windows overlap, and a pixel may win in several: add with +=": _pool_back(
                _won, lambda *given: _col2im(*given, add=0)),
            "windows overlap, and a pixel may win in several; yours keeps only the last of them": _last_window,
            "winner is u * size + v: yours takes u and v the other way round": _pool_back(
                lambda d_out, winner, size: _won(d_out, winner % size * size + winner // size, size)),
        },
    ),
]
