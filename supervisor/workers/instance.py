"""One model instance as the supervisor sees it: a worker, and the next one when that dies.

It starts workers, loads the model into them, sends batches and turns their answers into responses.
When to start again is decided by restarts.py; who gets which batch, by the pool.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from itertools import chain, islice
from typing import Protocol

from ...ipc import messages
from ...ipc.errors import InternalError, StatusError, from_code
from ...ipc.messages import FromWorker
from ...ipc.tensor import Span
from ..config.worker_limits import WorkerLimits
from ..log import model_record, worker_line
from ..memory.buffers import OutputArena
from ..request import FailureReason
from ..scheduling.scheduler import Work
from ..telemetry.model_metrics import Contributor
from ..telemetry.statistics import MemoryUsage
from .attached import AttachedWorker
from .calls import CALL_MESSAGES, CallMessage, Execution, WorkerCalls
from .oversight import Oversight
from .process import Exit, Surroundings, WorkerProcess
from .readiness import ReadinessCheck
from .recipe import Recipe
from .restarts import Restarts
from .states import ALIVE, ENDED, WorkerEvent, WorkerState, transition
from .translation import batch_messages, response_of
from .warmup import Sample, WarmUp

log = logging.getLogger(__name__)


class Owner(Protocol):
    """Who is told what becomes of an instance: the pool."""

    def instance_ready(self, instance: Instance) -> None:
        """A worker has loaded the model and can take batches."""
        ...

    def instance_freed(self, instance: Instance) -> None:
        """A batch is executed; called before its responses are delivered."""
        ...

    def instance_waits(self, instance: Instance) -> None:
        """What it executes waits for another model, and may for long."""
        ...

    def instance_lost(
        self, instance: Instance, orphans: list[Work], unbegun: list[Work], reason: str
    ) -> None:
        """The worker is gone, and these requests with it; none has been answered, and those that
        were sent ahead have not even begun.
        """
        ...

    def executed(self, batch: Sequence[Work], message: messages.Executed) -> None:
        """A batch has been executed with these times: for the statistics."""
        ...

    def responded(self, work: Work, message: messages.Responded) -> None:
        """A decoupled model sent a response at these times: for the statistics."""
        ...


class Instance:
    """A place in a model's pool, with a worker in it most of the time."""

    def __init__(self, surroundings: Surroundings, recipe: Recipe, owner: Owner) -> None:
        self.name = recipe.instance.name
        self.state = WorkerState.BACKOFF
        #: Why the worker ended, when it did so unasked: what clients are told of it, and all of it.
        self.cause = self.reason = ""
        #: When the next start is due (monotonic seconds), in BACKOFF.
        self.restart_at = 0.0
        #: How many workers this instance has had that ended unasked.
        self.deaths = 0
        self._surroundings = surroundings
        self._recipe = recipe
        self._owner = owner
        self._restarts = Restarts(recipe.restart_policy)
        #: What its model adds to the metrics.
        self._metrics = Contributor(surroundings.metrics)
        #: Asks the loaded model whether it is ready, where it has something to say.
        self._readiness: ReadinessCheck | None = None
        self._process: WorkerProcess | None = None
        self._outputs: OutputArena | None = None
        #: What the worker's model asks of others; None where nobody answers.
        self._calls: WorkerCalls | None = None
        #: Where the model has limits, who looks after the worker.
        self._oversight: Oversight | None = None
        self._config = ""
        self._samples: Sequence[Sample] = ()
        #: While the worker has loaded the model and is not ready yet.
        self._warmup: WarmUp | None = None
        foreground = surroundings.foreground
        is_attached = foreground is not None and foreground.takes(recipe.files.name)
        #: What its workers are.
        self._worker = AttachedWorker if is_attached else WorkerProcess
        self._pure = False
        self._concurrency = 1
        #: What the worker said that its model takes.
        self._memory: Sequence[messages.MemoryUsage] = ()
        self._batches: dict[int, Sequence[Work]] = {}
        self._open: dict[int, Work] = {}
        self._next_batch = 1
        self._timer: asyncio.TimerHandle | None = None
        #: What the first start waits or waited for: Started, Described, Loaded, one after the
        #: other. None afterwards, when a worker that is lost is started again.
        self._awaited: asyncio.Future[str] | None = None
        self._failure: StatusError | None = None
        self._ended = asyncio.Event()

    def __repr__(self) -> str:
        return (
            f"<Instance {self.name} {self.state.value}: {len(self._batches)} batches, "
            f"{len(self._open)} open requests, {self.deaths} deaths>"
        )

    @property
    def recipe(self) -> Recipe:
        """What its workers are started by."""
        return self._recipe

    @property
    def load(self) -> int:
        """Batches at the worker that are not executed yet."""
        return len(self._batches)

    @property
    def loading(self) -> str:
        """The name of its model while its first worker loads it; "" afterwards."""
        return self._recipe.files.name if self._awaited is not None else ""

    @property
    def executing(self) -> Collection[int]:
        """The numbers of the batches that the worker has begun: all that were not sent ahead."""
        return tuple(self._batches)[: self.concurrency]

    def work_of(self, key: int) -> Work | None:
        """An open request, by its key; without one the only one that there is."""
        if not key and len(self._open) == 1:
            return next(iter(self._open.values()))
        return self._open.get(key)

    def execution_of(self, work: Work) -> Execution | None:
        """The execution of an open request, unless it is over or has not begun."""
        for number in self.executing:
            if work in self._batches[number]:
                return Execution(self, number)
        return None

    def is_ahead(self, work: Work) -> bool:
        """Whether an open request is in a batch that is not begun."""
        return any(work in batch for batch in self._batches_ahead())

    @property
    def requests_ahead(self) -> int:
        """How many requests are in batches that are not begun."""
        return sum(map(len, self._batches_ahead()))

    def _batches_ahead(self) -> Iterable[Sequence[Work]]:
        return islice(self._batches.values(), self.concurrency, None)

    def calls_now(self) -> None:
        """What it executes waits for another model."""
        self._owner.instance_waits(self)

    @property
    def open_requests(self) -> int:
        """Requests at the worker without a final response, decoupled ones among them."""
        return len(self._open)

    @property
    def pure(self) -> bool:
        """Whether a request that was lost with the worker may simply be run again."""
        return self._pure

    @property
    def concurrency(self) -> int:
        """How many batches its worker executes at once."""
        return self._concurrency

    @property
    def memory_usage(self) -> list[MemoryUsage]:
        """The memory that the model takes in its worker, GPUs by the server's numbers."""
        gpu = self._recipe.gpu
        return [
            MemoryUsage(
                type=each.type,
                id=each.id if gpu is None or each.type != "GPU" else gpu,
                byte_size=each.byte_size,
            )
            for each in self._memory
        ]

    @property
    def pid(self) -> int | None:
        """The worker's process id while there is one."""
        return self._process.pid if self._process and self.state in ALIVE else None

    # --- the first start --------------------------------------------------------------------------

    async def start(self) -> None:
        """Start the first worker. Raises StatusError, with the worker's last words, on failure."""
        awaited = self._expect()
        self._spawn()
        await awaited

    async def describe(self, config: str) -> str:
        """Have the backend complete the configuration. Raises StatusError when it cannot."""
        recipe = self._recipe
        awaited = self._expect()
        self._send(
            messages.Describe(recipe.files, config, recipe.instance, dict(recipe.backend_config))
        )
        return await awaited

    async def load_model(self, config: str, samples: Sequence[Sample] = ()) -> None:
        """Load the model by its complete configuration, and have it answer these samples.

        Raises StatusError when one of the two fails. Later workers of the instance do the same.
        """
        awaited = self._expect()
        self._config = config
        self._samples = samples
        self._send_load()
        await awaited

    # --- batches ----------------------------------------------------------------------------------

    def execute(self, batch: Sequence[Work], *, ahead: bool = False) -> None:
        """Send a batch to the worker. Raises what the encoder does when that cannot be done.

        One that is sent `ahead` of its time can be taken back until the worker begins it.
        """
        number = self._next_batch
        self._next_batch = number + 1
        self._batches[number] = batch
        for work in batch:
            self._open[work.key] = work
            if work.request.regions:
                self._show_regions(work)
            if work.request.loans:
                self._show_arenas(work)
        try:
            requests = batch_messages(batch)
            if ahead:
                assert self._process is not None
                self._process.offer(number)
            self._send(messages.Execute(number, requests, ahead))
            if self._oversight is not None and not ahead:
                self._oversight.begin(number, batch)
        except Exception:
            del self._batches[number]
            for work in batch:
                del self._open[work.key]
            raise

    def take_back(self) -> Sequence[Work]:
        """Have a batch back that was sent ahead and is not begun; empty when there is none."""
        assert self._process is not None
        while (number := self._process.take_back()) is not None:
            batch = self._batches.pop(number, None)
            if batch is not None:  # it is not one that could not be sent after all
                if self._oversight is not None:
                    self._oversight.taken_back(number, batch)
                    self._begin_next(self._oversight)
                for work in batch:
                    del self._open[work.key]
                    if work.request.trace is not None:
                        work.request.trace.at_worker(False)
                    if work.request.times is not None:
                        work.request.times.ended()
                return batch
        return ()

    def cancel(self, work: Work) -> bool:
        """Tell the worker that the client has gone; False when the request is not here."""
        if work.key not in self._open:
            return False
        self._send(messages.Cancel([work.key]))
        return True

    async def check_ready(self) -> bool:
        """Whether the model is loaded, and says itself that it is ready where it is asked."""
        if self.state is not WorkerState.READY:
            return False
        return self._readiness is None or await self._readiness.ask()

    def trim(self) -> None:
        """Have the worker give back memory that it does not use."""
        if self.state is WorkerState.READY:
            self._send(messages.Trim())

    # --- the end ----------------------------------------------------------------------------------

    async def stop(self, patience: float) -> bool:
        """Have the worker finalize its model and exit; False when it is killed for taking too long.

        A worker whose model is not loaded has nothing to finalize and is killed at once: it would
        not even hear of it before the model is loaded.
        """
        was = self.state
        self._move(WorkerEvent.STOP_REQUESTED)
        if self._timer is not None:
            self._timer.cancel()
        if self.state is not WorkerState.STOPPING:
            return True
        assert self._process is not None
        if was is WorkerState.READY:
            self._send(messages.Stop())
        elif was is not WorkerState.STOPPING:
            self._process.kill()
        try:
            async with asyncio.timeout(patience):
                await self._ended.wait()
        except TimeoutError:
            log.warning(
                "model instance '%s' did not finalize within %g seconds and is killed",
                self.name,
                patience,
            )
            self._process.kill()
            await self._ended.wait()
            return False
        return True

    def kill(self) -> None:
        """End the worker now; what it was doing is lost."""
        if self._process is not None and self.state in ALIVE:
            self._process.kill()

    # --- inside -----------------------------------------------------------------------------------

    def _expect(self) -> asyncio.Future[str]:
        """The worker's next answer. Raises StatusError when it can give none any more."""
        if self.state in ENDED:
            raise self._failure or InternalError(
                self.reason or f"model instance '{self.name}' was stopped"
            )
        self._awaited = asyncio.get_running_loop().create_future()
        return self._awaited

    def _move(self, event: WorkerEvent) -> None:
        self.state = transition(f"model instance '{self.name}'", self.state, event)

    def _spawn(self) -> None:
        recipe = self._recipe
        self._timer = None
        self._failure = None
        self._ended.clear()
        self._move(WorkerEvent.SPAWNED)
        process = self._worker(
            self._surroundings,
            self.name,
            command=recipe.command,
            environment=recipe.environment,
            cores=recipe.host_policy.cores,
            memory_limit=recipe.limits.memory_bytes,
            on_message=self._receive,
            on_line=self._line,
            on_exit=self._exited,
        )
        self._outputs = self._calls = None
        try:
            outputs = self._outputs = OutputArena(recipe.output_arena_size, self._give_back)
            door = self._surroundings.door
            if door is not None:
                self._calls = WorkerCalls(door, self, outputs, recipe.inputs, process)
            self._process = process
            process.spawn()
            if recipe.limits != WorkerLimits():
                self._oversight = Oversight(recipe.limits, process.pid, self._breached)
                self._oversight.start()
        except OSError as error:
            self._failure = InternalError(
                f"the worker of model instance '{self.name}' cannot be started: {error}"
            )
            self._exited(Exit(1, []))
            return
        self._timer = asyncio.get_running_loop().call_later(
            recipe.start_timeout, self._start_timed_out
        )

    def _start_timed_out(self) -> None:
        assert self._process is not None
        self._failure = InternalError(
            f"the worker of model instance '{self.name}' did not start within "
            f"{self._recipe.start_timeout:g} seconds; see --worker-start-timeout-secs"
        )
        self._process.kill()

    def _breached(self, reason: str) -> None:
        """The worker has gone beyond a limit of its model."""
        assert self._process is not None
        self._failure = InternalError(
            f"the worker of model instance '{self.name}' was killed: {reason}"
        )
        self._process.abort()

    def _send(self, message: messages.ToWorker) -> None:
        assert self._process is not None
        self._process.send(message)

    def _send_load(self) -> None:
        recipe = self._recipe
        self._send(
            messages.Load(recipe.files, self._config, recipe.instance, dict(recipe.backend_config))
        )

    def _show_regions(self, work: Work) -> None:
        assert self._process is not None
        for use in work.request.regions:
            use.show_to(self._process)

    def _show_arenas(self, work: Work) -> None:
        assert self._process is not None
        for loan in work.request.loans:
            loan.show_to(self._process)

    def _give_back(self, offsets: list[int]) -> None:
        if self.state in ALIVE:
            self._send(messages.Release(offsets))

    def _receive(self, message: FromWorker) -> None:
        handle: Callable[..., None] = self._handlers[type(message)]
        handle(self, message)

    def _started(self, message: messages.Started) -> None:
        assert self._process is not None
        assert self._outputs is not None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._move(WorkerEvent.STARTED)
        if self.state is WorkerState.STOPPING:
            return
        self._process.attach_arena(0, self._outputs.descriptor, self._outputs.size)
        inputs = self._recipe.inputs
        self._process.attach_arena(inputs.number, inputs.descriptor, inputs.size)
        self._process.attach_claims()
        if self._config:
            self._send_load()  # a restart: the configuration is known to be good
        else:
            self._resolve("")

    def _described(self, message: messages.Described) -> None:
        self._resolve(message.config)

    def _loaded(self, message: messages.Loaded) -> None:
        self._pure = message.pure
        self._memory = message.memory
        if message.has_readiness:
            assert self._process is not None
            self._readiness = ReadinessCheck(self.name)
            self._process.attach_readiness(self._readiness)
        self._concurrency = message.concurrency
        if self._samples and self.state is not WorkerState.STOPPING:
            self._warmup = WarmUp(self._samples)
            self._warm()
        else:
            self._ready()

    def _warm(self) -> None:
        """Run the next warm-up batch, unless one is under way; after the last one be ready."""
        warmup = self._warmup
        assert warmup is not None
        if warmup.is_waiting:
            return
        batch = warmup.next_batch() if warmup.error is None else None
        if batch is not None:
            try:
                self.execute(batch)
            except Exception as error:  # what cannot be encoded
                warmup.fail(InternalError(str(error)))
        if warmup.error is not None:
            self._failure = warmup.error
            self.kill()
        elif batch is None:
            self._warmup = None
            self._ready()

    def _ready(self) -> None:
        self._restarts.ready(time.monotonic())
        if self._oversight is not None:
            self._oversight.loaded()
        self._move(WorkerEvent.LOADED)
        if self.state is not WorkerState.READY:
            return
        self.cause = self.reason = ""
        if self._awaited is None:
            log.info("model instance '%s' serves again", self.name)
        self._resolve("")
        self._awaited = None
        self._owner.instance_ready(self)

    def _load_failed(self, message: messages.LoadFailed) -> None:
        self._failure = from_code(message.error.code, message.error.message)

    def _executed(self, message: messages.Executed) -> None:
        batch = self._batches.pop(message.batch)
        for key in message.rescheduled:
            del self._open[key]
        if self._oversight is not None:
            self._look_after(self._oversight, message)
        if self._warmup is not None:
            self._warmup.executed(len(message.rescheduled))
            for response in message.responses:
                self._respond(response)
            self._warm()
            return
        # The worker first: it has nothing to do until the next batch is on its way.
        self._owner.instance_freed(self)
        self._owner.executed(batch, message)
        for response in message.responses:
            self._respond(response)

    def _look_after(self, oversight: Oversight, message: messages.Executed) -> None:
        """A batch is executed; the next one that is at the worker has begun."""
        oversight.executed(message.batch, message.rescheduled)
        self._begin_next(oversight)

    def _begin_next(self, oversight: Oversight) -> None:
        """The worker is about to begin the first batch that it has, unless it has begun it."""
        for number, batch in self._batches.items():
            oversight.begin(number, batch)
            break

    def _responded(self, message: messages.Responded) -> None:
        response = message.response
        if message.started_ns:
            work = self._open.get(response.key)
            if work is not None:
                self._owner.responded(work, message)
        self._respond(response)
        if self._warmup is not None:
            self._warm()

    def _cuda_region_attached(self, message: messages.CudaRegionAttached) -> None:
        if message.error is not None:  # the requests that name the region fail, and say so
            log.error("model instance '%s': %s", self.name, message.error.message)

    def _consulted(self, message: CallMessage) -> None:
        if self._calls is not None:
            self._calls.take(message)

    def _family_declared(self, message: messages.DeclareFamily) -> None:
        error = None
        try:
            self._metrics.declare(message.name, message.description, message.kind)
        except StatusError as refusal:
            error = messages.error_of(refusal)
        self._send(messages.Done(message.call, error=error))

    def _metrics_changed(self, message: messages.MetricChanges) -> None:
        self._metrics.apply(message)

    def _told_readiness(self, message: messages.Readiness) -> None:
        if self._readiness is not None:
            self._readiness.answered(message.ready)

    def _logged(self, message: messages.Log) -> None:
        model_record(self.name, message.level, message.message, message.file, message.line)

    def _stopped(self, message: messages.Stopped) -> None:
        pass  # the exit follows, and says all that matters

    _handlers: Mapping[type, Callable[..., None]] = {
        messages.Started: _started,
        messages.Described: _described,
        messages.Loaded: _loaded,
        messages.LoadFailed: _load_failed,
        messages.Executed: _executed,
        messages.Responded: _responded,
        messages.CudaRegionAttached: _cuda_region_attached,
        **dict.fromkeys(CALL_MESSAGES, _consulted),
        messages.DeclareFamily: _family_declared,
        messages.MetricChanges: _metrics_changed,
        messages.Readiness: _told_readiness,
        messages.Log: _logged,
        messages.Stopped: _stopped,
    }

    def _respond(self, answer: messages.Response) -> None:
        final = answer.final
        if self._oversight is not None:
            self._oversight.responded(answer.key, final)
        work = self._open.pop(answer.key, None) if final else self._open.get(answer.key)
        # Also of an answer that nobody waits for: its memory is given back with its views.
        for tensor in answer.outputs:
            if isinstance(tensor.data, Span):
                assert self._outputs is not None
                tensor.data = self._outputs.view(tensor.data)
        if work is not None:
            failure: FailureReason | None = None if answer.deliberate else "BACKEND"
            work.answer(response_of(work, answer, self._recipe.files), failure)

    def _line(self, stream: str, text: str) -> None:
        worker_line(self.name, stream, text)

    def _resolve(self, result: str) -> None:
        if self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(result)

    def _exited(self, exit: Exit) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._calls is not None:
            self._calls.close()
        if self._readiness is not None:
            self._readiness.close()
            self._readiness = None
        if self._outputs is not None:
            self._outputs.retire()
        if self._oversight is not None:
            self._oversight.stop()
            self._oversight = None
        ahead = [self._batches.get(number, ()) for number in exit.unbegun]
        unbegun = [self._open.pop(work.key) for work in chain.from_iterable(ahead)]
        orphans = list(self._open.values()) if self._warmup is None else []
        self._warmup = None
        self._memory = ()
        self._open.clear()
        for work in chain.from_iterable(self._batches.values()):
            if work.request.trace is not None:
                work.request.trace.at_worker(False)
            if work.request.times is not None:
                work.request.times.ended()
        self._batches.clear()
        if self.state is WorkerState.STOPPING:
            self._move(WorkerEvent.EXITED)
            self._metrics.leave()
            self._ended.set()
            self._owner.instance_lost(self, orphans, unbegun, "the model was unloaded")
            return
        self.deaths += 1
        self.cause, self.reason = self._tell(exit)
        if self._awaited is not None:
            # The first start failed: that is the answer to whoever wants the model loaded.
            self._move(WorkerEvent.GIVEN_UP)
            self._metrics.leave()
            self._ended.set()
            if not self._awaited.done():
                self._awaited.set_exception(self._failure or InternalError(self.reason))
                self._awaited.exception()  # whoever waits may be cancelled and never look
            return
        self._restart(orphans, unbegun)

    def _tell(self, exit: Exit) -> tuple[str, str]:
        """Why the worker ended, for clients and for operators: a model's last words may tell of its
        code and of the machine.
        """
        if self._failure is not None:
            return self._failure.message, self._failure.message
        cause = f"the worker of model instance '{self.name}' {exit}"
        if not exit.last_words:
            return cause, cause
        return cause, f"{cause}; its last words: " + " | ".join(exit.last_words[-5:])

    def _restart(self, orphans: list[Work], unbegun: list[Work]) -> None:
        now = time.monotonic()
        delay = self._restarts.ended(now)
        if delay is None:
            self._move(WorkerEvent.GIVEN_UP)
            self._metrics.leave()
            log.error(
                "model instance '%s' is given up after %d failures: %s",
                self.name,
                self._restarts.failures,
                self.reason,
            )
        else:
            self._move(WorkerEvent.LOST)
            self._metrics.lose()
            self.restart_at = now + delay
            log.error("%s; it is started again in %g seconds", self.reason, delay)
            self._timer = asyncio.get_running_loop().call_later(delay, self._spawn)
        self._owner.instance_lost(self, orphans, unbegun, self.cause)
