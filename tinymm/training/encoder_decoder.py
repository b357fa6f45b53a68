"""The encoder-decoder learns to rewrite texts whose right answer can be computed, so that every figure is exact.

    numbers    English number words -> German ones: other words, in another order
    dates      dates as people write them -> ISO 8601, character by character
    facts      the facts of a scene, in any order -> the one sentence that sums them up

The loss is the cross-entropy of the next token, the expected text being read (teacher forcing). No number, date or caption
of the validation and test data occurs in training. The baseline writes what the most similar training text became.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.dates import date_pairs
from tinymm.data.facts import fact_pairs
from tinymm.data.number_words import number_pairs
from tinymm.data.text_pairs import PairBatch, PairBatches, TextPairs, choose, encode_pairs
from tinymm.data.tokenizer import split_words
from tinymm.models.encoder_decoder import EncoderDecoderConfig, EncoderDecoderModel
from tinymm.training.checkpoints import TOKENIZERS, RunFolder
from tinymm.training.jobs import Figure, Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings
from tinymm.training.metrics import exact_match, exact_match_by_group, token_accuracy
from tinymm.training.text_metrics import bleu, token_f1

_INITIAL_WEIGHTS, _TRAINING_PAIRS = 101, 103      # streams of chance that follow the run's seed
_HELD_OUT = 20_191                                # the held-out pairs are the same for every run


class Source(NamedTuple):
    """Where the pairs come from, the kind of token, and for how many steps the recipe trains on them."""

    pairs: Callable[[int, np.random.Generator, str], TextPairs]
    tokens: str
    steps: int
    held_out: int = 2000      # pairs for validation, and as many for the test


DATA = {
    "numbers": Source(number_pairs, "words", steps=1500),
    "dates": Source(date_pairs, "characters", steps=2000),
    "facts": Source(fact_pairs, "words", steps=4000),
}

FIGURES = {
    "validation_exact": Figure("validation texts, exactly right"),
    "validation_accuracy": Figure("validation texts, each token"),
    "exact": Figure("held-out texts, exactly right"),
    "token_f1": Figure("held-out texts, F1 of the tokens"),
    "bleu": Figure("held-out texts, BLEU"),
    "nearest_token_f1": Figure("the nearest training text's target, F1 of the tokens"),
    "nearest_bleu": Figure("the nearest training text's target, BLEU"),
}


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a training; saved in config.json."""

    DATA: ClassVar[tuple[str, ...]] = tuple(DATA)

    training: TrainingSettings = TrainingSettings(steps=1500, learning_rate=2e-3, warmup=200, beta2=0.98)
    model: EncoderDecoderConfig = EncoderDecoderConfig(vocabulary_size=0)    # the tokenizer's size is put in by `prepare`
    data: str = "numbers"
    batch_size: int = 64
    training_pairs: int = 20_000

    @classmethod
    def for_data(cls, data: str) -> "Recipe":
        return cls(data=data, training=replace(cls.training, steps=DATA[data].steps))

    @classmethod
    def quick(cls) -> "Recipe":
        """A one-minute version."""
        return cls(training=replace(cls.training, steps=800, evaluate_every=400, evaluation_limit=200))


# ---- training -------------------------------------------------------------------------------------------------------


@dataclass
class EncoderDecoderTask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: EncoderDecoderModel
    batches: PairBatches
    validation: TextPairs
    recipe: Recipe

    def batch(self, step: int) -> PairBatch:
        return self.batches.batch(step)

    def step(self, batch: PairBatch, rng: np.random.Generator) -> dict[str, float]:
        model, ops = self.model, self.model.ops
        logits, cache = model.forward(batch.source, batch.target, training=True, rng=rng)        # (B, T, V)  F1
        loss, loss_cache = ops.cross_entropy_forward(logits, batch.labels)                       # ()         F2
        d_logits = ops.cross_entropy_backward(1.0, loss_cache)                                   # (B, T, V)  undoes F2
        model.backward(d_logits, cache)                                                          #            undoes F1
        return {"loss": float(loss), "accuracy": token_accuracy(logits, batch.labels)}

    def trace(self, batch: PairBatch, rng: np.random.Generator) -> dict[str, Any]:
        """The caches of a step's forward pass, for the search of an array that is not finite."""
        logits, cache = self.model.forward(batch.source, batch.target, training=True, rng=rng)
        return {**cache._asdict(), "logits": logits, "loss": self.model.ops.cross_entropy_forward(logits, batch.labels)}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """How much of the validation data greedy generation would write exactly right."""
        pairs = self.validation if limit is None else self.validation.spread(limit)
        exact, accuracy = greedy_exact(self.model, pairs)
        return {"validation_exact": exact, "validation_accuracy": accuracy}


