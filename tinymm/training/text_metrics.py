"""How near a written text is to the expected one, where exact match would only say no: token F1, and BLEU.

Both compare lists of tokens; who calls them decides what a token is. Neither knows whether a sentence is right: a single
wrong word in a number changes its value, but its F1 and its BLEU hardly.
"""

import math
from collections import Counter
from collections.abc import Sequence

Tokens = Sequence[str]


def token_f1(given: Sequence[Tokens], expected: Sequence[Tokens]) -> float:
    """Mean over all texts of the F1 of their tokens (Rajpurkar et al. 2016, SQuAD); NaN when there are none.

    Texts are bags of tokens; c tokens are common to both, each counted as often as in the bag that has fewer of it:

        precision = c / |given|,   recall = c / |expected|,   F1 = 2 precision recall / (precision + recall)
                                                                 = 2 c / (|given| + |expected|)

    Two empty texts agree: 1. (SQuAD also drops case, punctuation and articles; that is up to the caller.)

    Raises:
        ValueError: the two lists differ in length.
    """
    _same_length(given, expected)
    shares = []
    for g, e in zip(given, expected):
        common = (Counter(g) & Counter(e)).total()
        shares.append(2 * common / (len(g) + len(e)) if len(g) or len(e) else 1.0)
    return sum(shares) / len(shares) if shares else float("nan")


def bleu(given: Sequence[Tokens], expected: Sequence[Tokens], max_order: int = 4, smoothing: str | None = None) -> float:
    """BLEU of a whole corpus with one reference for each text (Papineni et al. 2002), 0 to 1; NaN without texts.

        BLEU = BP exp(1/4 sum_n log p_n),   BP = 1 if c > r, else exp(1 - r / c)

    p_n, the clipped precision: of all n-grams of all given texts, the share that occurs in its reference, none counted more
    often than it is there. c, r: the tokens of all given and of all expected texts; the brevity penalty BP is for texts that
    say only what is sure.

    Args:
        smoothing: None: one order without a match makes the whole 0. "exp": the k-th such order counts 1 / 2^k
            matches, as in NIST's mteval and the default of sacreBLEU.

    Raises:
        ValueError: the two lists differ in length, or smoothing is neither None nor "exp".
    """
    _same_length(given, expected)
    if smoothing not in (None, "exp"):
        raise ValueError(f'smoothing must be None or "exp", got {smoothing!r}')
    if not len(given):
        return float("nan")
    length, reference_length = sum(map(len, given)), sum(map(len, expected))
    log_precisions, without_match = 0.0, 0
    for n in range(1, max_order + 1):
        matches = total = 0
        for g, e in zip(given, expected):
            own = _ngrams(g, n)
            matches += (own & _ngrams(e, n)).total()
            total += own.total()
        if total and not matches and smoothing == "exp":
            without_match += 1
            matches = 0.5 ** without_match
        if not matches:
            return 0.0
        log_precisions += math.log(matches / total) / max_order
    brevity = 1.0 if length > reference_length else math.exp(1 - reference_length / length)
    return brevity * math.exp(log_precisions)


def _ngrams(tokens: Tokens, n: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(tokens[i:i + n]) for i in range(len(tokens) - n + 1))


def _same_length(given: Sequence[Tokens], expected: Sequence[Tokens]) -> None:
    if len(given) != len(expected):
        raise ValueError(f"given and expected must be equally many, got {len(given)} and {len(expected)}")
