"""Training GPT on a small corpus: every next token is guessed, and no label is needed.

    alice    a book in English, as byte pairs learned from it: windows of 128 tokens that begin anywhere
    tang     Chinese quatrains, character by character: one poem after the other in its whole length

Both corpora are tiny beside what language models learn from; a model without dropout soon knows its training text by heart
and guesses new text worse and worse. So the loss on the validation text is what counts, and the recipes were chosen by it.

Beside it stands what counting can do: how frequent each token is (unigrams), and after which other (bigrams).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import log
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.batches import IGNORE
from tinymm.data.bpe import BytePairTokenizer
from tinymm.data.bucketing import BucketedOrder
from tinymm.data.characters import CharacterTokenizer
from tinymm.data.corpus import load_corpus
from tinymm.data.windows import TokenStream, Window
from tinymm.functional import cross_entropy_forward
from tinymm.models.gpt import GPTConfig, GPTModel
from tinymm.training.checkpoints import RunFolder
from tinymm.training.jobs import Figure, Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings
from tinymm.training.metrics import perplexity, token_accuracy

_INITIAL_WEIGHTS, _SAMPLES = 701, 702      # streams of chance that follow the run's seed
PRIORS = (10, 30, 100, 300)                # how many guesses from the frequencies alone a bigram may begin with


class Source(NamedTuple):
    """How a corpus is read, and the recipe for it."""

    tokens: str                  # "bpe" or "characters"
    whole: bool                  # each window is a whole text (all are equally long); else it begins anywhere
    steps: int
    learning_rate: float
    batch_size: int              # windows
    model: GPTConfig
    prompts: tuple[str, ...]     # for the samples


SOURCES = {
    "alice": Source("bpe", False, 1500, 2e-3, 16, GPTConfig(vocabulary_size=0, positions="rotary"),
                    ("Alice was beginning to", "`Why', said the Hatter,", "  The Queen")),
    # In a quatrain the place itself says much, such as where a line ends: learned positions do better there.
    "tang": Source("characters", True, 900, 1.5e-3, 64,
                   GPTConfig(vocabulary_size=0, d_model=192, n_heads=6, n_layers=2, d_ff=768, max_length=25),
                   ("", "春", "明月")),
}

FIGURES = {
    "validation_loss": Figure("validation text: loss (nats a token)", "number"),
    "validation_perplexity": Figure("validation text: perplexity", "number"),
    "validation_bits": Figure("validation text: bits a character", "number"),
    "validation_accuracy": Figure("validation text: next token guessed right"),
    "unigram_loss": Figure("the same from the tokens' frequencies: loss", "number"),
    "unigram_perplexity": Figure("the same from the tokens' frequencies: perplexity", "number"),
    "unigram_bits": Figure("the same from the tokens' frequencies: bits", "number"),
    "bigram_loss": Figure("the same from pairs of tokens: loss", "number"),
    "bigram_perplexity": Figure("the same from pairs of tokens: perplexity", "number"),
    "bigram_bits": Figure("the same from pairs of tokens: bits", "number"),
}


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a training; saved in config.json."""

    DATA: ClassVar[tuple[str, ...]] = tuple(SOURCES)

    training: TrainingSettings = TrainingSettings(
        steps=SOURCES["alice"].steps, learning_rate=SOURCES["alice"].learning_rate, warmup=100, beta2=0.98, weight_decay=0.1,
        evaluate_every=100, evaluation_limit=None)
    model: GPTConfig = SOURCES["alice"].model     # the tokenizer's size is put in by `prepare`
    data: str = "alice"
    batch_size: int = SOURCES["alice"].batch_size
    vocabulary: int = 1000                     # tokens of the byte-pair encoder

    @classmethod
    def for_data(cls, data: str) -> "Recipe":
        source = SOURCES[data]
        return cls(data=data, model=source.model, batch_size=source.batch_size,
                   training=replace(cls.training, steps=source.steps, learning_rate=source.learning_rate))

    @classmethod
    def quick(cls) -> "Recipe":
        """A one-minute version."""
        return cls(training=replace(cls.training, steps=300))


# ---- training -------------------------------------------------------------------------------------------------------


