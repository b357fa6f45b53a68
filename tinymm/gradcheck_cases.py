"""The example inputs with which `tinymm gradcheck` checks every pair, layer and model of the project.

What needs an example is discovered, not listed: each NAME_forward in `tinymm.functional`, each Module that
`tinymm.layers` exports, each model in `tinymm.models.MODELS`. One without an example is reported as a failure. A pair
that has a NAME_backward_steps is checked a second time with it.

An example is a function of a Generator; a name may have several, by variant. Within an example all sizes differ (B, T,
S, H, K, D ...), so that a transposed or wrongly summed gradient cannot fit by chance. Arrays are normal with mean 0 and
standard deviation 1, gains and biases too, so that gradients are of order 1 and nothing hides behind a 0 or a 1.
"""

import inspect
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from tinymm import functional, layers, models
from tinymm.functional import attention_mask
from tinymm.gradcheck import GradientReport, gradient_check, gradient_check_module
from tinymm.gradcheck_report import header
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


# ------------------------------------------------------------------------------------ pairs


def qkv(rng: Generator, length: int, key_length: int, **options: Any) -> PairExample:
    """Queries, keys and values with B 2, H 3, K 5, V 6."""
    q, k, v = n(rng, 2, 3, length, 5), n(rng, 2, 3, key_length, 5), n(rng, 2, 3, key_length, 6)
    return pair(q=q, k=k, v=v, max_entries=24, **options)


def partly_masked(rng: Generator) -> np.ndarray:
    """(B, 1, T, S) = (2, 1, 4, 7): random, and two queries may see nothing."""
    mask = rng.random((2, 1, 4, 7)) < 0.5
    mask[0, 0, 2] = mask[1, 0, 0] = False
    return mask


def batch_norm(rng: Generator, training: bool) -> PairExample:
    running = {"running_mean": n(rng, 5), "running_variance": rng.uniform(0.5, 2, size=5)}
    inputs = {"x": 2 + n(rng, 2, 3, 4, 5), "gain": n(rng, 5), "bias": n(rng, 5)} | running
    return pair(**inputs, training=training, constants=tuple(running))


def conv2d(rng: Generator, image: tuple[int, int], kernel: tuple[int, int], bias: bool, **options: int) -> PairExample:
    """B 2, C_in 3, C_out 4."""
    return pair(x=n(rng, 2, *image, 3), weight=n(rng, *kernel, 3, 4), bias=n(rng, 4) if bias else None, **options)


RIGHT_PADDED = np.arange(7) < np.array([[5], [7]])      # (B, S)  True where the key is a real token
LEFT_PADDED = np.arange(4) >= np.array([[1], [0]])      # (B, S)  with a causal mask, query 0 of text 0 sees nothing
REPEATED_IDS = np.array([[1, 4, 4, 0, 1], [6, 1, 2, 2, 2], [0, 3, 6, 5, 4]])
SOME_IGNORED = np.array([[4, -100, 0, 2], [-100, 1, 1, -100]])

