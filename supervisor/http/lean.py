"""The lean path: plain inferences are read and answered without aiohttp, on its own connections.

aiohttp serves the whole protocol and is the reference for it. What it costs an inference is its
generality: a task, a context, a stream and a dozen objects for each request. So this connection
looks at the head of each request. A plain inference it takes itself: from the bytes to the data
plane, and from the answer to the transport, in two plain calls. The tensors of a large one are read
from the socket into shared memory, see body_reader.py. Every other request is lent to aiohttp,
which is this same connection's other half, byte by byte until its end; then the connection is ours
again. A request whose end is in doubt goes to aiohttp together with all that follows it.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from ...ipc.errors import UnavailableError
from .body import CONTINUE
from .body_reader import BodyReader
from .connection import Connection
from .head import MOST_BYTES, Head, Inference, may_begin
from .infer import infer_error
from .reply import CLOSE, Reply

if TYPE_CHECKING:
    from ..dataplane import Stream
    from .lean_infer import Arrival, LeanInfer, Reading

#: Bodies up to this size are taken when they are whole. Of a larger one the JSON document may have
#: this size, and what is behind it goes where it belongs as it comes.
MOST_BODY_BYTES = 256 * 1024

#: So much may lie here unread while something else is under way; then the client has to wait.
_MOST_UNREAD_BYTES = 256 * 1024


class State(Enum):
    """Whose turn it is on a connection."""

    #: Between two requests, or in the head of the next one.
    IDLE = "idle"
    #: An inference is ours, and its body is still coming.
    BODY = "body"
    #: A large inference is ours, and its document is still coming.
    DOCUMENT = "document"
    #: Its tensors are being read into shared memory.
    ARRIVING = "arriving"
    #: It is refused, and what still comes of it is thrown away.
    REFUSED = "refused"
    #: An inference is with the data plane.
    RUNNING = "running"
    #: It is answered, and its client is slow in taking the answer.
    SENDING = "sending"
    #: aiohttp has a part of a request.
    LENDING = "lending"
    #: aiohttp has a whole request, and has not answered it.
    LENT = "lent"
    #: aiohttp has answered a request before it had all of it.
    ANSWERED = "answered"
    #: Everything that comes is for aiohttp.
    GIVEN = "given"
    #: There is no connection any more.
    CLOSED = "closed"


#: When a client may send on, however much it has sent before.
_READING = (State.IDLE, State.BODY, State.DOCUMENT, State.ARRIVING, State.REFUSED)


class Ends(AbstractAccessLogger):
    """Is told by aiohttp when it has answered a request, and tells the request's connection."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        """A response is written to its end."""
        connection: object = request.protocol
        if isinstance(connection, LeanConnection):
            connection.returned(bool(response.keep_alive))


