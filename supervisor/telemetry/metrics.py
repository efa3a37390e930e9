"""Triton's metric families and their text form, made anew for every scrape."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from ..request import FailureReason
from . import cache_metrics
from .cache_metrics import CacheReading
from .exposition import Labels, header, sample
from .gpu import Gpus
from .host import Host
from .latencies import LatencySnapshot
from .latency_families import latency_families
from .model_metrics import ModelMetrics
from .statistics import FAILURE_REASONS, StatisticsSnapshot

_NOT_IN_LABEL = re.compile(r"[^a-zA-Z0-9_]")


@dataclass(frozen=True, slots=True)
class ModelSeries:
    """A version's statistics, the metric tags of its model's configuration, how its latencies are
    distributed where that is wanted, and its namespace.
    """

    statistics: StatisticsSnapshot
    tags: Mapping[str, str] = field(default_factory=dict[str, str])
    latencies: LatencySnapshot | None = None
    namespace: str = ""
    #: How many instances are in each state; empty where there are none, as of an ensemble.
    instances: Mapping[str, int] = field(default_factory=dict[str, int])


@dataclass(frozen=True, slots=True)
class _Family:
    """A family that every version has a series of."""

    name: str
    type: str
    help: str
    value: Callable[[StatisticsSnapshot], int | float]

    @property
    def is_duration(self) -> bool:
        """Whether it sums up times."""
        return self.name.endswith("_us")


_SUCCESS = _Family(
    "nv_inference_request_success",
    "counter",
    "Inference requests that were answered with success",
    lambda s: s.inference_stats.success.count,
)
_FAILURE_NAME = "nv_inference_request_failure"
_FAILURE_HELP = "Inference requests that failed, by reason"
_FAMILIES: tuple[_Family, ...] = (
    _Family(
        "nv_inference_count",
        "counter",
        "Inferences performed: a request of batch size n counts n",
        lambda s: s.inference_count,
    ),
    _Family(
        "nv_inference_exec_count",
        "counter",
        "Executions of the model: a batch counts once",
        lambda s: s.execution_count,
    ),
    _Family(
        "nv_inference_request_duration_us",
        "counter",
        "Microseconds from end to end, of all requests that succeeded",
        lambda s: s.inference_stats.success.ns // 1000,
    ),
    _Family(
        "nv_inference_queue_duration_us",
        "counter",
        "Microseconds that requests waited for an instance",
        lambda s: s.inference_stats.queue.ns // 1000,
    ),
    _Family(
        "nv_inference_compute_input_duration_us",
        "counter",
        "Microseconds spent on preparing inputs",
        lambda s: s.inference_stats.compute_input.ns // 1000,
    ),
    _Family(
        "nv_inference_compute_infer_duration_us",
        "counter",
        "Microseconds spent in the model itself",
        lambda s: s.inference_stats.compute_infer.ns // 1000,
    ),
    _Family(
        "nv_inference_compute_output_duration_us",
        "counter",
        "Microseconds spent on handing over outputs",
        lambda s: s.inference_stats.compute_output.ns // 1000,
    ),
    _Family(
        "nv_inference_pending_request_count",
        "gauge",
        "Requests that wait for an instance now",
        lambda s: s.pending,
    ),
)
_COPIED_NAME = "tritonpy_tensor_copied_bytes"
_COPIED_HELP = "Bytes of tensors copied in the supervisor's memory: from requests, to answers"
_LOAD_NAME = "nv_model_load_duration_secs"
_LOAD_HELP = "Seconds that the last load of the model took"
_INSTANCES_NAME = "tritonpy_model_instances"
_INSTANCES_HELP = "Instances of the model, by the state of their worker process"


class Metrics:
    """The metrics of one server: those of the models it is shown, and those of the machine.

    It remembers the failures of versions that were unloaded, since the failure counters of a
    version outlive it; all other series are those of the models shown to `render`.
    """

    def __init__(
        self,
        host: Host | None = None,
        gpus: Gpus | None = None,
        *,
        counters: bool = True,
        own: ModelMetrics | None = None,
    ) -> None:
        """Without `counters` the requests of models are not counted, as in Triton.

        `own` are the metrics that models make themselves.
        """
        self._own = own or ModelMetrics()
        self._host = host
        self._gpus = gpus
        self._counters = counters
        self._retired: dict[Labels, dict[FailureReason, int]] = {}

    def __repr__(self) -> str:
        return f"<Metrics, {len(self._retired)} versions retired>"

    def retire(self, series: ModelSeries) -> None:
        """Take over the failure counters of a version that is not shown to `render` any more."""
        _add_failures(self._retired, _labels(series), series.statistics.failures)

    def render(
        self,
        models: Iterable[ModelSeries],
        cache: CacheReading | None = None,
        copied: tuple[int, int] | None = None,
    ) -> str:
        """The text exposition of all families; of a cache's own where one is read. `copied` are
        the bytes of tensors that the supervisor has copied from requests, and to answers.

        Two generations of one version, as there are while it reloads, are shown as one series.
        """
        series = [(_labels(each), each) for each in models]
        shown = [(labels, each.statistics) for labels, each in series]
        lines = [*self._model_family(_SUCCESS, shown), *self._failure_family(shown)]
        for family in _FAMILIES:
            if self._counters or not family.is_duration:
                lines += self._model_family(family, shown)
        lines += _load_family(shown)
        lines += _instance_family(series)
        lines += self._cache_families(shown)
        if cache is not None:
            lines += _cache_gauges(cache)
        lines += latency_families(
            [(labels, each.latencies) for labels, each in series if each.latencies is not None]
        )
        if copied is not None:
            lines += header(_COPIED_NAME, "counter", _COPIED_HELP)
            for direction, count in zip(("in", "out"), copied, strict=True):
                lines.append(sample(_COPIED_NAME, (("direction", direction),), count))
        lines += self._host_families()
        if self._gpus is not None:
            lines += self._gpus.families()
        lines += self._own.lines()
        return "\n".join([*lines, ""])

    def _failure_family(self, shown: list[tuple[Labels, StatisticsSnapshot]]) -> Iterator[str]:
        totals = {labels: dict(counts) for labels, counts in self._retired.items()}
        for labels, statistics in shown:
            _add_failures(totals, labels, statistics.failures)
        yield from header(_FAILURE_NAME, "counter", _FAILURE_HELP)
        for labels, counts in totals.items():
            for reason in FAILURE_REASONS:
                count = counts[reason] if self._counters else 0
                yield sample(_FAILURE_NAME, (*labels, ("reason", reason)), count)

    def _model_family(
        self, family: _Family, shown: list[tuple[Labels, StatisticsSnapshot]]
    ) -> Iterator[str]:
        totals: dict[Labels, int | float] = {}
        for labels, statistics in shown:
            totals[labels] = totals.get(labels, 0) + family.value(statistics)
        yield from header(family.name, family.type, family.help)
        for labels, value in totals.items():
            counted = self._counters or family.type != "counter"
            yield sample(family.name, labels, value if counted else 0)

    def _cache_families(self, shown: list[tuple[Labels, StatisticsSnapshot]]) -> Iterator[str]:
        """What only versions have that use the response cache."""
        caching = [(labels, statistics) for labels, statistics in shown if statistics.cached]
        if caching:
            for found in cache_metrics.MODEL_FAMILIES:
                family = _Family(found.name, "counter", found.help, found.value)
                yield from self._model_family(family, caching)

    def _host_families(self) -> Iterator[str]:
        if self._host is None:
            return
        reading = self._host.read()
        name = "nv_cpu_utilization"
        yield from header(name, "gauge", "Use of all processors since the reading before, 0 to 1")
        yield sample(name, (), reading.cpu_utilization)
        name = "nv_cpu_memory_total_bytes"
        yield from header(name, "gauge", "Memory of the machine in bytes")
        yield sample(name, (), reading.memory_total_bytes)
        name = "nv_cpu_memory_used_bytes"
        yield from header(name, "gauge", "Memory of the machine in use, in bytes")
        yield sample(name, (), reading.memory_used_bytes)


def _labels(series: ModelSeries) -> Labels:
    """The labels of a version's series; a tag gets a leading underscore, as in Triton."""
    labels = {f"_{_NOT_IN_LABEL.sub('_', key)}": value for key, value in series.tags.items()}
    labels["model"] = series.statistics.name
    labels["version"] = series.statistics.version
    if series.namespace:
        labels["namespace"] = series.namespace
    return tuple(labels.items())


