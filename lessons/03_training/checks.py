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
    steps = int(rng.integers(20, 30))
    return {"step": int(rng.integers(0, 5)) if rng.random() < 0.5 else int(rng.integers(8, 19)), "steps": steps, "peak": 0.7,
            "warmup": 6}


def gradients(rng):
    return {"gradients": [rng.normal(size=(2, 3)), rng.normal(size=5)], "limit": float(rng.choice([0.4, 50.0]))}


FACTS = {
    "deviation": "it is the square root of 2 / D_in, the number of inputs",
    "new_m": "the running mean of the gradients, beta1 m + (1 - beta1) g (momentum: mu m + g)",
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
                  np.sqrt(2 / d_out) * rng.normal(size=(d_in, d_out))},
    ),
    Exercise(
        2, "momentum_step", "gradients that agree add up", momentum,
        hints=("First the new m, then the step with the new m.", "new_m = mu * m + g; new_w = w - rate * new_m"), facts=FACTS,
        mistakes={"the step uses the old m; it must use the new one": lambda w, g, m, rate, mu: (w - rate * m, mu * m + g)},
    ),
    Exercise(
        3, "warmup_cosine", "how long a step is", plan,
        hints=("Two cases, told by step < warmup.", "The cosine runs from cos 0 = 1 to cos pi = -1."),
        mistakes={"the first step should not have rate 0: step + 1, not step": lambda step, steps, peak, warmup:
                  peak * step / warmup if step < warmup else _cosine(step - warmup, steps - warmup, peak),
                  "the cosine begins after the warm-up: step - warmup": lambda step, steps, peak, warmup:
                  peak * (step + 1) / warmup if step < warmup else _cosine(step, steps, peak)},
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
                  _adam(w, g, m, v, t, rate, beta1, beta2, 0, epsilon, 0)},
    ),
    Exercise(
        5, "clip_by_norm", "no step too long", gradients,
        hints=("One norm over all arrays together.", "factor = min(1, limit / norm), the same for all."),
        mistakes={"the norm is over all arrays together, not of each": lambda gradients, limit:
                  ([min(1, limit / np.linalg.norm(g)) * g for g in gradients], np.sqrt(sum((g**2).sum() for g in gradients))),
                  "a norm below the limit must change nothing: min(1, limit / norm)": lambda gradients, limit: (
                      [limit / np.sqrt(sum((g**2).sum() for g in gradients)) * g for g in gradients],
                      np.sqrt(sum((g**2).sum() for g in gradients)))},
    ),
]


def _adam(w, g, m, v, t, rate, beta1, beta2, beside, outside, inside):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    root = np.sqrt(v / (1 - beta2**t) + inside) + outside
    return w - rate * (m / (1 - beta1**t) / root + beside), m, v


def _cosine(step, steps, peak):
    return peak * (1 + np.cos(np.pi * step / steps)) / 2
