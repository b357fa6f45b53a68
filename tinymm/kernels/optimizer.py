"""AdamW over one flat buffer: all that an update does to a number, while it is in a register.

The optimizer's NumPy form walks over each block of numbers a dozen times. See `tinymm.training.optimizers` for the
equations.
"""

import math

import numpy as np

from tinymm.functional.linear import Array
from tinymm.kernels.loops import AT_ONCE, Loop
from tinymm.kernels.threads import run


def adamw_update(
    value: Array, gradient: Array, first_moment: Array, second_moment: Array, *, step: int, learning_rate: float,
    beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8, weight_decay: float = 0.0,
) -> None:
    """One update of AdamW (Loshchilov & Hutter 2019, Algorithm 2), in place.

    With weight_decay 0 it is Adam (Kingma & Ba 2015, Algorithm 1).

    Args:
        value, gradient, first_moment, second_moment: flat contiguous arrays (N,) of one dtype; all but the gradient
            are changed.
        step: t in the papers, 1 for the first update.

    Raises:
        ValueError: the arrays are not flat, or differ in shape or dtype.
    """
    arrays = (value, gradient, first_moment, second_moment)
    if any(a.shape != (value.size,) or a.dtype != value.dtype or not a.flags.c_contiguous for a in arrays):
        shapes = ", ".join(f"{a.dtype} {a.shape}" for a in arrays)
        raise ValueError("value, gradient and the two moments must be flat contiguous arrays of one length and dtype, "
                         f"got {shapes}")
    correction, rate = 1 / math.sqrt(1 - beta2**step), learning_rate / (1 - beta1**step)
    constants = np.array((beta1, beta2, correction, eps, rate, 1 - learning_rate * weight_decay), value.dtype)
    run(_adamw, value.size, (*arrays, *constants), AT_ONCE)


@Loop
def _adamw(first, last, value, gradient, first_moment, second_moment, beta1, beta2, correction, eps, rate, keep):
    value, gradient = value[first:last], gradient[first:last]
    first_moment, second_moment = first_moment[first:last], second_moment[first:last]
    one = value.dtype.type(1)                                                    # a plain 1 would make all float64
    for i in range(value.size):
        g = gradient[i]
        m = beta1 * first_moment[i] + (one - beta1) * g                          # U1
        v = beta2 * second_moment[i] + (one - beta2) * g * g                     # U2
        value[i] = keep * value[i] - rate * m / (np.sqrt(v) * correction + eps)  # U0, U3 ... U5
        first_moment[i], second_moment[i] = m, v
