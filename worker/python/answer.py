"""The answering of one request: what a model may still send, and in which order.

      OPEN ──send──▶ SENT ──final──▶ ANSWERED    OPEN, SENT ──failed, rescheduled──▶ CLOSED
        └──────────final────────────▶

A decoupled model's responses leave at once. Another model has exactly one, which leaves with the
final flag: until then the client would not be told, and the inputs must stay valid.
"""

from __future__ import annotations

import threading
from enum import Enum

from ...ipc.errors import InternalError, StatusError
from ..backend import Request, Response
from .abandoned import Abandoned
from .errors import TritonModelException, to_status
from .metric_registry import REGISTRY
from .responses import InferenceResponse, parameters_of
from .tensors import device_array, host_array


class State(Enum):
    """How far a request has been answered."""

    OPEN = "open"
    # At least one response was sent, and more may follow.
    SENT = "sent"
    # The model said that there is no more.
    ANSWERED = "answered"
    # The backend answered in the model's place, or the request comes again: this way is closed.
    CLOSED = "closed"


_OPEN, _SENT, _ANSWERED, _CLOSED = State.OPEN, State.SENT, State.ANSWERED, State.CLOSED


class Answer:
    """The way out of one request, shared by the request and its sender. Thread-safe.

    When nobody holds it any more and the request is not ended, nobody can end it: then the backend
    does, so that no client waits for ever.
    """

    __slots__ = ("_abandoned", "_decoupled", "_held", "_lock", "_request", "_state")

    def __init__(self, request: Request, decoupled: bool, abandoned: Abandoned) -> None:
        self._request = request
        self._decoupled = decoupled
        self._abandoned = abandoned
        self._state = _OPEN
        #: The one response of a model that is not decoupled, until the final flag.
        self._held: Response | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"<Answer to request '{self._request.id}' {self._state.value}>"

    @property
    def state(self) -> State:
        """How far the request has been answered."""
        return self._state

    def send(self, response: InferenceResponse | None, final: bool) -> None:
        """Send a response, or end the request, or both.

        Raises TritonModelException when the request has been answered already.
        """
        with self._lock:
            self._require_sendable(response is not None, final)
            at_once = final or self._decoupled  # else the memory of the outputs may change
            worker_response = None if response is None else self._converted(response, at_once)
            if self._decoupled:
                self._respond(worker_response, final)
            elif final:
                self._respond(worker_response or self._held, True)
                self._held = None
            else:
                self._held = None if worker_response is None else _detached(worker_response)
            self._state = _ANSWERED if final else _SENT

    def require_open(self) -> None:
        """Raise TritonModelException unless the request may be ended by a response now."""
        if self._state is not _OPEN:
            self._require_sendable(True, True)

    def take(self, response: InferenceResponse) -> Response | None:
        """End the request by a response that execute returned.

        None when another thread of the model was faster, which `require_open` could not foresee.
        """
        with self._lock:
            if self._state is not _OPEN:
                return None
            self._state = _ANSWERED
            try:
                return self._converted(response, True)
            except TritonModelException as error:  # this response cannot be sent; others can
                return Response(error=InternalError(str(error)))

    def fail(self, error: StatusError) -> Response | None:
        """End the request by an error, or by its response where it was only held back.

        None when the request has been ended already.
        """
        with self._lock:
            if self._state is _ANSWERED or self._state is _CLOSED:
                return None
            self._state = _CLOSED
            held, self._held = self._held, None
            return held or Response(error=error)

    def release(self) -> Response | None:
        """Let go of a request that is to be executed again; its senders are closed.

        Returns the response of a model that is not decoupled and has sent it already.
        """
        with self._lock:
            if self._state is _OPEN or self._state is _SENT:
                self._state = _CLOSED
            held, self._held = self._held, None
            return held

    def fail_now(self, error: StatusError) -> None:
        """As `fail`, outside of execute."""
        response = self.fail(error)
        if response is not None:
            self._request.respond(response, True)

    def __del__(self) -> None:
        if self._state is _OPEN or self._state is _SENT:
            self._abandoned.put(self._request, self._state is _SENT, self._held)

    def _require_sendable(self, with_response: bool, final: bool) -> None:
        state = self._state
        if not self._decoupled:
            if with_response and (state is _SENT or state is _ANSWERED):
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send more than one "
                    "response."
                )
            if not with_response and final and state is _OPEN:
                raise TritonModelException(
                    "Unable to send response. Non-decoupled model cannot send complete final "
                    "before sending a response."
                )
        if state is _ANSWERED or state is _CLOSED:
            raise TritonModelException("Unable to send response. Response sender has been closed.")

    def _converted(self, response: InferenceResponse, at_once: bool) -> Response:
        error = response.error()
        if error is not None:
            return Response(error=to_status(error), deliberate=True)
        wanted = self._request.outputs
        on_device = self._request.on_device if at_once else ()
        outputs = {
            name: device_array(tensor) if name in on_device else host_array(tensor)
            for tensor in response.output_tensors()
            if (name := tensor.name()) in wanted
        }
        return Response(outputs, parameters_of(response))

    def _respond(self, response: Response | None, final: bool) -> None:
        REGISTRY.flush()
        try:
            self._request.respond(response, final)
        except StatusError as error:
            raise TritonModelException(f"Unable to send response. {error.message}") from error


def _detached(response: Response) -> Response:
    """A response that does not change when the model goes on working on its arrays."""
    outputs = {name: array.copy() for name, array in response.outputs.items()}
    return Response(outputs, response.parameters, response.error, response.deliberate)
