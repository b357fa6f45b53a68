"""CLIP: two towers, one for images and one for texts, into one space of vectors (Radford et al. 2021).

    image (H, W, 3) --slopes, residual CNN--> tokens (N, D) --in one line, dense--> a (D), of length 1
                                                                                        |  e^s a . b
    text ids (T) --words, their mean, dense, GELU, dense--------------------------> b (D), of length 1

What belongs together is close, so a search is one product of matrices: a text against all images, or an image against all texts.

Texts here are names of one to nine words, whose order says little; so the text tower takes the mean of its words' vectors (a bag of
words) and two dense layers. The image tower begins with fixed filters for the slopes of the brightness (`tinymm.layers.Slopes`):
artists disagree about colours more than about outlines.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.bucketing import pad_sentences
from tinymm.data.image_augmentation import crop_to_drawing
from tinymm.data.images import ImageSource, load_image
from tinymm.data.tokenizer import Tokenizer
from tinymm.errors import UserError
from tinymm.layers import Embedding, LayerNorm, Linear, Module, Parameter, ResidualImageEncoder
from tinymm.layers.module import Array

MAX_LOG_SCALE = float(np.log(100))     # the temperature stays above 1 / 100, as in the paper


@dataclass(frozen=True)
class CLIPConfig:
    """Everything that fixes the shapes of the model; saved beside its weights."""

    vocabulary_size: int
    image_size: int = 32
    channels: tuple[int, ...] = (32, 64, 128)
    strides: tuple[int, ...] = (1, 2, 2)
    directions: int = 4           # E, of the image encoder's slopes; 0: it sees colours only
    d_model: int = 128
    d_hidden: int = 256           # of the text tower
    max_length: int = 16          # words of a text
    dropout: float = 0.0          # of the image's vector before its dense layer

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))   # JSON knows only lists
        object.__setattr__(self, "strides", tuple(self.strides))


class CLIPCache(NamedTuple):
    encoder: Any
    grid: tuple[int, ...]
    dropout: Any
    dense: Any
    length: Any


class TextCache(NamedTuple):
    words: Any
    shares: Array
    norm: Any
    wide: Any
    activation: Any
    narrow: Any
    length: Any


class CLIPModel(Module):
    """See the head of this file. `tokenizer` is set by whoever trains or loads the model; texts need it."""

    tokenizer: Tokenizer | None = None

    def __init__(self, config: CLIPConfig, rng: np.random.Generator):
        c = self.config = config
        self.encoder = ResidualImageEncoder(c.image_size, c.channels, c.strides, c.d_model, rng, c.directions)
        self.image_head = Linear(self.encoder.grid_size ** 2 * c.d_model, c.d_model, rng)
        self.words = Embedding(c.vocabulary_size, c.d_model, rng)
        self.norm = LayerNorm(c.d_model)
        self.wide = Linear(c.d_model, c.d_hidden, rng)
        self.narrow = Linear(c.d_hidden, c.d_model, rng)
        self.log_scale = Parameter(np.array(np.log(1 / 0.07), np.float32))                       # ()  s, begins as in the paper

    # ---- the equations ----------------------------------------------------------------------------------------------

    def encode_images(self, images: Array, *, training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, CLIPCache]:
        """Images (B, H, W, 3), values in [-1, 1] (`image_input`) -> vectors (B, D) of length 1."""
        dropout = None
        x, encoder = self.encoder.forward(images, training)                                      # (B, N, D)  F1
        grid, x = x.shape, x.reshape(len(x), -1)                                                 # (B, N D)   F2  places stay apart
        if training and self.config.dropout:
            x, dropout = self.ops.dropout_forward(x, self.config.dropout, rng)                   # (B, N D)   F3
        x, dense = self.image_head.forward(x)                                                    # (B, D)     F4
        out, length = self.ops.l2_normalize_forward(x)                                           # (B, D)     F5
        return out, CLIPCache(encoder, grid, dropout, dense, length)

    def encode_images_backward(self, d_out: Array, cache: CLIPCache, input_gradient: bool = True) -> Array | None:
        """d_out (B, D) -> d_images (B, H, W, 3), or None without input_gradient; adds the gradients of the image tower."""
        d_x = self.ops.l2_normalize_backward(d_out, cache.length)                                # (B, D)     undoes F5
        d_x = self.image_head.backward(d_x, cache.dense)                                         # (B, N D)   undoes F4
        if cache.dropout is not None:
            d_x = self.ops.dropout_backward(d_x, cache.dropout)                                  # (B, N D)   undoes F3
        return self.encoder.backward(d_x.reshape(cache.grid), cache.encoder, input_gradient)     # (B, H, W, 3)  undoes F2, F1

    def encode_texts(self, ids: NDArray[np.integer]) -> tuple[Array, TextCache]:
        """Token ids (R, T), padded at the right -> vectors (R, D) of length 1."""
        real = ids != Tokenizer.pad_id                                                           # (R, T)
        x, words = self.words.forward(ids)                                                       # (R, T, D)  F1
        shares = (real / np.maximum(real.sum(axis=1, keepdims=True), 1))[:, None].astype(x.dtype)    # (R, 1, T)  each real word the same
        x = (shares @ x)[:, 0]                                                                   # (R, D)     F2  the mean of the words
        x, norm = self.norm.forward(x)                                                           # (R, D)     F3
        x, wide = self.wide.forward(x)                                                           # (R, F)     F4
        x, activation = self.ops.gelu_forward(x)                                                 # (R, F)     F5
        x, narrow = self.narrow.forward(x)                                                       # (R, D)     F6
        out, length = self.ops.l2_normalize_forward(x)                                           # (R, D)     F7
        return out, TextCache(words, shares, norm, wide, activation, narrow, length)

    def encode_texts_backward(self, d_out: Array, cache: TextCache) -> None:
        """d_out (R, D): adds the gradients of the text tower."""
        d_x = self.ops.l2_normalize_backward(d_out, cache.length)                                # (R, D)     undoes F7
        d_x = self.narrow.backward(d_x, cache.narrow)                                            # (R, F)     undoes F6
        d_x = self.ops.gelu_backward(d_x, cache.activation)                                      # (R, F)     undoes F5
        d_x = self.wide.backward(d_x, cache.wide)                                                # (R, D)     undoes F4
        d_x = self.norm.backward(d_x, cache.norm)                                                # (R, D)     undoes F3
        d_x = cache.shares.swapaxes(1, 2) * d_x[:, None]                                         # (R, T, D)  undoes F2: to each word its share
        self.words.backward(d_x, cache.words)                                                    #            undoes F1

    def forward(self, images: Array, ids: NDArray[np.integer], *, training: bool = False,
                rng: np.random.Generator | None = None) -> tuple[Array, tuple[CLIPCache, TextCache, Any, Any]]:
        """Similarities (B, R) of images (B, H, W, 3) and texts (R, T):  S = e^s a b^T."""
        a, image = self.encode_images(images, training=training, rng=rng)                        # (B, D)  F1
        b, text = self.encode_texts(ids)                                                         # (R, D)  F2
        return np.exp(self.log_scale.value) * (a @ b.T), (image, text, a, b)                     # (B, R)  F3

    def backward(self, d_similarity: Array, cache: tuple[CLIPCache, TextCache, Any, Any], input_gradient: bool = True) -> Array | None:
        """d_similarity (B, R) -> d_images (B, H, W, 3); adds the gradients of all parameters."""
        image, text, a, b = cache
        scale = np.exp(self.log_scale.value)                                                     # ()
        self.log_scale.grad += (d_similarity * scale * (a @ b.T)).sum()                          # ()      undoes F3
        self.encode_texts_backward(scale * (d_similarity.T @ a), text)                           #         undoes F3, F2
        return self.encode_images_backward(scale * (d_similarity @ b), image, input_gradient)    #         undoes F3, F1

    def image_input(self, images: NDArray[np.uint8] | Array) -> Array:
        """Pixels 0..255 -> [-1, 1] in the dtype of the weights, (B, H, W, 3)."""
        dtype = self.words.weight.value.dtype.type
        return images * dtype(1 / 127.5) - dtype(1)

    def clip_scale(self) -> None:
        """Keep the temperature above 1 / 100: a softmax that is too sure of the batch learns nothing from it."""
        np.minimum(self.log_scale.value, MAX_LOG_SCALE, out=self.log_scale.value)

    # ---- what it is for ---------------------------------------------------------------------------------------------

    def embed_image(self, images: ImageSource | Sequence[ImageSource]) -> Array:
        """The vector (D,) of an image, or (B, D) of a list. Images are paths, PIL images or uint8 arrays (H, W, 3) on white."""
        single = not isinstance(images, (list, tuple))
        size = self.config.image_size
        pixels = np.stack([crop_to_drawing(load_image(image, 4 * size), size) for image in ([images] if single else images)])
        vectors = self.embed_pixels(pixels)
        return vectors[0] if single else vectors

    def embed_text(self, texts: str | Sequence[str]) -> Array:
        """The vector (D,) of a text, or (R, D) of a list.

        Raises:
            UserError: a text is empty or has no word that the model knows, or the model has no tokenizer.
        """
        if self.tokenizer is None:
            raise UserError("this model has no tokenizer; load it from a run folder with tinymm.load, or set model.tokenizer")
        single = isinstance(texts, str)
        listed = [texts] if single else list(texts)
        sentences = [self.tokenizer.encode(text)[:self.config.max_length] for text in listed]
        for text, sentence in zip(listed, sentences):
            if not sentence:
                raise UserError("a text is empty; give words such as 'red heart'")
            if all(word == Tokenizer.unk_id for word in sentence):
                raise UserError(f"the model knows none of the words of {text!r}; it has learnt the words of emoji names, such as 'red heart'")
        vectors = self.encode_texts(pad_sentences(sentences))[0]
        return vectors[0] if single else vectors

    def embed_pixels(self, images: NDArray[np.uint8], chunk: int = 128) -> Array:
        """Vectors (B, D) of drawings (B, H, W, 3) that are already cropped."""
        return np.concatenate([self.encode_images(self.image_input(images[i:i + chunk]))[0] for i in range(0, len(images), chunk)])
