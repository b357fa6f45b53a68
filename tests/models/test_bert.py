"""BERT and its classifier: what may see what, the shared encoder, what a user asks; and both beside PyTorch."""

from dataclasses import asdict

import numpy as np
import pytest

from tinymm import UserError, functional, gradient_check_module
from tinymm.data.tokenizer import Tokenizer
from tinymm.models.bert import CLS, MASK, BERTConfig, BERTModel, encode_sentences
from tinymm.models.bert_classifier import BERTClassifier, BERTClassifierConfig
from tinymm.training.optimizers import Adam

TEXTS = ["a film of wit and grace .", "dull and too long", "the plot is a mess !", "wit"]
NORMS = pytest.mark.parametrize("norm", ["pre", "post"])
SIZES = {"d_model": 12, "n_heads": 3, "n_layers": 2, "d_ff": 16, "max_length": 9, "dropout": 0.1}


def tokenizer():
    return Tokenizer.build(TEXTS, extra=(CLS, MASK))


def small(norm="pre", dtype=np.float64, **changes):
    words = tokenizer()
    model = BERTModel(BERTConfig(len(words), norm=norm, **SIZES | changes), np.random.default_rng(0)).astype(dtype)
    model.tokenizer = words
    return model


def small_classifier(pooling="mean", dtype=np.float64, **changes):
    words = tokenizer()
    config = BERTClassifierConfig(len(words), pooling=pooling, **SIZES | changes)
    model = BERTClassifier(config, np.random.default_rng(0)).astype(dtype)
    model.tokenizer = words
    return model


def padded(rng, vocabulary_size):
    """(R, T) = (3, 7) of lengths 7, 4, 2, and the words to guess."""
    ids = rng.integers(8, vocabulary_size, (3, 7))
    ids[np.arange(7) >= np.array([[7], [4], [2]])] = Tokenizer.pad_id
    masked = np.zeros(ids.shape, bool)
    masked[[0, 0, 1, 2], [2, 5, 3, 1]] = True
    return ids, masked


@NORMS
def test_gradient_of_the_whole_model(norm):
    rng = np.random.default_rng(1)
    model = small(norm, d_model=6, n_heads=2, d_ff=7, dropout=0.0)
    for table in (model.encoder.words, model.encoder.positions):
        table.weight.value *= 50     # from 0.02 to order 1: a layer norm bends sharply around tiny vectors
    ids, masked = padded(rng, model.config.vocabulary_size)
    report = gradient_check_module(model, {"ids": ids, "masked": masked}, rng=rng, max_entries=2)
    assert report.ok, str(report)


@NORMS
def test_a_word_sees_both_sides_but_no_padding(norm):
    rng = np.random.default_rng(2)
    encoder = small(norm).encoder
    ids, _ = padded(rng, encoder.config.vocabulary_size)
    x, _ = encoder.forward(ids)
    for place in (0, 6):
        other = ids.copy()
        other[0, place] = 8 + (other[0, place] - 7) % 5
        moved = np.abs(encoder.forward(other)[0] - x).max(axis=-1)
        assert (moved[0] > 1e-9).all() and (moved[1:] == 0).all()
    alone, _ = encoder.forward(ids[1:2, :4])
    np.testing.assert_allclose(alone[0], x[1, :4], rtol=1e-10, atol=1e-12)


@NORMS
def test_the_gradient_does_not_depend_on_padding(norm):
    rng = np.random.default_rng(3)
    gradients = []
    ids, masked = padded(rng, len(tokenizer()))
    d_logits = rng.normal(size=(2, len(tokenizer())))
    for wide in (4, 7):
        model = small(norm)
        _, cache = model.forward(ids[1:, :wide], masked[1:, :wide])
        model.backward(d_logits, cache)
        gradients.append({name: parameter.grad for name, parameter in model.named_parameters()})
    for name, gradient in gradients[0].items():
        np.testing.assert_allclose(gradients[1][name], gradient, rtol=1e-9, atol=1e-12, err_msg=name)
    # <pad> gets no gradient as a word that is read, only as one that could have been said
    assert np.abs(gradients[0]["encoder.positions.weight"][4:]).max() == 0


def test_logits_are_those_of_the_masked_places_in_order():
    rng = np.random.default_rng(4)
    model = small()
    ids, masked = padded(rng, model.config.vocabulary_size)
    logits, _ = model.forward(ids, masked)
    assert logits.shape == (4, model.config.vocabulary_size)
    for i, (row, column) in enumerate(np.argwhere(masked)):
        single = np.zeros_like(masked)
        single[row, column] = True
        np.testing.assert_allclose(model.forward(ids, single)[0][0], logits[i], rtol=1e-10, atol=1e-12)


def test_the_first_loss_is_about_ln_v():
    rng = np.random.default_rng(5)
    model = BERTModel(BERTConfig(500, d_model=64, n_layers=2, d_ff=64, max_length=12), np.random.default_rng(0))
    ids = rng.integers(8, 500, (16, 12))
    logits, _ = model.forward(ids, rng.random(ids.shape) < 0.3)
    loss, _ = functional.cross_entropy_forward(logits, rng.integers(0, 500, len(logits)))
    assert abs(loss - np.log(500)) < 0.3


