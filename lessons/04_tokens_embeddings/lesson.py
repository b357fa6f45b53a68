# %% [markdown]
# # 4. Tokens and embeddings
#
# **You will learn** how a text becomes a row of numbers (words, and byte-pair encoding, which you train by hand), how a
# number becomes a vector, and how the gradient finds its way back to the right rows of the table: the scatter-add.
#
# **You need** chapter 1 (the gradient of a matrix product), chapter 2 (cross-entropy), and Adam from chapter 3.
#
# **It takes** about half a minute to run, and less than 300 MB. The text is *Alice's Adventures in Wonderland*.
#
# ## The picture
#
#     text        "the cat sat"
#     pieces      "the"   " cat"   " sat"          cut into tokens
#     ids           5       17       42            each token has a number: its row in a table
#     vectors     (0.3,   (1.1,    (-0.2,          row 5, row 17, row 42 of the table
#                  ...)    ...)     ...)
#
# A model computes with vectors. The table is learned like any other weight. First the tokens, then the table.
#
# ## Words
#
# The simplest token is a word. We take the words of the first nine tenths of the book as our **vocabulary**, the list of all
# tokens that a model knows, and read the last tenth with it.

# %%
import os
import re
from collections import Counter

import numpy as np

from tinymm import gradient_check
from tinymm.data import BytePairTokenizer, load_corpus
from tinymm.data.bpe import split_pieces
from tinymm.functional import (
    cross_entropy_forward, embedding_backward as library_backward, embedding_forward as library_forward,
)
from tinymm.learning.figures import new_figure, show

FAST = os.environ.get("TINYMM_FAST") == "1"
rng = np.random.default_rng(4)

corpus = load_corpus("alice")                                       # each part is a tuple of texts, here of one
train_text, held_out_text = (" ".join(part[0].split()) for part in (corpus.train, corpus.validation))  # no line ends
train_words, held_out_words = (re.findall(r"\w+", text.lower()) for text in (train_text, held_out_text))
vocabulary = set(train_words)
unknown = [word for word in held_out_words if word not in vocabulary]
print(f"{len(train_words):,} words, {len(vocabulary):,} different ones; "
      f"{len(train_text) / len(train_words):.1f} letters, spaces and marks for each word")
missing = len(unknown) / len(held_out_words)
print(f"of the {len(held_out_words):,} words of the last tenth, {missing:.1%} never occurred before:", unknown[:8])
assert 0.03 < missing < 0.12 and 4.5 < len(train_text) / len(train_words) < 5.5

# %% [markdown]
# What shall the model read for an unknown word? A single token `<unk>` for all of them loses what they say. Letters are
# never unknown, but a text in letters is about five times as long, and a model would have to learn spelling first. Is
# there something in between: frequent words whole, rare words in parts?
#
# ## Byte-pair encoding, by eye
#
# Begin with letters. Again and again, **count the pairs of neighbours, and merge the commonest pair into one new
# token** (Sennrich, Haddow and Birch 2016). Their example is a text with "low" 5 times, "lower" twice, "newest" 6 times
# and "widest" 3 times. A word counts as often as it occurs, and no pair reaches over the end of a word.
#
# The first round by hand:
#
# | pair | stands in | count |
# |---|---|---|
# | (e, s) and (s, t) | newest, widest | 6 + 3 = 9 |
# | (w, e) | lower, newest | 2 + 6 = 8 |
# | (l, o) and (o, w) | low, lower | 5 + 2 = 7 |
# | (n, e) and (e, w) | newest | 6 |
# | (w, i), (i, d) and (d, e) | widest | 3 |
# | (e, r) | lower | 2 |
#
# Two pairs have 9; of equal ones we take the first in the alphabet, (e, s), and `es` becomes a token. (Compare the first
# tokens; if they are the same, the second ones. So Python compares tuples, with a space and capitals before the small
# letters.) Now count again. (s, t) is gone, since its s is used up. (es, t) has 9. (w, e) has fallen to 2, those in
# "lower"; (w, es) with 6 and (d, es) with 3 are new. So (es, t) is next. Do the third round yourself before you look at
# what the code prints.

# %%
def pair_counts(words):
    """words: {tokens of a word: how often the word occurs}. How often each pair of neighbours occurs."""
    counts = Counter()
    for tokens, n in words.items():
        for pair in zip(tokens, tokens[1:]):
            counts[pair] += n
    return counts


