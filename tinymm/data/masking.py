"""Hidden words: what BERT is asked during pre-training (Devlin et al. 2019, 3.1, "Masked LM").

Of each text 15 % of the words are chosen (or another share), at least one. The model has to guess all of them, but reads instead of a chosen word

    in 80 % of cases   <mask>
    in 10 %            a random word      so that it may not trust a word only because it is there
    in 10 %            the word itself    so that it has something to say at words that are not hidden, as in later use

The choice is drawn anew whenever a text is read (Liu et al. 2019, 4.1), so a text asks something else in each epoch.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


CHOSEN = 0.15                   # of the words of a text
HIDDEN, RANDOM = 0.8, 0.1       # of the chosen; the rest is left as it is


class MaskedTexts(NamedTuple):
    """Texts with hidden words, and what was there."""

    ids: NDArray[np.integer]       # (R, T)  as the model reads them
    masked: NDArray[np.bool_]      # (R, T)  True at the chosen words
    labels: NDArray[np.integer]    # (M,)    the chosen words themselves, in the order of ids[masked]


def mask_words(ids: NDArray[np.integer], mask_id: int, weights: NDArray[np.floating], rng: np.random.Generator,
               share: float = CHOSEN) -> MaskedTexts:
    """Choose words of each text and hide most of them; a pure function of its arguments and the state of rng.

    Args:
        ids: (R, T) token ids, padded. They are not changed.
        mask_id: the id of <mask>.
        weights: (V,) how readily each token is chosen rather than another of its text. 0 for special tokens (padding, <unk>,
            <cls> ...), which are neither chosen nor drawn; the paper has 1 for every word.
        share: how many of a text's words are chosen.

    Returns:
        Of a text with n words max(1, round(share n)) are chosen; of a text without words none.
    """
    weight = weights[ids]                                                                # (R, T)
    words = weight > 0                                                                   # (R, T)
    count = np.maximum(np.rint(share * words.sum(axis=1)), 1)                            # (R,)
    # Each word has a clock that runs at the speed of its weight; those that ring first are chosen.
    clocks = rng.standard_exponential(ids.shape) / np.where(words, weight, 1)            # (R, T)
    rank = np.where(words, clocks, np.inf).argsort(axis=1).argsort(axis=1)               # (R, T)  the place in the order of ringing
    masked = words & (rank < count[:, None])                                             # (R, T)

    labels = ids[masked]                                                                 # (M,)
    fate = rng.random(labels.shape)                                                      # (M,)
    random_words = rng.choice(np.flatnonzero(weights), labels.shape)                     # (M,)    one as likely as another
    read = np.select([fate < HIDDEN, fate < HIDDEN + RANDOM], [mask_id, random_words], labels)   # (M,)
    out = ids.copy()                                                                     # (R, T)
    out[masked] = read
    return MaskedTexts(out, masked, labels)


def choice_weights(frequencies: NDArray[np.floating], n_special: int, threshold: float) -> NDArray[np.floating]:
    """Weights for `mask_words` that choose "the" less often than "moving": min(1, sqrt(threshold / frequency)).

    It is how word2vec thins out its frequent words (Mikolov et al. 2013b, eq. 5). With few sentences to learn from, the
    guesses should be about words that say something.

    Args:
        frequencies: (V,) of the words, each above 0.   n_special: ids below it are special tokens; they get 0.
    """
    weights = np.minimum(1.0, np.sqrt(threshold / frequencies))                          # (V,)
    weights[:n_special] = 0
    return weights
