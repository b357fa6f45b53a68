import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymm import UserError
from tinymm.data import SPECIAL_TOKENS, Tokenizer
from tinymm.data.tokenizer import split_words


@pytest.fixture
def tokenizer():
    return Tokenizer.build(["what color is the shape?", "a red circle left of a blue star", "blue"])


def test_special_tokens_have_fixed_numbers(tokenizer):
    assert tokenizer.tokens[:6] == SPECIAL_TOKENS == ("<pad>", "<unk>", "<question>", "<answer>", "<caption>", "<end>")
    names = ("pad", "unk", "question", "answer", "caption", "end")
    assert [getattr(tokenizer, f"{name}_id") for name in names] == [0, 1, 2, 3, 4, 5]


def test_words_are_sorted_and_counted_once(tokenizer):
    words = tokenizer.tokens[6:]
    assert list(words) == sorted(set(words)) and len(tokenizer) == 6 + 13


def test_the_order_of_the_texts_does_not_matter():
    assert Tokenizer.build(["a b", "c"]).tokens == Tokenizer.build(["c", "b a", "c"]).tokens


def test_round_trip(tokenizer):
    for text in ("what color is the shape?", "a red circle left of a blue star"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_case_and_spaces_do_not_matter(tokenizer):
    assert tokenizer.encode("  What COLOR\tis the  shape ?\n") == tokenizer.encode("what color is the shape?")


def test_unknown_words(tokenizer):
    assert tokenizer.encode("a red dog") == [*tokenizer.encode("a red"), tokenizer.unk_id]
    assert tokenizer.unknown_words("Is the dog a red dog, or a cat?") == ["dog", ",", "or", "cat"]
    assert tokenizer.decode(tokenizer.encode("a red dog")) == "a red <unk>"


def test_a_text_cannot_forge_a_special_token(tokenizer):
    assert set(tokenizer.encode("<end> <answer> <pad>")) == {tokenizer.unk_id}


def test_prompts(tokenizer):
    assert tokenizer.question_prompt("blue?") == [2, *tokenizer.encode("blue ?"), 3]
    assert tokenizer.caption_prompt() == [4]


@pytest.mark.parametrize("question", ["", "  ", "\n\t"])
def test_an_empty_question(tokenizer, question):
    with pytest.raises(UserError, match="the question is empty"):
        tokenizer.question_prompt(question)


def test_decode_stops_at_the_end_and_leaves_special_tokens_out(tokenizer):
    blue, star = tokenizer.encode("blue star")
    assert tokenizer.decode([4, blue, 0, 3, star, 5, blue]) == "blue star"
    assert tokenizer.decode([]) == ""
    with pytest.raises(ValueError, match="token ids must be in 0..18"):
        tokenizer.decode([19])
    with pytest.raises(ValueError, match="got -1"):
        tokenizer.decode([-1])


def test_save_and_load(tokenizer, tmp_path):
    path = tmp_path / "tokenizer.json"
    tokenizer.save(path)
    assert Tokenizer.load(path).tokens == tokenizer.tokens
    tokenizer.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]   # nothing left beside it


@given(st.lists(st.text(max_size=20), max_size=8))
def test_any_texts_can_be_built_encoded_and_decoded(texts):
    tokenizer = Tokenizer.build(texts)
    for text in texts:
        ids = tokenizer.encode(text)
        assert tokenizer.unk_id not in ids and not tokenizer.unknown_words(text)
        assert split_words(tokenizer.decode(ids)) == split_words(text)


@pytest.mark.parametrize(("content", "message"), [
    ("", "cannot be read"), ("[1, 2]", "not a tokenizer"), ("{}", "not a tokenizer"),
    ('{"format": 2, "words": []}', "later version"),
    ('{"format": 1, "words": [], "special_tokens": ["<pad>"]}', "special tokens other than"),
    (json.dumps({"format": 1, "words": ["a", "a"], "special_tokens": SPECIAL_TOKENS}), "'a' more than once"),
    (json.dumps({"format": 1, "words": [7], "special_tokens": SPECIAL_TOKENS}), "single lower-case token"),
    (json.dumps({"format": 1, "words": ["two words"], "special_tokens": SPECIAL_TOKENS}), "single lower-case token"),
])
def test_files_that_are_no_tokenizer(tmp_path, content, message):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        Tokenizer.load(path)


def test_missing_or_unreadable_file(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        Tokenizer.load(tmp_path / "none.json")
    with pytest.raises(UserError, match="cannot be read"):
        Tokenizer.load(tmp_path)
    (tmp_path / "bytes.json").write_bytes(b"\xff\xfe\x00\x01")
    with pytest.raises(UserError, match="cannot be read"):
        Tokenizer.load(tmp_path / "bytes.json")
