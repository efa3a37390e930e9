"""Tensors of every size arrive whole, and shared memory that is used again never shows."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models
from support.clients import (
    Array,
    binary_outputs,
    connect,
    encode_request,
    get,
    read_answer,
    same,
    unharmed,
    with_binary,
)
from support.servers import RunningServer, serving

from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES

MIB = 1024 * 1024
SIZES = [
    0,
    1,
    INLINE_LIMIT_BYTES - 1,
    INLINE_LIMIT_BYTES,
    INLINE_LIMIT_BYTES + 1,
    64 * 1024 + 1,
    MIB,
    20 * MIB,
]
TWO = """
    backend: "identity"
    input [
      { name: "INPUT0" data_type: TYPE_UINT8 dims: [ -1 ] },
      { name: "INPUT1" data_type: TYPE_STRING dims: [ -1 ] }
    ]
    output [
      { name: "OUTPUT0" data_type: TYPE_UINT8 dims: [ -1 ] },
      { name: "OUTPUT1" data_type: TYPE_STRING dims: [ -1 ] }
    ]
    instance_group { kind: KIND_CPU count: 2 }
"""
#: Answers with its input overwritten, as models do that normalise in place.
IN_PLACE = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                array += 1
                output = pb_utils.Tensor("OUT", array)
                responses.append(pb_utils.InferenceResponse([output]))
            return responses
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.write(repository / "two" / "config.pbtxt", TWO)
    (repository / "two" / "1").mkdir()
    config = models.identity_config("TYPE_UINT8")
    models.python_model(repository, "in_place", IN_PLACE, config)
    with serving(repository) as running, unharmed(running):
        yield running


def pattern(size: int, seed: int = 0) -> Array:
    """Bytes that no other seed has at the same place."""
    return np.random.default_rng(seed).integers(0, 256, size, np.uint8)


def texts(seed: int) -> Array:
    array = np.empty(3, np.object_)
    array[:] = [b"%d" % seed, b"", pattern(20_000, seed).tobytes()]
    return array


def ask_two(library: Any, client: Any, array: Array, strings: Array) -> tuple[Array, Array]:
    """Both tensors there and back by one of the client libraries."""
    inputs = [
        library.InferInput("INPUT0", list(array.shape), "UINT8"),
        library.InferInput("INPUT1", list(strings.shape), "BYTES"),
    ]
    inputs[0].set_data_from_numpy(array)
    inputs[1].set_data_from_numpy(strings)
    result = client.infer("two", inputs)
    return result.as_numpy("OUTPUT0"), result.as_numpy("OUTPUT1")


@pytest.mark.parametrize("library", [httpclient, grpcclient], ids=["http", "grpc"])
@pytest.mark.parametrize("size", SIZES)
def test_a_tensor_of_any_size_arrives_whole(server: RunningServer, library: Any, size: int) -> None:
    address = server.http if library is httpclient else server.grpc
    with library.InferenceServerClient(address) as client:
        array, strings = ask_two(library, client, pattern(size), texts(size))
    if size:
        same(array, pattern(size))
    same(strings, texts(size))


@pytest.mark.parametrize("size", [INLINE_LIMIT_BYTES, INLINE_LIMIT_BYTES + 1, MIB])
def test_a_model_may_overwrite_its_inputs(server: RunningServer, size: int) -> None:
    tensor = httpclient.InferInput("IN", [size], "UINT8")
    tensor.set_data_from_numpy(pattern(size))
    with httpclient.InferenceServerClient(server.http) as client:
        for _repetition in range(2):
            result = client.infer("in_place", [tensor]).as_numpy("OUT")
            assert result is not None
            same(result, pattern(size) + np.uint8(1))


def test_a_large_tensor_travels_as_json(server: RunningServer) -> None:
    array = pattern(300_000)
    tensor = httpclient.InferInput("IN", [len(array)], "UINT8")
    tensor.set_data_from_numpy(array, binary_data=False)
    wanted = httpclient.InferRequestedOutput("OUT", binary_data=False)
    with httpclient.InferenceServerClient(server.http) as client:
        result = client.infer("in_place", [tensor], outputs=[wanted]).as_numpy("OUT")
    assert result is not None
    same(result, array + np.uint8(1))


def test_large_tensors_are_compressed_both_ways(server: RunningServer) -> None:
    array = np.repeat(pattern(1000), 3000)
    for algorithm in ("gzip", "deflate"):
        tensor = httpclient.InferInput("IN", [len(array)], "UINT8")
        tensor.set_data_from_numpy(array)
        with httpclient.InferenceServerClient(server.http) as client:
            result = client.infer(
                "in_place",
                [tensor],
                request_compression_algorithm=algorithm,
                response_compression_algorithm=algorithm,
            ).as_numpy("OUT")
        assert result is not None
        same(result, array + np.uint8(1))


def test_a_chunked_body_needs_no_length(server: RunningServer) -> None:
    array, strings = pattern(200_000), b"\3\0\0\0abc"
    body, headers = request_of(array, strings)
    chunks = [body[at : at + 30_000] for at in range(0, len(body), 30_000)]
    chunked = b"".join(b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks) + b"0\r\n\r\n"
    with closing(connect(server)) as connection:
        headers["Transfer-Encoding"] = "chunked"
        connection.sendall(encode_request("POST", "/v2/models/two/infer", chunked, headers))
        outputs = binary_outputs(read_answer(connection))
    assert outputs == {"OUTPUT0": array.tobytes(), "OUTPUT1": strings}


def test_a_client_may_wait_to_be_asked_for_the_body(server: RunningServer) -> None:
    array, strings = pattern(200_000), b"\3\0\0\0abc"
    body, headers = request_of(array, strings)
    headers |= {"Expect": "100-continue", "Content-Length": str(len(body))}
    with closing(connect(server)) as connection:
        connection.sendall(encode_request("POST", "/v2/models/two/infer", b"", headers))
        assert connection.recv(65536) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        outputs = binary_outputs(read_answer(connection))
    assert outputs["OUTPUT0"] == array.tobytes()


def request_of(array: Array, strings: bytes) -> tuple[bytes, dict[str, str | None]]:
    """The body and headers of a request to the model 'two' with one string."""
    document = {
        "inputs": [
            {
                "name": "INPUT0",
                "datatype": "UINT8",
                "shape": [len(array)],
                "parameters": {"binary_data_size": len(array)},
            },
            {
                "name": "INPUT1",
                "datatype": "BYTES",
                "shape": [1],
                "parameters": {"binary_data_size": len(strings)},
            },
        ],
        "parameters": {"binary_data_output": True},
    }
    return with_binary(document, array.tobytes(), strings)


def test_requests_that_run_at_the_same_time_keep_their_own_data(server: RunningServer) -> None:
    sizes = [INLINE_LIMIT_BYTES, INLINE_LIMIT_BYTES + 1, 100_000, MIB, 3 * MIB]

    def client(number: int) -> None:
        library: Any = httpclient if number % 2 else grpcclient
        address = server.http if number % 2 else server.grpc
        with library.InferenceServerClient(address) as connection:
            for repetition in range(6):
                seed = number * 100 + repetition
                sent = pattern(sizes[seed % len(sizes)] + number, seed)
                array, strings = ask_two(library, connection, sent, texts(seed))
                same(array, sent)
                same(strings, texts(seed))

    with ThreadPoolExecutor(12) as pool:
        for future in [pool.submit(client, number) for number in range(12)]:
            future.result(timeout=60)


def test_a_slow_reader_gets_its_own_data_while_others_come_and_go(server: RunningServer) -> None:
    size = 8 * MIB

    def hurry(seed: int) -> None:
        with grpcclient.InferenceServerClient(server.grpc) as client:
            for _repetition in range(6):
                array, _ = ask_two(grpcclient, client, pattern(size, seed), texts(seed))
                same(array, pattern(size, seed))

    with ExitStack() as stack:
        readers = [stack.enter_context(closing(connect(server))) for _ in range(3)]
        for seed, reader in enumerate(readers):
            body, headers = request_of(pattern(size, seed), b"\1\0\0\0%d" % seed)
            # Its answer fills the sockets' buffers; the rest waits where the model has put it.
            reader.sendall(encode_request("POST", "/v2/models/two/infer", body, headers))

        with ThreadPoolExecutor(2) as pool:
            for future in [pool.submit(hurry, seed) for seed in (100, 101)]:
                future.result(timeout=60)

        for seed, reader in enumerate(readers):
            outputs = binary_outputs(read_answer(reader))
            assert outputs["OUTPUT0"] == pattern(size, seed).tobytes()
            assert outputs["OUTPUT1"] == b"\1\0\0\0%d" % seed


def test_requests_on_one_connection_are_answered_in_order(server: RunningServer) -> None:
    bodies = [request_of(pattern(size, size), b"\1\0\0\0a") for size in (10, 300_000, 1, 50_000)]
    requests = b"".join(
        encode_request("POST", "/v2/models/two/infer", body, headers) for body, headers in bodies
    )
    with closing(connect(server)) as connection:
        sender = threading.Thread(target=connection.sendall, args=(requests,))
        sender.start()
        for size in (10, 300_000, 1, 50_000):
            answer = read_answer(connection)
            length = int(answer.headers["inference-header-content-length"])
            assert json.loads(answer.body[:length])["outputs"][0]["shape"] == [size]
            assert binary_outputs(answer)["OUTPUT0"] == pattern(size, size).tobytes()
        sender.join()


def test_no_request_has_failed(server: RunningServer) -> None:
    for model in ("two", "in_place"):
        (found,) = get(server, f"/v2/models/{model}/stats").json["model_stats"]
        assert found["inference_stats"]["fail"]["count"] == 0
