"""Shared memory that clients have registered: who may name which bytes of it until when.

Handles only. The supervisor opens a segment when it is registered, and hands the descriptor to the
workers that need it, so that no name is looked up twice. It never maps a segment: its client may
shrink it at any time, and that would end the reader. Memory of a GPU is opened by workers alone.

A region that is unregistered cannot be named any more, and lives on until the last request that
named it has ended. Everything here runs on the event loop.
"""

from __future__ import annotations

import itertools
import logging
import os
import weakref
from abc import ABC, abstractmethod
from typing import NamedTuple, Protocol

from ...ipc import shm
from ...ipc.errors import (
    AlreadyExistsError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
)
from ...ipc.tensor import ClientPlace, CudaRegion, Region
from ..request import HANDLE_BYTES, CudaHandle, RegionReader

log = logging.getLogger(__name__)

#: Descriptors travel to workers under numbers; those of arenas stay below.
_numbers = itertools.count(1 << 32)


class Place(NamedTuple):
    """Where a client says that a tensor is: bytes of a region that it has registered."""

    region: str
    offset: int
    byte_size: int


class HandleOpener(Protocol):
    """Somebody who can tell whether a client's handle leads to memory of a GPU."""

    async def check(self, number: int, name: str, handle: CudaHandle) -> None:
        """Open a handle and close it again. Raises StatusError when that cannot be done."""
        ...


class ClientRegion(ABC):
    """A region that a client has registered; sizes are in bytes."""

    def __init__(self, name: str, byte_size: int) -> None:
        self.name = name
        self.byte_size = byte_size
        self.number = next(_numbers)
        #: The workers that have it, as long as they live.
        self._readers: weakref.WeakSet[RegionReader] = weakref.WeakSet()
        self._uses = 1  # the registration

    def __repr__(self) -> str:
        return f"<{type(self).__name__} '{self.name}': {self._uses} uses>"

    @abstractmethod
    def place(self, offset: int, size: int) -> ClientPlace:
        """What to put into a tensor for bytes of the region."""

    @abstractmethod
    def _attach(self, worker: RegionReader) -> None:
        """Hand the region over."""

    @abstractmethod
    def _close(self) -> None:
        """Give up what is held of it."""

    def show_to(self, worker: RegionReader) -> None:
        """Hand the region to a worker that does not have it."""
        if worker not in self._readers:
            self._readers.add(worker)
            self._attach(worker)

    def use(self) -> None:
        """Keep the region until `disuse`."""
        self._uses += 1

    def disuse(self) -> None:
        """One who kept the region does not need it any more; with the last it goes."""
        self._uses -= 1
        if self._uses:
            return
        for worker in self._readers:
            worker.detach_region(self.number)
        self._close()


class SystemRegion(ClientRegion):
    """A part of a client's segment of system memory, from `offset` on; owns its descriptor."""

    def __init__(self, name: str, key: str, offset: int, byte_size: int, descriptor: int) -> None:
        super().__init__(name, byte_size)
        self.key = key
        self.offset = offset
        self._descriptor = descriptor

    def place(self, offset: int, size: int) -> Region:
        """What to put into a tensor for bytes of the region."""
        return Region(self.number, self.offset + offset, size)

    def _attach(self, worker: RegionReader) -> None:
        end = self.offset + self.byte_size
        worker.attach_region(self.number, self.name, self._descriptor, end)

    def _close(self) -> None:
        os.close(self._descriptor)
        self._descriptor = -1


class GpuRegion(ClientRegion):
    """The beginning of a client's allocation on a GPU. Only workers open it."""

    def __init__(self, name: str, handle: CudaHandle) -> None:
        super().__init__(name, handle.byte_size)
        self.handle = handle

    def place(self, offset: int, size: int) -> CudaRegion:
        """What to put into a tensor for bytes of the region."""
        return CudaRegion(self.number, offset, size)

    def _attach(self, worker: RegionReader) -> None:
        worker.attach_cuda_region(self.number, self.name, self.handle)

    def _close(self) -> None:
        """Nothing is held here."""


class RegionUse:
    """A request's hold on a region, from when it named it until it is answered."""

    __slots__ = ("_region",)

    def __init__(self, region: ClientRegion) -> None:
        region.use()
        self._region: ClientRegion | None = region

    @property
    def number(self) -> int:
        """The region's, as tensors name it."""
        assert self._region is not None, "the region was given back"
        return self._region.number

    def share(self) -> RegionUse:
        """The use of the same region by another request."""
        assert self._region is not None, "the region was given back"
        return RegionUse(self._region)

    def show_to(self, worker: RegionReader) -> None:
        """Make sure that the worker has the region."""
        assert self._region is not None, "the region was given back"
        self._region.show_to(worker)

    def release(self) -> None:
        """Give the region back; a second time is harmless."""
        region, self._region = self._region, None
        if region is not None:
            region.disuse()


