"""Who owns which bytes of an arena until when: leases of inputs, views of outputs.

Inputs: the supervisor writes them, into the input arena of the model version. A request holds a
lease until it is answered for the last time or has failed.

Outputs: the worker writes them, into its own arena; we read them in place. A view goes to a
frontend and on to a transport, which may keep it long after `write()` has returned. So a span is
given back when the last memoryview on it is gone, which the exporter behind the view tells us, and
at no earlier time: the next response would overwrite bytes that are still on their way to a client.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol, cast

import numpy as np

from ...ipc.arena import CHUNK_BYTES, Arena, MappedArena, arena_size, create_memory
from ...ipc.errors import UnavailableError
from ...ipc.tensor import Span
from ..request import ArenaReader
from .copies import COPIES
from .readers import Readers
from .regions import SystemRegion

#: Numbers that tell the arenas of all workers apart; those of inputs stay below.
_output_numbers = itertools.count(1 << 31)

#: The arenas by the memory that their views go back to, as long as there are any.
_output_arenas: dict[int, OutputArena] = {}


class Holder(Protocol):
    """Who serves the requests whose inputs lie in an arena."""

    def lease_ended(self) -> None:
        """A lease has been given back."""
        ...


class InputLease:
    """Bytes of an input arena that one request holds, or several that share them."""

    __slots__ = ("_arena", "_holders", "_offset", "_size")

    def __init__(
        self, arena: InputArena, offset: int, size: int, holders: set[InputLease] | None = None
    ) -> None:
        self._arena: InputArena | None = arena
        self._offset = offset
        self._size = size
        #: All leases of these bytes that are not given back, where they are shared; the last one
        #: frees them.
        self._holders = holders

    @property
    def arena(self) -> InputArena | None:
        """Where the bytes lie; None when they were given back."""
        return self._arena

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Copy bytes to `offset` of the lease, committing memory for them as needed.

        Raises UnavailableError when the machine has none left.
        """
        size = len(data)
        if self._arena is None or offset < 0 or offset + size > self._size:
            raise ValueError(f"[{offset}, {offset + size}) is not inside a lease of {self._size}")
        self._arena.write(self._offset + offset, data)

    def room(self, offset: int, size: int) -> memoryview:
        """The first of the `size` bytes at `offset`, for the caller to write to while it holds the
        lease. There are fewer where more would take long to commit.

        Raises UnavailableError when the machine has no memory left.
        """
        if self._arena is None or offset < 0 or offset + size > self._size:
            raise ValueError(f"[{offset}, {offset + size}) is not inside a lease of {self._size}")
        return self._arena.room(self._offset + offset, size)

    def span(self, offset: int, size: int) -> Span:
        """The place of `size` bytes at `offset` of the lease, to be put into a tensor."""
        if self._arena is None or offset < 0 or size < 0 or offset + size > self._size:
            raise ValueError(f"[{offset}, {offset + size}) is not inside a lease of {self._size}")
        return Span(self._arena.number, self._offset + offset, size)

    def covers(self, span: Span) -> bool:
        """Whether a span lies in the bytes that this lease holds."""
        return (
            self._arena is not None
            and span.arena == self._arena.number
            and self._offset <= span.offset
            and span.offset + span.size <= self._offset + self._size
        )

    def read(self, span: Span) -> memoryview | None:
        """The bytes of a span in place; None when they were given back."""
        return self._arena.view(span) if self._arena is not None else None

    def share(self) -> InputLease:
        """Another lease of the same bytes, which are free when all are given back."""
        assert self._arena is not None, "the lease was given back"
        holders = self._holders
        if holders is None:
            holders = self._holders = set[InputLease]((self,))
        lease = InputLease(self._arena, self._offset, self._size, holders)
        holders.add(lease)
        return lease

    def release(self) -> None:
        """Give the bytes back; a second time is harmless."""
        arena, self._arena = self._arena, None
        if arena is None:
            return
        if self._holders is not None:
            self._holders.discard(self)
        if not self._holders:
            arena.release(self._offset)


