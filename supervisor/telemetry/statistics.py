"""Counts and durations of one model version: what the statistics extension and metrics report.

The counters are plain integers, written by the event loop alone and read by `snapshot`; a request
costs a handful of additions.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Literal

import msgspec

from ..request import FailureReason
from .latencies import Latencies

FAILURE_REASONS: tuple[FailureReason, ...] = ("REJECTED", "CANCELED", "BACKEND", "OTHER")

#: How one response of a request ended.
ResponseOutcome = Literal["success", "fail", "empty_response", "cancel"]


class Duration(msgspec.Struct, frozen=True):
    """How often something happened, and how many nanoseconds that took in all."""

    count: int = 0
    ns: int = 0


class InferStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The durations of requests, from end to end and part by part; the parts of successes only."""

    success: Duration
    fail: Duration
    queue: Duration
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration
    cache_hit: Duration
    cache_miss: Duration


class BatchStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The durations of all executions of one batch size."""

    batch_size: int
    compute_input: Duration
    compute_infer: Duration
    compute_output: Duration


class ResponseStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The durations of the n-th responses of all requests."""

    compute_infer: Duration
    compute_output: Duration
    success: Duration
    fail: Duration
    empty_response: Duration
    cancel: Duration


class MemoryUsage(msgspec.Struct, frozen=True, kw_only=True):
    """Memory that a backend reports for the version: of type CPU, CPU_PINNED or GPU."""

    type: str
    id: int
    byte_size: int


class StatisticsSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The statistics of one version at one moment; its first nine fields are the extension's.

    `last_inference` is in milliseconds since the epoch, 0 before the first. `response_stats` is
    keyed by the index of the response, as text. `failures`, `pending`, `load_ns` and `cached` are
    for the metrics alone; the last says whether the version uses the response cache.
    """

    name: str
    version: str
    last_inference: int
    inference_count: int
    execution_count: int
    inference_stats: InferStatistics
    response_stats: dict[str, ResponseStatistics]
    batch_stats: list[BatchStatistics]
    memory_usage: list[MemoryUsage]
    failures: dict[FailureReason, int]
    pending: int
    load_ns: int
    cached: bool = False


class _BatchTotals:
    """The running totals of one batch size."""

    __slots__ = ("count", "infer_ns", "input_ns", "output_ns")

    def __init__(self) -> None:
        self.count = self.input_ns = self.infer_ns = self.output_ns = 0


class _ResponseTotals:
    """The running totals of one response index; `outcomes` holds [count, ns]."""

    __slots__ = ("infer_count", "infer_ns", "outcomes", "output_count", "output_ns")

    def __init__(self) -> None:
        self.infer_count = self.infer_ns = self.output_count = self.output_ns = 0
        self.outcomes: dict[ResponseOutcome, list[int]] = {
            "success": [0, 0],
            "fail": [0, 0],
            "empty_response": [0, 0],
            "cancel": [0, 0],
        }


class VersionStatistics:
    """The running statistics of one model version.

    `pending` is how many requests wait in the version's queue: its scheduler counts it up and
    down. `load_ns` is how long the last load took, `memory_usage` what the backend reported,
    `cached` whether the version uses the response cache.
    `latencies` is None where nobody wants to know how times are distributed.
    """

    __slots__ = (
        "_batches",
        "_clock",
        "_compute_count",
        "_executions",
        "_fail_count",
        "_fail_ns",
        "_failures",
        "_hit_ns",
        "_hits",
        "_infer_ns",
        "_inferences",
        "_input_ns",
        "_last_ns",
        "_miss_ns",
        "_misses",
        "_output_ns",
        "_queue_ns",
        "_responses",
        "_success_count",
        "_success_ns",
        "cached",
        "latencies",
        "load_ns",
        "memory_usage",
        "name",
        "pending",
        "version",
    )

    def __init__(self, name: str, version: int, clock: Callable[[], int] = time.time_ns) -> None:
        self.name = name
        self.version = version
        self.pending = 0
        self.load_ns = 0
        self.cached = False
        self.memory_usage: list[MemoryUsage] = []
        self.latencies: Latencies | None = None
        self._clock = clock
        self._last_ns = 0
        self._inferences = self._executions = 0
        self._success_count = self._success_ns = 0
        self._fail_count = self._fail_ns = 0
        self._compute_count = 0
        self._hits = self._hit_ns = self._misses = self._miss_ns = 0
        self._queue_ns = self._input_ns = self._infer_ns = self._output_ns = 0
        self._failures: dict[FailureReason, int] = dict.fromkeys(FAILURE_REASONS, 0)
        self._batches: dict[int, _BatchTotals] = {}
        self._responses: dict[int, _ResponseTotals] = {}

    def __repr__(self) -> str:
        return (
            f"<VersionStatistics {self.name}:{self.version}, {self._success_count} succeeded, "
            f"{self._fail_count} failed, {self.pending} pending>"
        )

    def executed(
        self,
        batch_size: int,
        requests: int,
        queue_ns: int,
        input_ns: int,
        infer_ns: int,
        output_ns: int,
        failed_rows: int = 0,
    ) -> None:
        """Count one execution of a batch of `batch_size` rows.

        `requests` is how many of its requests succeeded, `failed_rows` the rows of the others.
        `queue_ns` is the sum of what the former waited; the other times are the batch's own and
        count for each of them.
        """
        self._last_ns = self._clock()
        self._inferences += batch_size - failed_rows
        self._executions += 1
        self._compute_count += requests
        self._queue_ns += queue_ns
        self._input_ns += input_ns * requests
        self._infer_ns += infer_ns * requests
        self._output_ns += output_ns * requests
        batch = self._batches.get(batch_size)
        if batch is None:
            batch = self._batches[batch_size] = _BatchTotals()
        batch.count += 1
        batch.input_ns += input_ns
        batch.infer_ns += infer_ns
        batch.output_ns += output_ns

    def succeeded(self, total_ns: int) -> None:
        """Count a request that was answered, after `total_ns` from end to end."""
        self._success_count += 1
        self._success_ns += total_ns
        if self.latencies is not None:
            self.latencies.succeeded(total_ns)

    def cache_hit(self, lookup_ns: int, queue_ns: int) -> None:
        """Count a request that the cache answers, for which nothing is executed."""
        self._hits += 1
        self._hit_ns += lookup_ns
        self._queue_ns += queue_ns
        if self.latencies is not None:
            self.latencies.looked_up("cache_hit", lookup_ns)

    def cache_missed(self, lookup_ns: int) -> None:
        """Count a request that the cache has no answer to."""
        self._misses += 1
        self._miss_ns += lookup_ns
        if self.latencies is not None:
            self.latencies.looked_up("cache_miss", lookup_ns)

    def cache_inserted(self, insertion_ns: int) -> None:
        """Add the time that it took to keep the answer to such a request."""
        self._miss_ns += insertion_ns

    def failed(self, total_ns: int, reason: FailureReason) -> None:
        """Count a request that failed, after `total_ns` from end to end."""
        self._fail_count += 1
        self._fail_ns += total_ns
        self._failures[reason] += 1

    def responded(
        self, index: int, outcome: ResponseOutcome, infer_ns: int, output_ns: int = 0
    ) -> None:
        """Count the response number `index`, from 0, of a request to a decoupled model.

        `infer_ns` is the time since the response before it, `output_ns` that of its outputs, which
        an empty or cancelled response has not.
        """
        totals = self._responses.get(index)
        if totals is None:
            totals = self._responses[index] = _ResponseTotals()
        counted = totals.outcomes[outcome]
        counted[0] += 1
        counted[1] += infer_ns + output_ns
        if outcome == "cancel":
            return
        totals.infer_count += 1
        totals.infer_ns += infer_ns
        if outcome != "empty_response":
            totals.output_count += 1
            totals.output_ns += output_ns

    def snapshot(self) -> StatisticsSnapshot:
        """The statistics as they are now."""
        return StatisticsSnapshot(
            name=self.name,
            version=str(self.version),
            last_inference=self._last_ns // 1_000_000,
            inference_count=self._inferences,
            execution_count=self._executions,
            inference_stats=self._infer_statistics(),
            response_stats={
                str(index): _response_statistics(totals)
                for index, totals in sorted(self._responses.items())
            },
            batch_stats=[
                BatchStatistics(
                    batch_size=size,
                    compute_input=Duration(totals.count, totals.input_ns),
                    compute_infer=Duration(totals.count, totals.infer_ns),
                    compute_output=Duration(totals.count, totals.output_ns),
                )
                for size, totals in sorted(self._batches.items())
            ],
            memory_usage=list(self.memory_usage),
            failures=dict(self._failures),
            pending=self.pending,
            load_ns=self.load_ns,
            cached=self.cached,
        )

    def _infer_statistics(self) -> InferStatistics:
        count = self._compute_count
        return InferStatistics(
            success=Duration(self._success_count, self._success_ns),
            fail=Duration(self._fail_count, self._fail_ns),
            queue=Duration(count + self._hits, self._queue_ns),
            compute_input=Duration(count, self._input_ns),
            compute_infer=Duration(count, self._infer_ns),
            compute_output=Duration(count, self._output_ns),
            cache_hit=Duration(self._hits, self._hit_ns),
            cache_miss=Duration(self._misses, self._miss_ns),
        )


def _response_statistics(totals: _ResponseTotals) -> ResponseStatistics:
    return ResponseStatistics(
        compute_infer=Duration(totals.infer_count, totals.infer_ns),
        compute_output=Duration(totals.output_count, totals.output_ns),
        success=Duration(*totals.outcomes["success"]),
        fail=Duration(*totals.outcomes["fail"]),
        empty_response=Duration(*totals.outcomes["empty_response"]),
        cancel=Duration(*totals.outcomes["cancel"]),
    )
