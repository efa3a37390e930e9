"""`python -P -m tritonpy.supervisor.development`: how run-model starts the endpoints.

CONTROL MODEL OPTIONS...: the number of the inherited socket, the model's name, and the options of
its server. The parent is the process in the foreground.
"""

from __future__ import annotations

import os
import socket
import sys
from functools import partial

from ..command_line import parse
from ..server import run
from .endpoints import Endpoints
from .terminal import Terminal


def main(arguments: list[str]) -> int:
    """Serve until the signal, or until the process in the foreground is gone."""
    control, model, *options = arguments
    settings = parse(options)
    with socket.socket(fileno=int(control)) as connection:
        os.set_inheritable(connection.fileno(), False)
        terminal = Terminal(connection, os.getppid(), model)
        return run(settings, partial(Endpoints, terminal=terminal, model=model))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
