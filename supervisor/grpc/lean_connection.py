"""One connection of the lean transport: bytes from a socket to http2/, and what that sends back.

What one turn of the loop has to send is written together.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, cast

from ..http2.connection import Connection
from ..http2.errors import ErrorCode
from ..http2.limits import Limits
from ..http2.pings import PingRules
from ..http2.streams import Buffer, Receiver, Stream
from . import answers
from .call_head import read
from .lean_call import CallContext, Head
from .lean_stream import LeanStream
from .lean_unary import LeanUnary
from .methods import Kind, Method

#: So much is asked of the protocol at a time; more while the socket takes it.
_WRITTEN_BYTES: Final = 256 * 1024
#: Buffers up to so much are put together.
_JOINED_BYTES: Final = 64 * 1024
#: While so many frames wait for a client that does not read, nothing is read from it either.
_MOST_WAITING_FRAMES: Final = 1000
#: How long a client has to read why it is turned away (seconds).
_LINGER: Final = 1.0
#: gRPC varies the age of connections by so much, that not all of them end at once.
_JITTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class ConnectionRules:
    """What holds for every connection; ages are seconds, None for no limit."""

    limits: Limits
    pings: PingRules
    age: float | None
    age_grace: float | None


class LeanConnection(asyncio.Protocol):
    """One connection, as asyncio sees it."""

    def __init__(
        self,
        context: CallContext,
        methods: dict[str, Method],
        rules: ConnectionRules,
        ended: Callable[[LeanConnection], None],
    ) -> None:
        self._context = context
        self._rules = rules
        self._ended = ended
        self.loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._http2: Connection[Head] = Connection(
            self,
            lambda fields: read(fields, methods),
            _length,
            rules.limits,
            rules.pings,
            self.loop.time(),
        )
        #: Whether what there is to send will be written without more ado.
        self._will_write = False
        #: Whether the client is slow in reading.
        self._is_paused = False
        self._is_closing = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._peer: str | None = None

    def __repr__(self) -> str:
        return f"<LeanConnection {self._http2!r}>"

    # --- what asyncio calls -----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say hello."""
        self._transport = transport = cast("asyncio.Transport", transport)
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":  # RFC 9113 §3.2
            transport.close()
            return
        self._http2.start()
        self._write()
        self._look()
        if self._rules.age is not None:
            age = self._rules.age * random.uniform(1 - _JITTER, 1 + _JITTER)
            self._timers["age"] = self.loop.call_later(age, self._leave)

    def data_received(self, data: bytes) -> None:
        """Bytes have come."""
        self._will_write = True
        self._http2.receive(data, self.loop.time())
        self._write()

    def pause_writing(self) -> None:
        """The client is slow in reading."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """It has caught up."""
        self._is_paused = False
        assert self._transport is not None
        if not self._transport.is_reading():
            self._transport.resume_reading()
        self._write()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and so is its interest in any answer."""
        self._is_closing = True
        for timer in self._timers.values():
            timer.cancel()
        self._http2.lost()
        self._ended(self)

    # --- what http2/ calls ------------------------------------------------------------------------

    def opened(self, stream: Stream, head: Head) -> Receiver:
        """A request begins."""
        if head.http_status != 200:
            return _Unsupported(self, stream)
        method = head.method
        if method is not None and method.kind in _STREAMS:
            call = LeanStream(self._context, self, stream, head)
            call.start()
            return call
        return LeanUnary(self._context, self, stream, head)

    # --- what calls ask ---------------------------------------------------------------------------

    def peer(self) -> str:
        """Who is at the other end, in gRPC's form."""
        if self._peer is None:
            transport = self._transport
            self._peer = _peer(None if transport is None else transport.get_extra_info("peername"))
        return self._peer

    def answer(self, stream: Stream, block: bytes, content: bytes, trailers: bytes) -> None:
        """Send a whole answer."""
        self._http2.answer(stream, block, content, trailers)
        if not self._will_write:
            self._write_soon()

    def begin(self, stream: Stream, block: bytes, *, end: bool = False) -> None:
        """Send the fields that an answer begins with, or that it is."""
        self._http2.begin(stream, block, end=end)
        self._write_soon()

    def send(self, stream: Stream, parts: list[Buffer]) -> None:
        """Send content."""
        self._http2.send(stream, parts)
        self._write_soon()

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """End an answer."""
        self._http2.finish(stream, trailers)
        self._write_soon()

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Give a stream up."""
        self._http2.reset(stream, code)
        self._write_soon()

    def allow(self, stream: Stream, size: int) -> None:
        """Let the client send so much more."""
        self._http2.allow(stream, size)
        self._write_soon()

    def hold(self, size: int) -> None:
        """So much more, or less, lies unread."""
        self._http2.hold(size)
        self._write_soon()

    # --- the end ----------------------------------------------------------------------------------

    def finish_calls(self) -> None:
        """Take no more calls, and close when those that are open have ended."""
        self._http2.finish_streams()
        self._write()

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    def _leave(self) -> None:
        """The connection is as old as it may get."""
        self._http2.leave("max_age")
        self._write()
        if self._rules.age_grace is not None:
            self._timers["grace"] = self.loop.call_later(self._rules.age_grace, self._cut)

    def _cut(self) -> None:
        self._http2.end(ErrorCode.NO_ERROR, "max_age")
        self._write()

    def _look(self) -> None:
        """See whether the client is still there, every now and then."""
        seconds = self._http2.look(self.loop.time())
        self._write()
        if not self._is_closing:
            self._timers["look"] = self.loop.call_later(seconds, self._look)

    # --- writing ----------------------------------------------------------------------------------

    def _write_soon(self) -> None:
        if not self._will_write:
            self._will_write = True
            self.loop.call_soon(self._write)

    def _write(self) -> None:
        """Write what there is, as long as the client takes it."""
        self._will_write = False
        transport, http2 = self._transport, self._http2
        if transport is None or self._is_closing:
            return
        while not self._is_paused and http2.has_output:
            _write(transport, http2.take_output(_WRITTEN_BYTES))
        if http2.waiting_frames > _MOST_WAITING_FRAMES and transport.is_reading():
            transport.pause_reading()
        if http2.is_ended and not http2.has_output:
            self._close(transport)

    def _close(self, transport: asyncio.Transport) -> None:
        """Close once the client has read everything: what it still sends is not answered, and must
        not reset the connection before that.
        """
        self._is_closing = True
        if not transport.can_write_eof():
            transport.close()
            return
        try:
            transport.write_eof()
        except OSError:  # the client has gone first
            transport.abort()
        else:
            self._timers["linger"] = self.loop.call_later(_LINGER, transport.abort)


class _Unsupported:
    """The answer to requests that are no gRPC."""

    def __init__(self, line: LeanConnection, stream: Stream) -> None:
        self._line = line
        self._stream = stream

    def received(self, data: bytes, start: int, stop: int, ended: bool) -> None:
        """Whatever comes is not looked at."""
        self._line.begin(self._stream, answers.UNSUPPORTED_TYPE, end=True)

    def withdrawn(self) -> None:
        """Nothing was begun."""

    def drained(self) -> None:
        """Nothing follows."""


_STREAMS: Final = (Kind.STREAM, Kind.REFLECTION)


def _length(head: Head) -> int | None:
    return head.length


def _write(transport: asyncio.Transport, output: list[Buffer]) -> None:
    if len(output) == 1:
        transport.write(output[0])
    elif output:
        if sum(map(len, output)) <= _JOINED_BYTES:
            transport.write(b"".join(output))
        else:
            transport.writelines(output)


def _peer(name: Sequence[object] | None) -> str:
    """gRPC's name of a peer: `ipv4:127.0.0.1:5000`, `ipv6:[::1]:5000`."""
    match name:
        case [str(host), int(port)]:
            return f"ipv4:{host}:{port}"
        case [str(host), int(port), *_]:
            return f"ipv6:[{host}]:{port}"
        case _:
            return ""