def commonest_pair(words):
    """The pair that occurs most often, of equal counts the first in the alphabet; and how often."""
    counts = pair_counts(words)
    best = min(counts, key=lambda pair: (-counts[pair], pair))       # the largest count first; then the alphabet
    return best, counts[best]


def merge_pair(tokens, pair):
    """The tokens with each occurrence of the pair made into one token, from left to right."""
    merged, i = [], 0
    while i < len(tokens):
        if tokens[i:i + 2] == pair:
            merged.append(pair[0] + pair[1])
            i += 2
        else:
            merged.append(tokens[i])
            i += 1
    return tuple(merged)


def learn_merges(words, count, verbose=False):
    merges = []
    for _ in range(count):
        pair, n = commonest_pair(words)
        words = {merge_pair(tokens, pair): n for tokens, n in words.items()}
        # STOP: look at words: each merge makes some of them shorter
        merges.append(pair)
        if verbose:
            print(f"{' + '.join(pair):12} {n} times    " + "   ".join(" ".join(tokens) for tokens in words))
    return merges


tiny = {tuple(word): n for word, n in (("low", 5), ("lower", 2), ("newest", 6), ("widest", 3))}
print("first round: ", ", ".join(f"{a}+{b} {n}" for (a, b), n in pair_counts(tiny).most_common()))
second = pair_counts({merge_pair(tokens, ("e", "s")): n for tokens, n in tiny.items()})
print("second round:", ", ".join(f"{a}+{b} {n}" for (a, b), n in second.most_common()))
assert [pair_counts(tiny)[pair] for pair in (("e", "s"), ("s", "t"), ("w", "e"), ("l", "o"))] == [9, 9, 8, 7]
assert [second[pair] for pair in (("s", "t"), ("es", "t"), ("w", "e"), ("w", "es"), ("d", "es"))] == [0, 9, 2, 6, 3]
tiny_merges = learn_merges(tiny, 7, verbose=True)                    # one line each: the merge, and then the words
assert tiny_merges[:4] == [("e", "s"), ("es", "t"), ("l", "o"), ("lo", "w")]

# %% [markdown]
# In the third round (l, o) and (o, w) have 7 each, and (l, o) is first in the alphabet. After seven merges "low" and
# "newest" are one token each, "lower" is `low e r`, "widest" is `w i d est`. The ending `est` and the stem `low` were found
# by counting alone.
#
# **A new word** is encoded by the same merges, in the order in which they were learned. "lowest" was never seen:

# %%
def encode(word, merges):
    tokens = tuple(word)
    for pair in merges:
        tokens = merge_pair(tokens, pair)
    return tokens


# STOP: step into encode (s), and watch tokens: the first four of the seven merges change it, the others do not
print("lowest ->", encode("lowest", tiny_merges))
assert encode("lowest", tiny_merges) == encode("lowest", tiny_merges[:4]) == ("low", "est")
assert [encode(word, tiny_merges) for word in ("low", "lower", "newest", "widest")] == [
    ("low",), ("low", "e", "r"), ("newest",), ("w", "i", "d", "est")]

# %% [markdown]
# It has become `low est`, two tokens that mean what they say. And a word of quite other letters would just stay in
# letters: nothing is ever unknown. (To be sure of that for each alphabet on earth, GPT-2 and
# `tinymm.data.BytePairTokenizer` begin with bytes instead of letters: a computer stores each text as numbers from 0 to
# 255, so 256 tokens are enough to begin with.)
#
# **Break it:** make the same merges in the opposite order.

# %%
print("lowest, backwards ->", encode("lowest", tiny_merges[::-1]))
assert encode("lowest", tiny_merges[::-1]) == ("lo", "w", "es", "t")

# %% [markdown]
# `low` was to be made of `lo` and `w`, but when its turn came there was no `lo` yet.
#
# ## On the book
#
# `split_pieces` cuts a text into pieces: words, and marks such as a comma, each with the space before it. Joined, the
# pieces are the text again, so nothing is lost. (Sennrich and his colleagues put a sign at the end of each word instead.)

# %%
pieces, held_out_pieces = Counter(split_pieces(train_text)), Counter(split_pieces(held_out_text))
words = {tuple(piece): n for piece, n in pieces.items()}
merges = learn_merges(words, 100 if FAST else 500)
print("the first merges:", ", ".join(repr(a + b) for a, b in merges[:16]))
print("the last ones:   ", ", ".join(repr(a + b) for a, b in merges[-8:]))
assert " caterpillars" not in pieces and " caterpillars" not in held_out_pieces
print("a word that the book does not have:", " + ".join(map(repr, encode(" caterpillars", merges))))

