"""The instances of one model version: which has room, what to do when one is lost, and the end.

The pool is the scheduler's Runner. It sends an instance one batch at a time, and one more ahead
when the scheduler says that this batch is full, so that an instance does not idle between full
batches.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Protocol

from ...ipc import messages
from ...ipc.errors import CancelledError, StatusError
from ..request import InferResponse
from ..scheduling.scheduler import Work
from ..telemetry.statistics import VersionStatistics
from .instance import Instance, Recipe, lost_with_worker
from .process import Surroundings
from .states import ENDED, WorkerState

#: A request whose workers died this often is not tried again: it may be what kills them.
MOST_DEATHS = 2

#: While no instance is up, requests wait if the next start is no further away than this (seconds).
PATIENCE = 2.0


class Feeder(Protocol):
    """The scheduler, as the pool needs it."""

    def pump(self) -> None:
        """Look whether something can run now."""
        ...

    def enqueue_first(self, work: Work) -> None:
        """Take back a request whose worker died."""
        ...

    def fail_queued(self, reason: str) -> None:
        """Answer everything that is queued with UNAVAILABLE and this reason."""
        ...


class Pool:
    """All instances of one model version, and the scheduler's door to them."""

    def __init__(
        self,
        surroundings: Surroundings,
        recipes: Sequence[Recipe],
        statistics: VersionStatistics,
    ) -> None:
        self.instances = [Instance(surroundings, recipe, self) for recipe in recipes]
        self._model = recipes[0].files.name
        self._version = recipes[0].files.version
        self._statistics = statistics
        self._feeder: Feeder | None = None
        self._idle: list[Instance] = []
        self._spare: list[Instance] = []

    def __repr__(self) -> str:
        return (
            f"<Pool of '{self._model}' {self._version}: {len(self.instances)} instances, "
            f"{len(self._idle)} idle, {len(self._spare)} spare>"
        )

    # --- life -------------------------------------------------------------------------------------

    async def start_first(self) -> Instance:
        """Start the first instance's worker, which may then be asked to describe the model."""
        first = self.instances[0]
        await first.start()
        return first

    async def load(self, config: str, feeder: Feeder) -> None:
        """Load the model into the first instance's worker, and start and load all others.

        Raises the first StatusError; the caller stops the pool then.
        """
        self._feeder = feeder
        first, *others = self.instances
        async with asyncio.TaskGroup() as group:
            group.create_task(first.load_model(config))
            for instance in others:
                group.create_task(_start_and_load(instance, config))

    async def stop(self, patience: float) -> None:
        """Finalize and end all workers."""
        await asyncio.gather(*(instance.stop(patience) for instance in self.instances))

    def trim(self) -> None:
        """Have all workers give back memory that they do not use."""
        for instance in self.instances:
            instance.trim()

    @property
    def is_ready(self) -> bool:
        """Whether at least one instance is up."""
        return any(instance.state is WorkerState.READY for instance in self.instances)

    def refusal(self) -> str | None:
        """Why no request may be queued now, or None when it may.

        Requests wait for a worker that is about to come back, not for one that keeps crashing.
        """
        if self._idle or self._spare or self.is_ready:
            return None
        soonest = None
        for instance in self.instances:
            if instance.state is WorkerState.BACKOFF:
                at = instance.restart_at
                soonest = at if soonest is None else min(soonest, at)
            elif instance.state not in ENDED:
                return None
        if soonest is not None and soonest - time.monotonic() <= PATIENCE:
            return None
        reasons = "; ".join(i.reason for i in self.instances if i.reason)
        return (
            f"model '{self._model}' version {self._version} has no instance that runs"
            f"{': ' + reasons if reasons else ''}"
        )

    # --- the scheduler's Runner -------------------------------------------------------------------

    @property
    def idle(self) -> int:
        """Instances that have nothing to do."""
        return len(self._idle)

    @property
    def spare(self) -> int:
        """Instances that are busy with one batch and may be sent one more."""
        return len(self._spare)

    def run(self, batch: Sequence[Work]) -> None:
        """Send a batch to an idle instance, or else to one with room to spare."""
        if self._idle:
            instance = self._idle.pop()
            self._spare.append(instance)
        else:
            instance = self._spare.pop(0)
        instance.execute(batch)

    def cancel(self, work: Work) -> None:
        """The client has gone: tell the worker that has the request."""
        for instance in self.instances:
            if instance.cancel(work):
                return

    # --- what instances tell ----------------------------------------------------------------------

    def instance_ready(self, instance: Instance) -> None:
        """A worker has loaded the model."""
        self._idle.append(instance)
        if self._feeder is not None:
            self._feeder.pump()

    def instance_freed(self, instance: Instance) -> None:
        """A batch is executed: what waits can run before its responses are delivered."""
        if instance.load == 0:
            self._spare.remove(instance)
            self._idle.append(instance)
        else:
            self._spare.append(instance)
        assert self._feeder is not None
        self._feeder.pump()

    def instance_lost(self, instance: Instance, orphans: list[Work], reason: str) -> None:
        """A worker is gone: run its requests again where that is safe, answer them where not."""
        for has_room in (self._idle, self._spare):
            if instance in has_room:
                has_room.remove(instance)
        for work in reversed(orphans):
            work.deaths += 1
            again = instance.pure and not work.responses and not work.cancelled
            if again and work.deaths < MOST_DEATHS and self._feeder is not None:
                self._feeder.enqueue_first(work)
            else:
                self._give_up(work, reason)
        if self._feeder is not None:
            refusal = self.refusal()
            if refusal is not None:
                self._feeder.fail_queued(refusal)
            self._feeder.pump()

    def executed(self, batch: Sequence[Work], message: messages.Executed) -> None:
        """Count one execution, of the requests in it that did not fail."""
        failed = {response.key for response in message.responses if response.error is not None}
        rows = requests = queue_ns = 0
        for work in batch:
            if work.key not in failed:
                requests += 1
                rows += work.request.batch_size
                queue_ns += message.start_ns - work.enqueued_ns
        if not requests:
            return
        self._statistics.executed(
            rows,
            requests,
            queue_ns,
            message.input_end_ns - message.start_ns,
            message.output_start_ns - message.input_end_ns,
            message.end_ns - message.output_start_ns,
        )

    def _give_up(self, work: Work, reason: str) -> None:
        error: StatusError = (
            CancelledError(f"{work.request.log_prefix}Request cancelled")
            if work.cancelled
            else lost_with_worker(work, reason)
        )
        work.answer(
            InferResponse(self._model, self._version, work.request.id, error=error),
            "CANCELED" if work.cancelled else "BACKEND",
        )


async def _start_and_load(instance: Instance, config: str) -> None:
    await instance.start()
    await instance.load_model(config)
