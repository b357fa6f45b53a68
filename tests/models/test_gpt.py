"""GPT: no token sees what follows it, kept keys change nothing, and how it writes."""

import numpy as np
import pytest

from tinymm import UserError, functional
from tinymm.data import BytePairTokenizer, CharacterTokenizer
from tinymm.models.gpt import GPTConfig, GPTModel

TOKENIZER = CharacterTokenizer.build(["abcdefg\n"])
IDS = np.array([[5, 6, 7, 9, 8], [5, 10, 7, 7, 12]])      # (B, T)


def small(dtype=np.float64, **changes):
    sizes = {"vocabulary_size": len(TOKENIZER), "d_model": 12, "n_heads": 3, "d_ff": 16, "n_layers": 2, "max_length": 8, "dropout": 0.0}
    model = GPTModel(GPTConfig(**sizes | changes), np.random.default_rng(0))
    for parameter in model.parameters():      # away from the start, where all logits are about 0
        parameter.value += 0.3 * np.random.default_rng(1).normal(size=parameter.shape).astype(np.float32)
    model.tokenizer = TOKENIZER
    return model.astype(dtype)


LATER = {"positions": "rotary", "normalization": "rms_norm", "activation": "swiglu"}
VARIANTS = pytest.mark.parametrize("changes", [{}, {"positions": "rotary"}, LATER], ids=["GPT-2", "rotary", "rotary, RMS norm, SwiGLU"])


@VARIANTS
def test_a_token_sees_no_later_token(changes):
    model = small(**changes)
    logits, _ = model.forward(IDS)
    later = IDS.copy()
    later[:, 3] = 11
    moved = np.abs(model.forward(later)[0] - logits).max(axis=(0, 2))
    assert (moved[:3] < 1e-13).all() and (moved[3:] > 1e-6).all()


@VARIANTS
def test_the_order_of_earlier_tokens_matters(changes):
    model = small(**changes)
    swapped = IDS[:, [1, 0, 2, 3, 4]]
    assert np.abs(model.forward(swapped)[0] - model.forward(IDS)[0])[:, 2:].max() > 1e-3


def test_the_first_loss_is_about_ln_v():
    losses = []
    for seed in range(5):
        model = GPTModel(GPTConfig(vocabulary_size=50, d_model=16, n_heads=2, d_ff=32, max_length=9), np.random.default_rng(seed))
        ids = np.random.default_rng(seed + 10).integers(50, size=(6, 9))
        losses.append(functional.cross_entropy_forward(model.forward(ids)[0], np.roll(ids, 1))[0])
    assert np.mean(losses) == pytest.approx(np.log(50), rel=0.02)


def test_the_output_is_tied_to_the_embeddings():
    names = [name for name, _ in small().named_parameters()]
    assert names[:3] == ["head_bias", "words.weight", "positions.weight"] and not any("head" in name for name in names[1:])
    assert "positions.weight" not in [name for name, _ in small(positions="rotary").named_parameters()]


@VARIANTS
@pytest.mark.parametrize(("dtype", "tolerance", "backend"), [
    (np.float32, 1e-5, "numpy"), (np.float64, 1e-12, "numpy"), (np.float32, 1e-5, "numba")])
def test_kept_keys_and_values_change_no_logit(changes, dtype, tolerance, backend):
    model = small(dtype, **changes).use_backend(backend)
    whole, _ = model.forward(IDS)
    for pieces in ((1, 1, 1, 1, 1), (3, 1, 1), (2, 3)):
        past, parts, offset = model.room(rows=2), [], 0
        for length in pieces:
            parts.append(model.forward(IDS[:, offset:offset + length], past=past, offset=offset)[0])
            offset += length
        np.testing.assert_allclose(np.concatenate(parts, axis=1), whole, rtol=tolerance, atol=tolerance)
        assert parts[0].dtype == dtype


@VARIANTS
def test_writing_with_and_without_kept_keys_beyond_the_room(changes):
    """25 tokens with room for 8: the later part of the text is read anew when the room is full."""
    model = small(**changes)
    ids, kept, anew = [TOKENIZER.end_id], model.next_logits(), model.next_logits_anew()
    rng = np.random.default_rng(2)
    for _ in range(25):
        a, b = kept([ids], None), anew([ids], None)
        assert a.shape == b.shape == (1, len(TOKENIZER))
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
        ids = [*ids, int(rng.integers(6, len(TOKENIZER)))]


def test_what_is_seen_at_the_end_of_a_long_text():
    model = small()
    lengths = [len(model.seen(list(range(n)))) for n in range(1, 20)]
    assert lengths[:8] == [1, 2, 3, 4, 5, 6, 7, 8] and set(lengths[8:]) == {5, 6, 7, 8}
    assert model.seen(list(range(9))) == [0, 5, 6, 7, 8]


@VARIANTS
def test_writing(changes):
    model = small(**changes)
    greedy = model.generate("ab", max_new_tokens=20)
    assert greedy == model.generate("ab", max_new_tokens=20, keep=False) == model.generate("ab", max_new_tokens=20, temperature=0.0)
    drawn = [model.generate("ab", max_new_tokens=20, temperature=1.5, rng=np.random.default_rng(seed)) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert model.generate("ab", max_new_tokens=20, temperature=1.5, top_k=1, rng=np.random.default_rng(0)) == greedy
    assert model.generate("ab", max_new_tokens=20, temperature=1.5, top_p=1e-6, rng=np.random.default_rng(0)) == greedy
    assert len(model.generate(max_new_tokens=3)) <= 3


def test_it_stops_at_the_end_and_refuses_what_it_cannot_read():
    model = small()
    model.head_bias.value[TOKENIZER.end_id] = 1e3
    assert model.generate("a") == ""
    with pytest.raises(UserError, match="never seen 'x', 'y'; write with"):
        model.generate("axy")
    model.tokenizer = None
    with pytest.raises(ValueError, match="no tokenizer"):
        model.generate("a")


def test_surprise_is_the_loss_of_each_token():
    model = small()
    tokens, nats = model.surprise("abcde")
    ids = TOKENIZER.encode("abcde")
    loss, _ = functional.cross_entropy_forward(model.forward(np.array([[TOKENIZER.end_id, *ids[:-1]]]))[0], np.array([ids]))
    assert tokens == list("abcde") and nats.mean() == pytest.approx(float(loss), rel=1e-12)
    assert len(model.surprise("abc" * 9)[0]) == 8


def test_a_byte_pair_model_writes_any_alphabet():
    model = small(vocabulary_size=270)
    model.tokenizer = BytePairTokenizer.build(["the cat the cat " * 3], 270)
    assert isinstance(model.generate("猫", max_new_tokens=12, temperature=2.0, rng=np.random.default_rng(0)), str)


@pytest.mark.parametrize(("shape", "offset"), [((2, 9), 0), ((2, 0), 0), ((4,), 0), ((1, 2), 7)])
def test_bad_ids(shape, offset):
    with pytest.raises(ValueError, match=r"ids must be \(B, T\) with T from 1 to"):
        small().forward(np.zeros(shape, int), offset=offset)


def test_bad_config():
    with pytest.raises(ValueError, match="positions must be one of learned, rotary; got 'none'"):
        GPTConfig(vocabulary_size=3, positions="none")
