"""`tinymm bench step`: how long one training step of the main job takes, in tinymm's two backends and in PyTorch.

All competitors stand in one process, start from the same weights and see the same batch, a real one. They take turns,
so that whatever else the machine does hits all alike; a turn is one step to get warm and then three that are timed.
What is printed is the median. First it is made sure that all compute the same: their losses and gradients are compared.

A step is what the training loop does with a batch: forward, loss, backward, clipping, AdamW. Making the batch is not
part of it.
"""

import argparse
import gc
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from tinymm.bench.machine import BUSY, PAUSE, OtherWork, set_threads
from tinymm.data.batches import Batch
from tinymm.memory import keep_freed_memory
from tinymm.models.text_image import TextImageModel
from tinymm.training.optimizers import clip_by_global_norm
from tinymm.training.text_image import Recipe, TextImageTask, prepare

LEARNING_RATE = 1e-4       # small, so that even hundreds of steps on one batch stay harmless
STEPS_A_TURN = 3
AGREEMENT = 1e-4           # how far the losses and the gradients' norms may be apart, relatively


class Competitor(NamedTuple):
    name: str
    step: Callable[[float], None]
    loss_and_norm: Callable[[], tuple[float, float]]    # of the first batch, before any update


def tinymm_step(task: TextImageTask, batch: Batch, name: str) -> Competitor:
    optimizer = task.recipe.training.make_optimizer(task.model)

    def step(learning_rate: float) -> None:
        optimizer.zero_grad()
        task.step(batch, np.random.default_rng(0))
        clip_by_global_norm(optimizer.gradients, task.recipe.training.clip)
        optimizer.step(learning_rate)

    def loss_and_norm() -> tuple[float, float]:
        optimizer.zero_grad()
        loss = task.step(batch, np.random.default_rng(0))["loss"]
        return loss, float(np.linalg.norm(optimizer.gradients.astype(np.float64)))

    return Competitor(name, step, loss_and_norm)


def competitors(recipe: Recipe) -> tuple[list[Competitor], Batch]:
    """tinymm's backends, and PyTorch's settings if it is installed, all with the same weights."""
    task = prepare(replace(recipe, backend="numpy", training_scenes=max(200, recipe.batch.scenes)), test_scenes=1)
    batch = task.batch(0)
    fast = TextImageModel(task.model.config, np.random.default_rng(0))
    fast.load_state(task.model.state())
    fast.tokenizer = task.model.tokenizer
    found = [tinymm_step(replace(task, model=fast.use_backend("numba")), batch, "tinymm numba")]
    try:
        from tinymm.bench import torch_twin
    except ImportError:
        print('PyTorch is not installed, so tinymm alone is timed (pip install "tinymm[peer]" brings the competitor)')
    else:
        for name, step in torch_twin.competitors(task, batch):
            found.append(Competitor(name, step, lambda step=step: (step.gradients(), step.gradient_norm())))
    found.append(tinymm_step(task, batch, "tinymm numpy"))
    return found, batch


def measure(found: list[Competitor], turns: int) -> dict[str, list[float]]:
    """Seconds of each timed step."""
    seconds: dict[str, list[float]] = {competitor.name: [] for competitor in found}
    gc.collect()
    for _ in range(turns):
        for competitor in found:
            time.sleep(PAUSE)
            competitor.step(LEARNING_RATE)
            for _ in range(STEPS_A_TURN):
                begun = time.perf_counter()
                competitor.step(LEARNING_RATE)
                seconds[competitor.name].append(time.perf_counter() - begun)
    return seconds


def table(seconds: dict[str, list[float]], images: int) -> str:
    """One line a competitor: median and fastest step, images a second, and its time over that of the fast backend."""
    ours = float(np.median(seconds["tinymm numba"]))
    lines = [f"{'':32}{'ms a step':>10}{'fastest':>10}{'images/s':>10}{'/ numba':>9}"]
    for name, times in seconds.items():
        median = float(np.median(times))
        speed = images / median
        lines.append(f"{name:32}{1e3 * median:10.1f}{1e3 * min(times):10.1f}{speed:10.0f}{median / ours:9.2f}")
    peers = [float(np.median(times)) for name, times in seconds.items() if name.startswith("PyTorch")]
    if peers:
        lines.append(f"tinymm numba / best PyTorch: {ours / min(peers):.2f} (below 1: tinymm is faster)")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="tinymm bench step", description=__doc__.split("\n\n")[0])
    parser.add_argument("--turns", type=int, default=7, help="how often each competitor has its turn (default: 7)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(),
                        help="threads for the kernels and for PyTorch (default: one a processor)")
    options = parser.parse_args(argv)
    if options.turns < 1 or options.threads < 1:
        parser.error("--turns and --threads must be at least 1")

    keep_freed_memory()      # as training does
    found, batch = competitors(Recipe())
    set_threads(options.threads)
    results = {competitor.name: competitor.loss_and_norm() for competitor in found}
    expected = results["tinymm numpy"]
    difference = max(abs(value / truth - 1) for result in results.values() for value, truth in zip(result, expected))
    (images, height, width, _), (texts, tokens) = batch.images.shape, batch.ids.shape
    print(f"one step: {images} images {height}x{width}, {texts} texts of up to {tokens} tokens; "
          f"{options.threads} threads, {STEPS_A_TURN * options.turns} steps each")
    print(f"loss and gradient norm of all agree to {difference:.0e}: {expected[0]:.5f} and {expected[1]:.5f}")
    if not difference < AGREEMENT:
        for name, (loss, norm) in results.items():
            print(f"  {name}: loss {loss:.6f}, gradient norm {norm:.6f}")
        print("they do not compute the same; no times are given")
        return 1

    other_work = OtherWork()
    seconds = measure(found, options.turns)
    print(table(seconds, images))
    disturbance = other_work.processors()
    if disturbance is not None and disturbance > BUSY:
        print(f"disturbed: other processes kept {disturbance:.1f} processors busy; times are too long, ratios rough")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
