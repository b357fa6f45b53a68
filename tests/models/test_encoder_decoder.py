"""The encoder-decoder: what sees what, padding, and writing by every method."""

import numpy as np
import pytest

from tinymm import UserError, functional, gradient_check_module
from tinymm.data.tokenizer import Tokenizer
from tinymm.models.encoder_decoder import PAD, EncoderDecoderConfig, EncoderDecoderModel, padded

TEXTS = ["one two three four five", "eins zwei drei"]
SOURCE = np.array([[7, 9, 6, 8, 10], [12, 6, 0, 0, 0], [11, 7, 8, 0, 0]])      # (B, S)
TARGET = np.array([[5, 11, 12, 9], [5, 8, 0, 0], [5, 13, 10, 0]])              # (B, T)


def small(dtype=np.float64, **changes):
    tokenizer = Tokenizer.build(TEXTS)
    sizes = {"vocabulary_size": len(tokenizer), "d_model": 6, "n_heads": 3, "d_ff": 8, "encoder_layers": 2,
             "decoder_layers": 2, "source_length": 7, "target_length": 5}
    model = EncoderDecoderModel(EncoderDecoderConfig(**sizes | changes), np.random.default_rng(0)).astype(dtype)
    model.tokenizer = tokenizer
    return model


VARIANTS = pytest.mark.parametrize("changes", [
    {}, {"norm": "post", "positions": "learned"}, {"shared_embeddings": False, "activation": "gelu"},
], ids=["pre-norm", "post-norm, learned positions", "own embeddings"])


def test_pad_is_that_of_the_tokenizers():
    assert PAD == Tokenizer.pad_id


@VARIANTS
def test_gradient_of_the_whole_model_with_padding_on_both_sides(changes):
    model = small(**changes, dropout=0.3, encoder_layers=1, decoder_layers=1)
    rng = np.random.default_rng(1)
    inputs = {"source": SOURCE, "target": TARGET, "training": True, "rng": np.random.default_rng(2)}
    report = gradient_check_module(model, inputs, rng=rng, max_entries=1)
    assert report.ok, str(report)


@VARIANTS
def test_a_word_sees_its_own_source_and_no_later_word(changes):
    model = small(**changes)
    logits, _ = model.forward(SOURCE, TARGET)
    later, other = TARGET.copy(), SOURCE.copy()
    later[:, 2], other[0, 4] = 7, 6
    moved = np.abs(model.forward(SOURCE, later)[0] - logits).max(axis=(0, 2))
    assert (moved[:2] < 1e-12).all() and (moved[2:] > 1e-9).all()
    moved = np.abs(model.forward(other, TARGET)[0] - logits).max(axis=2)       # the first source's last word
    assert (moved[0] > 1e-9).all() and (moved[1:] < 1e-12).all()


@VARIANTS
def test_padding_changes_nothing(changes):
    """Each pair by itself, without padding, has the logits that it has in the padded batch; and the same gradients."""
    model = small(**changes)
    logits, cache = model.forward(SOURCE, TARGET)
    d_logits = np.random.default_rng(3).normal(size=logits.shape) * (TARGET != PAD)[..., None]
    model.backward(d_logits, cache)
    together = [parameter.grad.copy() for parameter in model.parameters()]
    model.zero_grad()
    for row, (source, target) in enumerate(zip(SOURCE, TARGET)):
        source, target = source[source != PAD][None], target[target != PAD][None]
        alone, cache = model.forward(source, target)
        np.testing.assert_allclose(alone[0], logits[row, :target.shape[1]], rtol=1e-9, atol=1e-12)
        model.backward(d_logits[row:row + 1, :target.shape[1]], cache)
    for one, parameter in zip(together, model.parameters()):
        np.testing.assert_allclose(parameter.grad, one, rtol=1e-9, atol=1e-12)


def test_shared_embeddings_are_one_table():
    names = [name for name, _ in small().named_parameters() if "words" in name or "head" in name]
    assert names == ["target_words.weight"]
    names = [name for name, _ in small(shared_embeddings=False).named_parameters() if "words" in name or "head" in name]
    assert names == ["target_words.weight", "source_words.weight", "head.weight"]


