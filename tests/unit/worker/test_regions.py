"""Clients' regions in a worker: what is copied, what is read in place, and what is refused."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tritonpy.ipc import shm
from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.ipc.tensor import Region, Tensor
from tritonpy.worker.memory import Memory

NUMBER = 1 << 32
SEGMENT = Path("/dev/shm/worker_regions_of_a_test")


@pytest.fixture
def memory() -> Iterator[Memory]:
    SEGMENT.write_bytes(np.arange(8, dtype=np.float32).tobytes())
    found = Memory()
    found.regions.attach(NUMBER, "r", shm.open_segment(SEGMENT.name), 32)
    yield found
    found.regions.detach(NUMBER)
    SEGMENT.unlink()


def tensor(offset: int = 0, count: int = 4) -> Tensor:
    return Tensor("IN", "FP32", (count,), Region(NUMBER, offset, 4 * count))


def write(offset: int, data: bytes) -> None:
    with SEGMENT.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def test_an_input_is_read_in_place_and_cannot_be_written(memory: Memory) -> None:
    array = memory.array(tensor(16), "m", "")
    assert not array.flags.writeable
    write(16, np.float32(9).tobytes())
    np.testing.assert_array_equal(array, [9, 5, 6, 7])


def test_a_model_that_writes_to_its_inputs_gets_a_copy(memory: Memory) -> None:
    memory.writable_inputs = True
    array = memory.array(tensor(), "m", "")
    array *= 2
    np.testing.assert_array_equal(array, [0, 2, 4, 6])
    assert SEGMENT.read_bytes() == np.arange(8, dtype=np.float32).tobytes()


@pytest.mark.parametrize("offset", [2, 4])
def test_an_input_across_natural_boundaries_is_copied(memory: Memory, offset: int) -> None:
    array = memory.array(tensor(offset, 2), "m", "")
    assert array.flags.aligned
    expected = np.frombuffer(SEGMENT.read_bytes(), np.float32, 2, offset)
    np.testing.assert_array_equal(array, expected)


def test_an_input_without_elements_needs_no_bytes(memory: Memory) -> None:
    assert memory.array(tensor(31, 0), "m", "").shape == (0,)


def test_an_output_is_written_row_by_row(memory: Memory) -> None:
    columns = np.array([[1, 2], [3, 4]], np.float32).T
    placed = memory.place_in_region("OUT", columns, Region(NUMBER, 8, 24))
    assert (placed.datatype, placed.shape) == ("FP32", (2, 2))
    written = np.frombuffer(SEGMENT.read_bytes(), np.float32)
    np.testing.assert_array_equal(written, [0, 1, 1, 3, 2, 4, 6, 7])


def test_texts_are_framed_in_the_region(memory: Memory) -> None:
    texts = np.array([b"ab", b""], np.object_)
    memory.place_in_region("OUT", texts, Region(NUMBER, 0, 32))
    assert SEGMENT.read_bytes()[:10] == b"\2\0\0\0ab\0\0\0\0"
    read = memory.array(Tensor("IN", "BYTES", (2,), Region(NUMBER, 0, 10)), "m", "")
    assert read.tolist() == [b"ab", b""]


def test_an_output_that_is_too_large_writes_nothing(memory: Memory) -> None:
    with pytest.raises(InternalError, match=r"'OUT' \(8 bytes\) should be at least 12 bytes"):
        memory.place_in_region("OUT", np.ones(3, np.float32), Region(NUMBER, 0, 8))
    assert SEGMENT.read_bytes() == np.arange(8, dtype=np.float32).tobytes()


@pytest.mark.parametrize("writes", [False, True])
def test_a_region_that_was_shortened_is_refused_before_it_is_touched(
    memory: Memory, writes: bool
) -> None:
    memory.writable_inputs = writes
    memory.array(tensor(16), "m", "")
    os.truncate(SEGMENT, 20)
    with pytest.raises(InvalidArgumentError, match="expected at least 32 bytes, got 20"):
        memory.array(tensor(16), "m", "")
    with pytest.raises(InvalidArgumentError, match="region 'r' has become shorter"):
        memory.place_in_region("OUT", np.ones(4, np.float32), Region(NUMBER, 16, 16))
    assert SEGMENT.stat().st_size == 20


def test_a_region_that_never_arrived_fails_its_requests_alone(memory: Memory) -> None:
    with pytest.raises(InternalError, match="did not get to this worker"):
        memory.array(Tensor("IN", "FP32", (1,), Region(NUMBER + 1, 0, 4)), "m", "")
    memory.regions.detach(NUMBER + 1)


def test_a_region_is_closed_when_it_is_let_go_of(memory: Memory) -> None:
    number = NUMBER + 1
    before = len(os.listdir("/proc/self/fd"))
    memory.regions.attach(number, "s", shm.open_segment(SEGMENT.name), 32)
    kept = memory.array(Tensor("IN", "FP32", (8,), Region(number, 0, 32)), "m", "")
    memory.regions.detach(number)
    np.testing.assert_array_equal(kept, np.arange(8))  # what a model kept keeps its memory
    del kept
    assert len(os.listdir("/proc/self/fd")) == before
