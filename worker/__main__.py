"""`python -P -m tritonpy.worker`: how the supervisor starts a worker."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
