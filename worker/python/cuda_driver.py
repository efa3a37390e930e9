"""The one thing that is asked of a GPU here: copy an output to host memory.

The driver's library is called directly: the model has it in its process already, or there would be
no tensor on a GPU.
"""

from __future__ import annotations

import ctypes
import functools

import numpy as np

from ...ipc.dtypes import numpy_dtype
from ..backend import Array
from .dlpack import Memory
from .errors import TritonModelException


def copied_to_host(memory: Memory) -> Array:
    """A copy of a tensor on a GPU, in host memory.

    The copy is ordered after the work that was issued on the device's default stream. Raises
    TritonModelException when the driver refuses.
    """
    array: Array = np.empty(memory.shape, numpy_dtype(memory.datatype))
    if array.nbytes:
        _copy(array.ctypes.data, memory.address, memory.byte_size, memory.device[1])
    return array


def _copy(target: int, source: int, size: int, device: int) -> None:
    driver = _driver()
    handle, context = ctypes.c_int(), ctypes.c_void_p()
    _check("cuDeviceGet", driver.cuDeviceGet(ctypes.byref(handle), device))
    retained = driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), handle)
    _check("cuDevicePrimaryCtxRetain", retained)
    try:
        _check("cuCtxPushCurrent", driver.cuCtxPushCurrent_v2(context))
        try:
            copied = driver.cuMemcpyDtoH_v2(
                ctypes.c_void_p(target), ctypes.c_uint64(source), ctypes.c_size_t(size)
            )
            _check("cuMemcpyDtoH", copied)
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    finally:
        driver.cuDevicePrimaryCtxRelease_v2(handle)


@functools.cache
def _driver() -> ctypes.CDLL:
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise TritonModelException(
            f"A tensor on a GPU cannot be sent: the CUDA driver is missing ({error})."
        ) from None
    _check("cuInit", driver.cuInit(0))
    return driver


def _check(call: str, status: int) -> None:
    if status != 0:
        raise TritonModelException(
            f"Failed to copy the output tensor to buffer: {call} returned CUDA error {status}."
        )
