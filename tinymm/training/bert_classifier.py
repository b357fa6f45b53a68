"""Fine-tuning BERT: is a review sentence positive? From a pre-trained encoder, or from nothing, to see what it is worth.

    tinymm train bert                                        learn to read, without labels
    tinymm train bert_classifier --from runs/bert            fine-tune with labels
    tinymm train bert_classifier --out runs/scratch          the same model from fresh weights

`tinymm.training.label_curve` repeats both with fewer and fewer labels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.bucketing import BucketedOrder, pad_sentences
from tinymm.data.sentiment import load_sentiment
from tinymm.data.tokenizer import Tokenizer
from tinymm.errors import UserError
from tinymm.models.bert import BERTConfig, encode_sentences
from tinymm.models.bert_classifier import BERTClassifier, BERTClassifierConfig
from tinymm.training import bert
from tinymm.training.checkpoints import RunFolder, load_run
from tinymm.training.jobs import Figure, Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings

_INITIAL_WEIGHTS, _LABELS = 511, 512    # streams of chance

FIGURES = {
    "validation_accuracy": Figure("review sentences, validation: accuracy"),
    "validation_loss": Figure("review sentences, validation: loss (nats)", "number"),
    "test_accuracy": Figure("review sentences, test: accuracy"),
    "test_majority": Figure("always the commoner label"),
}


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a fine-tuning; saved in config.json."""

    training: TrainingSettings = TrainingSettings(steps=600, learning_rate=5e-4, warmup=60, beta2=0.98, evaluate_every=100, evaluation_limit=None)
    model: BERTClassifierConfig = BERTClassifierConfig(vocabulary_size=0)    # the tokenizer's size is put in by `prepare`
    start_from: str = ""          # the run folder of a `bert`; empty: fresh weights
    labels: int | None = None     # how many labelled sentences to learn from; None: all
    words: int = bert.Recipe.words    # from fresh weights: as many words as pre-training tells apart
    batch_size: int = 32          # sentences

    @classmethod
    def quick(cls) -> "Recipe":
        """A version of less than a minute."""
        return cls(training=replace(cls.training, steps=200, warmup=20))


class SentenceBatch(NamedTuple):
    ids: NDArray[np.int64]            # (R, T)
    labels: NDArray[np.integer]       # (R,)  1 positive, 0 negative


@dataclass(frozen=True)
class Sentences:
    """Sentences as ids, with their labels."""

    ids: Sequence[Sequence[int]]
    labels: NDArray[np.integer]       # (N,)

    def __getitem__(self, rows: slice | NDArray[np.integer]) -> "Sentences":
        places = np.arange(len(self.labels))[rows]
        return Sentences([self.ids[place] for place in places], self.labels[places])


