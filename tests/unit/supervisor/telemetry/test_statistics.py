"""Statistics: what is counted once a request, and what once an execution."""

from __future__ import annotations

from tritonpy.supervisor.telemetry.statistics import (
    BatchStatistics,
    Duration,
    MemoryUsage,
    VersionStatistics,
)


def made() -> VersionStatistics:
    return VersionStatistics("digits", 3, clock=lambda: 1_700_000_000_123_456_789)


def test_a_new_version_has_counted_nothing() -> None:
    snapshot = made().snapshot()
    assert (snapshot.name, snapshot.version) == ("digits", "3")
    assert (snapshot.last_inference, snapshot.inference_count, snapshot.execution_count) == (
        0,
        0,
        0,
    )
    assert snapshot.inference_stats.success == Duration(0, 0)
    assert snapshot.failures == {"REJECTED": 0, "CANCELED": 0, "BACKEND": 0, "OTHER": 0}
    assert snapshot.batch_stats == []
    assert snapshot.response_stats == {}


def test_a_batch_counts_its_durations_for_each_request_and_once_for_its_size() -> None:
    statistics = made()
    statistics.executed(
        batch_size=6, requests=3, queue_ns=900, input_ns=10, infer_ns=100, output_ns=1
    )
    for _ in range(3):
        statistics.succeeded(500)
    snapshot = statistics.snapshot()
    assert snapshot.inference_count == 6
    assert snapshot.execution_count == 1
    parts = snapshot.inference_stats
    assert parts.success == Duration(3, 1500)
    assert parts.queue == Duration(3, 900)
    assert parts.compute_input == Duration(3, 30)
    assert parts.compute_infer == Duration(3, 300)
    assert parts.compute_output == Duration(3, 3)
    assert parts.cache_hit == parts.cache_miss == Duration(0, 0)
    assert snapshot.batch_stats == [
        BatchStatistics(
            batch_size=6,
            compute_input=Duration(1, 10),
            compute_infer=Duration(1, 100),
            compute_output=Duration(1, 1),
        )
    ]


def test_batch_sizes_are_listed_in_order() -> None:
    statistics = made()
    for size in (8, 1, 8, 4):
        statistics.executed(size, 1, 0, 0, size, 0)
    listed = [(b.batch_size, b.compute_infer) for b in statistics.snapshot().batch_stats]
    assert listed == [(1, Duration(1, 1)), (4, Duration(1, 4)), (8, Duration(2, 16))]


def test_the_last_inference_is_told_in_milliseconds() -> None:
    statistics = made()
    statistics.executed(1, 1, 0, 0, 0, 0)
    assert statistics.snapshot().last_inference == 1_700_000_000_123


def test_failures_are_counted_by_reason() -> None:
    statistics = made()
    statistics.failed(5, "REJECTED")
    statistics.failed(7, "BACKEND")
    statistics.failed(7, "BACKEND")
    snapshot = statistics.snapshot()
    assert snapshot.inference_stats.fail == Duration(3, 19)
    assert snapshot.inference_stats.success == Duration(0, 0)
    assert snapshot.failures == {"REJECTED": 1, "CANCELED": 0, "BACKEND": 2, "OTHER": 0}


def test_responses_of_a_decoupled_model_are_counted_by_their_index() -> None:
    statistics = made()
    statistics.responded(0, "success", infer_ns=10, output_ns=1)
    statistics.responded(0, "fail", infer_ns=20, output_ns=2)
    statistics.responded(1, "empty_response", infer_ns=30)
    statistics.responded(2, "cancel", infer_ns=40)
    responses = statistics.snapshot().response_stats
    assert list(responses) == ["0", "1", "2"]
    assert responses["0"].compute_infer == Duration(2, 30)
    assert responses["0"].compute_output == Duration(2, 3)
    assert responses["0"].success == Duration(1, 11)
    assert responses["0"].fail == Duration(1, 22)
    assert responses["1"].compute_infer == Duration(1, 30)
    assert responses["1"].compute_output == Duration(0, 0)
    assert responses["1"].empty_response == Duration(1, 30)
    assert responses["2"].cancel == Duration(1, 40)
    assert responses["2"].compute_infer == Duration(0, 0)


def test_gauges_and_reported_memory_are_part_of_the_snapshot() -> None:
    statistics = made()
    statistics.pending += 2
    statistics.load_ns = 5
    statistics.memory_usage = [MemoryUsage(type="GPU", id=0, byte_size=10)]
    snapshot = statistics.snapshot()
    assert (snapshot.pending, snapshot.load_ns) == (2, 5)
    assert snapshot.memory_usage == [MemoryUsage(type="GPU", id=0, byte_size=10)]


def test_a_snapshot_does_not_change_afterwards() -> None:
    statistics = made()
    snapshot = statistics.snapshot()
    statistics.failed(1, "OTHER")
    statistics.executed(1, 1, 0, 0, 0, 0)
    assert snapshot == made().snapshot()


def test_hits_count_as_answered_and_queued_and_not_as_executed() -> None:
    statistics = VersionStatistics("m", 1)
    statistics.executed(1, 1, 10, 20, 30, 40)
    statistics.succeeded(100)
    statistics.cache_missed(3)
    statistics.cache_inserted(4)
    statistics.cache_hit(5, 2)
    statistics.succeeded(7)

    snapshot = statistics.snapshot()

    parts = snapshot.inference_stats
    assert parts.success == Duration(2, 107)
    assert parts.queue == Duration(2, 12)
    assert parts.compute_infer == Duration(1, 30)
    assert parts.cache_hit == Duration(1, 5)
    assert parts.cache_miss == Duration(1, 7)
    assert (snapshot.inference_count, snapshot.execution_count) == (1, 1)
