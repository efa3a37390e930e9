"""The requests that an instance answers before it is ready, one batch after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ...ipc.errors import InvalidArgumentError, StatusError
from ..request import FailureReason, InferRequest, InferResponse
from ..scheduling.scheduler import Work


@dataclass(frozen=True, slots=True)
class Sample:
    """One sample of a model's warm-up section: its requests, run together `count` times.

    The requests have been admitted; their tensors carry their bytes with them.
    """

    name: str
    requests: Sequence[InferRequest]
    count: int


def failed(sample: str, *messages: str) -> InvalidArgumentError:
    """The error of a sample that was prepared and cannot be run, with all that went wrong."""
    reasons = "".join(f"{message}; " for message in messages)
    return InvalidArgumentError(f"failed to run warmup sample '{sample}': {reasons}")


class WarmUp:
    """One instance's way through the samples. Its requests enter no statistics."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self._batches = _in_turn(samples)
        self._sample = ""
        self._failures: list[str] = []
        self._open = 0
        self._executing = False

    @property
    def error(self) -> StatusError | None:
        """Why the instance cannot become ready: each request's failure, in one error."""
        return failed(self._sample, *self._failures) if self._failures else None

    @property
    def is_waiting(self) -> bool:
        """Whether a batch is at the worker, or a response to it is missing."""
        return self._executing or self._open > 0

    def next_batch(self) -> list[Work] | None:
        """What to run now; None when everything has been run."""
        found = next(self._batches, None)
        if found is None:
            return None
        self._sample, requests = found
        self._open = len(requests)
        self._executing = True
        return [Work(request, _ignore, self._final) for request in requests]

    def executed(self, rescheduled: int = 0) -> None:
        """The worker has executed the batch; a decoupled model may have responses to send.

        So many requests of it would be executed again, which a warm-up does not do.
        """
        self._executing = False
        self._open -= rescheduled

    def fail(self, error: StatusError) -> None:
        """A request of the batch failed, or the batch cannot be run."""
        self._failures.append(error.message)

    def _final(self, _work: Work, response: InferResponse, _failure: FailureReason | None) -> None:
        self._open -= 1
        if response.error is not None:
            self.fail(response.error)


def _in_turn(samples: Sequence[Sample]) -> Iterator[tuple[str, Sequence[InferRequest]]]:
    for sample in samples:
        for _ in range(sample.count):
            yield sample.name, sample.requests


def _ignore(_response: InferResponse) -> None:
    """Nobody reads what a model answers to a warm-up."""
