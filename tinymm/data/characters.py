"""Characters to numbers and back: for texts such as dates, whose words are no fixed list, or whose characters are words.

A token is a single character as it stands: capitals, spaces and line ends count. The special tokens are those of the
tokenizer of words, under the same numbers.
"""

from tinymm.data.tokenizer import Tokenizer


class CharacterTokenizer(Tokenizer):
    """A fixed list of characters, each with the number of its place in the list; used like `Tokenizer`."""

    kind = "characters"
    split = staticmethod(list)
    one_token = "a single character"

    @staticmethod
    def space(text: str, token: str) -> str:
        return ""
