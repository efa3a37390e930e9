"""Whatever comes over HTTP is answered in Triton's words, and nothing breaks."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from typing import Any

import pytest
from support import models
from support.clients import (
    Answer,
    ask,
    connect,
    encode_request,
    get,
    post_json,
    read_answer,
    unharmed,
    with_binary,
)
from support.servers import RunningServer, serving

JSON, TEXT = "application/json", "text/plain"
Document = dict[str, Any]

NOTE = (
    " NOTE: Setting a non-zero max_batch_size in the model config requires a batch dimension to be "
    "prepended to each input shape. If you want to specify the full shape including the batch dim "
    "in your input dims config, try setting max_batch_size to zero. See the model configuration "
    "docs for more info on max_batch_size."
)
UNNAMED = "[request id: <id_unknown>] "


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain", dims=[4])
    models.identity(repository, "free", dims=[-1, -1])
    models.identity(repository, "strings", "TYPE_STRING")
    models.identity_pair(repository, "pair")
    models.identity_pair(repository, "optional", second="optional: true")
    models.repeat(repository, "repeat")
    arguments = ["--http-max-input-size=1000000"]
    with serving(repository, arguments=arguments) as running, unharmed(running):
        yield running


def url(model: str) -> str:
    return f"/v2/models/{model}/infer"


def tensor(**changes: Any) -> Document:
    """A good input of the model 'plain', apart from the changes; None removes a member."""
    entry = {"name": "INPUT0", "datatype": "FP32", "shape": [4], "data": [1, 2, 3, 4], **changes}
    return {key: value for key, value in entry.items() if value is not None}


def inputs(*entries: Document, **members: Any) -> Document:
    return {**members, "inputs": list(entries)}


def check(answer: Answer, status: int, message: str, content_type: str = JSON) -> None:
    assert (answer.status, answer.error) == (status, message)
    assert answer.headers["content-type"] == content_type


# --- which model ----------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [json.dumps(inputs(tensor())), "{", ""])
def test_an_unknown_model_is_not_found_whatever_the_body(server: RunningServer, body: str) -> None:
    message = "Request for unknown model: 'nope' is not found"
    check(ask(server, "POST", url("nope"), body), 404, message, TEXT)


def test_an_unknown_version_is_not_found(server: RunningServer) -> None:
    answer = post_json(server, "/v2/models/plain/versions/9/infer", inputs(tensor()))
    check(answer, 404, "Request for unknown model: 'plain' version 9 is not found", TEXT)


@pytest.mark.parametrize("version", ["x", "1x", "-1", "1.0", ""])
def test_a_version_that_is_no_number_is_no_route(server: RunningServer, version: str) -> None:
    answer = post_json(server, f"/v2/models/plain/versions/{version}/infer", inputs(tensor()))
    check(answer, 404, "Not Found", TEXT)


def test_a_version_beyond_64_bits_is_refused(server: RunningServer) -> None:
    answer = post_json(server, f"/v2/models/plain/versions/{'9' * 20}/infer", inputs(tensor()))
    check(
        answer,
        400,
        f"failed to get model version from specified version string '{'9' * 20}' (details: stol), "
        "version should be an integral value > 0",
        TEXT,
    )


def test_a_decoupled_model_is_refused(server: RunningServer) -> None:
    message = "HTTP end point doesn't support models with decoupled transaction policy"
    check(post_json(server, url("repeat"), inputs()), 501, message, TEXT)


# --- tensors that do not fit the model ------------------------------------------------------------


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            inputs(tensor(shape=[5], data=[1] * 5)),
            f"{UNNAMED}unexpected shape for input 'INPUT0' for model 'plain'. "
            "Expected [4], got [5]. ",
        ),
        (
            inputs(tensor(shape=[5], data=[1] * 5), id="my id"),
            "[request id: my id] unexpected shape for input 'INPUT0' for model 'plain'. "
            "Expected [4], got [5]. ",
        ),
        (
            inputs(tensor(shape=[1, 4])),
            f"{UNNAMED}unexpected shape for input 'INPUT0' for model 'plain'. "
            "Expected [4], got [1,4]. ",
        ),
        (
            inputs(tensor(shape=[], data=[1])),
            f"{UNNAMED}unexpected shape for input 'INPUT0' for model 'plain'. "
            "Expected [4], got []. ",
        ),
        (
            inputs(tensor(datatype="INT32")),
            f"{UNNAMED}inference input 'INPUT0' data-type is 'INT32', but model 'plain' expects "
            "'FP32'",
        ),
        (inputs(tensor(datatype="FLOAT")), "invalid datatype for input INPUT0"),
        (inputs(tensor(datatype="fp32")), "invalid datatype for input INPUT0"),
        (inputs(tensor(name="X")), "unexpected inference input 'X' for model 'plain'"),
        (
            inputs(tensor(), outputs=[{"name": "X"}]),
            "unexpected inference output 'X' for model 'plain'",
        ),
        (
            inputs(),
            f"{UNNAMED}expected 1 inputs but got 0 inputs for model 'plain'. Got input(s) [], but "
            "missing required input(s) ['INPUT0']. Please provide all required input(s).",
        ),
        (inputs(tensor(), tensor()), f"{UNNAMED}input 'INPUT0' already exists in request"),
    ],
)
def test_what_does_not_fit_the_model_is_refused(
    server: RunningServer, document: Document, message: str
) -> None:
    check(post_json(server, url("plain"), document), 400, message)


A = {"name": "INPUT0", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]}
B = {"name": "INPUT1", "datatype": "INT32", "shape": [2, 3], "data": [1, 2, 3, 4, 5, 6]}


@pytest.mark.parametrize(
    ("model", "document", "message"),
    [
        (
            "pair",
            inputs(A),
            "expected 2 inputs but got 1 inputs for model 'pair'. Got input(s) ['INPUT0'], but "
            "missing required input(s) ['INPUT1']. Please provide all required input(s).",
        ),
        (
            "pair",
            inputs(),
            "expected 2 inputs but got 0 inputs for model 'pair'. Got input(s) [], but missing "
            "required input(s) ['INPUT0','INPUT1']. Please provide all required input(s).",
        ),
        ("pair", inputs(A, A), "input 'INPUT0' already exists in request"),
        (
            "optional",
            inputs(),
            "expected number of inputs between 1 and 2 but got 0 inputs for model 'optional'. Got "
            "input(s) [], but missing required input(s) ['INPUT0']. Please provide all required "
            "input(s).",
        ),
        (
            "pair",
            inputs(A, {**B, "shape": [3, 2]}),
            "input 'INPUT1' batch size does not match other inputs for 'pair'",
        ),
        (
            "pair",
            inputs(
                {**A, "shape": [5, 2], "data": [1] * 10}, {**B, "shape": [5, 1], "data": [1] * 5}
            ),
            "inference request batch-size must be <= 4 for 'pair'",
        ),
        (
            "pair",
            inputs({**A, "shape": [2], "data": [1, 2]}, B),
            "unexpected shape for input 'INPUT0' for model 'pair'. Expected [-1,2], got [2]."
            + NOTE,
        ),
        (
            "pair",
            inputs({**A, "shape": [2, 3], "data": [1] * 6}, B),
            "unexpected shape for input 'INPUT0' for model 'pair'. Expected [-1,2], got [2,3]."
            + NOTE,
        ),
        (
            "pair",
            inputs({**A, "shape": [], "data": [1]}, B),
            "input 'INPUT0' has no shape but model requires batch dimension for 'pair'",
        ),
    ],
)
def test_what_does_not_fit_a_batching_model_is_refused(
    server: RunningServer, model: str, document: Document, message: str
) -> None:
    check(post_json(server, url(model), document), 400, UNNAMED + message)


@pytest.mark.parametrize("shape", [[0, 2**62], [2**62, 0], [0, 2**63 - 1]])
def test_a_shape_without_elements_that_no_array_can_have_is_refused(
    server: RunningServer, shape: list[int]
) -> None:
    answer = post_json(server, url("free"), inputs(tensor(shape=shape, data=[])))
    assert answer.status == 400
    assert "invalid shape for input 'INPUT0'" in answer.error


@pytest.mark.parametrize("shape", [[2**62, 4], [2**63 - 1, 2**63 - 1]])
def test_a_shape_with_more_elements_than_can_be_counted_is_refused(
    server: RunningServer, shape: list[int]
) -> None:
    answer = post_json(server, url("free"), inputs(tensor(shape=shape)))
    extents = ",".join(map(str, shape))
    check(
        answer,
        400,
        f"invalid shape for input 'INPUT0': shape [{extents}] causes total element count to exceed "
        "maximum size of 9223372036854775807",
    )


def test_a_json_tensor_beyond_the_limit_is_refused(server: RunningServer) -> None:
    answer = post_json(server, url("free"), inputs(tensor(shape=[1000, 1000], data=[])))
    assert answer.status == 400
    assert answer.error.endswith("Use --http-max-input-size to increase the limit.")


# --- the document ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("hello", "Invalid value. at 0"),
        ('{"inputs":[', "Invalid value. at 11"),
        ("{'inputs':[]}", "Missing a name for object member. at 1"),
        ('{"inputs" []}', "Missing a colon after a name of object member. at 10"),
        ('{"inputs', "Missing a closing quotation mark in string. at 8"),
        ('{"é":"', "Missing a closing quotation mark in string. at 7"),
        ('{"é": x', "Invalid value. at 7"),
        ('{"id":"a\x01b"}', "Invalid escape character in string. at 8"),
        (
            '{"inputs":[]}x',
            "The document root must not be followed by other values. at 13",
        ),
    ],
)
def test_malformed_json_is_an_internal_error_that_names_the_place(
    server: RunningServer, body: str, reason: str
) -> None:
    answer = ask(server, "POST", url("plain"), body)
    assert answer.status == 500
    beginning = f"failed to parse the request JSON buffer: {reason} (line 1, column "
    assert answer.error.startswith(beginning)


@pytest.mark.parametrize(
    "body", ["{", '{"inputs":[],}', '{"a', "[1,2", '{"id":"\x01"}', "\x00", "nul", "-", "1e"]
)
def test_malformed_json_of_any_kind_is_told_apart_from_a_fault(
    server: RunningServer, body: str
) -> None:
    answer = ask(server, "POST", url("plain"), body)
    assert answer.status == 500
    assert answer.error.startswith("failed to parse the request JSON buffer: ")


@pytest.mark.parametrize("body", ["[]", "5", "null", "true", '"x"', "{}", '{"id":"a"}'])
def test_a_document_without_inputs_is_refused(server: RunningServer, body: str) -> None:
    message = "Unable to parse 'inputs': attempt to access non-existing object member 'inputs'"
    check(ask(server, "POST", url("plain"), body), 500, message)


NO_SOURCE = (
    "Input must set only one of the following fields: 'data', 'binary_data_size' in 'parameters', "
    "'shared_memory_region' in 'parameters'. But"
)
UNSIGNED = "attempt to access JSON non-unsigned-integer as unsigned-integer"


@pytest.mark.parametrize(
    ("document", "status", "message"),
    [
        ({"inputs": 5}, 500, "Unable to parse 'inputs': attempt to access JSON non-array as array"),
        ({"inputs": [5]}, 400, f"{NO_SOURCE} no field is set"),
        (inputs(tensor(data=None)), 400, f"{NO_SOURCE} no field is set"),
        (
            inputs(tensor(parameters={"binary_data_size": 16})),
            400,
            f"{NO_SOURCE} set 'data' 'binary_data_size'",
        ),
        (
            inputs(tensor(name=None)),
            500,
            "Unable to parse 'name': attempt to access non-existing object member 'name'",
        ),
        (
            inputs(tensor(datatype=None)),
            500,
            "Unable to parse 'datatype': attempt to access non-existing object member 'datatype'",
        ),
        (
            inputs(tensor(shape=None)),
            500,
            "Unable to parse 'shape': attempt to access non-existing object member 'shape'",
        ),
        (
            inputs(tensor(name=3)),
            500,
            "Unable to parse 'name': attempt to access JSON non-string as string",
        ),
        (
            inputs(tensor(shape=4)),
            500,
            "Unable to parse 'shape': attempt to access JSON non-array as array",
        ),
        (inputs(tensor(shape=["4"])), 500, f"Unable to parse 'shape': {UNSIGNED}"),
        (inputs(tensor(shape=[4.0])), 500, f"Unable to parse 'shape': {UNSIGNED}"),
        (inputs(tensor(shape=[-4])), 500, f"Unable to parse 'shape': {UNSIGNED}"),
        (
            inputs(tensor(), id=5),
            500,
            "Unable to parse 'id': attempt to access JSON non-string as string",
        ),
        (
            inputs(tensor(), outputs=3),
            500,
            "Unable to parse 'outputs': attempt to access JSON non-array as array",
        ),
        (
            inputs(tensor(), outputs=[{}]),
            500,
            "Unable to parse 'name': attempt to access non-existing object member 'name'",
        ),
        (
            inputs(tensor(), parameters=[]),
            500,
            "failed to get request params.: attempt to get members for non-object",
        ),
        (
            inputs(tensor(), parameters={"n": None}),
            400,
            "parameter 'n' has invalid type. It should be either 'int', 'bool', or 'string'.",
        ),
        (
            inputs(tensor(), parameters={"triton_x": 1}),
            400,
            "parameter keys starting with 'triton_' are reserved for Triton usage and should not "
            "be specified.",
        ),
        (
            inputs(tensor(), parameters={"priority": -2}),
            500,
            f"Unable to parse 'priority': {UNSIGNED}",
        ),
        (
            inputs(tensor(), parameters={"timeout": "x"}),
            500,
            f"Unable to parse 'timeout': {UNSIGNED}",
        ),
        (
            inputs(tensor(), parameters={"sequence_id": 1.5}),
            500,
            "Unable to parse 'sequence_id': attempt to access JSON non-string as string",
        ),
        (
            inputs(tensor(), parameters={"sequence_start": "x"}),
            500,
            "Unable to parse 'sequence_start': attempt to access JSON non-boolean as boolean",
        ),
        (
            inputs(tensor(), parameters={"binary_data_output": 3}),
            500,
            "Unable to parse 'binary_data_output': attempt to access JSON non-boolean as boolean",
        ),
        (
            inputs(tensor(), outputs=[{"name": "OUTPUT0", "parameters": {"classification": -1}}]),
            500,
            f"Unable to set 'classification': {UNSIGNED}",
        ),
        (
            inputs(tensor(), outputs=[{"name": "OUTPUT0", "parameters": {"binary_data": 1}}]),
            500,
            "Unable to parse 'binary_data': attempt to access JSON non-boolean as boolean",
        ),
    ],
)
def test_a_wrong_member_is_named(
    server: RunningServer, document: Document, status: int, message: str
) -> None:
    check(post_json(server, url("plain"), document), status, message)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            [1, 2, 3, 4, 5],
            "Unable to parse 'data': Shape does not match true shape of 'data' field",
        ),
        ([1, 2, 3], "Failed to parse 'data' field: shape does not match true shape"),
        ([], "Failed to parse 'data' field: shape does not match true shape"),
        (
            ["1", "2", "3", "4"],
            "Unable to parse 'data': attempt to access JSON non-number as double",
        ),
        ([True] * 4, "Unable to parse 'data': attempt to access JSON non-number as double"),
        ([1, None, 3, 4], "Unable to parse 'data': attempt to access JSON non-number as double"),
        ({"a": 1}, "Unable to parse 'data': attempt to access JSON non-number as double"),
    ],
)
def test_elements_of_the_wrong_kind_or_number_are_refused(
    server: RunningServer, data: object, message: str
) -> None:
    check(post_json(server, url("plain"), inputs(tensor(data=data))), 500, message)


def test_elements_that_are_no_strings_are_refused(server: RunningServer) -> None:
    entry = tensor(datatype="BYTES", shape=[2], data=[1, 2])
    message = "Unable to parse JSON bytes array: attempt to access JSON non-string as string"
    check(post_json(server, url("strings"), inputs(entry)), 500, message)


def test_lists_nested_too_deep_are_refused(server: RunningServer) -> None:
    for depth in (100, 5_000, 200_000):
        entry = '{"name":"INPUT0","datatype":"FP32","shape":[4],"data":'
        body = '{"inputs":[' + entry + "[" * depth + "1" + "]" * depth + "}]}"
        check(
            ask(server, "POST", url("plain"), body),
            400,
            "JSON nesting depth exceeds maximum allowed limit (100)",
        )


def test_an_integer_of_thousands_of_digits_is_refused(server: RunningServer) -> None:
    body = '{"inputs":[{"name":"INPUT0","datatype":"FP32","shape":[%s],"data":[1]}]}' % ("9" * 5000)
    answer = ask(server, "POST", url("plain"), body)
    assert answer.status in (400, 500)
    assert len(answer.error) < 10_000


# --- bytes behind the document --------------------------------------------------------------------


def binary(size: object = 16, **changes: Any) -> Document:
    return inputs(tensor(data=None, parameters={"binary_data_size": size}, **changes))


DATA = bytes(range(16))


@pytest.mark.parametrize(
    ("document", "data", "status", "message"),
    [
        (
            binary(),
            DATA[:10],
            400,
            "unexpected size for input 'INPUT0', expecting 6 additional bytes for model 'plain'",
        ),
        (
            binary(),
            b"",
            400,
            "unexpected size for input 'INPUT0', expecting 16 additional bytes for model 'plain'",
        ),
        (binary(), DATA + b"zz", 400, "unexpected additional input data for model 'plain'"),
        (inputs(tensor()), b"zz", 400, "unexpected additional input data for model 'plain'"),
        (
            binary(12),
            DATA[:12],
            400,
            f"{UNNAMED}input byte size mismatch for input 'INPUT0' for model 'plain'. "
            "Expected 16, got 12",
        ),
        (
            binary(0),
            b"",
            400,
            f"{UNNAMED}input byte size mismatch for input 'INPUT0' for model 'plain'. "
            "Expected 16, got 0",
        ),
        (binary(-1), DATA, 500, f"Unable to parse 'binary_data_size': {UNSIGNED}"),
        (binary("16"), DATA, 500, f"Unable to parse 'binary_data_size': {UNSIGNED}"),
    ],
)
def test_binary_data_of_the_wrong_size_are_refused(
    server: RunningServer, document: Document, data: bytes, status: int, message: str
) -> None:
    body, headers = with_binary(document, data)
    check(ask(server, "POST", url("plain"), body, headers), status, message)


def test_binary_data_without_the_length_header_are_missing(server: RunningServer) -> None:
    check(
        post_json(server, url("plain"), binary()),
        400,
        "unexpected size for input 'INPUT0', expecting 16 additional bytes for model 'plain'",
    )


@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize(
    ("length", "message"),
    [
        ("abc", "Unable to parse Inference-Header-Content-Length, got: abc"),
        ("", "Unable to parse Inference-Header-Content-Length, got: "),
        ("-1", "inference header size should be in range (0, {size}), got: -1"),
        ("999999", "inference header size should be in range (0, {size}), got: 999999"),
        (
            "99999999999",
            "Unable to parse Inference-Header-Content-Length, value is out of range "
            "[ -2147483648, 2147483647 ], got: 99999999999",
        ),
    ],
)
def test_a_wrong_header_length_is_refused(
    server: RunningServer, length: str, message: str, large: bool
) -> None:
    body, _ = with_binary(binary(), DATA * (2000 if large else 1))
    answer = ask(server, "POST", url("plain"), body, {"Inference-Header-Content-Length": length})
    check(answer, 400, message.format(size=len(body)), TEXT)


@pytest.mark.parametrize("offset", [-60, -1, 1, 8])
def test_a_header_length_that_cuts_at_the_wrong_place_is_refused(
    server: RunningServer, offset: int
) -> None:
    body, headers = with_binary(binary(), DATA)
    length = int(headers["Inference-Header-Content-Length"] or 0) + offset
    answer = ask(
        server, "POST", url("plain"), body, {"Inference-Header-Content-Length": str(length)}
    )
    assert answer.status in (400, 500)
    assert answer.error


@pytest.mark.parametrize(
    ("shape", "data", "message"),
    [
        (
            [2],
            b"\1\0\0\0a\3\0\0\0b",
            "incomplete string data for inference input 'INPUT0', expecting string of length 3 but "
            "only 1 bytes available",
        ),
        (
            [2],
            b"\1\0\0\0a",
            f"{UNNAMED}expected 2 string elements for inference input 'INPUT0' for model "
            "'strings', got 1",
        ),
        (
            [1],
            b"\1\0\0\0a\3\0\0\0bcd",
            f"{UNNAMED}unexpected number of string elements 2 for inference input 'INPUT0' for "
            "model 'strings', expecting 1",
        ),
        (
            [2],
            b"\1\0\0\0a\3\0",
            f"{UNNAMED}incomplete string length indicator for inference input 'INPUT0' for model "
            "'strings', expecting 4 bytes but only 2 bytes available. Please make sure the string "
            "length indicator is in one buffer.",
        ),
        (
            [2],
            b"",
            f"{UNNAMED}expected 2 string elements for inference input 'INPUT0' for model "
            "'strings', got 0",
        ),
        (
            [0],
            b"\0\0\0\0",
            f"{UNNAMED}unexpected number of string elements 1 for inference input 'INPUT0' for "
            "model 'strings', expecting 0",
        ),
        (
            [1_000_000_000_000],
            b"\1\0\0\0a",
            f"{UNNAMED}expected 1000000000000 string elements for inference input 'INPUT0' for "
            "model 'strings', got 1",
        ),
        (
            [1],
            b"\xff\xff\xff\xffa",
            "incomplete string data for inference input 'INPUT0', expecting string of length "
            "4294967295 but only 1 bytes available",
        ),
    ],
)
def test_strings_that_do_not_fill_their_bytes_are_refused(
    server: RunningServer, shape: list[int], data: bytes, message: str
) -> None:
    body, headers = with_binary(binary(len(data), datatype="BYTES", shape=shape), data)
    answer = ask(server, "POST", url("strings"), body, headers)
    assert (answer.status, answer.error) == (400, message)


def test_large_strings_that_do_not_fill_their_bytes_are_refused(server: RunningServer) -> None:
    data = b"\0\0\0\x01" + b"a" * 50_000
    body, headers = with_binary(binary(len(data), datatype="BYTES", shape=[1]), data)
    answer = ask(server, "POST", url("strings"), body, headers)
    assert (answer.status, answer.error) == (
        400,
        "incomplete string data for inference input 'INPUT0', expecting string of length 16777216 "
        "but only 50000 bytes available",
    )


def test_a_number_of_strings_beyond_64_bits_is_refused(server: RunningServer) -> None:
    for shape in ([2**63], [2**64], [2**90]):
        body, headers = with_binary(binary(5, datatype="BYTES", shape=shape), b"\1\0\0\0a")
        answer = ask(server, "POST", url("strings"), body, headers)
        assert answer.status in (400, 500)
        assert "shape" in answer.error


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (
            "pair",
            DATA,
            "Raw request must only have 1 input (found 1) to be deduced but got 2 inputs in 'pair' "
            "model configuration",
        ),
        (
            "strings",
            DATA,
            "For BYTE datatype raw input 'INPUT0', the model must have input shape [1]",
        ),
        (
            "free",
            DATA,
            "The shape of the raw input 'INPUT0' can not be deduced because there are more than "
            "one variable-sized dimension",
        ),
    ],
)
def test_a_raw_request_that_leaves_a_doubt_is_refused(
    server: RunningServer, model: str, data: bytes, message: str
) -> None:
    headers = {"Inference-Header-Content-Length": "0"}
    check(ask(server, "POST", url(model), data, headers), 400, UNNAMED + message)


@pytest.mark.parametrize("data", [b"", DATA[:12], DATA + DATA])
def test_a_raw_request_of_the_wrong_size_is_refused(server: RunningServer, data: bytes) -> None:
    answer = ask(server, "POST", url("plain"), data, {"Inference-Header-Content-Length": "0"})
    assert answer.status == 400
    assert answer.error.startswith(f"{UNNAMED}input byte size mismatch for input ")
    assert answer.error.endswith(f" for model 'plain'. Expected 16, got {len(data)}")


# --- the transport --------------------------------------------------------------------------------


def test_a_body_beyond_the_limit_is_refused(server: RunningServer) -> None:
    answer = ask(server, "POST", url("plain"), b" " * 1_000_001)
    assert answer.status == 400
    assert answer.error.endswith("Use --http-max-input-size to increase the limit.")


def test_a_body_that_unpacks_beyond_the_limit_is_refused(server: RunningServer) -> None:
    body = gzip.compress(b" " * 100_000_000, 1)
    answer = ask(server, "POST", url("plain"), body, {"Content-Encoding": "gzip"})
    assert answer.status == 400
    assert answer.error.endswith("Use --http-max-input-size to increase the limit.")


def test_a_body_that_is_not_compressed_as_it_says_is_refused(server: RunningServer) -> None:
    whole = gzip.compress(json.dumps(inputs(tensor())).encode())
    for body in (b"hello", whole[:-12]):
        answer = ask(server, "POST", url("plain"), body, {"Content-Encoding": "gzip"})
        assert answer.status == 400
        assert answer.error


def test_an_unknown_encoding_is_refused_with_those_that_are_known(server: RunningServer) -> None:
    answer = ask(server, "POST", url("plain"), b"x", {"Content-Encoding": "br"})
    check(answer, 501, "Unsupported compression type", TEXT)
    assert answer.headers["accept-encoding"] == "gzip, deflate"


def test_too_many_chunks_are_refused_and_the_connection_is_closed(server: RunningServer) -> None:
    head = encode_request("POST", url("plain"), headers={"Transfer-Encoding": "chunked"})
    with closing(connect(server)) as connection:
        connection.sendall(head + b"1\r\n \r\n" * 65_537 + b"0\r\n\r\n")
        answer = read_answer(connection)
        assert answer.status == 400
        assert answer.error.startswith("Chunked request body exceeds maximum of 65536 non-empty")
        assert connection.recv(1) == b""


@pytest.mark.parametrize(
    "data",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET /v2 HTTP/9.9\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /v2 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"GET /v2 HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        b"POST " + url("plain").encode() + b" HTTP/1.1\r\nHost: x\r\n"
        b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
    ids=["words", "tls", "version", "negative length", "two lengths", "large header", "chunks"],
)
def test_what_is_no_http_is_refused_and_the_connection_is_closed(
    server: RunningServer, data: bytes
) -> None:
    received = b""
    with closing(connect(server)) as connection:
        connection.sendall(data)
        while piece := connection.recv(65536):
            received += piece
    assert received == b"" or received.startswith(b"HTTP/1.1 4")
    assert b"Traceback" not in received


@pytest.mark.parametrize("binary_size", [16, 400_000])
def test_a_body_that_ends_too_early_harms_nobody(server: RunningServer, binary_size: int) -> None:
    body, headers = with_binary(binary(binary_size, shape=[4]), b"x" * (binary_size // 2))
    missing = {**headers, "Content-Length": str(len(body) + binary_size // 2)}
    with closing(connect(server)) as connection:
        connection.sendall(encode_request("POST", url("plain"), body, missing))
        connection.shutdown(1)
        assert connection.recv(65536).startswith((b"", b"HTTP/1.1 400"))
    assert post_json(server, url("plain"), inputs(tensor())).status == 200


@pytest.mark.parametrize(
    ("method", "path", "content_type"),
    [
        ("POST", "/v2/health/live", TEXT),
        ("POST", "/v2/models/plain/ready", TEXT),
        ("GET", "/v2/models/plain/infer", TEXT),
        ("PUT", "/v2/models/plain/infer", TEXT),
        ("POST", "/v2", JSON),
        ("DELETE", "/v2", JSON),
        ("OPTIONS", "/v2", JSON),
        ("POST", "/v2/models/plain", JSON),
        ("POST", "/v2/models/plain/config", JSON),
        ("POST", "/v2/models/plain/stats", JSON),
        ("GET", "/v2/repository/index", JSON),
        ("GET", "/v2/repository/models/plain/load", JSON),
    ],
)
def test_a_wrong_method_is_not_allowed(
    server: RunningServer, method: str, path: str, content_type: str
) -> None:
    answer = ask(server, method, path)
    check(answer, 405, "Method Not Allowed", content_type)
    assert answer.reason == "Not Allowed"


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v3",
        "/v2/",
        "//v2",
        "/v2/models/",
        "/v2/models/plain/",
        "/v2/models/plain/nope",
        "/v2/models/a/b",
        "/v2/models//ready",
        "/v2/health",
        "/v2/models/plain/versions/1/",
        "/v2/repository/models/plain",
        "/v2/%00",
        "/v2/../../etc/passwd",
    ],
)
def test_an_unknown_route_is_not_found(server: RunningServer, path: str) -> None:
    check(get(server, path), 404, "Not Found", TEXT)


def test_answers_have_no_headers_beyond_those_of_triton(server: RunningServer) -> None:
    headers: Mapping[str, str] = get(server, "/v2").headers
    assert set(headers) == {"content-type", "content-length"}
