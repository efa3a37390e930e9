"""Large inferences of the lean path: their tensors are read into the memory that they stay in."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import trustme
from unit.supervisor.http.conftest import (
    LOOPS,
    MAX_INPUT_SIZE,
    FakeControlPlane,
    FakeDataPlane,
    Served,
    http_server,
    serve,
)
from unit.supervisor.http.test_lean import TIMEOUT_SECS, Connection, connected, get, infer

from tritonpy.supervisor.http import documents, json_codec
from tritonpy.supervisor.http.infer import InferEndpoint
from tritonpy.supervisor.http.lean import MOST_BODY_BYTES, LeanConnection
from tritonpy.supervisor.memory.copies import COPIES

pytestmark = pytest.mark.parametrize("loop", list(LOOPS), indirect=True)

COUNT = 3 * MOST_BODY_BYTES // 4
DATA = bytes(range(251)) * (4 * COUNT // 251) + bytes(4 * COUNT % 251)


@pytest.fixture
def served(loop: Any) -> Iterator[Served]:
    yield from serve(loop)


@pytest.fixture(autouse=True)
def lent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The models that aiohttp was asked for."""
    names: list[str] = []
    answer = InferEndpoint.__call__

    async def noted(self: InferEndpoint, http: Any, model: str, version: int | None) -> Any:
        names.append(model)
        return await answer(self, http, model, version)

    monkeypatch.setattr(InferEndpoint, "__call__", noted)
    return names


def tensor(name: str, count: int, **more: object) -> dict[str, object]:
    parameters = {} if "data" in more else {"parameters": {"binary_data_size": 4 * count}}
    return {"name": name, "datatype": "FP32", "shape": [count], **parameters, **more}


def head_of(
    inputs: list[dict[str, object]], behind: int, model: str = "echo", *lines: str
) -> bytes:
    """A request up to the bytes behind its document."""
    document = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}})
    first = (f"POST /v2/models/{model}/infer HTTP/1.1", "Host: x", *lines)
    length = f"Content-Length: {len(document) + behind}"
    cut = f"Inference-Header-Content-Length: {len(document)}"
    return "\r\n".join((*first, length, cut, "", document)).encode()


def head(model: str = "echo", *lines: str) -> bytes:
    return head_of([tensor("IN", COUNT)], len(DATA), model, *lines)


def outputs(client: Connection) -> bytes:
    """The next answer, which ends with its binary outputs."""
    status, body = client.answer()
    assert status == 200, body
    return body


def test_the_bytes_of_a_large_tensor_are_not_copied(served: Served, lent: list[str]) -> None:
    before = COPIES.inward
    with connected(served) as client:
        client.send(head())
        assert served.data.leased.wait(TIMEOUT_SECS)
        client.send(DATA)
        assert outputs(client).endswith(DATA)
    assert COPIES.inward == before
    assert [lease.copied for lease in served.data.leases] == [0]
    assert lent == []


@pytest.mark.parametrize("piece", [997, 70_001, 10_000_000])
def test_a_body_may_come_in_any_pieces(served: Served, lent: list[str], piece: int) -> None:
    request = head() + DATA
    with connected(served) as client:
        for at in range(0, len(request), piece):
            client.send(request[at : at + piece])
        assert outputs(client).endswith(DATA)
        client.send(infer([1]))
        assert client.values() == [1]
    assert lent == []


def test_what_comes_behind_a_large_body_is_the_next_request(
    served: Served, lent: list[str]
) -> None:
    with connected(served) as client:
        client.send(
            head() + DATA + infer([1]) + get("/v2/health/live") + head() + DATA + infer([2])
        )
        assert outputs(client).endswith(DATA)
        assert client.values() == [1]
        assert client.answer()[0] == 200
        assert outputs(client).endswith(DATA)
        assert client.values() == [2]
    assert lent == []


def test_large_small_and_written_out_tensors_go_together(served: Served) -> None:
    values = [0.5] * 5000
    inputs = [
        tensor("IN0", 3),
        tensor("IN1", COUNT),
        tensor("IN2", 5000, data=values),
        tensor("IN3", 2),
        tensor("IN4", 0),
    ]
    small, last = b"abcdefghijkl", b"mnopqrst"
    with connected(served) as client:
        client.send(head_of(inputs, len(DATA) + 20) + small + DATA + last)
        body = outputs(client)
    written = b"\0\0\0\x3f" * 5000
    assert body.endswith(small + DATA + written + last)


