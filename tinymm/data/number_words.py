"""Whole numbers below a million in words, English and German: a translation whose right answer can be computed.

    312,047    three hundred and twelve thousand and forty-seven    drei hundert zwölf tausend sieben und vierzig

German says the units before the tens, so a translator must change the order of words, and it writes a number as a single
word. `german` gives the parts of that word with spaces between them, which is what the model writes; `compound` joins them.
"""

import numpy as np

from tinymm.data.text_pairs import TextPair, TextPairs, collect

LIMIT = 1_000_000

_ENGLISH = ("zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen").split()
_ENGLISH_TENS = "- - twenty thirty forty fifty sixty seventy eighty ninety".split()
_GERMAN = ("null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn "
           "siebzehn achtzehn neunzehn").split()
_GERMAN_TENS = "- - zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()


def english(number: int) -> str:
    """British English: "and" before what follows the hundreds, a hyphen between tens and units."""
    _check(number)
    if number < 20:
        return _ENGLISH[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return _ENGLISH_TENS[tens] + (f"-{_ENGLISH[units]}" if units else "")
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_ENGLISH[hundreds]} hundred" + (f" and {english(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    return f"{english(thousands)} thousand" + ((" and " if rest < 100 else " ") + english(rest) if rest else "")


def german(number: int) -> str:
    """German, the parts of the compound apart; one is "eins" at the end and "ein" within."""
    _check(number)
    if number < 20:
        return _GERMAN[number]
    if number < 100:
        tens, units = divmod(number, 10)
        return (f"{_within(german(units))} und " if units else "") + _GERMAN_TENS[tens]
    if number < 1000:
        hundreds, rest = divmod(number, 100)
        return f"{_within(german(hundreds))} hundert" + (f" {german(rest)}" if rest else "")
    thousands, rest = divmod(number, 1000)
    return f"{_within(german(thousands))} tausend" + (f" {german(rest)}" if rest else "")


def compound(parts: str) -> str:
    """The parts as the single word that they are: "ein und zwanzig" -> "einundzwanzig"."""
    return parts.replace(" ", "")


def number_pairs(count: int, rng: np.random.Generator, split: str = "train") -> TextPairs:
    """Different numbers of a split, English and German: as many digits as any other number is as likely.

    Numbers below 100, which teach the words, are all for training; they are the first hundred of its pairs.

    Raises:
        ValueError: an unknown split, or a training set of fewer than 100 pairs.
    """
    if split != "train":
        return collect(count, split, lambda: _pair(_draw(rng)))
    if count < 100:
        raise ValueError(f"a training set holds all numbers below 100, so count must be at least 100, got {count}")
    words, rest = [_pair(number)[1] for number in range(100)], collect(count - 100, split, lambda: _pair(_draw(rng)))
    return TextPairs(*(tuple(getattr(pair, field) for pair in words) + column for field, column in
                       (("source", rest.sources), ("target", rest.targets), ("kind", rest.kinds))))


def _draw(rng: np.random.Generator) -> int:
    """A number of three to six digits, each length as likely."""
    digits = int(rng.integers(3, 7))
    return int(rng.integers(10 ** (digits - 1), 10 ** digits))


def _pair(number: int) -> tuple[str, TextPair]:
    digits = len(str(number))
    return str(number), TextPair(english(number), german(number), f"{digits} digit{'s' * (digits > 1)}")


def _within(text: str) -> str:
    return text[:-1] if text.endswith("eins") else text


def _check(number: int) -> None:
    if not 0 <= number < LIMIT:
        raise ValueError(f"number must be from 0 to {LIMIT - 1:,}, got {number}")
