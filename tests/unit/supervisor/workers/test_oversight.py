"""A worker that goes beyond a limit is found out, once, and no other is suspected for long."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Coroutine

import pytest
from support.clock import VirtualLoop, run
from support.fakes import Asker

from tritonpy.supervisor.config.worker_limits import WorkerLimits
from tritonpy.supervisor.scheduling.scheduler import Work
from tritonpy.supervisor.workers import oversight as module
from tritonpy.supervisor.workers.oversight import Oversight

MIB = 1 << 20


class Bench:
    """An oversight and what it has found."""

    def __init__(self, limits: WorkerLimits) -> None:
        self.found: list[tuple[float, str]] = []
        self.loop = asyncio.get_running_loop()
        self.began = self.loop.time()
        self.oversight = Oversight(limits, os.getpid(), self.breached)
        self.oversight.start()

    def breached(self, reason: str) -> None:
        self.found.append((round(self.loop.time() - self.began, 6), reason))

    def work(self) -> Work:
        return Asker().work()


Scene = Callable[[], Coroutine[None, None, None]]


def played(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    loop = VirtualLoop()
    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic_ns", loop.monotonic_ns)
        run(loop, scene())


LATE = "a request has taken longer than the 2 seconds of execution_timeout_secs"


def test_a_request_that_takes_too_long_is_found_after_a_second_look(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        bench = Bench(WorkerLimits(execution_secs=2))
        bench.oversight.begin(1, [bench.work()])
        await asyncio.sleep(10)
        assert bench.found == [(2.1, LATE)]
        assert "1 requests in 1 batches" in repr(bench.oversight)

    played(monkeypatch, scene)


def test_an_answer_that_comes_until_the_second_look_is_in_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def scene() -> None:
        bench = Bench(WorkerLimits(execution_secs=2))
        work, late = bench.work(), bench.work()
        bench.oversight.begin(1, [work])
        await asyncio.sleep(2.05)
        bench.oversight.executed(1, [])
        bench.oversight.responded(work.key, True)
        await asyncio.sleep(1)
        bench.oversight.begin(2, [late])
        await asyncio.sleep(10)
        assert bench.found == [(5.15, LATE)], "the first look at another one is a first look"

    played(monkeypatch, scene)


def test_each_response_of_a_stream_gives_time_again(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        bench = Bench(WorkerLimits(execution_secs=2))
        work = bench.work()
        bench.oversight.begin(1, [work])
        bench.oversight.executed(1, [])
        for _ in range(5):
            await asyncio.sleep(1.5)
            bench.oversight.responded(work.key, False)
        assert bench.found == []
        await asyncio.sleep(10)
        assert bench.found == [(9.6, LATE)]

    played(monkeypatch, scene)


def test_what_is_not_at_the_worker_any_more_is_not_late(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        bench = Bench(WorkerLimits(execution_secs=2))
        again, back = bench.work(), bench.work()
        bench.oversight.begin(1, [again])
        bench.oversight.executed(1, [again.key])
        bench.oversight.begin(2, [back])
        bench.oversight.taken_back(2, [back])
        await asyncio.sleep(10)
        assert bench.found == []

    played(monkeypatch, scene)


def test_who_has_ended_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        bench = Bench(WorkerLimits(execution_secs=2, memory_bytes=1))
        bench.oversight.begin(1, [bench.work()])
        bench.oversight.stop()
        await asyncio.sleep(10)
        assert bench.found == []

    played(monkeypatch, scene)


def test_a_model_that_is_not_loaded_in_time_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scene() -> None:
        slow, fast = (Bench(WorkerLimits(load_secs=30)) for _ in range(2))
        await asyncio.sleep(29)
        fast.oversight.loaded()
        await asyncio.sleep(60)
        reason = "it has not loaded its model within the 30 seconds of load_timeout_secs"
        assert (slow.found, fast.found) == ([(30, reason)], [])

    played(monkeypatch, scene)


@pytest.mark.anyio
async def test_memory_beyond_the_limit_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMORY_LOOK_SECS", 0.0)
    sizes = iter([100 * MIB, 300 * MIB, 301 * MIB, 500 * MIB])
    monkeypatch.setattr(module, "family_bytes", lambda _pid: next(sizes))
    bench = Bench(WorkerLimits(memory_bytes=300 * MIB))

    async with asyncio.timeout(20):
        while not bench.found:  # noqa: ASYNC110 - it is another thread that looks
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0.001)

    assert [reason for _, reason in bench.found] == [
        "it has taken 301 MiB of memory, more than the 300 MiB of memory_limit_byte_size"
    ]
    assert next(sizes) == 500 * MIB


@pytest.mark.anyio
async def test_what_goes_beyond_two_limits_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MEMORY_LOOK_SECS", 0.0)
    monkeypatch.setattr(module, "_SECOND_LOOK_SECS", 0.0)
    monkeypatch.setattr(module, "family_bytes", lambda _pid: 2)
    bench = Bench(WorkerLimits(execution_secs=1e-6, memory_bytes=1))
    bench.oversight.begin(1, [bench.work()])

    async with asyncio.timeout(20):
        while not bench.found:  # noqa: ASYNC110 - it is another thread that looks
            await asyncio.sleep(0)
    for _ in range(3):
        await asyncio.sleep(0.001)

    assert len(bench.found) == 1


@pytest.mark.anyio
async def test_without_a_memory_limit_nobody_looks_at_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_MEMORY_LOOK_SECS", 0.0)
    looked: list[int] = []
    monkeypatch.setattr(module, "family_bytes", looked.append)
    Bench(WorkerLimits(execution_secs=2))

    for _ in range(3):
        await asyncio.sleep(0.001)

    assert looked == []
