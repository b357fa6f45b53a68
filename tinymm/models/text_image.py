"""The text-image model: a tiny CNN sees, a small Transformer writes, and attention lets the words look at the picture.

    image (H, W, 3) --CNN--> image tokens (N, D) ----.
                                                      fusion --> next-token logits (T, V)
    text ids (T) --embedding + positions--> (T, D) --'

One model does two tasks, told apart by how the text begins:

    <question> what color is the shape ? <answer> blue <end>
    <caption> a red circle left of a blue square <end>

Three ways for the words to see the image, behind `fusion`:

    concatenate   one sequence [image tokens, words]; words see all before them, image tokens see each other (a prefix mask)
    cross         words attend to words, then in a second attention to the image tokens (Vaswani et al. 2017's decoder)
    joint         h = Attention(Q, [K_t, K_i], [V_t, V_i]): one attention, keys and values of each modality from its own weights
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm import functional
from tinymm.data.image_augmentation import crop_to_drawing
from tinymm.data.images import ImageSource, load_image
from tinymm.data.tokenizer import Tokenizer
from tinymm.errors import UserError
from tinymm.layers import Embedding, ImageEncoder, LayerNorm, LearnedPositions, Module, Parameter, ResidualImageEncoder, TransformerBlock
from tinymm.layers.attention import attention_weights, select_backward, select_forward
from tinymm.layers.module import Array
from tinymm.models.asking import as_list, pair_questions, question_words
from tinymm.models.generation import beam_search, generate
from tinymm.models.looking import AttentionMaps, Inspection, PixelGradient, log_probability, words_and_image

FUSIONS = ("concatenate", "cross", "joint")


@dataclass(frozen=True)
class TextImageConfig:
    """Everything that fixes the shapes of the model; saved beside its weights."""

    vocabulary_size: int
    image_size: int = 64
    channels: tuple[int, ...] = (16, 32, 64, 64)
    strides: tuple[int, ...] = (2, 2, 2, 1)
    d_model: int = 64
    n_heads: int = 4
    n_layers: int = 2
    d_ff: int = 256
    max_length: int = 40
    fusion: str = "joint"
    norm: str = "pre"
    dropout: float = 0.0
    residual: bool = False    # the image encoder: `ResidualImageEncoder` instead of `ImageEncoder`
    directions: int = 0       # of its slopes (`tinymm.layers.Slopes`), which only the residual one has
    crop: bool = False        # a user's image is cropped to the drawing that it holds, on white

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}; got {self.fusion!r}")
        if self.directions and not self.residual:
            raise ValueError(f"directions must be 0 without residual, got {self.directions}")
        object.__setattr__(self, "channels", tuple(self.channels))   # JSON knows only lists
        object.__setattr__(self, "strides", tuple(self.strides))


class DecoderCache(NamedTuple):
    words: Any
    positions: Any
    select: Any
    blocks: list[Any]
    norm: Any
    head: Any
    n_image: int      # image tokens at the front of the sequence: N with "concatenate", else 0


class TextImageCache(NamedTuple):
    encoder: Any
    decoder: DecoderCache


class TextImageModel(Module):
    """See the head of this file. `tokenizer` is set by whoever trains or loads the model; generation needs it."""

    tokenizer: Tokenizer | None = None

    def __init__(self, config: TextImageConfig, rng: np.random.Generator):
        c = self.config = config
        if c.residual:
            self.encoder = ResidualImageEncoder(c.image_size, c.channels, c.strides, c.d_model, rng, c.directions)
        else:
            self.encoder = ImageEncoder(c.image_size, c.channels, c.strides, c.d_model, rng)
        self.words = Embedding(c.vocabulary_size, c.d_model, rng)
        self.positions = LearnedPositions(c.max_length, c.d_model, rng)
        fusion = None if c.fusion == "concatenate" else c.fusion
        self.blocks = [TransformerBlock(c.d_model, c.n_heads, c.d_ff, rng, fusion, c.norm, c.dropout) for _ in range(c.n_layers)]
        if c.norm == "pre":
            self.norm = LayerNorm(c.d_model)     # pre-norm blocks leave their sum unnormalised
        self.head_bias = Parameter(np.zeros(c.vocabulary_size, np.float32))    # (V,)  the head's weight is the table of words itself

    # ---- the equations ----------------------------------------------------------------------------------------------

    def forward(self, images: Array, ids: NDArray[np.integer], image_index: NDArray[np.integer] | None = None, *,
                training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, TextImageCache]:
        """Logits of the next token at every place of every text.

        Args:
            images: (B, H, W, 3), values in [-1, 1] (`image_input`).
            ids: (R, T) token ids, padded at the right.
            image_index: (R,), the image that each text is about; None when text r is about image r.
            training: batch statistics and dropout (which needs rng).

        Returns:
            logits (R, T, V), and the cache for `backward`.
        """
        image_tokens, encoder = self.encoder.forward(images, training)                                  # (B, N, D)
        logits, decoder = self.decode(image_tokens, ids, image_index, training=training, rng=rng)       # (R, T, V)
        return logits, TextImageCache(encoder, decoder)

    def backward(self, d_logits: Array, cache: TextImageCache, input_gradient: bool = True) -> Array | None:
        """d_logits (R, T, V) -> d_images (B, H, W, 3), or None without input_gradient; adds the gradients of all parameters."""
        d_image_tokens = self.decode_backward(d_logits, cache.decoder)                                  # (B, N, D)
        return self.encoder.backward(d_image_tokens, cache.encoder, input_gradient)                     # (B, H, W, 3)

    def decode(self, image_tokens: Array, ids: NDArray[np.integer], image_index: NDArray[np.integer] | None = None, *,
               training: bool = False, rng: np.random.Generator | None = None) -> tuple[Array, DecoderCache]:
        """The text half: image tokens (B, N, D) and ids (R, T) -> logits (R, T, V)."""
        if ids.ndim != 2 or not 1 <= ids.shape[1] <= self.config.max_length:
            raise ValueError(f"ids must be (R, T) with T from 1 to max_length {self.config.max_length}, got {ids.shape}")
        noise = {"training": training, "rng": rng}
        x, words = self.words.forward(ids)                                                  # (R, T, D)    F1
        x, positions = self.positions.forward(x)                                            # (R, T, D)    F2
        select, blocks, n_image = None, [], 0
        if self.config.fusion == "concatenate":
            rows, select = select_forward(self.ops, image_tokens, image_index)              # (R, N, D)    F3  each text gets its image
            x = np.concatenate([rows, x], axis=1)                                           # (R, N + T, D) F4
            n_image = rows.shape[1]
            mask = functional.attention_mask(x.shape[1], x.shape[1], causal=True, prefix=n_image)   # (N + T, N + T)
            for block in self.blocks:
                x, cache = block.forward(x, mask=mask, **noise)                             # (R, N + T, D) F5
                blocks.append(cache)
            x = x[:, n_image:]                                                              # (R, T, D)    F6  only words predict
        else:
            for block in self.blocks:
                x, cache = block.forward(x, image_tokens, causal=True, memory_index=image_index, **noise)   # (R, T, D)  F5
                blocks.append(cache)
        norm = None
        if self.config.norm == "pre":
            x, norm = self.norm.forward(x)                                                  # (R, T, D)    F7
        logits, head = self.ops.linear_forward(x, self.words.weight.value.T, self.head_bias.value)   # (R, T, V)  F8  likeness to each word
        return logits, DecoderCache(words, positions, select, blocks, norm, head, n_image)

    def decode_backward(self, d_logits: Array, cache: DecoderCache) -> Array:
        """d_logits (R, T, V) -> d_image_tokens (B, N, D)."""
        d_x, d_words, d_bias = self.ops.linear_backward(d_logits, cache.head)               # (R, T, D)     undoes F8
        self.words.weight.grad += d_words.T                                                 # (V, D)        a tied weight: F1 adds its own part
        self.head_bias.grad += d_bias
        if cache.norm is not None:
            d_x = self.norm.backward(d_x, cache.norm)                                       # (R, T, D)     undoes F7
        if self.config.fusion == "concatenate":
            d_x = np.pad(d_x, [(0, 0), (cache.n_image, 0), (0, 0)])                         # (R, N + T, D) undoes F6
            for block, block_cache in zip(reversed(self.blocks), reversed(cache.blocks)):
                d_x = block.backward(d_x, block_cache)                                      # (R, N + T, D) undoes F5
            d_rows, d_x = d_x[:, :cache.n_image], d_x[:, cache.n_image:]                    # (R, N|T, D)   undoes F4
            d_image_tokens = select_backward(self.ops, d_rows, cache.select)                # (B, N, D)     undoes F3
        else:
            d_image_tokens = 0
            for block, block_cache in zip(reversed(self.blocks), reversed(cache.blocks)):
                d_x, d_memory = block.backward(d_x, block_cache)                            # (R, T, D)     undoes F5
                d_image_tokens = d_image_tokens + d_memory                                  # (B, N, D)     every block looked at the same tokens
        d_x = self.positions.backward(d_x, cache.positions)                                 # (R, T, D)     undoes F2
        self.words.backward(d_x, cache.words)                                               #               undoes F1
        return d_image_tokens

    def image_input(self, images: NDArray[np.uint8]) -> Array:
        """Pixels 0..255 -> [-1, 1] in the dtype of the weights, (B, H, W, 3)."""
        dtype = self.words.weight.value.dtype.type
        return images * dtype(1 / 127.5) - dtype(1)

    # ---- what it is for ---------------------------------------------------------------------------------------------

    def answer(self, images: ImageSource | Sequence[ImageSource], questions: str | Sequence[str], **options: Any) -> str | list[str]:
        """Answer questions about images.

        One image and one question give a string. Lists give a list: question i is about image i; one image serves
        all questions, and one question is put to all images. Images are paths, PIL images or uint8 arrays (H, W, 3).

        Options: temperature (0 is greedy), top_k, top_p and rng for sampling; beams above 1 for beam search.

        Raises:
            UserError: an empty question, a word the model has never seen, a file that is no image.
        """
        asked = pair_questions(images, questions)
        prompts = [self.question_prompt(question) for question in asked.questions]
        texts = self.generate_texts(self._load(asked.images), prompts, asked.image_index, **options)
        return texts[0] if asked.single else texts

    def caption(self, images: ImageSource | Sequence[ImageSource], **options: Any) -> str | list[str]:
        """Describe an image (a string), or each of a list of images (a list). Options as in `answer`."""
        image_list, single = as_list(images)
        prompts = [[self._tokenizer().caption_id]] * len(image_list)
        texts = self.generate_texts(self._load(image_list), prompts, np.arange(len(image_list)), **options)
        return texts[0] if single else texts

    def question_prompt(self, question: str) -> list[int]:
        """`<question> words <answer>` as ids."""
        tokenizer = self._tokenizer()
        words = question_words(tokenizer, question, self.config.max_length - 3)
        return [tokenizer.question_id, *words, tokenizer.answer_id]

    def generate_texts(self, images: NDArray[np.uint8], prompts: Sequence[Sequence[int]], image_index: NDArray[np.integer],
                       **options: Any) -> list[str]:
        """Continue prompts about images (B, H, W, 3), as text; options as in `generate_ids`."""
        return [self._tokenizer().decode(ids) for ids in self.generate_ids(images, prompts, image_index, **options)]

    def generate_ids(self, images: NDArray[np.uint8], prompts: Sequence[Sequence[int]], image_index: NDArray[np.integer], *,
                     beams: int = 1, chunk: int = 512, **options: Any) -> list[list[int]]:
        """Continue prompts about images (B, H, W, 3): each image is encoded once, `chunk` texts are written at a time."""
        tokenizer = self._tokenizer()
        tokens = np.concatenate([self.encoder.forward(self.image_input(images[i:i + 128]))[0] for i in range(0, len(images), 128)])
        texts: list[list[int]] = []
        for start in range(0, len(prompts), chunk):
            part, index = prompts[start:start + chunk], np.asarray(image_index)[start:start + chunk]

            def next_logits(sequences: list[list[int]], rows: NDArray[np.integer]) -> Array:
                lengths = np.array([len(sequence) for sequence in sequences])                                # (n,)
                ids = np.full((len(sequences), lengths.max()), tokenizer.pad_id)                             # (n, T)
                for row, sequence in enumerate(sequences):
                    ids[row, :len(sequence)] = sequence
                logits, _ = self.decode(tokens, ids, index[rows])                                            # (n, T, V)
                return logits[np.arange(len(sequences)), lengths - 1]                                        # (n, V)

            limit = self.config.max_length - max(len(prompt) for prompt in part)
            common = {"end_id": tokenizer.end_id, "max_new_tokens": limit}
            texts += (beam_search(next_logits, part, beams=beams, **common) if beams > 1
                      else generate(next_logits, part, **common, **options))
        return texts

    def look(self, image: ImageSource, question: str | None = None) -> Inspection:
        """All attention while an answer (or, without a question, a caption) is written, and the gradient down to the pixels.

        A word is written at the place of the token before it: what that place attends to is what led to the word.
        """
        pixels, prompt, new, cache = self._write(image, question)
        tokens = self._tokenizer().tokens
        read, words, first = [tokens[token] for token in [*prompt, *new[:-1]]], [tokens[token] for token in new], len(prompt) - 1
        to_image, to_words = self._attention(cache)                                          # (L, H, T, N), (L, H, T, T)
        rows = [f"{token} → {words[i - first]}" if 0 <= i - first < len(words) else token for i, token in enumerate(read)]
        columns = read
        if self.config.fusion != "cross":
            to_words, columns = words_and_image(to_words, to_image, read)                    # (L, H, T, 1 + T)
        log_p, gradients = self.pixel_gradients(self.image_input(pixels), prompt, new)       # (n,), (n, H, W, 3)
        return Inspection(
            question or "caption", self._tokenizer().decode(new), (
                AttentionMaps("image", "Where the model looked for each word", to_image[:, :, first:][:, :, :len(new)], words,
                              grid=(self.encoder.grid_size,) * 2),
                AttentionMaps("words", "Which words each word looks at", to_words, rows, columns)),
            pixels[0], [PixelGradient(word, float(np.exp(log)), 2 * gradient)                # brightness 0 to 1 is input -1 to 1
                        for word, log, gradient in zip(words, log_p, gradients)])

    def pixel_gradients(self, image: Array, prompt: Sequence[int], written: Sequence[int]) -> tuple[Array, Array]:
        """How likely each written token was after all before it, and how that changes with each pixel.

        The backward pass goes down to the image, as for any other input. It adds to the gradients of the parameters, which
        are no use here: they are cleared.

        Args:
            image: (1, H, W, 3), as `image_input` gives it.   prompt, written: token ids, n of them written.

        Returns:
            ln p of each written token (n,), and its gradient with respect to the image (n, H, W, 3).
        """
        n = len(written)
        ids = np.array([[*prompt, *written[:-1]]])                                           # (1, T)
        if not n:
            return np.zeros(0), np.zeros((0, *image.shape[1:]))
        logits, cache = self.forward(image.repeat(n, axis=0), ids.repeat(n, axis=0))         # (n, T, V)  row i for word i
        rows, places = np.arange(n), len(prompt) - 1 + np.arange(n)
        d_logits = np.zeros_like(logits)                                                     # (n, T, V)
        log_p, d_logits[rows, places] = log_probability(logits[rows, places], np.array(written))     # (n,), (n, V)
        d_image = self.backward(d_logits, cache)                                             # (n, H, W, 3)
        self.zero_grad()
        return log_p, d_image

    def _write(self, image: ImageSource, question: str | None) -> tuple[NDArray[np.uint8], list[int], list[int], TextImageCache]:
        """Answer or caption: the pixels (1, H, W, 3), the prompt, what was written, and the cache of a pass (without the last token)."""
        prompt = [self._tokenizer().caption_id] if question is None else self.question_prompt(question)
        pixels = self._load([image])
        new = self.generate_ids(pixels, [prompt], np.zeros(1, np.intp))[0]
        _, cache = self.forward(self.image_input(pixels), np.array([[*prompt, *new[:-1]]]))
        return pixels, prompt, new, cache

    def _attention(self, cache: TextImageCache) -> tuple[Array, Array]:
        """The attention weights of one text's words: at the image (L, H, T, N), and at words (L, H, T, T)."""
        n, first = self.encoder.grid_size ** 2, cache.decoder.n_image
        to_image, to_words = [], []
        for block in cache.decoder.blocks:
            weights = attention_weights(block.attention.sublayer)[0]                         # (H, T, T), or (H, [N +] T, N + T)
            if self.config.fusion == "cross":
                to_words.append(weights)
                to_image.append(attention_weights(block.cross_attention.sublayer)[0])        # (H, T, N)
            else:
                to_image.append(weights[:, first:, :n])                                      # (H, T, N)
                to_words.append(weights[:, first:, n:])                                      # (H, T, T)
        return np.stack(to_image), np.stack(to_words)

    def _load(self, images: Sequence[ImageSource]) -> NDArray[np.uint8]:
        size = self.config.image_size
        if self.config.crop:
            return np.stack([crop_to_drawing(load_image(image, 4 * size), size) for image in images])
        return np.stack([load_image(image, size) for image in images])

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError("this model has no tokenizer; load it from a run folder with tinymm.load, or set model.tokenizer")
        return self.tokenizer
