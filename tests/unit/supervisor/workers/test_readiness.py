"""The question whether a model is ready, on virtual time."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from support.clock import VirtualLoop, run

from tritonpy.supervisor.workers.readiness import LIMIT, ReadinessCheck

Test = Callable[[ReadinessCheck], Coroutine[Any, Any, None]]


def on_virtual_time(test: Test) -> None:
    loop = VirtualLoop()
    check = ReadinessCheck("m_0_0")
    try:
        run(loop, test(check))
    finally:
        check.close()


def asked(check: ReadinessCheck) -> int:
    """How many questions have come to the worker since this was called last."""
    os.set_blocking(check.descriptor, False)
    try:
        return len(os.read(check.descriptor, 100))
    except BlockingIOError:
        return 0


@pytest.mark.parametrize("ready", [True, False])
def test_the_model_s_answer_is_the_answer(ready: bool) -> None:
    async def test(check: ReadinessCheck) -> None:
        asking = asyncio.create_task(check.ask())
        await asyncio.sleep(0)
        assert asked(check) == 1
        check.answered(ready)

        assert await asking is ready

    on_virtual_time(test)


def test_those_who_ask_at_once_share_one_question() -> None:
    async def test(check: ReadinessCheck) -> None:
        asking = [asyncio.create_task(check.ask()) for _ in range(3)]
        await asyncio.sleep(1)
        asking.append(asyncio.create_task(check.ask()))
        await asyncio.sleep(1)
        assert asked(check) == 1
        check.answered(True)
        assert await asyncio.gather(*asking) == [True] * 4

        again = asyncio.create_task(check.ask())
        await asyncio.sleep(1)
        assert asked(check) == 1
        check.answered(False)
        assert await again is False

    on_virtual_time(test)


def test_a_model_that_does_not_answer_is_not_ready(caplog: pytest.LogCaptureFixture) -> None:
    async def test(check: ReadinessCheck) -> None:
        began = asyncio.get_running_loop().time()

        assert await check.ask() is False

        assert asyncio.get_running_loop().time() - began == LIMIT == 5.0

    on_virtual_time(test)
    assert "'m_0_0' has not said within 5 seconds whether it is ready" in caplog.text


def test_a_late_answer_is_that_to_whoever_waits_then() -> None:
    async def test(check: ReadinessCheck) -> None:
        assert await check.ask() is False
        later = asyncio.create_task(check.ask())
        await asyncio.sleep(1)
        assert asked(check) == 1
        check.answered(True)

        assert await later is True

    on_virtual_time(test)


def test_who_stops_waiting_leaves_the_answer_to_others() -> None:
    async def test(check: ReadinessCheck) -> None:
        first, second = (asyncio.create_task(check.ask()) for _ in range(2))
        await asyncio.sleep(1)
        first.cancel()
        await asyncio.sleep(1)
        check.answered(True)

        assert await second is True

    on_virtual_time(test)


def test_a_worker_that_dies_answers_no() -> None:
    async def test() -> None:
        check = ReadinessCheck("m_0_0")
        asking = asyncio.create_task(check.ask())
        await asyncio.sleep(1)
        check.close()

        assert await asking is False

    run(VirtualLoop(), test())
