"""An example for every pair of `tinymm.functional`."""

from typing import Any

import numpy as np

from tinymm.functional import attention_mask
from tinymm.gradcheck.examples import (
    LEFT_PADDED, REPEATED_IDS, RIGHT_PADDED, SOME_IGNORED, Generator, PairExample, PairExamples, n, pair,
)


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



def unit_vectors(rng: Generator, *shape: int) -> np.ndarray:
    x = n(rng, *shape)
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def lstm_weights(rng: Generator) -> dict[str, np.ndarray]:
    """E 3, D 4."""
    return {"weight_x": n(rng, 3, 16), "weight_h": n(rng, 4, 16), "bias": n(rng, 16)}


PAIRS: PairExamples = {
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
    "swiglu": {"": lambda rng: pair(gate=1.5 * n(rng, 3, 4, 5), value=n(rng, 3, 4, 5))},
    "binary_cross_entropy": {
        "": lambda rng: pair(logits=2 * n(rng, 3, 4), targets=rng.integers(2, size=(3, 4))),
        "soft targets": lambda rng: pair(logits=n(rng, 5), targets=rng.random(5), constants=("targets",)),
    },
    "lstm_cell": {"": lambda rng: pair(x=n(rng, 2, 3), h=n(rng, 2, 4), c=n(rng, 2, 4), **lstm_weights(rng))},
    "lstm": {
        "initial state": lambda rng: pair(x=n(rng, 2, 5, 3), **lstm_weights(rng), h0=n(rng, 2, 4), c0=n(rng, 2, 4)),
        "": lambda rng: pair(x=n(rng, 2, 5, 3), **lstm_weights(rng)),
        "padding": lambda rng: pair(x=n(rng, 2, 5, 3), **lstm_weights(rng), mask=np.arange(5) < np.array([[5], [2]]),
                                    h0=n(rng, 2, 4), c0=n(rng, 2, 4)),
    },
    "l2_normalize": {
        "": lambda rng: pair(x=n(rng, 2, 3, 5)),
        "short vectors": lambda rng: pair(x=n(rng, 3, 5) * np.array([[1], [1e-3], [1]]), eps=0.1),
    },
    "span_cross_entropy": {"": lambda rng: pair(logits=n(rng, 3, 7, 2), spans=np.array([[3, 5], [0, 0], [2, 6]]),
                                                allowed=np.arange(7) != np.array([[6], [4], [1]]))},
    "info_nce": {"": lambda rng: pair(a=unit_vectors(rng, 4, 5), b=unit_vectors(rng, 4, 5), log_scale=np.array(1.3))},
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
    "rms_norm": {"": lambda rng: pair(x=1 + n(rng, 2, 3, 6), gain=n(rng, 6))},
    "batch_norm": {
        "training": lambda rng: batch_norm(rng, training=True),
        "evaluation": lambda rng: batch_norm(rng, training=False),
    },
    "embedding": {"": lambda rng: pair(ids=REPEATED_IDS, weight=n(rng, 7, 4))},
    "learned_positions": {
        "": lambda rng: pair(x=n(rng, 2, 3, 5), weight=n(rng, 6, 5)),
        "offset": lambda rng: pair(x=n(rng, 2, 3, 5), weight=n(rng, 6, 5), offset=2),
    },
    "rotary": {
        "": lambda rng: pair(x=n(rng, 2, 3, 5, 4)),
        "offset": lambda rng: pair(x=n(rng, 3, 5, 6), offset=7),
    },
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
