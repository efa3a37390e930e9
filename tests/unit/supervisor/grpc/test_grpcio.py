"""The grpcio transport: what it is told."""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio
import pytest
from tritonclient.grpc import service_pb2

from tritonpy.supervisor.access import Access, Policy
from tritonpy.supervisor.grpc.grpcio import GrpcServer
from tritonpy.supervisor.settings import GrpcSettings

pytestmark = pytest.mark.anyio

LIVE = "/inference.GRPCInferenceService/ServerLive"


async def test_every_setting_reaches_grpc_under_its_name(
    dataplane: Any, controlplane: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, int] = {}
    make = grpc.aio.server

    def noting(options: list[tuple[str, int]]) -> grpc.aio.Server:
        given.update(options)
        return make(options=options)

    monkeypatch.setattr(grpc.aio, "server", noting)
    settings = GrpcSettings(
        address="::1",
        port=0,
        reuse_port=True,
        keepalive_time_ms=10_000,
        keepalive_timeout_ms=5_000,
        keepalive_permit_without_calls=True,
        max_pings_without_data=0,
        min_recv_ping_interval_ms=1_000,
        max_ping_strikes=0,
        max_connection_age_ms=60_000,
        max_connection_age_grace_ms=6_000,
    )
    server = GrpcServer(dataplane, controlplane, settings, Access(Policy(), {}, "protocol"))
    port = await server.start()

    async with grpc.aio.insecure_channel(f"[::1]:{port}") as channel:
        answer = await channel.unary_unary(LIVE)(b"")
    await server.stop(0)

    assert service_pb2.ServerLiveResponse.FromString(answer).live
    assert given == {
        "grpc.max_send_message_length": 2**31 - 1,
        "grpc.max_receive_message_length": 2**31 - 1,
        "grpc.so_reuseport": 1,
        "grpc.keepalive_time_ms": 10_000,
        "grpc.keepalive_timeout_ms": 5_000,
        "grpc.http2.ping_timeout_ms": 5_000,
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.max_pings_without_data": 0,
        "grpc.http2.min_ping_interval_without_data_ms": 1_000,
        "grpc.http2.max_ping_strikes": 0,
        "grpc.max_connection_age_ms": 60_000,
        "grpc.max_connection_age_grace_ms": 6_000,
    }
