"""Tests for tritonpy.worker.python.event_loop."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest

from tritonpy.worker.python.event_loop import EventLoop


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    loop = EventLoop()
    yield loop
    loop.stop()


async def thread_name() -> str:
    return threading.current_thread().name


async def fail() -> None:
    raise ValueError("no")


async def leave() -> None:
    sys.exit(3)


def test_every_coroutine_runs_on_the_same_thread(loop: EventLoop) -> None:
    assert loop.run(thread_name()) == loop.run(thread_name()) == "event-loop"


def test_an_exception_comes_back(loop: EventLoop) -> None:
    with pytest.raises(ValueError, match="no"):
        loop.run(fail())


def test_an_exit_fails_the_coroutine_and_not_the_loop(loop: EventLoop) -> None:
    with pytest.raises(RuntimeError, match=r"^the model called sys.exit\(3\)$"):
        loop.run(leave())
    assert loop.run(thread_name()) == "event-loop"


def test_background_coroutines_run_side_by_side(loop: EventLoop) -> None:
    outcomes: queue.SimpleQueue[Any] = queue.SimpleQueue()
    gate = loop.run(_event())

    async def wait() -> str:
        await gate.wait()
        return "done"

    async def open_gate() -> str:
        gate.set()
        return "opened"

    def done(outcome: Future[str]) -> None:
        outcomes.put(outcome.result())

    loop.spawn(wait(), done)
    loop.spawn(open_gate(), done)
    assert {outcomes.get(timeout=10), outcomes.get(timeout=10)} == {"done", "opened"}


def test_stopping_cancels_what_still_runs(loop: EventLoop) -> None:
    outcomes: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
    gate = loop.run(_event())
    loop.spawn(gate.wait(), outcomes.put)
    loop.stop()

    assert outcomes.get(timeout=10).cancelled()
    assert "event-loop" not in [thread.name for thread in threading.enumerate()]


def test_a_loop_that_never_ran_stops() -> None:
    EventLoop().stop()


async def _event() -> asyncio.Event:
    return asyncio.Event()
