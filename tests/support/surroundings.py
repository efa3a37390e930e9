"""Real surroundings for worker processes: a folder of their own and a sentinel."""

from __future__ import annotations

import gc
import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager, suppress

from tritonpy.supervisor.workers.process import Surroundings
from tritonpy.supervisor.workers.sentinel import Sentinel


def open_descriptors() -> int:
    """How many descriptors this process has, without those of a thread that looks into /proc.

    After a worker's end one looks there for the worker's descendants.
    """
    count = 0
    for number in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):
            count += not os.readlink(f"/proc/self/fd/{number}").startswith("/proc/")
    return count


@contextmanager
def real_surroundings() -> Generator[Surroundings]:
    """What workers need to live; afterwards nothing of theirs is left."""
    gc.collect()
    before = open_descriptors()
    directory = tempfile.mkdtemp(prefix="tp-")
    sentinel = Sentinel(directory)
    sentinel.start()
    try:
        yield Surroundings(directory, sentinel)
        assert os.listdir(directory) == [], "something was left behind"
    finally:
        sentinel.stop()
    assert not os.path.exists(directory)
    gc.collect()
    assert open_descriptors() <= before, "a descriptor was left open"
