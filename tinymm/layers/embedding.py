"""Tables of vectors: one for each token of the vocabulary, one for each place in the sequence."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymm.layers.module import Array, Module, Parameter


class Embedding(Module):
    """Row `id` of a (V, D) table for every token id. Starts normal with standard deviation `scale` (0.02 as in BERT, GPT-2)."""

    def __init__(self, n_rows: int, d_model: int, rng: np.random.Generator, scale: float = 0.02):
        self.weight = Parameter((scale * rng.standard_normal((n_rows, d_model))).astype(np.float32))   # (V, D)

    def forward(self, ids: NDArray[np.integer]) -> tuple[Array, Any]:
        """ids (...) of integers -> out (..., D)."""
        return self.ops.embedding_forward(ids, self.weight.value)

    def backward(self, d_out: Array, cache: Any) -> None:
        """Adds the gradient of the table. Ids are not differentiable, so nothing is returned."""
        self.weight.grad += self.ops.embedding_backward(d_out, cache)


class LearnedPositions(Module):
    """x + weight[:T]: what tells an attention layer, which sees a set, where each vector stands (Gehring et al. 2017).

    Starts normal with standard deviation `scale`.
    """

    def __init__(self, max_length: int, d_model: int, rng: np.random.Generator, scale: float = 0.02):
        self.weight = Parameter((scale * rng.standard_normal((max_length, d_model))).astype(np.float32))   # (T_max, D)

    def forward(self, x: Array, offset: int = 0) -> tuple[Array, Any]:
        """x (..., T, D) -> out (..., T, D); the first vector stands at place `offset`, and offset + T is at most max_length."""
        return self.ops.learned_positions_forward(x, self.weight.value, offset)

    def backward(self, d_out: Array, cache: Any) -> Array:
        d_x, d_weight = self.ops.learned_positions_backward(d_out, cache)
        self.weight.grad += d_weight
        return d_x
