"""A model as the manager remembers it: its versions, and what its files looked like."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from ...ipc.errors import InvalidArgumentError, NotFoundError, UnavailableError
from ..config.diff import in_place
from ..repository import poller
from .identifier import ModelIdentifier
from .index import ModelIndex
from .load_request import LoadRequest
from .model import ServedVersion
from .preparation import Plan
from .scale import Scale
from .states import VersionEvent, VersionState, transition
from .traffic import Traffic, TrafficRule, TrafficStatus

#: The reason of a version that was unloaded because somebody wanted it so.
UNLOADED = "unloaded"

#: The reason of a model that is not loaded as nobody needs it just now.
ON_DEMAND = "loaded on demand, at its next request"


@dataclass(slots=True)
class Version:
    """A version of a model that somebody asked for at some time."""

    number: int
    state: VersionState = VersionState.UNKNOWN
    reason: str = ""
    #: What answers requests, while there is such a thing.
    served: ServedVersion | None = None
    #: What was unloaded last, until it has finished its requests and ended.
    leaving: ServedVersion | None = None
    #: What it was loaded by, while it serves.
    plan: Plan | None = None

    @property
    def is_unloaded(self) -> bool:
        """Whether nobody wants it to serve."""
        return self.state is VersionState.UNAVAILABLE and self.reason == UNLOADED

    @property
    def is_dead(self) -> bool:
        """Whether it should serve, but its instances kept crashing and were all given up."""
        return self.served is not None and self.served.pool.has_ended


@dataclass(slots=True)
class Entry:
    """A model that was asked for: its versions, and what its folder looked like when loaded."""

    identifier: ModelIdentifier
    versions: dict[int, Version] = field(default_factory=dict[int, Version])
    #: Why nothing of it could be loaded at all, when it has no version to blame.
    reason: str = ""
    fingerprint: poller.Fingerprint | None = None
    #: What the folder looked like when it was last tried to load it, whatever came of it.
    tried: poller.Fingerprint | None = None
    #: The configuration was given by the load API: the files do not decide.
    overridden: bool = False
    #: It need not be loaded: its next request does that.
    on_demand: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    latest: ServedVersion | None = None
    #: The models of its steps, while somebody wants it; of a model that is no ensemble none.
    composing: tuple[ModelIdentifier, ...] = ()
    #: An ensemble that somebody wants, and that does not serve as a model that it needs is gone.
    waits: bool = False
    #: Somebody asked for it by name, and not only for an ensemble that needs it.
    explicit: bool = False
    #: The versions by the labels that the configuration gave them when it was loaded.
    labels: Mapping[str, int] = field(default_factory=dict[str, int])
    #: How many instances its groups were given at run time; None while as the configuration says.
    scale: Scale | None = None
    #: The rule by which requests that name no version are routed: of the configuration, and the
    #: one that was given in its place.
    configured_rule: TrafficRule | None = None
    given_rule: TrafficRule | None = None
    #: The one that counts, at work; None where the latest version gets everything.
    traffic: Traffic | None = None

    def event(self, number: int, event: VersionEvent, reason: str = "") -> Version:
        """Something has happened to a version."""
        version = self.versions.setdefault(number, Version(number))
        subject = f"model '{self.identifier}' version {number}"
        version.state = transition(subject, version.state, event)
        version.reason = reason
        return version

    def is_as_loaded(self, fingerprint: poller.Fingerprint) -> bool:
        """Whether what serves was loaded from files that look like this."""
        serves_files = self.latest is not None and not self.overridden
        serves_files = serves_files and not any(v.is_dead for v in self.versions.values())
        return serves_files and fingerprint == self.fingerprint

    def settle_traffic(self) -> None:
        """Have the rule that counts take effect; one that has not changed goes on as it was."""
        rule = self.configured_rule if self.given_rule is None else self.given_rule
        if rule is None or rule == TrafficRule():
            self.traffic = None
        elif self.traffic is None or self.traffic.rule != rule:
            self.traffic = Traffic(rule)

    def check_rule(self, rule: TrafficRule) -> None:
        """Raise InvalidArgumentError when a rule names a version or a label that is not there."""
        for target in (*rule.weights, *(shadow.version for shadow in rule.shadow)):
            known = target in self.labels or (target.isdecimal() and int(target) in self.versions)
            if not known:
                there = ", ".join([*map(str, sorted(self.versions)), *self.labels])
                raise InvalidArgumentError(
                    f"the traffic rule for model '{self.name}' names version '{target}', and the "
                    f"versions and labels are {there}"
                )

    def traffic_status(self) -> TrafficStatus:
        """The rule that counts, and what it has done."""
        given = self.given_rule is not None
        rule = self.given_rule if given else self.configured_rule
        source = "request" if given else "configuration" if rule is not None else ""
        counts, shadows = ({}, []) if self.traffic is None else self.traffic.statistics()
        return TrafficStatus(rule, source, counts, shadows)

    def ready_version(self, target: str) -> int | None:
        """The version of a label or a number, if it is ready."""
        number = self.labels.get(target)
        if number is None:
            number = int(target) if target.isascii() and target.isdecimal() else 0
        found = self.versions.get(number)
        if found is None or found.state is not VersionState.READY or found.is_dead:
            return None
        return number

    def can_keep(self, plan: Plan, request: LoadRequest, fingerprint: poller.Fingerprint) -> bool:
        """Whether the version that serves need not be loaded anew to serve by this plan.

        Its files are the same, and so is its configuration but for version policy and instances.
        A request that brings along the very configuration that is there wants a reload.
        """
        version = self.versions.get(plan.version)
        old = version.plan if version is not None else None
        if version is None or old is None or version.served is None or version.is_dead:
            return False
        if self.fingerprint is None or plan.given is not None or old.given is not None:
            return False
        if old.directory != plan.directory or not in_place(old.config, plan.config):
            return False
        if request.config is not None and old.config == plan.config:
            return False
        return poller.same_version(self.fingerprint, fingerprint, plan.directory, plan.version)

    @property
    def name(self) -> str:
        """Its name, which with namespacing other models may have too."""
        return self.identifier.name

    @property
    def is_blank(self) -> bool:
        """Whether nothing is known of it: not tried yet, or unloaded without ever having loaded."""
        return not self.versions and not self.reason and not self.on_demand

    @property
    def is_wanted(self) -> bool:
        """Whether it was asked for and not unloaded since, whatever came of that."""
        if self.latest is not None or self.reason or self.on_demand:
            return True
        gone = VersionState.UNLOADING
        return any(v.state is not gone and not v.is_unloaded for v in self.versions.values())

    def serving(self, version: int | None) -> ServedVersion:
        """The version that serves, or the latest. Raises NotFoundError or UnavailableError."""
        if self.on_demand and self.latest is None:
            raise UnavailableError(f"model '{self.identifier}' is {ON_DEMAND}, and is not loaded")
        if version is None:
            if self.latest is None:
                raise NotFoundError(f"{self._unknown} has no available versions")
            return self.latest
        found = self.versions.get(version)
        if found is None:
            raise NotFoundError(f"{self._unknown} version {version} is not found")
        if found.served is None or found.state is not VersionState.READY:
            raise UnavailableError(f"{self._unknown} version {version} is not at ready state")
        return found.served

    @property
    def _unknown(self) -> str:
        return f"Request for unknown model: '{self.identifier}'"

    @property
    def is_ready(self) -> bool:
        """Whether it does what is wanted of it: serves by instances that run, or was unloaded.

        A version that could not be loaded beside one that serves does not count: clients are
        answered as before, and neither does a model on demand.
        """
        if self.on_demand:
            return True
        if self.latest is None:
            wanted = [v for v in self.versions.values() if not v.is_unloaded]
            return not wanted if self.versions else not self.reason
        return all(v.served is None or v.served.pool.is_ready for v in self.versions.values())

    async def check_ready(self) -> bool:
        """Whether it is ready, and the versions that serve say so themselves where they are asked.

        A model on demand is not asked: it need not be there.
        """
        if self.on_demand or not self.is_ready:
            return self.is_ready
        served = (v.served for v in self.versions.values() if v.served is not None)
        return all(await asyncio.gather(*(one.pool.check_ready() for one in served)))

    def plan_of(self, version: int) -> Plan:
        """What a version that serves was loaded by."""
        plan = self.versions[version].plan
        assert plan is not None, f"version {version} of model '{self.identifier}' does not serve"
        return plan

    @property
    def plans(self) -> list[Plan]:
        """What it is served by, or was before a model that it needs went."""
        versions = self.versions.values()
        return [v.plan for v in versions if v.plan is not None and (v.served or self.waits)]

    def failures(self) -> str:
        """What keeps its versions from serving, as the answer to a failed load tells it."""
        failed = [v for _n, v in sorted(self.versions.items()) if v.served is None]
        return " ".join(
            f"version {v.number} is at {v.state.value} state: {v.reason};" for v in failed
        )

    def ready(self) -> list[int]:
        """The versions that are ready, ascending."""
        ready = VersionState.READY
        return sorted(n for n, v in self.versions.items() if v.state is ready and not v.is_dead)

    def index(self) -> list[ModelIndex]:
        """Its lines of the repository index, a version each."""
        if not self.versions:
            reason = self.reason or ON_DEMAND
            return [ModelIndex.of(self.identifier, state="UNAVAILABLE", reason=reason)]
        return [self._line(version) for _number, version in sorted(self.versions.items())]

    def _line(self, version: Version) -> ModelIndex:
        state, reason = version.state, version.reason
        if self.on_demand and version.is_unloaded:
            reason = ON_DEMAND
        if version.served is not None and version.is_dead:
            state, reason = VersionState.UNAVAILABLE, f"Internal: {version.served.pool.failure()}"
        return ModelIndex.of(self.identifier, str(version.number), state.value, reason)
