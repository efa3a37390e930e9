"""How a model answers outside of execute's result, in its own time and from any thread."""

from __future__ import annotations

from collections.abc import Callable

from .answer import Answer
from .errors import TritonModelException
from .responses import TRITONSERVER_RESPONSE_COMPLETE_FINAL, InferenceResponse


class InferenceResponseSender:
    """Sends the responses to one request.

    A sender may outlive execute and may be used from any thread. The request's inputs are valid
    until the final flag is sent.
    """

    __slots__ = ("_answer", "_is_cancelled")

    def __init__(self, answer: Answer, is_cancelled: Callable[[], bool]) -> None:
        self._answer = answer
        self._is_cancelled = is_cancelled

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        """Send a response; with TRITONSERVER_RESPONSE_COMPLETE_FINAL it is the last one.

        Only with that flag may the response be left out. Raises TritonModelException for other
        flags, after the last response, and for a second response of a model that is not decoupled.
        """
        if flags not in (0, TRITONSERVER_RESPONSE_COMPLETE_FINAL):
            raise TritonModelException("Unable to send response. Unsupported flag provided.")
        if response is None:
            if flags == 0:
                raise TritonModelException(
                    "Inference Response object must be provided when the response flags is set "
                    "to zero."
                )
        elif not isinstance(response, InferenceResponse):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(f"send expects an InferenceResponse, got {type(response).__name__}")
        self._answer.send(response, flags == TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def is_cancelled(self) -> bool:
        """Whether the client has withdrawn the request."""
        return self._is_cancelled()
