"""Tensors of every datatype survive encoding and decoding, and broken bytes never pass."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tritonpy.ipc.arena import CHUNK_BYTES, MappedArena, create_memory
from tritonpy.ipc.dtypes import DATATYPES, DataType, numpy_dtype
from tritonpy.ipc.tensor import (
    FramingError,
    Span,
    Tensor,
    count_bytes,
    decode_bytes,
    encode_bytes,
    expected_byte_size,
)
from tritonpy.worker.backend import Array
from tritonpy.worker.memory import Memory

ELEMENTS = st.lists(st.binary(max_size=40), max_size=30)

NUMBERS = st.sampled_from([each for each in DATATYPES if each != "BYTES"])


@given(ELEMENTS)
def test_elements_come_back_as_they_were(elements: list[bytes]) -> None:
    data = encode_bytes(elements)

    assert decode_bytes(data, len(elements)).tolist() == elements
    assert count_bytes(data) == len(elements)


@given(st.lists(st.text(max_size=20), max_size=20))
def test_text_comes_back_as_utf8(texts: list[str]) -> None:
    decoded = decode_bytes(encode_bytes(texts), len(texts))

    assert [element.decode() for element in decoded] == texts


@given(ELEMENTS, st.data())
def test_cut_off_elements_never_pass(elements: list[bytes], data: st.DataObject) -> None:
    framed = encode_bytes(elements)
    cut = framed[: data.draw(st.integers(0, len(framed)))]

    if cut != framed:
        assert _raises(lambda: decode_bytes(cut, len(elements)))


@given(ELEMENTS, st.integers(0, 50))
def test_another_count_never_passes(elements: list[bytes], count: int) -> None:
    assert _raises(lambda: decode_bytes(encode_bytes(elements), count)) == (count != len(elements))


@given(st.binary(max_size=100), st.integers(0, 30))
def test_any_bytes_are_decoded_or_refused(data: bytes, count: int) -> None:
    try:
        elements = decode_bytes(data, count)
    except FramingError:
        return
    assert encode_bytes(elements.tolist()) == data


@given(st.binary(max_size=100))
def test_counting_agrees_with_decoding(data: bytes) -> None:
    try:
        count = count_bytes(data)
    except ValueError:
        for claimed in range(25):
            assert _raises(lambda claimed=claimed: decode_bytes(data, claimed))  # type: ignore[misc]
    else:
        assert len(decode_bytes(data, count)) == count


@given(st.data(), NUMBERS, arrays.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
def test_arrays_of_numbers_come_back_bit_by_bit(
    data: st.DataObject, datatype: DataType, shape: tuple[int, ...]
) -> None:
    size = expected_byte_size(datatype, shape)
    assert size is not None
    raw = data.draw(st.binary(min_size=size, max_size=size))
    if datatype == "BOOL":
        raw = bytes(byte & 1 for byte in raw)
    array: Array = np.frombuffer(raw, numpy_dtype(datatype)).reshape(shape)

    back, tensor = _through_a_worker(array)

    assert (tensor.datatype, tensor.shape, tensor.byte_size) == (datatype, shape, size)
    assert (back.dtype, back.shape, back.tobytes()) == (array.dtype, shape, raw)


@given(
    arrays.arrays(
        np.object_,
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=st.binary(max_size=10),
        fill=st.nothing(),
    )
)
def test_arrays_of_bytes_come_back(array: Array) -> None:
    back, tensor = _through_a_worker(array)

    assert (tensor.datatype, tensor.shape) == ("BYTES", array.shape)
    assert back.shape == array.shape
    assert back.tolist() == array.tolist()


@given(
    arrays.arrays(
        arrays.integer_dtypes(endianness="?") | arrays.floating_dtypes(endianness="?"),
        arrays.array_shapes(min_dims=2, max_dims=2, max_side=90),
        elements={"allow_nan": False},
        fill=None,
    ),
    st.booleans(),
    st.integers(1, 3),
)
def test_views_are_sent_as_if_they_were_contiguous(
    array: Array, transposed: bool, step: int
) -> None:
    view = (array.T if transposed else array)[::step]

    back, _ = _through_a_worker(view)

    np.testing.assert_array_equal(back, view)


def _through_a_worker(array: Array) -> tuple[Array, Tensor]:
    """Place the array as a worker's output, and read the tensor as another worker's input."""
    descriptor = create_memory("tritonpy-test", CHUNK_BYTES)
    outputs = MappedArena(descriptor, CHUNK_BYTES, writable=False)
    memory = Memory()
    memory.attach(0, descriptor, CHUNK_BYTES)
    try:
        tensor = memory.place("y", array, _never)
    finally:
        os.close(descriptor)
    data: Any = tensor.data
    if isinstance(data, Span):
        data = outputs.view(data.offset, data.size)
    sent = Tensor("x", tensor.datatype, tensor.shape, data)
    return Memory().array(sent, "m", ""), tensor


def _never(_condition: Callable[[], bool]) -> None:
    raise AssertionError("nothing is to be waited for here")


def _raises(call: Callable[[], object]) -> bool:
    try:
        call()
    except FramingError:
        return True
    return False
