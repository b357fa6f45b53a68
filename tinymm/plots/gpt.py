"""The pictures of GPT: the curves of a training, a text coloured by how unexpected each token was, and where tokens looked."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from tinymm.plots.curves import draw_curves
from tinymm.plots.language import draw_text_attention, head_lines
from tinymm.plots.sheet import INK, SOFT, chinese_font, color_bar, heading, is_chinese, new_sheet, save, write
from tinymm.training.checkpoints import RunFolder

if TYPE_CHECKING:
    from tinymm.models.gpt import GPTModel

MOST = 8.0           # nats: a token that surprises so much, or more, has the darkest colour
CELL, LINE = 0.088, 0.24      # inches: the width of a narrow character, and the distance of two lines
ACROSS = 80         # narrow characters in a line
TOKENS = 16          # of a text whose attention is drawn
POEMS = 12           # short texts on a sheet


def draw_run(run: RunFolder, model: "GPTModel", texts: Sequence[str]) -> list[Path]:
    """The pictures of a training: curves, and those of `draw_texts`."""
    return [draw_curves(run.metrics, run.pictures / "curves.png"), *draw_texts(run, model, texts)]


def draw_texts(run: RunFolder, model: "GPTModel", texts: Sequence[str]) -> list[Path]:
    """surprise.png and attention.png, of the first validation texts."""
    return [draw_surprise(model, texts[:POEMS], run.pictures / "surprise.png"),
            draw_heads(model, texts[0], run.pictures / "attention.png")]


def draw_surprise(model: "GPTModel", texts: Sequence[str], path: str | Path) -> Path:
    """The beginnings of texts, each token on a ground that is the darker the less it was expected: -ln p, in nats."""
    lines: list[list[tuple[int, str, float]]] = []      # place in the line, token, nats
    for text in texts:
        place = ACROSS                                  # each text begins a new line
        for token, nats in zip(*model.surprise(text)):
            shown = token.replace("\n", "↵")
            if place + _width(shown) > ACROSS:
                lines.append([])
                place = 0
            lines[-1].append((place, shown, float(nats)))
            place = ACROSS if "\n" in token else place + _width(shown)
    mean = np.mean([nats for line in lines for _, _, nats in line])
    figure, axes = new_sheet(0.4 + CELL * ACROSS, 0.95 + LINE * len(lines))
    below = "validation text: the darker the ground of a token, the less it was expected"
    if any(map(_no_font, "".join(texts))):
        below = "the darker a token, the less it was expected; no font here shows these characters"
    heading(axes, "How unexpected each token was", f"mean {mean:.2f} nats", below)
    color_bar(axes, axes.get_xlim()[1] - 0.85, 0.44, "Oranges", "0", f"{MOST:g} nats")
    for i, line in enumerate(lines):
        for place, token, nats in line:
            _draw_token(axes, 0.2 + CELL * place, 0.75 + LINE * i, token, nats)
    return save(figure, path)


def _draw_token(axes: Axes, left: float, top: float, token: str, nats: float) -> None:
    share = min(nats / MOST, 1.0)
    ground, ink = colormaps["Oranges"](share), INK if share < 0.6 else "white"
    axes.add_patch(Rectangle((left, top), CELL * _width(token) - 0.012, LINE - 0.03, facecolor=ground, edgecolor="none"))
    for i, character in enumerate(token):
        if not _no_font(character):
            middle = left + CELL * (_width(token[:i]) + _width(character) / 2)
            write(axes, middle, top + LINE / 2 - 0.015, character, va="center", fontsize=8.5,
                  color=SOFT if character == "↵" and ink == INK else ink, family=["DejaVu Sans Mono", *chinese_font()])


def _width(text: str) -> int:
    """Places of a text in a line."""
    return sum(2 if is_chinese(character) else 1 for character in text)


def _no_font(character: str) -> bool:
    return is_chinese(character) and not chinese_font()


def draw_heads(model: "GPTModel", text: str, path: str | Path) -> Path:
    """Every head on the first tokens of a text; numbers stand for tokens that no font can show."""
    maps = model.inspect(model.read(text)[:min(TOKENS, model.config.max_length) - 1]).attention[0]
    names = [str(i) if any(map(_no_font, token)) else token.replace("\n", "↵") for i, token in enumerate(maps.rows)]
    maps = head_lines(names, names, maps.weights)
    below = "each row: a token that looks, and the tokens it sees: itself and those before it"
    return draw_text_attention(maps, path, "Which tokens each token looks at", below)
