"""Tensors become arrays without copies, outputs find a place, and waiting for one always ends."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support.peers import TIMEOUT, Background

from tritonpy.ipc.arena import CHUNK_BYTES, MappedArena, create_memory
from tritonpy.ipc.dtypes import DATATYPES, DataType, numpy_dtype
from tritonpy.ipc.errors import InternalError, InvalidArgumentError, UnavailableError
from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES, Span, Tensor, encode_bytes
from tritonpy.worker.backend import Array
from tritonpy.worker.memory import Memory

SIZE = 4 * CHUNK_BYTES
INPUTS = 7


class Arenas:
    """A worker's memory, and its arenas as the supervisor sees them."""

    def __init__(self) -> None:
        self.memory = Memory()
        self.descriptors: dict[int, int] = {}
        self.outputs = self._attach(0)
        self.inputs = self._attach(INPUTS)

    def _attach(self, number: int) -> MappedArena:
        descriptor = create_memory("tritonpy-test", SIZE)
        mapped = MappedArena(descriptor, SIZE, writable=True)
        self.memory.attach(number, descriptor, SIZE)
        self.descriptors[number] = descriptor
        return mapped

    def read(self, tensor: Tensor) -> Array:
        if isinstance(tensor.data, Span) and tensor.data.arena == INPUTS:
            self.descriptors.pop(INPUTS, None)  # it is mapped now, and the memory closes it
        return self.memory.array(tensor, "digits", "42")

    def bytes_of(self, tensor: Tensor) -> bytes:
        data = tensor.data
        if isinstance(data, Span):
            return bytes(self.outputs.view(data.offset, data.size))
        assert isinstance(data, memoryview)
        return bytes(data)

    def close(self) -> None:
        for descriptor in self.descriptors.values():
            os.close(descriptor)


@pytest.fixture
def arenas() -> Iterator[Arenas]:
    made = Arenas()
    yield made
    made.close()


@pytest.fixture
def memory(arenas: Arenas) -> Memory:
    return arenas.memory


def never(_condition: Callable[[], bool]) -> None:
    raise AssertionError("nothing is to be waited for here")


def some(datatype: DataType, count: int) -> Array:
    """An array of this datatype with various elements."""
    if datatype == "BYTES":
        return np.array([b"x" * (n % 5) for n in range(count)], object)
    return (np.arange(count) % 2).astype(numpy_dtype(datatype))


def payload(datatype: DataType, array: Array) -> bytes:
    return encode_bytes(array.tolist()) if datatype == "BYTES" else array.tobytes()


def kilobytes(count: int, value: int = 1) -> Array:
    return np.full(count * 1024, value, np.uint8)


# --- inputs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("place", ["inline", "arena"])
def test_inputs_of_every_datatype_become_arrays(
    arenas: Arenas, datatype: DataType, place: str
) -> None:
    expected = some(datatype, 6)
    data = payload(datatype, expected)
    arenas.inputs.view(128, len(data))[:] = data
    where = memoryview(data) if place == "inline" else Span(INPUTS, 128, len(data))

    array = arenas.read(Tensor("x", datatype, (2, 3), where))

    assert array.dtype == expected.dtype
    np.testing.assert_array_equal(array, expected.reshape(2, 3))


@pytest.mark.parametrize("datatype", DATATYPES)
def test_inputs_without_elements_keep_their_shape(arenas: Arenas, datatype: DataType) -> None:
    assert arenas.read(Tensor("x", datatype, (0, 3), memoryview(b""))).shape == (0, 3)


def test_a_scalar_has_an_empty_shape(arenas: Arenas) -> None:
    array = arenas.read(Tensor("x", "INT32", (), memoryview(b"\5\0\0\0")))

    assert (array.shape, int(array)) == ((), 5)


def test_inputs_in_an_arena_are_not_copied(arenas: Arenas) -> None:
    array = arenas.read(Tensor("x", "UINT8", (4,), Span(INPUTS, 64, 4)))

    arenas.inputs.view(64, 4)[:] = b"\1\2\3\4"

    assert array.tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("where", [memoryview(b"\0" * 4), Span(INPUTS, 64, 4)])
def test_inputs_are_read_only_unless_the_backend_writes_them(
    arenas: Arenas, where: memoryview | Span
) -> None:
    array = arenas.read(Tensor("x", "UINT8", (4,), where))

    with pytest.raises(ValueError, match="read-only"):
        array[0] = 1