def prepare(recipe: Recipe, tokenizer: Any = None) -> EncoderDecoderTask:
    """Pairs, tokens and a model with fresh weights. A resumed run passes the tokenizer it began with."""
    seed, source = recipe.training.seed, DATA[recipe.data]
    pairs = source.pairs(recipe.training_pairs, np.random.default_rng([seed, _TRAINING_PAIRS]), "train")
    if tokenizer is None:
        module, name = TOKENIZERS[source.tokens]
        tokenizer = getattr(import_module(module), name).build([*pairs.sources, *pairs.targets])
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = EncoderDecoderModel(config, np.random.default_rng([seed, _INITIAL_WEIGHTS]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    batches = PairBatches(pairs, tokenizer, seed, recipe.batch_size)
    return EncoderDecoderTask(model, batches, held_out(recipe.data, "validation"), replace(recipe, model=config))


def held_out(data: str, split: str) -> TextPairs:
    """The pairs of "validation" or "test", always the same ones."""
    source = DATA[data]
    return source.pairs(source.held_out, np.random.default_rng([_HELD_OUT, split == "test"]), split)


def greedy_exact(model: EncoderDecoderModel, pairs: TextPairs, chunk: int = 256) -> tuple[float, float]:
    """The share of texts that greedy generation would write exactly so, and of tokens right after a right beginning.

    Generation is exact if and only if, reading the right text, the model finds each next token the likeliest: up to
    the first mistake it reads just these tokens. One forward pass instead of one for each token.
    """
    table, exact, right, total = encode_pairs(pairs, model.tokenizer), 0, 0, 0
    for start in range(0, len(pairs), chunk):
        batch = choose(table, slice(start, start + chunk), model.tokenizer.pad_id)
        logits, _ = model.forward(batch.source, batch.target)                      # (B, T, V)
        counts = batch.labels != -100                                              # (B, T)
        good = (logits.argmax(axis=-1) == batch.labels) & counts                   # (B, T)
        exact += int((good == counts).all(axis=-1).sum())
        right, total = right + int(good.sum()), total + int(counts.sum())
    return exact / len(pairs), right / total


# ---- evaluation -----------------------------------------------------------------------------------------------------


class Evaluation(NamedTuple):
    figures: dict[str, float]
    by_kind: dict[str, tuple[float, int]]     # kind of pair -> (share exactly right, how many)
    pairs: TextPairs
    written: list[str]                        # what the model made of each source


def evaluate(model: EncoderDecoderModel, recipe: Recipe, limit: int | None = None) -> Evaluation:
    """Let the model write, token by token, what it makes of the test data; the baseline beside it."""
    pairs = held_out(recipe.data, "test")
    pairs = pairs if limit is None else pairs.spread(limit)
    written = model.translate(pairs.sources)
    rng = np.random.default_rng([recipe.training.seed, _TRAINING_PAIRS])
    nearest = nearest_targets(pairs.sources, DATA[recipe.data].pairs(recipe.training_pairs, rng, "train"))
    figures = {"exact": exact_match(written, pairs.targets)}
    expected = list(map(split_words, pairs.targets))
    for prefix, texts in (("", written), ("nearest_", nearest)):
        tokens = list(map(split_words, texts))
        figures |= {f"{prefix}token_f1": token_f1(tokens, expected), f"{prefix}bleu": bleu(tokens, expected)}
    return Evaluation(figures, exact_match_by_group(written, pairs.targets, pairs.kinds), pairs, written)


def nearest_targets(sources: Sequence[str], training: TextPairs) -> list[str]:
    """For each source the target of the training pair whose source shares most of its words: the highest token F1.

    Its exact match is 0 by construction, as no target of the test data occurs in training.
    """
    bags = [_bag(text) for text in training.sources]
    column = {item: i for i, item in enumerate(dict.fromkeys(item for bag in bags for item in bag))}

    def table(bags: Sequence[list[tuple[str, int]]]) -> NDArray[np.float32]:
        rows = np.zeros((len(bags), len(column)), np.float32)
        for row, bag in zip(rows, bags):
            row[[column[item] for item in bag if item in column]] = 1
        return rows

    asked = [_bag(text) for text in sources]
    common = table(asked) @ table(bags).T                                      # (M, N)
    f1 = 2 * common / np.add.outer(list(map(len, asked)), list(map(len, bags)))    # (M, N)
    return [training.targets[i] for i in f1.argmax(axis=1)]


def _bag(text: str) -> list[tuple[str, int]]:
    """The words of a text, each with how often it came before: a product of 0/1 tables then counts what two bags share."""
    words = split_words(text)
    return [(word, words[:i].count(word)) for i, word in enumerate(words)]


def draw(run: RunFolder, task: EncoderDecoderTask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.encoder_decoder import draw_run    # here, as a training needs no picture until it is over

    return draw_run(run, task.model, task.validation)


def evaluate_run(model: EncoderDecoderModel, run: RunFolder) -> Report:
    """What `tinymm evaluate` shows: exact match, token F1 and BLEU on the test data, and samples."""
    from tinymm.plots.encoder_decoder import draw_evaluation

    result = evaluate(model, Recipe.of_run(run))
    return Report(result.figures, pictures=draw_evaluation(run, model, result), by_kind={"exact": result.by_kind})
