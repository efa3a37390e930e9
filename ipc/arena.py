"""An arena: a piece of memory without a name that tensors are placed in and two processes map.

    descriptor   memfd_create, sealed against shrinking and growing before anybody else gets it
    size         large and sparse: addresses cost nothing, pages are committed chunk by chunk

       0          1 MiB        2 MiB        3 MiB                               size
       +------------+------------+------------+------------+---- - - - - - ------+
       | committed  | committed  | committed  |   never touched                  |
       +------------+------------+------------+------------+---- - - - - - ------+
         [span][span][ hole ][ span ]  ^frontier of the allocator

A memfd is not in /dev/shm: there is nothing to guess, to leak or to leave behind after a crash, and
a container's small /dev/shm does not limit it. It goes when the last descriptor and mapping go.

Who does what. The writer owns an `Arena`: it alone allocates and frees. Everybody else maps a
`MappedArena` and says by message when a span is no longer read. Committing is what makes a full
machine harmless: `fallocate` fails here, where it becomes an answer to a client (503), instead of
a page fault failing in the middle of a copy, which would be SIGBUS.

Fresh pages are slow (the kernel clears them, about 1.5 GiB/s), used ones are not, so the allocator
prefers addresses that were used before, and pages are given back only after two quiet periods.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os

from .allocator import ALIGNMENT, Allocator
from .errors import UnavailableError

#: Pages are committed and given back in pieces of this size.
CHUNK_BYTES = 1 << 20

#: The most that one `trim` gives back: the kernel takes 0.2-0.4 ms for a MiB, during which whoever
#: trims does nothing else.
TRIM_LIMIT_BYTES = 32 << 20

_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]


def create_memory(label: str, size: int) -> int:
    """Create the sealed, sparse memory of an arena and return its descriptor, owned by the caller.

    `label` shows up in /proc/<pid>/maps for whoever debugs, and means nothing else.
    """
    descriptor = os.memfd_create(label, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.truncate(descriptor, size)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def arena_size(wanted: int) -> int:
    """Round a wanted size up to whole chunks."""
    return max(CHUNK_BYTES, -(-wanted // CHUNK_BYTES) * CHUNK_BYTES)


class MappedArena:
    """An arena that somebody else writes. Owns its mapping, not the spans in it."""

    def __init__(self, descriptor: int, size: int, *, writable: bool) -> None:
        protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
        self.size = size
        self._map = mmap.mmap(descriptor, size, flags=mmap.MAP_SHARED, prot=protection)
        self._view = memoryview(self._map)

    @property
    def memory(self) -> object:
        """What every view goes back to in the end, by its `obj`."""
        return self._map

    def view(self, offset: int, size: int) -> memoryview:
        """The bytes of a span. Raises ValueError for a range outside of the arena."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise ValueError(f"span [{offset}, {offset + size}) is not inside {self.size} bytes")
        return self._view[offset : offset + size]


class Arena:
    """An arena that this process writes: allocates spans, commits their pages, gives them back.

    Not thread-safe; in a worker the memory's lock guards it.
    """

    def __init__(self, descriptor: int, size: int, *, owner: str) -> None:
        assert size % ALIGNMENT == 0
        self.descriptor = descriptor
        self.size = size
        self.owner = owner
        self._mapped = MappedArena(descriptor, size, writable=True)
        self._allocator = Allocator(size)
        #: One byte a chunk: 0 not committed, 1 committed and idle, 2 committed and lately used.
        self._chunks = bytearray(-(-size // CHUNK_BYTES))

    def __repr__(self) -> str:
        return f"<Arena of {self.owner}: {self.committed_bytes} committed, {self._allocator!r}>"

    @property
    def used_bytes(self) -> int:
        """Bytes of all spans that are handed out."""
        return self._allocator.used

    @property
    def span_count(self) -> int:
        """How many spans are handed out."""
        return self._allocator.span_count

    @property
    def committed_bytes(self) -> int:
        """Bytes of memory that the arena holds on to, used or not."""
        return (len(self._chunks) - self._chunks.count(0)) * CHUNK_BYTES

    def allocate(self, size: int) -> int:
        """Allocate and commit `size` bytes and return their offset.

        Raises UnavailableError when the arena is full or the machine has no memory left.
        """
        offset = self.reserve(size)
        try:
            self.commit(offset, size)
        except UnavailableError:
            self._allocator.free(offset)
            raise
        return offset

    def reserve(self, size: int) -> int:
        """Allocate addresses only and return their offset: nothing may be touched before `commit`.

        Raises UnavailableError when the arena is full.
        """
        offset = self._allocator.allocate(size)
        if offset is None:
            raise UnavailableError(
                f"the shared memory of {self.owner} is full: {size} bytes were wanted, "
                f"{self.used_bytes} of {self.size} are in use; try again later, or start the "
                f"server with a larger --arena-byte-size"
            )
        return offset

    def view(self, offset: int, size: int) -> memoryview:
        """The writable bytes of a span."""
        return self._mapped.view(offset, size)

    def release(self, offset: int) -> None:
        """Take a span back. Raises KeyError when it is not handed out."""
        self._allocator.free(offset)

    def trim(self) -> int:
        """Give back whole chunks that lay free since the last call; returns the bytes given back.

        To be called now and then; a chunk survives the first call and goes in a later one, of which
        each gives back TRIM_LIMIT_BYTES at most.
        """
        given = 0
        # An arena may be thousands of times larger than what was ever touched of it.
        touched = len(self._chunks.rstrip(b"\0"))
        for start, end in self._allocator.holes():
            first, last = -(-start // CHUNK_BYTES), min(end // CHUNK_BYTES, touched)
            for chunk in range(first, last):
                if self._chunks[chunk] == 2:
                    self._chunks[chunk] = 1
                elif self._chunks[chunk] == 1 and given < TRIM_LIMIT_BYTES and self._punch(chunk):
                    self._chunks[chunk] = 0
                    given += CHUNK_BYTES
        if given:
            self._allocator.lower_frontier()
        return given

    def commit(self, offset: int, size: int) -> None:
        """Make sure that touching a part of a reserved span cannot fail.

        Fresh pages cost about 0.7 ms a MiB, so large spans are best committed as they are filled.
        Raises UnavailableError when the machine has no memory left.
        """
        first, last = offset // CHUNK_BYTES, -(-(offset + max(1, size)) // CHUNK_BYTES)
        chunks = self._chunks
        if 0 in chunks[first:last]:
            for chunk in range(first, last):
                if not chunks[chunk]:
                    self._fill(chunk)
                    chunks[chunk] = 1
        for chunk in range(first, last):
            chunks[chunk] = 2

    def _fill(self, chunk: int) -> None:
        at = chunk * CHUNK_BYTES
        length = min(CHUNK_BYTES, self.size - at)
        try:
            os.posix_fallocate(self.descriptor, at, length)
        except OSError as error:
            raise UnavailableError(
                f"the machine has no memory left for {length} more bytes of {self.owner}: "
                f"{error.strerror}; try again later"
            ) from None

    def _punch(self, chunk: int) -> bool:
        """Give the chunk's pages back; where the system refuses, they simply stay committed."""
        at = chunk * CHUNK_BYTES
        length = min(CHUNK_BYTES, self.size - at)
        refused: int = _libc.fallocate(self.descriptor, _PUNCH_HOLE_KEEP_SIZE, at, length)
        return refused == 0
