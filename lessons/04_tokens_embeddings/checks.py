"""What `tinymm check 4` looks at."""

from collections import Counter

import numpy as np

from tinymm.learning.exercise import Exercise

# Each merge joins letters, or what earlier merges made; some want the same letters, so their order matters.
MERGES = [("b", "c"), ("a", "bc"), ("a", "b"), ("c", "a"), ("ab", "ca"), ("abc", "a"), ("b", "b"), ("ca", "ca")]


def some_words(rng):
    words = {}
    for _ in range(12):
        words[tuple(rng.choice(list("abcd"), size=rng.integers(3, 7)).tolist())] = int(rng.integers(1, 9))
    # Three pairs are equally common: of them ("y", "x") is seen first, ("x", "y") is first in the alphabet, ("z", "w") is last.
    words |= {("y", "x"): 400, ("z", "w"): 400, ("x", "y"): 400}
    return {"words": words}


def tokens_and_pair(rng):
    letters = rng.choice(list("aab"), size=9).tolist()
    return {"tokens": ("a", "a", "a", *letters, "ab", "a", "b"), "pair": ("a", "a") if rng.random() < 0.6 else ("a", "b")}


def word_and_merges(rng):
    return {"word": "abca" + "".join(rng.choice(list("abc"), size=8)), "merges": list(MERGES)}


def lookup(rng):
    ids = rng.integers(5, size=(2, 4))
    ids[1, :2] = ids[0, 0]                         # an id that certainly repeats
    return {"ids": ids, "table": rng.normal(size=(5, 3))}


def bigram(rng):
    ids, following = rng.integers(5, size=(2, 7))
    ids[1] = ids[0]
    return {"ids": ids, "table": rng.normal(size=(5, 3)), "head": rng.normal(size=(3, 5)), "following": following}


def sure_bigram(rng):
    inputs = bigram(rng)
    inputs["head"][:, 0] *= 1000                   # so that some exponentials would overflow
    return inputs


FACTS = {
    "hidden": "row n is row ids[n] of the table",
    "logits": "hidden head: a score for each of the V tokens",
    "shifted": "the largest of each row is 0",
    "log_p": "shifted minus the log of the sum of its exponentials, row by row: the exponentials of a row of log_p sum to 1",
    "p": "the exponential of log_p: its rows sum to 1",
    "loss": "the mean of -log_p at the tokens that followed",
    "y": "each row has a single 1, at the token that follows",
    "d_logits": "d_loss (p - y) / N: its rows sum to 0",
    "d_head": "logits = hidden head, and for C = A B the gradient of B is A^T dC",
    "d_hidden": "logits = hidden head, and for C = A B the gradient of A is dC B^T",
    "d_table": "each row is the sum of the gradients of all places that read it, and 0 where none did",
}

