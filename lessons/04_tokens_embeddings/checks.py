"""What `tinymm check 4` looks at."""

from collections import Counter
from itertools import combinations

import numpy as np

from tinymm.learning.exercise import Exercise

# Each merge joins letters, or what earlier merges made; some want the same letters, so their order matters.
MERGES = [("b", "c"), ("a", "bc"), ("a", "b"), ("c", "a"), ("ab", "ca"), ("abc", "a"), ("b", "b"), ("ca", "ca")]


def some_words(rng):
    # Four pairs occur 60 times each. ("y", "x") is seen first, ("x", "yz") is the first in the alphabet, ("xy", "a") would be if
    # the pairs were joined, ("z", "w") is the last. Each stands in two words, in one of them twice. The last two words have
    # no pair at all, but side by side they would make the commonest one.
    words = {("q", "y", "x", "y", "x"): 12, ("y", "x"): 36, ("z", "w"): 40, ("q", "z", "w", "z", "w"): 10,
             ("xy", "a", "xy", "a"): 15, ("b", "xy", "a"): 30, ("x", "yz", "s", "x", "yz"): 20, ("q", "x", "yz"): 20,
             ("u",): 70, ("v",): 70}
    for _ in range(12):
        words[tuple(rng.choice(list("abcd"), size=rng.integers(3, 7)).tolist())] = int(rng.integers(1, 4))
    return {"words": words}


def tokens_and_pair(rng):
    # Each pair stands there; so do the letters of ("ab", "a") in other tokens; and at the end the first of the pair without the second.
    pair = (("a", "a"), ("a", "b"), ("ab", "a"))[rng.integers(3)]
    letters = rng.choice(list("aab"), size=3).tolist()
    return {"tokens": ("a", "a", "a", "b", *letters, "ab", "a", "a", "ba", "b", pair[0]), "pair": pair}


