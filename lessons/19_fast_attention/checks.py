"""What `tinymm check 19` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise

LOWEST = np.finfo(np.float64).min


def step(rng):
    """Some queries have seen nothing yet, for some the maximum grows, for some it stays, and one sees nothing of this tile."""
    m, l, acc = rng.normal(size=(6, 1)), rng.uniform(1, 3, size=(6, 1)), rng.normal(size=(6, 4))
    scores = rng.normal(size=(6, 3))
    m[0], l[0], acc[0] = LOWEST, 0, 0
    m[1], scores[1] = 900, 902 + rng.normal(size=3)
    m[2] = 5
    scores[3], scores[0, 1] = -np.inf, -np.inf
    scores[4] = 3 + rng.normal(size=3)
    return {"m": m, "l": l, "acc": acc, "scores": scores, "values": rng.normal(size=(3, 4))}


def parts(rng):
    """In some rows the first part has the larger maximum, in some the second; two have seen nothing in one of them."""
    given = {}
    for part in "ab":
        given |= {f"m_{part}": 2 * rng.normal(size=(6, 1)), f"l_{part}": rng.uniform(1, 3, size=(6, 1)), f"acc_{part}": rng.normal(size=(6, 4))}
    given["m_a"][:2] = given["m_b"][:2] + 1
    given["m_b"][2:4] = given["m_a"][2:4] + 2
    given["m_a"][4], given["l_a"][4], given["acc_a"][4] = LOWEST, 0, 0
    given["m_b"][5], given["l_b"][5], given["acc_b"][5] = LOWEST, 0, 0
    return given


def arrays(rng):
    """Several tiles, the last one shorter, and scores that grow from tile to tile."""
    q, k = rng.normal(size=(5, 4)), rng.normal(size=(8, 4))
    k *= np.linspace(0.5, 3, 8)[:, None]
    allowed = rng.random((5, 8)) < 0.7
    allowed[:, 6] = True
    allowed[2] = False                             # sees no key
    allowed[3, :3] = False                         # none of the first tile
    return {"q": q, "k": k, "v": rng.normal(size=(8, 6)), "n": 3, "allowed": allowed}


def large_or_masked(rng):
    """One of the draws has no mask, and scores whose exponentials overflow."""
    plain, given = rng.random() > 0.6, arrays(rng)
    return given | {"q": 300 * given["q"], "allowed": None} if plain else given


def sometimes_masked(rng):
    """One of the draws has no mask."""
    plain, given = rng.integers(4) == 1, arrays(rng)
    return given | {"allowed": None} if plain else given


def sizes(rng):
    """As many keys as queries, more, and fewer; the four draws have all three."""
    T, S = ((13, 14), (10, 10), (13, 10), (10, 14))[rng.permutation(4)[-1]]
    return {"T": T, "S": S, "rows": 3, "keys": 4}


FACTS = {
    "new_m": "the larger of m and the largest score of the row, kept as an axis of size 1",
    "correction": "e^(m - new_m): old maximum minus new one, never larger than 1",
    "exps": "e^(score - new_m), the new maximum: none is larger than 1",
    "new_l": "correction * l plus the sum of exps over the keys of the tile",
    "new_acc": "correction * acc plus exps values",
    "factor_a": "e^(m_a - m): what was summed under m_a, brought under the common maximum m",
    "factor_b": "e^(m_b - m): what was summed under m_b, brought under the common maximum m",
    "mean": "for each query dO . O, the sum of d_out * out over the width V",
    "scores": "of the last tile: q k_tile^T / sqrt(d), and -inf where it is not allowed",
    "weights": "of the last tile: e^(scores - m) / l, with the saved m and l",
    "d_weights": "of the last tile: d_out v_tile^T",
    "d_scores": "of the last tile: weights * (d_weights - mean)",
    "d_q": "each tile adds d_scores k_tile / sqrt(d)",
    "d_k": "the rows of a tile get d_scores^T q / sqrt(d)",
    "d_v": "the rows of a tile get weights^T d_out",
    "m": "after all tiles it is the largest allowed score of each row; 0 where no key was seen",
    "l": "after all tiles the sum of e^(score - m) of each row; 1 where no key was seen",
    "acc": "after all tiles the sum of e^(score - m) times the value",
    "out": "acc / l, and zeros for a query that sees no key",
}


# ---- the exercises with a mistake in them ---------------------------------------------------------------------------


def _step(new=np.maximum, correction=lambda m, new_m: np.exp(m - new_m), shift=lambda m, new_m: new_m, for_l=1, for_acc=1, keep=1,
          order=(0, 1, 2), add=np.sum, largest=lambda scores: scores.max(axis=-1, keepdims=True), of_new=0):
    """online_step, with one of these pieces changed."""
    def wrong(m, l, acc, scores, values):
        new_m = new(m, largest(scores))
        c, exps = correction(m, new_m), np.exp(scores - shift(m, new_m))
        new_l = keep * (c if for_l else 1) * l + add(exps, axis=-1, keepdims=True) * (c if of_new else 1)
        results = new_m, new_l, keep * (c if for_acc else 1) * acc + exps @ values * (c if of_new else 1)
        return tuple(results[i] for i in order)
    return wrong


def _normalised(m, l, acc, scores, values):
    new_m, new_l, new_acc = _step()(m, l, acc, scores, values)
    return new_m, new_l, new_acc / new_l


def _old_m(m, l, acc, scores, values):
    return m, *_step()(m, l, acc, scores, values)[1:]


def _merge(a=lambda m_a, m: np.exp(m_a - m), b=lambda m_b, m: np.exp(m_b - m), largest=np.maximum, for_l=1, for_acc=1, share=1):
    """merge, with one of these pieces changed."""
    def wrong(m_a, l_a, acc_a, m_b, l_b, acc_b):
        m = largest(m_a, m_b)
        c_a, c_b = a(m_a, m), b(m_b, m)
        return (m, (c_a if for_l else 1) * l_a + (c_b if for_l else 1) * l_b,
                share * ((c_a if for_acc else 1) * acc_a + (c_b if for_acc else 1) * acc_b))
    return wrong


def _ones(own, m):
    return np.ones_like(m)


def _crossed(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m, factor_a, factor_b = _merge()(m_a, 1, 0, m_b, 0, 0)[:2] + _merge()(m_a, 0, 0, m_b, 1, 0)[1:2]
    return m, factor_b * l_a + factor_a * l_b, factor_b * acc_a + factor_a * acc_b


def _of_outputs(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m, l, _ = _merge()(m_a, l_a, acc_a, m_b, l_b, acc_b)
    return m, l, acc_a / l_a + acc_b / l_b


def _divided(m_a, l_a, acc_a, m_b, l_b, acc_b):
    m, l, acc = _merge()(m_a, l_a, acc_a, m_b, l_b, acc_b)
    return m, l, acc / l


def _all_tiles(S, n):
    return [slice(s0, s0 + n) for s0 in range(0, S, n)]


def _whole_tiles(S, n):
    return [slice(s0, s0 + n) for s0 in range(0, S - n + 1, n)]


def _first_tile(S, n):
    return [slice(0, n)]


def _at_every_key(S, n):
    return [slice(s0, s0 + n) for s0 in range(S)]


def _forward(step=_step(), root=np.sqrt, mask=lambda scores, allowed: np.where(allowed, scores, -np.inf), empty=1, divide=1,
             tiles=_all_tiles, cached=lambda m, l: (m, l), result=lambda out, cache: (out, cache), always=0, lowest=LOWEST, anew=0):
    """tiled_attention_forward, with one of these pieces changed."""
    def wrong(q, k, v, n, allowed=None):
        m, l, acc = start = np.full((len(q), 1), lowest), np.zeros((len(q), 1)), np.zeros((len(q), v.shape[-1]))
        for tile in tiles(len(k), n):
            scores = q @ k[tile].T / root(q.shape[-1])
            if allowed is not None:
                scores = mask(scores, allowed[:, tile])
            m, l, acc = step(*(start if anew else (m, l, acc)), scores, v[tile])
            acc = acc / l if always else acc
        m, l = (np.where(l > 0, m, 0) if empty == 1 else m), (np.where(l > 0, l, 1) if empty else l)
        out = acc / l if divide else acc
        return result(out, (q, k, v, n, allowed, out, *cached(m, l)))
    return wrong


def _backward(mean=lambda d_out, out, weights, d_weights: (d_out * out).sum(axis=-1, keepdims=True),
              weigh=lambda scores, m, l: np.exp(scores - m) / l, through=lambda weights, d_weights, mean: weights * (d_weights - mean),
              add=1, q_root=np.sqrt, k_root=np.sqrt, mask=lambda scores, allowed: np.where(allowed, scores, -np.inf),
              order=(0, 1, 2), v_part=lambda weights, d_scores, d_out: weights.T @ d_out, root=np.sqrt, tiles=_all_tiles, running=0):
    """tiled_attention_backward, with one of these pieces changed."""
    def wrong(d_out, cache):
        q, k, v, n, allowed, out, m, l = cache
        d_q, d_k, d_v, so_far = np.zeros_like(q), np.zeros_like(k), np.zeros_like(v), 0
        for tile in tiles(len(k), n):
            scores = q @ k[tile].T / root(q.shape[-1])
            if allowed is not None:
                scores = mask(scores, allowed[:, tile])
            weights, d_weights = weigh(scores, m, l), d_out @ v[tile].T
            so_far = running * so_far + mean(d_out, out, weights, d_weights)
            d_scores = through(weights, d_weights, so_far)
            d_q = add * d_q + d_scores @ k[tile] / q_root(q.shape[-1])
            d_k[tile] += d_scores.T @ q / k_root(q.shape[-1])
            d_v[tile] += v_part(weights, d_scores, d_out)
        return tuple((d_q, d_k, d_v)[i] for i in order)
    return wrong


def _with_a_mask(out, cache):
    q, k, v, n, allowed, *rest = cache
    return out, (q, k, v, n, np.ones((len(q), len(k)), bool) if allowed is None else allowed, *rest)


def _one(x):
    return 1.0


def _kinds(ahead=lambda T, S: S - T, last=lambda t0, t1: t1 - 1, first=lambda t0, t1: t0, key=lambda s0, s1: s1 - 1, clip=min, kinds=(0, 1, 2),
           turned=False):
    """tile_kinds, with one of these pieces changed."""
    def wrong(T, S, rows, keys):
        result = np.zeros((-(-T // rows), -(-S // keys)), int)
        for i, j in np.ndindex(result.shape):
            t0, t1, s0, s1 = i * rows, clip(T, (i + 1) * rows), j * keys, clip(S, (j + 1) * keys)
            some, whole = s0 <= last(t0, t1) + ahead(T, S), key(s0, s1) <= first(t0, t1) + ahead(T, S)
            result[i, j] = kinds[0 if not some else 2 if whole else 1]
        return result.T if turned else result
    return wrong


EXERCISES = [
    Exercise(
        1, "online_step", "a tile passes by", step,
        hints=("Find the new maximum first: np.maximum(m, scores.max(axis=-1, keepdims=True)).",
               "What was summed before was summed under m. correction = np.exp(m - new_m) brings it under new_m.",
               "exps = np.exp(scores - new_m); new_l = correction * l + exps.sum(axis=-1, keepdims=True).",
               "new_acc = correction * acc + exps @ values"),
        facts=FACTS,
        mistakes={
            "the correction is missing: what was summed under the old maximum must be multiplied by e^(m - new_m)": _step(correction=_ones),
            "l must be corrected, too, not only acc": _step(for_l=0),
            "acc must be corrected, too, not only l": _step(for_acc=0),
            "the correction is the wrong way round: old maximum minus new one, which is never above 0": _step(
                correction=lambda m, new_m: np.exp(new_m - m)),
            "the new exponentials must be under the new maximum, not under the old one": _step(shift=lambda m, new_m: m),
            "only what was summed before is corrected: the new exponentials are under the new maximum already": _step(of_new=1),
            "no maximum is subtracted from the new scores: exp overflows": _step(shift=lambda m, new_m: 0),
            "the maximum is that of the tile alone; it must be the larger one of m and that": _step(new=lambda m, largest: largest),
            "every query has its own maximum: scores.max(axis=-1, keepdims=True)": _step(largest=np.max),
            "what was summed before is lost: add to it": _step(keep=0),
            "l is a sum, not a mean": _step(add=np.mean),
            "acc is not divided by l here: that is done once, after the last tile": _normalised,
            "the results stand in the order new_m, new_l, new_acc": _step(order=(0, 2, 1)),
            "the results begin with new_m": _step(order=(1, 0, 2)),
            "the first result is new_m, not the old m": _old_m,
        },
    ),
    Exercise(
        2, "merge", "two parts become one", parts,
        hints=("The common maximum is the larger one of both, for each query: np.maximum.",
               "Each part's sums were made under its own maximum: multiply them by e^(own maximum - common maximum).",
               "l = factor_a * l_a + factor_b * l_b, and likewise acc."),
        facts=FACTS | {"m": "the larger one of m_a and m_b, for each query", "l": "factor_a * l_a + factor_b * l_b",
                       "acc": "factor_a * acc_a + factor_b * acc_b"},
        mistakes={
            "the sums must be brought under the common maximum before they are added": _merge(_ones, _ones),
            "acc must be multiplied by the factors, too": _merge(for_acc=0),
            "l must be multiplied by the factors, too": _merge(for_l=0),
            "the factors are the wrong way round: own maximum minus common maximum": _merge(
                lambda m_a, m: np.exp(m - m_a), lambda m_b, m: np.exp(m - m_b)),
            "the first part needs a factor, too: its maximum may be the smaller one": _merge(a=_ones),
            "the second part needs a factor, too: its maximum may be the smaller one": _merge(b=_ones),
            "the common maximum is the larger one; yours is the smaller one": _merge(largest=np.minimum),
            "every query has its own maximum: np.maximum compares row by row": _merge(largest=lambda a, b: 0 * a + max(a.max(), b.max())),
            "factor_a belongs to l_a and acc_a, factor_b to l_b and acc_b": _crossed,
            "sums are added; do not take their mean": _merge(share=0.5),
            "acc is not yet divided by l: do not divide, and do not add outputs": _of_outputs,
            "acc stays a sum: it is divided by l at the very end, not here": _divided,
        },
    ),
    Exercise(
        3, "tiled_attention_forward", "no table", large_or_masked,
        hints=("Begin with m = np.full((T, 1), np.finfo(q.dtype).min), and l and acc as zeros.",
               "for s0 in range(0, len(k), n): tile = slice(s0, s0 + n). A slice may reach beyond the end: then it is shorter.",
               "scores = q @ k[tile].T / np.sqrt(d); where not allowed[:, tile]: -inf; then your online_step with v[tile].",
               "At the end m, l = np.where(l > 0, m, 0), np.where(l > 0, l, 1), and out = acc / l."),
        facts=FACTS,
        mistakes={
            "the division by sqrt(d) is missing": _forward(root=_one),
            "it is divided by d, not by sqrt(d)": _forward(root=lambda d: d),
            "the mask is not used": _forward(mask=lambda scores, allowed: scores),
            "the mask is the wrong way round: allowed is True where looking IS allowed": _forward(
                mask=lambda scores, allowed: np.where(allowed, -np.inf, scores)),
            "a forbidden score must be -inf, not 0: e^0 is 1": _forward(mask=lambda scores, allowed: np.where(allowed, scores, 0)),
            "a query that sees no key has l = 0, and 0 / 0 is NaN: m = 0 and l = 1 there": _forward(empty=0),
            "where no key was seen the cache holds m = 0; yours keeps the lowest number": _forward(empty=0.5),
            "at the end acc must be divided by l": _forward(divide=0),
            "acc is divided by l once, after the last tile, not in the loop": _forward(always=1, divide=0),
            "a forbidden score must be -inf: a query that sees no key has only forbidden ones, and takes the mean of the values from yours":
                _forward(mask=lambda scores, allowed: np.where(allowed, scores, -1e9)),
            "m begins with the lowest finite number, not with 0: all scores of a row may be below 0": _forward(lowest=0.0),
            "m begins with the lowest finite number, not with -inf: -inf - (-inf) is NaN": _forward(lowest=-np.inf),
            "m, l and acc begin once, before the loop; yours begin anew with every tile": _forward(anew=1),
            "only the first tile is seen: does the loop go on to the last one?": _forward(tiles=_first_tile),
            "the last tile is left out: S need not be a multiple of n": _forward(tiles=_whole_tiles),
            "the tiles begin at 0, n, 2n ...: a step is missing in the range": _forward(tiles=_at_every_key),
            "n is the number of keys in a tile, not the number of tiles": _forward(
                tiles=lambda S, n: [slice(i * S // n, (i + 1) * S // n) for i in range(n - 1)]),
            "is online_step right? The correction is missing": _forward(step=_step(correction=_ones)),
            "the cache ends with m, l, in this order": _forward(cached=lambda m, l: (l, m)),
            "the cache holds m and l, not the log-sum-exp": _forward(cached=lambda m, l: (m + np.log(l),)),
            "the cache holds allowed as it came: None stays None": _forward(result=_with_a_mask),
            "the cache is not returned: return out, (q, k, v, n, allowed, out, m, l)": _forward(result=lambda out, cache: out),
        },
    ),
    Exercise(
        4, "tiled_attention_backward", "the gradients, without the table", sometimes_masked, forward="tiled_attention_forward",
        differentiable=("q", "k", "v"),
        hints=("mean = (d_out * out).sum(axis=-1, keepdims=True), before the loop.",
               "In the loop make the scores of the tile as in the forward, with the mask; then weights = np.exp(scores - m) / l.",
               "d_weights = d_out @ v[tile].T and d_scores = weights * (d_weights - mean), as in chapter 6.",
               "d_q += d_scores @ k[tile] / np.sqrt(d): every tile adds. d_k[tile] and d_v[tile] come from this tile alone."),
        facts=FACTS,
        mistakes={
            "d_q gets a part from every tile, and yours keeps only the last: d_q +=": _backward(add=0),
            "the mean is missing: d_scores = weights * (d_weights - mean)": _backward(through=lambda weights, d_weights, mean: weights * d_weights),
            "the mean is subtracted, not added": _backward(through=lambda weights, d_weights, mean: weights * (d_weights + mean)),
            "the brackets are missing: weights * (d_weights - mean)": _backward(
                through=lambda weights, d_weights, mean: weights * d_weights - mean),
            "d_scores must be multiplied by the weights": _backward(through=lambda weights, d_weights, mean: d_weights - mean),
            "the sum over the keys of one tile is not the mean of the row: take d_out . out": _backward(
                mean=lambda d_out, out, weights, d_weights: (weights * d_weights).sum(axis=-1, keepdims=True)),
            "the mean must be complete before the first tile uses it; yours grows in the loop: take d_out . out": _backward(
                mean=lambda d_out, out, weights, d_weights: (weights * d_weights).sum(axis=-1, keepdims=True), running=1),
            "dO . O is a sum over the width V, not a mean over it": _backward(
                mean=lambda d_out, out, weights, d_weights: (d_out * out).mean(axis=-1, keepdims=True)),
            "each query has its own dO . O: sum over the last axis only": _backward(
                mean=lambda d_out, out, weights, d_weights: (d_out * out).sum()),
            "the weights must be divided by l": _backward(weigh=lambda scores, m, l: np.exp(scores - m)),
            "a softmax over the tile alone is not the row's: use the saved m and l": _backward(weigh=lambda scores, m, l: (
                lambda exps: exps / np.where(exps.sum(axis=-1, keepdims=True) > 0, exps.sum(axis=-1, keepdims=True), 1))(
                np.exp(scores - np.maximum(scores.max(axis=-1, keepdims=True), LOWEST)))),
            "the saved m must be subtracted from the scores": _backward(weigh=lambda scores, m, l: np.exp(scores) / l),
            "the mask is not used: hidden keys get a weight": _backward(mask=lambda scores, allowed: scores),
            "the mask is the wrong way round: allowed is True where looking IS allowed": _backward(
                mask=lambda scores, allowed: np.where(allowed, -np.inf, scores)),
            "a forbidden score must be -inf, not 0: e^0 is 1": _backward(mask=lambda scores, allowed: np.where(allowed, scores, 0)),
            "the scores must be divided by sqrt(d), as in the forward": _backward(root=_one),
            "the division by sqrt(d) is missing in d_q": _backward(q_root=_one),
            "the division by sqrt(d) is missing in d_k": _backward(k_root=_one),
            "the division by sqrt(d) is missing in d_q and d_k": _backward(q_root=_one, k_root=_one),
            "d_q and d_k are divided by sqrt(d), not by d": _backward(q_root=lambda d: d, k_root=lambda d: d),
            "the last tile is left out: S need not be a multiple of n": _backward(tiles=_whole_tiles),
            "the tiles begin at 0, n, 2n ...: a step is missing in the range": _backward(tiles=_at_every_key),
            "d_v is made of the weights, not of d_scores": _backward(v_part=lambda weights, d_scores, d_out: d_scores.T @ d_out),
            "the results stand in the order d_q, d_k, d_v": _backward(order=(0, 2, 1)),
        },
    ),
    Exercise(
        5, "tile_kinds", "what a causal mask shows", sizes,
        hints=("A block has the queries t0 .. t1 - 1, a tile the keys s0 .. s1 - 1; t1 is at most T, and s1 at most S.",
               "Something is seen if the last query sees the first key: s0 <= t1 - 1 + S - T.",
               "Everything is seen if the first query sees the last key: s1 - 1 <= t0 + S - T."),
        mistakes={
            "with S keys and T queries a query sees the keys up to t + S - T; yours sees those up to t": _kinds(ahead=lambda T, S: 0),
            "it is t + S - T, not t + T - S": _kinds(ahead=lambda T, S: T - S),
            "whether anything is seen is decided by the last query of the block, not by the first": _kinds(last=lambda t0, t1: t0),
            "the last query of a block is t1 - 1, not t1": _kinds(last=lambda t0, t1: t1),
            "the last query of a block, t1 - 1, also sees the key t1 - 1 + S - T itself: s0 <= t1 - 1 + S - T": _kinds(last=lambda t0, t1: t1 - 2),
            "the last key of a tile is s1 - 1, not s1": _kinds(key=lambda s0, s1: s1),
            "everything is seen only if the last key of the tile is seen, not the first": _kinds(key=lambda s0, s1: s0),
            "whether everything is seen is decided by the first query of the block, not by the last": _kinds(first=lambda t0, t1: t1 - 1),
            "the last block and the last tile may be shorter": _kinds(clip=lambda length, end: end),
            "nothing is 0, something 1, everything 2; yours has 1 and 2 the other way round": _kinds(kinds=(0, 2, 1)),
            "nothing is 0, something 1, everything 2; yours counts the other way": _kinds(kinds=(2, 1, 0)),
            "the rows of the result are blocks of queries, the columns tiles of keys": _kinds(turned=True),
        },
    ),
]
