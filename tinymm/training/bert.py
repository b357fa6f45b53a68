"""Pre-training BERT: guess the hidden words of review sentences. No label is needed, so every sentence serves.

The sentences are those of film and product reviews (tinymm.data.sentiment, tinymm.data.topics) without their ratings. The
validation and test splits are not read here either, so that what is fine-tuned later meets its test sentences for the first
time in the test. What is measured is how well hidden words of sentences about films are guessed.

A loss means little alone. Beside it stands what can be said without reading the text at all: the frequencies of the
words (the unigram baseline).
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymm.data.bucketing import BucketedOrder, pad_sentences
from tinymm.data.masking import MaskedTexts, choice_weights, mask_words
from tinymm.data.sentiment import load_sentiment
from tinymm.data.tokenizer import Tokenizer, split_words
from tinymm.data.topics import load_product_sentences
from tinymm.models.bert import CLS, MASK, BERTConfig, BERTModel, encode_sentences
from tinymm.training.checkpoints import RunFolder
from tinymm.training.jobs import Figure, Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings

_INITIAL_WEIGHTS, _MASKS, _EVALUATION_MASKS = 501, 502, 503    # streams of chance; the last is the same for every run

FIGURES = {
    "validation_masked_loss": Figure("hidden words, validation: loss (nats a word)", "number"),
    "validation_masked_accuracy": Figure("hidden words, validation: guessed right"),
    "validation_perplexity": Figure("hidden words, validation: perplexity", "number"),
    "test_masked_loss": Figure("hidden words, test: loss (nats a word)", "number"),
    "test_unigram_loss": Figure("the same from the words' frequencies alone", "number"),
    "test_masked_accuracy": Figure("hidden words, test: guessed right"),
    "test_unigram_accuracy": Figure("always the commonest word"),
    "test_perplexity": Figure("hidden words, test: perplexity", "number"),
    "test_unigram_perplexity": Figure("the same from the words' frequencies alone", "number"),
}


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a pre-training; saved in config.json."""

    training: TrainingSettings = TrainingSettings(steps=2500, learning_rate=2e-3, warmup=100, beta2=0.98, evaluate_every=250, evaluation_limit=None)
    model: BERTConfig = BERTConfig(vocabulary_size=0)    # the tokenizer's size is put in by `prepare`
    words: int = 5000          # at most so many words are told apart, the commonest; all others are <unk>
    share: float = 0.3         # of a text's words is hidden: more than the paper's 15 %, as there are few texts (Wettig et al. 2023)
    threshold: float = 1e-4    # words more frequent than this are hidden more rarely (`choice_weights`)
    batch_size: int = 64       # sentences

    @classmethod
    def quick(cls) -> "Recipe":
        """A one-minute version of the same job."""
        return cls(training=replace(cls.training, steps=500))


@dataclass(frozen=True)
class Masker:
    """How sentences are asked about. Also the unigram baseline: `baseline` is the best guess that reads nothing."""

    tokenizer: Tokenizer
    weights: NDArray[np.floating]     # (V,)  how readily a word is hidden
    baseline: NDArray[np.floating]    # (V,)  how frequent it is among the hidden words
    share: float

    @classmethod
    def of(cls, sentences: Sequence[Sequence[int]], tokenizer: Tokenizer, recipe: Recipe) -> "Masker":
        """From the frequencies in the training sentences. One is added to every count (Laplace), so that none is impossible."""
        counts = np.bincount(np.concatenate([np.asarray(sentence) for sentence in sentences]), minlength=len(tokenizer))   # (V,)
        counts[:len(tokenizer.special_tokens)] = 0      # they are read, but never hidden
        frequencies = (counts + 1) / (counts + 1).sum()                                                                    # (V,)
        weights = choice_weights(frequencies, len(tokenizer.special_tokens), recipe.threshold)                             # (V,)
        hidden = np.where(weights > 0, frequencies * weights, frequencies.min())                                           # (V,)
        return cls(tokenizer, weights, hidden / hidden.sum(), recipe.share)

    def mask(self, sentences: Sequence[Sequence[int]], rng: np.random.Generator) -> MaskedTexts:
        """Pad sentences and hide some of their words."""
        return mask_words(pad_sentences(sentences), self.tokenizer.id(MASK), self.weights, rng, self.share)


