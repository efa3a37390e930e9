"""Registered regions: names, places, and how long a region lives."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonpy.ipc import shm
from tritonpy.ipc.errors import AlreadyExistsError, InvalidArgumentError, NotFoundError
from tritonpy.supervisor.memory.regions import Place, Regions

KEY = "regions_of_a_test"


class Worker:
    """Notes the regions that it is given and told to forget."""

    def __init__(self) -> None:
        self.attached: list[tuple[str, bytes, int]] = []
        self.numbers: list[int] = []
        self.detached: list[int] = []

    def attach_region(self, number: int, name: str, descriptor: int, end: int) -> None:
        self.numbers.append(number)
        self.attached.append((name, bytes(shm.read(descriptor, 0, 4)), end))

    def detach_region(self, number: int) -> None:
        self.detached.append(number)


@pytest.fixture
def regions() -> Iterator[Regions]:
    path = Path("/dev/shm", KEY)
    path.write_bytes(b"abcdefgh")
    found = Regions()
    yield found
    found.close()
    path.unlink()


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_place_counts_from_the_start_of_the_region(regions: Regions) -> None:
    regions.register_system("r", KEY, 2, 6)
    use, place = regions.use(Place("r", 3, 3))
    assert (place.offset, place.size) == (5, 3)
    use.release()


@pytest.mark.parametrize(
    "place", [Place("r", 4, 0), Place("r", -1, 1), Place("r", 0, 5), Place("r", 3, 2**63)]
)
def test_a_place_lies_inside_its_region(regions: Regions, place: Place) -> None:
    regions.register_system("r", KEY, 0, 4)
    with pytest.raises(InvalidArgumentError):
        regions.use(place)


def test_a_region_reaches_each_worker_once(regions: Regions) -> None:
    regions.register_system("r", KEY, 2, 6)
    first, second = Worker(), Worker()
    for _ in range(2):
        use, _place = regions.use(Place("r", 0, 1))
        use.show_to(first)
        use.show_to(second)
        use.release()
    assert first.attached == second.attached == [("r", b"abcd", 8)]


def test_a_region_that_is_unregistered_lives_until_its_last_use_ends(regions: Regions) -> None:
    before = open_files()
    regions.register_system("r", KEY, 0, 8)
    worker = Worker()
    uses = [regions.use(Place("r", 0, 1))[0] for _ in range(2)]
    uses[0].show_to(worker)
    regions.unregister_system("r")
    with pytest.raises(NotFoundError):
        regions.use(Place("r", 0, 1))
    uses[0].release()
    uses[0].release()  # a second time is harmless
    uses[1].show_to(worker)
    assert worker.detached == []
    uses[1].release()
    assert worker.detached == worker.numbers
    assert open_files() == before


def test_an_unused_region_goes_at_once(regions: Regions) -> None:
    before = open_files()
    regions.register_system("r", KEY, 0, 8)
    regions.unregister_system("")
    assert open_files() == before


def test_a_name_in_use_registers_nothing(regions: Regions) -> None:
    regions.register_system("r", KEY, 0, 8)
    before = open_files()
    with pytest.raises(AlreadyExistsError):
        regions.register_system("r", KEY, 0, 4)
    with pytest.raises(AlreadyExistsError):
        regions.register_cuda("r", bytes(64), 0, 4)
    assert open_files() == before
    assert [region.byte_size for region in regions.system("r")] == [8]


def test_a_part_that_the_segment_does_not_have_keeps_nothing_open(regions: Regions) -> None:
    before = open_files()
    for offset, size in ((0, 9), (8, 1), (4, 0), (0, 2**63), (2**63, 1)):
        with pytest.raises(InvalidArgumentError):
            regions.register_system("r", KEY, offset, size)
    assert open_files() == before
    assert regions.system("") == []


def test_the_status_of_the_other_kind_of_memory_says_which_it_is(regions: Regions) -> None:
    regions.register_system("r", KEY, 0, 8)
    with pytest.raises(NotFoundError, match="registered as system shared memory, not CUDA"):
        regions.cuda("r")
    regions.unregister_cuda("r")
    assert [region.name for region in regions.system("")] == ["r"]
