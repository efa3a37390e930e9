"""The answers to requests that no worker will answer any more."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ...ipc.errors import CancelledError, InternalError, StatusError, UnavailableError
from ..request import FailureReason, InferResponse
from ..scheduling.scheduler import NOT_RESCHEDULED, Work


class Losses:
    """Answers what one model version has lost."""

    def __init__(self, model: str, version: int) -> None:
        self._model = model
        self._version = version

    def lost(self, work: Work, reason: str) -> None:
        """Its worker is gone, and it is not run again."""
        prefix = work.request.log_prefix
        if work.cancelled:
            self._fail(work, CancelledError(f"{prefix}Request cancelled"), "CANCELED")
            return
        text = f"{prefix}the request to model '{self._model}' was lost: {reason}"
        self._fail(work, UnavailableError(text), "BACKEND")

    def not_sent(self, batch: Sequence[Work], error: Exception) -> None:
        """The batch cannot be put into a message."""
        for work in batch:
            prefix = work.request.log_prefix
            text = f"{prefix}the request cannot be sent to a worker: {error}"
            self._fail(work, InternalError(text), "OTHER")

    def not_rescheduled(self, batch: Sequence[Work], keys: Collection[int]) -> None:
        """The model wants to run these requests once more, and its scheduler cannot do that."""
        for work in batch:
            if work.key in keys:
                text = work.request.log_prefix + NOT_RESCHEDULED
                self._fail(work, InternalError(text), "BACKEND")

    def _fail(self, work: Work, error: StatusError, reason: FailureReason) -> None:
        response = InferResponse(self._model, self._version, work.request.id, error=error)
        work.answer(response, reason)
