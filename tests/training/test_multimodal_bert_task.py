"""Multimodal BERT on tiny pictures: the job, the command that asks it, and a training on a user's own lists."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_task
from PIL import Image

import tinymm
from tinymm import UserError, cli
from tinymm.data.easy_vqa import EasyVQA, QuestionSet, split_by_image
from tinymm.models import MultimodalBERT, MultimodalBERTConfig
from tinymm.training import jobs, multimodal_bert
from tinymm.training.checkpoints import load_run
from tinymm.training.loop import TrainingSettings
from tinymm.training.multimodal_bert import Recipe, gather

SIZES = {"image_size": 16, "channels": (6, 8), "strides": (2, 2), "d_model": 16, "n_heads": 2, "n_layers": 1, "d_ff": 16}
RECIPE = Recipe(
    training=TrainingSettings(steps=80, learning_rate=1e-2, warmup=5, log_every=10, evaluate_every=40, evaluation_limit=4, checkpoint_every=10),
    model=MultimodalBERTConfig(0, **SIZES), backend="numpy", batch=replace(Recipe.batch, question_images=8, questions_per_image=2, max_shift=2))


@pytest.fixture(autouse=True)
def small_data(monkeypatch):
    rng = np.random.default_rng(0)
    data = EasyVQA(tiny_task.questions(40, rng), tiny_task.questions(30, rng), ("blue", "green", "no", "red", "yes"))
    monkeypatch.setattr(multimodal_bert, "load_easy_vqa", lambda: data)
    return data


@pytest.mark.slow
def test_the_job(tmp_path, small_data, capsys):
    task, run, summary = jobs.train_run("multimodal_bert", tmp_path / "run", RECIPE, progress=False)
    assert len(task.validation.images) == 4 and len(task.questions.images) == 36
    assert summary.evaluation["validation_exact"] == 1.0
    model = load_run(run.path)
    report = multimodal_bert.evaluate_run(model, run)
    assert set(report.figures) | set(summary.evaluation) == set(multimodal_bert.FIGURES)
    assert report.figures["test_exact"] > 0.9 > report.figures["blank_image_exact"]
    assert {"colour", "yes or no"} == set(report.by_kind["test_exact"])
    assert all(path.exists() for path in [*report.pictures, *multimodal_bert.draw(run, task)])

    test = small_data.test
    image, color = tmp_path / "image.png", test.answers[0]
    Image.fromarray(test.images[0]).resize((64, 64)).save(image)
    assert cli.main(["ask", str(image), "What color is the spot?", "--run", str(run.path), "--picture", str(tmp_path / "look.png")]) == 0
    assert capsys.readouterr().out.split()[0] == color and (tmp_path / "look.png").exists()
    assert cli.main(["ask", str(image), "is the zebra red ?", "--run", str(run.path)]) == 2
    assert "does not know the word 'zebra'" in capsys.readouterr().err


def test_the_split_is_by_image():
    """Ten images, of which image i is all i; two questions about each say which image they are about."""
    images = np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None, None, None], (10, 4, 4, 3))
    index = np.tile(np.arange(10), 2)
    whole = QuestionSet(images, index, tuple(f"is it {i} ?" for i in index), ("yes",) * 20)
    parts = split_by_image(whole, 0.3, np.random.default_rng(0))
    assert [len(part.images) for part in parts] == [7, 3] and [len(part) for part in parts] == [14, 6]
    for part in parts:
        assert part.questions == tuple(f"is it {part.images[i, 0, 0, 0]} ?" for i in part.image_index)
    assert {int(image[0, 0, 0]) for part in parts for image in part.images} == set(range(10))


def test_a_killed_training_resumes_with_the_same_numbers(tmp_path, monkeypatch):
    recipe = replace(RECIPE, training=replace(RECIPE.training, steps=25))
    whole, *_ = jobs.train_run("multimodal_bert", tmp_path / "whole", recipe, progress=False)
    step = multimodal_bert.MultimodalBERTTask.step

    def killed(self, batch, rng, count=[0]):
        count[0] += 1
        if count[0] == 18:
            raise KeyboardInterrupt
        return step(self, batch, rng)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="step 17"):
        patch.setattr(multimodal_bert.MultimodalBERTTask, "step", killed)
        jobs.train_run("multimodal_bert", tmp_path / "killed", recipe, progress=False)
    resumed, _, summary = jobs.train_run("multimodal_bert", tmp_path / "killed", resume=True, progress=False)
    assert summary.start == 10
    for name, array in whole.model.state().items():
        np.testing.assert_array_equal(resumed.model.state()[name], array)


def own_lists(tmp_path, n=12):
    images, names = tiny_task.pictures(n, np.random.default_rng(5))
    paths = []
    for i, image in enumerate(images):
        paths += [tmp_path / f"{i}.png"] * 2
        Image.fromarray(image).save(paths[-1])
    questions = ["which color has it ?", "is it red ?"] * n
    return paths, questions, [answer for name in names for answer in (name, "yes" if name == "red" else "no")]


def test_training_on_own_lists(tmp_path, capsys):
    images, questions, answers = own_lists(tmp_path)
    settings = SIZES | {"steps": 120, "backend": "numpy", "seed": 1}
    model = MultimodalBERT.train(images, questions, answers, out=tmp_path / "run", progress=False, **settings)
    assert model.config.answers == tuple(sorted(set(answers))) and model.config.d_model == 16
    right = np.mean([given == answer for given, answer in zip(model.predict(images, questions), answers)])
    assert right > 0.8
    assert tinymm.load(tmp_path / "run").predict(images, questions) == model.predict(images, questions)
    assert cli.main(["ask", str(images[0]), "is it red?", "--run", str(tmp_path / "run")]) == 0
    assert capsys.readouterr().out.strip() in ("yes", "no")
    for command in (["evaluate", str(tmp_path / "run")], ["train", "multimodal_bert", "--out", str(tmp_path / "run"), "--resume"]):
        assert cli.main(command) == 2 and "lists that are not in its run folder" in capsys.readouterr().err
    nothing_kept = MultimodalBERT.train(images[:4], questions[:4], answers[:4], progress=False, **settings | {"steps": 2})
    assert len(nothing_kept.predict(images[:4], questions[:4])) == 4


def test_an_image_given_several_times_is_read_once(tmp_path):
    paths, questions, answers = own_lists(tmp_path, 3)
    picture = Image.open(paths[0])
    data = gather([*paths, picture, picture, str(paths[0])], [*questions, *["is it red ?"] * 3], [*answers, *["no"] * 3], 16)
    assert data.images.shape == (4, 16, 16, 3) and data.image_index.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 0]


def test_lists_that_cannot_be_learnt_from(tmp_path):
    images, questions, answers = own_lists(tmp_path, 2)
    for change, error, part in (
        ({"answers": answers[:3]}, ValueError, "equally many, got 4, 4 and 3"),
        ({"answers": ["yes"] * 4}, ValueError, "at least two that differ"),
        ({"questions": [" ?", *questions[1:]]}, UserError, "a question is empty"),
        ({"images": [tmp_path / "none.png", *images[1:]]}, UserError, "does not exist"),
        ({"width": 3}, UserError, "no setting --width"),
    ):
        with pytest.raises(error, match=part):
            MultimodalBERT.train(**{"images": images, "questions": questions, "answers": answers} | change, progress=False)