def word_and_merges(rng):
    # Each merge finds its pair but ("ab", "ca"): where b and c are side by side, they are merged before.
    return {"word": "bca" + str(rng.choice(list("abc"))) + "dabcacacacabdbbabcb", "merges": list(MERGES)}


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
                  "a pair that stands in several words gets the sum: counts[pair] += n, not = n":
                  lambda words: _commonest(words, summed=False),
                  "a pair that a word holds twice counts twice for it":
                  lambda words: _commonest(words, pairs=lambda t: set(zip(t, t[1:]))),
                  "no pair reaches over the end of a word": lambda words: _commonest(words, across=True),
                  "the last pair of a word is lost: zip(tokens, tokens[1:]), or i in range(len(tokens) - 1)":
                  lambda words: _commonest(words, pairs=lambda t: zip(t[:-2], t[1:-1])),
                  "only neighbours are a pair, not any two tokens of a word":
                  lambda words: _commonest(words, pairs=lambda t: combinations(t, 2)),
                  "a token may have several letters: pairs are pairs of tokens, so do not join the word first":
                  lambda words: _commonest(words, pairs=lambda t: zip("".join(t), "".join(t)[1:])),
                  "neighbours overlap: (a, b, c) holds (a, b) and (b, c); zip(tokens, tokens[1:])":
                  lambda words: _commonest(words, pairs=lambda t: zip(t[::2], t[1::2])),
                  "(a, b) and (b, a) are two pairs: do not sort them":
                  lambda words: _commonest(words, pairs=lambda t: [tuple(sorted(pair)) for pair in zip(t, t[1:])]),
                  "of equally common pairs it is the first in the alphabet, not the first that was seen":
                  lambda words: _commonest(words, key=lambda counts: lambda pair: -counts[pair]),
                  "of equally common pairs it is the first in the alphabet, not the last":
                  lambda words: _commonest(words, key=lambda counts: lambda pair: (-counts[pair], [-ord(c) for c in "".join(pair)])),
                  "in the alphabet pairs are compared as tuples, the first tokens first, not as joined strings":
                  lambda words: _commonest(words, key=lambda counts: lambda pair: (-counts[pair], "".join(pair))),
                  "that is the rarest pair: with min the key begins with -counts[pair]":
                  lambda words: _commonest(words, key=lambda counts: lambda pair: (counts[pair], pair)),
                  "how often it occurs is missing: return the pair and its count": lambda words: _commonest(words)[0],
                  "the pair comes first, then how often it occurs": lambda words: _commonest(words)[::-1]},
    ),
    Exercise(
        2, "merge_pair", "two tokens become one", tokens_and_pair,
        hints=("Walk through the tokens with an index i that you move by hand, by 1 or by 2.",
               "tokens[i:i + 2] == pair compares two places at once, and is simply False at the end.",
               "After a merge go on behind both tokens: i += 2."),
        mistakes={"a token that was merged is used up: go on behind it (i += 2)": lambda tokens, pair: _overlapping(tokens, pair),
                  "every occurrence is merged, not only the first": lambda tokens, pair: _first_only(tokens, pair),
                  "the pairs are merged from left to right, not from the end": lambda tokens, pair: _from_the_end(tokens, pair),
                  "the last token is lost: when the loop stops one place early, it must be added":
                  lambda tokens, pair: _without_the_last(tokens, pair),
                  "tokens are compared one by one: a, ba has the letters of ab, a, but is another pair":
                  lambda tokens, pair: _by_letters(tokens, pair),
                  "nothing was merged: a list never equals a tuple, so tokens[i:i + 2] == pair needs both as tuples":
                  lambda tokens, pair: tuple(tokens),
                  "a merged token is one string, pair[0] + pair[1], not the pair":
                  lambda tokens, pair: _merge(tokens, pair, made=lambda pair: pair),
                  "the result is a tuple of tokens, not one string": lambda tokens, pair: "".join(tokens),
                  "the result is a tuple, not a list": lambda tokens, pair: list(_merge(tokens, pair))},
    ),
    Exercise(
        3, "encode", "a new word in tokens", word_and_merges,
        hints=("tuple(word) are the letters.", "A loop over the merges, with your merge_pair inside."),
        mistakes={"the merges are made in the order in which they were learned, not backwards":
                  lambda word, merges: _encode(word, merges[::-1]),
                  "make the merges one after the other, each in the whole word; do not take whatever known pair stands first":
                  lambda word, merges: _leftmost(word, merges),
                  "each merge is made wherever its pair stands, not only at the first place":
                  lambda word, merges: _encode(word, merges, limit=1),
                  "the first merge was not made: a part of a string never equals a pair, so begin with tuple(word)":
                  lambda word, merges: _encode(word, merges[1:]),
                  "the last merge was not made": lambda word, merges: _encode(word, merges[:-1]),
                  "go on with the next merge when one finds nothing": lambda word, merges: _until_idle(word, merges),
                  "keep the tokens in a tuple: in a string with spaces the pair a b is found inside of ca b, too":
                  lambda word, merges: _replaced(word, merges),
                  "the result is a tuple, not a list": lambda word, merges: list(_encode(word, merges)),
                  "it is not the longest known token from the left: make the merges, one after the other":
                  lambda word, merges: _greedy(word, merges),
                  "nothing was merged: keep what merge_pair returns, and begin with tuple(word); a list never equals a tuple":
                  lambda word, merges: tuple(word),
                  "begin with the letters: tuple(word) has an entry for each, (word,) and [word] have one": lambda word, merges: (word,),
                  "only the first merge is made: does the return stand inside of the loop?":
                  lambda word, merges: _encode(word, merges[:1]),
                  "the order is that of the list; do not sort the merges": lambda word, merges: _encode(word, sorted(merges)),
                  "what earlier merges made is not merged further: keep the list's order, and the tokens apart, in a tuple":
                  lambda word, merges: _encode(word, sorted(merges, key=lambda pair: -len("".join(pair))))},
    ),
    Exercise(
        4, "embedding_backward", "the scatter-add", lookup, forward="embedding_forward", differentiable=("table",),
        hints=("Begin with zeros in the shape of the table, (V, D).",
               "What happens with d_table[ids] += d_out when an id stands there twice?",
               "np.add.at(d_table, ids, d_out)"),
        facts=FACTS | {"ids": "it comes from the cache, (ids, V), unchanged"},
        mistakes={"of an id that repeats only the last gradient is kept, as `d_table[ids] += d_out` does; np.add.at adds them all":
                  lambda d_out, cache: _overwritten(d_out, cache),
                  "an id may repeat within a text, too, and `d_table[ids[b]] += d_out[b]` keeps the last gradient only; np.add.at adds them all":
                  lambda d_out, cache: sum(_overwritten(d, (ids, cache[1])) for d, ids in zip(d_out, cache[0])),
                  "an id may repeat at one time of several texts, and `d_table[ids[:, t]] += d_out[:, t]` keeps the last gradient only":
                  lambda d_out, cache: sum(_overwritten(d_out[:, t], (cache[0][:, t], cache[1])) for t in range(d_out.shape[1])),
                  "a row gets the sum of its gradients, not their mean": lambda d_out, cache: _mean(d_out, cache),
                  "what is added is the gradient d_out, not 1 for each time that a row was read":
                  lambda d_out, cache: _scattered(np.ones_like(d_out), cache),
                  "all texts read the same table: the sum runs over b too, not only over t":
                  lambda d_out, cache: np.stack([_scattered(d, (ids, cache[1])) for d, ids in zip(d_out, cache[0])]),
                  "only the first text was used: the sum runs over b too":
                  lambda d_out, cache: _scattered(d_out[0], (cache[0][0], cache[1])),
                  "the table has V rows, also for tokens that this batch does not read":
                  lambda d_out, cache: _scattered(d_out, (cache[0], cache[0].max() + 1))},
    ),
    Exercise(
        5, "bigram_forward", "guess the next token", sure_bigram,
        hints=("The lookup, a product, and the cross-entropy of chapter 2.",
               "shifted = logits - logits.max(axis=-1, keepdims=True); log_p is shifted minus np.log of the sum of np.exp(shifted).",
               "log_p[np.arange(len(ids)), following] picks from each row the entry of the right token."),
        facts=FACTS,
        mistakes={"the loss is the mean over the tokens, not the sum": lambda **inputs: _bigram(**inputs, total=np.sum),
                  "the loss is one number: the mean over the tokens is missing":
                  lambda **inputs: _bigram(**inputs, total=lambda log_p: log_p),
                  "the loss is the mean of -log p, not of -p": lambda **inputs:
                  _bigram(**inputs, picked=lambda log_p, following: np.exp(log_p[np.arange(len(following)), following])),
                  "the cache is not returned: return loss, (ids, hidden, head, p, following)":
                  lambda **inputs: _bigram(**inputs)[0],
                  "the cache is one tuple beside the loss: return loss, (ids, hidden, head, p, following)":
                  lambda **inputs: (_bigram(**inputs)[0], *_bigram(**inputs)[1]),
                  "the first entry of the cache is the ids alone, not with V": lambda **inputs:
                  _bigram(**inputs, read=(inputs["ids"], len(inputs["table"]))),
                  "the sign is missing: log p is negative, the loss is not": lambda **inputs: _bigram(**inputs, total=lambda x: -x.mean()),
                  "log_p[:, following] takes all of following from every row; one of each row is log_p[np.arange(N), following]":
                  lambda **inputs: _bigram(**inputs, picked=lambda log_p, following: log_p[:, following]),
                  "only the token that followed counts for the loss, not all V": lambda **inputs:
                  _bigram(**inputs, picked=lambda log_p, following: log_p),
                  "the cache must hold p, not log p": lambda **inputs: _bigram(**inputs, kept=lambda log_p: log_p),
                  "the model reads ids; following is what it should guess": lambda ids, table, head, following:
                  _bigram(following, table, head, following, read=ids),
                  "the largest is that of each row (axis=-1, keepdims=True), not of each column": lambda **inputs:
                  _bigram(**inputs, axis=0),
                  "the largest is that of each row (axis=-1, keepdims=True), not of all": lambda **inputs: _bigram(**inputs, axis=None),
                  "the sum of the exponentials is that of each row (axis=-1, keepdims=True), not of all":
                  lambda **inputs: _bigram(**inputs, logarithm=lambda shifted: shifted - np.log(np.exp(shifted).sum())),
                  "the sum of the exponentials is that of each row (axis=-1, keepdims=True), not of each column":
                  lambda **inputs: _bigram(**inputs, logarithm=lambda shifted: shifted - np.log(np.exp(shifted).sum(axis=0))),
                  "the largest of each row is not subtracted, and exp overflows": lambda **inputs: _bigram(**inputs, axis=()),
                  "the last entry of the cache is following, not ids": lambda ids, table, head, following:
                  _bigram(ids, table, head, following, cached=ids),
                  "the right answer is the token that follows, not the one that is read":
                  lambda ids, table, head, following: _bigram(ids, table, head, ids, cached=following),
                  "take the logarithm without computing p first: where p is rounded to 0, log p is -inf":
                  lambda **inputs: _bigram(**inputs, logarithm=lambda shifted: np.log(_softmax(shifted)))},
    ),
    Exercise(
        6, "bigram_backward", "from the loss to the table", bigram, forward="bigram_forward", differentiable=("table", "head"),
        hints=("Cross-entropy and softmax together: p - y, divided by N, times d_loss.",
               "d_head and d_hidden come from the product logits = hidden head, as in chapter 1.",
               "d_hidden goes to the rows that were read: your embedding_backward with (ids, V), or np.add.at."),
        facts=FACTS | dict.fromkeys(("ids", "hidden", "head", "p", "following"),
                                    "it comes from the cache, (ids, hidden, head, p, following) in this order, unchanged"),
        mistakes={"of an id that repeats only the last gradient is kept, as `d_table[ids] += d_hidden` does; np.add.at adds them all":
                  lambda d_loss, cache: _bigram_back(d_loss, cache, scatter=_overwritten),
                  "d_hidden goes to the rows that were read, ids, not to those of the tokens that followed":
                  lambda d_loss, cache: _bigram_back(d_loss, cache, ids=cache[4]),
                  "d_hidden has a row for each token read; d_table has one for each of the V tokens: the scatter-add is missing":
                  lambda d_loss, cache: _bigram_back(d_loss, cache, scatter=lambda d_hidden, lookup: d_hidden),
                  "d_loss is not used": lambda d_loss, cache: _bigram_back(1.0, cache),
                  "the loss is a mean over N tokens: the division by N is missing":
                  lambda d_loss, cache: _bigram_back(d_loss * len(cache[0]), cache),
                  "the division is by N, the number of tokens read, not by V":
                  lambda d_loss, cache: _bigram_back(d_loss * len(cache[0]) / cache[3].shape[1], cache),
                  "a row gets the sum of its gradients, not their mean": lambda d_loss, cache:
                  _bigram_back(d_loss, cache, scatter=_mean),
                  "the division is by N, the number of tokens read, not by N times V":
                  lambda d_loss, cache: _bigram_back(d_loss / cache[3].shape[1], cache),
                  "it is p - y, not y - p": lambda d_loss, cache: _bigram_back(-d_loss, cache),
                  "y[:, following] = 1 sets all of following in every row; one in each row is y[np.arange(N), following] = 1":
                  lambda d_loss, cache: _bigram_back(d_loss, cache, place=slice(None)),
                  "y is 1 at the token that followed, not at the one that was read":
                  lambda d_loss, cache: _bigram_back(d_loss, cache, following=cache[0]),
                  "d_table comes first, then d_head": lambda d_loss, cache: _bigram_back(d_loss, cache)[::-1]},
    ),
]


