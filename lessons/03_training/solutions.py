"""Chapter 3, training: one way to solve the exercises."""

import numpy as np


def he_start(d_in, d_out, rng):
    deviation = np.sqrt(2 / d_in)                            # ()
    weight = deviation * rng.normal(size=(d_in, d_out))      # (D_in, D_out)
    return weight


def momentum_step(w, g, m, rate, mu):
    new_m = mu * m + g
    new_w = w - rate * new_m
    return new_w, new_m


def warmup_cosine(step, steps, peak, warmup):
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + np.cos(np.pi * (step - warmup) / (steps - warmup))) / 2


def adamw_step(w, g, m, v, t, rate, beta1, beta2, decay, epsilon):
    new_m = beta1 * m + (1 - beta1) * g
    new_v = beta2 * v + (1 - beta2) * g**2
    m_hat = new_m / (1 - beta1**t)
    v_hat = new_v / (1 - beta2**t)
    step = m_hat / (np.sqrt(v_hat) + epsilon) + decay * w
    new_w = w - rate * step
    return new_w, new_m, new_v


def clip_by_norm(gradients, limit):
    norm = np.sqrt(sum((g**2).sum() for g in gradients))
    factor = min(1.0, limit / norm)
    return [factor * g for g in gradients], norm
