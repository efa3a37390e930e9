"""The metrics that models make, added up over the processes that hold them.

A family and its metrics belong to everybody who makes them, as they would in one process: counters
and histograms are the sum of what all of them count, and a gauge is what it was set to last and
what was added to it since. They are there as long as somebody holds them.

Who holds something is a Contributor, one for each place that worker processes are started in. When
such a process dies, what it has counted stays for the next one to go on from, so that no counter
ever runs backwards; its part of gauges is taken back, as it was about a process that is no more.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator

from ...ipc.errors import InvalidArgumentError
from ...ipc.messages import MetricChange, MetricChanges
from .exposition import Labels, header, sample

#: Names that begin like this are the server's.
_RESERVED = (
    "nv_inference_",
    "nv_cache_",
    "nv_model_",
    "nv_cpu_",
    "nv_gpu_",
    "nv_energy_",
    "nv_pinned_",
    "tritonpy_",
)


class _Metric:
    """What all who hold one metric have made of it."""

    def __init__(self, bounds: list[float]) -> None:
        self.value = 0.0
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        #: Who holds it, and by how much each has raised it since a gauge was set last.
        self.holders: dict[Contributor, float] = {}
        #: Those whose process has died, and who may come back.
        self.absent: set[Contributor] = set()

    def apply(self, who: Contributor, change: MetricChange) -> None:
        """Take over what one of the holders has done."""
        self.absent.discard(who)
        self.holders.setdefault(who, 0.0)
        if change.base is not None:
            self.value = change.base
            self.holders = dict.fromkeys(self.holders, 0.0)
        self.value += change.added
        self.holders[who] += change.added
        for bound, count in zip((*change.bounds, math.inf), change.counts, strict=False):
            # With other bounds than the first holder's a bucket is counted in the next larger one.
            self.counts[bisect_left(self.bounds, bound)] += count


class _Family:
    def __init__(self, name: str, kind: str, description: str) -> None:
        self.name = name
        self.kind = kind
        self.description = description
        self.metrics: dict[Labels, _Metric] = {}
        #: Who has made it, and how often.
        self.declared: Counter[Contributor] = Counter()

    @property
    def is_held(self) -> bool:
        """Whether a process that lives has made it."""
        return bool(self.declared)

    def drop(self, labels: Labels, who: Contributor) -> None:
        """One of the holders has let go of a metric."""
        metric = self.metrics[labels]
        metric.holders.pop(who, None)
        metric.absent.discard(who)
        if not metric.holders and not metric.absent:
            del self.metrics[labels]

    def lines(self) -> Iterator[str]:
        """Its text; none without metrics."""
        if not self.metrics:
            return
        description = self.description.replace("\\", "\\\\").replace("\n", "\\n")
        yield from header(self.name, self.kind, description)
        for labels, metric in self.metrics.items():
            if self.kind == "histogram":
                yield from self._histogram(labels, metric)
            else:
                yield sample(self.name, labels, _text(metric.value))

    def _histogram(self, labels: Labels, metric: _Metric) -> Iterator[str]:
        yield sample(f"{self.name}_count", labels, str(sum(metric.counts)))
        yield sample(f"{self.name}_sum", labels, _text(metric.value))
        bounds = (*metric.bounds, math.inf)
        for limit, count in zip(bounds, itertools.accumulate(metric.counts), strict=True):
            yield sample(f"{self.name}_bucket", (*labels, ("le", _text(limit))), str(count))


class ModelMetrics:
    """All families that models have made."""

    def __init__(self) -> None:
        self._families: dict[str, _Family] = {}

    def __repr__(self) -> str:
        return f"<ModelMetrics: {len(self._families)} families>"

    def lines(self) -> Iterator[str]:
        """The text of all families, in the order in which they were made."""
        for family in self._families.values():
            yield from family.lines()

    def declare(self, who: Contributor, name: str, description: str, kind: str) -> None:
        """Have a family, or join it. Raises InvalidArgumentError when its name is taken."""
        if name.startswith(_RESERVED):
            raise InvalidArgumentError(
                f"Family name '{name}' is one of the server's: none may begin with "
                f"{', '.join(_RESERVED)}"
            )
        family = self._families.get(name)
        if family is not None and family.kind != kind:
            if family.is_held:
                raise InvalidArgumentError("Family name already exists with different type")
            family = None  # left by processes that have died; it is made anew
        if family is None:
            family = self._families[name] = _Family(name, kind, description)
        family.declared[who] += 1

    def apply(self, who: Contributor, change: MetricChange) -> None:
        """Take over how a contributor has changed a metric."""
        family = self._families[change.family]
        labels = tuple(change.labels)
        metric = family.metrics.get(labels)
        if metric is None:
            metric = family.metrics[labels] = _Metric(change.bounds)
        metric.apply(who, change)
        if change.dropped:
            family.drop(labels, who)

    def release(self, who: Contributor, name: str) -> None:
        """A contributor has let go of a family that it had made once."""
        family = self._families[name]
        family.declared -= Counter({who: 1})
        self._forget(family)

    def lose(self, who: Contributor) -> None:
        """The process of a contributor has died."""
        for family in list(self._families.values()):
            del family.declared[who]
            for labels, metric in list(family.metrics.items()):
                if who not in metric.holders:
                    continue
                if family.kind == "gauge":
                    metric.value -= metric.holders[who]
                    family.drop(labels, who)
                else:
                    del metric.holders[who]
                    metric.absent.add(who)
            self._forget(family)

    def leave(self, who: Contributor) -> None:
        """A contributor has gone for good."""
        for family in list(self._families.values()):
            del family.declared[who]
            for labels, metric in list(family.metrics.items()):
                if who in metric.holders or who in metric.absent:
                    if family.kind == "gauge":
                        metric.value -= metric.holders.get(who, 0.0)
                    family.drop(labels, who)
            self._forget(family)

    def _forget(self, family: _Family) -> None:
        if not family.is_held and not family.metrics:
            del self._families[family.name]


class Contributor:
    """A place for worker processes, one after the other, whose models may make metrics."""

    def __init__(self, metrics: ModelMetrics) -> None:
        self._metrics = metrics

    def declare(self, name: str, description: str, kind: str) -> None:
        """Have a family, or join it. Raises InvalidArgumentError when its name is taken."""
        self._metrics.declare(self, name, description, kind)

    def apply(self, message: MetricChanges) -> None:
        """Take over what the model has done since it last said so."""
        for change in message.changes:
            self._metrics.apply(self, change)
        for name in message.released:
            self._metrics.release(self, name)

    def lose(self) -> None:
        """The process has died, and another one is to come."""
        self._metrics.lose(self)

    def leave(self) -> None:
        """The last process has ended."""
        self._metrics.leave(self)


def _text(value: float) -> str:
    """A value in Prometheus' text."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
