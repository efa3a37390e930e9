"""HTTP/2 by hand: a client of the `h2` library, and one end of our connection without a socket."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import h2.config
import h2.connection
import h2.events

from tritonpy.supervisor.http2 import fields
from tritonpy.supervisor.http2.connection import Connection
from tritonpy.supervisor.http2.limits import Limits
from tritonpy.supervisor.http2.pings import PingRules
from tritonpy.supervisor.http2.streams import Stream

REQUEST = [(":method", "POST"), (":scheme", "http"), (":path", "/echo"), (":authority", "here")]

#: The block that answers begin with, `:status: 200`, and one that they end with, `done: 1`.
BEGINNING = b"\x88"
ENDING = b"\x00\x04done\x011"


def h2_client(**options: Any) -> h2.connection.H2Connection:
    """A client that has said hello, and may say what is wrong."""
    config = h2.config.H2Configuration(
        client_side=True,
        header_encoding="utf-8",
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
        **options,
    )
    client = h2.connection.H2Connection(config)
    client.initiate_connection()
    return client


class Received:
    """One request as its receiver saw it."""

    def __init__(self, stream: Stream, head: fields.RequestFields) -> None:
        self.stream = stream
        self.head = head
        self.content = b""
        self.is_whole = False
        self.is_withdrawn = False
        self.drained_times = 0

    def received(self, data: bytes, start: int, stop: int, ended: bool) -> None:
        """Gather the content."""
        assert not self.is_withdrawn
        assert not self.is_whole
        self.content += data[start:stop]
        self.is_whole = ended

    def withdrawn(self) -> None:
        """Note it."""
        assert not self.is_withdrawn
        self.is_withdrawn = True

    def drained(self) -> None:
        """Count it."""
        self.drained_times += 1


class End:
    """The server's end of a connection: every request is noted, and answered by the test."""

    def __init__(self, limits: Limits | None = None, pings: PingRules | None = None) -> None:
        self.requests: list[Received] = []
        self.answers_at_once = False
        self.now = 1000.0
        self.connection = Connection(
            self,
            fields.request,
            lambda head: head.length,
            limits or Limits(),
            pings or PingRules(),
            self.now,
        )
        self.connection.start()

    def opened(self, stream: Stream, head: fields.RequestFields) -> Received:
        """A request has come."""
        self.requests.append(Received(stream, head))
        if self.answers_at_once:
            self.answer(self.requests[-1])
        return self.requests[-1]

    def receive(self, data: bytes) -> None:
        """Hand bytes over."""
        self.connection.receive(data, self.now)

    def output(self) -> bytes:
        """Everything that may be sent now."""
        sent: list[bytes] = []
        while self.connection.has_output:
            sent += map(bytes, self.connection.take_output(1 << 20))
        return b"".join(sent)

    def answer(self, request: Received, content: bytes = b"") -> None:
        """Answer a request."""
        self.connection.answer(request.stream, BEGINNING, content, ENDING)


class Wire:
    """Both ends, and what either says to the other."""

    def __init__(self, limits: Limits | None = None, pings: PingRules | None = None) -> None:
        self.server = End(limits, pings)
        self.client = h2_client()
        self.events: list[Any] = []
        self.exchange()

    @property
    def requests(self) -> list[Received]:
        """The requests that the server has seen."""
        return self.server.requests

    def exchange(self) -> list[Any]:
        """Pass everything on until nobody has more to say; returns the client's new events."""
        new: list[Any] = []
        while True:
            up, down = self.client.data_to_send(), self.server.output()
            if not (up or down):
                break
            self.server.receive(up)
            new += self.client.receive_data(down)
        self.events += new
        return new

    def ask(self, content: bytes = b"", extra: Sequence[tuple[str, str]] = ()) -> Received:
        """Send a whole request; returns what the server has of it."""
        number = self.client.get_next_available_stream_id()
        self.client.send_headers(number, [*REQUEST, *extra], end_stream=not content)
        if content:
            self.client.send_data(number, content, end_stream=True)
        self.exchange()
        return self.requests[-1]


def resets(events: Sequence[Any]) -> dict[int, int]:
    """The codes of the streams that the server has reset."""
    return {
        event.stream_id: int(event.error_code)
        for event in events
        if isinstance(event, h2.events.StreamReset)
    }


def goodbye(data: bytes) -> tuple[int, bytes] | None:
    """Code and text of the GOAWAY among the frames of a server, None if there is none."""
    for kind, _, _, payload in frames_of(data):
        if kind == 7:
            return int.from_bytes(payload[4:8], "big"), payload[8:]
    return None


def frames_of(data: bytes) -> list[tuple[int, int, int, bytes]]:
    """Kind, flags, stream and payload of frames."""
    found: list[tuple[int, int, int, bytes]] = []
    while data:
        size = 9 + int.from_bytes(data[:3], "big")
        assert len(data) >= size, "half a frame"
        number = int.from_bytes(data[5:9], "big")
        found.append((data[3], data[4], number, data[9:size]))
        data = data[size:]
    return found


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """Any frame."""
    head = len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big")
    return head + payload
