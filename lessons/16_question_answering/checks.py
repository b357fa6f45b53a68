"""What `tinymm check 16` looks at."""

from collections import Counter, defaultdict

import numpy as np

from tinymm.learning.exercise import Exercise


def questions(rng):
    """Answers that are the commonest of their question but not of all, ties, also of all answers, and a question that never occurred."""
    pairs = [("is it red?", "no")] * 3 + [("is it red?", "yes")] * 6 + [("is it blue?", "no")] * 6 + [("is it blue?", "yes")] * 2
    pairs += [("which shape?", "circle"), ("which shape?", "square")] * 2 + [("which color?", "teal")] * 3 + [("which color?", "aqua")]
    pairs = [pairs[i] for i in rng.permutation(len(pairs)) if pairs[i] != ("which shape?", "circle")]
    pairs += [("which shape?", "circle")] * 2                                        # a tie: the first of the alphabet comes last
    pairs += [("which size?", "large"), ("which size?", "small")]                    # and here it comes first
    pairs.insert(0, ("is it red?", "yes"))                                           # of all, 9 yes and 9 no: "yes" comes first
    asked = ["is it blue?", "which shape?", "is it new?", "is it red?", "which color?", "is it blue?", "which size?"]
    return {"train_questions": [question for question, _ in pairs], "train_answers": [answer for _, answer in pairs],
            "questions": [asked[i] for i in rng.permutation(7)]}


def answers(rng):
    """Groups of unequal sizes and accuracies, in disorder; now and then nobody of the last group is right."""
    last = int(rng.choice([0, 2]))
    group = np.repeat([0, 1, 2, 3], [7, 2, 5, 3])
    right = np.concatenate([[True] * 6 + [False], [True, False], [True] * 2 + [False] * 3, [True] * last + [False] * (3 - last)])
    order = rng.permutation(len(group))
    return {"right": right[order], "group": group[order]}


def groups(rng):
    return {"group": rng.permutation(np.repeat([0, 1, 2], [6, 1, 3]))}


def texts(rng):
    """Texts of unequal length with a first place that is not allowed, spans of one and of more words, unequal sizes everywhere."""
    allowed = (np.arange(8) < rng.permutation([8, 6, 7])[:, None]) & (np.arange(8) > 0)
    first = rng.integers(2, 4, size=3)
    spans = np.stack([first, first + rng.permutation([0, 1, 2])], axis=1)
    return {"h": rng.normal(size=(3, 8, 4)), "W": rng.normal(size=(4, 2)), "allowed": allowed, "spans": spans}


def sure_texts(rng):
    """Now and then with large logits, of another size in each text, and a right place whose probability is rounded to 0."""
    inputs = texts(rng)
    if rng.random() < 0.6:
        inputs["h"][0, 0, 0] -= 9                                                    # the largest logits are not allowed
        inputs["h"][2, :, 0] += 9                                                    # all are negative
        inputs["W"][0] = -1 - np.abs(inputs["W"][0])
        inputs["h"] *= np.array([300.0, 1, 2000])[:, None, None]
    return inputs


def logits(rng):
    """Texts with their likeliest end before their likeliest start, with a likeliest pair that is too long, and with negative logits alone."""
    made = rng.normal(size=(12, 8, 2)) * 2
    made[:4, 4, 0] += 4
    made[:4, 1, 1] += 3
    made[4:8, 1, 0] += 4
    made[4:6, 7, 1] += 4
    made[6:8, 4, 1] += 4
    made[:, 0] += 5                                                                  # it is not allowed
    made[8:, 5] += 5                                                                 # nor is this, in the last four
    made[2::4] -= 30
    allowed = np.ones((12, 8), bool)
    allowed[:, 0], allowed[8:, 5] = False, False
    return {"logits": made, "allowed": allowed, "longest": int(rng.choice([3, 2, 20]))}


