"""Sizes of tensors, and the framing of BYTES elements."""

from __future__ import annotations

import numpy as np
import pytest

from tritonpy.ipc.tensor import (
    FramingError,
    Span,
    Tensor,
    count_bytes,
    decode_bytes,
    element_count,
    encode_bytes,
    expected_byte_size,
)


@pytest.mark.parametrize(
    ("datatype", "shape", "size"),
    [
        ("FP32", (2, 3), 24),
        ("FP32", (), 4),
        ("INT64", (0, 7), 0),
        ("BOOL", (5,), 5),
        ("BF16", (3,), 6),
        ("BYTES", (2,), None),
    ],
)
def test_the_bytes_that_a_shape_takes(
    datatype: str, shape: tuple[int, ...], size: int | None
) -> None:
    assert expected_byte_size(datatype, shape) == size


def test_a_huge_shape_is_counted_exactly() -> None:
    assert element_count((2**40, 2**40)) == 2**80


def test_a_tensor_knows_its_size_wherever_it_lies() -> None:
    inline = Tensor("x", "UINT8", (3,), memoryview(b"abc"))
    shared = Tensor("x", "UINT8", (3,), Span(1, 64, 3))

    assert inline.byte_size == shared.byte_size == 3


def test_elements_are_framed_by_their_length() -> None:
    assert encode_bytes([b"ab", b""]) == b"\x02\0\0\0ab\0\0\0\0"


@pytest.mark.parametrize(
    ("element", "data"),
    [
        ("é", "é".encode()),
        (bytearray(b"x"), b"x"),
        (memoryview(b"x"), b"x"),
        (np.bytes_(b"x"), b"x"),
        (np.str_("x"), b"x"),
        (12, b"12"),
        (None, b"None"),
    ],
)
def test_what_is_no_bytes_is_sent_as_its_text(element: object, data: bytes) -> None:
    assert decode_bytes(encode_bytes([element]), 1).tolist() == [data]


def test_text_that_is_no_unicode_is_refused() -> None:
    with pytest.raises(UnicodeEncodeError):
        encode_bytes(["\udcff"])


def test_no_elements_are_no_bytes() -> None:
    assert encode_bytes([]) == b""
    assert decode_bytes(b"", 0).shape == (0,)
    assert count_bytes(b"") == 0


@pytest.mark.parametrize(
    ("data", "count", "message"),
    [
        (b"\x01\0\0", 1, "incomplete string length indicator for tensor, expecting 4 bytes but"),
        (b"\x05\0\0\0abc", 1, "expecting string of length 5 but only 3 bytes available"),
        (b"\x01\0\0\0a", 2, "expected 2 string elements for tensor, got 1"),
        (b"\x01\0\0\0a" * 3, 2, "unexpected number of string elements 3 for tensor, expecting 2"),
        (b"", 1, "expected 1 string elements for tensor, got 0"),
        (b"\xff\xff\xff\xff", 1, "expecting string of length 4294967295 but only 0 bytes"),
    ],
)
def test_elements_that_do_not_fill_their_bytes_are_refused(
    data: bytes, count: int, message: str
) -> None:
    with pytest.raises(FramingError, match=message):
        decode_bytes(data, count)


def test_a_claimed_count_costs_no_memory() -> None:
    with pytest.raises(FramingError, match="expected 1000000000000000 string elements"):
        decode_bytes(b"\0\0\0\0", 10**15)


@pytest.mark.parametrize("data", [b"\x01\0\0", b"\x05\0\0\0abc", b"\x01\0\0\0a\x01"])
def test_elements_that_are_cut_off_are_not_counted(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"bytes are left|only 3 are left"):
        count_bytes(data)


def test_a_framing_error_names_the_request_and_the_model() -> None:
    with pytest.raises(FramingError) as refused:
        decode_bytes(b"", 1)

    assert refused.value.about("text", "tokens", "") == (
        "[request id: <id_unknown>] expected 1 string elements for inference input 'text' for "
        "model 'tokens', got 0"
    )


def test_a_framing_error_about_cut_off_data_names_the_input_alone() -> None:
    with pytest.raises(FramingError) as refused:
        decode_bytes(b"\x05\0\0\0abc", 1)

    assert refused.value.about("text", "tokens", "7") == (
        "incomplete string data for inference input 'text', expecting string of length 5 but only "
        "3 bytes available"
    )
