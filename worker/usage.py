"""How much memory a worker takes: read before and after its model is loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from ..ipc.messages import Instance, MemoryUsage
from ..ipc.nvml import names_of, state_of

#: What is taken, by type and device.
Taken = Mapping[tuple[str, int], int]


def taken(
    instance: Instance,
    status: Path = Path("/proc/self/status"),
    used: Callable[[int], int | None] | None = None,
) -> Taken:
    """The memory that this process takes, and all processes take on its GPU, in bytes.

    Memory that is shared with others by the system (arenas, clients' regions) is not counted.
    """
    found = {("CPU", 0): _resident(status)}
    if instance.kind == "GPU":
        on_gpu = (used or used_on_gpu)(instance.device)
        if on_gpu is not None:
            found["GPU", instance.device] = on_gpu
    return found


def growth(before: Taken, after: Taken) -> list[MemoryUsage]:
    """What has been taken since."""
    return [
        MemoryUsage(kind, device, size - before[kind, device])
        for (kind, device), size in after.items()
        if size > before.get((kind, device), size)
    ]


def _resident(status: Path) -> int:
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return sum(int(fields[name].split()[0]) * 1024 for name in ("RssAnon", "RssFile"))


def used_on_gpu(device: int) -> int | None:
    """The bytes that all processes take on a GPU, as CUDA counts it here; None where nobody can
    tell.
    """
    state = state_of(names_of(device))
    return None if state is None else state.memory_used_bytes
