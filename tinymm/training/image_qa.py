"""Extractive question answering about images: which words of the question are the answer?

Each step asks two-way questions (`tinymm.data.choice_questions`) about images of easy-VQA, mirrored and shifted, and about scenes
that are composed and drawn for this step alone; at first scenes of one shape (easy examples first: a curriculum, Bengio et al. 2009).
The loss is the cross-entropy of where the answer begins and where it ends.

Validation and test images are never trained on: easy-VQA's test images, a tenth of its training images for validation, and
scenes of their own. Their questions come in pairs, the same question about two images with opposite answers; without its
image a model can get no more than half of them right.
"""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.batches import BatchSettings, QuestionDraw, draw_rows
from tinymm.data.bucketing import pad_sentences
from tinymm.data.choice_questions import (
    EASY_VQA, SCENES, SpanQuestion, SpanSet, choices_about, easy_vqa_shapes, make_span_set, random_scenes, vocabulary,
)
from tinymm.data.easy_vqa import load_easy_vqa, split_by_image
from tinymm.data.scenes import draw_scenes
from tinymm.data.tokenizer import Tokenizer
from tinymm.models.bert import CLS
from tinymm.models.image_qa import ImageQA, ImageQAConfig, may_answer, question_ids
from tinymm.training.checkpoints import RunFolder
from tinymm.training.jobs import Figure, Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings
from tinymm.training.metrics import Example

_INITIAL_WEIGHTS, _ORDER, _BATCH = 821, 822, 823      # streams of chance
_VALIDATION, _TEST = 20_270, 20_271                   # which images are kept back, what is asked about them: the same for every seed

FIGURES = {
    "validation_exact": Figure("two-way questions about images kept back, exact span"),
    "test_exact": Figure("two-way questions about test images, exact span"),
    "blank_image_exact": Figure("the same with the image blanked (question alone)"),
}


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a training; saved in config.json."""

    training: TrainingSettings = TrainingSettings(steps=4000, learning_rate=3e-3, warmup=200, beta2=0.98, kernel_decay=0.2,
                                                  evaluate_every=250, evaluation_limit=1000)
    model: ImageQAConfig = ImageQAConfig(vocabulary_size=0)    # the tokenizer's size is put in by `prepare`
    easy_images: int = 12        # of easy-VQA in a batch
    scenes: int = 28             # in a batch
    one_shape: int = 500         # so many steps have scenes of a single shape only
    rounds: int = 2              # questions of each kind about an image
    validation_share: float = 0.1     # of easy-VQA's training images
    test_scenes: int = 2000           # and as many for validation

    @classmethod
    def quick(cls) -> "Recipe":
        """A version of about a minute."""
        return cls(training=replace(cls.training, steps=500, warmup=60))


class Batch(NamedTuple):
    images: NDArray[np.uint8]          # (B, H, W, 3)
    ids: NDArray[np.int64]             # (R, T)
    spans: NDArray[np.int64]           # (R, 2)  the first and the last place of the answer
    image_index: NDArray[np.int64]     # (R,)    question r is about images[image_index[r]]


@dataclass
class ImageQATask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: ImageQA
    recipe: Recipe

    def __post_init__(self) -> None:
        train, _ = split_by_image(load_easy_vqa().train, self.recipe.validation_share, np.random.default_rng(_VALIDATION))
        self.shapes = easy_vqa_shapes(train)
        self.known = np.array([i for i, shape in enumerate(self.shapes) if shape is not None])
        self.easy = QuestionDraw(train, self.recipe.training.seed, BatchSettings())

    def batch(self, step: int) -> Batch:
        """Images of easy-VQA and new scenes, with questions of every kind about each."""
        recipe, seed = self.recipe, self.recipe.training.seed
        rng = np.random.default_rng([seed, step, _BATCH])
        rows = self.known[draw_rows(seed, _ORDER, step, len(self.known), recipe.easy_images)]
        scenes = random_scenes(recipe.scenes, rng, 1 if step < recipe.one_shape else None)
        images = np.concatenate([self.easy.show(rows, rng), draw_scenes(scenes)])
        there = [((self.shapes[row],), EASY_VQA) for row in rows] + [(scene.shapes, SCENES) for scene in scenes]
        asked = [(i, choice.asked(bool(rng.random() < 0.5)))
                 for i, (shapes, world) in enumerate(there) for _ in range(recipe.rounds) for choice in choices_about(shapes, world, rng)]
        return Batch(images, *encode(self.model.tokenizer, [question for _, question in asked]), np.array([i for i, _ in asked]))

    def step(self, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        model, ops = self.model, self.model.ops
        allowed = may_answer(batch.ids)                                                                 # (R, T)
        images = model.encoder.image_input(batch.images)                                                # (B, H, W, 3)  F1
        logits, cache = model.forward(images, batch.ids, batch.image_index, training=True, rng=rng)     # (R, T, 2)     F2
        loss, loss_cache = ops.span_cross_entropy_forward(logits, batch.spans, allowed)                 # ()            F3

        d_logits = ops.span_cross_entropy_backward(1.0, loss_cache)                                     # (R, T, 2)     undoes F3
        model.backward(d_logits, cache, input_gradient=False)                                           #               undoes F2
        found = ops.best_span(logits, allowed)                                                          # (R, 2)
        return {"loss": float(loss), "accuracy": float((found == batch.spans).all(axis=1).mean())}

    def trace(self, batch: Batch, rng: np.random.Generator) -> dict[str, Any]:
        """The caches of a step's forward pass, for the search of an array that is not finite."""
        images = self.model.encoder.image_input(batch.images)
        logits, cache = self.model.forward(images, batch.ids, batch.image_index, training=True, rng=rng)
        return {"images": images, **cache._asdict(), "logits": logits}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Exact spans of questions about images and scenes that are kept back."""
        asked = validation_set(self.recipe.validation_share, self.recipe.test_scenes)
        return {"validation_exact": float(right_spans(self.model, asked if limit is None else asked.spread(limit)).mean())}


def prepare(recipe: Recipe, tokenizer: Tokenizer | None = None) -> ImageQATask:
    """Data, words and a model with fresh weights. A resumed run passes the tokenizer it began with."""
    if tokenizer is None:
        tokenizer = Tokenizer.build(vocabulary(), extra=(CLS,))
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = ImageQA(config, np.random.default_rng([recipe.training.seed, _INITIAL_WEIGHTS]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    return ImageQATask(model, replace(recipe, model=config))


def encode(tokenizer: Tokenizer, questions: "list[SpanQuestion] | tuple[SpanQuestion, ...]") -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """<cls> and the words of each question (R, T), and the places of its answer among them (R, 2)."""
    ids = pad_sentences([[tokenizer.id(CLS), *tokenizer.encode(question.question)] for question in questions])
    return ids, np.array([(1 + question.first, 1 + question.last) for question in questions])


# ---- evaluation -----------------------------------------------------------------------------------------------------


@lru_cache(maxsize=2)
def validation_set(share: float, scenes: int) -> SpanSet:
    """Questions about the training images of easy-VQA that are kept back, and about scenes of their own."""
    _, kept = split_by_image(load_easy_vqa().train, share, np.random.default_rng(_VALIDATION))
    rng = np.random.default_rng([_VALIDATION, 1])
    return make_span_set((kept.images, easy_vqa_shapes(kept)), random_scenes(scenes, rng), rng)


def load_test_set(scenes: int) -> SpanSet:
    """Questions about easy-VQA's official test images and about scenes of their own."""
    test, rng = load_easy_vqa().test, np.random.default_rng(_TEST)
    return make_span_set((test.images, easy_vqa_shapes(test)), random_scenes(scenes, rng), rng)


