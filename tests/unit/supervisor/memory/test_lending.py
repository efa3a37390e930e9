"""Tensors that others read where they lie: who holds them, and when they are given back."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from tritonpy.ipc.arena import Arena
from tritonpy.ipc.tensor import Span
from tritonpy.supervisor.memory.buffers import InputArena, OutputArena
from tritonpy.supervisor.memory.lending import lend
from tritonpy.supervisor.request import InferRequest

MEBIBYTE = 1 << 20


class Reader:
    """A worker that is given arenas, and keeps what it can read by their descriptors."""

    def __init__(self) -> None:
        self.attached: dict[int, int] = {}

    def attach_arena(self, number: int, descriptor: int, size: int) -> None:
        assert number not in self.attached, "an arena is shown once"
        self.attached[number] = os.dup(descriptor)

    def detach_arena(self, number: int) -> None:
        os.close(self.attached.pop(number))

    def read(self, span: Span) -> bytes:
        """The bytes of a span, as another process would see them."""
        return os.pread(self.attached[span.arena], span.size, span.offset)


def request() -> InferRequest:
    """A request that holds nothing yet."""
    return InferRequest("m", None, [])


def show(held: InferRequest, reader: Reader) -> None:
    """Have a worker given all that a request needs."""
    for loan in held.loans:
        loan.show_to(reader)


def release(held: InferRequest) -> None:
    """The request is answered."""
    for lease in held.leases:
        lease.release()
    held.leases.clear()
    held.loans.clear()


@pytest.fixture
def reader() -> Iterator[Reader]:
    made = Reader()
    yield made
    assert not made.attached, "what is gone is detached"


@pytest.mark.anyio
async def test_an_output_is_lent_in_place_and_given_back_with_its_last_reader(
    reader: Reader,
) -> None:
    given: list[int] = []
    arena = OutputArena(MEBIBYTE, given.extend)
    worker = Arena(os.dup(arena.descriptor), arena.size, owner="the worker")
    worker.allocate(64)
    offset = worker.allocate(5)
    worker.view(offset, 5)[:] = b"hello"
    view = arena.view(Span(0, offset, 5))
    first, second = request(), request()
    for one in (first, second):
        span = lend(view, request(), one)
        assert span == Span(arena.number, offset, 5)
        show(one, reader)
        assert reader.read(span) == b"hello"
        assert bytes(one.lent(span) or b"") == b"hello"
    del view
    release(first)
    await asyncio.sleep(0)
    assert given == []
    arena.retire()  # the worker is gone, and the second reader reads on
    third = request()
    again = lend(Span(arena.number, offset, 5), second, third)  # as a step of a nested ensemble
    assert isinstance(again, Span)
    release(second)
    assert reader.read(again) == b"hello"
    assert bytes(third.lent(again) or b"") == b"hello"
    release(third)
    await asyncio.sleep(0)
    assert not reader.attached
    assert given == []  # nobody is there to be told
    os.close(worker.descriptor)


def test_the_lease_of_a_request_lasts_until_the_last_reader_has_answered(reader: Reader) -> None:
    inputs = InputArena(7, MEBIBYTE, "an ensemble")
    source = request()
    lease = inputs.lease(16)
    lease.write(0, b"0123456789abcdef")
    source.leases.append(lease)
    span = lease.span(4, 4)
    readers = [request(), request()]
    for one in readers:
        assert lend(span, source, one) == span
        show(one, reader)
    assert reader.read(span) == b"4567"
    release(source)
    release(readers[0])
    assert inputs.leases == 1
    assert bytes(readers[1].lent(span) or b"") == b"4567"
    release(readers[1])
    assert inputs.leases == 0
    inputs.close()


def test_what_came_in_a_message_stays_there() -> None:
    held = request()
    data = memoryview(b"small")
    assert lend(data, request(), held) is data
    assert held.leases == []
