"""What the commands share: the parser, kinds of values, where a run is found."""

import argparse
import math
from pathlib import Path
from typing import Any, NoReturn

from tinymm.catalog import SYSTEMS
from tinymm.errors import UserError

RUNS = Path("runs")
DEFAULT_RUN = RUNS / "text_image"
BACKENDS = ("numba", "numpy")
RUN_FOLDER: dict[str, Any] = {
    "metavar": "RUN", "type": Path, "default": DEFAULT_RUN, "help": f"the run folder (default {DEFAULT_RUN})",
}


def _help_formatter(prog: str) -> argparse.HelpFormatter:
    return argparse.RawDescriptionHelpFormatter(prog, max_help_position=28, width=118)


class Parser(argparse.ArgumentParser):
    """An argparse parser that reports a mistake as the rest of tinymm does: in one sentence."""

    def __init__(self, **options: Any):
        super().__init__(formatter_class=_help_formatter, allow_abbrev=False, **options)

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; `{self.prog} --help` tells more")


def whole_number(least: int) -> Any:
    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(f"it must be a whole number of at least {least}, got {text!r}")
        return number
    return parse


def number(least: float, most: float = math.inf) -> Any:
    span = f"at least {least:g}" if most == math.inf else f"{least:g} to {most:g}"

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not least <= value <= most or value == math.inf:
            raise argparse.ArgumentTypeError(f"it must be a number of {span}, got {text!r}")
        return value
    return parse


def png(text: str) -> Path:
    if not text.lower().endswith(".png"):
        raise argparse.ArgumentTypeError(f"it must be the name of a .png file, got {text!r}")
    return Path(text)


def run_folder(model: str, data: str | None = None) -> Path:
    """Where the run of a model lies: runs/MODEL, or runs/MODEL_DATA when the data were named."""
    return RUNS / (f"{model}_{data}" if data else model)


def find_run(folder: Path) -> Path:
    if not folder.exists():
        raise UserError(f"there is no run folder {folder}; `tinymm train{_that_makes(folder)}` makes it")
    return folder


def _that_makes(folder: Path) -> str:
    """What to write after `tinymm train`."""
    if folder == DEFAULT_RUN:
        return ""
    for model, system in SYSTEMS.items():
        for data in (None, *system.choices):
            if folder == run_folder(model, data):
                return f" {model} --data {data}" if data else f" {model}"
    return f" --out {folder}"


def load(folder: Path) -> Any:
    """The trained model of a run folder."""
    from tinymm.training.checkpoints import load_run

    return load_run(find_run(folder))
