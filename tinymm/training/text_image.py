"""The main job: one text-image model that answers easy-VQA's questions and captions scenes, in one training.

Each step sees images of both data sets and all their texts in one batch; every image is encoded once. The loss is the
cross-entropy of the next token, only over what the model shall say (answer or caption, and <end>), not over the prompt:
its mean over the answers' tokens, and its mean over the captions' tokens, weighed against each other.

A third task can be added, to tell whether a text matches a scene, or each task trained alone (`Recipe.for_data`), to see
what the tasks give each other by sharing one model, and what they cost.

Two baselines stand beside the result, because a figure means little alone: the same model with the image blanked, and
the commonest training answer to each question. Both know only the question's words.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.batches import IGNORE, Batch, BatchSettings, TrainingBatches, make_batch
from tinymm.data.easy_vqa import EasyVQA, QuestionSet, load_easy_vqa
from tinymm.data.matching import make_statements
from tinymm.data.scenes import SceneSet, compose_scenes
from tinymm.data.tokenizer import Tokenizer
from tinymm.models.text_image import TextImageConfig, TextImageModel
from tinymm.training.checkpoints import RunFolder
from tinymm.training.jobs import Figure, Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings
from tinymm.training.metrics import Example, exact_match, exact_match_by_group, majority_answers, token_accuracy

# Streams of chance beside those of the batches: initial weights and training scenes follow the run's seed,
# the test scenes are the same for every run.
_INITIAL_WEIGHTS, _TRAINING_SCENES = 101, 102
_TEST_SCENES = 20_190


FIGURES = {
    "questions_exact": Figure("easy-VQA, official test questions, exact answer"),
    "blank_image_exact": Figure("the same with the image blanked (question alone)"),
    "majority_exact": Figure("the commonest training answer to each question"),
    "captions_seen_exact": Figure("scene captions, exact: pairs seen in training"),
    "captions_unseen_exact": Figure("scene captions, exact: pairs never seen together"),
    "matching_seen_exact": Figure("does a text match a scene: pairs seen in training"),
    "matching_unseen_exact": Figure("does a text match a scene: pairs never seen together"),
}


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a training; saved in config.json."""

    DATA: ClassVar[tuple[str, ...]] = ("both", "all", "questions", "captions", "matching")

    # Kernels that decay fast keep shape and colour apart: the key to pairs never seen together.
    training: TrainingSettings = TrainingSettings(steps=3000, learning_rate=3e-3, warmup=100, beta2=0.98, kernel_decay=0.2)
    batch: BatchSettings = BatchSettings(question_images=32, questions_per_image=4, scenes=48)
    model: TextImageConfig = TextImageConfig(vocabulary_size=0)    # the tokenizer's size is put in by `prepare`
    data: str = "both"
    training_scenes: int = 24_000
    caption_weight: float = 1.0       # of the captions' mean loss beside that of the answers

    @classmethod
    def for_data(cls, data: str) -> "Recipe":
        """One, two ("both": questions and captions) or all three tasks, each with as many examples in a step."""
        batch = replace(cls.batch, question_images=cls.batch.question_images if data in ("both", "all", "questions") else 0,
                        scenes=0 if data == "questions" else cls.batch.scenes, captions=data in ("both", "all", "captions"),
                        matching=data in ("all", "matching"))
        return cls(data=data, batch=batch)

    @classmethod
    def quick(cls) -> "Recipe":
        """A one-minute version of the same job."""
        training = replace(cls.training, steps=500, warmup=60, evaluate_every=250, evaluation_limit=200)
        return cls(training=training, training_scenes=6000)


@dataclass(frozen=True)
class TestSets:
    """What is tested, None for a task that is not: questions, captions of scenes, and whether a text matches a scene.

    Scenes are those of known pairs of colour and shape, and those with pairs never trained on.
    """

    questions: QuestionSet | None = None
    seen: SceneSet | None = None
    unseen: SceneSet | None = None
    matching_seen: QuestionSet | None = None
    matching_unseen: QuestionSet | None = None

    @property
    def asked(self) -> dict[str, QuestionSet]:
        """All that is a question with an answer."""
        found = {"questions": self.questions, "matching_seen": self.matching_seen, "matching_unseen": self.matching_unseen}
        return {name: questions for name, questions in found.items() if questions is not None}

    @property
    def captioned(self) -> dict[str, SceneSet]:
        return {name: scenes for name, scenes in (("captions_seen", self.seen), ("captions_unseen", self.unseen)) if scenes is not None}


