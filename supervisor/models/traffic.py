"""How requests that name no version are shared among a model's versions, and which get copies.

A rule gives weights to versions. Requests that share a sticky value (a parameter, their id, or the
sequence that they belong to) go to the same version for as long as the rule and what is ready stay
the same; all others are dealt out in turn, exactly by weight. Pure: what is ready is asked of the
caller, and time is an argument.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta

from ...ipc.errors import InvalidArgumentError
from ..config.schema import ModelConfig
from ..request import InferRequest

#: The parameter of a configuration that holds a rule, as JSON.
PARAMETER = "traffic"

_ID = "id"
_BY_PARAMETER = "parameter:"

#: The version that is ready under a number or a label, None without one.
Ready = Callable[[str], int | None]


class ShadowRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A version that gets copies of so many percent of the requests.

    While `max_pending` copies are not answered, further ones are dropped.
    """

    version: str
    percent: Annotated[float, Meta(gt=0, le=100)] = 100.0
    max_pending: Annotated[int, Meta(ge=1, le=100_000)] = 32


class TrafficRule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Versions are numbers or labels, as text. `sticky` is "", "id" or "parameter:<name>"."""

    weights: dict[str, Annotated[int, Meta(ge=0, le=1_000_000)]] = {}
    sticky: str = ""
    shadow: tuple[ShadowRule, ...] = ()


class ShadowStatistics(msgspec.Struct, frozen=True):
    """What became of the copies for one version; `total_ns` is that of those that succeeded."""

    version: str
    pending: int
    success: int
    fail: int
    dropped: int
    total_ns: int


class TrafficStatus(msgspec.Struct, frozen=True):
    """A model's rule, where it is from ("configuration", "request" or ""), and what it has done."""

    rule: TrafficRule | None
    source: str
    versions: dict[str, int]
    shadow: list[ShadowStatistics]


def parse_rule(document: bytes | str, where: str) -> TrafficRule:
    """A rule as JSON. `where` begins the sentence about a wrong one: InvalidArgumentError."""
    try:
        rule = msgspec.json.decode(document, type=TrafficRule)
    except msgspec.DecodeError as error:
        raise InvalidArgumentError(f"{where} is no traffic rule: {error}") from None
    if rule.sticky not in ("", _ID) and not rule.sticky.removeprefix(_BY_PARAMETER):
        raise InvalidArgumentError(f"{where} is no traffic rule: 'sticky' names no parameter")
    if rule.sticky not in ("", _ID) and not rule.sticky.startswith(_BY_PARAMETER):
        raise InvalidArgumentError(
            f"{where} is no traffic rule: 'sticky' must be 'id' or 'parameter:<name>', and is "
            f"'{rule.sticky}'"
        )
    if rule.weights and not any(rule.weights.values()):
        raise InvalidArgumentError(f"{where} is no traffic rule: all weights are 0")
    return rule


def configured_rule(config: ModelConfig) -> TrafficRule | None:
    """The rule of a configuration. Raises InvalidArgumentError for a wrong one."""
    parameter = config.parameters.get(PARAMETER)
    if parameter is None or not parameter.string_value:
        return None
    where = f"parameter '{PARAMETER}' of model '{config.name}'"
    return parse_rule(parameter.string_value, where)


class Shadow:
    """The copies for one version."""

    def __init__(self, rule: ShadowRule) -> None:
        self.rule = rule
        #: Percents that have not become a copy yet.
        self._credit = 0.0
        self._pending = self._success = self._fail = self._dropped = self._total_ns = 0

    def __repr__(self) -> str:
        return f"<Shadow on '{self.rule.version}': {self._pending} pending>"

    def takes(self) -> bool:
        """Whether this request is copied; if so, `ended` or `dropped` follows."""
        self._credit += self.rule.percent
        if self._credit < 100:
            return False
        self._credit -= 100
        if self._pending >= self.rule.max_pending:
            self._dropped += 1
            return False
        self._pending += 1
        return True

    def ended(self, total_ns: int, *, failed: bool) -> None:
        """The copy was answered, after so long."""
        self._pending -= 1
        if failed:
            self._fail += 1
        else:
            self._success += 1
            self._total_ns += total_ns

    def dropped(self) -> None:
        """The copy was not sent after all."""
        self._pending -= 1
        self._dropped += 1

    def statistics(self) -> ShadowStatistics:
        """What has become of the copies so far."""
        return ShadowStatistics(
            self.rule.version,
            self._pending,
            self._success,
            self._fail,
            self._dropped,
            self._total_ns,
        )


class Traffic:
    """A rule at work on one model."""

    def __init__(self, rule: TrafficRule) -> None:
        self.rule = rule
        self._shadows = [Shadow(each) for each in rule.shadow]
        #: How far each version lags behind its share: whoever is furthest comes next.
        self._due = dict.fromkeys(rule.weights, 0)
        #: How many requests each has got.
        self._routed = dict.fromkeys(rule.weights, 0)

    def __repr__(self) -> str:
        return f"<Traffic {self._routed}>"

    def route(self, request: InferRequest, ready: Ready) -> None:
        """Give a request that names no version one, and say who may get copies of it."""
        weighted = [
            (name, version, weight)
            for name, weight in self.rule.weights.items()
            if weight and (version := ready(name)) is not None
        ]
        if weighted:
            value = self._sticky_value(request)
            name, request.version = self._hashed(weighted, value) if value else self._next(weighted)
            self._routed[name] += 1
        request.shadows = [
            (version, shadow)
            for shadow in self._shadows
            if (version := ready(shadow.rule.version)) is not None and version != request.version
        ]

    def statistics(self) -> tuple[dict[str, int], list[ShadowStatistics]]:
        """How many requests each version got by weight, and what became of the copies."""
        return dict(self._routed), [shadow.statistics() for shadow in self._shadows]

    def _sticky_value(self, request: InferRequest) -> str:
        if request.correlation_id:
            return f"sequence:{request.correlation_id}"
        sticky = self.rule.sticky
        if sticky == _ID:
            return request.id
        if not sticky:
            return ""
        wanted = sticky.removeprefix(_BY_PARAMETER)
        found = request.parameters.get(wanted)
        if found is None:  # a forwarded header, in whatever case its client wrote it
            lower = wanted.lower()
            found = next((v for k, v in request.parameters.items() if k.lower() == lower), None)
        return "" if found is None else str(found)

    def _next(self, weighted: Sequence[tuple[str, int, int]]) -> tuple[str, int]:
        """Whose turn it is: of as many turns as the weights sum up to, each has its weight."""
        total = 0
        for name, _version, weight in weighted:
            self._due[name] += weight
            total += weight
        name, version, _weight = max(weighted, key=lambda each: self._due[each[0]])
        self._due[name] -= total
        return name, version

    def _hashed(self, weighted: Sequence[tuple[str, int, int]], value: str) -> tuple[str, int]:
        """Where a value belongs (weighted rendezvous hashing): a change of one weight moves values
        to or from that version only.
        """

        def score(each: tuple[str, int, int]) -> float:
            name, _version, weight = each
            digest = hashlib.blake2b(f"{name}\0{value}".encode("utf-8", "surrogatepass"))
            part = (int.from_bytes(digest.digest()[:8]) + 0.5) / 2**64
            return -weight / math.log(part)

        name, version, _weight = max(weighted, key=score)
        return name, version