first = 6 + 256             # the library's first tokens: six that later chapters need, such as <end>, and the bytes
theirs = BytePairTokenizer.build([train_text], size=first + len(merges)).tokens[first:]
same = {(a + b).encode() for a, b in merges} & set(theirs)
print(f"tinymm's tokenizer learned {len(same)} of the same {len(merges)} tokens")
assert len(same) > 0.95 * len(merges)

# %% [markdown]
# (Those that differ, if any, come from pairs that are equally frequent: the library takes the one with the smaller token
# numbers, not the first in the alphabet.)
#
# How many merges should there be? Each one adds a token to the vocabulary, and makes the text shorter. The first merges
# save much, the later ones less and less.

# %%
def lengths(pieces, merges):
    """The number of tokens of a text, before any merge and after each one."""
    words = {piece: tuple(piece) for piece in pieces}
    totals = [sum(n * len(words[piece]) for piece, n in pieces.items())]
    for pair in merges:
        words = {piece: merge_pair(tokens, pair) for piece, tokens in words.items()}
        totals.append(sum(n * len(words[piece]) for piece, n in pieces.items()))
    return np.array(totals), words


train_lengths, train_tokens = lengths(pieces, merges)                # (merges + 1,)
held_out_lengths, held_out_tokens = lengths(held_out_pieces, merges)  # (merges + 1,)
assert train_tokens[" Alice"] == encode(" Alice", merges)            # lengths makes the merges in order, as encode does
figure, axes = new_figure(6, 3.2)
axes.plot(len(train_text) / train_lengths, label="the text it was learned on")
axes.plot(len(held_out_text) / held_out_lengths, label="the last tenth of the book")
axes.axhline(len(train_text) / sum(pieces.values()), color="gray", linestyle="--", label="whole words and marks")
axes.set_xlabel("merges")
axes.set_ylabel("letters in a token, mean")
axes.set_ylim(0, None)
axes.legend(frameon=False, loc="lower right")
show(figure, "04_merges")
print(f"{train_lengths[0]:,} letters -> {train_lengths[-1]:,} tokens after {len(merges)} merges")
assert (np.diff(train_lengths) < 0).all() and train_lengths[-1] < 0.6 * train_lengths[0]
assert train_lengths[0] - train_lengths[1] > 5 * (train_lengths[-2] - train_lengths[-1])
assert len(held_out_text) / held_out_lengths[-1] > 0.9 * len(train_text) / train_lengths[-1]

# %% [markdown]
# The text that no merge was learned on gets nearly as short. More tokens make shorter sequences, but a larger table of
# vectors, and tokens that are seldom seen and so badly learned. GPT-2 made 50,000 merges on pages of the web; with the 256
# bytes, and one token for the end of a text, it has 50,257 tokens.
#
# Now each token gets a number, its place in a list. There are $V$ of them.

# %%
tokens = sorted(set(train_text) | set(held_out_text) | {a + b for a, b in merges})     # all letters of the book, all merges
number = {token: i for i, token in enumerate(tokens)}
V = len(tokens)
train_ids = np.array([number[token] for piece in split_pieces(train_text) for token in train_tokens[piece]])   # (N,)
held_out_ids = np.array([number[token] for piece in split_pieces(held_out_text) for token in held_out_tokens[piece]])
print(f"V = {V}; a piece of the book:", [tokens[i] for i in train_ids[2000:2010]], "which is", train_ids[2000:2010])
# STOP: look at train_ids; tokens[train_ids[0]] is the first token of the book
assert "".join(tokens[i] for i in train_ids) == train_text

# %% [markdown]
# ## From a number to a vector
#
# Token 7 is not "more" than token 3: the numbers are only names. A fair way to write a name as a vector is **one-hot**:
# $V$ entries, all 0, but for a 1 at the token's place. A linear layer without a bias makes a shorter vector of it, with
# $D$ entries. For $N$ tokens, one in each row:
#
# $$ \mathrm{out} = O\, W \qquad O\ (N \times V) \text{ one-hot rows}, \quad W\ (V \times D),
# \quad \mathrm{out}\ (N \times D) $$
#
# By pencil and paper: the row $(0, 0, 1, 0)$ times $W$ is $0$ times the first row, $0$ times the second, $1$ times the
# third, $0$ times the fourth. **A one-hot product picks a row.** So nobody multiplies: one looks the row up. That table
# $W$ is the **embedding**.

