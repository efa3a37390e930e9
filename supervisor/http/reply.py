"""Answers as they go onto the wire: Triton's few headers, written in as few sends as possible."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar
from http import HTTPStatus
from typing import TYPE_CHECKING

import orjson
from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from ...ipc.errors import (
    InternalError,
    InvalidArgumentError,
    NotFoundError,
    StatusError,
    UnavailableError,
    UnsupportedError,
)
from ..memory.copies import COPIES

if TYPE_CHECKING:
    from ..request import RequestTrace

JSON = b"Content-Type: application/json\r\n"
TEXT = b"Content-Type: text/plain\r\n"

#: What says that the connection ends with this answer.
CLOSE = b"Connection: close\r\n"

#: Header lines that the answer to the current request carries besides its own.
EXTRA_LINES: ContextVar[bytes] = ContextVar("extra_lines", default=b"")

#: Up to this size the parts of an answer are joined: one copy costs less than a second buffer.
_JOIN_LIMIT_BYTES = 64 * 1024

#: By status, with the end of the line.
STATUS_LINE = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode()
    for status in HTTPStatus
    if status >= 200
}
STATUS_LINE[405] = b"HTTP/1.1 405 Not Allowed\r\n"  # Triton's phrase

#: The HTTP status of an error; all other codes are 400.
_STATUS = {
    InternalError.code: 500,
    NotFoundError.code: 404,
    UnavailableError.code: 503,
    UnsupportedError.code: 501,
}


class ClosingError(InvalidArgumentError):
    """Raised when a request is so wrong that its connection is closed after the answer."""


class Reply(web.StreamResponse):
    """A whole answer of known length.

    Takes the place of aiohttp's response, which adds `Server` and `Date` headers that Triton does
    not send and costs several times as much. `headers` are ready-made lines; `views` follow the
    body without being joined to it when they are large, and are kept until they are sent.
    """

    def __init__(
        self,
        status: int = 200,
        body: bytes = b"",
        headers: bytes = TEXT,
        views: Sequence[memoryview] = (),
        *,
        closing: bool = False,
    ) -> None:
        # aiohttp's own constructor is left out: nothing that it sets is used.
        self._code = status
        self._lines = headers
        self._content = body
        self._views = views
        self._size = len(body)
        for view in views:
            self._size += len(view)
        self._closing = closing
        #: Where the sending is noted, which also ends the trace.
        self.trace: RequestTrace | None = None
        self._writer: AbstractStreamWriter | None = None

    def __repr__(self) -> str:
        return f"<Reply {self._code}, {len(self._content)} bytes and {len(self._views)} views>"

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self._code

    @property
    def keep_alive(self) -> bool:
        """Whether the connection goes on; known once the reply is prepared."""
        return not self._closing

    def close_connection(self) -> None:
        """Have this be the last answer on its connection."""
        self._closing = True

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter:
        """Write the whole answer; aiohttp calls it once."""
        transport = request.transport
        if transport is None or transport.is_closing():
            if self.trace is not None:
                self.trace.end()
            raise ConnectionResetError("the client is gone")
        self._writer = request.writer
        if self.trace is not None:
            self.trace.stamp("HTTP_SEND_START")
        if not request.keep_alive:
            self._closing = True
        lines = self._connection(request)
        if request.method == "HEAD":
            transport.write(self._head(lines))
        else:
            self.write_to(transport, lines)
        return self._writer

    def write_to(self, transport: asyncio.WriteTransport, lines: bytes = b"") -> None:
        """Write the whole answer, with these header lines besides its own."""
        head = self._head(lines)
        if self._size <= _JOIN_LIMIT_BYTES:
            COPIES.outward += self._size - len(self._content)
            transport.write(b"".join((head, self._content, *self._views)))
        else:
            transport.writelines((head, self._content, *self._views))

    async def write_eof(self, data: bytes = b"") -> None:
        """Wait until the client has taken enough of it that memory does not fill up."""
        assert self._writer is not None
        try:
            await self._writer.drain()
        finally:
            if self.trace is not None:
                self.trace.stamp("HTTP_SEND_END")
                self.trace.end()

    def _head(self, lines: bytes) -> bytes:
        return b"%b%bContent-Length: %d\r\n%b\r\n" % (
            STATUS_LINE[self._code],
            self._lines,
            self._size,
            lines,
        )

    def _connection(self, request: web.BaseRequest) -> bytes:
        extra = EXTRA_LINES.get()
        if self._closing:
            return extra + CLOSE
        if request.version.minor == 0:
            return extra + b"Connection: keep-alive\r\n"
        return extra


def error_body(message: str) -> bytes:
    """The one form that errors have."""
    try:
        return orjson.dumps({"error": message})
    except TypeError:  # surrogates: the message quotes bytes that are no text
        return orjson.dumps({"error": message.encode(errors="replace").decode()})


def error_reply(error: StatusError, headers: bytes = JSON) -> Reply:
    """Answer with an error of the server's own kind."""
    closing = isinstance(error, ClosingError)
    status = _STATUS.get(error.code, 400)
    return Reply(status, error_body(error.message), headers, closing=closing)
