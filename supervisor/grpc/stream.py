"""ModelStreamInfer: many requests on one stream, each with its own responses.

Requests to models that answer once are answered in the order they came; responses of decoupled
models go out as they come, between the others. An error belongs to its request and leaves the
stream open, unless the client asked for the opposite.

What a client has not read waits here, up to a limit. Beyond it no more requests are read, and one
to a decoupled model that answers on is cancelled: its next response is an error, and the last.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING

from ...ipc.errors import StatusError, UnavailableError
from ...proto import grpc_service_pb2 as pb
from ..request import InferResponse, RequestTrace
from ..unread import MOST_WAITING_BYTES, RESPONSE_BYTES, replace_by_refusal, size_of
from .codec import (
    RawContents,
    decode_request,
    encode_refusal,
    encode_stream_response,
    find_version,
    parse_infer_request,
)
from .parameters import wants_empty_final_response
from .status import SHUTTING_DOWN

if TYPE_CHECKING:
    from ..dataplane import DataPlane, Stream
    from ..models.residents import Residents, Use

#: While so many requests or responses of one stream wait, no more requests are read from it: a
#: client that sends faster than it is answered, or never reads, is held back by its own window.
_MOST_WAITING = 1024


class _Reading(Enum):
    OPEN = "requests are read as they come"
    ENDED = "the client will send no more"
    DRAINED = "the server takes no more"


@dataclass(slots=True, eq=False)
class _Refusal:
    """The one answer to a request that the server did not take."""

    request: pb.ModelInferRequest
    error: StatusError


class _Call:
    """One request of the stream until its last response is on its way."""

    __slots__ = ("empty_final", "given_up", "handle", "ordered", "response", "trace", "use")

    def __init__(self, ordered: bool, empty_final: bool) -> None:
        self.ordered = ordered
        self.empty_final = empty_final
        #: The only response of an ordered call, while those before it are missing.
        self.response: InferResponse | _Refusal | None = None
        #: What cancels the request; None before it was handed over.
        self.handle: Stream | None = None
        #: Its client did not read its responses: no more of them go out.
        self.given_up = False
        #: None if the request is not traced.
        self.trace: RequestTrace | None = None
        #: Keeps a model that was loaded on demand until the last response.
        self.use: Use | None = None

    def release(self) -> None:
        """The last response has come, or nobody waits for it."""
        if self.use is not None:
            self.use.release()


class _TraceEnd:
    """Where a trace ends whose request's last response does not go out."""

    __slots__ = ("trace",)

    def __init__(self, trace: RequestTrace) -> None:
        self.trace = trace


