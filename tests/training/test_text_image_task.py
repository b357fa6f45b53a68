"""The main job's Task on tiny pictures: where the loss begins, that it learns, that its measures are what they say."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_task

from tinymm import UserError
from tinymm.training import text_image
from tinymm.training.checkpoints import RunFolder, load_run
from tinymm.training.loop import train
from tinymm.training.nonfinite import NonFiniteError, first_nonfinite, named_arrays
from tinymm.training.optimizers import AdamW
from tinymm.training.text_image import Recipe, answer_questions, answer_without_image, caption_scenes, evaluate


def overfit(task, steps=150):
    """Train on the batch of step 0 alone, without dropout."""
    for block in task.model.blocks:
        block.attention.dropout = block.feed_forward.dropout = 0.0
    optimizer, batch = AdamW(task.model), task.batch(0)
    for _ in range(steps):
        optimizer.zero_grad()
        values = task.step(batch, np.random.default_rng(0))
        optimizer.step(1e-2)
    return values


def test_the_loss_begins_near_ln_v():
    losses = []
    for seed in range(5):
        task = tiny_task.make_task(replace(tiny_task.RECIPE, training=replace(tiny_task.RECIPE.training, seed=seed)))
        losses.append(task.step(task.batch(0), np.random.default_rng(0))["loss"])
    assert np.mean(losses) == pytest.approx(np.log(len(task.model.tokenizer)), rel=0.2)


def test_one_batch_can_be_overfitted():
    values = overfit(tiny_task.make_task())
    assert values["loss"] < 0.05 and values["accuracy"] == 1.0


def test_exactness_in_one_pass_is_that_of_generation():
    """For a model that was hardly trained, and two that know more and more."""
    found = []
    for steps in (1, 40, 150):
        task = tiny_task.make_task()
        overfit(task, steps)
        figures, tests = task.evaluate(), task.tests
        written = answer_questions(task.model, tests.questions)
        assert figures["questions_exact"] == np.mean([a == b for a, b in zip(written, tests.questions.answers)])
        for name, scenes in (("seen", tests.seen), ("unseen", tests.unseen)):
            written = caption_scenes(task.model, scenes)
            assert figures[f"captions_{name}_exact"] == np.mean([a == b for a, b in zip(written, scenes.captions)])
        found.append(figures["questions_exact"])
    assert found[0] < found[-1]


def test_a_limited_evaluation_uses_an_even_spread():
    task = tiny_task.make_task()
    everything = task.tests.questions
    some = text_image.spread_questions(everything, 3)
    assert some.questions == ("what color is the spot ?", "is the spot red ?", "is the spot red ?")
    for place, row in enumerate((0, 3, 7)):
        image = some.images[some.image_index[place]]
        np.testing.assert_array_equal(image, everything.images[everything.image_index[row]])
        assert some.answers[place] == everything.answers[row]
    assert [len(text_image.spread_scenes(task.tests.seen, limit)) for limit in (2, 100)] == [2, 6]


def test_the_full_evaluation_with_its_baselines_and_examples():
    task = tiny_task.make_task()
    overfit(task)
    training = tiny_task.questions(8, np.random.default_rng(3))
    result = evaluate(task.model, task.tests, training, examples=5)
    assert list(result.figures) == ["questions_exact", "blank_image_exact", "majority_exact", "captions_seen_exact",
                                    "captions_unseen_exact"]
    assert result.figures == result.figures | task.evaluate()
    blank = answer_without_image(task.model, task.tests.questions.questions)
    assert blank[0] == blank[2] and blank[1] == blank[3]      # the same words, the same answer: it saw no image
    assert sum(count for _, count in result.by_kind["questions"].values()) == 8
    assert [len(result.examples[name]) for name in ("questions", "captions_seen", "captions_unseen")] == [5, 5, 5]
    first = result.examples["questions"][0]
    assert first.question == "what color is the spot ?" and first.right == (first.given == first.expected)
    assert all(not item.right for items in result.errors.values() for item in items)
    assert result.by_kind["captions_seen"]["1 shape"][1] == 6


def test_kinds():
    kinds = [text_image.kind_of_answer(answer) for answer in ("no", "triangle", "teal")]
    assert kinds == ["yes or no", "shape", "colour"]
    assert text_image.kind_of_caption("a red star above a blue heart") == "2 shapes"


def test_a_recipe_survives_its_run_folder(tmp_path):
    task = tiny_task.make_task()
    run = tiny_task.make_run(tmp_path / "run", task)
    assert Recipe.of_run(RunFolder.open(run.path)) == task.recipe
    for section, changes in (("training", {"pace": 3}), ("training", {"steps": 0}), ("batch", {"size": 3})):
        broken = RunFolder.open(run.path)
        broken.config["training"][section].update(changes)
        with pytest.raises(UserError, match="does not describe a training of this version"):
            Recipe.of_run(broken)


def test_a_bad_number_deep_in_the_model_is_named(tmp_path):
    task = tiny_task.make_task()
    run = tiny_task.make_run(tmp_path / "run", task)
    step = task.step

    def broken(batch, rng):
        if task.now == 7:
            task.model.blocks[0].attention.sublayer.query.weight.value[...] *= 3e38
        return step(batch, rng)

    def batch_of(step_number, batch=task.batch):
        task.now = step_number
        return batch(step_number)

    task.step, task.batch = broken, batch_of
    name = r"decoder\.blocks\.0\.attention\.sublayer\.\S+"
    with pytest.raises(NonFiniteError, match=rf"in the forward pass {name} \((infinity|NaN)"):
        train(task, task.recipe.training, run, progress=False)
    assert load_run(run.path)      # the checkpoint before it is intact


def test_a_healthy_trace_gives_no_alarm_and_has_named_arrays():
    task = tiny_task.make_task()
    trace = task.trace(task.batch(0), np.random.default_rng(0))
    assert first_nonfinite(trace, minus_infinity_is_bad=False) is None
    names = [name for name, _ in named_arrays(trace)]
    assert names[0] == "images" and "logits" in names
    assert "decoder.blocks.0.attention.sublayer.attention.weights" in names


def test_preparing_the_real_data_and_one_step():
    recipe = replace(Recipe.quick(), training_scenes=40, backend="numpy",
                     batch=replace(Recipe.quick().batch, question_images=3, scenes=2))
    task = text_image.prepare(recipe, test_scenes=3)
    assert len(task.tests.questions) == 9673 and task.recipe.model.vocabulary_size == len(task.model.tokenizer)
    assert np.isfinite(task.step(task.batch(0), np.random.default_rng(0))["loss"])
    again = text_image.prepare(recipe, task.model.tokenizer, test_scenes=3)
    np.testing.assert_array_equal(again.batch(5).images, task.batch(5).images)
    for one, other in zip(again.model.parameters(), task.model.parameters()):
        np.testing.assert_array_equal(one.value, other.value)


def test_the_two_losses_are_weighed_and_the_gradient_is_that_of_their_sum():
    task = tiny_task.make_task(replace(tiny_task.RECIPE, caption_weight=3.0))
    task.model.astype(np.float64)
    for block in task.model.blocks:
        block.attention.dropout = block.feed_forward.dropout = 0.0
    batch, weight = task.batch(0), task.model.words.weight
    weight.grad[...] = 0
    values = task.step(batch, np.random.default_rng(0))
    assert values["loss"] == pytest.approx((values["questions_loss"] + 3 * values["captions_loss"]) / 4, rel=1e-12)
    step = np.zeros(weight.shape)
    step[2, 5] = 1e-6
    there, back = [], weight.value.copy()
    for sign in (1, -1):
        weight.value[...] = back + sign * step
        images = task.model.image_input(batch.images)
        logits, _ = task.model.forward(images, batch.ids, batch.image_index, training=True)
        there.append(sum(part.weight * part.loss for part in task.losses(logits, batch)))
    assert weight.grad[2, 5] == pytest.approx((there[0] - there[1]) / 2e-6, rel=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("data, names, losses", [
    ("all", {"questions_exact", "captions_seen_exact", "captions_unseen_exact", "matching_seen_exact", "matching_unseen_exact"},
     {"questions_loss", "captions_loss", "matching_loss"}),
    ("matching", {"matching_seen_exact", "matching_unseen_exact"}, set()),
    ("questions", {"questions_exact"}, set()),
])
def test_each_choice_of_tasks_trains_and_tests_just_these(data, names, losses, tmp_path):
    recipe = Recipe.for_data(data)
    model = replace(recipe.model, channels=(4, 6), strides=(4, 4), d_model=8, n_heads=2, n_layers=1, d_ff=8)
    batch = replace(recipe.batch, question_images=min(4, recipe.batch.question_images), scenes=min(5, recipe.batch.scenes))
    task = text_image.prepare(replace(recipe, model=model, batch=batch, training_scenes=20), test_scenes=10)
    task.tests = replace(task.tests, questions=task.tests.questions and text_image.spread_questions(task.tests.questions, 10))
    values = task.step(task.batch(0), np.random.default_rng(0))
    assert np.isfinite(values["loss"]) and {name for name in values if name.endswith("_loss")} == losses
    assert sum(weight for _, _, weight in task.parts(task.batch(0))) == pytest.approx(1)
    assert task.evaluate(limit=6).keys() == names
    if data == "questions":
        return      # the rest is like that of "all"
    result = evaluate(task.model, task.tests, task.tests.questions)
    assert result.figures.keys() == names | ({"blank_image_exact", "majority_exact"} if "questions_exact" in names else set())
    run = tiny_task.make_run(tmp_path / "run", task)
    run.metrics.write_text("step,loss\n1,2.0\n")
    pictures = {path.name for path in text_image.draw(run, task)}
    assert pictures == {"curves.png", "attention.png", *(f"{name.split('_')[0]}.png" for name in names)}
    assert Recipe.of_run(RunFolder.open(run.path)).batch == task.recipe.batch
