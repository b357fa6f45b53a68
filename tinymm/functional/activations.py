"""Activation functions: what happens between two linear layers, on each number by itself.

Without them a stack of linear layers would be one linear layer. Each takes an array of any shape and gives
one of the same shape; since out[i] depends on x[i] alone, the whole Jacobian is a diagonal, and every
backward here is an element-wise product: d_x = d_out * f'(x).

    relu     max(0, x)                          Nair and Hinton 2010
    gelu     x P(X <= x), X standard normal     Hendrycks and Gimpel 2016, the activation of BERT and GPT
    sigmoid  1 / (1 + exp(-x))                  a gate between 0 and 1
    tanh     (e^x - e^-x) / (e^x + e^-x)        a value between -1 and 1

One takes two arrays, where half of the layer before says how much of the other half passes:

    swiglu   silu(gate) * value, silu(g) = g sigmoid(g)    Shazeer 2020
"""

from math import pi, sqrt
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


class ReluCache(NamedTuple):
    x: Array    # (...)


def relu_forward(x: Array) -> tuple[Array, ReluCache]:
    """out = max(0, x) for an array of any shape. Returns out in the shape and dtype of x, and the cache."""
    out = np.maximum(x, 0)                                     # (...)  F1
    return out, ReluCache(x)


def relu_backward(d_out: Array, cache: ReluCache) -> Array:
    """Gradient of `relu_forward` with respect to x. At the kink x = 0 we choose slope 0, as everybody does."""
    return d_out * (cache.x > 0)                               # (...)  undoes F1: slope 1 where x > 0, else 0


class GeluCache(NamedTuple):
    x: Array             # (...)
    cdf: Array           # (...)  P(X <= x), exactly or in the tanh form
    approximate: bool


def gelu_forward(x: Array, approximate: bool = False) -> tuple[Array, GeluCache]:
    """GELU(x) = x Phi(x): the input, weighted by the chance that a standard normal variable is smaller.

        Phi(x) = (1 + erf(x / sqrt 2)) / 2                                      exact (BERT)
        Phi(x) ~ (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2                approximate=True (GPT-2)

    Hendrycks and Gimpel 2016, section 2. The two differ by less than 5e-4.

    Args:
        x: an array of any shape.   approximate: take the tanh form.

    Returns:
        out in the shape and dtype of x, and the cache for `gelu_backward`.
    """
    if approximate:
        inner = sqrt(2 / pi) * (x + 0.044715 * (x * x * x))    # (...)  F1
        cdf = 0.5 * (1 + np.tanh(inner))                       # (...)  F2
    else:
        cdf = 0.5 * (1 + erf(x * sqrt(0.5)))                   # (...)  F1, F2
    out = x * cdf                                              # (...)  F3
    return out, GeluCache(x, cdf, approximate)


def gelu_backward(d_out: Array, cache: GeluCache) -> Array:
    """Gradient of `gelu_forward` with respect to x: d_x = d_out (Phi(x) + x Phi'(x))."""
    x, cdf, approximate = cache

    if approximate:
        # (1 + tanh u) / 2 is the sigmoid of 2u, whose slope is 2 sigmoid (1 - sigmoid) u'.
        d_inner = sqrt(2 / pi) * (1 + 3 * 0.044715 * (x * x))  # (...)  u', the slope of F1
        density = 2 * cdf * (1 - cdf) * d_inner                # (...)  the slope of F2 after F1
    else:
        density = np.exp(-0.5 * (x * x)) * (1 / sqrt(2 * pi))  # (...)  the normal density is the slope of Phi
    return d_out * (cdf + x * density)                         # (...)  undoes F3 (product rule), F2, F1


class SigmoidCache(NamedTuple):
    out: Array    # (...)


def sigmoid_forward(x: Array) -> tuple[Array, SigmoidCache]:
    """sigma(x) = 1 / (1 + exp(-x)), for an array of any shape, without overflow at either end."""
    # For x >= 0 this is 1 / (1 + exp(-x)); for x < 0 it is exp(x) / (exp(x) + 1), the same times exp(x) / exp(x).
    out = np.exp(np.minimum(x, 0)) / (1 + np.exp(-np.abs(x)))  # (...)  F1  no exponent above 0
    return out, SigmoidCache(out)


def sigmoid_backward(d_out: Array, cache: SigmoidCache) -> Array:
    """Gradient of `sigmoid_forward` with respect to x: sigma' = sigma (1 - sigma)."""
    out = cache.out
    return d_out * (out * (1 - out))                           # (...)  undoes F1


class TanhCache(NamedTuple):
    out: Array    # (...)


def tanh_forward(x: Array) -> tuple[Array, TanhCache]:
    """out = tanh(x) for an array of any shape. Returns out in the shape and dtype of x, and the cache."""
    out = np.tanh(x)                                           # (...)  F1
    return out, TanhCache(out)