EXERCISES = [
    Exercise(
        1, "commonest_pair", "what to merge next", some_words,
        hints=("zip(tokens, tokens[1:]) goes through the pairs of a word.", "A pair counts as often as its word occurs: counts[pair] += n.",
               "min(counts, key=lambda pair: (-counts[pair], pair)) is the largest count, then the first in the alphabet."),
        mistakes={"a pair counts as often as its word occurs, not once a word": lambda words: _commonest(words, weighted=False),
                  "of equally common pairs it is the first in the alphabet, not the first that was seen":
                  lambda words: _commonest(words, key=lambda counts: lambda pair: -counts[pair]),
                  "of equally common pairs it is the first in the alphabet, not the last":
                  lambda words: _commonest(words, key=lambda counts: lambda pair: (-counts[pair], [-ord(c) for c in "".join(pair)]))},
    ),
    Exercise(
        2, "merge_pair", "two tokens become one", tokens_and_pair,
        hints=("Walk through the tokens with an index i that you move by hand, by 1 or by 2.",
               "tokens[i:i + 2] == pair compares two places at once, and is simply False at the end.",
               "After a merge go on behind both tokens: i += 2."),
        mistakes={"a token that was merged is used up: go on behind it (i += 2)": lambda tokens, pair: _overlapping(tokens, pair),
                  "every occurrence is merged, not only the first": lambda tokens, pair: _first_only(tokens, pair),
                  "the result is a tuple, not a list": lambda tokens, pair: list(_merge(tokens, pair))},
    ),
    Exercise(
        3, "encode", "a new word in tokens", word_and_merges,
        hints=("tuple(word) are the letters.", "A loop over the merges, with your merge_pair inside."),
        mistakes={"the merges are made in the order in which they were learned, not backwards":
                  lambda word, merges: _encode(word, merges[::-1]),
                  "it is not the longest known token from the left: make the merges, one after the other": lambda word, merges: _greedy(word, merges)},
    ),
    Exercise(
        4, "embedding_backward", "the scatter-add", lookup, forward="embedding_forward", differentiable=("table",),
        hints=("Begin with zeros in the shape of the table, (V, D).", "What happens with d_table[ids] += d_out when an id stands there twice?",
               "np.add.at(d_table, ids, d_out)"),
        facts=FACTS,
        mistakes={"`d_table[ids] += d_out` keeps only the last gradient of an id that repeats; np.add.at adds them all":
                  lambda d_out, cache: _overwritten(d_out, cache),
                  "a row gets the sum of its gradients, not their mean": lambda d_out, cache: _mean(d_out, cache)},
    ),
    Exercise(
        5, "bigram_forward", "guess the next token", sure_bigram,
        hints=("The lookup, a product, and the cross-entropy of chapter 2.",
               "shifted = logits - logits.max(axis=-1, keepdims=True); log_p is shifted minus np.log of the sum of np.exp(shifted).",
               "log_p[np.arange(len(ids)), following] picks from each row the entry of the right token."),
        facts=FACTS,
        mistakes={"the loss is the mean over the tokens, not the sum": lambda **inputs: _bigram(**inputs, total=np.sum),
                  "the right answer is the token that follows, not the one that is read":
                  lambda ids, table, head, following: _bigram(ids, table, head, ids, cached=following),
                  "take the logarithm without computing p first: where p is rounded to 0, log p is -inf":
                  lambda **inputs: _bigram(**inputs, logarithm=lambda shifted: np.log(np.exp(shifted) / np.exp(shifted).sum(-1, keepdims=True)))},
    ),
    Exercise(
        6, "bigram_backward", "from the loss to the table", bigram, forward="bigram_forward", differentiable=("table", "head"),
        hints=("Cross-entropy and softmax together: p - y, divided by N, times d_loss.",
               "d_head and d_hidden come from the product logits = hidden head, as in chapter 1.",
               "d_hidden goes to the rows that were read: your embedding_backward, or np.add.at."),
        facts=FACTS,
    ),
]


def _commonest(words, weighted=True, key=lambda counts: lambda pair: (-counts[pair], pair)):
    counts = Counter()
    for tokens, n in words.items():
        for pair in zip(tokens, tokens[1:]):
            counts[pair] += n if weighted else 1
    best = min(counts, key=key(counts))
    return best, counts[best]


def _merge(tokens, pair, limit=None):
    merged, i, done = [], 0, 0
    while i < len(tokens):
        hit = tokens[i:i + 2] == pair and done != limit
        merged.append(pair[0] + pair[1] if hit else tokens[i])
        i, done = i + 1 + hit, done + hit
    return tuple(merged)


def _first_only(tokens, pair):
    return _merge(tokens, pair, limit=1)


def _overlapping(tokens, pair):
    merged, covered = [], False
    for i, token in enumerate(tokens):
        hit = tokens[i:i + 2] == pair
        if hit or not covered:
            merged.append(pair[0] + pair[1] if hit else token)
        covered = hit
    return tuple(merged)


def _encode(word, merges):
    tokens = tuple(word)
    for pair in merges:
        tokens = _merge(tokens, pair)
    return tokens


def _greedy(word, merges):
    known, tokens, i = {a + b for a, b in merges}, [], 0
    while i < len(word):
        end = next((end for end in range(len(word), i + 1, -1) if word[i:end] in known), i + 1)
        tokens.append(word[i:end])
        i = end
    return tuple(tokens)


def _bigram(ids, table, head, following, total=np.mean, cached=None, logarithm=None):
    hidden = table[ids]
    logits = hidden @ head
    shifted = logits - logits.max(axis=-1, keepdims=True)
    log_p = logarithm(shifted) if logarithm else shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    loss = -total(log_p[np.arange(len(ids)), following])
    return loss, (ids, hidden, head, np.exp(log_p), following if cached is None else cached)


def _overwritten(d_out, cache):
    ids, V = cache
    d_table = np.zeros((V, d_out.shape[-1]))
    d_table[ids] += d_out
    return d_table


def _mean(d_out, cache):
    ids, V = cache
    d_table = np.zeros((V, d_out.shape[-1]))
    np.add.at(d_table, ids, d_out)
    return d_table / np.maximum(np.bincount(ids.reshape(-1), minlength=V), 1)[:, None]
