"""What `tinymm check 11` looks at."""

import numpy as np

from tinymm.functional import attention_backward, attention_forward
from tinymm.learning.exercise import Exercise

PAD, END = 0, 1


def texts(rng):
    lengths = rng.permutation([5, 1, 3, 4])                                        # one text fills its row, and one is a single word
    words = rng.integers(2, 9, size=(4, 5))
    return {"texts": np.where(np.arange(5) < lengths[:, None], words, PAD), "pad": PAD, "end": END}


def cross(rng):
    readable = np.arange(5) < np.array([[5], [3]])
    weights = {name: rng.normal(size=(4, 4)) / 2 for name in ("W_q", "W_k", "W_v", "W_o")}
    return {"x": rng.normal(size=(2, 3, 4)), "memory": rng.normal(size=(2, 5, 4))} | weights | {"readable": readable}


def stack(rng):
    inputs = cross(rng)
    return {"x": inputs["x"], "memory": inputs["memory"], "W": rng.normal(size=(3, 4, 4, 4)) / 2, "readable": inputs["readable"]}


def writing(rng):
    """A decoder that can be asked: its logits depend on the text, the place, and all words before it. The texts end at different times."""
    B, V, longest = 4, 7, 6
    table = rng.normal(size=(B, longest + 1, 11, V))
    ends = rng.permutation([2, 3, 4, 9])                                           # the last of them never says `end` in time

    def decode(text):
        t = np.arange(text.shape[1])
        logits = table[np.arange(B)[:, None], t, text.cumsum(axis=1) % 11]         # (B, t, V)
        logits[:, :, PAD] = logits.min() - 1
        logits[:, :, END] = np.where(t == ends[:, None], 10, logits.min() - 1)
        return logits

    return {"decode": decode, "B": B, "pad": PAD, "end": END, "longest": longest}


FACTS = {
    "lengths": "how many places of each text are not padding",
    "target": "a column of `end`, then the texts",
    "labels": "the texts, then `end` directly behind the last word of each, then -100",
    "q": "x W_q: the decoder asks",
    "k": "memory W_k: the encoder's words are compared with the question",
    "v": "memory W_v: the encoder's words give their content",
    "mixed": "attention_forward(q, k, v, mask), and the mask readable[:, None, :] hides the padding of the source from every query",
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
        mistakes={"the labels are what the decoder reads, without the shift": lambda texts, pad, end: _shift(texts, pad, end, unshifted=True),
                  "`end` stands directly behind the last word of each text, not in the last column":
                  lambda texts, pad, end: _shift(texts, pad, end, last_column=True),
                  "the padding must become -100, or the model learns to say padding": lambda texts, pad, end: _shift(texts, pad, end, outside=pad),
                  "the model must also say `end`, or it never stops": lambda texts, pad, end: _shift(texts, pad, end, say_end=False)},
    ),
    Exercise(
        2, "cross_forward", "the decoder looks at the memory", cross,
        hints=("Queries from x; keys and values from the memory.", "The mask needs an axis for the queries: readable[:, None, :] is (B, 1, S).",
               "mixed, attention = attention_forward(q, k, v, readable[:, None, :]), then out = mixed @ W_o."),
        facts=FACTS,
        mistakes={"the padding of the source is not hidden: attention_forward needs the mask":
                  lambda **inputs: _cross(**inputs | {"readable": np.ones_like(inputs["readable"])}),
                  "W_o is missing": lambda **inputs: _cross(**inputs, last=False),
                  "W_k and W_v are swapped": lambda **inputs: _cross(**inputs, swapped=True)},
    ),
    Exercise(
        3, "cross_backward", "two gradients that part", cross, forward="cross_forward",
        differentiable=("x", "memory", "W_q", "W_k", "W_v", "W_o"),
        hints=("Walk back through the lines of cross_forward, from the last to the first.",
               "product_gradient(left, d_out) is the gradient of W in left @ W; the other side gets d_out @ W.T.",
               "d_q, d_k, d_v = attention_backward(d_out @ W_o.T, attention): d_q belongs to x, d_k and d_v to the memory.",
               "d_memory = d_k @ W_k.T + d_v @ W_v.T"),
        facts=FACTS,
    ),
    Exercise(
        4, "stack_backward", "every layer adds its part", stack, forward="stack_forward", differentiable=("x", "memory", "W"),
        hints=("for cache in reversed(caches): cross_backward gives d_branch, d_part and four gradients of weights.",
               "Both arms of the residual connection: d_x = d_x + d_branch. All layers looked at the memory: d_memory = d_memory + d_part.",
               "The weights come in reverse order: insert each layer's four at the front, and make an array of them at the end."),
        facts={"d_memory": "the sum of the parts of all layers", "d_x": "d_out plus the d_branch of every layer",
               "d_branch": "the first result of cross_backward, with the d_x that has come down to this layer",
               "d_part": "the second result of cross_backward, with the d_x that has come down to this layer"},
        mistakes={"d_memory must be a sum over all layers: = instead of +": lambda d_out, caches: _stack(d_out, caches, heap=False),
                  "the direct arm of the residual connection is missing: d_x = d_x + d_branch": lambda d_out, caches: _stack(d_out, caches, direct=0),
                  "the layers' weights are in the wrong order": lambda d_out, caches: _stack(d_out, caches, order=-1),
                  "every layer gets d_out, but it must get the d_x that has come down to it":
                  lambda d_out, caches: _stack(d_out, caches, branch=False)},
    ),
    Exercise(
        5, "greedy", "word by word", writing,
        hints=("Begin with text = np.full((B, 1), end) and done = np.zeros(B, bool).",
               "In a loop: following = decode(text)[:, -1].argmax(axis=-1): only the last place is new.",
               "following[done] = pad; put it behind the text as a new column; done |= following == end.",
               "The loop runs while not done.all() and text.shape[1] <= longest; return text[:, 1:]."),
        facts={"text": "a column of `end`, and one column for each word written so far"},
        mistakes={"a text that has said `end` must stay finished: `pad` from there on": lambda **inputs: _greedy(**inputs, finish=False),
                  "the loop ends when all texts are done, not when one is": lambda **inputs: _greedy(**inputs, stop=np.any),
                  "the next word is that of the last place, [:, -1]": lambda **inputs: _greedy(**inputs, place=0),
                  "the `end` in front does not belong to what was written": lambda **inputs: _greedy(**inputs, front=0)},
    ),
]


