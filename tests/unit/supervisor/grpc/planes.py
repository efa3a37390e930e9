"""The two planes as a gRPC frontend sees them, with models that are a few lines each."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

from tritonpy.ipc.errors import NotFoundError, StatusError
from tritonpy.ipc.tensor import ClientPlace, Span, Tensor
from tritonpy.supervisor.config.schema import (
    ModelConfig,
    ModelInput,
    ModelOutput,
    ModelTransactionPolicy,
)
from tritonpy.supervisor.memory.regions import Place, Regions
from tritonpy.supervisor.request import InferRequest, InferResponse
from tritonpy.supervisor.telemetry.statistics import StatisticsSnapshot, VersionStatistics
from tritonpy.supervisor.telemetry.trace import Traces


class FakeLease:
    """A lease of ordinary memory; only ever one arena, number 1."""

    def __init__(self, size: int) -> None:
        self.memory = bytearray(size)
        self.released = False

    @property
    def view(self) -> memoryview:
        return memoryview(self.memory)

    def write(self, offset: int, data: bytes | memoryview) -> None:
        assert offset + len(data) <= len(self.view)
        self.view[offset : offset + len(data)] = data

    def span(self, offset: int, size: int) -> Span:
        return Span(1, offset, size)

    def release(self) -> None:
        self.released = True


def bytes_of(request: InferRequest, tensor: Tensor) -> bytes:
    """The bytes of an input, wherever the frontend put it."""
    data = tensor.data
    if isinstance(data, Span):
        (lease,) = request.leases
        assert isinstance(lease, FakeLease)
        return bytes(lease.view[data.offset : data.offset + data.size])
    assert isinstance(data, memoryview)
    return bytes(data)


class FakeStream:
    """What `FakeDataPlane.stream` returns: notes that it was cancelled."""

    def __init__(self) -> None:
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


@dataclass
class FakeDataPlane:
    """Serves the models `identity` and `decoupled`; tests answer the latter's requests.

    `answer` replaces what `infer` does. `requests` holds everything that was handed over, and
    `streamed` the callbacks and handles of streamed requests in the same order.
    """

    answer: Callable[[InferRequest], Any] | None = None
    #: Whether requests on a stream to `identity` wait for the test to answer them.
    hold: bool = False
    requests: list[InferRequest] = field(default_factory=list)
    streamed: list[tuple[Callable[[InferResponse], None], FakeStream]] = field(default_factory=list)
    leases: list[FakeLease] = field(default_factory=list)
    regions: Regions = field(default_factory=Regions)
    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    traces: Traces = field(default_factory=Traces)
    on_demand: None = None

    def labelled(self, model: str, label: str) -> int | None:
        return 1 if label == "stable" else None

    def config(self, model: str, version: int | None) -> ModelConfig:
        if model not in ("identity", "decoupled"):
            raise NotFoundError(f"Request for unknown model: '{model}' is not found")
        if version not in (None, 1):
            raise NotFoundError(
                f"Request for unknown model: '{model}' version {version} is not found"
            )
        return config(model, decoupled=model == "decoupled")

    def use_region(self, request: InferRequest, place: Place) -> ClientPlace:
        """As the data plane does it."""
        use, region = self.regions.use(place)
        request.leases.append(use)
        request.regions.append(use)
        return region

    def route(self, request: InferRequest) -> None:
        """Nothing is split here."""

    def lease(self, model: str, version: int | None, size: int) -> FakeLease:
        lease = FakeLease(size)
        self.leases.append(lease)
        return lease

    async def infer(self, request: InferRequest) -> InferResponse:
        self.requests.append(request)
        self.arrived.set()
        if self.answer is not None:
            answer = self.answer(request)
            response: InferResponse = await answer if asyncio.iscoroutine(answer) else answer
            return response
        return echo(request)

    def ask(
        self, request: InferRequest, on_response: Callable[[InferResponse], None]
    ) -> asyncio.Task[None]:
        """As `infer`, by a callback."""

        async def run() -> None:
            try:
                response = await self.infer(request)
            except StatusError as error:
                response = failure(request, error)
            on_response(response)

        return asyncio.create_task(run())

    def stream(
        self, request: InferRequest, on_response: Callable[[InferResponse], None]
    ) -> FakeStream:
        self.requests.append(request)
        handle = FakeStream()
        self.streamed.append((on_response, handle))
        self.arrived.set()
        if self.answer is not None:
            self.answer(request)
        elif request.model == "identity" and not self.hold:
            asyncio.get_running_loop().call_soon(on_response, echo(request))
        return handle

    async def streamed_requests(self, count: int) -> None:
        """Wait until so many streamed requests were handed over."""
        while len(self.streamed) < count:
            self.arrived.clear()
            await self.arrived.wait()


def echo(request: InferRequest, final: bool = True) -> InferResponse:
    """The response whose outputs are the request's inputs."""
    outputs = [
        Tensor(
            tensor.name.replace("INPUT", "OUTPUT"),
            tensor.datatype,
            tensor.shape,
            memoryview(bytes_of(request, tensor)),
        )
        for tensor in request.inputs
    ]
    return InferResponse(request.model, 1, request.id, outputs, final=final)


