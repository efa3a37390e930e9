"""`python -P -m tritonpy.supervisor`: the same as the `tritonpy-supervisor` command."""

import sys

from .cli import main

if __name__ == "__main__":
    sys.exit(main())
