"""What `tinymm check 3` looks at."""

import numpy as np

from tinymm.learning.exercise import Exercise


def momentum(rng):
    return {"w": rng.normal(size=(3, 4)), "g": rng.normal(size=(3, 4)), "m": rng.normal(size=(3, 4)), "rate": 0.3, "mu": 0.8}


def adamw(rng):
    w, g, m = rng.normal(size=(3, 3, 4))
    return {"w": w, "g": g, "m": m, "v": rng.uniform(0.1, 1, size=(3, 4)), "t": int(rng.integers(2, 9)), "rate": 0.2, "beta1": 0.8,
            "beta2": 0.9, "decay": 0.3, "epsilon": 0.05}


def plan(rng):
    return {"step": (3, 13, 5, 6)[rng.integers(4)], "steps": int(rng.integers(20, 30)), "peak": 0.7, "warmup": 6}


def gradients(rng):
    return {"gradients": [rng.normal(size=(2, 3)), rng.normal(size=5)], "limit": float(rng.choice([0.4, 50.0]))}


FACTS = {
    "deviation": "it is the square root of 2 / D_in, the number of inputs",
    "weight": "rng.normal(size=(d_in, d_out)), times the deviation",
    "new_m": "the running mean of the gradients: beta1 m + (1 - beta1) g",
    "new_v": "the running mean of the squared gradients: beta2 v + (1 - beta2) g^2",
    "m_hat": "new_m divided by 1 - beta1^t",
    "v_hat": "new_v divided by 1 - beta2^t",
    "step": "m_hat / (sqrt(v_hat) + epsilon), and beside it decay * w",
    "new_w": "w minus the learning rate times the step",
}

