"""Batches for training: questions about easy-VQA's images, captions of scenes, and statements about them, in one batch.

`TrainingBatches.batch(step)` depends on nothing but the seed and the step, so a training that is resumed at step s sees
what an unbroken one would have seen. Each image comes once, however many of the batch's texts are about it: the image
encoder, the dearest part of the model, works once for all its questions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tinymm.data.easy_vqa import QuestionSet
from tinymm.data.matching import state
from tinymm.data.scenes import SceneList, SceneSet
from tinymm.data.tokenizer import SPECIAL_TOKENS, Tokenizer

IGNORE = -100   # a label that the loss does not count

# Streams of chance: one seed gives each purpose its own numbers.
_QUESTION_ORDER, _SCENE_ORDER, _AUGMENTATION = 1, 2, 3


@dataclass(frozen=True)
class Batch:
    """Images, and R texts that each belong to one of them."""

    images: NDArray[np.uint8]         # (B, H, W, 3)
    ids: NDArray[np.int64]            # (R, T)  the text as the model reads it, padded with <pad>
    labels: NDArray[np.int64]         # (R, T)  the token that comes next; IGNORE on the prompt and the padding
    image_index: NDArray[np.int64]    # (R,)    text r is about images[image_index[r]]
    parts: tuple[tuple[str, int], ...] = ()    # the kinds of text, in the order of the rows, and how many of each


def token_table(texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Put (prompt, continuation) pairs of token ids into one padded table of ids and one of labels, both (R, T).

    A text of prompt p1..pm and continuation c1..cn (which ends in <end>) gives

        ids     p1 ... pm     c1 ... c(n-1)
        labels  IGNORE ... IGNORE c1 ... cn

    so that each place is labelled with the token after it, and <end> itself is never read.

    Raises:
        ValueError: an empty prompt or continuation.
    """
    if any(not prompt or not continuation for prompt, continuation in texts):
        raise ValueError("every text must have a prompt and a continuation of at least one token each")
    length = max((len(prompt) + len(continuation) - 1 for prompt, continuation in texts), default=0)
    ids = np.full((len(texts), length), Tokenizer.pad_id, dtype=np.int64)
    labels = np.full((len(texts), length), IGNORE, dtype=np.int64)
    for r, (prompt, continuation) in enumerate(texts):
        end = len(prompt) + len(continuation) - 1
        ids[r, :end] = (*prompt, *continuation[:-1])
        labels[r, len(prompt) - 1:end] = continuation
    return ids, labels


def make_batch(
    images: NDArray[np.uint8], texts: Sequence[tuple[Sequence[int], Sequence[int]]], image_index: Sequence[int],
) -> Batch:
    """A batch of these images and (prompt, continuation) pairs; text r is about images[image_index[r]].

    Raises:
        ValueError: an empty prompt or continuation, not one index for each text, or an index of no image.
    """
    if len(texts) != len(image_index):
        raise ValueError(f"each text needs the index of its image, got {len(texts)} texts, {len(image_index)} indices")
    if any(not 0 <= i < len(images) for i in image_index):
        raise ValueError(f"image_index must be in 0..{len(images) - 1}, got {min(image_index)}..{max(image_index)}")
    return Batch(images, *token_table(texts), np.asarray(image_index, dtype=np.int64))


@dataclass(frozen=True)
class BatchSettings:
    """What a training batch is made of."""

    question_images: int = 64       # images of easy-VQA in a batch
    questions_per_image: int = 4
    scenes: int = 32                # scenes in a batch
    captions: bool = True           # each scene has its caption
    matching: bool = False          # each scene has a statement that is true or false (`tinymm.data.matching`)
    open_question_weight: float = 4.0   # how much rather a question is drawn that yes or no does not answer
    word_dropout: float = 0.3       # how many of a caption's words the model does not get to read (they become <unk>)
    max_shift: int = 8              # easy-VQA's images are moved by up to this many pixels
    mirror: bool = True             # half of all images are mirrored


