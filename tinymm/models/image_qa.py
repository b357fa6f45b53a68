"""Extractive question answering about an image: the answer stands in the question, and the image says where.

    is the circle red or blue ?                     -> blue
    do you see a red star or a green star ?         -> a green star
    is the heart to the left or to the right of the cross ?   -> to the left

    image  --residual CNN-->  image tokens (N, D) ------.
                                                        |
    <cls> is the circle red or blue ?  --BERT with cross-attention-->  x (T, D)
    <cls>  --dense-->  what is looked for: q (2, D)
    start and end logits (T, 2):  (x + k) q^T / sqrt(D)                k (T, D) a vector of each word itself

As in BERT's reading comprehension (Devlin et al. 2019, section 4.2) two scores say of each word whether the answer begins and
whether it ends there; the answer is the best pair start <= end. There the text holds the answer; here it holds both
choices, and only the image tells them apart. The model can so answer with words that never were a class, only a choice.

BERT scores all words with the same two vectors; here they depend on <cls>, which has seen the image (a pointer, Vinyals et al.
2015), and meet vectors k that differ from word to word from the first step on. So what is seen and what is written are compared
by a product. BERT's head must learn the comparison in a feed-forward layer before anything else can be learned: after 3,000
steps it knew the colours, but guessed the shapes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.bucketing import pad_sentences
from tinymm.data.images import ImageSource
from tinymm.data.tokenizer import Tokenizer
from tinymm.functional.span import best_span
from tinymm.layers import Embedding, Linear, Module
from tinymm.layers.module import Array
from tinymm.models.asking import pair_questions
from tinymm.models.bert import text_tokenizer
from tinymm.models.looking import Inspection, log_probability
from tinymm.models.multimodal_bert import ImageTextCache, ImageTextConfig, ImageTextEncoder, question_ids


@dataclass(frozen=True)
class ImageQAConfig(ImageTextConfig):
    """Everything that fixes the shapes of the model; saved beside its weights."""


class ImageQACache(NamedTuple):
    encoder: ImageTextCache
    point: "PointCache"


class PointCache(NamedTuple):
    query: tuple
    q: Array         # (R, 2, D)
    words: tuple
    keys: Array      # (R, T, D)


class ImageQA(Module):
    """See the head of this file. `tokenizer` is set by whoever trains or loads the model."""

    tokenizer: Tokenizer | None = None

    def __init__(self, config: ImageQAConfig, rng: np.random.Generator):
        self.config = config
        self.encoder = ImageTextEncoder(config, rng)
        self.query = Linear(config.d_model, 2 * config.d_model, rng)
        self.keys = Embedding(config.vocabulary_size, config.d_model, rng, scale=1.0)

    # ---- the equations ----------------------------------------------------------------------------------------------

    def forward(self, images: Array, ids: NDArray[np.integer], image_index: NDArray[np.integer] | None = None, *,
                training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, ImageQACache]:
        """Questions ids (R, T), each begun by <cls>, about images (B, H, W, 3) -> logits (R, T, 2): does the answer begin, end here?

        The arguments are those of `ImageTextEncoder.forward`. The logits at <cls> and at padding mean nothing (`may_answer`).
        """
        x, encoder = self.encoder.forward(images, ids, image_index, training=training, rng=rng)      # (R, T, D)  F1
        logits, point = self.point(x, ids)                                                           # (R, T, 2)  F2
        return logits, ImageQACache(encoder, point)

    def backward(self, d_logits: Array, cache: ImageQACache, input_gradient: bool = True) -> Array | None:
        """d_logits (R, T, 2) -> d_images (B, H, W, 3), or None without input_gradient; adds the gradients of all parameters."""
        d_x = self.point_backward(d_logits, cache.point)                                             # (R, T, D)  undoes F2
        return self.encoder.backward(d_x, cache.encoder, input_gradient)                             # (B, H, W, 3)  undoes F1

    def point(self, x: Array, ids: NDArray[np.integer]) -> tuple[Array, PointCache]:
        """The encoder's x (R, T, D) of the words ids (R, T) -> logits (R, T, 2)."""
        q, query = self.query.forward(x[:, 0])                                                       # (R, 2 D)   F1  <cls> says what
        q = q.reshape(len(x), 2, -1)                                                                 # (R, 2, D)  F2
        k, words = self.keys.forward(ids)                                                            # (R, T, D)  F3
        keys = x + k                                                                                 # (R, T, D)  F4
        logits = keys @ q.swapaxes(1, 2) * self.config.d_model ** -0.5                               # (R, T, 2)  F5
        return logits, PointCache(query, q, words, keys)

    def point_backward(self, d_logits: Array, cache: PointCache) -> Array:
        """d_logits (R, T, 2) -> d_x (R, T, D)."""
        d_scores = d_logits * self.config.d_model ** -0.5                                            # (R, T, 2)  undoes F5
        d_x = d_scores @ cache.q                                                                     # (R, T, D)  undoes F5, F4
        self.keys.backward(d_x, cache.words)                                                         #            undoes F3
        d_q = d_scores.swapaxes(1, 2) @ cache.keys                                                   # (R, 2, D)  undoes F5
        d_x[:, 0] += self.query.backward(d_q.reshape(len(d_q), -1), cache.query)                     # (R, D)     undoes F2, F1
        return d_x

    # ---- what it is for ---------------------------------------------------------------------------------------------

    def answer(self, images: ImageSource | Sequence[ImageSource], questions: str | Sequence[str]) -> str | list[str]:
        """The words of the question that answer it.

        One image and one question give a string. Lists give a list: question i is about image i; one image serves
        all questions, and one question is put to all images. Images are paths, PIL images or uint8 arrays (H, W, 3).

        Raises:
            UserError: an empty question, a word the model has never seen, a file that is no image.
        """
        asked = pair_questions(images, questions)
        ids = [question_ids(self, question) for question in asked.questions]
        spans = self.find(self.encoder.load(asked.images), pad_sentences(ids), asked.image_index)
        tokenizer = text_tokenizer(self)
        answers = [tokenizer.decode(row[first:last + 1]) for row, (first, last) in zip(ids, spans.tolist())]
        return answers[0] if asked.single else answers

    def find(self, images: NDArray[np.uint8], ids: NDArray[np.integer], image_index: NDArray[np.integer]) -> NDArray[np.integer]:
        """The first and the last place of the answer in each of the questions ids (R, T): (R, 2)."""
        logits, _ = self.point(self.encoder.read(images, ids, image_index), ids)                     # (R, T, 2)
        return best_span(logits, may_answer(ids))

    def look(self, image: ImageSource, question: str) -> Inspection:
        """All attention while a question is read, the answer, and how its ln p depends on each pixel. Errors as in `answer`.

        ln p is that of the first and of the last place together.
        """
        ids, (pixels,) = question_ids(self, question), self.encoder.load([image])
        row = np.array([ids])                                                                        # (1, T)
        logits, cache = self.forward(self.encoder.image_input(pixels[None]), row)                    # (1, T, 2)
        allowed = may_answer(row)                                                                    # (1, T)
        ((first, last),) = best_span(logits, allowed).tolist()
        places = np.where(allowed[0, :, None], logits[0], -np.inf).T                                 # (2, T)
        log_p, d_places = log_probability(places, np.array([first, last]))                           # (2,), (2, T)
        (d_image,) = self.backward(d_places.T[None], cache)                                          # (H, W, 3)
        self.zero_grad()                                                                             # only the image's is wanted
        tokenizer = text_tokenizer(self)
        return self.encoder.inspect(cache.encoder, pixels, [tokenizer.tokens[token] for token in ids], question,
                                    tokenizer.decode(ids[first:last + 1]), log_p.sum(), d_image)


def may_answer(ids: NDArray[np.integer]) -> NDArray[np.bool_]:
    """Which places of the questions ids (R, T) may be part of an answer: their words, not <cls> and no padding."""
    allowed = ids != Tokenizer.pad_id                                                                # (R, T)
    allowed[:, 0] = False
    return allowed