EXERCISES = [
    Exercise(
        1, "he_start", "how weights start",
        lambda rng: {"d_in": 5, "d_out": 3, "rng": np.random.default_rng(int(rng.integers(99)))},
        hints=("rng.normal(size=(d_in, d_out)) has standard deviation 1.", "Multiply it by np.sqrt(2 / d_in)."), facts=FACTS,
        mistakes={"the variance is 2 / D_in, so the standard deviation is its square root": lambda d_in, d_out, rng:
                  2 / d_in * rng.normal(size=(d_in, d_out)),
                  "the division is by D_in, the number of inputs, not by D_out": lambda d_in, d_out, rng:
                  np.sqrt(2 / d_out) * rng.normal(size=(d_in, d_out)),
                  "D_in alone counts; with D_in + D_out it is the start for other activations (Glorot and Bengio 2010)": lambda d_in, d_out, rng:
                  np.sqrt(2 / (d_in + d_out)) * rng.normal(size=(d_in, d_out)),
                  "the numbers are drawn as (D_out, D_in) and then transposed; draw them as (D_in, D_out)": lambda d_in, d_out, rng:
                  np.sqrt(2 / d_in) * rng.normal(size=(d_out, d_in)).T,
                  "the root is of 2 / D_in, not of 2 alone": lambda d_in, d_out, rng: np.sqrt(2) / d_in * rng.normal(size=(d_in, d_out))},
    ),
    Exercise(
        2, "momentum_step", "gradients that agree add up", momentum,
        hints=("First the new m, then the step with the new m.", "new_m = mu * m + g; new_w = w - rate * new_m"),
        facts={"new_m": "the running sum of the gradients: mu m + g", "new_w": "w minus the learning rate times the new m"},
        mistakes={"the step uses the old m; it must use the new one": lambda w, g, m, rate, mu: (w - rate * m, mu * m + g),
                  "g is added in full; (1 - mu) g makes it a mean, as in Adam": lambda w, g, m, rate, mu:
                  (w - rate * (mu * m + (1 - mu) * g), mu * m + (1 - mu) * g),
                  "the rate belongs to the step, not into m": lambda w, g, m, rate, mu: (w - (mu * m + rate * g), mu * m + rate * g),
                  "w' is returned first, then m'": lambda w, g, m, rate, mu: (mu * m + g, w - rate * (mu * m + g))},
    ),
    Exercise(
        3, "warmup_cosine", "how long a step is", plan,
        hints=("Two cases, told by step < warmup.", "The cosine runs from cos 0 = 1 to cos pi = -1."),
        mistakes={"the first step should not have rate 0: step + 1, not step": lambda step, steps, peak, warmup:
                  peak * step / warmup if step < warmup else _cosine(step - warmup, steps - warmup, peak),
                  "the cosine begins after the warm-up: step - warmup": lambda step, steps, peak, warmup:
                  peak * (step + 1) / warmup if step < warmup else _cosine(step, steps, peak),
                  "the cosine has steps - warmup steps, not all of them": lambda step, steps, peak, warmup:
                  peak * (step + 1) / warmup if step < warmup else _cosine(step - warmup, steps, peak),
                  "the cosine falls: 1 + cos, not 1 - cos": lambda step, steps, peak, warmup:
                  peak * (step + 1) / warmup if step < warmup else peak - _cosine(step - warmup, steps - warmup, peak),
                  "the warm-up has the steps below W: step < warmup, not <=": lambda step, steps, peak, warmup:
                  peak * (step + 1) / warmup if step <= warmup else _cosine(step - warmup, steps - warmup, peak)},
    ),
    Exercise(
        4, "adamw_step", "Adam with decoupled weight decay", adamw,
        hints=("Line by line as in the docstring; the hats use the new m and v.", "beta1**t is a power, t counts from 1.",
               "epsilon stands outside of the square root; decay * w stands outside of the fraction."), facts=FACTS,
        mistakes={"epsilon stands inside of the square root; it must be added after the root": lambda w, g, m, v, t, rate, beta1, beta2,
                  decay, epsilon: _adam(w, g, m, v, t, rate, beta1, beta2, decay * w, 0, epsilon),
                  "the decay went through the gradient, as in Adam with L2; it must stand beside the fraction": lambda w, g, m, v, t, rate,
                  beta1, beta2, decay, epsilon: _adam(w, g + decay * w, m, v, t, rate, beta1, beta2, 0, epsilon, 0),
                  "the decay is missing": lambda w, g, m, v, t, rate, beta1, beta2, decay, epsilon:
                  _adam(w, g, m, v, t, rate, beta1, beta2, 0, epsilon, 0),
                  "the decay must be multiplied by the rate too": lambda w, g, m, v, t, rate, beta1, beta2, decay, epsilon:
                  _adam(w, g, m, v, t, rate, beta1, beta2, decay * w / rate, epsilon, 0),
                  "new_m and new_v are returned, without the hats": lambda w, g, m, v, t, rate, beta1, beta2, decay, epsilon:
                  _with_hats(*_adam(w, g, m, v, t, rate, beta1, beta2, decay * w, epsilon, 0), t, beta1, beta2),
                  "w' is returned first, then m' and v'": lambda w, g, m, v, t, rate, beta1, beta2, decay, epsilon:
                  (lambda w, m, v: (m, v, w))(*_adam(w, g, m, v, t, rate, beta1, beta2, decay * w, epsilon, 0))},
    ),
    Exercise(
        5, "clip_by_norm", "no step too long", gradients,
        hints=("One norm over all arrays together.", "factor = min(1, limit / norm), the same for all."),
        mistakes={"the norm is over all arrays together, not of each": lambda gradients, limit:
                  ([min(1, limit / np.linalg.norm(g)) * g for g in gradients], _norm(gradients)),
                  "a norm below the limit must change nothing: min(1, limit / norm)": lambda gradients, limit:
                  ([limit / _norm(gradients) * g for g in gradients], _norm(gradients)),
                  "the norm that is returned is the one before the scaling": lambda gradients, limit:
                  ([min(1, limit / _norm(gradients)) * g for g in gradients], min(limit, _norm(gradients))),
                  "the square root is missing in the norm": lambda gradients, limit:
                  ([min(1, limit / _norm(gradients)**2) * g for g in gradients], _norm(gradients)**2),
                  "add the squares of all arrays, and take the root of that; a sum of norms is more": lambda gradients, limit:
                  ([min(1, limit / sum(map(np.linalg.norm, gradients))) * g for g in gradients], sum(map(np.linalg.norm, gradients))),
                  "each entry is cut off on its own, which turns the direction; one factor for all is meant": lambda gradients, limit:
                  ([np.clip(g, -limit, limit) for g in gradients], _norm(gradients)),
                  "above the limit nothing is shortened: min(1, limit / norm), not max, and not norm / limit": lambda gradients, limit:
                  (gradients, _norm(gradients))},
    ),
]


def _norm(gradients):
    return np.sqrt(sum((g**2).sum() for g in gradients))


def _with_hats(w, m, v, t, beta1, beta2):
    return w, m / (1 - beta1**t), v / (1 - beta2**t)


def _adam(w, g, m, v, t, rate, beta1, beta2, beside, outside, inside):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    root = np.sqrt(v / (1 - beta2**t) + inside) + outside
    return w - rate * (m / (1 - beta1**t) / root + beside), m, v


def _cosine(step, steps, peak):
    return peak * (1 + np.cos(np.pi * step / steps)) / 2
