"""Inference over a real socket: bodies of every form, and what becomes of wrong ones."""

from __future__ import annotations

import gzip
import json
import socket
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import tritonclient.http

from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES, Span, Tensor, encode_bytes
from tritonpy.supervisor.http.lean import MOST_BODY_BYTES
from tritonpy.supervisor.request import InferRequest, InferResponse

if TYPE_CHECKING:
    from unit.supervisor.http.conftest import Served

LARGE = INLINE_LIMIT_BYTES  # elements of FP32, so four times the limit for tensors in messages


def json_input(values: list[float], name: str = "IN") -> dict[str, Any]:
    return {"name": name, "datatype": "FP32", "shape": [len(values)], "data": values}


def binary_input(count: int, size: int | None = None, name: str = "IN") -> dict[str, Any]:
    size = 4 * count if size is None else size
    return {
        "name": name,
        "datatype": "FP32",
        "shape": [count],
        "parameters": {"binary_data_size": size},
    }


def floats(count: int) -> bytes:
    return np.arange(count, dtype=np.float32).tobytes()


# --- the official client --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 4, LARGE])
@pytest.mark.parametrize("binary", [True, False])
def test_tritonclient_gets_back_what_it_sends(served: Served, count: int, binary: bool) -> None:
    array = np.arange(count, dtype=np.float32)
    tensor = tritonclient.http.InferInput("IN", [count], "FP32")
    tensor.set_data_from_numpy(array, binary_data=binary)
    wanted = tritonclient.http.InferRequestedOutput("OUT", binary_data=binary)
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        result = client.infer("echo", [tensor], outputs=[wanted], request_id="r1", priority=3)
    found = result.as_numpy("OUT")
    assert found is not None
    np.testing.assert_array_equal(found, array)
    assert result.get_response()["id"] == "r1"
    assert served.data.requests[0].priority == 3


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_tritonclient_compresses_both_ways(served: Served, algorithm: str) -> None:
    array = np.arange(100_000, dtype=np.float32)
    tensor = tritonclient.http.InferInput("IN", [array.size], "FP32")
    tensor.set_data_from_numpy(array)
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        result = client.infer(
            "echo",
            [tensor],
            request_compression_algorithm=algorithm,
            response_compression_algorithm=algorithm,
        )
    np.testing.assert_array_equal(result.as_numpy("OUT"), array)


def test_tritonclient_finds_a_model_whose_name_must_be_quoted(served: Served) -> None:
    tensor = tritonclient.http.InferInput("IN", [1], "FP32")
    tensor.set_data_from_numpy(np.ones(1, np.float32))
    with tritonclient.http.InferenceServerClient(f"127.0.0.1:{served.port}") as client:
        result = client.infer("two words", [tensor], model_version="1")
    assert result.get_response()["model_name"] == "two words"
    assert served.data.requests[0].version == 1


# --- answers --------------------------------------------------------------------------------------


def test_a_json_answer_has_two_headers_and_no_more(served: Served) -> None:
    answer = served.infer("echo", {"inputs": [json_input([1, 2])]})
    assert answer.status == 200
    assert answer.body == (
        b'{"model_name":"echo","model_version":"1","outputs":[{"name":"OUT","datatype":"FP32",'
        b'"shape":[2],"data":[1.0,2.0]}]}'
    )
    assert answer.headers == {
        "Content-Type": "application/json",
        "Content-Length": str(len(answer.body)),
    }


def test_binary_outputs_follow_the_document(served: Served) -> None:
    document = {"parameters": {"binary_data_output": True}, "inputs": [json_input([1, 2])]}
    answer = served.infer("echo", document)
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert answer.headers["Content-Type"] == "application/octet-stream"
    outputs = json.loads(answer.body[:length])["outputs"]
    assert outputs[0]["parameters"] == {"binary_data_size": 8}
    assert answer.body[length:] == np.array([1, 2], np.float32).tobytes()


def test_large_outputs_arrive_whole_and_in_order(served: Served) -> None:
    parts = [bytes([value]) * 300_000 for value in (1, 2, 3)]

    def respond(request: InferRequest) -> InferResponse:
        outputs = [
            Tensor(f"O{index}", "UINT8", (len(part),), memoryview(part))
            for index, part in enumerate(parts)
        ]
        return InferResponse(request.model, 1, "", outputs)

    served.data.respond = respond
    document = {"parameters": {"binary_data_output": True}, "inputs": [json_input([1])]}
    answer = served.infer("echo", document)
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert answer.body[length:] == b"".join(parts)


