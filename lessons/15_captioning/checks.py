"""What `tinymm check 15` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def captions(rng):
    """Three captions of different lengths; the labels at the padding are words, too."""
    lengths = rng.permutation([5, 2, 3])
    return {"logits": rng.normal(size=(3, 5, 7)), "labels": rng.integers(7, size=(3, 5)), "real": np.arange(5) < lengths[:, None]}


def captions_of_any_size(rng):
    """In some draws exponentials overflow; the first is none of them."""
    large, given = rng.random() > 0.6, captions(rng)
    return given | {"logits": 1000 * given["logits"]} if large else given


def looking(rng):
    """One image has three captions, one has one, and the last has none."""
    b, c = rng.permutation(2)
    return {"x": rng.normal(size=(4, 2, 5)), "tokens": rng.normal(size=(3, 6, 5)), "index": rng.permutation([b, b, b, c])}


def beginnings(rng):
    """Some beginning has two children; at times there are fewer extensions than the width."""
    few = rng.random() > 0.7
    K, V, width = (1, 3, 5) if few else (4, 23, 10)
    log_p = log_softmax(rng.normal(0, 1.5, (K, V)))                                        # (K, V)
    return {"scores": -np.sort(rng.uniform(0.5, 5, K)), "log_p": log_p, "width": width}


def log_softmax(x):
    return x - np.log(np.exp(x).sum(axis=-1, keepdims=True))


def made_up(table, end):
    """A model that can be asked: its probabilities depend on all words of the text, and on their order."""
    def next_log_p(texts):
        if not isinstance(texts, np.ndarray) or texts.dtype.kind not in "iu":
            raise TypeError("next_log_p takes texts, an array of whole numbers (K, t), "
                            f"but got {getattr(texts, 'dtype', type(texts).__name__)}")
        if texts.ndim != 2 or not len(texts):
            raise ValueError(f"next_log_p takes the K open texts, (K, t), but got {texts.shape}")
        if texts.shape[1] > 20:
            raise ValueError("next_log_p was given more than 20 words: the loop must also stop at `longest`")
        places = np.zeros(len(texts), int)
        for t in range(texts.shape[1]):
            places = (places * 5 + texts[:, t] + 1) % len(table)
        return table[places]
    return next_log_p


# Seeds of models that together tell the searches with a mistake (below) from the right one, and from each other, and also some that have no
# sentence below: a text that has ended and still competes in the beam, scores that get out of step with their texts, an end after the first
# round whose best text ended, no end when no text is open, a beam that is one wider or narrower. With 4 no text ends in time.
MODELS = (468, 24, 1334, 4, 468, 1334, 1334, 4, 24)


def searching(rng):
    seed = MODELS[int(rng.integers(len(MODELS)))]
    draw = np.random.default_rng(seed)
    table, end = draw.normal(0, 1.2, (97, 5)), int(draw.integers(1, 5))                    # (97, V)
    table[:, end] += -40 if seed == 4 else 0.5
    return {"next_log_p": made_up(log_softmax(table), end), "end": end, "width": 2 + seed % 3, "longest": 6, "power": 1.2}


FACTS = {
    "log_p": "logits minus the logarithm of the sum of their exponentials over the words, the last axis",
    "right": "log_p of the label at each place: right[b, t] = log_p[b, t, labels[b, t]]",
    "y": "1 at the label, 0 at all other words",
    "share": "d_loss / M at real words, M the number of real words in the whole batch, and 0 at the padding",
    "d_logits": "share * (p - y); share needs an axis for the words",
    "d_values": "out = weights memory, memory as values: weights^T d_out, a sum over the words of a caption",
    "d_weights": "out = weights memory: d_out memory^T",
    "d_scores": "through the softmax: weights * (d_weights - mean), with the mean of d_weights under the weights, so each row sums to 0",
    "d_keys": "scores = x memory^T / sqrt(D), memory as keys: d_scores^T x / sqrt(D), a sum over the words of a caption",
    "d_x": "scores = x memory^T / sqrt(D): d_scores memory / sqrt(D)",
    "d_memory": "each token was a value and a key: d_values + d_keys",
    "d_tokens": "all captions of an image read the same tokens: begin with zeros (B, N, D), and np.add.at(d_tokens, index, d_memory)",
    "totals": "totals[k, v] = scores[k] + log_p[k, v]: scores needs an axis for the words",
    "chosen": "the places of the `width` largest in the flattened totals, the best first",
    "parents": "place f of the flattened totals stands in row f // V, with V the number of words",
    "words": "place f of the flattened totals stands in column f % V, with V the number of words",
    "new_scores": "the totals of those that were chosen",
}


# ---- the exercises with a mistake in them ---------------------------------------------------------------------------


def _probabilities(logits):
    shifted = logits - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def _loss(mean=lambda right, real: -(right * real).sum() / real.sum(), keep=np.exp, order=(0, 1, 2), result=lambda out, cache: (out, cache)):
    """sequence_loss_forward, with one of these pieces changed."""
    def wrong(logits, labels, real):
        log_p = _probabilities(logits)
        right = np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0]
        cache = keep(log_p), labels, real
        return result(mean(right, real), tuple(cache[place] for place in order))
    return wrong


def _loss_back(share=lambda d_loss, real: d_loss * real / real.sum(), gap=lambda p, y: p - y):
    """sequence_loss_backward, with one of these pieces changed."""
    def wrong(d_loss, cache):
        p, labels, real = cache
        return share(d_loss, real)[..., None] * gap(p, np.eye(p.shape[-1])[labels])
    return wrong


def _scatter(d_memory, index, B):
    d_tokens = np.zeros((B, *d_memory.shape[1:]))
    np.add.at(d_tokens, index, d_memory)
    return d_tokens


def _last_only(d_memory, index, B):
    d_tokens = np.zeros((B, *d_memory.shape[1:]))
    d_tokens[index] += d_memory
    return d_tokens


def _image_back(values=1, keys=1, key_scale=1, x_scale=1, both=1, mean=1, scatter=_scatter, order=(0, 1), words=lambda part: part, extra=0):
    """read_image_backward, with one of these pieces changed. `key_scale` and `x_scale` are exponents of sqrt(D)."""
    def wrong(d_out, cache):
        x, memory, weights, index, B = cache
        root = np.sqrt(memory.shape[-1])
        d_weights = d_out @ memory.swapaxes(-1, -2)
        d_scores = weights * (d_weights - mean * (weights * d_weights).sum(axis=-1, keepdims=True))
        d_values, d_keys = weights.swapaxes(-1, -2) @ d_out, d_scores.swapaxes(-1, -2) @ x / root ** key_scale
        d_x = d_scores @ memory / root ** x_scale + extra * d_out
        results = d_x, scatter(values * d_values + keys * d_keys, index, B)
        return tuple(results[place] for place in order)
    return wrong


def _step(total=lambda scores, log_p: scores[:, None] + log_p, rank=lambda totals: np.argsort(-totals, axis=None), split=None,
          score=lambda totals, log_p, chosen: totals.flat[chosen], order=(0, 1, 2), turn=1):
    """beam_step, with one of these pieces changed."""
    def wrong(scores, log_p, width):
        totals = total(scores, log_p)
        chosen = rank(totals)[:width][::turn]
        parents, words = np.divmod(chosen, split(log_p) if split else log_p.shape[1])
        results = score(totals, log_p, chosen), parents, words
        return tuple(results[place] for place in order)
    return wrong


def _best_of_each(scores, log_p, width):
    totals = scores[:, None] + log_p
    words = totals.argmax(axis=1)
    parents = np.argsort(-totals.max(axis=1))[:width]
    return totals.max(axis=1)[parents], parents, words[parents]


def _search(next_log_p, end, width, longest, power, normalise=True, at_length=0, first=False, beside=False, every=False, more=0,
            cut=0, mixed=False, enough=False, kept=False, pick=max, shrinks=False, hasty=False, likeliest=False):
    """beam_search, with one of these pieces changed."""
    power, width = (power if normalise else 0), (1 if every else width)
    beam, sums, aside = np.zeros((1, 0), int), np.zeros(1), []
    for t in range(1, longest + 1 + more):
        totals = sums[:, None] + next_log_p(beam)
        if beside:                                              # those that end take no place in the beam
            aside += [(total / t ** power, np.append(text, end)) for total, text in zip(totals[:, end], beam)]
            totals[:, end] = -np.inf
        chosen = np.argsort(-totals, axis=None, kind="stable")[:max(width - len(aside), 1) if shrinks else width]
        parents, words = np.divmod(chosen, totals.shape[1])
        sums, beam = totals.flat[chosen], np.concatenate([beam[parents], words[:, None]], axis=1)
        ended = words == end
        aside += zip(sums[ended] / max(t + at_length, 1) ** power, beam[ended])
        if not kept:
            beam, sums = beam[~ended], sums[~ended]
        if not len(beam) or first and aside or enough and len(aside) >= width:
            break
        if hasty and aside and max(value for value, _ in aside) >= sums[0] / t ** power:
            break
    open_texts = list(zip(sums / (longest + more if normalise else 1) ** power, beam))
    value, text = pick((aside + open_texts) if mixed else (aside or open_texts),
                       key=lambda pair: pair[0] * len(pair[1]) ** power if likeliest else pair[0])
    return text[:len(text) - cut], value


EXERCISES = [
    Exercise(
        1, "sequence_loss_forward", "a mean over real words", captions_of_any_size,
        hints=("log_p: take the largest logit of each place away first, then the logarithm of the sum of the exponentials.",
               "np.take_along_axis(log_p, labels[..., None], axis=-1)[..., 0] picks the label's entry at each place.",
               "loss = -(right * real).sum() / real.sum(), and the cache begins with np.exp(log_p)."),
        facts=FACTS,
        mistakes={
            "the sum is divided by the number of real words, real.sum(); yours is divided by the number of all places":
                _loss(mean=lambda right, real: -(right * real).mean()),
            "padding does not count: multiply by real before the sum": _loss(mean=lambda right, real: -right.mean()),
            "padding does not count in the sum either: right * real": _loss(mean=lambda right, real: -right.sum() / real.sum()),
            "it is one mean over all real words, not the mean of the captions' means":
                _loss(mean=lambda right, real: -((right * real).sum(axis=1) / real.sum(axis=1)).mean()),
            "it is the mean over the words, not over the captions": _loss(mean=lambda right, real: -(right * real).sum() / len(real)),
            "it is a mean: divide by real.sum()": _loss(mean=lambda right, real: -(right * real).sum()),
            "real is True at the words that count, and False at the padding": _loss(mean=lambda right, real: -(right * ~real).sum() / (~real).sum()),
            "log_p[..., labels] takes every label at every place; np.take_along_axis(log_p, labels[..., None], axis=-1) takes each place's own":
                lambda logits, labels, real: (-(_probabilities(logits)[..., labels] * real).sum() / real.sum(),
                                              (np.exp(_probabilities(logits)), labels, real)),
            "the minus is missing": _loss(mean=lambda right, real: (right * real).sum() / real.sum()),
            "the cache holds the probabilities, np.exp(log_p)": _loss(keep=lambda log_p: log_p),
            "the cache is not returned: return loss, (p, labels, real)": _loss(result=lambda out, cache: out),
        },
    ),
    Exercise(
        2, "sequence_loss_backward", "p - y, where there is a word", captions, forward="sequence_loss_forward", differentiable=("logits",),
        hints=("For one real word the gradient is p - y; in the mean it has the share 1 / M.",
               "y = np.zeros_like(p), then np.put_along_axis(y, labels[..., None], 1, axis=-1).",
               "share = d_loss * real / real.sum(), and d_logits = share[..., None] * (p - y)."),
        facts=FACTS,
        mistakes={
            "the sign is wrong: p - y": _loss_back(gap=lambda p, y: y - p),
            "the loss itself has a gradient: d_loss is missing": _loss_back(share=lambda d_loss, real: real / real.sum()),
            "padding has no gradient: multiply by real": _loss_back(share=lambda d_loss, real: np.full(real.shape, d_loss / real.sum())),
            "the mean is over the real words: divide by real.sum(), not by the number of all places":
                _loss_back(share=lambda d_loss, real: d_loss * real / real.size),
            "the division by the number of real words is missing": _loss_back(share=lambda d_loss, real: d_loss * real),
            "the mean is over all real words of the batch, not over each caption by itself":
                _loss_back(share=lambda d_loss, real: d_loss * real / real.sum(axis=1, keepdims=True) / len(real)),
            "each caption is divided by its own length; the mean is over all real words of the batch":
                _loss_back(share=lambda d_loss, real: d_loss * real / real.sum(axis=1, keepdims=True)),
            "the mean is over the words, not over the captions": _loss_back(share=lambda d_loss, real: d_loss * real / len(real)),
            "padding has no gradient, neither of y nor of p: share * (p - y)":
                lambda d_loss, cache: d_loss * (cache[0] - np.eye(cache[0].shape[-1])[cache[1]] * cache[2][..., None]) / cache[2].sum(),
            "y has no gradient at the padding either: share * (p - y)":
                lambda d_loss, cache: d_loss * (cache[0] * cache[2][..., None] - np.eye(cache[0].shape[-1])[cache[1]]) / cache[2].sum(),
            "-1 / p is the gradient of p; through the softmax that of the logits is p - y": _loss_back(gap=lambda p, y: -y / p),
            "y is missing: p - y": _loss_back(gap=lambda p, y: p),
            "p is missing: p - y": _loss_back(gap=lambda p, y: -y),
        },
    ),
    Exercise(
        3, "read_image_backward", "all words speak to the image", looking, forward="read_image_forward", differentiable=("x", "tokens"),
        hints=("Walk back: out = weights memory, then the softmax, then scores = x memory^T / sqrt(D), then memory = tokens[index].",
               "memory is used twice: d_values = weights^T d_out, and d_keys = d_scores^T x / sqrt(D); d_memory is their sum.",
               "The softmax: d_scores = weights * (d_weights - (weights * d_weights).sum(axis=-1, keepdims=True)).",
               "memory = tokens[index] is a lookup in a table: np.add.at(d_tokens, index, d_memory)."),
        facts=FACTS,
        mistakes={
            "a token was a key, too: d_keys is missing": _image_back(keys=0),
            "a token was a value, too: d_values is missing": _image_back(values=0),
            "d_keys needs the division by sqrt(D), too": _image_back(key_scale=0),
            "d_x needs the division by sqrt(D), too": _image_back(x_scale=0),
            "d_keys and d_x need the division by sqrt(D), too": _image_back(key_scale=0, x_scale=0),
            "it is sqrt(D), not D": _image_back(key_scale=2, x_scale=2),
            "the mean is missing in the softmax: weights * (d_weights - mean)": _image_back(mean=0),
            "an image with several captions gets the sum: += with a repeated index keeps only the last; np.add.at": _image_back(scatter=_last_only),
            "an image with several captions gets the sum, not the mean": _image_back(
                scatter=lambda d, index, B: _scatter(d, index, B) / np.maximum(np.bincount(index, minlength=B), 1)[:, None, None]),
            "d_tokens has one entry for each image, not for each caption: add the captions up with np.add.at":
                _image_back(scatter=lambda d, index, B: d),
            "d_memory[index] picks captions; the captions must be added to their images: np.add.at(d_tokens, index, d_memory)":
                _image_back(scatter=lambda d, index, B: d[index][:B]),
            "d_x comes first, then d_tokens": _image_back(order=(1, 0)),
            "there is no residual connection here: d_out is not added to d_x": _image_back(extra=1),
        },
    ),
    Exercise(
        4, "beam_step", "extend, choose, remember the parent", beginnings,
        hints=("totals = scores[:, None] + log_p has a row for each beginning and a column for each word.",
               "np.argsort(-totals, axis=None)[:width] are the places of the best in the flattened table.",
               "np.divmod(chosen, log_p.shape[1]) gives the row, the parent, and the column, the word."),
        facts=FACTS,
        mistakes={
            "choose among all extensions together, not the best word of each beginning: one may have several children": _best_of_each,
            "yours keeps the worst: a higher logarithm is better": _step(rank=lambda totals: np.argsort(totals, axis=None)),
            "they are the right ones, but the best must come first": _step(turn=-1),
            "the scores so far are missing: scores[:, None] + log_p": _step(total=lambda scores, log_p: log_p),
            "logarithms are added, not multiplied": _step(total=lambda scores, log_p: scores[:, None] * log_p),
            "the new score is the whole one, scores + log_p, not that of the last word":
                _step(score=lambda totals, log_p, chosen: log_p.flat[chosen]),
            "row and column in the flattened table: divide by the number of words V, not of beginnings":
                _step(split=lambda log_p: len(log_p)),
            "parents and words are swapped": _step(order=(0, 2, 1)),
            "the order is new_scores, parents, words": _step(order=(1, 2, 0)),
            "these are probabilities: the scores are their logarithms": _step(score=lambda totals, log_p, chosen: np.exp(totals.flat[chosen])),
        },
    ),
    Exercise(
        5, "beam_search", "keep the best beginnings", searching,
        hints=("Begin with texts = np.zeros((1, 0), int), scores = np.zeros(1), and an empty list for those that are set aside.",
               "In each round: beam_step, then texts = np.concatenate([texts[parents], words[:, None]], axis=1).",
               "ended = words == end: put (scores / length ** power, text) of these aside, and go on with those that have not ended.",
               "Stop when no text is open, or after `longest` rounds; then take the best value. max(..., key=lambda pair: pair[0])"),
        facts=FACTS,
        mistakes={
            "the value is the score divided by length ** power": lambda **given: _search(**given, normalise=False),
            "`end` counts in the length": lambda **given: _search(**given, at_length=-1),
            "the first text that ends need not be the best: go on while texts are open": lambda **given: _search(**given, first=True),
            "texts that end take a place among the `width` best of their round, like all others": lambda **given: _search(**given, beside=True),
            "there may be a better text than the first `width` that end: go on while texts are open": lambda **given: _search(**given, enough=True),
            "an open text becomes longer, and its value may rise: go on while score / longest ** power of the best open one is greater":
                lambda **given: _search(**given, hasty=True),
            "the best value wins, not the best score": lambda **given: _search(**given, likeliest=True),
            "texts that have ended take no place in later rounds: `width` stays what it is": lambda **given: _search(**given, shrinks=True),
            "a text that was cut off counts only if none has ended": lambda **given: _search(**given, mixed=True),
            "the best value is the largest": lambda **given: _search(**given, pick=min),
            "it writes greedily: all `width` beginnings go on": lambda **given: _search(**given, every=True),
            "the `end` that a text says belongs to it": lambda **given: _search(**given, cut=1),
            "a text that has ended leaves the beam, and is not extended": lambda **given: _search(**given, kept=True),
            "a text may have `longest` words, but yours stops one word before": lambda **given: _search(**given, more=-1),
            "a text may have `longest` words, but yours writes one more": lambda **given: _search(**given, more=1),
            "the text comes first, then its value": lambda **given: _search(**given)[::-1],
        },
    ),
]
