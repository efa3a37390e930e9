"""Leases of inputs and views of outputs: nothing is given back too early, nothing never."""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import threading
from collections.abc import AsyncIterator, Iterator

import pytest
from support.fakes import ARENA_BYTES, until

from tritonpy.ipc.arena import CHUNK_BYTES, Arena
from tritonpy.ipc.errors import UnavailableError
from tritonpy.ipc.tensor import Span
from tritonpy.supervisor.memory.buffers import InputArena, OutputArena

# --- leases of inputs -------------------------------------------------------------------------


class Holder:
    """Who serves: hears of every lease that ends."""

    def __init__(self) -> None:
        self.ended = 0

    def lease_ended(self) -> None:
        self.ended += 1


@pytest.fixture
def inputs() -> Iterator[InputArena]:
    arena = InputArena(7, ARENA_BYTES, "model 'm' version 1")
    yield arena
    arena.close()


def test_a_lease_is_written_and_its_spans_name_the_arena(inputs: InputArena) -> None:
    first, second = inputs.lease(100), inputs.lease(200)
    second.write(50, b"hello")

    span = second.span(50, 5)

    assert (span.arena, span.size) == (7, 5)
    assert os.pread(inputs.descriptor, span.size, span.offset) == b"hello"
    assert first.span(0, 100).offset != second.span(0, 100).offset
    assert inputs.leases == 2
    assert "2 leases" in repr(inputs)


@pytest.mark.parametrize(("offset", "size"), [(-1, 2), (0, 101), (100, 1), (50, -1)])
def test_nothing_outside_of_a_lease_can_be_named(
    inputs: InputArena, offset: int, size: int
) -> None:
    with pytest.raises(ValueError, match="is not inside a lease of 100"):
        inputs.lease(100).span(offset, size)


@pytest.mark.parametrize("offset", [-1, 96, 1000])
def test_nothing_outside_of_a_lease_can_be_written(inputs: InputArena, offset: int) -> None:
    with pytest.raises(ValueError, match="is not inside a lease of 100"):
        inputs.lease(100).write(offset, b"12345")


def test_a_lease_ends_once_however_often_it_is_released(inputs: InputArena) -> None:
    holder = inputs.holder = Holder()
    lease, other = inputs.lease(100), inputs.lease(100)
    assert lease.arena is inputs

    lease.release()
    lease.release()

    assert lease.arena is None
    assert inputs.leases == 1
    assert holder.ended == 1
    with pytest.raises(ValueError, match="lease"):
        lease.write(0, b"x")
    with pytest.raises(ValueError, match="lease"):
        lease.span(0, 1)
    other.release()
    assert inputs.leases == 0


def test_an_arena_that_is_full_says_so_and_has_room_again(inputs: InputArena) -> None:
    lease = inputs.lease(ARENA_BYTES)
    with pytest.raises(UnavailableError, match=r"model 'm' version 1 is full"):
        inputs.lease(1)

    lease.release()

    inputs.lease(ARENA_BYTES).release()


def test_a_closed_arena_leases_nothing_and_touches_nobodys_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_arguments: object) -> None:
        pytest.fail("its number may belong to somebody else now")

    arena = InputArena(1, ARENA_BYTES, "model 'm' version 1")
    lease = arena.lease(CHUNK_BYTES)
    arena.close()
    arena.close()
    for name in ("trim", "commit", "release"):
        monkeypatch.setattr(Arena, name, fail)

    arena.trim()
    with pytest.raises(UnavailableError, match="was unloaded"):
        arena.lease(1)
    with pytest.raises(UnavailableError, match="was unloaded"):
        lease.write(0, b"x")
    lease.release()

    assert arena.leases == 0


def test_closing_an_arena_gives_its_memory_back_at_once() -> None:
    before = len(os.listdir("/proc/self/fd"))
    arena = InputArena(1, ARENA_BYTES, "test")
    arena.lease(10).write(0, b"x")

    arena.close()

    # The mapping has a descriptor of its own, which goes with it.
    assert len(os.listdir("/proc/self/fd")) == before


def test_an_arena_that_cannot_be_mapped_leaves_no_descriptor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_arguments: object, **_more: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr("mmap.mmap", fail)
    with pytest.raises(OSError, match="Cannot allocate memory"):
        InputArena(1, ARENA_BYTES, "test")
    assert len(os.listdir("/proc/self/fd")) == before


# --- views of outputs -------------------------------------------------------------------------


