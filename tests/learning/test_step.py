"""The stepping debugger, driven as a person drives it: through a terminal."""

import os
import pty
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from tinymm import UserError, functional
from tinymm.learning import arrays, step

SCRIPT = '''\
import sys
import numpy as np
from tinymm.functional import attention_forward

q, k, v = np.ones((2, 5)), np.full((3, 5), 0.5), np.arange(12.0).reshape(3, 4)
count = 0
# STOP: the weights of a query are equal here
out, cache = attention_forward(q, k, v)
out[0, 1] = np.nan
big = np.zeros((50, 60), np.float32)
big[3, 4] = 7
print("arguments", sys.argv[1:])
'''


class Terminal:
    """`tinymm step` in a pseudo-terminal."""

    def __init__(self, *arguments):
        self.master, slave = pty.openpty()
        environment = os.environ | {"TERM": "dumb", "COLUMNS": "200", "NO_COLOR": "1", "PYTHON_COLORS": "0", "PYTHON_BASIC_REPL": "1"}
        self.process = subprocess.Popen([sys.executable, "-m", "tinymm", "step", *map(str, arguments)], stdin=slave,
                                        stdout=slave, stderr=slave, env=environment, close_fds=True)
        os.close(slave)

    def until(self, words, seconds=20):
        """What is printed up to these words."""
        text, end = "", time.monotonic() + seconds
        while words not in text and time.monotonic() < end:
            try:
                text += os.read(self.master, 4096).decode()
            except OSError:      # the program has ended
                break
        assert words in text, text
        return text.replace("\r", "")

    def type(self, command, until="(step) "):
        os.write(self.master, f"{command}\n".encode())
        return self.until(until)

    def close(self):
        self.process.kill()
        self.process.wait()
        os.close(self.master)


@pytest.fixture
def start(tmp_path):
    terminals = []

    def begin(text, *arguments):
        script = tmp_path / "script.py"
        script.write_text(text)
        terminals.append(Terminal(script, *arguments))
        return terminals[-1]
    yield begin
    for terminal in terminals:
        terminal.close()


def test_stepping_shows_what_a_line_made_and_changed(start):
    terminal = start(SCRIPT, "--", "--size", "3")
    assert "import sys" in terminal.until("(step) ")
    shown = terminal.type("c")                                  # to the line marked STOP
    assert "STOP  the weights of a query are equal here" in shown and "attention_forward(q, k, v)" in shown
    assert "k            3x5 float64   min 0.5" in shown and "count" not in shown
    inside = terminal.type("s")
    assert "q            2x5 float64" in inside and "check_attention(q, k, v, mask)" in inside
    assert "softmax(Q K^T / sqrt(K)) V" in terminal.type("formula")
    for _ in range(4):
        shown = terminal.type("n")
    assert "scores       2x3 float64" in shown and "v   " not in shown
    assert "weights      2x3" in "".join(terminal.type("n") for _ in range(8))
    assert "returns[0]   2x4 float64" in terminal.type("r")
    assert "!! 1 NaN, 0 infinite" in terminal.type("n")
    assert "big          50x60 float32   min 0   mean 0   max 0" in terminal.type("n")
    assert "max 7" in terminal.type("n")
    assert "line 8: the weights of a query" in terminal.type("stops")
    assert "cache" not in terminal.type("arrays")
    terminal.type("c", until="arguments ['--size', '3']")
    assert terminal.process.wait(10) == 0


def test_an_error_in_the_script_can_be_looked_at(start):
    terminal = start("import numpy as np\nx = np.ones(3)\nprint(x @ np.ones(4))\n")
    terminal.until("(step) ")
    shown = terminal.type("c")
    assert "ValueError: matmul" in shown and "-> print(x @ np.ones(4))" in shown
    assert "x            3 float64" in terminal.type("arrays")
    terminal.type("q", until="\n")
    assert terminal.process.wait(10) == 1


