"""The text-image model names emoji: `<caption> red heart <end>`, for an artist whose drawings it has never seen.

The same data, artists and changes of the drawings as in `tinymm.training.clip`, but nothing is compared: the model writes the name word
by word. It may so write a name that is no emoji's at all, and may get some of the words right; hence token F1 beside exact match.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tinymm.data.batches import Batch, make_batch
from tinymm.data.emoji import TEST_ARTIST, VALIDATION_ARTIST, ArtistPairs, Emoji, artists_of, load_emoji
from tinymm.data.image_augmentation import Augmentation, augment
from tinymm.data.tokenizer import Tokenizer, split_words
from tinymm.models.text_image import TextImageConfig, TextImageModel
from tinymm.training.checkpoints import RunFolder
from tinymm.training.jobs import Figure, Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings
from tinymm.training.metrics import Example, exact_match, token_accuracy
from tinymm.training.text_metrics import token_f1

_INITIAL_WEIGHTS, _DRAWINGS, _ORDER = 701, 702, 703    # streams of chance

FIGURES = {
    "exact": Figure("unseen artist: the whole name is right"),
    "token_f1": Figure("unseen artist: token F1 of the name"),
    "validation_exact": Figure("artist left out: the whole name is right"),
    "validation_token_f1": Figure("artist left out: token F1 of the name"),
    "known_exact": Figure("artists of the training: the whole name is right"),
    "known_token_f1": Figure("artists of the training: token F1 of the name"),
}


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a training; saved in config.json."""

    DATA: ClassVar[tuple[str, ...]] = ("all", "validation")

    training: TrainingSettings = TrainingSettings(steps=1200, learning_rate=3e-3, warmup=100, beta2=0.98, weight_decay=0.05,
                                                  evaluate_every=300, evaluation_limit=300)
    model: TextImageConfig = TextImageConfig(       # the tokenizer's size is put in by `prepare`
        vocabulary_size=0, image_size=32, channels=(32, 64, 128), strides=(1, 2, 2), d_model=128, n_heads=4, n_layers=2,
        d_ff=256, max_length=18, residual=True, directions=4, crop=True, dropout=0.1)
    data: str = "all"
    drawings: int = 128               # in a batch
    mixtures: float = 0.5             # the share of drawings that are a mixture of two artists'
    word_dropout: float = 0.3         # how many of a name's words the model does not get to read (they become <unk>)
    augmentation: Augmentation = Augmentation()

    @property
    def artists(self) -> tuple[str, ...]:
        """Whose drawings it learns from."""
        return artists_of(self.data)

    @classmethod
    def quick(cls) -> "Recipe":
        return cls(training=replace(cls.training, steps=150, warmup=30, evaluate_every=75, evaluation_limit=100))


@dataclass
class EmojiCaptionTask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: TextImageModel
    recipe: Recipe
    emoji: Emoji                      # cropped to the drawings

    def __post_init__(self) -> None:
        tokenizer, artists = self.model.tokenizer, self.recipe.artists
        self.pairs = ArtistPairs(self.emoji, artists)
        self.names = [[*tokenizer.encode(name), tokenizer.end_id] for name in self.emoji.names]

    def batch(self, step: int) -> Batch:
        """As many emoji, no one twice, each drawn by one artist, or by a mixture of two."""
        recipe, seed = self.recipe, self.recipe.training.seed
        rows = self.pairs.rows(step, recipe.drawings, [seed, _ORDER])                                # (B,)
        rng = np.random.default_rng([seed, step, _DRAWINGS])
        drawings, _ = self.pairs.draw(rows, recipe.mixtures, rng)                                    # (B, H, W, 3)
        tokenizer = self.model.tokenizer
        batch = make_batch(augment(drawings, rng, recipe.augmentation), [(tokenizer.caption_prompt(), self.names[row]) for row in rows],
                           np.arange(len(rows)))
        hidden = (rng.random(batch.ids.shape) < recipe.word_dropout) & (batch.ids >= len(tokenizer.special_tokens))
        return replace(batch, ids=np.where(hidden, tokenizer.unk_id, batch.ids))

    def step(self, batch: Batch, rng: np.random.Generator) -> dict[str, float]:
        model, ops = self.model, self.model.ops
        images = model.image_input(batch.images)                                                     # (B, H, W, 3)  F1
        logits, cache = model.forward(images, batch.ids, training=True, rng=rng)                     # (B, T, V)     F2
        loss, loss_cache = ops.cross_entropy_forward(logits, batch.labels)                           # ()            F3

        d_logits = ops.cross_entropy_backward(1.0, loss_cache)                                       # (B, T, V)     undoes F3
        model.backward(d_logits, cache, input_gradient=False)                                        #               undoes F2
        return {"loss": float(loss), "accuracy": token_accuracy(logits, batch.labels)}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Names written for the artist left out; where none is, for drawings of the training (not the test artist)."""
        left_out = self.recipe.data == "validation"
        artists, name = ((VALIDATION_ARTIST,), "validation") if left_out else (self.recipe.artists, "known")
        drawings, which = self.emoji.of(artists)
        if limit is not None and len(which) > limit:
            rows = np.linspace(0, len(which) - 1, limit).astype(np.intp)
            drawings, which = drawings[rows], which[rows]
        return {f"{name}_{key}": value for key, value in score(write_names(self.model, drawings), [self.emoji.names[i] for i in which]).items()}


def prepare(recipe: Recipe, tokenizer: Tokenizer | None = None) -> EmojiCaptionTask:
    """Data, words and a model with fresh weights. A resumed run passes the tokenizer it began with."""
    emoji = load_emoji().cropped()
    if tokenizer is None:
        tokenizer = Tokenizer.build(emoji.names)
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = TextImageModel(config, np.random.default_rng([recipe.training.seed, _INITIAL_WEIGHTS]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    return EmojiCaptionTask(model, replace(recipe, model=config), emoji)


def write_names(model: TextImageModel, drawings: NDArray[np.uint8], **options: Any) -> list[str]:
    """The name that the model writes for each drawing (B, H, W, 3)."""
    return model.generate_texts(drawings, [model.tokenizer.caption_prompt()] * len(drawings), np.arange(len(drawings)), **options)


def score(written: Sequence[str], names: Sequence[str]) -> dict[str, float]:
    """Exact match and token F1, both on lower-case words."""
    given, expected = [split_words(text) for text in written], [split_words(name) for name in names]
    return {"exact": exact_match([" ".join(words) for words in given], [" ".join(words) for words in expected]),
            "token_f1": token_f1(given, expected)}


def draw(run: RunFolder, task: EmojiCaptionTask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.curves import draw_curves

    return [draw_curves(run.metrics, run.pictures / "curves.png")]


def evaluate_run(model: TextImageModel, run: RunFolder) -> Report:
    """Names for the unseen artist's drawings."""
    from tinymm.plots.examples import draw_examples

    recipe, emoji = Recipe.of_run(run), load_emoji().cropped()
    artist = TEST_ARTIST if recipe.data == "all" else VALIDATION_ARTIST
    drawings, which = emoji.of((artist,))
    names = [" ".join(split_words(emoji.names[i])) for i in which]
    written = [" ".join(split_words(text)) for text in write_names(model, drawings)]
    shown = np.linspace(0, len(which) - 1, 24).astype(np.intp)
    examples = [Example(drawings[i], "", written[i], names[i]) for i in shown]
    picture = draw_examples({f"Names written for drawings by {artist}, an artist never seen in training": examples}, run.pictures / "names.png")
    return Report(score(written, names), pictures=[picture])
