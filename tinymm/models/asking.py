"""Questions about images as a user puts them: one or a list, each about its image; the same for every model that answers."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from tinymm.data.images import ImageSource
from tinymm.data.tokenizer import Tokenizer
from tinymm.errors import UserError


class Asked(NamedTuple):
    """Question i is about images[image_index[i]]."""

    images: list[ImageSource]
    questions: list[str]
    image_index: NDArray[np.integer]     # (R,)
    single: bool                         # a single question about a single image


def pair_questions(images: ImageSource | Sequence[ImageSource], questions: str | Sequence[str]) -> Asked:
    """Question i is about image i; one image serves all questions, and one question is put to all images.

    Raises:
        ValueError: no image, or neither equally many nor one of them single.
    """
    image_list, single_image = as_list(images)
    single_question = isinstance(questions, str)
    question_list = [questions] * len(image_list) if single_question else list(questions)
    if len(image_list) not in (1, len(question_list)):
        raise ValueError(f"images and questions must be equally many, or one of them single; got {len(image_list)} and {len(question_list)}")
    image_index = np.zeros(len(question_list), np.intp) if len(image_list) == 1 else np.arange(len(question_list))
    return Asked(image_list, question_list, image_index, single_image and single_question)


def as_list(images: ImageSource | Sequence[ImageSource]) -> tuple[list[ImageSource], bool]:
    """One image becomes a list of one; an array (B, H, W, 3) is a list of B. The flag says it was a single one."""
    if isinstance(images, np.ndarray) and images.ndim == 4:
        return list(images), False
    if isinstance(images, (list, tuple)):
        if not images:
            raise ValueError("images is empty; give at least one image")
        return list(images), False
    return [images], True


def question_words(tokenizer: Tokenizer, question: str, limit: int) -> list[int]:
    """The words of a question as ids.

    Raises:
        UserError: an unknown word, no word at all, or more than `limit` words and signs.
    """
    unknown = tokenizer.unknown_words(question)
    if unknown:
        raise UserError(f"the model has never seen the word{'s' * (len(unknown) > 1)} {', '.join(map(repr, unknown))}; "
                        "ask with words from its training questions, such as 'what color is the shape?'")
    words = tokenizer.encode(question)
    if not words:
        raise UserError("the question is empty; ask something such as 'what color is the shape?'")
    if len(words) > limit:
        raise UserError(f"the question has {len(words)} words and signs, but the model reads at most {limit}; shorten it")
    return words
