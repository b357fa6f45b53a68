# %% [markdown]
# # 10. BERT
#
# **You will learn** how a model learns from text without labels by filling gaps: hiding words by the 80/10/10 rule, a loss
# over the hidden words only and its gradient, a table of words that is used at both ends of the model, attention to both
# sides that leaves padding out, and one vector for a whole text. At the end you see what such pre-training is worth when
# labels are few, and when it is worth nothing.
#
# **You need** the gradient check (chapter 1), cross-entropy (chapter 2), AdamW and warm-up (chapter 3), the scatter-add
# (chapter 4), the yes-or-no loss and the bag of words (chapter 5), masks (chapter 6), rotary positions (chapter 7), the gelu
# and the block (chapter 8). Chapter 9 is not needed; GPT is only compared with.
#
# **It takes** up to a minute to run, and less than 200 MB. The texts are 10,002 sentences of real reviews, of films
# and of products.
#
# ## The picture
#
#     what was written     the   battery   lasts    for   a   whole   day   .
#     what is read         the   <mask>    lasts    for   a   whole   tree  .          some words hidden, one exchanged
#                           |      |         |       |    |     |      |    |
#                          blocks in which every word sees every word, left and right
#                                  |                                   |
#     what must be said         battery                               day              only there is a loss
#
# A language model that predicts the next word may look back only: if it looked ahead, it would see the answer. BERT (Devlin
# et al. 2019) removes the answer from what is read. Then it may look **both ways**: "the ... lasts for a whole day" says
# more about the gap than "the" alone. Nobody has to label anything, as every sentence holds its own answers.
#
# Learning this is called **pre-training**. Afterwards the model is trained on with a few labelled texts, for a question
# that somebody really asks: **fine-tuning**.

# %%
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")                   # for matrices as small as here one thread is the fastest
import numpy as np

from tinymm import gradient_check, gradient_check_module
from tinymm.data import Tokenizer, load_sentiment, load_topics
from tinymm.data.bucketing import BucketedOrder, pad_sentences
from tinymm.data.topics import load_product_sentences
from tinymm.functional import (
    binary_cross_entropy_backward, binary_cross_entropy_forward, cross_entropy_backward, cross_entropy_forward,
    gelu_backward, gelu_forward,
)
from tinymm.layers import Embedding, LayerNorm, Linear, Module, Parameter, TransformerBlock
from tinymm.learning.figures import new_figure, show
from tinymm.memory import keep_freed_memory
from tinymm.training.bag_of_words import BagOfWords
from tinymm.training.optimizers import AdamW

FAST = os.environ.get("TINYMM_FAST") == "1"
keep_freed_memory()                                                  # each step makes the same large arrays again
rng = np.random.default_rng(10)

films, products = load_sentiment(), load_product_sentences()
reading = [*films.train.texts, *films.unlabelled.texts, *products["train"]]            # no test sentence, and no label
tokenizer = Tokenizer.build(reading, extra=("<cls>", "<mask>"), limit=1500)            # the 1,500 commonest words
PAD, CLS, MASK = tokenizer.pad_id, tokenizer.id("<cls>"), tokenizer.id("<mask>")
V, SPECIAL, LONGEST = len(tokenizer), len(tokenizer.special_tokens), 24


def encode(texts):
    """<cls> and the words of each text as ids, cut off at LONGEST."""
    return [[CLS, *tokenizer.encode(text)][:LONGEST] for text in texts]


sentences = encode(reading)
print(f"{len(reading):,} sentences; {V:,} tokens, of which {SPECIAL} are special: {' '.join(tokenizer.special_tokens)}")
print(tokenizer.decode(sentences[2]))
assert len(reading) == 10002

# %% [markdown]
# In front of every text stands `<cls>`; what it is for comes below. `<unk>` stands for all rarer words, and `<pad>` fills
# short texts of a batch up. (Some of the others are for other chapters.) The special tokens have the smallest ids, so an id
# of `SPECIAL` or more is a word.
#
# ## Hiding words, by hand
#
# A share of the words is **chosen**, each by chance, and the model must say what stood at the chosen places. In the paper
# the share is 15 %. But what does the model read there?
#
# | of the chosen words | it reads | so that |
# |---|---|---|
# | 80 % | `<mask>` | there is a gap to fill |
# | 10 % | a word by chance | it may not trust a word only because it is there |
# | 10 % | the word itself | it has something to say at words that are not hidden: fine-tuning has no `<mask>` |
#
# Only **words** are chosen: no `<cls>`, no `<unk>`, no padding. By hand, with a share of one half and two random numbers
# for each place, between 0 and 1. The first, `draw`, decides whether the place is chosen (below $0.5$), the second, `fate`,
# what is read (below $0.8$ the mask, from $0.8$ to below $0.9$ a word by chance, from $0.9$ the word itself). `other` holds
# a word by chance for each place; here it is "camera" everywhere:
#
#     the text   <cls>   a     film   of    wit      and   grace
#     draw       0.1     0.8   0.3    0.9   0.2      0.7   0.4         <cls> is no word, so 0.1 does not count
#     fate                     0.55         0.85           0.95
#     it reads   <cls>   a     <mask> of    camera   and   grace
#     it says                  film         wit            grace
#
# In the shapes, $R$ are the texts of a batch, $T$ the places of the longest one, and $M$ the chosen places of all texts
# together. `ids[chosen]`, with `chosen` an array of True and False, takes these places out, text by text, in one row. `&` is
# "and" for each place; its arguments need brackets.

# %%
def mask_words(ids, draw, fate, other, share, mask_id, n_special):
    words = ids >= n_special                                                           # (R, T)
    chosen = words & (draw < share)                                                    # (R, T)
    read = np.where(chosen & (fate < 0.8), mask_id, ids)                               # (R, T)  80 %: the mask
    read = np.where(chosen & (fate >= 0.8) & (fate < 0.9), other, read)                # (R, T)  10 %: a word by chance
    labels = ids[chosen]                                                               # (M,)    what stood there
    # STOP: compare ids and read where chosen is True
    return read, chosen, labels


def hide(ids, share, rng):
    """Random numbers for each place, and mask_words."""
    other = rng.integers(SPECIAL, V, size=ids.shape)                                   # (R, T)  any word, all equally likely
    return mask_words(ids, rng.random(ids.shape), rng.random(ids.shape), other, share, MASK, SPECIAL)


ids = np.array([[CLS, *tokenizer.encode("a film of wit and grace")]])                  # (1, T)
draw = np.array([[0.1, 0.8, 0.3, 0.9, 0.2, 0.7, 0.4]])
fate = np.array([[0.5, 0.5, 0.55, 0.5, 0.85, 0.5, 0.95]])
read, chosen, labels = mask_words(ids, draw, fate, np.full(ids.shape, tokenizer.id("camera")), 0.5, MASK, SPECIAL)
print("it reads", [tokenizer.tokens[i] for i in read[0]], "and says", [tokenizer.tokens[i] for i in labels])
assert tokenizer.decode(labels) == "film wit grace"
assert np.flatnonzero(chosen[0]).tolist() == [2, 4, 6]
assert read[0, [2, 4, 6]].tolist() == [MASK, tokenizer.id("camera"), ids[0, 6]]

