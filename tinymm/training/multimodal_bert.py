"""The multimodal BERT learns to answer easy-VQA's questions, as a classifier over its 13 answers.

A tenth of the training images is kept back with all their questions: what is chosen is chosen on these, and the official test
questions are looked at by `tinymm evaluate` alone. The split is by image, as two questions about one image share its answer's
reason. Two baselines stand beside the result: the same model with the image blanked, and the commonest training answer to
each question. `train_on` is the same training for a user's own images, questions and answers.
"""

import os
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.batches import BatchSettings, QuestionDraw
from tinymm.data.bucketing import pad_sentences
from tinymm.data.easy_vqa import QuestionSet, load_easy_vqa, split_by_image
from tinymm.data.images import ImageSource, load_image
from tinymm.data.tokenizer import Tokenizer
from tinymm.errors import UserError
from tinymm.models.bert import CLS, encode_sentences
from tinymm.models.multimodal_bert import MultimodalBERT, MultimodalBERTConfig, question_ids
from tinymm.training.checkpoints import RunFolder
from tinymm.training.jobs import Figure, Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings, train
from tinymm.training.metrics import Example, exact_match, exact_match_by_group, majority_answers
from tinymm.training.text_image import kind_of_answer, spread_questions

_INITIAL_WEIGHTS, _BATCH = 801, 802    # streams of chance
_VALIDATION = 20_260                   # which images are kept back: the same for every seed

