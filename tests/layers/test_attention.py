"""Where keys and values come from, and what may be seen. (Gradients: the gradient checker runs over every layer.)"""

import numpy as np
import pytest

from tinymm.layers import JointAttention, MultiHeadAttention, TransformerBlock
from tinymm.layers.attention import merge_heads, split_heads


@pytest.fixture
def rng():
    return np.random.default_rng(3)


def test_heads_are_stretches_of_the_width(rng):
    x = rng.standard_normal((2, 5, 12))
    heads = split_heads(x, 3)
    assert heads.shape == (2, 3, 5, 4)
    np.testing.assert_array_equal(heads[1, 2, 4], x[1, 4, 8:12])
    np.testing.assert_array_equal(merge_heads(heads), x)


def test_one_head_with_identity_projections_is_plain_attention(rng):
    layer = MultiHeadAttention(4, 1, rng).astype(np.float64)
    for linear in (layer.query, layer.key, layer.value, layer.output):
        linear.weight.value[...] = np.eye(4)
    x = rng.standard_normal((2, 3, 4))
    scores = x @ x.swapaxes(1, 2) / 2
    weights = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    out, cache = layer.forward(x)
    np.testing.assert_allclose(out, weights @ x, rtol=1e-12)
    np.testing.assert_allclose(layer.weights(cache)[:, 0], weights, rtol=1e-12)


@pytest.mark.parametrize("kind", [MultiHeadAttention, JointAttention])
def test_rows_that_share_an_image_equal_rows_with_a_copy_of_it(rng, kind):
    layer = kind(6, 2, rng).astype(np.float64)
    x, memory, index = rng.standard_normal((4, 3, 6)), rng.standard_normal((2, 5, 6)), np.array([1, 0, 1, 1])
    d_out = rng.standard_normal(x.shape)
    shared, cache = layer.forward(x, memory, memory_index=index)
    d_x, d_memory = layer.backward(d_out, cache)
    grad = layer.parameters()[2].grad.copy()
    layer.zero_grad()
    copied, copied_cache = layer.forward(x, memory[index])
    d_x_copied, d_copies = layer.backward(d_out, copied_cache)
    summed = np.stack([d_copies[index == image].sum(axis=0) for image in range(2)])
    np.testing.assert_allclose(shared, copied, rtol=1e-12)
    np.testing.assert_allclose(d_x, d_x_copied, rtol=1e-12)
    np.testing.assert_allclose(d_memory, summed, rtol=1e-10)
    np.testing.assert_allclose(layer.parameters()[2].grad, grad, rtol=1e-10)


def test_joint_attention_without_its_text_keys_is_cross_attention(rng):
    joint, cross = JointAttention(6, 2, rng).astype(np.float64), MultiHeadAttention(6, 2, rng).astype(np.float64)
    cross.query, cross.key, cross.value, cross.output = joint.query, joint.image_key, joint.image_value, joint.output
    x, memory = rng.standard_normal((2, 3, 6)), rng.standard_normal((2, 5, 6))
    only_image = np.arange(5 + 3) < 5
    np.testing.assert_allclose(joint.forward(x, memory, mask=only_image)[0], cross.forward(x, memory)[0], rtol=1e-12)


@pytest.mark.parametrize("fusion", [None, "cross", "joint"])
@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_causal_block_sees_the_whole_image_and_no_later_word(rng, fusion, norm):
    block = TransformerBlock(6, 2, 10, rng, fusion, norm).astype(np.float64)
    x, memory = rng.standard_normal((2, 4, 6)), None if fusion is None else rng.standard_normal((2, 5, 6))
    out, _ = block.forward(x, memory, causal=True)
    changed = x.copy()
    changed[:, 2] += rng.standard_normal(6)
    moved = np.abs(block.forward(changed, memory, causal=True)[0] - out).max(axis=(0, 2))
    assert (moved[:2] == 0).all() and (moved[2:] > 1e-6).all()
    if memory is not None:
        memory[:, 4] += rng.standard_normal(6)
        assert (np.abs(block.forward(x, memory, causal=True)[0] - out).max(axis=(0, 2)) > 1e-6).all()


def test_a_block_says_when_a_memory_is_missing_or_not_wanted(rng):
    x = rng.standard_normal((2, 3, 6)).astype(np.float32)
    with pytest.raises(ValueError, match="needs a memory"):
        TransformerBlock(6, 2, 10, rng, "joint").forward(x)
    with pytest.raises(ValueError, match="takes no memory"):
        TransformerBlock(6, 2, 10, rng).forward(x, x)


def test_dropout_changes_training_only(rng):
    block = TransformerBlock(6, 2, 10, rng, dropout=0.5)
    x = rng.standard_normal((2, 3, 6)).astype(np.float32)
    evaluated = [block.forward(x)[0] for _ in range(2)]
    trained = [block.forward(x, training=True, rng=np.random.default_rng(seed))[0] for seed in (0, 0, 1)]
    np.testing.assert_array_equal(*evaluated)
    np.testing.assert_array_equal(trained[0], trained[1])
    assert not np.array_equal(trained[0], trained[2]) and not np.array_equal(trained[0], evaluated[0])
