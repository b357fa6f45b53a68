"""What `tinymm check 11` looks at."""

import numpy as np

from tinymm.functional import attention_backward, attention_forward
from tinymm.learning.exercise import Exercise


def texts(rng):
    lengths = rng.permutation([5, 1, 3, 4])                                        # one text fills its row, one is a single word
    pad, end, *some = rng.permutation(np.arange(1, 12)).tolist()                   # 0 may be a word, but never `pad`
    words = rng.choice([0, *some], size=(4, 5))
    return {"texts": np.where(np.arange(5) < lengths[:, None], words, pad), "pad": pad, "end": end}


def cross(rng):
    readable = np.arange(5) < np.array([[5], [3]])
    weights = {name: rng.normal(size=(4, 4)) / 2 for name in ("W_q", "W_k", "W_v", "W_o")}
    return {"x": rng.normal(size=(2, 3, 4)), "memory": rng.normal(size=(2, 5, 4))} | weights | {"readable": readable}


def stack(rng):
    inputs = cross(rng)
    return {"x": inputs["x"], "memory": inputs["memory"], "W": rng.normal(size=(3, 4, 4, 4)) / 2, "readable": inputs["readable"]}


def writing(rng):
    """A decoder that can be asked: its logits depend on the text, the place, and all words before it.

    The texts end at different times; in half of the cases all of them in time, else one never.
    """
    B, V, longest = 4, 7, 6
    pad, end = rng.permutation(np.arange(1, V))[:2].tolist()
    table = rng.normal(size=(B, longest + 1, 11, V))
    ends = rng.permutation([1, 2, 3, 4 if rng.random() < 0.5 else 40])

    def decode(text):
        if not isinstance(text, np.ndarray) or text.dtype.kind not in "iu":
            raise TypeError(f"decode takes ids, an array of whole numbers, but got {getattr(text, 'dtype', type(text).__name__)}")
        if text.ndim != 2 or len(text) != B:
            raise ValueError(f"decode takes what was written so far of all {B} texts, ({B}, t), but got {text.shape}")
        if (text[:, 0] != end).any():
            raise ValueError("decode takes texts that begin with `end`, and all that was written behind it")
        if text.shape[1] > 60:
            raise ValueError("decode was given more than 60 words: the loop must also stop at `longest`")
        t = np.arange(text.shape[1])
        logits = table[np.arange(B)[:, None], t % (longest + 1), text.cumsum(axis=1) % 11]     # (B, t, V)
        logits[:, :, pad] = logits.min() - 1
        logits[:, :, end] = np.where(t == ends[:, None], 10, logits.min() - 1)
        return logits

    return {"decode": decode, "B": B, "pad": pad, "end": end, "longest": longest}


FACTS = {
    "lengths": "how many places of each text are not padding",
    "target": "a column of `end`, then the whole texts with their padding",
    "labels": "the texts, then `end` directly behind the last word of each, then -100",
    "q": "x W_q: the decoder asks",
    "k": "memory W_k: the encoder's words are compared with the question",
    "v": "memory W_v: the encoder's words give their content",
    "mixed": "attention_forward(q, k, v, mask), and the mask readable[:, None, :] hides the source's padding from every query",
    "out": "mixed W_o, and nothing else: the residual connection comes later, in exercise 4",
    "d_W_o": "out = mixed W_o: mixed^T d_out, summed over all words of all texts",
    "d_mixed": "out = mixed W_o: d_out W_o^T",
    "d_q": "the first result of attention_backward(d_mixed, attention)",
    "d_k": "the second result of attention_backward(d_mixed, attention)",
    "d_v": "the third result of attention_backward(d_mixed, attention)",
    "d_W_v": "v = memory W_v: memory^T d_v, summed over all words of all texts",
    "d_W_k": "k = memory W_k: memory^T d_k, summed over all words of all texts",
    "d_W_q": "q = x W_q: x^T d_q, summed over all words of all texts",
    "d_memory": "the memory was used twice, as keys and as values: d_k W_k^T + d_v W_v^T",
    "d_x": "x was used once, for the queries: d_q W_q^T",
}

