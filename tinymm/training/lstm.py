"""The LSTM learns whether a review sentence is positive (tinymm.data.sentiment), with a bag of words beside it.

Twenty people have rated each sentence, so more is known than a label: a mean rating r of 3 is a sure yes, one of 0.6 a weak
one. The target is therefore the probability sigmoid(certainty * r), and sentences of the neutral band, whose target is
near 1/2, are of use too. What is tested is the label.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tinymm import functional
from tinymm.data.sentiment import load_sentiment
from tinymm.data.tokenizer import Tokenizer
from tinymm.models.lstm import LSTMConfig, LSTMModel
from tinymm.training import sentiment
from tinymm.training.checkpoints import RunFolder
from tinymm.training.jobs import Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings
from tinymm.training.sentiment import FIGURES, Sentences, SentimentTask

__all__ = ["FIGURES", "Recipe", "draw", "evaluate_run", "prepare"]

_INITIAL_WEIGHTS = 401    # a stream of chance


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a training; saved in config.json."""

    training: TrainingSettings = TrainingSettings(steps=1500, warmup=50, beta2=0.98, evaluate_every=200)
    model: LSTMConfig = LSTMConfig(vocabulary_size=0)    # the tokenizer's size is put in by `prepare`
    words: int = 8000             # the commonest words of the training sentences
    batch_size: int = 32          # sentences
    certainty: float = 1.5        # of a rating

    @classmethod
    def quick(cls) -> "Recipe":
        return cls(training=replace(cls.training, steps=400, evaluate_every=100))


def prepare(recipe: Recipe, tokenizer: Tokenizer | None = None) -> SentimentTask:
    """Data, words and a model with fresh weights. A resumed run passes the tokenizer it began with."""
    data = load_sentiment()
    if tokenizer is None:
        tokenizer = Tokenizer.build((*data.train.texts, *data.unlabelled.texts), limit=recipe.words)
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = LSTMModel(config, np.random.default_rng([recipe.training.seed, _INITIAL_WEIGHTS]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    texts, ratings = (*data.train.texts, *data.unlabelled.texts), np.append(data.train.ratings, data.unlabelled.ratings)
    targets, _ = functional.sigmoid_forward(recipe.certainty * ratings)                     # (N,)
    train = Sentences(model.encode(texts), (ratings > 0).astype(np.int64), targets)
    validation = Sentences(model.encode(data.validation.texts), data.validation.labels)
    return SentimentTask(model, replace(recipe, model=config), train, validation)


def draw(run: RunFolder, task: SentimentTask) -> list[Path]:
    """The pictures of a training."""
    return sentiment.draw_curves_of(run)


def evaluate_run(model: LSTMModel, run: RunFolder) -> Report:
    """What `tinymm evaluate` shows."""
    data = load_sentiment()
    return sentiment.report(model, data, Sentences(model.encode(data.test.texts), data.test.labels), run)
