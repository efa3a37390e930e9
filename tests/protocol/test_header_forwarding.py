"""Headers and metadata that become parameters of inference requests, as models see them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as httpclient
from support import models
from support.clients import (
    TIMEOUT,
    ask,
    grpc_error,
    grpc_stub,
    infer_request,
    input_tensor,
)
from support.servers import RunningServer, serving

PARAMETERS = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [
                pb_utils.InferenceResponse(
                    [pb_utils.Tensor("OUT", np.array([request.parameters()], np.object_))]
                )
                for request in requests
            ]
"""

INFER = "/v2/models/seen/infer"
DOCUMENT = {"inputs": [{"name": "IN", "datatype": "BYTES", "shape": [1], "data": ["x"]}]}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    models.python_model(folder, "seen", PARAMETERS, models.identity_config("TYPE_STRING", dims=[1]))
    return folder


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[RunningServer]:
    arguments = [
        "--http-header-forward-pattern=^(my-|priority|triton_)",
        "--grpc-header-forward-pattern=(?-i)^(my-|priority|triton_)",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running


def over_http(server: RunningServer, headers: dict[str, str | None], **given: Any) -> Any:
    answer = ask(server, "POST", INFER, json.dumps({**DOCUMENT, "parameters": given}), headers)
    assert answer.status == 200, answer.body
    return json.loads(answer.json["outputs"][0]["data"][0])


def request(**changes: Any) -> Any:
    tensor = input_tensor("IN", "BYTES", [1])
    return infer_request("seen", [tensor], [b"\1\0\0\0x"], **changes)


def seen(response: Any) -> Any:
    (raw,) = response.raw_output_contents
    return json.loads(raw[4:])


def test_http_headers_become_parameters(server: RunningServer) -> None:
    headers: dict[str, str | None] = {
        "My-User": "somebody",
        "X-My-User": "nobody",
        "MY-ROLE": "admin",
    }
    assert over_http(server, headers) == {"My-User": "somebody", "MY-ROLE": "admin"}


def test_a_header_counts_more_than_a_parameter_of_the_body(server: RunningServer) -> None:
    assert over_http(server, {"my-user": "real"}, **{"my-user": "forged", "more": 1}) == {
        "my-user": "real",
        "more": 1,
    }


def test_tritons_http_client_forwards(server: RunningServer) -> None:
    tensor = httpclient.InferInput("IN", [1], "BYTES")
    tensor.set_data_from_numpy(np.array([b"x"], np.object_))
    with httpclient.InferenceServerClient(server.http) as client:
        result = client.infer("seen", [tensor], headers={"my-id": "7"}).as_numpy("OUT")
    assert result is not None
    assert json.loads(result[0]) == {"my-id": "7"}


def test_a_raw_binary_request_brings_headers_too(server: RunningServer) -> None:
    headers = {"my-id": "7", "Inference-Header-Content-Length": "0"}
    answer = ask(server, "POST", INFER, b"x", headers)
    assert answer.status == 200
    assert b'{"my-id": "7"}' in answer.body


def test_generate_forwards_no_headers(server: RunningServer) -> None:
    headers = {"my-user": "somebody", "triton_x": "1"}
    with closing(HTTPConnection(server.http, timeout=TIMEOUT)) as connection:
        connection.request("POST", "/v2/models/seen/generate", '{"IN": "x"}', headers)
        answer = connection.getresponse()
        assert (answer.status, json.loads(answer.read())["OUT"]) == (200, "{}")


def test_reserved_headers_are_refused_over_http(server: RunningServer) -> None:
    for name in ("priority", "triton_x"):
        answer = ask(server, "POST", INFER, json.dumps(DOCUMENT), {name: "1"})
        assert answer.status == 400
        assert answer.error == (
            f"Header '{name}' is reserved for Triton usage and cannot be forwarded."
        )


def test_grpc_metadata_become_parameters(server: RunningServer) -> None:
    metadata = [("my-user", "somebody"), ("x-my-user", "nobody"), ("my-id-bin", "ä".encode())]
    with grpc_stub(server) as stub:
        response = stub.ModelInfer(request(), metadata=metadata, timeout=TIMEOUT)
        assert seen(response) == {"my-user": "somebody", "my-id-bin": "ä"}


def test_grpc_metadata_belong_to_every_request_of_a_stream(server: RunningServer) -> None:
    with grpc_stub(server) as stub:
        requests = iter([request(id="a"), request(id="b")])
        metadata = [("my-user", "somebody")]
        answers = list(stub.ModelStreamInfer(requests, metadata=metadata, timeout=TIMEOUT))
    assert [seen(one.infer_response) for one in answers] == [{"my-user": "somebody"}] * 2


def test_reserved_metadata_are_refused(server: RunningServer) -> None:
    sentence = "Header 'triton_x' is reserved for Triton usage and cannot be forwarded."
    metadata = [("triton_x", "1")]
    with grpc_stub(server) as stub:
        call = partial(stub.ModelInfer, request(), metadata=metadata, timeout=TIMEOUT)
        assert grpc_error(call) == ("INVALID_ARGUMENT", sentence)
        requests = iter([request(id="a")])
        (answer,) = stub.ModelStreamInfer(requests, metadata=metadata, timeout=TIMEOUT)
        assert (answer.error_message, answer.infer_response.id) == (sentence, "a")


def test_nothing_is_forwarded_unasked(repository: Path) -> None:
    with serving(repository) as plain, grpc_stub(plain) as stub:
        assert over_http(plain, {"my-user": "x", "triton_x": "1"}) == {}
        response = stub.ModelInfer(request(), metadata=[("my-user", "x")], timeout=TIMEOUT)
        assert seen(response) == {}
