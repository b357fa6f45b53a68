"""Pre-training, fine-tuning and the label curve on a language of twenty words, in seconds."""

from dataclasses import replace

import numpy as np
import pytest

from tinymm import UserError
from tinymm.data.sentiment import SentenceSet, Sentiment
from tinymm.models.bert import MASK, BERTConfig
from tinymm.models.bert_classifier import BERTClassifierConfig
from tinymm.training import bag_of_words, bert, bert_classifier, jobs, label_curve, sentiment
from tinymm.training.checkpoints import RunFolder, load_run
from tinymm.training.loop import TrainingSettings

GOOD, BAD = ("good", "fine", "bright", "warm"), ("bad", "dull", "cold", "slow")
SIZES = {"d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16, "max_length": 10, "dropout": 0.0}
TRAINING = TrainingSettings(steps=40, learning_rate=1e-2, warmup=4, log_every=10, evaluate_every=20, checkpoint_every=10)
PRE_TRAINING = bert.Recipe(TRAINING, BERTConfig(0, **SIZES), "numpy", batch_size=16)
FINE_TUNING = bert_classifier.Recipe(TRAINING, BERTClassifierConfig(0, **SIZES), "numpy", batch_size=16)


def sentences(n, seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, n)
    texts = tuple(f"the {rng.choice(['film', 'plot', 'cast'])} is {' and '.join(rng.choice(GOOD if label else BAD, 2))} ." for label in labels)
    return SentenceSet(texts, labels - 0.5, labels)


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    data = Sentiment(sentences(150, 0), sentences(40, 1), sentences(60, 2), sentences(30, 3))
    for module in (bert, bert_classifier):
        monkeypatch.setattr(module, "load_sentiment", lambda: data)
    monkeypatch.setattr(bert, "load_product_sentences", lambda: {"train": ()})
    monkeypatch.setattr(bert_classifier, "load_topics", lambda: replace(data, train=sentences(100, 4)))
    monkeypatch.setattr(bag_of_words, "STEPS", 20)
    yield data


@pytest.fixture
def pre_trained(tmp_path):
    return jobs.train_run("bert", tmp_path / "bert", PRE_TRAINING, progress=False)


def test_pre_training_beats_the_frequencies_which_it_begins_with(pre_trained):
    fresh = bert.prepare(PRE_TRAINING)
    task, run, summary = pre_trained
    unigram_loss, unigram_accuracy = bert.guess_from_frequencies(fresh.validation, fresh.masker)
    assert fresh.evaluate()["validation_masked_loss"] == pytest.approx(unigram_loss, rel=0.1)
    assert summary.evaluation["validation_masked_loss"] < 0.75 * unigram_loss
    assert summary.evaluation["validation_masked_accuracy"] > unigram_accuracy
    report = bert.evaluate_run(load_run(run.path), run)
    assert set(report.figures) <= set(bert.FIGURES) and set(summary.evaluation) <= set(bert.FIGURES)
    assert report.figures["test_masked_loss"] < report.figures["test_unigram_loss"]
    assert all(picture.exists() for picture in bert.draw(run, task))
    (guesses,) = load_run(run.path).predict_masked(f"the {MASK} is good and fine .", top=3)
    assert {word for word, _ in guesses} == {"film", "plot", "cast"}


def test_the_baseline_is_how_frequent_a_word_is_among_the_hidden():
    tokenizer = bert.build_tokenizer(["a a b", "a c"], words=2)
    assert tokenizer.tokens[-2:] == ("a", "b")      # b and c tie
    sentences = [tokenizer.encode("a a b"), tokenizer.encode("a c")]      # counts a 3, b 1; c is <unk>, which is never hidden
    even, thinned = (bert.Masker.of(sentences, tokenizer, replace(PRE_TRAINING, threshold=threshold)) for threshold in (1.0, 2 / 14))
    for masker, ratio in ((even, 2), (thinned, 2 / np.sqrt(2))):      # (3 + 1) / (1 + 1), then with the weight of a
        assert masker.baseline.sum() == pytest.approx(1)
        assert masker.baseline[-2] / masker.baseline[-1] == pytest.approx(ratio)
        assert (masker.weights[:-2] == 0).all() and (masker.baseline > 0).all()


def test_fine_tuning_starts_from_the_encoder_and_learns(pre_trained, tmp_path):
    task, source, _ = pre_trained
    recipe = replace(FINE_TUNING, start_from=str(source.path))
    begun = bert_classifier.prepare(recipe)
    for name, array in begun.model.encoder.state().items():
        np.testing.assert_array_equal(array, task.model.encoder.state()[name])
    trained, run, summary = jobs.train_run("bert_classifier", tmp_path / "fine", recipe, progress=False)
    assert summary.evaluation["validation_accuracy"] > 0.95
    report = bert_classifier.evaluate_run(load_run(run.path), run)
    assert report.figures["test_accuracy"] > 0.95 and set(report.figures) <= set(bert_classifier.FIGURES)
    assert all(picture.exists() for picture in bert_classifier.draw(run, trained))
    model = load_run(run.path)
    assert model.predict("the plot is good and warm .") > 0.5 > model.predict(["the plot is dull and slow ."])[0]


def test_a_killed_fine_tuning_resumes_without_the_run_it_started_from(pre_trained, tmp_path):
    _, source, _ = pre_trained
    recipe = replace(FINE_TUNING, start_from=str(source.path), labels=50)
    whole, _, _ = jobs.train_run("bert_classifier", tmp_path / "whole", recipe, progress=False)
    step = sentiment.SentimentTask.step

    def killed(self, batch, rng, count=[0]):
        count[0] += 1
        if count[0] == 25:
            raise KeyboardInterrupt
        return step(self, batch, rng)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt, match="step 24"):
        patch.setattr(sentiment.SentimentTask, "step", killed)
        jobs.train_run("bert_classifier", tmp_path / "killed", recipe, progress=False)
    (source.path / "config.json").unlink()
    resumed, _, summary = jobs.train_run("bert_classifier", tmp_path / "killed", resume=True, progress=False)
    assert summary.start == 20
    for name, array in whole.model.state().items():
        np.testing.assert_array_equal(resumed.model.state()[name], array)


