"""`tinymm look`: what a model attends to, and which pixels its answer hangs on."""

import argparse
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tinymm.commands.options import find_run, load
from tinymm.errors import UserError

HELP = """\
Let a trained model read something, and draw what it attends to: a map for every layer and head, and their mean. A model
that sees an image also draws how the probability of its answer depends on each pixel: the gradient, by a backward pass
down to the input. What the model reads is given after its run folder: an image, a text in quotes, or both."""

EXAMPLES = """\
examples:
  tinymm look runs/text_image shape.png "what color is the shape?"
  tinymm look runs/text_image scene.png                    without a question: the caption
  tinymm look runs/bert "the film is <mask> of wit ."
  tinymm look runs/encoder_decoder_dates "March 3, 1999"   which letters were read for each one written"""


def add(commands: Any) -> None:
    look = commands.add_parser("look", help="draw what a model attends to, and the gradient down to the pixels",
                               description=HELP, epilog=EXAMPLES)
    look.add_argument("folder", metavar="RUN", type=Path, help="the run folder of a model that attends")
    look.add_argument("inputs", metavar="IMAGE-OR-TEXT", nargs="*", help="what the model reads: an image file, a text in quotes")
    look.add_argument("--out", metavar="FOLDER", type=Path, help="where the pictures go (default RUN/look)")
    look.set_defaults(run=run_look)


def run_look(options: argparse.Namespace) -> int:
    from tinymm.plots.looking import draw_inspection

    model = load(find_run(options.folder))
    if not hasattr(model, "look"):
        raise UserError(f"{options.folder} holds a model that does not attend, so there is nothing to look at; "
                        "models of Transformer blocks do, such as text_image and bert")
    check_inputs(model.look, options.inputs)
    inspection = model.look(*options.inputs)
    if inspection.answer:
        print(inspection.answer)
    for picture in draw_inspection(inspection, options.out or options.folder / "look"):
        print(f"picture   {picture}")
    return 0


def check_inputs(look: Callable[..., Any], inputs: list[str]) -> None:
    """Refuse more or fewer inputs than the model reads."""
    parameters = inspect.signature(look).parameters.values()
    required = [parameter.default is parameter.empty for parameter in parameters]
    if not sum(required) <= len(inputs) <= len(parameters):
        usage = " ".join(p.name.upper() if needed else f"[{p.name.upper()}]" for p, needed in zip(parameters, required))
        raise UserError(f"this model reads {usage}, but {len(inputs)} inputs were given; put a text in quotes")
