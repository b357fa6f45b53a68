"""ImageQA's job, small: its batches, that it learns, what a blank image is worth, and the command that asks it."""

import numpy as np
import pytest
from PIL import Image

from tinymm import cli
from tinymm.data.easy_vqa import EasyVQA, load_easy_vqa
from tinymm.models import ImageQAConfig
from tinymm.training import image_qa, jobs
from tinymm.training.checkpoints import load_run
from tinymm.training.image_qa import Recipe
from tinymm.training.loop import TrainingSettings
from tinymm.training.optimizers import AdamW

RECIPE = Recipe(
    training=TrainingSettings(steps=6, learning_rate=5e-3, warmup=2, log_every=2, evaluate_every=3, evaluation_limit=20, checkpoint_every=3),
    model=ImageQAConfig(0, channels=(4, 8), strides=(4, 4), d_model=16, n_heads=2, n_layers=1, d_ff=16), backend="numpy",
    easy_images=3, scenes=4, test_scenes=80)


@pytest.fixture(scope="module")
def data():
    whole = load_easy_vqa()
    return EasyVQA(whole.train.about(np.arange(120)), whole.test.about(np.arange(60)), whole.answers)


@pytest.fixture(autouse=True)
def small_data(monkeypatch, data):
    monkeypatch.setattr(image_qa, "load_easy_vqa", lambda: data)
    image_qa.validation_set.cache_clear()
    yield
    image_qa.validation_set.cache_clear()


def test_a_batch_is_a_function_of_its_step():
    task, again = image_qa.prepare(RECIPE), image_qa.prepare(RECIPE)
    a, b, other = task.batch(2), again.batch(2), task.batch(3)
    for x, y in zip(a, b):
        np.testing.assert_array_equal(x, y)
    assert len(a.images) == 7 and not np.array_equal(a.images, other.images)
    assert set(a.image_index) == set(range(7))
    words = [task.model.tokenizer.tokens[token] for token in a.ids[0]]
    first, last = a.spans[0]
    assert words[0] == "<cls>" and "or" in words and "or" not in words[first:last + 1] and 0 < first <= last


def test_images_kept_back_are_not_trained_on(data):
    task = image_qa.prepare(RECIPE)
    trained_on = {image.tobytes() for image in task.easy._images}
    kept = image_qa.validation_set(RECIPE.validation_share, RECIPE.test_scenes)
    assert len(trained_on) == 108 and not trained_on & {image.tobytes() for image in kept.images}
    assert not trained_on & {image.tobytes() for image in image_qa.load_test_set(RECIPE.test_scenes).images}


def test_one_batch_can_be_overfitted():
    task = image_qa.prepare(RECIPE)
    optimizer, batch = AdamW(task.model), task.batch(0)
    for _ in range(80):
        optimizer.zero_grad()
        values = task.step(batch, np.random.default_rng(0))
        optimizer.step(1e-2)
    assert values["loss"] < 0.1 and values["accuracy"] == 1.0


@pytest.mark.slow
def test_the_job(tmp_path, data, capsys):
    task, run, summary = jobs.train_run("image_qa", tmp_path / "run", RECIPE, progress=False)
    model = load_run(run.path)
    report = image_qa.evaluate_run(model, run)
    assert set(report.figures) | set(summary.evaluation) == set(image_qa.FIGURES)
    assert report.figures["blank_image_exact"] <= 0.5      # of each pair of questions one at most
    asked = image_qa.load_test_set(RECIPE.test_scenes)
    kinds = report.by_kind["test_exact"]
    assert sum(count for _, count in kinds.values()) == len(asked)
    assert report.figures["test_exact"] == pytest.approx(sum(share * count for share, count in kinds.values()) / len(asked))
    found = [example.right for example in image_qa.examples_of(model, asked)]
    assert np.mean(found) == pytest.approx(report.figures["test_exact"])
    assert all(path.exists() for path in [*report.pictures, *image_qa.draw(run, task)])

    image = tmp_path / "image.png"
    Image.fromarray(data.test.images[0]).save(image)
    assert cli.main(["ask", str(image), "is the shape red or blue?", "--run", str(run.path), "--picture", str(tmp_path / "look.png")]) == 0
    assert capsys.readouterr().out.strip() and (tmp_path / "look.png").exists()


def test_a_resumed_training_goes_on_with_its_words(tmp_path):
    whole, *_ = jobs.train_run("image_qa", tmp_path / "whole", RECIPE, progress=False)
    step = image_qa.ImageQATask.step

    def killed(self, batch, rng, count=[0]):
        count[0] += 1
        if count[0] == 5:
            raise KeyboardInterrupt
        return step(self, batch, rng)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(image_qa.ImageQATask, "step", killed)
        jobs.train_run("image_qa", tmp_path / "killed", RECIPE, progress=False)
    resumed, _, summary = jobs.train_run("image_qa", tmp_path / "killed", resume=True, progress=False)
    assert summary.start == 3
    for name, array in whole.model.state().items():
        np.testing.assert_array_equal(resumed.model.state()[name], array)