def _commonest(words, weighted=True, summed=True, pairs=lambda tokens: zip(tokens, tokens[1:]), across=False,
               key=lambda counts: lambda pair: (-counts[pair], pair)):
    counts, before = Counter(), ()
    for tokens, n in words.items():
        for pair in pairs((*before, *tokens)):
            counts[pair] = counts[pair] * summed + (n if weighted else 1)
        before = tokens[-1:] if across else ()
    best = min(counts, key=key(counts))
    return best, counts[best]


def _merge(tokens, pair, limit=None, made="".join):
    merged, i, done = [], 0, 0
    while i < len(tokens):
        hit = tokens[i:i + 2] == pair and done != limit
        merged.append(made(pair) if hit else tokens[i])
        i, done = i + 1 + hit, done + hit
    return tuple(merged)


def _first_only(tokens, pair):
    return _merge(tokens, pair, limit=1)


def _overlapping(tokens, pair):
    return tuple(pair[0] + pair[1] if tokens[i:i + 2] == pair else token for i, token in enumerate(tokens))


def _by_letters(tokens, pair):
    merged, i = [], 0
    while i < len(tokens):
        hit = len(tokens[i:i + 2]) == 2 and "".join(tokens[i:i + 2]) == "".join(pair)
        merged.append("".join(pair) if hit else tokens[i])
        i += 1 + hit
    return tuple(merged)


