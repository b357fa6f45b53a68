"""GPT's job: that it learns, that its measures and baselines are what they say, and that a run can be resumed."""

import math
from dataclasses import replace

import numpy as np
import pytest

from tinymm import UserError, bench, cli
from tinymm.data import IGNORE, CharacterTokenizer
from tinymm.data.corpus import Corpus
from tinymm.data.windows import TokenStream
from tinymm.models.gpt import GPTConfig
from tinymm.training import gpt
from tinymm.training.checkpoints import RunFolder, load_run
from tinymm.training.gpt import FIGURES, SOURCES, Recipe, bigram_loss, guess_next_tokens, prepare, unigram_loss
from tinymm.training.jobs import train_run
from tinymm.training.loop import train
from tinymm.training.metrics import perplexity
from tinymm.training.nonfinite import first_nonfinite
from tinymm.training.optimizers import AdamW

MODEL = GPTConfig(vocabulary_size=0, d_model=16, n_heads=2, n_layers=1, d_ff=32, max_length=12, dropout=0.1)
SETTINGS = replace(Recipe.training, steps=6, evaluate_every=3, checkpoint_every=3, log_every=2)
TINY = {
    "alice": Recipe(training=SETTINGS, model=replace(MODEL, positions="rotary"), batch_size=6, vocabulary=280, backend="numpy"),
    "tang": Recipe(training=SETTINGS, model=replace(MODEL, max_length=25), batch_size=6, data="tang", backend="numpy"),
}
BOOK = "Alice was beginning to get very tired of sitting by her sister on the bank.\n\nThe Queen of Hearts said `Off with her head!'\n" * 3
POEMS = ("白日依山盡，黃河入海流。欲窮千里目，更上一層樓。", "春眠不覺曉，處處聞啼鳥。夜來風雨聲，花落知多少。",
         "床前明月光，疑是地上霜。舉頭望明月，低頭思故鄉。", "千山鳥飛絕，萬徑人蹤滅。孤舟簑笠翁，獨釣寒江雪。")


@pytest.fixture(autouse=True)
def small_corpora(monkeypatch):
    corpora = {"alice": Corpus((BOOK,), ("The Queen was tired of the bank.",)), "tang": Corpus(POEMS[:3], POEMS[3:])}
    monkeypatch.setattr(gpt, "load_corpus", corpora.__getitem__)


@pytest.mark.parametrize("data", SOURCES)
def test_one_batch_can_be_overfitted(data):
    task = prepare(replace(TINY[data], model=replace(TINY[data].model, dropout=0.0)))
    optimizer, batch = AdamW(task.model), task.batch(0)
    first = task.step(batch, np.random.default_rng(0))["loss"]
    for _ in range(150):
        optimizer.zero_grad()
        values = task.step(batch, np.random.default_rng(0))
        optimizer.step(1e-2)
    assert first > 2 and values["loss"] < 0.35 and values["accuracy"] > 0.85      # a window's first token cannot be known


@pytest.mark.parametrize("data", SOURCES)
def test_each_data_set_has_a_task_that_steps_and_is_evaluated(data):
    assert Recipe.for_data(data).training.steps == SOURCES[data].steps and Recipe.for_data(data).model == SOURCES[data].model
    task = prepare(TINY[data])
    assert task.recipe.model.vocabulary_size == len(task.model.tokenizer)
    assert np.isfinite(task.step(task.batch(0), np.random.default_rng(0))["loss"])
    assert task.evaluate().keys() <= FIGURES.keys()
    assert first_nonfinite(task.trace(task.batch(0), np.random.default_rng(0)), minus_infinity_is_bad=False) is None


def test_poems_are_read_as_a_whole_and_the_book_from_anywhere():
    task = prepare(TINY["tang"])
    assert {task.model.tokenizer.decode(row) for step in range(9) for row in task.batch(step).labels} <= set(POEMS[:3])
    assert (task.batch(0).labels[:, -1] == task.model.tokenizer.end_id).all()
    task = prepare(TINY["alice"])
    assert len(task.starts) == len(task.training) - 12 + 1
    assert (task.batch(0).ids[:, 0] == task.model.tokenizer.end_id).all()


def test_training_begins_where_the_unigrams_end():
    task = prepare(TINY["alice"])
    task.model.words.weight.value[...] = 0
    assert task.evaluate()["validation_loss"] == pytest.approx(unigram_loss(task.training, task.validation, 280), rel=1e-5)


def test_figures_are_one_loss_in_three_units():
    task = prepare(TINY["alice"])
    found = task.evaluate()
    nats = 0.0
    for ids, labels in task.validation_windows():
        logits = task.model.forward(ids)[0].astype(np.float64)
        p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
        rows, places = np.nonzero(labels != IGNORE)
        nats -= np.log(p[rows, places, labels[rows, places]]).sum()
    assert found["validation_loss"] == pytest.approx(nats / len(task.validation), rel=1e-5)
    assert found["validation_perplexity"] == pytest.approx(math.exp(found["validation_loss"])) == perplexity(found["validation_loss"])
    assert found["validation_bits"] == pytest.approx(nats / math.log(2) / len("The Queen was tired of the bank."), rel=1e-5)


def test_guesses_of_a_model_that_knows_everything():
    stream = TokenStream.of(["abcab"], CharacterTokenizer.build(["abc"]))
    (window,) = stream.once(4, 2)
    labels = np.where(window.labels == IGNORE, 0, window.labels)
    loss, accuracy = guess_next_tokens(lambda ids: 50.0 * np.eye(9)[labels], [window])
    assert loss == pytest.approx(0, abs=1e-12) and accuracy == 1.0
    labels[0, 0] = 0
    loss, accuracy = guess_next_tokens(lambda ids: 50.0 * np.eye(9)[labels], [window])
    assert loss == pytest.approx(50 / 6) and accuracy == pytest.approx(5 / 6)      # one of six tokens is missed