def test_q_ends_without_a_traceback(start):
    terminal = start("x = 1\ny = 2\n")
    terminal.until("(step) ")
    os.write(terminal.master, b"q\n")
    assert terminal.process.wait(10) == 0
    assert "Traceback" not in terminal.until("q")


INSIDE = '''\
import numpy as np
class Layer:
    def __init__(self):
        self.weight = np.ones((2, 2))
    def forward(self, x):
        self.out = x @ self.weight
        return self.out
layer = Layer()
params = {"w": np.ones(2), "b": np.zeros(1)}
params["w"] *= 3
caches = [np.ones(2)]
row = layer.weight[0]
row[1] = 5
odd = np.array([{}, None, [1]], dtype=object)
odd[1] = 3
layer.forward(np.ones((1, 2)))
x = 1
'''


def test_arrays_in_objects_dicts_and_lists_are_shown(start):
    terminal = start(INSIDE)
    terminal.until("(step) ")
    shown = [terminal.type("n") for _ in range(9)]
    assert "layer.weight 2x2" in shown[2] and "params['w']  2 float64" in shown[3] and "params['b']" in shown[3]
    assert "params['w']  2 float64   min 3" in shown[4] and "params['b']" not in shown[4]
    assert "caches[0]    2 float64" in shown[5] and "layer.weight 2x2 float64   min 1   mean 2   max 5" in shown[7]
    assert "odd          3 object" in shown[8] and "{} 3" in terminal.type("n")
    entered = terminal.type("s")
    assert "x            1x2" in entered and "weight" not in entered.split("forward")[0]
    assert "self.out     1x2" in terminal.type("n")


def test_breakpoints_in_the_script_and_starting_again(start):
    terminal = start("import numpy as np\nx = np.ones(2)\nbreakpoint()\ny = np.ones(3)\nimport pdb; pdb.set_trace()\nz = 1\n")
    terminal.until("(step) ")
    shown = terminal.type("c")
    assert "x            2 float64" in shown and "-> y = np.ones(3)" in shown
    assert "from the start again" in terminal.type("restart")
    terminal.type("c")
    shown = terminal.type("c")
    assert "y            3 float64" in shown and ("-> z = 1" in shown or "set_trace" in shown)
    os.write(terminal.master, b"c\n")
    assert terminal.process.wait(10) == 0


def test_display_works_with_arrays(start):
    terminal = start("import numpy as np\na = np.zeros(2)\na[0] = 4\nbreakpoint()\nb = 1\n")
    terminal.until("(step) ")
    terminal.type("n")
    assert "display a: " in terminal.type("display a")
    assert "display a: [0. 0.]" in terminal.type("n")
    assert "display a: [4. 0.]" in terminal.type("n")
    assert "-> b = 1" in terminal.type("s")         # not into the debugger itself


def test_starting_again_after_an_error(start):
    terminal = start("x = 1\nx / 0\n")
    terminal.until("(step) ")
    assert "ZeroDivisionError" in terminal.type("c")
    assert "-> x = 1" in terminal.type("run")


def test_control_c_stops_the_script_and_shows_where(start):
    terminal = start("import numpy as np\nx = np.ones(2)\nprint('off')\nwhile True:\n    x = x + 1\n")
    terminal.until("(step) ")
    terminal.type("c", until="off")
    terminal.process.send_signal(signal.SIGINT)
    shown = terminal.until("(step) ")
    assert "x            2 float64" in shown and "Traceback" not in shown
    terminal.type("q", until="\n")
    assert terminal.process.wait(10) == 0


def test_an_error_deep_in_a_package_is_shown_in_our_own_code(start):
    terminal = start("import numpy as np\nnp.ones_like([[1], [1, 2]])\n")
    terminal.until("(step) ")
    assert "-> np.ones_like" in terminal.type("c")


