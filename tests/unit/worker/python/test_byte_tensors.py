"""Tests for tritonpy.worker.python.byte_tensors."""

from __future__ import annotations

import numpy as np
import pytest

from tritonpy.worker.python.byte_tensors import deserialize_bytes_tensor, serialize_byte_tensor


def test_elements_are_framed_in_row_major_order() -> None:
    array = np.array([[b"a", "bc"], [b"", 7]], dtype=object)

    framed = serialize_byte_tensor(array)

    assert framed == b"\1\0\0\0a\2\0\0\0bc\0\0\0\0\1\0\0\0" + b"7"


def test_framed_elements_come_back_as_flat_bytes() -> None:
    framed = serialize_byte_tensor(np.array(["x", "yz"]))
    assert isinstance(framed, bytes)

    assert deserialize_bytes_tensor(framed).tolist() == [b"x", b"yz"]


def test_an_empty_array_is_an_empty_tuple_and_numbers_are_nothing() -> None:
    assert serialize_byte_tensor(np.array([], dtype=object)) == ()
    assert serialize_byte_tensor(np.array([1.0])) is None


def test_nothing_framed_is_an_empty_array() -> None:
    array = deserialize_bytes_tensor(b"")

    assert array.shape == (0,)
    assert array.dtype == object


def test_a_cut_off_element_is_refused() -> None:
    with pytest.raises(ValueError, match="claims 5 bytes"):
        deserialize_bytes_tensor(b"\5\0\0\0ab")
