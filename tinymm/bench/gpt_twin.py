"""GPT once more, in PyTorch, trained as `tinymm train gpt` trains it: what `tinymm bench gpt` compares with.

The weights are copied from a tinymm model, the batches are tinymm's. Gradients come from autograd and the update from
torch.optim.AdamW, so nothing of tinymm's mathematics is used. Only the random numbers of dropout differ.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tinymm.models.gpt import GPTModel
from tinymm.training.gpt import GPTTask, guess_next_tokens


class TorchAttention(nn.Module):
    def __init__(self, attention: Any):
        super().__init__()
        self.n_heads, self.rotary = attention.n_heads, attention.rotary
        self.project = linear(attention.query, attention.key, attention.value)
        self.output = linear(attention.output)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (y.unflatten(-1, (self.n_heads, -1)).transpose(1, 2) for y in self.project(x).chunk(3, -1))    # (B, H, T, K)
        if self.rotary:
            q, k = turn(q), turn(k)
        return self.output(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))   # (B, T, D)


def turn(x: torch.Tensor) -> torch.Tensor:
    """Rotary positions as a product of complex numbers: each pair of neighbours (a, b) is a + b i. x (B, H, T, K)."""
    length, width = x.shape[-2:]
    speed = 10000.0 ** (-torch.arange(0, width, 2, dtype=torch.float64) / width)               # (K / 2,)
    angle = torch.outer(torch.arange(length, dtype=torch.float64), speed)                      # (T, K / 2)
    turn_by = torch.polar(torch.ones_like(angle), angle).to(x.dtype.to_complex())              # (T, K / 2)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2)).contiguous()) * turn_by            # (B, H, T, K / 2)
    return torch.view_as_real(turned).flatten(-2)                                              # (B, H, T, K)


class TorchFeedForward(nn.Module):
    def __init__(self, layer: Any):
        super().__init__()
        self.gated = hasattr(layer, "gate")
        self.activation = None if self.gated else {"gelu": F.gelu, "relu": F.relu}[layer.activation]
        self.wide = linear(layer.gate, layer.value) if self.gated else linear(layer.wide)
        self.narrow = linear(layer.narrow)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.gated:
            gate, value = self.wide(x).chunk(2, -1)                            # (B, T, F)
            return self.narrow(F.silu(gate) * value)
        return self.narrow(self.activation(self.wide(x)))                      # (B, T, D)


class TorchBlock(nn.Module):
    def __init__(self, block: Any):
        super().__init__()
        self.norm, self.attention = norm(block.attention.norm), TorchAttention(block.attention.sublayer)
        self.wide_norm, self.feed_forward = norm(block.feed_forward.norm), TorchFeedForward(block.feed_forward.sublayer)
        self.dropout = nn.Dropout(block.attention.dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.dropout(self.attention(self.norm(x)))                     # (B, T, D)
        return x + self.dropout(self.feed_forward(self.wide_norm(x)))          # (B, T, D)


class TorchGPT(nn.Module):
    """Starts with the weights of a tinymm model, in their dtype."""

    def __init__(self, model: GPTModel):
        super().__init__()
        self.words = nn.Parameter(torch.from_numpy(model.words.weight.value.copy()))
        learned = model.config.positions == "learned"
        self.positions = nn.Parameter(torch.from_numpy(model.positions.weight.value.copy())) if learned else None
        self.dropout = nn.Dropout(model.config.dropout)
        self.blocks = nn.ModuleList(TorchBlock(block) for block in model.blocks)
        self.norm = norm(model.norm)
        self.head_bias = nn.Parameter(torch.from_numpy(model.head_bias.value.copy()))

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        x = F.embedding(ids, self.words)                                       # (B, T, D)
        if self.positions is not None:
            x = x + self.positions[:ids.shape[1]]                              # (B, T, D)
        x = self.dropout(x)
        for block in self.blocks:
            x = block(x)
        return F.linear(self.norm(x), self.words, self.head_bias)              # (B, T, V)


class TorchTraining:
    """The training of `tinymm.training.loop`, with PyTorch's means."""

    def __init__(self, task: GPTTask):
        self.task, self.model = task, TorchGPT(task.model)
        settings = task.recipe.training
        groups = [{"params": [p for p in self.model.parameters() if p.ndim >= 2], "weight_decay": settings.weight_decay},
                  {"params": [p for p in self.model.parameters() if p.ndim < 2], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(settings.beta1, settings.beta2), fused=True)

    def step(self, number: int) -> float:
        """One step of the training; returns the loss."""
        settings, batch = self.task.recipe.training, self.task.batch(number)
        self.model.train()
        self.optimizer.zero_grad()
        logits = self.model(torch.from_numpy(batch.ids))                                               # (B, T, V)
        loss = F.cross_entropy(logits.flatten(0, 1), torch.from_numpy(batch.labels).flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), settings.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = settings.rate(number)
        self.optimizer.step()
        return loss.item()

    def validation_loss(self) -> float:
        """Nats a token, over the same windows that tinymm reads."""
        self.model.eval()

        def forward(ids: np.ndarray) -> np.ndarray:
            with torch.no_grad():
                return self.model(torch.from_numpy(ids)).numpy()
        return guess_next_tokens(forward, self.task.validation_windows())[0]


def linear(*layers: Any) -> nn.Linear:
    """One layer that does the work of several on the same input, side by side."""
    weight = np.concatenate([layer.weight.value for layer in layers], axis=1).T                        # (D_out, D_in)
    has_bias = layers[0].bias is not None
    result = nn.Linear(weight.shape[1], weight.shape[0], bias=has_bias)
    result.weight = parameter(weight)
    if has_bias:
        result.bias = parameter(np.concatenate([layer.bias.value for layer in layers]))
    return result


def norm(layer: Any) -> nn.Module:
    """Layer norm, or RMS norm where there is no bias."""
    has_bias = hasattr(layer, "bias")
    result = (nn.LayerNorm if has_bias else nn.RMSNorm)(len(layer.gain.value), eps=layer.eps)
    result.weight = parameter(layer.gain.value)
    if has_bias:
        result.bias = parameter(layer.bias.value)
    return result


def parameter(value: np.ndarray) -> nn.Parameter:
    return nn.Parameter(torch.from_numpy(np.array(value, order="C")))
