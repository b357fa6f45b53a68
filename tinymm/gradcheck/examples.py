"""What the example inputs of `tinymm gradcheck` are made of.

An example is a function of a Generator; a name may have several, by variant. Within an example all sizes differ (B, T,
S, H, K, D ...), so that a transposed or wrongly summed gradient cannot fit by chance. Arrays are normal with mean 0 and
standard deviation 1, gains and biases too, so that gradients are of order 1 and nothing hides behind a 0 or a 1.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from tinymm.layers import Module

Generator = np.random.Generator


class PairExample(NamedTuple):
    """Arguments of a forward by name, which of them have no gradient, and how many entries of each array to check."""

    inputs: dict[str, Any]
    constants: tuple[str, ...] = ()
    max_entries: int = 64


class ModuleExample(NamedTuple):
    """A layer or model, the arguments of its forward by name, and how many entries of each parameter to check."""

    module: Module
    inputs: dict[str, Any]
    max_entries: int = 6


def pair(*, constants: tuple[str, ...] = (), max_entries: int = 64, **inputs: Any) -> PairExample:
    return PairExample(inputs, constants, max_entries)


def module(layer: Module, generator: Generator, /, *, max_entries: int = 6, **inputs: Any) -> ModuleExample:
    """An example of a layer in float64, its parameters moved away from where they start.

    At the start biases are 0 and gains are 1, which would hide mistakes in them; running statistics move too.
    """
    layer.astype(np.float64)
    for parameter in layer.parameters():
        parameter.value += 0.2 * generator.normal(size=parameter.shape)
    for _, buffer in layer.named_buffers():
        buffer += generator.uniform(0.1, 0.5, size=buffer.shape)
    return ModuleExample(layer, inputs, max_entries)


def n(rng: Generator, *shape: int) -> np.ndarray:
    return rng.normal(size=shape)


RIGHT_PADDED = np.arange(7) < np.array([[5], [7]])      # (B, S)  True where the key is a real token
LEFT_PADDED = np.arange(4) >= np.array([[1], [0]])      # (B, S)  with a causal mask, query 0 of text 0 sees nothing
REPEATED_IDS = np.array([[1, 4, 4, 0, 1], [6, 1, 2, 2, 2], [0, 3, 6, 5, 4]])
SOME_IGNORED = np.array([[4, -100, 0, 2], [-100, 1, 1, -100]])
SHARED = np.array([1, 0, 1])     # three texts about two images


def text_and_memory(rng: Generator, tokens: int, width: int) -> dict[str, Any]:
    """R 3, T 4, D 6, and a memory (2, tokens, width)."""
    return {"x": n(rng, 3, 4, 6), "memory": n(rng, 2, tokens, width), "memory_index": SHARED}


def dropout(rng: Generator) -> dict[str, Any]:
    return {"training": True, "rng": rng.spawn(1)[0]}


PairExamples = dict[str, dict[str, Callable[[Generator], PairExample]]]        # name -> variant -> example
ModuleExamples = dict[str, dict[str, Callable[[Generator], ModuleExample]]]