# %%
W = np.array([[1.0, 10.0],                                           # (V, D) = (4, 2)
              [2.0, 20.0],
              [3.0, 30.0],
              [4.0, 40.0]])
ids = np.array([2, 0, 2])                                            # (N,)
one_hot = np.zeros((3, 4))                                           # (N, V)  the O of the formula
one_hot[np.arange(3), ids] = 1
print("one_hot @ W =\n", one_hot @ W)
# STOP: compare one_hot @ W with W[ids]
assert (one_hot @ W == W[ids]).all()
megabytes = len(train_ids) * V * 8 / 1e6                             # 8 bytes an entry
print(f"one-hot rows of the book would take {megabytes:.0f} MB; the ids take {train_ids.nbytes / 1e6:.1f} MB")

# %% [markdown]
# ## The backward: the scatter-add
#
# The lookup *is* a product, so its gradient can be derived as in chapter 1. (The ids are whole numbers, which cannot move a
# little: they have no gradient.) One entry of the output, at place $n$ and column $d$:
#
# $$ \mathrm{out}_{nd} = \sum_i O_{ni}\, W_{id} $$
#
# $W_{id}$ acts on column $d$ of every place $n$, with the factor $O_{ni}$, and on no other column. What acts along
# several ways gets the sum over all ways:
#
# $$ \frac{\partial L}{\partial W_{id}} = \sum_n O_{ni}\, \frac{\partial L}{\partial\, \mathrm{out}_{nd}}
# \qquad\text{that is}\qquad dW = O^\top d\mathrm{out} $$
#
# That was the long way, with a product of which nearly every factor is 0: $O_{ni}$ is 1 only where $\mathrm{ids}_n = i$.
# Only these places are left of the sum, and the short formula for row $i$, all its columns at once, is
#
# $$ dW_i = \sum_{n \,:\, \mathrm{ids}_n = i} d\mathrm{out}_n $$
#
# Each gradient goes back to the row it was read from, and **a row that was read several times gets the sum**. That is
# called a **scatter-add**. With ids $(2, 0, 2)$ and $d\mathrm{out} = (1, 0), (0, 1), (5, 5)$, row 2 gets
# $(1, 0) + (5, 5) = (6, 5)$, row 0 gets $(0, 1)$, and rows 1 and 3, which nobody read, get 0.

# %%
d_out = np.array([[1.0, 0.0],                                        # (N, D)
                  [0.0, 1.0],
                  [5.0, 5.0]])
the_product = one_hot.T @ d_out                                      # (V, D)
right = np.zeros((4, 2))                                             # (V, D)
np.add.at(right, ids, d_out)
wrong = np.zeros((4, 2))                                             # (V, D)
wrong[ids] += d_out
# STOP: row 2 of right is (6, 5); what is it in wrong?
print("one_hot.T @ d_out", the_product.tolist())
print("np.add.at        ", right.tolist())
print("wrong[ids] += ...", wrong.tolist())
assert (right == the_product).all() and wrong[2].tolist() == [5, 5]

# %% [markdown]
# Why is the short line wrong? Python reads `wrong[ids] += d_out` as three steps:
#
#     copy = wrong[ids]           rows 2, 0 and 2: all zeros
#     copy = copy + d_out         (1, 0), (0, 1) and (5, 5)
#     wrong[ids] = copy           row 2 is written twice, and the second time overwrites the first
#
# `np.add.at` adds one row after the other, straight into the table. No error is raised in either case. And in a text
# ids always repeat: of this book's tokens more than one in fifty is the comma.
#
# As functions it is written for ids of any shape, such as $(B, T)$, a batch of $B$ texts with $T$ tokens each; the sum then
# runs over all places of all texts. The lines of a forward are numbered F1, F2 and so on, and the backward says which of
# them each of its lines undoes.

# %%
def embedding_forward(ids, table):
    return table[ids], (ids, len(table))                             # (..., D)  F1


def embedding_backward(d_out, cache):
    ids, V = cache
    d_table = np.zeros((V, d_out.shape[-1]), d_out.dtype)            # (V, D)  with as many digits as d_out
    np.add.at(d_table, ids, d_out)                                   # (V, D)  undoes F1
    return d_table


