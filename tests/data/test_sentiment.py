"""The rated review sentences."""

import numpy as np
import pytest

from tinymm import UserError
from tinymm.data import load_sentiment, sentiment


@pytest.fixture(scope="module")
def data():
    return load_sentiment()


def test_the_split(data):
    assert [len(part) for part in (data.train, data.validation, data.test, data.unlabelled)] == [7027, 1023, 2022, 391]
    for part in (data.train, data.validation, data.test):
        assert 0.45 < part.labels.mean() < 0.55
        assert (np.abs(part.ratings) >= 0.5).all() and ((part.ratings > 0) == part.labels).all()
    assert (np.abs(data.unlabelled.ratings) < 0.5).all()


def test_no_sentence_is_in_two_parts_but_for_one_that_the_source_has_twice(data):
    parts = [set(part.texts) for part in (data.train, data.validation, data.test, data.unlabelled)]
    shared = sum(len(a & b) for i, a in enumerate(parts) for b in parts[i + 1:])
    assert shared <= 1


def test_known_sentences(data):
    known = {text: label for part in (data.train, data.validation, data.test) for text, label in zip(part.texts, part.labels)}
    assert known["Effective but too tepid biopic"] == 0
    assert known["If you sometimes like to go to the movies to have fun, Wasabi is a good place to start."] == 1


def test_a_damaged_file_is_one_sentence(tmp_path, monkeypatch):
    (tmp_path / "movie_review_snippets.tsv.gz").write_bytes(b"no gzip")
    monkeypatch.setattr(sentiment, "data_path", lambda name: tmp_path)
    with pytest.raises(UserError, match="movie_review_snippets.tsv.gz cannot be read"):
        load_sentiment()
