"""The documents of requests and responses."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from tritonpy.ipc.errors import (
    InternalError,
    InvalidArgumentError,
    StatusError,
)
from tritonpy.ipc.messages import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START
from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.http.json_codec import (
    OutputForms,
    ParsedRequest,
    decode_request,
    encode_response,
)
from tritonpy.supervisor.memory.regions import Place
from tritonpy.supervisor.request import InferResponse

pytestmark = pytest.mark.usefixtures("reader")

INPUT = {"name": "IN", "datatype": "FP32", "shape": [2], "data": [1, 2]}


def decode(document: Any, limit: int = 1 << 20) -> ParsedRequest:
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return decode_request(data, "m", 3, limit)


def failure(document: Any, kind: type[StatusError]) -> str:
    with pytest.raises(kind) as error:
        decode(document)
    return error.value.message


def test_a_request_becomes_the_servers_own_form() -> None:
    parsed = decode(
        {
            "id": "42",
            "parameters": {
                "sequence_id": 5,
                "sequence_start": True,
                "sequence_end": True,
                "priority": 2,
                "timeout": 1000,
                "s": "text",
                "i": -1,
                "b": False,
                "d": 0.5,
            },
            "inputs": [
                INPUT,
                {
                    "name": "RAW",
                    "datatype": "INT8",
                    "shape": [4],
                    "parameters": {"binary_data_size": 4},
                },
            ],
            "outputs": [
                {"name": "A", "parameters": {"binary_data": True}},
                {"name": "B", "parameters": {"classification": 3, "unknown": [1]}},
                {"name": "C"},
            ],
            "unknown": {"a": [1]},
        }
    )
    request = parsed.request
    assert (request.model, request.version, request.id) == ("m", 3, "42")
    assert request.correlation_id == 5
    assert request.flags == FLAG_SEQUENCE_START | FLAG_SEQUENCE_END
    assert (request.priority, request.timeout_us) == (2, 1000)
    assert request.parameters == {"s": "text", "i": -1, "b": False, "d": 0.5}
    assert [(tensor.name, tensor.datatype, tensor.shape) for tensor in request.inputs] == [
        ("IN", "FP32", (2,)),
        ("RAW", "INT8", (4,)),
    ]
    assert parsed.sizes == [None, 4]
    assert [(out.name, out.classification) for out in request.outputs] == [
        ("A", 0),
        ("B", 3),
        ("C", 0),
    ]
    assert [parsed.forms.is_binary(name) for name in "ABC"] == [True, False, False]


@pytest.mark.parametrize("outputs", [{}, {"outputs": []}])
def test_without_outputs_all_take_the_form_of_binary_data_output(outputs: dict[str, Any]) -> None:
    assert not decode({"inputs": [INPUT], **outputs}).forms.is_binary("any")
    parsed = decode({"inputs": [INPUT], "parameters": {"binary_data_output": True}, **outputs})
    assert parsed.forms.is_binary("any")
    assert parsed.request.parameters == {}


def test_a_listed_output_stays_json_whatever_binary_data_output_says() -> None:
    parsed = decode(
        {
            "inputs": [INPUT],
            "parameters": {"binary_data_output": True},
            "outputs": [{"name": "A"}],
        }
    )
    assert not parsed.forms.is_binary("A")


def test_a_sequence_may_be_named_by_text() -> None:
    assert decode(
        {"inputs": [INPUT], "parameters": {"sequence_id": "abc"}}
    ).request.correlation_id == ("abc")


def test_an_integer_parameter_beyond_64_bits_is_a_double() -> None:
    parsed = decode({"inputs": [INPUT], "parameters": {"n": 2**63}})
    assert parsed.request.parameters == {"n": float(2**63)}


def test_no_inputs_at_all_are_left_to_the_model() -> None:
    assert decode({"inputs": []}).request.inputs == []


def test_not_a_number_and_the_infinities_are_read() -> None:
    document = b'{"inputs":[{"name":"IN","datatype":"FP64","shape":[3],'
    document += b'"data":[NaN,Infinity,-Infinity]}],"outputs":[{"name":"A","parameters":'
    document += b'{"binary_data":true}}],"id":"x","parameters":{"priority":1}}'
    parsed = decode(document)
    data = parsed.request.inputs[0].data
    assert isinstance(data, memoryview)
    found = np.frombuffer(data, np.float64)
    assert np.isnan(found[0])
    assert found[1:].tolist() == [math.inf, -math.inf]
    assert parsed.request.id == "x"
    assert parsed.request.priority == 1
    assert parsed.forms.is_binary("A")


def test_strings_that_are_no_utf8_keep_their_bytes() -> None:
    document = b'{"inputs":[{"name":"IN","datatype":"BYTES","shape":[1],"data":["\xff"]}]}'
    data = decode(document).request.inputs[0].data
    assert isinstance(data, memoryview)
    assert bytes(data) == b"\x01\0\0\0\xff"


def test_a_name_that_is_no_utf8_is_refused() -> None:
    document = b'{"inputs":[{"name":"\xff","datatype":"FP32","shape":[1],"data":[1]}]}'
    assert failure(document, InternalError).startswith("Unable to parse 'name'")


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b" ", "The document is empty. at 1"),
        (b"nonsense", "Invalid value. at 1"),
        (b'{"inputs":[]} x', "The document root must not be followed by other values. at 14"),
        (b"{1:2}", "Missing a name for object member. at 1"),
        (b'{"a" 1}', "Missing a colon after a name of object member. at 5"),
        (b'{"a":"b', "Missing a closing quotation mark in string. at 7"),
        (b'{"a":"\\x"}', "Invalid escape character in string. at 6"),
        (b"[1 2]", "Missing a comma or ']' after an array element. at 3"),
        (b"1" * 5000, "Number too big to be stored in double. at 0"),
    ],
)
def test_malformed_json_is_an_internal_error_with_its_place(document: bytes, reason: str) -> None:
    expected = f"failed to parse the request JSON buffer: {reason} (line 1, column "
    assert failure(document, InternalError).startswith(expected)


def test_deep_nesting_outside_of_tensors_is_refused_too() -> None:
    document = b'{"x":' + b"[" * 100_000
    assert failure(document, InvalidArgumentError) == (
        "JSON nesting depth exceeds maximum allowed limit (100)"
    )


def without(member: str) -> dict[str, Any]:
    return {key: value for key, value in INPUT.items() if key != member}


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([1], "'inputs': attempt to access non-existing object member 'inputs'"),
        ({}, "'inputs': attempt to access non-existing object member 'inputs'"),
        ({"inputs": 1}, "'inputs': attempt to access JSON non-array as array"),
        ({"inputs": [INPUT], "outputs": 1}, "'outputs': attempt to access JSON non-array as array"),
        ({"inputs": [INPUT], "id": 1}, "'id': attempt to access JSON non-string as string"),
        (
            {"inputs": [without("name")]},
            "'name': attempt to access non-existing object member 'name'",
        ),
        (
            {"inputs": [without("datatype")]},
            "'datatype': attempt to access non-existing object member 'datatype'",
        ),
        (
            {"inputs": [without("shape")]},
            "'shape': attempt to access non-existing object member 'shape'",
        ),
        (
            {"inputs": [{**INPUT, "shape": [2, -1]}]},
            "'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [{**INPUT, "shape": [1.5]}]},
            "'shape': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [{**without("data"), "parameters": {"binary_data_size": "8"}}]},
            "'binary_data_size': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [INPUT], "outputs": [{}]},
            "'name': attempt to access non-existing object member 'name'",
        ),
        (
            {"inputs": [INPUT], "outputs": [{"name": "A", "parameters": {"binary_data": 1}}]},
            "'binary_data': attempt to access JSON non-boolean as boolean",
        ),
        (
            {"inputs": [INPUT], "parameters": {"sequence_id": -1}},
            "'sequence_id': attempt to access JSON non-string as string",
        ),
        (
            {"inputs": [INPUT], "parameters": {"sequence_start": 1}},
            "'sequence_start': attempt to access JSON non-boolean as boolean",
        ),
        (
            {"inputs": [INPUT], "parameters": {"priority": -1}},
            "'priority': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [INPUT], "parameters": {"timeout": 1.5}},
            "'timeout': attempt to access JSON non-unsigned-integer as unsigned-integer",
        ),
        (
            {"inputs": [INPUT], "parameters": {"binary_data_output": "yes"}},
            "'binary_data_output': attempt to access JSON non-boolean as boolean",
        ),
    ],
)
def test_a_member_of_the_wrong_form_is_an_internal_error(document: Any, message: str) -> None:
    assert failure(document, InternalError) == f"Unable to parse {message}"


def test_parameters_must_be_an_object() -> None:
    assert failure({"inputs": [INPUT], "parameters": [1]}, InternalError) == (
        "failed to get request params.: attempt to get members for non-object"
    )


def test_a_classification_that_is_no_count_is_an_internal_error() -> None:
    outputs = [{"name": "A", "parameters": {"classification": -1}}]
    assert failure({"inputs": [INPUT], "outputs": outputs}, InternalError).startswith(
        "Unable to set 'classification'"
    )


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (without("data"), " no field is set"),
        (
            {**INPUT, "parameters": {"binary_data_size": 8}},
            " set 'data' 'binary_data_size'",
        ),
        (
            {**INPUT, "parameters": {"shared_memory_region": "r"}},
            " set 'data' 'shared_memory_region'",
        ),
        (1, " no field is set"),
    ],
)
def test_an_input_has_exactly_one_source(entry: Any, found: str) -> None:
    assert failure({"inputs": [entry]}, InvalidArgumentError) == (
        "Input must set only one of the following fields: 'data', 'binary_data_size' in "
        f"'parameters', 'shared_memory_region' in 'parameters'. But{found}"
    )


@pytest.mark.parametrize("note", ["", math.nan], ids=["at once", "by the patient reader"])
def test_places_in_regions_are_kept_for_who_knows_the_regions(note: object) -> None:
    region = {"shared_memory_region": "r", "shared_memory_byte_size": 8, "shared_memory_offset": 4}
    document = {
        "parameters": {"note": note},
        "inputs": [{**without("data"), "parameters": region}],
        "outputs": [{"name": "A"}, {"name": "B", "parameters": {"shared_memory_region": "s"}}],
    }
    parsed = decode_request(json.dumps(document).encode(), "m", None, 1 << 20)
    assert parsed.places is not None
    assert parsed.places.inputs == {0: Place("r", 4, 8)}
    assert parsed.places.outputs == {1: Place("s", 0, 0)}
    assert parsed.sizes == [None]


@pytest.mark.parametrize("member", ["shared_memory_byte_size", "shared_memory_offset"])
@pytest.mark.parametrize("value", [-1, 1.5, "8", None])
def test_sizes_and_offsets_in_regions_are_unsigned(member: str, value: object) -> None:
    region = {"shared_memory_region": "r", member: value}
    message = failure({"inputs": [{**without("data"), "parameters": region}]}, InternalError)
    assert message == (
        f"Unable to parse '{member}': attempt to access JSON non-unsigned-integer as "
        "unsigned-integer"
    )


@pytest.mark.parametrize("other", [{"classification": 2}, {"binary_data": True}])
def test_an_output_in_shared_memory_cannot_be_anything_else(other: dict[str, Any]) -> None:
    outputs = [{"name": "A", "parameters": {"shared_memory_region": "r", **other}}]
    assert failure({"inputs": [INPUT], "outputs": outputs}, InvalidArgumentError) == (
        f"Output can't set both 'shared_memory_region' and '{next(iter(other))}'"
    )


def test_an_unknown_datatype_is_refused() -> None:
    assert failure({"inputs": [{**INPUT, "datatype": "FP33"}]}, InvalidArgumentError) == (
        "invalid datatype for input IN"
    )


def test_duplicates_are_refused() -> None:
    assert failure({"inputs": [INPUT, INPUT]}, InvalidArgumentError) == (
        "[request id: <id_unknown>] input 'IN' already exists in request"
    )
    outputs = [{"name": "A"}, {"name": "A"}]
    assert failure({"inputs": [INPUT], "outputs": outputs}, InvalidArgumentError) == (
        "[request id: <id_unknown>] output 'A' already exists in request"
    )


def test_reserved_and_structured_parameters_are_refused() -> None:
    assert failure({"inputs": [INPUT], "parameters": {"triton_x": 1}}, InvalidArgumentError) == (
        "parameter keys starting with 'triton_' are reserved for Triton usage and should not be "
        "specified."
    )
    assert failure({"inputs": [INPUT], "parameters": {"x": [1]}}, InvalidArgumentError) == (
        "parameter 'x' has invalid type. It should be either 'int', 'bool', or 'string'."
    )


def test_a_document_above_the_limit_is_not_parsed() -> None:
    with pytest.raises(InvalidArgumentError) as error:
        decode(b"x" * 11, limit=10)
    assert error.value.message == (
        "request JSON size of 11 bytes exceeds the maximum allowed input size of 10 bytes. "
        "Use --http-max-input-size to increase the limit."
    )


def response(**changes: Any) -> InferResponse:
    values: dict[str, Any] = {"model": "m", "version": 3, "id": ""} | changes
    return InferResponse(**values)


def tensor(name: str, *values: float) -> Tensor:
    data = np.array(values, np.float32).tobytes()
    return Tensor(name, "FP32", (len(values),), memoryview(data))


def test_a_response_lists_json_and_binary_outputs_in_order() -> None:
    a, b = tensor("A", 1), tensor("B", 2, 3)
    document, buffers = encode_response(
        response(id="7", outputs=[a, b, tensor("C")]), OutputForms({"B": True, "C": True})
    )
    assert document == (
        b'{"id":"7","model_name":"m","model_version":"3","outputs":['
        b'{"name":"A","datatype":"FP32","shape":[1],"data":[1.0]},'
        b'{"name":"B","datatype":"FP32","shape":[2],"parameters":{"binary_data_size":8}},'
        b'{"name":"C","datatype":"FP32","shape":[0],"parameters":{"binary_data_size":0}}]}'
    )
    assert len(buffers) == 1
    assert buffers[0] is b.data


def test_a_responses_parameters_come_before_its_outputs() -> None:
    document, _ = encode_response(
        response(parameters={"s": "x", "i": 1, "b": True, "n": math.nan, "m": -math.inf}),
        OutputForms(),
    )
    assert document == (
        b'{"model_name":"m","model_version":"3","parameters":{"s":"x","i":1,"b":true,"n":NaN,'
        b'"m":-Infinity},"outputs":[]}'
    )


# --- base64 ---------------------------------------------------------------------------------------

BASE64 = {"binary_encoding": "base64"}
TEXT = {"name": "IN", "datatype": "BYTES", "shape": [1], "data": ["/w=="], "parameters": BASE64}


@pytest.mark.parametrize("parameters", [{}, {"x": math.nan}])
def test_bytes_may_be_given_and_asked_for_in_base64(parameters: dict[str, Any]) -> None:
    # NaN sends the document to the patient reader.
    outputs = [{"name": "OUT", "parameters": BASE64}, {"name": "PLAIN"}]
    document = {"inputs": [TEXT], "parameters": parameters, "outputs": outputs}

    parsed = decode(document)

    data = parsed.request.inputs[0].data
    assert isinstance(data, memoryview)
    assert bytes(data) == b"\1\0\0\0\xff"
    framed = memoryview(b"\1\0\0\0a")
    tensors = [Tensor(name, "BYTES", (1,), framed) for name in ("OUT", "PLAIN")]
    written, _ = encode_response(InferResponse("m", 1, "", tensors), parsed.forms)
    first, second = json.loads(written)["outputs"]
    assert (first["data"], first["parameters"]) == (["YQ=="], BASE64)
    assert (second["data"], second.get("parameters")) == (["a"], None)


def test_an_output_that_has_no_strings_is_written_as_always() -> None:
    forms = OutputForms(in_base64=frozenset(["A"]))
    written, _ = encode_response(InferResponse("m", 1, "", [tensor("A", 1)]), forms)
    assert json.loads(written)["outputs"][0]["data"] == [1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"parameters": {"binary_encoding": "hex"}},
            "input 'IN' has 'binary_encoding' 'hex', expected 'base64'",
        ),
        (
            {"datatype": "INT8", "data": [1]},
            "input 'IN' can only have a 'binary_encoding' if it is BYTES in 'data'",
        ),
        (
            {"data": None, "parameters": {**BASE64, "binary_data_size": 4}},
            "input 'IN' can only have a 'binary_encoding' if it is BYTES in 'data'",
        ),
    ],
)
def test_base64_is_for_bytes_in_json_alone(changes: dict[str, Any], message: str) -> None:
    entry = {**TEXT, **changes}
    if entry["data"] is None:
        del entry["data"]
    assert failure({"inputs": [entry]}, InvalidArgumentError) == message


@pytest.mark.parametrize(
    ("other", "name"),
    [
        ({"binary_data": True}, "binary_data"),
        ({"classification": 1}, "classification"),
        ({"shared_memory_region": "r", "shared_memory_byte_size": 1}, "shared_memory_region"),
    ],
)
def test_an_output_in_base64_cannot_be_anything_else(other: dict[str, Any], name: str) -> None:
    document = {"inputs": [INPUT], "outputs": [{"name": "A", "parameters": {**BASE64, **other}}]}
    expected = f"output 'A' can't set both 'binary_encoding' and '{name}'"
    assert failure(document, InvalidArgumentError) == expected


def test_an_encoding_that_is_no_text_is_an_internal_error() -> None:
    entry = {**TEXT, "parameters": {"binary_encoding": 64}}
    assert failure({"inputs": [entry]}, InternalError) == (
        "Unable to parse 'binary_encoding': attempt to access JSON non-string as string"
    )