def _from_the_end(tokens, pair):
    merged, i = [], len(tokens)
    while i > 0:
        hit = tokens[max(i - 2, 0):i] == pair
        merged.append(pair[0] + pair[1] if hit else tokens[i - 1])
        i -= 1 + hit
    return tuple(merged[::-1])


def _without_the_last(tokens, pair):
    merged = _merge(tokens, pair)
    return merged[:-1] if merged[-1] == tokens[-1] else merged


def _encode(word, merges, limit=None):
    tokens = tuple(word)
    for pair in merges:
        tokens = _merge(tokens, pair, limit)
    return tokens


def _until_idle(word, merges):
    tokens = tuple(word)
    for pair in merges:
        before, tokens = tokens, _merge(tokens, pair)
        if tokens == before:
            break
    return tokens


def _leftmost(word, merges):
    tokens = tuple(word)
    while places := [i for i in range(len(tokens) - 1) if tokens[i:i + 2] in merges]:
        tokens = (*tokens[:places[0]], "".join(tokens[places[0]:places[0] + 2]), *tokens[places[0] + 2:])
    return tokens


def _replaced(word, merges):
    text = " ".join(word)
    for a, b in merges:
        text = text.replace(f"{a} {b}", a + b)
    return tuple(text.split())


def _greedy(word, merges):
    known, tokens, i = {a + b for a, b in merges}, [], 0
    while i < len(word):
        end = next((end for end in range(len(word), i + 1, -1) if word[i:end] in known), i + 1)
        tokens.append(word[i:end])
        i = end
    return tuple(tokens)


