"""Which GPUs there are, and which cores an instance should use.

The supervisor opens no device: it asks the driver for the number of GPUs, which makes no context
and takes no memory, and leaves everything else to the workers.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Mapping
from functools import cache
from importlib import metadata

from ...ipc.messages import AttachCudaRegion
from ..request import CudaHandle


@cache
def gpus() -> tuple[int, ...]:
    """The numbers of the GPUs that this process may use; none when there is no driver.

    TRITON_SERVER_CPU_ONLY, set to anything but 0, hides them all, as in Triton.
    """
    if os.environ.get("TRITON_SERVER_CPU_ONLY", "0") not in ("", "0"):
        return ()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ()
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return ()
    return tuple(range(count.value))


#: The distributions that bring a backend's framework in a form that can use GPUs.
_GPU_DISTRIBUTIONS = {"onnxruntime": ("onnxruntime-gpu",), "pytorch": ("torch",)}

#: Backends that run on the CPU alone.
_CPU_BACKENDS = frozenset({"identity", "repeat", "square"})


@cache
def usable_gpus(backend: str) -> tuple[int, ...]:
    """The GPUs that a backend can use as it is installed here: none with a CPU-only framework."""
    if not gpus() or backend in _CPU_BACKENDS:
        return ()
    wanted = _GPU_DISTRIBUTIONS.get(backend)
    if wanted is None:
        return gpus()
    return gpus() if any(_has_gpu_build(name) for name in wanted) else ()


def _has_gpu_build(distribution: str) -> bool:
    """Whether a distribution is installed, and not as a build for the CPU."""
    try:
        return not metadata.version(distribution).endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def visible_devices(gpu: int | None, environment: Mapping[str, str]) -> str:
    """The value of CUDA_VISIBLE_DEVICES for a worker that may use one GPU, or none.

    Our own CUDA_VISIBLE_DEVICES decides what our numbers mean, so the worker gets the entry at our
    number, which may be the name of a MIG device.
    """
    if gpu is None:
        return ""
    ours = [entry.strip() for entry in environment.get("CUDA_VISIBLE_DEVICES", "").split(",")]
    ours = [entry for entry in ours if entry]
    return ours[gpu] if gpu < len(ours) else str(gpu)


def attachment(
    number: int, name: str, handle: CudaHandle, environment: Mapping[str, str]
) -> AttachCudaRegion:
    """What a worker is told of a client's memory on a GPU."""
    return AttachCudaRegion(
        number,
        name,
        handle.raw,
        handle.device,
        visible_devices(handle.device, environment),
        environment.get("CUDA_VISIBLE_DEVICES", ""),
        handle.byte_size,
    )


def cores() -> int:
    """How many cores this process may run on."""
    return len(os.sched_getaffinity(0))


class CpuShares:
    """How many threads each CPU instance should use, so that all together use each core once.

    The libraries' own default is every core for every instance, which makes two models slower than
    one. An instance keeps the share that it was started with.
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._instances = 0

    def __repr__(self) -> str:
        return f"<CpuShares of {self._cores} cores for {self._instances} instances>"

    def join(self, instances: int) -> int:
        """So many CPU instances are about to start: the threads that each should use."""
        self._instances += instances
        return max(1, self._cores // max(1, self._instances))

    def leave(self, instances: int) -> None:
        """So many CPU instances are gone."""
        self._instances -= instances
