"""A multimodal BERT: an encoder that reads a question and looks at a picture, and a classifier that names the answer.

    image (H, W, 3)  --residual CNN-->  image tokens (N, D) --------------.  keys and values
                                                                          |
    <cls> what color is the shape ?  --BERT: words look at words, then at the image-->  (T, D)
                                                                          |
                                                       the vector of <cls>  --dense-->  one score for each answer (A,)

The encoder is BERT's (Devlin et al. 2019) with a second attention in each block, whose queries come from the text and whose
keys and values from the image (the cross-attention of Vaswani et al. 2017; between modalities as in LXMERT, Tan and Bansal
2019). The answer is one of a fixed list, so nothing is generated: a softmax over A classes, read off <cls>.
`tinymm.models.image_qa` puts another head on the same encoder.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.bucketing import pad_sentences
from tinymm.data.images import ImageSource, load_image
from tinymm.data.tokenizer import Tokenizer
from tinymm.layers import Linear, Module, ResidualImageEncoder
from tinymm.layers.attention import attention_weights
from tinymm.layers.module import Array
from tinymm.models.asking import as_list, pair_questions, question_words
from tinymm.models.bert import CLS, BERTConfig, BERTEncoder, BERTEncoderCache, text_tokenizer
from tinymm.models.looking import AttentionMaps, Inspection, PixelGradient, log_probability


@dataclass(frozen=True)
class ImageTextConfig(BERTConfig):
    """The sizes of BERT's encoder, and those of the residual CNN whose tokens it looks at."""

    d_model: int = 64
    d_ff: int = 256
    max_length: int = 24      # of a question, <cls> included
    norm: str = "pre"
    dropout: float = 0.0
    image_size: int = 64
    channels: tuple[int, ...] = (16, 32, 64, 64)
    strides: tuple[int, ...] = (2, 2, 2, 1)

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))   # JSON knows only lists
        object.__setattr__(self, "strides", tuple(self.strides))


class ImageTextCache(NamedTuple):
    image: Any
    text: BERTEncoderCache


class ImageTextEncoder(Module):
    """Token ids (R, T) about images (B, H, W, 3) to vectors (R, T, D), each of which has seen the whole text and its image."""

    def __init__(self, config: ImageTextConfig, rng: np.random.Generator):
        c = self.config = config
        self.image = ResidualImageEncoder(c.image_size, c.channels, c.strides, c.d_model, rng)
        self.text = BERTEncoder(c, rng, fusion="cross")

    def forward(self, images: Array, ids: NDArray[np.integer], image_index: NDArray[np.integer] | None = None, *,
                training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, ImageTextCache]:
        """images (B, H, W, 3), values in [-1, 1], and ids (R, T) -> x (R, T, D).

        Args:
            image_index: (R,), the image that each text is about; None when text r is about image r. An image is encoded
                once, however many texts are about it.
            training: batch statistics of the CNN, and dropout, which needs rng.
        """
        memory, image = self.image.forward(images, training)                                                            # (B, N, D)  F1
        x, text = self.text.forward(ids, memory, memory_index=image_index, training=training, rng=rng)                  # (R, T, D)  F2
        return x, ImageTextCache(image, text)

    def backward(self, d_x: Array, cache: ImageTextCache, input_gradient: bool = True) -> Array | None:
        """d_x (R, T, D) -> d_images (B, H, W, 3), or None without input_gradient; adds the gradients of all parameters."""
        d_memory = self.text.backward(d_x, cache.text)                                                                  # (B, N, D)  undoes F2
        return self.image.backward(d_memory, cache.image, input_gradient)                                               # (B, H, W, 3)  undoes F1

    def image_input(self, images: NDArray[np.uint8]) -> Array:
        """Pixels 0..255 -> [-1, 1] in the dtype of the weights, (B, H, W, 3)."""
        dtype = self.text.words.weight.value.dtype.type
        return images * dtype(1 / 127.5) - dtype(1)

    def read(self, images: NDArray[np.uint8], ids: NDArray[np.integer], image_index: NDArray[np.integer],
             chunk: int = 512) -> Array:
        """`forward` for any number of images and texts, a few at a time to bound the memory: (R, T, D)."""
        memory = np.concatenate([self.image.forward(self.image_input(images[i:i + 128]))[0] for i in range(0, len(images), 128)])
        parts = (slice(start, start + chunk) for start in range(0, len(ids), chunk))
        return np.concatenate([self.text.forward(ids[part], memory, memory_index=image_index[part])[0] for part in parts])

    def attention(self, cache: ImageTextCache) -> tuple[Array, Array]:
        """The attention weights of a pass with a single text: words at the image (L, H, T, N), and at words (L, H, T, T)."""
        blocks = cache.text.blocks
        return (np.stack([attention_weights(block.cross_attention.sublayer)[0] for block in blocks]),
                np.stack([attention_weights(block.attention.sublayer)[0] for block in blocks]))

    def inspect(self, cache: ImageTextCache, image: NDArray[np.uint8], tokens: Sequence[str], question: str, answer: str,
                log_p: float, d_image: Array) -> Inspection:
        """What `look` of both models returns; d_image (H, W, 3) is the gradient of ln p(answer) with respect to the input."""
        to_image, to_words = self.attention(cache)
        grid = (self.image.grid_size,) * 2
        return Inspection(question, answer, (
            AttentionMaps("image", "Where <cls> and each word of the question look", to_image, tokens, grid=grid),
            AttentionMaps("words", "Which words each word of the question looks at", to_words, tokens, tokens)),
            image, (PixelGradient(answer, float(np.exp(log_p)), 2 * d_image),))                   # brightness 0 to 1 is input -1 to 1

    def load(self, images: Sequence[ImageSource]) -> NDArray[np.uint8]:
        """Images of any size and kind as the encoder sees them, (B, H, W, 3)."""
        return np.stack([load_image(image, self.config.image_size) for image in images])


