"""One model instance: takes batches, has the backend run them, and answers.

    Execute ── inputs to arrays ── backend ── outputs to tensors ── Executed
            start            input_end   output_start            end

The two kinds of backend differ in the middle only. Requests that a RequestBackend left open (None)
answer later, from any thread, by Responded.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from functools import partial

from ..ipc.channel import WorkerChannel
from ..ipc.errors import InternalError, StatusError
from ..ipc import messages
from ..ipc.messages import Error, Execute, Executed, Responded
from . import batch
from .backend import Array, Backend, Model, Request, RequestBackend, Response, TensorBackend
from .inbox import Inbox
from .memory import Memory

log = logging.getLogger("tritonpy.worker")


class Instance:
    """A loaded model and the requests that it has not answered yet."""

    def __init__(
        self, model: Model, backend: Backend, memory: Memory, inbox: Inbox, channel: WorkerChannel
    ) -> None:
        self._model = model
        self._backend = backend
        self._memory = memory
        self._inbox = inbox
        self._channel = channel
        self._shapes = batch.GraphShapes(model.config)
        #: The configured output order, in which a TensorBackend's outputs are sent.
        self._output_order = [output["name"] for output in model.config.get("output", ())]
        #: Requests that a RequestBackend holds and that have had no final response.
        self._open: set[int] = set()

    def execute(self, message: Execute) -> Executed:
        """Run one batch. Never raises: what fails becomes the requests' error."""
        start = time.monotonic_ns()
        inputs, responses = self._read(message.requests)
        backend = self._backend
        if isinstance(backend, TensorBackend):
            return self._run(backend, message, inputs, responses, start)
        assert isinstance(backend, RequestBackend)
        return self._hand_over(backend, message, inputs, responses, start)

    def unload(self) -> None:
        """Let the model finalize itself."""
        self._backend.unload()

    # --- inputs -----------------------------------------------------------------------------------

    def _read(
        self, requests: Sequence[messages.Request]
    ) -> tuple[list[dict[str, Array] | None], list[messages.Response]]:
        """The arrays of each request; None, and an error among the responses, where unreadable."""
        array, model = self._memory.array, self._model.name
        inputs: list[dict[str, Array] | None] = []
        failed: list[messages.Response] = []
        for request in requests:
            try:
                inputs.append(
                    {tensor.name: array(tensor, model, request.id) for tensor in request.inputs}
                )
            except StatusError as error:
                inputs.append(None)
                failed.append(_failure(request.key, error))
        return inputs, failed

    # --- backends that run tensors ----------------------------------------------------------------

    def _run(
        self,
        backend: TensorBackend,
        message: Execute,
        inputs: list[dict[str, Array] | None],
        responses: list[messages.Response],
        start: int,
    ) -> Executed:
        requests = [r for r, read in zip(message.requests, inputs, strict=True) if read is not None]
        readable = [read for read in inputs if read is not None]
        input_end = output_start = time.monotonic_ns()
        if requests:
            try:
                gathered = batch.gather(readable, self._shapes)
                wanted = self._wanted(requests)
                input_end = time.monotonic_ns()
                outputs = backend.run(gathered.arrays, wanted)
                output_start = time.monotonic_ns()
                scattered = batch.scatter(outputs, gathered.rows, self._shapes)
                for request, arrays in zip(requests, scattered, strict=True):
                    responses.append(self._answer(request.key, arrays, request.outputs, {}, True))
            except Exception as error:  # whatever a framework raises is the batch's error
                answered = {response.key for response in responses}
                failure = self._failure_of(error)
                responses.extend(
                    _failure(request.key, failure)
                    for request in requests
                    if request.key not in answered
                )
                input_end = min(input_end, output_start)
        end = time.monotonic_ns()
        return Executed(
            message.batch, start, input_end, max(input_end, output_start), end, responses
        )

    def _wanted(self, requests: Sequence[messages.Request]) -> list[str]:
        if len(requests) == 1:
            return requests[0].outputs
        asked = {name for request in requests for name in request.outputs}
        return [name for name in self._output_order if name in asked]

    # --- backends that run requests ---------------------------------------------------------------

    def _hand_over(
        self,
        backend: RequestBackend,
        message: Execute,
        inputs: list[dict[str, Array] | None],
        responses: list[messages.Response],
        start: int,
    ) -> Executed:
        requests = [
            Request(
                request.key,
                request.id,
                arrays,
                request.outputs,
                request.parameters,
                request.correlation_id,
                request.flags,
                request.priority,
                request.timeout_us,
                partial(self.respond, request.key, request.outputs),
                partial(self._inbox.is_cancelled, request.key),
            )
            for request, arrays in zip(message.requests, inputs, strict=True)
            if arrays is not None
        ]
        self._open.update([request.key for request in requests])
        input_end = output_start = time.monotonic_ns()
        try:
            results = backend.execute(requests)
            output_start = time.monotonic_ns()
            if len(results) != len(requests):
                raise InternalError(
                    f"the backend of model '{self._model.name}' returned {len(results)} responses "
                    f"to {len(requests)} requests"
                )
            for request, result in zip(requests, results, strict=True):
                if result is not None and request.key in self._open:
                    responses.append(self._final(request.key, request.outputs, result))
        except Exception as error:  # a model's own code may raise anything
            failure = self._failure_of(error)
            for request in requests:
                if request.key in self._open:
                    self._close(request.key)
                    responses.append(_failure(request.key, failure))
        end = time.monotonic_ns()
        return Executed(message.batch, start, input_end, output_start, end, responses)

    def respond(self, key: int, wanted: list[str], response: Response | None, final: bool) -> None:
        """Send a response outside of execute's result, from any thread.

        What comes after the final response is dropped: a request is answered once.
        """
        if key not in self._open:
            return
        if response is None:
            answer = messages.Response(key, [], final)
        elif response.error is not None:
            answer = _failure(key, response.error, final)
        else:
            try:
                answer = self._answer(key, response.outputs, wanted, response.parameters, final)
            except StatusError as error:
                answer = _failure(key, error, final)
        if final:
            self._close(key)
        self._channel.send(Responded(answer))

    def _final(self, key: int, wanted: list[str], response: Response) -> messages.Response:
        """The one response that execute returned for a request."""
        try:
            if response.error is not None:
                return _failure(key, response.error)
            return self._answer(key, response.outputs, wanted, response.parameters, True)
        except StatusError as error:
            return _failure(key, error)
        finally:
            self._close(key)

    def _close(self, key: int) -> None:
        self._open.discard(key)
        self._inbox.forget(key)

    # --- outputs ----------------------------------------------------------------------------------

    def _answer(
        self,
        key: int,
        arrays: dict[str, Array],
        wanted: list[str],
        parameters: dict[str, messages.Parameter],
        final: bool,
    ) -> messages.Response:
        place, wait_for = self._memory.place, self._inbox.wait_for
        tensors = [place(name, array, wait_for) for name, array in arrays.items() if name in wanted]
        return messages.Response(key, tensors, final, None, parameters)

    def _failure_of(self, error: Exception) -> StatusError:
        """What the clients are told; what only the operator should see goes to the log."""
        if isinstance(error, StatusError):
            return error
        log.error(
            "executing model '%s' version %d failed",
            self._model.name,
            self._model.version,
            exc_info=error,
        )
        return InternalError(
            f"model '{self._model.name}' version {self._model.version} failed: "
            f"{type(error).__name__}: {error}"
        )


def _failure(key: int, error: StatusError, final: bool = True) -> messages.Response:
    return messages.Response(key, [], final, Error(error.code, error.message))
