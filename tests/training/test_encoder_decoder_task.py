"""The encoder-decoder's job: that it learns, that its measures are what they say, and that a run can be resumed."""

from dataclasses import replace

import numpy as np
import pytest

from tinymm.data.text_pairs import TextPairs
from tinymm.models.encoder_decoder import EncoderDecoderConfig
from tinymm.training import encoder_decoder
from tinymm.training.checkpoints import RunFolder, load_run
from tinymm.training.encoder_decoder import DATA, FIGURES, Recipe, evaluate, greedy_exact, nearest_targets, prepare
from tinymm.training.jobs import train_run
from tinymm.training.metrics import exact_match
from tinymm.training.nonfinite import first_nonfinite
from tinymm.training.optimizers import AdamW

TINY = Recipe(
    training=replace(Recipe.training, steps=6, evaluate_every=3, evaluation_limit=10, checkpoint_every=3, log_every=2),
    model=EncoderDecoderConfig(vocabulary_size=0, d_model=16, n_heads=2, encoder_layers=1, decoder_layers=1, d_ff=32,
                               dropout=0.1),
    batch_size=12, training_pairs=150, backend="numpy")


@pytest.fixture(autouse=True)
def few_held_out_pairs(monkeypatch):
    for name, source in DATA.items():
        monkeypatch.setitem(encoder_decoder.DATA, name, source._replace(held_out=30))


def overfit(task, steps):
    for block in [*task.model.encoder, *task.model.decoder]:
        for part in (block.attention, block.feed_forward, getattr(block, "cross_attention", block.attention)):
            part.dropout = 0.0
    task.model.config = replace(task.model.config, dropout=0.0)
    optimizer, batch = AdamW(task.model), task.batch(0)
    for _ in range(steps):
        optimizer.zero_grad()
        values = task.step(batch, np.random.default_rng(0))
        optimizer.step(1e-2)
    return values


def test_one_batch_can_be_overfitted():
    values = overfit(prepare(TINY), 150)
    assert values["loss"] < 0.05 and values["accuracy"] == 1.0


def test_exactness_in_one_pass_is_that_of_generation():
    task = prepare(TINY)
    pairs = DATA["numbers"].pairs(150, np.random.default_rng([0, 103]), "train")      # those it is trained on
    found = []
    for steps in (1, 60, 100):
        overfit(task, steps)
        exact, accuracy = greedy_exact(task.model, pairs, chunk=64)
        assert exact == exact_match(task.model.translate(pairs.sources), pairs.targets)
        found.append((exact, accuracy))
    assert found[0][0] == 0 < found[-1][0] and found[0][1] < found[-1][1]


@pytest.mark.parametrize("data", DATA)
def test_each_data_set_has_a_task_that_steps_and_is_evaluated(data):
    assert Recipe.for_data(data).training.steps == DATA[data].steps
    recipe = replace(TINY, data=data)
    task = prepare(recipe)
    assert task.recipe.model.vocabulary_size == len(task.model.tokenizer)
    assert np.isfinite(task.step(task.batch(0), np.random.default_rng(0))["loss"])
    assert task.evaluate(5).keys() <= FIGURES.keys()
    assert first_nonfinite(task.trace(task.batch(0), np.random.default_rng(0)), minus_infinity_is_bad=False) is None
    result = evaluate(task.model, task.recipe, limit=6)
    assert result.figures.keys() <= FIGURES.keys() and len(result.written) == len(result.pairs) == 6
    assert sum(count for _, count in result.by_kind.values()) == 6


def test_nearest_training_text_is_the_one_with_the_highest_f1():
    training = TextPairs(("a b c d", "a a", "c d e", "x"), ("1", "2", "3", "4"), ("",) * 4)
    assert nearest_targets(["a a b", "e d c c", "b c d", "x y z w v"], training) == ["2", "3", "1", "4"]


def test_a_whole_run_and_the_same_run_resumed(tmp_path):
    _, whole, summary = train_run("encoder_decoder", tmp_path / "whole", TINY, progress=False)
    assert summary.evaluation.keys() == {"validation_exact", "validation_accuracy"}
    assert Recipe.of_run(whole) == replace(TINY, model=load_run(whole.path).config)
    task = prepare(TINY)
    step = task.step

    def interrupted(batch, rng):
        if (batch.source.shape, batch.source.sum()) == (task.batch(4).source.shape, task.batch(4).source.sum()):
            raise KeyboardInterrupt
        return step(batch, rng)

    task.step = interrupted
    run = RunFolder.create(tmp_path / "part", model="encoder_decoder", model_config=whole.config["model_config"],
                           training=task.recipe.settings(), tokenizer=task.model.tokenizer)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 4"):
        encoder_decoder_train(task, run)
    train_run("encoder_decoder", run.path, resume=True, progress=False)
    assert run.weights.read_bytes() == whole.weights.read_bytes()


def encoder_decoder_train(task, run):
    from tinymm.training.loop import train

    return train(task, task.recipe.training, run, progress=False)


@pytest.mark.slow
def test_the_pictures(tmp_path):
    task, run, _ = train_run("encoder_decoder", tmp_path / "run", TINY, progress=False)
    names = [path.name for path in encoder_decoder.draw(run, task)]
    assert names == ["curves.png", "texts.png", "alignment.png"]
    report = encoder_decoder.evaluate_run(load_run(run.path), run)
    assert [path.name for path in report.pictures] == ["texts.png", "mistakes.png", "alignment.png"]
    assert all(path.stat().st_size > 3000 for path in report.pictures)
    assert report.figures["exact"] == 0.0 and 0 < report.figures["nearest_bleu"] < 1
