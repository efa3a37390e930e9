"""Between what the supervisor speaks of and what it says to a worker: requests out, answers in."""

from __future__ import annotations

from ...ipc import messages
from ...ipc.errors import from_code
from ...ipc.tensor import Region
from ..request import InferRequest, InferResponse
from ..scheduling.scheduler import Work


def request_message(work: Work) -> messages.Request:
    """A request as a worker is told of it, by its key."""
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
    )


def _places(request: InferRequest) -> dict[str, Region]:
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
