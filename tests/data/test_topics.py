"""Sentences about films and products."""

import numpy as np
import pytest

from tinymm.data import load_sentiment, load_topics
from tinymm.data.topics import load_product_sentences


@pytest.fixture(scope="module")
def data():
    return load_topics()


def test_as_many_of_each_and_the_labels_are_right(data):
    films, products = load_sentiment(), load_product_sentences()
    assert [len(part.texts) for part in (data.train, data.validation, data.test)] == [5168, 1066, 1182]
    for name in ("train", "validation", "test"):
        part, about_products, about_films = getattr(data, name), set(products[name]), set(getattr(films, name).texts)
        assert part.labels.mean() == 0.5 and sum(map(len, products.values())) == 3708
        assert all(text in (about_products if label else about_films) for text, label in zip(part.texts, part.labels))
        assert np.abs(np.corrcoef(part.labels, np.arange(len(part.labels)))[0, 1]) < 0.1      # in random order


def test_known_sentences(data):
    known = {text: label for part in (data.train, data.validation, data.test) for text, label in zip(part.texts, part.labels)}
    assert known["don't buy this player."] == 1 and known["Williams absolutely nails Sy's queasy infatuation and overall strangeness."] == 0


def test_long_sentences_are_not_shared_by_the_parts(data):
    """Very short ones, such as "great product.", may be written in two reviews."""
    parts = [{text for text in part.texts if len(text.split()) > 4} for part in (data.train, data.validation, data.test)]
    assert sum(len(a & b) for i, a in enumerate(parts) for b in parts[i + 1:]) <= 3