class QuestionDraw:
    """The questions that a step asks and the images they are about, changed so that no answer changes: a pure function of (seed, step).

    In every epoch each image comes once, in a new order; the images left over at its end wait for the next one.
    """

    def __init__(self, questions: QuestionSet, seed: int, settings: BatchSettings = BatchSettings()):
        self.settings, self.seed = settings, seed
        self._images = questions.images
        order = np.argsort(questions.image_index, kind="stable")
        bounds = np.searchsorted(questions.image_index[order], np.arange(1, len(questions.images)))
        self._questions_of = np.split(order, bounds)
        closed = np.isin(questions.answers, ("yes", "no"))
        self._weights = np.where(closed, 1.0, settings.open_question_weight)
        self._ground, self._box = ground_and_box(questions.images)

    def draw(self, step: int, rng: np.random.Generator) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64]]:
        """The images (B, H, W, 3) of a step, the questions asked (R,) by their places in the set, and their images (R,) among the B."""
        chosen = draw_rows(self.seed, _QUESTION_ORDER, step, len(self._images), self.settings.question_images)
        rows = [self._ask(self._questions_of[i], rng) for i in chosen]
        image_index = np.repeat(np.arange(len(chosen)), [len(asked) for asked in rows])
        return self.show(chosen, rng), np.concatenate(rows), image_index

    def _ask(self, questions: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """A few of an image's questions, none twice: those whose clocks ring first; weight is speed."""
        clocks = rng.standard_exponential(len(questions)) / self._weights[questions]
        return questions[np.argsort(clocks)[:self.settings.questions_per_image]]

    def show(self, chosen: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.uint8]:
        """The chosen images, some of them mirrored, each shifted, but no shape out of the picture."""
        out = np.empty((len(chosen), *self._images.shape[1:]), dtype=np.uint8)
        height, width = out.shape[1:3]
        chance = rng.random((len(chosen), 3))
        for image, i, (flip, down, right_by) in zip(out, chosen.tolist(), chance.tolist()):
            source = self._images[i]
            top, bottom, left, right = self._box[i].tolist()
            if self.settings.mirror and flip < 0.5:
                source, left, right = source[:, ::-1], width - right, width - left
            dy = self._shift(top, height - bottom, down)
            dx = self._shift(left, width - right, right_by)
            image[0] = self._ground[i]
            image[1:] = image[0]                                # by whole rows: ten times faster than by pixels
            image[top + dy:bottom + dy, left + dx:right + dx] = source[top:bottom, left:right]
        return out

    def _shift(self, before: int, after: int, chance: float) -> int:
        """A whole number of pixels, none more likely than another, at most what is free before and after the shape."""
        back, ahead = min(before, self.settings.max_shift), min(after, self.settings.max_shift)
        return int(chance * (back + ahead + 1)) - back


class TrainingBatches:
    """Training batches as a pure function of (seed, step). Scenes, as images of questions, come once an epoch each."""

    def __init__(
        self, questions: QuestionSet | None, scenes: SceneSet | SceneList | None, tokenizer: Tokenizer, seed: int,
        settings: BatchSettings = BatchSettings(),
    ):
        """Prepare the token ids of all texts.

        Raises:
            ValueError: a set is smaller than its share of one batch, a share is given for a set that is not, or a
                setting is out of its range.
            TypeError: matching with scenes that are drawn already: a statement is made from the shapes.
        """
        if not 0 <= settings.word_dropout <= 1:
            raise ValueError(f"word_dropout must be from 0 to 1, got {settings.word_dropout}")
        if not settings.open_question_weight > 0:
            raise ValueError(f"open_question_weight must be above 0, got {settings.open_question_weight}")
        if settings.question_images + settings.scenes < 1:
            raise ValueError("a batch needs at least one image, got question_images=0 and scenes=0")
        if settings.scenes and not (settings.captions or settings.matching):
            raise ValueError("scenes need captions, matching or both; set scenes=0 to train without them")
        if settings.scenes and settings.matching and not isinstance(scenes, SceneList):
            raise TypeError(f"matching needs a SceneList, got {type(scenes).__name__}")
        self.settings, self.seed, self._tokenizer = settings, seed, tokenizer
        self._scenes = scenes
        for name, data, share in (
            ("question images", None if questions is None else questions.images, settings.question_images), ("scenes", scenes, settings.scenes),
        ):
            given = 0 if data is None else len(data)
            if given < share:
                raise ValueError(f"a batch of {share} {name} needs at least as many, got {given}")
        if questions is not None:
            texts: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
            for pair in zip(questions.questions, questions.answers):
                if pair not in texts:   # few questions differ, so each is encoded once
                    texts[pair] = (tokenizer.question_prompt(pair[0]), _continuation(pair[1], tokenizer))
            self._questions = token_table([texts[pair] for pair in zip(questions.questions, questions.answers)])
            self._draw = QuestionDraw(questions, seed, settings)
        if scenes is not None and settings.captions:
            prompt = tokenizer.caption_prompt()
            captions = scenes.captions + scenes.mirrored_captions
            # Scene i is in row i, its mirror image in row N + i.
            self._captions = token_table([(prompt, _continuation(caption, tokenizer)) for caption in captions])

    def batch(self, step: int) -> Batch:
        """The batch of a step, the same whenever it is asked for."""
        settings = self.settings
        rng = np.random.default_rng([self.seed, step, _AUGMENTATION])
        pictures, parts, tables, image_index = [], [], [], []
        if settings.question_images:
            images, rows, index = self._draw.draw(step, rng)
            pictures.append(images)
            parts.append(("questions", len(rows)))
            tables.append([table[rows] for table in self._questions])
            image_index.append(index)
        if settings.scenes:
            chosen = draw_rows(self.seed, _SCENE_ORDER, step, len(self._scenes), settings.scenes)
            mirrored = rng.random(settings.scenes) < (0.5 if settings.mirror else 0)
            pictures.append(self._scenes.pictures(chosen, mirrored))
            index = settings.question_images + np.arange(settings.scenes)
            if settings.captions:
                ids, labels = (table[chosen + mirrored * len(self._scenes)] for table in self._captions)
                parts.append(("captions", len(ids)))
                tables.append([self._with_gaps(ids, rng), labels])
                image_index.append(index)
            if settings.matching:
                parts.append(("matching", len(chosen)))
                tables.append(list(token_table(self._statements(chosen, mirrored, rng))))
                image_index.append(index)
        return Batch(np.concatenate(pictures), *_stack(tables), np.concatenate(image_index), tuple(parts))

    def _statements(self, chosen: NDArray[np.int64], mirrored: NDArray[np.bool_], rng: np.random.Generator) -> list[tuple[list[int], list[int]]]:
        """About each scene as it is shown one statement, half of them true: new ones each time, so none can be learned by heart."""
        scenes = [self._scenes.scenes[row] for row in chosen.tolist()]
        shown = [scene.mirrored() if flip else scene for scene, flip in zip(scenes, mirrored.tolist())]
        asked = [state(scene.shapes, bool(rng.random() < 0.5), rng) for scene in shown]
        return [(self._tokenizer.question_prompt(statement), _continuation(answer, self._tokenizer)) for statement, answer in asked]

    def _with_gaps(self, ids: NDArray[np.int64], rng: np.random.Generator) -> NDArray[np.int64]:
        """Captions as they are read, some words hidden: what comes next must then be seen in the picture.

        Otherwise the model learns which shape words follow which colour words, and pairs that it has never met suffer.
        What it has to say, the labels, stays as it is.
        """
        hidden = (rng.random(ids.shape) < self.settings.word_dropout) & (ids >= len(SPECIAL_TOKENS))
        return np.where(hidden, Tokenizer.unk_id, ids)


def draw_rows(seed: int, stream: int, step: int, total: int, share: int) -> NDArray[np.int64]:
    """Which `share` of `total` items this step gets: a slice of the epoch's order."""
    epoch, place = divmod(step, total // share)
    return _order(seed, epoch, stream, total)[place * share:(place + 1) * share]


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, stream: int, total: int) -> NDArray[np.int64]:
    """The order of an epoch; remembered, because every step of the epoch asks for it."""
    order = np.random.default_rng([seed, epoch, stream]).permutation(total)
    order.flags.writeable = False
    return order


def _continuation(text: str, tokenizer: Tokenizer) -> list[int]:
    return [*tokenizer.encode(text), tokenizer.end_id]


def _stack(tables: list[list[NDArray[np.int64]]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One table of ids and one of labels from several, as wide as the longest text that is really in them."""
    width = max(int((ids != Tokenizer.pad_id).sum(axis=1).max()) for ids, _ in tables)
    out = []
    for part, filler in ((0, Tokenizer.pad_id), (1, IGNORE)):
        rows = [table[part][:, :width] for table in tables]
        out.append(np.concatenate([
            np.pad(row, ((0, 0), (0, width - row.shape[1])), constant_values=filler) for row in rows
        ]))
    return out[0], out[1]


def ground_and_box(images: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """The colour of each image's even ground (N, 3), and where its shape lies (N, 4): top, bottom, left, right.

    The ground is the median colour of the border; the box holds every pixel of another colour and ends before
    bottom and right.
    """
    border = np.concatenate([images[:, 0], images[:, -1], images[:, :, 0], images[:, :, -1]], axis=1)  # (N, 2H+2W, 3)
    ground = np.median(border, axis=1).astype(np.uint8)                                     # (N, 3)
    differs = (images != ground[:, None, None]).any(axis=-1)                                # (N, H, W)
    box = np.empty((len(images), 4), dtype=np.int64)
    for place, axis in ((0, 2), (2, 1)):
        used = differs.any(axis=axis)                                                       # (N, H), then (N, W)
        box[:, place] = np.where(used.any(axis=1), used.argmax(axis=1), 0)
        box[:, place + 1] = np.where(used.any(axis=1), used.shape[1] - used[:, ::-1].argmax(axis=1), 0)
    return ground, box