def test_what_one_cannot_start_from_is_said(pre_trained, tmp_path):
    _, source, _ = pre_trained
    with pytest.raises(UserError, match="d_ff 16 instead of 20"):
        bert_classifier.prepare(replace(FINE_TUNING, start_from=str(source.path), model=BERTClassifierConfig(0, **SIZES | {"d_ff": 20})))
    scratch = replace(FINE_TUNING, training=replace(TRAINING, steps=1))
    _, other, _ = jobs.train_run("bert_classifier", tmp_path / "other", scratch, progress=False)
    for folder, sentence in ((tmp_path / "none", "no such folder"), (other.path, "starts from a bert")):
        with pytest.raises(UserError, match=sentence):
            bert_classifier.prepare(replace(FINE_TUNING, start_from=str(folder)))
    with pytest.raises(UserError, match="from 1 to 150"):
        bert_classifier.prepare(replace(FINE_TUNING, labels=151))


def test_fewer_labels_are_a_part_of_more_and_differ_by_seed():
    few, more = (set(bert_classifier.draw_labels(150, replace(FINE_TUNING, labels=count)).tolist()) for count in (20, 60))
    assert few < more and len(few) == 20
    other = replace(FINE_TUNING, labels=20, training=replace(TRAINING, seed=1))
    assert set(bert_classifier.draw_labels(150, other).tolist()) != few
    task = bert_classifier.prepare(replace(FINE_TUNING, labels=20))
    assert len(task.sentences.labels) == 20 and len(task.batch(0).ids) == 16


