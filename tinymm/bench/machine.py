"""What both benchmarks need of the machine: threads, pauses, and a notice of other work."""

import os
import sys
import time
from pathlib import Path

from tinymm.kernels import set_thread_count

PAUSE = 0.05               # seconds before a turn: the other's threads, which may wait by spinning, go to sleep
BUSY = 0.1                 # processors' worth of other work from which on the figures are called disturbed


class OtherWork:
    """How many processors other processes keep busy meanwhile. None where the system does not tell (Linux does)."""

    def __init__(self) -> None:
        self.begun = self._now()

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        try:
            fields = [int(x) for x in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        except (OSError, ValueError):
            return None
        idle = fields[3] + fields[4]
        return (sum(fields) - idle) / os.sysconf("SC_CLK_TCK"), time.process_time(), time.monotonic()

    def processors(self) -> float | None:
        now = self._now()
        if now is None or self.begun is None:
            return None
        busy, own, elapsed = (b - a for a, b in zip(self.begun, now))
        return max(0.0, busy - own) / max(elapsed, 1e-9)


def set_threads(count: int) -> None:
    """The same number of threads for tinymm's kernels and PyTorch. NumPy's products keep those of its BLAS library."""
    set_thread_count(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)
