"""The pictures of BERT: how its trainings went, who looks at whom, and what pre-training is worth with few labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator, PercentFormatter

from tinymm.plots.curves import draw_curves
from tinymm.plots.language import draw_text_attention, head_lines
from tinymm.plots.sheet import INK, LINE, SERIES, SOFT, new_figure, save
from tinymm.training.checkpoints import RunFolder
from tinymm.training.label_curve import spread

LABELS = {"fine_tuned": "pre-trained on sentences without labels, then fine-tuned", "scratch": "the same model from fresh weights"}
QUESTIONS = {"topic": "Product or film?", "sentiment": "Positive or negative?"}
HIGHEST = 12     # words of a text whose attention is drawn


def draw_bert_run(run: RunFolder, model: Any, texts: Sequence[str]) -> list[Path]:
    """curves.png, and attention.png for one of the texts."""
    return [draw_curves(run.metrics, run.pictures / "curves.png"), draw_heads(run, model, texts)]


draw_classifier_run = draw_bert_run


def draw_heads(run: RunFolder, model: Any, texts: Sequence[str]) -> Path:
    """Every head of the encoder on the first text of 6 to 12 words."""
    tokens, weights = next(looked for text in texts if 6 < len((looked := model.attention(text))[0]) <= HIGHEST)
    return draw_text_attention(head_lines(tokens, tokens, weights), run.pictures / "attention.png", "Which words each word looks at",
                               below="each row is a word that looks, each column one that is seen")


def draw_label_curve(curves: Mapping[str, Mapping[str, Mapping[int, Sequence[float]]]], path: str | Path) -> Path:
    """Test accuracy against the number of labels, a panel for each data set and in it a line for each way to begin.

    A line joins the means over the seeds; the bars reach one standard deviation up and down, and each seed is a dot.

    Args:
        curves: data -> "fine_tuned" and "scratch" -> number of labels -> accuracy of each seed.
    """
    figure = new_figure(4.9 * len(curves) + 0.4, 3.9)
    panels = figure.subplots(1, len(curves), sharey=True, squeeze=False)[0]
    figure.subplots_adjust(left=0.6 / figure.get_figwidth(), right=0.985, top=0.86, bottom=0.225, wspace=0.08)
    for axes, (data, curve) in zip(panels, curves.items()):
        for color, (start, points) in zip(SERIES, curve.items()):
            counts = sorted(points)
            axes.errorbar(counts, [np.mean(points[count]) for count in counts], [spread(points[count]) for count in counts], fmt="-o",
                          color=color, linewidth=1.8, markersize=5, capsize=3.5, elinewidth=1.2, label=LABELS[start], zorder=3)
            dots = [(count, accuracy) for count in counts for accuracy in points[count]]
            axes.scatter(*zip(*dots), s=9, color=color, alpha=0.4, linewidths=0, zorder=2)
        axes.axhline(0.5, color=LINE, linewidth=1.4)
        axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        axes.set_xticks(sorted({count for points in curve.values() for count in points}))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
        axes.grid(True, axis="y", color=LINE, linewidth=0.6)
        axes.tick_params(colors=SOFT, labelsize=9, length=0, which="both")
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.spines["bottom"].set_color(LINE)
        axes.set_xlabel("labelled training sentences", color=SOFT, fontsize=9)
        axes.set_title(f"{QUESTIONS[data]} Test accuracy", loc="left", fontsize=11, color=INK, pad=12)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=9, frameon=False, labelcolor=INK, loc="lower center", ncols=2)
    return save(figure, path)
