"""The generate extension: inference in flat JSON, answered at once or as a stream of events.

A model may answer faster than its client reads. What the client has not taken then waits here, up
to a limit; beyond it the request is cancelled and an error takes the place of all that waited, so
that one client who does not read can fill neither the server's memory nor a model's arena.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import TYPE_CHECKING, cast

from aiohttp import web

from ...ipc.errors import InvalidArgumentError, StatusError
from ...ipc.tensor import INLINE_LIMIT_BYTES
from ..request import InferRequest, InferResponse, RequestTrace
from ..unread import MOST_WAITING_BYTES, replace_by_refusal, size_of
from .body import read_all
from .chunked_reply import ChunkedReply
from .compression import THREAD_LIMIT_BYTES
from .generate_codec import decode_request, encode_response
from .load_report import ASKED_BY, header_line, no_metrics
from .reply import JSON, Reply, error_body

if TYPE_CHECKING:
    from ..dataplane import DataPlane, Stream

_EVENTS = b"Content-Type: text/event-stream; charset=utf-8\r\n"
_NOT_ONE = (
    "generate expects model to produce exactly 1 response, "
    "use generate stream for model that generates various number of responses"
)
_ALIGNMENT_BYTES = 64


class Generate:
    """Answers `POST …/generate` and `POST …/generate_stream`."""

    def __init__(
        self,
        dataplane: DataPlane,
        max_input_size: int,
        metrics: Callable[[], str] = no_metrics,
    ) -> None:
        self._dataplane = dataplane
        self._limit = max_input_size
        self._metrics = metrics

    async def generate(self, http: web.BaseRequest, model: str, version: int | None) -> Reply:
        """Run a request that has exactly one response."""
        async with self._using(model):
            responses = await self._submit(http, model, version)
            try:
                first = await responses.next()
                one = first is not None and await responses.next() is None
            finally:
                responses.close()
        body = await _document(first) if one and first is not None else error_body(_NOT_ONE)
        reply = ChunkedReply(_status(first), JSON + self._load_report(http))
        await reply.prepare(http)
        await reply.write(body)
        return reply

    async def stream(self, http: web.BaseRequest, model: str, version: int | None) -> Reply:
        """Run a request with any number of responses, each of which becomes an event."""
        async with self._using(model):
            return await self._stream(http, model, version)

    def _using(self, model: str) -> AbstractAsyncContextManager[None]:
        """Have a model that is loaded on demand loaded meanwhile."""
        on_demand = self._dataplane.on_demand
        return nullcontext() if on_demand is None else on_demand.using(model)

    async def _stream(self, http: web.BaseRequest, model: str, version: int | None) -> Reply:
        responses = await self._submit(http, model, version)
        try:
            response = await responses.next()
            reply = ChunkedReply(_status(response), _EVENTS + self._load_report(http))
            try:
                await reply.prepare(http)
                while response is not None:
                    await reply.write(b"data: %b\n\n" % await _document(response))
                    await asyncio.sleep(0)  # others' turn
                    response = await responses.next()
            except BaseException:
                reply.abort()  # the status is sent, nothing but the missing end can tell
                raise
        finally:
            responses.close()
        return reply

    def _load_report(self, http: web.BaseRequest) -> bytes:
        """The header line for a client that wants to know how loaded its language model is."""
        form = http.headers.get(ASKED_BY)
        return b"" if form is None else header_line(form, self._metrics)

    async def _submit(self, http: web.BaseRequest, model: str, version: int | None) -> _Responses:
        request = await self._receive(http, model, version)
        self._place(request)
        responses = _Responses()
        traces = self._dataplane.traces
        if traces.on:
            request.trace = traces.begin(model, http.headers.get("traceparent", ""))
            if request.trace is not None:
                request.trace.stamp("HTTP_RECV_END")
                responses.trace = request.trace
        responses.handle = self._dataplane.stream(request, responses.put)
        return responses

    async def _receive(
        self, http: web.BaseRequest, model: str, version: int | None
    ) -> InferRequest:
        config = self._dataplane.config(model, version)
        if http.headers.get("Content-Encoding", "identity") not in ("", "identity"):
            raise InvalidArgumentError(
                "Unsupported content-encoding, only 'identity' is supported."
            )
        body = await read_all(http, self._limit)
        if len(body) <= THREAD_LIMIT_BYTES:
            return decode_request(body, config, model, version, self._limit)
        return await asyncio.get_running_loop().run_in_executor(
            None, decode_request, body, config, model, version, self._limit
        )

    def _place(self, request: InferRequest) -> None:
        """Copy tensors that are too large for a message into a lease."""
        large = [tensor for tensor in request.inputs if tensor.byte_size > INLINE_LIMIT_BYTES]
        if not large:
            return
        size = sum(_aligned(tensor.byte_size) for tensor in large)
        self._dataplane.route(request)
        lease = self._dataplane.lease(request.model, request.version, size)
        offset = 0
        try:
            for tensor in large:
                length = tensor.byte_size
                lease.write(offset, cast("memoryview", tensor.data))
                tensor.data = lease.span(offset, length)
                offset += _aligned(length)
        except BaseException:  # the data plane never sees the request
            lease.release()
            raise
        request.leases.append(lease)


class _Responses:
    """The responses to one request, from where they arrive to where they are written."""

    def __init__(self) -> None:
        #: What cancels the request; None before it was handed over.
        self.handle: Stream | None = None
        #: Ends when nobody waits for responses any more; None if the request is not traced.
        self.trace: RequestTrace | None = None
        self._waiting: deque[InferResponse] = deque()
        self._size = 0
        self._arrived = asyncio.Event()
        self._ended = False
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "ended" if self._ended else "open"
        return f"<_Responses {state}, {len(self._waiting)} waiting in {self._size} bytes>"

    def put(self, response: InferResponse) -> None:
        """Called by the data plane for each response, until one is final."""
        if response.final:
            self._ended = True
        if not self._closed:
            if response.outputs or response.error is not None or not response.final:
                self._append(response)
            self._arrived.set()

    async def next(self) -> InferResponse | None:
        """The next response; None when there are no more."""
        while not self._waiting:
            if self._ended or self._closed:
                return None
            self._arrived.clear()
            await self._arrived.wait()
        response = self._waiting.popleft()
        self._size -= size_of(response)
        return response

    def close(self) -> None:
        """Take no more responses, and cancel the request unless it is answered."""
        self._closed = True
        if not self._ended and self.handle is not None:
            self.handle.cancel()
        if self.trace is not None:
            self.trace.stamp("HTTP_SEND_END")
            self.trace.end()

    def _append(self, response: InferResponse) -> None:
        size = size_of(response)
        if self._waiting and self._size + size > MOST_WAITING_BYTES:
            self._waiting.clear()
            replace_by_refusal(response)
            self._size = size_of(response)
            self._waiting.append(response)
            self.close()
            return
        self._waiting.append(response)
        self._size += size


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _status(first: InferResponse | None) -> int:
    """As in Triton any error is 400 here, and only the first response decides."""
    return 400 if first is not None and first.error is not None else 200


async def _document(response: InferResponse) -> bytes:
    """A response or its error as JSON."""
    if response.error is not None:
        return error_body(response.error.message)
    try:
        if size_of(response) <= THREAD_LIMIT_BYTES:
            return encode_response(response)
        return await asyncio.get_running_loop().run_in_executor(None, encode_response, response)
    except StatusError as error:
        return error_body(error.message)
