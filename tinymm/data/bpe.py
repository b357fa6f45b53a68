"""Byte-pair encoding: tokens that are learned from a text, as long as they are frequent (Sennrich et al. 2016).

It begins with single bytes, so any text in any language can be encoded (Radford et al. 2019, GPT-2). Then, again and
again, the two neighbours that stand side by side most often become one new token:

    th e        "t", "h" -> "th"          "th", "e" -> "the"          " ", "the" -> " the"

Pairs are counted within words, and a word takes the space before it along, so no token reaches over two words, and a text is
just its tokens one after the other. To encode a new text, the same merges are made in the order in which they were learned.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tinymm.data.tokenizer import SPECIAL_TOKENS, save_json
from tinymm.errors import UserError

BYTES = 256
FIRST_BYTE = len(SPECIAL_TOKENS)             # the special tokens come first, then the 256 bytes, then the merges
FIRST_MERGE = FIRST_BYTE + BYTES
# Letters, digits or signs, each with a space before it; or white space, which leaves its last space to the word behind it.
_WORD = re.compile(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s+")

Pair = tuple[int, int]


def split_pieces(text: str) -> list[str]:
    """Words with the space before them, numbers, marks and white space; joined they are the text again."""
    return _WORD.findall(text)


def learn_merges(texts: Iterable[str], count: int) -> list[Pair]:
    """The `count` merges that the algorithm of Sennrich et al. 2016 makes on these texts, in their order.

    They are fewer when no pair occurs twice any more. Of pairs that are equally frequent the one with the smaller token ids is merged first, so the result is always the same.
    """
    pieces = Counter(piece for text in texts for piece in split_pieces(text))
    words = [[FIRST_BYTE + byte for byte in to_bytes(piece)] for piece in pieces]    # each word as its tokens so far
    counts = list(pieces.values())                                                   # how often it occurs
    frequency: Counter[Pair] = Counter()           # of each pair of neighbours
    holders: dict[Pair, set[int]] = {}             # the words that hold it

    def count_pairs(i: int, sign: int) -> None:
        for pair in zip(words[i], words[i][1:]):
            frequency[pair] += sign * counts[i]
            holders.setdefault(pair, set()).add(i)

    for i in range(len(words)):
        count_pairs(i, +1)
    merges: list[Pair] = []
    while len(merges) < count and frequency:
        best = min(frequency, key=lambda pair: (-frequency[pair], pair))
        if frequency[best] < 2:
            break                                  # what occurs once is no pattern
        for i in holders.pop(best):                # only these words change, so only their pairs are counted anew
            count_pairs(i, -1)
            words[i] = merge(words[i], best, FIRST_MERGE + len(merges))
            count_pairs(i, +1)
        del frequency[best]
        merges.append(best)
    return merges


def merge(tokens: Sequence[int], pair: Pair, new: int) -> list[int]:
    """The tokens with `new` in place of each occurrence of the pair, from left to right."""
    merged, i = [], 0
    while i < len(tokens):
        if tuple(tokens[i:i + 2]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return merged


def to_bytes(text: str) -> bytes:
    """UTF-8; half of a surrogate pair, which no valid text holds but a Python string may, gets three bytes as well."""
    return text.encode("utf-8", errors="surrogatepass")


class BytePairTokenizer:
    """Text to token ids and back, exactly, for every text. The special tokens have the numbers that `Tokenizer` gives them."""

    pad_id, unk_id, question_id, answer_id, caption_id, end_id = range(len(SPECIAL_TOKENS))
    kind = "bpe"
    special_tokens = SPECIAL_TOKENS

    def __init__(self, merges: Sequence[Pair]):
        """
        Raises:
            ValueError: a merge is not a pair of earlier tokens (bytes, or merges before it), or occurs twice.
        """
        self.tokens: list[bytes] = [b""] * FIRST_BYTE + [bytes([byte]) for byte in range(BYTES)]    # what each id stands for
        self.rank: dict[Pair, int] = {}     # pair -> id of the merged token
        self._known: dict[str, list[int]] = {}
        for left, right in merges:
            if not all(type(part) is int and FIRST_BYTE <= part < len(self.tokens) for part in (left, right)):
                raise ValueError(f"a merge must join two earlier tokens, got {left!r} and {right!r} "
                                 f"for token {len(self.tokens)}")
            if (left, right) in self.rank:
                raise ValueError(f"every merge must occur once, got {left} and {right} twice")
            self.rank[left, right] = len(self.tokens)
            self.tokens.append(self.tokens[left] + self.tokens[right])

    @classmethod
    def build(cls, texts: Iterable[str], size: int = 1000) -> "BytePairTokenizer":
        """Learn a vocabulary of `size` tokens, special tokens and bytes included."""
        if size < FIRST_MERGE:
            raise ValueError(f"size must be at least {FIRST_MERGE}, the special tokens and all bytes, got {size}")
        return cls(learn_merges(texts, size - FIRST_MERGE))

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """The token ids of a text, word by word. A text can never produce a special token."""
        return [token for piece in split_pieces(text) for token in self._encode_piece(piece)]

    def _encode_piece(self, piece: str) -> list[int]:
        if piece not in self._known:     # most words come back
            tokens = [FIRST_BYTE + byte for byte in to_bytes(piece)]
            while pairs := [pair for pair in zip(tokens, tokens[1:]) if pair in self.rank]:
                first = min(pairs, key=self.rank.__getitem__)        # the merge that was learned first
                tokens = merge(tokens, first, self.rank[first])
            self._known[piece] = tokens
        return self._known[piece]

    def unknown_words(self, text: str) -> list[str]:
        """What of a text has no token: nothing, as every byte is one."""
        return []

    def decode(self, ids: Iterable[int]) -> str:
        """The text of these ids up to the first <end>; other special tokens are left out.

        Bytes that are no UTF-8, as a model may write them, become the sign for what cannot be read.

        Raises:
            ValueError: an id outside the vocabulary.
        """
        content = b""
        for i in ids:
            if not 0 <= i < len(self.tokens):
                raise ValueError(f"token ids must be in 0..{len(self.tokens) - 1}, got {i}")
            if i == self.end_id:
                break
            content += self.tokens[i]
        try:
            return content.decode("utf-8", errors="surrogatepass")
        except UnicodeDecodeError:
            return content.decode("utf-8", errors="replace")

    def save(self, path: str | Path) -> None:
        """Write the merges as JSON. A reader sees the old file or the new one, never a part."""
        save_json(path, {"kind": self.kind, "format": 1, "merges": list(self.rank)})

    @classmethod
    def load(cls, path: str | Path) -> "BytePairTokenizer":
        """Read a file that `save` wrote.

        Raises:
            UserError: the file is missing or is not that of a byte-pair tokenizer.
        """
        try:
            content = json.loads(Path(path).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise UserError(f"the tokenizer {path} does not exist") from None
        except (OSError, ValueError) as error:
            raise UserError(f"the tokenizer {path} cannot be read: {error}") from None
        if not isinstance(content, dict) or (content.get("kind"), content.get("format")) != (cls.kind, 1):
            raise UserError(f"{path} is not a byte-pair tokenizer of tinymm, or of a later version of it")
        try:
            return cls([(left, right) for left, right in content["merges"]])
        except (ValueError, TypeError, KeyError) as error:
            raise UserError(f"the tokenizer {path} cannot be used: {error}") from None