PAIRS: dict[str, dict[str, Callable[[Generator], PairExample]]] = {
    "linear": {
        "": lambda rng: pair(x=n(rng, 2, 3, 5), weight=n(rng, 5, 4), bias=n(rng, 4)),
        "no bias": lambda rng: pair(x=n(rng, 3, 5), weight=n(rng, 5, 4), bias=None),
    },
    "relu": {"": lambda rng: pair(x=n(rng, 3, 4, 5))},
    "sigmoid": {"": lambda rng: pair(x=2 * n(rng, 3, 4, 5))},
    "tanh": {"": lambda rng: pair(x=n(rng, 3, 4, 5))},
    "gelu": {
        "exact": lambda rng: pair(x=1.5 * n(rng, 3, 4, 5)),
        "tanh form": lambda rng: pair(x=1.5 * n(rng, 3, 4, 5), approximate=True),
    },
    "softmax": {
        "": lambda rng: pair(x=n(rng, 3, 4, 5)),
        "axis 1": lambda rng: pair(x=n(rng, 3, 4, 5), axis=1),
    },
    "log_softmax": {
        "": lambda rng: pair(x=n(rng, 3, 4, 5)),
        "axis 1": lambda rng: pair(x=n(rng, 3, 4, 5), axis=1),
    },
    "attention": {
        "cross": lambda rng: qkv(rng, 4, 7),
        "causal": lambda rng: qkv(rng, 4, 4, causal=True),
        "causal, T < S": lambda rng: qkv(rng, 4, 7, causal=True),
        "causal, T > S": lambda rng: qkv(rng, 7, 4, causal=True),       # the first 3 queries see nothing
        "padding": lambda rng: qkv(rng, 4, 7, mask=attention_mask(4, 7, padding=RIGHT_PADDED)),
        "causal and padding": lambda rng: qkv(rng, 4, 4, mask=attention_mask(4, 4, padding=LEFT_PADDED), causal=True),
        "prefix": lambda rng: qkv(rng, 6, 6, mask=attention_mask(6, 6, causal=True, prefix=2)),
        "fully masked rows": lambda rng: qkv(rng, 4, 7, mask=partly_masked(rng)),
        "no leading axes": lambda rng: pair(q=n(rng, 4, 5), k=n(rng, 7, 5), v=n(rng, 7, 6)),
    },
    "layer_norm": {"": lambda rng: pair(x=n(rng, 2, 3, 6), gain=n(rng, 6), bias=n(rng, 6))},
    "batch_norm": {
        "training": lambda rng: batch_norm(rng, training=True),
        "evaluation": lambda rng: batch_norm(rng, training=False),
    },
    "embedding": {"": lambda rng: pair(ids=REPEATED_IDS, weight=n(rng, 7, 4))},
    "learned_positions": {"": lambda rng: pair(x=n(rng, 2, 3, 5), weight=n(rng, 6, 5))},
    "dropout": {
        "training": lambda rng: pair(x=n(rng, 3, 4, 5), rate=0.4, rng=rng.spawn(1)[0], training=True),
        "evaluation": lambda rng: pair(x=n(rng, 3, 4, 5), rate=0.4, rng=None, training=False),
    },
    "conv2d": {
        "": lambda rng: conv2d(rng, (5, 6), (3, 2), bias=True),
        "stride 2, padding 1, no bias": lambda rng: conv2d(rng, (6, 5), (3, 2), bias=False, stride=2, padding=1),
        "stride 3, padding 2": lambda rng: conv2d(rng, (7, 5), (2, 3), bias=True, stride=3, padding=2),
    },
    "max_pool2d": {
        "": lambda rng: pair(x=n(rng, 2, 5, 6, 3)),
        "overlapping": lambda rng: pair(x=n(rng, 2, 6, 5, 3), size=3, stride=2),
    },
    "avg_pool2d": {
        "": lambda rng: pair(x=n(rng, 2, 5, 6, 3)),
        "overlapping": lambda rng: pair(x=n(rng, 2, 6, 5, 3), size=3, stride=2),
    },
    "cross_entropy": {
        "": lambda rng: pair(logits=n(rng, 2, 3, 5), labels=rng.integers(5, size=(2, 3))),
        "ignored labels, smoothing": lambda rng: pair(logits=n(rng, 2, 4, 5), labels=SOME_IGNORED, label_smoothing=0.1),
    },
}
PAIRS["conv2d_reference"] = PAIRS["conv2d"]

# ------------------------------------------------------------------------------------ layers

SHARED = np.array([1, 0, 1])     # three texts about two images


def text_and_memory(rng: Generator, tokens: int, width: int) -> dict[str, Any]:
    """R 3, T 4, D 6, and a memory (2, tokens, width)."""
    return {"x": n(rng, 3, 4, 6), "memory": n(rng, 2, tokens, width), "memory_index": SHARED}


def dropout(rng: Generator) -> dict[str, Any]:
    return {"training": True, "rng": rng.spawn(1)[0]}


def block(rng: Generator, **options: Any) -> Module:
    return layers.TransformerBlock(6, 3, 8, rng, **options)


def image_encoder(rng: Generator) -> Module:
    return layers.ImageEncoder(9, (4, 5), (2, 2), 6, rng)


