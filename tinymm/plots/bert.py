"""The pictures of BERT: how its trainings went, who looks at whom, and what pre-training is worth with few labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from tinymm.plots.curves import draw_curves
from tinymm.plots.language import TextMap, draw_text_attention
from tinymm.plots.sheet import INK, LINE, SERIES, SOFT, new_figure, save
from tinymm.training.checkpoints import RunFolder

LABELS = {"fine_tuned": "pre-trained on sentences without labels, then fine-tuned", "scratch": "the same model from fresh weights"}
HIGHEST = 12     # words of a text whose attention is drawn


def draw_bert_run(run: RunFolder, model: Any, texts: Sequence[str]) -> list[Path]:
    """curves.png, and attention.png for one of the texts."""
    return [draw_curves(run.metrics, run.pictures / "curves.png"), draw_heads(run, model, texts)]


draw_classifier_run = draw_bert_run


def draw_heads(run: RunFolder, model: Any, texts: Sequence[str]) -> Path:
    """Every head of the encoder on the first text of 6 to 12 words."""
    tokens, weights = next(looked for text in texts if 6 < len((looked := model.attention(text))[0]) <= HIGHEST)
    maps = [[TextMap(f"layer {layer + 1}, head {head + 1}", tokens, tokens, head_weights) for head, head_weights in enumerate(heads)]
            for layer, heads in enumerate(weights)]
    return draw_text_attention(maps, run.pictures / "attention.png", "Which words each word looks at",
                               below="each row is a word that looks, each column one that is seen")


def draw_label_curve(curve: Mapping[str, Mapping[int, Sequence[float]]], path: str | Path) -> Path:
    """Test accuracy against the number of labels, one line for each way to begin: the mean over the seeds, and every seed as a dot.

    Args:
        curve: "fine_tuned" and "scratch" -> number of labels -> accuracy of each seed.
    """
    figure = new_figure(7.2, 4.2)
    axes = figure.subplots()
    figure.subplots_adjust(left=0.085, right=0.97, top=0.87, bottom=0.13)
    counts: list[int] = sorted({count for points in curve.values() for count in points})
    for color, (name, points) in zip(SERIES, curve.items()):
        places = sorted(points)
        axes.plot(places, [np.mean(points[count]) for count in places], "-o", color=color, linewidth=1.8, markersize=5,
                  label=LABELS.get(name, name), zorder=3)
        dots = [(count, accuracy) for count in places for accuracy in points[count]]
        axes.scatter(*zip(*dots), s=10, color=color, alpha=0.45, linewidths=0, zorder=2)
    axes.axhline(0.5, color=LINE, linewidth=1.2)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xticks(counts)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.grid(True, axis="y", color=LINE, linewidth=0.6)
    axes.tick_params(colors=SOFT, labelsize=9, length=0, which="both")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.set_xlabel("labelled training sentences", color=SOFT, fontsize=9)
    axes.set_title("Positive or negative? Test accuracy by the number of labels", loc="left", fontsize=11, color=INK, pad=12)
    axes.legend(fontsize=9, frameon=False, labelcolor=INK, loc="upper left")
    return save(figure, path)