def _shift(texts, pad, end, unshifted=False, last_column=False, outside=-100, say_end=True):
    B, L = texts.shape
    lengths = (texts != pad).sum(axis=1)
    target = np.concatenate([np.full((B, 1), end), texts], axis=1)
    if unshifted:
        return target, np.where(target == pad, outside, target)
    labels = np.concatenate([np.where(texts == pad, outside, texts), np.full((B, 1), outside)], axis=1)
    if say_end:
        labels[np.arange(B), L if last_column else lengths] = end
    return target, labels


def _cross(x, memory, W_q, W_k, W_v, W_o, readable, last=True, swapped=False):
    k, v = memory @ (W_v if swapped else W_k), memory @ (W_k if swapped else W_v)
    mixed, attention = attention_forward(x @ W_q, k, v, readable[:, None, :])
    return mixed @ W_o if last else mixed, (x, memory, W_q, W_k, W_v, W_o, attention, mixed)


def _stack(d_out, caches, heap=True, direct=1, order=1, branch=True):
    d_x, d_memory, d_W = d_out, 0, []
    for x, memory, W_q, W_k, W_v, W_o, attention, mixed in reversed(caches):
        d_y = d_x if branch else d_out
        d_q, d_k, d_v = attention_backward(d_y @ W_o.T, attention)
        d_memory = heap * d_memory + d_k @ W_k.T + d_v @ W_v.T
        d_W.insert(0, [_product(x, d_q), _product(memory, d_k), _product(memory, d_v), _product(mixed, d_y)])
        d_x = direct * d_x + d_q @ W_q.T
    return d_x, d_memory, np.array(d_W[::order])


def _product(left, d_out):
    return left.reshape(-1, left.shape[-1]).T @ d_out.reshape(-1, d_out.shape[-1])


def _greedy(decode, B, pad, end, longest, finish=True, stop=np.all, place=-1, front=1):
    text, done = np.full((B, 1), end), np.zeros(B, bool)
    while not stop(done) and text.shape[1] <= longest:
        following = decode(text)[:, place].argmax(axis=-1)
        if finish:
            following[done] = pad
        text = np.concatenate([text, following[:, None]], axis=1)
        done |= following == end
    return text[:, front:]
