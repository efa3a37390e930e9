"""NVIDIA's management library, as far as it is asked here. It makes no context on a device.

Everything here blocks: the driver may take its time.
"""

from __future__ import annotations

import ctypes
import uuid
from collections.abc import Iterable
from typing import Protocol

import msgspec


class GpuState(msgspec.Struct, frozen=True, kw_only=True):
    """A GPU at one moment; None is what this GPU does not tell.

    `utilization` is from 0 to 1, power in watts, `energy_joules` since the driver was loaded.
    """

    utilization: float | None
    memory_total_bytes: int | None
    memory_used_bytes: int | None
    power_usage_watts: float | None
    power_limit_watts: float | None
    energy_joules: float | None


class GpuLibrary(Protocol):
    """Whoever can tell the state of GPUs."""

    def find(self, names: Iterable[str]) -> str | None:
        """The first of these unique names (`GPU-…`, `MIG-…`) that is known."""
        ...

    def state(self, name: str) -> GpuState | None:
        """How the GPU is now; None when it is there no more."""
        ...


class _Memory(ctypes.Structure):
    """nvmlMemory_t, in bytes."""

    _fields_ = (
        ("total", ctypes.c_ulonglong),
        ("free", ctypes.c_ulonglong),
        ("used", ctypes.c_ulonglong),
    )


class _Utilization(ctypes.Structure):
    """nvmlUtilization_t, in percent."""

    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class Nvml:
    """The library, initialized; `close` shuts it down."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._library = library

    def __repr__(self) -> str:
        return f"<Nvml {self._library!r}>"

    @classmethod
    def open(cls) -> Nvml | None:
        """The machine's own; None without a driver."""
        try:
            library = ctypes.CDLL("libnvidia-ml.so.1")
        except OSError:
            return None
        return cls(library) if library.nvmlInit_v2() == 0 else None

    def close(self) -> None:
        """Shut the library down."""
        self._library.nvmlShutdown()

    def find(self, names: Iterable[str]) -> str | None:
        """The first of these unique names that is known."""
        return next((name for name in names if self._device(name) is not None), None)

    def state(self, name: str) -> GpuState | None:
        """How the GPU of this unique name is now; None when it is there no more."""
        device = self._device(name)
        if device is None:
            return None
        library = self._library
        memory, use = _Memory(), _Utilization()
        has_memory = library.nvmlDeviceGetMemoryInfo(device, ctypes.byref(memory)) == 0
        has_use = library.nvmlDeviceGetUtilizationRates(device, ctypes.byref(use)) == 0
        limit = self._milli(library.nvmlDeviceGetEnforcedPowerLimit, device, ctypes.c_uint())
        energy = library.nvmlDeviceGetTotalEnergyConsumption
        return GpuState(
            utilization=int(use.gpu) / 100 if has_use else None,
            memory_total_bytes=int(memory.total) if has_memory else None,
            memory_used_bytes=int(memory.used) if has_memory else None,
            power_usage_watts=self._milli(library.nvmlDeviceGetPowerUsage, device, ctypes.c_uint()),
            power_limit_watts=limit,
            energy_joules=self._milli(energy, device, ctypes.c_ulonglong()),
        )

    def _device(self, name: str) -> ctypes.c_void_p | None:
        device = ctypes.c_void_p()
        found = self._library.nvmlDeviceGetHandleByUUID(name.encode(), ctypes.byref(device))
        return device if found == 0 else None

    @staticmethod
    def _milli(
        call: object, device: ctypes.c_void_p, value: ctypes.c_uint | ctypes.c_ulonglong
    ) -> float | None:
        """What a call says in thousandths; None when it is not supported."""
        assert callable(call)
        return value.value / 1000 if call(device, ctypes.byref(value)) == 0 else None


def state_of(names: Iterable[str]) -> GpuState | None:
    """How the GPU of one of these names is now; None when nobody can tell."""
    nvml = Nvml.open()
    if nvml is None:
        return None
    try:
        name = nvml.find(names)
        return None if name is None else nvml.state(name)
    finally:
        nvml.close()


def names_of(gpu: int) -> list[str]:
    """What the library may call the GPU that CUDA counts so in this process, none without a driver.

    The two do not count in the same order, and only CUDA heeds CUDA_VISIBLE_DEVICES.
    """
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    device = ctypes.c_int()
    raw = (ctypes.c_ubyte * 16)()
    known = driver.cuInit(0) == 0 and driver.cuDeviceGet(ctypes.byref(device), gpu) == 0
    if not known or driver.cuDeviceGetUuid_v2(raw, device) != 0:
        return []
    text = str(uuid.UUID(bytes=bytes(raw)))
    return [f"GPU-{text}", f"MIG-{text}"]
