"""`tritonpy-supervisor run-model <folder>`: the command line, and the start of both processes.

this process ──starts──> python -m tritonpy.supervisor.development ...     the endpoints
      │ becomes
      └──> python -m tritonpy.worker foreground ...                        the worker
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from ...ipc import foreground
from ...ipc.errors import InvalidArgumentError, StatusError
from ..command_line import parse
from ..settings import Settings

USAGE = """\
usage: tritonpy-supervisor run-model <folder of a model> [options of serve]

Serves one model by a worker that is this very process: breakpoint() and debuggers work, and what
the model prints is seen here. The endpoints are a child process. When a file of the model is saved,
the model is loaded anew. Ctrl-C ends all of it.

  --help  Show this and exit.

Options of serve count as they do there. --load-model=<name> serves more models of the same
repository, each by a worker of its own."""

#: What a developer waits for when Ctrl-C is pressed; serve has a longer default (seconds).
_EXIT_TIMEOUT = "--exit-timeout-secs=5"


def run(arguments: Sequence[str]) -> int:
    """Start the endpoints and become the worker. Returns only when that cannot be."""
    if "--help" in arguments or "-h" in arguments:
        print(USAGE)
        return 0
    try:
        model, options = _read(arguments)
        _check(parse(options))
    except StatusError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return 2
    package = __name__.rsplit(".", 3)[0]
    ours, theirs = foreground.pair()
    python = [sys.executable, "-P", "-m"]
    with theirs:
        # In a session of its own: what a terminal sends reaches us alone.
        endpoints = subprocess.Popen(
            [*python, f"{package}.supervisor.development", str(theirs.fileno()), model, *options],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
    os.set_inheritable(ours.fileno(), True)
    worker = [f"{package}.worker", "foreground", str(ours.fileno()), str(endpoints.pid)]
    os.execv(sys.executable, [*python, *worker])


def _read(arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The model's name, and the options of its server. Raises InvalidArgumentError."""
    if not arguments or arguments[0].startswith("-"):
        raise InvalidArgumentError(
            "the folder of a model comes first, as in 'tritonpy-supervisor run-model models/digits'"
        )
    folder, *given = arguments
    path = os.path.realpath(folder)
    if not os.path.isdir(path):
        raise InvalidArgumentError(f"'{folder}' is not the folder of a model: it is no folder")
    repository, model = os.path.split(path)
    options = [
        f"--model-repository={repository}",
        _EXIT_TIMEOUT,
        *given,
        "--model-control-mode=explicit",
    ]
    return model, options


def _check(settings: Settings) -> None:
    """Refuse what makes no sense for a single model. Raises InvalidArgumentError."""
    if len(settings.repositories) > 1:
        raise InvalidArgumentError(
            "--model-repository is the folder that holds the model, and cannot be given"
        )
    if settings.models.namespacing:
        raise InvalidArgumentError("--model-namespacing makes no sense for a single repository")
