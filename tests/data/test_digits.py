"""The handwritten digits."""

import numpy as np
import pytest

from tinymm import UserError
from tinymm.data import digits, load_digits


def test_all_are_there_and_split():
    found = load_digits()
    assert (len(found.train), len(found.test)) == (1541, 256)
    assert found.train.images.shape == (1541, 8, 8) and (found.train.images.min(), found.train.images.max()) == (0, 1)
    for part in (found.train, found.test):
        assert np.bincount(part.labels).min() > 0.06 * len(part) and part.labels.max() == 9
    assert found.train.labels[:7].tolist() == [0, 1, 2, 3, 4, 5, 7] and found.test.labels[0] == 6


def test_nothing_is_in_both_parts():
    found = load_digits()
    train = {image.tobytes() for image in found.train.images}
    assert not any(image.tobytes() in train for image in found.test.images)


def test_a_damaged_file_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "digits.csv.gz").write_bytes(b"no gzip")
    monkeypatch.setattr(digits, "data_path", lambda name: tmp_path)
    with pytest.raises(UserError, match="digits.csv.gz cannot be read"):
        load_digits()
