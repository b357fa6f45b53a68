"""What `tinymm check 14` looks at."""

import numpy as np

from tinymm.functional import attention_backward, attention_forward
from tinymm.learning.exercise import Exercise


def lengths(rng):
    """The first has image tokens; one of the later ones may have none."""
    T = int(rng.integers(3, 6))
    return {"N": int(rng.choice([6, 2, 0])), "T": T}


def scores(rng):
    """Some texts have scores whose exponentials overflow or underflow, of both kinds or of the image alone."""
    shift, apart = rng.choice([0.0, 900.0, -900.0], size=(6, 1, 1)), rng.choice([0.0, 0.0, 0.0, 800.0], size=(6, 1, 1))
    scores_t = np.where(np.tril(np.ones((3, 3), bool)), rng.normal(size=(6, 3, 3)), -np.inf)
    return {"scores_i": rng.normal(size=(6, 3, 5)) + shift + apart, "scores_t": scores_t + shift}


def joint(rng):
    """No two sizes equal that could be confused: B 2, D 4, C 6, and T 3, N 5 or T 5, N 3 (N, T swapped in the mask shows only where T > N + 1)."""
    T, N = (3, 5) if rng.random() < 0.5 else (5, 3)
    widths = {"W_q": 4, "W_kt": 4, "W_vt": 4, "W_ki": 6, "W_vi": 6, "W_o": 4}
    return {"x": rng.normal(size=(2, T, 4)), "image": rng.normal(size=(2, N, 6))} | {
        name: rng.normal(size=(width, 4)) / 2 for name, width in widths.items()}


def concatenated(rng):
    return {"x": rng.normal(size=(2, 3, 4)), "image": rng.normal(size=(2, 5, 4))} | {
        name: rng.normal(size=(4, 4)) / 2 for name in ("W_q", "W_k", "W_v", "W_o")}


FACTS = {
    "highest": "for each word the largest of all its scores, at the image and at the words",
    "Z_i": "e^(scores_i - highest), summed over the image tokens",
    "Z_t": "e^(scores_t - highest), summed over the words, with the same highest",
    "share": "Z_i / (Z_i + Z_t)",
    "q": "x W_q: only the words ask",
    "k_t": "x W_kt", "v_t": "x W_vt", "k_i": "image W_ki", "v_i": "image W_vi",
    "k": "k_i and behind it k_t, joined along the axis of the tokens, axis=1",
    "v": "v_i and behind it v_t, joined along the axis of the tokens, axis=1",
    "mixed": "attention_forward(q, k, v, mask) with the words' rows of the prefix mask, (T, N + T)",
    "out": "mixed W_o",
    "d_W_o": "out = mixed W_o: mixed^T d_out, summed over all words of all texts",
    "d_mixed": "out = mixed W_o: d_out W_o^T",
    "d_q": "the first result of attention_backward(d_mixed, attention)",
    "d_k": "the second result of attention_backward(d_mixed, attention)",
    "d_v": "the third result of attention_backward(d_mixed, attention)",
    "d_v_i": "the first N rows of d_v: the image comes first", "d_v_t": "the rows of d_v from N on",
    "d_k_i": "the first N rows of d_k: the image comes first", "d_k_t": "the rows of d_k from N on",
    "d_W_vi": "v_i = image W_vi: image^T d_v_i", "d_W_ki": "k_i = image W_ki: image^T d_k_i",
    "d_W_vt": "v_t = x W_vt: x^T d_v_t", "d_W_kt": "k_t = x W_kt: x^T d_k_t",
    "d_W_q": "q = x W_q: x^T d_q",
    "d_image": "the image tokens were used twice, as keys and as values: d_k_i W_ki^T + d_v_i W_vi^T",
    "d_x": "the words were used three times, as queries, keys and values: d_q W_q^T + d_k_t W_kt^T + d_v_t W_vt^T",
}
OF_A_SEQUENCE = FACTS | {
    "d_W_v": "v = sequence W_v: sequence^T d_v, over the rows of both kinds",
    "d_W_k": "k = sequence W_k: sequence^T d_k, over the rows of both kinds",
    "d_W_q": "q = sequence W_q: sequence^T d_q, over the rows of both kinds",
    "d_sequence": "every row was used three times: d_q W_q^T + d_k W_k^T + d_v W_v^T",
    "d_image": "the first N rows of d_sequence", "d_x": "the rows of d_sequence from N on",
}


