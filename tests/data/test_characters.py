"""The tokenizer of characters: what it keeps, what it does not know, and its file."""

import pytest

from tinymm.data.characters import CharacterTokenizer
from tinymm.data.tokenizer import SPECIAL_TOKENS, Tokenizer
from tinymm.training.checkpoints import RunFolder, load_tokenizer


def test_a_text_comes_back_as_it_was():
    tokenizer = CharacterTokenizer.build(["Tue, 3 Mar '87", "春眠\n"])
    for text in ("Tue, 3 Mar '87", "M a\n春", ""):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert len(tokenizer.encode("a, b")) == 4
    assert tokenizer.tokens[:len(SPECIAL_TOKENS)] == SPECIAL_TOKENS and tokenizer.end_id == Tokenizer.end_id


def test_what_it_does_not_know_and_where_it_stops():
    tokenizer = CharacterTokenizer("ab", extra=("<mask>",))
    assert tokenizer.encode("axb") == [7, tokenizer.unk_id, 8] and tokenizer.unknown_words("xaxy") == ["x", "y"]
    assert tokenizer.decode([7, tokenizer.pad_id, 8, tokenizer.end_id, 7]) == "ab"
    with pytest.raises(ValueError, match="every word must be a single character, got 'ab'"):
        CharacterTokenizer(["ab"])


def test_its_file_says_what_it_is(tmp_path):
    tokenizer = CharacterTokenizer("abä", extra=("<mask>",))
    run = RunFolder.create(tmp_path / "run", model="encoder_decoder", model_config={}, training={}, tokenizer=tokenizer)
    again = load_tokenizer(run)
    assert type(again) is CharacterTokenizer and again.tokens == tokenizer.tokens
