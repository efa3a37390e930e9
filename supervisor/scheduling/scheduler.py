"""What a scheduler is, what it queues, and what it hands batches to."""

from __future__ import annotations

import itertools
import logging
import time
from collections.abc import Callable, Collection, Sequence
from typing import Protocol

from msgspec import Struct, field

from ...ipc.tensor import Tensor
from ..request import FailureReason, InferRequest, InferResponse

log = logging.getLogger(__name__)

_keys = itertools.count(1)

#: Why a request that its model has released for another run has failed, in Triton's words.
NOT_RESCHEDULED = (
    "Request is released with TRITONSERVER_REQUEST_RELEASE_RESCHEDULE, while the model is not "
    "configured to handle such a flag"
)


class SequenceStep(Struct, eq=False):
    """What a worker is told of one run of a request, because the request belongs to a sequence.

    `slot` names the state that the instance keeps of the sequence, `controls` are inputs beside
    the client's. Where slots have rows of their own, so many empty ones come right before this one.
    """

    slot: int
    flags: int
    controls: list[Tensor]
    empty_before: int = 0
    empty_controls: list[Tensor] = []


class Work(Struct, eq=False):
    """A request on its way through a scheduler and a worker.

    Every response, the last of which is final, goes through `answer`, on the event loop.
    """

    request: InferRequest
    #: Who asked: is called with every response.
    respond: Callable[[InferResponse], None]
    #: Who accepted the request: is told before the final response is delivered.
    on_final: Callable[[Work, InferResponse, FailureReason | None], None]
    #: Names the request in messages; unique for the life of the server.
    key: int = field(default_factory=_keys.__next__)
    enqueued_ns: int = field(default_factory=time.monotonic_ns)
    #: Responses that have left for the client; a request with any is never run again.
    responses: int = 0
    #: When the last of them was complete at the worker (decoupled models).
    responded_ns: int = 0
    #: Workers that died with this request on board.
    deaths: int = 0
    #: The client has gone: drop it where it is queued, tell the worker where it runs.
    cancelled: bool = False
    #: Of a request that belongs to a sequence, once it has left the queue.
    step: SequenceStep | None = None

    def answer(self, response: InferResponse, failure: FailureReason | None = "BACKEND") -> None:
        """Deliver a response; `failure` says whose fault an error in it is.

        None stands for an error that is what the model meant to answer: no failure.
        """
        self.responses += 1
        trace = self.request.trace
        if trace is not None:
            response.trace = trace
            response.kept = True  # where it notes tensors
            trace.responded(response, first=self.responses == 1)
        if response.final:
            self.on_final(self, response, failure)
        try:
            self.respond(response)
        except Exception:  # whoever asked has a fault: the others in the batch get their answers
            log.exception("%sdelivering a response failed", self.request.log_prefix)


class Runner(Protocol):
    """Where batches run: the instances of one model, as a scheduler sees them."""

    @property
    def idle(self) -> int:
        """Instances that would begin a batch at once."""
        ...

    @property
    def spare(self) -> int:
        """Instances that are busy, and may be sent one more batch to begin with at once."""
        ...

    def admits(self) -> bool:
        """Whether a batch may run now, as far as others are concerned that use the same resources.

        After a no the scheduler's `pump` is called when it may; after a yes it must run one.
        """
        ...

    def run(self, batch: Sequence[Work]) -> None:
        """Send a batch to an instance. Only while one is idle or has room to spare."""
        ...


class Seat(Protocol):
    """An instance, as a scheduler knows it that chooses where each batch runs."""

    @property
    def load(self) -> int:
        """Batches at the worker that are not executed yet."""
        ...


class SeatRunner(Runner, Protocol):
    """Where batches run that belong to a certain instance."""

    #: Who is told of each instance; None for a scheduler that leaves the choice to `run`.
    watcher: SeatWatcher | None

    def is_idle(self, seat: Seat) -> bool:
        """Whether the instance may be sent a batch now."""
        ...

    def admits_on(self, seat: Seat) -> bool:
        """Whether a batch may run on this idle instance now, as `admits` says it of any."""
        ...

    def run_on(self, seat: Seat, batch: Sequence[Work]) -> None:
        """Send a batch to this instance. Only while it is idle."""
        ...


class SeatWatcher(Protocol):
    """A scheduler that chooses instances, and is told what becomes of each of them."""

    def instance_ready(self, seat: Seat) -> None:
        """It can take batches."""
        ...

    def instance_lost(self, seat: Seat, reason: str) -> None:
        """It takes no more batches; what it remembered is gone."""
        ...

    def executed(self, batch: Sequence[Work], rescheduled: Collection[int]) -> None:
        """It has executed a batch, before the responses are delivered; the requests with these
        keys are not answered but want to run again.
        """
        ...


class Scheduler(Protocol):
    """What decides when accepted requests run, and what runs them."""

    @property
    def queued(self) -> int:
        """How many requests are waiting; of an ensemble, are inside."""
        ...

    def enqueue(self, work: Work) -> None:
        """Take a request, and run it when its time has come; its
        answers never come before this has returned.

        Raises UnavailableError when it cannot even wait, InvalidArgumentError when the scheduler
        cannot place it.
        """
        ...

    def cancel(self, work: Work) -> bool:
        """Take a request back and answer it CANCELLED; False when it is with an instance."""
        ...

    def fail_queued(self, reason: str) -> None:
        """Answer everything that waits with UNAVAILABLE and this reason."""
        ...

    def close(self) -> None:
        """Forget the timers."""
        ...
