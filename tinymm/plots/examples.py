"""A sheet of examples: images, what was asked, what came, what is right."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tinymm.plots.sheet import INK, RIGHT, SOFT, WRONG, heading, new_sheet, save, show_image, wrap, write
from tinymm.training.metrics import Example


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
    figure, axes = new_sheet(columns * (side + gap) + gap, top + 0.1)
    for title, note, place in heads:
        heading(axes, title, note, top=place)
    for example, left, place in boxes:
        right = example.right
        show_image(axes, example.image, left, place, side, edge=RIGHT if right else WRONG, width=1.2 if right else 2.6)
        for i, (words, style) in enumerate(_caption(example)):
            write(axes, left + side / 2, place + side + 0.06 + i * line, words, **style)
    return save(figure, path)


def _caption(example: Example) -> list[tuple[str, dict[str, object]]]:
    """The lines under an example, each with its style."""
    mark = "✓" if example.right else "✗"
    color, size = RIGHT if example.right else WRONG, 9 if len(example.given) < 22 else 8
    parts = [
        (wrap(example.question, 28, 3), {"color": SOFT, "fontsize": 7.8}),
        (wrap(f"{mark} {example.given or '(nothing)'}", 25, 5), {"color": color, "weight": "bold", "fontsize": size}),
        (wrap("" if example.right else f"expected: {example.expected}", 29, 5), {"color": INK, "fontsize": 7.8}),
    ]
    return [(words, style) for text, style in parts if text for words in text.split("\n")]
