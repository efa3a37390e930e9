"""One connection, whose requests are answered on the lean path or by aiohttp in turns."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from tritonpy.ipc.tensor import INLINE_LIMIT_BYTES
from tritonpy.supervisor.http.infer import InferEndpoint
from tritonpy.supervisor.http.lean import MOST_BODY_BYTES
from tritonpy.supervisor.http.reply import Reply
from tritonpy.supervisor.models.residents import Use

if TYPE_CHECKING:
    from unit.supervisor.http.conftest import Served

pytestmark = pytest.mark.parametrize("served", ["lean"], indirect=True)

TIMEOUT_SECS = 20


class Connection:
    """A client that reads one answer after the other."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._file = connected.makefile("rb")

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def answer(self) -> tuple[int, bytes]:
        """The next answer's status and body."""
        status = int(self._file.readline().split()[1])
        length = 0
        while (line := self._file.readline()) not in (b"\r\n", b""):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return status, self._file.read(length)

    def values(self) -> list[float]:
        """The values of the one output of the next answer."""
        status, body = self.answer()
        assert status == 200
        found: list[float] = json.loads(body)["outputs"][0]["data"]
        return found

    def at_end(self) -> bool:
        """Whether the server has closed the connection, and nothing more has come."""
        return self._file.read(1) == b""

    def close(self) -> None:
        """Go away; the socket is open as long as the file is."""
        self._file.close()
        self._socket.close()


@contextmanager
def connected(served: Served) -> Iterator[Connection]:
    connection = Connection(socket.create_connection(("127.0.0.1", served.port), TIMEOUT_SECS))
    try:
        yield connection
    finally:
        connection.close()


def infer(values: list[float], model: str = "echo", *fields: str) -> bytes:
    document = json.dumps(
        {"inputs": [{"name": "IN", "datatype": "FP32", "shape": [len(values)], "data": values}]}
    )
    lines = (f"POST /v2/models/{model}/infer HTTP/1.1", "Host: x", *fields)
    return "\r\n".join((*lines, f"Content-Length: {len(document)}", "", document)).encode()


