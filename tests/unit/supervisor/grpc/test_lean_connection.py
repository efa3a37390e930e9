"""A connection of the lean transport on a stand-in for a socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest
from support.http2 import REQUEST, frame, frames_of, goodbye, h2_client
from unit.supervisor.grpc.planes import FakeControlPlane, FakeDataPlane

from tritonpy.supervisor.access import Access, Policy
from tritonpy.supervisor.grpc.in_flight import InFlight, State
from tritonpy.supervisor.grpc.lean_call import WINDOW_BYTES, CallContext
from tritonpy.supervisor.grpc.lean_connection import ConnectionRules, LeanConnection
from tritonpy.supervisor.grpc.methods import methods
from tritonpy.supervisor.grpc.service import INFER_PATH, STREAM_PATH, InferenceService
from tritonpy.supervisor.http2.limits import Limits
from tritonpy.supervisor.http2.pings import PingRules

pytestmark = pytest.mark.anyio

CALL = [*REQUEST[:2], (":authority", "here"), ("content-type", "application/grpc")]


class Transport:
    """What a connection writes, and what it asks of its socket."""

    def __init__(self, alpn: str | None = None) -> None:
        self.alpn = alpn
        self.written: list[bytes] = []
        self.reads = True
        self.asked: list[str] = []

    def get_extra_info(self, name: str) -> Any:
        if name == "peername":
            return ("::1", 5000, 0, 0)
        return None if self.alpn is None else self

    def selected_alpn_protocol(self) -> str | None:
        return self.alpn

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def writelines(self, parts: list[bytes]) -> None:
        self.written.append(b"".join(parts))

    def is_reading(self) -> bool:
        return self.reads

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def can_write_eof(self) -> bool:
        return self.alpn is None

    def write_eof(self) -> None:
        self.asked.append("eof")

    def close(self) -> None:
        self.asked.append("close")

    def abort(self) -> None:
        self.asked.append("abort")

    def taken(self) -> bytes:
        """What was written since the last time."""
        data, self.written = b"".join(self.written), []
        return data


@pytest.fixture
def in_flight() -> InFlight:
    found = InFlight()
    found.state = State.SERVING
    return found


def connection_of(
    dataplane: FakeDataPlane, in_flight: InFlight, age: float | None = None
) -> LeanConnection:
    data, control = cast("Any", dataplane), cast("Any", FakeControlPlane())
    access = Access(Policy(), {}, "protocol")
    service = InferenceService(data, control)
    context = CallContext(service, data, access, in_flight, "none", None)
    rules = ConnectionRules(Limits(), PingRules(), age, None)
    offered = methods(service.unary_calls(), reflection=False, guards_everything=False)
    return LeanConnection(context, offered, rules, lambda _: None)


@pytest.fixture
async def connection(
    dataplane: FakeDataPlane, in_flight: InFlight
) -> AsyncIterator[LeanConnection]:
    found = connection_of(dataplane, in_flight)
    yield found
    found.connection_lost(None)


def begin(connection: LeanConnection) -> tuple[Any, Transport]:
    """Connect a client."""
    client, transport = h2_client(), Transport()
    connection.connection_made(cast("Any", transport))
    connection.data_received(client.data_to_send())
    client.receive_data(transport.taken())
    connection.data_received(client.data_to_send())
    return client, transport


def test_tls_without_http2_is_closed(connection: LeanConnection) -> None:
    transport = Transport(alpn="http/1.1")
    connection.connection_made(cast("Any", transport))
    assert (transport.asked, transport.written) == (["close"], [])


def test_a_connection_that_fails_is_read_to_its_end(connection: LeanConnection) -> None:
    _, transport = begin(connection)
    connection.data_received(frame(6, b"short"))
    assert goodbye(transport.taken()) == (6, b"PING of a wrong length")
    assert transport.asked == ["eof"]
    connection.data_received(b"whatever")
    assert transport.taken() == b""


def test_answers_of_one_turn_are_written_together(
    connection: LeanConnection, in_flight: InFlight
) -> None:
    client, transport = begin(connection)
    for number in (1, 3, 5):
        client.send_headers(number, [*CALL, (":path", "x")][::-1], end_stream=True)
    connection.data_received(client.data_to_send())
    assert len(transport.written) == 1
    assert repr(in_flight) == "SERVING in_flight=0 streams=0"


async def test_what_a_client_does_not_read_is_not_made_and_nothing_is_read_from_it(
    connection: LeanConnection,
) -> None:
    _, transport = begin(connection)
    connection.pause_writing()
    # Pings would be too many; calls that do not exist are answered at once.
    call = b"\x83\x86\x41\x01x\x04\x02/x"
    for number in range(3, 2100, 2):
        connection.data_received(frame(1, call, 5, number))
    assert transport.taken() == b""
    assert not transport.is_reading()
    connection.resume_writing()
    assert transport.is_reading()
    assert len(frames_of(transport.taken())) == 1049


async def test_a_stream_that_is_not_read_is_allowed_no_more(connection: LeanConnection) -> None:
    client, transport = begin(connection)
    fields = [*CALL[:2], (":path", STREAM_PATH), *CALL[2:]]
    client.send_headers(1, fields)
    connection.data_received(client.data_to_send())
    # The task that reads has not run yet.
    for content in (b"\0\0\xa0\0\0", *([bytes(16_384)] * 40)):
        client.send_data(1, content)
        connection.data_received(client.data_to_send())
    client.receive_data(transport.taken())
    assert client.local_flow_control_window(1) == WINDOW_BYTES - 40 * 16_384 - 5
    for _ in range(5):
        await asyncio.sleep(0)
    client.receive_data(transport.taken())
    # All that is missing of the message, of which the client has sent 40 frames.
    assert client.local_flow_control_window(1) == 10 * WINDOW_BYTES - 40 * 16_384


async def test_a_request_that_is_reset_is_cancelled_and_its_answer_dropped(
    connection: LeanConnection, dataplane: FakeDataPlane, in_flight: InFlight
) -> None:
    client, transport = begin(connection)
    client.send_headers(1, [*CALL[:2], (":path", INFER_PATH), *CALL[2:]])
    client.send_data(1, b"\0\0\0\0\x0a\x0a\x08identity", end_stream=True)
    connection.data_received(client.data_to_send())
    assert repr(in_flight) == "SERVING in_flight=1 streams=0"
    client.reset_stream(1)
    connection.data_received(client.data_to_send())
    assert repr(in_flight) == "SERVING in_flight=0 streams=0"
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert transport.taken() == b""
    assert not dataplane.requests
