"""A thousand connections with a hundred calls each, all open at once, on the lean transport."""

from __future__ import annotations

import asyncio
import resource
from pathlib import Path

import pytest
from support import models
from support.clients import infer_request, input_tensor
from support.http2 import frame, frames_of
from support.servers import serving

pytestmark = [pytest.mark.slow, pytest.mark.anyio, pytest.mark.timeout(600)]

_CONNECTIONS = 1000
_STREAMS = 100

_HEADERS, _END_STREAM, _END_HEADERS = 1, 1, 4
_BLOCK = b"\x83\x86\x41\x01x\x04\x2a/inference.GRPCInferenceService/ModelInfer"
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4)
_NUMBERS = range(1, 2 * _STREAMS, 2)


def request(number: int) -> bytes:
    """A message whose answer is told apart from all others."""
    data = b"%08d" % number
    message = infer_request("plain", [input_tensor("INPUT0", "UINT8", [8])], [data])
    encoded: bytes = message.SerializeToString()
    return b"\0" + len(encoded).to_bytes(4, "big") + encoded


def last_of(frames: list[tuple[int, int, int, bytes]]) -> list[int]:
    """The streams that have ended well."""
    return [
        number
        for kind, flags, number, payload in frames
        if kind == _HEADERS and flags & _END_STREAM and b"grpc-status\x010" in payload
    ]


class Client:
    """One connection, whose calls are begun first, and sent when all others have begun theirs."""

    def __init__(self, index: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._index = index
        self._reader = reader
        self._writer = writer

    async def begin(self) -> None:
        """Open all calls; the answer to a ping behind them shows that they are."""
        self._writer.write(_HELLO)
        self._writer.write(
            b"".join(frame(_HEADERS, _BLOCK, _END_HEADERS, number) for number in _NUMBERS)
        )
        self._writer.write(frame(6, b"all open"))
        await self._reader.readuntil(b"all open")

    async def finish(self) -> None:
        first = self._index * _STREAMS
        self._writer.write(
            b"".join(
                frame(0, request(first + place), _END_STREAM, number)
                for place, number in enumerate(_NUMBERS)
            )
        )
        received, ended = b"", 0
        while ended < _STREAMS:
            data = await self._reader.read(65536)
            assert data, "the connection was closed"
            received += data
            ended += data.count(b"grpc-status\x010")
        frames = frames_of(received)
        assert sorted(last_of(frames)) == list(_NUMBERS)
        for kind, _, number, payload in frames:
            if kind == 0:
                assert payload.endswith(b"%08d" % (first + number // 2))
        self._writer.close()
        await self._writer.wait_closed()


async def test_all_of_them_are_answered(tmp_path: Path) -> None:
    models.identity(tmp_path, "plain", "TYPE_UINT8")
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = min(_CONNECTIONS, limit - 200)
    with serving(tmp_path, arguments=["--grpc-transport=lean"]) as server:
        clients = [
            Client(index, *await asyncio.open_connection("127.0.0.1", server.ports["grpc"]))
            for index in range(count)
        ]
        await asyncio.gather(*(client.begin() for client in clients))
        await asyncio.gather(*(client.finish() for client in clients))
        assert "Traceback" not in server.log
