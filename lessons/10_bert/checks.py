"""What `tinymm check 10` looks at."""

import numpy as np

from tinymm.functional import gelu_backward, gelu_forward
from tinymm.learning.exercise import Exercise

N_SPECIAL, MASK, V = 3, 2, 11


def texts(rng):
    """Places of every kind: special tokens with a small draw, chosen words of all three fates, and each limit itself."""
    ids = rng.integers(N_SPECIAL, V, size=(3, 8))
    ids[:, 0], ids[1, 5:], ids[2, 3] = 1, 0, N_SPECIAL
    draw, fate = rng.random((3, 8)), rng.random((3, 8))
    draw[:, 0], draw[1, 6], draw[2, 1:5] = 0.01, 0.02, 0.1
    draw[1, 1:4], fate[1, 1:4] = 0.9, [0.3, 0.84, 0.95]      # words that are not chosen, with each fate
    fate[2, 1:5] = [0.3, 0.8, 0.87, 0.93]
    draw[0, 1:4], fate[0, 2:4] = [0.4, 0.2, 0.3], [0.83, 0.9]                # the first of these three is not chosen
    other = N_SPECIAL + (ids + 2) % (V - N_SPECIAL)
    return {"ids": ids, "draw": draw, "fate": fate, "other": other, "share": 0.4, "mask_id": MASK, "n_special": N_SPECIAL}


def head(rng):
    chosen = rng.permutation([True] * 3 + [False] * 5).reshape(2, 4)
    return {"hidden": rng.normal(size=(2, 4, 5)), "table": rng.normal(size=(6, 5)), "W": rng.normal(size=(5, 5)) / 2,
            "b": rng.normal(size=5), "bias": rng.normal(size=6), "chosen": chosen, "labels": rng.integers(6, size=3)}


def sure_head(rng):
    """Large logits, of another size at each place, and one right word so unlikely that its probability is rounded to 0."""
    inputs = head(rng)
    inputs["bias"] += 1000
    inputs["bias"][inputs["labels"][0]] -= 1500
    inputs["hidden"][tuple(np.argwhere(inputs["chosen"])[1])] *= 2000        # its logits are far from those of the others
    return inputs


def neighbours(rng):
    """Words repeat, 5 is nowhere read, and of the chosen places some stand at the ends."""
    inputs = head(rng)
    inputs["ids"] = rng.permutation([0, 1, 1, 2, 2, 2, 3, 4]).reshape(2, 4)
    inputs["chosen"] = np.array([[True, False, True, False], [False, False, False, True]])
    return {name: inputs[name] for name in ("table", "W", "b", "bias", "ids", "chosen", "labels")}


def padded(rng):
    return {"x": rng.normal(size=(3, 5, 4)), "real": np.arange(5) < rng.permutation([5, 1, 3])[:, None]}


FACTS = {
    "words": "True where the id is n_special or more",
    "chosen": "a word, and its draw is below share",
    "read": "at chosen places the mask, another word or the word itself, by fate; at all other places the token itself",
    "labels": "ids[chosen], one row of M ids: what stood at the chosen places, not what is read there",
    "h": "the M chosen rows of hidden: hidden[chosen]",
    "z": "h W + b",
    "a": "gelu_forward(z) gives a and its cache",
    "logits": "a times the transposed table, plus the bias of each word",
    "shifted": "the logits minus their row's largest: 0 at most",
    "log_p": "shifted minus the logarithm of its row's sum of exponentials: np.exp(log_p) sums to 1 in each row",
    "p": "np.exp(log_p): each row sums to 1",
    "y": "one 1 in each row, at the label",
    "d_logits": "d_loss (p - y) / M, with M the number of chosen places",
    "d_bias": "every chosen place used the bias: the sum of d_logits over the places, axis 0",
    "d_table": "logits = a table^T: d_logits^T a",
    "d_a": "logits = a table^T: d_logits times the table",
    "d_z": "gelu_backward(d_a, gelu)",
    "d_W": "z = h W + b: h^T d_z",
    "d_b": "every chosen place used b: the sum of d_z over the places, axis 0",
    "d_h": "z = h W + b: d_z W^T",
    "d_hidden": "d_h at the chosen places, and zero everywhere else",
    "counts": "how many real tokens each text has, as a column",
    "shares": "1 / n at real tokens, 0 at padding: each row sums to 1",
    "out": "the sum over the places T of share times vector",
    "d_x": "to each token its share of d_out",
    "d_read": "the table's part as the input: to row v the sum of d_x over all places where v was read",
}


