"""Request bodies: read whole within a limit, or straight into memory that waits for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from aiohttp import StreamReader, web

from ...ipc.errors import InvalidArgumentError
from .reply import ClosingError

_MAX_CHUNKS = 65536
#: The most that is copied in one go, about a tenth of a millisecond.
_COPY_BYTES = 1024 * 1024
#: Asks for the body of a client that waits to be asked.
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


def invite(request: web.BaseRequest) -> None:
    """Ask for the body, if the client waits to be asked (`Expect: 100-continue`)."""
    expectation = request.headers.get("Expect")
    if expectation is not None and expectation.lower() == "100-continue":
        transport = request.transport
        if transport is not None:
            transport.write(CONTINUE)


async def read_all(request: web.BaseRequest, limit: int) -> bytes:
    """Read the whole body, as it came. Raises InvalidArgumentError above `limit` bytes."""
    content = request.content
    if content.is_eof():
        body = content.read_nowait()
        if len(body) > limit:
            raise too_large(limit)
        return body
    length = request.content_length
    if length is not None and length > limit:
        raise too_large(limit)
    invite(request)
    pieces: list[bytes] = []
    size = chunks = 0
    while True:
        piece, chunk_ended = await content.readchunk()
        if not piece and not chunk_ended:
            return b"".join(pieces)
        size += len(piece)
        chunks += chunk_ended
        if size > limit:
            raise too_large(limit)
        if chunks > _MAX_CHUNKS:
            raise ClosingError(
                f"Chunked request body exceeds maximum of {_MAX_CHUNKS} non-empty chunks. "
                "Send fewer or larger HTTP chunks."
            )
        pieces.append(piece)


class BodyStream:
    """Bytes that are read in the order in which they are needed, from memory or from the network.

    `begin` comes first, then what the client still sends.
    """

    def __init__(self, content: StreamReader | None, begin: bytes | memoryview = b"") -> None:
        self._content = content
        self._surplus = memoryview(begin)

    def prepend(self, data: bytes) -> None:
        """Have these bytes come before what is not read yet."""
        self._surplus = memoryview(data + self._surplus)

    async def read(self, size: int) -> bytes:
        """The next `size` bytes."""
        pieces: list[memoryview] = []
        await self.read_into(lambda _at, piece: pieces.append(piece), size)
        return b"".join(pieces)

    async def read_into(self, write: Callable[[int, memoryview], None], size: int) -> None:
        """Hand the next `size` bytes to `write` in pieces, each with its position."""
        at = 0
        while at < size:
            piece = self._surplus or await self._next()
            taken = min(len(piece), size - at, _COPY_BYTES)
            write(at, piece[:taken])
            self._surplus = piece[taken:]
            at += taken
            if taken == _COPY_BYTES:
                await asyncio.sleep(0)  # others' turn

    async def _next(self) -> memoryview:
        piece = b""
        if self._content is not None:
            piece, _ = await self._content.readchunk()
        if not piece:
            raise InvalidArgumentError("the request body ended before its Content-Length")
        return memoryview(piece)


def too_large(limit: int) -> InvalidArgumentError:
    """The error of a body that the server will not hold in its memory."""
    return InvalidArgumentError(
        f"the request body exceeds the maximum allowed input size of {limit} bytes. "
        "Use --http-max-input-size to increase the limit."
    )
