"""Words to numbers and back.

The texts of tinymm are short and made of few words, so a token is a word or a mark of punctuation, in lower
case. Six special tokens come first and always have the same numbers; a text can never produce them, because "<end>"
in a text is read as the three tokens "<", "end" and ">".

A question with its answer, and a caption, become one sequence each; the model continues a prompt:

    <question> what color is the shape ? <answer>    ->  blue <end>
    <caption>                                        ->  a red circle left of a blue star <end>
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tinymm.errors import UserError

SPECIAL_TOKENS = ("<pad>", "<unk>", "<question>", "<answer>", "<caption>", "<end>")
_TOKEN = re.compile(r"\w+|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Lower-case words and single marks of punctuation: "What's red?" -> ["what", "'", "s", "red", "?"]."""
    return _TOKEN.findall(text.lower())


class Tokenizer:
    """A fixed list of words, each with the number of its place in the list."""

    pad_id, unk_id, question_id, answer_id, caption_id, end_id = range(len(SPECIAL_TOKENS))
    kind = "words"
    split = staticmethod(split_words)     # a text into tokens
    one_token = "a single lower-case token"

    def __init__(self, words: Sequence[str], extra: Sequence[str] = ()):
        """Make a tokenizer of the six special tokens, further special ones such as "<mask>", and then `words`.

        Raises:
            ValueError: a word or token occurs twice, or is not one lower-case token.
        """
        for token in extra:
            if not re.fullmatch(r"<\w+>", token):
                raise ValueError(f"a special token must be a word between < and >, got {token!r}")
        for word in words:
            if not isinstance(word, str) or self.split(word) != [word]:
                raise ValueError(f"every word must be {self.one_token}, got {word!r}")
        self.special_tokens: tuple[str, ...] = SPECIAL_TOKENS + tuple(extra)
        self.tokens: tuple[str, ...] = self.special_tokens + tuple(words)
        self._id = {token: i for i, token in enumerate(self.tokens)}
        if len(self._id) != len(self.tokens):
            repeated = next(token for token in self.tokens if self.tokens.count(token) > 1)
            raise ValueError(f"every word must occur once, got {repeated!r} more than once")

    @classmethod
    def build(cls, texts: Iterable[str], extra: Sequence[str] = (), limit: int | None = None) -> "Tokenizer":
        """The tokenizer of all words in these texts (each text counts once), in alphabetical order.

        With a limit only so many of the commonest words are kept, and of equally common ones the first in the alphabet.
        """
        counts = Counter(word for text in set(texts) for word in cls.split(text))
        words = sorted(counts, key=lambda word: (-counts[word], word))[:limit]
        return cls(sorted(words), extra)

    def __len__(self) -> int:
        return len(self.tokens)

    def id(self, token: str) -> int:
        """The number of a token, such as that of "<mask>"; KeyError if there is no such token."""
        return self._id[token]

    def encode(self, text: str) -> list[int]:
        """The numbers of the words of `text`; <unk> for each word that is not in the list."""
        return [self._id.get(word, self.unk_id) for word in self.split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these numbers, up to the first <end>; other special tokens but <unk> are left out.

        Raises:
            ValueError: a number outside the list.
        """
        text = ""
        for i in ids:
            if not 0 <= i < len(self.tokens):
                raise ValueError(f"token ids must be in 0..{len(self.tokens) - 1}, got {i}")
            if i == self.end_id:
                break
            if i >= len(self.special_tokens) or i == self.unk_id:
                token = self.tokens[i]
                text += self.space(text, token) + token
        return text

    @staticmethod
    def space(text: str, token: str) -> str:
        """What stands between a text and its next token."""
        return "" if not text or token in "?!.,;:" else " "

    def unknown_words(self, text: str) -> list[str]:
        """The words of `text` that the tokenizer does not know, each once, in order."""
        return list(dict.fromkeys(word for word in self.split(text) if word not in self._id))

    def question_prompt(self, question: str) -> list[int]:
        """<question> ... <answer>: what the model reads before it answers.

        Raises:
            UserError: the question has no words.
        """
        words = self.encode(question)
        if not words:
            raise UserError("the question is empty; ask something like \"what color is the shape?\"")
        return [self.question_id, *words, self.answer_id]

    def caption_prompt(self) -> list[int]:
        """<caption>: what the model reads before it describes a picture."""
        return [self.caption_id]

    def save(self, path: str | Path) -> None:
        """Write the list as JSON. A reader sees the old file or the new one, never a part."""
        content = {"format": 1, "special_tokens": self.special_tokens, "words": self.tokens[len(self.special_tokens):]}
        if self.kind != "words":     # a file that says nothing holds words
            content = {"kind": self.kind} | content
        save_json(path, content)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a file that `save` wrote.

        Raises:
            UserError: the file is missing or is not a tokenizer's.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"the tokenizer {path} does not exist") from None
        except (OSError, ValueError) as error:
            raise UserError(f"the tokenizer {path} cannot be read: {error}") from None
        if not isinstance(content, dict) or content.get("format") != 1 or not isinstance(content.get("words"), list):
            raise UserError(f"{path} is not a tokenizer of tinymm, or of a later version of it")
        special = content.get("special_tokens")
        if not isinstance(special, list) or special[:len(SPECIAL_TOKENS)] != list(SPECIAL_TOKENS):
            raise UserError(f"{path} has special tokens other than {' '.join(SPECIAL_TOKENS)}")
        try:
            return cls(content["words"], special[len(SPECIAL_TOKENS):])
        except (ValueError, TypeError) as error:
            raise UserError(f"the tokenizer {path} cannot be used: {error}") from None


def save_json(path: str | Path, content: Any) -> None:
    """Write JSON. A reader sees the old file or the new one, never a part."""
    path = Path(path)
    beside = path.with_name(path.name + ".part")
    with open(beside, "w", encoding="utf-8") as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)
