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
from tinymm.data.images import ImageSource, load_image
from tinymm.data.tokenizer import Tokenizer
from tinymm.errors import UserError
from tinymm.layers import Embedding, ImageEncoder, LayerNorm, LearnedPositions, Module, Parameter, TransformerBlock
from tinymm.layers.attention import attention_weights, select_backward, select_forward
from tinymm.layers.module import Array
from tinymm.models.generation import beam_search, generate

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

    def __post_init__(self) -> None:
        if self.fusion not in FUSIONS:
            raise ValueError(f"fusion must be one of {', '.join(FUSIONS)}; got {self.fusion!r}")
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
        image_list, single_image = _as_list(images)
        question_list, single_question = ([questions], True) if isinstance(questions, str) else (list(questions), False)
        count = len(image_list) if single_question else len(question_list)
        if len(image_list) not in (1, count):
            raise ValueError(f"images and questions must be equally many, or one of them single; got {len(image_list)} and {len(question_list)}")
        prompts = [self.question_prompt(question) for question in question_list] * (count if single_question else 1)
        index = np.zeros(count, np.intp) if len(image_list) == 1 else np.arange(count)
        texts = self.generate_texts(self._load(image_list), prompts, index, **options)
        return texts[0] if single_image and single_question else texts

    def caption(self, images: ImageSource | Sequence[ImageSource], **options: Any) -> str | list[str]:
        """Describe an image (a string), or each of a list of images (a list). Options as in `answer`."""
        image_list, single = _as_list(images)
        prompts = [[self._tokenizer().caption_id]] * len(image_list)
        texts = self.generate_texts(self._load(image_list), prompts, np.arange(len(image_list)), **options)
        return texts[0] if single else texts

    def question_prompt(self, question: str) -> list[int]:
        """`<question> words <answer>` as ids."""
        tokenizer = self._tokenizer()
        unknown = tokenizer.unknown_words(question)
        if unknown:
            raise UserError(f"the model has never seen the word{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}; "
                            "ask with words from its training questions, such as 'what color is the shape?'")
        words = tokenizer.encode(question)
        if not words:
            raise UserError("the question is empty; ask something such as 'what color is the shape?'")
        if len(words) + 3 > self.config.max_length:
            raise UserError(f"the question has {len(words)} words and signs, but the model reads at most {self.config.max_length - 3}; shorten it")
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

    def attention_to_image(self, image: ImageSource, question: str | None = None) -> tuple[list[str], Array]:
        """Where each generated word looked: the words, and weights (words, grid, grid), mean over layers and heads.

        With a question its answer is written, without one a caption. A word is generated at the place of the token
        before it, so that place's attention over the image tokens is what led to the word.
        """
        tokenizer = self._tokenizer()
        prompt = [tokenizer.caption_id] if question is None else self.question_prompt(question)
        pixels = self._load([image])
        new = self.generate_ids(pixels, [prompt], np.zeros(1, np.intp))[0]
        _, cache = self.forward(self.image_input(pixels), np.array([[*prompt, *new]]))
        n_image = self.encoder.grid_size ** 2
        maps = []
        for block in cache.decoder.blocks:
            residual = block.cross_attention if self.config.fusion == "cross" else block.attention
            weights = attention_weights(residual.sublayer)[0].mean(axis=0)                   # (T or N + T, S)  mean over heads
            maps.append(weights[cache.decoder.n_image:, :n_image])                           # (T, N)
        grid = np.mean(maps, axis=0)[len(prompt) - 1:len(prompt) - 1 + len(new)]             # (words, N)
        return [tokenizer.tokens[token] for token in new], grid.reshape(len(new), self.encoder.grid_size, self.encoder.grid_size)

    def _load(self, images: Sequence[ImageSource]) -> NDArray[np.uint8]:
        return np.stack([load_image(image, self.config.image_size) for image in images])

    def _tokenizer(self) -> Tokenizer:
        if self.tokenizer is None:
            raise UserError("this model has no tokenizer; load it from a run folder with tinymm.load, or set model.tokenizer")
        return self.tokenizer


def _as_list(images: ImageSource | Sequence[ImageSource]) -> tuple[list[ImageSource], bool]:
    """One image becomes a list of one; an array (B, H, W, 3) is a list of B. The flag says it was a single one."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images), False
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("images is empty; give at least one image")
        return list(images), False
    return [images], True
