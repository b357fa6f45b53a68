"""Fine-tuning BERT, from a pre-trained encoder or from nothing, to see what pre-training is worth. Two questions:

    sentiment    is a review sentence positive?
    topic        does it speak of a product, or of a film?

    tinymm train bert                                        learn to read, without labels
    tinymm train bert_classifier --from runs/bert            fine-tune with labels; --data topic for the other question
    tinymm train bert_classifier --out runs/scratch          the same model from fresh weights

`tinymm.training.label_curve` repeats both with fewer and fewer labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinymm.data.sentiment import load_sentiment
from tinymm.data.tokenizer import Tokenizer
from tinymm.data.topics import load_topics
from tinymm.errors import UserError
from tinymm.models.bert import BERTConfig, encode_sentences
from tinymm.models.bert_classifier import BERTClassifier, BERTClassifierConfig
from tinymm.training import bert, sentiment
from tinymm.training.checkpoints import RunFolder, load_run
from tinymm.training.jobs import Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings
from tinymm.training.sentiment import FIGURES, Sentences, SentimentTask

__all__ = ["FIGURES", "Recipe", "draw", "evaluate_run", "prepare"]

_INITIAL_WEIGHTS, _LABELS = 511, 512    # streams of chance


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a fine-tuning; saved in config.json."""

    DATA: ClassVar[tuple[str, ...]] = tuple(sentiment.ANSWERS)

    training: TrainingSettings = TrainingSettings(steps=600, learning_rate=5e-4, warmup=60, beta2=0.98, evaluate_every=100, evaluation_limit=None)
    model: BERTClassifierConfig = BERTClassifierConfig(vocabulary_size=0)    # the tokenizer's size is put in by `prepare`
    data: str = "sentiment"
    start_from: str = ""          # the run folder of a `bert`; empty: fresh weights
    labels: int | None = None     # how many labelled sentences to learn from; None: all
    words: int = bert.Recipe.words    # from fresh weights: as many words as pre-training tells apart
    batch_size: int = 32          # sentences

    @classmethod
    def quick(cls) -> "Recipe":
        """A version of less than a minute."""
        return cls(training=replace(cls.training, steps=200, warmup=20))


def prepare(recipe: Recipe, tokenizer: Tokenizer | None = None) -> SentimentTask:
    """Data, words and a model: with the encoder of `recipe.start_from`, or with fresh weights.

    A resumed run passes the tokenizer it began with; its weights come from its checkpoint, so the run it started from
    is then not needed any more.

    Raises:
        UserError: start_from is no trained bert, or one of other sizes; or more labels are asked for than there are.
    """
    data, seed = load_data(recipe.data), recipe.training.seed
    begun = tokenizer is not None
    source = start_model(recipe) if recipe.start_from and not begun else None
    if source is not None:
        tokenizer = source.tokenizer
    elif not begun:
        tokenizer = bert.build_tokenizer(bert.reading(), recipe.words)
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = BERTClassifier(config, np.random.default_rng([seed, _INITIAL_WEIGHTS]))
    if source is not None:
        model.encoder.load_state(source.encoder.state())
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    train, validation = (labelled(part, tokenizer, config.max_length) for part in (data.train, data.validation))
    return SentimentTask(model, replace(recipe, model=config), train[draw_labels(len(train.labels), recipe)], validation)


def load_data(name: str) -> Any:
    """The sentences of "sentiment" or "topic", with `train`, `validation` and `test`."""
    return load_topics() if name == "topic" else load_sentiment()


def start_model(recipe: Recipe) -> Any:
    """The pre-trained model that `recipe.start_from` names. Raises UserError if there is none, or its sizes differ."""
    run = RunFolder.open(recipe.start_from)
    if run.config["model"] != "bert":
        raise UserError(f"{run.path} holds a model of kind {run.config['model']!r}, but bert_classifier starts from a bert; "
                        "`tinymm train bert` makes one")
    model = load_run(run.path)
    ours, theirs = asdict(recipe.model), asdict(model.config)
    names = [field.name for field in fields(BERTConfig) if field.name not in ("vocabulary_size", "dropout")]
    other = [f"{name} {theirs[name]} instead of {ours[name]}" for name in names if theirs[name] != ours[name]]
    if other:
        raise UserError(f"{run.path} holds a bert of other sizes: {', '.join(other)}; train both with the same sizes")
    return model


def labelled(part: Any, tokenizer: Tokenizer, max_length: int) -> Sentences:
    """A split of the data as ids and labels."""
    return Sentences(encode_sentences(tokenizer, part.texts, max_length), np.asarray(part.labels))


def draw_labels(total: int, recipe: Recipe) -> NDArray[np.integer]:
    """Which training sentences have a label for this recipe: fewer labels are always a part of more, for one seed."""
    count = total if recipe.labels is None else recipe.labels
    if not 1 <= count <= total:
        raise UserError(f"labels must be from 1 to {total:,}, the number of labelled training sentences; got {count:,}")
    return np.random.default_rng([recipe.training.seed, _LABELS]).permutation(total)[:count]


def draw(run: RunFolder, task: SentimentTask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.bert import draw_classifier_run

    return draw_classifier_run(run, task.model, load_data(task.recipe.data).validation.texts)


def evaluate_run(model: BERTClassifier, run: RunFolder) -> Report:
    """What `tinymm evaluate` shows."""
    name = Recipe.of_run(run).data
    data = load_data(name)
    return sentiment.report(model, data, labelled(data.test, model.tokenizer, model.config.max_length), run, name)
