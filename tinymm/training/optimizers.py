"""Optimizers: how gradients move the parameters.

    SGD with momentum      Polyak 1964; Sutskever et al. 2013
    Adam                   Kingma & Ba 2015, Algorithm 1
    AdamW                  Loshchilov & Hutter 2019, Algorithm 2: weight decay beside Adam, not inside its gradient

An optimizer lays all parameters of a module one after the other into one flat value buffer, and all gradients into
one flat gradient buffer; each `parameter.value` and `parameter.grad` becomes a view into them. Clearing the
gradients, their global norm and the update are then a few operations on long arrays, written in place. The update
walks the buffers in blocks that stay in the processor's cache, so its temporary is one block, not a whole buffer.
"""

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymm import functional
from tinymm.layers.module import Array, Module

BLOCK = 16_384    # entries updated at once: five such blocks of float32 are 320 kB, which fits a core's L2 cache
ALIGNMENT = 64    # bytes: each parameter starts on a cache line, in every process alike


class Optimizer:
    """The flat buffers, and what every optimizer shares. A subclass defines `_update` for one block.

    Attributes:
        values, gradients: the flat buffers. Convolution kernels (4 axes) come first, values[:kernels]; then matrices, up to
            values[:decayed]; then gains and biases.
        steps_taken: the number of updates so far (t in the papers).

    Raises:
        ValueError: the module has no parameters, or they differ in dtype.
    """

    moments: tuple[str, ...] = ()    # names of the buffers a subclass keeps beside the values

    def __init__(self, module: Module):
        named = list(module.named_parameters())    # a tied parameter comes once
        dtypes = sorted({str(parameter.value.dtype) for _, parameter in named})
        if len(dtypes) != 1:
            raise ValueError(f"the parameters of a module must have one dtype, got {dtypes or 'no parameters'}")
        dtype = np.dtype(dtypes[0])

        # Kernels, matrices, and gains and biases decay differently: three groups, so that each is one slice of the buffer.
        named.sort(key=lambda item: -min(4, item[1].value.ndim) if item[1].value.ndim >= 2 else 0)
        line = ALIGNMENT // dtype.itemsize
        self._places: dict[str, tuple[slice, tuple[int, ...]]] = {}
        end = self.kernels = self.decayed = 0
        for name, parameter in named:
            self._places[name] = slice(end, end + parameter.value.size), parameter.shape
            end += -(-parameter.value.size // line) * line    # the padding holds zeros, and updates leave them zero
            if parameter.value.ndim == 4:
                self.kernels = end
            if parameter.value.ndim >= 2:
                self.decayed = end

        self.steps_taken = 0
        self.values, self.gradients = _aligned_zeros(end, dtype), _aligned_zeros(end, dtype)
        for name in self.moments:
            setattr(self, name, _aligned_zeros(end, dtype))
        self._scratch = _aligned_zeros(min(BLOCK, end), dtype)

        self._views: list[tuple[str, Any, Array, Array]] = []
        for name, parameter in named:
            value, gradient = self._view(self.values, name), self._view(self.gradients, name)
            value[...], gradient[...] = parameter.value, parameter.grad
            parameter.value, parameter.grad = value, gradient
            self._views.append((name, parameter, value, gradient))

    def _view(self, buffer: Array, name: str) -> Array:
        place, shape = self._places[name]
        return buffer[place].reshape(shape)

    def named_gradients(self) -> Iterator[tuple[str, Array]]:
        for name, _, _, gradient in self._views:
            yield name, gradient

    def zero_grad(self) -> None:
        self.gradients.fill(0)

    def step(self, learning_rate: float) -> None:
        """Move every parameter once, in place.

        Raises:
            ValueError: a parameter's value or gradient is another array than the optimizer gave it.
        """
        for name, parameter, value, gradient in self._views:
            if parameter.value is not value or parameter.grad is not gradient:
                raise ValueError(f"{name} was given a new array after the optimizer was made; "
                                 "write into it with [...], and call astype before making the optimizer")
        self.steps_taken += 1
        self._update_all(float(learning_rate))

    def _update_all(self, learning_rate: float) -> None:
        for start in range(0, self.values.size, BLOCK):
            block = slice(start, min(start + BLOCK, self.values.size))
            self._update(block, learning_rate, self._scratch[:block.stop - start])

    def _update(self, block: slice, learning_rate: float, scratch: Array) -> None:
        raise TypeError(f"{type(self).__name__} has no update")

    def state(self) -> dict[str, NDArray[Any]]:
        """What a checkpoint keeps: each moment by parameter name (views, no copies), and the number of steps."""
        arrays = {f"{moment}.{name}": self._view(getattr(self, moment), name)
                  for moment in self.moments for name in self._places}
        return arrays | {"steps_taken": np.array(self.steps_taken, np.int64)}

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over the arrays of `state()`.

        Raises:
            ValueError: a name is missing, unknown, or has another shape. Nothing is changed in that case.
        """
        own = self.state()
        if own.keys() != state.keys():
            raise ValueError("the saved optimizer is not this one: "
                             f"{sorted(own.keys() ^ state.keys())[:3]} are in only one of the two")
        for name, array in own.items():
            if array.shape != state[name].shape:
                raise ValueError(f"{name} has shape {state[name].shape} in the saved optimizer, "
                                 f"but this one needs {array.shape}")
        for name, array in own.items():
            array[...] = state[name]
        self.steps_taken = int(state["steps_taken"])


class SGD(Optimizer):
    """Gradient descent with momentum (Sutskever et al. 2013, eq. 1, 2; the rate outside the velocity as in PyTorch)."""

    moments = ("velocity",)
    velocity: Array

    def __init__(self, module: Module, momentum: float = 0.9):
        self.momentum = _fraction("momentum", momentum)
        super().__init__(module)

    def _update(self, block: slice, learning_rate: float, scratch: Array) -> None:
        value, gradient, velocity = self.values[block], self.gradients[block], self.velocity[block]
        velocity *= self.momentum
        velocity += gradient                                      # v <- mu v + g            U1
        np.multiply(velocity, learning_rate, out=scratch)
        value -= scratch                                          # theta <- theta - lr v    U2


class Adam(Optimizer):
    """Adam (Kingma & Ba 2015, Algorithm 1): steps of about the learning rate, whatever the size of the gradient."""

    moments = ("first_moment", "second_moment")
    first_moment: Array     # m in the paper: a running mean of the gradient
    second_moment: Array    # v in the paper: a running mean of its square

    def __init__(self, module: Module, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8):
        if not eps > 0:
            raise ValueError(f"eps must be above 0, got {eps}")
        self.beta1, self.beta2, self.eps = _fraction("beta1", beta1), _fraction("beta2", beta2), eps
        super().__init__(module)

    def _update(self, block: slice, learning_rate: float, scratch: Array) -> None:
        value, gradient = self.values[block], self.gradients[block]
        first, second = self.first_moment[block], self.second_moment[block]
        beta1, beta2, t = self.beta1, self.beta2, self.steps_taken

        np.multiply(gradient, 1 - beta1, out=scratch)
        first *= beta1
        first += scratch                                          # m <- beta1 m + (1 - beta1) g          U1
        np.multiply(gradient, gradient, out=scratch)
        scratch *= 1 - beta2
        second *= beta2
        second += scratch                                         # v <- beta2 v + (1 - beta2) g^2        U2
        np.sqrt(second, out=scratch)
        scratch *= 1 / math.sqrt(1 - beta2**t)                    # sqrt(v_hat), v_hat = v / (1 - beta2^t)  U3
        scratch += self.eps
        np.divide(first, scratch, out=scratch)
        scratch *= learning_rate / (1 - beta1**t)                 # lr m_hat / (sqrt(v_hat) + eps)        U4
        value -= scratch                                          # theta <- theta - ...                  U5


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, Algorithm 2).

    Decay inside the gradient would be divided by sqrt(v_hat): weights with large gradients would hardly decay. Here the
    weights shrink by lr * weight_decay directly (PyTorch's convention: the decay follows the schedule of the rate).
    Parameters with fewer than two axes (gains, biases) do not decay; convolution kernels may decay at a rate of their own.
    A module on the numba backend is updated by the kernel of `tinymm.kernels.optimizer`, in one walk over each group.
    """

    def __init__(self, module: Module, beta1: float = 0.9, beta2: float = 0.999, eps: float = 1e-8,
                 weight_decay: float = 0.01, kernel_decay: float | None = None):
        self.weight_decay = weight_decay
        self.kernel_decay = weight_decay if kernel_decay is None else kernel_decay
        for name in ("weight_decay", "kernel_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must be 0 or more, got {getattr(self, name)}")
        super().__init__(module, beta1, beta2, eps)
        self.use_kernel = module.ops is not functional

    def _update_all(self, learning_rate: float) -> None:
        if not self.use_kernel:
            return super()._update_all(learning_rate)
        from tinymm.kernels.optimizer import adamw_update    # a module on this backend has loaded numba already

        groups = ((slice(0, self.kernels), self.kernel_decay), (slice(self.kernels, self.decayed), self.weight_decay),
                  (slice(self.decayed, None), 0.0))
        for group, decay in groups:
            arrays = (self.values[group], self.gradients[group], self.first_moment[group], self.second_moment[group])
            adamw_update(*arrays, step=self.steps_taken, learning_rate=learning_rate, beta1=self.beta1, beta2=self.beta2,
                         eps=self.eps, weight_decay=decay)

    def _update(self, block: slice, learning_rate: float, scratch: Array) -> None:
        kernels = self.values[block.start:min(block.stop, self.kernels)]     # empty when the block lies behind them
        matrices = self.values[max(block.start, self.kernels):min(block.stop, self.decayed)]
        kernels *= 1 - learning_rate * self.kernel_decay          # theta <- (1 - lr lambda) theta        U0
        matrices *= 1 - learning_rate * self.weight_decay
        super()._update(block, learning_rate, scratch)


def clip_by_global_norm(gradients: Array, limit: float) -> float:
    """Scale all gradients down together, in place, to a common norm of at most `limit` (Pascanu et al. 2013, Alg. 1).

    Args:
        gradients: the optimizer's flat gradient buffer (any contiguous array).
        limit: the largest norm allowed; inf only measures.

    Returns:
        the norm before clipping. A norm that is not finite is returned as it is, and nothing is scaled.
    """
    if not limit > 0:
        raise ValueError(f"limit must be above 0, got {limit}")
    flat = gradients.reshape(-1)
    norm = math.sqrt(np.dot(flat, flat))
    if not math.isfinite(norm):    # squares of float32 overflow above 1.8e19; then scale first
        highest = float(np.max(np.abs(flat)))
        norm = highest
        if math.isfinite(highest):
            norm *= math.sqrt(np.sum(np.square(flat / highest, dtype=np.float64)))
    if math.isfinite(norm) and norm > limit:
        gradients *= limit / norm
    return norm


def _fraction(name: str, value: float) -> float:
    if not 0 <= value < 1:
        raise ValueError(f"{name} must be at least 0 and below 1, got {value}")
    return value


def _aligned_zeros(size: int, dtype: np.dtype) -> Array:
    """Zeros that start on a cache line: rounding must not depend on where a process happened to get its memory."""
    raw = np.zeros(size * dtype.itemsize + ALIGNMENT, np.uint8)
    start = -raw.ctypes.data % ALIGNMENT
    return raw[start:start + size * dtype.itemsize].view(dtype)
