"""Where keys and values come from, and what may be seen. (Gradients: the gradient checker runs over every layer.)"""

import numpy as np
import pytest

from tinymm.layers import JointAttention, KeysValues, MultiHeadAttention, TransformerBlock
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


# ---- keys and values that are kept -----------------------------------------------------------------------------------


@pytest.mark.parametrize("rotary", [False, True])
def test_a_text_in_pieces_with_kept_keys_is_the_whole_text(rng, rotary):
    layer = MultiHeadAttention(12, 3, rng, rotary=rotary).astype(np.float64)
    x = rng.standard_normal((2, 7, 12))
    whole, _ = layer.forward(x, causal=True)
    past = KeysValues(np.zeros((2, 3, 9, 4)), np.zeros((2, 3, 9, 4)))
    pieces = [layer.forward(x[:, a:b], causal=True, past=past, offset=a)[0] for a, b in ((0, 3), (3, 4), (4, 7))]
    np.testing.assert_allclose(np.concatenate(pieces, axis=1), whole, rtol=1e-12, atol=1e-14)
    assert past.keys[:, :, :7].all() and not past.keys[:, :, 7:].any()
    with pytest.raises(ValueError, match="room for 9 keys, but the text has 10 tokens"):
        layer.forward(x[:, :3], causal=True, past=past, offset=7)


def test_rotary_attention_does_not_see_where_a_text_stands(rng):
    layer = MultiHeadAttention(8, 2, rng, rotary=True).astype(np.float64)
    x = rng.standard_normal((1, 5, 8))
    np.testing.assert_allclose(layer.forward(x, causal=True, offset=30)[0], layer.forward(x, causal=True)[0], rtol=1e-9)
    swapped = x[:, [1, 0, 2, 3, 4]]
    assert np.abs(layer.forward(swapped, causal=True)[0] - layer.forward(x, causal=True)[0])[0, 4].max() > 1e-3      # but the order


def test_rotary_is_for_self_attention(rng):
    with pytest.raises(ValueError, match="rotary positions are for self-attention"):
        MultiHeadAttention(8, 2, rng, rotary=True).forward(np.zeros((1, 2, 8)), np.zeros((1, 3, 8)))
    with pytest.raises(ValueError, match="rotary positions are for self-attention"):
        TransformerBlock(8, 2, 16, rng, fusion="joint", rotary=True)
    with pytest.raises(ValueError, match="normalization must be one of layer_norm, rms_norm; got 'none'"):
        TransformerBlock(8, 2, 16, rng, normalization="none")
