"""The worker threads: every piece of work once, errors come back, several callers, forks."""

import os
import subprocess
import sys
import threading
import time

import pytest
from numba.core import config

from tinymm.kernels import threads

pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="one thread only")


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("pieces, at_once", [(1, 1), (7, 1), (100, 1), (100, 30), (5, 100)])
def test_every_piece_once(count, pieces, at_once):
    done = []
    with threads.use_threads(count):
        threads.run(lambda first, last, tag: done.extend((tag, i) for i in range(first, last)), pieces, ("x",), at_once)
    assert sorted(done) == [("x", i) for i in range(pieces)]


def test_threads_share_the_work():
    seen = set()

    def kernel(first, last):
        seen.add(threading.get_ident())
        time.sleep(0.02)

    with threads.use_threads(3):
        threads.run(kernel, 12, ())
    assert len(seen) == 3


def test_a_small_job_stays_in_its_thread():
    seen = []
    with threads.use_threads(4):
        threads.run(lambda first, last: seen.append((first, last, threading.get_ident())), 8, (), pieces_at_once=8)
    assert seen == [(0, 8, threading.get_ident())]


def test_errors_come_back_and_the_threads_live_on():
    def kernel(first, last):
        if first <= 5 < last:
            raise ValueError("piece 5")

    with threads.use_threads(3):
        for _ in range(3):
            with pytest.raises(ValueError, match="piece 5"):
                threads.run(kernel, 12, ())
        test_every_piece_once(3, 100, 1)


def test_several_callers_at_once():
    errors = []

    def caller(count):
        try:
            for _ in range(20):
                done = []
                threads.run(lambda first, last: done.extend(range(first, last)), count, ())
                assert sorted(done) == list(range(count))
        except BaseException as error:
            errors.append(error)

    with threads.use_threads(2):
        callers = [threading.Thread(target=caller, args=(10 + i,)) for i in range(4)]
        for thread in callers:
            thread.start()
        for thread in callers:
            thread.join(20)
    assert not errors and not any(thread.is_alive() for thread in callers)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_starts_its_own_threads():
    program = ("import os, sys\nfrom tinymm.kernels import threads\nthreads.set_thread_count(2)\nrun = lambda: threads.run(lambda a, b: None, 20, ())\n"
               "run()\npid = os.fork()\nrun()\nif pid:\n    sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n")
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=60)


def test_the_count():
    before = threads.thread_count()
    with threads.use_threads(7):
        assert threads.thread_count() == 7
    assert threads.thread_count() == before
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            threads.set_thread_count(wrong)


def test_numbas_own_setting_is_the_default(monkeypatch):
    monkeypatch.setattr(config, "NUMBA_NUM_THREADS", 3)
    monkeypatch.setattr(threads, "_count", None)
    assert threads.thread_count() == 3
