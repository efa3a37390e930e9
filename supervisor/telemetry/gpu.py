"""The gauges of the GPUs: read by a thread of their own, since the driver may take its time."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ...ipc.nvml import GpuLibrary, GpuState
from .exposition import header, sample

log = logging.getLogger(__name__)

#: Asking more often than this would only keep the driver busy.
_LEAST_INTERVAL_MS = 100


@dataclass(frozen=True, slots=True)
class _Gauge:
    name: str
    help: str
    value: Callable[[GpuState], int | float | None]
    type: str = "gauge"


_GAUGES = (
    _Gauge("nv_gpu_utilization", "Use of the GPU, 0 to 1", lambda s: s.utilization),
    _Gauge(
        "nv_gpu_memory_total_bytes", "Memory of the GPU in bytes", lambda s: s.memory_total_bytes
    ),
    _Gauge(
        "nv_gpu_memory_used_bytes",
        "Memory of the GPU in use, in bytes",
        lambda s: s.memory_used_bytes,
    ),
    _Gauge("nv_gpu_power_usage", "Watts that the GPU takes", lambda s: s.power_usage_watts),
    _Gauge("nv_gpu_power_limit", "Watts that the GPU may take", lambda s: s.power_limit_watts),
    _Gauge(
        "nv_energy_consumption",
        "Joules that the GPU has taken since the server started",
        lambda s: s.energy_joules,
        "counter",
    ),
)


class Gpus:
    """What the GPUs of this server said last.

    `names` has for each GPU the unique names under which the library may know it.
    """

    def __init__(
        self,
        library: GpuLibrary,
        names: Sequence[Sequence[str]],
        interval_ms: int,
    ) -> None:
        self._library = library
        self._names = names
        self._interval_secs = max(interval_ms, _LEAST_INTERVAL_MS) / 1000
        self._states: dict[str, GpuState] = {}
        #: The energy that each had taken when it was first asked.
        self._taken_before: dict[str, float] = {}
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"<Gpus {list(self._states)}>"

    def start(self) -> None:
        """Begin to ask, again and again."""
        self._thread = threading.Thread(target=self._run, name="gpu metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask no more. A call that the driver does not answer is not waited for."""
        self._stopping.set()

    def poll(self) -> None:
        """Ask all GPUs once. Blocking."""
        states: dict[str, GpuState] = {}
        for names in self._names:
            name = self._library.find(names)
            state = None if name is None else self._library.state(name)
            if name is not None and state is not None:
                states[name] = state
                if state.energy_joules is not None:
                    self._taken_before.setdefault(name, state.energy_joules)
        self._states = states

    def families(self) -> Iterator[str]:
        """The lines of all families that some GPU has a number for."""
        states = self._states
        for gauge in _GAUGES:
            lines: list[str] = []
            for name, state in states.items():
                value = gauge.value(state)
                if value is None:
                    continue
                if gauge.type == "counter":
                    value -= self._taken_before[name]
                lines.append(sample(gauge.name, (("gpu_uuid", name),), value))
            if lines:
                yield from header(gauge.name, gauge.type, gauge.help)
                yield from lines

    def _run(self) -> None:
        while True:
            try:
                self.poll()
            except Exception:  # gauges are no reason to end anything: the last ones stay
                log.exception("the GPUs cannot be read; their metrics are not renewed any more")
                return
            if self._stopping.wait(self._interval_secs):
                return
