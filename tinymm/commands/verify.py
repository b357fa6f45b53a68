"""`tinymm gradcheck`, `step` and `bench`: is the math right, how does it run, and is it fast?"""

import argparse
import difflib
from pathlib import Path
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

STEP_HELP = """\
Walk through a script line by line. After every line the arrays that it made or changed are shown: shape, dtype, range,
and the numbers of small ones. Steps lead into tinymm too: into attention_forward, say, to see scores, weights and out
appear one by one. All commands of Python's debugger pdb work; `formula` shows the equation of the current function,
`arrays` all its arrays, and c goes on to the next line marked `# STOP: what to look at`."""

STEP_EXAMPLES = """\
examples:
  tinymm step lessons/06_attention/lesson.py
  tinymm step mine.py -- --size 3                  what stands after -- belongs to the script
  tinymm step --no-jit mine.py                     also into numba's kernels, as plain Python"""


def add(commands: Any) -> None:
    gradcheck = commands.add_parser("gradcheck", help="check backward passes against finite differences",
                                    description=GRADCHECK_HELP, epilog=GRADCHECK_EXAMPLES)
    gradcheck.add_argument("names", metavar="NAME", nargs="*", help="a pair, a layer or a model (default: all)")
    gradcheck.add_argument("--seed", metavar="N", type=whole_number(0), default=0,
                           help="of the random inputs (default 0)")
    gradcheck.set_defaults(run=run_gradcheck)

    step = commands.add_parser("step", help="walk through a script and see its arrays", description=STEP_HELP,
                               epilog=STEP_EXAMPLES)
    step.add_argument("file", metavar="FILE", type=Path, help="a Python script")
    step.add_argument("arguments", metavar="ARGUMENT", nargs="*", help="of the script, after --")
    step.add_argument("--no-jit", action="store_true", help="run numba's kernels as plain Python")
    step.set_defaults(run=run_step)

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


def run_step(options: argparse.Namespace) -> int:
    from tinymm.learning import step

    if options.no_jit:
        step.without_jit()
    return step.run(options.file, options.arguments)