many = pad_sentences(sentences)                                                        # (R, T)  all sentences, R = 10,002
read, chosen, labels = hide(many, 0.15, rng)
shares = {"chosen, of all words": chosen.sum() / (many >= SPECIAL).sum(),
          "<mask>, of the chosen": (read[chosen] == MASK).mean(),
          "as it was, of the chosen": (read[chosen] == labels).mean()}
for name, share in shares.items():
    print(f"{name:24} {share:.1%}")
assert abs(shares["chosen, of all words"] - 0.15) < 0.01 and abs(shares["<mask>, of the chosen"] - 0.8) < 0.01
assert abs(shares["as it was, of the chosen"] - 0.1) < 0.01
assert (read[~chosen] == many[~chosen]).all() and not chosen[many < SPECIAL].any()

# %% [markdown]
# The random numbers are drawn anew whenever a sentence is read, so it asks something else in each epoch (Liu et al. 2019).
#
# ## The loss: only at the chosen places
#
# Let there be $M$ chosen places in the whole batch, numbered by $m$, with the right words $y_1, \dots, y_M$. There are $V$
# tokens, and at place $m$ the model gives token $v$ the probability $p_{mv}$. The loss is the mean of the cross-entropies:
#
# $$ L = -\frac1M \sum_{m=1}^{M} \log p_{m y_m} $$
#
# By hand: two texts with three words each, and a vocabulary of three words. Chosen are the second place of the first text,
# and the first of the second text, so $M = 2$. At both the model has the scores $(0, 0, \log 2)$, which is
# $p = (\tfrac14, \tfrac14, \tfrac12)$. The right words are the last ($2$) and the first ($0$). Then
# $L = (\log 2 + \log 4) / 2 = 1.04$.
#
# Backward: at a chosen place the gradient of the scores is $(p - y) / M$, as in chapter 2, where $y$ is now a row of zeros
# with a single one at the right word: $(\tfrac14, \tfrac14, \tfrac12 - 1) / 2 = (\tfrac18, \tfrac18, -\tfrac14)$ and
# $(\tfrac14 - 1, \tfrac14, \tfrac12) / 2 = (-\tfrac38, \tfrac18, \tfrac14)$. At the other four places it is **zero**,
# whatever the model says there. And $M$ is 2: not 6, the number of places, and not 3, the length of a text.

# %%
logits = np.array([[[5, 1, 2], [0, 0, np.log(2)], [3, 3, 1]],
                   [[0, 0, np.log(2)], [7, 1, 4], [2, 0, 1]]])                         # (R, T, V) = (2, 3, 3)
chosen = np.array([[False, True, False], [True, False, False]])                        # (R, T)
labels = np.array([2, 0])                                                              # (M,)
loss, cache = cross_entropy_forward(logits[chosen], labels)                            # logits[chosen] (M, V)
d_logits = np.zeros_like(logits)                                                       # (R, T, V)
d_logits[chosen] = cross_entropy_backward(1.0, cache)                                  # (M, V)
# STOP: look at d_logits: two rows with a gradient, each of sum 0, and four rows of zeros
print(f"loss {loss:.2f}, gradients {d_logits[chosen].round(3).tolist()}")
assert np.isclose(loss, (np.log(2) + np.log(4)) / 2) and round(loss, 2) == 1.04 and not d_logits[~chosen].any()
assert np.allclose(d_logits[chosen], [[1 / 8, 1 / 8, -1 / 4], [-3 / 8, 1 / 8, 1 / 4]])

# %% [markdown]
# ## The head, forward
#
# The **encoder** is the model without its last part: a table, in which the vector of each token is looked up, and the
# blocks. It makes a vector of $D$ entries for each place; all of them are $H$ (`hidden`), of shape $(R, T, D)$. The **head**
# makes scores out of them. It takes the chosen places out, sends them through one layer with a bend, and compares the
# result with **the vector of each token**:
#
# $$ h = H[\mathrm{chosen}], \qquad z = h W + b, \qquad a = \mathrm{gelu}(z), \qquad \mathrm{logits} = a E^\top + c $$
#
# $h$, $z$ and $a$ are $(M, D)$, $W$ is $(D, D)$, $b$ is $(D)$, the logits are $(M, V)$. $E$ of shape $(V, D)$ is **the same
# table** in which the tokens were looked up at the model's other end (Press and Wolf 2017). Such a table is called **tied**.
# A word is likely where $a$ points the way its vector does. In the last product only $c$, a bias for each token (`bias`), is
# new. (BERT has one more layer norm between gelu and table; without it the lines are fewer.)
#
# The product with all $V$ vectors is the dearest of the model: for each place $V D$ multiplications. Our model below has
# 1,508 tokens and $D = 48$, and its block needs less than a third of that. That is one more reason to take out the chosen
# places first.
#
# The loss is made from $\log p$, straight from the logits as in chapter 2: a probability may be rounded to 0, and
# $\log 0$ is no number.

# %%
def masked_loss_forward(hidden, table, W, b, bias, chosen, labels):
    h = hidden[chosen]                                                                 # (M, D)  F1
    z = h @ W + b                                                                      # (M, D)  F2
    a, gelu = gelu_forward(z)                                                          # (M, D)  F3
    logits = a @ table.T + bias                                                        # (M, V)  F4
    shifted = logits - logits.max(axis=-1, keepdims=True)                              # (M, V)  F5
    powers = np.exp(shifted)                                                           # (M, V)  F5
    total = powers.sum(axis=-1, keepdims=True)                                         # (M, 1)  F5
    log_p = shifted - np.log(total)                                                    # (M, V)  F5
    loss = -log_p[np.arange(len(labels)), labels].mean()                               # ()      F6
    p = powers / total                                                                 # (M, V)  for the backward
    # STOP: compare the shapes of hidden, h and p: only M places get scores
    return loss, (hidden, table, W, chosen, labels, h, gelu, a, p)