@pytest.mark.parametrize("where", [memoryview(b"\0" * 4), Span(INPUTS, 64, 4)])
def test_inputs_are_writable_for_a_backend_that_writes_them(
    arenas: Arenas, where: memoryview | Span
) -> None:
    arenas.memory.writable_inputs = True
    array = arenas.read(Tensor("x", "UINT8", (4,), where))

    array[0] = 1

    assert array.tolist() == [1, 0, 0, 0]


def test_descriptors_of_input_arenas_are_closed_once_they_are_mapped(arenas: Arenas) -> None:
    descriptor = arenas.descriptors[INPUTS]

    arenas.read(Tensor("x", "UINT8", (4,), Span(INPUTS, 64, 4)))

    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


def test_strings_that_are_cut_off_are_the_clients_fault(arenas: Arenas) -> None:
    with pytest.raises(InvalidArgumentError) as refused:
        arenas.read(Tensor("text", "BYTES", (1,), memoryview(b"\x05\0\0\0abc")))

    assert refused.value.message == (
        "incomplete string data for inference input 'text', expecting string of length 5 but only "
        "3 bytes available"
    )


@pytest.mark.parametrize("data", [b"", b"\0" * 7, b"\0" * 12])
def test_bytes_that_do_not_fit_the_shape_are_refused(arenas: Arenas, data: bytes) -> None:
    with pytest.raises(InvalidArgumentError, match=rf"'x' .* has {len(data)} bytes, .* FP32 \[2\]"):
        arenas.read(Tensor("x", "FP32", (2,), memoryview(data)))


def test_an_arena_that_was_never_attached_is_named(arenas: Arenas) -> None:
    with pytest.raises(InternalError, match="arena 9 was never attached"):
        arenas.read(Tensor("x", "UINT8", (4,), Span(9, 0, 4)))


