"""Looks after one worker: whether it keeps to the limits of its model, and why not.

Who finds a limit exceeded is told once, and kills the worker.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Sequence

from ..config.worker_limits import EXECUTION_SECS, LOAD_SECS, MEMORY_BYTES, WorkerLimits
from ..scheduling.scheduler import Work
from .execution_times import ExecutionTimes
from .memory_use import family_bytes

#: What looks overdue is looked at again so much later: the answer may have come while the
#: supervisor itself was kept from running (seconds).
_SECOND_LOOK_SECS = 0.1

#: How often the memory of a worker that has a limit is looked at (seconds).
_MEMORY_LOOK_SECS = 0.25

_MIB = 1 << 20


class Oversight:
    """The limits of one worker, from its start to its end."""

    def __init__(self, limits: WorkerLimits, pid: int, on_breach: Callable[[str], None]) -> None:
        self._limits = limits
        self._pid = pid
        self._on_breach = on_breach
        self._times = ExecutionTimes(round(limits.execution_secs * 1e9))
        self._suspected = False
        self._load_timer: asyncio.TimerHandle | None = None
        self._execution_timer: asyncio.TimerHandle | None = None
        self._memory_timer: asyncio.TimerHandle | None = None
        self._ended = False

    def __repr__(self) -> str:
        return f"<Oversight of process {self._pid} by {self._limits}: {self._times!r}>"

    def start(self) -> None:
        """Begin to look: the worker is about to load its model."""
        load_secs = self._limits.load_secs
        if load_secs:
            reason = f"it has not loaded its model within the {load_secs:g} seconds of {LOAD_SECS}"
            loop = asyncio.get_running_loop()
            self._load_timer = loop.call_later(load_secs, self._breach, reason)
        if self._limits.memory_bytes:
            self._look_at_memory_later()

    def loaded(self) -> None:
        """The model is loaded, and has answered its warm-up."""
        if self._load_timer is not None:
            self._load_timer.cancel()

    def stop(self) -> None:
        """The worker has ended, or is about to."""
        self._ended = True
        for timer in (self._load_timer, self._execution_timer, self._memory_timer):
            if timer is not None:
                timer.cancel()

    # --- what the worker has to do ----------------------------------------------------------------

    def begin(self, number: int, batch: Sequence[Work]) -> None:
        """The worker begins a batch, or has begun it already."""
        if self._limits.execution_secs:
            self._times.begin(number, [work.key for work in batch], time.monotonic_ns())
            if self._execution_timer is None and not self._ended:
                self._look_at_times_later()

    def executed(self, number: int, rescheduled: Iterable[int]) -> None:
        """The worker has executed a batch; these of its requests come again."""
        for key in rescheduled:
            self._times.ended(key)
        self._times.executed(number, time.monotonic_ns())

    def taken_back(self, number: int, batch: Sequence[Work]) -> None:
        """A batch that was sent ahead is not at the worker any more."""
        self.executed(number, [work.key for work in batch])

    def responded(self, key: int, final: bool) -> None:
        """The model has sent a response."""
        if final:
            self._times.ended(key)
        else:
            self._times.heard(key, time.monotonic_ns())

    # --- looking ----------------------------------------------------------------------------------

    def _look_at_times_later(self) -> None:
        end_ns = self._times.next_end_ns
        self._execution_timer = None
        if end_ns is not None:
            delay = max(0.0, (end_ns - time.monotonic_ns()) / 1e9)
            loop = asyncio.get_running_loop()
            self._execution_timer = loop.call_later(delay, self._look_at_times)

    def _look_at_times(self) -> None:
        end_ns = self._times.next_end_ns
        if end_ns is None or end_ns > time.monotonic_ns():
            self._suspected = False
            self._look_at_times_later()
        elif self._suspected:
            self._breach(
                f"a request has taken longer than the {self._limits.execution_secs:g} seconds of "
                f"{EXECUTION_SECS}"
            )
        else:
            self._suspected = True
            loop = asyncio.get_running_loop()
            self._execution_timer = loop.call_later(_SECOND_LOOK_SECS, self._look_at_times)

    def _look_at_memory_later(self) -> None:
        loop = asyncio.get_running_loop()
        self._memory_timer = loop.call_later(_MEMORY_LOOK_SECS, self._look_at_memory)

    def _look_at_memory(self) -> None:
        loop = asyncio.get_running_loop()
        loop.run_in_executor(None, family_bytes, self._pid).add_done_callback(self._compare)

    def _compare(self, taken: asyncio.Future[int]) -> None:
        if self._ended:
            return
        if taken.result() > self._limits.memory_bytes:
            self._breach(
                f"it has taken {taken.result() // _MIB} MiB of memory, more than the "
                f"{self._limits.memory_bytes // _MIB} MiB of {MEMORY_BYTES}"
            )
        else:
            self._look_at_memory_later()

    def _breach(self, reason: str) -> None:
        self.stop()
        self._on_breach(reason)
