"""Settings for all tests."""

import os

if "PYTEST_XDIST_WORKER" in os.environ:      # one of several processes: the threads of BLAS, which wait by spinning, would fight
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np
import pytest
from hypothesis import settings

# The same examples in every run: a test that fails, fails again. No deadline: other work may slow the machine down.
settings.register_profile("tinymm", derandomize=True, deadline=None)
settings.load_profile("tinymm")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
