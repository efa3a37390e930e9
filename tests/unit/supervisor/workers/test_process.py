"""Worker processes for real: how they start, what is heard of them, and how they end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import suppress

import pytest
from support.fakes import ARENA_BYTES, SOON

from tritonpy.ipc import messages
from tritonpy.ipc.arena import create_memory
from tritonpy.ipc.messages import FromWorker
from tritonpy.supervisor.workers.process import Exit, Surroundings, WorkerProcess

pytestmark = pytest.mark.anyio


class Worker:
    """A worker process and everything that was heard of it."""

    def __init__(self, surroundings: Surroundings, environment: dict[str, str] | None = None):
        loop = asyncio.get_running_loop()
        self.messages: list[FromWorker] = []
        self.started: asyncio.Future[None] = loop.create_future()
        self.exit: asyncio.Future[Exit] = loop.create_future()
        self.lines: list[tuple[str, str]] = []
        self.fault: Exception | None = None
        self.process = WorkerProcess(
            surroundings,
            "m_0",
            environment={**os.environ, **(environment or {})},
            on_message=self._message,
            on_line=lambda stream, text: self.lines.append((stream, text)),
            on_exit=self.exit.set_result,
        )

    def _message(self, message: FromWorker) -> None:
        self.messages.append(message)
        if isinstance(message, messages.Started):
            self.started.set_result(None)
        if self.fault is not None:
            raise self.fault

    async def starts(self) -> None:
        self.process.spawn()
        async with asyncio.timeout(SOON):
            await self.started

    async def ends(self) -> Exit:
        async with asyncio.timeout(SOON):
            return await asyncio.shield(self.exit)


@pytest.fixture
async def worker(surroundings: Surroundings) -> AsyncIterator[Worker]:
    made = Worker(surroundings)
    yield made
    made.process.kill()
    await made.ends()


async def test_a_worker_says_that_it_is_up_and_ends_when_it_is_told(worker: Worker) -> None:
    await worker.starts()
    assert worker.messages == [messages.Started()]
    assert f"pid {worker.process.pid}" in repr(worker.process)

    worker.process.send(messages.Stop())
    exit = await worker.ends()

    assert exit.status == 0
    assert worker.messages[-1] == messages.Stopped()
    assert str(exit) == "exited with status 0"


async def test_a_killed_worker_is_noticed_with_the_signal(worker: Worker) -> None:
    await worker.starts()
    os.kill(worker.process.pid, signal.SIGKILL)

    exit = await worker.ends()

    assert exit.status == -signal.SIGKILL
    assert str(exit) == "was killed by signal SIGKILL"
    worker.process.kill()  # there is nobody left, and that is no error


async def test_what_a_worker_printed_before_it_died_is_its_last_words(
    surroundings: Surroundings,
) -> None:
    worker = Worker(surroundings, {"PYTHONPATH": "/nowhere", "PYTHONHOME": "/nowhere"})
    worker.process.spawn()  # Python itself cannot start there

    exit = await worker.ends()

    assert exit.status == 1
    assert exit.last_words
    assert ("stderr", exit.last_words[-1]) in worker.lines


async def test_a_signal_without_a_name_is_told_by_its_number() -> None:
    assert str(Exit(-63, [])) == "was killed by signal 63"


async def test_an_arena_for_a_worker_that_is_dead_already_is_no_error(worker: Worker) -> None:
    await worker.starts()
    descriptor = create_memory("test", ARENA_BYTES)
    os.kill(worker.process.pid, signal.SIGKILL)
    # The loop must not notice it first.
    os.waitid(os.P_PID, worker.process.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222

    worker.process.attach_arena(0, descriptor, ARENA_BYTES)

    os.close(descriptor)
    assert (await worker.ends()).status == -signal.SIGKILL


def _descriptors(pid: int, label: str) -> int:
    """How many descriptors of this memory a process has."""
    folder = f"/proc/{pid}/fd"
    links: list[str] = []
    for number in os.listdir(folder):
        with suppress(FileNotFoundError):  # that of the listing itself
            links.append(os.readlink(f"{folder}/{number}"))
    return sum(label in link for link in links)


async def test_regions_that_a_busy_worker_does_not_take_wait_for_it(worker: Worker) -> None:
    await worker.starts()
    process, count = worker.process, 500
    descriptor = create_memory("a_busy_region", ARENA_BYTES)
    os.kill(process.pid, signal.SIGSTOP)
    for number in range(count):
        process.attach_region(number, f"r{number}", descriptor, ARENA_BYTES)
    os.close(descriptor)
    assert _descriptors(os.getpid(), "a_busy_region"), "the lifeline has taken them all at once"

    os.kill(process.pid, signal.SIGCONT)
    async with asyncio.timeout(SOON):
        while _descriptors(process.pid, "a_busy_region") < count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
    assert not _descriptors(os.getpid(), "a_busy_region")

    for number in range(count):
        process.detach_region(number)
    process.send(messages.Stop())
    assert (await worker.ends()).status == 0
    process.detach_region(0)  # there is nobody left, and that is no error


async def test_regions_that_wait_for_a_worker_that_dies_are_let_go_of(worker: Worker) -> None:
    await worker.starts()
    descriptor = create_memory("a_late_region", ARENA_BYTES)
    os.kill(worker.process.pid, signal.SIGSTOP)
    for number in range(500):
        worker.process.attach_region(number, f"r{number}", descriptor, ARENA_BYTES)
    os.close(descriptor)
    assert _descriptors(os.getpid(), "a_late_region")
    worker.process.kill()
    await worker.ends()
    assert not _descriptors(os.getpid(), "a_late_region")


async def test_a_worker_whose_words_make_no_sense_is_killed(
    worker: Worker, caplog: pytest.LogCaptureFixture
) -> None:
    worker.fault = KeyError("no such batch")

    with caplog.at_level(logging.ERROR):
        await worker.starts()
        exit = await worker.ends()

    assert exit.status == -signal.SIGKILL
    assert "worker 'm_0' is killed" in caplog.text
    assert "no such batch" in caplog.text


async def test_a_program_that_cannot_be_started_leaves_nothing_behind(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(surroundings)
    monkeypatch.setattr(sys, "executable", "/nowhere/python")

    with pytest.raises(FileNotFoundError):
        worker.process.spawn()

    assert os.listdir(surroundings.runtime_directory) == []
    worker.process.kill()
    assert not worker.exit.done()


async def test_a_worker_that_cannot_be_watched_is_not_left_running(
    surroundings: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_pid: int) -> int:
        raise OSError(24, "Too many open files")

    worker = Worker(surroundings)
    monkeypatch.setattr(os, "pidfd_open", fail)

    with pytest.raises(OSError, match="Too many open files"):
        worker.process.spawn()

    with pytest.raises(ProcessLookupError):
        os.kill(worker.process.pid, 0)