@dataclass
class BERTClassifierTask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: BERTClassifier
    recipe: Recipe
    sentences: Sentences        # to train on
    validation: Sentences

    def __post_init__(self) -> None:
        self.order = BucketedOrder([len(sentence) for sentence in self.sentences.ids], self.recipe.batch_size,
                                   self.recipe.training.seed)

    def batch(self, step: int) -> SentenceBatch:
        chosen = self.sentences[self.order.rows(step)]
        return SentenceBatch(pad_sentences(chosen.ids), chosen.labels)

    def step(self, batch: SentenceBatch, rng: np.random.Generator) -> dict[str, float]:
        model, ops = self.model, self.model.ops
        logits, cache = model.forward(batch.ids, training=True, rng=rng)                       # (R,)  F1
        loss, loss_cache = ops.binary_cross_entropy_forward(logits, batch.labels)              # ()    F2

        d_logits = ops.binary_cross_entropy_backward(1.0, loss_cache)                          # (R,)  undoes F2
        model.backward(d_logits, cache)                                                        #       undoes F1
        return {"loss": float(loss), "accuracy": float(((logits > 0) == batch.labels).mean())}

    def trace(self, batch: SentenceBatch, rng: np.random.Generator) -> dict[str, Any]:
        """The caches of a step's forward pass, for the search of an array that is not finite."""
        logits, cache = self.model.forward(batch.ids, training=True, rng=rng)
        return {**cache._asdict(), "logits": logits, "loss": self.model.ops.binary_cross_entropy_forward(logits, batch.labels)}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Accuracy and loss on validation sentences."""
        accuracy, loss = judge(self.model, self.validation[:limit])
        return {"validation_accuracy": accuracy, "validation_loss": loss}


def judge(model: BERTClassifier, sentences: Sentences) -> tuple[float, float]:
    """Accuracy and mean loss (nats) on labelled sentences."""
    logits = model.logits(sentences.ids)                                                       # (N,)
    loss, _ = model.ops.binary_cross_entropy_forward(logits, sentences.labels)
    return float(((logits > 0) == sentences.labels).mean()), float(loss)


def prepare(recipe: Recipe, tokenizer: Tokenizer | None = None) -> BERTClassifierTask:
    """Data, words and a model: with the encoder of `recipe.start_from`, or with fresh weights.

    A resumed run passes the tokenizer it began with; its weights come from its checkpoint, so the run it started from
    is then not needed any more.

    Raises:
        UserError: start_from is no trained bert, or one of other sizes; or more labels are asked for than there are.
    """
    data, seed = load_sentiment(), recipe.training.seed
    begun = tokenizer is not None
    source = start_model(recipe) if recipe.start_from and not begun else None
    if source is not None:
        tokenizer = source.tokenizer
    elif not begun:
        tokenizer = bert.build_tokenizer(bert.reading(data), recipe.words)
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = BERTClassifier(config, np.random.default_rng([seed, _INITIAL_WEIGHTS]))
    if source is not None:
        model.encoder.load_state(source.encoder.state())
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    train, validation = (labelled(part, tokenizer, config.max_length) for part in (data.train, data.validation))
    return BERTClassifierTask(model, replace(recipe, model=config), train[draw_labels(len(train.labels), recipe)], validation)


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
    """A split of the sentiment data as ids and labels."""
    return Sentences(encode_sentences(tokenizer, part.texts, max_length), np.asarray(part.labels))


def draw_labels(total: int, recipe: Recipe) -> NDArray[np.integer]:
    """Which training sentences have a label for this recipe: fewer labels are always a part of more, for one seed."""
    count = total if recipe.labels is None else recipe.labels
    if not 1 <= count <= total:
        raise UserError(f"labels must be from 1 to {total:,}, the number of labelled training sentences; got {count:,}")
    return np.random.default_rng([recipe.training.seed, _LABELS]).permutation(total)[:count]


def draw(run: RunFolder, task: BERTClassifierTask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.bert import draw_classifier_run

    return draw_classifier_run(run, task.model, load_sentiment().validation.texts)


def evaluate_run(model: BERTClassifier, run: RunFolder) -> Report:
    """Accuracy on the test sentences, beside the commoner label of the training sentences; and some of the surest mistakes."""
    data = load_sentiment()
    test = labelled(data.test, model.tokenizer, model.config.max_length)
    accuracy, _ = judge(model, test)
    common = int(np.mean(data.train.labels) >= 0.5)
    figures = {"test_accuracy": accuracy, "test_majority": float((test.labels == common).mean())}
    return Report(figures, lines=surest_mistakes(model, data.test.texts, test))


def surest_mistakes(model: BERTClassifier, texts: Sequence[str], sentences: Sentences, count: int = 5) -> list[str]:
    """The wrong answers that the model is surest of."""
    logits = model.logits(sentences.ids)                                                       # (N,)
    right = (logits > 0) == sentences.labels
    worst = [row for row in np.argsort(-np.abs(logits), kind="stable") if not right[row]][:count]
    lines = [f"    said {'positive' if logits[row] > 0 else 'negative'}: {texts[row]}" for row in worst]
    return ["the surest of the wrong answers:", *lines] if lines else []