FIGURES = {
    "validation_exact": Figure("questions about images kept back, right answer"),
    "test_exact": Figure("easy-VQA, official test questions, right answer"),
    "blank_image_exact": Figure("the same with the image blanked (question alone)"),
    "majority_exact": Figure("the commonest training answer to each question"),
}


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a training; saved in config.json."""

    training: TrainingSettings = TrainingSettings(steps=3000, learning_rate=2e-3, warmup=200, beta2=0.98, kernel_decay=0.2,
                                                  evaluate_every=250, evaluation_limit=1000)
    model: MultimodalBERTConfig = MultimodalBERTConfig(vocabulary_size=0)    # words and answers are put in by `prepare`
    batch: BatchSettings = BatchSettings(question_images=32, questions_per_image=4, scenes=0)
    validation_share: float = 0.1     # of the training images
    own_data: bool = False            # trained by `train_on`

    @classmethod
    def quick(cls) -> "Recipe":
        """A version of about a minute."""
        return cls(training=replace(cls.training, steps=500, warmup=60))


class Batch(NamedTuple):
    images: NDArray[np.uint8]          # (B, H, W, 3)
    ids: NDArray[np.int64]             # (R, T)
    labels: NDArray[np.intp]           # (R,)  places among the answers
    image_index: NDArray[np.int64]     # (R,)  question r is about images[image_index[r]]


@dataclass
class MultimodalBERTTask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: MultimodalBERT
    recipe: Recipe
    questions: QuestionSet      # to train on
    validation: QuestionSet

    def __post_init__(self) -> None:
        config = self.model.config
        place = {answer: i for i, answer in enumerate(config.answers)}
        self.ids = pad_sentences(encode_sentences(self.model.tokenizer, self.questions.questions, config.max_length))    # (Q, T)
        self.labels = np.array([place[answer] for answer in self.questions.answers])                                     # (Q,)
        self.questions_of = QuestionDraw(self.questions, self.recipe.training.seed, self.recipe.batch)

    def batch(self, step: int) -> Batch:
        """Some images, and a few questions about each."""
        rng = np.random.default_rng([self.recipe.training.seed, step, _BATCH])
        images, rows, image_index = self.questions_of.draw(step, rng)
        ids = self.ids[rows]
        return Batch(images, ids[:, :(ids != Tokenizer.pad_id).sum(axis=1).max()], self.labels[rows], image_index)

    def step(self, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        model, ops = self.model, self.model.ops
        images = model.encoder.image_input(batch.images)                                                # (B, H, W, 3)  F1
        logits, cache = model.forward(images, batch.ids, batch.image_index, training=True, rng=rng)     # (R, A)        F2
        loss, loss_cache = ops.cross_entropy_forward(logits, batch.labels)                              # ()            F3

        d_logits = ops.cross_entropy_backward(1.0, loss_cache)                                          # (R, A)        undoes F3
        model.backward(d_logits, cache, input_gradient=False)                                           #               undoes F2
        return {"loss": float(loss), "accuracy": float((logits.argmax(axis=-1) == batch.labels).mean())}

    def trace(self, batch: Batch, rng: np.random.Generator) -> dict[str, Any]:
        """The caches of a step's forward pass, for the search of an array that is not finite."""
        images = self.model.encoder.image_input(batch.images)
        logits, cache = self.model.forward(images, batch.ids, batch.image_index, training=True, rng=rng)
        return {"images": images, **cache._asdict(), "logits": logits}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Right answers to questions about images that are kept back, if any are."""
        asked = self.validation if limit is None else spread_questions(self.validation, limit)
        return {"validation_exact": exact_match(answer_questions(self.model, asked), asked.answers)} if len(asked) else {}


def prepare(recipe: Recipe, tokenizer: Tokenizer | None = None) -> MultimodalBERTTask:
    """Data, words and a model with fresh weights. A resumed run passes the tokenizer it began with.

    Raises:
        UserError: the run was trained on a user's own lists, which are not in its folder.
    """
    refuse_own_data(recipe)
    data = load_easy_vqa()
    return make_task(recipe, data.train, data.answers, tokenizer)


def make_task(recipe: Recipe, questions: QuestionSet, answers: Sequence[str], tokenizer: Tokenizer | None = None) -> MultimodalBERTTask:
    """The task of these questions, of which a share is kept back."""
    if tokenizer is None:
        tokenizer = Tokenizer.build(questions.questions, extra=(CLS,))
    config = replace(recipe.model, vocabulary_size=len(tokenizer), answers=tuple(answers))
    model = MultimodalBERT(config, np.random.default_rng([recipe.training.seed, _INITIAL_WEIGHTS]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    rest, kept = split_by_image(questions, recipe.validation_share, np.random.default_rng(_VALIDATION))
    return MultimodalBERTTask(model, replace(recipe, model=config), rest, kept)


def train_on(images: Sequence[ImageSource], questions: Sequence[str], answers: Sequence[str], *, out: str | Path | None = None,
             mirror: bool = False, progress: bool = True, **settings: Any) -> MultimodalBERT:
    """Train a model on a user's lists; see `MultimodalBERT.train`."""
    recipe = Recipe().with_options(**settings)
    choices = sorted(set(answers))
    if len(choices) < 2:
        raise ValueError(f"answers must hold at least two that differ, got {choices}")
    if empty := [question for question in questions if not any(map(str.isalnum, question))]:
        raise UserError(f"a question is empty: {empty[0]!r}")
    data = gather(images, questions, answers, recipe.model.image_size)
    longest = 1 + max(map(len, map(Tokenizer.split, questions)))          # <cls> is one more
    trained_on = len(data.images) - round(recipe.validation_share * len(data.images))
    recipe = replace(
        recipe, own_data=True, model=replace(recipe.model, max_length=max(longest, recipe.model.max_length)),
        training=replace(recipe.training, warmup=min(recipe.training.warmup, recipe.training.steps // 5)),
        batch=replace(recipe.batch, mirror=mirror, question_images=min(recipe.batch.question_images, trained_on)))
    task = make_task(recipe, data, choices)
    with ExitStack() as stack:
        folder = Path(out or stack.enter_context(tempfile.TemporaryDirectory()))
        run = RunFolder.create(folder, model="multimodal_bert", model_config=asdict(task.model.config),
                               training=task.recipe.settings(), tokenizer=task.model.tokenizer)
        train(task, task.recipe.training, run, progress=progress)
    return task.model


def gather(images: Sequence[ImageSource], questions: Sequence[str], answers: Sequence[str], size: int) -> QuestionSet:
    """A set in which each image is there once: the same path or the same object is the same image."""
    places: dict[Any, int] = {}
    index = np.array([places.setdefault(str(image) if isinstance(image, (str, os.PathLike)) else id(image), len(places)) for image in images])
    first = np.unique(index, return_index=True)[1]
    return QuestionSet(np.stack([load_image(images[i], size) for i in first]), index, tuple(questions), tuple(answers))


def refuse_own_data(recipe: Recipe) -> None:
    if recipe.own_data:
        raise UserError("this model was trained by MultimodalBERT.train on lists that are not in its run folder, so it can be asked "
                        "(`tinymm ask`), but not resumed or evaluated; compare `predict` with answers of your own")


# ---- evaluation -----------------------------------------------------------------------------------------------------


def answer_questions(model: MultimodalBERT, asked: QuestionSet) -> list[str]:
    """The model's answer to every question; each image is encoded once."""
    ids = {text: question_ids(model, text) for text in set(asked.questions)}
    return model.choose(asked.images, pad_sentences([ids[text] for text in asked.questions]), asked.image_index)


def blanked(asked: QuestionSet) -> QuestionSet:
    """The same questions about an even grey: what the words alone tell."""
    return replace(asked, images=np.full_like(asked.images[:1], 128), image_index=np.zeros_like(asked.image_index))


def draw(run: RunFolder, task: MultimodalBERTTask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.image_questions import draw_run    # here, as a training needs no picture until it is over

    return draw_run(run, task.model, "Questions about images kept back", examples_of(task.model, spread_questions(task.validation, 18)))


def evaluate_run(model: MultimodalBERT, run: RunFolder) -> Report:
    """What `tinymm evaluate` shows: the official test questions, the two baselines beside them, and pictures."""
    from tinymm.plots.image_questions import draw_evaluation

    refuse_own_data(Recipe.of_run(run))
    data = load_easy_vqa()
    examples = examples_of(model, data.test)
    given = [example.given for example in examples]
    commonest, overall = majority_answers(data.train.questions, data.train.answers)
    figures = {
        "test_exact": exact_match(given, data.test.answers),
        "blank_image_exact": exact_match(answer_questions(model, blanked(data.test)), data.test.answers),
        "majority_exact": exact_match([commonest.get(text, overall) for text in data.test.questions], data.test.answers),
    }
    by_kind = {"test_exact": exact_match_by_group(given, data.test.answers, list(map(kind_of_answer, data.test.answers)))}
    return Report(figures, pictures=draw_evaluation(run, model, "Test questions of easy-VQA", examples), by_kind=by_kind)


def examples_of(model: MultimodalBERT, asked: QuestionSet) -> list[Example]:
    """Every question with its image, the model's answer and the right one."""
    images = [asked.images[i] for i in asked.image_index]    # views, not copies
    return list(map(Example, images, asked.questions, answer_questions(model, asked), asked.answers))