# %% [markdown]
# ## The head, backward: the long way
#
# For the long way take out nothing: compute scores at **all** places of all texts, numbered by $t$ from the first place of
# the first text to the last of the last, and give each place a weight, $w_t = 1/M$ where it is chosen, and $w_t = 0$
# elsewhere. With $u$ the scores (the code's logits) and $y_t$ the right word at place $t$,
#
# $$ p_t = \mathrm{softmax}(u_t), \qquad L = -\sum_t w_t \log p_{t y_t} $$
#
# is the same loss. As before, $dp$ is short for $\partial L / \partial p$, of the shape of $p$. Line by line, from the end:
#
# **F6**, the logarithm reads a single entry of each row: $\; dp_{tv} = -\dfrac{w_t}{p_{tv}}$ for $v = y_t$, and $0$ for all
# other $v$.
#
# **F5**, the softmax (chapter 2): $\; du_{tv} = p_{tv} \big( dp_{tv} - \sum_i p_{ti}\, dp_{ti} \big)$. Of the sum only the
# term $i = y_t$ is left: $p_{ti} \cdot (-w_t / p_{ti}) = -w_t$.
#
# **F4**, $u = a E^\top + c$, is a linear layer (chapter 1) with the weight $E^\top$: $\; da = du\, E$, and
# $d(E^\top) = a^\top du$, so $dE = du^\top a$. Every place used $c$: $dc = \sum_t du_t$.
#
# **F3**, the gelu: $dz = da \cdot \mathrm{gelu}'(z)$, entry by entry. **F2**, $z = h W + b$, is a linear layer, too:
# $\; dW = h^\top dz$, $\; db = \sum_t dz_t$, $\; dh = dz\, W^\top$.
#
# ## The short way
#
# Put F6 into F5. For $v \ne y_t$ it is $p_{tv}\,(0 + w_t) = w_t\, p_{tv}$. For $v = y_t$ it is
# $p_{tv}\,(-w_t / p_{tv} + w_t) = w_t\,(p_{tv} - 1)$. Both together, with $y_t$ now the row of zeros with a single one:
#
# $$ du_t = w_t\, (p_t - y_t) = \begin{cases} (p_t - y_t) / M & \text{where chosen} \\ 0 & \text{elsewhere} \end{cases} $$
#
# Where $du_t = 0$, all that follows is zero, too: $da_t$, $dz_t$, $dh_t$, and the terms of the sums $dE$, $dc$, $dW$, $db$.
# So the places that are not chosen need not be computed at all, forward or backward. That leaves **F1**: what was taken out
# is **put back** where it came from, and all other places get zero.
#
# $$ dH[\mathrm{chosen}] = dh, \qquad dH[\text{not chosen}] = 0 $$
#
# As in chapter 2 the code multiplies by `d_loss`, the gradient of the loss, which is 1 in training.

# %%
def masked_loss_backward(d_loss, cache):
    hidden, table, W, chosen, labels, h, gelu, a, p = cache
    y = np.zeros_like(p)                                                               # (M, V)
    y[np.arange(len(labels)), labels] = 1
    d_logits = d_loss * (p - y) / len(labels)                                          # (M, V)  undoes F6, F5
    d_bias = d_logits.sum(axis=0)                                                      # (V,)    undoes F4
    d_table = d_logits.T @ a                                                           # (V, D)  undoes F4
    d_a = d_logits @ table                                                             # (M, D)  undoes F4
    d_z = gelu_backward(d_a, gelu)                                                     # (M, D)  undoes F3
    d_W = h.T @ d_z                                                                    # (D, D)  undoes F2
    d_b = d_z.sum(axis=0)                                                              # (D,)    undoes F2
    d_h = d_z @ W.T                                                                    # (M, D)  undoes F2
    d_hidden = np.zeros_like(hidden)                                                   # (R, T, D)
    d_hidden[chosen] = d_h                                                             # (R, T, D)  undoes F1
    # STOP: d_hidden is zero wherever chosen is False
    return d_hidden, d_table, d_W, d_b, d_bias

# %% [markdown]
# The long way in code, at all places and without the short formula:

# %%
R, T, D, N = 2, 4, 3, 5                                                                # a vocabulary of N words
chosen = np.array([[False, True, False, True], [True, False, False, False]])           # (R, T)
answers = rng.integers(N, size=(R, T))                                                 # (R, T)  the right word at each place
inputs = {"hidden": rng.normal(size=(R, T, D)), "table": rng.normal(size=(N, D)), "W": rng.normal(size=(D, D)),
          "b": rng.normal(size=D), "bias": rng.normal(size=N), "chosen": chosen, "labels": answers[chosen]}
w = chosen / chosen.sum()                                                              # (R, T)
all_z = inputs["hidden"] @ inputs["W"] + inputs["b"]                                   # (R, T, D)
all_a, all_gelu = gelu_forward(all_z)                                                  # (R, T, D)
u = all_a @ inputs["table"].T + inputs["bias"]                                         # (R, T, N)
p = np.exp(u) / np.exp(u).sum(axis=-1, keepdims=True)                                  # (R, T, N)
y = np.eye(N)[answers]                                                                 # (R, T, N)
long_loss = -(w * np.log((p * y).sum(axis=-1))).sum()                                  # ()
d_p = -w[..., None] / p * y                                                            # (R, T, N)  undoes F6
d_u = p * (d_p - (p * d_p).sum(axis=-1, keepdims=True))                                # (R, T, N)  undoes F5
d_all_z = gelu_backward(d_u @ inputs["table"], all_gelu)                               # (R, T, D)  undoes F4, F3
long_way = (d_all_z @ inputs["W"].T, d_u.reshape(-1, N).T @ all_a.reshape(-1, D),      # hidden, table
            inputs["hidden"].reshape(-1, D).T @ d_all_z.reshape(-1, D),                # W
            d_all_z.sum(axis=(0, 1)), d_u.sum(axis=(0, 1)))                            # b, bias
