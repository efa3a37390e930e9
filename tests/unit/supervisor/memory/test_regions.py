"""Registered regions: names, places, and how long a region lives."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tritonpy.ipc import shm
from tritonpy.ipc.errors import (
    AlreadyExistsError,
    InvalidArgumentError,
    NotFoundError,
    StatusError,
)
from tritonpy.ipc.tensor import CudaRegion
from tritonpy.supervisor.memory.regions import Place, Regions
from tritonpy.supervisor.request import CudaHandle

KEY = "regions_of_a_test"


class Worker:
    """Notes the regions that it is given and told to forget."""

    def __init__(self) -> None:
        self.attached: list[tuple[str, bytes, int]] = []
        self.handles: list[tuple[str, CudaHandle]] = []
        self.numbers: list[int] = []
        self.detached: list[int] = []

    def attach_region(self, number: int, name: str, descriptor: int, end: int) -> None:
        self.numbers.append(number)
        self.attached.append((name, bytes(shm.read(descriptor, 0, 4)), end))

    def attach_cuda_region(self, number: int, name: str, handle: CudaHandle) -> None:
        self.numbers.append(number)
        self.handles.append((name, handle))

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


# --- memory of GPUs -----------------------------------------------------------------------------

HANDLE = CudaHandle(b"h" * 64, 1, 16)


class Opener:
    """Says of every handle what a test wants."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str, CudaHandle]] = []
        self.refuses: StatusError | None = None
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def check(self, number: int, name: str, handle: CudaHandle) -> None:
        self.asked.append((number, name, handle))
        await self.may_answer.wait()
        if self.refuses is not None:
            raise self.refuses


@pytest.fixture
def opener() -> Opener:
    return Opener()


@pytest.fixture
def on_gpus(opener: Opener) -> Regions:
    return Regions(opener)


@pytest.mark.anyio
async def test_without_a_gpu_nothing_can_be_registered() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        await Regions().register_cuda("r", HANDLE)
    assert caught.value.message == (
        "failed to register CUDA shared memory region: 'r', GPUs not supported"
    )


@pytest.mark.anyio
async def test_memory_of_a_gpu_is_registered_once_its_handle_has_been_opened(
    on_gpus: Regions, opener: Opener
) -> None:
    opener.may_answer.clear()
    registering = asyncio.create_task(on_gpus.register_cuda("r", HANDLE))
    await asyncio.sleep(0)
    assert on_gpus.cuda("") == []
    with pytest.raises(AlreadyExistsError):
        await on_gpus.register_cuda("r", HANDLE)
    with pytest.raises(AlreadyExistsError):
        on_gpus.register_system("r", KEY, 0, 1)
    opener.may_answer.set()
    await registering
    (region,) = on_gpus.cuda("r")
    assert (region.handle, region.byte_size) == (HANDLE, 16)
    assert [name for _, name, _ in opener.asked] == ["r"]


@pytest.mark.anyio
async def test_a_handle_that_cannot_be_opened_is_the_registrars_error_and_leaves_the_name_free(
    on_gpus: Regions, opener: Opener
) -> None:
    opener.refuses = InvalidArgumentError("failed to open CUDA IPC handle")
    with pytest.raises(InvalidArgumentError, match="failed to open"):
        await on_gpus.register_cuda("r", HANDLE)
    assert on_gpus.cuda("") == []
    opener.refuses = None
    await on_gpus.register_cuda("r", HANDLE)


@pytest.mark.anyio
@pytest.mark.parametrize("handle", [HANDLE._replace(byte_size=0), HANDLE._replace(raw=b"short")])
async def test_what_can_be_no_region_is_not_even_tried(
    on_gpus: Regions, opener: Opener, handle: CudaHandle
) -> None:
    with pytest.raises(InvalidArgumentError, match="failed to register CUDA shared memory"):
        await on_gpus.register_cuda("r", handle)
    assert opener.asked == []


@pytest.mark.anyio
async def test_both_kinds_share_the_names_and_keep_to_their_own_calls(
    regions: Regions, opener: Opener
) -> None:
    both = Regions(opener)
    both.register_system("system", KEY, 0, 8)
    await both.register_cuda("gpu", HANDLE)
    for taken in ("system", "gpu"):
        with pytest.raises(AlreadyExistsError):
            await both.register_cuda(taken, HANDLE)
    assert [each.name for each in both.system("")] == ["system"]
    assert [each.name for each in both.cuda("")] == ["gpu"]
    with pytest.raises(NotFoundError, match="registered as CUDA shared memory, not system"):
        both.system("gpu")
    both.unregister_system("gpu")
    both.unregister_cuda("system")
    both.unregister_system("")
    assert [each.name for each in both.cuda("")] == ["gpu"]
    both.close()
    assert both.cuda("") == []


@pytest.mark.anyio
async def test_a_workers_handle_is_closed_when_the_last_request_is_done(on_gpus: Regions) -> None:
    await on_gpus.register_cuda("r", HANDLE)
    use, place = on_gpus.use(Place("r", 4, 8))
    assert place == CudaRegion(on_gpus.cuda("r")[0].number, 4, 8)
    worker = Worker()
    use.show_to(worker)
    use.show_to(worker)
    assert worker.handles == [("r", HANDLE)]
    on_gpus.unregister_cuda("r")
    assert worker.detached == []
    with pytest.raises(NotFoundError):
        on_gpus.use(Place("r", 0, 1))
    use.release()
    assert worker.detached == worker.numbers