class LeanConnection(Connection):
    """One connection. Its bytes are read here first."""

    __slots__ = ("_arrival", "_head", "_last", "_lean", "_left", "_received", "_state", "_stream")

    def __init__(self, lean: LeanInfer, manager: web.Server, **options: Any) -> None:
        super().__init__(manager, **options)
        self._lean = lean
        self._state = State.IDLE
        #: What has come and is nobody's yet.
        self._received = b""
        #: The request that is ours.
        self._head: Head | None = None
        #: The request whose tensors are being read.
        self._arrival: Arrival | None = None
        #: How many bytes of the request that is lent or refused are still to come.
        self._left: int = 0
        #: Whether the connection ends with the request that is refused.
        self._last = False
        self._stream: Stream | Reading | None = None

    def __repr__(self) -> str:
        return f"<LeanConnection {self._state.value}, {len(self._received)} bytes unread>"

    # --- what asyncio calls -----------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Bytes have come; none when aiohttp wants to look at its own again."""
        if self._state is State.GIVEN or not data:
            super().data_received(data)
            return
        self._received = self._received + data if self._received else data
        self._proceed()

    def connection_lost(self, exc: BaseException | None) -> None:
        """The client is gone, and so is its interest in an answer."""
        state, self._state = self._state, State.CLOSED
        if state is State.RUNNING and self._stream is not None:
            self._stream.cancel()
        arrival, self._arrival = self._arrival, None
        if arrival is not None:
            self._lean.drop(arrival)
        super().connection_lost(exc)

    def resume_writing(self) -> None:
        """The client has taken what was written."""
        super().resume_writing()
        if self._state is State.SENDING:
            self._state = State.IDLE
            self._proceed()

    # --- the lean path ----------------------------------------------------------------------------

    def answered(self, reply: Reply) -> None:
        """The data plane has answered the inference that runs."""
        self._answer(reply)
        self._proceed()

    def _proceed(self) -> None:
        """Do what can be done with the bytes that are here."""
        while self._received:
            if self._state is State.IDLE:
                if not self._read_head():
                    break
            elif self._state is State.BODY:
                assert self._head is not None
                if len(self._received) < self._head.length:
                    break
                assert self._head.inference is not None
                received, end = self._received, self._head.length
                inference, self._head = self._head.inference, None
                self._received = received[end:]
                self._run(inference, memoryview(received)[:end])
            elif self._state is State.DOCUMENT:
                assert self._head is not None
                assert self._head.inference is not None
                if len(self._received) < (self._head.inference.document or 0):
                    break
                self._admit(self._head, self._head.inference)
            elif self._state is State.REFUSED:
                self._throw_away()
            elif self._state in (State.LENDING, State.ANSWERED):
                self._lend()
            else:
                break
        self._bound_unread()

    def _read_head(self) -> bool:
        """Decide about the next request; False when its head is not whole."""
        received = self._received
        end = received.find(b"\r\n\r\n") + 4
        if end < 4 and may_begin(received):
            return False
        head = self._lean.head(received[:end]) if 4 <= end <= MOST_BYTES else None
        if head is None:
            self._give()
        elif head.inference is not None and self._takes(head, head.inference):
            self._take(head, head.inference, end)
        else:
            self._left = end + head.length
            self._state = State.LENDING
        return True

    def _takes(self, head: Head, inference: Inference) -> bool:
        if (inference.document or 0) > MOST_BODY_BYTES:
            return False
        address = cast("tuple[str, ...]", self.peername or ("",))[0]
        return self._lean.takes(inference, head.length, address)

    def _take(self, head: Head, inference: Inference, begin: int) -> None:
        """The next request is ours; what has come of its body begins here."""
        received = self._received
        end = begin + head.length
        if len(received) >= end and head.length <= MOST_BODY_BYTES:
            self._received = received[end:]
            self._run(inference, memoryview(received)[begin:end])
            return
        self._received = received[begin:]
        self._head = head
        if inference.waits and len(received) < end and self.transport is not None:
            self.transport.write(CONTINUE)
        if head.length > MOST_BODY_BYTES:
            self._state = State.DOCUMENT
            if not inference.document:
                self._admit(head, inference)
            return
        self._state = State.BODY

    def _run(self, inference: Inference, body: memoryview) -> None:
        """Hand an inference to the data plane; what it refuses is answered at once."""
        self._state = State.RUNNING
        self._start(self._lean.run(inference, body, self))

    def _start(self, outcome: Stream | Reading | Reply) -> None:
        if isinstance(outcome, Reply):
            self._answer(outcome)
        else:
            self._stream = outcome

    # --- large inferences -------------------------------------------------------------------------

    def body_read(self) -> None:
        """The tensors are where they belong."""
        if self.transport is not None:
            self.transport.set_protocol(self)
            self._dispatch()

    def body_refused(self, error: UnavailableError) -> None:
        """There is no memory for the rest of them."""
        if self.transport is not None:
            self.transport.set_protocol(self)
            self._refuse_rest(error)

    def _admit(self, head: Head, inference: Inference) -> None:
        """The document is here: have what is behind it go where it belongs."""
        cut = inference.document or 0
        document, self._received = memoryview(self._received)[:cut], self._received[cut:]
        self._head = None
        self._left = head.length - cut
        outcome = self._lean.admit(inference, document, self._left)
        if isinstance(outcome, Reply):
            self._refuse(outcome)
            return
        self._state = State.ARRIVING
        self._arrival = outcome
        come, self._received = self._received[: self._left], self._received[self._left :]
        self._left -= len(come)
        try:
            outcome.filling.take(come)
            if self._left and self.transport is not None:
                self.transport.set_protocol(BodyReader(self, self.transport, outcome.filling))
        except UnavailableError as error:
            self._refuse_rest(error)
            return
        if not self._left:
            self._dispatch()

    def _dispatch(self) -> None:
        arrival, self._arrival = self._arrival, None
        assert arrival is not None
        self._state = State.RUNNING
        self._start(self._lean.dispatch(arrival, self))

    def _refuse_rest(self, error: UnavailableError) -> None:
        arrival, self._arrival = self._arrival, None
        assert arrival is not None
        self._left = min(self._left, arrival.filling.left)
        self._lean.drop(arrival)
        self._refuse(infer_error(error))

    def _refuse(self, reply: Reply) -> None:
        """Answer at once, and go on behind the rest of the request: its client is sending that, and
        might not see the answer if the connection were closed.
        """
        self._last = self._lean.is_draining
        if self.transport is not None:
            reply.write_to(self.transport, CLOSE if self._last else b"")
        self._state = State.REFUSED
        if not self._left:
            self._throw_away()

    def _throw_away(self) -> None:
        thrown = min(self._left, len(self._received))
        self._received = self._received[thrown:]
        self._left -= thrown
        if self._left:
            return
        if self._last and self.transport is not None:
            self._state = State.CLOSED
            self.transport.close()
        else:
            self._state = State.SENDING if self.writing_paused else State.IDLE

    def _answer(self, reply: Reply) -> None:
        self._stream = None
        transport = self.transport
        if self._state is State.CLOSED or transport is None or transport.is_closing():
            return
        if not reply.keep_alive or self._lean.is_draining:
            reply.write_to(transport, CLOSE)
            self._state = State.CLOSED
            transport.close()
            return
        reply.write_to(transport)
        self._state = State.SENDING if self.writing_paused else State.IDLE

    # --- aiohttp's part ---------------------------------------------------------------------------

    def returned(self, keep_alive: bool) -> None:
        """aiohttp has answered the request that it was lent."""
        if not keep_alive:
            self._state = State.GIVEN if self._state is not State.CLOSED else State.CLOSED
        elif self._state is State.LENT:
            self._state = State.IDLE
            self._proceed()
        elif self._state is State.LENDING:
            self._state = State.ANSWERED

    def _lend(self) -> None:
        """Let aiohttp have what has come of the request that is its."""
        piece = self._received[: self._left]
        self._received = self._received[self._left :]
        self._left -= len(piece)
        if not self._left:
            self._state = State.LENT if self._state is State.LENDING else State.IDLE
        super().data_received(piece)

    def _give(self) -> None:
        """Let aiohttp have everything from here on."""
        received, self._received = self._received, b""
        self._state = State.GIVEN
        super().data_received(received)

    def _bound_unread(self) -> None:
        """Have a client wait that sends on while it is not its turn."""
        transport, state = self.transport, self._state
        if transport is None or state is State.GIVEN:
            return
        if state is State.RUNNING or state is State.SENDING or state is State.LENT:
            if len(self._received) > _MOST_UNREAD_BYTES:
                _pause(transport)
        elif state in _READING and not transport.is_reading():
            transport.resume_reading()


def _pause(transport: asyncio.ReadTransport) -> None:
    if transport.is_reading():
        transport.pause_reading()
