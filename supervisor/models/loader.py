"""From a folder to a served version: read, complete, check, start workers, load.

    config.pbtxt ── complete from file names ── [ first worker: Describe ] ── normalise ── validate
        ── Load in every worker ── ServedVersion

The first instance's worker completes the configuration from the model itself and then loads it, so
that a model is opened by one process only once. Whatever fails on the way, everything that was
started is stopped again.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import time
from collections.abc import Sequence
from dataclasses import replace

from ...ipc.errors import InternalError
from ...ipc.messages import Instance as InstanceMessage
from ...ipc.messages import ModelFiles
from .. import python_settings
from ..cache.cache import ResponseCache
from ..config import defaults, parse
from ..config.diff import applied
from ..config.schema import ModelConfig
from ..config.worker_limits import WorkerLimits, limits_of
from ..environments.environments import Environment, Environments
from ..environments.place import place_of, report_stub
from ..memory.buffers import InputArena
from ..scheduling.dynamic import DynamicScheduler
from ..scheduling.rate_limiter import Demand
from ..settings import Settings
from ..telemetry.latencies import Latencies
from ..telemetry.metrics_config import parse_metrics_config
from ..telemetry.statistics import VersionStatistics
from ..workers import devices
from ..workers.environment import worker_environment
from ..workers.gpu_memory import GpuLimits
from ..workers.host_policy import HostPolicy, parse_host_policies
from ..workers.instance import Instance
from ..workers.pool import Pool
from ..workers.process import Surroundings
from ..workers.recipe import Recipe, match
from ..workers.restarts import RestartPolicy
from ..workers.states import ENDED
from ..workers.turns import Turns, explicit_resources
from . import generation
from .cached_answers import CachedAnswers
from .ensembles import FindVersion, is_ensemble, serve_ensemble
from .model import ServedVersion, scheduler_of
from .preparation import Plan, Prepared, check, completed, prepare, read_labels
from .warmup import read_samples

log = logging.getLogger(__name__)

#: Arena 0 is every worker's own, for its outputs.
_arena_numbers = itertools.count(1)

#: How long a worker that failed to load may take to exit before it is killed (seconds).
_STOP_TIMEOUT = 10.0


class Loader:
    """Loads versions; what it returns serves, and is the caller's to retire."""

    def __init__(
        self,
        settings: Settings,
        surroundings: Surroundings,
        find: FindVersion,
        cache: ResponseCache | None = None,
    ) -> None:
        self._settings = settings
        self._surroundings = surroundings
        #: The versions that the steps of ensembles run on.
        self._find = find
        self._cache = cache
        self._environments = Environments(settings.environments, surroundings)
        self._shares = devices.CpuShares(devices.cores())
        self._gpu_limits = GpuLimits(settings.models.gpu_limits)
        self._metrics = parse_metrics_config(settings.metrics.config)
        workers = settings.workers
        self._limits = WorkerLimits(
            workers.load_timeout_secs,
            workers.execution_timeout_secs,
            workers.memory_limit_byte_size,
        )
        #: The rate limiter, where it is on.
        self._turns: Turns | None = None
        cores = os.sched_getaffinity(0)
        self._host_policies = parse_host_policies(workers.host_policies, cores)
        if workers.rate_limit == "execution_count":
            self._turns = Turns(explicit_resources(workers.rate_limit_resources))

    async def load(self, plan: Plan) -> ServedVersion:
        """Load one version. Raises StatusError that says why it cannot be served."""
        if is_ensemble(plan.config):
            return await self._load_ensemble(plan)
        started = time.monotonic_ns()
        prepared = await self._prepare(plan)
        instances = self._instances(plan, prepared)
        await self._check_gpus(instances)
        self._check_demands(instances)
        environment = await self._environment(plan, prepared)
        try:
            # Again, for models that have joined meanwhile: from here to the pool nothing waits.
            self._check_demands(instances)
            inputs = self._input_arena(plan)
        except BaseException:
            _release(environment)
            raise
        on_cpu = sum(instance.kind == "CPU" for instance in instances)
        threads = self._shares.join(on_cpu)
        statistics = VersionStatistics(plan.name, plan.version)
        recipes = [
            self._recipe(plan, prepared, found, threads, inputs, environment) for found in instances
        ]
        pool = Pool(self._surroundings, recipes, statistics, self._turns)

        def dissolve() -> None:
            self._shares.leave(pool.cpu_instances)
            inputs.close()
            _release(environment)

        try:
            config, served = await self._start(plan, prepared, pool, inputs, statistics)
        except BaseException:
            await pool.stop(_STOP_TIMEOUT)
            dissolve()
            raise
        served.on_closed = dissolve
        served.environment = environment
        statistics.load_ns = time.monotonic_ns() - started
        statistics.latencies = Latencies.of(self._metrics, config)
        return served

    async def _load_ensemble(self, plan: Plan) -> ServedVersion:
        """Serve an ensemble, which has nothing of its own to load but the names of its classes."""
        config = defaults.normalise(plan.config, ())
        self._validate(config, plan)
        labels = await asyncio.to_thread(read_labels, plan, config)
        inputs = self._input_arena(plan)
        statistics = VersionStatistics(plan.name, plan.version)
        try:
            answers = await self._answers(plan, config, inputs, statistics)
            served = serve_ensemble(
                config,
                plan.version,
                plan.namespace,
                self._find,
                inputs,
                statistics,
                labels,
                answers,
            )
        except BaseException:
            inputs.close()
            raise
        served.namespace = plan.namespace
        return served

    async def change_instances(self, served: ServedVersion, plan: Plan) -> list[Instance]:
        """Have a version served by the instances that the plan asks for, without a pause.

        Those that are missing are started; returned are those that are not wanted any more, for
        `dismiss`. Raises StatusError when the new ones cannot be had: the old ones serve on.
        """
        if is_ensemble(served.config):
            served.config = applied(served.config, plan.config)
            return []
        prepared = await self._prepare(replace(plan, config=applied(served.config, plan.config)))
        config = prepared.config
        if prepared.is_incomplete:
            self._validate(config, plan)
        wanted = self._instances(plan, prepared)
        inputs, environment = served.inputs, served.environment
        recipes = [self._recipe(plan, prepared, found, 1, inputs, environment) for found in wanted]
        pool = pool_of(served)
        # What was given up for good stands for nothing: it goes, and another one is started.
        ended = [instance for instance in pool.staying if instance.state in ENDED]
        there = [instance for instance in pool.staying if instance.state not in ENDED]
        added, superfluous = match(recipes, [instance.recipe for instance in there])
        await self._check_gpus([wanted[i] for i in added])
        samples = await asyncio.to_thread(read_samples, config, plan.version, plan.directory)
        self._check_demands([wanted[i] for i in added])
        on_cpu = sum(wanted[i].kind == "CPU" for i in added)
        threads = self._shares.join(on_cpu)
        try:
            await pool.add(
                [
                    self._recipe(plan, prepared, wanted[i], threads, inputs, environment)
                    for i in added
                ],
                parse.to_json(config),
                samples,
            )
        except BaseException:
            self._shares.leave(on_cpu)
            raise
        served.config = config
        dismissed = [*ended, *(there[i] for i in superfluous)]
        pool.set_aside(dismissed)
        return dismissed

    async def close(self) -> None:
        """Give back what no version needs any more: all have ended."""
        await self._environments.close()

    async def dismiss(
        self,
        served: ServedVersion,
        instances: Sequence[Instance],
        drain_timeout: float,
        stop_timeout: float,
    ) -> None:
        """End instances that were singled out, once they have finished what they have."""
        on_cpu = sum(instance.recipe.instance.kind == "CPU" for instance in instances)
        await pool_of(served).remove(instances, drain_timeout, stop_timeout)
        self._shares.leave(on_cpu)

    async def _start(
        self,
        plan: Plan,
        prepared: Prepared,
        pool: Pool,
        inputs: InputArena,
        statistics: VersionStatistics,
    ) -> tuple[ModelConfig, ServedVersion]:
        first = await pool.start_first()
        config = prepared.config
        if prepared.is_incomplete:
            described = await first.describe(parse.to_json(config))
            config = parse.from_json(described, f"the completed configuration of '{plan.name}'")
            config = completed(config, plan)
            self._validate(config, plan)
        labels = await asyncio.to_thread(read_labels, plan, config)
        scheduler = scheduler_of(config, plan.version, pool)
        answers = await self._answers(plan, config, inputs, statistics)
        if answers is not None and isinstance(scheduler, DynamicScheduler):
            answers.on_hit = scheduler.skip
        served = ServedVersion(
            config, plan.version, pool, inputs, statistics, labels, scheduler, answers
        )
        served.namespace = plan.namespace
        samples = await asyncio.to_thread(read_samples, config, plan.version, plan.directory)
        await pool.load(parse.to_json(config), scheduler, samples)
        return config, served

    async def _answers(
        self, plan: Plan, config: ModelConfig, inputs: InputArena, statistics: VersionStatistics
    ) -> CachedAnswers | None:
        """The version's part in the response cache, where it wants one and there is one."""
        if config.response_cache is None or not config.response_cache.enable:
            return None
        cache = self._cache
        if cache is None:
            log.warning(
                "model '%s' enables response_cache, and the server has no cache: see "
                "--cache-config",
                plan.name,
            )
            return None
        if cache.is_shared and not is_ensemble(config):  # whose answers its steps decide
            try:
                known = await asyncio.to_thread(
                    generation.of_contents, plan.directory, plan.version, parse.to_json(config)
                )
            except OSError as error:
                raise InternalError(
                    f"model '{plan.name}' version {plan.version} cannot use the response cache: "
                    f"its files cannot be read: {error}"
                ) from None
        else:
            known = generation.of_this_load()
        statistics.cached = True
        return CachedAnswers(cache, plan.name, plan.version, known, inputs.view, statistics)

    async def _check_gpus(self, instances: Sequence[defaults.Instance]) -> None:
        for instance in instances:
            if instance.gpu is not None:
                await asyncio.to_thread(self._gpu_limits.check, instance.name, instance.gpu)

    def _in_foreground(self, plan: Plan) -> bool:
        foreground = self._surroundings.foreground
        return foreground is not None and foreground.takes(plan.name)

    def _instances(self, plan: Plan, prepared: Prepared) -> Sequence[defaults.Instance]:
        """The instances that a version has: as configured, and only one in the foreground."""
        instances = defaults.instances(prepared.config)
        return instances[:1] if self._in_foreground(plan) else instances

    def _check_demands(self, instances: Sequence[defaults.Instance]) -> None:
        if self._turns is not None:
            self._turns.check(_demand(instance) for instance in instances)

    async def _environment(self, plan: Plan, prepared: Prepared) -> Environment | None:
        """The environment that the model wants its workers in; None for the server's own."""
        packed = prepared.runtime.environment
        await asyncio.to_thread(report_stub, plan.name, plan.directory)
        place = await asyncio.to_thread(place_of, prepared.config, plan.directory, packed)
        return None if place is None else await self._environments.prepare(place)

    def _input_arena(self, plan: Plan) -> InputArena:
        size = self._settings.workers.arena_bytes
        owner = f"model '{plan.name}' version {plan.version}"
        try:
            return InputArena(next(_arena_numbers), size, owner)
        except OSError as error:
            raise InternalError(
                f"{owner} cannot have {size} bytes of address space for its inputs: "
                f"{error.strerror}; see --arena-byte-size"
            ) from None

    async def _prepare(self, plan: Plan) -> Prepared:
        prepared = await asyncio.to_thread(prepare, plan, self._settings)
        for warning in prepared.warnings:
            log.warning("%s", warning)
        return prepared

    def _validate(self, config: ModelConfig, plan: Plan) -> None:
        for warning in check(config, plan):
            log.warning("%s", warning)

    def _recipe(
        self,
        plan: Plan,
        prepared: Prepared,
        instance: defaults.Instance,
        threads: int,
        inputs: InputArena,
        environment: Environment | None,
    ) -> Recipe:
        workers = self._settings.workers
        backend = prepared.config.backend
        settings = workers.backend(backend)
        start_timeout = workers.start_timeout_secs
        if backend == "python" or prepared.runtime.file:
            start_timeout = python_settings.start_timeout(backend, settings, start_timeout)
        policy = self._host_policies.get(instance.host_policy, HostPolicy())
        if policy.cores:
            threads = min(threads, len(policy.cores))
        numa_node = -1 if policy.numa_node is None else policy.numa_node
        all_devices = instance.kind == "MODEL"
        visible = (
            os.environ.get("CUDA_VISIBLE_DEVICES")
            if all_devices
            else devices.visible_devices(instance.gpu, os.environ)
        )
        variables = worker_environment(visible_devices=visible, threads=threads)
        return Recipe(
            files=ModelFiles(
                plan.name,
                plan.version,
                plan.directory,
                plan.version_directory,
                prepared.runtime.file,
            ),
            # A worker that sees a single GPU knows it as number 0.
            instance=InstanceMessage(instance.name, instance.kind, 0, threads, numa_node),
            command=() if environment is None else environment.command,
            environment=variables if environment is None else environment.variables(variables),
            backend_config={
                "backend-directory": os.path.abspath(workers.backend_directory),
                **settings,
            },
            inputs=inputs,
            output_arena_size=workers.arena_bytes,
            start_timeout=float(start_timeout),
            restart_policy=RestartPolicy(),
            demand=_demand(instance),
            host_policy=policy,
            limits=WorkerLimits()
            if self._in_foreground(plan)
            else limits_of(prepared.config, self._limits),
            passive=instance.group.passive,
            gpu=None if all_devices else instance.gpu,
        )


def pool_of(served: ServedVersion) -> Pool:
    """The instances of a version that has some."""
    assert isinstance(served.pool, Pool), f"{served!r} has no instances of its own"
    return served.pool


def _release(environment: Environment | None) -> None:
    if environment is not None:
        environment.release()


def _demand(instance: defaults.Instance) -> Demand:
    """What an instance needs of the rate limiter's resources; the CPU counts as device 0."""
    return Demand.of(instance.group.rate_limiter, instance.gpu or 0)
