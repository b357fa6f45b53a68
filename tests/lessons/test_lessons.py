"""Each lesson runs by itself: small within ten seconds, without a display and without the network, and says nothing on stderr."""

import os
import resource
import subprocess
import sys

import pytest

from tinymm.data.shipped import SOURCE_TREE
from tinymm.learning.chapters import chapters

ROOT = SOURCE_TREE.parent
LESSONS = [chapter.path / "lesson.py" for chapter in chapters(ROOT / "lessons") if (chapter.path / "lesson.py").exists()]
pytestmark = pytest.mark.slow

CPU = 15.0      # seconds of one core: ten on a quiet machine, and something for a slower one; waiting for others does not count
WALL = 180.0    # after which it is stopped

# Python runs a file of this name at its start. Only this machine itself may be connected to.
NO_NETWORK = '''
import socket

def only_here(connect):
    def checked(self, address):
        host = address[0] if isinstance(address, tuple) else None
        if host not in (None, "localhost", "::1") and not str(host).startswith("127."):
            raise OSError(f"the network is blocked: {host}")
        return connect(self, address)
    return checked

def look_up(host, *arguments, look_up=socket.getaddrinfo, **options):
    if host not in (None, "", "localhost", "::1") and not str(host).startswith("127."):
        raise OSError(f"the network is blocked: {host}")
    return look_up(host, *arguments, **options)

class Socket(socket.socket):
    connect, connect_ex = only_here(socket.socket.connect), only_here(socket.socket.connect_ex)

socket.socket, socket.getaddrinfo = Socket, look_up
'''


@pytest.fixture(scope="module")
def environment(tmp_path_factory):
    """One core's worth of threads, no display, no network."""
    folder = tmp_path_factory.mktemp("start")
    (folder / "sitecustomize.py").write_text(NO_NETWORK)
    variables = {name: value for name, value in os.environ.items() if name not in ("DISPLAY", "WAYLAND_DISPLAY", "MPLBACKEND")}
    variables |= {"TINYMM_FAST": "1", "PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)]),
                  "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
    subprocess.run([sys.executable, "-c", "import matplotlib.font_manager"], env=variables, check=True)      # it says so if it must list the fonts
    return variables


def run_alone(script, environment, folder):
    """Run a script, and demand what a lesson must keep; returns what it printed, and its seconds on the processor."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, str(script)], cwd=folder, env=environment, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, timeout=WALL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def in_time(script, environment, folder):
    """`run_alone` within the limit; a second time if need be, since the first may have compiled kernels."""
    printed, seconds = run_alone(script, environment, folder)
    if seconds > CPU:
        printed, seconds = run_alone(script, environment, folder)
    assert seconds <= CPU, f"{seconds:.1f} s, the limit is {CPU}"
    return printed


@pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.parent.name)
def test_a_lesson_runs_by_itself(lesson, environment, tmp_path):
    printed = in_time(lesson, environment, tmp_path)
    pictures = [tmp_path / line.split()[1] for line in printed.splitlines() if line.startswith("picture ")]
    assert pictures and all(picture.stat().st_size > 1000 for picture in pictures)


@pytest.mark.parametrize("body, words", [
    ("import urllib.request; urllib.request.urlopen('http://example.org')", "the network is blocked"),
    ("import socket; socket.create_connection(('93.184.216.34', 80), 5)", "the network is blocked"),
    ("import socket; s = socket.socket(); s.connect(('93.184.216.34', 80))", "the network is blocked"),
    ("import numpy as np; np.log(np.zeros(1))", "divide by zero"),
    ("import tkinter; tkinter.Tk()", "Error"),
    ("assert 1 == 2", "AssertionError"),
])
def test_a_lesson_that_breaks_a_rule_is_found_out(body, words, environment, tmp_path):
    (tmp_path / "lesson.py").write_text(body)
    with pytest.raises(AssertionError, match=words):
        run_alone(tmp_path / "lesson.py", environment, tmp_path)


def test_a_slow_lesson_is_found_out(environment, tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "CPU", 1.0)
    (tmp_path / "lesson.py").write_text("import time\nwhile time.process_time() < 1.2:\n    pass\n")
    with pytest.raises(AssertionError, match="the limit is"):
        in_time(tmp_path / "lesson.py", environment, tmp_path)
    (tmp_path / "lesson.py").write_text("import time\ntime.sleep(1.2)\n")                   # it only waited
    in_time(tmp_path / "lesson.py", environment, tmp_path)


def test_this_machine_itself_can_be_reached(environment, tmp_path):
    (tmp_path / "lesson.py").write_text("import socket\ns = socket.create_server(('127.0.0.1', 0))\n"
                                        "socket.create_connection(s.getsockname()).close()\n")
    run_alone(tmp_path / "lesson.py", environment, tmp_path)
