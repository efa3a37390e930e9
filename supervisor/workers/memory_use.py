"""How much memory worker processes take, and how much there is left. All of it blocks."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

#: What the kernel would give back of a cgroup's memory without anybody noticing.
_RECLAIMABLE = "inactive_file "


def used_bytes(pids: Iterable[int], proc: Path = Path("/proc")) -> int:
    """The memory of processes; what several share is divided among them. 0 for one that is gone.

    A process that may not be looked at closely counts with all that it maps, shared or not.
    """
    return sum(_proportional(proc / str(pid)) for pid in pids)


def family_bytes(pid: int, proc: Path = Path("/proc")) -> int:
    """The memory that a process and all that descend from it have for themselves: what they share,
    with each other or with files, is left out. 0 for one that is gone.
    """
    process = proc / str(pid)
    children: set[int] = set()
    try:
        resident, shared = map(int, (process / "statm").read_text().split()[1:3])
        for thread in (process / "task").iterdir():
            children.update(map(int, (thread / "children").read_text().split()))
    except (OSError, ValueError):  # it has ended, or one of its threads
        resident = shared = 0
    pages = max(resident - shared, 0)
    return pages * os.sysconf("SC_PAGE_SIZE") + sum(family_bytes(each, proc) for each in children)


def free_bytes(proc: Path = Path("/proc"), cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """The memory that can still be had: of the machine, or of this process's cgroup (v2)."""
    machine = _field(proc / "meminfo", "MemAvailable:") * 1024
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
        path = next(line[3:] for line in lines if line.startswith("0::"))
        group = cgroups / path.lstrip("/")
        limit = int((group / "memory.max").read_text())  # "max" is no number: no limit
        used = int((group / "memory.current").read_text())
    except (OSError, StopIteration, ValueError):
        return machine
    return min(machine, max(limit - used + _field(group / "memory.stat", _RECLAIMABLE), 0))


def _proportional(process: Path) -> int:
    try:
        return _field(process / "smaps_rollup", "Pss:") * 1024
    except OSError:
        pass
    try:
        pages = int((process / "statm").read_text().split()[1])
    except (OSError, ValueError, IndexError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")


def _field(file: Path, name: str) -> int:
    """The number behind a name at the beginning of a line; 0 without one."""
    for line in file.read_text().splitlines():
        if line.startswith(name):
            return int(line[len(name) :].split()[0])
    return 0
