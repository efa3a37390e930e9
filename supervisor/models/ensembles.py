"""Ensembles as versions that serve: built from their configuration and the models of their steps.

An ensemble runs on other versions. It has no instances, and an input arena of its own for what its
requests bring; the steps read it there.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

from msgspec.structs import replace

from ...ipc.errors import InvalidArgumentError, StatusError
from ..config.schema import EnsembleStep, ModelConfig, ModelTransactionPolicy
from ..config.validate_ensemble import check_ensemble
from ..memory.buffers import InputArena
from ..memory.lending import lend
from ..scheduling.ensemble import EnsembleScheduler
from ..scheduling.ensemble_graph import Graph, MixedOriginsError, Step
from ..scheduling.scheduler import Work
from ..scheduling.step_times import StepTimes
from ..telemetry.statistics import VersionStatistics
from .cached_answers import CachedAnswers
from .model import ServedVersion

#: The version that serves a model now; None is the latest, and the last is the namespace of whoever
#: asks. Raises the look-up errors.
FindVersion = Callable[[str, int | None, str], ServedVersion]


def is_ensemble(config: ModelConfig) -> bool:
    """Whether other models run it."""
    return config.ensemble_scheduling is not None


def steps_of(config: ModelConfig) -> Sequence[EnsembleStep]:
    """The steps of an ensemble; none of a model that is none."""
    return config.ensemble_scheduling.step if config.ensemble_scheduling is not None else ()


def version_of(step: EnsembleStep) -> int | None:
    """The version that a step asks for; None for the latest."""
    return None if step.model_version == -1 else step.model_version


class Steps:
    """What an ensemble runs on: the versions that serve its steps' models, whichever they are."""

    def __init__(self, config: ModelConfig, find: FindVersion, home: str) -> None:
        self._name = config.name
        self._home = home
        self._steps = steps_of(config)
        self._find = find

    def __repr__(self) -> str:
        return f"<Steps of '{self._name}': {len(self._steps)}>"

    @property
    def is_ready(self) -> bool:
        """Whether every step's model is ready."""
        return all(served is not None and served.pool.is_ready for served in self._served())

    async def check_ready(self) -> bool:
        """Whether every step's model is ready, and says so itself where it is asked."""
        if not self.is_ready:
            return False
        checks = (served.pool.check_ready() for served in self._served() if served is not None)
        return all(await asyncio.gather(*checks))

    @property
    def has_ended(self) -> bool:
        """Never: it is for the steps' models to come back."""
        return False

    def failure(self) -> str:
        """Nothing of its own can fail."""
        return ""

    def refusal(self) -> str | None:
        """Every request may come in: its steps are refused where they cannot run."""
        return None

    @property
    def waiting(self) -> int:
        """Its requests wait with the models of its steps, who count them."""
        return 0

    def cancel(self, work: Work) -> None:
        """The scheduler has done so."""

    def trim(self) -> None:
        """There is nothing to give back."""

    async def stop(self, patience: float) -> bool:
        """There is nothing to end."""
        return True

    def _served(self) -> Sequence[ServedVersion | None]:
        found: list[ServedVersion | None] = []
        for step in self._steps:
            try:
                home = step.model_namespace or self._home
                found.append(self._find(step.model_name, version_of(step), home))
            except StatusError:
                found.append(None)
        return found


def serve_ensemble(
    config: ModelConfig,
    version: int,
    home: str,
    find: FindVersion,
    inputs: InputArena,
    statistics: VersionStatistics,
    labels: Mapping[str, list[str]],
    answers: CachedAnswers | None = None,
) -> ServedVersion:
    """A version of an ensemble that serves, and lies in the namespace `home`.

    Raises InvalidArgumentError when it does not fit the models of its steps.
    """
    started = time.monotonic_ns()
    models = [
        find(step.model_name, version_of(step), step.model_namespace or home)
        for step in steps_of(config)
    ]
    graph = check_composition(config, [served.config for served in models], home)
    config = composed(config, graph)

    def count(rows: int, queue_ns: int, times: StepTimes) -> None:
        statistics.executed(rows, 1, queue_ns, times.input_ns, times.infer_ns, times.output_ns)

    batches = config.max_batch_size > 0
    scheduler = EnsembleScheduler(
        config.name,
        version,
        graph,
        find,
        lend,
        count,
        ranks={tensor.name: len(tensor.dims) + batches for tensor in config.output},
        batches=batches,
        max_inflight=_max_inflight(config),
    )
    steps = Steps(config, find, home)
    labels = {**_labels_of_steps(config, models), **labels}
    if graph.is_decoupled:
        answers = None  # there is not one answer to a request
    served = ServedVersion(config, version, steps, inputs, statistics, labels, scheduler, answers)
    statistics.load_ns = time.monotonic_ns() - started
    return served


def check_composition(config: ModelConfig, configs: Sequence[ModelConfig], home: str = "") -> Graph:
    """The graph of an ensemble whose models have these configurations, one for each step; it lies
    in the namespace `home`.

    Raises InvalidArgumentError when they do not fit together.
    """
    check_ensemble(config, configs)
    pairs = zip(steps_of(config), configs, strict=True)
    steps = [_step(step, found, step.model_namespace or home) for step, found in pairs]
    inputs = [tensor.name for tensor in config.input]
    outputs = [tensor.name for tensor in config.output]
    try:
        return Graph(steps, inputs, outputs)
    except MixedOriginsError as error:
        model = config.name if error.step is None else steps[error.step].model
        raise InvalidArgumentError(
            f"in ensemble {config.name}, step of model '{model}' receives inputs originated from "
            "different decoupled models"
        ) from None


def composed(config: ModelConfig, graph: Graph) -> ModelConfig:
    """The configuration that an ensemble serves with: it is decoupled when one of its steps is."""
    policy = ModelTransactionPolicy(decoupled=graph.is_decoupled)
    return replace(config, model_transaction_policy=policy)


def _step(step: EnsembleStep, config: ModelConfig, home: str) -> Step:
    batches = config.max_batch_size > 0
    return Step(
        step.model_name,
        version_of(step),
        step.input_map,
        step.output_map,
        config.decoupled,
        batches,
        {tensor.name: len(tensor.dims) + batches for tensor in config.input},
        home,
    )


def _labels_of_steps(config: ModelConfig, models: Sequence[ServedVersion]) -> dict[str, list[str]]:
    """The labels that outputs of the ensemble have from the models that write them."""
    outputs = {tensor.name for tensor in config.output}
    return {
        tensor: served.labels[name]
        for step, served in zip(steps_of(config), models, strict=True)
        for name, tensor in step.output_map.items()
        if tensor in outputs and name in served.labels
    }


def _max_inflight(config: ModelConfig) -> int:
    return config.ensemble_scheduling.max_inflight_requests if config.ensemble_scheduling else 0
