"""What a worker copies of tensors, path by path."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from tritonpy.ipc import shm
from tritonpy.ipc.arena import CHUNK_BYTES, create_memory
from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES, Region, Span, Tensor
from tritonpy.supervisor.memory.buffers import InputArena, InputLease
from tritonpy.worker.backend import Array
from tritonpy.worker.batch import GraphShapes, gather
from tritonpy.worker.copies import COPIES
from tritonpy.worker.deferred import Deferred
from tritonpy.worker.memory import OUTPUT_ARENA, Memory
from tritonpy.worker.python.errors import TritonModelException
from tritonpy.worker.python.tensors import host_array, wrap

SIZE = 256 * 1024
REGION = 1 << 32
SEGMENT = Path("/dev/shm/copies_of_a_test")
BATCHED = GraphShapes({"max_batch_size": 8})


class Counted:
    """How many bytes were copied since it was made, by kind."""

    def __init__(self) -> None:
        self._before = self._now()

    def __call__(self) -> dict[str, int]:
        """The kinds of which there were some."""
        now = self._now()
        return {
            kind: now[kind] - count for kind, count in self._before.items() if now[kind] > count
        }

    def _now(self) -> dict[str, int]:
        return {kind: getattr(COPIES, kind) for kind in COPIES.__slots__}


@pytest.fixture
def counted() -> Counted:
    return Counted()


@pytest.fixture
def inputs() -> Iterator[InputArena]:
    arena = InputArena(7, 16 * CHUNK_BYTES, "a model")
    yield arena
    arena.close()


@pytest.fixture
def memory(inputs: InputArena) -> Memory:
    found = Memory()
    found.attach(7, os.dup(inputs.descriptor), inputs.size)
    found.attach(OUTPUT_ARENA, create_memory("outputs", CHUNK_BYTES), CHUNK_BYTES)
    return found


@pytest.fixture
def region(memory: Memory) -> Iterator[Region]:
    SEGMENT.write_bytes(np.arange(SIZE // 4, dtype=np.float32).tobytes())
    memory.regions.attach(REGION, "r", shm.open_segment(SEGMENT.name), SIZE)
    yield Region(REGION, 0, SIZE)
    memory.regions.detach(REGION)
    SEGMENT.unlink()


def sent(inputs: InputArena, value: int, size: int = SIZE) -> tuple[InputLease, Tensor]:
    """A request's tensor, where the supervisor puts it."""
    lease = inputs.lease(size)
    lease.write(0, bytes([value]) * size)
    return lease, Tensor("IN", "UINT8", (1, size), lease.span(0, size))


def arrays_of(memory: Memory, *tensors: Tensor) -> list[dict[str, Array]]:
    return [{"IN": memory.array(tensor, "m", "")} for tensor in tensors]


def test_a_request_alone_is_read_where_it_lies(
    inputs: InputArena, memory: Memory, counted: Counted
) -> None:
    _, tensor = sent(inputs, 1)
    (request,) = arrays_of(memory, tensor)
    assert gather([request], BATCHED).arrays["IN"] is request["IN"]
    assert counted() == {}


def test_a_batch_of_requests_that_came_one_after_the_other_is_one_view(
    inputs: InputArena, memory: Memory, counted: Counted
) -> None:
    tensors = [sent(inputs, value)[1] for value in (1, 2, 3)]
    requests = arrays_of(memory, *tensors)
    joined = gather(requests, BATCHED).arrays["IN"]
    assert joined.shape == (3, SIZE)
    assert [int(row[0]) for row in joined] == [1, 2, 3]
    assert np.shares_memory(joined, requests[1]["IN"])
    assert counted() == {}


def test_a_batch_of_requests_that_lie_apart_is_joined_once(
    inputs: InputArena, memory: Memory, counted: Counted
) -> None:
    first, second, third = (sent(inputs, value) for value in (1, 2, 3))
    joined = gather(arrays_of(memory, first[1], third[1]), BATCHED).arrays["IN"]
    assert [int(row[0]) for row in joined] == [1, 3]
    assert second[1].data == Span(7, SIZE, SIZE)
    assert counted() == {"joined": 2 * SIZE}


def test_ragged_and_padded_requests_are_joined_once(counted: Counted) -> None:
    ragged = GraphShapes(
        {"max_batch_size": 8, "input": [{"name": "IN", "allow_ragged_batch": True}]}
    )
    requests = [{"IN": np.zeros((1, count), np.float32)} for count in (3, 5)]
    gather(requests, ragged)
    assert counted() == {"joined": 32}


