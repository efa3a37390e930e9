"""Real surroundings for worker processes: a ZeroMQ context, a short folder, a sentinel."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager

import zmq

from tritonpy.supervisor.workers.process import Surroundings
from tritonpy.supervisor.workers.sentinel import Sentinel


def open_descriptors() -> int:
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


@contextmanager
def real_surroundings() -> Generator[Surroundings]:
    """What workers need to live; afterwards nothing of theirs is left."""
    gc.collect()
    before = open_descriptors()
    # Not below a test's own folder, whose name is too long for a socket.
    directory = tempfile.mkdtemp(prefix="tp-")
    sentinel = Sentinel(directory)
    sentinel.start()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    try:
        yield Surroundings(context, directory, sentinel)
        assert os.listdir(directory) == [], "a worker left its folder behind"
        context.term()  # waits for ever when a socket is left open
    finally:
        context.destroy(linger=0)
        sentinel.stop()
    assert not os.path.exists(directory)
    gc.collect()
    assert open_descriptors() <= before, "a descriptor was left open"