def test_a_body_of_nothing_but_a_tensor_is_read_in_place(served: Served, lent: list[str]) -> None:
    start = (
        "POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 0\r\n"
        f"Content-Length: {len(DATA)}\r\n\r\n"
    )
    with connected(served) as client:
        client.send(start.encode())
        assert served.data.leased.wait(TIMEOUT_SECS)
        client.send(DATA)
        assert outputs(client).endswith(DATA)
    assert [lease.copied for lease in served.data.leases] == [0]
    assert lent == []


def test_a_string_of_nothing_but_its_bytes_gets_its_length(served: Served) -> None:
    text = b"x" * len(DATA)
    start = (
        "POST /v2/models/text/infer HTTP/1.1\r\nHost: x\r\nInference-Header-Content-Length: 0\r\n"
        f"Content-Length: {len(text)}\r\n\r\n"
    )
    with connected(served) as client:
        client.send(start.encode() + text)
        assert outputs(client).endswith(len(text).to_bytes(4, "little") + text)


@pytest.mark.parametrize("size", [3, len(DATA) // 4], ids=["small", "large"])
def test_a_client_that_waits_to_be_asked_is_asked(
    served: Served, lent: list[str], size: int
) -> None:
    start = head_of([tensor("IN", size)], 4 * size, "echo", "Expect: 100-continue")
    first, _, document = start.partition(b"\r\n\r\n")
    with connected(served) as client:
        client.send(first + b"\r\n\r\n")
        assert client.answer() == (100, b"")
        client.send(document + DATA[: 4 * size])
        assert outputs(client).endswith(DATA[: 4 * size])
        client.send(start + DATA[: 4 * size] if size == 3 else infer([1]))
        assert client.answer()[0] == 200
    assert lent == []


def test_a_client_that_vanishes_leaves_nothing_behind(served: Served, loop: Any) -> None:
    with connected(served) as client:
        client.send(head())
        assert served.data.leased.wait(TIMEOUT_SECS)
        client.send(DATA[: len(DATA) // 2])
    (lease,) = served.data.leases
    assert lease.released.wait(TIMEOUT_SECS)
    assert not served.data.requests
    # A request that were still counted as running would keep the server.
    loop.start(served.server.stop(10 * TIMEOUT_SECS)).result(TIMEOUT_SECS)


def test_a_full_arena_is_told_before_the_body_comes(served: Served) -> None:
    served.data.arena_full = True
    with connected(served) as client:
        client.send(head())
        status, body = client.answer()
        assert status == 503
        assert json.loads(body) == {"error": "no shared memory is left for a request to 'echo'"}
        served.data.arena_full = False
        client.send(DATA + head() + DATA)
        assert outputs(client).endswith(DATA)


@pytest.mark.parametrize("together", [0, 100_003, 10_000_000], ids=["later", "some", "at once"])
def test_memory_that_ends_midway_is_told_once(served: Served, together: int) -> None:
    served.data.available = 200_000
    with connected(served) as client:
        client.send(head() + DATA[:together])
        assert served.data.leased.wait(TIMEOUT_SECS)
        client.send(DATA[together:] + infer([3]))
        status, body = client.answer()
        assert status == 503
        assert json.loads(body) == {"error": "the machine has no memory left"}
        assert client.values() == [3]
    (lease,) = served.data.leases
    assert lease.released.is_set()
    assert [request.inputs[0].shape for request in served.data.requests] == [(1,)]


@pytest.mark.parametrize(
    ("inputs", "status", "error"),
    [
        (b"{", 500, "failed to parse the request JSON buffer"),
        ([tensor("IN", COUNT - 1)], 400, "unexpected additional input data for model 'echo'"),
        ([tensor("IN", COUNT + 1)], 400, "expecting 4 additional bytes for model 'echo'"),
    ],
)
def test_a_wrong_document_is_answered_before_the_body_comes(
    served: Served, inputs: Any, status: int, error: str
) -> None:
    if isinstance(inputs, bytes):
        start = head_of([], len(DATA)).partition(b"\r\n\r\n")[0]
        start += b"\r\n\r\n" + b"{" * int(start.rpartition(b": ")[2])
    else:
        start = head_of(inputs, len(DATA))
    with connected(served) as client:
        client.send(start)
        found, body = client.answer()
        assert found == status
        assert error in json.loads(body)["error"]
        client.send(DATA + infer([1]))
        assert client.values() == [1]
    assert all(lease.released.is_set() for lease in served.data.leases)


def test_a_model_that_is_unknown_or_a_document_that_is_too_large_is_aiohttps(
    served: Served, lent: list[str]
) -> None:
    with connected(served) as client:
        client.send(head("missing") + DATA)
        assert client.answer()[0] == 404
        size = MAX_INPUT_SIZE + 1
        client.send(
            b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
            b"Inference-Header-Content-Length: 0\r\nContent-Length: %d\r\n\r\n" % size + bytes(size)
        )
        status, body = client.answer()
        assert status == 400
        assert b"Raw input has a byte_size" in body
        client.send(infer([1]))
        assert client.values() == [1]
    assert lent == ["missing", "echo"]


def test_a_refusal_of_a_draining_server_reaches_its_client(served: Served, loop: Any) -> None:
    served.data.arena_full = True
    with connected(served) as client, connected(served) as other:
        other.send(infer([1], "never"))
        assert served.data.started.wait(TIMEOUT_SECS)
        stopping = loop.start(served.server.stop(TIMEOUT_SECS))
        loop.run(asyncio.sleep(0))  # comes after the stop has begun
        client.send(head())
        assert client.answer()[0] == 503
        client.send(DATA)
        assert client.at_end()
        loop.call(served.data.finish.set)
        assert other.values() == [1]
        stopping.result(TIMEOUT_SECS)


def test_a_large_request_runs_when_it_is_whole_and_ends_with_its_client(served: Served) -> None:
    with connected(served) as client:
        client.send(head("never") + DATA)
        assert served.data.started.wait(TIMEOUT_SECS)
    assert served.data.cancelled.wait(TIMEOUT_SECS)


def test_what_is_encrypted_goes_the_same_way(loop: Any) -> None:
    authority = trustme.CA()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(tls)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    data = FakeDataPlane()
    server = http_server(data, FakeControlPlane(), tls)
    port = loop.run(server.start())
    try:
        raw = socket.create_connection(("127.0.0.1", port), TIMEOUT_SECS)
        client = Connection(trusting.wrap_socket(raw, server_hostname="localhost"))
        for turn in (1, 2):
            client.send(head() + DATA + infer([turn]))
            assert outputs(client).endswith(DATA)
            assert client.values() == [turn]
        assert all(lease.copied == 0 for lease in data.leases)
        data.available = 200_000
        client.send(head() + DATA + infer([3]))
        assert client.answer()[0] == 503
        assert client.values() == [3]
        client.close()
    finally:
        loop.run(server.stop(1))


# --- documents without binary data ----------------------------------------------------------------

VALUES = [index / 8 for index in range(100_000)]


def test_a_large_document_is_answered_without_aiohttp(served: Served, lent: list[str]) -> None:
    with connected(served) as client:
        client.send(infer(VALUES) + infer([1]) + infer(VALUES[::-1]))
        assert client.values() == VALUES
        assert client.values() == [1]
        assert client.values() == VALUES[::-1]
    assert lent == []
    assert [len(lease.spans) for lease in served.data.leases] == [1, 1]


def test_a_large_document_with_a_mistake_leaves_the_connection_usable(served: Served) -> None:
    wrong = infer(VALUES)
    with connected(served) as client:
        client.send(wrong[:-1] + b"]" + infer([1]) + infer(VALUES, "crash") + infer([2]))
        status, body = client.answer()
        assert status == 500
        assert b"Missing a comma or '}' after an object member." in body
        assert client.values() == [1]
        assert client.answer()[0] == 500
        assert client.values() == [2]


def test_a_large_document_for_a_full_arena_is_answered(served: Served) -> None:
    served.data.arena_full = True
    with connected(served) as client:
        client.send(infer(VALUES) + infer([1]))
        assert client.answer()[0] == 503
        assert client.values() == [1]


def test_the_client_of_a_large_document_may_vanish_at_any_time(served: Served, loop: Any) -> None:
    request = infer(VALUES, "never")
    for sent in (len(request) // 2, len(request)):
        with connected(served) as client:
            client.send(request[:sent])
    assert served.data.cancelled.wait(TIMEOUT_SECS) or not served.data.requests
    loop.start(served.server.stop(10 * TIMEOUT_SECS)).result(TIMEOUT_SECS)


def test_a_client_that_goes_while_its_document_is_read_is_not_served(
    served: Served, loop: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads, gone = threading.Event(), threading.Event()
    decode = json_codec.decode_request

    def held(*arguments: Any) -> Any:
        reads.set()
        assert gone.wait(TIMEOUT_SECS)
        return decode(*arguments)

    monkeypatch.setattr(documents, "decode_request", held)
    lost = LeanConnection.connection_lost

    def noted(self: LeanConnection, exc: BaseException | None) -> None:
        lost(self, exc)
        gone.set()

    monkeypatch.setattr(LeanConnection, "connection_lost", noted)
    with connected(served) as client:
        client.send(infer(VALUES))
        assert reads.wait(TIMEOUT_SECS)
    loop.start(served.server.stop(10 * TIMEOUT_SECS)).result(TIMEOUT_SECS)
    assert not served.data.requests