def wrong_backward(d_out, cache):
    ids, V = cache
    d_table = np.zeros((V, d_out.shape[-1]), d_out.dtype)            # (V, D)
    d_table[ids] += d_out
    return d_table


commas = (train_ids == number[","]).mean()
print(f"of the book's tokens {commas:.1%} are commas")
assert commas > 1 / 50

table, ids = rng.normal(size=(6, 3)), np.array([[4, 1, 4, 0], [1, 1, 5, 2]])
out, cache = embedding_forward(ids, table)                           # (B, T, D)
d_out = rng.normal(size=out.shape)                                   # (B, T, D)
the_short_formula = embedding_backward(d_out, cache)                 # (V, D)
one_hot = np.eye(6)[ids]                                             # (B, T, V)  row i of the unit matrix is i, one-hot
the_long_way = one_hot.reshape(-1, 6).T @ d_out.reshape(-1, 3)       # (V, D)  the leading axes made one: N = B T
print("the long way and the short formula differ by", np.abs(the_long_way - the_short_formula).max())
assert np.allclose(out, one_hot @ table) and np.allclose(the_long_way, the_short_formula)
expected = library_backward(d_out, library_forward(ids, table)[1])
assert np.allclose(the_short_formula, expected)
report = gradient_check(embedding_forward, embedding_backward, {"ids": ids, "table": table}, rng=rng)     # leaves ids alone
print(report)
assert report.ok

# %% [markdown]
# **Break it:** the checker sees the mistake of `wrong_backward` at once. But look what happens when no id repeats:

# %%
for label, some_ids in (("ids repeat", ids), ("all ids differ", np.array([[4, 1, 0], [3, 5, 2]]))):
    report = gradient_check(embedding_forward, wrong_backward, {"ids": some_ids, "table": table}, rng=rng)
    print(f"{label:15} the wrong backward passes: {report.ok}")
    assert report.ok == (label == "all ids differ")

# %% [markdown]
# A check is only as good as its inputs.
#
# ## A model that guesses the next token
#
# The smallest language model: look the token up, and let a linear layer give a score for each token that may come next.
# It sees only one token, so it can learn which **pairs** are frequent; it is called a bigram model.
#
# With $h$ the vectors of $N$ tokens (`hidden` in the code), $W$ the table $(V \times D)$, $U$ the weight of the linear layer
# $(D \times V)$ (`head`), $z$ the scores (`logits`), and $t_n$ the token that follows (`following`):
#
# $$ h = W[\mathrm{ids}] \qquad z = h\, U \qquad p = \mathrm{softmax}(z) \qquad L = \frac{1}{N} \sum_n -\log p_{n, t_n} $$
#
# These four are F1 to F4. Backward from the last to the first, and each piece is one that you have ($dL$ is the gradient
# that comes from above, 1 in training):
#
# - **F4 and F3**, cross-entropy and softmax (chapter 2): $dz = dL\, (p - y) / N$, where $y$ is $(N \times V)$, in each row
#   1 at the token that followed, and else 0.
# - **F2**, the product (chapter 1): $dU = h^\top dz$ and $dh = dz\, U^\top$.
# - **F1**, the lookup: the scatter-add of $dh$ gives $dW$.

# %%
def bigram_forward(ids, table, head, following):
    hidden, lookup = embedding_forward(ids, table)                           # (N, D)  F1
    logits = hidden @ head                                                   # (N, V)  F2
    shifted = logits - logits.max(axis=-1, keepdims=True)                    # (N, V)  so that no exponential overflows
    log_p = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))    # (N, V)  F3
    loss = -log_p[np.arange(len(ids)), following].mean()                     # ()      F4
    return loss, (lookup, hidden, head, np.exp(log_p), following)


def bigram_backward(d_loss, cache, scatter=embedding_backward):              # lookup is the cache of the embedding
    lookup, hidden, head, p, following = cache
    N = len(p)
    y = np.zeros(p.shape)                                                    # (N, V)
    y[np.arange(N), following] = 1
    d_logits = d_loss * (p - y) / N                                          # (N, V)  undoes F4 and F3
    d_head = hidden.T @ d_logits                                             # (D, V)  undoes F2
    d_hidden = d_logits @ head.T                                             # (N, D)  undoes F2
    d_table = scatter(d_hidden, lookup)                                      # (V, D)  undoes F1
    # STOP: rows of d_table that are all zeros belong to tokens that were not read
    return d_table, d_head