@dataclass
class GPTTask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: GPTModel
    recipe: Recipe
    training: TokenStream
    validation: TokenStream
    characters: int      # of the validation texts

    def __post_init__(self) -> None:
        length = self.model.config.max_length
        step = length if SOURCES[self.recipe.data].whole else 1
        self.starts = np.arange(0, len(self.training) - length + 1, step)           # (M,)  where a window may begin
        self.order = BucketedOrder(np.full(len(self.starts), length), self.recipe.batch_size, self.recipe.training.seed)

    def batch(self, step: int) -> Window:
        return self.training.windows(self.starts[self.order.rows(step)], self.model.config.max_length)

    def step(self, batch: Window, rng: np.random.Generator) -> dict[str, float]:
        model, ops = self.model, self.model.ops
        logits, cache = model.forward(batch.ids, training=True, rng=rng)                         # (B, T, V)  F1
        loss, loss_cache = ops.cross_entropy_forward(logits, batch.labels)                       # ()         F2
        d_logits = ops.cross_entropy_backward(1.0, loss_cache)                                   # (B, T, V)  undoes F2
        model.backward(d_logits, cache)                                                          #            undoes F1
        return {"loss": float(loss), "accuracy": token_accuracy(logits, batch.labels)}

    def trace(self, batch: Window, rng: np.random.Generator) -> dict[str, Any]:
        """The caches of a step's forward pass, for the search of an array that is not finite."""
        logits, cache = self.model.forward(batch.ids, training=True, rng=rng)
        return {**cache._asdict(), "logits": logits, "loss": self.model.ops.cross_entropy_forward(logits, batch.labels)}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Loss, perplexity, bits a character and accuracy on the validation text, which is always read as a whole."""
        loss, accuracy = guess_next_tokens(lambda ids: self.model.forward(ids)[0], self.validation_windows())
        return figures("validation", loss, len(self.validation), self.characters) | {"validation_accuracy": accuracy}

    def validation_windows(self) -> Iterable[Window]:
        """The validation text; where it is cut, every token but the first ones has at least half a window before it."""
        length = self.model.config.max_length
        return self.validation.once(length, length if SOURCES[self.recipe.data].whole else max(1, length // 2))


def prepare(recipe: Recipe, tokenizer: Any = None) -> GPTTask:
    """Texts, tokens and a model with fresh weights. A resumed or evaluated run passes the tokenizer it began with."""
    corpus, source = load_corpus(recipe.data), SOURCES[recipe.data]
    if tokenizer is None and source.tokens == "bpe":
        tokenizer = BytePairTokenizer.build(corpus.train, recipe.vocabulary)
    elif tokenizer is None:
        # The alphabet is given, as the 256 bytes are: a character of validation texts alone has a token, but no example.
        tokenizer = CharacterTokenizer.build([*corpus.train, *corpus.validation])
    training, validation = (TokenStream.of(texts, tokenizer) for texts in corpus)
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = GPTModel(config, np.random.default_rng([recipe.training.seed, _INITIAL_WEIGHTS]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    # Begin where the unigram baseline ends: the bias knows how frequent each token is, and the vectors need not learn it.
    model.head_bias.value[...] = np.log(frequencies(training, len(tokenizer)))
    return GPTTask(model, replace(recipe, model=config), training, validation, sum(map(len, corpus.validation)))


# ---- what is measured -----------------------------------------------------------------------------------------------


def guess_next_tokens(forward: Callable[[NDArray[np.integer]], NDArray[np.floating]],
                      windows: Iterable[Window]) -> tuple[float, float]:
    """The mean loss (nats) over all tokens that count, and the share of them that is guessed right.

    Args:
        forward: ids (B, T) -> logits (B, T, V).
    """
    loss, right, total = 0.0, 0.0, 0
    for ids, labels in windows:
        logits, count = forward(ids), int((labels != IGNORE).sum())                              # (B, T, V)
        loss += float(cross_entropy_forward(logits, labels)[0]) * count
        right += token_accuracy(logits, labels) * count
        total += count
    return loss / total, right / total


def figures(name: str, loss: float, tokens: int, characters: int) -> dict[str, float]:
    """A loss in nats a token, as it is, as a perplexity, and in bits a character, which does not depend on the tokens."""
    return {f"{name}_loss": loss, f"{name}_perplexity": perplexity(loss),
            f"{name}_bits": loss / log(2) * tokens / characters}


def frequencies(stream: TokenStream, size: int) -> NDArray[np.floating]:
    """The share of each token in a stream (V,). One is added to every count (Laplace), so that none is impossible."""
    counts = np.bincount(stream.tokens, minlength=size) + 1.0                                    # (V,)
    return counts / counts.sum()


def unigram_loss(training: TokenStream, validation: TokenStream, size: int) -> float:
    """The loss of who knows only how frequent each token is."""
    return float(-np.log(frequencies(training, size)[validation.tokens]).mean())


def bigram_loss(training: TokenStream, validation: TokenStream, size: int) -> float:
    """The loss of who knows how often each token follows each other one.

        p(b | a) = (n(a, b) + c p(b)) / (n(a) + c)      with the unigrams p(b)      (MacKay & Peto 1995)

    c is the one of PRIORS with the lowest loss on the validation text itself: a baseline as strong as it can be.
    """
    def pairs(stream: TokenStream) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        return np.concatenate([[stream.end_id], stream.tokens[:-1]]), stream.tokens              # (N,), (N,)

    before, after = pairs(training)
    counts = np.zeros((size, size), np.float32)                                                  # (V, V)  n(a, b)
    np.add.at(counts, (before, after), 1)
    before, after = pairs(validation)
    share = frequencies(training, size)[after]                                                   # (N,)
    follows, total = counts[before, after], counts.sum(axis=1)[before]                           # (N,), (N,)
    return min(float(-np.log((follows + c * share) / (total + c)).mean()) for c in PRIORS)


def samples(model: GPTModel, recipe: Recipe) -> list[str]:
    """What the model writes, line by line."""
    lines = []
    for i, prompt in enumerate(SOURCES[recipe.data].prompts):
        rng = np.random.default_rng([recipe.training.seed, i, _SAMPLES])
        text = model.generate(prompt, max_new_tokens=120, temperature=0.8, top_p=0.9, rng=rng)
        lines += ["", *f"{prompt}|{text}".splitlines()]
    return lines


def draw(run: RunFolder, task: GPTTask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.gpt import draw_run      # here, as a training needs no picture until it is over

    return draw_run(run, task.model, load_corpus(task.recipe.data).validation)


def evaluate_run(model: GPTModel, run: RunFolder) -> Report:
    """The validation text beside the baselines, and samples. There is no further text: the recipe was chosen by this one."""
    from tinymm.plots.gpt import draw_texts

    recipe = Recipe.of_run(run)
    task = replace(prepare(recipe, model.tokenizer), model=model)
    size, sizes = len(model.tokenizer), (len(task.validation), task.characters)
    found = task.evaluate()
    for name, loss in (("unigram", unigram_loss), ("bigram", bigram_loss)):
        found |= figures(name, loss(task.training, task.validation, size), *sizes)
    pictures = draw_texts(run, model, load_corpus(recipe.data).validation)
    return Report(found, lines=["", "samples (what stands before | was given):", *samples(model, recipe)], pictures=pictures)