FACTS = {
    "counts": "how many examples belong to each group",
    "shares": "how many of a group are right, divided by how many belong to it",
    "mean": "the mean of the groups' accuracies, all with the same weight",
    "worst": "the least of the groups' accuracies",
    "probabilities": "1 / (G n), where n is the size of the example's own group: each group sums to 1/G",
    "logits": "h W, shape (R, T, 2)",
    "masked": "the logits where it is allowed, for start and end, and -infinity elsewhere",
    "shifted": "minus the largest of the same text and the same column: max over the places, axis 1",
    "powers": "np.exp(shifted)",
    "total": "the sum over the places, axis 1: one for start and one for end of each text",
    "log_p": "shifted minus np.log(total)",
    "loss": "minus the mean of 2 R numbers: log p of the first place in column 0, and of the last place in column 1",
    "p": "sums to 1 over the places (axis 1) of each text, for start and for end",
    "y": "for each text a 1 at its first place in column 0, and a 1 at its last place in column 1, and 0 elsewhere",
    "d_logits": "d_loss (p - y) / (2 R): each of the two is half of the loss, and the mean is over R texts",
    "d_W": "logits = h W: h^T d_logits, with all places of all texts as rows",
    "d_h": "logits = h W: d_logits W^T, which adds up what both heads send back",
    "sums": "sums[r, i, j] is the start logit of i plus the end logit of j",
    "fits": "True where i <= j, and the span, with both ends, has at most `longest` places",
    "scores": "sums where the span fits, and -infinity elsewhere",
    "best": "the place of the largest score of each text, in the table read row by row",
    "spans": "best divided by T is the first place, the remainder the last",
}


# ---- the exercises with a mistake in them ---------------------------------------------------------------------------


def _blind(key=lambda question: question, best=lambda counts: min(counts, key=lambda answer: (-counts[answer], answer)), alone=True):
    """blind_answers, with one of these pieces changed."""
    def wrong(train_questions, train_answers, questions):
        by_question = defaultdict(Counter)
        for question, answer in zip(train_questions, train_answers):
            by_question[question][answer] += 1
        anything = best(Counter(train_answers))
        return [best(by_question[question]) if question in by_question and alone else anything for question in questions]
    return wrong


def _newest(train_questions, train_answers, questions):
    last = dict(zip(train_questions, train_answers))
    right = _blind()(train_questions, train_answers, questions)
    return [last.get(question, answer) for question, answer in zip(questions, right)]


def _first_of_all(train_questions, train_answers, questions):
    right, first = _blind()(train_questions, train_answers, questions), min(train_answers)
    return [answer if question in train_questions else first for question, answer in zip(questions, right)]


def _first_seen_of_all(train_questions, train_answers, questions):
    right, first = _blind()(train_questions, train_answers, questions), Counter(train_answers).most_common(1)[0][0]
    return [answer if question in train_questions else first for question, answer in zip(questions, right)]


def _groups(shares=lambda right, group, counts: np.bincount(group, weights=right) / counts,
            mean=lambda shares, right, counts: shares.mean(), worst=lambda shares: shares.min()):
    """accuracy_by_group, with one of these pieces changed."""
    def wrong(right, group):
        counts = np.bincount(group)
        found = shares(right, group, counts)
        return found, mean(found, right, counts), worst(found)
    return wrong