def _bigram(ids, table, head, following, total=np.mean, cached=None, logarithm=None, axis=-1, read=None,
            picked=lambda log_p, following: log_p[np.arange(len(following)), following], kept=np.exp):
    hidden = table[ids]
    logits = hidden @ head
    shifted = logits - (logits.max(axis=axis, keepdims=True) if axis != () else 0)
    log_p = logarithm(shifted) if logarithm else shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    loss = -total(picked(log_p, following))
    return loss, (ids if read is None else read, hidden, head, kept(log_p), following if cached is None else cached)


def _softmax(shifted):
    return np.exp(shifted) / np.exp(shifted).sum(axis=-1, keepdims=True)


def _bigram_back(d_loss, cache, scatter=None, ids=None, following=None, place=None):
    read, hidden, head, p, followed = cache
    N, V = p.shape
    y = np.zeros((N, V))
    y[np.arange(N) if place is None else place, followed if following is None else following] = 1
    d_logits = d_loss * (p - y) / N
    return (scatter or _scattered)(d_logits @ head.T, (read if ids is None else ids, V)), hidden.T @ d_logits


def _scattered(d_out, cache):
    ids, V = cache
    d_table = np.zeros((V, d_out.shape[-1]))
    np.add.at(d_table, ids, d_out)
    return d_table


def _overwritten(d_out, cache):
    ids, V = cache
    d_table = np.zeros((V, d_out.shape[-1]))
    d_table[ids] += d_out
    return d_table


def _mean(d_out, cache):
    return _scattered(d_out, cache) / np.maximum(np.bincount(cache[0].reshape(-1), minlength=cache[1]), 1)[:, None]
