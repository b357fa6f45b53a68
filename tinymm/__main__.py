"""`python -m tinymm ...` is the same as `tinymm ...`."""

import sys

from tinymm.cli import main

if __name__ == "__main__":
    sys.exit(main())
