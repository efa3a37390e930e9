"""Changes how many instances serve a model while it serves, and tells which there are."""

from __future__ import annotations

import dataclasses
import logging

import msgspec

from ...ipc.errors import InvalidArgumentError
from ..workers.pool import Pool
from ..workers.states import WorkerState
from .deployer import Deployer
from .ensembles import is_ensemble
from .entry import Entry
from .model import ServedVersion
from .registry import Registry
from .scale import Scale, ScaleRequest, meant_group
from .tasks import Tasks

log = logging.getLogger(__name__)


class GroupStatus(msgspec.Struct, frozen=True):
    """An instance group, and how many instances it is to have (on each GPU, for kind KIND_GPU)."""

    name: str
    kind: str
    count: int


class InstanceStatus(msgspec.Struct, frozen=True):
    """An instance as it is now. One that is `leaving` finishes what it has, and gets no more."""

    name: str
    gpu: int | None
    state: str
    deaths: int
    leaving: bool


class VersionInstances(msgspec.Struct, frozen=True):
    """The groups and instances of a version; an ensemble has none."""

    version: str
    groups: list[GroupStatus]
    instances: list[InstanceStatus]


class Scaling:
    """The instances of all models, as clients see and change them."""

    def __init__(self, registry: Registry, deployer: Deployer, operations: Tasks) -> None:
        self._registry = registry
        self._deployer = deployer
        self._operations = operations

    def __repr__(self) -> str:
        return f"<Scaling of {self._registry!r}>"

    def status(self, model: str, version: int | None) -> list[VersionInstances]:
        """The instances of all versions that serve, or of one. Raises the look-up errors."""
        return [_status(served) for served in _meant(self._registry.find(model), version)]

    async def change(self, model: str, version: int | None, request: ScaleRequest) -> None:
        """Give a group as many instances as are asked for, in all versions that serve or in one.

        Returns when the new ones serve; those that leave finish what they have afterwards. Raises
        the look-up errors, InvalidArgumentError for a group that is not there, and the StatusError
        of an instance that cannot be had: then everything is as it was.
        """
        entry = self._registry.find(model)
        await self._operations.run(self._change(entry, version, request))

    async def _change(self, entry: Entry, version: int | None, request: ScaleRequest) -> None:
        async with entry.lock:  # a load, an unload or another change comes first
            meant = _meant(entry, version)
            if any(is_ensemble(served.config) for served in meant):
                raise InvalidArgumentError(
                    f"model '{entry.identifier}' is an ensemble, which has no instances: scale the "
                    "models of its steps"
                )
            name = meant_group(meant[0].config, request.group)
            for served in meant:
                meant_group(served.config, name)
            plans = [entry.plan_of(served.version) for served in meant]
            scale = entry.scale or Scale(plans[0].config.instance_group)
            scale = scale.changed(version, name, request.count)
            wanted = [
                dataclasses.replace(plan, counts=scale.counts(plan.version)) for plan in plans
            ]
            await self._deployer.scale(entry, wanted)
            entry.scale = scale
            log.info(
                "instance group '%s' of model '%s' has %d instances in version %s",
                name,
                entry.identifier,
                request.count,
                ", ".join(str(plan.version) for plan in plans),
            )


def instance_states(served: ServedVersion) -> dict[str, int]:
    """How many instances of a version are in each state; empty for an ensemble."""
    if not isinstance(served.pool, Pool):
        return {}
    counts = {state.value: 0 for state in WorkerState}
    for instance in served.pool.instances:
        counts[instance.state.value] += 1
    return counts


def _meant(entry: Entry, version: int | None) -> list[ServedVersion]:
    """The versions that are meant, one at least. Raises the look-up errors."""
    first = entry.serving(version)
    if version is not None:
        return [first]
    return [v.served for _number, v in sorted(entry.versions.items()) if v.served is not None]


def _status(served: ServedVersion) -> VersionInstances:
    groups = [
        GroupStatus(group.name, group.kind, group.count) for group in served.config.instance_group
    ]
    if not isinstance(served.pool, Pool):
        return VersionInstances(str(served.version), groups, [])
    staying = served.pool.staying
    instances = [
        InstanceStatus(
            one.name, one.recipe.gpu, one.state.value, one.deaths, leaving=one not in staying
        )
        for one in served.pool.instances
    ]
    return VersionInstances(str(served.version), groups, instances)
