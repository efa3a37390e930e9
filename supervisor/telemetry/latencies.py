"""How the times of one version's requests are distributed: for histograms and summaries.

Only where --metrics-config asks for one of the two does a version have any of this.
"""

from __future__ import annotations

import bisect
import time
from collections.abc import Callable, Iterable
from typing import Literal

import msgspec

from ..config.schema import ModelConfig
from .metrics_config import MetricsConfig
from .quantiles import WindowedQuantiles

#: The one histogram that Triton has, by its family, with the bounds of its buckets (ms).
FIRST_RESPONSE = "nv_inference_first_response_histogram_ms"
DEFAULT_BUCKETS_MS = (100.0, 500.0, 2000.0, 5000.0)

#: What is summarized of every request that succeeds, and of its look-up in the response cache.
Part = Literal[
    "request",
    "queue",
    "compute_input",
    "compute_infer",
    "compute_output",
    "cache_hit",
    "cache_miss",
]
_PARTS: tuple[Part, ...] = ("request", "queue", "compute_input", "compute_infer", "compute_output")
#: As in Triton: from end to end nothing is said of a model that the cache answers for.
_CACHED_PARTS: tuple[Part, ...] = (*_PARTS[1:], "cache_hit", "cache_miss")
PARTS: tuple[Part, ...] = (*_PARTS, *_CACHED_PARTS[-2:])


class HistogramSnapshot(msgspec.Struct, frozen=True):
    """`counts` has one number for each bound, of what lies above the bound before it, and a last
    one of what lies above all; `total` is the sum of all numbers.
    """

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float


class SummarySnapshot(msgspec.Struct, frozen=True):
    """How many numbers there were, their sum, and quantiles of those of the last minute."""

    count: int
    total: int
    quantiles: list[tuple[float, float]]


class LatencySnapshot(msgspec.Struct, frozen=True):
    """The distributions of one version at one moment."""

    first_response: HistogramSnapshot | None
    summaries: dict[Part, SummarySnapshot]


class _Summary:
    __slots__ = ("count", "quantiles", "total")

    def __init__(self, quantiles: WindowedQuantiles) -> None:
        self.count = self.total = 0
        self.quantiles = quantiles

    def insert(self, value: int, now_ns: int) -> None:
        self.count += 1
        self.total += value
        self.quantiles.insert(value, now_ns)


class Latencies:
    """The running distributions of one version. Written by the event loop alone."""

    def __init__(
        self,
        metrics: MetricsConfig,
        config: ModelConfig,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._clock = clock
        self._bounds: tuple[float, ...] = ()
        if metrics.histogram_latencies and config.decoupled:
            self._bounds = _buckets(config)
        self._counts = [0] * (len(self._bounds) + 1)
        self._total_ms = 0.0
        self._summaries: dict[Part, _Summary] = {}
        if metrics.summary_latencies:
            cached = config.response_cache is not None and config.response_cache.enable
            self._summaries = {
                part: _Summary(WindowedQuantiles(metrics.quantiles, clock()))
                for part in (_CACHED_PARTS if cached else _PARTS)
            }

    @classmethod
    def of(cls, metrics: MetricsConfig, config: ModelConfig) -> Latencies | None:
        """Those that are wanted of a model's version; None when none is."""
        wanted = cls(metrics, config)
        return wanted if wanted._bounds or wanted._summaries else None

    def __repr__(self) -> str:
        return f"<Latencies: {sum(self._counts)} first responses, {list(self._summaries)}>"

    def succeeded(self, total_ns: int) -> None:
        """A request was answered after so long."""
        self._insert("request", total_ns, self._clock())

    def looked_up(self, part: Literal["cache_hit", "cache_miss"], lookup_ns: int) -> None:
        """The response cache was asked, for so long, with or without success."""
        self._insert(part, lookup_ns, self._clock())

    def executed(
        self, queued_ns: Iterable[int], input_ns: int, infer_ns: int, output_ns: int
    ) -> None:
        """A batch was executed; its requests that succeeded had waited for so long each."""
        if not self._summaries:
            return
        now = self._clock()
        for waited in queued_ns:
            self._insert("queue", waited, now)
            self._insert("compute_input", input_ns, now)
            self._insert("compute_infer", infer_ns, now)
            self._insert("compute_output", output_ns, now)

    def responded_first(self, after_ns: int) -> None:
        """The first response of a request was there after so long."""
        if self._bounds:
            milliseconds = after_ns / 1e6
            self._counts[bisect.bisect_left(self._bounds, milliseconds)] += 1
            self._total_ms += milliseconds

    def snapshot(self) -> LatencySnapshot:
        """The distributions as they are now."""
        now = self._clock()
        histogram = None
        if self._bounds:
            histogram = HistogramSnapshot(self._bounds, tuple(self._counts), self._total_ms)
        return LatencySnapshot(
            histogram,
            {
                part: SummarySnapshot(each.count, each.total, each.quantiles.values(now))
                for part, each in self._summaries.items()
            },
        )

    def _insert(self, part: Part, ns: int, now_ns: int) -> None:
        summary = self._summaries.get(part)
        if summary is not None:
            summary.insert(ns // 1000, now_ns)


def _buckets(config: ModelConfig) -> tuple[float, ...]:
    """The bounds that the model's configuration gives, or Triton's."""
    controls = config.model_metrics.metric_control if config.model_metrics is not None else []
    for control in controls:
        identifier, options = control.metric_identifier, control.histogram_options
        if identifier is not None and identifier.family == FIRST_RESPONSE and options is not None:
            return tuple(options.buckets)
    return DEFAULT_BUCKETS_MS
