"""Twins of layer norm and batch norm.

The equations are those of `tinymm.functional.normalization`. The caches keep x itself instead of the normalized x,
which is quickly made again: (x - mean) * rstd. Writing it to memory and reading it back would cost more than computing
it twice.

Sums over all rows are made in pieces of `ROWS` rows, which stay in the processor's cache while they are read twice.
"""

from typing import NamedTuple

import numpy as np

from tinymm.functional import normalization as readable
from tinymm.functional.normalization import Array
from tinymm.kernels.loops import ROWS, Loop, pieces_at_once, pieces_of, rows_at_once, rows_of
from tinymm.kernels.threads import run


class LayerNormCache(NamedTuple):
    x: Array       # (..., D)
    mean: Array    # (N,)  of each row; N rows in all
    rstd: Array    # (N,)
    gain: Array    # (D,)


def layer_norm_forward(x: Array, gain: Array, bias: Array, eps: float = 1e-5) -> tuple[Array, LayerNormCache]:
    """Twin of `functional.layer_norm_forward`."""
    readable._check_last_axis(x, gain=gain, bias=bias)
    x, gain, bias = (np.ascontiguousarray(a) for a in (x, gain, bias))
    rows = x.reshape(-1, x.shape[-1])                                            # (N, D)
    out = np.empty_like(rows)                                                    # (N, D)
    mean, rstd = np.empty(len(rows), x.dtype), np.empty(len(rows), x.dtype)      # (N,)
    run(_layer_norm_forward, len(rows), (rows, gain, bias, x.dtype.type(eps), out, mean, rstd), rows_at_once(rows))
    return out.reshape(x.shape), LayerNormCache(x, mean, rstd, gain)


def layer_norm_backward(d_out: Array, cache: LayerNormCache) -> tuple[Array, Array, Array]:
    """Twin of `functional.layer_norm_backward`."""
    x, mean, rstd, gain = cache
    rows = x.reshape(-1, x.shape[-1])                                            # (N, D)
    d_rows = np.ascontiguousarray(d_out).reshape(rows.shape)                     # (N, D)
    d_x = np.empty_like(d_rows)                                                  # (N, D)
    sums = np.zeros((2, pieces_of(rows), rows.shape[1]), x.dtype)                  # (2, P, D)
    run(_layer_norm_backward, pieces_of(rows), (d_rows, rows, mean, rstd, gain, d_x, *sums), pieces_at_once(rows))
    d_gain, d_bias = sums.sum(axis=1)                                            # (D,)
    return d_x.reshape(x.shape), d_gain, d_bias


@Loop
def _layer_norm_forward(first, last, x, gain, bias, eps, out, means, rstds):
    width = x.shape[1]
    for row in range(first, last):
        total = x.dtype.type(0)
        for i in range(width):
            total += x[row, i]
        mean = total / x.dtype.type(width)                                       # F1
        total = x.dtype.type(0)
        for i in range(width):
            centred = x[row, i] - mean                                           # F2
            total += centred * centred
        rstd = x.dtype.type(1) / np.sqrt(total / x.dtype.type(width) + eps)      # F3, F4
        for i in range(width):
            out[row, i] = (x[row, i] - mean) * rstd * gain[i] + bias[i]          # F5, F6
        means[row], rstds[row] = mean, rstd


@Loop
def _layer_norm_backward(first, last, d_out, x, means, rstds, gain, d_x, d_gain, d_bias):
    n_rows, width = x.shape
    for piece in range(first, last):
        for row in range(piece * ROWS, min((piece + 1) * ROWS, n_rows)):
            mean, rstd = means[row], rstds[row]
            shift = stretch = x.dtype.type(0)
            for i in range(width):
                normalized = (x[row, i] - mean) * rstd                           # F5 again
                d_bias[piece, i] += d_out[row, i]                                # undoes F6
                d_gain[piece, i] += d_out[row, i] * normalized                   # undoes F6
                d_normalized = d_out[row, i] * gain[i]                           # undoes F6
                shift += d_normalized
                stretch += d_normalized * normalized
            shift /= x.dtype.type(width)
            stretch /= x.dtype.type(width)
            for i in range(width):
                normalized = (x[row, i] - mean) * rstd
                d_x[row, i] = rstd * (d_out[row, i] * gain[i] - shift - normalized * stretch)      # undoes F5 to F1


class BatchNormCache(NamedTuple):
    x: Array                 # (..., C)
    mean: Array              # (C,)  that was taken off: of the batch in training, the running one in evaluation
    rstd: Array              # (C,)
    gain: Array              # (C,)
    running_mean: Array      # (C,)  for the layer to keep
    running_variance: Array  # (C,)
    training: bool


