"""Work that several wait for, and that ends when nobody does any more."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


class SharedTask:
    """A coroutine that runs once for all who wait for it, and is cancelled with the last of them.

    `on_ended` is called when nobody else should join: it has ended, or is being cancelled.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, None], on_ended: Callable[[], None]) -> None:
        self._waiting = 0
        self._on_ended = on_ended
        self._task = asyncio.get_running_loop().create_task(coroutine)
        self._task.add_done_callback(lambda _task: self._end())

    async def wait(self) -> None:
        """Wait for its end. Raises what it does."""
        self._waiting += 1
        try:
            await asyncio.shield(self._task)
        except asyncio.CancelledError:
            if self._waiting == 1 and not self._task.done():
                self._end()
                self._task.cancel()
                await asyncio.wait([self._task])
            raise
        finally:
            self._waiting -= 1

    def _end(self) -> None:
        on_ended, self._on_ended = self._on_ended, _nothing
        on_ended()


def _nothing() -> None:
    """Nobody need be told twice."""
