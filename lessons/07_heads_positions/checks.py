"""What `tinymm check 7` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def heads(rng):
    weights = {name: rng.normal(size=(6, 6)) / 2 for name in ("W_q", "W_k", "W_v", "W_o")}
    return {"x": rng.normal(size=(2, 4, 6))} | weights | {"n_heads": int(rng.choice([2, 3]))}


def lengths(rng):
    return {"T": int(rng.integers(4, 9)), "D": 2 * int(rng.integers(5, 9))}


FACTS = {
    "q": "x W_q, cut into heads: (B, H, T, K)",
    "k": "x W_k, cut into heads: (B, H, T, K)",
    "v": "x W_v, cut into heads: (B, H, T, K)",
    "mixed": "attention of q, k and v, each head on its own",
    "out": "merged W_o",
    "merged": "the heads of a word side by side again: (B, T, D)",
    "d_W_o": "out = merged W_o: merged^T d_out, summed over all words of all texts",
    "d_merged": "out = merged W_o: d_out W_o^T",
    "d_mixed": "the backward of merge_heads is split_heads",
    "d_q": "the first result of attention_backward, merged",
    "d_k": "the second result of attention_backward, merged",
    "d_v": "the third result of attention_backward, merged",
    "d_W_q": "x^T d_q, summed over all words of all texts",
    "d_W_k": "x^T d_k, summed over all words of all texts",
    "d_W_v": "x^T d_v, summed over all words of all texts",
    "d_x": "x was used three times, so it is a sum of three: d_q W_q^T + d_k W_k^T + d_v W_v^T",
    "angle": "t / 10000^(2i/D): one row a position t, from 0, one column a pair of entries i, from 0",
    "positions": "sin in the even columns, cos in the odd ones",
    "even": "the entries 0, 2, 4 ...",
    "odd": "the entries 1, 3, 5 ...",
}

EXERCISES = [
    Exercise(
        1, "split_heads", "one row, many heads", lambda rng: {"x": rng.normal(size=(2, 3, 8)), "n_heads": int(rng.choice([2, 4]))},
        hints=("First reshape to (B, T, H, K): the last axis is cut.", "Then transpose(0, 2, 1, 3)."),
        mistakes={"a reshape straight to (B, H, T, K) mixes the words: reshape to (B, T, H, K), then transpose":
                  lambda x, n_heads: x.reshape(len(x), n_heads, x.shape[1], -1),
                  "the heads must stand in front of the words: a transpose is missing":
                  lambda x, n_heads: x.reshape(*x.shape[:2], n_heads, -1),
                  "a head has K entries that stand side by side: reshape to (B, T, H, K), not to (B, T, K, H)":
                  lambda x, n_heads: x.reshape(*x.shape[:2], -1, n_heads).transpose(0, 3, 1, 2)},
    ),
    Exercise(
        2, "merge_heads", "and back", lambda rng: {"x": rng.normal(size=(2, 3, 4, 5))},
        hints=("Undo split_heads, its last step first.", "transpose(0, 2, 1, 3), then reshape."),
        mistakes={"the transpose comes before the reshape, else words and heads are mixed":
                  lambda x: x.reshape(x.shape[0], x.shape[2], -1),
                  "the K entries of a head stay side by side: transpose to (B, T, H, K), not to (B, T, K, H)":
                  lambda x: x.transpose(0, 2, 3, 1).reshape(x.shape[0], x.shape[2], -1)},
    ),
    Exercise(
        3, "multi_head_forward", "attention with several heads", heads,
        hints=("q = split_heads(x @ W_q, n_heads), and likewise k and v.",
               "mixed, attention = attention_forward(q, k, v); merged = merge_heads(mixed); out = merged @ W_o."), facts=FACTS,
    ),
    Exercise(
        4, "multi_head_backward", "its gradients", heads, forward="multi_head_forward",
        differentiable=("x", "W_q", "W_k", "W_v", "W_o"),
        hints=("From the last line to the first. split_heads and merge_heads are each other's backward.",
               "A weight's gradient: inputs as rows, transposed, times the outputs' gradients as rows.",
               "d_x = d_q @ W_q.T + d_k @ W_k.T + d_v @ W_v.T"), facts=FACTS,
        tolerance=1e-6,
    ),
    Exercise(
        5, "sinusoidal_positions", "waves of many lengths", lengths,
        hints=("np.arange(0, D, 2) / D are the exponents 2i/D.", "positions[:, 0::2] = np.sin(angle)"), facts=FACTS,
        mistakes={"sines in the first half and cosines in the second; they must alternate": lambda T, D:
                  np.concatenate([f(np.arange(T)[:, None] / 10000 ** (np.arange(0, D, 2) / D)) for f in (np.sin, np.cos)], axis=1),
                  "the exponent is 2i/D, where i counts the pairs": lambda T, D: _waves(T, D, np.arange(D // 2) / D),
                  "the sine stands in the even columns, the cosine in the odd ones": lambda T, D:
                  _waves(T, D, np.arange(0, D, 2) / D).reshape(T, -1, 2)[..., ::-1].reshape(T, D),
                  "the positions count from 0, not from 1": lambda T, D: _waves(T + 1, D, np.arange(0, D, 2) / D)[1:]},
    ),
    Exercise(
        6, "rotary_backward", "turn back", lambda rng: {"x": rng.normal(size=(2, 5, 6))}, forward="rotary_forward",
        differentiable=("x",),
        hints=("The backward of a rotation is the rotation by the opposite angle.",
               "even * cos + odd * sin, and odd * cos - even * sin."),
        facts=FACTS | {"angle": "t 10000^(-2i/K): one row a position t, from 0, one column a pair of entries i, from 0",
                       "even": "the entries 0, 2, 4 ... of d_out", "odd": "the entries 1, 3, 5 ... of d_out",
                       "d_x": "even * cos + odd * sin in the even places, odd * cos - even * sin in the odd ones"},
        mistakes={"this turns on by the same angle, instead of back": lambda d_out, cache: _rotate(d_out),
                  "a pair is made of the entries 2i and 2i + 1, not of i and i + K/2": lambda d_out, cache: _halves_turned_back(d_out),
                  "even and odd are views of the array that you write to: the second line reads what the first has written":
                  lambda d_out, cache: _overwritten(d_out)},
    ),
]


def _waves(T, D, exponents):
    angle = np.arange(T)[:, None] / 10000 ** exponents
    positions = np.zeros((T, D))
    positions[:, 0::2], positions[:, 1::2] = np.sin(angle), np.cos(angle)
    return positions


def _rotate(x):
    T, K = x.shape[-2:]
    angle = np.arange(T)[:, None] * 10000 ** (-np.arange(0, K, 2) / K)
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * np.cos(angle) - x[..., 1::2] * np.sin(angle)
    out[..., 1::2] = x[..., 0::2] * np.sin(angle) + x[..., 1::2] * np.cos(angle)
    return out


def _halves_turned_back(d_out):
    T, K = d_out.shape[-2:]
    angle = np.arange(T)[:, None] * 10000 ** (-np.arange(0, K, 2) / K)
    first, second = d_out[..., :K // 2], d_out[..., K // 2:]
    return np.concatenate([first * np.cos(angle) + second * np.sin(angle), second * np.cos(angle) - first * np.sin(angle)], axis=-1)


def _overwritten(d_out):
    T, K = d_out.shape[-2:]
    angle = np.arange(T)[:, None] * 10000 ** (-np.arange(0, K, 2) / K)
    out = d_out.copy()
    out[..., 0::2] = out[..., 0::2] * np.cos(angle) + out[..., 1::2] * np.sin(angle)
    out[..., 1::2] = out[..., 1::2] * np.cos(angle) - out[..., 0::2] * np.sin(angle)
    return out
