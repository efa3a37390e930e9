"""Time that passes only in an event loop that has nothing else to do: minutes cost nothing."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

ResultT = TypeVar("ResultT")

#: More turns of the loop at one moment are a loop without end.
MOST_TURNS = 10_000


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer. Its clock counts whole microseconds."""

    def __init__(self) -> None:
        self.now_us = 10**9
        super().__init__(_JumpingSelector(self))
        self._clock_resolution = 1e-7

    def time(self) -> float:
        """The virtual time in seconds."""
        return self.now_us / 1e6

    def monotonic_ns(self) -> int:
        """What stands in for `time.monotonic_ns`."""
        return self.now_us * 1000


class _JumpingSelector(selectors.SelectSelector):
    """Never waits: where it would, the clock of its loop jumps instead."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop
        self._turns = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """What is ready now."""
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and no timer is set: a deadlock"
            passed_us = round(timeout * 1e6)
            self._loop.now_us += passed_us
            self._turns = 0 if passed_us else self._turns + 1
            assert self._turns < MOST_TURNS, "the loop turns and turns, and no time passes"
        return ready


def run(loop: VirtualLoop, main: Coroutine[Any, Any, ResultT]) -> ResultT:
    """Run a coroutine to its end on the virtual loop, which is closed then."""
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(main)
    finally:
        asyncio.set_event_loop(None)
        loop.close()