def failure(request: InferRequest, error: StatusError, final: bool = True) -> InferResponse:
    """The response that says why the request failed."""
    return InferResponse(request.model, 1, request.id, error=error, final=final)


def config(name: str, decoupled: bool = False) -> ModelConfig:
    """A configuration with one input and one output."""
    return ModelConfig(
        name=name,
        backend="identity",
        max_batch_size=8,
        input=[ModelInput(name="INPUT0", data_type="TYPE_FP32", dims=[-1])],
        output=[ModelOutput(name="OUTPUT0", data_type="TYPE_FP32", dims=[-1])],
        model_transaction_policy=ModelTransactionPolicy(decoupled=True) if decoupled else None,
    )


@dataclass
class FakeControlPlane:
    """A server with one model, `identity`; loads and unloads are noted."""

    ready: bool = True
    exiting: bool = False
    loads: list[tuple[str, dict[str, str | bytes | int | bool]]] = field(default_factory=list)
    unloads: list[tuple[str, bool]] = field(default_factory=list)
    load_error: Exception | None = None
    regions: Regions = field(default_factory=Regions)

    def is_live(self) -> bool:
        return True

    async def is_ready(self) -> bool:
        return self.ready

    async def is_model_ready(self, model: str, version: int | None) -> bool:
        if model != "identity":
            raise NotFoundError(f"Request for unknown model: '{model}' is not found")
        return self.ready

    def server_metadata(self) -> Any:
        return SimpleNamespace(name="triton", version="2.73.0", extensions=["statistics", "trace"])

    def using(self, model: str) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def model_metadata(self, model: str, version: int | None) -> Any:
        return SimpleNamespace(
            name=model,
            versions=["1", "2"] if version is None else [str(version)],
            platform="identity",
            inputs=[SimpleNamespace(name="INPUT0", datatype="FP32", shape=[-1, -1])],
            outputs=[SimpleNamespace(name="OUTPUT0", datatype="BYTES", shape=[-1, 4])],
        )

    def model_config(self, model: str, version: int | None) -> ModelConfig:
        return config(model)

    def statistics(self, model: str, version: int | None) -> list[StatisticsSnapshot]:
        counted = VersionStatistics(model or "identity", version or 1, clock=lambda: 5_000_000)
        counted.executed(4, 2, queue_ns=10, input_ns=20, infer_ns=30, output_ns=40)
        counted.succeeded(100)
        counted.failed(7, "BACKEND")
        counted.responded(0, "success", 11, 12)
        return [counted.snapshot()]

    def index(self, ready: bool) -> list[Any]:
        entries = [SimpleNamespace(name="identity", version="1", state="READY", reason="")]
        if not ready:
            entries.append(SimpleNamespace(name="new", version="", state="", reason=""))
        return entries

    async def load(self, model: str, parameters: dict[str, str | bytes | int | bool]) -> None:
        if self.load_error is not None:
            raise self.load_error
        self.loads.append((model, parameters))

    async def unload(self, model: str, unload_dependents: bool) -> None:
        self.unloads.append((model, unload_dependents))
