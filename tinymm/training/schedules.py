"""The learning rate as a pure function of the step, so that a resumed run needs no state to go on with it.

Steps count from 0. A run of `steps` updates uses the rates of step 0 to step `steps` - 1.
"""

import math


def warmup_cosine(step: int, *, steps: int, peak: float, warmup: int = 0, floor: float = 0.0) -> float:
    """Rise linearly to `peak` in `warmup` steps, then fall along half a cosine to `floor`.

        step < warmup     peak (step + 1) / (warmup + 1)                          Goyal et al. 2017, 2.2
        after             floor + (peak - floor) (1 + cos(pi progress)) / 2       Loshchilov & Hutter 2017, eq. (5)

    with progress 0 at step `warmup` and 1 at step `steps`. A step behind the end keeps the floor.

    Raises:
        ValueError: steps < 1, warmup outside 0..steps, floor outside 0..peak, or a negative step.
    """
    if steps < 1 or not 0 <= warmup <= steps:
        raise ValueError(f"warmup must be in 0..steps and steps at least 1, got warmup {warmup}, steps {steps}")
    if not 0 <= floor <= peak:
        raise ValueError(f"floor must be in 0..peak, got floor {floor}, peak {peak}")
    if step < 0:
        raise ValueError(f"step must be 0 or more, got {step}")
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    progress = min(1.0, (step - warmup) / max(1, steps - warmup))
    return floor + (peak - floor) * (1 + math.cos(math.pi * progress)) / 2