def _add_failures(
    totals: dict[Labels, dict[FailureReason, int]],
    labels: Labels,
    counts: Mapping[FailureReason, int],
) -> None:
    total = totals.setdefault(labels, dict.fromkeys(FAILURE_REASONS, 0))
    for reason, count in counts.items():
        total[reason] += count


def _load_family(shown: list[tuple[Labels, StatisticsSnapshot]]) -> Iterator[str]:
    newest = {labels: statistics.load_ns / 1e9 for labels, statistics in shown}
    yield from header(_LOAD_NAME, "gauge", _LOAD_HELP)
    for labels, seconds in newest.items():
        yield sample(_LOAD_NAME, labels, seconds)


def _instance_family(series: list[tuple[Labels, ModelSeries]]) -> Iterator[str]:
    totals: dict[Labels, int] = {}
    for labels, each in series:
        for state, count in each.instances.items():
            by_state = (*labels, ("state", state))
            totals[by_state] = totals.get(by_state, 0) + count
    if totals:
        yield from header(_INSTANCES_NAME, "gauge", _INSTANCES_HELP)
    for labels, count in totals.items():
        yield sample(_INSTANCES_NAME, labels, count)


def _cache_gauges(cache: CacheReading) -> Iterator[str]:
    for gauge in cache_metrics.GAUGES:
        yield from header(gauge.name, "gauge", gauge.help)
        yield sample(gauge.name, (), gauge.value(cache))