EXERCISES = [
    Exercise(
        1, "shift", "read one, say the next", texts,
        hints=("target: np.concatenate of a column np.full((B, 1), end) and the texts.",
               "labels: begin with the texts and a column of padding; at row b, column lengths[b], comes `end`.",
               "Behind it: labels[np.arange(L + 1) > lengths[:, None]] = -100."),
        facts=FACTS,
        mistakes={
            "the labels are what the decoder reads, without the shift": lambda **given: _shift(**given, unshifted=True),
            "target comes first, then labels": lambda **given: _shift(**given)[::-1],
            "`end` stands directly behind the last word of each text, not in the last column":
                lambda **given: _shift(**given, last_column=True),
            "`end` stands behind the last word, at column lengths[b]; yours overwrites the last word":
                lambda **given: _shift(**given, behind=-1),
            "labels[:, lengths] takes these columns in every row; one place in each row is labels[np.arange(B), lengths]":
                lambda **given: _shift(**given, every_row=True),
            "the padding must become -100, or the model learns to say padding": lambda **given: _shift(**given, outside=given["pad"]),
            "the padding must become -100 also within the texts": lambda **given: _shift(**given, within=given["pad"]),
            "the model must also say `end`, or it never stops": lambda **given: _shift(**given, say_end=False),
            "the second `end` is only in the labels; what is read stays `pad` behind the text":
                lambda **given: _shift(**given, read_end=True),
            "both are one place longer than texts: the longest text needs a place for its `end`, too":
                lambda **given: tuple(table[:, :-1] for table in _shift(**given, say_end=False)),
        },
    ),
    Exercise(
        2, "cross_forward", "the decoder looks at the memory", cross,
        hints=("Queries from x; keys and values from the memory.",
               "The mask needs an axis for the queries: readable[:, None, :] is (B, 1, S).",
               "mixed, attention = attention_forward(q, k, v, readable[:, None, :]), then out = mixed @ W_o."),
        facts=FACTS,
        mistakes={
            "the padding of the source is not hidden: attention_forward needs the mask":
                lambda **given: _cross(**given | {"readable": np.ones_like(given["readable"])}),
            "a mask is True where looking is allowed: readable, not its opposite":
                lambda **given: _cross(**given | {"readable": ~given["readable"]}),
            "W_o is missing": lambda **given: _cross(**given, last=False),
            "keys and values are swapped": lambda **given: _cross(**given, swapped=True),
            "x is not added here: the residual connection comes later, in exercise 4": lambda **given: _cross(**given, direct=1),
        },
    ),
    Exercise(
        3, "cross_backward", "two gradients that part", cross, forward="cross_forward",
        differentiable=("x", "memory", "W_q", "W_k", "W_v", "W_o"),
        hints=("Walk back through the lines of cross_forward, from the last to the first.",
               "product_gradient(left, d_out) is the gradient of W in left @ W; the other side gets d_out @ W.T.",
               "d_q, d_k, d_v = attention_backward(d_out @ W_o.T, attention): d_q belongs to x, d_k and d_v to the memory.",
               "d_memory = d_k @ W_k.T + d_v @ W_v.T"),
        facts=FACTS,
        mistakes={
            "the memory was used as keys, too: d_k W_k^T is missing": lambda *given: _back(*given, keys=0),
            "the memory was used as values, too: d_v W_v^T is missing": lambda *given: _back(*given, values=0),
            "attention_backward gets d_mixed, what comes back through W_o, not d_out": lambda *given: _back(*given, through=False),
            "attention_backward gives d_q, d_k, d_v in this order: d_k and d_v are swapped":
                lambda *given: _back(*given, swapped=True),
            "d_out is not added to d_x: cross_forward has no residual connection": lambda *given: _back(*given, direct=1),
            "the order is d_x, d_memory, d_W_q, d_W_k, d_W_v, d_W_o":
                lambda *given: tuple(_back(*given)[i] for i in (0, 1, 5, 2, 3, 4)),
            "yours stand in the order of the walk back; the order is d_x, d_memory, d_W_q, d_W_k, d_W_v, d_W_o":
                lambda *given: tuple(_back(*given)[i] for i in (0, 1, 5, 4, 3, 2)),
            "d_x comes first, then d_memory": lambda *given: tuple(_back(*given)[i] for i in (1, 0, 2, 3, 4, 5)),
            "a transpose is missing: through y = x W comes back d_y W^T": lambda *given: _back(*given, transposed=False),
        },
    ),
    Exercise(
        4, "stack_backward", "every layer adds its part", stack, forward="stack_forward", differentiable=("x", "memory", "W"),
        hints=("for cache in reversed(caches): cross_backward gives d_branch, d_part and four gradients of weights.",
               "Both arms of the residual connection: d_x = d_x + d_branch. All layers looked at the memory: d_memory = d_memory + d_part.",
               "The weights come in reverse order: insert each layer's four at the front, and make an array of them at the end."),
        facts={"d_memory": "the sum of d_part over all layers; d_part is the second result of your cross_backward, so exercise 3 must be right",
               "d_x": "d_out plus the d_branch of every layer, the first result of your cross_backward; the last layer's backward runs first",
               "d_branch": "the first result of cross_backward, with the d_x that has come down to this layer",
               "d_part": "the second result of cross_backward, with the d_x that has come down to this layer"},
        mistakes={
            "d_memory must be a sum over all layers: = instead of +": lambda *given: _stack(*given, add=False),
            "the direct arm of the residual connection is missing: d_x = d_x + d_branch": lambda *given: _stack(*given, direct=0),
            "the layers' weights are in the wrong order": lambda *given: _stack(*given, order=-1),
            "every layer gets d_out, but it must get the d_x that has come down to it":
                lambda *given: _stack(*given, branch=False),
            "d_x must keep what the later layers gave: d_x = d_x + d_branch, not d_out + d_branch":
                lambda *given: _stack(*given, restart=True),
            "a backward begins at the last layer: reversed(caches)": lambda *given: _stack(*given, walk=1, order=-1),
            "a backward begins at the last layer: reversed(caches); the weights still stand in the order of the layers":
                lambda *given: _stack(*given, walk=1),
            "each layer has weights of its own: their gradients are kept apart, (N, 4, D, D), not added up":
                lambda *given: _summed(*_stack(*given)),
        },
    ),
    Exercise(
        5, "greedy", "word by word", writing,
        hints=("Begin with text = np.full((B, 1), end) and done = np.zeros(B, bool).",
               "In a loop: following = decode(text)[:, -1].argmax(axis=-1): only the last place is new.",
               "following[done] = pad; put it behind the text as a new column; done |= following == end.",
               "The loop runs while not done.all() and text.shape[1] <= longest; return text[:, 1:]."),
        facts={"text": "a column of `end`, then the likeliest next word of each text, or `pad` once the text has said `end`"},
        mistakes={
            "a text that has said `end` must stay finished: `pad` from there on": lambda **given: _greedy(**given, finish=False),
            "a text that has said `end` gets `pad` from there on, not `end` again":
                lambda **given: _greedy(**given, filling=given["end"]),
            "the `end` that a text says belongs to it: first fill with `pad`, then find out who is done":
                lambda **given: _greedy(**given, too_soon=True),
            "done must remember the texts that ended earlier: done |= ..., not done = ...":
                lambda **given: _greedy(**given, forget=True),
            "the loop ends when all texts are done, not when one is": lambda **given: _greedy(**given, stop=np.any),
            "the loop also ends when all texts are done, and not only at `longest`":
                lambda **given: _greedy(**given, stop=lambda done: False),
            "no text has more than `longest` words: the loop must also stop there": lambda **given: _greedy(**given, more=100),
            "a text may have `longest` words, but yours stops one word before": lambda **given: _greedy(**given, more=-1),
            "a text may have `longest` words, but yours writes one more": lambda **given: _greedy(**given, more=1),
            "the next word is that of the last place, [:, -1]": lambda **given: _greedy(**given, place=0),
            "the `end` in front does not belong to what was written": lambda **given: _greedy(**given, front=0),
        },
    ),
]


