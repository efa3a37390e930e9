"""One inference over HTTP: headers and body become a request, the response headers and body."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from aiohttp import web

from ...ipc.errors import InvalidArgumentError, StatusError, UnsupportedError
from ...ipc.tensor import INLINE_LIMIT_BYTES
from ..forwarding import HeaderForwarding
from ..request import InferResponse, RequestTrace
from . import placing
from .binary_codec import HEADER_LENGTH, header_length
from .body import BodyStream, invite, read_all
from .compression import (
    THREAD_LIMIT_BYTES,
    UnsupportedEncodingError,
    accepted_encoding,
    check_encoding,
    compress,
    decompress,
)
from .json_codec import (
    OutputForms,
    ParsedRequest,
    decode_request,
    document_too_large,
    encode_response,
)
from .reply import JSON, TEXT, Reply, error_reply

if TYPE_CHECKING:
    from ..config.schema import ModelConfig
    from ..dataplane import DataPlane

_ACCEPTED = b"Accept-Encoding: gzip, deflate\r\n"
_BINARY = b"Content-Type: application/octet-stream\r\nInference-Header-Content-Length: %d\r\n"


class _Received(msgspec.Struct):
    """A body: its document, and the `size` bytes behind it, already here or still to come."""

    document: bytes | memoryview
    rest: memoryview | BodyStream
    size: int


class InferEndpoint:
    """Answers `POST …/infer`."""

    def __init__(
        self,
        dataplane: DataPlane,
        max_input_size: int,
        forwarding: HeaderForwarding | None = None,
    ) -> None:
        self._dataplane = dataplane
        self._limit = max_input_size
        self._forwarding = forwarding

    async def __call__(self, http: web.BaseRequest, model: str, version: int | None) -> Reply:
        """Run one inference. Errors before the document is read are plain text, as in Triton."""
        traces = self._dataplane.traces
        if traces.on:
            trace = traces.begin(model, http.headers.get("traceparent", ""))
            if trace is not None:
                return await self._traced(http, model, version, trace)
        return await self._answer(http, model, version, None)

    async def _answer(
        self,
        http: web.BaseRequest,
        model: str,
        version: int | None,
        trace: RequestTrace | None,
    ) -> Reply:
        on_demand = self._dataplane.on_demand
        if on_demand is None:
            return await self._answer_by(http, model, version, trace)
        try:
            use = await on_demand.use(model)
        except StatusError as error:
            return error_reply(error, TEXT)
        try:
            return await self._answer_by(http, model, version, trace)
        finally:
            use.release()

    async def _traced(
        self, http: web.BaseRequest, model: str, version: int | None, trace: RequestTrace
    ) -> Reply:
        trace.stamp("HTTP_RECV_START")
        try:
            reply = await self._answer(http, model, version, trace)
        except BaseException:  # there is no reply that would end it
            trace.end()
            raise
        reply.trace = trace
        return reply

    async def _answer_by(
        self,
        http: web.BaseRequest,
        model: str,
        version: int | None,
        trace: RequestTrace | None,
    ) -> Reply:
        try:
            config = self._admit(model, version)
            received = await self._receive(http)
        except UnsupportedEncodingError as error:
            return error_reply(error, TEXT + _ACCEPTED)
        except StatusError as error:
            return error_reply(error, TEXT)
        try:
            return await self._run(http, config, received, model, version, trace)
        except StatusError as error:
            return infer_error(error)

    async def _run(
        self,
        http: web.BaseRequest,
        config: ModelConfig,
        received: _Received,
        model: str,
        version: int | None,
        trace: RequestTrace | None,
    ) -> Reply:
        if len(received.document):
            parsed = await self._parse(received.document, model, version)
        else:
            parsed = self._deduce(received, config, model, version)
        if self._forwarding is not None:
            # aiohttp writes the names in http.headers its own way.
            headers = ((name.decode(), value) for name, value in http.raw_headers)
            parsed.request.parameters.update(self._forwarding.collect(headers))
        try:
            await self._place(parsed, received)
        except BaseException:  # the data plane never saw the request, so its leases are ours
            for lease in parsed.request.leases:
                lease.release()
            raise
        if trace is not None:
            trace.stamp("HTTP_RECV_END")
            parsed.request.trace = trace
        response = await self._dataplane.infer(parsed.request)
        try:
            return await _reply(http, response, parsed.forms)
        except StatusError as error:
            error.after_dispatch = True
            raise

    def _admit(self, model: str, version: int | None) -> ModelConfig:
        config = self._dataplane.config(model, version)
        if config.decoupled:
            raise UnsupportedError(
                "HTTP end point doesn't support models with decoupled transaction policy"
            )
        return config

    async def _receive(self, http: web.BaseRequest) -> _Received:
        headers = http.headers
        text = headers.get(HEADER_LENGTH)
        length = http.content_length
        if check_encoding(headers.get("Content-Encoding", "")):
            body = await decompress(await read_all(http, self._limit), self._limit)
        elif length is None:  # chunked: its size shows when it is here
            body = await read_all(http, self._limit)
        else:
            cut = length if text is None else header_length(text, length)
            self._check_limit(cut, length)
            if length - cut > INLINE_LIMIT_BYTES and not http.content.is_eof():
                invite(http)
                stream = BodyStream(http.content)
                return _Received(await stream.read(cut), stream, length - cut)
            body = await read_all(http, length)
            if cut == length:
                return _Received(body, memoryview(b""), 0)
            view = memoryview(body)
            return _Received(view[:cut], view[cut:], length - cut)
        length = len(body)
        cut = length if text is None else header_length(text, length)
        view = memoryview(body)
        return _Received(view[:cut], view[cut:], length - cut)

    def _check_limit(self, document: int, body: int) -> None:
        if document > self._limit:
            raise document_too_large(document, self._limit)
        if document == 0 and body > self._limit:
            raise InvalidArgumentError(
                f"Raw input has a byte_size ({body} bytes) that exceeds the maximum allowed value "
                f"of {self._limit} bytes. Use --http-max-input-size to increase the limit."
            )

    async def _parse(
        self, document: bytes | memoryview, model: str, version: int | None
    ) -> ParsedRequest:
        if len(document) <= THREAD_LIMIT_BYTES:
            return decode_request(document, model, version, self._limit)
        return await asyncio.get_running_loop().run_in_executor(
            None, decode_request, document, model, version, self._limit
        )

    def _deduce(
        self, received: _Received, config: ModelConfig, model: str, version: int | None
    ) -> ParsedRequest:
        parsed, prefix = placing.deduce(config, model, version, received.size)
        if prefix:
            received.size += len(prefix)
            if isinstance(received.rest, BodyStream):
                received.rest.prepend(prefix)
            else:
                received.rest = memoryview(prefix + received.rest)
        return parsed

    async def _place(self, parsed: ParsedRequest, received: _Received) -> None:
        """Bring every input's bytes to where the worker finds them: large ones into a lease."""
        placing.use_regions(self._dataplane, parsed)
        rest = received.rest
        if placing.is_large(parsed, received.size, self._limit):
            stream = rest if isinstance(rest, BodyStream) else BodyStream(None, rest)
            await placing.stream_into_lease(self._dataplane, parsed, stream)
            return
        if isinstance(rest, BodyStream):  # many small tensors
            rest = memoryview(await rest.read(received.size))
        placing.place_inline(parsed, rest)


