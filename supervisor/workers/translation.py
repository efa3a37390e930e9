"""Between what the supervisor speaks of and what it says to a worker: requests out, answers in."""

from __future__ import annotations

from collections.abc import Sequence

from ...ipc import messages
from ...ipc.errors import from_code
from ...ipc.tensor import ClientPlace
from ..request import InferRequest, InferResponse
from ..scheduling.scheduler import SequenceStep, Work


def batch_messages(batch: Sequence[Work]) -> list[messages.Request]:
    """The requests of a batch as a worker is told of them, by their keys."""
    if batch[0].step is None:
        return [request_message(work) for work in batch]
    rows: list[messages.Request] = []
    for work in batch:
        step = work.step
        assert step is not None
        rows += [_null_message(step)] * step.empty_before
        message = request_message(work)
        message.inputs = message.inputs + step.controls
        message.flags, message.slot = step.flags, step.slot
        rows.append(message)
    return rows


def request_message(work: Work) -> messages.Request:
    """A request as its client has made it."""
    request = work.request
    return messages.Request(
        work.key,
        request.inputs,
        request.wanted,
        request.id,
        request.parameters,
        request.correlation_id,
        request.flags,
        request.priority,
        request.timeout_us,
        _places(request) if request.regions else {},
        request.shared,
        trace_context="" if request.trace is None else request.trace.propagated(),
    )


def _null_message(step: SequenceStep) -> messages.Request:
    """A row of the batch that no sequence has a request for; 0 is nobody's key."""
    return messages.Request(0, step.empty_controls, [], null=True)


def _places(request: InferRequest) -> dict[str, ClientPlace]:
    """Where in clients' regions outputs go."""
    return {output.name: output.place for output in request.outputs if output.place is not None}


def response_of(work: Work, answer: messages.Response, files: messages.ModelFiles) -> InferResponse:
    """A worker's answer to a request; spans in it have become views already."""
    failure = answer.error
    error = None
    if failure is not None:
        error = from_code(failure.code, failure.message)
        error.unread = failure.unread
    return InferResponse(
        files.name,
        files.version,
        work.request.id,
        answer.outputs,
        answer.parameters,
        error,
        answer.final,
    )