def test_baselines_by_hand():
    tokenizer = CharacterTokenizer.build(["ab"])          # 8 tokens; <end> is 5, a is 6, b is 7
    training, validation = TokenStream.of(["abab"], tokenizer), TokenStream.of(["b"], tokenizer)
    share = {5: 2 / 13, 6: 3 / 13, 7: 3 / 13}             # 5 tokens, and one more of each of 8
    assert unigram_loss(training, validation, 8) == pytest.approx(-(math.log(share[7]) + math.log(share[5])) / 2)
    # n(<end>) = 1, n(<end>, b) = 0;  n(b) = 2, n(b, <end>) = 1
    losses = [-(math.log(c * share[7] / (1 + c)) + math.log((1 + c * share[5]) / (2 + c))) / 2 for c in gpt.PRIORS]
    assert bigram_loss(training, validation, 8) == pytest.approx(min(losses))


@pytest.mark.parametrize("data", SOURCES)
def test_a_whole_run_resumed_drawn_and_evaluated(data, tmp_path):
    recipe = TINY[data]
    task, whole, summary = train_run("gpt", tmp_path / "whole", recipe, progress=False)
    assert summary.evaluation.keys() <= FIGURES.keys()
    assert Recipe.of_run(whole) == replace(recipe, model=load_run(whole.path).config)
    part = prepare(recipe)
    step, calls = part.step, []

    def interrupted(batch, rng):
        calls.append(None)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return step(batch, rng)

    part.step = interrupted
    run = RunFolder.create(tmp_path / "part", model="gpt", model_config=whole.config["model_config"],
                           training=part.recipe.settings(), tokenizer=part.model.tokenizer)
    with pytest.raises(KeyboardInterrupt, match="stopped at step 4"):
        train(part, part.recipe.training, run, progress=False)
    train_run("gpt", run.path, resume=True, progress=False)
    assert run.weights.read_bytes() == whole.weights.read_bytes()

    assert [path.name for path in gpt.draw(whole, task)] == ["curves.png", "surprise.png", "attention.png"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gpt.SOURCES, data, SOURCES[data]._replace(prompts=("", "T" if data == "alice" else "春")))
        report = gpt.evaluate_run(load_run(whole.path), whole)
    assert report.figures.keys() == FIGURES.keys() and sum("|" in line for line in report.lines) >= 3
    assert report.figures["validation_loss"] == pytest.approx(summary.evaluation["validation_loss"], rel=1e-6)


# ---- `tinymm write`, and the comparison with PyTorch ----------------------------------------------------------------


@pytest.fixture
def run(tmp_path):
    return train_run("gpt", tmp_path / "run", TINY["tang"], progress=False)[1].path


def test_the_command_writes(run, capsys):
    def written(*options):
        assert cli.main(["write", str(run), *options]) == 0
        return capsys.readouterr().out

    assert written("春", "--seed", "3", "--top-k", "20", "--top-p", "0.9", "--tokens", "7").startswith("春")
    assert written("--temperature", "2") == written("--temperature", "2") != written("--temperature", "2", "--seed", "1")
    assert written("春", "--temperature", "0") == "春" + load_run(run).generate("春") + "\n"


@pytest.mark.parametrize(("options", "message"), [
    (["a cat"], "the model has never seen 'a', ' ', 'c', 't'; write with"),
    (["--temperature", "-1"], "it must be a number of at least 0, got '-1'"),
    (["--temperature", "hot"], "it must be a number of at least 0, got 'hot'"),
    (["--top-p", "1.5"], "it must be a number of 0.001 to 1, got '1.5'"),
    (["--top-k", "0"], "it must be a whole number of at least 1, got '0'"),
])
def test_one_sentence_for_what_it_cannot_do(run, options, message, capsys):
    assert cli.main(["write", str(run), *options]) == 2
    out, error = capsys.readouterr()
    assert out == "" and message in error and error.count("\n") == 1


def test_runs_that_do_not_write(tmp_path, monkeypatch, capsys):
    assert cli.main(["write", str(tmp_path / "none")]) == 2
    assert f"`tinymm train gpt --out {tmp_path / 'none'}` makes it" in capsys.readouterr().err
    from tinymm.commands import use

    monkeypatch.setattr(use, "load", lambda folder: object())
    assert cli.main(["write", str(tmp_path)]) == 2
    assert "does not write texts; `tinymm train gpt` makes one" in capsys.readouterr().err


@pytest.mark.peer
def test_pytorch_trains_the_same(run, capsys):
    """Without dropout the whole training is the same, step by step; the bench prints the comparison."""
    pytest.importorskip("torch")
    from tinymm.bench.gpt import train_twin

    recipe = replace(TINY["alice"], model=replace(TINY["alice"].model, dropout=0.0), backend="numba")
    task, _, summary = train_run("gpt", run.parent / "same", recipe, progress=False)
    loss, _ = train_twin(prepare(recipe))
    assert loss == pytest.approx(summary.evaluation["validation_loss"], rel=2e-5)
    assert summary.evaluation["validation_loss"] < prepare(recipe).evaluate()["validation_loss"] - 0.01
    assert bench.main(["gpt", str(run)]) == 0
    assert "tinymm / PyTorch" in capsys.readouterr().out


def test_the_comparison_refuses_other_runs(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(UserError):
        bench.main(["gpt", str(tmp_path)])
