"""Clients' memory on GPUs in a worker: handles that are opened once, and kept until unregistered.

A worker that was started for one GPU sees only that one, as number 0. One that was started to see
none may look at all of the server's, as long as nothing in it has asked CUDA before: the driver
reads CUDA_VISIBLE_DEVICES once.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, MutableMapping
from typing import cast

import numpy as np

from ..ipc.dtypes import DataType
from ..ipc.errors import InternalError, InvalidArgumentError, StatusError
from ..ipc.messages import AttachCudaRegion
from ..ipc.tensor import CudaRegion
from .backend import Array
from .cuda import CudaDriver, CudaError, CudaPython
from .device_tensor import DeviceTensor

log = logging.getLogger("tritonpy.worker")

_VISIBLE = "CUDA_VISIBLE_DEVICES"


def ordinal(message: AttachCudaRegion, environment: MutableMapping[str, str]) -> int:
    """The number that the region's GPU has in this worker, which is let see it if it sees none.

    Raises InvalidArgumentError in a worker that is pinned to other GPUs.
    """
    ours = environment.get(_VISIBLE)
    if ours is None:
        return message.device
    if not ours:
        if message.visible:
            environment[_VISIBLE] = message.visible
        else:
            del environment[_VISIBLE]
        return message.device
    entries = [entry.strip() for entry in ours.split(",")]
    if message.entry in entries:
        return entries.index(message.entry)
    raise InvalidArgumentError(
        f"shared memory region '{message.name}' lies on GPU {message.device}, and this model "
        f"instance sees GPU {ours} only: place the region and the instance on the same GPU"
    )


class OpenRegion:
    """The memory of one region, opened in this process."""

    def __init__(
        self, name: str, driver: CudaDriver, address: int, device: int, byte_size: int
    ) -> None:
        self._name = name
        self._driver = driver
        self._address = address
        self._device = device
        self._byte_size = byte_size

    def __repr__(self) -> str:
        return f"<OpenRegion '{self._name}' on GPU {self._device}>"

    def tensor(self, place: CudaRegion, datatype: DataType, shape: tuple[int, ...]) -> DeviceTensor:
        """The client's own bytes, where they are."""
        address = self._address + place.offset
        return DeviceTensor(address, self._device, datatype, shape, self)

    def read(self, place: CudaRegion) -> bytearray:
        """A copy of the client's bytes in host memory. Raises InternalError."""
        data = bytearray(place.size)
        if data:
            target = np.frombuffer(data, np.uint8).ctypes.data
            source = self._address + place.offset
            self._copied(self._driver.to_host, target, source, place.size)
        return data

    def array_of(self, tensor: DeviceTensor) -> Array:
        """A copy in host memory of a tensor that lies in the region. Raises InternalError."""
        array: Array = np.empty(tensor.shape, tensor.dtype)
        if array.nbytes:
            target = array.ctypes.data
            self._copied(self._driver.to_host, target, tensor.address, array.nbytes)
        return array

    def write(self, place: CudaRegion, data: memoryview) -> None:
        """Copy bytes to the beginning of a place that is large enough. Raises InternalError."""
        if len(data):
            source = np.frombuffer(data, np.uint8).ctypes.data
            target = self._address + place.offset
            self._copied(self._driver.to_device, target, source, len(data))

    def write_from(self, place: CudaRegion, tensor: DeviceTensor) -> None:
        """Copy a tensor of the same GPU to the beginning of a place. Raises InternalError."""
        if tensor.nbytes:
            target = self._address + place.offset
            self._copied(self._driver.on_device, target, tensor.address, tensor.nbytes)

    def close(self) -> None:
        """Let go of the memory."""
        try:
            self._driver.close(self._address, self._device)
        except CudaError as error:
            log.warning("CUDA shared memory region '%s' cannot be closed: %s", self._name, error)

    def _copied(
        self, copy: Callable[[int, int, int, int], None], target: int, source: int, size: int
    ) -> None:
        try:
            copy(target, source, size, self._device)
        except CudaError as error:
            raise InternalError(
                f"{size} bytes of CUDA shared memory region '{self._name}' cannot be copied: "
                f"{error}"
            ) from None


def on_host(inputs: dict[str, Array]) -> dict[str, Array]:
    """The inputs with those in clients' regions of a GPU copied to host memory; itself when none
    lies there. Raises InternalError.
    """
    found: dict[str, Array] = {}
    for name, array in inputs.items():
        tensor: object = array
        if isinstance(tensor, DeviceTensor) and isinstance(tensor.owner, OpenRegion):
            found[name] = tensor.owner.array_of(tensor)
    return {**inputs, **found} if found else inputs


class CudaRegions:
    """The regions that this worker was told of, by their numbers: open, or why they are not."""

    def __init__(self, load: Callable[[], CudaDriver] = CudaPython.load) -> None:
        self._load = load
        self._driver: CudaDriver | None = None
        self._regions: dict[int, OpenRegion | StatusError] = {}

    def __repr__(self) -> str:
        return f"<CudaRegions: {list(self._regions.values())}>"

    def __getitem__(self, place: CudaRegion) -> OpenRegion:
        """The region of a place. Raises the StatusError that it could not be opened with."""
        found = self._regions.get(place.region)
        if found is None:
            raise InternalError(
                f"CUDA shared memory region {place.region} did not get to this worker"
            )
        if isinstance(found, StatusError):
            raise type(found)(found.message)
        return found

    def attach(self, message: AttachCudaRegion) -> StatusError | None:
        """Open a region; returns why it cannot be, which requests that name it are told too."""
        try:
            self._regions[message.number] = self._open(message)
        except StatusError as error:
            self._regions[message.number] = error
            return error
        return None

    def detach(self, number: int) -> None:
        """Let go of a region; of one that is not here there is nothing to let go."""
        region = self._regions.pop(number, None)
        if isinstance(region, OpenRegion):
            region.close()

    def _open(self, message: AttachCudaRegion) -> OpenRegion:
        failed = f"failed to register CUDA shared memory region '{message.name}'"
        device = ordinal(message, cast("MutableMapping[str, str]", os.environ))
        try:
            if self._driver is None:
                self._driver = self._load()
            driver = self._driver
            address = driver.open(message.handle, device)
        except CudaError as error:
            raise InvalidArgumentError(
                f"{failed}: failed to open CUDA IPC handle: {error}"
            ) from None
        region = OpenRegion(message.name, driver, address, device, message.byte_size)
        try:
            size = driver.size(address, device)
        except CudaError as error:
            region.close()
            raise InvalidArgumentError(f"{failed}: {error}") from None
        if size < message.byte_size:
            region.close()
            raise InvalidArgumentError(f"{failed}: invalid args")
        return region