def tanh_backward(d_out: Array, cache: TanhCache) -> Array:
    """Gradient of `tanh_forward` with respect to x: tanh' = 1 - tanh^2."""
    out = cache.out
    return d_out * (1 - out * out)                             # (...)  undoes F1


class SwigluCache(NamedTuple):
    gate: Array     # (...)
    value: Array    # (...)
    share: Array    # (...)  sigmoid(gate)


def swiglu_forward(gate: Array, value: Array) -> tuple[Array, SwigluCache]:
    """out = silu(gate) * value,   silu(g) = g sigmoid(g).

    Shazeer 2020, eq. (5) with beta = 1: in a feed-forward network gate = x W and value = x V are two projections of one x.

    Args:
        gate, value: arrays of the same shape, any.

    Returns:
        out in their shape and dtype, and the cache for `swiglu_backward`.

    Raises:
        ValueError: gate and value differ in shape.
    """
    if gate.shape != value.shape:
        raise ValueError(f"gate and value must have the same shape, got gate {gate.shape} and value {value.shape}")
    share, _ = sigmoid_forward(gate)                           # (...)  F1
    silu = gate * share                                        # (...)  F2
    out = silu * value                                         # (...)  F3
    return out, SwigluCache(gate, value, share)


def swiglu_backward(d_out: Array, cache: SwigluCache) -> tuple[Array, Array]:
    """Gradients of `swiglu_forward` with respect to gate and value: silu'(g) = s + g s (1 - s) with s = sigmoid(g)."""
    gate, value, share = cache

    d_value = d_out * (gate * share)                           # (...)  undoes F3: the right factor ...
    d_silu = d_out * value                                     # (...)  ... and the left one
    d_gate = d_silu * (share + gate * share * (1 - share))     # (...)  undoes F2 (product rule) and F1
    return d_gate, d_value


# The error function. NumPy has none, and we want no other dependency. In float64: W. J. Cody, "Rational Chebyshev
# approximations for the error function", Mathematics of Computation 23 (1969), pages 631 to 637:
#     erf(x)  = x R(x^2)                 for |x| <= 0.46875
#     erfc(x) = exp(-x^2) S(x)           for 0.46875 <= x <= 4, and good enough for 1 - erfc(x) up to 6
# R and S are quotients of two polynomials; coefficients from the highest power down.
NEAR_TOP = (1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
            3.20937758913846947e3)
NEAR_BOTTOM = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
FAR_TOP = (2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
           2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
           1.23033935479799725e3)
FAR_BOTTOM = (1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
              3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3)
# In float32 a shorter formula does: Abramowitz and Stegun, "Handbook of Mathematical Functions" (1964), 7.1.26,
#     erfc(x) = exp(-x^2) t P(t), t = 1 / (1 + 0.3275911 x), to 1.5e-7, for x >= 0.
SINGLE_PRECISION = (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592)
ERF_PIECE = 16384    # numbers worked on at once: the many passes over them then stay in the processor's cache


def erf(x: Array) -> Array:
    """The error function 2 / sqrt(pi) * integral from 0 to x of exp(-t^2) dt, to about 1e-16 in float64.

    Takes an array of any shape and keeps its dtype (in float32 the absolute error is at most 6e-7).
    """
    flat = x.reshape(-1)                                       # (N,)
    out = np.empty(flat.shape, np.result_type(flat, 0.5))      # (N,)
    working = np.promote_types(out.dtype, np.float32)          #       the polynomials would overflow float16
    formula = _erf_single if working == np.float32 else _erf_double
    for start in range(0, flat.size, ERF_PIECE):
        piece = slice(start, start + ERF_PIECE)
        out[piece] = formula(flat[piece].astype(working, copy=False))
    return out.reshape(x.shape)


def _erf_single(x: Array) -> Array:
    size = np.minimum(np.abs(x), 6)                            # (N,)  erf(6) is 1
    t = 1 / (1 + 0.3275911 * size)                             # (N,)
    return np.copysign(1 - np.exp(-size * size) * (t * _polynomial(SINGLE_PRECISION, t)), x)    # erf(-x) = -erf(x)


def _erf_double(x: Array) -> Array:
    size = np.minimum(np.abs(x), 6)                            # (N,)  erf(6) is 1
    square = size * size                                       # (N,)
    near = size * (_polynomial(NEAR_TOP, square) / _polynomial(NEAR_BOTTOM, square))
    far = 1 - np.exp(-square) * (_polynomial(FAR_TOP, size) / _polynomial(FAR_BOTTOM, size))
    return np.copysign(np.where(size <= 0.46875, near, far), x)    # erf(-x) = -erf(x)


def _polynomial(coefficients: tuple[float, ...], x: Array) -> Array:
    # Horner's rule, ((c0 x + c1) x + c2) x + ..., in place, so that only one array is made.
    total = x * coefficients[0]
    for coefficient in coefficients[1:-1]:
        total += coefficient
        total *= x
    total += coefficients[-1]
    return total
