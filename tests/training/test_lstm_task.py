"""The sentiment job of the LSTM, at tiny size, and its baseline."""

from dataclasses import replace

import numpy as np
import pytest

from tinymm import UserError
from tinymm.data.sentiment import SentenceSet, Sentiment
from tinymm.models.lstm import LSTMConfig
from tinymm.training import bag_of_words, jobs, lstm, sentiment
from tinymm.training.checkpoints import load_run
from tinymm.training.loop import TrainingSettings

GOOD, BAD = ("a fine film", "truly fine and warm", "warm and witty film", "witty"), ("a dull film", "dull and cold", "truly cold", "so dull")


@pytest.fixture
def tiny(monkeypatch):
    """Eight sentences, in all splits the same."""
    texts, labels = (*GOOD, *BAD), np.array([1, 1, 1, 1, 0, 0, 0, 0])
    part = SentenceSet(texts, 4.0 * labels - 2, labels)
    monkeypatch.setattr(lstm, "load_sentiment", lambda: Sentiment(part, part, part, part))
    monkeypatch.setattr(bag_of_words, "STEPS", 60)
    yield lstm.Recipe(training=TrainingSettings(steps=60, learning_rate=1e-2, warmup=5), batch_size=4, backend="numpy",
                      model=LSTMConfig(0, d_embedding=8, d_state=6, dropout=0.1))


def test_it_learns_is_evaluated_and_loads(tiny, tmp_path):
    task, run, summary = jobs.train_run("lstm", tmp_path / "run", tiny, progress=False)
    assert summary.evaluation["validation_accuracy"] == 1
    report = lstm.evaluate_run(task.model, run)
    assert report.figures["test_f1"] == report.figures["bag_of_words_f1"] == 1
    assert report.figures["majority_accuracy"] == 0.5 and set(report.figures) <= set(lstm.FIGURES)
    assert all(path.exists() for path in [*report.pictures, *lstm.draw(run, task)])
    model = load_run(run.path)
    assert model.predict("a fine film") > 0.5 > model.predict(["dull"])[0]
    with pytest.raises(UserError, match="a text is empty"):
        model.predict("  ")


def test_resuming_gives_the_same_weights(tiny, tmp_path, monkeypatch):
    short = replace(tiny, training=replace(tiny.training, steps=8, checkpoint_every=4))
    whole, _, _ = jobs.train_run("lstm", tmp_path / "whole", short, progress=False)

    batch = sentiment.SentimentTask.batch

    def stop(task, step):
        if step == 6:
            raise KeyboardInterrupt
        return batch(task, step)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(sentiment.SentimentTask, "batch", stop)
        jobs.train_run("lstm", tmp_path / "part", short, progress=False)
    resumed, _, summary = jobs.train_run("lstm", tmp_path / "part", resume=True, progress=False)
    assert summary.start == 4
    for name, value in whole.model.state().items():
        np.testing.assert_array_equal(resumed.model.state()[name], value)


@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_padding_does_not_change_an_answer(pooling):
    from tinymm.models.lstm import LSTMModel

    model = LSTMModel(LSTMConfig(9, d_embedding=4, d_state=3, pooling=pooling), np.random.default_rng(0))
    alone, _ = model.forward(np.array([[7, 8]]))
    padded, _ = model.forward(np.array([[7, 8, 0, 0], [6, 7, 8, 6]]))
    np.testing.assert_allclose(padded[0], alone[0], rtol=1e-6)


def test_bag_of_words_gradient_is_that_of_its_loss():
    """At the optimum of a strongly regularised fit the gradient vanishes: strength w = -mean of (p - y) x."""
    texts, labels = [*GOOD, *BAD], np.array([1] * 4 + [0] * 4)
    model = bag_of_words.BagOfWords(texts).fit(texts, labels, 0.3)
    row, feature = model.rows(texts)
    p = 1 / (1 + np.exp(-model.logits(texts)))
    gradient = np.bincount(feature, (p - labels)[row], minlength=len(model.weight)) / 8
    np.testing.assert_allclose(0.3 * model.weight, -gradient, atol=2e-3)
