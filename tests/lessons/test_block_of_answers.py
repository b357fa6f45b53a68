"""Whoever has done the exercises of chapters 1, 2, 6, 7 and 8 has written a whole Transformer block: here it is put together."""

import numpy as np

from tinymm import gradient_check
from tinymm.data.shipped import SOURCE_TREE
from tinymm.learning.chapters import chapters, import_file

ANSWERS = {chapter.number: import_file(chapter.path / "solutions.py")
           for chapter in chapters(SOURCE_TREE.parent / "lessons") if chapter.number in (1, 2, 6, 7, 8)}
gradients, softmax, attention, heads, block = (ANSWERS[number] for number in (1, 2, 6, 7, 8))


def forward(x, g1, s1, Wq, bq, Wk, bk, Wv, bv, Wo, bo, g2, s2, W1, b1, W2, b2, head, labels):
    """A causal pre-norm block with two heads, then a linear head and the cross-entropy."""
    T = x.shape[1]
    a, norm_1 = block.layer_norm_forward(x, g1, s1, 1e-5)
    projected = [gradients.linear_forward(a, W, b) for W, b in ((Wq, bq), (Wk, bk), (Wv, bv))]
    q, k, v = (heads.split_heads(out, 2) for out, _ in projected)
    mixed, attended = attention.attention_forward(q, k, v, attention.causal_mask(T))
    back, output = gradients.linear_forward(heads.merge_heads(mixed), Wo, bo)
    x = x + back
    c, norm_2 = block.layer_norm_forward(x, g2, s2, 1e-5)
    wide, narrow = block.feed_forward_forward(c, W1, b1, W2, b2)
    logits, last = gradients.linear_forward(x + wide, head, np.zeros(head.shape[1]))
    rows = logits.reshape(-1, logits.shape[-1])
    loss, surprise = softmax.cross_entropy_forward(rows, labels.reshape(-1))
    return loss, (norm_1, [cache for _, cache in projected], attended, output, norm_2, narrow, last, surprise, logits.shape)


def backward(d_loss, cache):
    norm_1, projected, attended, output, norm_2, narrow, last, surprise, shape = cache
    d_logits = softmax.cross_entropy_backward(d_loss, surprise).reshape(shape)
    d_x, d_head, _ = gradients.linear_backward(d_logits, last)
    d_c, d_W1, d_b1, d_W2, d_b2 = block.feed_forward_backward(d_x, narrow)
    d_branch, d_g2, d_s2 = block.layer_norm_backward(d_c, norm_2)
    d_x = d_x + d_branch
    d_merged, d_Wo, d_bo = gradients.linear_backward(d_x, output)
    d_heads = attention.attention_backward(heads.split_heads(d_merged, 2), attended)
    parts = [gradients.linear_backward(heads.merge_heads(d), cache) for d, cache in zip(d_heads, projected)]
    d_a = sum(part[0] for part in parts)
    d_branch, d_g1, d_s1 = block.layer_norm_backward(d_a, norm_1)
    (_, d_Wq, d_bq), (_, d_Wk, d_bk), (_, d_Wv, d_bv) = parts
    return (d_x + d_branch, d_g1, d_s1, d_Wq, d_bq, d_Wk, d_bk, d_Wv, d_bv, d_Wo, d_bo, d_g2, d_s2, d_W1, d_b1, d_W2, d_b2,
            d_head)


def test_the_answers_make_a_transformer_block_that_passes_the_gradient_check():
    rng = np.random.default_rng(0)
    D, F, V = 6, 8, 5
    inputs = {"x": rng.normal(size=(2, 3, D)), "g1": rng.normal(size=D), "s1": rng.normal(size=D)}
    for name in "qkvo":
        inputs |= {f"W{name}": rng.normal(size=(D, D)) / 2, f"b{name}": rng.normal(size=D)}
    inputs |= {"g2": rng.normal(size=D), "s2": rng.normal(size=D), "W1": rng.normal(size=(D, F)), "b1": rng.normal(size=F),
               "W2": rng.normal(size=(F, D)), "b2": rng.normal(size=D), "head": rng.normal(size=(D, V)),
               "labels": rng.integers(V, size=(2, 3))}
    report = gradient_check(forward, backward, inputs, rng=rng, constants=("labels",), max_entries=16)
    assert report.ok, str(report)


def forward_of_heads(x, g1, s1, Wq, Wk, Wv, Wo, g2, s2, weight):
    """The same with chapter 7's multi-head attention, and the residual connection of chapter 8 behind it."""
    a, norm = block.layer_norm_forward(x, g1, s1, 1e-5)
    mixed, several = heads.multi_head_forward(a, Wq, Wk, Wv, Wo, 2)
    out, arms = block.residual_forward(x + mixed, g2, s2, weight)
    return out, (norm, several, arms)


def backward_of_heads(d_out, cache):
    norm, several, arms = cache
    d_x, d_g2, d_s2, d_weight = block.residual_backward(d_out, arms)
    d_a, *d_weights = heads.multi_head_backward(d_x, several)
    d_branch, d_g1, d_s1 = block.layer_norm_backward(d_a, norm)
    return (d_x + d_branch, d_g1, d_s1, *d_weights, d_g2, d_s2, d_weight)


def test_several_heads_and_the_residual_connection_fit_in(monkeypatch):
    for name in ("attention_forward", "attention_backward"):                 # chapter 7 takes the library's: here chapter 6's answers
        monkeypatch.setattr(heads, name, getattr(attention, name))
    rng, D = np.random.default_rng(0), 6
    inputs = {"x": rng.normal(size=(2, 3, D)), "g1": rng.normal(size=D), "s1": rng.normal(size=D)}
    inputs |= {f"W{name}": rng.normal(size=(D, D)) / 2 for name in "qkvo"}
    inputs |= {"g2": rng.normal(size=D), "s2": rng.normal(size=D), "weight": rng.normal(size=(D, D))}
    report = gradient_check(forward_of_heads, backward_of_heads, inputs, rng=rng, max_entries=16)
    assert report.ok, str(report)