def batch_norm_forward(
    x: Array,
    gain: Array,
    bias: Array,
    running_mean: Array,
    running_variance: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNormCache]:
    """Twin of `functional.batch_norm_forward`."""
    readable._check_last_axis(x, gain=gain, bias=bias, running_mean=running_mean, running_variance=running_variance)
    count = x.size // x.shape[-1]
    if training and count < 2:
        # It says what is wrong.
        return readable.batch_norm_forward(x, gain, bias, running_mean, running_variance, training)
    x = np.ascontiguousarray(x)
    rows, n = _long_rows(x)                                                      # (N / n, n C)

    mean, variance = running_mean, running_variance                              # (C,)
    if training:
        means, squares = np.zeros((2, pieces_of(rows), rows.shape[1]), x.dtype)  # (P, n C)
        run(_sums_of_pieces, len(means), (rows, means, squares), pieces_at_once(rows))
        mean, variance = _join_pieces(means, squares, len(rows), x.shape[-1])    # (C,)        F1, F3
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_variance = (1 - momentum) * running_variance + momentum * count / (count - 1) * variance
    rstd = 1 / np.sqrt(variance + eps)                                           # (C,)        F4
    out = np.empty_like(rows)                                                    # (N / n, n C)
    vectors = [np.tile(v, n) for v in (mean, rstd * gain, bias)]                 # (n C,)
    run(_batch_norm_apply, len(rows), (rows, *vectors, out), rows_at_once(rows))                 # F2, F5, F6
    return out.reshape(x.shape), BatchNormCache(x, mean, rstd, gain, running_mean, running_variance, training)


def batch_norm_backward(d_out: Array, cache: BatchNormCache) -> tuple[Array, Array, Array]:
    """Twin of `functional.batch_norm_backward`."""
    x, mean, rstd, gain, _, _, training = cache
    rows, n = _long_rows(x)                                                      # (N / n, n C)
    d_rows = np.ascontiguousarray(d_out).reshape(rows.shape)                     # (N / n, n C)
    count = x.size // x.shape[-1]

    sums = np.zeros((2, pieces_of(rows), rows.shape[1]), x.dtype)                # (2, P, n C)
    arguments = (d_rows, rows, np.tile(mean, n), np.tile(rstd, n), *sums)
    run(_batch_norm_sums, pieces_of(rows), arguments, pieces_at_once(rows))
    d_gain, d_bias = sums.reshape(2, -1, x.shape[-1]).sum(axis=1)                # (C,)        undoes F6
    part = float(training) / count                                               #             0 in evaluation, when
    shift, stretch = part * d_bias, part * d_gain                                # (C,)        the statistics are constants
    d_x = np.empty_like(rows)                                                    # (N / n, n C)
    vectors = [np.tile(v, n) for v in (mean, gain * rstd, shift, rstd * stretch)]               # (n C,)
    run(_batch_norm_backward, len(rows), (d_rows, rows, *vectors, d_x), rows_at_once(rows))      # undoes F6 to F1
    return d_x.reshape(x.shape), d_gain, d_bias


@Loop
def _sums_of_pieces(first, last, x, means, squares):
    n_rows, channels = x.shape
    for piece in range(first, last):
        begin, end = piece * ROWS, min((piece + 1) * ROWS, n_rows)
        for row in range(begin, end):
            for c in range(channels):
                means[piece, c] += x[row, c]
        for c in range(channels):
            means[piece, c] /= x.dtype.type(end - begin)
        for row in range(begin, end):                          # the second reading is from the cache
            for c in range(channels):
                centred = x[row, c] - means[piece, c]
                squares[piece, c] += centred * centred


def _join_pieces(means: Array, squares: Array, n_rows: int, channels: int) -> tuple[Array, Array]:
    """Mean and variance of each channel from those of the pieces (Chan, Golub & LeVeque 1983, eq. 2.1, for many).

    The sum of squares around the common mean is that around each piece's own, plus what the own means are off.
    """
    sizes = np.full((len(means), 1), ROWS, means.dtype)                          # (P, 1)
    sizes[-1] = n_rows - ROWS * (len(means) - 1)
    sizes = np.broadcast_to(sizes, means.shape).reshape(-1, channels)            # (P n, C)
    means, squares = means.reshape(-1, channels), squares.reshape(-1, channels)  # (P n, C)
    count = sizes.sum(axis=0)                                                    # (C,)  N
    mean = (sizes * means).sum(axis=0) / count                                   # (C,)
    return mean, (squares + sizes * (means - mean) ** 2).sum(axis=0) / count     # (C,), (C,)


@Loop
def _batch_norm_apply(first, last, x, mean, scale, bias, out):
    channels = x.shape[1]
    for row in range(first, last):
        for c in range(channels):
            out[row, c] = (x[row, c] - mean[c]) * scale[c] + bias[c]


@Loop
def _batch_norm_sums(first, last, d_out, x, mean, rstd, d_gain, d_bias):
    n_rows, channels = x.shape
    for piece in range(first, last):
        for row in range(piece * ROWS, min((piece + 1) * ROWS, n_rows)):
            for c in range(channels):
                d_bias[piece, c] += d_out[row, c]
                d_gain[piece, c] += d_out[row, c] * ((x[row, c] - mean[c]) * rstd[c])


@Loop
def _batch_norm_backward(first, last, d_out, x, mean, scale, shift, stretch, d_x):
    channels = x.shape[1]
    for row in range(first, last):
        for c in range(channels):
            d_x[row, c] = scale[c] * (d_out[row, c] - shift[c] - (x[row, c] - mean[c]) * stretch[c])


def _long_rows(x: Array) -> tuple[Array, int]:
    """(..., C) -> (N / n, n C), and n: short rows side by side as one long row, since short inner loops are slow."""
    channels, n = x.shape[-1], 1
    while 2 * n * channels <= 256 and x.size // channels % (2 * n) == 0:
        n *= 2
    return x.reshape(-1, n * channels), n