# --- outputs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("datatype", DATATYPES)
@pytest.mark.parametrize("count", [6, 60_000])
def test_outputs_of_every_datatype_are_placed(
    arenas: Arenas, datatype: DataType, count: int
) -> None:
    array = some(datatype, count)

    tensor = arenas.memory.place("y", array.reshape(2, -1), never)

    assert (tensor.name, tensor.datatype) == ("y", datatype)
    assert tensor.shape == (2, count // 2)
    assert arenas.bytes_of(tensor) == payload(datatype, array)


def test_small_outputs_ride_in_the_message_and_larger_ones_do_not(memory: Memory) -> None:
    small = memory.place("y", np.zeros(INLINE_LIMIT_BYTES, np.uint8), never)
    large = memory.place("y", np.zeros(INLINE_LIMIT_BYTES + 1, np.uint8), never)

    assert isinstance(small.data, memoryview)
    assert isinstance(large.data, Span)


@pytest.mark.parametrize("count", [4, 60_000])
def test_elements_in_foreign_byte_order_are_turned(arenas: Arenas, count: int) -> None:
    array = np.arange(count, dtype=">i4")

    tensor = arenas.memory.place("y", array, never)

    assert tensor.datatype == "INT32"
    assert arenas.bytes_of(tensor) == array.astype("<i4").tobytes()


@pytest.mark.parametrize("count", [10, 300])
def test_arrays_that_are_not_contiguous_are_sent_row_by_row(arenas: Arenas, count: int) -> None:
    array = np.arange(count * count, dtype=np.int32).reshape(count, count).T[::2]

    tensor = arenas.memory.place("y", array, never)

    assert tensor.shape == (count // 2, count)
    assert arenas.bytes_of(tensor) == array.tobytes()


def test_text_arrays_become_bytes(arenas: Arenas) -> None:
    tensor = arenas.memory.place("y", np.array([["é", "ab"]]), never)

    assert (tensor.datatype, tensor.shape) == ("BYTES", (1, 2))
    assert arenas.bytes_of(tensor) == encode_bytes(["é".encode(), b"ab"])


def test_an_output_that_no_datatype_fits_is_the_models_fault(memory: Memory) -> None:
    with pytest.raises(InternalError, match=r"output 'y': .* complex64 has no Triton datatype"):
        memory.place("y", np.zeros(2, np.complex64), never)


def test_text_that_cannot_be_encoded_takes_no_memory(memory: Memory) -> None:
    with pytest.raises(UnicodeEncodeError):
        memory.place("y", np.array(["\udcff" * 20_000], object), never)

    assert "<Allocator 0 of" in repr(memory)


# --- waiting for space ----------------------------------------------------------------------------


class Readers:
    """Who reads the outputs: releases the next span whenever somebody waits."""

    def __init__(self, memory: Memory, *tensors: Tensor) -> None:
        self._memory = memory
        self._tensors = list(tensors)
        self.waits = 0

    def __call__(self, condition: Callable[[], bool]) -> None:
        self.waits += 1
        assert not condition()
        tensor = self._tensors.pop(0)
        assert isinstance(tensor.data, Span)
        self._memory.release([tensor.data.offset])
        assert condition()


def sent(memory: Memory, *sizes: int) -> list[Tensor]:
    tensors = [memory.place("y", kilobytes(size), never) for size in sizes]
    memory.hand_over(tensors)
    return tensors


def test_an_output_waits_until_its_readers_have_made_room(memory: Memory) -> None:
    readers = Readers(memory, *sent(memory, 1500, 1500, 1000))

    tensor = memory.place("z", kilobytes(2000), readers)

    assert readers.waits == 2
    assert tensor.data == Span(0, 0, 2000 * 1024)


def test_an_output_that_is_larger_than_the_arena_fails_at_once(memory: Memory) -> None:
    sent(memory, 100)

    with pytest.raises(UnavailableError, match=r"output 'z': the shared memory .* is full"):
        memory.place("z", kilobytes(SIZE // 1024 + 1), never)


def test_an_output_fails_when_only_its_own_response_has_the_memory(memory: Memory) -> None:
    mine = memory.place("y", kilobytes(3000), never)

    with pytest.raises(UnavailableError, match=r"output 'z': the shared memory .* is full"):
        memory.place("z", kilobytes(3000), never)

    memory.discard([mine])
    assert "<Allocator 0 of" in repr(memory)


def test_an_output_fails_when_the_last_reader_has_not_made_room_enough(memory: Memory) -> None:
    memory.place("y", kilobytes(2000), never)
    readers = Readers(memory, *sent(memory, 1000))

    with pytest.raises(UnavailableError, match=r"output 'z'"):
        memory.place("z", kilobytes(3000), readers)

    assert readers.waits == 1


def test_what_is_handed_over_is_the_readers_to_release(memory: Memory) -> None:
    (tensor,) = sent(memory, 3000)
    assert isinstance(tensor.data, Span)

    memory.release([tensor.data.offset])

    memory.place("z", kilobytes(3000), never)


def test_inline_outputs_need_no_release(memory: Memory) -> None:
    tensor = memory.place("y", np.zeros(3, np.uint8), never)

    memory.hand_over([tensor])
    memory.discard([tensor])


def test_an_output_waits_for_a_thread_that_may_still_send(memory: Memory) -> None:
    other = Background(lambda: memory.place("y", kilobytes(3000), never)).result()
    assert isinstance(other, Tensor)

    def other_gives_up(condition: Callable[[], bool]) -> None:
        memory.discard([other])
        assert condition()

    memory.place("z", kilobytes(3000), other_gives_up)


def test_of_two_threads_that_wait_for_each_other_the_second_fails(memory: Memory) -> None:
    placed, waited_for = threading.Event(), threading.Event()

    def other_response() -> None:
        first = memory.place("a", kilobytes(1500), never)
        placed.set()
        assert waited_for.wait(TIMEOUT)
        with pytest.raises(UnavailableError, match=r"output 'b'"):
            memory.place("b", kilobytes(1500), never)
        memory.discard([first])

    other = Background(other_response)
    assert placed.wait(TIMEOUT)
    memory.place("y", kilobytes(2000), never)

    def wait_for_the_other(condition: Callable[[], bool]) -> None:
        waited_for.set()
        other.result()
        assert condition()

    memory.place("z", kilobytes(1500), wait_for_the_other)


def test_a_thread_that_was_given_room_is_waited_for_before_it_has_noticed(memory: Memory) -> None:
    (read,) = sent(memory, 2000)
    assert isinstance(read.data, Span)
    waits, may_go_on = threading.Event(), threading.Event()

    def wait(_condition: Callable[[], bool]) -> None:
        waits.set()
        assert may_go_on.wait(TIMEOUT)

    def other_response() -> None:
        first = memory.place("a", kilobytes(1000), never)
        memory.discard([first, memory.place("b", kilobytes(1500), wait)])

    other = Background(other_response)
    assert waits.wait(TIMEOUT)
    memory.release([read.data.offset])

    def wait_for_the_other(condition: Callable[[], bool]) -> None:
        may_go_on.set()
        other.result()
        assert condition()

    memory.place("z", kilobytes(3200), wait_for_the_other)


def test_trimming_without_an_arena_is_harmless() -> None:
    Memory().trim()


def test_trimming_gives_idle_pages_of_the_outputs_back(memory: Memory) -> None:
    memory.discard([memory.place("y", kilobytes(2000), never)])
    assert f"{2 * CHUNK_BYTES} committed" in repr(memory)

    memory.trim()
    memory.trim()

    assert "0 committed" in repr(memory)
