"""`tinymm bench attention`, `tinymm bench step`, `tinymm bench gpt`: how fast and how good, beside what else there is."""

import sys
from collections.abc import Sequence

USAGE = """\
usage: tinymm bench attention [options]     the attention kernels, NumPy, and PyTorch and JAX if they are installed
       tinymm bench step [options]          one training step of the main job, and the same in PyTorch
       tinymm bench gpt RUN                 how fast a trained gpt writes, and the same training in PyTorch

`tinymm bench attention --help` and the like tell more."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one of the benchmarks and return its exit code; `argv` is the command line after `tinymm bench`."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:1] == ["attention"]:
        from tinymm.bench.attention import main as run
    elif argv[:1] == ["step"]:
        from tinymm.bench.step import main as run
    elif argv[:1] == ["gpt"]:
        from tinymm.bench.gpt import main as run
    else:
        asked = argv[:1] in (["-h"], ["--help"])
        print(USAGE, file=sys.stdout if asked else sys.stderr)
        return 0 if asked else 2
    return run(argv[1:])

