"""Streams of messages both ways, on the lean transport; each runs in a task.

A stream that is not read is not allowed to send on: its client is held back by its own window. And
whoever sends waits while the client is slow in taking what was sent.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Coroutine
from functools import partial
from typing import Final

from ...ipc.errors import StatusError
from ..http2.streams import Stream
from ..telemetry.trace import TRACEPARENT
from . import answers, compression
from .compression import INLINE_BYTES, Encoding
from .lean_call import MOST_AHEAD_BYTES, WINDOW_BYTES, CallContext, Head, LeanCall, Line, Phase
from .messages import Message, MessageFailed, MessageReader, prefix
from .methods import Kind
from .reflection import reflect
from .status import STATUS, Status, log_fault
from .stream import InferStream

#: While more than this waits to be sent, no more is made.
_MOST_UNSENT_BYTES: Final = 64 * 1024


class LeanStream(LeanCall):
    """One call with any number of messages each way."""

    __slots__ = ("_encoding", "_ended", "_has_begun", "_infer", "_reader", "_unread", "_waiters")

    def __init__(self, context: CallContext, line: Line, stream: Stream, head: Head) -> None:
        super().__init__(context, line, stream, head)
        self._reader = MessageReader()
        #: Messages that nobody has asked for, and whether more will come.
        self._unread: deque[Message] = deque()
        self._ended = False
        self._has_begun = False
        self._encoding: Encoding | None = None
        #: Those who wait for a message, or for room.
        self._waiters = _Waiters()
        #: What answers a stream of inferences.
        self._infer: InferStream | None = None

    def start(self) -> None:
        """Begin to answer, or refuse to."""
        method = self._head.method
        if self._refuse(method, b""):
            return
        assert method is not None
        self._phase = Phase.RUNNING
        if method.kind is Kind.STREAM:
            # Only inferences are compressed.
            self._encoding = compression.choose(self._context.level, self._head.accepted)
            self._infer = self._infer_stream()
            self._context.in_flight.enter(self._infer)
            run = self._infer.run()
        else:
            run = self._reflect()
        self._work = self._line.loop.create_task(self._run(run, method.path))

    # --- what a connection tells ------------------------------------------------------------------

    def received(self, data: bytes, start: int, stop: int, ended: bool) -> None:
        """A part of the client's messages has come."""
        if self._phase is Phase.DONE:
            return
        try:
            found = self._reader.feed(data, start, stop)
        except MessageFailed as error:
            self._fail(error.status, error.text, cancel=True)
            return
        if ended and not self._reader.is_between:
            self._fail(Status.INTERNAL, "the stream ended within a message", cancel=True)
            return
        self._ended = ended
        if found:
            self._unread.extend(found)
            self._line.hold(sum(len(message.data) for message in found))
        if found or ended:
            self._waiters.wake_reader()
        if self._waiters.reads and not self._unread:
            self._allow()

    def drained(self) -> None:
        """Everything that was sent so far is on its way."""
        self._waiters.wake_writer()

    # --- what answers the stream ------------------------------------------------------------------

    def _infer_stream(self) -> InferStream:
        context, metadata = self._context, self._head.metadata
        forwarding = context.forwarding
        return InferStream(
            context.dataplane,
            self._receive,
            self._send,
            ("triton_grpc_error", "true") in metadata,
            None if forwarding is None else partial(forwarding.collect, metadata),
        )

    async def _run(self, run: Coroutine[None, None, None], path: str) -> None:
        if self._context.dataplane.traces.on:
            TRACEPARENT.set(self._traceparent())
        try:
            await run
        except StatusError as error:
            self._fail(STATUS[error.code], error.message)
        except MessageFailed as error:
            self._fail(error.status, error.text)
        except Exception:  # a fault of ours: the client is told no more than that
            self._fail(Status.INTERNAL, log_fault(path))
        else:
            self._succeed()

    async def _reflect(self) -> None:
        while (data := await self._receive()) is not None:
            await self._send(reflect(bytes(data)))

    async def _receive(self) -> bytes | memoryview | None:
        """The next message, None when there is none."""
        while not self._unread:
            if self._ended:
                return None
            self._allow()
            await self._waiters.read()
        message = self._unread.popleft()
        self._line.hold(-len(message.data))
        return await self._decompressed(message)

    async def _send(self, data: bytes) -> None:
        """Send a message; returns when there is room for the next one."""
        if self._phase is Phase.DONE:
            return
        compressed = await self._compressed(data)
        if not self._has_begun:
            self._has_begun = True
            self._line.begin(self._stream, answers.BEGINNING[self._encoding])
        message = data if compressed is None else compressed
        head = prefix(len(message), compressed=compressed is not None)
        self._line.send(self._stream, [head, message])
        while self._stream.queued > _MOST_UNSENT_BYTES:
            await self._waiters.write()

    async def _compressed(self, data: bytes) -> bytes | None:
        """A message in its compressed form; None where that is no use."""
        if self._encoding is None:
            return None
        if len(data) <= INLINE_BYTES:
            found = compression.compress((data,), self._encoding)
        else:
            found = await self._line.loop.run_in_executor(
                None, compression.compress, (data,), self._encoding
            )
        return found if len(found) < len(data) else None

    def _allow(self) -> None:
        """Let as much come as a reader can take that waits."""
        ahead = min(self._reader.missing, MOST_AHEAD_BYTES)
        self._line.allow(self._stream, max(ahead, WINDOW_BYTES))

    # --- the end ----------------------------------------------------------------------------------

    def _succeed(self) -> None:
        if self._phase is Phase.DONE:
            return
        self._end(cancel=False)
        if not self._has_begun:
            self._line.begin(self._stream, answers.BEGINNING[None])
        self._line.finish(self._stream, answers.SUCCEEDED)

    def _send_failure(self, status: Status, details: str) -> None:
        if self._has_begun:
            self._line.finish(self._stream, answers.ending(status, details))
        else:
            super()._send_failure(status, details)

    def _left(self) -> None:
        self._line.hold(-sum(len(message.data) for message in self._unread))
        self._unread.clear()
        if self._infer is not None:
            self._context.in_flight.leave(self._infer)


class _Waiters:
    """Who waits on a stream: at most one for its next message, and one for room."""

    __slots__ = ("_room", "_something")

    def __init__(self) -> None:
        self._something: asyncio.Future[None] | None = None
        self._room: asyncio.Future[None] | None = None

    @property
    def reads(self) -> bool:
        """Whether somebody waits for a message."""
        return self._something is not None

    async def read(self) -> None:
        """Wait until something has come."""
        self._something = asyncio.get_running_loop().create_future()
        try:
            await self._something
        finally:
            self._something = None

    async def write(self) -> None:
        """Wait until everything is sent."""
        self._room = asyncio.get_running_loop().create_future()
        try:
            await self._room
        finally:
            self._room = None

    def wake_reader(self) -> None:
        """Something has come."""
        if self._something is not None and not self._something.done():
            self._something.set_result(None)

    def wake_writer(self) -> None:
        """Everything is sent."""
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
