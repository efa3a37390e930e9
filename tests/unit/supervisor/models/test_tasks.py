"""Operations that outlive whoever asked for them."""

from __future__ import annotations

import asyncio
import gc
import logging

import pytest
from support.fakes import until

from tritonpy.ipc.errors import InternalError, UnavailableError
from tritonpy.supervisor.models.tasks import Tasks

pytestmark = pytest.mark.anyio


async def _fail(error: Exception) -> None:
    raise error


async def test_what_is_run_raises_what_it_raises() -> None:
    with pytest.raises(InternalError, match="no"):
        await Tasks().run(_fail(InternalError("no")))


async def test_it_goes_on_when_nobody_waits_any_more() -> None:
    tasks, hold, done = Tasks(), asyncio.Event(), asyncio.Event()

    async def work() -> None:
        await hold.wait()
        done.set()

    waiting = asyncio.create_task(tasks.run(work()))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert waiting.cancelled()
    gc.collect()
    assert "1 under way" in repr(tasks)

    hold.set()

    await until(done.is_set)
    await until(lambda: "0 under way" in repr(tasks))


async def test_all_of_it_can_be_cancelled_and_whoever_waits_is_told() -> None:
    tasks = Tasks()
    waiting = asyncio.create_task(tasks.run(asyncio.Event().wait()))  # type: ignore[arg-type]
    await asyncio.sleep(0)

    await tasks.cancel()

    with pytest.raises(UnavailableError, match="the server is stopping"):
        await waiting


@pytest.mark.parametrize(
    ("error", "logged"), [(InternalError("told"), False), (KeyError("a fault of ours"), True)]
)
async def test_what_nobody_waits_for_is_logged_unless_it_was_expected(
    error: Exception, logged: bool, caplog: pytest.LogCaptureFixture
) -> None:
    tasks = Tasks()
    with caplog.at_level(logging.ERROR):
        tasks.begin(_fail(error))
        await until(lambda: "0 under way" in repr(tasks))

    assert ("an operation on a model failed" in caplog.text) is logged