def test_a_large_json_answer_arrives_whole(served: Served) -> None:
    values = np.arange(100_000, dtype=np.float32)

    def respond(request: InferRequest) -> InferResponse:
        tensor = Tensor("OUT", "FP32", values.shape, memoryview(values.tobytes()))
        return InferResponse(request.model, 1, "", [tensor])

    served.data.respond = respond
    answer = served.infer("echo", {"inputs": [json_input([1])]})
    assert json.loads(answer.body)["outputs"][0]["data"] == values.tolist()


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate;q=0.5, gzip;q=0.9", "gzip"),
        ("gzip;q=0.5, deflate", "deflate"),
        ("br, gzip;q=bad", None),
        ("identity, gzip;q=0.5", None),
        ("gzip;q=0", None),
    ],
)
def test_the_answer_is_compressed_as_the_client_prefers(
    served: Served, accepted: str, encoding: str | None
) -> None:
    document = {"inputs": [json_input([1])]}
    answer = served.infer("echo", document, headers={"Accept-Encoding": accepted})
    assert answer.headers.get("Content-Encoding") == encoding
    body = zlib.decompress(answer.body, 15 | 32) if encoding else answer.body
    assert json.loads(body)["outputs"][0]["data"] == [1.0]


# --- where the data go ----------------------------------------------------------------------------


def test_small_tensors_stay_inline(served: Served) -> None:
    served.infer("echo", {"inputs": [binary_input(4)]}, floats(4))
    assert served.data.leases == []
    assert served.data.read(served.data.requests[0].inputs[0]) == floats(4)


@pytest.mark.parametrize("chunked", [False, True])
def test_large_binary_tensors_go_into_one_lease(served: Served, chunked: bool) -> None:
    inputs = [
        binary_input(3, name="IN0"),
        binary_input(LARGE, name="IN1"),
        binary_input(LARGE + 1, name="IN2"),
        json_input([1.0] * LARGE, "IN3"),
        json_input([1.0], "IN4"),
    ]
    document = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    rest = floats(3) + floats(LARGE) + floats(LARGE + 1)
    headers = {"Inference-Header-Content-Length": str(len(document))}
    body: Any = iter([document, rest]) if chunked else document + rest
    answer = served.ask("POST", "/v2/models/echo/infer", body, headers)
    assert answer.status == 200, answer.body
    request = served.data.requests[0]
    assert len(request.leases) == len(served.data.leases) == 1
    assert [isinstance(tensor.data, Span) for tensor in request.inputs] == [
        False,
        True,
        True,
        True,
        False,
    ]
    spans = served.data.leases[0].spans
    assert [span.offset % 64 for span in spans] == [0, 0, 0]
    assert [span.size for span in spans] == [4 * LARGE, 4 * (LARGE + 1), 4 * LARGE]
    length = int(answer.headers["Inference-Header-Content-Length"])
    ones = np.ones(LARGE, np.float32).tobytes()
    assert answer.body[length:] == rest + ones + ones[:4]
    assert not served.data.leases[0].released.is_set()


def test_many_small_tensors_that_are_large_together_need_no_lease(served: Served) -> None:
    inputs = [binary_input(2000, name=f"IN{index}") for index in range(40)]
    document = {"inputs": inputs, "parameters": {"binary_data_output": True}}
    answer = served.infer("echo", document, floats(2000) * 40)
    assert answer.body.endswith(floats(2000) * 40)
    assert served.data.leases == []


def test_small_tensors_do_not_fill_the_servers_memory_by_their_number(served: Served) -> None:
    inputs = [binary_input(4000, name=f"IN{index}") for index in range(80)]
    answer = served.infer("echo", {"inputs": inputs}, bytes(16000 * 80))
    assert answer.status == 400
    assert "exceeds the maximum allowed input size of 1048576 bytes" in answer.error


def test_a_single_large_tensor_takes_exactly_its_size(served: Served) -> None:
    served.infer("echo", {"inputs": [binary_input(LARGE)]}, floats(LARGE))
    assert len(served.data.leases[0].view) == 4 * LARGE
    assert bytes(served.data.leases[0].view) == floats(LARGE)


def test_a_full_arena_is_said_and_the_connection_goes_on(served: Served) -> None:
    served.data.arena_full = True
    answer = served.infer("echo", {"inputs": [binary_input(LARGE)]}, floats(LARGE))
    assert (answer.status, answer.error) == (
        503,
        "no shared memory is left for a request to 'echo'",
    )


