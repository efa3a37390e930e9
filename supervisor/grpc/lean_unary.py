"""Calls with one message each way, on the lean transport.

An inference is begun when its message is whole, and answered by the callback that its response
comes with: no task and no future is made for it. Other calls run in tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from functools import partial
from typing import TYPE_CHECKING, Final

from ...ipc.errors import StatusError
from ..http2.streams import Buffer, Stream
from ..telemetry.trace import TRACEPARENT
from . import answers, compression
from .codec import encode_response_parts
from .compression import INLINE_BYTES
from .lean_call import MOST_AHEAD_BYTES, WINDOW_BYTES, CallContext, Head, LeanCall, Line, Phase
from .messages import PREFIX_BYTES, Message, MessageFailed, MessageReader, prefix
from .methods import Kind, Method
from .status import STATUS, Status, log_fault

if TYPE_CHECKING:
    from ..request import InferResponse

#: Answers up to this size are put together: one copy costs less than several buffers.
_JOINED_BYTES: Final = 16 * 1024

_PLAIN: Final = answers.BEGINNING[None]


class LeanUnary(LeanCall):
    """One call with one message each way."""

    __slots__ = ("_message", "_reader")

    def __init__(self, context: CallContext, line: Line, stream: Stream, head: Head) -> None:
        super().__init__(context, line, stream, head)
        self._message: Message | None = None
        self._reader: MessageReader | None = None

    def received(self, data: bytes, start: int, stop: int, ended: bool) -> None:
        """A part of the request has come; with the last one it runs."""
        if self._phase is not Phase.READING:
            return
        if (
            ended
            and self._reader is None
            and stop - start >= PREFIX_BYTES
            and data[start] == 0
            and int.from_bytes(data[start + 1 : start + 5], "big") == stop - start - PREFIX_BYTES
        ):
            self._run(data[start + PREFIX_BYTES : stop])
            return
        if self._reader is None:
            self._reader = MessageReader()
        try:
            found = self._reader.feed(data, start, stop)
        except MessageFailed as error:
            self._fail(error.status, error.text)
            return
        if found and self._message is None:
            self._message = found[0]  # as gRPC's core: more messages than one mean nothing
        if not ended:
            ahead = min(self._reader.missing, MOST_AHEAD_BYTES)
            self._line.allow(self._stream, max(ahead, WINDOW_BYTES))
        elif self._message is None:
            self._fail(Status.INTERNAL, "the call ended without a whole message")
        elif self._message.compressed:
            self._start(self._run_compressed(self._message))
        else:
            self._run(self._message.data)

    def _run(self, message: bytes | memoryview) -> None:
        """Begin to answer."""
        method, context = self._head.method, self._context
        if method is None or method.kind is not Kind.INFER:
            self._run_other(method, bytes(message))
            return
        if (
            method.guarded or self._head.failure is not None or not context.in_flight.is_serving
        ) and self._refuse(method, b""):
            return
        self._enter()
        try:
            work = context.service.begin_infer(message, self._forwarded(), self._responded)
        except StatusError as error:
            self._fail(STATUS[error.code], error.message)
            return
        except Exception:  # a fault of ours: the client is told no more than that
            self._fail(Status.INTERNAL, log_fault(method.path))
            return
        if work is None:
            call = context.service.model_infer(message, self._forwarded())
            self._start(self._await(method, call))
        else:
            self._work = work

    def _run_other(self, method: Method | None, message: bytes) -> None:
        if self._refuse(method, message):
            return
        assert method is not None
        assert method.call is not None
        self._enter()
        self._start(self._await(method, method.call(message)))

    def _enter(self) -> None:
        if self._phase is Phase.READING:
            self._phase = Phase.RUNNING
            self._context.in_flight.enter()

    def _forwarded(self) -> dict[str, str] | None:
        forwarding = self._context.forwarding
        return None if forwarding is None else forwarding.collect(self._head.metadata)

    def _start(self, coroutine: Coroutine[None, None, None]) -> None:
        self._work = self._line.loop.create_task(coroutine)

    async def _run_compressed(self, message: Message) -> None:
        try:
            data = await self._decompressed(message)
        except MessageFailed as error:
            self._fail(error.status, error.text)
            return
        self._run(data)

    async def _await(self, method: Method, call: Awaitable[bytes]) -> None:
        """Run a call that takes a task."""
        if self._context.dataplane.traces.on:
            TRACEPARENT.set(self._traceparent())
        try:
            encoded = await call
        except StatusError as error:
            self._fail(STATUS[error.code], error.message)
        except Exception:  # a fault of ours: the client is told no more than that
            self._fail(Status.INTERNAL, log_fault(method.path))
        else:
            self._answer([encoded], compressible=method.kind is Kind.INFER)

    def _responded(self, response: InferResponse) -> None:
        """The response to an inference is here."""
        if self._phase is Phase.DONE:
            return
        error = response.error
        if error is not None:
            self._fail(STATUS[error.code], error.message)
            return
        try:
            parts = encode_response_parts(response)
        except Exception:  # a fault of ours: the client is told no more than that
            assert self._head.method is not None
            self._fail(Status.INTERNAL, log_fault(self._head.method.path))
            return
        self._answer(parts, compressible=True)

    def _answer(self, parts: list[Buffer], *, compressible: bool) -> None:
        """Send the message that is the answer."""
        if self._phase is Phase.DONE:
            return
        size = sum(map(len, parts))
        level = self._context.level
        if level != "none" and compressible:
            encoding = compression.choose(level, self._head.accepted)
            if encoding is not None:
                self._answer_compressed(parts, size, encoding)
                return
        self._send(parts, size)

    def _send(self, parts: list[Buffer], size: int) -> None:
        self._end(cancel=False)
        if size <= _JOINED_BYTES:
            content = b"".join((prefix(size), *parts))
            self._line.answer(self._stream, _PLAIN, content, answers.SUCCEEDED)
        else:
            self._line.begin(self._stream, _PLAIN)
            self._line.send(self._stream, [prefix(size), *parts])
            self._line.finish(self._stream, answers.SUCCEEDED)

    def _answer_compressed(
        self, parts: list[Buffer], size: int, encoding: compression.Encoding
    ) -> None:
        if size <= INLINE_BYTES:
            self._send_compressed(parts, size, encoding, compression.compress(parts, encoding))
            return
        written = self._line.loop.run_in_executor(None, compression.compress, parts, encoding)
        written.add_done_callback(partial(self._compressed, parts, size, encoding))
        self._work = written

    def _compressed(
        self,
        parts: list[Buffer],
        size: int,
        encoding: compression.Encoding,
        written: asyncio.Future[bytes],
    ) -> None:
        if self._phase is not Phase.DONE:
            self._send_compressed(parts, size, encoding, written.result())

    def _send_compressed(
        self, parts: list[Buffer], size: int, encoding: compression.Encoding, data: bytes
    ) -> None:
        """Send what was compressed, or, where that has not helped, what it was made of."""
        if len(data) >= size:
            self._send(parts, size)
            return
        self._end(cancel=False)
        self._line.begin(self._stream, answers.BEGINNING[encoding])
        self._line.send(self._stream, [prefix(len(data), compressed=True), data])
        self._line.finish(self._stream, answers.SUCCEEDED)
