"""Stand-ins for the parts behind a seam: instances without processes, pools without instances."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace

from tritonpy.ipc import messages
from tritonpy.ipc.errors import InvalidArgumentError, StatusError
from tritonpy.ipc.tensor import Tensor
from tritonpy.supervisor.cache.cache import ResponseCache
from tritonpy.supervisor.config.defaults import normalise
from tritonpy.supervisor.config.schema import ModelConfig, ModelInput, ModelOutput
from tritonpy.supervisor.memory.buffers import InputArena
from tritonpy.supervisor.models.cached_answers import CachedAnswers
from tritonpy.supervisor.models.loader import Loader
from tritonpy.supervisor.models.model import ServedVersion, scheduler_of
from tritonpy.supervisor.models.preparation import Plan
from tritonpy.supervisor.models.scale import with_counts
from tritonpy.supervisor.request import FailureReason, InferRequest, InferResponse
from tritonpy.supervisor.scheduling.dynamic import DynamicScheduler
from tritonpy.supervisor.scheduling.scheduler import Work
from tritonpy.supervisor.telemetry.statistics import VersionStatistics
from tritonpy.supervisor.workers.calls import Execution
from tritonpy.supervisor.workers.instance import Instance, Owner
from tritonpy.supervisor.workers.pool import Feeder, Pool
from tritonpy.supervisor.workers.process import Surroundings
from tritonpy.supervisor.workers.recipe import Recipe
from tritonpy.supervisor.workers.restarts import RestartPolicy
from tritonpy.supervisor.workers.standing import Standing
from tritonpy.supervisor.workers.states import WorkerState
from tritonpy.supervisor.workers.turns import Turns
from tritonpy.supervisor.workers.warmup import Sample

#: What a test waits for comes long before this, or never.
SOON = 20.0

ARENA_BYTES = 4 << 20


def fp32(name: str, count: int = 4) -> Tensor:
    """A small tensor that rides in the message."""
    data = np.arange(count, dtype=np.float32).tobytes()
    return Tensor(name, "FP32", (count,), memoryview(data))


def identity_config(name: str = "m", **more: object) -> ModelConfig:
    """A configuration of the identity backend, IN to OUT, as complete as it needs to be."""
    return ModelConfig(
        name=name,
        backend="identity",
        input=[ModelInput(name="INPUT0", data_type="TYPE_FP32", dims=[-1])],
        output=[ModelOutput(name="OUTPUT0", data_type="TYPE_FP32", dims=[-1])],
        **more,  # type: ignore[arg-type]
    )


def identity_request(model: str = "m", id: str = "") -> InferRequest:
    """A request that an identity model takes."""
    return InferRequest(model, None, [fp32("INPUT0")], id=id)


@dataclass
class Asker:
    """Makes works and keeps every answer to them."""

    responses: list[InferResponse] = field(default_factory=list[InferResponse])
    finals: list[tuple[Work, InferResponse, FailureReason | None]] = field(
        default_factory=list[tuple[Work, InferResponse, FailureReason | None]]
    )
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    def work(self, request: InferRequest | None = None, id: str = "") -> Work:
        """A request on its way."""
        request = request or identity_request(id=id)
        request.wanted = ["OUTPUT0"]
        return Work(request, self.respond, self.on_final)

    def respond(self, response: InferResponse) -> None:
        """Called with every response."""
        self.responses.append(response)
        self.changed.set()

    def on_final(self, work: Work, response: InferResponse, reason: FailureReason | None) -> None:
        """Called before the final one."""
        self.finals.append((work, response, reason))

    async def answers(self, count: int) -> list[InferResponse]:
        """Wait for so many responses."""
        async with asyncio.timeout(SOON):
            while len(self.responses) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.responses


def answer(work: Work, error: StatusError | None = None, outputs: Sequence[Tensor] = ()) -> None:
    """Answer as a model would, for the last time."""
    work.answer(InferResponse(work.request.model, 1, work.request.id, list(outputs), error=error))


@dataclass
class FakeRunner:
    """Instances that run what they are given until the test says that they have finished."""

    idle: int = 1
    spare: int = 0
    batches: list[list[Work]] = field(default_factory=list[list[Work]])
    ran: asyncio.Event = field(default_factory=asyncio.Event)
    #: Whether others leave it the resources that it needs.
    has_turn: bool = True

    def admits(self) -> bool:
        """Whether a batch may run."""
        return self.has_turn

    def run(self, batch: Sequence[Work]) -> None:
        """Take a batch, if there is room for it."""
        assert self.idle or self.spare, "nothing has room"
        if self.idle:
            self.idle -= 1
            self.spare += 1
        else:
            self.spare -= 1
        self.batches.append(list(batch))
        self.ran.set()

    @property
    def sizes(self) -> list[int]:
        """How many requests each batch had."""
        return [len(batch) for batch in self.batches]


class FakeFeeder:
    """Notes what a pool asks of its scheduler."""

    def __init__(self) -> None:
        self.pumps = 0
        self.first: list[Work] = []
        self.failed: list[str] = []
        self.batches = True

    def pump(self) -> None:
        """Something may run."""
        self.pumps += 1

    def enqueue_first(self, work: Work) -> None:
        """A request comes back."""
        self.first.insert(0, work)

    def fail_queued(self, reason: str) -> None:
        """Nothing will run."""
        self.failed.append(reason)


def recipe(
    inputs: InputArena, *, name: str = "m_0", policy: RestartPolicy | None = None, **more: object
) -> Recipe:
    """A recipe for an instance of model `m`, version 1, on the CPU."""
    fields: dict[str, object] = {
        "files": messages.ModelFiles("m", 1, "/nowhere/m", "/nowhere/m/1"),
        "environment": {},
        "backend_config": {},
        "start_timeout": SOON,
        **more,
    }
    return Recipe(
        instance=messages.Instance(name, "CPU", 0, 1),
        inputs=inputs,
        output_arena_size=ARENA_BYTES,
        restart_policy=policy or RestartPolicy(),
        **fields,  # type: ignore[arg-type]
    )


class FakeInstance(Instance):
    """An instance without a process: tests say what happens to it."""

    def __init__(self, surroundings: Surroundings, recipe: Recipe, owner: Owner) -> None:
        super().__init__(surroundings, recipe, owner)
        self._tells = owner
        self.batches: list[list[Work]] = []
        self.cancelled: list[Work] = []
        #: Requests that are executed and not answered (decoupled models).
        self.executed: list[Work] = []
        #: Whether the worker has begun what it was sent ahead, whatever it is doing.
        self.has_begun = False
        self.trims = 0
        self.is_pure = True
        self.most_at_once = 1
        self.refuses: Exception | None = None
        self.fails: StatusError | None = None
        self.finalizes = True
        #: What the model says when it is asked whether it is ready, and how often it was.
        self.says_ready = True
        self.asked = 0

    async def check_ready(self) -> bool:
        self.asked += 1
        await asyncio.sleep(0)
        return self.says_ready

    @property
    def load(self) -> int:
        return len(self.batches)

    @property
    def pure(self) -> bool:
        return self.is_pure

    @property
    def concurrency(self) -> int:
        return self.most_at_once

    async def start(self) -> None:
        self.state = WorkerState.LOADING

    async def describe(self, config: str) -> str:
        return config

    async def load_model(self, config: str, samples: Sequence[Sample] = ()) -> None:
        await asyncio.sleep(0)
        if self.fails is not None:
            self.state = WorkerState.FATAL
            raise self.fails
        self.becomes_ready()

    def becomes_ready(self) -> None:
        """The worker has loaded the model."""
        self.state = WorkerState.READY
        self._tells.instance_ready(self)

    def execute(self, batch: Sequence[Work], *, ahead: bool = False) -> None:
        if self.refuses is not None:
            raise self.refuses
        is_busy = len(self.batches) >= self.concurrency
        assert ahead == is_busy, "what is sent to a busy instance is sent ahead"
        self.batches.append(list(batch))

    @property
    def executing(self) -> Collection[int]:
        return [batch[0].key for batch in self.batches[: self.concurrency]]

    def work_of(self, key: int) -> Work | None:
        works = [work for batch in self.batches for work in batch]
        return next((work for work in [*works, *self.executed] if work.key == key), None)

    def execution_of(self, work: Work) -> Execution | None:
        for batch in self.batches[: self.concurrency]:
            if work in batch:
                return Execution(self, batch[0].key)
        return None

    def is_ahead(self, work: Work) -> bool:
        return any(work in batch for batch in self.batches[self.concurrency :])

    def take_back(self) -> Sequence[Work]:
        return () if self.has_begun or len(self.batches) < 2 else self.batches.pop(1)

    @property
    def requests_ahead(self) -> int:
        return sum(map(len, self.batches[1:]))

    def finishes(self, *outputs: Tensor, error: StatusError | None = None, which: int = 0) -> None:
        """The oldest batch, or another one, is executed and answered."""
        batch = self.batches.pop(which)
        self._tells.instance_freed(self)
        for work in batch:
            answer(work, error, outputs)

    def dies(self, state: WorkerState = WorkerState.BACKOFF, reason: str = "it fell over") -> None:
        """The worker is gone, with everything that it had."""
        begun = self.batches if self.has_begun else self.batches[: self.concurrency]
        orphans = [work for batch in begun for work in batch]
        unbegun = [work for batch in self.batches[len(begun) :] for work in batch]
        self.batches.clear()
        self.state = state
        self.cause = reason
        self.reason = f"{reason}; its last words: help"
        self._tells.instance_lost(self, orphans, unbegun, reason)

    def cancel(self, work: Work) -> bool:
        if not any(work in batch for batch in self.batches):
            return False
        self.cancelled.append(work)
        return True

    def trim(self) -> None:
        self.trims += 1

    async def stop(self, patience: float) -> bool:
        if self.state not in (WorkerState.FATAL, WorkerState.EXITED):
            self.state = WorkerState.STOPPING
            await asyncio.sleep(0)
            self.dies(WorkerState.EXITED, "the model was unloaded")
        return self.finalizes


#: No process is ever started there.
_NOWHERE = Surroundings(None, "", None)  # type: ignore[arg-type]


class FakePool(Pool):
    """A pool of fake instances."""

    def __init__(
        self,
        inputs: InputArena,
        statistics: VersionStatistics,
        count: int = 1,
        turns: Turns | None = None,
        concurrency: int = 1,
        **more: Any,
    ) -> None:
        recipes = [recipe(inputs, name=f"m_{number}", **more) for number in range(count)]
        super().__init__(_NOWHERE, recipes, statistics)
        self.fakes = [FakeInstance(_NOWHERE, one, self) for one in recipes]
        for fake in self.fakes:
            fake.most_at_once = concurrency
        self.instances = list[Instance](self.fakes)
        self.turns = turns
        self._standing = Standing(one_at_a_time=turns is not None)
        self._join(self.fakes)
        #: What instances that are added fail with.
        self.fails: StatusError | None = None

    def _make(self, recipe: Recipe) -> Instance:
        made = FakeInstance(_NOWHERE, recipe, self)
        made.fails = self.fails
        self.fakes.append(made)
        return made

    def goes_live(self, feeder: Feeder) -> None:
        """All instances are loaded."""
        self._feeder = feeder
        for fake in self.fakes:
            fake.becomes_ready()


@dataclass
class Served:
    """A served version on fake instances, and what it is made of."""

    version: ServedVersion
    pool: FakePool
    inputs: InputArena
    statistics: VersionStatistics
    closed: list[str] = field(default_factory=list[str])


def serve(
    config: ModelConfig | None = None,
    *,
    version: int = 1,
    instances: int = 1,
    cache: ResponseCache | None = None,
    generation: bytes = b"",
) -> Served:
    """A version that serves, on fake instances. The caller closes it."""
    config = config or identity_config()
    inputs = InputArena(1, ARENA_BYTES, f"model '{config.name}' version {version}")
    statistics = VersionStatistics(config.name, version)
    pool = FakePool(inputs, statistics, instances)
    scheduler = scheduler_of(config, version, pool)
    answers = None
    if cache is not None:
        answers = CachedAnswers(cache, config.name, version, generation, inputs.view, statistics)
        if isinstance(scheduler, DynamicScheduler):
            answers.on_hit = scheduler.skip
    served = Served(
        ServedVersion(config, version, pool, inputs, statistics, {}, scheduler, answers),
        pool,
        inputs,
        statistics,
    )

    def closed() -> None:
        served.closed.append("closed")
        inputs.close()

    served.version.on_closed = closed
    pool.goes_live(scheduler)
    return served


class FakeLoader(Loader):
    """Loads whatever it is asked for, unless the test says otherwise.

    A version that is in `broken` fails, and a model in `unchangeable` gets no other instances; one
    in `held` waits until it is taken out of there.
    """

    def __init__(self) -> None:
        self.broken: dict[tuple[str, int], Exception] = {}
        self.held: dict[str, asyncio.Event] = {}
        self.loaded: list[Served] = []
        self.asked: list[Plan] = []
        self.changed: list[Plan] = []
        self.unchangeable: set[str] = set()
        self.begun = asyncio.Event()

    async def load(self, plan: Plan) -> ServedVersion:
        self.asked.append(plan)
        self.begun.set()
        if plan.name in self.held:
            await self.held[plan.name].wait()
        error = self.broken.get((plan.name, plan.version))
        if error is not None:
            raise error
        config = _completed(identity_config(plan.name), plan)
        made = serve(config, version=plan.version)
        made.version.namespace = plan.namespace
        self.loaded.append(made)
        return made.version

    async def change_instances(self, served: ServedVersion, plan: Plan) -> list[Instance]:
        if plan.name in self.unchangeable:
            raise InvalidArgumentError("there is no room")
        self.changed.append(plan)
        served.config = _completed(served.config, plan)
        return []

    def last(self, name: str) -> Served:
        """What was loaded last under this name."""
        return [one for one in self.loaded if one.version.name == name][-1]

    async def until_begun(self) -> None:
        """Wait until something is being loaded, from now on."""
        async with asyncio.timeout(SOON):
            await self.begun.wait()
        self.begun.clear()


def _completed(config: ModelConfig, plan: Plan) -> ModelConfig:
    """The configuration with the instance groups that are asked for."""
    config = replace(config, instance_group=plan.config.instance_group)
    return with_counts(normalise(config, ()), plan.counts)


def repository(path: Path, *names: str, versions: Sequence[int] = (1,)) -> Path:
    """A repository of identity models that nobody will really load."""
    for name in names:
        for version in versions:
            (path / name / str(version)).mkdir(parents=True, exist_ok=True)
        (path / name / "config.pbtxt").write_text('backend: "identity"\n')
    return path


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until the condition holds."""
    async with asyncio.timeout(SOON):
        while not condition():  # noqa: ASYNC110 - what is waited for sets no event
            await asyncio.sleep(0)
