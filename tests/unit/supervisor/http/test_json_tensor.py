"""Tensors in JSON: values, types, counts, and what must be refused."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tritonpy.ipc.dtypes import numpy_dtype
from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.ipc.tensor import Tensor, encode_bytes
from tritonpy.supervisor.http import json_tensor

LIMIT = 1 << 20


def decode(datatype: str, shape: list[int], value: object, limit: int = LIMIT) -> bytes:
    return bytes(json_tensor.decode("IN", datatype, shape, value, limit))


def encode(datatype: Any, values: Any, shape: tuple[int, ...] | None = None) -> bytes:
    array = np.array(values, numpy_dtype(datatype))
    shape = array.shape if shape is None else shape
    return json_tensor.encode(Tensor("OUT", datatype, shape, memoryview(array.tobytes())))


@pytest.mark.parametrize("value", [[1, 2, 3, 4], [[1, 2], [3, 4]], [[1], 2, [[3, [4]]]]])
def test_nesting_need_not_match_the_shape(value: object) -> None:
    assert decode("INT32", [2, 2], value) == np.array([1, 2, 3, 4], np.int32).tobytes()


@pytest.mark.parametrize(
    ("datatype", "value"),
    [
        ("BOOL", True),
        ("UINT8", 255),
        ("UINT16", 65535),
        ("UINT32", 2**32 - 1),
        ("UINT64", 2**64 - 1),
        ("INT8", -128),
        ("INT16", -32768),
        ("INT32", -(2**31)),
        ("INT64", -(2**63)),
        ("FP16", 65504.0),
        ("BF16", 2.0**127),
        ("FP32", 1.5),
        ("FP64", 0.1),
    ],
)
def test_every_numeric_type_keeps_its_extremes(datatype: str, value: object) -> None:
    expected = np.array([value], numpy_dtype(datatype)).tobytes()
    assert decode(datatype, [1], [value]) == expected
    assert json.loads(json_tensor.encode(Tensor("OUT", datatype, (1,), memoryview(expected)))) == [  # type: ignore[arg-type]
        value
    ]


def test_a_scalar_needs_no_list() -> None:
    assert decode("INT32", [], 7) == struct.pack("<i", 7)
    assert decode("INT32", [1], 7) == struct.pack("<i", 7)


@pytest.mark.parametrize("value", [[], [[], []], "ignored"])
def test_a_tensor_without_elements_has_no_bytes(value: object) -> None:
    assert decode("FP32", [0, 3], value) == b""


@pytest.mark.parametrize(
    ("datatype", "value", "expected"),
    [("INT8", 300, 44), ("UINT8", 256, 0), ("INT16", -32769, 32767), ("UINT32", 2**33 + 5, 5)],
)
def test_integers_out_of_range_wrap(datatype: str, value: int, expected: int) -> None:
    assert decode(datatype, [1], [value]) == np.array([expected], numpy_dtype(datatype)).tobytes()


@pytest.mark.parametrize(
    ("datatype", "value", "what"),
    [
        ("BOOL", 1, "non-boolean as boolean"),
        ("INT32", 1.0, "non-signed-integer as signed-integer"),
        ("INT32", True, "non-signed-integer as signed-integer"),
        ("INT64", 2**63, "non-signed-integer as signed-integer"),
        ("UINT8", -1, "non-unsigned-integer as unsigned-integer"),
        ("UINT64", 2**64, "non-unsigned-integer as unsigned-integer"),
        ("UINT32", "1", "non-unsigned-integer as unsigned-integer"),
        ("FP32", "1", "non-number as double"),
        ("FP32", None, "non-number as double"),
        ("FP64", True, "non-number as double"),
        ("FP32", {"a": 1}, "non-number as double"),
        ("FP64", 10**400, "non-number as double"),
    ],
)
def test_an_element_of_the_wrong_type_is_an_internal_error(
    datatype: str, value: object, what: str
) -> None:
    with pytest.raises(InternalError) as error:
        decode(datatype, [2], [value, value])
    assert error.value.message == f"Unable to parse 'data': attempt to access JSON {what}"


def test_an_integer_that_no_double_holds_is_refused_among_floats() -> None:
    with pytest.raises(InternalError, match="non-number as double"):
        decode("FP32", [2], [1.5, 10**400])


def test_a_string_tensor_takes_only_strings() -> None:
    with pytest.raises(InternalError, match="attempt to access JSON non-string as string"):
        decode("BYTES", [1], [1])


def test_too_many_values_are_refused() -> None:
    with pytest.raises(InternalError) as error:
        decode("FP32", [2], [1.0, 2.0, 3.0])
    assert error.value.message == (
        "Unable to parse 'data': Shape does not match true shape of 'data' field"
    )


def test_too_few_values_are_refused() -> None:
    with pytest.raises(InternalError) as error:
        decode("FP32", [4], [1.0, 2.0, 3.0])
    assert error.value.message == "Failed to parse 'data' field: shape does not match true shape"


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_is_rounded_to_the_nearest_and_written_exactly(datatype: Any) -> None:
    values = [0.1, -1.5, 3, float("inf"), 1e6 if datatype == "FP16" else 1e39]
    with np.errstate(over="ignore"):
        expected = np.array(values, np.float64).astype(numpy_dtype(datatype))

    packed = decode(datatype, [5], values)

    assert packed == expected.tobytes()
    text = json_tensor.encode(Tensor("OUT", datatype, (5,), memoryview(packed)))
    assert json.loads(text) == [float(value) for value in expected]
    assert float(expected[4]) == float("inf")


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
def test_half_precision_takes_numbers_alone_and_as_many_as_the_shape_says(datatype: str) -> None:
    with pytest.raises(InvalidArgumentError, match="non-number as double"):
        decode(datatype, [1], ["1"])
    with pytest.raises(InvalidArgumentError, match="Shape does not match"):
        decode(datatype, [1], [1, 2])
    with pytest.raises(InvalidArgumentError, match="shape does not match"):
        decode(datatype, [2], [1])


def nested(depth: int) -> list[Any]:
    value: list[Any] = [1.0]
    for _ in range(depth - 1):
        value = [value]
    return value


def test_ninety_nine_lists_in_each_other_are_followed() -> None:
    assert decode("FP32", [1], nested(99)) == struct.pack("<f", 1)


@pytest.mark.parametrize("datatype", ["FP32", "BYTES"])
def test_a_hundred_lists_in_each_other_are_not(datatype: str) -> None:
    with pytest.raises(InvalidArgumentError) as error:
        decode(datatype, [1], nested(100))
    assert error.value.message == "JSON nesting depth exceeds maximum allowed limit (100)"


def test_a_tensor_above_the_size_limit_is_refused_by_its_shape_alone() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        decode("FP64", [3], [], limit=23)
    assert error.value.message == (
        "JSON input 'IN' has a byte_size (24 bytes) that exceeds the maximum allowed value of "
        "23 bytes. Use --http-max-input-size to increase the limit."
    )


def test_strings_above_the_size_limit_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match=r"byte_size \(9 bytes\)"):
        decode("BYTES", [1], ["x" * 5], limit=8)


def test_a_shape_whose_count_overflows_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        decode("FP32", [2**4, 2**60 + 2], [1.0])
    assert error.value.message == (
        "invalid shape for input 'IN': shape [16,1152921504606846978] causes total element count "
        "to exceed maximum size of 9223372036854775807"
    )
    with pytest.raises(InvalidArgumentError, match="byte size overflow for input 'IN'"):
        decode("FP32", [2**2, 2**60 + 2], [1.0])


def test_a_double_beyond_fp32_becomes_infinite() -> None:
    assert np.frombuffer(decode("FP32", [2], [1e300, -1e300]), np.float32).tolist() == [
        np.inf,
        -np.inf,
    ]


def test_strings_are_framed_as_utf8() -> None:
    assert decode("BYTES", [2], ["ä", ""]) == encode_bytes(["ä", ""])


def test_bytes_that_are_no_utf8_pass_through_as_they_were() -> None:
    smuggled = b"\xff\x00a".decode("utf-8", "surrogateescape")
    assert decode("BYTES", [1], [smuggled]) == encode_bytes([b"\xff\x00a"])


def test_half_a_surrogate_pair_is_refused() -> None:
    with pytest.raises(InternalError, match="surrogate"):
        decode("BYTES", [1], ["\ud800"])


def test_floats_are_printed_with_a_decimal_point_as_the_doubles_they_equal() -> None:
    assert encode("FP32", [2, 0.1]) == b"[2.0,0.10000000149011612]"
    assert encode("FP64", [[2], [0.1]]) == b"[2.0,0.1]"


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
def test_what_is_not_finite_becomes_bare_tokens(datatype: str) -> None:
    text = encode(datatype, [np.nan, np.inf, -np.inf, 2])
    assert text == b"[NaN,Infinity,-Infinity,2.0]"


def test_booleans_are_printed_as_such_whatever_their_byte() -> None:
    tensor = Tensor("OUT", "BOOL", (3,), memoryview(b"\x00\x01\x07"))
    assert json_tensor.encode(tensor) == b"[false,true,true]"


def test_strings_are_printed_raw_and_wrong_bytes_replaced() -> None:
    data = memoryview(encode_bytes(["ä\n", b"\xffx"]))
    assert json.loads(json_tensor.encode(Tensor("OUT", "BYTES", (2,), data))) == ["ä\n", "\ufffdx"]


@pytest.mark.parametrize(("datatype", "data"), [("FP32", b"1234567"), ("BYTES", b"\x05\0\0\0ab")])
def test_an_output_that_does_not_match_its_shape_is_an_internal_error(
    datatype: Any, data: bytes
) -> None:
    with pytest.raises(InternalError) as error:
        json_tensor.encode(Tensor("OUT", datatype, (2,), memoryview(data)))
    assert error.value.message == (
        "Failed to write 'data' field: output tensor shape does not match size of output for 'OUT'"
    )


def test_an_output_at_an_odd_address_is_written() -> None:
    data = memoryview(b"x" + np.array([1, 2], np.int64).tobytes())[1:]
    assert json_tensor.encode(Tensor("OUT", "INT64", (2,), data)) == b"[1,2]"


@given(st.lists(st.floats(width=32)))
def test_fp32_survives_the_way_out_and_back(values: list[float]) -> None:
    expected = np.array(values, np.float32)
    text = encode("FP32", expected)
    found = np.frombuffer(decode("FP32", [len(values)], json.loads(text)), np.float32)
    np.testing.assert_array_equal(found, expected)


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_uint64_survives_the_way_out_and_back(values: list[int]) -> None:
    text = encode("UINT64", values)
    found = np.frombuffer(decode("UINT64", [len(values)], json.loads(text)), np.uint64)
    assert found.tolist() == values


@given(st.lists(st.text()))
def test_text_survives_the_way_out_and_back(values: list[str]) -> None:
    framed = encode_bytes(values)
    text = json_tensor.encode(Tensor("OUT", "BYTES", (len(values),), memoryview(framed)))
    assert decode("BYTES", [len(values)], json.loads(text)) == framed


@given(st.lists(st.binary()))
def test_base64_carries_any_bytes_both_ways(values: list[bytes]) -> None:
    framed = encode_bytes(values)
    tensor = Tensor("OUT", "BYTES", (len(values),), memoryview(framed))
    elements = json.loads(json_tensor.encode(tensor, in_base64=True))
    assert elements == [base64.b64encode(value).decode() for value in values]
    found = json_tensor.decode("IN", "BYTES", [len(values)], elements, LIMIT, in_base64=True)
    assert bytes(found) == framed


@pytest.mark.parametrize("text", ["YQ", "YQ=", "Y Q==", "YQ==YQ==", "ä", "*"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError, match="an element of input 'IN' is not base64"):
        json_tensor.decode("IN", "BYTES", [1], [text], LIMIT, in_base64=True)


@pytest.mark.parametrize("datatype", ["FP32", "FP64"])
@given(st.data())
def test_small_tensors_are_written_as_large_ones(datatype: str, data: st.DataObject) -> None:
    floats = st.floats(width=32) if datatype == "FP32" else st.floats()
    values = data.draw(st.lists(floats, max_size=5))
    with pytest.MonkeyPatch.context() as patch:
        small = encode(datatype, values)
        patch.setattr(json_tensor, "_SMALL_BYTES", -1)
        assert encode(datatype, values) == small