LAYERS: dict[str, dict[str, Callable[[Generator], ModuleExample]]] = {
    "Linear": {
        "": lambda rng: module(layers.Linear(5, 4, rng), rng, x=n(rng, 2, 3, 5)),
        "no bias": lambda rng: module(layers.Linear(5, 4, rng, bias=False), rng, x=n(rng, 3, 5)),
    },
    "Embedding": {"": lambda rng: module(layers.Embedding(7, 4, rng), rng, ids=REPEATED_IDS)},
    "LearnedPositions": {"": lambda rng: module(layers.LearnedPositions(6, 5, rng), rng, x=n(rng, 2, 3, 5))},
    "LayerNorm": {"": lambda rng: module(layers.LayerNorm(6), rng, x=n(rng, 2, 3, 6))},
    "BatchNorm": {
        "training": lambda rng: module(layers.BatchNorm(5), rng, x=n(rng, 2, 3, 4, 5), training=True),
        "evaluation": lambda rng: module(layers.BatchNorm(5), rng, x=n(rng, 2, 3, 4, 5)),
    },
    "Conv2d": {"": lambda rng: module(layers.Conv2d(3, 4, rng, stride=2), rng, x=n(rng, 2, 6, 5, 3))},
    "ConvBlock": {
        "training": lambda rng: module(layers.ConvBlock(3, 4, rng, stride=2), rng, x=n(rng, 2, 6, 5, 3), training=True),
        "evaluation": lambda rng: module(layers.ConvBlock(3, 4, rng), rng, x=n(rng, 2, 6, 5, 3)),
    },
    "MaxPool2d": {"": lambda rng: module(layers.MaxPool2d(2), rng, x=n(rng, 2, 5, 6, 3))},
    "AvgPool2d": {"": lambda rng: module(layers.AvgPool2d(2), rng, x=n(rng, 2, 5, 6, 3))},
    "MultiHeadAttention": {
        "self, causal": lambda rng: module(layers.MultiHeadAttention(6, 3, rng), rng, x=n(rng, 2, 4, 6), causal=True),
        "cross, padding": lambda rng: module(
            layers.MultiHeadAttention(6, 3, rng, d_memory=5), rng, x=n(rng, 2, 4, 6), memory=n(rng, 2, 7, 5),
            mask=attention_mask(4, 7, padding=RIGHT_PADDED)),
        "cross, shared memory": lambda rng: module(
            layers.MultiHeadAttention(6, 3, rng, d_memory=5), rng, **text_and_memory(rng, 7, 5), causal=True),
    },
    "JointAttention": {
        "": lambda rng: module(layers.JointAttention(6, 3, rng, 5), rng, **text_and_memory(rng, 7, 5), causal=True),
    },
    "FeedForward": {
        "gelu": lambda rng: module(layers.FeedForward(4, 7, rng), rng, x=n(rng, 2, 3, 4)),
        "relu": lambda rng: module(layers.FeedForward(4, 7, rng, activation="relu"), rng, x=n(rng, 2, 3, 4)),
    },
    "Residual": {
        "pre-norm, dropout": lambda rng: module(
            layers.Residual(layers.Linear(4, 4, rng), 4, "pre", 0.3), rng, x=n(rng, 2, 3, 4), **dropout(rng)),
        "post-norm": lambda rng: module(layers.Residual(layers.Linear(4, 4, rng), 4, "post"), rng, x=n(rng, 2, 3, 4)),
    },
    "TransformerBlock": {
        "pre-norm, causal": lambda rng: module(block(rng), rng, x=n(rng, 2, 4, 6), causal=True),
        "post-norm, padding": lambda rng: module(
            block(rng, norm="post"), rng, x=n(rng, 2, 4, 6), mask=attention_mask(4, 4, padding=LEFT_PADDED)),
        "cross, dropout": lambda rng: module(
            block(rng, fusion="cross", dropout=0.2), rng, **text_and_memory(rng, 5, 6), causal=True, **dropout(rng)),
        "joint": lambda rng: module(block(rng, fusion="joint"), rng, **text_and_memory(rng, 5, 6), causal=True),
    },
    "ImageEncoder": {
        "training": lambda rng: module(image_encoder(rng), rng, images=n(rng, 2, 9, 9, 3), training=True),
        "evaluation": lambda rng: module(image_encoder(rng), rng, images=n(rng, 2, 9, 9, 3)),
    },
}

# ------------------------------------------------------------------------------------ models


def text_image(rng: Generator, **options: Any) -> ModuleExample:
    config = models.TextImageConfig(vocabulary_size=11, image_size=9, channels=(4, 5), strides=(2, 2), d_model=6,
                                    n_heads=3, d_ff=8, max_length=5, **options)
    return module(models.TextImageModel(config, rng), rng, images=n(rng, 2, 9, 9, 3), ids=rng.integers(11, size=(3, 4)),
                  image_index=SHARED, max_entries=2, **(dropout(rng) if config.dropout else {}))


MODELS: dict[str, dict[str, Callable[[Generator], ModuleExample]]] = {
    "text_image": {
        "concatenate": lambda rng: text_image(rng, fusion="concatenate", norm="pre", n_layers=2, dropout=0.2),
        "cross, post-norm": lambda rng: text_image(rng, fusion="cross", norm="post", n_layers=1, dropout=0.2),
        "joint": lambda rng: text_image(rng, fusion="joint", norm="pre", n_layers=2),
    },
}

