"""One set of worker threads for all kernels.

Why not numba's own `prange`: NumPy's matrix products bring the threads of their BLAS library, numba's OpenMP threads wait for
work by spinning, and on a laptop the two sets take each other's processors away (measured: a training step six times
as slow). An environment variable would mend it, but only if it is set before Python starts. The kernels release the GIL, so
ordinary Python threads can run them. They sleep while they wait, work for several callers at once, and survive a fork.

A kernel for `run` is a function kernel(first, last, *arguments) that does the pieces first, ..., last - 1 of the work.
Pieces must not depend on each other; then the result has the same bits for any number of threads.
"""

import contextlib
import os
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

from numba.core import config

_tasks: "queue.SimpleQueue[_Share]" = queue.SimpleQueue()
_workers: list[threading.Thread] = []
_lock = threading.Lock()
_count: int | None = None        # None: NUMBA_NUM_THREADS, which numba sets to the number of processors unless the user does


def thread_count() -> int:
    """How many threads the kernels use: `set_thread_count`, else NUMBA_NUM_THREADS, else one a processor."""
    return 1 if config.DISABLE_JIT else _count or config.NUMBA_NUM_THREADS


def set_thread_count(count: int | None) -> None:
    """Use this many threads from now on; None returns to the default.

    Raises:
        ValueError: count is less than 1.
    """
    global _count
    if count is not None and count < 1:
        raise ValueError(f"count must be at least 1, or None for the default, got {count}")
    _count = count


@contextlib.contextmanager
def use_threads(count: int) -> Iterator[None]:
    """`with use_threads(1): ...`"""
    before = _count
    set_thread_count(count)
    try:
        yield
    finally:
        set_thread_count(before)


class _Share:
    """Ranges of pieces of work, of equal size but for one piece, that several threads take from the front until none is left."""

    def __init__(self, kernel: Callable, pieces: int, ranges: int, arguments: tuple):
        self.kernel, self.arguments = kernel, arguments
        self.pieces, self.ranges = pieces, ranges
        self.next, self.unfinished = 0, ranges
        self.lock, self.all_finished = threading.Lock(), threading.Lock()
        self.all_finished.acquire()                    # until the last range is done; a lock wakes faster than a semaphore
        self.error: BaseException | None = None

    def work(self) -> None:
        while True:
            with self.lock:
                i = self.next
                if i == self.ranges:
                    return
                self.next += 1
            try:
                self.kernel(i * self.pieces // self.ranges, (i + 1) * self.pieces // self.ranges, *self.arguments)
            except BaseException as error:                                  # handed to the caller of `run`
                self.error = error
            with self.lock:
                self.unfinished -= 1
                if self.unfinished == 0:
                    self.all_finished.release()


def run(kernel: Callable, pieces: int, arguments: tuple, pieces_at_once: int = 1) -> None:
    """Call kernel(first, last, *arguments) so that together the calls cover the pieces 0 ... pieces - 1.

    Args:
        kernel: a `Kernel` or any function that releases the GIL.
        pieces_at_once: how many pieces a call should get at least: more when a piece is small.
    """
    threads = min(thread_count(), pieces // pieces_at_once)
    if hasattr(kernel, "for_arguments"):
        kernel = kernel.for_arguments((0, pieces, *arguments))              # compile here, in one thread
    if threads <= 1:
        kernel(0, pieces, *arguments)
        return
    # several ranges a thread, so that one that is held up (by another program, by an easier half of a causal mask) is helped out
    most = pieces // pieces_at_once
    ranges = min(most // threads, 4) * threads      # as many for every thread
    share = _Share(kernel, pieces, ranges, arguments)
    _start_workers(threads - 1)
    for _ in range(threads - 1):
        _tasks.put(share)
    share.work()
    share.all_finished.acquire()
    if share.error is not None:
        raise share.error


def _start_workers(count: int) -> None:
    with _lock:
        while len(_workers) < count:
            worker = threading.Thread(target=_wait_for_work, args=(_tasks,), name=f"tinymm-{len(_workers)}", daemon=True)
            _workers.append(worker)
            worker.start()


def _wait_for_work(tasks: "queue.SimpleQueue[_Share]") -> None:
    while True:
        tasks.get().work()


def _after_fork() -> None:
    """A forked process has none of the threads: start anew."""
    global _tasks, _workers, _lock
    _tasks, _workers, _lock = queue.SimpleQueue(), [], threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
