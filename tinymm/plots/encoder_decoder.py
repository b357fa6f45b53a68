"""The pictures of the encoder-decoder: curves, what it wrote, and which words it read while it wrote each word."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tinymm.plots.curves import draw_curves
from tinymm.plots.language import draw_text_attention, head_lines
from tinymm.plots.sheet import INK, RIGHT, SOFT, WRONG, heading, new_sheet, save, wrap, write
from tinymm.training.checkpoints import RunFolder

if TYPE_CHECKING:
    from tinymm.data.text_pairs import TextPairs
    from tinymm.models.encoder_decoder import EncoderDecoderModel
    from tinymm.training.encoder_decoder import Evaluation

SHOWN = 16      # texts on a sheet


def draw_run(run: RunFolder, model: "EncoderDecoderModel", validation: "TextPairs") -> list[Path]:
    """The pictures of a training: curves, validation texts, and where the model looked."""
    pairs = validation.spread(SHOWN)
    written = model.translate(pairs.sources)
    return [
        draw_curves(run.metrics, run.pictures / "curves.png"),
        draw_texts(pairs, written, run.pictures / "texts.png", "Validation texts"),
        draw_alignment(model, _of_middle_length(pairs), run.pictures / "alignment.png"),
    ]


def draw_evaluation(run: RunFolder, model: "EncoderDecoderModel", result: "Evaluation") -> list[Path]:
    """The pictures of `tinymm evaluate`: test texts, and the first mistakes, if there are any."""
    step = max(1, len(result.pairs) // SHOWN)
    pictures = [draw_texts(_rows(result.pairs, range(0, len(result.pairs), step)[:SHOWN]), result.written[::step][:SHOWN],
                           run.pictures / "texts.png", "Test texts")]
    wrong = [i for i, text in enumerate(result.written) if text != result.pairs.targets[i]]
    mistakes = run.pictures / "mistakes.png"
    if wrong:
        shown = wrong[:SHOWN]
        title = f"Mistakes: the first {len(shown)} of {len(wrong):,} among {len(result.written):,} test texts"
        pictures.append(draw_texts(_rows(result.pairs, shown), [result.written[i] for i in shown], mistakes, title,
                                   count_right=False))
    else:
        mistakes.unlink(missing_ok=True)     # of an earlier evaluation
    pictures.append(draw_alignment(model, _of_middle_length(result.pairs), run.pictures / "alignment.png"))
    return pictures


def draw_texts(pairs: "TextPairs", written: Sequence[str], path: str | Path, title: str, count_right: bool = True) -> Path:
    """Line by line what was read, what was written (green or red), and where that is wrong what was expected."""
    line, items = 0.17, []
    for source, target, text in zip(pairs.sources, pairs.targets, written):
        parts = [(wrap(source, 74, 4), wrap(text or "(nothing)", 70, 3), RIGHT if text == target else WRONG)]
        if text != target:
            parts.append(("", wrap(f"expected: {target}", 70, 3), INK))
        items.append(parts)
    heights = [[line * max(left.count("\n") + 1, right.count("\n") + 1) for left, right, _ in parts] for parts in items]
    figure, axes = new_sheet(11.0, 0.85 + sum(map(sum, heights)) + 0.12 * len(items))
    right_ones = sum(text == target for text, target in zip(written, pairs.targets))
    heading(axes, title, f"{right_ones} of these {len(written)} right" if count_right else "", "read")
    write(axes, 5.6, 0.44, "written", ha="left", fontsize=8.5, color=SOFT)
    top = 0.7
    for parts, rows in zip(items, heights):
        for (left, right, color), height in zip(parts, rows):
            write(axes, 0.2, top, left, ha="left", color=SOFT, fontsize=8.5)
            mark = {RIGHT: "✓ ", WRONG: "✗ "}.get(color, "")
            write(axes, 5.6, top, mark + right, ha="left", color=color, fontsize=8.5)
            top += height
        top += 0.12
    return save(figure, path)


def draw_alignment(model: "EncoderDecoderModel", text: str, path: str | Path) -> Path:
    """The cross-attention while the model writes: means, then each head by itself."""
    source, written, weights = model.alignment(text)
    below = "each row: a written token, and the source tokens that the decoder looked at to write it"
    return draw_text_attention(head_lines(written, source, weights), path, "What was read for each token written", below)


def _rows(pairs: "TextPairs", rows: Sequence[int]) -> "TextPairs":
    return type(pairs)(*(tuple(column[i] for i in rows) for column in (pairs.sources, pairs.targets, pairs.kinds)))


def _of_middle_length(pairs: "TextPairs") -> str:
    return sorted(pairs.sources, key=len)[len(pairs) // 2]
