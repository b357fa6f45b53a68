"""Windows on a stream of tokens: what is read, what is guessed, and that an evaluation counts each token once."""

import numpy as np
import pytest

from tinymm.data import IGNORE, CharacterTokenizer
from tinymm.data.windows import TokenStream

TOKENIZER = CharacterTokenizer.build(["abcdefgh"])
END = TOKENIZER.end_id


def stream(*texts):
    return TokenStream.of(texts, TOKENIZER)


def test_texts_are_closed_by_end_and_windows_begin_with_it():
    s = stream("ab", "cde")
    a, b, c, d, e = TOKENIZER.encode("abcde")
    assert s.tokens.tolist() == [a, b, END, c, d, e, END] and len(s) == 7
    ids, labels = s.windows([1, 3], 3)
    assert labels.tolist() == [[b, END, c], [c, d, e]]
    assert ids.tolist() == [[END, b, END], [END, c, d]]
    for starts in ([5], [-1]):
        with pytest.raises(ValueError, match=r"must begin in 0\.\.4"):
            s.windows(starts, 3)


@pytest.mark.parametrize(("length", "step"), [(4, 4), (4, 2), (5, 1), (7, 3), (9, 4)])
def test_every_token_counts_once(length, step):
    s = stream("abcdefgh")
    found = []
    for window in s.once(length, step, batch_size=2):
        assert window.ids.shape[1] == length and (window.ids[:, 0] == END).all()
        for ids, labels in zip(window.ids, window.labels):
            assert (labels != IGNORE).any()
            found += labels[labels != IGNORE].tolist()
            np.testing.assert_array_equal(ids[1:][labels[:-1] != IGNORE], labels[:-1][labels[:-1] != IGNORE])
            context = int((labels == IGNORE).sum())
            assert context >= length - step or len(found) <= length      # but the first window
    assert found == s.tokens.tolist()
