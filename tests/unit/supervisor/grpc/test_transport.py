"""Both transports: where they listen, how they stop, what load balancers see."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio
import pytest
from grpc_health.v1 import health_pb2
from tritonclient.grpc import service_pb2
from unit.supervisor.grpc.planes import FakeControlPlane, FakeDataPlane, echo

from tritonpy.supervisor.access import Access, Policy
from tritonpy.supervisor.grpc.status import SHUTTING_DOWN
from tritonpy.supervisor.grpc.transport import GrpcFrontend, grpc_server
from tritonpy.supervisor.settings import GrpcSettings, GrpcTransport

pytestmark = pytest.mark.anyio

INFER = "/inference.GRPCInferenceService/ModelInfer"
LIVE = "/inference.GRPCInferenceService/ServerLive"
STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
REQUEST = service_pb2.ModelInferRequest(model_name="identity").SerializeToString()


class Gate:
    """Makes the model wait until the test opens the gate."""

    def __init__(self, dataplane: FakeDataPlane) -> None:
        self.opened = asyncio.Event()
        dataplane.answer = self.answer

    async def answer(self, request: Any) -> Any:
        await self.opened.wait()
        return echo(request)


async def test_a_taken_port_is_an_error_that_names_it(
    port: int, dataplane: Any, controlplane: Any, transport: GrpcTransport
) -> None:
    settings = GrpcSettings(address="127.0.0.1", port=port, transport=transport)
    second = grpc_server(dataplane, controlplane, settings, Access(Policy(), {}, "protocol"))

    with pytest.raises(OSError, match=rf"cannot listen on 127\.0\.0\.1:{port}: .* --grpc-port"):
        await second.start()
    await second.stop(0)


async def test_messages_of_many_megabytes_pass(port: int, dataplane: FakeDataPlane) -> None:
    request = service_pb2.ModelInferRequest(model_name="identity")
    request.inputs.add(name="INPUT0", datatype="UINT8", shape=[1, 8_000_000])
    request.raw_input_contents.append(bytes(8_000_000))
    options = [("grpc.max_receive_message_length", -1)]

    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options) as channel:
        answer = await channel.unary_unary(INFER)(request.SerializeToString())

    (output,) = service_pb2.ModelInferResponse.FromString(answer).raw_output_contents
    assert len(output) == 8_000_000


async def test_a_compressed_request_is_understood(port: int) -> None:
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{port}", compression=grpc.Compression.Gzip
    ) as channel:
        answer = await channel.unary_unary(INFER)(REQUEST)

    assert service_pb2.ModelInferResponse.FromString(answer).model_name == "identity"


async def test_the_standard_health_check_follows_readiness(
    channel: grpc.aio.Channel, controlplane: FakeControlPlane
) -> None:
    check = channel.unary_unary(
        "/grpc.health.v1.Health/Check",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )

    ready = await check(health_pb2.HealthCheckRequest(service="anything"))
    controlplane.ready = False
    waiting = await check(health_pb2.HealthCheckRequest())

    assert ready.status == health_pb2.HealthCheckResponse.SERVING
    assert waiting.status == health_pb2.HealthCheckResponse.NOT_SERVING
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await channel.unary_stream("/grpc.health.v1.Health/Watch")(b"").read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_stopping_finishes_what_is_in_flight_and_refuses_the_rest(
    server: GrpcFrontend, channel: grpc.aio.Channel, dataplane: FakeDataPlane
) -> None:
    gate = Gate(dataplane)
    in_flight = channel.unary_unary(INFER)(REQUEST)
    await dataplane.arrived.wait()
    assert repr(server).endswith("GrpcServer SERVING in_flight=1 streams=0>")

    stopping = asyncio.create_task(server.stop(10))
    await asyncio.sleep(0)
    for refused in (channel.unary_unary(LIVE)(b""), channel.stream_stream(STREAM)().read()):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await refused
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert caught.value.details() == SHUTTING_DOWN
    gate.opened.set()
    await stopping

    assert service_pb2.ModelInferResponse.FromString(await in_flight).model_name == "identity"
    assert repr(server).endswith("GrpcServer STOPPED in_flight=0 streams=0>")


async def test_an_idle_stream_does_not_hold_up_stopping(
    server: GrpcFrontend, channel: grpc.aio.Channel, dataplane: FakeDataPlane
) -> None:
    call = channel.stream_stream(STREAM)()
    await call.write(REQUEST)
    await call.read()

    async with asyncio.timeout(10):
        await server.stop(60)

    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert caught.value.details() == SHUTTING_DOWN


async def test_what_does_not_end_in_time_is_cut_off(
    server: GrpcFrontend,
    channel: grpc.aio.Channel,
    dataplane: FakeDataPlane,
    caplog: pytest.LogCaptureFixture,
) -> None:
    Gate(dataplane)
    in_flight = channel.unary_unary(INFER)(REQUEST)
    await dataplane.arrived.wait()

    await server.stop(0)

    with pytest.raises((grpc.aio.AioRpcError, asyncio.CancelledError)):
        await in_flight
    assert "1 gRPC calls are cut off" in caplog.text


async def test_stopping_a_server_that_never_started_or_has_stopped_is_nothing(
    server: GrpcFrontend,
) -> None:
    await server.stop(1)
    await server.start()
    await server.stop(1)
    await server.stop(1)
