"""Plain text to learn to write from: a book in English, and Chinese poems.

    load_corpus("alice").train         the first nine tenths of Alice's Adventures in Wonderland, a single text
    load_corpus("tang").validation     every tenth quatrain of the Tang dynasty, each a text

Nothing in a training text may come back in the validation. The book is cut once, at a paragraph. Of the poems the source
has several versions, with one or two characters exchanged; only the first of them is kept.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from tinymm.data.shipped import data_path
from tinymm.errors import UserError

FILES = {"alice": "alice.txt", "tang": "tang_quatrains.txt"}
EVERY = 10      # one in so many is for validation


class Corpus(NamedTuple):
    train: tuple[str, ...]
    validation: tuple[str, ...]


@lru_cache
def load_corpus(name: str) -> Corpus:
    """Read a shipped corpus, "alice" or "tang".

    Raises:
        UserError: the file is missing or damaged.   ValueError: an unknown name.
    """
    if name not in FILES:
        raise ValueError(f"the corpus must be one of {', '.join(FILES)}; got {name!r}")
    path = data_path("corpus") / FILES[name]
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    if name == "alice":
        cut = text.index("\n\n", len(text) - len(text) // EVERY) + 2
        return Corpus((text[:cut],), (text[cut:],))
    poems = first_versions(text.split())
    return Corpus(tuple(poem for i, poem in enumerate(poems) if (i + 1) % EVERY), tuple(poems[EVERY - 1::EVERY]))


def first_versions(poems: list[str]) -> list[str]:
    """The poems without those that have the same character as an earlier one in more than half of their places.

    All poems must be of one length. Different poems have one or two lines in common at most; versions of a poem differ in
    a few characters.
    """
    table = np.array([list(map(ord, poem)) for poem in poems])                       # (N, places)
    places = table[:, (table != table[0]).any(axis=0)]                               # (N, places)  without punctuation, which all share
    kept: list[int] = []
    earlier = np.empty_like(places.T, order="C")                                     # (places, N)  the kept poems, as columns
    for row, characters in enumerate(places):
        same = (earlier[:, :len(kept)] == characters[:, None]).sum(axis=0)           # (len(kept),)
        if not (same > len(characters) / 2).any():
            earlier[:, len(kept)] = characters
            kept.append(row)
    return [poems[row] for row in kept]