def _shift(texts, pad, end, unshifted=False, last_column=False, outside=-100, within=-100, say_end=True, behind=0,
           every_row=False, read_end=False):
    B, L = texts.shape
    rows, lengths = np.arange(B), (texts != pad).sum(axis=1)
    target = np.concatenate([np.full((B, 1), end), texts], axis=1)
    if unshifted:
        return target, np.where(target == pad, outside, target)
    filling = within if within != -100 else outside
    labels = np.concatenate([np.where(texts == pad, filling, texts), np.full((B, 1), outside)], axis=1)
    if every_row:
        labels[:, lengths] = end
    elif say_end:
        labels[rows, L if last_column else lengths + behind] = end
    if read_end:
        inside = lengths < L
        target[rows[inside], lengths[inside] + 1] = end
    return target, labels


def _cross(x, memory, W_q, W_k, W_v, W_o, readable, last=True, swapped=False, direct=0):
    k, v = memory @ W_k, memory @ W_v
    mixed, attention = attention_forward(x @ W_q, *((v, k) if swapped else (k, v)), readable[:, None, :])
    return direct * x + (mixed @ W_o if last else mixed), (x, memory, W_q, W_k, W_v, W_o, attention, mixed)


def _back(d_out, cache, keys=1, values=1, through=True, swapped=False, direct=0, transposed=True):
    x, memory, W_q, W_k, W_v, W_o, attention, mixed = cache
    if not transposed:
        W_q, W_k, W_v = W_q.T, W_k.T, W_v.T
    d_q, d_k, d_v = attention_backward(d_out @ W_o.T if through else d_out, attention)
    if swapped:
        d_k, d_v = d_v, d_k
    return (direct * d_out + d_q @ W_q.T, keys * d_k @ W_k.T + values * d_v @ W_v.T,
            _product(x, d_q), _product(memory, d_k), _product(memory, d_v), _product(mixed, d_out))


def _stack(d_out, caches, add=True, direct=1, order=1, branch=True, restart=False, walk=-1):
    d_x, d_memory, d_W = d_out, 0, []
    for cache in caches[::walk]:
        d_branch, d_part, *d_layer = _back(d_x if branch else d_out, cache)
        d_memory = add * d_memory + d_part
        d_x = d_out + d_branch if restart else direct * d_x + d_branch
        d_W.append(d_layer)
    return d_x, d_memory, np.array(d_W[::walk * order])


def _summed(d_x, d_memory, d_W):
    return d_x, d_memory, d_W.sum(axis=0)


def _product(left, d_out):
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def _greedy(decode, B, pad, end, longest, finish=True, filling=None, too_soon=False, forget=False, stop=np.all, more=0,
            place=-1, front=1):
    text, done = np.full((B, 1), end), np.zeros(B, bool)
    while not stop(done) and text.shape[1] <= longest + more:
        following = decode(text)[:, place].argmax(axis=-1)
        ended = following == end
        if finish:
            following[done | ended if too_soon else done] = pad if filling is None else filling
        text = np.concatenate([text, following[:, None]], axis=1)
        done = ended if forget else done | ended
    return text[:, front:]