# ---- the exercises with a mistake in them ---------------------------------------------------------------------------


def _mask(N, T):
    place = np.arange(N + T)
    return (place < N) | (place <= place[:, None])


def _share(scores_i, scores_t, highest=None, gather=np.sum, of_words=False):
    both = np.concatenate([scores_i, scores_t], axis=-1).max(axis=-1, keepdims=True)
    high_i, high_t = highest(scores_i, scores_t) if highest else (both, both)
    Z_i, Z_t = gather(np.exp(scores_i - high_i), axis=-1, keepdims=True), gather(np.exp(scores_t - high_t), axis=-1, keepdims=True)
    return (Z_t if of_words else Z_i) / (Z_i + Z_t)


def _own_highest(scores_i, scores_t):
    return scores_i.max(axis=-1, keepdims=True), scores_t.max(axis=-1, keepdims=True)


def _apart(x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o):
    """A softmax for each modality, and the sum of both."""
    q, T = x @ W_q, x.shape[1]
    mixed = attention_forward(q, image @ W_ki, image @ W_vi)[0] + attention_forward(q, x @ W_kt, x @ W_vt, _mask(0, T))[0]
    return mixed @ W_o


def _forward(x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, allowed=lambda N, T: _mask(N, T)[N:], words_first=False, last=True, direct=0,
             swapped=False, kept=lambda cache: cache, whole=True):
    N, T = image.shape[1], x.shape[1]
    keys, values = [image @ W_ki, x @ W_kt], [image @ W_vi, x @ W_vt]
    step = -1 if words_first else 1
    k, v = np.concatenate(keys[::step], axis=1), np.concatenate(values[::step], axis=1)
    mixed, attention = attention_forward(x @ W_q, *((v, k) if swapped else (k, v)), allowed(N, T))
    out = direct * x + (mixed @ W_o if last else mixed)
    return (out, kept((x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, attention, mixed))) if whole else out


def _product(left, d_out):
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def _back(d_out, cache, uses=(1, 1, 1), image_uses=(1, 1), cut=None, through=True, direct=0, transposed=True, order=None, swapped=False,
          crossed=False):
    """joint_attention_backward, with one of these pieces changed. uses: queries, keys, values in d_x."""
    x, image, W_q, W_kt, W_vt, W_ki, W_vi, W_o, attention, mixed = cache
    N, T = image.shape[1], x.shape[1]
    d_q, d_k, d_v = attention_backward(d_out @ W_o.T if through else d_out, attention)
    if swapped:
        d_k, d_v = d_v, d_k
    of_image, of_text = cut(N, T) if cut else (slice(0, N), slice(N, N + T))
    d_k_i, d_k_t, d_v_i, d_v_t = d_k[:, of_image], d_k[:, of_text], d_v[:, of_image], d_v[:, of_text]
    if crossed:
        W_ki, W_vi = W_vi, W_ki
    back_q, back_k, back_v = (W.T if transposed else W for W in (W_q, W_kt, W_vt))
    d_x = direct * d_out + uses[0] * d_q @ back_q + uses[1] * d_k_t @ back_k + uses[2] * d_v_t @ back_v
    d_image = image_uses[0] * d_k_i @ W_ki.T + image_uses[1] * d_v_i @ W_vi.T
    results = (d_x, d_image, _product(x, d_q), _product(x, d_k_t), _product(x, d_v_t), _product(image, d_k_i), _product(image, d_v_i),
               _product(mixed, d_out))
    return tuple(results[i] for i in order) if order else results


def _back_of_sequence(d_out, cache, uses=(1, 1, 1), image_uses=(1, 1, 1), cut=None, weights_from="all", through=True, order=None, direct=0):
    sequence, N, W_q, W_k, W_v, W_o, attention, mixed = cache
    d_q, d_k, d_v = attention_backward(d_out @ W_o.T if through else d_out, attention)
    parts = d_q @ W_q.T, d_k @ W_k.T, d_v @ W_v.T
    d_words, d_images = (direct * d_out + sum(use * part for use, part in zip(some, parts)) for some in (uses, image_uses))
    place = N if cut is None else cut(N, sequence.shape[1] - N)
    d_image, d_x = (d_images[:, :N], d_words[:, N:]) if cut is None else (d_images[:, place:], d_words[:, :place])
    rows = slice(N, None) if weights_from == "words" else slice(None)
    d_W = [_product(sequence[:, rows], d[:, rows]) for d in (d_q, d_k, d_v)]
    results = (d_x, d_image, *d_W, _product(mixed, d_out))
    return tuple(results[i] for i in order) if order else results