report = gradient_check(bigram_forward, bigram_backward, {
    "ids": np.array([1, 3, 1, 0]), "table": rng.normal(size=(5, 3)), "head": rng.normal(size=(3, 5)),
    "following": np.array([3, 1, 0, 4])}, rng=rng)
print(report)
assert report.ok
scores, labels = rng.normal(size=(4, 5)), np.array([3, 1, 0, 4])
loss, _ = bigram_forward(np.arange(4), scores, np.eye(5), labels)    # with the unit matrix as head the logits are the scores
assert np.isclose(loss, cross_entropy_forward(scores, labels)[0])

# %% [markdown]
# **Break it:** the same training twice, by plain steps down the slope, once with the correct scatter-add and once with
# the wrong one. In the second picture each point is a token of a batch of 1,024: how long its row of the wrong gradient
# is, compared with the correct one. (Both axes are logarithmic.)

# %%
def start(D, seed=0):                                                # small weights: nearly equal scores, loss about log V
    rng = np.random.default_rng(seed)
    return {"table": 0.1 * rng.normal(size=(V, D)), "head": 0.1 * rng.normal(size=(D, V))}


def batch(step, size):
    places = np.random.default_rng([4, step]).integers(len(train_ids) - 1, size=size)      # (N,)
    return train_ids[places], train_ids[places + 1]                  # (N,), (N,): a token, and the one behind it


curves = {}
for label, scatter in (("np.add.at", embedding_backward), ("d_table[ids] += d", wrong_backward)):
    model, curves[label] = start(32), []
    for step in range(30 if FAST else 250):
        ids, following = batch(step, 1024)
        loss, cache = bigram_forward(ids, model["table"], model["head"], following)
        d_table, d_head = bigram_backward(1.0, cache, scatter)
        model["table"] -= 5.0 * d_table                              # a mean over 1,024 has small gradients
        model["head"] -= 5.0 * d_head
        curves[label].append(loss)
    last = np.mean(curves[label][-10:])
    print(f"{label:18} first loss {curves[label][0]:.3f} (log V is {np.log(V):.3f}), last {last:.3f}")
    assert abs(curves[label][0] - np.log(V)) < 0.05

ids, following = batch(0, 1024)
_, cache = bigram_forward(ids, model["table"], model["head"], following)
times = np.bincount(ids, minlength=V)                                # (V,)  how often each token stands in the batch
sizes = [np.linalg.norm(bigram_backward(1.0, cache, scatter)[0], axis=1)
         for scatter in (embedding_backward, wrong_backward)]        # (V,) each
ratio = sizes[1][times > 0] / sizes[0][times > 0]                    # (tokens that occur,)
# STOP: compare ratio with times[times > 0]
figure, (left, right) = new_figure(9, 3.2, 1, 2)
for label, losses in curves.items():
    left.plot(losses, label=label)
left.set_xlabel("step")
left.set_ylabel("loss")
left.legend(frameon=False)
right.loglog(times[times > 0], ratio, ".", alpha=0.4)
right.axhline(1, color="gray", linestyle="--")
right.set_xlabel("how often the token stands in the batch")
right.set_ylabel("gradient length, wrong / correct")
show(figure, "04_scatter")
assert np.mean(curves["d_table[ids] += d"][-10:]) > np.mean(curves["np.add.at"][-10:]) + 0.02
assert np.allclose(ratio[times[times > 0] == 1], 1) and np.median(ratio[times[times > 0] >= 10]) < 0.5

# %% [markdown]
# The wrong training does not crash, and its loss falls. It only falls more slowly, since **the commonest tokens get the
# least of their gradient**. (A point above the line is a token whose gradients pull in opposite directions: their sum is
# shorter than the last of them alone.) Mistakes of this kind live for years. A gradient check finds them in a second.
#
# ## What the table has learned
#
# Now with Adam (chapter 3), and $D = 16$. A list of all pairs would need $V^2$ numbers; table and head have only $2 V D$. So
# the model cannot learn each pair by itself: tokens that are followed by the same tokens must share, and get similar rows,
# though nobody tells the model what a word means. How similar two rows are we measure by the cosine of the angle between
# them: $\cos(a, b) = a \cdot b \,/\, (|a|\, |b|)$, which is 1 for the same direction.

