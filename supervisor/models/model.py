"""One served version of a model: its configuration, instances, scheduler, memory and statistics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

from ...ipc.errors import StatusError, UnavailableError
from ..config.schema import ModelConfig
from ..environments.environments import Environment
from ..memory.buffers import InputArena, InputLease
from ..request import FailureReason, Hold, InferRequest, InferResponse
from ..scheduling.batcher import Policy
from ..scheduling.dynamic import DynamicScheduler
from ..scheduling.queue import QueueRules
from ..scheduling.scheduler import Scheduler, SeatRunner, Work
from ..scheduling.sequence import SequenceScheduler
from ..telemetry.statistics import StatisticsSnapshot, VersionStatistics
from .admission import Admission
from .cached_answers import CachedAnswers


class Engine(Protocol):
    """What runs the requests of a version: its instances, or the steps of an ensemble."""

    @property
    def is_ready(self) -> bool:
        """Whether a request would run now."""
        ...

    async def check_ready(self) -> bool:
        """Whether it is ready, and the models themselves say so where they are asked."""
        ...

    @property
    def has_ended(self) -> bool:
        """Whether no request will ever run again."""
        ...

    @property
    def waiting(self) -> int:
        """Requests that have left the queue and wait elsewhere for their turn."""
        ...

    def failure(self) -> str:
        """Why not, for operators; "" when nothing has failed."""
        ...

    def refusal(self) -> str | None:
        """Why no request may be queued now, or None when it may."""
        ...

    def cancel(self, work: Work) -> None:
        """The client has gone: tell whoever has the request."""
        ...

    def trim(self) -> None:
        """Give back memory that lies idle."""
        ...

    async def stop(self, patience: float) -> bool:
        """End it; False when something had to be killed because it took longer."""
        ...


def scheduler_of(
    config: ModelConfig, version: int, runner: SeatRunner
) -> DynamicScheduler | SequenceScheduler:
    """The scheduler that a model with instances wants."""
    if config.sequence_batching is not None:
        scheduler = SequenceScheduler(config, version, runner)
        runner.watcher = scheduler
        return scheduler
    batching = config.dynamic_batching
    return DynamicScheduler(
        config.name,
        version,
        Policy.of(config),
        runner,
        QueueRules.of(config),
        preserve_ordering=batching is not None and batching.preserve_ordering,
    )


class ServedVersion:
    """A model version that answers requests, from the moment it is loaded until it is retired."""

    def __init__(
        self,
        config: ModelConfig,
        version: int,
        pool: Engine,
        inputs: InputArena,
        statistics: VersionStatistics,
        labels: Mapping[str, list[str]],
        scheduler: Scheduler,
        answers: CachedAnswers | None = None,
    ) -> None:
        self.name = config.name
        #: The repository that it was loaded from, with namespacing; else "".
        self.namespace = ""
        self.version = version
        self.config = config
        self.pool = pool
        self.inputs = inputs
        self.statistics = statistics
        #: The class labels of each output that has a label file.
        self.labels = labels
        policy = config.model_transaction_policy
        #: Where its workers run, when that is not the server's own Python.
        self.environment: Environment | None = None
        self.is_decoupled = policy is not None and policy.decoupled
        #: Called when the instances have ended and nothing is held any more.
        self.on_closed: Callable[[], None] = inputs.close
        self.scheduler = scheduler
        self._sequences = scheduler if isinstance(scheduler, SequenceScheduler) else None
        self._admission = Admission(config)
        #: The response cache, where the model uses it.
        self._answers = answers
        self._running = 0
        self._quiet = asyncio.Event()
        inputs.holder = self

    def __repr__(self) -> str:
        return f"<ServedVersion '{self.name}' {self.version}: {self._running} running>"

    @property
    def running(self) -> int:
        """Requests that have leased memory or were accepted, and have had no final response."""
        return self._running + self.inputs.leases

    @property
    def open_sequences(self) -> int:
        """Sequences that have begun and not ended."""
        return 0 if self._sequences is None else self._sequences.open_sequences

    def stop_sequences(self) -> None:
        """Let the sequences that have begun go on to their end, and begin no others."""
        if self._sequences is not None:
            self._sequences.stop_starting()

    def submit(self, request: InferRequest, respond: Callable[[InferResponse], None]) -> Work:
        """Accept a request; its responses go to `respond`, on the event loop, never before this
        has returned.

        Raises InvalidArgumentError for a request that the model cannot take, and UnavailableError
        when no instance runs, the queue is full or its sequence is lost. Whatever happens, the
        request's leases are taken care of.
        """
        answers = self._answers
        try:
            self._admission.check(request)
            looks_up = answers is not None and answers.takes(request)
            if not looks_up:  # what is in the cache is answered also when no instance runs
                self._check_instances(request)
        except Exception:
            _release(request)
            raise
        if request.trace is not None:
            request.trace.accepted(self.name, self.version, request, self.inputs.read)
        work = Work(request, respond, self._finished)
        self._running += 1
        if answers is not None and looks_up:
            answers.accept(work, self._run_after_all)
            return work
        try:
            self.scheduler.enqueue(work)
        except StatusError as error:
            self._running -= 1
            _release(request)
            self.lease_ended()
            if isinstance(error, UnavailableError):
                raise self._rejected(request, error.message) from None
            raise
        return work

    def _check_instances(self, request: InferRequest) -> None:
        """Raises UnavailableError when no instance runs."""
        refusal = self.pool.refusal()
        if refusal is not None:
            raise self._rejected(request, refusal)

    def _run_after_all(self, work: Work) -> None:
        """Run a request that the cache has no answer to; what is refused now is an answer."""
        try:
            refusal = self.pool.refusal()
            if refusal is not None:
                raise UnavailableError(refusal)
            self.scheduler.enqueue(work)
        except UnavailableError as error:
            error = UnavailableError(work.request.log_prefix + error.message)
            response = InferResponse(self.name, self.version, work.request.id, error=error)
            work.answer(response, "REJECTED")

    def cancel(self, work: Work) -> None:
        """The client has gone: drop the request where it waits, tell the model where it runs."""
        if work.cancelled:
            return
        work.cancelled = True
        if not self.scheduler.cancel(work):
            self.pool.cancel(work)

    @property
    def keeps_answers(self) -> bool:
        """Whether its outputs are read for the response cache, after they were handed on."""
        return self._answers is not None

    def reserve(self) -> Reservation:
        """Keep the version serving, for requests that are still to be made of it."""
        self._running += 1
        return Reservation(self)

    def unreserve(self) -> None:
        """Called by a reservation that is given back."""
        self._running -= 1
        self.lease_ended()

    def lease(self, size: int) -> InputLease:
        """Lease memory for a request's inputs. Raises UnavailableError when there is none left."""
        return self.inputs.lease(size)

    def snapshot(self) -> StatisticsSnapshot:
        """The statistics as they are now."""
        self.statistics.pending = self.scheduler.queued + self.pool.waiting
        return self.statistics.snapshot()

    def lease_ended(self) -> None:
        """Called when a lease or a request ends: whoever waits for quiet looks again."""
        if not self.running:
            self._quiet.set()

    async def retire(self, drain_timeout: float, stop_timeout: float) -> bool:
        """Finish what is running, then end the instances; what takes too long is lost.

        False when something did take too long.
        """
        drained = True
        try:
            async with asyncio.timeout(drain_timeout):
                while self.running:
                    self._quiet.clear()
                    await self._quiet.wait()
        except TimeoutError:
            drained = False
            self.scheduler.fail_queued(
                f"model '{self.name}' version {self.version} was unloaded before the request ran"
            )
        return await self.close(stop_timeout) and drained

    async def close(self, stop_timeout: float) -> bool:
        """End the instances now. Whatever is left is answered; a second time is harmless.

        False when an instance had to be killed.
        """
        if self._answers is not None:
            await self._answers.close()
        finalized = await self.pool.stop(stop_timeout)
        self.scheduler.fail_queued(f"model '{self.name}' version {self.version} was unloaded")
        self.scheduler.close()
        on_closed, self.on_closed = self.on_closed, _nothing
        on_closed()
        return finalized

    def trim(self) -> None:
        """Give back memory that lies idle."""
        self.inputs.trim()
        self.pool.trim()

    def _rejected(self, request: InferRequest, reason: str) -> UnavailableError:
        """Count a request that cannot even wait, and say why."""
        self.statistics.failed(time.monotonic_ns() - request.received_ns, "REJECTED")
        return UnavailableError(request.log_prefix + reason)

    def _finished(self, work: Work, response: InferResponse, failure: FailureReason | None) -> None:
        """A request has its final response: count it, and take its memory back."""
        request = work.request
        total_ns = time.monotonic_ns() - request.received_ns
        if request.trace is not None:
            request.trace.stamp("REQUEST_END")
        if response.error is None or failure is None:
            self.statistics.succeeded(total_ns)
        else:
            self.statistics.failed(total_ns, failure)
        if self._answers is not None:
            self._answers.finished(work, response)
        if request.leases:
            _release(request)
        self._running -= 1
        self.lease_ended()


class Reservation(Hold):
    """Keeps a version from being retired until it is released."""

    __slots__ = ("_served",)

    def __init__(self, served: ServedVersion) -> None:
        self._served: ServedVersion | None = served

    def release(self) -> None:
        """Give the version free; a second time is harmless."""
        served, self._served = self._served, None
        if served is not None:
            served.unreserve()


def _nothing() -> None:
    """What is left to do when a version is closed again."""


def _release(request: InferRequest) -> None:
    for lease in request.leases:
        lease.release()
    request.leases.clear()