def test_only_what_others_read_is_copied_for_a_model_that_writes(
    inputs: InputArena, memory: Memory, counted: Counted
) -> None:
    memory.writable_inputs = True
    _, tensor = sent(inputs, 1)
    assert memory.array(tensor, "m", "").flags.writeable
    assert counted() == {}
    memory.array(tensor, "m", "", shared=True)
    memory.lent(tensor, lambda: None, shared=True)
    assert counted() == {"guarded": 2 * SIZE}


def test_what_another_model_made_is_read_where_it_lies(
    inputs: InputArena, memory: Memory, counted: Counted
) -> None:
    _, tensor = sent(inputs, 1)
    assert memory.lent(tensor, lambda: None, shared=True)[0, 0] == 1
    assert counted() == {}


def test_outputs_are_placed_once(memory: Memory, region: Region, counted: Counted) -> None:
    output = np.zeros(SIZE // 4, np.float32)
    memory.place("OUT", output, lambda _: None)
    assert counted() == {"placed": SIZE}
    memory.place("OUT", output[:4], lambda _: None)
    memory.place_in_region("OUT", output, region)
    assert counted() == {"placed": 2 * SIZE + 16}
    assert INLINE_LIMIT_BYTES > 16


def test_a_clients_memory_is_read_in_place_or_fetched_once(
    memory: Memory, region: Region, counted: Counted
) -> None:
    tensor = Tensor("IN", "FP32", (SIZE // 4,), region)
    assert memory.array(tensor, "m", "")[5] == 5
    assert counted() == {}
    memory.writable_inputs = True
    assert memory.array(tensor, "m", "").flags.writeable
    assert counted() == {"fetched": SIZE}


# --- what a python model gets of a client's memory ------------------------------------------------


@pytest.fixture
def deferred(memory: Memory, region: Region) -> Deferred:
    memory.writable_inputs = memory.deferred_inputs = True
    found: object = memory.array(Tensor("IN", "FP32", (SIZE // 4,), region), "m", "")
    assert isinstance(found, Deferred)
    return found


def test_what_a_model_does_not_look_at_is_not_copied(deferred: Deferred, counted: Counted) -> None:
    tensor = wrap("IN", deferred)
    assert tensor.shape() == [SIZE // 4]
    assert tensor.triton_dtype() == 11
    assert tensor.is_cpu()
    assert "FP32" in repr(tensor)
    assert counted() == {}


def test_what_it_looks_at_is_copied_once_and_is_its_own(
    deferred: Deferred, counted: Counted
) -> None:
    tensor = wrap("IN", deferred)
    array = tensor.as_numpy()
    array += 1
    assert tensor.as_numpy() is array
    assert host_array(tensor) is array
    assert np.from_dlpack(tensor)[7] == 8
    assert counted() == {"fetched": SIZE}
    assert SEGMENT.read_bytes()[:8] == np.arange(2, dtype=np.float32).tobytes()


def test_it_can_have_another_shape(deferred: Deferred) -> None:
    reshaped = deferred.reshape((2, SIZE // 8))
    assert reshaped.array()[1, 0] == SIZE // 8
    with pytest.raises(ValueError, match="cannot reshape"):
        deferred.reshape((3,))


def test_what_is_gone_is_refused_or_raises_in_the_model(
    memory: Memory, region: Region, deferred: Deferred
) -> None:
    os.truncate(SEGMENT, SIZE - 1)
    with pytest.raises(TritonModelException, match="has become shorter"):
        wrap("IN", deferred).as_numpy()
    with pytest.raises(InvalidArgumentError, match="has become shorter"):
        memory.array(Tensor("IN", "FP32", (SIZE // 4,), region), "m", "")


def test_a_region_that_is_closed_is_not_read_by_a_number_that_others_have(
    memory: Memory, deferred: Deferred
) -> None:
    memory.regions.detach(REGION)
    with pytest.raises(TritonModelException, match="region 'r' is closed"):
        wrap("IN", deferred).as_numpy()


def test_bytes_that_do_not_add_up_are_refused_at_once(memory: Memory, region: Region) -> None:
    memory.writable_inputs = memory.deferred_inputs = True
    with pytest.raises(InvalidArgumentError, match="which is not what FP32"):
        memory.array(Tensor("IN", "FP32", (3,), region), "m", "")
