"""The instances of one model version: which has room, what to do when one is lost, and the end.

The pool is the scheduler's Runner. It sends an instance one batch at a time, and one more ahead
when the scheduler says that this batch cannot grow, so that an instance does not idle between
batches; several more where each request runs alone. What was sent ahead is taken back when another
instance is idle, or one of its clients gone. An instance that executes several batches at once is
sent as many, and nothing ahead.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import Protocol

from ...ipc import messages
from ...ipc.errors import StatusError
from ..scheduling.scheduler import Seat, SeatWatcher, Work
from ..telemetry.statistics import VersionStatistics
from .accounts import Accounts
from .instance import Instance
from .losses import Losses
from .process import Surroundings
from .recipe import Recipe
from .refusals import refusal_of
from .standing import Standing
from .states import ENDED, WorkerState
from .turns import Turns
from .warmup import Sample

log = logging.getLogger(__name__)

#: A request whose workers died this often is not tried again: it may be what kills them.
MOST_DEATHS = 2

#: How many requests an instance is sent ahead where each runs alone. For a small model a request
#: costs less than having its worker fall asleep and woken again.
MOST_AHEAD = 8

#: How often it is looked whether an instance that leaves has answered everything (seconds).
_LOOK_SECS = 0.02

#: How long an instance that was added in vain may take to end (seconds).
_STOP_TIMEOUT = 10.0


class Feeder(Protocol):
    """The scheduler, as the pool needs it."""

    @property
    def batches(self) -> bool:
        """Whether requests run together; if not, each is a batch."""
        ...

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
        turns: Turns | None = None,
    ) -> None:
        self.instances = [Instance(surroundings, recipe, self) for recipe in recipes]
        self._model = recipes[0].files.name
        self._version = recipes[0].files.version
        self._accounts = Accounts(statistics)
        self._losses = Losses(self._model, self._version)
        self._feeder: Feeder | None = None
        #: A scheduler that chooses the instances of its batches, by `run_on`.
        self.watcher: SeatWatcher | None = None
        self._standing = Standing(one_at_a_time=turns is not None)
        #: They finish what they have, get no more and are ended.
        self._leaving: set[Instance] = set()
        self._surroundings = surroundings
        #: Whom to ask before an instance runs, where the rate limiter is on.
        self.turns = turns
        #: The instances whose turn it is and that have not begun.
        self._granted: list[Instance] = []
        self._join(self.instances)

    def __repr__(self) -> str:
        return (
            f"<Pool of '{self._model}' {self._version}: {len(self.instances)} instances, "
            f"{len(self._standing.idle)} idle, {len(self._standing.spare)} spare>"
        )

    # --- life -------------------------------------------------------------------------------------

    async def start_first(self) -> Instance:
        """Start the first instance's worker, which may then be asked to describe the model."""
        first = self.instances[0]
        await first.start()
        return first

    async def load(self, config: str, feeder: Feeder, samples: Sequence[Sample] = ()) -> None:
        """Load the model into the first instance's worker, and start and load all others; each
        answers the samples before it is ready.

        Raises the first StatusError; the caller stops the pool then.
        """
        self._feeder = feeder
        if not feeder.batches:
            self._standing.most_ahead = MOST_AHEAD
        first, *others = self.instances
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(first.load_model(config, samples))
                for instance in others:
                    group.create_task(_start_and_load(instance, config, samples))
        except ExceptionGroup as errors:
            expected = errors.subgroup(StatusError) or errors
            raise expected.exceptions[0] from None

    async def stop(self, patience: float) -> bool:
        """Finalize and end all workers. What they had is answered, what is queued is not run.

        False when a model that was loaded did not finalize in time.
        """
        self._standing.remove(self.instances)
        self._granted.clear()
        ends = await asyncio.gather(*(instance.stop(patience) for instance in self.instances))
        self._leave(self.instances)
        return all(ends)

    async def add(
        self, recipes: Sequence[Recipe], config: str, samples: Sequence[Sample] = ()
    ) -> None:
        """Start more instances; each serves as soon as it is loaded and has answered the samples.

        Raises the first StatusError; none of them is left then.
        """
        added = [self._make(recipe) for recipe in recipes]
        self.instances += added
        self._join(added)
        try:
            async with asyncio.TaskGroup() as group:
                for instance in added:
                    group.create_task(_start_and_load(instance, config, samples))
        except ExceptionGroup as errors:
            await self._undo(added)
            expected = errors.subgroup(StatusError) or errors
            raise expected.exceptions[0] from None
        except asyncio.CancelledError:
            await self._undo(added)
            raise

    async def _undo(self, added: Sequence[Instance]) -> None:
        self.set_aside(added)
        await self.remove(added, _STOP_TIMEOUT, _STOP_TIMEOUT)

    async def remove(
        self, instances: Sequence[Instance], drain_timeout: float, stop_timeout: float
    ) -> None:
        """End instances that get no more work, when they have answered what they have."""

        async def end(instance: Instance) -> None:
            try:
                async with asyncio.timeout(drain_timeout):
                    while instance.load or instance.open_requests:  # noqa: ASYNC110 - no event
                        await asyncio.sleep(_LOOK_SECS)
            except TimeoutError:
                log.warning("model instance '%s' is ended with requests open", instance.name)
            await instance.stop(stop_timeout)

        await asyncio.gather(*(end(instance) for instance in instances))
        for instance in instances:
            self.instances.remove(instance)
            self._leaving.discard(instance)
        self._leave(instances)

    def set_aside(self, instances: Sequence[Instance]) -> None:
        """Give these instances no more work: they are about to be removed."""
        self._leaving.update(instances)
        if self.watcher is not None:
            for instance in instances:
                reason = f"model instance '{instance.name}' was taken out of service"
                self.watcher.instance_lost(instance, reason)
        for instance in [one for one in self._standing.ahead if one in instances]:
            self._take_back(instance, everything=True)
        self._standing.remove(instances)
        if self.turns is not None:
            for instance in instances:
                self.turns.withdraw(instance)
                if instance in self._granted:
                    self._granted.remove(instance)
                    self.turns.decline(instance)
        if self._feeder is not None:
            self._feeder.pump()

    def _make(self, recipe: Recipe) -> Instance:
        return Instance(self._surroundings, recipe, self)

    @property
    def staying(self) -> list[Instance]:
        """All instances but those that are about to be ended."""
        return [instance for instance in self.instances if instance not in self._leaving]

    @property
    def cpu_instances(self) -> int:
        """How many of them compute on the CPU."""
        return sum(one.recipe.instance.kind == "CPU" for one in self.instances)

    def trim(self) -> None:
        """Have all workers give back memory that they do not use."""
        for instance in self.instances:
            instance.trim()

    @property
    def is_ready(self) -> bool:
        """Whether at least one instance is up."""
        return any(instance.state is WorkerState.READY for instance in self.instances)

    async def check_ready(self) -> bool:
        """Whether at least one instance is up, and the models of all that are say so themselves."""
        up = [one for one in self.instances if one.state is WorkerState.READY]
        return bool(up) and all(await asyncio.gather(*(one.check_ready() for one in up)))

    @property
    def has_ended(self) -> bool:
        """Whether no instance will ever come back."""
        return all(instance.state in ENDED for instance in self.instances)

    def failure(self) -> str:
        """Why instances that do not run ended, for operators; "" when none did."""
        reasons = [instance.reason for instance in self.instances if instance.reason]
        return "; ".join(dict.fromkeys(reasons))

    def refusal(self) -> str | None:
        """Why no request may be queued now, or None when it may."""
        if self._standing.idle or self._standing.spare:
            return None
        return refusal_of(self._model, self._version, self.instances)

    # --- the scheduler's Runner -------------------------------------------------------------------

    @property
    def idle(self) -> int:
        """Instances that would begin a batch at once."""
        return len(self._standing.idle)

    @property
    def spare(self) -> int:
        """Instances that are busy with one batch and may be sent one more; none that wait for their
        turn.
        """
        return len(self._standing.spare) if self.turns is None else 0

    @property
    def waiting(self) -> int:
        """Requests that were sent ahead and have not begun, as far as their workers have said."""
        return sum(instance.requests_ahead for instance in self._standing.ahead)

    def admits(self) -> bool:
        """Whether a batch may run on an idle instance now; if not, the feeder is told when."""
        if self.turns is None:
            return True
        return bool(self._granted) or self._ask(self.turns, self._standing.idle)

    def admits_on(self, seat: Seat) -> bool:
        """Whether a batch may run on this idle instance now; if not, the feeder is told when."""
        if self.turns is None:
            return True
        mine = [instance for instance in self._standing.idle if instance is seat]
        return seat in self._granted or self._ask(self.turns, mine)

    def _ask(self, turns: Turns, instances: Sequence[Instance]) -> bool:
        turn = turns.ask(instances)
        if turn is not None:
            self._granted.append(turn)
        return turn is not None

    def run(self, batch: Sequence[Work]) -> None:
        """Send a batch to an idle instance, or else to one with room to spare."""
        standing = self._standing
        ahead = not standing.idle
        if self._granted:
            instance = self._granted.pop()
        else:
            instance = standing.next_spare() if ahead else standing.next_idle()
        if not self._send(instance, batch, ahead):
            return
        if ahead:
            standing.sent_ahead(instance)
        else:
            standing.sent(instance)

    def is_idle(self, seat: Seat) -> bool:
        """Whether this instance has nothing to do."""
        return seat in self._standing.idle

    def run_on(self, seat: Seat, batch: Sequence[Work]) -> None:
        """Send a batch to this instance, which is idle."""
        instance = next(instance for instance in self._standing.idle if instance is seat)
        if instance in self._granted:
            self._granted.remove(instance)
        if self._send(instance, batch, False):
            self._standing.sent(instance)

    def _send(self, instance: Instance, batch: Sequence[Work], ahead: bool) -> bool:
        """Send a batch; False when that cannot be done, and its requests are about to fail."""
        try:
            instance.execute(batch, ahead=ahead)
        except Exception as error:  # what cannot be encoded fails alone
            log.exception("a batch for model instance '%s' cannot be sent", instance.name)
            asyncio.get_running_loop().call_soon(self._not_sent, batch, error)
            if self.turns is not None:
                self.turns.decline(instance)
            return False
        for work in batch:
            if work.request.trace is not None:
                work.request.trace.at_worker(True)
            if work.request.times is not None:
                work.request.times.began()
        return True

    def cancel(self, work: Work) -> None:
        """The client has gone: have the request back if it has not begun, or tell its worker."""
        for instance in self._standing.ahead:
            if instance.is_ahead(work):
                if self._take_back(instance, everything=True) and self._feeder is not None:
                    self._feeder.pump()
                break
        for instance in self.instances:
            if instance.cancel(work):
                return

    def turn_given(self, instance: Instance) -> None:
        """It is our turn: run what waits when this turn of the loop is over."""
        self._granted.append(instance)
        asyncio.get_running_loop().call_soon(self._use_turn)

    def _use_turn(self) -> None:
        if self._granted and self._feeder is not None:
            self._feeder.pump()
            # A scheduler may put off what it does to the end of this turn of the loop.
            asyncio.get_running_loop().call_soon(self._decline)

    def _decline(self) -> None:
        """Let others have the turns that nothing was left for."""
        granted, self._granted = self._granted, []
        if self.turns is not None:
            for instance in granted:
                self.turns.decline(instance)

    def _join(self, instances: Sequence[Instance]) -> None:
        if self.turns is not None:
            for instance in instances:
                self.turns.join(instance, self)

    def _leave(self, instances: Sequence[Instance]) -> None:
        if self.turns is not None:
            for instance in instances:
                self.turns.leave(instance)

    def _take_back(self, instance: Instance, *, everything: bool = False) -> bool:
        """Have the oldest batch back that was sent ahead, or all of them, which keeps their order;
        False when the worker has begun them.
        """
        taken: list[Work] = []
        while batch := instance.take_back():
            taken += batch
            if not everything:
                break
        if not taken:
            return False
        self._standing.taken_back(instance)
        assert self._feeder is not None
        for work in reversed(taken):
            if work.cancelled:
                self._losses.lost(work, "")
            else:
                self._feeder.enqueue_first(work)
        return True

    def _feed(self) -> None:
        """Somebody has become idle: what waits runs, also what waits at a worker."""
        assert self._feeder is not None
        self._feeder.pump()
        standing = self._standing
        while standing.idle and standing.ahead:
            if not any(self._take_back(instance) for instance in list(standing.ahead)):
                return  # all of it has begun: the workers are about to say so
            self._feeder.pump()

    # --- what instances tell ----------------------------------------------------------------------

    def instance_ready(self, instance: Instance) -> None:
        """A worker has loaded the model."""
        self._accounts.add_up_memory(self.instances)
        if instance in self._leaving or instance.recipe.passive:
            return
        self._standing.idle.append(instance)
        if self.watcher is not None:
            self.watcher.instance_ready(instance)
        if self._feeder is not None:
            self._feed()

    def instance_freed(self, instance: Instance) -> None:
        """A batch is executed: what waits can run before its responses are delivered."""
        if self.turns is not None:
            self.turns.finished(instance)
        if instance.state is not WorkerState.READY or instance in self._leaving:
            return  # it is being stopped, and gets no more
        self._standing.freed(instance)
        self._feed()

    def instance_waits(self, instance: Instance) -> None:
        """What it executes waits for another model: others take what it was sent ahead."""
        standing = self._standing
        taken = instance in standing.ahead and self._take_back(instance, everything=True)
        standing.waits(instance)
        if taken:
            self._feed()

    def instance_lost(
        self, instance: Instance, orphans: list[Work], unbegun: list[Work], reason: str
    ) -> None:
        """A worker is gone: run its requests again where that is safe, answer them where not."""
        if self.turns is not None:
            if instance in self._granted:
                self._granted.remove(instance)
            self.turns.withdraw(instance)
            self.turns.finished(instance)
        self._accounts.add_up_memory(self.instances)
        self._standing.remove((instance,))
        if self.watcher is not None:
            self.watcher.instance_lost(instance, reason)
        crashed = instance.state is not WorkerState.EXITED
        for work in reversed(unbegun):
            if crashed and not work.cancelled and self._feeder is not None:
                self._feeder.enqueue_first(work)
            else:
                self._losses.lost(work, reason)
        for work in reversed(orphans):
            work.deaths += 1
            again = crashed and instance.pure and not work.responses and not work.cancelled
            again = again and work.step is None  # else what it goes on from is gone
            if again and work.deaths < MOST_DEATHS and self._feeder is not None:
                self._feeder.enqueue_first(work)
            else:
                self._losses.lost(work, reason)
        if self._feeder is not None:
            refusal = self.refusal()
            if refusal is not None:
                self._feeder.fail_queued(refusal)
            self._feeder.pump()

    def executed(self, batch: Sequence[Work], message: messages.Executed) -> None:
        """A batch is executed: it is counted, and what wants to run again does."""
        self._accounts.executed(batch, message)
        if self.watcher is not None:
            self.watcher.executed(batch, message.rescheduled)
        elif message.rescheduled:
            self._losses.not_rescheduled(batch, message.rescheduled)

    def responded(self, work: Work, message: messages.Responded) -> None:
        """A decoupled model has sent a response."""
        self._accounts.responded(work, message)

    def _not_sent(self, batch: Sequence[Work], error: Exception) -> None:
        if self.watcher is not None:
            self.watcher.executed(batch, ())
        self._losses.not_sent(batch, error)


async def _start_and_load(instance: Instance, config: str, samples: Sequence[Sample]) -> None:
    await instance.start()
    await instance.load_model(config, samples)