@dataclass
class BERTTask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: BERTModel
    recipe: Recipe
    sentences: Sequence[Sequence[int]]      # to train on, as ids
    validation: Sequence[Sequence[int]]
    masker: Masker

    def __post_init__(self) -> None:
        lengths = [len(sentence) for sentence in self.sentences]
        self.order = BucketedOrder(lengths, self.recipe.batch_size, self.recipe.training.seed)

    def batch(self, step: int) -> MaskedTexts:
        rng = np.random.default_rng([self.recipe.training.seed, step, _MASKS])
        return self.masker.mask([self.sentences[row] for row in self.order.rows(step)], rng)

    def step(self, batch: MaskedTexts, rng: np.random.Generator) -> dict[str, float]:
        model, ops = self.model, self.model.ops
        logits, cache = model.forward(batch.ids, batch.masked, training=True, rng=rng)         # (M, V)  F1
        loss, loss_cache = ops.cross_entropy_forward(logits, batch.labels)                     # ()      F2

        d_logits = ops.cross_entropy_backward(1.0, loss_cache)                                 # (M, V)  undoes F2
        model.backward(d_logits, cache)                                                        #         undoes F1
        return {"loss": float(loss), "accuracy": float((logits.argmax(axis=-1) == batch.labels).mean())}

    def trace(self, batch: MaskedTexts, rng: np.random.Generator) -> dict[str, Any]:
        """The caches of a step's forward pass, for the search of an array that is not finite."""
        logits, cache = self.model.forward(batch.ids, batch.masked, training=True, rng=rng)
        return {**cache._asdict(), "logits": logits, "loss": self.model.ops.cross_entropy_forward(logits, batch.labels)}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Loss, accuracy and perplexity on hidden words of validation sentences, always the same words."""
        loss, accuracy = guess_hidden_words(self.model, self.validation[:limit], self.masker)
        return {"validation_masked_loss": loss, "validation_masked_accuracy": accuracy, "validation_perplexity": float(np.exp(loss))}


def prepare(recipe: Recipe, tokenizer: Tokenizer | None = None) -> BERTTask:
    """Data, words and a model with fresh weights. A resumed run passes the tokenizer it began with."""
    data, seed = load_sentiment(), recipe.training.seed
    texts = reading()
    if tokenizer is None:
        tokenizer = build_tokenizer(texts, recipe.words)
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = BERTModel(config, np.random.default_rng([seed, _INITIAL_WEIGHTS]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    train, validation = (encode_sentences(tokenizer, part, config.max_length) for part in (texts, data.validation.texts))
    masker = Masker.of(train, tokenizer, recipe)
    # Begin where the unigram baseline ends: the bias knows how frequent each word is, and the vectors need not learn it.
    model.decoder_bias.value[...] = np.log(masker.baseline)
    return BERTTask(model, replace(recipe, model=config), train, validation, masker)


def reading() -> list[str]:
    """The sentences to learn from: those of the training splits, whether they have a label or not."""
    films = load_sentiment()
    return [*films.train.texts, *films.unlabelled.texts, *load_product_sentences()["train"]]


def build_tokenizer(texts: Sequence[str], words: int) -> Tokenizer:
    """The tokenizer of the commonest words in these texts, with <cls> and <mask>. Ties go to the first in the alphabet."""
    counts = Counter(word for text in texts for word in split_words(text))
    commonest = sorted(counts, key=lambda word: (-counts[word], word))[:words]
    return Tokenizer(sorted(commonest), extra=(CLS, MASK))


# ---- what is measured -----------------------------------------------------------------------------------------------


def hidden_words(sentences: Sequence[Sequence[int]], masker: Masker, chunk: int = 256) -> list[MaskedTexts]:
    """Sentences with the words hidden that an evaluation asks for; the same for every model with these words."""
    rng = np.random.default_rng(_EVALUATION_MASKS)
    order = np.argsort([len(sentence) for sentence in sentences], kind="stable")
    return [masker.mask([sentences[row] for row in order[start:start + chunk]], rng) for start in range(0, len(order), chunk)]


def guess_hidden_words(model: BERTModel, sentences: Sequence[Sequence[int]], masker: Masker) -> tuple[float, float]:
    """The mean loss (nats) over all hidden words, and the share of them that is guessed right."""
    loss, right, total = 0.0, 0, 0
    for batch in hidden_words(sentences, masker):
        logits, _ = model.forward(batch.ids, batch.masked)                                     # (M, V)
        loss += float(model.ops.cross_entropy_forward(logits, batch.labels)[0]) * len(batch.labels)
        right += int((logits.argmax(axis=-1) == batch.labels).sum())
        total += len(batch.labels)
    return loss / total, right / total


def guess_from_frequencies(sentences: Sequence[Sequence[int]], masker: Masker) -> tuple[float, float]:
    """The unigram baseline on the same hidden words: loss and accuracy of who knows only how frequent each word is there."""
    labels = np.concatenate([batch.labels for batch in hidden_words(sentences, masker)])       # (M,)
    return float(-np.log(masker.baseline[labels]).mean()), float((labels == masker.baseline.argmax()).mean())


def draw(run: RunFolder, task: BERTTask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.bert import draw_bert_run

    return draw_bert_run(run, task.model, load_sentiment().validation.texts)


def evaluate_run(model: BERTModel, run: RunFolder) -> Report:
    """Hidden words of the test sentences, beside the unigram baseline; and some sentences with what the model guesses."""
    data, tokenizer = load_sentiment(), model.tokenizer
    training, test = (encode_sentences(tokenizer, texts, model.config.max_length)
                      for texts in (reading(), data.test.texts))
    masker = Masker.of(training, tokenizer, Recipe.of_run(run))
    loss, accuracy = guess_hidden_words(model, test, masker)
    unigram_loss, unigram_accuracy = guess_from_frequencies(test, masker)
    figures = {
        "test_masked_loss": loss, "test_unigram_loss": unigram_loss,
        "test_masked_accuracy": accuracy, "test_unigram_accuracy": unigram_accuracy,
        "test_perplexity": float(np.exp(loss)), "test_unigram_perplexity": float(np.exp(unigram_loss)),
    }
    return Report(figures, lines=[line for text in EXAMPLES for line in guesses(model, text)])


EXAMPLES = (
    f"the film is {MASK} .", f"one of the {MASK} movies of the year .", f"the {MASK} life is short .",
    f"a funny and {MASK} comedy .", f"it is too {MASK} and too long .",
)


def guesses(model: BERTModel, text: str) -> list[str]:
    """The text, and below it for each <mask> the likeliest words with their probabilities."""
    return [text, *("    " + ", ".join(f"{word} {share:.0%}" for word, share in words) for words in model.predict_masked(text))]
