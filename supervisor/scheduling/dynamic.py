"""The dynamic batch scheduler: the shell around batcher.py and queue.py, also of models that do not
batch.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from ...ipc.errors import CancelledError, StatusError, UnavailableError
from ..request import FailureReason, InferResponse
from .batcher import Item, LookAgain, Policy, Take, decide
from .ordering import Ordering
from .queue import QueueRules, RequestQueue
from .scheduler import Runner, Work

#: What is decided for a model that does not batch.
_ALONE = Take(1)


class DynamicScheduler:
    """One queue in front of the instances of one model."""

    def __init__(
        self,
        model: str,
        version: int,
        policy: Policy,
        runner: Runner,
        rules: QueueRules | None = None,
        *,
        preserve_ordering: bool = False,
    ) -> None:
        self._model = model
        self._version = version
        self._policy = policy
        self._runner = runner
        rules = rules or QueueRules()
        self._queue: RequestQueue[Work] = RequestQueue(rules)
        #: A request that was sent ahead can neither be overtaken nor given up any more.
        self._sends_ahead = rules.is_plain
        self._ordering = Ordering() if preserve_ordering else None
        self._timer: asyncio.TimerHandle | None = None
        self._pump_soon: asyncio.Handle | None = None

    def __repr__(self) -> str:
        return f"<DynamicScheduler of '{self._model}' {self._version}: {len(self._queue)} queued>"

    @property
    def batches(self) -> bool:
        """Whether requests run together; if not, each is a batch."""
        return self._policy.batches

    @property
    def queued(self) -> int:
        """How many requests wait."""
        return len(self._queue)

    def enqueue(self, work: Work) -> None:
        """Queue a request, and run it when an instance can take it.

        Raises UnavailableError when its queue is full.
        """
        request = work.request
        self._queue.push(work, request.priority, request.timeout_us * 1000, work.enqueued_ns)
        if not self._policy.batches:
            self.pump()
        elif self._pump_soon is None:
            # At the end of this turn of the loop, when everything that has arrived is queued:
            # requests that came together run together.
            self._pump_soon = asyncio.get_running_loop().call_soon(self._pump_now)

    def enqueue_first(self, work: Work) -> None:
        """Put a request back whose worker died: it has waited longer than everybody else."""
        self._queue.push_first(work)

    def skip(self, work: Work) -> None:
        """A request is answered without running: it takes its turn among those that run."""
        if self._ordering is not None:
            self._ordering.track(work)

    def cancel(self, work: Work) -> bool:
        """Take a request back and answer it CANCELLED; False when it has left the queue already."""
        if not self._queue.remove(work):
            return False
        prefix = work.request.log_prefix
        self._fail(work, CancelledError(f"{prefix}Request cancelled"), "CANCELED")
        return True

    def fail_queued(self, reason: str) -> None:
        """Answer everything that is queued with UNAVAILABLE and this reason."""
        while self._queue:
            work = self._queue.pop()
            self._fail(work, UnavailableError(work.request.log_prefix + reason), "REJECTED")

    def pump(self) -> None:
        """Send batches as long as there are requests and instances that can take them."""
        runner, queue, policy = self._runner, self._queue, self._policy
        if queue.next_end_ns() is not None:
            self._expire()
        while queue and (runner.idle or (self._sends_ahead and runner.spare)):
            decision: Take | LookAgain = _ALONE
            if policy.batches:
                idle = runner.idle > 0
                decision = decide(policy, self._items(), time.monotonic_ns(), idle=idle)
            if not isinstance(decision, Take):
                self._look_again(decision.at_ns)
                return
            if not runner.admits():
                break
            self._send(decision.count)
        end = queue.next_end_ns()
        if end is not None:
            self._look_again(end)

    def _send(self, count: int) -> None:
        queue = self._queue
        batch = [queue.pop()]
        # A retried request runs alone: if it is the one that kills, it takes nobody along.
        if not batch[0].deaths:
            batch += [queue.pop() for _ in range(count - 1)]
        if self._ordering is not None:
            for work in batch:
                self._ordering.track(work)
        self._runner.run(batch)

    def _expire(self) -> None:
        for work in self._queue.expire(time.monotonic_ns()):
            prefix = work.request.log_prefix
            self._fail(work, UnavailableError(f"{prefix}Request timeout expired"), "REJECTED")

    def _fail(self, work: Work, error: StatusError, reason: FailureReason) -> None:
        response = InferResponse(self._model, self._version, work.request.id, error=error)
        work.answer(response, reason)

    def close(self) -> None:
        """Forget the timers. What is queued is the owner's to fail."""
        for handle in (self._timer, self._pump_soon):
            if handle is not None:
                handle.cancel()
        self._timer = self._pump_soon = None

    def _pump_now(self) -> None:
        self._pump_soon = None
        self.pump()

    def _items(self) -> Iterator[Item]:
        for work in self._queue:
            if work.deaths:
                # Ends a batch before it, and is one by itself.
                yield Item(work.request.batch_size, work.key, work.enqueued_ns)
            else:
                request = work.request
                yield Item(request.batch_size, request.signature, work.enqueued_ns)

    def _look_again(self, at_ns: int) -> None:
        if self._timer is not None:
            self._timer.cancel()
        end = self._queue.next_end_ns()
        if end is not None:
            at_ns = min(at_ns, end)
        delay = (at_ns - time.monotonic_ns()) / 1e9
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(max(0.0, delay), self.pump) if delay < 1e6 else None