@NORMS
def test_one_batch_can_be_learnt_by_heart(norm):
    rng = np.random.default_rng(6)
    model = small(norm, np.float32, dropout=0.0)
    ids, masked = padded(rng, model.config.vocabulary_size)
    labels = np.array([9, 12, 10, 9])
    optimizer = Adam(model)
    for _ in range(60):
        optimizer.zero_grad()
        logits, cache = model.forward(ids, masked, training=True, rng=rng)
        loss, loss_cache = functional.cross_entropy_forward(logits, labels)
        model.backward(functional.cross_entropy_backward(1.0, loss_cache), cache)
        optimizer.step(1e-2)
    assert loss < 0.05 and (logits.argmax(-1) == labels).all()


def test_guesses_for_each_mask():
    model = small(dtype=np.float32)
    first, second = model.predict_masked(f"a {MASK} of wit{MASK}.", top=4)
    assert len(first) == len(second) == 4
    for guesses in (first, second):
        shares = [share for _, share in guesses]
        assert shares == sorted(shares, reverse=True) and 0 < sum(shares) <= 1
        assert not any(word.startswith("<") for word, _ in guesses)
    everything = model.predict_masked(f"a {MASK}", top=1000)[0]
    assert sum(share for _, share in everything if share) == pytest.approx(1, abs=1e-5)
    tokens, weights = model.attention(f"a {MASK} of wit")
    assert tokens == [CLS, "a", MASK, "of", "wit"] and weights.shape == (2, 3, 5, 5)
    np.testing.assert_allclose(weights.sum(axis=-1), 1, rtol=1e-5)


def test_what_cannot_be_asked_is_said():
    model = small(dtype=np.float32)
    for text, sentence in [("a film", "no <mask>"), ("", "no <mask>"), (f"a film of wit and grace and wit {MASK}", "at most 8")]:
        with pytest.raises(UserError, match=sentence):
            model.predict_masked(text)
    with pytest.raises(ValueError, match="top"):
        model.predict_masked(MASK, top=0)
    with pytest.raises(ValueError, match="max_length"):
        model.encoder.forward(np.full((1, 10), 9))
    for wrong in (np.zeros((1, 3), bool), np.zeros((1, 3), int), np.ones((3, 1), bool)):
        with pytest.raises(ValueError, match="masked"):
            model.forward(np.full((1, 3), 9), wrong)
    model.tokenizer = None
    with pytest.raises(UserError, match="tokenizer"):
        model.predict_masked(MASK)
    with pytest.raises(ValueError, match="pooling must be one of cls, mean"):
        BERTClassifierConfig(9, pooling="max")
    with pytest.raises(UserError, match="empty"):
        small_classifier(dtype=np.float32).predict(["wit", "  "])


def test_the_classifier_takes_the_encoder_of_the_masked_model():
    masked, classifier = small("post"), small_classifier(norm="post")
    weights = {name.removeprefix("encoder."): array for name, array in masked.state().items() if name.startswith("encoder.")}
    for array in weights.values():
        array += 0.1
    classifier.encoder.load_state(weights)
    ids, _ = padded(np.random.default_rng(7), masked.config.vocabulary_size)
    np.testing.assert_array_equal(classifier.encoder.forward(ids)[0], masked.encoder.forward(ids)[0])
    assert asdict(classifier.config).items() >= asdict(masked.config).items()


@pytest.mark.parametrize("pooling", ["cls", "mean"])
def test_pooling(pooling):
    model = small_classifier(pooling)
    ids, _ = padded(np.random.default_rng(8), model.config.vocabulary_size)
    x, _ = model.encoder.forward(ids)
    pooled = x[:, 0] if pooling == "cls" else np.stack([row[:n].mean(axis=0) for row, n in zip(x, (7, 4, 2))])
    expected = pooled @ model.head.weight.value[:, 0] + model.head.bias.value
    np.testing.assert_allclose(model.forward(ids)[0], expected, rtol=1e-10)


def test_predictions_come_one_or_many_and_do_not_depend_on_their_neighbours():
    model = small_classifier(dtype=np.float32)
    each = [model.predict(text) for text in TEXTS]
    assert all(isinstance(share, float) and 0 < share < 1 for share in each)
    assert model.predict(TEXTS) == pytest.approx(each, rel=1e-5)
    assert model.predict(TEXTS, batch_size=2) == pytest.approx(each, rel=1e-5)
    assert len(encode_sentences(model.tokenizer, ["wit " * 20], 9)[0]) == 9
    assert model.predict("wit " * 20) == pytest.approx(model.predict("wit " * 8), rel=1e-5)
    tokens, weights = model.attention("dull and long")
    assert tokens == [CLS, "dull", "and", "long"] and weights.shape == (2, 3, 4, 4)
