"""What a worker asks of CUDA's driver: to open clients' memory, and to copy.

Everything is done in the primary context of the device, which the frameworks use too, and is
complete when a call returns. Addresses are numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Generator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Protocol

#: A cudaIpcMemHandle_t.
HANDLE_BYTES = 64


class CudaError(Exception):
    """Raised when CUDA refuses; the text is CUDA's own."""


class CudaDriver(Protocol):
    """The driver. All of its calls raise CudaError."""

    def open(self, handle: bytes, device: int) -> int:
        """The address, in this process, of an allocation of another one."""
        ...

    def close(self, address: int, device: int) -> None:
        """Let go of an allocation that was opened."""
        ...

    def size(self, address: int, device: int) -> int:
        """How many bytes the allocation at this address has."""
        ...

    def to_host(self, target: int, source: int, size: int, device: int) -> None:
        """Copy from the device to this process's memory."""
        ...

    def to_device(self, target: int, source: int, size: int, device: int) -> None:
        """Copy from this process's memory to the device."""
        ...

    def on_device(self, target: int, source: int, size: int, device: int) -> None:
        """Copy from one place of the device to another."""
        ...


class CudaPython:
    """The driver through cuda-python's `cuda.bindings.driver`."""

    def __init__(self, driver: Any) -> None:
        self._driver = driver
        #: The primary contexts that were asked for, by device; kept until the process ends.
        self._contexts: dict[int, Any] = {}
        self._call(driver.cuInit, 0)

    @classmethod
    def load(cls) -> CudaPython:
        """The machine's own. Raises CudaError when cuda-python or the driver is missing."""
        try:
            return cls(import_module("cuda.bindings.driver"))
        except ImportError as error:
            raise CudaError(
                f"the package cuda-python is missing ({error}): "
                "pip install 'tritonpy-supervisor[gpu]'"
            ) from None

    def open(self, handle: bytes, device: int) -> int:
        """The address, in this process, of an allocation of another one."""
        raw = self._driver.CUipcMemHandle()
        ctypes.memmove(raw.getPtr(), handle, HANDLE_BYTES)
        flags = self._driver.CUipcMem_flags.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS
        with self._on(device):
            return int(self._call(self._driver.cuIpcOpenMemHandle, raw, int(flags)))

    def close(self, address: int, device: int) -> None:
        """Let go of an allocation that was opened."""
        with self._on(device):
            self._call(self._driver.cuIpcCloseMemHandle, address)

    def size(self, address: int, device: int) -> int:
        """How many bytes the allocation at this address has."""
        with self._on(device):
            _, size = self._call(self._driver.cuMemGetAddressRange, address)
            return int(size)

    def to_host(self, target: int, source: int, size: int, device: int) -> None:
        """Copy from the device to this process's memory."""
        with self._on(device):
            self._call(self._driver.cuMemcpyDtoH, target, source, size)

    def to_device(self, target: int, source: int, size: int, device: int) -> None:
        """Copy from this process's memory to the device."""
        with self._on(device):
            self._call(self._driver.cuMemcpyHtoD, target, source, size)

    def on_device(self, target: int, source: int, size: int, device: int) -> None:
        """Copy from one place of the device to another."""
        with self._on(device):
            self._call(self._driver.cuMemcpyDtoD, target, source, size)
            # Unlike the others this copy may return before it is done.
            self._call(self._driver.cuCtxSynchronize)

    @contextmanager
    def _on(self, device: int) -> Generator[None]:
        driver = self._driver
        if device not in self._contexts:
            handle = self._call(driver.cuDeviceGet, device)
            self._contexts[device] = self._call(driver.cuDevicePrimaryCtxRetain, handle)
        self._call(driver.cuCtxPushCurrent, self._contexts[device])
        try:
            yield
        finally:
            driver.cuCtxPopCurrent()

    def _call(self, function: Any, *arguments: object) -> Any:
        """What a call returns behind its status: nothing, one thing, or several."""
        try:
            status, *results = function(*arguments)
        except Exception as error:  # cuda-python's own, of no common class: the driver is missing
            raise CudaError(str(error)) from None
        if int(status) != 0:
            raise CudaError(self._words(status))
        return results[0] if len(results) == 1 else results

    def _words(self, status: Any) -> str:
        found, text = self._driver.cuGetErrorString(status)
        if int(found) != 0 or not isinstance(text, bytes):
            return f"CUDA error {int(status)}"
        return text.decode()