def infer_error(error: StatusError) -> Reply:
    """The answer to an inference that failed once its document was being read."""
    return error_reply(error, TEXT if error.after_dispatch else JSON)


async def _reply(http: web.BaseRequest, response: InferResponse, forms: OutputForms) -> Reply:
    if is_large_document(response, forms):
        document, buffers = await asyncio.get_running_loop().run_in_executor(
            None, encode_response, response, forms
        )
    else:
        document, buffers = encode_response(response, forms)
    accepted = http.headers.get("Accept-Encoding")
    if accepted is not None:
        encoding = accepted_encoding(accepted)
        if encoding != "identity":
            body = await compress([document, *buffers], encoding)
            headers = content_headers(document, buffers)
            return Reply(200, body, headers + b"Content-Encoding: %b\r\n" % encoding.encode())
    return Reply(200, document, content_headers(document, buffers), buffers)


def content_headers(document: bytes, buffers: list[memoryview]) -> bytes:
    """The lines that say what the body of an answer is."""
    return _BINARY % len(document) if buffers else JSON


def is_large_document(response: InferResponse, forms: OutputForms) -> bool:
    """Whether writing the document would take long enough to be a thread's work."""
    size = 0
    for tensor in response.outputs:
        if not forms.is_binary(tensor.name):
            size += placing.size_here(tensor)
    return size > THREAD_LIMIT_BYTES
