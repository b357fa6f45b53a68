"""`tinymm predict`: what it prints for each kind of text model, and one sentence for what it cannot answer."""

from dataclasses import asdict

import numpy as np
import pytest

from tinymm import cli
from tinymm.data.tokenizer import Tokenizer
from tinymm.models import (
    BERTClassifier, BERTClassifierConfig, BERTConfig, BERTModel, EncoderDecoderConfig, EncoderDecoderModel, LSTMConfig, LSTMModel,
)
from tinymm.models.bert import CLS, MASK
from tinymm.training.checkpoints import RunFolder

WORDS = Tokenizer.build(["a film of wit and grace , dull too long"], extra=(CLS, MASK))
V, RNG = len(WORDS), np.random.default_rng(0)
BERT_SIZES = {"d_model": 8, "n_heads": 2, "n_layers": 1, "d_ff": 8, "max_length": 6}
MODELS = {
    "lstm": LSTMModel(LSTMConfig(V, d_embedding=4, d_state=4, max_length=5), RNG),
    "bert": BERTModel(BERTConfig(V, **BERT_SIZES), RNG),
    "bert_classifier": BERTClassifier(BERTClassifierConfig(V, **BERT_SIZES), RNG),
    "encoder_decoder": EncoderDecoderModel(EncoderDecoderConfig(V, 8, 2, 1, 1, 8, source_length=5, target_length=5), RNG),
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with a run of each kind, untrained."""
    folder = tmp_path_factory.mktemp("runs")
    for name, model in MODELS.items():
        model.tokenizer = WORDS
        RunFolder.create(folder / name, model=name, model_config=asdict(model.config), training={}, tokenizer=WORDS).save_weights(model.state())
    RunFolder.create(folder / "text_image", model="text_image", model_config={}, training={})
    return folder


def predict(runs, name, text):
    return cli.main(["predict", str(runs / name), text])


@pytest.mark.parametrize("name", ["lstm", "bert_classifier"])
def test_how_likely_positive(runs, name, capsys):
    assert predict(runs, name, "A film of wit") == 0
    assert capsys.readouterr().out == f"positive {MODELS[name].predict('a film of wit'):.1%}\n"


def test_gaps_are_filled(runs, capsys):
    assert predict(runs, "bert", f"a {MASK} of {MASK}") == 0
    lines = capsys.readouterr().out.splitlines()
    guesses = MODELS["bert"].predict_masked(f"a {MASK} of {MASK}")
    assert lines == [", ".join(f"{word} {share:.1%}" for word, share in words) for words in guesses] and len(lines) == 2


def test_a_text_is_rewritten(runs, capsys):
    assert predict(runs, "encoder_decoder", "a dull film") == 0
    assert capsys.readouterr().out == MODELS["encoder_decoder"].translate("a dull film") + "\n"


@pytest.mark.parametrize("name, text", [("lstm", "a xyzzy film"), ("bert", f"a {MASK} xyzzy")])
def test_an_unknown_word_is_named_beside_the_answer(runs, name, text, capsys):
    assert predict(runs, name, text) == 0
    out, err = capsys.readouterr()
    assert out and err == "tinymm: the model does not know the word 'xyzzy' and reads <unk> in its place\n"


@pytest.mark.parametrize("name, text, sentence", [
    ("lstm", " ", "is empty"), ("lstm", "xyzzy , plugh", "knows no word of the text: it has never read the words 'xyzzy', 'plugh'"),
    ("lstm", "a film of wit and grace", "6 words and signs, but the model reads at most 5"),
    ("bert_classifier", "a film of wit and grace", "reads at most 5"), ("bert", f"a film of wit and {MASK}", "reads at most 5"),
    ("bert", "a film", "has no <mask>"), ("encoder_decoder", "a xyzzy", "never seen 'xyzzy'"),
    ("encoder_decoder", "a film of wit and grace", "reads at most 5"), ("encoder_decoder", "", "is empty"),
    ("text_image", "a film", "kind 'text_image'; `tinymm predict` needs one of lstm, bert_classifier, bert, encoder_decoder"),
    ("none", "a film", "there is no run folder"),
])
def test_what_cannot_be_answered_is_said_in_one_sentence(runs, name, text, sentence, capsys):
    assert predict(runs, name, text) == 2
    out, err = capsys.readouterr()
    assert sentence in err and err.count("\n") == 1 and not out