def load_test_sets(scenes: int = 1000, easy_vqa: EasyVQA | None = None, tasks: BatchSettings = Recipe.batch) -> TestSets:
    """For the tasks of these batches easy-VQA's official test questions, and as many test scenes of each kind; always the same ones."""
    sets: dict[str, Any] = {}
    if tasks.question_images:
        sets["questions"] = (easy_vqa or load_easy_vqa()).test
    if tasks.scenes:
        for stream, split in enumerate(("seen", "unseen")):
            composed = compose_scenes(scenes, np.random.default_rng([_TEST_SCENES, stream]), split)
            if tasks.captions:
                sets[split] = composed.drawn()
            if tasks.matching:
                sets[f"matching_{split}"] = make_statements(composed, np.random.default_rng([_TEST_SCENES, stream, 1]))
    return TestSets(**sets)


# ---- training -------------------------------------------------------------------------------------------------------


class PartLoss(NamedTuple):
    """The loss of one kind of text, and its weight in the whole."""

    name: str
    weight: float
    loss: np.floating
    cache: Any


@dataclass
class TextImageTask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: TextImageModel
    batches: TrainingBatches
    tests: TestSets
    recipe: Recipe

    def batch(self, step: int) -> Batch:
        return self.batches.batch(step)

    def step(self, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        model, ops = self.model, self.model.ops
        images = model.image_input(batch.images)                                                     # (B, H, W, 3)  F1
        logits, cache = model.forward(images, batch.ids, batch.image_index, training=True, rng=rng)  # (R, T, V)     F2
        losses = self.losses(logits, batch)                                                          # () each       F3
        loss = sum(part.weight * part.loss for part in losses)                                       # ()            F4

        d_parts = [ops.cross_entropy_backward(part.weight, part.cache) for part in losses]           # undoes F4 and F3
        model.backward(np.concatenate(d_parts), cache, input_gradient=False)                         # undoes F2
        figures = {"loss": float(loss), "accuracy": token_accuracy(logits, batch.labels)}
        return figures | {f"{part.name}_loss": float(part.loss) for part in losses if len(losses) > 1}

    def parts(self, batch: Batch) -> list[tuple[str, slice, float]]:
        """The kinds of text in a batch: name, rows, and weight in the loss; the weights sum to 1."""
        weights = [self.recipe.caption_weight if name == "captions" else 1.0 for name, _ in batch.parts]
        ends = np.cumsum([count for _, count in batch.parts]).tolist()
        return [(name, slice(end - count, end), weight / sum(weights)) for (name, count), end, weight in zip(batch.parts, ends, weights)]

    def losses(self, logits: NDArray[np.floating], batch: Batch) -> list["PartLoss"]:
        """The mean loss of each kind of text in the batch; of each, as a caption has six times an answer's tokens."""
        losses = []
        for name, rows, weight in self.parts(batch):
            loss, cache = self.model.ops.cross_entropy_forward(logits[rows], batch.labels[rows])
            losses.append(PartLoss(name, weight, loss, cache))
        return losses

    def trace(self, batch: Batch, rng: np.random.Generator) -> dict[str, Any]:
        """The caches of a step's forward pass, for the search of an array that is not finite."""
        images = self.model.image_input(batch.images)
        logits, cache = self.model.forward(images, batch.ids, batch.image_index, training=True, rng=rng)
        return {"images": images, **cache._asdict(), "logits": logits, "losses": self.losses(logits, batch)}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Exact answers on easy-VQA's test questions, exact captions on test scenes, and whether a text matches one."""
        asked, captioned = self.tests.asked, self.tests.captioned
        if limit is not None:
            asked = {name: spread_questions(questions, limit) for name, questions in asked.items()}
            captioned = {name: spread_scenes(scenes, limit) for name, scenes in captioned.items()}
        figures = {f"{name}_exact": questions_exact(self.model, questions) for name, questions in asked.items()}
        return figures | {f"{name}_exact": captions_exact(self.model, scenes) for name, scenes in captioned.items()}


def prepare(recipe: Recipe, tokenizer: Tokenizer | None = None, test_scenes: int = 1000) -> TextImageTask:
    """Data, words and a model with fresh weights. A resumed run passes the tokenizer it began with."""
    seed, easy_vqa = recipe.training.seed, load_easy_vqa()
    questions = easy_vqa.train if recipe.batch.question_images else None
    scenes = None
    if recipe.batch.scenes:
        scenes = compose_scenes(recipe.training_scenes, np.random.default_rng([seed, _TRAINING_SCENES]))
    if tokenizer is None:
        tokenizer = Tokenizer.build([*(questions.questions + questions.answers if questions else ()),
                                     *(scenes.captions + scenes.mirrored_captions if scenes else ()),
                                     *(("yes", "no", "?") if recipe.batch.matching else ())])
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = TextImageModel(config, np.random.default_rng([seed, _INITIAL_WEIGHTS]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    batches = TrainingBatches(questions, scenes, tokenizer, seed, recipe.batch)
    return TextImageTask(model, batches, load_test_sets(test_scenes, easy_vqa, recipe.batch), replace(recipe, model=config))


def draw(run: RunFolder, task: TextImageTask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.text_image import draw_run    # here, as a training needs no picture until it is over

    return draw_run(run, task.model, task.tests)


def evaluate_run(model: TextImageModel, run: RunFolder) -> Report:
    """What `tinymm evaluate` shows: everything of `evaluate`, and its pictures."""
    from tinymm.plots.text_image import draw_evaluation

    easy_vqa = load_easy_vqa()
    result = evaluate(model, load_test_sets(easy_vqa=easy_vqa, tasks=Recipe.of_run(run).batch), easy_vqa.train)
    by_kind = {f"{name}_exact": kinds for name, kinds in result.by_kind.items()}
    return Report(result.figures, pictures=draw_evaluation(run, result), by_kind=by_kind)


# ---- evaluation in one pass -----------------------------------------------------------------------------------------


def questions_exact(model: TextImageModel, questions: QuestionSet) -> float:
    """The share of questions that greedy generation would answer exactly."""
    prompt = {text: model.tokenizer.question_prompt(text) for text in set(questions.questions)}
    texts = [(prompt[question], answer) for question, answer in zip(questions.questions, questions.answers)]
    return greedy_exact(model, questions.images, texts, questions.image_index)


def captions_exact(model: TextImageModel, scenes: SceneSet) -> float:
    """The share of scenes that greedy generation would caption exactly."""
    prompt = model.tokenizer.caption_prompt()
    texts = [(prompt, caption) for caption in scenes.captions]
    return greedy_exact(model, scenes.images, texts, np.arange(len(scenes)))


def greedy_exact(model: TextImageModel, images: NDArray[np.uint8], texts: Sequence[tuple[list[int], str]],
                 image_index: NDArray[np.integer], chunk: int = 512) -> float:
    """How often greedy generation would continue (prompt, text) exactly so, without generating.

    It does if and only if, reading the right text, the model finds each next token the likeliest: up to the first
    mistake generation reads just these tokens. One forward pass instead of one for each token.
    """
    tokenizer, right = model.tokenizer, 0
    tokens = encode_images(model, images)                                                       # (B, N, D)
    pairs = [(prompt, [*tokenizer.encode(text), tokenizer.end_id]) for prompt, text in texts]
    for start in range(0, len(pairs), chunk):
        batch = make_batch(images, pairs[start:start + chunk], image_index[start:start + chunk])
        logits, _ = model.decode(tokens, batch.ids, batch.image_index)                          # (R, T, V)
        good = (logits.argmax(axis=-1) == batch.labels) | (batch.labels == IGNORE)              # (R, T)
        right += int(good.all(axis=-1).sum())
    return right / len(pairs) if pairs else float("nan")


def encode_images(model: TextImageModel, images: NDArray[np.uint8], chunk: int = 128) -> NDArray[np.floating]:
    """Image tokens (B, N, D), a few images at a time to bound the memory."""
    parts = (model.image_input(images[i:i + chunk]) for i in range(0, len(images), chunk))
    return np.concatenate([model.encoder.forward(part)[0] for part in parts])


# ---- evaluation by what the model writes ----------------------------------------------------------------------------


def answer_questions(model: TextImageModel, questions: QuestionSet) -> list[str]:
    """The model's greedy answer to every question; each image is encoded once."""
    prompt = {text: model.tokenizer.question_prompt(text) for text in set(questions.questions)}
    return model.generate_texts(questions.images, [prompt[text] for text in questions.questions], questions.image_index)


def answer_without_image(model: TextImageModel, questions: Sequence[str]) -> list[str]:
    """The model's answers when it sees an even grey instead of the image: what the words alone tell it."""
    size, texts = model.config.image_size, sorted(set(questions))
    grey = np.full((1, size, size, 3), 128, np.uint8)
    prompts = [model.tokenizer.question_prompt(text) for text in texts]
    answer = dict(zip(texts, model.generate_texts(grey, prompts, np.zeros(len(texts), np.intp))))
    return [answer[text] for text in questions]


def caption_scenes(model: TextImageModel, scenes: SceneSet) -> list[str]:
    """The model's greedy caption of every scene."""
    return model.generate_texts(scenes.images, [model.tokenizer.caption_prompt()] * len(scenes), np.arange(len(scenes)))


def kind_of_answer(answer: str) -> str:
    """What a question of easy-VQA asks for, told by its answer: "yes or no", "shape" or "colour"."""
    if answer in ("yes", "no"):
        return "yes or no"
    return "shape" if answer in ("circle", "rectangle", "triangle") else "colour"


def kind_of_caption(caption: str) -> str:
    """How many shapes a scene has, told by its caption."""
    words = caption.split()
    count = words.count("a") + words.count("an")
    return f"{count} shape" + "s" * (count != 1)


@dataclass(frozen=True)
class Evaluation:
    """What `tinymm evaluate` finds: figures (shares from 0 to 1), the same by kind, and items to look at.

    figures: for each set of `TestSets` that is there its name and "_exact"; beside questions_exact its two baselines,
        blank_image_exact and majority_exact.
    by_kind: for each of these sets: kind -> (share exactly right, how many).
    examples: items spread evenly over each set.   errors: the first wrong ones.
    """

    figures: dict[str, float]
    by_kind: dict[str, dict[str, tuple[float, int]]] = field(default_factory=dict)
    examples: dict[str, list[Example]] = field(default_factory=dict)
    errors: dict[str, list[Example]] = field(default_factory=dict)


def evaluate(model: TextImageModel, tests: TestSets, training_questions: QuestionSet, examples: int = 24) -> Evaluation:
    """Test a model on everything, with the question-only baselines beside it.

    Args:
        training_questions: where the majority answers are counted.   examples: how many items to keep of each set.
    """
    result = Evaluation({})
    for name, questions in tests.asked.items():
        given = answer_questions(model, questions)
        result.figures[f"{name}_exact"] = exact_match(given, questions.answers)
        if name == "questions":
            commonest, overall = majority_answers(training_questions.questions, training_questions.answers)
            blank = answer_without_image(model, questions.questions)
            majority = [commonest.get(text, overall) for text in questions.questions]
            result.figures["blank_image_exact"] = exact_match(blank, questions.answers)
            result.figures["majority_exact"] = exact_match(majority, questions.answers)
        kinds = [kind_of_answer(answer) if name == "questions" else kind_of_caption(text) for text, answer in zip(questions.questions, questions.answers)]
        _add(result, name, [questions.images[i] for i in questions.image_index], questions.questions, given, questions.answers, kinds, examples)
    for name, scenes in tests.captioned.items():
        given = caption_scenes(model, scenes)
        result.figures[f"{name}_exact"] = exact_match(given, scenes.captions)
        _add(result, name, list(scenes.images), [""] * len(scenes), given, scenes.captions,
             [kind_of_caption(caption) for caption in scenes.captions], examples)
    return result


def _add(result: Evaluation, name: str, images: Sequence[NDArray[np.uint8]], asked: Sequence[str], given: Sequence[str],
         expected: Sequence[str], kinds: Sequence[str], count: int) -> None:
    items = [Example(*item) for item in zip(images, asked, given, expected)]    # the images are views, not copies
    result.by_kind[name] = exact_match_by_group(given, expected, kinds)
    result.examples[name] = [items[i] for i in _spread(len(items), count)]
    result.errors[name] = [item for item in items if not item.right][:count]


def spread_questions(questions: QuestionSet, limit: int) -> QuestionSet:
    """At most `limit` questions, evenly spread over the set, with only the images they are about."""
    rows = _spread(len(questions), limit)
    images, image_index = np.unique(questions.image_index[rows], return_inverse=True)
    return QuestionSet(questions.images[images], image_index,
                       tuple(questions.questions[i] for i in rows), tuple(questions.answers[i] for i in rows))


def spread_scenes(scenes: SceneSet, limit: int) -> SceneSet:
    """At most `limit` scenes, evenly spread over the set."""
    rows = _spread(len(scenes), limit)
    return SceneSet(scenes.images[rows], tuple(scenes.captions[i] for i in rows),
                    tuple(scenes.mirrored_captions[i] for i in rows))


def _spread(total: int, limit: int) -> NDArray[np.integer]:
    return np.arange(total) if total <= limit else np.linspace(0, total - 1, limit).astype(np.intp)