def _softmax(masked, axis=1):
    shifted = masked - masked.max(axis=axis, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
    return log_p, np.exp(log_p)


def _overflowing(masked):
    powers = np.exp(masked)
    p = powers / powers.sum(axis=1, keepdims=True)
    return np.log(p), p


def _rounded(masked):
    _, p = _softmax(masked)
    return np.log(p), p


def _nudged(masked):
    _, p = _softmax(masked)
    return np.log(p + 1e-12), p


def _shift_of_all(masked):
    shifted = masked - masked.max()
    powers = np.exp(shifted)
    total = powers.sum(axis=1, keepdims=True)
    return shifted - np.log(total), powers / total


def _span(mask=lambda logits, allowed: np.where(allowed[:, :, None], logits, -np.inf), softmax=_softmax,
          read=lambda log_p, spans: log_p[np.arange(len(spans))[:, None], spans, [0, 1]], loss=lambda log_right: -log_right.mean(),
          result=lambda loss, cache: (loss, cache)):
    """span_loss_forward, with one of these pieces changed."""
    def wrong(h, W, allowed, spans):
        log_p, p = softmax(mask(h @ W, allowed))
        return result(loss(read(log_p, spans)), (h, W, spans, p))
    return wrong


def _masked_after(h, W, allowed, spans):
    _, p = _softmax(h @ W)
    p = np.where(allowed[:, :, None], p, 0)
    return -np.log(p[np.arange(len(h))[:, None], spans, [0, 1]]).mean(), (h, W, spans, p)


def _span_back(ones=lambda y, spans: _put(y, spans), start=lambda d_loss, p, y: d_loss * (p - y) / (2 * len(p)),
               through=lambda d_logits, W: d_logits @ W.T,
               weight=lambda h, d_logits: h.reshape(-1, h.shape[-1]).T @ d_logits.reshape(-1, 2), order=(0, 1)):
    """span_loss_backward, with one of these pieces changed."""
    def wrong(d_loss, cache):
        h, W, spans, p = cache
        d_logits = start(d_loss, p, ones(np.zeros_like(p), spans))
        results = through(d_logits, W), weight(h, d_logits)
        return tuple(results[place] for place in order)
    return wrong


def _put(y, spans, columns=(0, 1)):
    y[np.arange(len(y))[:, None], spans, list(columns)] = 1
    return y


def _put_both(y, spans):
    y[np.arange(len(y))[:, None], spans] = 1
    return y


def _put_everywhere(y, spans):
    y[:, spans, [0, 1]] = 1
    return y


def _put_between(y, spans):
    places = np.arange(y.shape[1])
    return y + ((places >= spans[:, :1]) & (places <= spans[:, 1:]))[:, :, None]


def _best(mask=lambda logits, allowed: np.where(allowed[:, :, None], logits, -np.inf), pair=lambda start, end: start + end,
          inside=lambda i, j, longest: (i <= j) & (j < i + longest), turn=lambda scores: scores,
          split=lambda best, T: np.stack([best // T, best % T], axis=1), elsewhere=-np.inf):
    """best_span, with one of these pieces changed."""
    def wrong(logits, allowed, longest):
        R, T, _ = logits.shape
        masked = mask(logits, allowed)
        places = np.arange(T)
        scores = np.where(inside(places[:, None], places, longest), pair(masked[:, :, None, 0], masked[:, None, :, 1]), elsewhere)
        return split(turn(scores).reshape(R, -1).argmax(axis=1), T)
    return wrong


def _each_alone(logits, allowed, longest):
    return np.where(allowed[:, :, None], logits, -np.inf).argmax(axis=1)


def _start_first(logits, allowed, longest):
    masked, places = np.where(allowed[:, :, None], logits, -np.inf), np.arange(logits.shape[1])
    first = masked[:, :, 0].argmax(axis=1)[:, None]
    ends = np.where((places >= first) & (places < first + longest), masked[:, :, 1], -np.inf)
    return np.stack([first[:, 0], ends.argmax(axis=1)], axis=1)


def _end_first(logits, allowed, longest):
    masked, places = np.where(allowed[:, :, None], logits, -np.inf), np.arange(logits.shape[1])
    last = masked[:, :, 1].argmax(axis=1)[:, None]
    starts = np.where((places <= last) & (last < places + longest), masked[:, :, 0], -np.inf)
    return np.stack([starts.argmax(axis=1), last[:, 0]], axis=1)


EXERCISES = [
    Exercise(
        1, "blind_answers", "the blind baseline", questions,
        hints=("A Counter for each question counts its answers: defaultdict(Counter), both from collections.",
               "by_question[question][answer] += 1, for every pair of zip(train_questions, train_answers).",
               "min(counts, key=lambda answer: (-counts[answer], answer)) is the commonest answer, and of equals the first in the alphabet."),
        mistakes={
            "the commonest answer of this question, not of all": _blind(alone=False),
            "the commonest answer, not the rarest": _blind(best=lambda counts: min(counts, key=lambda answer: (counts[answer], answer))),
            "of equally common answers the first in the alphabet; yours takes the last":
                _blind(best=lambda counts: max(counts, key=lambda answer: (counts[answer], answer))),
            "of equally common answers the first in the alphabet; yours takes the one that came first (as most_common and max do)":
                _blind(best=lambda counts: max(counts, key=counts.get)),
            "the commonest answer of the question, not the one that came last": _newest,
            "a question that never occurred gets the commonest of all answers, not the first in the alphabet": _first_of_all,
            "of the commonest of all answers, too, the first in the alphabet; yours takes the one that came first": _first_seen_of_all,
        },
    ),
    Exercise(
        2, "accuracy_by_group", "for whom is it right?", answers,
        hints=("np.bincount(group) counts how many examples each group has.",
               "np.bincount(group, weights=right) adds up `right` within each group.",
               "shares = np.bincount(group, weights=right) / counts; then shares.mean() and shares.min()."),
        facts=FACTS,
        mistakes={
            "the mean over the groups, not over all examples": _groups(mean=lambda shares, right, counts: right.mean()),
            "divide by the size of the group, not by the number of all examples": _groups(
                shares=lambda right, group, counts: np.bincount(group, weights=right) / len(right)),
            "the number of right ones must be divided by the size of the group": _groups(
                shares=lambda right, group, counts: np.bincount(group, weights=right)),
            "count the right ones, not the wrong ones": _groups(
                shares=lambda right, group, counts: np.bincount(group, weights=~right) / counts),
            "the least accuracy, not the number of its group": _groups(worst=lambda shares: shares.argmin()),
            "the least accuracy, not the largest": _groups(worst=lambda shares: shares.max()),
        },
    ),
    Exercise(
        3, "even_probabilities", "draw evenly", groups,
        hints=("Each of the G groups shall be drawn with the probability 1/G. How many examples share it?",
               "counts = np.bincount(group), and counts[group] is for each example the size of its own group.",
               "1 / (len(counts) * counts[group])"),
        facts=FACTS,
        mistakes={
            "the probabilities must sum to 1: divide by the number of groups": lambda group: 1 / np.bincount(group)[group],
            "the larger its group, the rarer an example is drawn: divide by counts": lambda group: np.bincount(group)[group] / (
                np.bincount(group)[group].sum()),
            "one for each example, not for each group: counts[group]": lambda group: 1 / (len(np.bincount(group)) * np.bincount(group)),
            "these are the weights of a loss; a probability is smaller by the factor N":
                lambda group: len(group) / (len(np.bincount(group)) * np.bincount(group)[group]),
            "that draws every example equally often, not every group": lambda group: np.full(len(group), 1 / len(group)),
        },
    ),
    Exercise(
        4, "span_loss_forward", "where does it begin and end?", sure_texts,
        hints=("logits has the shape (R, T, 2), and allowed (R, T): allowed[:, :, None] fits it.",
               "The words of a text compete: maximum and sum go over the places, axis=1, with keepdims=True.",
               "log_p[np.arange(len(h))[:, None], spans, [0, 1]] reads (R, 2) numbers: the first place in column 0, the last in column 1."),
        facts=FACTS,
        mistakes={
            "the softmax goes over the places, axis 1, not over start and end": _span(softmax=lambda masked: _softmax(masked, axis=2)),
            "each text has its own softmax; yours goes over all texts": _span(softmax=lambda masked: _softmax(masked, axis=(0, 1))),
            "start and end have a softmax each: the maximum and the sum over axis 1 alone": _span(
                softmax=lambda masked: _softmax(masked, axis=(1, 2))),
            "the mask is missing: -infinity where it is not allowed": _span(mask=lambda logits, allowed: logits),
            "where it is not allowed the logit is -infinity; a logit of 0 still has e^0 = 1": _span(
                mask=lambda logits, allowed: logits * allowed[:, :, None]),
            "the mask is turned over: -infinity where allowed is False": _span(
                mask=lambda logits, allowed: np.where(allowed[:, :, None], -np.inf, logits)),
            "mask before the softmax: put to 0 afterwards, the rest does not sum to 1": _masked_after,
            "the first place is read in column 0, the last in column 1; yours are exchanged": _span(
                read=lambda log_p, spans: log_p[np.arange(len(spans))[:, None], spans, [1, 0]]),
            "log_p[rows, spans] reads both columns at both places: [0, 1] as the third index pairs first with start, last with end": _span(
                read=lambda log_p, spans: log_p[np.arange(len(spans))[:, None], spans]),
            "only the start is read; the end belongs to the loss, too": _span(
                read=lambda log_p, spans: log_p[np.arange(len(spans)), spans[:, 0], 0]),
            "only the end is read; the start belongs to the loss, too": _span(
                read=lambda log_p, spans: log_p[np.arange(len(spans)), spans[:, 1], 1]),
            "the last place belongs to the answer; yours reads the place before it": _span(
                read=lambda log_p, spans: log_p[np.arange(len(spans))[:, None], spans - [0, 1], [0, 1]]),
            "a loss for each text: take the mean over them": _span(loss=lambda log_right: -log_right.mean(axis=1)),
            "start and end are two halves: the mean of both, not their sum": _span(loss=lambda log_right: -log_right.sum() / len(log_right)),
            "the loss is the mean over the texts, not the sum": _span(loss=lambda log_right: -log_right.sum() / 2),
            "the loss is minus the logarithm: only the sign is wrong": _span(loss=lambda log_right: log_right.mean()),
            "np.exp overflows for large logits: take the maximum away first": _span(softmax=_overflowing),
            "p may be rounded to 0, and its logarithm is no number: shifted - np.log(total)": _span(softmax=_rounded),
            "a small number added to p makes the loss wrong where p is tiny: shifted - np.log(total) needs none": _span(softmax=_nudged),
            "take away the largest of the same text and column (axis=1, keepdims=True), not of all": _span(softmax=_shift_of_all),
            "the cache is not returned: return loss, (h, W, spans, p)": _span(result=lambda loss, cache: loss),
        },
    ),
    Exercise(
        5, "span_loss_backward", "back to each word, from both heads", texts, forward="span_loss_forward", differentiable=("h", "W"), tolerance=1e-9,
        hints=("y has the shape of p, and two ones in each text. Write them with the indices that the forward read.",
               "y[np.arange(len(h))[:, None], spans, [0, 1]] = 1; d_logits = d_loss * (p - y) / (2 * len(h)).",
               "Then it is a linear layer on all places: with h as rows (R T, D) and d_logits as rows (R T, 2), d_W = rows^T d_rows.",
               "d_h = d_logits @ W.T"),
        facts=FACTS,
        mistakes={
            "start and end are half of the loss each: divide by 2": _span_back(start=lambda d_loss, p, y: d_loss * (p - y) / len(p)),
            "the loss is a mean over R texts: divide by 2 R": _span_back(start=lambda d_loss, p, y: d_loss * (p - y) / 2),
            "the loss is a mean over the R texts, not over all places": _span_back(
                start=lambda d_loss, p, y: d_loss * (p - y) / (2 * p.shape[0] * p.shape[1])),
            "the sign: p - y": _span_back(start=lambda d_loss, p, y: d_loss * (y - p) / (2 * len(p))),
            "d_loss is missing": _span_back(start=lambda d_loss, p, y: (p - y) / (2 * len(p))),
            "y is missing: p - y": _span_back(start=lambda d_loss, p, y: d_loss * p / (2 * len(p))),
            "p is missing: the words that are not the answer have a gradient, too": _span_back(
                start=lambda d_loss, p, y: -d_loss * y / (2 * len(p))),
            "the first place belongs into column 0 of y, the last into column 1; yours are exchanged": _span_back(
                ones=lambda y, spans: _put(y, spans, (1, 0))),
            "y has a single 1 in each column: y[rows, spans] = 1 writes both places into both columns": _span_back(ones=_put_both),
            "y[:, spans, ...] writes the places of every text into every text: begin with np.arange(len(h))[:, None]":
                _span_back(ones=_put_everywhere),
            "the last place belongs to the answer; yours writes its 1 at the place before it": _span_back(
                ones=lambda y, spans: _put(y, spans - [0, 1])),
            "y is 1 at the first and at the last place only, not between them": _span_back(ones=_put_between),
            "both heads send a gradient back; yours has only the one of the start": _span_back(
                through=lambda d_logits, W: d_logits[:, :, :1] @ W.T[:1]),
            "both heads send a gradient back; yours has only the one of the end": _span_back(
                through=lambda d_logits, W: d_logits[:, :, 1:] @ W.T[1:]),
            "the start's gradient goes back through the start's column of W, and the end's through the end's": _span_back(
                through=lambda d_logits, W: d_logits[:, :, ::-1] @ W.T),
            "what both heads send back is added, not averaged": _span_back(through=lambda d_logits, W: d_logits @ W.T / 2),
            "W gets the sum over all texts, not the mean": _span_back(
                weight=lambda h, d_logits: h.reshape(-1, h.shape[-1]).T @ d_logits.reshape(-1, 2) / len(h)),
            "W was used in every text: sum over them, too": _span_back(weight=lambda h, d_logits: h.swapaxes(1, 2) @ d_logits),
            "d_W is transposed: h^T d_logits has the shape of W": _span_back(
                weight=lambda h, d_logits: d_logits.reshape(-1, 2).T @ h.reshape(-1, h.shape[-1])),
            "the results stand in the order d_h, d_W": _span_back(order=(1, 0)),
        },
    ),
    Exercise(
        6, "best_span", "the best pair", logits,
        hints=("A table of all pairs: start as a column, end as a row, and broadcasting adds them to (R, T, T).",
               "masked[:, :, None, 0] + masked[:, None, :, 1], and -infinity where not (i <= j) & (j < i + longest).",
               "argmax of the flattened table gives i * T + j: // T and % T take it apart."),
        facts=FACTS,
        mistakes={
            "the likeliest start and the likeliest end, each alone, need not be a span: take the best pair": _each_alone,
            "to exchange the two when they are in the wrong order makes a span, but not the best one": lambda **given: np.sort(
                _each_alone(**given), axis=1),
            "the best pair need not begin at the likeliest start": _start_first,
            "the best pair need not end at the likeliest end": _end_first,
            "a span must not end before it begins: i <= j": _best(inside=lambda i, j, longest: np.abs(j - i) < longest),
            "a span of a single word is allowed: i <= j, not i < j": _best(inside=lambda i, j, longest: (i < j) & (j < i + longest)),
            "the limit on the length is missing: j < i + longest": _best(inside=lambda i, j, longest: i <= j),
            "the limit is `longest`, which is not always 3": _best(inside=lambda i, j, longest: (i <= j) & (j < i + 3)),
            "from i to j there are j - i + 1 words: j < i + longest, not <=": _best(inside=lambda i, j, longest: (i <= j) & (j <= i + longest)),
            "from i to j there are j - i + 1 words: yours are one word too short":
                _best(inside=lambda i, j, longest: (i <= j) & (j < i + longest - 1)),
            "the mask is missing: -infinity where it is not allowed": _best(mask=lambda logits, allowed: logits),
            "where it is not allowed the logit is -infinity; 0 may be larger than the others": _best(
                mask=lambda logits, allowed: logits * allowed[:, :, None]),
            "where a span does not fit, its score is -infinity; 0 may be larger than the others": _best(elsewhere=0),
            "start and end are exchanged: column 0 of the logits is the start": _best(
                mask=lambda logits, allowed: np.where(allowed[:, :, None], logits, -np.inf)[:, :, ::-1]),
            "add the logits; a product of two negative ones is positive": _best(pair=lambda start, end: np.nan_to_num(start * end, nan=-np.inf)),
            "add the logits; a sum of probabilities is not the probability of both": _best(
                mask=lambda logits, allowed: _softmax(np.where(allowed[:, :, None], logits, -np.inf))[1]),
            "the last place belongs to the answer; yours is the one behind it": _best(
                split=lambda best, T: np.stack([best // T, best % T + 1], axis=1)),
            "first and last are exchanged: best // T is the first, best % T the last": _best(
                split=lambda best, T: np.stack([best % T, best // T], axis=1)),
            "one row for each text: (R, 2); yours is the transpose": _best(split=lambda best, T: np.stack([best // T, best % T])),
        },
    ),
]
