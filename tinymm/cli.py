"""The command line. `tinymm.commands` holds what the commands do; here they are put together, and mistakes are reported.

Exit codes:

    0    it worked (gradcheck: every check passes)
    1    a gradient check failed
    2    a mistake in what the user gave: one sentence on stderr, no traceback
    130  stopped with Ctrl-C       141  the reader of our output went away
"""

import os
import sys
from collections.abc import Sequence

from tinymm import UserError, __version__
from tinymm.commands import look, predict, search, train, use, verify
from tinymm.commands.options import Parser

DESCRIPTION = """\
tinymm: a text-image Transformer built from nothing but arrays, each backward pass written by hand.
The main model answers questions about an image and describes it; `tinymm models` lists the others. The lessons build
every piece by hand: `tinymm check` examines your exercises, `tinymm step` walks through code and shows its arrays."""

EXAMPLES = """\
a first session:
  tinymm train                                     train on easy-VQA questions and drawn scenes -> runs/text_image
  tinymm evaluate                                  how often it is right on what it has never seen
  tinymm ask photo.png "what color is the shape?"
  tinymm caption photo.png
  tinymm gradcheck attention                       is the hand-written backward the derivative of the forward?

`tinymm COMMAND --help` tells more about one command.
In Python: tinymm.load("runs/text_image").answer("photo.png", "what color is the shape?")"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; `arguments` are those of the process when not given."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")     # a file name may hold what the terminal cannot show
    try:
        words = list(sys.argv[1:] if arguments is None else arguments)
        if words[:1] == ["bench"]:      # its options belong to the benchmark, which has a parser of its own
            from tinymm import bench

            return bench.main(words[1:])
        options = make_parser().parse_args(words)
        code = options.run(options)
        sys.stdout.flush()      # here, so that a reader that went away is noticed here
        return code
    except UserError as error:
        return _complain(str(error), 2)
    except KeyboardInterrupt as stop:
        return _complain(str(stop) or "stopped", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())     # Python flushes once more when it ends
        return 141
    except MemoryError:
        return _complain("there is not enough memory for this", 2)
    except OSError as error:
        return _complain(f"{error.filename}: {error.strerror}" if error.filename and error.strerror else str(error), 2)


def _complain(sentence: str, code: int) -> int:
    print(f"tinymm: {' '.join(sentence.split())}", file=sys.stderr)
    return code


def make_parser() -> Parser:
    parser = Parser(prog="tinymm", description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action="version", version=f"tinymm {__version__}")
    parser.set_defaults(run=lambda options: parser.print_help() or 0)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for group in (train, use, look, search, predict, verify):
        group.add(commands)
    return parser
