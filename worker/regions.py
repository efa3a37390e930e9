"""Clients' shared memory in a worker: what is read and written by descriptor, what is mapped.

    a model that may write to its inputs, BYTES     copied out by `pread`; for python models when
                                                    they look at it, see deferred.py
    every other input                               mapped read-only, and read in place
    outputs                                         copied in by `pwrite`

Outputs are copied once wherever they go, and neither `pread` nor `pwrite` can fail by a signal. An
input that is read in place can: a client that shrinks its segment while a model reads it ends this
worker by SIGBUS. Its size is looked at right before, so that the next worker, which gets the
request again, refuses it.
"""

from __future__ import annotations

import mmap
import os

import numpy as np
import numpy.typing as npt

from ..ipc import shm
from ..ipc.errors import InternalError, InvalidArgumentError, UnavailableError
from ..ipc.tensor import Region
from .copies import COPIES


class ClientRegion:
    """One region; owns its descriptor and its mapping."""

    def __init__(self, name: str, descriptor: int, end: int) -> None:
        self._name = name
        self._descriptor = descriptor
        self._end = end
        self._mapped: memoryview | None = None

    def __repr__(self) -> str:
        mapped = "mapped" if self._mapped is not None else "not mapped"
        return f"<ClientRegion '{self._name}', {mapped}>"

    def view(self, place: Region) -> memoryview:
        """The client's own bytes, read-only. Raises InvalidArgumentError when they are gone."""
        self.check()
        if self._mapped is None:
            try:
                mapped = mmap.mmap(
                    self._descriptor, self._end, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ
                )
            except (OSError, ValueError) as error:
                raise InternalError(
                    f"shared memory region '{self._name}' cannot be mapped: {error}"
                ) from None
            self._mapped = memoryview(mapped)
        return self._mapped[place.offset : place.offset + place.size]

    def read(self, place: Region) -> npt.NDArray[np.uint8]:
        """A copy of the client's bytes. Raises InvalidArgumentError when they are gone."""
        if self._descriptor < 0:
            raise InvalidArgumentError(
                f"shared memory region '{self._name}' is closed: the request is answered"
            )
        data = np.empty(place.size, np.uint8)  # large ones get large pages, unlike a bytearray
        try:
            shm.read_into(self._descriptor, place.offset, data.data)
        except EOFError:
            raise self._shrunk() from None
        COPIES.fetched += place.size
        return data

    def check(self) -> None:
        """Raise InvalidArgumentError when the client has cut off what it registered."""
        if shm.segment_size(self._descriptor) < self._end:
            raise self._shrunk()

    def write(self, place: Region, data: memoryview) -> None:
        """Copy bytes to the beginning of a place that is large enough.

        Raises InvalidArgumentError when it is gone, UnavailableError when the machine has no
        memory for it.
        """
        try:
            shm.write(self._descriptor, place.offset, data)
        except EOFError:
            raise self._shrunk() from None
        except OSError as error:
            raise UnavailableError(
                f"shared memory region '{self._name}' cannot be written: {error.strerror}"
            ) from None

    def close(self) -> None:
        """Let go of the region. Views that a model still has keep their memory."""
        self._mapped = None
        descriptor, self._descriptor = self._descriptor, -1  # whose number may be another's soon
        os.close(descriptor)

    def _shrunk(self) -> InvalidArgumentError:
        return InvalidArgumentError(
            f"shared memory region '{self._name}' has become shorter than it was when it was "
            f"registered: expected at least {self._end} bytes, got "
            f"{shm.segment_size(self._descriptor)}; unregister it and register it again"
        )


class ClientRegions:
    """The regions that this worker was told of, by their numbers."""

    def __init__(self) -> None:
        self._regions: dict[int, ClientRegion] = {}

    def __repr__(self) -> str:
        return f"<ClientRegions: {list(self._regions.values())}>"

    def __getitem__(self, place: Region) -> ClientRegion:
        """The region of a place. Raises InternalError when its descriptor has not arrived."""
        try:
            return self._regions[place.region]
        except KeyError:
            raise InternalError(
                f"shared memory region {place.region} did not get to this worker"
            ) from None

    def attach(self, number: int, name: str, descriptor: int, end: int) -> None:
        """Take over the descriptor of a region."""
        self._regions[number] = ClientRegion(name, descriptor, end)

    def detach(self, number: int) -> None:
        """Let go of a region; of one that never arrived there is nothing to let go."""
        region = self._regions.pop(number, None)
        if region is not None:
            region.close()