loss, cache = masked_loss_forward(**inputs)
short_way = masked_loss_backward(1.0, cache)
print("long way and short formula differ by", max(np.abs(a - b).max() for a, b in zip(long_way, short_way)))
assert np.isclose(loss, long_loss) and all(np.allclose(a, b) for a, b in zip(long_way, short_way))
assert not short_way[0][~chosen].any()
report = gradient_check(masked_loss_forward, masked_loss_backward, inputs, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# ## A tied table gets two gradients
#
# Let us put the smallest model before the head that reads both sides: the vector of a place is the sum of its two
# neighbours' vectors. ($t$ numbers the places of one text again. The first place has no left neighbour, the last no right
# one.)
#
# $$ x_t = E_{\mathrm{id}_t}, \qquad H_t = x_{t-1} + x_{t+1} $$
#
# **Backward.** $x_t$ occurs in two places: in $H_{t+1}$, as the left neighbour, and in $H_{t-1}$, as the right one, each
# time with the factor 1. So it gets the gradients of both. And the table occurs twice: in the head, and in the lookup,
# where each row gets what comes back at all places at which its token was read. By the chain rule both parts are **added**:
#
# $$ dx_t = dH_{t+1} + dH_{t-1}, \qquad dE_v = \sum_m du_{mv}\, a_m + \sum_{t:\; \mathrm{id}_t = v} dx_t $$
#
# The first sum is the part as the **output** ($du^\top a$, as above), the second, over the places of all texts, the part as
# the **input**.
#
# By hand, with the two words ha and ho, whose vectors are $(1, 0)$ and $(0, 1)$, and a head without $W$, gelu and biases.
# The text is "ha ___ ha"; the gap is chosen, and ho is right. (What is read in the gap itself goes only to its neighbours,
# which have no loss.) So $H = (1, 0) + (1, 0) = (2, 0)$ at the gap, the scores are $(2, 0)$, and
# $p = (e^2, 1) / (e^2 + 1) = (0.881, 0.119)$. Backward, with $M = 1$, $du = p - y = (0.881, -0.881)$. The table is used
#
# - **as the output**: $dE = du^\top H$, which is $(1.762, 0)$ for ha and $(-1.762, 0)$ for ho;
# - **as the input**: $dH = du\, E = (0.881, -0.881)$ goes to both neighbours. Both are ha, so the row of ha gets it twice
#   (the scatter-add of chapter 4): $(1.762, -1.762)$. The row of ho gets nothing.
#
# The sum is $(3.523, -1.762)$ for ha, and $(-1.762, 0)$ for ho. The row of ho learns though ho was nowhere read: it was the
# right answer.

# %%
def neighbours_forward(table, W, b, bias, ids, chosen, labels):
    x = table[ids]                                                                     # (R, T, D)  F1
    hidden = np.zeros_like(x)                                                          # (R, T, D)
    hidden[:, 1:] += x[:, :-1]                                                         # (R, T, D)  F2  from the left
    hidden[:, :-1] += x[:, 1:]                                                         # (R, T, D)  F3  from the right
    loss, head = masked_loss_forward(hidden, table, W, b, bias, chosen, labels)        # ()         F4
    return loss, (ids, head)


def neighbours_backward(d_loss, cache):
    ids, head = cache
    d_hidden, d_head, d_W, d_b, d_bias = masked_loss_backward(d_loss, head)            # (R, T, D), (V, D) ...  undoes F4
    d_x = np.zeros_like(d_hidden)                                                      # (R, T, D)
    d_x[:, 1:] += d_hidden[:, :-1]                                                     # (R, T, D)  undoes F3
    d_x[:, :-1] += d_hidden[:, 1:]                                                     # (R, T, D)  undoes F2
    d_read = np.zeros_like(d_head)                                                     # (V, D)
    np.add.at(d_read, ids, d_x)                                                        # (V, D)     undoes F1
    # STOP: look at the rows of d_read and d_head: a word that was not read has a row of zeros in d_read only
    d_table = d_head + d_read                                                          # (V, D)     both uses
    return d_table, d_W, d_b, d_bias


table = np.eye(2)                                                                      # (V, D)  the example by hand
hidden = table[0] + table[0]                                                           # (D,)
p = np.exp(hidden @ table.T) / np.exp(hidden @ table.T).sum()                          # (V,)
d_u = p - [0, 1]                                                                       # (V,)
as_output = np.outer(d_u, hidden)                                                      # (V, D)
as_input = np.zeros((2, 2))                                                            # (V, D)
np.add.at(as_input, [0, 0], np.stack([d_u @ table] * 2))                               # (V, D)  both neighbours are "ha"
print("gradient of the table:", (as_output + as_input).round(3).tolist())
assert np.allclose(p, [0.881, 0.119], atol=5e-4) and np.allclose(d_u, [0.881, -0.881], atol=5e-4)
assert np.allclose(as_output, [[1.762, 0], [-1.762, 0]], atol=5e-4)
assert np.allclose(as_input, [[1.762, -1.762], [0, 0]], atol=5e-4)
assert np.allclose(as_output + as_input, [[3.523, -1.762], [-1.762, 0]], atol=5e-4)

inputs = {name: inputs[name] for name in ("table", "W", "b", "bias", "chosen", "labels")}
inputs["ids"] = rng.integers(N, size=(R, T))                                           # (R, T)
report = gradient_check(neighbours_forward, neighbours_backward, inputs, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# **Break it:** forget the part of the output, or that of the input. Both look like learning; neither is the gradient.

# %%
def without(part):
    def backward(d_loss, cache):
        d_table, *others = neighbours_backward(d_loss, cache)
        d_head = masked_loss_backward(d_loss, cache[1])[1]                             # (V, D)  the part as the output
        return d_table - d_head if part == "output" else d_head, *others
    return backward


for part in ("output", "input"):
    report = gradient_check(neighbours_forward, without(part), inputs, rng=rng)
    print(f"without the part of the {part}: wrong are", [row.name for row in report.rows if not row.ok])
    assert [row.name for row in report.rows if not row.ok] == ["table"]

# %% [markdown]
# ## Both sides, but no padding
#
# Now real blocks in place of the two neighbours. Compared with GPT only the mask changes: there is no causal one. What
# remains is that nobody may look at **padding**. A text of the batch has its real tokens first; `real` of shape $(R, T)$
# says which, True for a real token. It is a mask of **keys** (chapter 6: True is what may be seen), the same for every head
# and every query. The scores have the shape $(R, \text{heads}, T, T)$, with the keys last, so `real[:, None, None, :]` of
# shape $(R, 1, 1, T)$ fits. What the queries at padding see does not matter, as no loss hangs on them and nobody looks at
# them.
#
# For the positions BERT has a learned table, which is added to the words' vectors. Ours has the rotary positions of chapter
# 7, in the attention: they tell from the start how far apart two words are.

# %%
class BERT(Module):
    def __init__(self, V, D, heads, layers, rng):
        self.words = Embedding(V, D, rng)                                              # the table, for both ends
        self.blocks = [TransformerBlock(D, heads, 2 * D, rng, rotary=True) for _ in range(layers)]
        self.norm = LayerNorm(D)
        self.W = Parameter((rng.normal(size=(D, D)) / np.sqrt(D)).astype(np.float32))
        self.b, self.bias = Parameter(np.zeros(D, np.float32)), Parameter(np.zeros(V, np.float32))

    # The encoder: ids (R, T) -> vectors (R, T, D). The head, below, is masked_loss_forward.
    def encode(self, ids, real=None, causal=False):
        real = ids != PAD if real is None else real                                    # (R, T)
        x, words = self.words.forward(ids)                                             # (R, T, D)  F1
        blocks = []
        for block in self.blocks:
            x, cache = block.forward(x, mask=real[:, None, None, :], causal=causal)    # (R, T, D)  F2
            blocks.append(cache)
        x, norm = self.norm.forward(x)                                                 # (R, T, D)  F3
        return x, (words, blocks, norm)

    def encode_backward(self, d_x, cache):
        words, blocks, norm = cache
        d_x = self.norm.backward(d_x, norm)                                            # (R, T, D)  undoes F3
        for block, block_cache in zip(reversed(self.blocks), reversed(blocks)):
            d_x = block.backward(d_x, block_cache)                                     # (R, T, D)  undoes F2
        self.words.backward(d_x, words)                                                # undoes F1: the part as the input

    def forward(self, ids, chosen, labels):
        hidden, encoder = self.encode(ids)                                             # (R, T, D)
        table, W, b, bias = (parameter.value for parameter in (self.words.weight, self.W, self.b, self.bias))
        loss, head = masked_loss_forward(hidden, table, W, b, bias, chosen, labels)    # ()
        return loss, (encoder, head)

    def backward(self, d_loss, cache):
        d_hidden, d_table, d_W, d_b, d_bias = masked_loss_backward(d_loss, cache[1])
        for parameter, gradient in ((self.words.weight, d_table), (self.W, d_W), (self.b, d_b), (self.bias, d_bias)):
            parameter.grad += gradient                                                 # the table: its part as the output
        # STOP: look at self.words.weight.grad now and after the next line: the lookup adds its part to it
        self.encode_backward(d_hidden, cache[0])


small = BERT(12, 4, 2, 2, rng)
some_ids = np.array([[6, 9, 7, 11, 8], [6, 10, 7, PAD, PAD]])                          # (R, T)
some_chosen, some_labels = (some_ids == 7) | (some_ids == 11), np.array([9, 8, 10])    # (R, T), (M,)
report = gradient_check_module(small, {"ids": some_ids, "chosen": some_chosen, "labels": some_labels}, rng=rng, max_entries=4)
print(f"{len(report.rows)} arrays of weights are right (a few numbers of each were tried), among them the tied table:")
print(*(line for line in str(report).splitlines() if "words" in line))
assert report.ok

# %% [markdown]
# Who acts on whom? Exchange one token, and look which vectors move (blue). The text has six words with its full stop, and
# two places of padding.

# %%
small = BERT(V, 16, 2, 2, rng).astype(np.float64)
small.words.weight.value *= 50                                                         # entries of order 1, untrained
ids = np.array([[CLS, *tokenizer.encode("this camera is very good ."), PAD, PAD]])     # (1, T)
T = ids.shape[1]
assert T == 1 + 6 + 2
settings = {"causal, as in GPT": (ids != PAD, True), "both sides": (ids != PAD, False),
            "both sides, no padding mask": (np.ones(ids.shape, bool), False)}
figure, panels = new_figure(10, 4.2, 1, 3)
moved = {}
for axes, (title, (real, causal)) in zip(panels, settings.items()):
    before, _ = small.encode(ids, real, causal)                                        # (1, T, D)
    moved[title] = np.zeros((T, T))
    for s in range(T):
        changed = ids.copy()
        changed[0, s] = tokenizer.id("film")
        after, _ = small.encode(changed, real, causal)                                 # (1, T, D)
        moved[title][:, s] = np.linalg.norm(after - before, axis=-1)[0]                # (T,)
    axes.imshow(moved[title] > 1e-9, vmin=0, vmax=1.5, cmap="Blues")
    axes.set_xticks(range(T), [tokenizer.tokens[i] for i in ids[0]], rotation=60, ha="right")
    axes.set_yticks(range(T), [tokenizer.tokens[i] for i in ids[0]] if axes is panels[0] else [])
    axes.set_title(title)
    axes.set_xlabel("exchange this token")
panels[0].set_ylabel("and this vector moves")
show(figure, "10_both_sides")
n = (ids != PAD).sum()
assert not np.triu(moved["causal, as in GPT"], 1).any() and (moved["both sides"][:n, :n] > 1e-9).all()
assert not moved["both sides"][:n, n:].any() and (moved["both sides, no padding mask"][:n, n:] > 1e-9).all()

# %% [markdown]
# In the middle panel every real token acts on every real token, and the padding on nobody but itself (through the residual
# connection). Each padded place sees the real tokens, but its vector is never used. Without the mask, on the right, what
# stands behind the text gets into it.
#
# ## Pre-training
#
# 64 sentences a step, sentences of similar length together, so that there is little padding. As there are few sentences,
# we ask more of each, 40 % of the words (Wettig et al. 2023 find 40 % better than 15 % for a large model, too). The rate
# grows for 50 steps, and then falls to 0. The bias $c$ begins with the logarithm of how frequent each word is, so that the
# vectors need not learn that. (One is added to each count, so that no logarithm is infinite.)
#
# A loss means little alone. Beside it stands the **unigram baseline**: it reads nothing, and says for each word how frequent
# it is. Since the bias says just that, the loss of the model begins there. Both are measured on held-out sentences, with
# 15 % of their words hidden, all of them under `<mask>`: a word that is left as it is would be no question.

# %%
D, steps = 48, 10 if FAST else 800
counts = np.bincount(np.concatenate(sentences), minlength=V)                           # (V,)
counts[:SPECIAL] = 0                                                                   # never chosen
frequency = (counts + 1) / (counts + 1).sum()                                          # (V,)
skip = (20, 10) if FAST else (3, 3)
held_out = encode([*films.validation.texts[::skip[0]], *products["validation"][::skip[1]]])


def ask(sentences, size=50):
    """Held-out sentences with hidden words, always the same: (ids, chosen, labels) of each batch."""
    draw, batches = np.random.default_rng(3), []
    by_length = np.argsort([len(sentence) for sentence in sentences], kind="stable")
    for rows in np.array_split(by_length, len(sentences) // size):
        ids = pad_sentences([sentences[row] for row in rows])                          # (R, T)
        chosen = (draw.random(ids.shape) < 0.15) & (ids >= SPECIAL)                    # (R, T)
        batches.append((np.where(chosen, MASK, ids), chosen, ids[chosen]))
    return batches


questions = ask(held_out)
asked = np.concatenate([labels for _, _, labels in questions])                         # (M,)


def examine(model):
    """Loss and share of right guesses over the held-out hidden words. The last part of the head's cache is p (M, V)."""
    loss = right = 0
    for ids, chosen, labels in questions:
        part, (_, head) = model.forward(ids, chosen, labels)
        loss, right = loss + part * len(labels), right + (head[-1].argmax(axis=-1) == labels).sum()
    return loss / len(asked), right / len(asked)


def pre_train(model, steps, share=0.4, show_all=False):
    model.bias.value[...] = np.log(frequency)
    optimizer, order = AdamW(model, beta2=0.98), BucketedOrder([len(s) for s in sentences], 64, seed=0)
    losses, looks = [], []                                                             # ten looks at the held-out sentences
    for step in range(steps):
        ids = pad_sentences([sentences[row] for row in order.rows(step)])              # (R, T)
        read, chosen, labels = hide(ids, share, np.random.default_rng([10, step]))
        loss, cache = model.forward(ids if show_all else read, chosen, labels)
        optimizer.zero_grad()
        model.backward(1.0, cache)
        optimizer.step(6e-3 * min(1, (step + 1) / 50) * (1 - step / steps))
        losses.append(float(loss))
        if (step + 1) % (steps // 10) == 0:
            looks.append((step + 1, *examine(model)))
    return losses, np.array(looks)                                                     # (10, 3)


start = time.perf_counter()
bert = BERT(V, D, 4, 1, np.random.default_rng(1))
losses, looks = pre_train(bert, steps)
unigram = -np.log(frequency[asked]).mean(), (asked == frequency.argmax()).mean()
product = V * D                                     # multiplications for a place: a with each row of the table
block = 8 * D**2 + 2 * LONGEST * D                  # 4 D^2 each in attention and feed-forward part; scores and mixing
times_read = steps * 64 / len(sentences)
print(f"{sum(p.value.size for p in bert.parameters()):,} weights; multiplications for each place: "
      f"{product:,} with the table, {block:,} in the block")
print(f"{steps} steps in {time.perf_counter() - start:.0f} s; first loss {losses[0]:.2f}; "
      f"each sentence was read {times_read:.1f} times")
print(f"held-out hidden words ({len(asked):,}): loss {looks[-1, 1]:.2f}, right {looks[-1, 2]:.1%};  "
      f"from the frequencies alone: {unigram[0]:.2f}, {unigram[1]:.1%}")
assert (V, D) == (1508, 48) and block < product / 3 and abs(losses[0] - unigram[0]) < 0.4
assert FAST or looks[-1, 1] < unigram[0] - 0.3 and looks[-1, 2] > 1.5 * unigram[1] and round(times_read) == 5

# %% [markdown]
# **Break it:** hide nothing. The places are chosen as before and the loss is at the same places, but the model reads the
# whole text.

# %%
copier = BERT(V, D, 4, 1, np.random.default_rng(1))
copier_losses, copier_looks = pre_train(copier, 10 if FAST else 120, show_all=True)
figure, (left, right) = new_figure(9, 3.2, 1, 2)
left.plot(losses, color="C0", alpha=0.5, linewidth=0.8, label="words hidden")
left.plot(copier_losses, color="C3", label="nothing hidden")
left.set_ylabel("loss in training")
right.plot(looks[:, 0], looks[:, 1], "o-", color="C0", label="words hidden")
right.plot(copier_looks[:, 0], copier_looks[:, 1], "o-", color="C3", label="nothing hidden")
right.axhline(unigram[0], color="gray", linestyle="--", label="frequencies alone")
right.set_ylabel("loss, held-out hidden words")
for axes in (left, right):
    axes.set_xlabel("step")
    axes.set_ylim(0, 7.5)
    axes.legend(frameon=False)
show(figure, "10_pre_training")
print(f"nothing hidden: training loss {copier_losses[-1]:.2f}, but {copier_looks[-1, 1]:.2f} when words are really hidden")
assert FAST or copier_losses[-1] < 0.5 * losses[len(copier_losses)] and copier_looks[-1, 1] > unigram[0]
assert FAST or copier_looks[-1, 1] > copier_looks[4, 1] > copier_looks[0, 1]

# %% [markdown]
# Its training loss falls fast: it learns to say each word that it reads. Asked about a real gap it is worse
# than the baseline, which reads nothing, and gets worse the longer it learns. **The hiding is the lesson**; without it there
# is nothing to learn.
#
# ## What has it learnt?
#
# We ask it ourselves. For each gap the likeliest words:

# %%
def guess(model, text):
    """The probabilities of all words (V,) at the first <mask> of a text."""
    parts = [tokenizer.encode(part) for part in text.split("<mask>")]
    ids = np.array([[CLS, *parts[0], MASK, *parts[1]]])                                # (1, T)
    chosen = ids == MASK                                                               # (1, T)
    _, (_, head) = model.forward(ids, chosen, np.zeros(1, int))
    p = head[-1][0] * (np.arange(V) >= SPECIAL)                                        # (V,)  special tokens are no answer
    return p / p.sum()


texts = ("the <mask> is easy to use .", "i have <mask> this camera .", "a funny and <mask> film .",
         "one of the <mask> movies of the year .")
figure, panels = new_figure(11, 2.8, 1, 4)
for axes, text in zip(panels, texts):
    p = guess(bert, text)                                                              # (V,)
    best = np.argsort(-p)[:7]
    axes.barh(range(7), p[best], color="C0")
    axes.plot(frequency[best] / frequency.sum(), range(7), "|", color="black", markersize=9)
    axes.set_yticks(range(7), [tokenizer.tokens[i] for i in best])
    axes.invert_yaxis()
    axes.set_title(text.replace("<mask>", "___"), fontsize=8)
    axes.set_xlabel("probability", fontsize=8)
    print(text, " ".join(f"{tokenizer.tokens[i]} {p[i]:.0%}" for i in best[:5]))
panels[0].set_xlabel("probability (black: frequency)", fontsize=8)
show(figure, "10_guesses")
vectors = bert.words.weight.value                                                      # (V, D)
unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)                        # (V, D)  each of length 1
for word in ("funny", "film", "camera", "great", "is", "i"):
    nearest = np.argsort(-unit @ unit[tokenizer.id(word)])[1:6]
    print(f"nearest to {word:7}", *(tokenizer.tokens[i] for i in nearest))

# %% [markdown]
# Nobody said what a noun is, or an adjective. But words that fit into the same gaps get similar vectors: $a$ must point to
# all of them, and as neighbours of other gaps they say the same. The guesses are modest: the model has one block, and has
# read each sentence about five times. It is often wrong: in the third gap it sees that something begins after "and", but
# not that the gap must be an adjective. And opposites may be neighbours (in the run that this text was written from, "great"
# and "terrible"): both fit into the same gaps. Keep that in mind for the end.
#
# ## One vector for a text
#
# A question about a whole text needs one vector. Two ways are usual: the vector of `<cls>`, which stands in every text and
# can gather from all words, or the **mean** over all real tokens. The paper takes `<cls>`, which it pre-trains with a
# second task (do two sentences follow each other?). Ours has never been asked for anything at `<cls>`. So we take the mean,
# but padding must not get into it. For one text, with $x_t$ the encoder's vector at place $t$, $r_t = 1$ for a real token,
# else 0, and $n = \sum_t r_t$ the number of real ones,
#
# $$ m = \frac1n \sum_t r_t\, x_t $$
#
# By hand: two tokens $(1, 3)$ and $(3, 5)$, and one of padding with the vector $(9, 9)$. Their mean is $(2, 4)$. A plain
# mean over the three places would be $(4.33, 5.67)$, and would change with each further place of padding.
#
# **Backward.** $m$ is a sum, and $x_t$ occurs in it once, with the factor $r_t / n$. So every real token gets the same
# share of the gradient, and padding nothing:
#
# $$ dx_t = \frac{r_t}{n}\, dm $$
#
# With $dm = (1, -1)$: $(\tfrac12, -\tfrac12)$ for both tokens, $(0, 0)$ for the padding. In the code the factors $r_t / n$
# are `shares`, and $m$ is `out`. The vector of `<cls>` is the same with other shares: $1$ for the first place, $0$ for all
# others.

# %%
def mean_pool_forward(x, real):
    counts = real.sum(axis=1, keepdims=True)                                           # (R, 1)
    shares = (real / counts).astype(x.dtype)                                           # (R, T)  F1  each row sums to 1
    out = (shares[:, :, None] * x).sum(axis=1)                                         # (R, D)  F2
    return out, shares


def mean_pool_backward(d_out, cache):
    shares = cache                                                                     # (R, T)
    d_x = shares[:, :, None] * d_out[:, None, :]                                       # (R, T, D)  undoes F2
    # STOP: d_x.sum(axis=1) is d_out again: the shares sum to 1
    return d_x


x, real = np.array([[[1.0, 3.0], [3.0, 5.0], [9.0, 9.0]]]), np.array([[True, True, False]])
out, shares = mean_pool_forward(x, real)
d_x = mean_pool_backward(np.array([[1.0, -1.0]]), shares)
print("mean", out.tolist(), " plain mean", x.mean(axis=1).round(2).tolist(), " backward", (d_x + 0).tolist())
assert np.allclose(out, [[2, 4]]) and np.allclose(x.mean(axis=1), [[4.33, 5.67]], atol=0.005)
assert np.allclose(d_x, [[[0.5, -0.5], [0.5, -0.5], [0, 0]]])
x, real = rng.normal(size=(3, 5, 4)), np.arange(5) < np.array([[5], [2], [3]])         # (R, T, D), (R, T)
report = gradient_check(mean_pool_forward, mean_pool_backward, {"x": x, "real": real}, rng=rng)
print(report)
assert report.ok

# %% [markdown]
# **Break it:** the plain mean, in batches of different widths. The same text becomes another vector:

# %%
first = None
ids = np.array([[CLS, *tokenizer.encode("a film of wit and grace")]])                  # (1, T)
for extra in (0, 5, 15):
    longer = np.pad(ids, ((0, 0), (0, extra)), constant_values=PAD)                    # (1, T + extra)
    hidden, _ = bert.encode(longer)                                                    # (1, T + extra, D)
    vectors = mean_pool_forward(hidden, longer != PAD)[0], hidden.mean(axis=1)         # (1, D) each
    first = vectors if extra == 0 else first                                           # (1, D) each  without any padding
    print(f"{extra:2} places of padding: mean over the real tokens moves by {np.linalg.norm(vectors[0] - first[0]):.1e}, "
          f"the plain mean by {np.linalg.norm(vectors[1] - first[1]):.1e}")
assert np.allclose(vectors[0], first[0], atol=1e-5) and not np.allclose(vectors[1], first[1], atol=1e-2)

# %% [markdown]
# ## Fine-tuning
#
# Two questions. **Topic:** does a sentence speak of a product, or of a film? **Sentiment:** does a sentence about a film
# praise it? Before any label, look at the sentences' vectors of 48 entries, seen from the side where they differ most.
# (`np.linalg.svd` finds the two directions. Nothing is learnt there, and nothing below needs it.)

# %%
def text_vectors(model, sentences):
    """The mean vectors (N, D) of N sentences, at most 200 of similar length at a time."""
    out = np.zeros((len(sentences), D), np.float32)                                    # (N, D)
    by_length = np.argsort([len(sentence) for sentence in sentences], kind="stable")
    for rows in np.array_split(by_length, int(np.ceil(len(sentences) / 200))):
        ids = pad_sentences([sentences[row] for row in rows])                          # (R, T)
        out[rows] = mean_pool_forward(model.encode(ids)[0], ids != PAD)[0]
    return out


tasks = {"topic": load_topics(), "sentiment": films}
n_tested = 100 if FAST else 600
tested = {name: np.random.default_rng(4).permutation(len(task.test.texts))[:n_tested] for name, task in tasks.items()}
test_texts = {name: [tasks[name].test.texts[row] for row in rows] for name, rows in tested.items()}
test = {name: (encode(test_texts[name]), tasks[name].test.labels[rows]) for name, rows in tested.items()}
fresh = BERT(V, D, 4, 1, np.random.default_rng(1))
looked_at = (("fresh weights: topic", fresh, "topic"), ("pre-trained: topic", bert, "topic"),
             ("pre-trained: sentiment", bert, "sentiment"))
names = {"topic": (("C0", "film"), ("C1", "product")), "sentiment": (("C3", "negative"), ("C2", "positive"))}      # 0 and 1
figure, panels = new_figure(10, 3.4, 1, 3)
for axes, (title, model, name) in zip(panels, looked_at):
    vectors, answers = text_vectors(model, test[name][0]), test[name][1]               # (N, D), (N,)
    vectors = vectors - vectors.mean(axis=0)                                           # (N, D)
    flat = vectors @ np.linalg.svd(vectors, full_matrices=False)[2][:2].T              # (N, 2)
    for answer, (color, label) in enumerate(names[name]):
        axes.scatter(*flat[answers == answer].T, s=5, color=color, label=label, alpha=0.6)
    axes.set_title(title)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), ncol=2, frameon=False, markerscale=2, fontsize=8)
show(figure, "10_vectors")

# %% [markdown]
# The pre-trained model has never been told what a product is, but its vectors lie apart already: words of films and words
# of products stand in different gaps. Praise and blame stand in the same gaps ("a very ___ film"), and lie mostly mixed.
# What do you expect of fine-tuning?
#
# A classifier is the encoder, the mean, and one score (a logit), with the binary cross-entropy of chapter 5. **All** weights
# are trained on, not only the new ones. Against it stands the same classifier from fresh weights, with the same labels, the
# same steps, and a higher rate, as it has further to go; and a bag of words with the same labels.

# %%
class Classifier(Module):
    def __init__(self, bert, rng):
        self.bert, self.head = bert, Linear(D, 1, rng)
        self.head.weight.value *= 0.1                                                  # begin undecided

    def forward(self, ids):
        x, encoder = self.bert.encode(ids)                                             # (R, T, D)  F1
        vectors, shares = mean_pool_forward(x, ids != PAD)                             # (R, D)     F2
        logits, head = self.head.forward(vectors)                                      # (R, 1)     F3
        return logits[:, 0], (encoder, shares, head)

    def backward(self, d_logits, cache):
        encoder, shares, head = cache
        d_vectors = self.head.backward(d_logits[:, None], head)                        # (R, D)     undoes F3
        self.bert.encode_backward(mean_pool_backward(d_vectors, shares), encoder)      #            undoes F2, F1


def fine_tune(pre_trained, sentences, labels, seed, steps, rate):
    model = BERT(V, D, 4, 1, np.random.default_rng(100 + seed))
    if pre_trained:
        model.load_state(bert.state())                                                 # begin where the pre-training ended
    classifier = Classifier(model, np.random.default_rng(seed))
    optimizer = AdamW(classifier, beta2=0.98)
    for step in range(steps):
        rows = np.random.default_rng([seed, step]).integers(len(sentences), size=32)   # (R,)
        logits, cache = classifier.forward(pad_sentences([sentences[row] for row in rows]))    # (R,)
        # STOP: in the first step the logits are near 0, and the loss is near log 2 = 0.69
        loss, loss_cache = binary_cross_entropy_forward(logits, labels[rows].astype(np.float32))
        optimizer.zero_grad()
        classifier.backward(binary_cross_entropy_backward(1.0, loss_cache).astype(np.float32), cache)
        optimizer.step(rate * min(1, (step + 1) / 10) * (1 - step / steps))
    return classifier


sizes = {"topic": (10, 30, 100, 300), "sentiment": (100, 1000)}
seeds, tuning_steps = (1, 5) if FAST else (3, 60)
accuracy = {}                                     # (task, model, number of labels) -> share of right answers, for each seed
for name, task in tasks.items():
    encoded, (test_sentences, test_labels) = encode(task.train.texts), test[name]
    for size in sizes[name][:1] if FAST else sizes[name]:
        for seed in range(seeds):
            rows = np.random.default_rng([10, seed]).permutation(len(encoded))[:size]  # which sentences have a label
            few, labels = [encoded[row] for row in rows], task.train.labels[rows]
            for label, pre_trained, rate in (("pre-trained", True, 1e-3), ("from scratch", False, 2e-3)):
                classifier = fine_tune(pre_trained, few, labels, seed, tuning_steps, rate)
                vectors = text_vectors(classifier.bert, test_sentences)                # (N, D)
                scores = classifier.head.forward(vectors)[0][:, 0]                     # (N,)
                accuracy.setdefault((name, label, size), []).append(((scores > 0) == test_labels).mean())
            words = [task.train.texts[row] for row in rows]
            scores = BagOfWords(words).fit(words, labels, 3e-3).logits(test_texts[name])
            accuracy.setdefault((name, "bag of words", size), []).append(((scores > 0) == test_labels).mean())
figure, panels = new_figure(9, 3.4, 1, 2)
for axes, name in zip(panels, tasks):
    for label in ("pre-trained", "from scratch", "bag of words"):
        used = [size for task, model, size in accuracy if (task, model) == (name, label)]
        points = [(size, share) for size in used for share in accuracy[name, label, size]]
        means = [np.mean(accuracy[name, label, size]) for size in used]
        line, = axes.plot(used, means, "o-", label=label)
        axes.scatter(*zip(*points), s=10, alpha=0.5, color=line.get_color())
        print(f"{name:10} {label:13}", "  ".join(f"{size:,} labels {mean:.1%}" for size, mean in zip(used, means)))
    axes.axhline(0.5, color="gray", linewidth=0.8)
    axes.set_xscale("log")
    axes.set_xticks(used, [f"{size:,}" for size in used])
    axes.set_ylim(0.45, 1)
    axes.set_title(name)
    axes.set_xlabel("labelled sentences")
panels[0].set_ylabel("right, of the test sentences")
panels[1].legend(frameon=False)
show(figure, "10_fine_tuning")
if not FAST:
    mean = {key: np.mean(shares) for key, shares in accuracy.items()}
    gain = {size: mean["topic", "pre-trained", size] - mean["topic", "from scratch", size] for size in sizes["topic"]}
    assert np.mean([gain[10], gain[30], gain[100]]) > 0 and abs(gain[300]) < 0.08
    assert np.mean([abs(mean["topic", "from scratch", more] - mean["topic", "pre-trained", few])
                    for few, more in ((10, 30), (30, 100), (100, 300))]) < 0.06
    assert max(share for (task, _, size), share in mean.items() if (task, size) == ("sentiment", 100)) < 0.62
    assert mean["sentiment", "pre-trained", 1000] < mean["sentiment", "bag of words", 1000]
    assert mean["sentiment", "pre-trained", 1000] < mean["sentiment", "from scratch", 1000] + 0.03
chance = np.sqrt(0.25 / n_tested)
print(f"(with {n_tested} test sentences chance alone moves a share near one half by about {chance:.1%} up or down; "
      "dots: seeds)")

# %% [markdown]
# Read it with care.
#
# - **Topic.** Pre-training helps, and the fewer labels there are the more: what was learnt from text alone is what the
#   question needs, and a few labels are enough to name the two groups. The model from scratch needs about three times as
#   many labels for the same share. With 300 labels the three are nearly equal. That is the usual picture: pre-training
#   saves labels, and more labels make up for it.
# - **Sentiment.** No gain. With 100 labels all three are little better than guessing; with 1,000 the bag of words is the
#   best, and the pre-trained model is no better than the one from scratch. Filling gaps did not ask for
#   praise or blame, as both fit into the same gap, and ten thousand sentences say little about it by the way. Do not judge
#   BERT by this, which read 3.3 billion words; but do not believe that pre-training helps whatever the question is.
#
# Three seeds and 600 test sentences are not much, and the pre-training has a seed, too (`np.random.default_rng(1)` above):
# with another one the model may find out sooner or later who stands beside whom, and the figures move with it. Of the seeds
# tried for this chapter one gave no gain at all. And the steps and rates of the fine-tuning were settled while looking at
# such figures, so they flatter a little. The library's BERT reads longer, with validation data for every choice and more
# seeds: the README shows its curve (`python -m tinymm.training.label_curve runs/bert` draws it).
#
# ## Questions
#
# :::{dropdown} Why must $M$ in the gradient be the number of chosen places in the whole batch?
# Because the loss is the mean over them. A mean for each text, and then over the texts, would be another loss: it would
# give a chosen word of a short text more weight.
# :::
#
# :::{dropdown} A word that is left as it is (the 10 %) can be "guessed" by copying. Is that not a mistake?
# The model does not know which words are left. At every word that it reads it must allow for both: it is right, or it was
# exchanged. So it cannot simply copy, and keeps looking at the neighbours, also where nothing is hidden. But do not count
# such words in an evaluation: they look like success. Ours are all under the mask.
# :::
#
# :::{dropdown} With 15 % chosen, how many words must GPT predict in the same text, and how many BERT?
# GPT all of them, BERT 15 %. From the same text BERT gets fewer answers to learn from; each is given with more to go by.
# :::
#
# :::{dropdown} Can BERT write a text?
# Not word by word, as GPT does: each new word would change the vectors of all words before it, since these look both ways,
# and it never learned to go on at an end. It fills gaps.
# :::
#
# :::{dropdown} The encoder forgets its padding mask, but `real` in `mean_pool_forward` is right. What is wrong?
# The mean leaves the vectors of padding out, but those of the real tokens have looked at padding. Both masks are needed.
# :::
#
# :::{dropdown} Freeze the encoder, and train the head alone. Which exercises would you still need?
# Of the encoder's side only `mean_pool_forward`, and none of the backward ones: the gradient stops at the head. Then
# pre-training must bring everything along; it is what to try with very few labels.
# :::
#
# ## What you can now do
#
# You can let a model learn from text without labels, derive the loss over hidden words back to both ends of a tied table,
# keep padding out of attention and out of a mean, and say with figures where pre-training helps. Now do
# `lessons/10_bert/exercises.py`, and run `tinymm check 10`. The library's BERT is `tinymm/models/bert.py`;
# `tinymm train bert` trains a larger one for longer, and `tinymm train bert_classifier --from runs/bert` fine-tunes it.
#
# ## To read
#
# - Devlin, Chang, Lee and Toutanova 2019, *BERT: Pre-training of Deep Bidirectional Transformers for Language
#   Understanding*, sections 3 and 5.
# - Liu et al. 2019, *RoBERTa*. Wettig, Gao, Zhong and Chen 2023, *Should You Mask 15% in Masked Language Modeling?*
# - Press and Wolf 2017, *Using the Output Embedding to Improve Language Models*: tied tables.
