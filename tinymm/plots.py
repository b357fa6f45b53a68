"""Every picture that tinymm draws: training curves, a sheet of examples, and where the model looked.

Matplotlib is used through its object interface (a Figure of its own for each picture, saved by the Agg
renderer), so nothing global is changed and no display is needed.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, PercentFormatter
from numpy.typing import NDArray

from tinymm.data.images import ImageSource, load_image
from tinymm.training.checkpoints import RunFolder
from tinymm.training.metrics import Example

if TYPE_CHECKING:
    from tinymm.models.text_image import TextImageModel
    from tinymm.training.text_image import Evaluation, TestSets

INK, SOFT, LINE = "#1f2933", "#6b7785", "#d9dee4"
RIGHT, WRONG = "#15803d", "#c81e1e"
SERIES = ("#2563eb", "#d97706", "#7c3aed", "#0d9488", "#be185d", "#4b5563")
NIGHT = np.array([16, 20, 38], dtype=np.float64)      # what the unlooked-at part of an image fades into
FLOOR = 0.22                                          # so much of it is always seen
DARK_EDGE = withStroke(linewidth=2.6, foreground="#101426")     # white on a bright image stays readable
DPI = 144

QUESTIONS = "Test questions of easy-VQA"
CAPTIONS = {
    "captions_seen": "Captions of test scenes: pairs of colour and shape seen in training",
    "captions_unseen": "Captions of test scenes: with a pair never seen together",
}
MISTAKES = {
    "questions": "Mistakes, test questions",
    "captions_seen": "Mistakes, captions with pairs of colour and shape seen in training",
    "captions_unseen": "Mistakes, captions with a pair never seen together",
}
ATTENTION = "Where the model looked for each word"

# what the columns of metrics.csv are called in the picture
COLUMNS = {
    "loss": "training batch",
    "accuracy": "training batch, each token",
    "questions_exact": "test questions, exact answer",
    "captions_seen_exact": "test captions, exact: pairs seen in training",
    "captions_unseen_exact": "test captions, exact: pairs never seen together",
}


@dataclass(frozen=True)
class Look:
    """Where the model looked while it wrote each word."""

    image: NDArray[np.uint8]      # (H, W, 3)
    prompt: str
    words: Sequence[str]
    attention: NDArray[np.floating]   # (words, grid_h, grid_w): each map is at least 0

    def __post_init__(self) -> None:
        if self.attention.ndim != 3 or len(self.words) != len(self.attention):
            raise ValueError(
                f"attention must be (words, grid_h, grid_w) with {len(self.words)} words, got {self.attention.shape}"
            )


def _figure(width: float, height: float) -> Figure:
    """An empty white figure of this size in inches, tied to the Agg renderer."""
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=DPI)
    return path


def _sheet(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure for images and texts: one pair of axes over all of it, in inches from the upper left corner.

    (One for every image would be the usual way, but axes are slow to make and to draw.)
    """
    figure = _figure(width, height)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), autoscale_on=False)
    axes.set_axis_off()
    return figure, axes


def _write(axes: Axes, x: float, y: float, text: str, **style: object) -> None:
    """Text, by default centred under its place. `$` is a character here, not a formula."""
    options: dict[str, object] = {"color": INK, "fontsize": 9, "ha": "center", "va": "top"}
    axes.text(x, y, text, parse_math=False, **(options | style))


def _show_image(axes: Axes, image: NDArray[np.uint8], left: float, top: float, side: float,
                edge: str = LINE, width: float = 1.0) -> None:
    """An image on a sheet, in a square of this side, with a border."""
    smoothing = "nearest" if len(image) < 128 else "antialiased"      # the pixels of a small image may be seen
    axes.imshow(image, extent=(left, left + side, top + side, top), aspect="auto", interpolation=smoothing)
    axes.add_patch(Rectangle((left, top), side, side, fill=False, edgecolor=edge, linewidth=width))


def _heading(axes: Axes, title: str, note: str = "", below: str = "", top: float = 0.0) -> None:
    """A title at the left, a note at the right, and a small line below the title."""
    _write(axes, 0.2, top + 0.16, title, ha="left", fontsize=12.5, weight="bold")
    _write(axes, axes.get_xlim()[1] - 0.2, top + 0.18, note, ha="right", fontsize=10, color=SOFT)
    _write(axes, 0.2, top + 0.44, below, ha="left", fontsize=8.5, color=SOFT)


