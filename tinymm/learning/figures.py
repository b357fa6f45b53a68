"""Pictures of the lessons: shown in a notebook and in the book, saved as a file by a script."""

import io
import sys
from pathlib import Path

from matplotlib.figure import Figure

FOLDER = Path("runs") / "lessons"


def new_figure(width: float, height: float, rows: int = 1, columns: int = 1):
    """A figure of this size in inches, and its axes (an array (rows, columns), or the only one)."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns)


def show(figure: Figure, name: str) -> None:
    """Display the figure where there is a notebook; else save runs/lessons/NAME.png and print its path."""
    if "ipykernel" in sys.modules:
        from IPython.display import Image, display

        picture = io.BytesIO()
        figure.savefig(picture, dpi=120)
        display(Image(picture.getvalue(), format="png", alt=name, width=round(figure.get_figwidth() * 100)))
        return
    FOLDER.mkdir(parents=True, exist_ok=True)
    path = FOLDER / f"{name}.png"
    figure.savefig(path, dpi=120)
    print(f"picture   {path}")
