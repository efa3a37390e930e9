"""The gauges of the machine: how busy its processors are, and how full its memory."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec


class HostReading(msgspec.Struct, frozen=True, kw_only=True):
    """The machine at one moment; `cpu_utilization` is from 0 to 1, since the reading before."""

    cpu_utilization: float
    memory_total_bytes: int
    memory_used_bytes: int


class Host:
    """Reads the machine's gauges from /proc, at most once in `interval_ms`.

    The first reading has no earlier one to compare with and reports idle processors.
    """

    def __init__(
        self,
        interval_ms: int,
        proc: Path = Path("/proc"),
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._interval_ns = interval_ms * 1_000_000
        self._proc = proc
        self._clock = clock
        self._read_ns = 0
        self._busy = self._total = 0
        self._reading: HostReading | None = None

    def __repr__(self) -> str:
        return f"<Host {self._reading}>"

    def read(self) -> HostReading:
        """The newest reading, or one no older than the interval."""
        now = self._clock()
        last = self._reading
        if last is not None and now - self._read_ns < self._interval_ns:
            return last
        busy, total = self._cpu_ticks()
        passed = total - self._total
        utilization = 0.0 if last is None or passed <= 0 else (busy - self._busy) / passed
        memory = self._memory_bytes()
        self._busy, self._total, self._read_ns = busy, total, now
        self._reading = HostReading(
            cpu_utilization=min(max(utilization, 0.0), 1.0),
            memory_total_bytes=memory["MemTotal"],
            memory_used_bytes=memory["MemTotal"] - memory["MemAvailable"],
        )
        return self._reading

    def _cpu_ticks(self) -> tuple[int, int]:
        """Busy and all ticks of all processors since boot."""
        with (self._proc / "stat").open() as stat:
            # user nice system idle iowait irq softirq steal; guest time is within user's already
            ticks = [int(word) for word in stat.readline().split()[1:9]]
        idle = ticks[3] + ticks[4]
        return sum(ticks) - idle, sum(ticks)

    def _memory_bytes(self) -> dict[str, int]:
        found: dict[str, int] = {}
        with (self._proc / "meminfo").open() as lines:
            for line in lines:
                name, _, rest = line.partition(":")
                if name in ("MemTotal", "MemAvailable"):
                    found[name] = int(rest.split()[0]) * 1024
        return found
