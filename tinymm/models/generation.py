"""Writing text with a model that predicts the next token: greedily, by sampling, or by beam search.

All of it sees the model through one function, so it serves every model that generates:

    next_logits(sequences, rows) -> (n, V)     logits of the token that follows each of n sequences of ids;
                                               rows[i] says which prompt sequence i continues (and so which image it sees)
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from tinymm import functional

NextLogits = Callable[[list[list[int]], NDArray[np.integer]], NDArray[np.floating]]


def choose_tokens(logits: NDArray[np.floating], rng: np.random.Generator | None = None, temperature: float = 0.0,
                  top_k: int | None = None, top_p: float | None = None) -> NDArray[np.integer]:
    """One token per row of logits (n, V) -> (n,).

    temperature 0 takes the likeliest. Above 0 the token is drawn from softmax(logits / temperature), after keeping only
    the top_k likeliest (Fan et al. 2018) and the smallest set that holds probability top_p (Holtzman et al. 2020).
    """
    if temperature < 0:
        raise ValueError(f"temperature must be 0 (greedy) or more, got {temperature}")
    if temperature == 0:
        return logits.argmax(axis=-1)                                                           # (n,)
    if rng is None:
        raise ValueError("sampling (temperature above 0) needs rng, a numpy.random.Generator")
    if top_k is not None and top_k < 1:
        raise ValueError(f"top_k must be 1 or more, got {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p}")
    order = np.argsort(-logits, axis=-1, kind="stable")                                         # (n, V)  likeliest first
    ranked = np.take_along_axis(logits, order, axis=-1).astype(np.float64) / temperature        # (n, V)
    probabilities, _ = functional.softmax_forward(ranked)                                       # (n, V)
    keep = np.ones(probabilities.shape, bool)                                                   # (n, V)
    if top_k is not None:
        keep[:, top_k:] = False
    if top_p is not None:
        keep &= probabilities.cumsum(axis=-1) - probabilities < top_p                           # (n, V)  what came before is not yet enough
    probabilities = np.where(keep, probabilities, 0)                                            # (n, V)
    cumulative = (probabilities / probabilities.sum(axis=-1, keepdims=True)).cumsum(axis=-1)    # (n, V)
    rank = (rng.random((len(logits), 1)) > cumulative).sum(axis=-1)                             # (n,)    inverse of the distribution
    last = keep.sum(axis=-1) - 1                                                                # (n,)    rounding must not step past it
    return np.take_along_axis(order, np.minimum(rank, last)[:, None], axis=-1)[:, 0]            # (n,)


def generate(next_logits: NextLogits, prompts: Sequence[Sequence[int]], *, end_id: int, max_new_tokens: int,
             rng: np.random.Generator | None = None, temperature: float = 0.0, top_k: int | None = None,
             top_p: float | None = None) -> list[list[int]]:
    """Continue each prompt token by token until end_id or max_new_tokens; returns the new ids without end_id."""
    sequences = [list(prompt) for prompt in prompts]
    unfinished = np.arange(len(sequences))                                                      # (n,)
    for _ in range(max_new_tokens):
        if not len(unfinished):
            break
        logits = next_logits([sequences[row] for row in unfinished], unfinished)                # (n, V)
        tokens = choose_tokens(logits, rng, temperature, top_k, top_p)                          # (n,)
        for row, token in zip(unfinished, tokens):
            sequences[row].append(int(token))
        unfinished = unfinished[tokens != end_id]
    return [without_end(sequence[len(prompt):], end_id) for prompt, sequence in zip(prompts, sequences)]


def beam_search(next_logits: NextLogits, prompts: Sequence[Sequence[int]], *, end_id: int, max_new_tokens: int,
                beams: int = 4, length_penalty: float = 1.0) -> list[list[int]]:
    """The best of the texts found by keeping the `beams` likeliest beginnings at every length.

    A finished text scores log p(text) / length ** length_penalty (Wu et al. 2016 use a close variant); without the
    penalty short texts would always win. Returns the new ids of the best text for each prompt, without end_id.
    """
    if beams < 1:
        raise ValueError(f"beams must be 1 or more, got {beams}")
    alive = [[(0.0, list(prompt))] for prompt in prompts]          # per prompt: (log probability, ids), best first
    finished: list[list[tuple[float, list[int]]]] = [[] for _ in prompts]
    for length in range(1, max_new_tokens + 1):
        rows = np.array([row for row, hypotheses in enumerate(alive) for _ in hypotheses])
        if not len(rows):
            break
        logits = next_logits([ids for hypotheses in alive for _, ids in hypotheses], rows)      # (n, V)
        log_p, _ = functional.log_softmax_forward(logits.astype(np.float64))                    # (n, V)
        total = log_p + np.array([score for hypotheses in alive for score, _ in hypotheses])[:, None]   # (n, V)
        for row, hypotheses in enumerate(alive):
            if not hypotheses:
                continue
            scores = total[rows == row]                                                         # (beams, V)
            best = np.argsort(-scores, axis=None, kind="stable")[:2 * beams]                    # so many that `beams` go on even if the others end
            alive[row] = []
            for rank, (beam, token) in enumerate(zip(*np.unravel_index(best, scores.shape))):
                score, ids = float(scores[beam, token]), hypotheses[beam][1]
                if token == end_id and rank < beams:                                            # an unlikely end must not crowd out better texts
                    finished[row].append((score / length ** length_penalty, ids))
                elif token == end_id:
                    continue
                elif len(alive[row]) < beams:
                    alive[row].append((score, [*ids, int(token)]))
            if len(finished[row]) >= beams:
                alive[row] = []
    texts = []
    for prompt, hypotheses, done in zip(prompts, alive, finished):
        candidates = done + [(score / max_new_tokens ** length_penalty, ids) for score, ids in hypotheses]
        texts.append(max(candidates, key=lambda candidate: candidate[0])[1][len(prompt):])
    return texts


def without_end(ids: list[int], end_id: int) -> list[int]:
    """ids up to the first end_id."""
    return ids[:ids.index(end_id)] if end_id in ids else ids
