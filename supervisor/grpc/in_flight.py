"""The calls that a server answers, and how it stops taking more."""

from __future__ import annotations

import asyncio
import logging
from enum import Enum
from typing import Protocol

_log = logging.getLogger(__name__)


class State(Enum):
    """Whether calls are taken."""

    NEW = "not started"
    SERVING = "calls are taken"
    DRAINING = "new calls are refused, those in flight are finished"
    STOPPED = "the port is closed"


class Drainable(Protocol):
    """A call that has no end of its own."""

    def drain(self) -> None:
        """Take no more requests, and end when those that were taken are answered."""
        ...


class InFlight:
    """Counts the calls of a server, streams among them."""

    def __init__(self) -> None:
        self.state = State.NEW
        self._count = 0
        self._streams: set[Drainable] = set()
        self._idle = asyncio.Event()

    def __repr__(self) -> str:
        return f"{self.state.name} in_flight={self._count} streams={len(self._streams)}"

    @property
    def is_serving(self) -> bool:
        """Whether new calls are taken."""
        return self.state is State.SERVING

    def enter(self, stream: Drainable | None = None) -> None:
        """A call begins."""
        self._count += 1
        if stream is not None:
            self._streams.add(stream)

    def leave(self, stream: Drainable | None = None) -> None:
        """It has ended."""
        self._count -= 1
        if stream is not None:
            self._streams.discard(stream)
        if not self._count:
            self._idle.set()

    def refuse(self) -> None:
        """Take no new calls from now on."""
        if self.state is State.SERVING:
            self.state = State.DRAINING

    async def drain(self, grace: float) -> bool:
        """Take no new calls, and wait until those in flight have ended; False when some have not
        within `grace` seconds.
        """
        self.refuse()
        for stream in tuple(self._streams):
            stream.drain()
        if not self._count:
            return True
        self._idle.clear()
        try:
            async with asyncio.timeout(grace):
                await self._idle.wait()
        except TimeoutError:
            _log.warning("%d gRPC calls are cut off: they did not end in time", self._count)
            return False
        return True
