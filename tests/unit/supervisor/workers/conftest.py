"""Real surroundings for worker processes: a ZeroMQ context, a short folder, a sentinel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import zmq

from tritonpy.supervisor.workers.process import Surroundings
from tritonpy.supervisor.workers.sentinel import Sentinel


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
async def surroundings(anyio_backend: str) -> AsyncIterator[Surroundings]:
    """What workers need to live; afterwards nothing of theirs is left."""
    before = _descriptors()
    # Not below tmp_path, whose name is too long for a socket.
    directory = tempfile.mkdtemp(prefix="tp-")
    sentinel = Sentinel(directory)
    sentinel.start()
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    yield Surroundings(context, directory, sentinel)
    assert os.listdir(directory) == [], "a worker left its folder behind"
    context.term()  # waits for ever when a socket is left open
    sentinel.stop()
    assert Path(directory).name not in os.listdir(tempfile.gettempdir())
    assert _descriptors() <= before, "a descriptor was left open"