EXERCISES = [
    Exercise(
        1, "prefix_mask", "everyone sees the image", lengths,
        hints=("place = np.arange(N + T), as a row for the keys, and as a column for the queries.",
               "Allowed is what belongs to the image, place < N, or what is not later than the query.",
               "(place < N) | (place <= place[:, None])"),
        mistakes={
            "rows and columns are swapped: the query is the row, the key the column": lambda N, T: _mask(N, T).T,
            "the image's places are 0 to N - 1: place < N, not place <= N": lambda N, T: _mask(N, T) | (np.arange(N + T) == N),
            "one of the two is enough: |, not &": lambda N, T: (np.arange(N + T) < N) & np.tril(np.ones((N + T, N + T), bool)),
            "np.triu is the triangle of the later places; a word sees those before it: np.tril": lambda N, T: (
                (np.arange(N + T) < N) | np.triu(np.ones((N + T, N + T), bool))),
            "N is the number of image tokens, and T that of words; yours are swapped": lambda N, T: _mask(T, N),
            "a word also sees itself: <=, not <": lambda N, T: (np.arange(N + T) < N) | np.tril(np.ones((N + T, N + T), bool), -1),
            "an image token also sees the image tokens behind it: the image is no text": lambda N, T: np.tril(np.ones((N + T, N + T), bool)),
            "np.tril(..., N) lets every query see N places further; a word does not see the words behind it": lambda N, T: np.tril(
                np.ones((N + T, N + T), bool), N),
            "an image token sees no word": lambda N, T: _mask(N, T) | (np.arange(N + T) < N)[:, None],
            "these are the rows of the words; the image tokens are queries, too: (N + T, N + T)": lambda N, T: _mask(N, T)[N:],
            "the image comes first: the first N places are image tokens": lambda N, T: np.roll(_mask(N, T), -N, axis=(0, 1)),
            "a word sees the whole image, too": lambda N, T: np.block([
                [np.ones((N, N), bool), np.zeros((N, T), bool)], [np.zeros((T, N), bool), np.tril(np.ones((T, T), bool))]]),
            "a word does not see the words behind it": lambda N, T: np.ones((N + T, N + T), bool),
            "True means that looking is allowed, not that it is forbidden": lambda N, T: ~_mask(N, T),
            "the entries are True and False, not 0 and -inf": lambda N, T: np.where(_mask(N, T), 0, -np.inf),
        },
    ),
    Exercise(
        2, "image_share", "how much goes to the image", scores,
        hints=("It is the softmax over both kinds, summed over the image tokens.",
               "highest = np.maximum(scores_i.max(axis=-1, keepdims=True), scores_t.max(axis=-1, keepdims=True))",
               "Z_i = np.exp(scores_i - highest).sum(axis=-1, keepdims=True), and Z_t in the same way."),
        facts=FACTS,
        mistakes={
            "exp overflows for large scores, and all underflow for very low ones: subtract the largest of both kinds first": lambda **given: _share(
                **given, highest=lambda i, t: (0, 0)),
            "the same number must be subtracted from both kinds; yours subtracts from each its own largest": lambda **given: _share(
                **given, highest=_own_highest),
            "each word has a largest score of its own; with one for all words the scores of others underflow to 0 / 0": lambda **given: _share(
                **given, highest=lambda i, t: (max(i.max(), t.max()),) * 2),
            "highest is the largest of both kinds; yours is the largest at the words": lambda **given: _share(
                **given, highest=lambda i, t: (t.max(axis=-1, keepdims=True),) * 2),
            "that is the share of the words: Z_i stands above": lambda **given: _share(**given, of_words=True),
            "Z is a sum over keys, not their mean: a modality with more keys has more": lambda **given: _share(**given, gather=np.mean),
            "the sum over keys, not the largest of them": lambda **given: _share(**given, gather=np.max),
            "it is Z_i / (Z_i + Z_t), not Z_i / Z_t": lambda **given: 1 / (1 / _share(**given) - 1),
            "the summed axis must stay, with size 1: keepdims=True": lambda **given: _share(**given)[..., 0],
        },
    ),
    Exercise(
        3, "joint_attention_forward", "one look at both", joint,
        hints=("Five products: q, k_t, v_t of x, and k_i, v_i of the image.",
               "k = np.concatenate([k_i, k_t], axis=1), and v in the same way. The mask is prefix_mask(N, T)[N:].",
               "mixed, attention = attention_forward(q, k, v, prefix_mask(N, T)[N:]), then out = mixed @ W_o."),
        facts=FACTS,
        mistakes={
            "words must not see later words: attention_forward needs the mask": lambda **given: _forward(
                **given, allowed=lambda N, T: np.ones((T, N + T), bool)),
            "np.tril of (T, N + T) begins at the image; the words' rows are prefix_mask(N, T)[N:]": lambda **given: _forward(
                **given, allowed=lambda N, T: np.tril(np.ones((T, N + T), bool))),
            "the words' rows of the mask are the last T, not the first": lambda **given: _forward(
                **given, allowed=lambda N, T: _mask(N, T)[:T]),
            "prefix_mask(N, T) takes the number of image tokens first; yours are swapped": lambda **given: _forward(
                **given, allowed=lambda N, T: _mask(T, N)[N:]),
            "a mask is True where looking is allowed": lambda **given: _forward(**given, allowed=lambda N, T: ~_mask(N, T)[N:]),
            "the image comes first, in the keys as in the mask": lambda **given: _forward(**given, words_first=True),
            "the image comes first, so that the cache holds it first": lambda **given: _forward(
                **given, words_first=True, allowed=lambda N, T: np.roll(_mask(N, T)[N:], T, axis=1)),
            "keys and values are swapped": lambda **given: _forward(**given, swapped=True),
            "attention_forward divides by sqrt(D) itself": lambda **given: _forward(**given | {"W_q": given["W_q"] / 2}, kept=lambda cache: (
                *cache[:2], given["W_q"], *cache[3:])),
            "W_o is missing": lambda **given: _forward(**given, last=False),
            "x is not added here: the residual connection stands around it": lambda **given: _forward(**given, direct=1),
            "the cache is not returned": lambda **given: _forward(**given, whole=False),
            "one softmax over the keys of both kinds; yours has two, and adds the results (and the cache is missing)": _apart,
            "the cache ends with attention, mixed": lambda **given: _forward(**given, kept=lambda cache: (*cache[:8], cache[9], cache[8])),
        },
    ),
    Exercise(
        4, "joint_attention_backward", "cut, and add", joint, forward="joint_attention_forward",
        differentiable=("x", "image", "W_q", "W_kt", "W_vt", "W_ki", "W_vi", "W_o"),
        hints=("Walk back through the lines of joint_attention_forward, from the last to the first.",
               "The backward of a concatenation is a cut: d_k_i, d_k_t = d_k[:, :N], d_k[:, N:], and the same for d_v.",
               "product_gradient(left, d_out) is the gradient of W in left @ W; the other side gets d_out @ W.T.",
               "d_image = d_k_i @ W_ki.T + d_v_i @ W_vi.T, and d_x has three terms, as x was also the queries."),
        facts=FACTS,
        mistakes={
            "x was used as queries, too: d_q W_q^T is missing in d_x": lambda *given: _back(*given, uses=(0, 1, 1)),
            "x was used as keys, too: d_k_t W_kt^T is missing in d_x": lambda *given: _back(*given, uses=(1, 0, 1)),
            "x was used as values, too: d_v_t W_vt^T is missing in d_x": lambda *given: _back(*given, uses=(1, 1, 0)),
            "x was also looked at: d_k_t W_kt^T + d_v_t W_vt^T is missing in d_x": lambda *given: _back(*given, uses=(1, 0, 0)),
            "the image was used as keys, too: d_k_i W_ki^T is missing in d_image": lambda *given: _back(*given, image_uses=(0, 1)),
            "the image was used as values, too: d_v_i W_vi^T is missing in d_image": lambda *given: _back(*given, image_uses=(1, 0)),
            "the image comes first in k and v: its rows are the first N": lambda *given: _back(
                *given, cut=lambda N, T: (slice(T, N + T), slice(0, T))),
            "the words' rows begin at N, where the image ends: d_k[:, N:], not d_k[:, :T]": lambda *given: _back(
                *given, cut=lambda N, T: (slice(0, N), slice(0, T))),
            "attention_backward gets d_mixed, what comes back through W_o, not d_out": lambda *given: _back(*given, through=False),
            "attention_backward gives d_q, d_k, d_v in this order: d_k and d_v are swapped": lambda *given: _back(*given, swapped=True),
            "d_k_i goes back through W_ki and d_v_i through W_vi; yours are crossed": lambda *given: _back(*given, crossed=True),
            "d_out is not added to d_x: joint_attention_forward has no residual connection": lambda *given: _back(*given, direct=1),
            "a transpose is missing: through y = x W comes back d_y W^T": lambda *given: _back(*given, transposed=False),
            "d_x comes first, then d_image": lambda *given: _back(*given, order=(1, 0, 2, 3, 4, 5, 6, 7)),
            "the order is d_x, d_image, d_W_q, d_W_kt, d_W_vt, d_W_ki, d_W_vi, d_W_o: keys before values": lambda *given: _back(
                *given, order=(0, 1, 2, 4, 3, 6, 5, 7)),
            "the order is d_x, d_image, d_W_q, d_W_kt, d_W_vt, d_W_ki, d_W_vi, d_W_o: the words' weights before the image's":
                lambda *given: _back(*given, order=(0, 1, 2, 5, 6, 3, 4, 7)),
            "yours stand in the order of the walk back; the order is d_x, d_image, d_W_q, d_W_kt, d_W_vt, d_W_ki, d_W_vi, d_W_o":
                lambda *given: _back(*given, order=(0, 1, 7, 6, 5, 4, 3, 2)),
        },
    ),
    Exercise(
        5, "concatenated_backward", "shared weights", concatenated, forward="concatenated_forward",
        differentiable=("x", "image", "W_q", "W_k", "W_v", "W_o"),
        hints=("It is the backward of a self-attention over the sequence; the cut comes at the end.",
               "d_W_k = product_gradient(sequence, d_k): the rows of both kinds, as they share the matrix.",
               "d_sequence = d_q @ W_q.T + d_k @ W_k.T + d_v @ W_v.T; d_image is its first N rows, d_x the others."),
        facts=OF_A_SEQUENCE,
        mistakes={
            "here the image tokens ask, too: d_q W_q^T is missing in d_image": lambda *given: _back_of_sequence(*given, image_uses=(0, 1, 1)),
            "both kinds share the weights: their gradients are sums over the rows of image and words": lambda *given: _back_of_sequence(
                *given, weights_from="words"),
            "every row was also looked at: d_k W_k^T + d_v W_v^T is missing": lambda *given: _back_of_sequence(
                *given, uses=(1, 0, 0), image_uses=(1, 0, 0)),
            "every row also asked: d_q W_q^T is missing": lambda *given: _back_of_sequence(*given, uses=(0, 1, 1), image_uses=(0, 1, 1)),
            "the image comes first in the sequence: its rows are the first N": lambda *given: _back_of_sequence(*given, cut=lambda N, T: T),
            "attention_backward gets d_mixed, what comes back through W_o, not d_out": lambda *given: _back_of_sequence(*given, through=False),
            "the image's rows of d_out count, too: all rows go on": lambda d_out, cache: _back_of_sequence(
                np.where(np.arange(d_out.shape[1])[:, None] < cache[1], 0, d_out), cache),
            "d_out is not added: there is no residual connection": lambda *given: _back_of_sequence(*given, direct=1),
            "d_x comes first, then d_image": lambda *given: _back_of_sequence(*given, order=(1, 0, 2, 3, 4, 5)),
            "yours stand in the order of the walk back; the order is d_x, d_image, d_W_q, d_W_k, d_W_v, d_W_o": lambda *given: _back_of_sequence(
                *given, order=(0, 1, 5, 4, 3, 2)),
        },
    ),
]
