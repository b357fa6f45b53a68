"""Settings for all tests."""

import numpy as np
import pytest
from hypothesis import settings

# The same examples in every run: a test that fails, fails again. No deadline: other work may slow the machine down.
settings.register_profile("tinymm", derandomize=True, deadline=None)
settings.load_profile("tinymm")


@pytest.fixture
def rng():
    return np.random.default_rng(0)
