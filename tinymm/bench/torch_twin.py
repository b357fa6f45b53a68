"""The text-image model once more, in PyTorch: what `tinymm bench step` races against.

It is written as one would write it there for speed: one projection makes queries, keys and values together, attention
is `scaled_dot_product_attention`, AdamW is the fused one. The weights are copied from a tinymm model, so that both must
find the same loss and the same gradients.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from tinymm.data.batches import IGNORE, Batch
from tinymm.models.text_image import TextImageModel
from tinymm.training.text_image import TextImageTask


class TorchEncoder(nn.Module):
    def __init__(self, model: TextImageModel):
        super().__init__()
        layers: list[nn.Module] = []
        for block in model.encoder.blocks:
            kh, kw, c_in, c_out = block.conv.weight.shape
            conv = nn.Conv2d(c_in, c_out, (kh, kw), block.conv.stride, block.conv.padding, bias=False)
            norm = nn.BatchNorm2d(c_out, eps=block.norm.eps, momentum=block.norm.momentum)
            put(conv.weight, block.conv.weight.value.transpose(3, 2, 0, 1))
            put(norm.weight, block.norm.gain.value)
            put(norm.bias, block.norm.bias.value)
            layers += [conv, norm, nn.ReLU(inplace=True)]
        self.blocks = nn.Sequential(*layers)
        self.project = linear(model.encoder.project)
        self.positions = nn.Parameter(torch.from_numpy(model.encoder.positions.weight.value.copy()))
        self.norm = layer_norm(model.encoder.norm)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = self.blocks(images).flatten(2).transpose(1, 2)                    # (B, N, C)
        return self.norm(self.project(x) + self.positions)                    # (B, N, D)


class TorchJointAttention(nn.Module):
    def __init__(self, attention: Any):
        super().__init__()
        self.n_heads = attention.n_heads
        self.text = linear(attention.query, attention.key, attention.value)
        self.image = linear(attention.image_key, attention.image_value)
        self.output = linear(attention.output)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, index: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        def heads(y: torch.Tensor) -> torch.Tensor:
            return y.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)        # (R, H, T, K)
        q, k, v = (heads(y) for y in self.text(x).chunk(3, -1))
        k_image, v_image = (heads(y) for y in self.image(memory).index_select(0, index).chunk(2, -1))
        out = F.scaled_dot_product_attention(q, torch.cat([k_image, k], 2), torch.cat([v_image, v], 2), attn_mask=mask)
        return self.output(out.transpose(1, 2).flatten(2))                    # (R, T, D)


class TorchBlock(nn.Module):
    def __init__(self, block: Any):
        super().__init__()
        self.norm, self.attention = layer_norm(block.attention.norm), TorchJointAttention(block.attention.sublayer)
        self.wide_norm = layer_norm(block.feed_forward.norm)
        self.wide, self.narrow = linear(block.feed_forward.sublayer.wide), linear(block.feed_forward.sublayer.narrow)

    def forward(self, x: torch.Tensor, memory: torch.Tensor, index: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = x + self.attention(self.norm(x), memory, index, mask)
        return x + self.narrow(F.gelu(self.wide(self.wide_norm(x))))


class TorchModel(nn.Module):
    """The default model: joint attention, pre-norm, no dropout."""

    def __init__(self, model: TextImageModel):
        super().__init__()
        self.encoder = TorchEncoder(model)
        self.words = nn.Parameter(torch.from_numpy(model.words.weight.value.copy()))
        self.positions = nn.Parameter(torch.from_numpy(model.positions.weight.value.copy()))
        self.blocks = nn.ModuleList(TorchBlock(block) for block in model.blocks)
        self.norm, self.head_bias = layer_norm(model.norm), nn.Parameter(torch.from_numpy(model.head_bias.value.copy()))

    def forward(self, images: torch.Tensor, ids: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
        memory, length = self.encoder(images), ids.shape[1]                   # (B, N, D)
        x = F.embedding(ids, self.words) + self.positions[:length]            # (R, T, D)
        mask = torch.ones(length, memory.shape[1] + length, dtype=torch.bool).tril(memory.shape[1])    # (T, N + T)
        for block in self.blocks:
            x = block(x, memory, index, mask)
        return F.linear(self.norm(x), self.words, self.head_bias)             # (R, T, V)


class TorchStep:
    """The training step of `TextImageTask` and `tinymm.training.loop`, with PyTorch's means."""

    def __init__(self, task: TextImageTask, batch: Batch, channels_last: bool):
        self.model = TorchModel(task.model)
        self.layout = torch.channels_last if channels_last else torch.contiguous_format
        self.model.to(memory_format=self.layout)
        training, parameters = task.recipe.training, list(self.model.parameters())
        kernel_decay = training.weight_decay if training.kernel_decay is None else training.kernel_decay
        groups = [{"params": [p for p in parameters if p.ndim == 4], "weight_decay": kernel_decay},
                  {"params": [p for p in parameters if p.ndim in (2, 3)], "weight_decay": training.weight_decay},
                  {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, betas=(training.beta1, training.beta2), fused=True)
        self.clip = training.clip
        self.images, self.ids, self.labels, self.index = (
            torch.from_numpy(a) for a in (batch.images, batch.ids, batch.labels, batch.image_index))
        self.parts = task.parts(batch)

    def loss(self) -> tuple[torch.Tensor, torch.Tensor]:
        images = (self.images.permute(0, 3, 1, 2).float() / 127.5 - 1).contiguous(memory_format=self.layout)
        logits = self.model(images, self.ids, self.index)
        total = sum(weight * F.cross_entropy(logits[rows].flatten(0, 1), self.labels[rows].flatten(), ignore_index=IGNORE)
                    for _, rows, weight in self.parts)
        return total, logits

    def gradients(self) -> float:
        """Forward and backward; returns the loss."""
        self.optimizer.zero_grad()
        loss, logits = self.loss()
        loss.backward()
        counted = self.labels != IGNORE
        (logits.detach().argmax(-1) == self.labels)[counted].float().mean().item()    # tinymm's step reports it too
        return loss.item()

    def __call__(self, learning_rate: float) -> None:
        self.gradients()
        nn.utils.clip_grad_norm_(self.model.parameters(), self.clip, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate
        self.optimizer.step()

    def gradient_norm(self) -> float:
        return float(np.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in self.model.parameters())))


def linear(*layers: Any) -> nn.Linear:
    """One layer that does the work of several on the same input, side by side."""
    d_in, widths = layers[0].weight.shape[0], [layer.weight.shape[1] for layer in layers]
    result = nn.Linear(d_in, sum(widths))
    put(result.weight, np.concatenate([layer.weight.value for layer in layers], axis=1).T)
    put(result.bias, np.concatenate([layer.bias.value for layer in layers]))
    return result


def layer_norm(layer: Any) -> nn.LayerNorm:
    result = nn.LayerNorm(len(layer.gain.value), eps=layer.eps)
    put(result.weight, layer.gain.value)
    put(result.bias, layer.bias.value)
    return result


def put(parameter: nn.Parameter, value: np.ndarray) -> None:
    with torch.no_grad():
        parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))


def competitors(task: TextImageTask, batch: Batch) -> Iterator[tuple[str, TorchStep]]:
    for channels_last in (False, True):
        yield "PyTorch eager" + (", channels_last" if channels_last else ""), TorchStep(task, batch, channels_last)