def test_the_first_loss_is_about_ln_v():
    losses = []
    for seed in range(5):
        config = EncoderDecoderConfig(vocabulary_size=50, d_model=32)
        model, rng = EncoderDecoderModel(config, np.random.default_rng(seed)), np.random.default_rng(seed)
        ids = rng.integers(1, 50, (8, 6))
        losses.append(functional.cross_entropy_forward(model.forward(ids, ids)[0], rng.integers(50, size=(8, 6)))[0])
    assert np.mean(losses) == pytest.approx(np.log(50), rel=0.2)


def test_both_backends_give_the_same():
    model = small(np.float32, d_model=24, d_ff=32)
    d_logits = np.random.default_rng(4).normal(size=(3, 4, len(model.tokenizer))).astype(np.float32)
    found = []
    for backend in ("numpy", "numba"):
        logits, cache = model.use_backend(backend).forward(SOURCE, TARGET)
        model.zero_grad()
        model.backward(d_logits, cache)
        found.append([logits, *(parameter.grad.copy() for parameter in model.parameters())])
    for one, other in zip(*found):
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_allclose(one, other, rtol=2e-3, atol=2e-4)


# ---- writing --------------------------------------------------------------------------------------------------------


def test_writing_step_by_step_is_what_one_forward_pass_finds_likeliest():
    model = small()
    sources = [[7, 9, 6], [12, 6, 8, 10, 7], [11]]
    for ids, source in zip(model.generate_ids(sources), sources):
        read = [model.tokenizer.end_id, *ids]
        logits, _ = model.forward(np.array([source]), np.array([read[:model.config.target_length]]))
        likeliest = logits[0].argmax(axis=-1).tolist()
        assert likeliest[:len(ids)] == ids
        assert len(ids) == model.config.target_length or likeliest[len(ids)] == model.tokenizer.end_id
    assert model.generate_ids(sources, chunk=2) == model.generate_ids(sources)


def test_beams_find_a_text_at_least_as_likely_as_the_greedy_one():
    def log_probability(model, source, ids):
        labels = np.array([[*ids, model.tokenizer.end_id]])[:, :model.config.target_length]
        read = np.array([[model.tokenizer.end_id, *ids]])[:, :model.config.target_length]
        loss, _ = functional.cross_entropy_forward(model.forward(np.array([source]), read)[0], labels)
        return -float(loss)      # a token, as beam_search divides by the length

    better = 0
    for seed in range(4):
        model = small()
        rng = np.random.default_rng(seed)
        for parameter in model.parameters():
            parameter.value += 0.3 * rng.normal(size=parameter.shape)
        source = [7, 9, 6, 12]
        greedy, beam = (model.generate_ids([source], beams=beams)[0] for beams in (1, 40))
        gain = log_probability(model, source, beam) - log_probability(model, source, greedy)
        assert gain > -1e-9
        better += gain > 1e-9
    assert better


def test_translate_takes_one_text_or_many():
    model = small(np.float32)
    one = model.translate("one two")
    assert isinstance(one, str)
    assert model.translate(["one two", "five"]) == [one, model.translate("five")]
    assert model.translate([]) == []
    assert isinstance(model.translate("one two", beams=3), str)
    drawn = [model.translate("one two", temperature=2.0, rng=np.random.default_rng(seed)) for seed in (1, 1)]
    assert drawn[0] == drawn[1]


def test_what_cannot_be_read_is_said():
    model = small(np.float32)
    for text, sentence in [("", "empty"), ("one zebra", "'zebra'"), ("one " * 8, "8 tokens, but .* at most 7")]:
        with pytest.raises(UserError, match=sentence):
            model.translate(text)
    with pytest.raises(ValueError, match="source must be"):
        model.forward(np.ones((1, 8), int), TARGET[:1])
    with pytest.raises(ValueError, match="target must be"):
        model.forward(SOURCE, np.ones((3, 6), int))
    with pytest.raises(ValueError, match="positions must be one of"):
        EncoderDecoderConfig(vocabulary_size=9, positions="none")
    model.tokenizer = None
    with pytest.raises(UserError, match="tokenizer"):
        model.translate("one")


def test_alignment_has_a_row_for_each_written_token():
    model = small()
    source, written, weights = model.alignment("one two five")
    assert source == ["one", "two", "five"] and weights.shape == (2, 3, len(written), 3)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-12)
    assert 1 <= len(written) <= model.config.target_length


# ---- beside PyTorch -------------------------------------------------------------------------------------------------


def test_padded():
    np.testing.assert_array_equal(padded([[3, 4], [5]]), [[3, 4], [5, 0]])
