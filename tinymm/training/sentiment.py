"""The task of telling review sentences of two kinds apart, the same for every model: batches, the step, and what is measured.

Such a model has `forward(ids, training, rng) -> (logits (R,), cache)`, `backward(d_logits, cache)`, and `logits(sentences)`
for many sentences at once; the loss is the binary cross-entropy of its logits.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.bucketing import BucketedOrder, pad_sentences
from tinymm.training import bag_of_words
from tinymm.training.checkpoints import RunFolder
from tinymm.training.classification import accuracy, binary_scores
from tinymm.training.jobs import Figure, Report, TrainingRecipe

FIGURES = {
    "validation_accuracy": Figure("review sentences, validation: accuracy"),
    "validation_loss": Figure("review sentences, validation: loss (nats)", "number"),
    "test_accuracy": Figure("review sentences, test: accuracy"),
    "test_precision": Figure("of those it calls positive (of a product), so many are (precision)"),
    "test_recall": Figure("of the positive ones (of a product) it finds so many (recall)"),
    "test_f1": Figure("F1 of the positive class (of a product)"),
    "bag_of_words_accuracy": Figure("logistic regression on words and pairs: accuracy"),
    "bag_of_words_precision": Figure("its precision"),
    "bag_of_words_recall": Figure("its recall"),
    "bag_of_words_f1": Figure("its F1"),
    "majority_accuracy": Figure("always the commoner label of the training: accuracy"),
}

# what the labels 0 and 1 say, for each data set
ANSWERS = {"sentiment": ("negative", "positive"), "topic": ("about a film", "about a product")}


class SentenceBatch(NamedTuple):
    ids: NDArray[np.int64]            # (R, T)
    labels: NDArray[np.integer]       # (R,)  1 positive, 0 negative
    targets: NDArray[np.number]       # (R,)  what the loss compares with: the labels, or probabilities


@dataclass(frozen=True)
class Sentences:
    """Sentences as ids, with their labels, and if given with targets between 0 and 1 to train on instead."""

    ids: Sequence[Sequence[int]]
    labels: NDArray[np.integer]                     # (N,)
    targets: NDArray[np.number] | None = None       # (N,)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> "Sentences":
        places = np.arange(len(self.labels))[rows]
        targets = None if self.targets is None else self.targets[places]
        return Sentences([self.ids[place] for place in places], self.labels[places], targets)


@dataclass
class SentimentTask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: Any
    recipe: TrainingRecipe      # with a batch_size
    sentences: Sentences        # to train on
    validation: Sentences

    def __post_init__(self) -> None:
        self.order = BucketedOrder([len(sentence) for sentence in self.sentences.ids], self.recipe.batch_size,
                                   self.recipe.training.seed)

    def batch(self, step: int) -> SentenceBatch:
        chosen = self.sentences[self.order.rows(step)]
        targets = chosen.labels if chosen.targets is None else chosen.targets
        return SentenceBatch(pad_sentences(chosen.ids), chosen.labels, targets)

    def step(self, batch: SentenceBatch, rng: np.random.Generator) -> dict[str, float]:
        model, ops = self.model, self.model.ops
        logits, cache = model.forward(batch.ids, training=True, rng=rng)                       # (R,)  F1
        loss, loss_cache = ops.binary_cross_entropy_forward(logits, batch.targets)             # ()    F2

        d_logits = ops.binary_cross_entropy_backward(1.0, loss_cache)                          # (R,)  undoes F2
        model.backward(d_logits, cache)                                                        #       undoes F1
        return {"loss": float(loss), "accuracy": float(((logits > 0) == batch.labels).mean())}

    def trace(self, batch: SentenceBatch, rng: np.random.Generator) -> dict[str, Any]:
        """The caches of a step's forward pass, for the search of an array that is not finite."""
        logits, cache = self.model.forward(batch.ids, training=True, rng=rng)
        return {**cache._asdict(), "logits": logits, "loss": self.model.ops.binary_cross_entropy_forward(logits, batch.targets)}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Accuracy and loss on validation sentences."""
        share, loss = judge(self.model, self.validation[:limit])
        return {"validation_accuracy": share, "validation_loss": loss}


def judge(model: Any, sentences: Sentences) -> tuple[float, float]:
    """Accuracy and mean loss (nats) on labelled sentences."""
    logits = model.logits(sentences.ids)                                                       # (N,)
    loss, _ = model.ops.binary_cross_entropy_forward(logits, sentences.labels)
    return float(((logits > 0) == sentences.labels).mean()), float(loss)


def report(model: Any, data: Any, test: Sentences, run: RunFolder, name: str = "sentiment") -> Report:
    """Accuracy, precision, recall and F1 on the test sentences, those of a bag of words beside, and the surest mistakes.

    Args:
        data: with `train`, `validation` and `test`, each of `texts` and `labels`.   test: that test split as ids.
        name: that of the data set in ANSWERS.
    """
    from tinymm.plots.sentiment import draw_judgements

    texts, answers = data.test.texts, ANSWERS[name]
    logits = model.logits(test.ids)                                                            # (N,)
    common = np.full_like(test.labels, int(np.mean(data.train.labels) >= 0.5))
    figures = scores("test", logits, test.labels) | bag_of_words_scores(data)
    figures["majority_accuracy"] = accuracy(common, test.labels)
    picture = draw_judgements(texts, logits, test.labels, run.pictures / "sentences.png", answers)
    return Report(figures, lines=surest_mistakes(texts, logits, test.labels, answers), pictures=[picture])


def scores(name: str, logits: NDArray[np.floating], labels: NDArray[np.integer]) -> Mapping[str, float]:
    given = (logits > 0).astype(labels.dtype)
    precision, recall, f1 = binary_scores(given, labels)
    return {f"{name}_accuracy": accuracy(given, labels), f"{name}_precision": precision, f"{name}_recall": recall,
            f"{name}_f1": f1}


def bag_of_words_scores(data: Any) -> Mapping[str, float]:
    """The baseline, fitted anew; it takes some seconds."""
    baseline = bag_of_words.fit_on(data.train.texts, data.train.labels, data.validation.texts, data.validation.labels)
    return scores("bag_of_words", baseline.logits(data.test.texts), data.test.labels)


def surest_mistakes(texts: Sequence[str], logits: NDArray[np.floating], labels: NDArray[np.integer],
                    answers: Sequence[str], count: int = 5) -> list[str]:
    """The wrong answers that the model is surest of."""
    right = (logits > 0) == labels
    worst = [row for row in np.argsort(-np.abs(logits), kind="stable") if not right[row]][:count]
    lines = [f"    said {answers[int(logits[row] > 0)]}: {texts[row]}" for row in worst]
    return ["the surest of the wrong answers:", *lines] if lines else []


def draw_curves_of(run: RunFolder) -> list[Path]:
    """The picture of a training."""
    from tinymm.plots import draw_curves

    return [draw_curves(run.metrics, run.pictures / "curves.png")]