def test_the_words_of_an_exit_are_not_lost(tmp_path):
    script = tmp_path / "script.py"
    script.write_bytes(b"\xef\xbb\xbfimport sys\r\nsys.exit('not today')\r\n")        # with a byte order mark
    ended = subprocess.run([sys.executable, "-m", "tinymm", "step", script], input="c\n", capture_output=True, text=True)
    assert ended.returncode == 1 and "not today" in ended.stderr


def test_large_arrays_do_not_stop_the_walk():
    array = np.zeros((5000, 6000), np.float32)
    before = arrays.fingerprint(array), arrays.fingerprint(array.T)
    begun = time.monotonic()
    array[3, 7] = np.nan
    assert (arrays.fingerprint(array), arrays.fingerprint(array.T)) != before
    assert arrays.fingerprint(array.T) != before[1]
    assert "!! 1 NaN" in arrays.describe("x", array.T)[0]
    assert time.monotonic() - begun < 5
    assert arrays.fingerprint(np.broadcast_to(np.float64(2), (1000, 1000, 1000)))


def test_what_is_foreign_is_looked_up_once(monkeypatch):
    assert arrays.is_foreign("numpy.linalg") and arrays.is_foreign("json") and arrays.is_foreign(None)
    assert not arrays.is_foreign("tinymm.functional") and not arrays.is_foreign("__main__")
    monkeypatch.setattr("sysconfig.get_path", None)      # it is slow, and there are millions of calls
    assert arrays.is_foreign("numpy.linalg")


def test_mistakes_are_one_sentence(tmp_path):
    with pytest.raises(UserError, match="nowhere.py: No such file"):
        step.run(tmp_path / "nowhere.py")
    bad = tmp_path / "bad.py"
    bad.write_text("x = = 1\n")
    with pytest.raises(UserError, match="bad.py, line 1 is no valid Python: invalid syntax"):
        step.run(bad)


def test_marks_belong_to_the_next_statement(tmp_path):
    file = tmp_path / "marked.py"
    file.write_text("a = 1\n# STOP: first\n\nb = 2\nc = 3   # STOP: second\n# STOP: nothing follows\n")
    assert step.marks(str(file)) == {4: "first", 5: "second"}


def test_formula_of_a_backward_is_that_of_its_forward():
    def lines(function):
        return step.formula(function.__code__, function.__globals__)
    assert lines(functional.softmax_forward)[0].startswith("p_i = exp(x_i)")
    assert any("d_S = P (d_P - rowsum(P d_P))" in line for line in lines(functional.attention_backward))


@pytest.mark.parametrize("change, differs", [
    (lambda a: a, False), (lambda a: a + 0, False), (lambda a: -a, True), (lambda a: a.astype(np.float32), True),
    (lambda a: a.T, True), (lambda a: a.reshape(-1), True),
])
def test_fingerprint(change, differs):
    array = np.random.default_rng(0).normal(size=(3, 4))
    assert (arrays.fingerprint(array) != arrays.fingerprint(change(array))) == differs


@pytest.mark.parametrize("array, part", [
    (np.array(3.0), "scalar float64"), (np.zeros((0, 4)), "0x4 float64"), (np.array([True, False]), "1 of 2 true"),
    (np.array([np.inf, 1.0]), "!! 0 NaN, 1 infinite"), (np.full((2, 2), np.nan), "!! 4 NaN"), (np.array(["a"]), "<U1"),
    (np.array([None, 3], object), "2 object"), (np.array([1 + 1j, np.nan]), "!! 1 NaN"), (np.array([1e308, 1e308]), "max 1e+308"),
    (np.full(9000, 100, np.float16), "mean 100"), (np.ma.masked_array([1.0, 2.0], mask=[1, 1]), "max 2"),
    (np.zeros(2, [("a", "f4"), ("b", "O")]), "2 [("), (np.array(["2020-01-01"], "datetime64[D]"), "datetime64[D]"),
])
def test_describe_unusual_arrays(array, part):
    with np.errstate(all="raise"):       # as a script may have set it
        assert part in " ".join(arrays.describe("x", array))
    assert arrays.fingerprint(array) == arrays.fingerprint(array)
