"""Entry of a worker process.

    python -P -m tritonpy.worker DIRECTORY GENERATION LIFELINE PARENT NAME

DIRECTORY is the worker's own runtime directory, where the sockets are; GENERATION tells this start
from earlier ones; LIFELINE is the number of the inherited socket; PARENT is the process of the
supervisor; NAME tells whoever lists processes which model instance this is.
"""

from __future__ import annotations

import faulthandler
import logging
import os
import signal
import socket
import sys

from ..ipc.channel import WorkerChannel
from ..ipc.descriptors import DescriptorInbox
from ..ipc.lifeline import die_with_parent
from .log import SupervisorHandler
from .loop import Worker

#: Under memory pressure the kernel takes a worker, which is restarted, and never the supervisor.
_OOM_SCORE_ADJUSTMENT = 500


def main(arguments: list[str]) -> int:
    """Run the worker until it is told to stop; returns the exit status."""
    directory, generation, lifeline, parent, _name = arguments
    # Ctrl-C and systemd signal the whole group; only the supervisor ends workers, in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    faulthandler.enable()
    _volunteer_for_oom()
    if not die_with_parent(int(parent)):
        return 1
    channel = WorkerChannel(directory)
    logging.getLogger("tritonpy").addHandler(SupervisorHandler(channel))
    logging.getLogger("tritonpy").setLevel(logging.DEBUG)
    with socket.socket(fileno=int(lifeline)) as connection:
        connection.setblocking(True)
        Worker(channel, DescriptorInbox(connection)).run(generation)
    channel.close()
    sys.stdout.flush()
    sys.stderr.flush()
    # A model's own non-daemon threads must not keep the process: the model is finalized.
    os._exit(0)


def _volunteer_for_oom() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(_OOM_SCORE_ADJUSTMENT))
    except OSError:
        pass  # not writable in some containers; then the kernel decides by size alone
