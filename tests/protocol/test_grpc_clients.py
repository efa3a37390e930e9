"""Clients of other makes than gRPC's core, on the lean transport: grpclib, and h2 by hand."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import grpclib
import h2.errors
import h2.events
import pytest
from grpclib.client import Channel
from grpclib.const import Cardinality
from support import models
from support.clients import TIMEOUT, connect, infer_request, input_tensor
from support.http2 import h2_client
from support.servers import RunningServer, serving
from tritonclient.grpc import service_pb2

pytestmark = pytest.mark.anyio

_SERVICE = "/inference.GRPCInferenceService/"

#: A prime number, so that nothing is aligned to anything.
_SIZE = 5_000_011


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain", "TYPE_UINT8")
    with serving(repository, arguments=["--grpc-transport=lean"]) as running:
        yield running
        assert "Traceback" not in running.log


def identity(data: bytes, model: str = "plain") -> Any:
    return infer_request(model, [input_tensor("INPUT0", "UINT8", [len(data)])], [data], id="7")


def channel(server: RunningServer) -> Channel:
    host, port = server.grpc.split(":")
    return Channel(host, int(port))


async def infer(connection: Channel, request: Any, **more: Any) -> Any:
    call = connection.request(
        f"{_SERVICE}ModelInfer",
        Cardinality.UNARY_UNARY,
        service_pb2.ModelInferRequest,
        service_pb2.ModelInferResponse,
        **more,
    )
    async with call as stream:
        await stream.send_message(request, end=True)
        answer = await stream.recv_message()
        await stream.recv_trailing_metadata()
        return answer


@pytest.mark.parametrize("size", [0, 1, 1000, 70_000, _SIZE])
async def test_grpclib_gets_back_what_it_sends(server: RunningServer, size: int) -> None:
    data = (bytes(range(251)) * (size // 251 + 1))[:size]
    async with channel(server) as connection:
        for _ in range(3):
            answer = await infer(connection, identity(data), timeout=TIMEOUT)
            assert list(answer.raw_output_contents) == [data]


async def test_grpclib_has_many_calls_on_one_connection(server: RunningServer) -> None:
    async with channel(server) as connection:
        answers = await asyncio.gather(
            *(infer(connection, identity(b"%d" % number), timeout=TIMEOUT) for number in range(200))
        )
    assert [answer.raw_output_contents[0] for answer in answers] == [
        b"%d" % number for number in range(200)
    ]


async def test_grpclib_is_told_of_errors_and_of_its_deadline(server: RunningServer) -> None:
    async with channel(server) as connection:
        with pytest.raises(grpclib.GRPCError) as caught:
            await infer(connection, identity(b"x", "nöpe"), timeout=TIMEOUT)
        assert caught.value.status is grpclib.Status.NOT_FOUND
        assert caught.value.message == "Request for unknown model: 'nöpe' is not found"
        call = connection.request(
            f"{_SERVICE}ModelStreamInfer",
            Cardinality.STREAM_STREAM,
            service_pb2.ModelInferRequest,
            service_pb2.ModelStreamInferResponse,
            timeout=0.2,
        )

        async def wait() -> None:
            async with call as stream:
                await stream.send_request()
                await stream.recv_message()

        with pytest.raises((asyncio.TimeoutError, grpclib.GRPCError)):
            await wait()
        assert await infer(connection, identity(b"x"), timeout=TIMEOUT)


async def test_grpclib_streams_both_ways(server: RunningServer) -> None:
    async with channel(server) as connection:
        call = connection.request(
            f"{_SERVICE}ModelStreamInfer",
            Cardinality.STREAM_STREAM,
            service_pb2.ModelInferRequest,
            service_pb2.ModelStreamInferResponse,
            timeout=TIMEOUT,
        )
        async with call as stream:
            for size in (1, 70_000, _SIZE, 0):
                data = bytes(size)
                await stream.send_message(identity(data))
                answer = await stream.recv_message()
                assert answer is not None
                assert list(answer.infer_response.raw_output_contents) == [data]
            await stream.send_message(identity(b"", "nope"))
            await stream.end()
            answer = await stream.recv_message()
            assert answer is not None
            assert answer.error_message == "Request for unknown model: 'nope' is not found"
            assert await stream.recv_message() is None


class Client:
    """The h2 library on a socket, which tells everything that has come."""

    def __init__(self, connected: socket.socket) -> None:
        self.h2 = h2_client()
        self._socket = connected
        self.flush()

    def flush(self) -> None:
        self._socket.sendall(self.h2.data_to_send())

    def call(self, path: str, *more: tuple[str, str], type: str = "application/grpc") -> int:
        """Begin a call; returns its stream."""
        number = self.h2.get_next_available_stream_id()
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x")]
        self.h2.send_headers(number, [*fields, ("content-type", type), ("te", "trailers"), *more])
        return number

    def send(self, number: int, message: bytes, *, end: bool = True, lie: int = 0) -> None:
        """Send a message, whose length is told wrong by `lie`."""
        data = b"\0" + (len(message) + lie).to_bytes(4, "big") + message
        self.h2.send_data(number, data, end_stream=end)
        self.flush()

    def answer(self, number: int) -> tuple[dict[str, str], bytes]:
        """All fields, and the content, of an answer."""
        fields: dict[str, str] = {}
        content = b""
        while data := self._socket.recv(65536):
            for event in self.h2.receive_data(data):
                match event:
                    case h2.events.ResponseReceived() | h2.events.TrailersReceived():
                        fields |= {str(name): str(value) for name, value in event.headers}
                    case h2.events.DataReceived():
                        content += event.data
                        self.h2.acknowledge_received_data(len(event.data), event.stream_id)
                    case h2.events.StreamEnded() if event.stream_id == number:
                        self.flush()
                        return fields, content
                    case h2.events.StreamReset(error_code=h2.errors.ErrorCodes.NO_ERROR):
                        pass  # no more of the request is wanted
                    case h2.events.StreamReset() | h2.events.ConnectionTerminated():
                        raise AssertionError(event)
                    case _:
                        pass
            self.flush()
        raise AssertionError("the connection was closed")


@pytest.fixture
def by_hand(server: RunningServer) -> Iterator[Client]:
    with closing(connect(server, "grpc")) as connection:
        yield Client(connection)


def test_the_fields_of_an_answer(by_hand: Client) -> None:
    number = by_hand.call(f"{_SERVICE}ServerLive")
    by_hand.send(number, b"")
    assert by_hand.answer(number) == (
        {
            ":status": "200",
            "content-type": "application/grpc",
            "grpc-accept-encoding": "identity, deflate, gzip",
            "grpc-status": "0",
        },
        b"\0\0\0\0\2\x08\1",
    )


@pytest.mark.parametrize(
    ("path", "more", "status", "message"),
    [
        (f"{_SERVICE}Nothing", None, "12", None),
        ("nothing", None, "12", None),
        *(
            (f"{_SERVICE}{call}", (name, "x"), "13", f"Error parsing '{name}' metadata")
            for call in ("ServerLive", "ModelInfer", "ModelStreamInfer")
            for name in ("grpc-timeout", "grpc-encoding", "data-bin")
        ),
    ],
)
def test_calls_that_cannot_be(
    by_hand: Client, path: str, more: tuple[str, str] | None, status: str, message: str | None
) -> None:
    number = by_hand.call(path, *([more] if more else []))
    by_hand.send(number, b"")
    fields, content = by_hand.answer(number)
    assert (fields.get("grpc-status"), fields.get("grpc-message")) == (status, message)
    assert (fields[":status"], content) == ("200", b"")


def test_what_is_no_grpc_is_refused_as_http(by_hand: Client) -> None:
    number = by_hand.call(f"{_SERVICE}ServerLive", type="application/json")
    by_hand.send(number, b"")
    assert by_hand.answer(number) == ({":status": "415"}, b"")


@pytest.mark.parametrize(
    ("call", "lie", "message"),
    [
        ("ServerLive", 1, "the call ended without a whole message"),
        ("ModelStreamInfer", 1, "the stream ended within a message"),
    ],
)
def test_half_a_message_is_an_error(by_hand: Client, call: str, lie: int, message: str) -> None:
    number = by_hand.call(f"{_SERVICE}{call}")
    by_hand.send(number, b"", lie=lie)
    fields, _ = by_hand.answer(number)
    assert (fields["grpc-status"], fields["grpc-message"]) == ("13", message)


def test_a_message_that_is_too_large_is_refused_by_its_length(by_hand: Client) -> None:
    number = by_hand.call(f"{_SERVICE}ModelInfer")
    by_hand.send(number, b"x", end=True, lie=2**32 - 2)
    fields, _ = by_hand.answer(number)
    assert fields["grpc-status"] == "8"


def test_a_compressed_message_without_a_compression_is_an_error(by_hand: Client) -> None:
    for call in ("ServerLive", "ModelStreamInfer"):
        number = by_hand.call(f"{_SERVICE}{call}")
        by_hand.h2.send_data(number, b"\1\0\0\0\1x", end_stream=True)
        by_hand.flush()
        fields, _ = by_hand.answer(number)
        assert (fields["grpc-status"], fields["grpc-message"]) == (
            "13",
            "Compression bit set but no encoding configured",
        )


@pytest.mark.parametrize("call", ["ModelInfer", "ModelStreamInfer"])
def test_a_deadline_is_the_servers_as_well(by_hand: Client, call: str) -> None:
    number = by_hand.call(f"{_SERVICE}{call}", ("grpc-timeout", "100m"))
    by_hand.flush()
    fields, _ = by_hand.answer(number)
    assert (fields["grpc-status"], fields["grpc-message"]) == ("4", "Deadline Exceeded")


def test_the_first_of_several_messages_counts(by_hand: Client) -> None:
    number = by_hand.call(f"{_SERVICE}ServerLive")
    by_hand.send(number, b"", end=False)
    by_hand.send(number, b"\xff")
    assert by_hand.answer(number)[0]["grpc-status"] == "0"


def test_messages_in_frames_of_any_size(by_hand: Client) -> None:
    request = identity(bytes(range(200))).SerializeToString()
    data = b"\0" + len(request).to_bytes(4, "big") + request
    number = by_hand.call(f"{_SERVICE}ModelInfer")
    for index in range(0, len(data), 3):
        by_hand.h2.send_data(number, data[index : index + 3], pad_length=index % 7)
        by_hand.flush()
    by_hand.h2.end_stream(number)
    by_hand.flush()
    fields, content = by_hand.answer(number)
    answer = service_pb2.ModelInferResponse.FromString(content[5:])
    assert (fields["grpc-status"], answer.raw_output_contents[0]) == ("0", bytes(range(200)))
