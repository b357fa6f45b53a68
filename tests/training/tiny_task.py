"""A small text-image training that takes a second, for the tests; as a script it trains or resumes a run folder.

    python tiny_task.py RUN_FOLDER [resume]
"""

import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from tinymm.data.batches import BatchSettings, TrainingBatches
from tinymm.data.easy_vqa import QuestionSet
from tinymm.data.scenes import SceneSet
from tinymm.data.tokenizer import Tokenizer
from tinymm.models.text_image import TextImageConfig, TextImageModel
from tinymm.training.checkpoints import RunFolder, load_tokenizer
from tinymm.training.loop import TrainingSettings, train
from tinymm.training.text_image import Recipe, TestSets, TextImageTask

COLORS = {"red": (220, 30, 30), "green": (30, 200, 30), "blue": (30, 30, 220)}
RECIPE = Recipe(
    training=TrainingSettings(steps=60, learning_rate=1e-2, warmup=5, log_every=4, evaluate_every=9, evaluation_limit=4,
                              checkpoint_every=3, seed=7),
    batch=BatchSettings(question_images=4, questions_per_image=2, scenes=3, max_shift=2),
    model=TextImageConfig(vocabulary_size=0, image_size=16, channels=(4, 6), strides=(2, 2), d_model=8, n_heads=2,
                          n_layers=1, d_ff=16, max_length=10, dropout=0.1),
    training_scenes=12, backend="numpy")


def pictures(n, rng):
    """Squares 16x16 with a spot of one colour each, and the colours' names."""
    names = [list(COLORS)[i] for i in rng.integers(len(COLORS), size=n)]
    images = np.full((n, 16, 16, 3), 240, np.uint8)
    for image, name, (y, x) in zip(images, names, rng.integers(3, 9, size=(n, 2))):
        image[y:y + 5, x:x + 5] = COLORS[name]
    return images, names


def questions(n, rng):
    images, names = pictures(n, rng)
    index = np.repeat(np.arange(n), 2)
    asked = ("what color is the spot ?", "is the spot red ?") * n
    answers = tuple(answer for name in names for answer in (name, "yes" if name == "red" else "no"))
    return QuestionSet(images, index, asked, answers)


def scenes(n, rng):
    images, names = pictures(n, rng)
    captions = tuple(f"a {name} spot" for name in names)
    return SceneSet(images, captions, captions)


def make_task(recipe=RECIPE, tokenizer=None):
    rng = np.random.default_rng(3)
    asked, drawn = questions(8, rng), scenes(recipe.training_scenes, rng)
    tokenizer = tokenizer or Tokenizer.build([*asked.questions, *asked.answers, *drawn.captions])
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = TextImageModel(config, np.random.default_rng([recipe.training.seed, 1]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    batches = TrainingBatches(asked, drawn, tokenizer, recipe.training.seed, recipe.batch)
    tests = TestSets(questions(4, rng), scenes(6, rng), scenes(5, rng))
    return TextImageTask(model, batches, tests, replace(recipe, model=config))


def make_run(path, task):
    return RunFolder.create(path, model="text_image", model_config=asdict(task.model.config),
                            training=task.recipe.settings(), tokenizer=task.model.tokenizer)


def main(path, resume):
    if resume:
        run = RunFolder.open(path)
        task = make_task(Recipe.of_run(run), load_tokenizer(run))
    else:
        task = make_task()
        run = make_run(path, task)
    print("ready", flush=True)
    train(task, task.recipe.training, run, resume=resume, progress=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:] == ["resume"])
