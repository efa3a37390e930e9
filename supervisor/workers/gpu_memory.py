"""How full the GPUs are, and how full they may be for another model to be loaded.

NVML answers without a context on the device: the supervisor itself opens none.
"""

from __future__ import annotations

import ctypes
import os
import uuid
from collections.abc import Callable, Iterable

from ...ipc.errors import UnavailableError
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


class _Memory(ctypes.Structure):
    """NVML's nvmlMemory_t, in bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


def used_fraction(gpu: int) -> float | None:
    """The part of a GPU's memory that is in use, 0 to 1; None when nobody can tell. Blocking.

    `gpu` counts as CUDA does for this process.
    """
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return None
    if nvml.nvmlInit_v2() != 0:
        return None
    try:
        device = ctypes.c_void_p()
        memory = _Memory()
        if not any(
            nvml.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(device)) == 0
            for name in _names(gpu)
        ):
            return None
        if nvml.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) != 0 or not memory.total:
            return None
        return float(memory.used / memory.total)
    finally:
        nvml.nvmlShutdown()


def _names(gpu: int) -> list[str]:
    """What NVML may call a GPU that CUDA counts: the two do not count in the same order."""
    visible = visible_devices(gpu, os.environ)
    names = [visible] if visible.startswith(("GPU-", "MIG-")) else []
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return names
    device = ctypes.c_int()
    raw = (ctypes.c_ubyte * 16)()
    known = driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), gpu) == 0
    if known and driver.cuDeviceGetUuid_v2(raw, device) == 0:
        text = str(uuid.UUID(bytes=bytes(raw)))
        names += [f"GPU-{text}", f"MIG-{text}"]
    return names
