"""1,586 emoji by five artists, with their names (sources and licences: data/emoji/README.md).

    emoji = load_emoji()
    emoji.drawings["noto"]      (1586, 32, 32, 3) uint8, on white
    emoji.present["noto"]       (1586,) True where the artist has drawn it
    emoji.names                 1586 English names

The split is by artist: TRAINING_ARTISTS to learn from, TEST_ARTIST never seen. Recipes are chosen with VALIDATION_ARTIST left
out of the training.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tinymm.data.image_augmentation import crop_to_drawing
from tinymm.data.shipped import data_path
from tinymm.errors import UserError

TRAINING_ARTISTS = ("noto", "noto_v1", "twemoji", "emojione")
TEST_ARTIST = "fluent"
VALIDATION_ARTIST = "emojione"
SIDE, A_ROW = 32, 48     # pixels of a drawing, drawings in a row of a sheet


@dataclass(frozen=True)
class Emoji:
    names: tuple[str, ...]                           # N of them, all different
    tags: tuple[tuple[str, ...], ...]                # N
    characters: tuple[str, ...]                      # N
    groups: tuple[int, ...]                          # N  Unicode's kinds: faces, people, animals, food ...
    drawings: Mapping[str, NDArray[np.uint8]]        # artist -> (N, 32, 32, 3)
    present: Mapping[str, NDArray[np.bool_]]         # artist -> (N,)

    def __len__(self) -> int:
        return len(self.names)

    def of(self, artists: tuple[str, ...]) -> tuple[NDArray[np.uint8], NDArray[np.intp]]:
        """All drawings (M, 32, 32, 3) of some artists, and for each which emoji it is (M,)."""
        which = [np.flatnonzero(self.present[artist]) for artist in artists]
        return np.concatenate([self.drawings[a][rows] for a, rows in zip(artists, which)]), np.concatenate(which)

    def cropped(self) -> "Emoji":
        """The same emoji with the white around each drawing cut away: artists leave more or less of it."""
        return replace(self, drawings={artist: np.stack([crop_to_drawing(drawing, SIDE) for drawing in drawings])
                                       for artist, drawings in self.drawings.items()})


def artists_of(data: str) -> tuple[str, ...]:
    """Whose drawings a training on "all" or for "validation" learns from."""
    return tuple(artist for artist in TRAINING_ARTISTS if data == "all" or artist != VALIDATION_ARTIST)


class ArtistPairs:
    """Emoji in batches, each drawn by two different artists, or by mixtures of the two."""

    def __init__(self, emoji: Emoji, artists: tuple[str, ...]):
        self.present = np.stack([emoji.present[artist] for artist in artists], axis=1)         # (N, A)
        self.drawings = np.stack([emoji.drawings[artist] for artist in artists], axis=1)       # (N, A, H, W, 3)

    def rows(self, step: int, batch_size: int, seed: Sequence[int]) -> NDArray[np.intp]:
        """The emoji (B,) of a step: in an epoch none comes twice. What is left over at its end waits for the next."""
        count = len(self.present)
        batch_size = min(batch_size, count)
        epoch, place = divmod(step, count // batch_size)
        return np.random.default_rng([*seed, epoch]).permutation(count)[place * batch_size:(place + 1) * batch_size]

    def draw(self, rows: NDArray[np.intp], mixtures: float, rng: np.random.Generator) -> NDArray[np.float32]:
        """Two versions of these emoji, (2, B, H, W, 3), 0..255; a share `mixtures` of them has up to half of the other mixed in."""
        present = self.present[rows]                                                           # (B, A)
        order = np.argsort(rng.random(present.shape) - present, axis=1)                        # (B, A)  those who drew it come first
        both = self.drawings[rows, order[:, :2].T].astype(np.float32)                          # (2, B, H, W, 3)
        share = rng.uniform(0, 0.5, both.shape[:2]) * (rng.random(both.shape[:2]) < mixtures)  # (2, B)
        return both + share.astype(np.float32)[..., None, None, None] * (both[::-1] - both)


def load_emoji() -> Emoji:
    """Read the shipped drawings.

    Raises:
        UserError: a file is missing or damaged.
    """
    folder = data_path("emoji")
    artists = (*TRAINING_ARTISTS, TEST_ARTIST)
    try:
        with open(folder / "emoji.tsv", encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        drawings = {artist: cut_sheet(np.array(Image.open(folder / f"{artist}.webp").convert("RGB")), len(rows)) for artist in artists}
        present = {artist: np.array([row[artist] == "1" for row in rows]) for artist in artists}
        return Emoji(tuple(row["name_en"] for row in rows), tuple(tuple(row["tags_en"].split("|")) for row in rows),
                     tuple(row["character"] for row in rows), tuple(int(row["group"]) for row in rows), drawings, present)
    except (OSError, ValueError, KeyError) as error:
        raise UserError(f"the emoji in {folder} cannot be read: {error}") from None


def cut_sheet(sheet: NDArray[np.uint8], count: int) -> NDArray[np.uint8]:
    """(rows * 32, 48 * 32, 3) -> (count, 32, 32, 3), row by row."""
    rows = sheet.shape[0] // SIDE
    cells = sheet.reshape(rows, SIDE, A_ROW, SIDE, 3).swapaxes(1, 2).reshape(-1, SIDE, SIDE, 3)
    if len(cells) < count:
        raise ValueError(f"a sheet holds {len(cells)} drawings, but there are {count} names")
    return np.ascontiguousarray(cells[:count])
