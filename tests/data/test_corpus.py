"""The shipped corpora, and that nothing of the validation is trained on."""

import numpy as np
import pytest

from tinymm import UserError
from tinymm.data import corpus as module
from tinymm.data.corpus import first_versions, load_corpus


def test_alice_is_cut_once_at_a_paragraph():
    (train,), (validation,) = load_corpus("alice")
    assert len(train) + len(validation) == 148_480 and 0.095 < len(validation) / 148_480 <= 0.1
    assert "ALICE'S ADVENTURES IN WONDERLAND" in train and train.endswith("\n\n") and validation.rstrip().endswith("THE END")
    assert "\r" not in train


def test_tang_poems_are_quatrains_and_no_version_of_one_is_on_both_sides():
    train, validation = load_corpus("tang")
    assert (len(train), len(validation)) == (3142, 349)
    assert all(len(poem) == 24 and poem[5::6] == "，。，。" for poem in (*train, *validation))
    table = np.array([list(poem) for poem in train])
    for poem in validation:
        assert (table == list(poem)).sum(axis=1).max() <= 4 + 10      # the signs, and half of the places


def test_first_versions():
    poems = ["abcdefgh，", "ABCDefgh，", "abcdEFGz，", "abcdeFGH，", "xxxxxxxx，", "abcdefgh，"]
    assert first_versions(poems) == [poems[0], poems[1], poems[2], poems[4]]      # 5 of 8 places are too many, 4 are not


def test_what_is_not_there(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="one of alice, tang; got 'bible'"):
        load_corpus("bible")
    load_corpus.cache_clear()
    monkeypatch.setattr(module, "data_path", lambda name: tmp_path)
    with pytest.raises(UserError, match="cannot be read"):
        load_corpus("alice")
    (tmp_path / "tang_quatrains.txt").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match="cannot be read"):
        load_corpus("tang")
