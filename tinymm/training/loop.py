"""The training loop: the same for every model. A Task says what a batch and a step are; the loop does the rest.

Everything random in step s comes from `default_rng([seed, s])`, so the pair (seed, step) IS the state of the generator.
With the weights, the running statistics and the optimizer's moments in one checkpoint file, a run that was killed
and resumed goes through exactly the same numbers as one that was not.
"""

import math
import sys
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from tinymm.errors import UserError
from tinymm.layers.module import Module
from tinymm.training.checkpoints import RunFolder, load_weights_into, refuse_to_overwrite
from tinymm.training.metrics import MetricsFile
from tinymm.training.nonfinite import NonFiniteError, explain
from tinymm.training.optimizers import SGD, Adam, AdamW, Optimizer, clip_by_global_norm
from tinymm.training.schedules import warmup_cosine


class Task(Protocol):
    """What is trained, on what.

    A task may also have `trace(batch, rng)`, which runs the forward pass of a step again and returns its caches (nested
    NamedTuples, dicts, lists), in the order of computation. The loop asks for it only to name the first array that is
    not finite.
    """

    model: Module

    def batch(self, step: int) -> Any:
        """The batch of this step; a pure function of the step (and the task's own seed)."""

    def step(self, batch: Any, rng: np.random.Generator) -> dict[str, float]:
        """Forward, loss, backward: adds to the gradients (the loop has cleared them). Returns at least "loss"."""

    def evaluate(self, limit: int | None = None) -> dict[str, float]:
        """Results on data that is not trained on; `limit` bounds the number of items for a quick look."""


@dataclass(frozen=True)
class TrainingSettings:
    """How a task is trained. Counts are in steps; `clip` is the largest global norm of the gradients."""

    steps: int
    learning_rate: float = 2e-3
    warmup: int = 100
    final_learning_rate: float = 0.0
    optimizer: str = "adamw"              # "adamw", "adam" or "sgd"
    weight_decay: float = 0.01            # of adamw
    kernel_decay: float | None = None     # of adamw, for convolution kernels; None: the same
    beta1: float = 0.9                    # of adamw and adam; of sgd the momentum
    beta2: float = 0.999                  # of adamw and adam
    clip: float = 1.0
    seed: int = 0
    log_every: int = 20
    evaluate_every: int = 500
    evaluation_limit: int | None = 500    # items for the evaluations on the way; the last one uses all
    checkpoint_every: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "log_every", "evaluate_every", "checkpoint_every"):
            if not getattr(self, name) >= 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.optimizer not in ("adamw", "adam", "sgd"):
            raise ValueError(f'optimizer must be "adamw", "adam" or "sgd", got {self.optimizer!r}')
        if not 0 < self.learning_rate < math.inf:
            raise ValueError(f"learning_rate must be above 0, got {self.learning_rate}")
        if self.seed < 0:
            raise ValueError(f"seed must be 0 or more, got {self.seed}")

    def make_optimizer(self, model: Module) -> Optimizer:
        if self.optimizer == "sgd":
            return SGD(model, self.beta1)
        if self.optimizer == "adam":
            return Adam(model, self.beta1, self.beta2)
        return AdamW(model, self.beta1, self.beta2, weight_decay=self.weight_decay, kernel_decay=self.kernel_decay)

    def rate(self, step: int) -> float:
        return warmup_cosine(step, steps=self.steps, peak=self.learning_rate, warmup=min(self.warmup, self.steps),
                             floor=self.final_learning_rate)


@dataclass(frozen=True)
class TrainingSummary:
    """What a call of `train` did: it began at step `start` (0 unless resumed) and ended at `steps`."""

    start: int
    steps: int
    seconds: float                  # of the whole run, the parts before a resume included
    evaluation: dict[str, float]    # the last one, on everything


class Means:
    """Means of what the steps report, since the last row of metrics.csv.

    They are part of a checkpoint, so that a resumed run logs the same rows.
    """

    def __init__(self) -> None:
        self.sums: dict[str, float] = {}
        self.count = 0

    def add(self, values: dict[str, float]) -> None:
        for name, value in values.items():
            self.sums[name] = self.sums.get(name, 0.0) + float(value)
        self.count += 1

    def take(self) -> dict[str, float]:
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def state(self) -> dict[str, NDArray[Any]]:
        sums = {f"sum.{name}": np.array(total, np.float64) for name, total in self.sums.items()}
        # The columns of metrics.csv have an order, which a checkpoint (in alphabetical order) would lose: number them.
        order = {f"place.{name}": np.array(i, np.int64) for i, name in enumerate(self.sums)}
        return sums | order | {"count": np.array(self.count, np.int64)}

    def load_state(self, state: dict[str, NDArray[Any]]) -> None:
        places = {name.removeprefix("place."): int(place) for name, place in state.items() if name.startswith("place.")}
        names = sorted(places, key=lambda name: places[name])
        self.sums = {name: float(state[f"sum.{name}"]) for name in names}
        self.count = int(state["count"])


