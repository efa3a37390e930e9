"""How full the GPUs are, and how full they may be for another model to be loaded.

NVML answers without a context on the device: the supervisor itself opens none.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable

from ...ipc.errors import UnavailableError
from ...ipc.nvml import names_of, state_of
from .devices import visible_devices


class GpuLimits:
    """The limits of --model-load-gpu-limit, each `<gpu>:<fraction>`; a GPU without one has none."""

    def __init__(
        self, limits: Iterable[str], used: Callable[[int], float | None] | None = None
    ) -> None:
        self._limits: dict[int, float] = {}
        for limit in limits:
            gpu, _, fraction = limit.partition(":")
            self._limits[int(gpu)] = float(fraction)
        self._used = used or used_fraction

    def __repr__(self) -> str:
        return f"<GpuLimits {self._limits}>"

    def check(self, instance: str, gpu: int | None) -> None:
        """Refuse an instance on a GPU that is fuller than its limit. Blocking.

        `gpu` is None for an instance that is on none. A GPU that cannot be asked has no limit.
        Raises UnavailableError.
        """
        limit = self._limits.get(gpu) if gpu is not None else None
        if gpu is None or limit is None:
            return
        used = self._used(gpu)
        if used is not None and used > limit:
            raise UnavailableError(
                f"can not create model '{instance}': memory limit set for GPU {gpu} has exceeded, "
                f"model loading is rejected."
            )


def used_fraction(gpu: int) -> float | None:
    """The part of a GPU's memory that is in use, 0 to 1; None when nobody can tell. Blocking.

    `gpu` counts as CUDA does for this process.
    """
    state = state_of(unique_names(gpu))
    if state is None or not state.memory_total_bytes or state.memory_used_bytes is None:
        return None
    return state.memory_used_bytes / state.memory_total_bytes


def unique_names(gpu: int) -> list[str]:
    """What NVML may call a GPU of ours."""
    visible = visible_devices(gpu, os.environ)
    names = [visible] if visible.startswith(("GPU-", "MIG-")) else []
    return names + names_of(gpu)
