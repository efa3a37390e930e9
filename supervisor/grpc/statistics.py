"""The statistics of model versions as the messages of ModelStatistics."""

from __future__ import annotations

import msgspec

from ...proto import grpc_service_pb2 as pb
from ..telemetry.statistics import StatisticsSnapshot


def add_statistics(response: pb.ModelStatisticsResponse, snapshot: StatisticsSnapshot) -> None:
    """Write the statistics of one version into the response.

    The structs of a snapshot have the fields of the messages by name; protobuf refuses any other.
    """
    statistics = response.model_stats.add(
        name=snapshot.name,
        version=snapshot.version,
        last_inference=snapshot.last_inference,
        inference_count=snapshot.inference_count,
        execution_count=snapshot.execution_count,
        inference_stats=msgspec.to_builtins(snapshot.inference_stats),
        batch_stats=msgspec.to_builtins(snapshot.batch_stats),
        memory_usage=msgspec.to_builtins(snapshot.memory_usage),
    )
    for index, durations in snapshot.response_stats.items():
        statistics.response_stats[index].CopyFrom(
            pb.InferResponseStatistics(**msgspec.to_builtins(durations))
        )