def test_a_client_that_leaves_while_sending_gives_the_lease_back(served: Served) -> None:
    count = MOST_BODY_BYTES  # larger than what is read whole first
    document = json.dumps({"inputs": [binary_input(count)]}).encode()
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
            b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
            % (len(document), len(document) + 4 * count)
            + document
        )
        client.sendall(floats(10))
        assert served.data.leased.wait(10)
    assert served.data.leases[0].released.wait(10)
    assert served.data.requests == []


def test_a_client_that_leaves_cancels_its_request(served: Served) -> None:
    document = json.dumps({"inputs": [json_input([1])]}).encode()
    with socket.create_connection(("127.0.0.1", served.port)) as client:
        client.sendall(
            b"POST /v2/models/never/infer HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n"
            % len(document)
            + document
        )
        assert served.data.started.wait(10)
    assert served.data.cancelled.wait(10)


def test_a_client_that_waits_to_be_asked_is_asked(served: Served) -> None:
    document = json.dumps({"inputs": [json_input([1])]}).encode()
    with socket.create_connection(("127.0.0.1", served.port), 10) as client:
        client.sendall(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
            b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(document)
        )
        assert client.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.sendall(document)
        assert client.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")


# --- raw requests ---------------------------------------------------------------------------------


RAW = {"Inference-Header-Content-Length": "0"}