# %%
model, steps = start(16), 200 if FAST else 1000
print(f"all pairs: {V * V:,} numbers; table and head: {2 * V * 16:,}")
moments = {name: [np.zeros_like(value), np.zeros_like(value)] for name, value in model.items()}
losses = []
for step in range(steps):
    ids, following = batch(step, 512)
    loss, cache = bigram_forward(ids, model["table"], model["head"], following)
    losses.append(loss)
    for name, gradient in zip(("table", "head"), bigram_backward(1.0, cache)):
        m, v = moments[name]
        m += 0.1 * (gradient - m)                                    # in place; the same as 0.9 m + 0.1 gradient
        v += 0.01 * (gradient**2 - v)
        m_hat, v_hat = m / (1 - 0.9**(step + 1)), v / (1 - 0.99**(step + 1))
        model[name] -= 0.02 * (1 - step / steps) * m_hat / (np.sqrt(v_hat) + 1e-8)         # the rate falls along a line
frequency = np.bincount(train_ids, minlength=V)                      # (V,)
share = (frequency + 1) / (frequency + 1).sum()                      # (V,)  + 1, so that no share is 0: log 0 is -inf
blind = -np.log(share[held_out_ids]).mean()
held_out, _ = bigram_forward(held_out_ids[:-1], model["table"], model["head"], held_out_ids[1:])
print(f"loss {losses[0]:.2f} -> {np.mean(losses[-50:]):.2f}; last tenth of the book {held_out:.2f}; "
      f"knowing only how frequent each token is: {blind:.2f}")
assert held_out < blind - 0.5

units = model["table"] / np.linalg.norm(model["table"], axis=1, keepdims=True)             # (V, D)  each row of length 1
whole = np.array([token[0] == " " or not token.isalpha() for token in tokens])            # (V,)  begins a word, or is a mark
common = np.flatnonzero(whole & (frequency > 30))
near = {}
for token in (" Alice", " could", " my", " in", " was", "."):
    if token in number:
        cosines = units[common] @ units[number[token]]               # (common tokens,)
        # STOP: look at cosines: the largest is 1, that of the token with itself
        near[token] = [tokens[i] for i in common[np.argsort(-cosines)] if tokens[i] != token][:5]
        print(f"{token!r:9} is near", ", ".join(map(repr, near[token])))
if not FAST:
    assert {" would", " should"} <= set(near[" could"]) and len({" her", " his", " its", " their"} & set(near[" my"])) >= 2
    assert len({" Dormouse", " Duchess", " Gryphon", " Hatter", " Queen"} & set(near[" Alice"])) >= 3
    assert {" with", " into"} <= set(near[" in"]) and {" had", " not"} <= set(near[" was"])
    assert not any(letter.isalpha() for token in near["."] for letter in token)

# %% [markdown]
# " could" is near other verbs of its kind, " my" near other words for whose something is, " in" near other such small words.
# The neighbours of the full stop are other ends of sentences, and those of " Alice" are mostly persons of the book: the same
# words follow their names. " was" is less convincing: beside " had" stand words that often come after it, as in "was not".
# (With `TINYMM_FAST=1` the training is too short for all that.) It is not meaning, it is company; yet it is the beginning
# of it.
#
# The same as a picture: the two directions in which the rows of 36 frequent words differ most (the first two principal
# components; `np.linalg.svd` finds them, and here you may take its answer on trust). They hold about a third of all squared
# differences, so some that are neighbours here are not neighbours in the table. (With `TINYMM_FAST=1` there are too few
# merges for 36 whole words, and the picture has fewer.)
#
# The color was not used to place the words: it says how often a mark, such as a comma, comes next. Does the place know the
# color? We guess the color of each word from its place, as $a \cdot \text{across} + b \cdot \text{up} + c$ with the best
# numbers $a, b, c$ (least squares), and print how well guess and color go together: a correlation of 1 is perfect, 0 is
# nothing.

