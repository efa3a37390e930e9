"""The server's end of the socket to the terminal's process."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
from collections.abc import AsyncIterator

import pytest
from support.fakes import until

from tritonpy.ipc import foreground
from tritonpy.ipc.foreground import Attach, Ended, Kill
from tritonpy.supervisor.development.terminal import Terminal

pytestmark = pytest.mark.anyio


class Bench:
    """A terminal, and the process in it: a program that sleeps, whose part the test plays."""

    def __init__(self) -> None:
        ours, self.theirs = foreground.pair()
        self.control = ours
        self.process = subprocess.Popen(["sleep", "1000"])
        self.terminal = Terminal(ours, self.process.pid, "m")
        self.ends: list[int] = []
        self.signals: list[int] = []

    def attach(self) -> None:
        reads, writes = socket.socketpair()
        with reads, writes:
            inherited = (reads.fileno(), writes.fileno())
            self.terminal.attach("m_0", ["python"], {"A": "1"}, {"B": "2"}, inherited, self.ended)

    def ended(self, status: int) -> None:
        self.ends.append(status)


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    asyncio.get_running_loop().add_signal_handler(
        signal.SIGTERM, made.signals.append, signal.SIGTERM
    )
    made.terminal.open()
    yield made
    made.terminal.close()
    asyncio.get_running_loop().remove_signal_handler(signal.SIGTERM)
    for end in (made.control, made.theirs):
        end.close()
    made.process.kill()
    made.process.wait()


async def test_the_process_is_told_what_to_become(bench: Bench) -> None:
    bench.attach()
    received = foreground.receive(bench.theirs)
    assert received is not None
    message, descriptors = received
    assert message == Attach("m_0", ("python",), {"A": "1"}, {"B": "2"})
    assert len(descriptors) == 2
    for descriptor in descriptors:
        os.close(descriptor)


async def test_it_is_one_worker_at_a_time(bench: Bench) -> None:
    bench.attach()
    with pytest.raises(OSError, match="has one worker; save one of its files"):
        bench.attach()
    foreground.send(bench.theirs, Ended(1))
    await until(lambda: bench.ends == [1])
    bench.attach()


async def test_it_takes_one_model(bench: Bench) -> None:
    assert bench.terminal.takes("m")
    assert not bench.terminal.takes("other")


async def test_a_worker_that_is_to_be_killed_is_told_so(bench: Bench) -> None:
    bench.terminal.kill()
    assert foreground.receive(bench.theirs) == (Kill(), [])


async def test_when_the_process_is_gone_its_worker_has_ended_and_so_does_the_server(
    bench: Bench,
) -> None:
    bench.attach()
    bench.process.kill()
    await until(lambda: bool(bench.signals))
    assert bench.ends == [-signal.SIGKILL]
    with pytest.raises(OSError, match="is gone"):
        bench.attach()


async def test_nonsense_is_taken_for_the_end(bench: Bench) -> None:
    bench.attach()
    bench.theirs.send(b"nonsense")
    await until(lambda: bool(bench.signals))
    assert bench.ends == [-signal.SIGKILL]