def test_a_recipe_survives_its_run_folder(pre_trained, tmp_path):
    _, source, _ = pre_trained
    recipe = replace(FINE_TUNING, start_from=str(source.path), labels=50, training=replace(TRAINING, steps=1))
    task, run, _ = jobs.train_run("bert_classifier", tmp_path / "fine", recipe, progress=False)
    assert bert_classifier.Recipe.of_run(RunFolder.open(run.path)) == task.recipe


def test_the_label_curve_is_measured_drawn_and_gone_on_with(pre_trained, tmp_path, monkeypatch):
    _, source, _ = pre_trained
    recipes = [replace(FINE_TUNING, start_from=start, labels=labels, training=replace(TRAINING, steps=20, seed=seed))
               for labels in (4, None) for seed in (0, 1) for start in (str(source.path), "")]
    points = label_curve.measure_curve(recipes[:3], tmp_path / "curve", progress=False)
    measured = []
    monkeypatch.setattr(label_curve, "measure", lambda recipe, real=label_curve.measure: measured.append(recipe) or real(recipe))
    points = label_curve.measure_curve(recipes, tmp_path / "curve", progress=False)
    assert measured == recipes[3:] and len(points) == 8
    assert label_curve.read_points(tmp_path / "curve" / "label_curve.csv") == [
        point._replace(validation_accuracy=round(point.validation_accuracy, 4), test_accuracy=round(point.test_accuracy, 4)) for point in points]
    (curve,) = label_curve.curves(points).values()
    assert min(curve["fine_tuned"][150]) > 0.9 and len(curve["scratch"][4]) == 2
    assert len(label_curve.table(points)) == 3
    from tinymm.plots.bert import draw_label_curve
    assert draw_label_curve({"sentiment": curve, "topic": curve}, tmp_path / "curve.png").exists()
    (tmp_path / "curve" / "label_curve.csv").write_text("start,labels\nscratch,many\n")
    with pytest.raises(UserError, match="no label curve"):
        label_curve.measure_curve(recipes, tmp_path / "curve", progress=False)


def test_the_tested_state_is_the_best_on_validation_data(monkeypatch):
    """Validation accuracies are made up, best at the third look: that state is what is tested."""
    looks, states, real = [], [], sentiment.judge
    shares = iter([0.5, 0.6, 0.9, 0.7, 0.9, 0.1, 0.2, 0.3])

    def judge(model, part):
        states.append({name: array.copy() for name, array in model.state().items()})
        looks.append(len(part.labels))
        return (next(shares), 0.0) if len(part.labels) == 40 else real(model, part)

    monkeypatch.setattr(label_curve, "judge", judge)
    point = label_curve.measure(replace(FINE_TUNING, training=replace(TRAINING, steps=20)))
    assert looks == [40] * 8 + [60] and point.steps == 8 and point.validation_accuracy == 0.9
    for name, array in states[-1].items():
        np.testing.assert_array_equal(array, states[2][name])


def test_the_plan_has_every_training_with_the_same_steps_for_both():
    recipes = [recipe for data in label_curve.SEEDS for recipe in label_curve.plan("runs/bert", data)]
    assert len(recipes) == 2 * sum(sum(counts.values()) for counts in label_curve.SEEDS.values())
    for tuned, scratch in zip(recipes[::2], recipes[1::2]):
        assert tuned.start_from and not scratch.start_from and (tuned.data, tuned.labels) == (scratch.data, scratch.labels)
        assert tuned.training.steps == scratch.training.steps and tuned.training.seed == scratch.training.seed


def test_the_other_question_has_its_own_sentences_and_answers(tmp_path):
    recipe = replace(FINE_TUNING, data="topic", training=replace(TRAINING, steps=2))
    task, run, _ = jobs.train_run("bert_classifier", tmp_path / "topic", recipe, progress=False)
    assert len(task.sentences.labels) == 100
    report = bert_classifier.evaluate_run(load_run(run.path), run)
    assert any("about a film" in line or "about a product" in line for line in report.lines)
