"""Tensors that lie in somebody else's memory and are read there: what the steps of an ensemble do.

    output of a worker     its span is lent, and given back to it with the last loan and view
    input of a request     its lease is shared, and free with the last share
    client's region        is used by each reader on its own
    in a message           rides in the reader's message too

Each reader has its own loan and gives it back when it has answered, whatever becomes of the others
and of the request that brought the tensor.
"""

from __future__ import annotations

from typing import Protocol

from ...ipc.tensor import ClientPlace, Data, Span
from ..request import ArenaReader, Hold, InferRequest, Loan
from .buffers import InputArena, InputLease, OutputArena, arena_of


class _View(Hold):
    """Keeps a worker's output by a view of it."""

    __slots__ = ("_view",)

    def __init__(self, view: memoryview) -> None:
        self._view: memoryview | None = view

    def share(self) -> _View:
        """Another hold of the same bytes."""
        assert self._view is not None, "the view was given back"
        return _View(self._view)

    def read(self, span: Span) -> memoryview | None:
        """The bytes, which are the span's."""
        return self._view

    def release(self) -> None:
        """Let go of the view."""
        self._view = None


class _Shared(Hold, Protocol):
    """What keeps a span, for one who reads it."""

    def read(self, span: Span) -> memoryview | None:
        """The bytes of the span, None when they were given back."""
        ...

    def share(self) -> _Shared:
        """The same for somebody else."""
        ...


class SpanLoan:
    """A span of another arena than the reader's own, which the reader holds until it answers."""

    __slots__ = ("_arena", "_hold", "span")

    def __init__(self, span: Span, arena: InputArena | OutputArena, hold: _Shared) -> None:
        self.span = span
        self._arena = arena
        self._hold = hold

    def show_to(self, worker: ArenaReader) -> None:
        """Make sure that the worker has the arena."""
        self._arena.show_to(worker)

    def share(self) -> SpanLoan:
        """The same span for somebody else."""
        return SpanLoan(self.span, self._arena, self._hold.share())

    def view(self) -> memoryview | None:
        """The bytes in place; None when they were given back."""
        return self._hold.read(self.span)

    def release(self) -> None:
        """Give the span back; a second time is harmless."""
        self._hold.release()


def loan_of(view: memoryview) -> SpanLoan | None:
    """The loan of a worker's output; None for bytes that lie in no worker's arena."""
    arena = arena_of(view)
    return None if arena is None else SpanLoan(arena.span_of(view), arena, _View(view))


def lend(data: Data, source: InferRequest, reader: InferRequest) -> Data:
    """The data as the reader's tensor has them, who holds what it needs for them from now on.

    `source` is the request that an input of it, a span or a region, came with.
    """
    if isinstance(data, memoryview):
        own = loan_of(data)
        if own is None:
            return data
        _take(reader, own)
        return own.span
    if isinstance(data, ClientPlace):
        for use in source.regions:
            if use.number == data.region:
                shared = use.share()
                reader.leases.append(shared)
                reader.regions.append(shared)
                return data
        raise LookupError(f"{source.log_prefix}region {data.region} is not in use")
    for loan in source.loans:
        if loan.span == data:
            _take(reader, loan.share())
            return data
    for lease in source.leases:
        if isinstance(lease, InputLease) and lease.covers(data):
            assert lease.arena is not None, "what covers a span is not given back"
            _take(reader, SpanLoan(data, lease.arena, lease.share()))
            return data
    raise LookupError(f"{source.log_prefix}{data} is not leased")


def _take(reader: InferRequest, loan: Loan) -> None:
    reader.leases.append(loan)
    reader.loans.append(loan)
