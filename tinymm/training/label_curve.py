"""What is pre-training worth? The same model, fine-tuned and from scratch, with more and more labels.

    python -m tinymm.training.label_curve runs/bert --out runs/label_curve

Two questions are asked (tinymm.training.bert_classifier): does a sentence speak of a product or a film, and does it praise.

Each training is stopped where it was best on validation data (looked at eight times on its way), and only that state is
tested. Both ways to begin get the same labels, the same steps and the same looks, each with the learning rate that suits
it. Finished trainings are kept in label_curve.csv; a second call goes on where the first was stopped.
"""

import argparse
import csv
import io
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from tqdm import tqdm

from tinymm.errors import UserError
from tinymm.training.bert_classifier import Recipe, labelled, load_data, prepare
from tinymm.training.checkpoints import write_atomically
from tinymm.training.optimizers import clip_by_global_norm
from tinymm.training.sentiment import judge

SEEDS: dict[str, dict[int | None, int]] = {    # how many trainings for this many labels; None: all
    "topic": {10: 5, 30: 5, 100: 5, 300: 5, 1000: 3, None: 2},
    "sentiment": {100: 5, 300: 5, 1000: 5, 3000: 3, None: 3},
}
RATES = {"fine_tuned": 5e-4, "scratch": 1e-3}                         # fresh weights need a higher learning rate
LOOKS = 8                                                             # at the validation data, in each training
EPOCHS, FEWEST_STEPS = 10, 100                                        # a training is so long, but not longer than the recipe


class Point(NamedTuple):
    """One training of the curve."""

    data: str                     # "topic" or "sentiment"
    start: str                    # "fine_tuned" or "scratch"
    labels: int
    seed: int
    steps: int                    # after which it was best on validation data
    validation_accuracy: float
    test_accuracy: float


def measure(recipe: Recipe) -> Point:
    """Train by the recipe, keep the weights of the best look at the validation data, and test them."""
    task, settings = prepare(recipe), recipe.training
    model, optimizer = task.model, settings.make_optimizer(task.model)
    best_accuracy, best_step, best = -1.0, 0, {}
    for step in range(settings.steps):
        optimizer.zero_grad()
        task.step(task.batch(step), np.random.default_rng([settings.seed, step]))
        clip_by_global_norm(optimizer.gradients, settings.clip)
        optimizer.step(settings.rate(step))
        if (step + 1) * LOOKS // settings.steps > step * LOOKS // settings.steps:
            accuracy, _ = judge(model, task.validation)
            if accuracy > best_accuracy:
                best_accuracy, best_step = accuracy, step + 1
                best = {name: array.copy() for name, array in model.state().items()}
    model.load_state(best)
    test = labelled(load_data(recipe.data).test, model.tokenizer, model.config.max_length)
    return Point(recipe.data, "fine_tuned" if recipe.start_from else "scratch", len(task.sentences.labels), settings.seed,
                 best_step, best_accuracy, judge(model, test)[0])


def plan(run: str, data: str) -> list[Recipe]:
    """The recipes of one curve, few labels first."""
    total, recipes = len(load_data(data).train.labels), []
    for count, trainings in SEEDS[data].items():
        for seed in range(trainings):
            for start in (run, ""):
                recipe = Recipe(data=data, start_from=start, labels=count)
                epochs = EPOCHS * (count or total) // recipe.batch_size                     # in steps
                steps = min(max(epochs, FEWEST_STEPS), recipe.training.steps)
                rate = RATES["fine_tuned" if start else "scratch"]
                training = replace(recipe.training, seed=seed, steps=steps, warmup=steps // 10, learning_rate=rate)
                recipes.append(replace(recipe, training=training))
    return recipes


def read_points(path: Path) -> list[Point]:
    """The finished trainings in a label_curve.csv; none if there is no such file.

    Raises:
        UserError: the file is not one of these.
    """
    if not path.exists():
        return []
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return [Point(row["data"], row["start"], int(row["labels"]), int(row["seed"]), int(row["steps"]),
                          float(row["validation_accuracy"]), float(row["test_accuracy"])) for row in csv.DictReader(file)]
    except (KeyError, ValueError, TypeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is damaged: it is no label curve; delete it to measure again") from error


def write_points(path: Path, points: Sequence[Point]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(Point._fields)
    writer.writerows((*point[:5], f"{point.validation_accuracy:.4f}", f"{point.test_accuracy:.4f}") for point in points)
    write_atomically(path, text.getvalue().encode())


def measure_curve(recipes: Sequence[Recipe], folder: Path, progress: bool = True) -> list[Point]:
    """Measure what label_curve.csv in the folder does not hold yet."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "label_curve.csv"
    points = read_points(file)
    done = {point[:4] for point in points}
    for recipe in tqdm(recipes, disable=not progress, unit="training", mininterval=0.2 if sys.stderr.isatty() else 30):
        count = recipe.labels or len(load_data(recipe.data).train.labels)
        if (recipe.data, "fine_tuned" if recipe.start_from else "scratch", count, recipe.training.seed) not in done:
            points.append(measure(recipe))
            write_points(file, points)
    return points


def curves(points: Sequence[Point]) -> dict[str, dict[str, dict[int, list[float]]]]:
    """Test accuracies by data, way to begin and number of labels."""
    found: dict[str, dict[str, dict[int, list[float]]]] = {}
    for point in points:
        curve = found.setdefault(point.data, {"fine_tuned": {}, "scratch": {}})
        curve[point.start].setdefault(point.labels, []).append(point.test_accuracy)
    return found


def table(points: Sequence[Point]) -> list[str]:
    """Mean and standard deviation over the seeds, one line for each number of labels."""
    lines = [f"{'data':<10} {'labels':>7}  {'fine-tuned':>16}  {'from scratch':>16}  seeds"]
    for data, curve in curves(points).items():
        for count in sorted(set(curve["fine_tuned"]) & set(curve["scratch"])):
            both = curve["fine_tuned"][count], curve["scratch"][count]
            cells = [f"{np.mean(values):.1%} +- {spread(values):.1%}" for values in both]
            lines.append(f"{data:<10} {count:>7,}  {cells[0]:>16}  {cells[1]:>16}  {len(both[1]):>5}")
    return lines


def spread(values: Sequence[float]) -> float:
    """The standard deviation over the seeds, estimated from these few."""
    return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def main(arguments: Sequence[str] | None = None) -> int:
    from tinymm.memory import keep_freed_memory
    from tinymm.plots.bert import draw_label_curve

    parser = argparse.ArgumentParser(prog="python -m tinymm.training.label_curve", description=__doc__.split("\n")[0])
    parser.add_argument("run", metavar="RUN", help="the run folder of a trained bert")
    parser.add_argument("--out", metavar="FOLDER", type=Path, default=Path("runs/label_curve"), help="default runs/label_curve")
    options = parser.parse_args(arguments)
    keep_freed_memory()
    try:
        points = measure_curve([recipe for data in SEEDS for recipe in plan(options.run, data)], options.out)
    except UserError as error:
        sys.exit(f"tinymm: {error}")
    print(*table(points), sep="\n")
    print(f"picture   {draw_label_curve(curves(points), options.out / 'label_curve.png')}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