class InputArena:
    """The arena of one model version that the supervisor writes and all its instances read."""

    def __init__(self, number: int, size: int, owner: str) -> None:
        self.number = number
        self.size = arena_size(size)
        self.descriptor = create_memory("tritonpy-inputs", self.size)
        self._owner = owner
        try:
            self._arena: Arena | None = Arena(self.descriptor, self.size, owner=owner)
        except OSError:
            os.close(self.descriptor)
            raise
        self.leases = 0
        self._region: SystemRegion | None = None
        #: Who serves the requests that lease here, and is told when a lease ends.
        self.holder: Holder | None = None
        #: Workers of other models that read here.
        self._readers = Readers()

    def __repr__(self) -> str:
        return f"<InputArena {self.number}: {self.leases} leases, {self._arena!r}>"

    def lease(self, size: int) -> InputLease:
        """Lease `size` bytes, which are committed as they are written: a client that announces
        much and sends little holds addresses, not memory.

        Raises UnavailableError when the arena is full or closed.
        """
        if self._arena is None:
            raise UnavailableError(f"{self._owner} was unloaded")
        lease = InputLease(self, self._arena.reserve(size), size)
        self.leases += 1
        return lease

    def write(self, offset: int, data: bytes | memoryview) -> None:
        """Called by the lease: copy bytes into its span."""
        if self._arena is None:
            raise UnavailableError(f"{self._owner} was unloaded")
        size = len(data)
        self._arena.commit(offset, size)
        self._arena.view(offset, size)[:] = data
        COPIES.inward += size

    def room(self, offset: int, size: int) -> memoryview:
        """Called by the lease: the bytes at `offset`, committed, up to the end of a chunk."""
        if self._arena is None:
            raise UnavailableError(f"{self._owner} was unloaded")
        size = min(size, CHUNK_BYTES - offset % CHUNK_BYTES)
        self._arena.commit(offset, size)
        return self._arena.view(offset, size)

    def show_to(self, worker: ArenaReader) -> None:
        """Make sure that a worker of another model has the arena."""
        if self.descriptor >= 0:
            self._readers.show(worker, self.number, self.descriptor, self.size)

    def view(self, span: Span) -> memoryview | None:
        """A span's bytes in place, valid while they are leased; None for one of another arena."""
        if self._arena is None or span.arena != self.number:
            return None
        return self._arena.view(span.offset, span.size)

    def region(self) -> SystemRegion:
        """The arena as the workers of other versions are shown it, which may read it only.

        Whoever uses it holds a lease.
        """
        if self._region is None:
            descriptor = os.dup(self.descriptor)
            self._region = SystemRegion(self._owner, "", 0, self.size, descriptor)
        return self._region

    def read(self, span: Span) -> bytes | None:
        """A copy of a span's bytes; None for a span of another arena."""
        view = self.view(span)
        return None if view is None else bytes(view)

    def release(self, offset: int) -> None:
        """Called by the lease: the span is free."""
        self.leases -= 1
        if self._arena is not None:
            self._arena.release(offset)
        if self.holder is not None:
            self.holder.lease_ended()

    def trim(self) -> None:
        """Give back pages that have lain idle."""
        if self._arena is not None:
            self._arena.trim()

    def close(self) -> None:
        """Give up our descriptor and mapping; the memory goes with those of the workers.

        Leases may be released later, and cannot be had or written any more.
        """
        self._arena = None
        region, self._region = self._region, None
        if region is not None:
            region.disuse()
        if self.descriptor >= 0:
            self._readers.dismiss(self.number)
            os.close(self.descriptor)
            self.descriptor = -1


