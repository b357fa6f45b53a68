"""Byte-pair encoding: what is merged, and that every text comes back exactly."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import UserError
from tinymm.data.bpe import FIRST_BYTE, FIRST_MERGE, BytePairTokenizer, learn_merges, merge, split_pieces
from tinymm.data.tokenizer import Tokenizer

TEXT = "the cat and the other cat sat on the mat; this is the end.\n\n  'It's   42 mats!'  said the 猫, naïvely.\n" * 3
LEARNED = BytePairTokenizer.build([TEXT], FIRST_MERGE + 40)
ANY_TEXT = st.text(st.characters(), max_size=60)     # surrogates and control characters too


@given(ANY_TEXT | st.text("the cat\n 猫é_4'", max_size=60))
def test_any_text_comes_back_exactly(text):
    assert LEARNED.decode(LEARNED.encode(text)) == text
    assert "".join(split_pieces(text)) == text


@pytest.mark.parametrize("text", ["", " ", "\n \t", "\ud83d alone", "😀", "<end>", "a" * 300, "\x00"])
def test_strange_texts_come_back_exactly(text):
    ids = LEARNED.encode(text)
    assert LEARNED.decode(ids) == text and all(i >= FIRST_BYTE for i in ids)      # never a special token
    assert LEARNED.unknown_words(text) == []


def test_pieces():
    assert split_pieces("Oh dear!  `I've 42_x'\n\n  So") == ["Oh", " dear", "!", " ", " `", "I", "'", "ve", " 42", "_", "x", "'", "\n\n ", " So"]


def test_the_most_frequent_pair_is_merged_first():
    def ids(text):
        return [FIRST_BYTE + byte for byte in text.encode()]

    merges = learn_merges(["low low low low low lower lower newest newest newest newest newest newest widest widest widest"], 3)
    e, s, t, l, o = ids("estlo")
    assert merges == [(e, s), (FIRST_MERGE, t), (l, o)]                     # "es" and "est" 9 times, "lo" 7 times
    assert learn_merges(["ab ab"], 99) == [(ids("a")[0], ids("b")[0])]      # " ab" occurs once


def test_equally_frequent_pairs_come_in_the_order_of_their_ids():
    assert learn_merges(["zy,ba,zy,ba"], 2) == learn_merges(["ba,zy,ba,zy"], 2) == [
        (FIRST_BYTE + ord("b"), FIRST_BYTE + ord("a")), (FIRST_BYTE + ord("z"), FIRST_BYTE + ord("y"))]


def test_merges_agree_with_counting_everything_anew():
    words, merges = [[FIRST_BYTE + byte for byte in piece.encode()] for piece in split_pieces(TEXT)], []
    for new in range(FIRST_MERGE, FIRST_MERGE + 40):
        pairs = [pair for word in words for pair in zip(word, word[1:])]
        best = min(set(pairs), key=lambda pair: (-pairs.count(pair), pair))
        words = [merge(word, best, new) for word in words]
        merges.append(best)
    assert learn_merges([TEXT], 40) == merges
    assert LEARNED.encode(TEXT) == [token for word in words for token in word]      # encoding repeats what learning did


def test_merge_goes_from_left_to_right():
    assert merge([1, 1, 1, 2, 1, 1], (1, 1), 9) == [9, 1, 2, 9]
    assert merge([], (1, 2), 9) == [] and merge([1], (1, 2), 9) == [1]


def test_what_a_model_may_write():
    cat = LEARNED.encode("猫")
    assert LEARNED.decode([FIRST_BYTE + "猫".encode()[0]]) == "\ufffd"      # half of a character
    assert LEARNED.decode([LEARNED.pad_id, *cat, LEARNED.end_id, *cat]) == "猫"
    with pytest.raises(ValueError, match=f"token ids must be in 0..{len(LEARNED) - 1}, got {len(LEARNED)}"):
        LEARNED.decode([len(LEARNED)])


def test_special_tokens_are_those_of_the_other_tokenizers():
    assert (LEARNED.pad_id, LEARNED.end_id, LEARNED.special_tokens) == (Tokenizer.pad_id, Tokenizer.end_id, Tokenizer([]).special_tokens)
    assert len(BytePairTokenizer.build([TEXT], 280)) == 280
    with pytest.raises(ValueError, match=f"size must be at least {FIRST_MERGE}"):
        BytePairTokenizer.build([TEXT], 100)


def test_saved_and_loaded(tmp_path):
    LEARNED.save(tmp_path / "tokenizer.json")
    loaded = BytePairTokenizer.load(tmp_path / "tokenizer.json")
    assert loaded.tokens == LEARNED.tokens and loaded.encode(TEXT) == LEARNED.encode(TEXT)
    assert json.loads((tmp_path / "tokenizer.json").read_text())["kind"] == "bpe"
    with pytest.raises(UserError, match="does not exist"):
        BytePairTokenizer.load(tmp_path / "none.json")


@pytest.mark.parametrize("content", [
    "[", "[]", '{"kind": "words", "format": 1}', '{"kind": "bpe", "format": 2, "merges": []}', '{"kind": "bpe", "format": 1}',
    '{"kind": "bpe", "format": 1, "merges": [[6]]}', '{"kind": "bpe", "format": 1, "merges": [[6, 999]]}',
    '{"kind": "bpe", "format": 1, "merges": [[6, 7], [6, 7]]}', '{"kind": "bpe", "format": 1, "merges": [[0, 7]]}',
    '{"kind": "bpe", "format": 1, "merges": [["a", "b"]]}', '{"kind": "bpe", "format": 1, "merges": 3}',
])
def test_files_that_are_no_tokenizer(tmp_path, content):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(UserError, match="cannot be read|is not a byte-pair tokenizer|cannot be used"):
        BytePairTokenizer.load(tmp_path / "tokenizer.json")
