"""The kernels where nothing is compiled, under a debugger, and on processors with narrower vectors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from numba.core import config

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.skipif(bool(config.DISABLE_JIT), reason="this is what it starts")


def run(*command: str, **environment: str) -> str:
    result = subprocess.run([sys.executable, *command], cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def test_both_rungs_as_plain_python():
    """Every loop and every twin of a vector instruction, on small sizes."""
    printed = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).with_name("test_attention.py")),
                  "-k", "functional or extreme or infinity or equal", NUMBA_DISABLE_JIT="1")
    assert " passed" in printed and "readable-float64" not in printed.split("short test summary")[-1]


@pytest.mark.parametrize("forward", ["attention_forward", "readable_attention_forward"])
def test_the_debugger_stops_inside(forward, tmp_path):
    program = tmp_path / "program.py"
    program.write_text(f"import numpy as np, tinymm.kernels.attention_tiles\nx = np.ones((1, 2, 3, 4))\n"
                       f"tinymm.kernels.{forward}(x, x, x, causal=True)\n")
    commands = ["n", "b tinymm.kernels.attention_tiles.score_tile", "c", "p left.shape, right.shape[0]", "q"]
    printed = run("-m", "pdb", *[word for command in commands for word in ("-c", command)], str(program),
                  NUMBA_DISABLE_JIT="1", PYTHONPATH=str(ROOT))
    assert "((3, 4), 4)" in printed


@pytest.mark.slow
@pytest.mark.parametrize("features", ["", "+sse4.2,+avx,+avx2,+fma"], ids=["16 bytes", "32 bytes"])
def test_narrower_vectors(features, tmp_path):
    run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).with_name("test_attention.py")), "-k", "fast",
        NUMBA_CPU_NAME="generic", NUMBA_CPU_FEATURES=features, NUMBA_CACHE_DIR=str(tmp_path))
