"""CLIP learns to find an emoji's name by its drawing, and the drawing by its name, for an artist whose drawings it has never seen.

A step takes B emoji and of each the drawings of two artists, turned, moved and coloured by chance. Three contrasts:

    L = (InfoNCE(drawing 1, name) + InfoNCE(drawing 2, name)) / 2 + w InfoNCE(drawing 1, drawing 2)

The last says what the task is about: two artists' drawings of one thing belong together. Now and then a drawing is a mixture of two
artists', so that there are more than four.

The test artist is looked at by `evaluate_run` alone. To choose a recipe there is `--data validation`: it trains without EmojiOne and
is evaluated on EmojiOne.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.bucketing import pad_sentences
from tinymm.data.emoji import TEST_ARTIST, VALIDATION_ARTIST, ArtistPairs, Emoji, artists_of, load_emoji
from tinymm.data.image_augmentation import Augmentation, augment
from tinymm.data.tokenizer import Tokenizer
from tinymm.models.clip import CLIPConfig, CLIPModel
from tinymm.training.checkpoints import RunFolder
from tinymm.training.jobs import Figure, Report, TrainingRecipe
from tinymm.training.loop import TrainingSettings
from tinymm.training.metrics import recall_at_k
from tinymm.training.nearest_drawing import nearest_drawings, outline_features, pixel_features

_INITIAL_WEIGHTS, _DRAWINGS, _ORDER = 601, 602, 603    # streams of chance
RANKS = (1, 5, 10)

FIGURES = {
    **{f"image_to_text_r{k}": Figure(f"unseen artist: the drawing finds its name among the first {k}") for k in RANKS},
    **{f"text_to_image_r{k}": Figure(f"unseen artist: the name finds its drawing among the first {k}") for k in RANKS},
    "pixels_r1": Figure("nearest training drawing by pixels: the right name"),
    "pixels_r10": Figure("the same, among its first 10 names"),
    "outlines_r1": Figure("nearest training drawing by slopes (HOG) and colours: the right name"),
    "outlines_r10": Figure("the same, among its first 10 names"),
    "validation_image_to_text_r1": Figure("artist left out: the drawing finds its name first"),
    "validation_text_to_image_r1": Figure("artist left out: the name finds its drawing first"),
    "known_image_to_text_r1": Figure("artists of the training: the drawing finds its name first"),
    "known_text_to_image_r1": Figure("artists of the training: the name finds its drawing first"),
}


@dataclass(frozen=True)
class Recipe(TrainingRecipe):
    """Everything that decides what comes out of a training; saved in config.json."""

    DATA: ClassVar[tuple[str, ...]] = ("all", "validation")

    training: TrainingSettings = TrainingSettings(steps=1000, learning_rate=4e-3, warmup=100, beta2=0.98, weight_decay=0.05,
                                                  evaluate_every=250, evaluation_limit=500)
    model: CLIPConfig = CLIPConfig(vocabulary_size=0)    # the tokenizer's size is put in by `prepare`
    data: str = "all"
    emoji: int = 128                  # in a batch, each drawn twice
    image_contrast: float = 1.0       # w
    mixtures: float = 0.5             # the share of drawings that are a mixture of two artists'
    augmentation: Augmentation = Augmentation()

    @property
    def artists(self) -> tuple[str, ...]:
        """Whose drawings it learns from."""
        return artists_of(self.data)

    @classmethod
    def quick(cls) -> "Recipe":
        return cls(training=replace(cls.training, steps=150, warmup=30, evaluate_every=75))


class CLIPBatch(NamedTuple):
    drawings: NDArray[np.float32]     # (2B, H, W, 3)  0..255, the first artists', then the second ones'
    ids: NDArray[np.integer]          # (B, T)


@dataclass
class CLIPTask:
    """The Task that `tinymm.training.loop.train` runs."""

    model: CLIPModel
    recipe: Recipe
    emoji: Emoji                                      # cropped to the drawings
    ids: NDArray[np.integer]                          # (N, T)  the names

    def __post_init__(self) -> None:
        self.pairs = ArtistPairs(self.emoji, self.recipe.artists)

    def batch(self, step: int) -> CLIPBatch:
        """B emoji, no one twice, each drawn by two different artists."""
        recipe, seed = self.recipe, self.recipe.training.seed
        rows = self.pairs.rows(step, recipe.emoji, [seed, _ORDER])                                            # (B,)
        rng = np.random.default_rng([seed, step, _DRAWINGS])
        drawings = np.concatenate(self.pairs.draw(rows, recipe.mixtures, rng))                                # (2B, H, W, 3)
        return CLIPBatch(augment(drawings, rng, recipe.augmentation), self.ids[rows])

    def step(self, batch: CLIPBatch, rng: np.random.Generator) -> dict[str, float]:
        model, ops, weight, B = self.model, self.model.ops, self.recipe.image_contrast, len(batch.ids)
        model.clip_scale()
        scale = model.log_scale.value                                                                         # ()       s
        a, image = model.encode_images(model.image_input(batch.drawings), training=True, rng=rng)             # (2B, D)  F1
        b, text = model.encode_texts(batch.ids)                                                               # (B, D)   F2
        first_loss, first = ops.info_nce_forward(a[:B], b, scale)                                             # ()       F3
        second_loss, second = ops.info_nce_forward(a[B:], b, scale)                                           # ()       F4
        image_loss, both = ops.info_nce_forward(a[:B], a[B:], scale)                                          # ()       F5
        loss = (first_loss + second_loss) / 2 + weight * image_loss                                           # ()       F6

        d_a1, d_a2, d_s_images = ops.info_nce_backward(weight, both)                                          # (B, D)   undoes F6, F5
        d_a2_text, d_b2, d_s_second = ops.info_nce_backward(0.5, second)                                      # (B, D)   undoes F6, F4
        d_a1_text, d_b1, d_s_first = ops.info_nce_backward(0.5, first)                                        # (B, D)   undoes F6, F3
        model.log_scale.grad += d_s_first + d_s_second + d_s_images                                           # ()       s was used three times
        model.encode_texts_backward(d_b1 + d_b2, text)                                                        #          undoes F2
        model.encode_images_backward(np.concatenate([d_a1 + d_a1_text, d_a2 + d_a2_text]), image, input_gradient=False)   # undoes F1
        right = (first.similarity.argmax(axis=1) == np.arange(B)).mean()
        return {"loss": float(loss), "accuracy": float(right), "image_loss": float(image_loss), "scale": float(np.exp(scale))}

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Retrieval on the artist left out; where none is, on drawings of the training (not the test artist)."""
        left_out = self.recipe.data == "validation"
        artists, name = ((VALIDATION_ARTIST,), "validation") if left_out else (self.recipe.artists, "known")
        figures = {}
        for artist in artists:
            similarity, matches = similarities(self.model, self.emoji, artist, self.ids, limit)
            for direction, value in (("image_to_text", recall_at_k(similarity, 1, matches)),
                                     ("text_to_image", text_to_image(similarity, matches, 1))):
                key = f"{name}_{direction}_r1"
                figures[key] = figures.get(key, 0.0) + value / len(artists)
        return figures


