"""`tinymm gradcheck` and `bench`: is the math right, and is it fast?"""

import argparse
import difflib
from typing import Any

from tinymm.commands.options import whole_number
from tinymm.errors import UserError

GRADCHECK_HELP = """\
Compare every hand-written backward pass with finite differences in float64, and print a table: for each array its
shape, how many entries were checked, the largest relative error, where it is, and both gradients there.

Without a name everything is checked: every pair of functions, every layer, every model."""

GRADCHECK_EXAMPLES = """\
examples:
  tinymm gradcheck                                 everything
  tinymm gradcheck attention softmax layer_norm    three pairs
  tinymm gradcheck TransformerBlock                a layer"""


def add(commands: Any) -> None:
    gradcheck = commands.add_parser("gradcheck", help="check backward passes against finite differences",
                                    description=GRADCHECK_HELP, epilog=GRADCHECK_EXAMPLES)
    gradcheck.add_argument("names", metavar="NAME", nargs="*", help="a pair, a layer or a model (default: all)")
    gradcheck.add_argument("--seed", metavar="N", type=whole_number(0), default=0,
                           help="of the random inputs (default 0)")
    gradcheck.set_defaults(run=run_gradcheck)

    bench = commands.add_parser("bench", help="measure speed, beside NumPy and, if installed, PyTorch and JAX")
    bench.add_argument("what", choices=("attention", "step"), help="`tinymm bench attention --help` tells more")


def run_gradcheck(options: argparse.Namespace) -> int:
    from tinymm.gradcheck import cases as gradcheck_cases

    names = [subject.name for subject in gradcheck_cases.discover()]
    for name in options.names:
        if name not in names:
            close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
            raise UserError(f"there is no pair, layer or model called {name!r}; {hint}")
    return gradcheck_cases.main(options.names, seed=options.seed)