class InferStream:
    """One stream of a client, over whatever transport: bytes are received and sent by callables.

    `receive` returns one encoded request, or None at the end; `send` returns when there is room
    for the next response. With `close_on_error` the first error ends the stream with its status.
    `forward` gives parameters that the call's metadata make for each request, or raises
    StatusError.
    """

    def __init__(
        self,
        dataplane: DataPlane,
        receive: Callable[[], Awaitable[bytes | memoryview | None]],
        send: Callable[[bytes], Awaitable[None]],
        close_on_error: bool,
        forward: Callable[[], Mapping[str, str]] | None = None,
    ) -> None:
        self._dataplane = dataplane
        self._receive = receive
        self._send = send
        self._close_on_error = close_on_error
        self._forward = forward
        self._reading = _Reading.OPEN
        self._reader: asyncio.Task[None] | None = None
        #: All requests whose last response is missing, and nothing else.
        self._outstanding: set[_Call] = set()
        #: Ordered calls, outstanding or with a response that waits for an earlier one.
        self._ordered: deque[_Call] = deque()
        #: What goes out next; a trace stands behind the last response that it covers.
        self._unsent: deque[InferResponse | _Refusal | _TraceEnd] = deque()
        #: What that and the responses that wait for earlier ones count as (bytes).
        self._size = 0
        #: Set when the writer has something to look at, and when the reader has.
        self._wake = asyncio.Event()
        self._room = asyncio.Event()

    def __repr__(self) -> str:
        return (
            f"<InferStream {self._reading.name} outstanding={len(self._outstanding)} "
            f"unsent={len(self._unsent)}>"
        )

    async def run(self) -> None:
        """Serve the stream to its end.

        Raises StatusError when it ends with an error. When the task is cancelled, or fails, all
        requests that are still outstanding are cancelled.
        """
        self._reader = reader = asyncio.create_task(self._read())
        reader.add_done_callback(lambda _: self._wake.set())
        try:
            while True:
                self._wake.clear()
                await self._send_all()
                if reader.done():
                    if not reader.cancelled():
                        reader.result()  # raises what ended the reading
                    if not self._outstanding:
                        break
                await self._wake.wait()
        finally:
            reader.cancel()
            # What is still queued ends within cancel(), and leaves the set.
            for call in tuple(self._outstanding):
                if call.handle is not None:
                    call.handle.cancel()
                if call.trace is not None:
                    call.trace.end()
                call.release()
            await asyncio.gather(reader, return_exceptions=True)
        if self._reading is _Reading.DRAINED:
            raise UnavailableError(SHUTTING_DOWN)

    def drain(self) -> None:
        """Read no more requests, and end the stream when those that were read are answered."""
        if self._reading is _Reading.OPEN:
            self._reading = _Reading.DRAINED
            if self._reader is not None:
                self._reader.cancel()

    async def _read(self) -> None:
        while self._reading is _Reading.OPEN:
            data = await self._receive()
            if data is None:
                self._reading = _Reading.ENDED
                return
            message, raw_contents = parse_infer_request(data)
            on_demand = self._dataplane.on_demand
            use = None if on_demand is None else await _use(on_demand, message.model_name)
            self._accept(message, raw_contents, use)
            while self._waiting() >= _MOST_WAITING or self._size >= MOST_WAITING_BYTES:
                self._room.clear()
                await self._room.wait()

    def _waiting(self) -> int:
        """How many requests and responses are held: a call may be ordered, outstanding or both."""
        return len(self._unsent) + max(len(self._outstanding), len(self._ordered))

    def _accept(
        self,
        message: pb.ModelInferRequest,
        raw_contents: RawContents,
        use: Use | StatusError | None,
    ) -> None:
        """Hand one request to the data plane, or answer what is wrong with it.

        `use` is the error when its model could not be loaded on demand.
        """
        call = _Call(ordered=True, empty_final=wants_empty_final_response(message.parameters))
        self._outstanding.add(call)
        self._ordered.append(call)
        try:
            if isinstance(use, StatusError):
                raise use
            call.use = use
            forwarded = None if self._forward is None else self._forward()
            version = find_version(message.model_name, message.model_version, self._dataplane)
            if self._dataplane.config(message.model_name, version).decoupled:
                self._ordered.pop()
                call.ordered = False
            request = decode_request(message, raw_contents, version, self._dataplane, forwarded)
            traces = self._dataplane.traces
            if traces.on:
                request.trace = call.trace = traces.begin(request.model)
                if call.trace is not None:
                    call.trace.stamp("GRPC_WAITREAD_START", request.received_ns)
                    call.trace.stamp("GRPC_WAITREAD_END")
            call.handle = self._dataplane.stream(request, partial(self._on_response, call))
        except StatusError as error:
            self._outstanding.discard(call)
            call.release()
            self._add(call, _Refusal(message, error))
            self._wake.set()

    def _on_response(self, call: _Call, response: InferResponse) -> None:
        if response.final:
            self._outstanding.discard(call)
            call.release()
        if call.given_up:
            self._wake.set()
            return
        says_something = response.outputs or response.error or call.ordered or call.empty_final
        if response.final and not says_something:
            self._wake.set()  # an end alone goes to those only who asked for it
            if call.trace is not None:
                self._unsent.append(_TraceEnd(call.trace))
            return
        self._add(call, response)
        self._wake.set()

    def _add(self, call: _Call, response: InferResponse | _Refusal) -> None:
        """Let a response go out: now, or when those to earlier requests have."""
        size = _size_of(response)
        if not call.ordered and self._unsent and self._size + size > MOST_WAITING_BYTES:
            self._give_up(call, response)
            size = _size_of(response)
        self._size += size
        if call.ordered:
            call.response = response
            ordered = self._ordered
            while ordered and ordered[0].response is not None:
                self._unsent.append(ordered.popleft().response)  # type: ignore[arg-type]
        else:
            self._unsent.append(response)

    def _give_up(self, call: _Call, response: InferResponse | _Refusal) -> None:
        """Cancel a request whose responses find no room, and say so in place of this one."""
        call.given_up = True
        if isinstance(response, InferResponse):
            was_last = response.final
            replace_by_refusal(response)
            if not was_last and call.handle is not None:
                call.handle.cancel()

    async def _send_all(self) -> None:
        while self._unsent:
            response = self._unsent.popleft()
            if isinstance(response, _TraceEnd):
                response.trace.end()
                continue
            self._size -= _size_of(response)
            if response.error is not None and self._close_on_error:
                raise response.error
            if isinstance(response, _Refusal):
                encoded = encode_refusal(response.request, response.error)
            else:
                encoded = encode_stream_response(response)
            if isinstance(response, _Refusal) or response.trace is None:
                await self._send(encoded)
            else:
                await self._send_traced(encoded, response.trace, response.final)
        self._room.set()

    async def _send_traced(self, encoded: bytes, trace: RequestTrace, final: bool) -> None:
        trace.stamp("GRPC_SEND_START")
        await self._send(encoded)
        trace.stamp("GRPC_SEND_END")
        if final:
            trace.end()


def _size_of(response: InferResponse | _Refusal) -> int:
    return size_of(response) if isinstance(response, InferResponse) else RESPONSE_BYTES


async def _use(on_demand: Residents, model: str) -> Use | StatusError:
    """Have a model loaded; the error when that fails, to be told in the request's turn."""
    try:
        return await on_demand.use(model)
    except StatusError as error:
        return error
