"""Makes tiny_task.py importable for the tests beside it; it is also run as a script, by the test that kills it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