def prepare(recipe: Recipe, tokenizer: Tokenizer | None = None) -> CLIPTask:
    """Data, words and a model with fresh weights. A resumed run passes the tokenizer it began with."""
    emoji = load_emoji().cropped()
    if tokenizer is None:
        tokenizer = Tokenizer.build(emoji.names)
    config = replace(recipe.model, vocabulary_size=len(tokenizer))
    model = CLIPModel(config, np.random.default_rng([recipe.training.seed, _INITIAL_WEIGHTS]))
    model.tokenizer = tokenizer
    model.use_backend(recipe.backend)
    return CLIPTask(model, replace(recipe, model=config), emoji, encode_names(tokenizer, emoji.names, config.max_length))


def encode_names(tokenizer: Tokenizer, names: Sequence[str], max_length: int) -> NDArray[np.integer]:
    """Names as one table of ids (N, T), <pad> at the right."""
    return pad_sentences([tokenizer.encode(name)[:max_length] for name in names])


# ---- evaluation -----------------------------------------------------------------------------------------------------


def similarities(model: CLIPModel, emoji: Emoji, artist: str, ids: NDArray[np.integer],
                 limit: int | None = None) -> tuple[NDArray[np.floating], NDArray[np.bool_]]:
    """(M, N) of an artist's drawings (at most `limit` of them, spread evenly) and all names, and where they belong together."""
    rows = np.flatnonzero(emoji.present[artist])                                                   # (M,)
    if limit is not None and len(rows) > limit:
        rows = rows[np.linspace(0, len(rows) - 1, limit).astype(np.intp)]
    a, b = model.embed_pixels(emoji.drawings[artist][rows]), model.encode_texts(ids)[0]            # (M, D), (N, D)
    return a @ b.T, rows[:, None] == np.arange(len(emoji))


def text_to_image(similarity: NDArray[np.floating], matches: NDArray[np.bool_], k: int) -> float:
    """Recall@k of the names that have a drawing here."""
    drawn = matches.any(axis=0)
    return recall_at_k(similarity.T[drawn], k, matches.T[drawn])


def retrieval_figures(similarity: NDArray[np.floating], matches: NDArray[np.bool_]) -> dict[str, float]:
    return {f"image_to_text_r{k}": recall_at_k(similarity, k, matches) for k in RANKS} | {
        f"text_to_image_r{k}": text_to_image(similarity, matches, k) for k in RANKS}


def draw(run: RunFolder, task: CLIPTask) -> list[Path]:
    """The pictures of a training."""
    from tinymm.plots.curves import draw_curves

    return [draw_curves(run.metrics, run.pictures / "curves.png")]


def evaluate_run(model: CLIPModel, run: RunFolder) -> Report:
    """Retrieval on the unseen artist's drawings, beside the nearest training drawing by pixels and by outlines."""
    from tinymm.plots.retrieval import draw_finds

    recipe, emoji = Recipe.of_run(run), load_emoji().cropped()
    artist = TEST_ARTIST if recipe.data == "all" else VALIDATION_ARTIST
    ids = encode_names(model.tokenizer, emoji.names, model.config.max_length)
    similarity, matches = similarities(model, emoji, artist, ids)
    figures = retrieval_figures(similarity, matches)
    rows, (known, which) = np.flatnonzero(emoji.present[artist]), emoji.of(recipe.artists)
    for name, features in (("pixels", pixel_features), ("outlines", outline_features)):
        nearest = nearest_drawings(features(emoji.drawings[artist][rows]), features(known), which, len(emoji))
        figures |= {f"{name}_r{k}": recall_at_k(nearest, k, matches) for k in (1, 10)}
    picture = draw_finds(emoji, artist, rows, similarity, run.pictures / "finds.png")
    return Report(figures, pictures=[picture])
