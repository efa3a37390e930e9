"""Shared memory that clients have registered: who may name which bytes of it until when.

Handles only. The supervisor opens a segment when it is registered, and hands the descriptor to the
workers that need it, so that no name is looked up twice. It never maps a segment: its client may
shrink it at any time, and that would end the reader.

A region that is unregistered cannot be named any more, and lives on until the last request that
named it has ended. Everything here runs on the event loop.
"""

from __future__ import annotations

import itertools
import logging
import os
import weakref
from typing import NamedTuple

from ...ipc import shm
from ...ipc.errors import (
    AlreadyExistsError,
    InternalError,
    InvalidArgumentError,
    NotFoundError,
)
from ...ipc.tensor import Region
from ..request import RegionReader

log = logging.getLogger(__name__)

#: Descriptors travel to workers under numbers; those of arenas stay below.
_numbers = itertools.count(1 << 32)


class Place(NamedTuple):
    """Where a client says that a tensor is: bytes of a region that it has registered."""

    region: str
    offset: int
    byte_size: int


class ClientRegion:
    """A region of a client's segment; owns its descriptor.

    `offset` is where it begins in the segment; both sizes are in bytes.
    """

    def __init__(self, name: str, key: str, offset: int, byte_size: int, descriptor: int) -> None:
        self.name = name
        self.key = key
        self.offset = offset
        self.byte_size = byte_size
        self.number = next(_numbers)
        self._descriptor = descriptor
        #: The workers that have its descriptor, as long as they live.
        self._readers: weakref.WeakSet[RegionReader] = weakref.WeakSet()
        self._uses = 1  # the registration

    def __repr__(self) -> str:
        return f"<ClientRegion '{self.name}' of '{self.key}': {self._uses} uses>"

    def show_to(self, worker: RegionReader) -> None:
        """Hand the region to a worker that does not have it."""
        if worker not in self._readers:
            self._readers.add(worker)
            end = self.offset + self.byte_size
            worker.attach_region(self.number, self.name, self._descriptor, end)

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
        os.close(self._descriptor)
        self._descriptor = -1


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
    """The registered regions by their names."""

    def __init__(self) -> None:
        self._regions: dict[str, ClientRegion] = {}

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
        self._regions[name] = ClientRegion(name, key, offset, byte_size, descriptor)

    def register_cuda(self, name: str, raw_handle: bytes, device: int, byte_size: int) -> None:
        """Register memory of a GPU. Raises InvalidArgumentError: this server reads none."""
        self._check_new(name)
        raise InvalidArgumentError(
            f"failed to register CUDA shared memory region: '{name}', GPUs not supported"
        )

    def system(self, name: str) -> list[ClientRegion]:
        """The region of this name in system memory, or ("") all of them, sorted by name.

        Raises NotFoundError.
        """
        if not name:
            return [self._regions[each] for each in sorted(self._regions)]
        found = self._regions.get(name)
        if found is None:
            raise NotFoundError(f"Unable to find system shared memory region: '{name}'")
        return [found]

    def cuda(self, name: str) -> list[ClientRegion]:
        """The region of this name in a GPU's memory, or ("") all of them. Raises NotFoundError."""
        if name in self._regions:
            raise NotFoundError(
                f"The region named '{name}' is registered as system shared memory, not CUDA shared "
                "memory"
            )
        if name:
            raise NotFoundError(f"Unable to find cuda shared memory region: '{name}'")
        return []

    def unregister_system(self, name: str) -> None:
        """Forget the region of this name, or ("") all of them; an unknown one is no error."""
        for each in [name] if name else list(self._regions):
            found = self._regions.pop(each, None)
            if found is not None:
                found.disuse()

    def unregister_cuda(self, name: str) -> None:
        """Forget regions in a GPU's memory; an unknown one is no error."""

    def close(self) -> None:
        """Forget all regions: the server ends."""
        self.unregister_system("")

    def use(self, place: Place) -> tuple[RegionUse, Region]:
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
        return RegionUse(region), Region(region.number, region.offset + offset, byte_size)

    def _check_new(self, name: str) -> None:
        if name in self._regions:
            raise AlreadyExistsError(f"shared memory region '{name}' already in manager")
        if not name:
            raise InvalidArgumentError("failed to register shared memory region '': invalid args")
