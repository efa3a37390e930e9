"""Threads for what blocks for long: unpacking, hashing, and waiting for a slow disk."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

#: As many as loads that want an environment at the same time; most of the time they wait.
_MOST = 16

_T = TypeVar("_T")


class Threads:
    """Runs functions beside the event loop; nothing goes on behind the back of a caller."""

    def __init__(self) -> None:
        self._executor = ThreadPoolExecutor(_MOST, "environment")

    def __repr__(self) -> str:
        return f"<Threads: {_MOST} at most>"

    async def run(
        self,
        function: Callable[[], _T],
        *,
        stop: threading.Event | None = None,
        undo: Callable[[_T], object] | None = None,
    ) -> _T:
        """Run a function to its end, also when the caller is cancelled.

        Then `stop` is set, by which the function may end early, and what it returned to nobody goes
        to `undo`.
        """
        future = asyncio.get_running_loop().run_in_executor(self._executor, function)
        try:
            return await asyncio.shield(future)
        except asyncio.CancelledError:
            if stop is not None:
                stop.set()
            await asyncio.wait([future])
            if undo is not None and not future.cancelled() and future.exception() is None:
                undo(future.result())
            raise

    def close(self) -> None:
        """End the threads, which have nothing to do any more."""
        self._executor.shutdown()