def _wrap(text: str, width: int, lines: int) -> str:
    """Break text at spaces into at most this many lines; what does not fit ends in an ellipsis."""
    rows: list[str] = [""]
    for word in text.split():
        if len(rows[-1]) + len(word) + 1 <= width or not rows[-1]:
            rows[-1] = f"{rows[-1]} {word}".strip()
        else:
            rows.append(word)
    rows = [row if len(row) <= width else row[: width - 1] + "…" for row in rows]
    if len(rows) > lines:
        rows = rows[:lines]
        rows[-1] = rows[-1][: width - 2].rstrip() + " …"
    return "\n".join(rows)


# ---------------------------------------------------------------------------------------------------- curves


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
    figure = _figure(11, 4.4)
    left, right = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.06, right=0.985, top=0.88, bottom=0.13, wspace=0.16)
    _draw_series(left, losses)
    _draw_series(right, accuracies)
    left.set_title("Loss (cross-entropy a token, nats)", loc="left", fontsize=11, color=INK, pad=10)
    right.set_title("Accuracy", loc="left", fontsize=11, color=INK, pad=10)
    if losses:
        left.set_yscale("log")
        left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        left.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        left.yaxis.set_minor_formatter(NullFormatter())
    if accuracies:
        right.set_ylim(0, 1.02)
        right.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return _save(figure, path)


def draw_comparison(metrics: Mapping[str, str | Path], path: str | Path) -> Path:
    """Every exact-match column that the runs share, one panel each, with a line for each run (label -> its metrics.csv)."""
    runs = {label: read_metrics(file) for label, file in metrics.items()}
    shared = [name for name in next(iter(runs.values())) if "exact" in name and all(name in columns for columns in runs.values())]
    figure = _figure(3.9 * max(len(shared), 1), 3.8)
    panels = figure.subplots(1, max(len(shared), 1), squeeze=False)[0]
    figure.subplots_adjust(left=0.05, right=0.985, top=0.86, bottom=0.14, wspace=0.18)
    for axes, name in zip(panels, shared):
        _draw_series(axes, {label: columns[name] for label, columns in runs.items()})
        axes.set_title(COLUMNS.get(name, name.replace("_", " ")), loc="left", fontsize=10, color=INK, pad=10)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    return _save(figure, path)


def _draw_series(axes: Axes, series: dict[str, tuple[NDArray[np.floating], NDArray[np.floating]]]) -> None:
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
        _write(axes, 0.5, 0.5, "nothing was logged", color=SOFT)


def _running_mean(values: NDArray[np.floating], window: int) -> NDArray[np.floating]:
    """The mean of the last `window` values at every place (of fewer at the start)."""
    window = max(window, 1)
    sums = np.cumsum(values)
    sums[window:] = sums[window:] - sums[:-window]
    return sums / np.minimum(np.arange(1, len(values) + 1), window)


# ---------------------------------------------------------------------------------------------------- examples


def draw_examples(sections: Mapping[str, Sequence[Example]], path: str | Path, columns: int = 6,
                  count_right: bool = True) -> Path:
    """A sheet of images, each with its question, the answer given, and the expected one where they differ.

    Right answers are green with a check mark, wrong ones red with a cross. Each section (its title and its
    examples) begins a new line of images and, with count_right, says how many of them are right.
    """
    side, gap, line, head = 1.62, 0.2, 0.145, 0.55           # inches: an image, between images, a line of text, a title
    boxes: list[tuple[Example, float, float]] = []           # each example, its place from the left and from the top
    heads: list[tuple[str, str, float]] = []
    top = 0.0
    for title, examples in sections.items():
        right = sum(example.right for example in examples)
        heads.append((title, f"{right} of these {len(examples)} right" if count_right else "", top))
        top += head
        for start in range(0, len(examples), columns):
            row = examples[start:start + columns]
            boxes += [(example, gap + column * (side + gap), top) for column, example in enumerate(row)]
            top += side + 0.3 + line * max(len(_caption(example)) for example in row)
    figure, axes = _sheet(columns * (side + gap) + gap, top + 0.1)
    for title, note, place in heads:
        _heading(axes, title, note, top=place)
    for example, left, place in boxes:
        right = example.right
        _show_image(axes, example.image, left, place, side, edge=RIGHT if right else WRONG, width=1.2 if right else 2.6)
        for i, (words, style) in enumerate(_caption(example)):
            _write(axes, left + side / 2, place + side + 0.06 + i * line, words, **style)
    return _save(figure, path)


