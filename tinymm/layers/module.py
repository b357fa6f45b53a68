"""Parameters, and the modules that hold them.

A module is explicit state around the pure pairs of `tinymm.functional`: it owns parameters, calls the
forward of a pair, hands back that pair's cache, and adds the gradients of the backward to `parameter.grad`.
It remembers nothing between the two calls, so forward may run twice before backward, in any order, and a
parameter used in two places (a tied weight) simply receives two sums.
"""

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from tinymm import functional

Array = NDArray[np.floating]


class Parameter:
    """An array that is trained, and the gradient that has been summed for it so far.

    Attributes:
        value: the array itself.
        grad: the same shape; every backward pass adds to it, `Module.zero_grad` clears it.
    """

    def __init__(self, value: Array):
        self.value = value
        self.grad = np.zeros_like(value)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape

    def __repr__(self) -> str:
        return f"Parameter({'x'.join(map(str, self.shape)) or 'scalar'}, {self.value.dtype})"


class Module:
    """Base of every layer and model.

    A subclass assigns parameters, sub-modules and lists of sub-modules as attributes, names its running
    statistics (arrays that are saved but not trained) in `buffers`, and defines

        forward(x, ...) -> (out, cache)        backward(d_out, cache) -> d_x

    `ops` is the namespace the pairs are looked up in: `tinymm.functional`, or `tinymm.kernels`
    after `use_backend("numba")`. Both hold every pair under the same name.
    """

    ops: ModuleType = functional
    buffers: tuple[str, ...] = ()

    def forward(self, *inputs: Any, **options: Any) -> tuple[Any, Any]:
        raise TypeError(f"{type(self).__name__} has no forward")

    def backward(self, d_out: Any, cache: Any) -> Any:
        raise TypeError(f"{type(self).__name__} has no backward")

    def children(self) -> Iterator[tuple[str, "Module"]]:
        """Direct sub-modules with their attribute names, in the order in which they were assigned."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value
            elif isinstance(value, (list, tuple)):
                for i, item in enumerate(value):
                    if isinstance(item, Module):
                        yield f"{name}.{i}", item

    def modules(self, prefix: str = "") -> Iterator[tuple[str, "Module"]]:
        """This module and all below it, with dotted names; the module itself is called ''."""
        yield prefix, self
        for name, child in self.children():
            yield from child.modules(f"{prefix}.{name}" if prefix else name)

    def named_parameters(self) -> Iterator[tuple[str, Parameter]]:
        """Every parameter once, with its dotted name; a tied parameter under the first of its names."""
        seen: set[int] = set()
        for prefix, module in self.modules():
            for name, value in vars(module).items():
                if isinstance(value, Parameter) and id(value) not in seen:
                    seen.add(id(value))
                    yield (f"{prefix}.{name}" if prefix else name), value

    def parameters(self) -> list[Parameter]:
        return [parameter for _, parameter in self.named_parameters()]

    def named_buffers(self) -> Iterator[tuple[str, Array]]:
        """Running statistics with their dotted names: saved with the weights, but not trained."""
        for prefix, module in self.modules():
            for name in module.buffers:
                yield (f"{prefix}.{name}" if prefix else name), getattr(module, name)

    def state(self) -> dict[str, Array]:
        """All that a checkpoint keeps of this module: parameters and buffers by dotted name (no copies)."""
        return {name: parameter.value for name, parameter in self.named_parameters()} | dict(self.named_buffers())

    def load_state(self, state: dict[str, Array]) -> None:
        """Copy arrays into this module's parameters and buffers.

        Raises:
            ValueError: a name is missing, unknown, or has another shape. Nothing is changed in that case.
        """
        own = self.state()
        missing, unknown = sorted(own.keys() - state.keys()), sorted(state.keys() - own.keys())
        if missing or unknown:
            raise ValueError(f"the saved arrays are not those of this model: missing {missing[:3]}, unknown {unknown[:3]}")
        for name, array in own.items():
            if array.shape != state[name].shape:
                raise ValueError(f"{name} has shape {state[name].shape} in the saved arrays, but this model needs {array.shape}")
        for name, array in own.items():
            array[...] = state[name]

    def zero_grad(self) -> None:
        for parameter in self.parameters():
            parameter.grad[...] = 0

    def astype(self, dtype: DTypeLike) -> "Module":
        """Convert parameters, gradients and buffers (float64 for gradient checks) and return the module."""
        for parameter in self.parameters():
            parameter.value = parameter.value.astype(dtype)
            parameter.grad = parameter.grad.astype(dtype)
        for _, module in self.modules():
            for name in module.buffers:
                setattr(module, name, getattr(module, name).astype(dtype))
        return self

    def use_backend(self, backend: str) -> "Module":
        """Choose where the pairs come from, for this module and all below: "numpy" (to read) or "numba" (fast)."""
        if backend == "numpy":
            ops = functional
        elif backend == "numba":
            from tinymm import kernels as ops   # imported late: numba takes half a second to load
        else:
            raise ValueError(f'backend must be "numpy" or "numba", got {backend!r}')
        for _, module in self.modules():
            module.ops = ops
        return self
