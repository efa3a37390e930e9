"""The keep-alive options of the gRPC port, as a client below gRPC sees them: frames of HTTP/2."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from support import models
from support.servers import serving
from support.transports import each_transport_for_all, option

pytestmark = each_transport_for_all

#: Long enough for a loaded machine: only a server that does nothing is slower.
PATIENCE = 20.0

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS, PING, GOAWAY = 4, 6, 7
ACKNOWLEDGED = 1
NO_ERROR, ENHANCE_YOUR_CALM = 0, 11


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    models.identity(folder, "plain")
    return folder


class Connection:
    """An idle connection of a client that speaks just enough of HTTP/2."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._stream = connected.makefile("rb")
        connected.sendall(PREFACE)
        self.send(SETTINGS)

    def send(self, kind: int, payload: bytes = b"") -> None:
        """Send a frame of the connection itself."""
        self._socket.sendall(struct.pack(">I", len(payload))[1:] + bytes((kind, 0, 0, 0, 0, 0)))
        self._socket.sendall(payload)

    def frames(self) -> Iterator[tuple[int, int, bytes]]:
        """Kind, flags and payload of what the server sends, until it closes the connection."""
        while len(head := self._stream.read(9)) == 9:
            size = int.from_bytes(head[:3], "big")
            yield head[3], head[4], self._stream.read(size)

    def close(self) -> None:
        """Go away."""
        self._stream.close()
        self._socket.close()


@contextmanager
def connected(repository: Path, transport: str, *arguments: str) -> Iterator[Connection]:
    """A connection to a server that was started with these options."""
    with serving(repository, arguments=[option(transport), *arguments]) as server:
        address = ("127.0.0.1", server.ports["grpc"])
        connection = Connection(socket.create_connection(address, PATIENCE))
        with closing(connection):
            yield connection


def reasons(connection: Connection) -> list[tuple[int, bytes]]:
    """The codes and texts of all GOAWAYs until the server closes the connection."""
    return [
        (int.from_bytes(payload[4:8], "big"), payload[8:])
        for kind, _, payload in connection.frames()
        if kind == GOAWAY
    ]


def test_an_old_connection_is_asked_to_close_and_closed_after_its_grace(
    repository: Path, transport: str
) -> None:
    options = ("--grpc-max-connection-age=100", "--grpc-max-connection-age-grace=100")
    with connected(repository, transport, *options) as connection:
        assert reasons(connection)[0] == (NO_ERROR, b"max_age")


def test_the_server_pings_and_gives_up_those_who_do_not_answer(
    repository: Path, transport: str
) -> None:
    options = (
        "--grpc-keepalive-time=1000",
        "--grpc-keepalive-timeout=100",
        "--grpc-keepalive-permit-without-calls=true",
        "--grpc-http2-max-pings-without-data=0",
    )
    with connected(repository, transport, *options) as connection:
        kinds = [kind for kind, flags, _ in connection.frames() if not flags & ACKNOWLEDGED]
    assert PING in kinds


def test_a_client_that_pings_too_often_is_turned_away(repository: Path, transport: str) -> None:
    options = (
        "--grpc-http2-min-recv-ping-interval-without-data=600000",
        "--grpc-http2-max-ping-strikes=1",
    )
    with connected(repository, transport, *options) as connection:
        for _ in range(8):
            connection.send(PING, bytes(8))
        assert reasons(connection)[-1] == (ENHANCE_YOUR_CALM, b"too_many_pings")


@pytest.mark.parametrize(
    "options",
    [
        ["--grpc-http2-max-ping-strikes=0"],
        [
            "--grpc-http2-min-recv-ping-interval-without-data=0",
            "--grpc-keepalive-permit-without-calls=true",
        ],
    ],
    ids=["no strikes", "no interval"],
)
def test_pings_are_welcome_where_that_is_said(
    repository: Path, options: list[str], transport: str
) -> None:
    with connected(repository, transport, *options) as connection:
        for number in range(50):
            connection.send(PING, struct.pack(">Q", number))
        answers: list[int] = []
        for kind, flags, payload in connection.frames():
            assert kind != GOAWAY, payload
            if kind == PING and flags & ACKNOWLEDGED:
                answers.append(int.from_bytes(payload, "big"))
                if len(answers) == 50:
                    break
    assert answers == list(range(50))