def question_ids(model: Any, question: str) -> list[int]:
    """<cls> and the words of a question. Raises UserError for an unknown word, no word or too many."""
    tokenizer = text_tokenizer(model)
    return [tokenizer.id(CLS), *question_words(tokenizer, question, model.config.max_length - 1)]


@dataclass(frozen=True)
class MultimodalBERTConfig(ImageTextConfig):
    """The sizes of the encoder, and the answers that the classifier chooses from."""

    answers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "answers", tuple(self.answers))


class MultimodalBERTCache(NamedTuple):
    encoder: ImageTextCache
    shape: tuple[int, ...]    # (R, T, D)
    head: Any


class MultimodalBERT(Module):
    """See the head of this file. `tokenizer` is set by whoever trains or loads the model.

        model = MultimodalBERT.train(images, questions, answers)
        model.predict("photo.png", "what color is the shape?")
    """

    tokenizer: Tokenizer | None = None

    def __init__(self, config: MultimodalBERTConfig, rng: np.random.Generator):
        self.config = config
        self.encoder = ImageTextEncoder(config, rng)
        self.head = Linear(config.d_model, len(config.answers), rng)

    # ---- the equations ----------------------------------------------------------------------------------------------

    def forward(self, images: Array, ids: NDArray[np.integer], image_index: NDArray[np.integer] | None = None, *,
                training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, MultimodalBERTCache]:
        """Questions ids (R, T), each begun by <cls>, about images (B, H, W, 3) -> logits of the answers (R, A).

        The arguments are those of `ImageTextEncoder.forward`.
        """
        x, encoder = self.encoder.forward(images, ids, image_index, training=training, rng=rng)      # (R, T, D)  F1
        logits, head = self.head.forward(x[:, 0])                                                    # (R, A)     F2  <cls> speaks for all
        return logits, MultimodalBERTCache(encoder, x.shape, head)

    def backward(self, d_logits: Array, cache: MultimodalBERTCache, input_gradient: bool = True) -> Array | None:
        """d_logits (R, A) -> d_images (B, H, W, 3), or None without input_gradient; adds the gradients of all parameters."""
        d_x = np.zeros(cache.shape, d_logits.dtype)                                                  # (R, T, D)  no gradient but at <cls>
        d_x[:, 0] = self.head.backward(d_logits, cache.head)                                         # (R, D)     undoes F2
        return self.encoder.backward(d_x, cache.encoder, input_gradient)                             # (B, H, W, 3)  undoes F1

    # ---- what it is for ---------------------------------------------------------------------------------------------

    def predict(self, images: ImageSource | Sequence[ImageSource], questions: str | Sequence[str]) -> str | list[str]:
        """The likeliest answer to questions about images.

        One image and one question give a string. Lists give a list: question i is about image i; one image serves
        all questions, and one question is put to all images. Images are paths, PIL images or uint8 arrays (H, W, 3).

        Raises:
            UserError: an empty question, a word the model has never seen, a file that is no image.
        """
        asked = pair_questions(images, questions)
        ids = pad_sentences([question_ids(self, question) for question in asked.questions])
        answers = self.choose(self.encoder.load(asked.images), ids, asked.image_index)
        return answers[0] if asked.single else answers

    answer = predict    # the name that all models share which answer questions about an image

    def choose(self, images: NDArray[np.uint8], ids: NDArray[np.integer], image_index: NDArray[np.integer]) -> list[str]:
        """The likeliest answer to each of the questions ids (R, T)."""
        logits, _ = self.head.forward(self.encoder.read(images, ids, image_index)[:, 0])             # (R, A)
        return [self.config.answers[row] for row in logits.argmax(axis=-1)]

    def look(self, image: ImageSource, question: str) -> Inspection:
        """All attention while a question is read, the answer, and how its ln p depends on each pixel. Errors as in `predict`."""
        ids, (pixels,) = question_ids(self, question), self.encoder.load([image])
        logits, cache = self.forward(self.encoder.image_input(pixels[None]), np.array([ids]))        # (1, A)
        best = logits.argmax(axis=-1)                                                                # (1,)
        log_p, d_logits = log_probability(logits, best)                                              # (1,), (1, A)
        (d_image,) = self.backward(d_logits, cache)                                                  # (H, W, 3)
        self.zero_grad()                                                                             # only the image's is wanted
        tokens = [text_tokenizer(self).tokens[token] for token in ids]
        return self.encoder.inspect(cache.encoder, pixels, tokens, question, self.config.answers[best[0]], log_p[0], d_image)

    # ---- learning from a user's own lists ---------------------------------------------------------------------------

    @classmethod
    def train(cls, images: Sequence[ImageSource], questions: Sequence[str], answers: Sequence[str], *, out: str | Path | None = None,
              mirror: bool = False, progress: bool = True, **settings: Any) -> "MultimodalBERT":
        """Train a new model: question i is about image i, and answers[i] is right. An image given several times is read once.

        The answers that occur are the classes, the words that occur the vocabulary. A tenth of the images is held out, and what
        the model knows about them is logged with the loss.

        Args:
            out: a folder for the run, which `tinymm.load` and `tinymm ask` read later; None: nothing is kept but the model.
            mirror: show half of the images mirrored; not where an answer depends on left and right.
            progress: show a bar with loss, accuracy and the time left.
            settings: steps (1000), seed (0), backend ("numba"), and any size of `MultimodalBERTConfig`, such as image_size (64).

        Raises:
            ValueError: images, questions and answers are not equally many, or there is only one answer.
            UserError: a file that is no image, a question without words, an unknown setting, or `out` already holds a run.
        """
        from tinymm.training.multimodal_bert import train_on    # here, as a model is used without its training

        (listed, _), questions, answers = as_list(images), tuple(questions), tuple(answers)
        if not len(listed) == len(questions) == len(answers):
            raise ValueError(f"images, questions and answers must be equally many, got {len(listed)}, {len(questions)} and {len(answers)}")
        return train_on(listed, questions, answers, out=out, mirror=mirror, progress=progress, **{"steps": 1000} | settings)