# ---- the exercises with a mistake in them ---------------------------------------------------------------------------


def _mask(choose=lambda ids, draw, share, n_special: (ids >= n_special) & (draw < share), low=0.8, high=0.9,
          masks=lambda chosen: chosen, others=lambda chosen: chosen, kept_mask=True, swapped=False, hole=False,
          labels=lambda ids, read, chosen, mask_id: ids[chosen], result=lambda read, chosen, labels: (read, chosen, labels)):
    """mask_words, with one of these pieces changed."""
    def wrong(ids, draw, fate, other, share, mask_id, n_special):
        chosen = choose(ids, draw, share, n_special)
        middle = fate >= high if swapped else (fate > low if hole else fate >= low) & (fate < high)
        read = np.where(masks(chosen) & (fate < low), mask_id, ids)
        read = np.where(others(chosen) & middle, other, read if kept_mask else ids)
        return result(read, chosen, labels(ids, read, chosen, mask_id))
    return wrong


def _everywhere(chosen):
    return np.ones_like(chosen)


def _softmax(logits, axis=-1):
    """log p and p."""
    shifted = logits - logits.max(axis=axis, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return log_p, np.exp(log_p)


def _overflowing(logits):
    exps = np.exp(logits)
    p = exps / exps.sum(axis=-1, keepdims=True)
    return np.log(p), p


def _shifted_by(largest, divided):
    """A softmax that is shifted by something else; p is divided by its sum, or made from log p."""
    def softmax(logits):
        powers = np.exp(logits - largest(logits))
        total = powers.sum(axis=-1, keepdims=True)
        log_p = logits - largest(logits) - np.log(total)
        return log_p, powers / total if divided else np.exp(log_p)
    return softmax


def _head(take=lambda hidden, chosen: hidden[chosen], linear=lambda h, W, b: h @ W + b, bend=gelu_forward,
          scores=lambda a, h, table, bias: a @ table.T + bias, softmax=_softmax,
          loss=lambda log_p, labels, chosen: _of_labels(log_p, labels).mean(), result=lambda loss, cache: (loss, cache)):
    """masked_loss_forward, with one of these pieces changed."""
    def wrong(hidden, table, W, b, bias, chosen, labels):
        h = take(hidden, chosen)
        a, gelu = bend(linear(h, W, b))
        log_p, p = softmax(scores(a, h, table, bias))
        return result(loss(log_p, labels, chosen), (hidden, table, W, chosen, labels, h, gelu, a, p))
    return wrong


def _of_labels(log_p, labels):
    return -log_p[np.arange(len(labels)), labels]


def _head_back(start=lambda d_loss, p, y, chosen: d_loss * (p - y) / len(y), one=lambda labels: np.arange(len(labels)),
               add_up=np.sum, through=lambda d_logits, table: d_logits @ table, bend=gelu_backward, table_met=lambda h, a: a,
               W_met=lambda h, a: h, back=lambda W: W.T, put=None, order=(0, 1, 2, 3, 4)):
    """masked_loss_backward, with one of these pieces changed."""
    def wrong(d_loss, cache):
        hidden, table, W, chosen, labels, h, gelu, a, p = cache
        y = np.zeros_like(p)
        y[one(labels), labels] = 1
        d_logits = start(d_loss, p, y, chosen)
        d_z = bend(through(d_logits, table), gelu)
        d_h = d_z @ back(W)
        d_hidden = np.zeros_like(hidden)
        d_hidden[chosen] = d_h
        d_hidden = put(d_h, hidden, chosen) if put else d_hidden
        d_table, d_W = d_logits.T @ table_met(h, a), W_met(h, a).T @ d_z
        results = (d_hidden, d_table, d_W, add_up(d_z, axis=0), add_up(d_logits, axis=0))
        return tuple(results[place] for place in order)
    return wrong


def _in_front(d_h, hidden, chosen):
    d_hidden = np.zeros_like(hidden)
    d_hidden.reshape(-1, hidden.shape[-1])[:len(d_h)] = d_h
    return d_hidden


def _on_top(d_h, hidden, chosen):
    d_hidden = hidden.copy()
    d_hidden[chosen] = d_h
    return d_hidden


def _to_neighbours(left=1, right=1):
    """What each x_t gets: from the place behind it, as its left neighbour, and from that before it, as its right one."""
    def d_x(d_hidden):
        d_x = np.zeros_like(d_hidden)
        d_x[:, :-1] += left * d_hidden[:, 1:]
        d_x[:, 1:] += right * d_hidden[:, :-1]
        return d_x
    return d_x


def _neighbours(d_x=_to_neighbours(), said=1, read=1, add=np.add.at, loss=lambda d_loss: d_loss,
                result=lambda results, d_x: results):
    """neighbours_backward, with one of these pieces changed."""
    def wrong(d_loss, cache):
        ids, inner = cache
        d_hidden, d_table, *others = _head_back()(loss(d_loss), inner)
        x = d_x(d_hidden)
        d_table = said * d_table
        add(d_table, ids, read * x)
        return result((d_table, *others), x)
    return wrong


def _last_only(d_table, ids, d_x):
    d_table[ids] += d_x


def _between_texts(d_hidden):
    d_x = np.zeros_like(d_hidden)
    d_x[1:] += d_hidden[:-1]
    d_x[:-1] += d_hidden[1:]
    return d_x


def _pool(shares=lambda real: real / real.sum(axis=1, keepdims=True),
          out=lambda x, shares: (shares[:, :, None] * x).sum(axis=1),
          result=lambda out, shares, real: (out, shares)):
    """mean_pool_forward, with one of these pieces changed."""
    return lambda x, real: result(out(x, shares(real)), shares(real), real)


def _pool_back(formula):
    return lambda d_out, cache: formula(d_out[:, None, :], cache[:, :, None])


# ---- the exercises -------------------------------------------------------------------------------------------------

EXERCISES = [
    Exercise(
        1, "mask_words", "hide some words", texts,
        hints=("words = ids >= n_special; chosen = words & (draw < share). The brackets matter: & comes before <.",
               "np.where(condition, this, that) chooses place by place, and makes a new array.",
               "First the mask: read = np.where(chosen & (fate < 0.8), mask_id, ids); then the other word into that read, "
               "where fate is from 0.8 to below 0.9.",
               "labels = ids[chosen]"),
        facts=FACTS,
        mistakes={
            "special tokens are never chosen": _mask(lambda ids, draw, share, n: draw < share),
            "an id of n_special is a word already: ids >= n_special": _mask(
                lambda ids, draw, share, n: (ids > n) & (draw < share)),
            "a place is chosen where its draw is below share, not above": _mask(
                lambda ids, draw, share, n: (ids >= n) & (draw >= share)),
            "a place is chosen where its draw is below share: a draw of exactly share is not": _mask(
                lambda ids, draw, share, n: (ids >= n) & (draw <= share)),
            "a fate of exactly 0.8 is not below 0.8: there a word by chance is read": _mask(low=np.nextafter(0.8, 1)),
            "a fate of exactly 0.9 is not below 0.9: there the word itself is read": _mask(high=np.nextafter(0.9, 1)),
            "a fate of exactly 0.8 belongs to one of the three cases, the word by chance: fate >= 0.8": _mask(hole=True),
            "all words are chosen: the draw is not used": _mask(lambda ids, draw, share, n: ids >= n),
            "a tenth of the chosen words stays as it is: where fate is 0.9 or more": _mask(high=2.0),
            "every chosen place becomes the mask: the fate, a number of its own beside draw, is not used": _mask(low=2.0),
            "only chosen places change; yours looks at the fate alone": _mask(masks=_everywhere, others=_everywhere),
            "only chosen places become the mask; yours looks at the fate alone": _mask(masks=_everywhere),
            "only at chosen places a word by chance is read; yours looks at the fate alone": _mask(others=_everywhere),
            "the limits of the fate are 0.8 and 0.9 themselves, whatever the share is": _mask(low=0.8 * 0.4, high=0.9 * 0.4),
            "the word by chance must be put into what is read already; yours puts it into ids, and loses the masks": _mask(
                kept_mask=False),
            "the labels are what stood there, not what is read there": _mask(
                labels=lambda ids, read, chosen, mask_id: read[chosen]),
            "the labels are the ids that stood there, not the numbers of their places: ids[chosen]": _mask(
                labels=lambda ids, read, chosen, mask_id: np.flatnonzero(chosen)),
            "the labels are the ids that stood there, not rows and columns of their places: ids[chosen]": _mask(
                labels=lambda ids, read, chosen, mask_id: np.argwhere(chosen)),
            "all chosen places have a label, not only those under the mask": _mask(
                labels=lambda ids, read, chosen, mask_id: ids[read == mask_id]),
            "all chosen places have a label, also those where the word itself is read": _mask(
                labels=lambda ids, read, chosen, mask_id: ids[read != ids]),
            "the labels are those of the chosen places alone, in one row: ids[chosen]": _mask(
                labels=lambda ids, read, chosen, mask_id: ids),
            **{f"the labels are in one row of M ids: ids[chosen]; yours is a table, with {fill} at all other places": _mask(
                labels=lambda ids, read, chosen, mask_id, fill=fill: np.where(chosen, ids, fill)) for fill in (0, -1, -100)},
            "the word itself and the word by chance are swapped": _mask(swapped=True),
            "chosen is not returned: return read, chosen, labels": _mask(result=lambda read, chosen, labels: (read, labels)),
            "the order is read, chosen, labels": _mask(result=lambda read, chosen, labels: (chosen, read, labels))},
    ),
    Exercise(
        2, "masked_loss_forward", "the loss at the chosen places", sure_head,
        hints=("hidden[chosen] with a boolean array takes the M rows out, text by text.",
               "The table's transpose makes the scores: a @ table.T + bias.",
               "Subtract each row's largest, and take log p as in chapter 2: shifted - np.log(np.exp(shifted).sum(axis=-1, "
               "keepdims=True)).",
               "log_p[np.arange(M), labels] are those of the labels, with M = len(labels)."),
        facts=FACTS,
        mistakes={
            "the loss is the mean over the chosen places, not the sum": _head(
                loss=lambda log_p, labels, chosen: _of_labels(log_p, labels).sum()),
            "the mean is over the chosen places, not over all places": _head(
                loss=lambda log_p, labels, chosen: _of_labels(log_p, labels).sum() / chosen.size),
            "the mean is over the chosen places, not over the texts": _head(
                loss=lambda log_p, labels, chosen: _of_labels(log_p, labels).sum() / len(chosen)),
            "the loss is one number: the mean is missing": _head(
                loss=lambda log_p, labels, chosen: _of_labels(log_p, labels)),
            "the sign is missing: log p is negative, the loss is not": _head(
                loss=lambda log_p, labels, chosen: -_of_labels(log_p, labels).mean()),
            "only the label's log p counts at a place, not the mean over all words": _head(
                loss=lambda log_p, labels, chosen: -log_p.mean()),
            "log_p[:, labels] takes all labels from every row; one of each row is log_p[np.arange(M), labels]": _head(
                loss=lambda log_p, labels, chosen: -log_p[:, labels].mean()),
            "a probability was rounded to 0 before its logarithm: make log p from the logits, as in chapter 2": _head(
                softmax=lambda logits: (np.log(_softmax(logits)[1]), _softmax(logits)[1])),
            **{f"{small} inside the logarithm only hides that a probability was rounded to 0: make log p from the logits": _head(
                softmax=lambda logits, small=small: (np.log(_softmax(logits)[1] + small), _softmax(logits)[1]))
               for small in (1e-12, 1e-10, 1e-9, 1e-8)},
            **{f"each place has a largest logit of its own: logits.max(axis=-1, keepdims=True), not that of all {what}": _head(
                softmax=_shifted_by(np.max, divided)) for what, divided in (("places", True), ("rows", False))},
            "the logits overflow in np.exp: subtract each row's largest first": _head(softmax=_overflowing),
            **{f"the logits overflow in np.exp: subtract the largest of each {what} first": _head(
                softmax=_shifted_by(lambda logits: 0, divided)) for what, divided in (("place", True), ("row", False))},
            "the softmax is over the words of a place, the last axis": _head(
                softmax=lambda logits: _softmax(logits, axis=0)),
            "the gelu is missing": _head(bend=lambda z: (z, gelu_forward(z)[1])),
            "the first bias, b, is missing from z": _head(linear=lambda h, W, b: h @ W),
            "W is not transposed: z = h W + b": _head(linear=lambda h, W, b: h @ W.T + b),
            "the bias of each word is missing from the logits": _head(scores=lambda a, h, table, bias: a @ table.T),
            "the table meets a, not h": _head(scores=lambda a, h, table, bias: h @ table.T + bias),
            "the last part of the cache is the softmax, not its logarithm": _head(
                softmax=lambda logits: (_softmax(logits)[0],) * 2),
            "only the chosen places go through the head: h = hidden[chosen]": _head(
                take=lambda hidden, chosen: hidden.reshape(-1, hidden.shape[-1]),
                loss=lambda log_p, labels, chosen: -log_p[chosen.ravel()][np.arange(len(labels)), labels].mean()),
            "the cache is not returned: return loss, (hidden, table, W, chosen, labels, h, gelu, a, p)": _head(
                result=lambda loss, cache: loss)},
    ),
    Exercise(
        3, "masked_loss_backward", "back to the chosen places", head, forward="masked_loss_forward",
        differentiable=("hidden", "table", "W", "b", "bias"),
        hints=("The beginning is p - y, times d_loss, divided by the number of chosen places.",
               "logits = a table^T + bias: d_bias = d_logits.sum(axis=0), d_table = d_logits.T @ a, d_a = d_logits @ table.",
               "d_z = gelu_backward(d_a, gelu); then d_W = h.T @ d_z, d_b = d_z.sum(axis=0), d_h = d_z @ W.T.",
               "d_hidden = np.zeros_like(hidden); d_hidden[chosen] = d_h"),
        facts=FACTS,
        mistakes={
            "the division by M is missing: the loss is a mean": _head_back(lambda d_loss, p, y, chosen: d_loss * (p - y)),
            "divide by the number of chosen places, not by that of all places": _head_back(
                lambda d_loss, p, y, chosen: d_loss * (p - y) / chosen.size),
            "divide by the number of chosen places, not by that of the texts": _head_back(
                lambda d_loss, p, y, chosen: d_loss * (p - y) / len(chosen)),
            "divide by the number of chosen places, not by the length of a text": _head_back(
                lambda d_loss, p, y, chosen: d_loss * (p - y) / chosen.shape[1]),
            "divide by the number of chosen places only; p.size also counts the words": _head_back(
                lambda d_loss, p, y, chosen: d_loss * (p - y) / p.size),
            "d_loss is not used: the chain rule multiplies by it": _head_back(lambda d_loss, p, y, chosen: (p - y) / len(y)),
            "it is y - p; it must be p - y": _head_back(lambda d_loss, p, y, chosen: d_loss * (y - p) / len(y)),
            "y is missing: p - y, not p": _head_back(lambda d_loss, p, y, chosen: d_loss * p / len(y)),
            "p - y has the softmax in it already: do not go through the softmax again": _head_back(
                lambda d_loss, p, y, chosen: p * ((p - y) - (p * (p - y)).sum(axis=-1, keepdims=True)) * d_loss / len(y)),
            "that is the gradient of p; through the softmax it becomes p - y": _head_back(
                lambda d_loss, p, y, chosen: -d_loss * y / p / len(y)),
            "y[:, labels] = 1 marks all labels in every row; one of each row is y[np.arange(M), labels]": _head_back(
                one=lambda labels: np.arange(len(labels))[:, None]),
            "biases get the sum over the chosen places: the mean is already in d_logits": _head_back(add_up=np.mean),
            "the slope of the gelu is missing: d_z = gelu_backward(d_a, gelu)": _head_back(bend=lambda d_a, gelu: d_a),
            "the table met a, what came out of the gelu, not h": _head_back(table_met=lambda h, a: h),
            "W met h, what was taken out of hidden, not a": _head_back(W_met=lambda h, a: a),
            "back through z = h W + b goes the transpose: d_h = d_z W^T": _head_back(back=lambda W: W),
            "d_h must be put back to its places: d_hidden[chosen] = d_h, with zeros elsewhere": _head_back(
                put=lambda d_h, hidden, chosen: d_h),
            "d_h goes back to where it was taken from, d_hidden[chosen], not to the first places": _head_back(put=_in_front),
            "at the places that are not chosen the gradient is 0; yours holds hidden there": _head_back(put=_on_top),
            "the results stand in the order d_hidden, d_table, d_W, d_b, d_bias; yours has d_bias before d_b": _head_back(
                order=(0, 1, 2, 4, 3)),
            "the results stand in the order d_hidden, d_table, d_W, d_b, d_bias; yours has d_table first": _head_back(
                order=(1, 0, 2, 3, 4)),
            "the results stand in the order d_hidden, d_table, d_W, d_b, d_bias; yours has d_table last": _head_back(
                order=(0, 2, 3, 4, 1))},
    ),
    Exercise(
        4, "neighbours_backward", "a table with two gradients", neighbours, forward="neighbours_forward",
        differentiable=("table", "W", "b", "bias"),
        hints=("masked_loss_backward gives d_hidden and d_head, the table's part as the output.",
               "x_t went into hidden_(t-1) and into hidden_(t+1), so it gets the gradients of both.",
               "d_x[:, 1:] += d_hidden[:, :-1], and d_x[:, :-1] += d_hidden[:, 1:].",
               "The table's part as the input is a scatter-add into zeros: np.add.at(d_read, ids, d_x).",
               "d_table = d_head + d_read"),
        facts=FACTS | {"d_hidden": "what your masked_loss_backward gives, unchanged (d_x is a new array): is exercise 3 right?",
                       "d_head": "what your masked_loss_backward gives, unchanged (d_read is a new array): is exercise 3 right?",
                       "d_W": "what your masked_loss_backward gives: is exercise 3 right?",
                       "d_b": "what your masked_loss_backward gives: is exercise 3 right?",
                       "d_bias": "what your masked_loss_backward gives: is exercise 3 right?",
                       "d_x": "d_x_t = d_hidden_(t-1) + d_hidden_(t+1): both places that took x_t",
                       "d_table": "the sum of both parts, as the output and as the input"},
        mistakes={
            "the table's part as the input is missing": _neighbours(read=0),
            "the table's part as the output is missing": _neighbours(said=0),
            "d_read begins with zeros; yours begins with d_head, which then counts twice": _neighbours(said=2),
            "d_read begins with zeros; yours is another name for d_head, so the sum is taken twice": _neighbours(said=2, read=2),
            "both parts are added, and not divided by 2: each use counts in full": _neighbours(said=0.5, read=0.5),
            "x_t went into both neighbours with the factor 1, not one half": _neighbours(_to_neighbours(left=0.5, right=0.5)),
            "words repeat: np.add.at, not d_read[ids] += d_x, which keeps only the last of a row": _neighbours(
                add=_last_only),
            "each place went to both of its neighbours; what comes from the one before it is missing": _neighbours(
                _to_neighbours(right=0)),
            "each place went to both of its neighbours; what comes from the one behind it is missing": _neighbours(
                _to_neighbours(left=0)),
            "hidden_t is made of its neighbours, not of x_t: shift d_hidden by one place each way": _neighbours(
                lambda d_hidden: d_hidden),
            "hidden_t is made of its neighbours alone; yours adds d_hidden_t as well": _neighbours(
                lambda d_hidden: d_hidden + _to_neighbours()(d_hidden)),
            "a text has ends: np.roll carries what falls off at one end to the other": _neighbours(
                lambda d_hidden: np.roll(d_hidden, 1, axis=1) + np.roll(d_hidden, -1, axis=1)),
            "neighbours stand along axis 1, the places; axis 0 counts the texts": _neighbours(_between_texts),
            "d_loss is not used: the chain rule multiplies by it": _neighbours(loss=lambda d_loss: 1.0),
            "ids has no gradient, and x is no input: return d_table, d_W, d_b, d_bias": _neighbours(
                result=lambda results, d_x: (d_x, *results))},
    ),
    Exercise(
        5, "mean_pool_forward", "one vector for a text", padded,
        hints=("real.sum(axis=1, keepdims=True) are the numbers of real tokens.",
               "shares = real / counts; then the sum over T of shares[:, :, None] * x."),
        facts=FACTS,
        mistakes={
            "padding counts, too: the mean must be over the real tokens only": _pool(
                lambda real: np.full(real.shape, 1 / real.shape[1])),
            "padding is left out of the sum, but counts in the division": _pool(lambda real: real / real.shape[1]),
            "it is the mean, not the sum": _pool(lambda real: real.astype(float)),
            "each text has its own number of real tokens; yours divides by that of all texts together": _pool(
                lambda real: real / real.sum()),
            "real is True at the tokens that count; yours takes the padding": _pool(
                lambda real: ~real / np.maximum((~real).sum(axis=1, keepdims=True), 1)),
            "the padding's vectors are still in the sum: they must be multiplied by 0": _pool(
                out=lambda x, shares: x.sum(axis=1) * shares.max(axis=1, keepdims=True)),
            "it is the mean over the real tokens, not the vector of the first place": _pool(out=lambda x, shares: x[:, 0]),
            "the shares sum to 1 already: sum, do not take the mean again": _pool(
                out=lambda x, shares: (shares[:, :, None] * x).mean(axis=1)),
            "the cache is the shares, not real": _pool(result=lambda out, shares, real: (out, real)),
            "the cache is the shares, not the counts": _pool(result=lambda out, shares, real: (
                out, real.sum(axis=1, keepdims=True))),
            "the cache is the array shares itself, not a tuple with more in it": _pool(
                result=lambda out, shares, real: (out, (shares, real))),
            "the cache is not returned: return out, shares": _pool(result=lambda out, shares, real: out)},
    ),
    Exercise(
        6, "mean_pool_backward", "to each its share", padded, forward="mean_pool_forward", differentiable=("x",),
        hints=("Every real token went into the mean with its share, so it gets this share of d_out.",
               "shares[:, :, None] * d_out[:, None, :]"),
        facts=FACTS,
        mistakes={
            "d_out must be multiplied by the shares": _pool_back(lambda d_out, shares: (shares > 0) * d_out),
            "padding gets no gradient": _pool_back(
                lambda d_out, shares: (shares.max(axis=1, keepdims=True) + 0 * shares) * d_out),
            "d_out is copied to all places: each must get its share of it, and padding nothing": _pool_back(
                lambda d_out, shares: d_out + 0 * shares),
            "a mean over all T places would share so; here each real token has the share 1 / n": _pool_back(
                lambda d_out, shares: (d_out + 0 * shares) / shares.shape[1]),
            "the shares hold the 1 / n already: do not divide again": _pool_back(lambda d_out, shares: shares**2 * d_out),
            "d_out is missing: the chain rule multiplies by it": _pool_back(lambda d_out, shares: shares + 0 * d_out)},
    ),
]