def get(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


LENT = "Content-Encoding: identity"


def test_lean_and_other_requests_alternate_on_one_connection(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    lent: list[str] = []
    answer = InferEndpoint.__call__

    async def noted(self: InferEndpoint, http: Any, model: str, version: int | None) -> Reply:
        lent.append(model)
        return await answer(self, http, model, version)

    monkeypatch.setattr(InferEndpoint, "__call__", noted)
    with connected(served) as client:
        for turn in range(3):
            client.send(infer([turn]))
            assert client.values() == [turn]
            client.send(get("/v2/health/live"))
            assert client.answer()[0] == 200
            client.send(infer([turn + 0.5], "echo", LENT))
            assert client.values() == [turn + 0.5]
    assert len(served.data.requests) == 6
    assert len(lent) == 3


class OnDemand:
    """Models on demand; remembers who uses which."""

    def __init__(self, *models: str) -> None:
        self.models = models
        self.uses: list[str] = []

    def concerns(self, model: str) -> bool:
        return model in self.models

    async def use(self, model: str) -> Use:
        self.uses.append(model)
        return Use(lambda: self.uses.append(f"{model} released"))


def test_a_model_on_demand_is_held_as_long_as_a_request_uses_it(served: Served) -> None:
    on_demand = served.data.on_demand = OnDemand("echo")
    with connected(served) as client:
        client.send(infer([1]))
        assert client.values() == [1]
    assert on_demand.uses == ["echo", "echo released"]
    on_demand = served.data.on_demand = OnDemand("other")
    with connected(served) as client:
        client.send(infer([2]))
        assert client.values() == [2]
    assert on_demand.uses == []


def test_requests_that_come_at_once_are_answered_in_order(served: Served) -> None:
    with connected(served) as client:
        client.send(
            infer([1])
            + infer([2], "echo", LENT)
            + infer([3])
            + get("/v2/models/echo")
            + infer([4])
            + b"POST /v2/models/missing/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"
            + infer([5])
        )
        assert client.values() == [1]
        assert client.values() == [2]
        assert client.values() == [3]
        assert client.answer()[0] == 200
        assert client.values() == [4]
        assert client.answer()[0] == 404
        assert client.values() == [5]


def test_a_request_that_comes_byte_by_byte_is_one_request(served: Served) -> None:
    with connected(served) as client:
        for fields in ((), (LENT,)):
            for byte in infer([7], "echo", *fields):
                client.send(bytes([byte]))
            assert client.values() == [7]


def test_wrong_requests_leave_the_connection_usable(served: Served) -> None:
    with connected(served) as client:
        wrong = b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n[1,2"
        client.send(wrong + infer([1]))
        assert client.answer()[0] == 500
        assert client.values() == [1]
        client.send(infer([1], "crash") + infer([2]))
        assert client.answer()[0] == 500
        assert client.values() == [2]


def test_chunks_and_what_follows_them_are_answered(served: Served) -> None:
    body = infer([3]).partition(b"\r\n\r\n")[2]
    chunked = (
        b"POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    )
    with connected(served) as client:
        client.send(infer([1]) + chunked + infer([2]) + chunked)
        assert [client.values()[0] for _ in range(4)] == [1, 3, 2, 3]


def test_a_client_that_wants_the_end_gets_it(served: Served) -> None:
    with connected(served) as client:
        client.send(infer([1], "echo", "Connection: close") + infer([2]))
        assert client.values() == [1]
        assert client.at_end()


def test_an_answer_before_the_body_is_here_ends_with_the_body(served: Served) -> None:
    body = b"x" * (2 * MOST_BODY_BYTES)
    with connected(served) as client:
        head = "POST /v2/models/missing/infer HTTP/1.1\r\nHost: x\r\nContent-Length: "
        client.send(f"{head}{len(body)}\r\n\r\n".encode() + body[:10])
        assert client.answer()[0] == 404
        client.send(body[10:] + infer([1]))
        assert client.values() == [1]


def test_who_sends_on_while_a_request_runs_has_to_wait(served: Served, loop: Any) -> None:
    many = 400
    values = [float(number) for number in range(200)]
    with connected(served) as client:
        client.send(infer([0], "never"))
        assert served.data.started.wait(TIMEOUT_SECS)
        client.send(infer(values) * many)
        assert len(served.data.requests) == 1
        loop.call(served.data.finish.set)
        assert client.values() == [0]
        for _ in range(many):
            assert client.values() == values


@pytest.mark.parametrize("count", [INLINE_LIMIT_BYTES // 4 + 1, MOST_BODY_BYTES])
def test_large_tensors_lie_in_shared_memory_on_either_path(served: Served, count: int) -> None:
    document = json.dumps(
        {
            "inputs": [
                {
                    "name": "IN",
                    "datatype": "FP32",
                    "shape": [count],
                    "parameters": {"binary_data_size": 4 * count},
                }
            ],
            "parameters": {"binary_data_output": True},
        }
    ).encode()
    data = bytes(range(256)) * (count // 64) + bytes(4 * count % 256)
    head = (
        "POST /v2/models/echo/infer HTTP/1.1\r\nHost: x\r\n"
        f"Inference-Header-Content-Length: {len(document)}\r\n"
        f"Content-Length: {len(document) + len(data)}\r\n\r\n"
    )
    with connected(served) as client:
        client.send(head.encode() + document + data)
        status, body = client.answer()
    assert status == 200
    assert body.endswith(data)
    assert len(served.data.leases) == 1


def test_a_draining_server_closes_each_connection_with_its_answer(
    served: Served, loop: Any
) -> None:
    with connected(served) as client:
        client.send(infer([1], "never"))
        assert served.data.started.wait(TIMEOUT_SECS)
        stopping = loop.start(served.server.stop(TIMEOUT_SECS))
        loop.call(served.data.finish.set)
        assert client.values() == [1]
        assert client.at_end()
        stopping.result(TIMEOUT_SECS)
