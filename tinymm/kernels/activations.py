"""Twins of the activations that a training step spends time in: ReLU and the exact GELU.

NumPy walks over the whole array once for every operation; here one loop does all of them while a number is in a
register.
"""

from typing import NamedTuple

import numpy as np

from tinymm import functional
from tinymm.functional.activations import Array
from tinymm.kernels.loops import AT_ONCE, Loop, inlined
from tinymm.kernels.threads import run


class ReluCache(NamedTuple):
    out: Array    # (...)  positive exactly where x is; so x itself need not be kept


def relu_forward(x: Array) -> tuple[Array, ReluCache]:
    """Twin of `functional.relu_forward`."""
    x = np.ascontiguousarray(x)
    out = np.empty_like(x)
    run(_relu_forward, x.size, (x.reshape(-1), out.reshape(-1)), AT_ONCE)
    return out, ReluCache(out)


def relu_backward(d_out: Array, cache: ReluCache) -> Array:
    """Twin of `functional.relu_backward`."""
    d_out = np.ascontiguousarray(d_out)
    d_x = np.empty_like(d_out)
    run(_relu_backward, d_out.size, (d_out.reshape(-1), cache.out.reshape(-1), d_x.reshape(-1)), AT_ONCE)
    return d_x


@Loop
def _relu_forward(first, last, x, out):
    x, out, zero = x[first:last], out[first:last], x.dtype.type(0)
    for i in range(x.size):
        out[i] = zero if x[i] <= zero else x[i]                # F1  asked this way round, NaN stays NaN


@Loop
def _relu_backward(first, last, d_out, out, d_x):
    d_out, out, d_x = d_out[first:last], out[first:last], d_x[first:last]
    zero, one = out.dtype.type(0), out.dtype.type(1)
    for i in range(d_x.size):
        d_x[i] = d_out[i] * (one if out[i] > zero else zero)   # undoes F1


class GeluCache(NamedTuple):
    x: Array    # (...)  the backward computes the rest again, which is faster than reading it from memory


def gelu_forward(x: Array, approximate: bool = False) -> tuple[Array, GeluCache | functional.GeluCache]:
    """Twin of `functional.gelu_forward`: a loop for the exact form in float32; the rest is left to NumPy."""
    if approximate or x.dtype != np.float32:
        return functional.gelu_forward(x, approximate)
    x = np.ascontiguousarray(x)
    out = np.empty_like(x)
    run(_gelu_forward, x.size, (x.reshape(-1), out.reshape(-1)), AT_ONCE)
    return out, GeluCache(x)


def gelu_backward(d_out: Array, cache: GeluCache | functional.GeluCache) -> Array:
    """Twin of `functional.gelu_backward`."""
    if isinstance(cache, functional.GeluCache):
        return functional.gelu_backward(d_out, cache)
    d_out = np.ascontiguousarray(d_out)
    d_x = np.empty_like(cache.x)
    run(_gelu_backward, d_out.size, (d_out.reshape(-1), cache.x.reshape(-1), d_x.reshape(-1)), AT_ONCE)
    return d_x


@Loop
def _gelu_forward(first, last, x, out):
    x, out = x[first:last], out[first:last]
    for i in range(x.size):
        cdf, _ = _normal(x[i])                                 # F1, F2
        out[i] = x[i] * cdf                                    # F3


@Loop
def _gelu_backward(first, last, d_out, x, d_x):
    d_out, x, d_x = d_out[first:last], x[first:last], d_x[first:last]
    for i in range(d_x.size):
        cdf, density = _normal(x[i])
        d_x[i] = d_out[i] * (cdf + x[i] * density)             # undoes F3 (product rule), F2, F1


@inlined
def _normal(x):
    """P(X <= x) and the density at x of a standard normal variable, float32.

    Both share one exponential: P(X > a) = exp(-a^2 / 2) R(a), where R falls slowly from 1/2, like 1 / a (Mills' ratio).
    R is a polynomial in t = 1 / (1 + 0.3 a), fitted for the smallest relative error, 6e-8, between a = 0 and 14.
    There is no branch, so the processor works on many x at once.
    """
    one = np.float32(1)
    a = min(abs(x), np.float32(14))                            # P(X > 14) is below the smallest float32
    t = one / (one + np.float32(0.3) * a)
    ratio = np.float32(3.837830408e-2)
    ratio = ratio * t + np.float32(-1.691666338e-1)
    ratio = ratio * t + np.float32(2.286610936e-1)
    ratio = ratio * t + np.float32(-7.650755369e-2)
    ratio = ratio * t + np.float32(1.425362072e-1)
    ratio = ratio * t + np.float32(9.468325935e-2)
    ratio = ratio * t + np.float32(1.219204024e-1)
    ratio = ratio * t + np.float32(1.194876815e-1)
    ratio = ratio * t + np.float32(7.169252112e-6)
    bell = _exp_of_negative(np.float32(-0.5) * a * a)          # exp(-a^2 / 2)
    above = bell * ratio                                       # P(X > a)
    cdf = one - above if x > 0 else above
    return cdf, bell * np.float32(0.3989422804)                # 1 / sqrt(2 pi)


@inlined
def _exp_of_negative(x):
    """exp(x) for float32 x from -100 to 0, 0 below about -87.

    exp(x) = 2^n 2^f with n whole and |f| <= 1/2. 2^f is its Taylor polynomial; 2^n is made by writing n + 127 where a
    float32 has its exponent, in front of 23 bits of fraction.
    """
    scaled = x * np.float32(1.442695041)                       # x / log 2
    n = np.floor(scaled + np.float32(0.5))
    f = scaled - n
    power = np.float32(1.535336188e-4)
    power = power * f + np.float32(1.339887440e-3)
    power = power * f + np.float32(9.618437358e-3)
    power = power * f + np.float32(5.550332472e-2)
    power = power * f + np.float32(2.402264791e-1)
    power = power * f + np.float32(6.931472029e-1)
    power = power * f + np.float32(1)
    exponent = max(np.int32(n) + np.int32(127), np.int32(0))   # 0 makes the number 0
    return power * np.int32(exponent << np.int32(23)).view(np.float32)
