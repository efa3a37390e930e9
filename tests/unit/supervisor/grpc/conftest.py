"""A gRPC server on a free port, with planes that the test can reach."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc.aio
import pytest
import tritonclient.grpc.aio as tritonclient
from unit.supervisor.grpc.planes import FakeControlPlane, FakeDataPlane

from tritonpy.supervisor.access import Access, Policy
from tritonpy.supervisor.grpc.transport import GrpcFrontend, grpc_server
from tritonpy.supervisor.settings import GrpcSettings, GrpcTransport


@pytest.fixture(scope="session", autouse=True)
async def one_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep one event loop for all tests: grpcio's poller thread outlives a server, and reports to
    the loop that it has known."""
    yield  # noqa: PT022 - the loop lasts as long as the fixture


@pytest.fixture
def dataplane() -> FakeDataPlane:
    return FakeDataPlane()


@pytest.fixture
def controlplane() -> FakeControlPlane:
    return FakeControlPlane()


@pytest.fixture(params=["grpcio", "lean"])
def transport(request: pytest.FixtureRequest) -> GrpcTransport:
    """Tests that use a server run on each transport."""
    found: GrpcTransport = request.param
    return found


@pytest.fixture
async def server(
    dataplane: Any, controlplane: Any, transport: GrpcTransport
) -> AsyncIterator[GrpcFrontend]:
    server = grpc_server(
        dataplane,
        controlplane,
        GrpcSettings(address="127.0.0.1", port=0, transport=transport),
        Access(Policy(), {}, "protocol"),
    )
    yield server
    await server.stop(0)


@pytest.fixture
async def port(server: GrpcFrontend) -> int:
    return await server.start()


@pytest.fixture
async def client(port: int) -> AsyncIterator[tritonclient.InferenceServerClient]:
    async with tritonclient.InferenceServerClient(f"127.0.0.1:{port}") as client:
        yield client


@pytest.fixture
async def channel(port: int) -> AsyncIterator[grpc.aio.Channel]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield channel
