"""Requests and responses are translated without losing, inventing or needlessly copying a byte."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from tritonclient.grpc import service_pb2
from unit.supervisor.grpc.planes import FakeDataPlane, bytes_of

from tritonpy.ipc.dtypes import DATATYPES, DataType, numpy_dtype
from tritonpy.ipc.errors import InternalError, InvalidArgumentError
from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES, Span, Tensor, encode_bytes
from tritonpy.supervisor.grpc.codec import (
    decode_request,
    encode_refusal,
    encode_response,
    encode_stream_response,
    parse_infer_request,
    parse_version,
)
from tritonpy.supervisor.request import InferRequest, InferResponse

Message = service_pb2.ModelInferRequest
Contents = service_pb2.InferTensorContents


@pytest.fixture
def dataplane() -> FakeDataPlane:
    return FakeDataPlane()


def decode(message: Any, dataplane: Any = None) -> InferRequest:
    parsed, raw_contents = parse_infer_request(message.SerializeToString())
    return decode_request(parsed, raw_contents, None, dataplane)


def request_of(*inputs: tuple[str, str, list[int]], **fields: Any) -> Any:
    message = Message(model_name="m", **fields)
    for name, datatype, shape in inputs:
        message.inputs.add(name=name, datatype=datatype, shape=shape)
    return message


@pytest.mark.parametrize("datatype", DATATYPES)
def test_raw_contents_of_every_datatype_are_passed_on_as_they_are(datatype: DataType) -> None:
    raw = encode_bytes([b"ab", b""]) if datatype == "BYTES" else bytes(range(16))
    request = decode(request_of(("x", datatype, [2]), raw_input_contents=[raw], id="r"))

    (tensor,) = request.inputs
    assert tensor == Tensor("x", datatype, (2,), memoryview(raw))
    assert (request.model, request.version, request.id) == ("m", None, "r")
    assert request.leases == []


@pytest.mark.parametrize(
    ("datatype", "field", "values"),
    [
        ("BOOL", "bool_contents", [True, False]),
        ("INT8", "int_contents", [-128, 127]),
        ("INT16", "int_contents", [-32768, 32767]),
        ("INT32", "int_contents", [-(2**31), 2**31 - 1]),
        ("INT64", "int64_contents", [-(2**63), 2**63 - 1]),
        ("UINT8", "uint_contents", [0, 255]),
        ("UINT16", "uint_contents", [0, 65535]),
        ("UINT32", "uint_contents", [0, 2**32 - 1]),
        ("UINT64", "uint64_contents", [0, 2**64 - 1]),
        ("FP32", "fp32_contents", [1.5, float("inf")]),
        ("FP64", "fp64_contents", [1e300, float("-inf")]),
    ],
)
def test_typed_contents_are_packed(datatype: str, field: str, values: list[Any]) -> None:
    message = request_of(("x", datatype, [2]))
    getattr(message.inputs[0].contents, field).extend(values)

    (tensor,) = decode(message).inputs

    assert bytes(tensor.data) == np.array(values, numpy_dtype(datatype)).tobytes()  # type: ignore[arg-type]


def test_typed_strings_are_framed() -> None:
    message = request_of(("x", "BYTES", [2]))
    message.inputs[0].contents.bytes_contents.extend([b"\xff\x00", b""])

    (tensor,) = decode(message).inputs

    assert bytes(tensor.data) == encode_bytes([b"\xff\x00", b""])  # type: ignore[arg-type]


def test_typed_integers_that_do_not_fit_are_cut_off() -> None:
    message = request_of(("a", "INT8", [2]), ("b", "UINT16", [1]))
    message.inputs[0].contents.int_contents.extend([300, -129])
    message.inputs[1].contents.uint_contents.extend([65536 + 7])

    a, b = decode(message).inputs

    assert bytes(a.data) == bytes([300 - 256, 127])  # type: ignore[arg-type]
    assert bytes(b.data) == b"\x07\x00"  # type: ignore[arg-type]


def test_a_tensor_without_elements_needs_no_bytes() -> None:
    raw = decode(request_of(("x", "FP32", [0]), raw_input_contents=[b""]))
    message = request_of(("x", "FP32", [0]))
    message.inputs[0].contents.SetInParent()
    typed = decode(message)

    assert raw.inputs == typed.inputs == [Tensor("x", "FP32", (0,), memoryview(b""))]


@pytest.mark.parametrize(
    ("datatype", "contents", "message"),
    [
        ("FP32", Contents(int64_contents=[1]), "of type 'INT64', expected datatype 'FP32'"),
        ("INT64", Contents(int_contents=[1]), "of type 'INT32', expected datatype 'INT64'"),
        ("INT8", Contents(uint_contents=[1]), "of type 'UINT32', expected datatype 'INT8'"),
        ("FP16", Contents(fp32_contents=[1]), "of type 'FP32', expected datatype 'FP16'"),
        ("BF16", Contents(bytes_contents=[b""]), "of type 'BYTES', expected datatype 'BF16'"),
        ("FLOAT", Contents(fp32_contents=[1]), "of type 'FP32', expected datatype '<invalid>'"),
        (
            "BOOL",
            Contents(bool_contents=[True], fp32_contents=[1]),
            "for model 'm', binary data was already supplied.",
        ),
    ],
)
def test_contents_in_the_wrong_field_are_refused(
    datatype: str, contents: Any, message: str
) -> None:
    request = request_of(("x", datatype, [1]))
    request.inputs[0].contents.CopyFrom(contents)

    with pytest.raises(InvalidArgumentError, match="unexpected explicit tensor data for") as caught:
        decode(request)
    assert caught.value.message.endswith(message)


def test_raw_and_typed_contents_do_not_mix() -> None:
    message = request_of(("a", "FP32", [1]), ("b", "FP32", [1]), raw_input_contents=[bytes(4)])
    message.inputs[1].contents.fp32_contents.append(1)

    with pytest.raises(InvalidArgumentError) as caught:
        decode(message)
    assert caught.value.message == (
        "contents field must not be specified when using raw_input_contents for 'b' for model 'm'"
    )


def test_a_tensor_without_data_is_refused() -> None:
    message = request_of(("a", "FP32", [1]), ("b", "FP32", [1]), raw_input_contents=[bytes(4)])

    with pytest.raises(InvalidArgumentError) as caught:
        decode(message)
    assert caught.value.message == (
        "unable to find data for input tensor 'b' for model 'm' in request."
    )


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        (service_pb2.InferParameter(string_param="3"), "invalid value type for 'classification'"),
        (service_pb2.InferParameter(int64_param=0), "parameter, expected >= 0"),
        (service_pb2.InferParameter(int64_param=-1), "parameter, expected >= 0"),
    ],
)
def test_a_wrong_number_of_classes_is_refused(parameter: Any, message: str) -> None:
    request = request_of()
    request.outputs.add(name="y").parameters["classification"].CopyFrom(parameter)

    with pytest.raises(InvalidArgumentError, match=message):
        decode(request)


def test_an_output_is_requested_once() -> None:
    request = request_of()
    request.outputs.add(name="y")
    request.outputs.add(name="y")

    with pytest.raises(InvalidArgumentError, match="output 'y' already exists in request"):
        decode(request)


def test_large_tensors_share_one_lease_and_small_ones_stay_inline(
    dataplane: FakeDataPlane,
) -> None:
    sizes = [INLINE_LIMIT_BYTES + 1, 8, INLINE_LIMIT_BYTES, 3 * INLINE_LIMIT_BYTES]
    raw = [bytes([index + 1]) * size for index, size in enumerate(sizes)]
    inputs = [(f"x{index}", "UINT8", [size]) for index, size in enumerate(sizes)]

    request = decode(request_of(*inputs, raw_input_contents=raw), dataplane)

    assert request.leases == dataplane.leases
    assert len(dataplane.leases) == 1
    assert [bytes_of(request, tensor) for tensor in request.inputs] == raw
    first, small, limit, second = (tensor.data for tensor in request.inputs)
    assert isinstance(small, memoryview)
    assert isinstance(limit, memoryview)
    assert first == Span(1, 0, sizes[0])
    assert second == Span(1, INLINE_LIMIT_BYTES + 64, sizes[3])


def test_large_typed_contents_are_leased_too(dataplane: FakeDataPlane) -> None:
    values = np.arange(INLINE_LIMIT_BYTES, dtype=np.float32)
    message = request_of(("x", "FP32", [len(values)]))
    message.inputs[0].contents.fp32_contents.extend(values.tolist())

    request = decode(message, dataplane)

    assert isinstance(request.inputs[0].data, Span)
    assert bytes_of(request, request.inputs[0]) == values.tobytes()


def test_large_raw_contents_are_viewed_in_the_bytes_that_were_received() -> None:
    data = request_of(
        ("x", "UINT8", [100_000]), raw_input_contents=[bytes(100_000)]
    ).SerializeToString()

    message, (raw,) = parse_infer_request(data)

    assert isinstance(raw, memoryview)
    assert raw.obj is data
    assert len(message.raw_input_contents) == 0


@pytest.mark.parametrize("size", [3, 100_000])
def test_bytes_that_are_no_request_are_refused(size: int) -> None:
    with pytest.raises(InternalError, match="Unable to parse request"):
        parse_infer_request(b"\xff" * size)


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("", None),
        ("1", 1),
        ("0", 0),
        ("01", 1),
        (" 1", 1),
        ("+1", 1),
        ("1x", 1),
        ("1.0", 1),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_a_version_is_a_leading_number_or_left_open(text: str, version: int | None) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("text", ["one", "x1", "٣", "-", "9223372036854775808", "1" * 40, " "])
def test_a_version_that_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_version(text)
    assert caught.value.message == (
        f"failed to get model version from specified version string '{text}' (details: stol), "
        "version should be an integral value > 0"
    )


def test_a_negative_version_is_refused() -> None:
    with pytest.raises(InvalidArgumentError) as caught:
        parse_version("-1")
    assert caught.value.message == (
        "invalid model version specified '-1' , version should be an integral value > 0"
    )


def test_a_response_is_what_the_client_parses() -> None:
    halves = np.array([1, 2], ml_dtypes.bfloat16)
    response = InferResponse(
        "m",
        3,
        "r",
        [
            Tensor("a", "FP32", (1, 2), np.array([1, 2], np.float32).data),
            Tensor("b", "BYTES", (0,), memoryview(b"")),
            Tensor("c", "BF16", (2,), memoryview(halves.tobytes())),
        ],
        {"p": 1},
    )

    message = service_pb2.ModelInferResponse.FromString(encode_response(response))

    assert (message.model_name, message.model_version, message.id) == ("m", "3", "r")
    assert [(o.name, o.datatype, list(o.shape)) for o in message.outputs] == [
        ("a", "FP32", [1, 2]),
        ("b", "BYTES", [0]),
        ("c", "BF16", [2]),
    ]
    assert list(message.raw_output_contents) == [
        np.array([1, 2], np.float32).tobytes(),
        b"",
        halves.tobytes(),
    ]
    assert message.parameters["p"].int64_param == 1


@pytest.mark.parametrize("final", [True, False])
def test_a_streamed_response_says_whether_it_is_the_last(final: bool) -> None:
    data = memoryview(b"z" * 1000)
    response = InferResponse("m", 1, "r", [Tensor("a", "UINT8", (1000,), data)], final=final)

    message = service_pb2.ModelStreamInferResponse.FromString(encode_stream_response(response))

    assert message.error_message == ""
    assert message.infer_response.parameters["triton_final_response"].bool_param is final
    assert list(message.infer_response.raw_output_contents) == [data]


def test_a_streamed_error_names_its_request() -> None:
    response = InferResponse("m", 2, "r", error=InternalError("broken"))

    message = service_pb2.ModelStreamInferResponse.FromString(encode_stream_response(response))

    assert message.error_message == "broken"
    answer = message.infer_response
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "2", "r")
    assert answer.parameters["triton_final_response"].bool_param is True


def test_a_refusal_on_a_stream_repeats_what_its_request_said() -> None:
    request = Message(model_name="m", model_version="x", id="r")

    message = service_pb2.ModelStreamInferResponse.FromString(
        encode_refusal(request, InternalError("broken"))
    )

    assert message.error_message == "broken"
    answer = message.infer_response
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "x", "r")
    assert not answer.parameters
