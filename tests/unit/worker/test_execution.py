"""Calls are known to belong to the execution that made them, be it by a coroutine or a thread."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator

import pytest
from support.peers import Background

from tritonpy.worker import execution
from tritonpy.worker.execution import Origin


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    """An event loop on a thread of its own, as the python backend has it."""
    made = asyncio.new_event_loop()
    thread = threading.Thread(target=made.run_forever)
    thread.start()
    yield made
    made.call_soon_threadsafe(made.stop)
    thread.join()
    made.close()


def during(
    what: Callable[[], object], key: int = 7, *, awaits: bool = True, joins: bool = True
) -> object:
    token = execution.begin(key, awaits=awaits, joins=joins)
    try:
        return what()
    finally:
        execution.end(token)


def test_outside_of_an_execution_there_is_none() -> None:
    assert execution.origin() == Origin(0, False)
    during(lambda: None)
    assert execution.origin() == Origin(0, False)


@pytest.mark.parametrize("waits", [True, False])
def test_the_main_thread_waits_in_any_case(waits: bool) -> None:
    found = during(execution.origin, awaits=waits, joins=waits)
    assert found == Origin(7, True)


def test_a_thread_belongs_to_an_execution_that_joins_it() -> None:
    def thread() -> object:
        return Background(execution.origin).result()

    assert during(thread) == Origin(7, True)
    assert during(thread, joins=False) == Origin(0, False)


@pytest.mark.parametrize("awaits", [True, False])
def test_a_coroutine_belongs_to_its_execution_after_that_has_returned(
    loop: asyncio.AbstractEventLoop, awaits: bool
) -> None:
    go_on = threading.Event()

    async def task() -> Origin:
        await asyncio.to_thread(go_on.wait)
        return await asyncio.create_task(other())

    async def other() -> Origin:
        return execution.origin()

    future = during(lambda: asyncio.run_coroutine_threadsafe(task(), loop), awaits=awaits)
    during(go_on.set, key=8)
    assert future.result(30) == Origin(7, awaits)  # type: ignore[attr-defined]


def test_a_thread_may_be_given_the_context_of_a_coroutine() -> None:
    context = during(contextvars.copy_context)
    assert isinstance(context, contextvars.Context)
    assert Background(lambda: context.run(execution.origin)).result() == Origin(7, True)
