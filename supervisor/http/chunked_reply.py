"""An answer whose length is not known when it begins: written piece by piece, each a chunk."""

from __future__ import annotations

import asyncio

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from .reply import STATUS_LINE, Reply


class ChunkedReply(Reply):
    """An answer that the endpoint itself begins and writes; aiohttp only ends it.

    A client of HTTP/1.0, which knows no chunks, gets the pieces as they are and then the end of
    the connection.
    """

    def __init__(self, status: int, headers: bytes) -> None:
        super().__init__(status, b"", headers)
        self._transport: asyncio.Transport | None = None
        self._chunked = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write the head, once. Raises ConnectionResetError when the client is gone."""
        if self._writer is not None:
            return self._writer
        transport = request.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client is gone")
        self._transport = transport
        self._writer = request.writer
        self._chunked = request.version.minor > 0
        if not request.keep_alive or not self._chunked:
            self._closing = True
        framing = b"Transfer-Encoding: chunked\r\n" if self._chunked else b""
        transport.write(
            b"%b%b%b%b\r\n"
            % (STATUS_LINE[self._code], self._lines, framing, self._connection(request))
        )
        return self._writer

    async def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write a piece that is not empty, and wait while the client has too many left to read.

        Raises ConnectionResetError when the client is gone.
        """
        transport, writer = self._transport, self._writer
        assert transport is not None
        assert writer is not None
        if self._chunked:
            transport.write(b"".join((b"%x\r\n" % len(data), data, b"\r\n")))
        else:
            transport.write(data)
        await writer.drain()

    async def write_eof(self, data: bytes = b"") -> None:
        """End the answer; aiohttp calls it once."""
        assert self._transport is not None
        if self._chunked:
            self._transport.write(b"0\r\n\r\n")
        await super().write_eof()

    def abort(self) -> None:
        """Close the connection of an answer that cannot be finished, so that its client knows."""
        if self._transport is not None:
            self._transport.close()
