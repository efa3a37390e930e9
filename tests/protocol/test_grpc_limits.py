"""Clients that ask too much of the lean transport, or read too little: others never notice."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpc
import h2.events
import psutil
import pytest
from support import models
from support.clients import TIMEOUT, connect, grpc_stub, infer_request, input_tensor
from support.http2 import frame, frames_of, goodbye, h2_client
from support.servers import RunningServer, serving
from tritonclient.grpc import service_pb2

_PATH = "/inference.GRPCInferenceService/"

_MIB = 1024 * 1024

#: The fields of a call of ModelStreamInfer, as literals.
_BLOCK = b"\x83\x86\x41\x01x\x04\x30" + f"{_PATH}ModelStreamInfer".encode()
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain", "TYPE_UINT8")
    with serving(repository, arguments=["--grpc-transport=lean"]) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture
def stub(server: RunningServer) -> Iterator[Any]:
    with grpc_stub(server) as found:
        yield found


def identity(data: bytes) -> Any:
    return infer_request("plain", [input_tensor("INPUT0", "UINT8", [len(data)])], [data])


def call(name: str) -> list[tuple[str, str]]:
    """The fields of a call."""
    fields = [(":method", "POST"), (":scheme", "http"), (":path", f"{_PATH}{name}")]
    return [*fields, (":authority", "x"), ("content-type", "application/grpc")]


def pattern(size: int, seed: int) -> bytes:
    """Bytes that are nowhere the same for long."""
    return hashlib.shake_128(b"%d" % seed).digest(size)


def resident(server: RunningServer) -> int:
    return int(psutil.Process(server.process.pid).memory_info().rss)


def read_to_the_end(connection: socket.socket) -> bytes:
    found = b""
    try:
        while data := connection.recv(65536):
            found += data
    except ConnectionResetError:
        pass
    return found


@pytest.mark.parametrize(
    "nuisance",
    [
        b"".join(
            frame(1, _BLOCK, 4, number) + frame(3, bytes(4), 0, number)
            for number in range(1, 10_000, 2)
        ),
        frame(4) * 5000,
        frame(1, _BLOCK, 4, 1) + frame(0, b"", 0, 1) * 5000,
        frame(1, _BLOCK, 0, 1) + frame(9, b"", 0, 1) * 5000,
        frame(2, bytes(5), 0, 1) * 5000,
        frame(6, bytes(8)) * 5000,
    ],
    ids=["rapid reset", "settings", "empty content", "continuations", "priorities", "pings"],
)
def test_a_flood_ends_its_connection_alone(
    server: RunningServer, stub: Any, nuisance: bytes
) -> None:
    assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=TIMEOUT).live
    with closing(connect(server, "grpc")) as connection:
        try:
            connection.sendall(_HELLO + nuisance)
        except ConnectionError:
            pass
        found = goodbye(read_to_the_end(connection))
    assert found is not None
    assert found[0] == 11  # ENHANCE_YOUR_CALM
    assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=TIMEOUT).live


def send_until_held_back(connection: socket.socket, message: bytes, most: int) -> int:
    """Send a message again and again, as an own call, until the server reads no more; returns how
    many bytes that were.
    """
    connection.settimeout(3)
    sent, number = 0, 1
    while sent < most:
        calls = (n.to_bytes(4, "big") for n in range(number, number + 2000, 2))
        try:
            connection.sendall(b"".join(message[:5] + call + message[9:] for call in calls))
        except TimeoutError:
            break
        sent, number = sent + 1000 * len(message), number + 2000
    return sent


@pytest.mark.slow
def test_a_client_that_never_reads_is_not_read_either(server: RunningServer, stub: Any) -> None:
    unknown = frame(1, _BLOCK.replace(b"Stream", b"Xtream"), 5, 1)
    before = resident(server)
    with closing(connect(server, "grpc")) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(_HELLO)
        assert send_until_held_back(connection, unknown, 512 * _MIB) < 256 * _MIB
        assert resident(server) - before < 64 * _MIB
        assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=TIMEOUT).live


def test_answers_that_nobody_reads_stay_what_they_are(server: RunningServer, stub: Any) -> None:
    """A slow reader's answer lies where the model wrote it; others' answers must not go there."""
    data = pattern(4 * _MIB, 1)
    request = identity(data).SerializeToString()
    client = h2_client()
    client.send_headers(1, call("ModelInfer"))
    body = memoryview(b"\0" + len(request).to_bytes(4, "big") + request)
    content = b""
    with closing(connect(server, "grpc")) as connection:
        is_answered = False
        while not is_answered:
            while body and (room := min(client.local_flow_control_window(1), 16_384)) > 0:
                client.send_data(1, bytes(body[:room]), end_stream=len(body) <= room)
                body = body[room:]
            connection.sendall(client.data_to_send())
            for event in client.receive_data(connection.recv(65536)):
                if isinstance(event, h2.events.DataReceived):
                    content += event.data
                    is_answered = len(content) == 65_535  # all that the windows allow
        for number in range(30):
            other = pattern(4 * _MIB, 100 + number)
            answer = stub.ModelInfer(identity(other), timeout=TIMEOUT)
            assert answer.raw_output_contents[0] == other
        client.increment_flow_control_window(64 * _MIB)
        client.increment_flow_control_window(64 * _MIB, 1)
        connection.sendall(client.data_to_send())
        has_ended = False
        while not has_ended:
            for event in client.receive_data(connection.recv(1 << 20)):
                if isinstance(event, h2.events.DataReceived):
                    content += event.data
                has_ended = has_ended or isinstance(event, h2.events.StreamEnded)
    found = service_pb2.ModelInferResponse.FromString(content[5:])
    assert found.raw_output_contents[0] == data


def stream_until_held_back(connection: socket.socket, message: bytes, most: int) -> int:
    """Send a message again and again on one stream, and read nothing of its answers, until the
    windows are used up; returns how many bytes that were.
    """
    client = h2_client()
    client.send_headers(1, call("ModelStreamInfer"))
    connection.settimeout(3)
    sent = 0
    while sent < most:
        left = memoryview(b"\0" + len(message).to_bytes(4, "big") + message)
        while left:
            room = min(client.local_flow_control_window(1), 16_384, len(left))
            if room:
                client.send_data(1, bytes(left[:room]))
                left = left[room:]
            connection.sendall(client.data_to_send())
            if not room:
                try:
                    client.receive_data(connection.recv(65536))
                except TimeoutError:
                    return sent
        sent += len(message)
    return sent


@pytest.mark.slow
def test_a_stream_that_is_not_read_takes_no_more_memory(server: RunningServer, stub: Any) -> None:
    before = resident(server)
    message = identity(bytes(100_000)).SerializeToString()
    with closing(connect(server, "grpc")) as connection:
        assert stream_until_held_back(connection, message, 1024 * _MIB) < 512 * _MIB
        assert resident(server) - before < 256 * _MIB
        assert stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=TIMEOUT).live


@pytest.mark.slow
def test_messages_of_a_hundred_mebibytes_pass_both_ways(stub: Any) -> None:
    data = pattern(100 * _MIB, 3)
    answer = stub.ModelInfer(identity(data), timeout=TIMEOUT)
    assert answer.raw_output_contents[0] == data
    (streamed,) = stub.ModelStreamInfer(iter([identity(data)]), timeout=TIMEOUT)
    assert streamed.infer_response.raw_output_contents[0] == data


def test_no_more_metadata_than_allowed(stub: Any) -> None:
    live = service_pb2.ServerLiveRequest()
    assert stub.ServerLive(live, timeout=TIMEOUT, metadata=[("a", "x" * 8000)]).live
    with pytest.raises(grpc.RpcError) as caught:
        stub.ServerLive(live, timeout=TIMEOUT, metadata=[(f"a{n}", "x" * 6000) for n in range(3)])
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.ServerLive(live, timeout=TIMEOUT).live


def test_the_limits_are_told(server: RunningServer) -> None:
    with closing(connect(server, "grpc")) as connection:
        connection.sendall(_HELLO)
        head = connection.recv(9, socket.MSG_WAITALL)
        said = frames_of(
            head + connection.recv(int.from_bytes(head[:3], "big"), socket.MSG_WAITALL)
        )
    payload = said[0][3]
    told = {
        int.from_bytes(payload[at : at + 2], "big"): int.from_bytes(payload[at + 2 : at + 6], "big")
        for at in range(0, len(payload), 6)
    }
    assert told == {3: 10_000, 4: _MIB, 5: _MIB, 6: 16 * 1024}
