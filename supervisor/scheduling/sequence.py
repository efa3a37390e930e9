"""The sequence scheduler: the shell around sequence_slots.py and sequence_batches.py."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Callable, Collection, Sequence

from ...ipc.errors import (
    CancelledError,
    InternalError,
    InvalidArgumentError,
    StatusError,
    UnavailableError,
)
from ...ipc.messages import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START
from ..config.schema import ModelConfig
from ..request import FailureReason, InferRequest, InferResponse
from .batcher import LookAgain
from .ordering import Ordering
from .scheduler import NOT_RESCHEDULED, Seat, SeatRunner, SequenceStep, Work
from .sequence_batches import Candidate, Strategy, choose
from .sequence_controls import SequenceControls
from .sequence_slots import SequenceSlots

log = logging.getLogger(__name__)

_STOPPING = "Server is stopping, scheduler for model has stopped accepting new inference requests"


class SequenceScheduler:
    """Brings the requests of each sequence, in their order, to the instance that it is at."""

    def __init__(self, config: ModelConfig, version: int, runner: SeatRunner) -> None:
        batching = config.sequence_batching
        assert batching is not None
        self._model = config.name
        self._version = version
        self._runner = runner
        self._strategy = Strategy.of(config)
        self._controls = SequenceControls(config)
        idle_ns = batching.max_sequence_idle_microseconds * 1000
        self._idle_ns = idle_ns
        self._slots: SequenceSlots[Work] = SequenceSlots(config.name, idle_ns)
        self._iterative = batching.iterative_sequence
        oldest = batching.oldest
        self._ordering = Ordering() if oldest is not None and oldest.preserve_ordering else None
        self._ids = itertools.count(1)
        #: The instances that serve, by the numbers that the slots know them by.
        self._seats: dict[int, Seat] = {}
        self._numbers = itertools.count()
        self._stopping = False
        self._pump_soon: asyncio.Handle | None = None
        #: When a batch may go, and when a sequence may have been idle for too long.
        self._batch_timer: asyncio.TimerHandle | None = None
        self._expiry_timer: asyncio.TimerHandle | None = None
        self._expiry_ns = 0

    def __repr__(self) -> str:
        return f"<SequenceScheduler of '{self._model}' {self._version}: {self._slots!r}>"

    @property
    def batches(self) -> bool:
        """Whether requests run together: those of different sequences do."""
        return True

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return self._slots.queued

    @property
    def open_sequences(self) -> int:
        """How many sequences have begun and not ended."""
        return self._slots.open

    def seat_of(self, request: InferRequest) -> Seat | None:
        """The instance that a request would go to as its sequence is there; None for any."""
        if request.flags & FLAG_SEQUENCE_START:
            return None
        number = self._slots.instance_of(request.correlation_id)
        return None if number is None else self._seats.get(number)

    # --- requests ---------------------------------------------------------------------------------

    def enqueue(self, work: Work) -> None:
        """Queue a request of a sequence; it runs when its turn has come.

        Raises InvalidArgumentError for one that belongs to no sequence, UnavailableError when the
        server is stopping or the sequence is lost.
        """
        request = work.request
        if request.batch_size > 1:
            raise InvalidArgumentError(
                f"inference request to model '{self._model}' must specify batch-size 1 due to "
                "requirements of sequence batcher"
            )
        id, start = self._identify(request)
        if start and self._stopping:
            raise UnavailableError(_STOPPING)
        now = time.monotonic_ns()
        timeout_ns = request.timeout_us * 1000
        conflict = self._slots.enqueue(
            work,
            id,
            now,
            start=start,
            end=bool(request.flags & FLAG_SEQUENCE_END),
            timeout_ns=timeout_ns,
        )
        request.correlation_id = id
        if conflict:
            log.warning(
                "sequence %s for model '%s' has a conflict. The previous sequence did not end "
                "before this sequence start. Previous sequence will be terminated early.",
                id,
                self._model,
            )
        self._look_for_ends(now + (min(timeout_ns, self._idle_ns) or self._idle_ns))
        self.pump()

    def _identify(self, request: InferRequest) -> tuple[int | str, bool]:
        """The request's sequence, and whether it begins with it."""
        id = request.correlation_id
        if id:
            start = bool(request.flags & FLAG_SEQUENCE_START)
            if start:  # else it is that of a sequence which has begun, or will be refused
                self._controls.check_id(id)
            return id, start
        if not self._iterative:
            raise InvalidArgumentError(
                f"inference request to model '{self._model}' must specify a non-zero or non-empty "
                "correlation ID"
            )
        return next(filter(self._is_unused, map(self._controls.as_id, self._ids))), True

    def _is_unused(self, id: int | str) -> bool:
        return not self._slots.is_active(id)

    def enqueue_first(self, work: Work) -> None:
        """Answer a request that was lost: what its sequence was up to is lost as well."""
        text = self._slots.loss(work.request.correlation_id, "its instance has ended")
        self._fail(work, UnavailableError(work.request.log_prefix + text), "BACKEND")

    def cancel(self, work: Work) -> bool:
        """Take a request back, and with it whatever waits of its sequence, which ends.

        False when the request itself has left the queue already.
        """
        waiting = self._slots.cancel(work, time.monotonic_ns())
        for each in waiting:
            prefix = each.request.log_prefix
            self._fail(each, CancelledError(f"{prefix}Request cancelled"), "CANCELED")
        self.pump()
        return work in waiting

    def fail_queued(self, reason: str) -> None:
        """End all sequences; what waits of them is answered with UNAVAILABLE and this reason."""
        for work in self._slots.fail_all(time.monotonic_ns()):
            self._fail(work, UnavailableError(work.request.log_prefix + reason), "REJECTED")

    def stop_starting(self) -> None:
        """Let the sequences that have begun go on, and begin no others."""
        self._stopping = True

    def pump(self) -> None:
        """Look what can run, at the end of this turn of the loop: what came together runs
        together.
        """
        if self._pump_soon is None:
            self._pump_soon = asyncio.get_running_loop().call_soon(self._pump)

    def close(self) -> None:
        """Forget the timers. What is queued is the owner's to fail."""
        for handle in (self._pump_soon, self._batch_timer, self._expiry_timer):
            if handle is not None:
                handle.cancel()
        self._pump_soon = self._batch_timer = self._expiry_timer = None

    # --- what the pool tells of its instances -----------------------------------------------------

    def instance_ready(self, seat: Seat) -> None:
        """An instance serves: sequences can be placed there."""
        number = next(self._numbers)
        self._seats[number] = seat
        self._slots.add_instance(number, self._strategy.slots, time.monotonic_ns())
        self.pump()

    def instance_lost(self, seat: Seat, reason: str) -> None:
        """An instance serves no more: its sequences end, and are told so until they begin anew."""
        number = next((number for number, each in self._seats.items() if each is seat), None)
        if number is None:
            return
        del self._seats[number]
        for work in self._slots.lose_instance(number, reason, time.monotonic_ns()):
            text = self._slots.loss(work.request.correlation_id, reason)
            self._fail(work, UnavailableError(work.request.log_prefix + text), "BACKEND")

    def executed(self, batch: Sequence[Work], rescheduled: Collection[int]) -> None:
        """A batch is done; the requests with these keys want to run again."""
        now = time.monotonic_ns()
        for work in batch:
            if work.key in rescheduled:
                self._reschedule(work, now)
            else:
                self._slots.executed(work, now, ended=self._iterative)
        self.pump()

    def _reschedule(self, work: Work, now: int) -> None:
        if self._iterative and not work.cancelled and self._slots.rescheduled(work, now):
            work.enqueued_ns = now
            return
        self._slots.executed(work, now, ended=self._iterative)
        prefix = work.request.log_prefix
        if work.cancelled:
            self._fail(work, CancelledError(f"{prefix}Request cancelled"), "CANCELED")
        elif self._iterative:
            self._fail(work, UnavailableError(f"{prefix}its sequence has ended"), "REJECTED")
        else:
            self._fail(work, InternalError(prefix + NOT_RESCHEDULED), "BACKEND")

    # --- batches ----------------------------------------------------------------------------------

    def _pump(self) -> None:
        self._pump_soon = None
        now = time.monotonic_ns()
        again_ns: int | None = None
        for number, seat in list(self._seats.items()):
            if not self._runner.is_idle(seat):
                continue
            heads = self._slots.heads(number)
            if not heads:
                continue
            candidates = [
                Candidate(head.slot, head.item.request.signature, head.ready_ns) for head in heads
            ]
            decision = choose(self._strategy, candidates, now)
            if isinstance(decision, LookAgain):
                again_ns = decision.at_ns if again_ns is None else min(again_ns, decision.at_ns)
            elif self._runner.admits_on(seat):
                self._run(number, seat, decision.slots)
        self._look_again(again_ns)

    def _run(self, number: int, seat: Seat, slots: Sequence[int]) -> None:
        batch: list[Work] = []
        #: The next row of the batch; with `direct` every slot has its own.
        row = 0
        for slot in slots:
            work, start, end = self._slots.take(number, slot)
            step = SequenceStep(
                slot,
                (FLAG_SEQUENCE_START if start else 0) | (FLAG_SEQUENCE_END if end else 0),
                self._controls.tensors(work.request.correlation_id, start=start, end=end),
            )
            if self._strategy.oldest is None:
                step.empty_before = slot - row
                step.empty_controls = self._controls.null
                row = slot + 1
            work.step = step
            batch.append(work)
            if self._ordering is not None:
                self._ordering.track(work)
        self._runner.run_on(seat, batch)

    # --- time -------------------------------------------------------------------------------------

    def _look_again(self, at_ns: int | None) -> None:
        if self._batch_timer is not None:
            self._batch_timer.cancel()
            self._batch_timer = None
        if at_ns is not None:
            self._batch_timer = self._call_at(at_ns, self.pump)

    def _look_for_ends(self, at_ns: int) -> None:
        """Look at this time whether a sequence is over, if not earlier."""
        if self._expiry_timer is not None:
            if self._expiry_ns <= at_ns:
                return
            self._expiry_timer.cancel()
        self._expiry_ns = at_ns
        self._expiry_timer = self._call_at(at_ns, self._expire)

    def _expire(self) -> None:
        self._expiry_timer = None
        for work in self._slots.expire(time.monotonic_ns()):
            prefix = work.request.log_prefix
            text = f"{prefix}timeout of the corresponding sequence has been expired"
            self._fail(work, UnavailableError(text), "REJECTED")
        if self._slots.open:
            now = time.monotonic_ns()
            end_ns = self._slots.next_end_ns()
            self._look_for_ends(now + self._idle_ns if end_ns is None else end_ns)
        self.pump()

    def _call_at(self, at_ns: int, callback: Callable[[], None]) -> asyncio.TimerHandle:
        delay = max(0.0, (at_ns - time.monotonic_ns()) / 1e9)
        return asyncio.get_running_loop().call_later(delay, callback)

    def _fail(self, work: Work, error: StatusError, reason: FailureReason) -> None:
        response = InferResponse(self._model, self._version, work.request.id, error=error)
        work.answer(response, reason)
