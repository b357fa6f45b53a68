"""Handwritten digits, 8x8: the first real data of the lessons (Alpaydin and Kaynak 1998, CC BY 4.0).

    load_digits().train    1,541 digits        load_digits().test    256 digits: every seventh
"""

import gzip
import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymm.data.shipped import data_path
from tinymm.errors import UserError


@dataclass(frozen=True)
class DigitSet:
    images: NDArray[np.float64]      # (N, 8, 8)  from 0 (paper) to 1 (ink)
    labels: NDArray[np.int64]        # (N,)       0 to 9

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Digits:
    train: DigitSet
    test: DigitSet


def load_digits() -> Digits:
    """Read the shipped digits. Every seventh one is for the test.

    Raises:
        UserError: the file is missing or damaged.
    """
    path = data_path("digits") / "digits.csv.gz"
    try:
        with gzip.open(path, "rt") as file:
            table = np.loadtxt(file, delimiter=",", dtype=np.int64)         # (N, 65)
        images, labels = table[:, :64].reshape(-1, 8, 8) / 16, table[:, 64]
    except (OSError, EOFError, ValueError, IndexError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    held_out = np.arange(len(labels)) % 7 == 6      # 0 to 9 come in turn for long stretches: not a divisor of 10
    return Digits(DigitSet(images[~held_out], labels[~held_out]), DigitSet(images[held_out], labels[held_out]))