def _caption(example: Example) -> list[tuple[str, dict[str, object]]]:
    """The lines under an example, each with its style."""
    mark = "✓" if example.right else "✗"
    color, size = RIGHT if example.right else WRONG, 9 if len(example.given) < 22 else 8
    parts = [
        (_wrap(example.question, 28, 3), {"color": SOFT, "fontsize": 7.8}),
        (_wrap(f"{mark} {example.given or '(nothing)'}", 25, 5), {"color": color, "weight": "bold", "fontsize": size}),
        (_wrap("" if example.right else f"expected: {example.expected}", 29, 5), {"color": INK, "fontsize": 7.8}),
    ]
    return [(words, style) for text, style in parts if text for words in text.split("\n")]


# ---------------------------------------------------------------------------------------------------- attention


def draw_attention(looks: Sequence[Look], path: str | Path, title: str, columns: int = 8) -> Path:
    """For each image: the image under its prompt, then a panel for every generated word.

    In a word's panel the image is lit where the model looked while it wrote that word and dark where it did not;
    the strongest image token is framed, with its share of the attention that the image gets. Equal attention everywhere
    lights it all. Short answers share a line; a long caption goes on in the next one.
    """
    side, gap, above, top = 1.5, 0.1, 0.36, 0.74             # inches
    places, used = _arrange([1 + len(look.words) for look in looks], columns)
    widest = max((column + 1 for cells in places for _, column in cells), default=0)
    figure, axes = _sheet(max(widest, 4) * (side + gap) + 0.4, top + (used or 1) * (side + above) + 0.1)
    below = "lit: looked at    framed: the strongest image token, with its share of what the image gets"
    _heading(axes, title, below=below)
    for look, cells in zip(looks, places):
        for panel, (row, column) in enumerate(cells):
            x, y = 0.2 + column * (side + gap), top + above + row * (side + above)
            if panel == 0:
                _show_image(axes, look.image, x, y, side)
                _write(axes, x, y - 0.05, _wrap(look.prompt, 27, 2), ha="left", va="bottom", fontsize=7.8, color=SOFT)
            else:
                attention = look.attention[panel - 1]
                _show_image(axes, lit(look.image, attention), x, y, side, edge="white")
                _frame_strongest(axes, attention, x, y, side)
                _write(axes, x + side / 2, y - 0.05, look.words[panel - 1], va="bottom", fontsize=10, weight="bold")
    return _save(figure, path)


def _arrange(sizes: Sequence[int], columns: int) -> tuple[list[list[tuple[int, int]]], int]:
    """Places (row, column) for groups of panels, and the rows used. Groups stay together if they fit into a row."""
    places: list[list[tuple[int, int]]] = []
    row, column = 0, 0
    for size in sizes:
        if column and column + size > columns:
            row, column = row + 1, 0
        cells = []
        for _ in range(size):
            if column == columns:
                row, column = row + 1, 1          # the first column is for the images themselves
            cells.append((row, column))
            column += 1
        places.append(cells)
    return places, row + (column > 0)


def lit(image: NDArray[np.uint8], attention: NDArray[np.floating]) -> NDArray[np.uint8]:
    """The image (H, W, 3), dark where the attention (grid_h, grid_w) is small and unchanged where it is largest.

    The map is enlarged smoothly (bilinearly between the centres of its cells).
    """
    light = np.maximum(np.nan_to_num(np.asarray(attention, dtype=np.float64)), 0)
    light = light / (light.max() or 1.0)
    light = _enlarge(_enlarge(light, image.shape[0]).T, image.shape[1]).T[..., None]        # (H, W, 1)
    light = FLOOR + (1 - FLOOR) * light
    return np.rint(image * light + NIGHT * (1 - light)).astype(np.uint8)