class Regions:
    """The registered regions by their names; both kinds of memory share the names.

    Without an `opener` there is no GPU.
    """

    def __init__(self, opener: HandleOpener | None = None) -> None:
        self._opener = opener
        self._regions: dict[str, ClientRegion] = {}
        #: Names whose handles are being opened.
        self._opening: set[str] = set()

    def __repr__(self) -> str:
        return f"<Regions: {list(self._regions.values())}>"

    def register_system(self, name: str, key: str, offset: int, byte_size: int) -> None:
        """Register a part of a client's segment under a name.

        Raises AlreadyExistsError for a name in use, InvalidArgumentError for a reserved key and for
        a part that the segment does not have, InternalError when it cannot be opened.
        """
        self._check_new(name)
        if shm.is_reserved(key):
            raise InvalidArgumentError(
                f"cannot register shared memory region '{name}' with key '{key}' as the key "
                f"contains the reserved prefix '{shm.RESERVED_PREFIX}'"
            )
        try:
            descriptor = shm.open_segment(key)
        except OSError as error:
            log.info("segment '%s' of region '%s' cannot be opened: %s", key, name, error)
            raise InternalError(f"Unable to open shared memory region: '{key}'") from None
        if byte_size <= 0 or offset < 0 or shm.segment_size(descriptor) < offset + byte_size:
            os.close(descriptor)
            raise InvalidArgumentError(
                f"failed to register shared memory region '{name}': invalid args"
            )
        self._regions[name] = SystemRegion(name, key, offset, byte_size, descriptor)

    async def register_cuda(self, name: str, handle: CudaHandle) -> None:
        """Register memory of a GPU, once its handle is known to open.

        Raises AlreadyExistsError for a name in use, InvalidArgumentError for a handle that leads
        nowhere, and on a server without GPUs.
        """
        self._check_new(name)
        if self._opener is None:
            raise InvalidArgumentError(
                f"failed to register CUDA shared memory region: '{name}', GPUs not supported"
            )
        if len(handle.raw) != HANDLE_BYTES:
            raise InvalidArgumentError(
                f"failed to register CUDA shared memory region '{name}': the raw handle has "
                f"{len(handle.raw)} bytes, expected the {HANDLE_BYTES} of a cudaIpcMemHandle_t"
            )
        if handle.byte_size <= 0:
            raise InvalidArgumentError(
                f"failed to register CUDA shared memory region '{name}': invalid args"
            )
        region = GpuRegion(name, handle)
        self._opening.add(name)
        try:
            await self._opener.check(region.number, name, handle)
        finally:
            self._opening.discard(name)
        self._regions[name] = region

    def system(self, name: str) -> list[SystemRegion]:
        """The region of this name in system memory, or ("") all of them, sorted by name.

        Raises NotFoundError.
        """
        every = [self._regions[each] for each in sorted(self._regions)]
        found = [
            each for each in every if isinstance(each, SystemRegion) and name in ("", each.name)
        ]
        if name and not found:
            raise self._not_found(name, "system", "CUDA")
        return found

    def cuda(self, name: str) -> list[GpuRegion]:
        """The region of this name in a GPU's memory, or ("") all of them, sorted by name.

        Raises NotFoundError.
        """
        every = [self._regions[each] for each in sorted(self._regions)]
        found = [each for each in every if isinstance(each, GpuRegion) and name in ("", each.name)]
        if name and not found:
            raise self._not_found(name, "CUDA", "system")
        return found

    def unregister_system(self, name: str) -> None:
        """Forget the region of this name, or ("") all of them; an unknown one is no error."""
        self._unregister(name, SystemRegion)

    def unregister_cuda(self, name: str) -> None:
        """Forget the region of this name, or ("") all of them; an unknown one is no error."""
        self._unregister(name, GpuRegion)

    def close(self) -> None:
        """Forget all regions: the server ends."""
        self.unregister_system("")
        self.unregister_cuda("")

    def use(self, place: Place) -> tuple[RegionUse, ClientPlace]:
        """Hold the region of a place for a request, and say where the place is.

        Raises NotFoundError for a region that is not registered, InvalidArgumentError for a place
        that is not inside of it.
        """
        name, offset, byte_size = place
        region = self._regions.get(name)
        if region is None:
            raise NotFoundError(f"Unable to find shared memory region: '{name}'")
        if not 0 <= offset < region.byte_size:
            raise InvalidArgumentError(f"Invalid offset for shared memory region: '{name}'")
        if byte_size < 0 or offset + byte_size > region.byte_size:
            raise InvalidArgumentError(
                f"Invalid offset + byte size for shared memory region: '{name}'"
            )
        return RegionUse(region), region.place(offset, byte_size)

    def _unregister(self, name: str, kind: type[SystemRegion] | type[GpuRegion]) -> None:
        for each in [name] if name else list(self._regions):
            if isinstance(self._regions.get(each), kind):
                self._regions.pop(each).disuse()

    def _not_found(self, name: str, kind: str, other: str) -> NotFoundError:
        if name in self._regions:
            return NotFoundError(
                f"The region named '{name}' is registered as {other} shared memory, not {kind} "
                "shared memory"
            )
        return NotFoundError(f"Unable to find {kind.lower()} shared memory region: '{name}'")

    def _check_new(self, name: str) -> None:
        if name in self._regions or name in self._opening:
            raise AlreadyExistsError(f"shared memory region '{name}' already in manager")
        if not name:
            raise InvalidArgumentError("failed to register shared memory region '': invalid args")
