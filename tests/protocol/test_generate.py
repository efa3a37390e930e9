"""The generate extension on a running server: its events, and clients that do not wait for them."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

import pytest
from support import models
from support.clients import ask, connect, encode_request, post_json
from support.servers import RunningServer, serving

#: Answers twice, the second time when the request is cancelled or its gate is open.
GATED = """
    import os
    import time

    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                for number in range(2):
                    tensor = pb_utils.Tensor("OUT", np.array([number], np.float32))
                    sender.send(pb_utils.InferenceResponse([tensor]))
                    while not os.path.exists({gate!r}) and not request.is_cancelled():
                        time.sleep(0.005)
                if request.is_cancelled():
                    print("cancelled", request.request_id(), flush=True)
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

#: Answers with a megabyte again and again, until the request is cancelled.
GUSHING = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            for request in requests:
                sender = request.get_response_sender()
                while not request.is_cancelled():
                    tensor = pb_utils.Tensor("OUT", np.full(1 << 18, 0.5, np.float32))
                    sender.send(pb_utils.InferenceResponse([tensor]))
                print("dammed", request.request_id(), flush=True)
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

_DECOUPLED = "model_transaction_policy { decoupled: true }"


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gate") / "open"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, gate: Path) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    decoupled = models.identity_config(more=_DECOUPLED)
    models.python_model(repository, "gated", GATED.format(gate=str(gate)), decoupled)
    models.python_model(repository, "gushing", GUSHING, decoupled)
    models.identity(repository, "plain")
    models.square(repository, "square")
    with serving(repository) as running:
        yield running
        gate.touch()
        assert "Traceback" not in running.log


def begin(server: RunningServer, model: str, document: object, how: str = "generate_stream") -> Any:
    """Send a request; the caller reads the answer from the connection."""
    connection = connect(server)
    body = json.dumps(document).encode()
    connection.sendall(encode_request("POST", f"/v2/models/{model}/{how}", body))
    return connection


def answered(connection: socket.socket) -> HTTPResponse:
    response = HTTPResponse(connection, method="POST")
    response.begin()
    return response


def events(body: bytes) -> list[Any]:
    *parts, rest = body.split(b"\n\n")
    assert rest == b""
    assert all(part.startswith(b"data: ") for part in parts)
    return [json.loads(part[len(b"data: ") :]) for part in parts]


def test_every_response_is_an_event_in_order(server: RunningServer) -> None:
    with closing(begin(server, "square", {"IN": 300, "id": "a"})) as connection:
        found = events(answered(connection).read())
    same = {"OUT": 300, "id": "a", "model_name": "square", "model_version": "1"}
    assert found == [same] * 300


def test_the_connection_goes_on_after_a_stream(server: RunningServer) -> None:
    with closing(begin(server, "square", {"IN": 2})) as connection:
        assert len(events(answered(connection).read())) == 2
        connection.sendall(encode_request("GET", "/v2/health/live"))
        assert answered(connection).status == 200


def test_an_event_does_not_wait_for_the_next(server: RunningServer) -> None:
    with closing(begin(server, "gated", {"IN": 1})) as connection:
        response = answered(connection)
        assert json.loads(response.readline().removeprefix(b"data: "))["OUT"] == 0


def test_a_client_that_goes_away_cancels_its_request(server: RunningServer) -> None:
    with closing(begin(server, "gated", {"IN": 1, "id": "gone"})) as connection:
        assert answered(connection).readline()
    server.wait_for_line("cancelled gone")


def test_a_request_for_one_response_is_answered_at_the_second(server: RunningServer) -> None:
    with closing(begin(server, "gushing", {"IN": 1}, "generate")) as connection:
        error = json.loads(answered(connection).read())["error"]
    assert error.startswith("generate expects model to produce exactly 1 response")


def test_a_client_that_does_not_read_is_told_so_and_its_request_ends(
    server: RunningServer,
) -> None:
    with closing(begin(server, "gushing", {"IN": 1, "id": "unread"})) as connection:
        server.wait_for_line("dammed unread")
        *first, last = events(answered(connection).read())
    assert all("OUT" in event for event in first)
    assert last["error"].startswith("the request is cancelled: its client reads slower")


def test_large_tensors_go_both_ways(server: RunningServer) -> None:
    values = [float(number) for number in range(200_000)]
    connection = begin(server, "plain/versions/1", {"INPUT0": values}, "generate")
    with closing(connection):
        assert json.loads(answered(connection).read())["OUTPUT0"] == values


def test_an_older_client_gets_pieces_without_chunks(server: RunningServer) -> None:
    with closing(connect(server)) as connection:
        request = encode_request("POST", "/v2/models/square/generate_stream", b'{"IN":2}')
        connection.sendall(request.replace(b"HTTP/1.1", b"HTTP/1.0"))
        with connection.makefile("rb") as stream:
            head, _, body = stream.read().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert len(events(body)) == 2


def test_sequence_members_reach_the_request(server: RunningServer) -> None:
    answer = post_json(server, "/v2/models/plain/generate", {"INPUT0": 1, "sequence_start": "yes"})
    assert answer.status == 500
    assert answer.error.startswith("Unable to parse 'sequence_start'")


def test_compressed_requests_are_refused(server: RunningServer) -> None:
    answer = ask(server, "POST", "/v2/models/plain/generate", b"x", {"Content-Encoding": "gzip"})
    assert (answer.status, answer.error) == (
        400,
        "Unsupported content-encoding, only 'identity' is supported.",
    )