class OutputArena:
    """The arena of one worker's outputs, as the supervisor reads it.

    `give_back` is called on the event loop with the offsets of spans that nobody reads any more;
    after `retire` (the worker is gone) nobody is told.
    """

    def __init__(self, size: int, give_back: Callable[[list[int]], None]) -> None:
        #: Under which workers of other models know it; to its own it is number 0.
        self.number = next(_output_numbers)
        self.size = arena_size(size)
        self.descriptor = create_memory("tritonpy-outputs", self.size)
        try:
            self._mapped: MappedArena | None = MappedArena(
                self.descriptor, self.size, writable=False
            )
        except OSError:
            os.close(self.descriptor)
            raise
        #: Where the arena begins in our memory, and what its views go back to.
        self._address = _address(self._mapped.view(0, self.size))
        self._memory = id(self._mapped.memory)
        _output_arenas[self._memory] = self
        self._give_back: Callable[[list[int]], None] | None = give_back
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._exporters: dict[int, weakref.ref[object]] = {}
        self._unread: deque[int] = deque()
        self._flush_is_due = False
        self._readers = Readers()

    def view(self, span: Span) -> memoryview:
        """The bytes of a span, which stays allocated until the last view of it is gone."""
        assert self._mapped is not None, "the worker is gone"
        exporter = np.frombuffer(self._mapped.view(span.offset, span.size), np.uint8)
        offset = span.offset
        self._exporters[offset] = weakref.ref(exporter, lambda _gone: self._dropped(offset))
        return exporter.data

    def span_of(self, view: memoryview) -> Span:
        """The place of a view's bytes, for workers that the arena was shown to."""
        return Span(self.number, _address(view) - self._address, len(view))

    def show_to(self, worker: ArenaReader) -> None:
        """Make sure that a worker of another model has the arena. Somebody must hold a view."""
        assert self.descriptor >= 0, "nothing of the arena is read any more"
        self._readers.show(worker, self.number, self.descriptor, self.size)

    def retire(self) -> None:
        """The worker is gone: views stay valid, and the memory goes with the last of them."""
        self._give_back = None
        self._mapped = None  # the views keep it
        self._end_if_unread()

    def _end_if_unread(self) -> None:
        """Without worker and views there is nothing more to show to anybody."""
        if self._give_back is not None or self._exporters or self.descriptor < 0:
            return
        self._readers.dismiss(self.number)
        _output_arenas.pop(self._memory, None)
        os.close(self.descriptor)
        self.descriptor = -1

    def _dropped(self, offset: int) -> None:
        """The last view of a span is gone; on whatever thread the last reference was dropped.

        No lock: this runs wherever the garbage collector does, also while a lock is held. It is
        the order that counts: first the offset, then the question whether a flush is due; the
        flush does it the other way round, so that one of the two sees the other.
        """
        self._exporters.pop(offset, None)
        self._unread.append(offset)
        if self._loop.is_closed() or not self._readers:
            self._end_if_unread()
        if self._loop.is_closed() or self.descriptor < 0:
            return
        if self._flush_is_due:
            return
        self._flush_is_due = True
        if threading.get_ident() == self._thread:
            self._loop.call_soon(self._flush)
        else:
            self._loop.call_soon_threadsafe(self._flush)

    def _flush(self) -> None:
        self._flush_is_due = False
        offsets: list[int] = []
        while self._unread:
            offsets.append(self._unread.popleft())
        if self._give_back is None:
            self._end_if_unread()
        elif offsets:
            self._give_back(offsets)


def arena_of(view: memoryview) -> OutputArena | None:
    """The arena that a worker's output lies in; None for bytes that came in a message."""
    exporter: object = view.obj
    inner = cast(object, exporter.base) if isinstance(exporter, np.ndarray) else None
    return _output_arenas.get(id(inner.obj)) if isinstance(inner, memoryview) else None


def _address(view: memoryview) -> int:
    address: int = np.frombuffer(view, np.uint8).__array_interface__["data"][0]
    return address