def train(task: Task, settings: TrainingSettings, run: RunFolder, *, resume: bool = False,
          progress: bool = True) -> TrainingSummary:
    """Train a task until settings.steps; the run folder then holds the weights and all that was measured.

    Args:
        run: made by `RunFolder.create`, or found by `RunFolder.open` to resume.
        resume: go on from the last checkpoint (from the beginning if the run was killed before its first).
        progress: show a bar with loss, accuracy and the time left.

    Raises:
        NonFiniteError: the loss or a gradient is NaN or infinite; it names the first bad array. The checkpoint stays.
        UserError: the checkpoint is damaged or of another run, or one exists and resume is False.
        KeyboardInterrupt: Ctrl-C; its text says how to go on.
    """
    if not resume and run.training_state.exists():
        refuse_to_overwrite(run.path)
    model, optimizer, means = task.model, settings.make_optimizer(task.model), Means()
    start = restore(run, model, optimizer, means, settings) if run.training_state.exists() else 0
    metrics = MetricsFile(run.metrics, last_step=start)
    begun = time.perf_counter() - metrics.seconds
    evaluation: dict[str, float] = {}
    saved = done = start

    bar = tqdm(total=settings.steps, initial=start, disable=not progress, unit="step", dynamic_ncols=True,
               mininterval=0.2 if sys.stderr.isatty() else 30)    # a log file gets a line now and then
    try:
        with bar, metrics, np.errstate(over="ignore", invalid="ignore", divide="ignore"):    # we look ourselves
            for step in range(start, settings.steps):
                batch = task.batch(step)
                optimizer.zero_grad()
                values = task.step(batch, np.random.default_rng([settings.seed, step]))
                norm = clip_by_global_norm(optimizer.gradients, settings.clip)
                if not (math.isfinite(values["loss"]) and math.isfinite(norm)):
                    raise _not_finite(task, settings, optimizer, batch, step, values["loss"], norm, saved)
                optimizer.step(settings.rate(step))
                done = step + 1
                is_last = done == settings.steps

                row: dict[str, float] = {}
                means.add(values | {"gradient_norm": norm})
                if done % settings.log_every == 0 or is_last:
                    row |= means.take() | {"learning_rate": settings.rate(step)}
                    shown = {name: f"{row[name]:.4g}" for name in ("loss", "accuracy") if name in row}
                    bar.set_postfix(shown, refresh=False)
                if done % settings.evaluate_every == 0 or is_last:
                    bar.set_description("evaluating")
                    evaluation = task.evaluate(None if is_last else settings.evaluation_limit)
                    bar.set_description("")
                    row |= evaluation
                if row:
                    metrics.write({"step": done, "seconds": time.perf_counter() - begun} | row)
                if done % settings.checkpoint_every == 0 or is_last:
                    metrics.sync()    # what a checkpoint claims to have logged must be on the disk before it
                    save(run, model, optimizer, means, settings, done)
                    saved = done
                bar.update()
            if start == settings.steps:    # killed after the last checkpoint, or already finished
                run.save_weights(model.state())
                evaluation = task.evaluate()
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"stopped at step {done} of {settings.steps}; {_what_is_left(saved)}: "
                                f"go on with `tinymm train --out {run.path} --resume`") from None
    return TrainingSummary(start, settings.steps, time.perf_counter() - begun, evaluation)


def save(run: RunFolder, model: Module, optimizer: Optimizer, means: Means, settings: TrainingSettings,
         step: int) -> None:
    """Write a checkpoint: first the file that resuming reads, then the weights alone, each atomically."""
    parts = {"model": model.state(), "optimizer": optimizer.state(), "means": means.state(),
             "run": {"step": np.array(step, np.int64), "seed": np.array(settings.seed, np.int64)}}
    run.save_training_state(
        {f"{part}.{name}": array for part, arrays in parts.items() for name, array in arrays.items()})
    run.save_weights(model.state())


def restore(run: RunFolder, model: Module, optimizer: Optimizer, means: Means, settings: TrainingSettings) -> int:
    """Put a checkpoint back into the model, the optimizer and the means; returns the number of steps that were done.

    Raises:
        UserError: the file is damaged, or belongs to another model or other settings.
    """
    parts: dict[str, dict[str, NDArray[Any]]] = {"model": {}, "optimizer": {}, "means": {}, "run": {}}
    try:
        for name, array in run.load_training_state().items():
            part, rest = name.split(".", 1)
            parts[part][rest] = array
        step, seed = int(parts["run"]["step"]), int(parts["run"]["seed"])
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{run.training_state} is no training state of tinymm") from error
    if seed != settings.seed or step > settings.steps:
        raise UserError(f"{run.training_state} is of seed {seed} and step {step}, but this run has seed "
                        f"{settings.seed} and {settings.steps} steps: resume with the settings the run began with")
    load_weights_into(model, parts["model"], run.training_state)
    try:
        optimizer.load_state(parts["optimizer"])
        means.load_state(parts["means"])
    except (KeyError, ValueError, TypeError) as error:
        raise UserError(f"{run.training_state} was not written with these settings: {error}") from error
    return step


def _not_finite(task: Task, settings: TrainingSettings, optimizer: Optimizer, batch: Any, step: int, loss: float,
                norm: float, saved: int) -> NonFiniteError:
    """Run the forward pass of the bad step again, with the same random numbers, and look at every array."""
    parameters = {name: parameter.value for name, parameter in task.model.named_parameters()}
    trace = getattr(task, "trace", None)
    caches = None if trace is None else trace(batch, np.random.default_rng([settings.seed, step]))
    where = explain(parameters, batch, caches, dict(optimizer.named_gradients()))
    what = f"the loss is {loss:g}" if not math.isfinite(loss) else f"the norm of the gradients is {norm:g}"
    return NonFiniteError(f"training stopped at step {step + 1}: {what}; {where}; a smaller learning rate "
                          f"(it was {settings.rate(step):.2g}) often helps, and {_what_is_left(saved)}")


def _what_is_left(saved: int) -> str:
    return f"the checkpoint of step {saved} is complete" if saved else "no checkpoint was written yet"
