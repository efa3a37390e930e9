"""Work that goes on whether or not somebody waits for it, until it is done or all is cancelled."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine

from ...ipc.errors import StatusError, UnavailableError

log = logging.getLogger(__name__)


class Tasks:
    """The tasks of one kind that are under way; the event loop itself holds them only weakly."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<Tasks: {len(self._tasks)} under way>"

    def begin(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Begin something that nobody needs to wait for. What fails is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    async def run(self, work: Coroutine[None, None, None]) -> None:
        """Do something to its end, even when whoever waits for it is cancelled meanwhile.

        Raises what it raises, and UnavailableError when `cancel` ended it.
        """
        task = self.begin(work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled():
                raise UnavailableError("the server is stopping") from None
            raise

    async def cancel(self) -> None:
        """Cancel everything that is under way, and wait until it has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, StatusError):
            log.error("an operation on a model failed", exc_info=error)
