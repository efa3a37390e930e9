"""Calls of the lean transport: what all of them share, how they begin and how they end."""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from ..http2.errors import ErrorCode
from ..http2.streams import Buffer, Stream
from . import answers, compression
from .access import REASON_STATUS, refusal
from .call_head import CallHead, Metadata
from .compression import INLINE_BYTES
from .messages import Message, MessageFailed
from .methods import Method
from .status import SHUTTING_DOWN, Status

if TYPE_CHECKING:
    from ..access import Access
    from ..dataplane import DataPlane
    from ..forwarding import HeaderForwarding
    from ..settings import CompressionLevel
    from .in_flight import InFlight
    from .service import InferenceService

Head = CallHead[Method]

#: While a message is read, so much of it may be on its way.
MOST_AHEAD_BYTES: Final = 16 * 1024 * 1024
#: Else so much of a stream may come.
WINDOW_BYTES: Final = 1024 * 1024


class Line(Protocol):
    """The connection that a call came on."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the server."""
        ...

    def peer(self) -> str:
        """Who is at the other end, in gRPC's form."""
        ...

    def answer(self, stream: Stream, block: bytes, content: bytes, trailers: bytes) -> None:
        """Send a whole answer."""
        ...

    def begin(self, stream: Stream, block: bytes, *, end: bool = False) -> None:
        """Send the fields that an answer begins with, or that it is."""
        ...

    def send(self, stream: Stream, parts: list[Buffer]) -> None:
        """Send content."""
        ...

    def finish(self, stream: Stream, trailers: bytes) -> None:
        """End an answer."""
        ...

    def reset(self, stream: Stream, code: ErrorCode) -> None:
        """Give a stream up."""
        ...

    def allow(self, stream: Stream, size: int) -> None:
        """Let the client send so much more."""
        ...

    def hold(self, size: int) -> None:
        """So much more, or less, lies unread."""
        ...


class Cancellable(Protocol):
    """What answers a call."""

    def cancel(self) -> object:
        """Nobody waits for it any more."""
        ...


class CallContext:
    """What all calls of a server share."""

    def __init__(
        self,
        service: InferenceService,
        dataplane: DataPlane,
        access: Access,
        in_flight: InFlight,
        level: CompressionLevel,
        forwarding: HeaderForwarding | None,
    ) -> None:
        self.service = service
        self.dataplane = dataplane
        self.access = access
        self.in_flight = in_flight
        self.level: CompressionLevel = level
        self.forwarding = forwarding


class Phase(Enum):
    """How far a call is."""

    #: Its message, or its first one, is coming.
    READING = "reading"
    #: It is being answered, and counts as in flight.
    RUNNING = "running"
    #: It is answered, or nobody wants an answer.
    DONE = "done"


class LeanCall:
    """What unary calls and streams have in common: how they begin and how they end."""

    __slots__ = ("_context", "_deadline", "_head", "_line", "_phase", "_stream", "_work")

    def __init__(self, context: CallContext, line: Line, stream: Stream, head: Head) -> None:
        self._context = context
        self._line = line
        self._stream = stream
        self._head = head
        self._phase = Phase.READING
        #: What is to be cancelled when nobody wants the answer any more.
        self._work: Cancellable | None = None
        self._deadline: asyncio.TimerHandle | None = None
        if head.timeout is not None:
            self._deadline = line.loop.call_later(head.timeout, self._expired)

    def __repr__(self) -> str:
        path = "an unknown call" if self._head.method is None else self._head.method.path
        return f"<{type(self).__name__} {path} {self._phase.value}>"

    # --- as access.py wants a call ----------------------------------------------------------------

    def peer(self) -> str:
        """Who calls."""
        return self._line.peer()

    def invocation_metadata(self) -> Metadata:
        """What came with the call."""
        return self._head.metadata

    # --- what a connection tells ------------------------------------------------------------------

    def withdrawn(self) -> None:
        """The client has cancelled the call, or is gone."""
        self._end(cancel=True)

    def drained(self) -> None:
        """Everything that was sent so far is on its way."""

    # --- the end ----------------------------------------------------------------------------------

    def _refuse(self, method: Method | None, message: bytes) -> bool:
        """End a call that is not taken; whether it was."""
        failure = self._head.failure
        if failure is not None:
            self._fail(failure.status, failure.text)
        elif method is None:
            self._fail(Status.UNIMPLEMENTED, "")
        elif not self._context.in_flight.is_serving:
            self._fail(Status.UNAVAILABLE, SHUTTING_DOWN)
        elif method.guarded:
            refused = refusal(self._context.access, method.rule, message, self)
            if refused is not None:
                self._fail(REASON_STATUS[refused.reason], refused.message)
        return self._phase is Phase.DONE

    def _expired(self) -> None:
        self._deadline = None
        self._fail(Status.DEADLINE_EXCEEDED, "Deadline Exceeded", cancel=True)

    def _fail(self, status: Status, details: str, *, cancel: bool = False) -> None:
        """Answer with an error, unless there is an answer."""
        if self._phase is Phase.DONE:
            return
        self._end(cancel=cancel)
        self._send_failure(status, details)

    def _send_failure(self, status: Status, details: str) -> None:
        self._line.begin(self._stream, answers.failed(status, details), end=True)

    def _end(self, *, cancel: bool) -> None:
        phase, self._phase = self._phase, Phase.DONE
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        work, self._work = self._work, None
        if phase is Phase.RUNNING:
            self._left()
        if cancel and work is not None:
            work.cancel()

    def _left(self) -> None:
        self._context.in_flight.leave()

    def _traceparent(self) -> str:
        """The W3C header by which a client's own trace goes on here, or ""."""
        return next((str(value) for key, value in self._head.metadata if key == "traceparent"), "")

    async def _decompressed(self, message: Message) -> bytes | memoryview:
        """The message as it was. Raises MessageFailed."""
        if not message.compressed:
            return message.data
        encoding = _encoding_of(self._head)
        if len(message.data) <= INLINE_BYTES:
            found = compression.decompress_some(message.data, encoding, INLINE_BYTES)
            if found is not None:
                return found
        return await self._line.loop.run_in_executor(
            None, compression.decompress, message.data, encoding
        )


def _encoding_of(head: Head) -> compression.Encoding:
    if head.encoding is None:
        raise MessageFailed(Status.INTERNAL, "Compression bit set but no encoding configured")
    return head.encoding
