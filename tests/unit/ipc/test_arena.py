"""Memory is committed before it is touched, and its pages go back when nobody wanted them."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator

import pytest

from tritonpy.ipc import arena as module
from tritonpy.ipc.arena import CHUNK_BYTES, Arena, MappedArena, arena_size, create_memory
from tritonpy.ipc.errors import UnavailableError

SIZE = 8 * CHUNK_BYTES


@pytest.fixture
def descriptor() -> Iterator[int]:
    made = create_memory("tritonpy-test", SIZE)
    yield made
    os.close(made)


@pytest.fixture
def arena(descriptor: int) -> Arena:
    return Arena(descriptor, SIZE, owner="the tests")


def resident(descriptor: int) -> int:
    """The bytes of memory that really stand behind the descriptor."""
    return os.fstat(descriptor).st_blocks * 512


def test_new_memory_costs_nothing(descriptor: int) -> None:
    assert os.fstat(descriptor).st_size == SIZE
    assert resident(descriptor) == 0


def test_memory_is_sealed_against_other_sizes_before_anybody_gets_it(descriptor: int) -> None:
    seals = fcntl.fcntl(descriptor, fcntl.F_GET_SEALS)

    assert seals == fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    for size in (SIZE - 1, SIZE + 1):
        with pytest.raises(PermissionError):
            os.ftruncate(descriptor, size)


def test_programs_do_not_inherit_the_memory(descriptor: int) -> None:
    assert not os.get_inheritable(descriptor)


def test_memory_that_cannot_be_made_leaves_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))

    with pytest.raises(OSError, match="Invalid argument"):
        create_memory("tritonpy-test", -1)

    assert len(os.listdir("/proc/self/fd")) == before


@pytest.mark.parametrize(
    ("wanted", "size"),
    [(0, 1), (1, 1), (CHUNK_BYTES, 1), (CHUNK_BYTES + 1, 2), (7 * CHUNK_BYTES, 7)],
)
def test_arenas_are_whole_chunks(wanted: int, size: int) -> None:
    assert arena_size(wanted) == size * CHUNK_BYTES


def test_a_span_is_committed_when_it_is_handed_out(arena: Arena) -> None:
    arena.allocate(CHUNK_BYTES + 1)

    assert resident(arena.descriptor) == arena.committed_bytes == 2 * CHUNK_BYTES


def test_a_reserved_span_costs_nothing_until_it_is_committed(arena: Arena) -> None:
    offset = arena.reserve(3 * CHUNK_BYTES)
    assert resident(arena.descriptor) == 0

    arena.commit(offset + CHUNK_BYTES, 10)

    assert resident(arena.descriptor) == CHUNK_BYTES


def test_what_the_writer_writes_the_reader_reads(arena: Arena) -> None:
    reader = MappedArena(arena.descriptor, SIZE, writable=False)
    offset = arena.allocate(1000)

    arena.view(offset, 1000)[:] = bytes(range(250)) * 4

    assert reader.view(offset, 1000) == bytes(range(250)) * 4


def test_a_reader_without_the_right_cannot_write(arena: Arena) -> None:
    reader = MappedArena(arena.descriptor, SIZE, writable=False)

    assert reader.view(0, 10).readonly
    with pytest.raises(TypeError, match="read-only"):
        reader.view(0, 10)[0] = 1


@pytest.mark.parametrize(("offset", "size"), [(-1, 2), (0, -1), (SIZE, 1), (0, SIZE + 1)])
def test_a_view_outside_of_the_arena_is_refused(arena: Arena, offset: int, size: int) -> None:
    with pytest.raises(ValueError, match="is not inside"):
        arena.view(offset, size)


def test_a_full_arena_says_so_and_names_the_remedy(arena: Arena) -> None:
    arena.allocate(SIZE - CHUNK_BYTES)

    with pytest.raises(UnavailableError) as refused:
        arena.allocate(2 * CHUNK_BYTES)

    assert refused.value.message == (
        f"the shared memory of the tests is full: {2 * CHUNK_BYTES} bytes were wanted, "
        f"{SIZE - CHUNK_BYTES} of {SIZE} are in use; try again later, or start the server with a "
        f"larger --arena-byte-size"
    )


def test_a_machine_without_memory_refuses_and_nothing_stays_allocated(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", refuse)
    with pytest.raises(UnavailableError, match=r"no memory left .* the tests: No space left"):
        arena.allocate(10)
    monkeypatch.undo()

    assert (arena.used_bytes, arena.span_count) == (0, 0)
    assert arena.allocate(SIZE) == 0


def test_trimming_twice_gives_idle_pages_back(arena: Arena) -> None:
    kept = arena.allocate(CHUNK_BYTES)
    arena.view(kept, 4)[:] = b"kept"
    arena.release(arena.allocate(3 * CHUNK_BYTES))

    assert arena.trim() == 0
    assert resident(arena.descriptor) == 4 * CHUNK_BYTES
    assert arena.trim() == 3 * CHUNK_BYTES

    assert resident(arena.descriptor) == arena.committed_bytes == CHUNK_BYTES
    assert bytes(arena.view(kept, 4)) == b"kept"


def test_pages_that_are_used_between_two_trims_stay(arena: Arena) -> None:
    arena.release(arena.allocate(CHUNK_BYTES))
    arena.trim()
    arena.release(arena.allocate(CHUNK_BYTES))

    assert arena.trim() == 0


def test_idle_pages_behind_a_gap_that_was_given_back_go_as_well(arena: Arena) -> None:
    first, second = arena.allocate(CHUNK_BYTES), arena.allocate(CHUNK_BYTES)
    arena.release(first)
    arena.trim()
    arena.release(second)
    assert arena.trim() == CHUNK_BYTES

    assert arena.trim() == CHUNK_BYTES
    assert resident(arena.descriptor) == 0


def test_a_chunk_that_is_partly_in_use_stays(arena: Arena) -> None:
    _, idle, _ = (arena.allocate(size) for size in (10, CHUNK_BYTES, 10))
    arena.release(idle)

    arena.trim()

    assert arena.trim() == 0
    assert resident(arena.descriptor) == 2 * CHUNK_BYTES


def test_pages_are_committed_again_when_they_are_wanted_again(arena: Arena) -> None:
    arena.release(arena.allocate(CHUNK_BYTES))
    arena.trim()
    arena.trim()

    offset = arena.allocate(CHUNK_BYTES)

    assert resident(arena.descriptor) == CHUNK_BYTES
    assert arena.view(offset, CHUNK_BYTES) == bytes(CHUNK_BYTES)


def test_one_trim_gives_back_no_more_than_its_limit(
    arena: Arena, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "TRIM_LIMIT_BYTES", 3 * CHUNK_BYTES)
    arena.release(arena.allocate(5 * CHUNK_BYTES))

    assert [arena.trim() // CHUNK_BYTES for _ in range(4)] == [0, 3, 2, 0]


def test_its_repr_counts(arena: Arena) -> None:
    arena.allocate(100)

    assert repr(arena).startswith(
        f"<Arena of the tests: {CHUNK_BYTES} committed, <Allocator 128 of {SIZE} bytes used"
    )