class Outputs:
    """The output arena of a worker that is played by the test."""

    def __init__(self) -> None:
        self.given: list[list[int]] = []
        self.arena = OutputArena(ARENA_BYTES, self.given.append)

    def view(self, offset: int, data: bytes) -> memoryview:
        """What the worker wrote there, as it is handed to a frontend."""
        os.pwrite(self.arena.descriptor, data, offset)
        return self.arena.view(Span(0, offset, len(data)))

    async def hears(self) -> list[int]:
        """The offsets that were given back, after all that is due has happened."""
        await until(lambda: bool(self.given))
        return sorted(offset for offsets in self.given for offset in offsets)


@pytest.fixture
async def outputs(anyio_backend: str) -> AsyncIterator[Outputs]:
    made = Outputs()
    yield made
    made.arena.retire()


@pytest.mark.anyio
async def test_a_view_shows_what_the_worker_wrote_and_cannot_be_written(outputs: Outputs) -> None:
    view = outputs.view(64, b"abc")

    assert bytes(view) == b"abc"
    with pytest.raises(TypeError, match="read-only"):
        view[0] = 1


@pytest.mark.anyio
async def test_a_span_is_given_back_when_its_last_view_is_gone(outputs: Outputs) -> None:
    view = outputs.view(128, b"0123456789")
    derived = [view[2:5], memoryview(view), view.cast("B", (2, 5))]
    del view
    while derived:
        await asyncio.sleep(0)
        assert outputs.given == [], f"given back while {len(derived)} views are left"
        derived.pop()

    assert await outputs.hears() == [128]


@pytest.mark.anyio
async def test_spans_that_are_dropped_together_are_given_back_in_one_message(
    outputs: Outputs,
) -> None:
    views = [outputs.view(64 * number, b"x") for number in range(5)]
    del views

    await outputs.hears()

    assert len(outputs.given) == 1
    assert sorted(outputs.given[0]) == [0, 64, 128, 192, 256]


@pytest.mark.anyio
async def test_a_span_is_given_back_again_after_it_was_used_again(outputs: Outputs) -> None:
    for _ in range(3):
        outputs.given.clear()
        view = outputs.view(64, b"abc")
        del view
        assert await outputs.hears() == [64]


@pytest.mark.anyio
async def test_a_view_that_dies_in_a_cycle_is_given_back_by_the_collector(
    outputs: Outputs,
) -> None:
    cycle: list[object] = [outputs.view(64, b"abc")]
    cycle.append(cycle)
    del cycle
    gc.collect()

    assert await outputs.hears() == [64]


@pytest.mark.anyio
async def test_the_last_view_may_go_on_any_thread(outputs: Outputs) -> None:
    views = [outputs.view(64 * number, b"x") for number in range(4)]
    threads = [threading.Thread(target=views.pop) for _ in range(4)]
    del threads[0]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    views.clear()

    await until(lambda: sum(map(len, outputs.given)) == 4)
    assert await outputs.hears() == [0, 64, 128, 192]


@pytest.mark.anyio
async def test_no_span_is_lost_when_threads_and_the_loop_drop_views_at_once(
    outputs: Outputs,
) -> None:
    count, rounds = 4, 300
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(rounds):
            views = [outputs.view(64 * number, b"x") for number in range(count)]
            halves = [views[:2], views[2:]]
            del views
            other = threading.Thread(target=halves.pop(0).clear)
            other.start()
            halves.clear()
            await asyncio.sleep(0)
            other.join()
    finally:
        sys.setswitchinterval(0.005)

    await until(lambda: sum(map(len, outputs.given)) == count * rounds)


@pytest.mark.anyio
async def test_nobody_is_told_after_the_worker_is_gone_and_views_stay_valid(
    outputs: Outputs,
) -> None:
    early, late = outputs.view(0, b"early"), outputs.view(64, b"late")
    del early  # its flush is due, and comes too late
    outputs.arena.retire()
    outputs.arena.retire()

    assert bytes(late) == b"late"
    del late
    for _ in range(3):
        await asyncio.sleep(0)
    assert outputs.given == []


@pytest.mark.anyio
async def test_the_memory_of_a_worker_that_is_gone_goes_with_the_last_view() -> None:
    before = len(os.listdir("/proc/self/fd"))
    outputs = Outputs()
    view = outputs.view(0, b"late")
    outputs.arena.retire()
    assert len(os.listdir("/proc/self/fd")) == before + 2  # mapped, and to be shown to others

    del view

    assert len(os.listdir("/proc/self/fd")) == before


def test_a_view_may_outlive_the_event_loop() -> None:
    async def serve() -> tuple[Outputs, memoryview]:
        outputs = Outputs()
        return outputs, outputs.view(0, b"x")

    outputs, view = asyncio.run(serve())
    del view  # not a warning, and nobody is left to tell
    assert outputs.given == []
    outputs.arena.retire()
