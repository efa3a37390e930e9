"""Runs the steps of an ensemble: the shell around ensemble_flow.py.

A step is a request like any other, made to whatever version serves the step's model. Its inputs
are not copied: they are lent to it where they lie. What a step answers goes on into the flow, until
the ensemble's own request is answered; with the first error everything else is cancelled.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Protocol

from ...ipc.errors import CancelledError, StatusError, UnavailableError, from_code
from ...ipc.messages import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, Parameter
from ...ipc.tensor import Data, Tensor
from ..request import (
    FailureReason,
    Hold,
    InferRequest,
    InferResponse,
    RequestedOutput,
    RequestTrace,
)
from .ensemble_flow import Answer, Flow, Run
from .ensemble_graph import Graph, Step, fitted
from .scheduler import Work
from .step_times import StepTimes


class Callee(Protocol):
    """A served version that a step runs on."""

    @property
    def keeps_answers(self) -> bool:
        """Whether it reads its outputs itself after it has handed them on."""
        ...

    def submit(self, request: InferRequest, respond: Callable[[InferResponse], None]) -> Work:
        """Accept a request. Raises StatusError, and then has taken care of its leases."""
        ...

    def cancel(self, work: Work) -> None:
        """Nobody wants the answer any more; it comes nevertheless."""
        ...

    def reserve(self) -> Hold:
        """Keep the version serving until this is released."""
        ...


#: The version that serves a model now; None is the latest, and the last argument the namespace
#: where it is looked for first. Raises the look-up errors.
Find = Callable[[str, int | None, str], Callee]

#: The data of a tensor, for a reader who is to hold what it needs for them (memory/lending.py).
Lend = Callable[[Data, InferRequest, InferRequest], Data]

#: Told of every request that succeeded: its rows, its time before the first step (ns), and the sums
#: of the steps' computing.
Count = Callable[[int, int, StepTimes], None]


class Passed:
    """A tensor on its way, and the sequence that it belongs to.

    It is `kept` where somebody outside of the ensemble reads it too.
    """

    __slots__ = ("correlation_id", "flags", "kept", "tensor")

    def __init__(
        self, tensor: Tensor, correlation_id: int | str, flags: int, *, kept: bool
    ) -> None:
        self.tensor = tensor
        self.correlation_id = correlation_id
        self.flags = flags
        self.kept = kept


class EnsembleScheduler:
    """All requests that are inside one ensemble.

    `ranks` are the dimensions of the ensemble's outputs, with that of the batch where it `batches`.
    """

    def __init__(
        self,
        name: str,
        version: int,
        graph: Graph,
        find: Find,
        lend: Lend,
        count: Count,
        *,
        ranks: Mapping[str, int],
        batches: bool,
        max_inflight: int = 0,
    ) -> None:
        self.name = name
        self.version = version
        self.graph = graph
        self.find = find
        self.lend = lend
        self.count = count
        self.ranks = ranks
        self.batches = batches
        self.max_inflight = max_inflight
        self._inside: dict[int, _Job] = {}

    def __repr__(self) -> str:
        return f"<EnsembleScheduler of '{self.name}' {self.version}: {len(self._inside)} inside>"

    @property
    def queued(self) -> int:
        """How many requests are inside."""
        return len(self._inside)

    def callees(self, request: InferRequest) -> list[Callee]:
        """The versions that would have to run for a request; none that cannot be found."""
        wanted = [output.name for output in request.outputs] or list(self.ranks)
        found: list[Callee] = []
        for index in self.graph.plan(wanted).needs:
            step = self.graph.steps[index]
            with contextlib.suppress(StatusError):  # the request will be told
                found.append(self.find(step.model, step.version, step.home))
        return found

    def enqueue(self, work: Work) -> None:
        """Begin with a request; its answers never come before this has returned."""
        job = self._inside[work.key] = _Job(self, work)
        job.begin()

    def cancel(self, work: Work) -> bool:
        """Answer a request CANCELLED, and cancel its steps."""
        job = self._inside.get(work.key)
        if job is not None:
            prefix = work.request.log_prefix
            job.fail(CancelledError(f"{prefix}Request cancelled"), "CANCELED")
        return True

    def fail_queued(self, reason: str) -> None:
        """Answer everything that is inside with UNAVAILABLE and this reason."""
        for job in list(self._inside.values()):
            prefix = job.work.request.log_prefix
            job.fail(UnavailableError(prefix + reason), "REJECTED")

    def close(self) -> None:
        """There are no timers."""

    def leave(self, work: Work) -> None:
        """Called by a job: its request has its final answer."""
        del self._inside[work.key]


class _Job:
    """One request inside an ensemble."""

    def __init__(self, ensemble: EnsembleScheduler, work: Work) -> None:
        self._ensemble = ensemble
        self.work = work
        plan = ensemble.graph.plan(work.request.wanted)
        self._plan = plan
        self._flow: Flow[Passed] = Flow(ensemble.graph, plan, ensemble.max_inflight)
        self._callees: dict[int, Callee] = {}
        #: Keeps the versions of the steps until all of them have answered.
        self._reservations: list[Hold] = []
        self._running: dict[Run[Passed], tuple[Callee, Work]] = {}
        self._times = StepTimes()
        self._queue_ns = 0
        self._entering = True
        self._is_over = False

    def begin(self) -> None:
        """Find the models of the steps, and run the first ones."""
        request, ensemble = self.work.request, self._ensemble
        if request.times is not None:  # we are a step ourselves
            request.times.began()
        try:
            for index in self._plan.needs:
                step = ensemble.graph.steps[index]
                callee = ensemble.find(step.model, step.version, step.home)
                self._callees[index] = callee
                self._reservations.append(callee.reserve())
        except StatusError as error:
            self._fail_in_step(error)
        else:
            self._queue_ns = time.monotonic_ns() - self.work.enqueued_ns
            identity, flags, shared = request.correlation_id, request.flags, request.shared
            given = {
                tensor.name: Passed(tensor, identity, flags, kept=tensor.name in shared)
                for tensor in request.inputs
            }
            self._perform(self._flow.begin(given))
        self._entering = False
        self._release_when_quiet()

    def fail(self, error: StatusError, reason: FailureReason = "OTHER") -> None:
        """Answer with an error, unless everything is answered, and cancel what runs."""
        if self._is_over:
            return
        ensemble, request = self._ensemble, self.work.request
        self._deliver(
            InferResponse(ensemble.name, ensemble.version, request.id, error=error), reason
        )
        for callee, work in list(self._running.values()):
            callee.cancel(work)

    def _perform(self, todo: list[Run[Passed] | Answer[Passed]]) -> None:
        for each in todo:
            if self._is_over:
                return
            if isinstance(each, Run):
                self._run(each)
            else:
                self._answer(each)

    # --- steps ------------------------------------------------------------------------------------

    def _run(self, run: Run[Passed]) -> None:
        step = self._ensemble.graph.steps[run.step]
        callee = self._callees[run.step]
        request = self._request(step, run.inputs)
        try:
            work = callee.submit(request, partial(self._take, run, request))
        except StatusError as error:
            _end_trace(request.trace)
            self._fail_in_step(error)
        else:
            self._running[run] = callee, work

    def _request(self, step: Step, inputs: Mapping[str, Passed]) -> InferRequest:
        source = self.work.request
        correlation_id, flags = _sequence(inputs, source)
        request = InferRequest(
            step.model,
            step.version,
            [],
            self._outputs(step),
            source.id,
            dict(source.parameters),
            correlation_id,
            flags,
            source.priority,
            source.timeout_us,
        )
        if source.trace is not None:
            request.trace = source.trace.child()
        request.call = source.call
        request.times = self._times
        uses = self._plan.uses
        for name, passed in inputs.items():
            tensor = passed.tensor
            data = self._ensemble.lend(tensor.data, source, request)
            shape = fitted(tensor.shape, step.ranks.get(name, len(tensor.shape)), step.batches)
            request.inputs.append(Tensor(name, tensor.datatype, shape, data))
            if passed.kept or uses[step.inputs[name]] > 1:
                request.shared.append(name)
        self._use_regions(request)
        return request

    def _outputs(self, step: Step) -> list[RequestedOutput]:
        """The outputs that are needed; those that the client wants in a region go there at once."""
        places = {output.name: output.place for output in self.work.request.outputs}
        return [
            RequestedOutput(name, place=places.get(step.outputs[name]))
            for name in self._plan.outputs(step)
        ]

    def _use_regions(self, request: InferRequest) -> None:
        source = self.work.request
        for output in request.outputs:
            if output.place is not None:
                self._ensemble.lend(output.place, source, request)

    def _take(self, run: Run[Passed], request: InferRequest, response: InferResponse) -> None:
        """A step has answered, maybe not for the last time."""
        if response.final:
            del self._running[run]
            _end_trace(request.trace)
        if self._is_over:
            self._release_when_quiet()
            return
        if response.error is not None:
            self._fail_in_step(response.error)
        else:
            sequence = _overridden(request, response.parameters)
            kept = response.kept or self._callees[run.step].keeps_answers
            outputs = {
                tensor.name: Passed(tensor, *sequence, kept=kept) for tensor in response.outputs
            }
            self._perform(self._flow.responded(run, outputs, response.final))
        self._release_when_quiet()

    def _fail_in_step(self, error: StatusError) -> None:
        name = self._ensemble.name
        self.fail(from_code(error.code, f"in ensemble '{name}', {error.message}"))

    # --- answers ----------------------------------------------------------------------------------

    def _answer(self, answer: Answer[Passed]) -> None:
        ensemble, request = self._ensemble, self.work.request
        response = InferResponse(ensemble.name, ensemble.version, request.id, final=answer.final)
        for name, passed in answer.outputs.items():
            tensor = passed.tensor
            shape = fitted(tensor.shape, ensemble.ranks[name], ensemble.batches)
            response.outputs.append(Tensor(name, tensor.datatype, shape, tensor.data))
            response.parameters = _as_parameters(passed)
            if passed.kept or self._plan.uses[name] > 1:
                response.kept = True
        self._deliver(response, None)

    def _deliver(self, response: InferResponse, reason: FailureReason | None) -> None:
        if response.final:
            self._is_over = True
        if self._entering:  # whoever asks does not expect the answer yet
            asyncio.get_running_loop().call_soon(self._send, response, reason)
        else:
            self._send(response, reason)

    def _send(self, response: InferResponse, reason: FailureReason | None) -> None:
        if response.final:
            self._ensemble.leave(self.work)
            if response.error is None:
                self._times.whenever_complete(self._count)
            elif self.work.request.times is not None:
                self.work.request.times.ended()
        self.work.answer(response, reason)

    def _count(self) -> None:
        request, times = self.work.request, self._times
        self._ensemble.count(request.batch_size, self._queue_ns, times)
        if request.times is not None:
            request.times.ended(times.input_ns, times.infer_ns, times.output_ns)

    def _release_when_quiet(self) -> None:
        if self._is_over and not self._running:
            while self._reservations:
                self._reservations.pop().release()


def _sequence(inputs: Mapping[str, Passed], source: InferRequest) -> tuple[int | str, int]:
    """The sequence of a step: what a step before it said, or else the request's."""
    found = source.correlation_id, source.flags
    for passed in inputs.values():
        if (passed.correlation_id, passed.flags) != (source.correlation_id, source.flags):
            found = passed.correlation_id, passed.flags
    return found


def _overridden(
    request: InferRequest, parameters: Mapping[str, Parameter]
) -> tuple[int | str, int]:
    """The sequence of what follows a step, which may say so in its response."""
    identity, flags = request.correlation_id, request.flags
    if parameters:
        given = parameters.get("sequence_id", identity)
        if isinstance(given, int | str):
            identity = given
        for name, flag in _SEQUENCE_FLAGS:
            if name in parameters:
                flags = flags | flag if parameters[name] else flags & ~flag
    return identity, flags


_SEQUENCE_FLAGS = (("sequence_start", FLAG_SEQUENCE_START), ("sequence_end", FLAG_SEQUENCE_END))


def _as_parameters(passed: Passed) -> dict[str, Parameter]:
    """The sequence of an output, which Triton tells with every answer of an ensemble."""
    flags = {name: bool(passed.flags & flag) for name, flag in _SEQUENCE_FLAGS}
    return {"sequence_id": passed.correlation_id, **flags}


def _end_trace(trace: RequestTrace | None) -> None:
    if trace is not None:
        trace.end()
