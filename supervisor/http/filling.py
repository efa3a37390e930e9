"""Where the tensors of a request go while they are still coming: into memory that waits for them,
piece by piece, in the order of the body.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..memory.copies import COPIES
from ..request import Lease

#: The most that is offered at a time in the server's own memory; a lease has its own steps.
_STEP_BYTES = 1024 * 1024


class Part(NamedTuple):
    """`size` bytes of a body, which go to `begin` of a lease, or of the server's own memory."""

    lease: Lease | None
    begin: int
    size: int


class Filling:
    """The parts of a body, none of them empty, and how far they are filled.

    `tensors` is whether they are tensors, whose copies are counted.
    """

    __slots__ = ("_at", "_index", "_memory", "_parts", "_tensors", "left")

    def __init__(self, parts: Sequence[Part], memory: memoryview, *, tensors: bool = True) -> None:
        self._tensors = tensors
        self._parts = parts
        self._memory = memory
        self._index = self._at = 0
        #: How many bytes are still to come.
        self.left = sum(part.size for part in parts)

    def __repr__(self) -> str:
        return f"<Filling {self._index} of {len(self._parts)} parts full, {self.left} bytes left>"

    def room(self) -> memoryview:
        """Where the next bytes go, some of those that are left; what is written there counts when
        `filled` is told.

        Raises UnavailableError when the machine has no memory left, or the lease's arena is gone.
        """
        lease, begin, size = self._parts[self._index]
        begin, size = begin + self._at, size - self._at
        if lease is None:
            return self._memory[begin : begin + min(size, _STEP_BYTES)]
        return lease.room(begin, size)

    def filled(self, count: int) -> None:
        """So many bytes have been written to the room."""
        self.left -= count
        self._at += count
        if self._at == self._parts[self._index].size:
            self._index += 1
            self._at = 0

    def take(self, data: bytes | memoryview) -> None:
        """Copy bytes that came together with others. Raises as `room` does."""
        view = memoryview(data)
        if self._tensors:
            COPIES.inward += len(view)
        while view:
            room = self.room()
            taken = min(len(room), len(view))
            room[:taken] = view[:taken]
            self.filled(taken)
            view = view[taken:]