def _enlarge(grid: NDArray[np.floating], size: int) -> NDArray[np.floating]:
    """Stretch the first axis of a grid to this size, linearly between the centres of its cells."""
    places = (np.arange(size) + 0.5) * len(grid) / size - 0.5
    return np.stack([np.interp(places, np.arange(len(grid)), column) for column in grid.T], axis=1)


def _frame_strongest(axes: Axes, attention: NDArray[np.floating], left: float, top: float, side: float) -> None:
    total = float(np.sum(attention))
    if not total > 0:
        return
    row, column = np.unravel_index(int(np.argmax(attention)), attention.shape)
    height, width = side / attention.shape[0], side / attention.shape[1]
    inset = 0.02     # the line stays inside the image
    corner = (left + column * width + inset, top + row * height + inset)
    frame = Rectangle(corner, width - 2 * inset, height - 2 * inset, fill=False, edgecolor="white", linewidth=1.3)
    frame.set_path_effects([DARK_EDGE])
    axes.add_patch(frame)
    share = f"{float(attention[row, column]) / total:.0%}"
    _write(axes, left + side - 0.05, top + side - 0.05, share, ha="right", va="bottom",
           color="white", fontsize=8, weight="bold", path_effects=[DARK_EDGE])


# ---------------------------------------------------------------------------------------------------- a whole run


def look(model: "TextImageModel", image: ImageSource, question: str | None = None) -> Look:
    """Let the model answer the question (or caption the image), and keep where it looked."""
    words, attention = model.attention_to_image(image, question)
    return Look(load_image(image, model.config.image_size), question or "caption", words, attention)


def draw_run(run: RunFolder, model: "TextImageModel", tests: "TestSets", count: int = 18) -> list[Path]:
    """The pictures of a training: curves, answers and captions on test images, and where the model looked."""
    from tinymm.training import text_image

    questions = text_image.spread_questions(tests.questions, count)
    images = [questions.images[i] for i in questions.image_index]
    answers = text_image.answer_questions(model, questions)
    examples = {"questions": list(map(Example, images, questions.questions, answers, questions.answers))}
    for part, scenes in (("captions_seen", tests.seen), ("captions_unseen", tests.unseen)):
        scenes = text_image.spread_scenes(scenes, 2 * count // 3)
        captions = text_image.caption_scenes(model, scenes)
        examples[part] = list(map(Example, scenes.images, [""] * len(scenes), captions, scenes.captions))
    of_each_kind = {text_image.kind_of_answer(example.expected): example for example in reversed(examples["questions"])}
    looks = [look(model, example.image, example.question) for example in of_each_kind.values()]
    shortest, *_, longest = sorted(examples["captions_unseen"], key=lambda example: len(example.expected))
    looks += [look(model, shortest.image), look(model, longest.image)]
    return [
        draw_curves(run.metrics, run.pictures / "curves.png"),
        *_draw_sheets(run, examples),
        draw_attention(looks, run.pictures / "attention.png", ATTENTION),
    ]


def draw_evaluation(run: RunFolder, result: "Evaluation", count: int = 18) -> list[Path]:
    """The pictures of `tinymm evaluate`: a sample of everything, and the first mistakes, if there are any."""
    shown = {}
    for part, examples in result.examples.items():
        wanted = min(len(examples), count if part == "questions" else 2 * count // 3)
        shown[part] = [examples[i * len(examples) // wanted] for i in range(wanted)]
    pictures = _draw_sheets(run, shown)
    mistakes = {}
    for part, wrong in result.errors.items():
        if wrong:
            total = sum(round((1 - share) * count) for share, count in result.by_kind[part].values())
            mistakes[f"{MISTAKES[part]}: the first {len(wrong[:12])} of {total:,}"] = wrong[:12]
    if mistakes:
        pictures.append(draw_examples(mistakes, run.pictures / "mistakes.png", count_right=False))
    else:
        (run.pictures / "mistakes.png").unlink(missing_ok=True)     # of an earlier evaluation
    return pictures


def _draw_sheets(run: RunFolder, examples: Mapping[str, Sequence[Example]]) -> list[Path]:
    """questions.png and captions.png."""
    captions = {title: examples[part] for part, title in CAPTIONS.items() if part in examples}
    return [
        draw_examples({QUESTIONS: examples.get("questions", [])}, run.pictures / "questions.png"),
        draw_examples(captions, run.pictures / "captions.png"),
    ]
