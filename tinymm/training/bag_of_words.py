"""A baseline that every reader of texts must beat: logistic regression on the words, in whatever order they stand.

    P(positive | text) = sigmoid(b + sum of w_f over the words and word pairs f that occur in the text)

Fitted by full-batch Adam on the binary cross-entropy plus an L2 penalty, whose strength is chosen on validation texts.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from tinymm import functional
from tinymm.data.tokenizer import split_words

STRENGTHS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3)      # of the L2 penalty, to choose from
STEPS, RATE = 300, 0.05


class BagOfWords:
    """Logistic regression on words and pairs of neighbours that occur at least twice in the training texts."""

    def __init__(self, texts: Sequence[str]):
        counts = Counter(feature for text in texts for feature in features_of(text))
        kept = sorted(feature for feature, count in counts.items() if count >= 2)
        self.index = {feature: i for i, feature in enumerate(kept)}
        self.weight = np.zeros(len(kept))                                            # (F,)
        self.bias = 0.0

    def rows(self, texts: Sequence[str]) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
        """For every feature of every text: the text's place, and the feature's."""
        found = [[self.index[f] for f in features_of(text) if f in self.index] for text in texts]
        return np.repeat(np.arange(len(found)), [len(row) for row in found]), np.array(list(chain.from_iterable(found)), np.intp)

    def logits(self, texts: Sequence[str]) -> NDArray[np.float64]:
        text, feature = self.rows(texts)
        return np.bincount(text, self.weight[feature], minlength=len(texts)) + self.bias   # (N,)

    def fit(self, texts: Sequence[str], labels: NDArray[np.integer], strength: float) -> "BagOfWords":
        """Minimise the mean loss + strength / 2 |w|^2 from where the weights are."""
        text, feature = self.rows(texts)
        size = len(self.weight) + 1
        first, second = np.zeros(size), np.zeros(size)                               # Adam's moments
        for step in range(1, STEPS + 1):
            z = np.bincount(text, self.weight[feature], minlength=len(texts)) + self.bias   # (N,)
            _, cache = functional.binary_cross_entropy_forward(z, labels)
            d_z = functional.binary_cross_entropy_backward(1.0, cache)               # (N,)
            d_weight = np.bincount(feature, d_z[text], minlength=size - 1) + strength * self.weight   # (F,)
            gradient = np.append(d_weight, d_z.sum())                                # (F + 1,)
            first, second = 0.9 * first + 0.1 * gradient, 0.999 * second + 0.001 * gradient**2
            rate = RATE * (1 - step / STEPS)
            move = rate * first / (1 - 0.9**step) / (np.sqrt(second / (1 - 0.999**step)) + 1e-8)
            self.weight, self.bias = self.weight - move[:-1], self.bias - move[-1]
        return self


def features_of(text: str) -> set[str]:
    """The words of a text and the pairs of neighbours."""
    words = split_words(text)
    return {*words, *(f"{a} {b}" for a, b in zip(words, words[1:]))}


def fit_on(train: Sequence[str], labels: NDArray[np.integer], validation: Sequence[str],
           validation_labels: NDArray[np.integer]) -> BagOfWords:
    """The model with the strength that is best on the validation texts."""
    best, best_share = None, -1.0
    for strength in STRENGTHS:
        model = BagOfWords(train).fit(train, labels, strength)
        share = float(((model.logits(validation) > 0) == validation_labels).mean())
        if share > best_share:
            best, best_share = model, share
    return best
