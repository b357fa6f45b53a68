"""Every picture that tinymm draws: curves, sheets of examples, where a model looked; and those of each job."""

from tinymm.plots.attention import Look, draw_attention, lit
from tinymm.plots.curves import draw_comparison, draw_curves, read_metrics
from tinymm.plots.examples import draw_examples
from tinymm.plots.language import TextMap, draw_text_attention
from tinymm.plots.sheet import DPI, INK, LINE, RIGHT, SERIES, SOFT, WRONG

__all__ = [
    "DPI", "INK", "LINE", "RIGHT", "SERIES", "SOFT", "WRONG", "Look", "TextMap", "draw_attention", "draw_comparison", "draw_curves",
    "draw_examples", "draw_text_attention", "lit", "read_metrics",
]