# %%
chosen = [i for i in np.argsort(-frequency) if tokens[i][0] == " " and tokens[i][1:].isalpha() and len(tokens[i]) > 3][:36]
rows = units[chosen] - units[chosen].mean(axis=0)                    # (36, D)
_, _, directions = np.linalg.svd(rows, full_matrices=False)          # (D, D), the most important first
places = rows @ directions[:2].T                                     # (36, 2)  across and up
held = (places**2).sum() / (rows**2).sum()
print(f"the two directions hold {held:.0%} of all squared differences from the mean row")
marks = np.array([not any(letter.isalpha() for letter in token) for token in tokens])      # (V,)
next_is_mark = marks[train_ids[1:]]                                  # (number of tokens - 1,)
share_of_marks = np.array([next_is_mark[train_ids[:-1] == i].mean() for i in chosen])      # (36,)
figure, axes = new_figure(9, 6)
points = axes.scatter(*places.T, s=18, c=share_of_marks, cmap="viridis")
figure.colorbar(points, label="how often a mark comes next")
across_all, up_all = np.ptp(places, axis=0)                          # the size of the picture
for i, (across, up) in zip(chosen, places):
    behind, above = places[:, 0] - across, np.abs(places[:, 1] - up)
    crowded = ((behind > 0) & (behind < 0.05 * across_all) & (above < 0.03 * up_all)).any()      # a point in the text's way
    axes.annotate(tokens[i].strip(), (across, up), (-4 if crowded else 4, 2), textcoords="offset points", fontsize=9,
                  ha="right" if crowded else "left")
axes.margins(0.07)
axes.set_xticks([])
axes.set_yticks([])
axes.set_xlabel("across")
axes.set_ylabel("up")
show(figure, "04_neighbours")
design = np.c_[places, np.ones(len(chosen))]                         # (36, 3)
guess = design @ np.linalg.lstsq(design, share_of_marks, rcond=None)[0]                    # (36,)  from the place alone
correlation = np.corrcoef(guess, share_of_marks)[0, 1]
print(f"correlation of the share of marks with its best guess from the place: {correlation:.2f}")
if not FAST:
    assert correlation > 0.4 and 0.25 < held < 0.45
    names = [tokens[i] for i in chosen]
    distances = np.linalg.norm(places - places[names.index(" the")], axis=1)               # (36,)
    assert names[np.argsort(distances)[1]] == " The"                 # [0] is " the" itself
    assert all(share_of_marks[names.index(word)] < 0.05 for word in (" the", " very", " she"))

# %% [markdown]
# Words that a mark often follows tend to one side of the picture, those that it hardly ever follows ("the", "very", "she")
# to the other. "the" and "The" are beside each other: for the tokenizer they are as different as any two tokens, and only
# their company has brought them together.
#
# ## Questions
#
# :::{dropdown} The vocabulary has 50,000 tokens, and a batch holds 1,000. How many rows of the table's gradient are not 0?
# At most 1,000, and fewer when tokens repeat. That is why large systems store this gradient as a list of (row, gradient)
# instead of a table full of zeros.
# :::
#
# :::{dropdown} Merge ("a", "a") in "aaa". What comes out?
# `aa a`: from left to right, and a letter that was used is used up.
# :::
#
# :::{dropdown} Why must the merges be made in the order in which they were learned?
# Later merges use the tokens of earlier ones; and where two merges want the same letter, the text was cut by the
# earlier one when the later pair was counted. Another order would give other tokens than those that the model was
# trained on.
# :::
#
# :::{dropdown} With Adam write `bigram_backward(1.0, cache, wrong_backward)`. The loss gets nearly as low. Why?
# Adam divides each entry by its usual size, so a row that always gets too short a gradient still takes steps of full
# length. Its direction is that of a single occurrence instead of the sum. The optimizer hides the mistake; the gradient
# check does not.
# :::
#
# :::{dropdown} Count the letters in "strawberry": why is that hard for a language model?
# It never sees the letters, only the ids of a few tokens.
# :::
#
# ## What you can now do
#
# You can train a byte-pair encoding and encode any word with it, say why an embedding is a linear layer, and bring its
# gradient home. Now do the exercises in `lessons/04_tokens_embeddings/exercises.py`, and run `tinymm check 4`. The
# library's tokenizer is `tinymm/data/bpe.py`; its embedding, whose scatter-add sorts the ids because that is somewhat faster
# than `np.add.at`, is `tinymm/functional/embedding.py`.
#
# ## To read
#
# - Sennrich, Haddow and Birch 2016, *Neural Machine Translation of Rare Words with Subword Units*: byte-pair
#   encoding for text.
# - Bengio et al. 2003, *A Neural Probabilistic Language Model*: where learned tables of word vectors began. Mikolov et
#   al. 2013, *Distributed Representations of Words and Phrases and their Compositionality*.
