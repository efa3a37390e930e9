"""Reads the rest of a request's body from the socket into the memory where its tensors are to be.

While it does, it is its transport's protocol in place of the connection. The kernel writes straight
into what `get_buffer` gives it, which ends where a tensor ends: nothing is copied a second time,
and nothing of the next request is read.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from ...ipc.errors import UnavailableError
from .filling import Filling

#: After so many bytes, which take about a millisecond, it is others' turn.
_BURST_BYTES = 4 * 1024 * 1024


class Connection(Protocol):
    """The connection that has lent its transport."""

    def body_read(self) -> None:
        """The body is here, and the transport is to be taken back."""
        ...

    def body_refused(self, error: UnavailableError) -> None:
        """There is no memory for the rest of it, and the transport is to be taken back."""
        ...

    def connection_lost(self, exc: BaseException | None) -> None:
        """As in asyncio, like the others."""
        ...

    def eof_received(self) -> bool | None:
        """The client will send no more."""
        ...

    def pause_writing(self) -> None:
        """The client is slow in taking what was written."""
        ...

    def resume_writing(self) -> None:
        """It has taken that."""
        ...


class BodyReader(asyncio.BufferedProtocol):
    """Fills a body that has at least one byte left to come.

    Making one raises UnavailableError when no memory is left for it.
    """

    def __init__(
        self, connection: Connection, transport: asyncio.Transport, filling: Filling
    ) -> None:
        self._connection = connection
        self._transport = transport
        self._filling = filling
        self._room = filling.room()
        self._burst = 0

    def __repr__(self) -> str:
        return f"<BodyReader {self._filling!r}>"

    def get_buffer(self, sizehint: int) -> memoryview:
        """Where the next bytes go."""
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        """So many bytes have come."""
        filling = self._filling
        filling.filled(nbytes)
        if not filling.left:
            self._room = memoryview(b"")  # that memory may be others' soon
            self._connection.body_read()
            return
        try:
            self._room = filling.room()
        except UnavailableError as error:
            self._room = memoryview(b"")
            self._connection.body_refused(error)
            return
        self._burst += nbytes
        if self._burst >= _BURST_BYTES:
            self._burst = 0
            self._transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._transport.resume_reading)

    def eof_received(self) -> bool | None:
        """The client will send no more."""
        return self._connection.eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone."""
        self._room = memoryview(b"")
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        """The client is slow in taking an answer that came before."""
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        """It has taken that."""
        self._connection.resume_writing()
