"""The stepping debugger, driven as a person drives it: through a terminal."""

import os
import pty
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
])
def test_describe_unusual_arrays(array, part):
    assert part in " ".join(arrays.describe("x", array))