# ------------------------------------------------------------------------------------ discovery and running


class Subject(NamedTuple):
    kind: str    # "pair", "layer" or "model"
    name: str


def discover() -> list[Subject]:
    """Everything the project has that must have a gradient check: pairs, then layers, then models."""
    pairs = sorted(name.removesuffix("_forward") for name in vars(functional) if name.endswith("_forward"))
    classes = sorted(name for name, value in vars(layers).items()
                     if inspect.isclass(value) and issubclass(value, Module) and value is not Module)
    found = {"pair": pairs, "layer": classes, "model": models.MODELS}
    return [Subject(kind, name) for kind, names in found.items() for name in names]


def examples(kind: str, name: str) -> dict[str, Callable[[Generator], PairExample | ModuleExample]]:
    """The examples for a pair, layer or model, by variant; none if nobody has written one."""
    return {"pair": PAIRS, "layer": LAYERS, "model": MODELS}[kind].get(name, {})


def run(kind: str, name: str, rng: Generator) -> list[GradientReport]:
    """Check one pair, layer or model on each of its examples. Without an example the report is a failure."""
    reports = []
    for variant, make in examples(kind, name).items():
        title = f"{name} ({variant})" if variant else name
        example = make(rng)
        if kind != "pair":
            reports.append(gradient_check_module(example.module, example.inputs, rng=rng, name=title,
                                                 max_entries=example.max_entries))
            continue
        forward = getattr(functional, f"{name}_forward")
        backward = getattr(functional, f"{name}_backward", None)
        backward_steps = getattr(functional, f"{name}_backward_steps", None)
        if backward is None:
            reports.append(GradientReport(title, problems=[f"there is no {name}_backward beside {name}_forward"]))
            continue
        options = {"rng": rng, "constants": example.constants, "max_entries": example.max_entries}
        reports.append(gradient_check(forward, backward, example.inputs, name=title, **options))
        if backward_steps is not None:
            steps = f"{title}, step by step"
            reports.append(gradient_check(forward, backward_steps, example.inputs, name=steps, **options))
    missing = f"no example: add one for the {kind} {name} to tinymm/gradcheck_cases.py"
    return reports or [GradientReport(name, problems=[missing])]


def run_all(rng: Generator, only: Iterable[str] | None = None) -> list[GradientReport]:
    """Check everything that `discover` finds, or only the given names.

    Raises:
        ValueError: a name in `only` is no pair, layer or model of the project.
    """
    return [report for kind, name in _chosen(only) for report in run(kind, name, rng)]


def main(names: Sequence[str] = (), seed: int = 0) -> int:
    """Print the table of `tinymm gradcheck [NAME ...]`; returns 0 when everything passes, 1 when not.

    Raises:
        ValueError: as `run_all`.
    """
    started, shown = time.perf_counter(), None
    rng = np.random.default_rng(seed)
    chosen = _chosen(names or None)
    reports = []
    for kind, name in chosen:
        if kind != shown:
            print(header(*_WIDTHS[kind]))
            shown = kind
        for report in run(kind, name, rng):
            print("\n".join(report.lines(*_WIDTHS[kind])), flush=True)
            reports.append(report)
    rows = [(report, row) for report in reports for row in report.rows]
    skipped, failed = sum(row.skipped for _, row in rows), [report.name for report in reports if not report.ok]
    print(f"\n{len(reports)} checks, {len(rows)} arrays, {sum(row.checked for _, row in rows)} entries"
          f"{f' ({skipped} more lie at kinks)' if skipped else ''}, {time.perf_counter() - started:.1f} s")
    if rows:
        report, row = max(rows, key=lambda item: item[1].error)
        print(f"largest relative error {row.error:.1e}, in {report.name}, {row.name}")
    print(f"{len(failed)} FAILED: {'; '.join(failed)}" if failed else "all pass")
    return 1 if failed else 0


_WIDTHS = {"pair": (8, 7), "layer": (38, 7), "model": (47, 7)}     # of names and shapes in the table of `main`


def _chosen(only: Iterable[str] | None) -> list[Subject]:
    found = discover()
    if only is None:
        return found
    wanted, known = list(only), [subject.name for subject in found]
    unknown = [name for name in wanted if name not in known]
    if unknown:
        raise ValueError(f"there is no pair, layer or model called {unknown[0]!r}; there are {', '.join(known)}")
    return [subject for subject in found if subject.name in wanted]
