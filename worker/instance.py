"""One model instance: takes batches, has the backend run them, and answers.

    Execute ── inputs to arrays ── backend ── outputs to tensors ── Executed
            start            input_end   output_start            end

The two kinds of backend differ in the middle only. Requests that a RequestBackend left open (None)
answer later, from any thread, by Responded. Where it executes several batches at once, a batch is
`begun`, and answered when its execution is over.

Whatever goes wrong on the way becomes the answer of the requests that it concerns, and of no other.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from functools import partial
from typing import Any, cast

from ..ipc import messages
from ..ipc.channel import WorkerChannel
from ..ipc.errors import InternalError, InvalidArgumentError
from ..ipc.messages import Execute, Executed, Responded
from ..ipc.tensor import CudaRegion
from . import batch, execution
from .answers import FAILURES, Answers
from .backend import (
    Backend,
    Finish,
    Model,
    Request,
    RequestBackend,
    Response,
    TensorBackend,
)
from .cuda_regions import on_host
from .inbox import Inbox
from .memory import Memory
from .ongoing import Ongoing
from .reshape import from_graph_shape, to_graph_shape
from .sequences import Received, SequenceStates, filled, without_nulls


class Instance:
    """A loaded model and its way of answering requests."""

    def __init__(
        self, model: Model, backend: Backend, memory: Memory, inbox: Inbox, channel: WorkerChannel
    ) -> None:
        self._model = model
        self._backend = backend
        #: Which of the two kinds it is: asking an abstract class takes half a microsecond.
        self._runs_tensors = isinstance(backend, TensorBackend)
        self._memory = memory
        self._inbox = inbox
        self._channel = channel
        self._answers = Answers(model, memory, inbox)
        self._shapes = batch.GraphShapes(model.config)
        states = SequenceStates(model)
        self._states = states if states else None
        policy: dict[str, Any] = model.config.get("model_transaction_policy") or {}
        self._decoupled = bool(policy.get("decoupled", False))
        #: The configured output order, in which a TensorBackend's outputs are sent.
        self._output_order = [output["name"] for output in model.config.get("output", ())]
        #: How many batches have begun and are not answered.
        self.ongoing = 0

    def __repr__(self) -> str:
        return f"<Instance {self._model.instance.name} of {self._backend!r}: {self._inbox!r}>"

    def execute(self, message: Execute) -> Executed | None:
        """Run one batch; None when it goes on. Never raises: what fails is the requests' error.

        The result is to be sent at once: the memory of its outputs is the supervisor's already.
        """
        start = time.monotonic_ns()
        responses: list[messages.Response] = []
        rescheduled: list[int] = []
        received = self._read(message.requests, responses)
        backend = self._backend
        if not received:
            input_end = output_start = time.monotonic_ns()
        elif self._runs_tensors:
            assert isinstance(backend, TensorBackend)
            groups = [received] if self._states is None else self._states.alike(received)
            times = [self._run(backend, group, responses) for group in groups]
            input_end, output_start = times[0][0], times[-1][1]
            for request, _ in received:
                self._inbox.finish(request.key)
        else:
            backend = cast("RequestBackend", backend)
            requests = self._requests(received, responses)
            input_end = output_start = time.monotonic_ns()
            if requests and backend.concurrency > 1:
                ongoing = Ongoing(message.batch, start, input_end, received, requests, responses)
                return self._begin(backend, ongoing)
            if requests:
                joins = not self._decoupled
                token = execution.begin(requests[0].key, awaits=joins, joins=joins)
                results = self._results(requests, partial(backend.execute, requests))
                execution.end(token)
                output_start = time.monotonic_ns()
                self._take(received, requests, results, responses, rescheduled)
        return self._executed(message.batch, start, input_end, output_start, responses, rescheduled)

    def finish(self, ongoing: Ongoing) -> Executed:
        """Answer a batch that was begun, and is executed now; as `execute` does."""
        assert ongoing.finish is not None
        self.ongoing -= 1
        responses, requests = ongoing.responses, ongoing.requests
        rescheduled: list[int] = []
        results = self._results(requests, ongoing.finish)
        self._take(ongoing.received, requests, results, responses, rescheduled)
        return self._executed(
            ongoing.batch,
            ongoing.start_ns,
            ongoing.input_end_ns,
            ongoing.done_ns,
            responses,
            rescheduled,
        )

    def _executed(
        self,
        number: int,
        start: int,
        input_end: int,
        output_start: int,
        responses: list[messages.Response],
        rescheduled: list[int],
    ) -> Executed:
        for response in responses:
            self._memory.hand_over(response.outputs)
        end = time.monotonic_ns()
        return Executed(number, start, input_end, output_start, end, responses, rescheduled)

    def unload(self) -> None:
        """Let the model finalize itself."""
        self._backend.unload()

    def _read(
        self, requests: Sequence[messages.Request], responses: list[messages.Response]
    ) -> list[Received]:
        """The readable requests with their arrays; the others are answered by an error."""
        array, model = self._memory.array, self._model.name
        received: list[Received] = []
        has_nulls = False
        for request in requests:
            try:
                shared = request.shared
                inputs = {
                    tensor.name: array(tensor, model, request.id, shared=tensor.name in shared)
                    for tensor in request.inputs
                }
                if request.null:
                    has_nulls = True
                elif self._states is not None:
                    self._states.put_in(request, inputs)
            except FAILURES as error:
                self._inbox.finish(request.key)
                responses.append(self._answers.failure(request.key, error))
            else:
                received.append((request, inputs))
        return filled(received) if has_nulls else received

    # --- backends that run tensors ----------------------------------------------------------------

    def _run(
        self,
        backend: TensorBackend,
        received: Sequence[Received],
        responses: list[messages.Response],
    ) -> tuple[int, int]:
        """Run the requests as one batch; returns when its inputs and its outputs were there."""
        input_end = 0
        try:
            requests = [inputs for _, inputs in received]
            if self._memory.device_inputs:
                if len(requests) > 1 or self._shapes.ragged or self._states:
                    # Joined and cut apart, and states kept, they are on the host.
                    requests, backend.on_device = [on_host(each) for each in requests], ()
                else:
                    backend.on_device = on_device(received[0][0])
            gathered = batch.gather(requests, self._shapes)
            input_end = time.monotonic_ns()
            outputs = backend.run(gathered.arrays, self._wanted(received))
            output_start = time.monotonic_ns()
            scattered = batch.scatter(outputs, gathered.rows, self._shapes, requests)
        except FAILURES as error:
            if isinstance(error, InvalidArgumentError) and len(received) > 1:
                # The inputs of one of them are wrong, and only that one should hear of it.
                times = [self._run(backend, [each], responses) for each in without_nulls(received)]
                return times[0][0], times[-1][1]
            failure = self._answers.status_of(error)
            responses.extend(
                self._answers.failure(request.key, failure)
                for request, _ in without_nulls(received)
            )
            now = time.monotonic_ns()
            return input_end or now, now
        for (request, _), arrays in zip(received, scattered, strict=True):
            if request.null:
                continue
            try:
                if self._states is not None:
                    self._states.keep(request, arrays)
                responses.append(self._answers.answer(request, arrays, {}, True))
            except FAILURES as error:
                responses.append(self._answers.failure(request.key, error))
        return input_end, output_start

    def _wanted(self, received: Sequence[Received]) -> Sequence[str]:
        if len(received) == 1:
            outputs = received[0][0].outputs
        else:
            asked = {name for request, _ in received for name in request.outputs}
            outputs = [name for name in self._output_order if name in asked]
        return outputs if self._states is None else self._states.wanted(outputs)

    # --- backends that run requests ---------------------------------------------------------------

    def _begin(self, backend: RequestBackend, ongoing: Ongoing) -> Executed | None:
        """Have a batch executed beside others; None unless it cannot even begin."""

        def done() -> None:
            ongoing.done_ns = time.monotonic_ns()
            self._inbox.add(ongoing)

        self.ongoing += 1
        token = execution.begin(ongoing.requests[0].key, awaits=True, joins=False)
        try:
            ongoing.finish = backend.begin(ongoing.requests, done)
        except FAILURES as error:
            failure = Response(error=self._answers.status_of(error))
            ongoing.finish = lambda: [failure] * len(ongoing.requests)
            ongoing.done_ns = time.monotonic_ns()
            return self.finish(ongoing)
        finally:
            execution.end(token)
        return None

    def _results(self, requests: Sequence[Request], finish: Finish) -> Sequence[Response | None]:
        """The backend's answers, one to each request; its failure is the answer to all of them."""
        try:
            results = finish()
            if len(results) != len(requests):
                raise InternalError(
                    f"the backend of model '{self._model.name}' returned {len(results)} "
                    f"responses to {len(requests)} requests"
                )
        except FAILURES as error:
            return [Response(error=self._answers.status_of(error))] * len(requests)
        return results

    def _take(
        self,
        received: Sequence[Received],
        requests: Sequence[Request],
        results: Sequence[Response | None],
        responses: list[messages.Response],
        rescheduled: list[int],
    ) -> None:
        """Make of the backend's answers what is sent, or says who is to be executed again."""
        asked = {request.key: request for request, _ in received}
        for request, result in zip(requests, results, strict=True):
            if result is None and request.reschedule and self._inbox.finish(request.key):
                rescheduled.append(request.key)
            elif result is not None and self._inbox.finish(request.key):
                responses.append(self._response(asked[request.key], result, True))

    def _requests(
        self, received: Sequence[Received], responses: list[messages.Response]
    ) -> list[Request]:
        """The requests as the backend sees them, their inputs in the shapes that the model has."""
        shapes = self._shapes
        requests: list[Request] = []
        started_ns = time.monotonic_ns() if self._decoupled else 0
        for request, arrays in received:
            key = request.key
            try:
                inputs = to_graph_shape(arrays, shapes.inputs, shapes.batching)
            except FAILURES as error:
                self._inbox.finish(key)
                responses.append(self._answers.failure(key, error))
                continue
            requests.append(
                Request(
                    key,
                    request.id,
                    inputs,
                    self._outputs_of(request),
                    request.parameters,
                    request.correlation_id,
                    request.flags,
                    request.priority,
                    request.timeout_us,
                    partial(self.respond, request, started_ns),
                    partial(self._inbox.is_cancelled, key),
                    on_device=on_device(request) if request.places else (),
                    trace_context=request.trace_context,
                )
            )
        return requests

    def _outputs_of(self, request: messages.Request) -> list[str]:
        """What the backend is to compute: what the client wants, and the states."""
        if self._states is None:
            return request.outputs
        return list(self._states.wanted(request.outputs))

    def respond(
        self,
        asked: messages.Request,
        started_ns: int,
        response: Response | None,
        final: bool,
    ) -> None:
        """Send a response outside of execute's result, from any thread.

        What comes after the final response is dropped: a request is answered once. A response that
        cannot be sent leaves as an error.
        """
        key = asked.key
        if not (self._inbox.finish(key) if final else self._inbox.is_open(key)):
            return
        output_start_ns = time.monotonic_ns() if started_ns else 0
        if response is None:
            answer = messages.Response(key, [], final)
        else:
            answer = self._response(asked, response, final)
        self._memory.hand_over(answer.outputs)
        end_ns = time.monotonic_ns() if started_ns else 0
        self._channel.send(Responded(answer, started_ns, output_start_ns, end_ns))

    def _response(
        self, asked: messages.Request, response: Response, final: bool
    ) -> messages.Response:
        """What a RequestBackend answered, as it is sent; an error where it cannot be."""
        try:
            if response.error is not None:
                failure = self._answers.failure(asked.key, response.error, final)
                failure.deliberate = response.deliberate
                return failure
            outputs, shapes = response.outputs, self._shapes
            if self._states is not None:
                self._states.keep(asked, outputs)
            if shapes.outputs:
                outputs = {name: array for name, array in outputs.items() if name in asked.outputs}
                outputs = from_graph_shape(outputs, shapes.outputs, shapes.batching)
            return self._answers.answer(asked, outputs, response.parameters, final)
        except FAILURES as error:
            return self._answers.failure(asked.key, error, final)


def on_device(request: messages.Request) -> Collection[str]:
    """The outputs that the client wants in a GPU's memory."""
    return [name for name, place in request.places.items() if isinstance(place, CudaRegion)]
