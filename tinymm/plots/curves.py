"""Training curves, from the metrics.csv of one run or of several."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from tinymm.plots.sheet import INK, LINE, SERIES, SOFT, new_figure, save, write

# what the columns of metrics.csv are called in the picture
COLUMNS = {
    "loss": "training batch",
    "accuracy": "training batch",
    "questions_exact": "test questions, exact answer",
    "captions_seen_exact": "test captions, exact: pairs seen in training",
    "captions_unseen_exact": "test captions, exact: pairs never seen together",
}


def read_metrics(path: str | Path) -> dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]]:
    """Read a metrics.csv: for each column but `step`, the steps at which it has a number, and those numbers."""
    columns: dict[str, tuple[list[float], list[float]]] = {}
    with open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                try:
                    step, value = float(row["step"]), float(text)
                except (KeyError, TypeError, ValueError):
                    continue   # an empty cell, a word, or a line that was cut off
                if name != "step" and math.isfinite(value):
                    steps, values = columns.setdefault(name, ([], []))
                    steps.append(step)
                    values.append(value)
    return {name: (np.array(steps), np.array(values)) for name, (steps, values) in columns.items()}


def draw_curves(metrics: str | Path, path: str | Path) -> Path:
    """Loss (logarithmic) and accuracy against the training step, from a metrics.csv.

    A column belongs to the left panel if its name contains "loss", to the right one if it contains "accuracy" or
    "exact". Columns measured at few steps (evaluations) are drawn as dots joined by a line; the others thin, with
    their running mean on top.
    """
    columns = read_metrics(metrics)
    losses = {name: column for name, column in columns.items() if "loss" in name}
    accuracies = {name: column for name, column in columns.items() if "accuracy" in name or "exact" in name}
    figure = new_figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.06, right=0.985, top=0.88, bottom=0.13, wspace=0.16)
    draw_series(left, losses)
    draw_series(right, accuracies)
    left.set_title("Loss (cross-entropy, nats)", loc="left", fontsize=11, color=INK, pad=10)
    right.set_title("Accuracy", loc="left", fontsize=11, color=INK, pad=10)
    if losses:
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        left.yaxis.set_minor_formatter(NullFormatter())
    if accuracies:
        right.set_ylim(0, 1.02)
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return save(figure, path)


def draw_comparison(metrics: Mapping[str, str | Path], path: str | Path) -> Path:
    """Every exact-match column that the runs share, one panel each, with a line for each run (label -> its metrics.csv)."""
    runs = {label: read_metrics(file) for label, file in metrics.items()}
    shared = [name for name in next(iter(runs.values())) if "exact" in name and all(name in columns for columns in runs.values())]
    figure = new_figure(3.9 * max(len(shared), 1), 3.8)
    panels = figure.subplots(1, max(len(shared), 1), squeeze=False)[0]
    figure.subplots_adjust(left=0.05, right=0.985, top=0.86, bottom=0.14, wspace=0.18)
    for axes, name in zip(panels, shared):
        draw_series(axes, {label: columns[name] for label, columns in runs.items()})
        axes.set_title(COLUMNS.get(name, name.replace("_", " ")), loc="left", fontsize=10, color=INK, pad=10)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return save(figure, path)


def draw_series(axes: Axes, series: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]]) -> None:
    longest = max((len(steps) for steps, _ in series.values()), default=0)
    for color, (name, (steps, values)) in zip(SERIES * 4, series.items()):
        label = COLUMNS.get(name, name.replace("_", " "))
        if len(steps) <= max(40, longest // 4) and len(steps) < longest or longest <= 40:
            axes.plot(steps, values, "-o", color=color, linewidth=1.6, markersize=4, label=label, clip_on=False)
        else:
            axes.plot(steps, values, color=color, linewidth=0.6, alpha=0.3)
            axes.plot(steps, _running_mean(values, len(values) // 50), color=color, linewidth=1.8, label=label)
    axes.set_xlabel("training step", color=SOFT, fontsize=9)
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(True, color=LINE, linewidth=0.6)
    axes.tick_params(colors=SOFT, labelsize=9, length=0, which="both")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    if series:
        axes.legend(fontsize=8.5, frameon=False, labelcolor=INK)
    else:
        write(axes, 0.5, 0.5, "nothing was logged", color=SOFT)


def _running_mean(values: NDArray[np.floating], window: int) -> NDArray[np.floating]:
    """The mean of the last `window` values at every place (of fewer at the start)."""
    window = max(window, 1)
    sums = np.cumsum(values)
    sums[window:] = sums[window:] - sums[:-window]
    return sums / np.minimum(np.arange(1, len(values) + 1), window)
