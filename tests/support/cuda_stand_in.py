"""Stands in for `cuda.bindings.driver` where there is no GPU: memory of a GPU is a file.

A machine with two GPUs. An allocation is a file in the folder that TRITONPY_TEST_GPU_MEMORY names,
its handle the name of the file, which begins with the number of the GPU. Only what tritonpy calls
is here, and it refuses what CUDA would refuse: handles of other GPUs, addresses that it never gave.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from enum import IntEnum

MEMORY_VARIABLE = "TRITONPY_TEST_GPU_MEMORY"
GPUS = 2


class CUresult(IntEnum):
    """The statuses that are given here, by CUDA's numbers."""

    CUDA_SUCCESS = 0
    CUDA_ERROR_INVALID_VALUE = 1
    CUDA_ERROR_INVALID_DEVICE = 101
    CUDA_ERROR_INVALID_CONTEXT = 201
    CUDA_ERROR_INVALID_HANDLE = 400


class CUipcMem_flags(IntEnum):
    """The one flag there is."""

    CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS = 1


class CUipcMemHandle:
    """64 bytes, to be filled in through their address."""

    def __init__(self) -> None:
        self.raw = (ctypes.c_ubyte * 64)()

    def getPtr(self) -> int:
        return ctypes.addressof(self.raw)


_OK = CUresult.CUDA_SUCCESS
_visible: list[int] = []
_current: list[int] = []
#: What is open, by its address.
opened: dict[int, tuple[mmap.mmap, int]] = {}
calls: list[str] = []


def cuInit(flags: int) -> tuple[CUresult]:
    # The variable is read once, as CUDA does.
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    every = range(GPUS) if named is None else [int(n) for n in named.split(",") if n]
    _visible[:] = [number for number in every if number < GPUS]
    return (_OK,)


def cuDeviceGet(ordinal: int) -> tuple[CUresult, int]:
    if ordinal >= len(_visible):
        return CUresult.CUDA_ERROR_INVALID_DEVICE, 0
    return _OK, ordinal


def cuDevicePrimaryCtxRetain(device: int) -> tuple[CUresult, int]:
    return _OK, _visible[device]


def cuCtxPushCurrent(context: int) -> tuple[CUresult]:
    _current.append(context)
    return (_OK,)


def cuCtxPopCurrent() -> tuple[CUresult, int]:
    return _OK, _current.pop()


def cuCtxSynchronize() -> tuple[CUresult]:
    calls.append("cuCtxSynchronize")
    return (_OK,)


def cuIpcOpenMemHandle(handle: CUipcMemHandle, flags: int) -> tuple[CUresult, int]:
    name = bytes(handle.raw).rstrip(b"\0").decode(errors="replace")
    path = os.path.join(os.environ[MEMORY_VARIABLE], name)
    if not name or not os.path.isfile(path):
        return CUresult.CUDA_ERROR_INVALID_VALUE, 0
    if not _current or not name.startswith(f"{_current[-1]}-"):
        return CUresult.CUDA_ERROR_INVALID_CONTEXT, 0
    with open(path, "r+b") as file:
        mapped = mmap.mmap(file.fileno(), 0)
    address = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    opened[address] = mapped, len(mapped)
    return _OK, address


def cuIpcCloseMemHandle(address: int) -> tuple[CUresult]:
    if opened.pop(address, None) is None:
        return (CUresult.CUDA_ERROR_INVALID_VALUE,)
    return (_OK,)


def cuMemGetAddressRange(address: int) -> tuple[CUresult, int, int]:
    return _OK, address, opened[address][1]


def cuMemcpyDtoH(target: int, source: int, size: int) -> tuple[CUresult]:
    return _copy("cuMemcpyDtoH", target, source, size, source)


def cuMemcpyHtoD(target: int, source: int, size: int) -> tuple[CUresult]:
    return _copy("cuMemcpyHtoD", target, source, size, target)


def cuMemcpyDtoD(target: int, source: int, size: int) -> tuple[CUresult]:
    return _copy("cuMemcpyDtoD", target, source, size, target, source)


def cuGetErrorString(status: CUresult) -> tuple[CUresult, bytes]:
    return _OK, status.name.removeprefix("CUDA_ERROR_").lower().replace("_", " ").encode()


def _copy(call: str, target: int, source: int, size: int, *on_gpu: int) -> tuple[CUresult]:
    calls.append(call)
    for address in on_gpu:
        if not any(at <= address and address + size <= at + n for at, (_, n) in opened.items()):
            return (CUresult.CUDA_ERROR_INVALID_VALUE,)
    ctypes.memmove(target, source, size)
    return (_OK,)
