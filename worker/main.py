"""Entry of a worker process.

    python -P -m tritonpy.worker CHANNEL LIFELINE PARENT NAME

CHANNEL and LIFELINE are the numbers of the inherited sockets, for messages and for descriptors;
PARENT is the process of the supervisor; NAME tells whoever lists processes which model instance
this is. foreground.py has other arguments, for a worker that the supervisor does not start.
"""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import signal
import socket
import sys
import traceback
from types import FrameType

from ..ipc.channel import WorkerChannel
from ..ipc.descriptors import DescriptorInbox
from ..ipc.lifeline import die_with_parent
from .log import SupervisorHandler
from .loop import Worker

#: Under memory pressure the kernel takes a worker, which is restarted, and never the supervisor.
_OOM_SCORE_ADJUSTMENT = 500

_IGNORED = (signal.SIGINT, signal.SIGTERM)


def main(arguments: list[str]) -> int:
    """Run the worker until it is told to stop; returns the exit status."""
    if arguments[0] == "foreground":
        from . import foreground  # which nobody else needs

        foreground.uncover_marks()
        os._exit(foreground.main(arguments[1:], _run))
    channel, lifeline, parent, _name = arguments
    _ignore_signals()
    faulthandler.enable()
    _volunteer_for_oom()
    if not die_with_parent(int(parent)):
        return 1
    status = 1
    try:
        _run(int(channel), int(lifeline))
        status = 0
    except BaseException:  # whatever it is, the supervisor starts another worker
        traceback.print_exc()
    finally:
        # A model's own non-daemon threads must not keep the process: its model is finalized, or
        # nobody will ever call it again.
        _flush()
        os._exit(status)


def _run(inherited: int, lifeline: int) -> None:
    channel = WorkerChannel(socket.socket(fileno=inherited))
    # What a model's forked child says is not the worker's, and may be cut off.
    os.register_at_fork(after_in_child=channel.abandon)
    logger = logging.getLogger("tritonpy")
    logger.addHandler(SupervisorHandler(channel))
    logger.setLevel(logging.DEBUG)
    logger.propagate = False  # a model that sets up logging for itself must not double our lines
    with socket.socket(fileno=lifeline) as connection:
        connection.setblocking(True)
        connection.set_inheritable(False)
        worker = Worker(channel, DescriptorInbox(connection))
        worker.on_loaded = _set_apart_what_is_loaded
        worker.run()
    channel.close()


def _set_apart_what_is_loaded() -> None:
    """Have the garbage collector never look at libraries and model again, which live as long as the
    process: each full look at them takes several batches' time.
    """
    gc.collect()  # what is garbage already would be kept too
    gc.freeze()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            pass  # nobody reads it any more, or the model closed it


def _ignore_signals() -> None:
    """Ignore what a terminal or systemd sends to all of us: only the supervisor ends workers.

    By a handler that does nothing. SIG_IGN would be inherited by the programs that a model starts,
    which could then not be ended by signals either.
    """
    for number in _IGNORED:
        signal.signal(number, _nothing)
        signal.siginterrupt(number, False)
    # A model's forked child must not swallow a signal before it has put the default back.
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, _IGNORED),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED),
        after_in_child=_stop_ignoring,
    )


def _nothing(_number: int, _frame: FrameType | None) -> None:
    pass


def _stop_ignoring() -> None:
    for number in _IGNORED:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _IGNORED)


def _volunteer_for_oom() -> None:
    try:
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(_OOM_SCORE_ADJUSTMENT))
    except OSError:
        pass  # not writable in some containers; then the kernel decides by size alone
