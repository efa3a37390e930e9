"""The asyncio event loop on which a model's `async def execute` runs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

T = TypeVar("T")

#: How long a model's tasks may take to notice that they were cancelled.
_STOP_SECONDS = 5.0


class EventLoop:
    """An event loop on a thread of its own, started by the first coroutine."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        #: The first coroutines may come from several threads.
        self._starting = threading.Lock()

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, and return or raise what it does."""
        return self._submit(coroutine).result()

    def spawn(
        self, coroutine: Coroutine[Any, Any, T], done: Callable[[Future[T]], None]
    ) -> Future[T]:
        """Run a coroutine in the background, and call `done` with its outcome."""
        outcome = self._submit(coroutine)
        outcome.add_done_callback(done)
        return outcome

    def stop(self) -> None:
        """Cancel what still runs, and end the thread."""
        loop, thread = self._loop, self._thread
        if loop is None or thread is None:
            return
        self._loop = self._thread = None
        loop.call_soon_threadsafe(_cancel_all, loop)
        thread.join(_STOP_SECONDS)
        if not thread.is_alive():
            loop.close()

    def _submit(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        outcome = asyncio.run_coroutine_threadsafe(_contained(coroutine), self._running())
        # One that was cancelled before its first step would be reported as never awaited.
        outcome.add_done_callback(lambda _: coroutine.close())
        return outcome

    def _running(self) -> asyncio.AbstractEventLoop:
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="event-loop", daemon=True
                )
                self._thread.start()
            return self._loop


async def _contained(coroutine: Coroutine[Any, Any, T]) -> T:
    """Await a model's coroutine; `sys.exit` in it must not end the loop that others run on."""
    try:
        return await coroutine
    except SystemExit as error:
        raise RuntimeError(f"the model called sys.exit({error.code!r})") from error


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    ended = asyncio.gather(*tasks, return_exceptions=True)
    ended.add_done_callback(lambda _: loop.stop())
