"""The LSTM: a network that reads a text word by word and keeps a memory (Hochreiter and Schmidhuber 1997; Gers et al. 2000).

Two vectors go from step to step: the state h, which the rest of the network sees, and the cell c, the memory. Three gates,
numbers between 0 and 1 for each entry, decide what is written, kept and shown:

    i = sigmoid(x W_xi + h W_hi + b_i)      input gate: how much of the candidate is written
    f = sigmoid(x W_xf + h W_hf + b_f)      forget gate: how much of the memory is kept
    g = tanh(x W_xg + h W_hg + b_g)         the candidate
    o = sigmoid(x W_xo + h W_ho + b_o)      output gate: how much of the memory is shown
    c' = f c + i g                          h' = o tanh(c')

The four are one product with the matrices side by side, in the order i, f, g, o.

Backpropagation through time. The sequence is the same cell T times, with the same weights. So the backward walks from the last
step to the first, hands d_h and d_c on, and sums the weights' gradients over the steps. Along the memory
d_c = f d_c': where the forget gate is near 1, the gradient passes many steps undiminished. A plain recurrent network
multiplies by a matrix at each step instead, and the gradient vanishes or explodes.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.functional.activations import sigmoid_forward

Array = NDArray[np.floating]


class LSTMCellCache(NamedTuple):
    """What the backward of one step needs."""

    x: Array             # (B, E)
    h: Array             # (B, D)   state before the step
    c: Array             # (B, D)   memory before the step
    weight_x: Array      # (E, 4 D)
    weight_h: Array      # (D, 4 D)
    gates: tuple[Array, Array, Array, Array]    # (B, D) each  i, f, g, o
    tanh_c: Array        # (B, D)   tanh of the memory after the step


def lstm_cell_forward(
    x: Array, h: Array, c: Array, weight_x: Array, weight_h: Array, bias: Array
) -> tuple[tuple[Array, Array], LSTMCellCache]:
    """One step: see the head of this file.

    Args:
        x: the input of this step (B, E).   h, c: state and memory before it (B, D).
        weight_x: (E, 4 D).   weight_h: (D, 4 D).   bias: (4 D,).

    Returns:
        (h', c'), each (B, D), and the cache for `lstm_cell_backward`.
    """
    D = h.shape[-1]
    z = x @ weight_x + h @ weight_h + bias                         # (B, 4 D)  F1
    i, _ = sigmoid_forward(z[:, :D])                               # (B, D)    F2
    f, _ = sigmoid_forward(z[:, D:2 * D])                          # (B, D)    F3
    g = np.tanh(z[:, 2 * D:3 * D])                                 # (B, D)    F4
    o, _ = sigmoid_forward(z[:, 3 * D:])                           # (B, D)    F5
    new_c = f * c + i * g                                          # (B, D)    F6
    tanh_c = np.tanh(new_c)                                        # (B, D)    F7
    new_h = o * tanh_c                                             # (B, D)    F8
    return (new_h, new_c), LSTMCellCache(x, h, c, weight_x, weight_h, (i, f, g, o), tanh_c)


def lstm_cell_backward(
    d_out: tuple[Array, Array], cache: LSTMCellCache
) -> tuple[Array, Array, Array, Array, Array, Array]:
    """Gradients of x, h, c, weight_x, weight_h and bias, given those of the new state and memory, (d_h', d_c')."""
    x, h, c, weight_x, weight_h, (i, f, g, o), tanh_c = cache
    d_new_h, d_new_c = d_out

    d_o = d_new_h * tanh_c                                         # (B, D)    undoes F8
    d_new_c = d_new_c + d_new_h * o * (1 - tanh_c**2)              # (B, D)    undoes F8, F7: c' also reached h'
    d_f, d_c = d_new_c * c, d_new_c * f                            # (B, D)    undoes F6
    d_i, d_g = d_new_c * g, d_new_c * i                            # (B, D)    undoes F6
    d_z = np.concatenate([                                         # (B, 4 D)
        d_i * i * (1 - i),                                         #           undoes F2: the slope of a sigmoid s is s (1 - s)
        d_f * f * (1 - f),                                         #           undoes F3
        d_g * (1 - g**2),                                          #           undoes F4: the slope of a tanh t is 1 - t^2
        d_o * o * (1 - o),                                         #           undoes F5
    ], axis=-1)
    d_x, d_h = d_z @ weight_x.T, d_z @ weight_h.T                  # (B, E), (B, D)          undoes F1
    d_weight_x, d_weight_h = x.T @ d_z, h.T @ d_z                  # (E, 4 D), (D, 4 D)      undoes F1
    d_bias = d_z.sum(axis=0)                                       # (4 D,)                  undoes F1
    return d_x, d_h, d_c, d_weight_x, d_weight_h, d_bias


class LSTMCache(NamedTuple):
    """What the backward of a sequence needs."""

    steps: list[LSTMCellCache]           # T of them
    mask: NDArray[np.bool_] | None       # (B, T)
    has_h0: bool                         # whether the first step began from a given state,
    has_c0: bool                         # and from a given memory


def lstm_forward(
    x: Array, weight_x: Array, weight_h: Array, bias: Array, mask: NDArray[np.bool_] | None = None,
    h0: Array | None = None, c0: Array | None = None
) -> tuple[Array, LSTMCache]:
    """Read a batch of sequences from left to right.

    Args:
        x: (B, T, E).   weight_x: (E, 4 D).   weight_h: (D, 4 D).   bias: (4 D,); gates in the order i, f, g, o.
        mask: (B, T), False at padding; there state and memory stay as they are, so that out[:, -1] is the state after the
            last real word.
        h0, c0: state and memory before the first step, (B, D) each; None: zero.

    Returns:
        out (B, T, D), the state after each step, and the cache for `lstm_backward`.

    Raises:
        ValueError: a wrong rank, an empty axis, widths that do not fit, a mask that is not boolean (B, T).
    """
    check_lstm(x, weight_x, weight_h, bias, mask, h0, c0)
    B, T, _ = x.shape
    D = len(weight_h)
    h = np.zeros((B, D), x.dtype) if h0 is None else h0            # (B, D)
    c = np.zeros((B, D), x.dtype) if c0 is None else c0            # (B, D)
    out = np.empty((B, T, D), x.dtype)                             # (B, T, D)
    steps = []
    for t in range(T):
        (new_h, new_c), step = lstm_cell_forward(x[:, t], h, c, weight_x, weight_h, bias)   # (B, D)  F1
        if mask is not None:
            real = mask[:, t, None]                                # (B, 1)
            new_h = np.where(real, new_h, h)                       # (B, D)    F2  padding changes nothing
            new_c = np.where(real, new_c, c)                       # (B, D)    F3
        h, c = new_h, new_c
        out[:, t] = h                                              # (B, T, D) F4
        steps.append(step)
    return out, LSTMCache(steps, mask, h0 is not None, c0 is not None)


def lstm_backward(d_out: Array, cache: LSTMCache) -> tuple[Array, Array, Array, Array, Array | None, Array | None]:
    """Gradients of x, weight_x, weight_h, bias, h0 and c0, given d_out (B, T, D): from the last step to the first.

    Those of h0 and c0, (B, D), are what is left of d_h and d_c before the first step; None where none was given.
    """
    steps, mask, has_h0, has_c0 = cache
    first = steps[0]
    d_x = np.empty((*d_out.shape[:2], first.x.shape[-1]), d_out.dtype)   # (B, T, E)
    d_weight_x = np.zeros_like(first.weight_x)                     # (E, 4 D)
    d_weight_h = np.zeros_like(first.weight_h)                     # (D, 4 D)
    d_bias = np.zeros(first.weight_x.shape[1], d_out.dtype)        # (4 D,)
    d_h = np.zeros_like(first.h)                                   # (B, D)    nothing comes after the last step
    d_c = np.zeros_like(first.c)                                   # (B, D)
    for t in reversed(range(len(steps))):
        d_h = d_h + d_out[:, t]                                    # (B, D)    undoes F4: h went out, and to the next step
        around_h, around_c = 0, 0
        if mask is not None:
            real = mask[:, t, None]                                # (B, 1)
            around_h, d_h = np.where(real, 0, d_h), np.where(real, d_h, 0)     # (B, D)  undoes F2: padding handed h on
            around_c, d_c = np.where(real, 0, d_c), np.where(real, d_c, 0)     # (B, D)  undoes F3
        d_x[:, t], d_h, d_c, d_wx, d_wh, d_b = lstm_cell_backward((d_h, d_c), steps[t])     # undoes F1
        d_h, d_c = d_h + around_h, d_c + around_c                  # (B, D)
        d_weight_x += d_wx                                         # (E, 4 D)  the same weights at every step: a sum
        d_weight_h += d_wh                                         # (D, 4 D)
        d_bias += d_b                                              # (4 D,)
    return d_x, d_weight_x, d_weight_h, d_bias, d_h if has_h0 else None, d_c if has_c0 else None


def check_lstm(x: Array, weight_x: Array, weight_h: Array, bias: Array, mask: NDArray[np.bool_] | None,
               h0: Array | None, c0: Array | None) -> None:
    """Raise the ValueErrors of `lstm_forward`."""
    if x.ndim != 3 or x.size == 0:
        raise ValueError(f"x must have shape (B, T, E) without an empty axis, got {x.shape}")
    if weight_h.ndim != 2 or weight_h.shape[1] != 4 * weight_h.shape[0] or weight_h.size == 0:
        raise ValueError(f"weight_h must have shape (D, 4 D), got {weight_h.shape}")
    if weight_x.shape != (x.shape[-1], weight_h.shape[1]) or bias.shape != weight_h.shape[1:]:
        raise ValueError(f"weight_x must have shape {(x.shape[-1], weight_h.shape[1])} and bias {weight_h.shape[1:]}, "
                         f"got {weight_x.shape} and {bias.shape}")
    if mask is not None and (mask.dtype != bool or mask.shape != x.shape[:2]):
        raise ValueError(f"mask must be boolean of shape {x.shape[:2]}, got {mask.dtype} {mask.shape}")
    for name, start in (("h0", h0), ("c0", c0)):
        if start is not None and start.shape != (len(x), len(weight_h)):
            raise ValueError(f"{name} must have shape (B, D) = {(len(x), len(weight_h))}, got {start.shape}")
