"""`tinymm gradcheck`, `check`, `step` and `bench`: is the math right, is yours, how does it run, and is it fast?"""

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

CHECK_HELP = """\
Check the exercises of the lessons: your own lessons/NN_topic/exercises.py. Without a chapter: what is done, and what is
next. For a wrong answer it names the first step that differs from the solution's, and the likely cause."""

CHECK_EXAMPLES = """\
examples:
  tinymm check                                     all chapters in a line each
  tinymm check 6                                   chapter 6
  tinymm check 6.2 --hint                          one exercise, with its first hint; --hint --hint shows two
  tinymm check 6 --watch                           again at each save
  tinymm check 6 --solutions                       the given answers instead of yours"""

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

    check = commands.add_parser("check", help="check your answers to the lessons' exercises", description=CHECK_HELP,
                                epilog=CHECK_EXAMPLES)
    check.add_argument("target", metavar="CHAPTER[.EXERCISE]", nargs="?", help="such as 6 or 6.2 (default: all)")
    check.add_argument("--hint", action="count", default=0, help="show a hint; twice: two hints")
    check.add_argument("--watch", action="store_true", help="check again whenever the file is saved")
    check.add_argument("--solutions", action="store_true", help="check solutions.py instead of exercises.py")
    check.set_defaults(run=run_check)

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


def run_check(options: argparse.Namespace) -> int:
    from tinymm.learning import check

    return check.run(options.target, hints=options.hint, watch=options.watch, solutions=options.solutions)


def run_step(options: argparse.Namespace) -> int:
    from tinymm.learning import step

    if options.no_jit:
        step.without_jit()
    return step.run(options.file, options.arguments)