def find_spans(model: ImageQA, asked: SpanSet) -> NDArray[np.integer]:
    """The span that the model finds in every question, among its words: (Q, 2)."""
    ids, _ = encode(model.tokenizer, asked.questions)
    return model.find(asked.images, ids, asked.image_index) - 1


def right_spans(model: ImageQA, asked: SpanSet) -> NDArray[np.bool_]:
    """Which questions get exactly the right span: (Q,)."""
    return (find_spans(model, asked) == [(question.first, question.last) for question in asked.questions]).all(axis=1)


def blanked(asked: SpanSet) -> SpanSet:
    """The same questions about an even grey: what the words alone tell."""
    return replace(asked, images=np.full_like(asked.images[:1], 128), image_index=np.zeros_like(asked.image_index))


def examples_of(model: ImageQA, asked: SpanSet) -> list[Example]:
    """Every question with its image, the words that the model finds and the right ones."""
    given = [" ".join(question.question.split()[first:last + 1])
             for question, (first, last) in zip(asked.questions, find_spans(model, asked).tolist())]
    images = [asked.images[i] for i in asked.image_index]
    return list(map(Example, images, [question.question for question in asked.questions], given, [question.answer for question in asked.questions]))


def draw(run: RunFolder, task: ImageQATask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.image_questions import draw_run    # here, as a training needs no picture until it is over

    kept = validation_set(task.recipe.validation_share, task.recipe.test_scenes).spread(18)
    return draw_run(run, task.model, "Questions about images kept back", examples_of(task.model, kept))


def evaluate_run(model: ImageQA, run: RunFolder) -> Report:
    """What `tinymm evaluate` shows: exact spans on test images, the same without the image, and pictures."""
    from tinymm.plots.image_questions import draw_evaluation

    asked = load_test_set(Recipe.of_run(run).test_scenes)
    right = right_spans(model, asked)
    kinds = np.array(asked.names)
    by_kind = {str(kind): (float(right[kinds == kind].mean()), int((kinds == kind).sum())) for kind in np.unique(kinds)}
    figures = {"test_exact": float(right.mean()), "blank_image_exact": float(right_spans(model, blanked(asked)).mean())}
    pictures = draw_evaluation(run, model, "Two-way questions about test images", examples_of(model, asked))
    return Report(figures, pictures=pictures, by_kind={"test_exact": by_kind})
