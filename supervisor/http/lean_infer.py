"""Inferences of the lean path: from a head and a body to the data plane, and from its response to
the answer. The rules and the answers are those of infer.py, which the two share where they can.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ...ipc.errors import InternalError, StatusError
from ..access import Access, Peer
from ..forwarding import HeaderForwarding
from ..request import InferResponse
from . import placing
from .documents import Documents
from .filling import Filling, Part
from .head import Head, Inference, parse
from .infer import content_headers, infer_error, is_large_document
from .json_codec import OutputForms, ParsedRequest, encode_response
from .reply import TEXT, Reply, error_reply

if TYPE_CHECKING:
    from ..dataplane import DataPlane, Stream
    from .app import App

_logger = logging.getLogger(__name__)

#: A client sends the same head again and again: so many of them are understood only once.
_MOST_HEADS = 512


class Asker(Protocol):
    """The connection that an inference came on."""

    def answered(self, reply: Reply) -> None:
        """Its answer is here."""
        ...


class Arrival(NamedTuple):
    """An inference whose body is still coming, and where that goes.

    What it is, is known when its document is here; None where that is the whole body, and fills
    `document`.
    """

    inference: Inference
    parsed: ParsedRequest | None
    filling: Filling
    document: memoryview = memoryview(b"")


class Reading:
    """A large document that is being read; as a stream, it can be cancelled."""

    def __init__(self) -> None:
        #: What has become of it.
        self.stream: Stream | None = None
        self.is_cancelled = False

    def cancel(self) -> None:
        """The client has gone."""
        self.is_cancelled = True
        if self.stream is not None:
            self.stream.cancel()


class LeanInfer:
    """What all lean connections of a server share."""

    def __init__(
        self,
        app: App,
        dataplane: DataPlane,
        access: Access,
        max_input_size: int,
        forwarding: HeaderForwarding | None = None,
    ) -> None:
        self._app = app
        self._dataplane = dataplane
        self._access = access
        self._limit = max_input_size
        self._forwarding = forwarding
        self._heads: dict[bytes, Head] = {}
        self._documents = Documents(max_input_size)

    @property
    def is_draining(self) -> bool:
        """Whether each connection ends with its next answer."""
        return self._app.is_draining

    def head(self, data: bytes) -> Head | None:
        """What a head says; None for one that is not of the plain ones."""
        found = self._heads.get(data)
        if found is not None:
            return found
        read = parse(data)
        if read is not None and read.inference is not None:
            if len(self._heads) >= _MOST_HEADS:
                self._heads.clear()
            self._heads[data] = read
        return read

    def takes(self, inference: Inference, length: int, address: str) -> bool:
        """Whether the inference, whose body has this length, is for the lean path: nothing is to be
        said against it yet, and nobody follows it or waits for its model.
        """
        if (inference.document or length) > self._limit:
            return False
        if self._dataplane.traces.on:
            return False
        on_demand = self._dataplane.on_demand
        if on_demand is not None and on_demand.concerns(inference.model):
            return False
        try:
            config = self._dataplane.config(inference.model, inference.version)
        except StatusError:
            return False
        if config.decoupled:
            return False
        if not self._access.guards_everything:
            return True
        headers = tuple(
            (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
            for name, value in inference.headers
        )
        return self._access.decide("inference", False, Peer(address, headers)) is None

    def run(self, inference: Inference, body: memoryview, connection: Asker) -> Stream | Reply:
        """Hand an inference to the data plane, and its response to the connection as a reply,
        later; a request that is wrong is answered at once.
        """
        self._app.begin()
        try:
            parsed = self._parse(inference, body)
        except StatusError as error:
            self._app.end()
            return infer_error(error)
        except Exception:  # this request alone fails, and only the log has the traceback
            self._app.end()
            return _failed(inference.model)
        return self._ask(inference, parsed, connection)

    def admit(self, inference: Inference, document: memoryview, behind: int) -> Arrival | Reply:
        """Find places for the tensors of an inference whose `behind` bytes after its document are
        still to come; it is to be dispatched or dropped. One that is wrong, or for which there is
        no room, is answered at once. Where the document is the whole body, it is behind itself.
        """
        self._app.begin()
        try:
            if inference.document is None:
                memory = memoryview(bytearray(behind))
                filling = Filling([Part(None, 0, behind)], memory, tensors=False)
                return Arrival(inference, None, filling, memory)
            parsed, prefix = self._read(inference, document, behind)
            try:
                placing.use_regions(self._dataplane, parsed)
                filling = placing.lay_out(
                    self._dataplane, parsed, behind + len(prefix), self._limit
                )
                filling.take(prefix)
            except BaseException:  # the data plane never saw the request
                _release(parsed)
                raise
        except StatusError as error:
            self._app.end()
            return infer_error(error)
        except Exception:  # this request alone fails, and only the log has the traceback
            self._app.end()
            return _failed(inference.model)
        return Arrival(inference, parsed, filling)

    def dispatch(self, arrival: Arrival, connection: Asker) -> Stream | Reading | Reply:
        """Go on as `run` does with an inference whose body has come."""
        if arrival.parsed is None:
            return self._read_aside(arrival, connection)
        return self._ask(arrival.inference, arrival.parsed, connection)

    def drop(self, arrival: Arrival) -> None:
        """Forget an inference whose body will not come."""
        if arrival.parsed is not None:
            _release(arrival.parsed)
        self._app.end()

    def _read_aside(self, arrival: Arrival, connection: Asker) -> Reading:
        """Read a large document on a thread, then go on with the inference as `run` does."""
        inference = arrival.inference
        reading = Reading()

        def read() -> ParsedRequest:
            return self._read(inference, arrival.document, 0)[0]

        def done(found: asyncio.Future[ParsedRequest]) -> None:
            if reading.is_cancelled or found.cancelled():
                self._app.end()
                return
            try:
                parsed = found.result()
                self._place(parsed, arrival.document[:0])
            except StatusError as error:
                self._done(connection, infer_error(error))
            except Exception:  # this request alone fails, and only the log has the traceback
                self._done(connection, _failed(inference.model))
            else:
                outcome = self._ask(inference, parsed, connection)
                if isinstance(outcome, Reply):
                    connection.answered(outcome)
                else:
                    reading.stream = outcome

        asyncio.get_running_loop().run_in_executor(None, read).add_done_callback(done)
        return reading

    def _ask(
        self, inference: Inference, parsed: ParsedRequest, connection: Asker
    ) -> Stream | Reply:
        try:
            answered = partial(self._answered, connection, parsed.forms)
            return self._dataplane.ask(parsed.request, answered)
        except StatusError as error:
            self._app.end()
            return infer_error(error)
        except Exception:  # this request alone fails, and only the log has the traceback
            self._app.end()
            return _failed(inference.model)

    def _parse(self, inference: Inference, view: memoryview) -> ParsedRequest:
        """The request, with its bytes in their places. Raises StatusError."""
        cut = len(view) if inference.document is None else inference.document
        rest = view[cut:]
        parsed, prefix = self._read(inference, view[:cut], len(rest))
        if prefix:
            rest = memoryview(prefix + rest)
        self._place(parsed, rest)
        return parsed

    def _place(self, parsed: ParsedRequest, rest: memoryview) -> None:
        """Bring the bytes behind the document, which are all here, to their places."""
        try:
            placing.use_regions(self._dataplane, parsed)
            if placing.is_large(parsed, len(rest), self._limit):
                placing.place_in_lease(self._dataplane, parsed, rest)
            else:
                placing.place_inline(parsed, rest)
        except BaseException:  # the data plane never saw the request
            _release(parsed)
            raise

    def _read(
        self, inference: Inference, document: memoryview, behind: int
    ) -> tuple[ParsedRequest, bytes]:
        """The request that a document describes, and what belongs before the bytes behind it.

        Raises StatusError.
        """
        model, version, prefix = inference.model, inference.version, b""
        if len(document):
            parsed = self._documents.read(document, model, version)
        else:
            config = self._dataplane.config(model, version)
            parsed, prefix = placing.deduce(config, model, version, behind)
        if self._forwarding is not None:
            headers = ((name.decode(), value) for name, value in inference.headers)
            parsed.request.parameters.update(self._forwarding.collect(headers))
        return parsed, prefix

    def _answered(self, connection: Asker, forms: OutputForms, response: InferResponse) -> None:
        """The response is here: write it, on a thread where that takes long."""
        if response.error is None and is_large_document(response, forms):
            loop = asyncio.get_running_loop()
            written = loop.run_in_executor(None, _reply, response, forms)
            written.add_done_callback(lambda done: self._done(connection, done.result()))
        else:
            self._done(connection, _reply(response, forms))

    def _done(self, connection: Asker, reply: Reply) -> None:
        self._app.end()
        connection.answered(reply)


def _release(parsed: ParsedRequest) -> None:
    for lease in parsed.request.leases:
        lease.release()


def _reply(response: InferResponse, forms: OutputForms) -> Reply:
    """The answer that a response makes. Raises nothing."""
    if response.error is not None:
        return infer_error(response.error)
    try:
        document, buffers = encode_response(response, forms)
    except StatusError as error:
        error.after_dispatch = True
        return infer_error(error)
    except Exception:  # this request alone fails, and only the log has the traceback
        return _failed(response.model)
    return Reply(200, document, content_headers(document, buffers), buffers)


def _failed(model: str) -> Reply:
    _logger.exception("an inference of '%s' failed", model)
    return error_reply(InternalError("the server failed; its log says why"), TEXT)