@pytest.mark.parametrize("count", [4, LARGE])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_raw_request_is_nothing_but_bytes(served: Served, count: int, chunked: bool) -> None:
    body: Any = iter([floats(count)]) if chunked else floats(count)
    answer = served.ask("POST", "/v2/models/batched/infer", body, RAW)
    assert served.data.requests[0].inputs[0].shape == (1, 2, count // 2)
    length = int(answer.headers["Inference-Header-Content-Length"])
    assert answer.body[length:] == floats(count)


@pytest.mark.parametrize("text", [b"hello", b"x" * 100_000])
def test_a_raw_string_is_framed_by_the_server(served: Served, text: bytes) -> None:
    answer = served.ask("POST", "/v2/models/text/infer", text, RAW)
    assert answer.body.endswith(encode_bytes([text]))


def test_an_empty_body_is_a_raw_request_of_no_bytes(served: Served) -> None:
    assert served.ask("POST", "/v2/models/echo/infer").status == 200
    assert served.data.requests[0].inputs[0].shape == (0,)


def test_a_raw_request_needs_a_model_with_one_input(served: Served) -> None:
    answer = served.ask("POST", "/v2/models/pair/infer", b"1234", RAW)
    assert answer.status == 400
    assert "Raw request must only have 1 input (found 1)" in answer.error


def test_a_raw_body_above_the_limit_is_refused(served: Served) -> None:
    answer = served.ask("POST", "/v2/models/echo/infer", bytes(1024 * 1024 + 4), RAW)
    assert (answer.status, answer.error) == (
        400,
        "Raw input has a byte_size (1048580 bytes) that exceeds the maximum allowed value of "
        "1048576 bytes. Use --http-max-input-size to increase the limit.",
    )


# --- wrong requests -------------------------------------------------------------------------------


def test_binary_tensors_are_not_bound_by_the_limit_for_json(served: Served) -> None:
    count = 1024 * 1024
    answer = served.infer("echo", {"inputs": [binary_input(count)]}, floats(count))
    assert answer.status == 200


@pytest.mark.parametrize("chunked", [False, True])
def test_a_json_body_above_the_limit_is_refused(served: Served, chunked: bool) -> None:
    text = json.dumps({"inputs": [json_input([1])]}).encode().ljust(1024 * 1024 + 1)
    body: Any = iter([text]) if chunked else text
    answer = served.ask("POST", "/v2/models/echo/infer", body)
    assert answer.status == 400
    assert "exceeds the maximum allowed input size of 1048576 bytes" in answer.error
    assert answer.error.endswith("Use --http-max-input-size to increase the limit.")


@pytest.mark.parametrize(
    ("size", "sent", "message"),
    [
        (16, 12, "unexpected size for input 'IN', expecting 4 additional bytes for model 'echo'"),
        (16, 20, "unexpected additional input data for model 'echo'"),
        (
            4 * LARGE,
            4 * LARGE - 4,
            "unexpected size for input 'IN', expecting 4 additional bytes for model 'echo'",
        ),
        (4 * LARGE, 4 * LARGE + 4, "unexpected additional input data for model 'echo'"),
    ],
)
def test_a_binary_part_of_the_wrong_size_is_refused(
    served: Served, size: int, sent: int, message: str
) -> None:
    document = {"inputs": [binary_input(size // 4)]}
    answer = served.infer("echo", document, bytes(sent))
    assert (answer.status, answer.error) == (400, message)
    assert answer.headers["Content-Type"] == "application/json"
    assert served.data.leases == []


def test_a_binary_size_without_a_binary_part_is_refused(served: Served) -> None:
    answer = served.infer("echo", {"inputs": [binary_input(1)]})
    assert "expecting 4 additional bytes" in answer.error


@pytest.mark.parametrize("value", ["abc", "-1", "1000", "99999999999"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_wrong_header_length_is_refused(served: Served, value: str, chunked: bool) -> None:
    body: Any = iter([b"{}"]) if chunked else b"{}"
    headers = {"Inference-Header-Content-Length": value}
    answer = served.ask("POST", "/v2/models/echo/infer", body, headers)
    assert answer.status == 400
    assert answer.error.endswith(f"got: {value}")
    assert answer.headers["Content-Type"] == "text/plain"


def test_malformed_json_is_an_internal_error(served: Served) -> None:
    answer = served.infer("echo", b"{nonsense")
    assert (answer.status, answer.error) == (
        500,
        "failed to parse the request JSON buffer: Missing a name for object member. at 1 "
        "(line 1, column 2)",
    )


def test_a_large_document_is_parsed_as_well(served: Served) -> None:
    values = [1.0] * 100_000
    answer = served.infer("echo", {"inputs": [json_input(values)]})
    assert json.loads(answer.body)["outputs"][0]["data"] == values


@pytest.mark.parametrize("compress", [gzip.compress, zlib.compress])
def test_what_is_inside_decides_between_gzip_and_deflate(served: Served, compress: Any) -> None:
    body = compress(json.dumps({"inputs": [json_input([1])]}).encode())
    answer = served.infer("echo", body, headers={"Content-Encoding": "gzip"})
    assert answer.status == 200


def test_an_unknown_compression_is_not_implemented_and_names_the_known(served: Served) -> None:
    answer = served.infer("echo", b"x", headers={"Content-Encoding": "br"})
    assert (answer.status, answer.error) == (501, "Unsupported compression type")
    assert answer.headers["Accept-Encoding"] == "gzip, deflate"
    assert answer.headers["Content-Type"] == "text/plain"


@pytest.mark.parametrize("size", [1024 * 1024 + 1, 64 * 1024 * 1024])
def test_a_body_that_unfolds_beyond_the_limit_is_refused(served: Served, size: int) -> None:
    answer = served.infer(
        "echo", zlib.compress(bytes(size), 9), headers={"Content-Encoding": "deflate"}
    )
    assert (answer.status, answer.error) == (
        400,
        "Decompressed data size exceeds the maximum allowed value of 1048576 bytes. "
        "Use --http-max-input-size to increase the limit.",
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "nothing to be decompressed"),
        (b"not compressed", "the request body cannot be decompressed"),
        (gzip.compress(b"{}", mtime=0)[:-1], "the compressed data of the request body are cut off"),
    ],
)
def test_broken_compression_is_refused(served: Served, body: bytes, message: str) -> None:
    answer = served.infer("echo", body, headers={"Content-Encoding": "gzip"})
    assert answer.status == 400
    assert answer.error.startswith(message)


def test_an_unknown_model_is_found_out_before_the_body_is_read(served: Served) -> None:
    answer = served.infer("nope", b"{nonsense")
    assert (answer.status, answer.error) == (404, "Request for unknown model: 'nope' is not found")
    assert answer.headers["Content-Type"] == "text/plain"


def test_a_decoupled_model_needs_another_endpoint(served: Served) -> None:
    answer = served.infer("stream", {"inputs": [json_input([1])]})
    assert (answer.status, answer.error) == (
        501,
        "HTTP end point doesn't support models with decoupled transaction policy",
    )


def test_a_failing_model_fails_the_request(served: Served) -> None:
    answer = served.infer("broken", {"inputs": [json_input([1])]})
    assert (answer.status, answer.error) == (500, "the model failed")


def test_a_chunked_body_of_too_many_pieces_ends_the_connection(served: Served) -> None:
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = served.exchange(head + b"1\r\n1\r\n" * 65537 + b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert b"Connection: close\r\n" in answer
    assert b"Chunked request body exceeds maximum of 65536 non-empty chunks." in answer


def test_a_broken_chunk_is_answered(served: Served) -> None:
    head = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    answer = served.exchange(head + b"zz\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'{"error":"' in answer
