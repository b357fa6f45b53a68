"""The pictures of the models that answer questions about images: curves, answers, and where each word of a question looks."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tinymm.plots.attention import Look, draw_attention, mean_look
from tinymm.plots.curves import draw_curves
from tinymm.plots.examples import draw_examples
from tinymm.training.checkpoints import RunFolder
from tinymm.training.metrics import Example

ATTENTION = "Where <cls> and each word of the question look, to answer it"


def draw_run(run: RunFolder, model: Any, title: str, examples: Sequence[Example]) -> list[Path]:
    """The pictures of a training: how it went, and answers to questions about images that are not trained on."""
    return [draw_curves(run.metrics, run.pictures / "curves.png"), *draw_answers(run, model, title, examples)]


def draw_evaluation(run: RunFolder, model: Any, title: str, examples: Sequence[Example], count: int = 24) -> list[Path]:
    """The pictures of `tinymm evaluate`: answers evenly spread over the test, and the first mistakes, if there are any."""
    pictures = draw_answers(run, model, title, [examples[i * len(examples) // count] for i in range(min(count, len(examples)))])
    mistakes, path = [example for example in examples if not example.right], run.pictures / "mistakes.png"
    if mistakes:
        heading = f"Mistakes: the first {len(mistakes[:12])} of {len(mistakes):,} among {len(examples):,}"
        return [*pictures, draw_examples({heading: mistakes[:12]}, path, count_right=False)]
    path.unlink(missing_ok=True)     # of an earlier evaluation
    return pictures


def draw_answers(run: RunFolder, model: Any, title: str, examples: Sequence[Example]) -> list[Path]:
    """questions.png and attention.png."""
    return [
        draw_examples({title: examples}, run.pictures / "questions.png"),
        draw_attention([look(model, example) for example in short_and_varied(examples)], run.pictures / "attention.png", ATTENTION),
    ]


def look(model: Any, example: Example) -> Look:
    return mean_look(model.look(example.image, example.question).attention[0], example.image, f"answer: {example.given}")


def short_and_varied(examples: Sequence[Example], count: int = 4) -> list[Example]:
    """A few examples whose questions begin differently, short ones first: each word gets a panel."""
    by_beginning: dict[tuple[str, ...], Example] = {}
    for example in sorted(examples, key=lambda example: len(example.question)):
        by_beginning.setdefault(tuple(example.question.split()[:3]), example)
    return list(by_beginning.values())[:count]
