"""A real HttpServer on a free port, in front of small planes that echo and remember."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
import uvloop

from tritonpy.ipc.errors import InternalError, NotFoundError, StatusError, UnavailableError
from tritonpy.ipc.tensor import Span, Tensor
from tritonpy.supervisor.access import Access, Policy
from tritonpy.supervisor.config.schema import (
    ModelConfig,
    ModelInput,
    ModelOutput,
    ModelTransactionPolicy,
)
from tritonpy.supervisor.http import json_arrays
from tritonpy.supervisor.http.server import HttpServer
from tritonpy.supervisor.memory.regions import Regions
from tritonpy.supervisor.request import InferRequest, InferResponse
from tritonpy.supervisor.telemetry.statistics import VersionStatistics
from tritonpy.supervisor.telemetry.trace import Traces

TIMEOUT_SECS = 20
MAX_INPUT_SIZE = 1024 * 1024
#: A lease has so much room at a time; no divisor of what tests send.
STEP_BYTES = 100_001


class FakeLease:
    """Memory that says whether it was given back, and what was copied to it.

    More than `available` bytes of it are not to be had.
    """

    def __init__(self, size: int, available: int = 1 << 62) -> None:
        self.view = memoryview(bytearray(size))
        self.spans: list[Span] = []
        self.released = threading.Event()
        self.copied = 0
        self._available = available

    def write(self, offset: int, data: bytes | memoryview) -> None:
        assert offset + len(data) <= len(self.view)
        self.view[offset : offset + len(data)] = data
        self.copied += len(data)

    def room(self, offset: int, size: int) -> memoryview:
        assert size > 0
        assert offset + size <= len(self.view)
        if offset >= self._available:
            raise UnavailableError("the machine has no memory left")
        return self.view[offset : offset + min(size, STEP_BYTES)]

    def span(self, offset: int, size: int) -> Span:
        assert offset + size <= len(self.view)
        span = Span(7, offset, size)
        self.spans.append(span)
        return span

    def release(self) -> None:
        self.released.set()


def config(name: str, *inputs: ModelInput, batch: int = 0, decoupled: bool = False) -> ModelConfig:
    policy = ModelTransactionPolicy(decoupled=True) if decoupled else None
    outputs = [
        ModelOutput(name=one.name.replace("IN", "OUT"), data_type=one.data_type, dims=one.dims)
        for one in inputs
    ]
    return ModelConfig(
        name=name,
        backend="identity",
        max_batch_size=batch,
        input=list(inputs),
        output=outputs,
        model_transaction_policy=policy,
    )


def _tensor(name: str, data_type: str, *dims: int) -> ModelInput:
    return ModelInput(name=name, data_type=data_type, dims=list(dims))


CONFIGS = {
    one.name: one
    for one in (
        config("echo", _tensor("IN", "TYPE_FP32", -1)),
        config("two words", _tensor("IN", "TYPE_FP32", -1)),
        config("batched", _tensor("IN", "TYPE_FP32", 2, -1), batch=8),
        config("text", _tensor("IN", "TYPE_STRING", 1)),
        config("pair", _tensor("IN0", "TYPE_FP32", -1), _tensor("IN1", "TYPE_FP32", -1)),
        config("wild", _tensor("IN", "TYPE_FP32", -1, -1)),
        config("stream", _tensor("IN", "TYPE_FP32", -1), decoupled=True),
        config("broken", _tensor("IN", "TYPE_FP32", -1)),
        config("crash", _tensor("IN", "TYPE_FP32", -1)),
        config("never", _tensor("IN", "TYPE_FP32", -1)),
    )
}


@dataclass
class Asked:
    """A request that is being answered."""

    task: asyncio.Task[None]

    def cancel(self) -> None:
        self.task.cancel()


@dataclass
class FakeDataPlane:
    """Answers every request with its own inputs; IN becomes OUT.

    `broken` fails in the backend, `crash` has a bug, `never` answers only when it is cancelled or
    `finish` is set.
    """

    requests: list[InferRequest] = field(default_factory=list)
    leases: list[FakeLease] = field(default_factory=list)
    respond: Callable[[InferRequest], InferResponse] | None = None
    started: threading.Event = field(default_factory=threading.Event)
    cancelled: threading.Event = field(default_factory=threading.Event)
    finish: asyncio.Event = field(default_factory=asyncio.Event)
    leased: threading.Event = field(default_factory=threading.Event)
    arena_full: bool = False
    #: What can be had of each lease.
    available: int = 1 << 62
    traces: Traces = field(default_factory=Traces)
    on_demand: Any = None

    def config(self, model: str, version: int | None) -> ModelConfig:
        if model not in CONFIGS:
            raise NotFoundError(f"Request for unknown model: '{model}' is not found")
        if version not in (None, 1):
            raise NotFoundError(
                f"Request for unknown model: '{model}' version {version} is not found"
            )
        return CONFIGS[model]

    def route(self, request: InferRequest) -> None:
        """Nothing is split here."""

    def lease(self, model: str, version: int | None, size: int) -> FakeLease:
        if self.arena_full:
            raise UnavailableError(f"no shared memory is left for a request to '{model}'")
        self.leases.append(FakeLease(size, self.available))
        self.leased.set()
        return self.leases[-1]

    async def infer(self, request: InferRequest) -> InferResponse:
        self.requests.append(request)
        if request.model == "broken":
            raise InternalError("the model failed")
        if request.model == "crash":
            raise KeyError("a secret of the implementation")
        if request.model == "never":
            self.started.set()
            try:
                await self.finish.wait()
            except asyncio.CancelledError:
                self.cancelled.set()
                raise
        if self.respond is not None:
            return self.respond(request)
        outputs = [
            Tensor(
                tensor.name.replace("IN", "OUT"), tensor.datatype, tensor.shape, self.read(tensor)
            )
            for tensor in request.inputs
        ]
        return InferResponse(request.model, 1, request.id, outputs)

    def ask(self, request: InferRequest, on_response: Callable[[InferResponse], None]) -> Asked:
        """The same, for the lean path."""

        if request.model == "crash":
            raise KeyError("a secret of the implementation")

        async def answer() -> None:
            try:
                response = await self.infer(request)
            except StatusError as error:
                response = InferResponse(request.model, 1, request.id, error=error)
            on_response(response)

        def ended(task: asyncio.Task[None]) -> None:
            if task.cancelled():  # what is cancelled is answered all the same
                gone = UnavailableError("the client is gone")
                on_response(InferResponse(request.model, 1, request.id, error=gone))

        task = asyncio.get_running_loop().create_task(answer())
        task.add_done_callback(ended)
        return Asked(task)

    def read(self, tensor: Tensor) -> memoryview:
        """The bytes of a request's tensor, wherever they are."""
        if isinstance(tensor.data, Span):
            at = tensor.data.offset
            return self.leases[-1].view[at : at + tensor.data.size]
        assert isinstance(tensor.data, memoryview)
        return tensor.data


@dataclass
class Named:
    """Any of the control plane's answers: it has the attributes that it was given."""

    name: str
    version: str = ""
    state: str = ""
    reason: str = ""
    extensions: list[str] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    platform: str = ""
    datatype: str = ""
    shape: list[int] = field(default_factory=list)
    inputs: list[Named] = field(default_factory=list)
    outputs: list[Named] = field(default_factory=list)


@dataclass
class FakeControlPlane:
    """Knows one model, `echo`, and records what it is told."""

    live: bool = True
    ready: bool = True
    exiting: bool = False
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    failure: StatusError | None = None
    regions: Regions = field(default_factory=Regions)

    def labelled(self, model: str, label: str) -> int | None:
        return 1 if label == "stable" else None

    def is_live(self) -> bool:
        return self.live

    async def is_ready(self) -> bool:
        return self.ready

    async def is_model_ready(self, model: str, version: int | None) -> bool:
        self._known(model)
        return self.ready

    def server_metadata(self) -> Named:
        return Named("triton", "2.73.0", extensions=["classification", "statistics"])

    def using(self, model: str) -> AbstractAsyncContextManager[None]:
        return nullcontext()

    def model_metadata(self, model: str, version: int | None) -> Named:
        self._known(model)
        tensor = Named("IN", datatype="FP32", shape=[-1])
        output = Named("OUT", datatype="FP32", shape=[-1])
        return Named(
            "echo", versions=["1", "2"], platform="identity", inputs=[tensor], outputs=[output]
        )

    def model_config(self, model: str, version: int | None) -> ModelConfig:
        self._known(model)
        return CONFIGS[model]

    def statistics(self, model: str, version: int | None) -> list[Any]:
        self.calls.append(("statistics", model, version))
        return [VersionStatistics("echo", 1).snapshot()]

    def index(self, ready: bool) -> list[Named]:
        self.calls.append(("index", ready))
        return [Named("echo", "1", "READY"), Named("bad", "1", "UNAVAILABLE", "why"), Named("new")]

    async def load(self, model: str, parameters: dict[str, Any]) -> None:
        self.calls.append(("load", model, parameters))
        if self.failure is not None:
            raise self.failure

    async def unload(self, model: str, unload_dependents: bool) -> None:
        self.calls.append(("unload", model, unload_dependents))

    def _known(self, model: str) -> None:
        if model not in CONFIGS:
            raise NotFoundError(f"Request for unknown model: '{model}' is not found")


class Loop:
    """An event loop in a thread of its own, so that tests can use blocking clients."""

    def __init__(self, made: asyncio.AbstractEventLoop) -> None:
        self._loop = made
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(TIMEOUT_SECS)

    def start(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, function: Callable[[], object]) -> None:
        self._loop.call_soon_threadsafe(function)

    def close(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(TIMEOUT_SECS)
        self._loop.close()


@dataclass
class Served:
    """A running server, its planes, and a way to ask it."""

    server: HttpServer
    port: int
    data: FakeDataPlane
    control: FakeControlPlane
    loop: Loop
    #: Headers that every request has, besides its own.
    headers: dict[str, str] = field(default_factory=dict)

    def ask(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> Answer:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT_SECS)
        try:
            connection.request(method, path, body, self.headers | (headers or {}))
            response = connection.getresponse()
            return Answer(response.status, response.reason, dict(response.headers), response.read())
        finally:
            connection.close()

    def infer(
        self, model: str, document: Any, binary: bytes = b"", headers: dict[str, str] | None = None
    ) -> Answer:
        """One inference whose document is given as such, as text or as bytes."""
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        given = {"Inference-Header-Content-Length": str(len(body))} if binary else {}
        return self.ask("POST", f"/v2/models/{model}/infer", body + binary, given | (headers or {}))

    def exchange(self, data: bytes) -> bytes:
        """Send bytes and read until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), TIMEOUT_SECS) as client:
            client.sendall(data)
            received = b""
            while chunk := client.recv(65536):
                received += chunk
            return received


@dataclass
class Answer:
    """A response, read whole."""

    status: int
    reason: str
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> str:
        document = json.loads(self.body)
        assert list(document) == ["error"]
        return cast("str", document["error"])


#: The loop that the server runs on, and the one that every Python has.
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[Loop]:
    loop = Loop(LOOPS[getattr(request, "param", "asyncio")]())
    yield loop
    loop.close()


#: What has an encoding is nothing for the lean path, and answered alike.
PATHS: dict[str, dict[str, str]] = {"lean": {}, "aiohttp": {"Content-Encoding": "identity"}}


def http_server(
    data: FakeDataPlane, control: FakeControlPlane, tls: ssl.SSLContext | None = None
) -> HttpServer:
    """A server in front of these planes, not started."""
    return HttpServer(
        cast("Any", data),
        cast("Any", control),
        Access(Policy(), {}, "API"),
        address="127.0.0.1",
        port=0,
        reuse_port=False,
        max_input_size=MAX_INPUT_SIZE,
        tls=tls,
    )


def serve(loop: Loop, headers: dict[str, str] | None = None) -> Iterator[Served]:
    """What a fixture yields: a server that runs until the test is over."""
    data, control = FakeDataPlane(), FakeControlPlane()
    server = http_server(data, control)
    port = loop.run(server.start())
    yield Served(server, port, data, control, loop, headers or {})
    loop.run(server.stop(1))


@pytest.fixture(params=PATHS)
def served(loop: Loop, request: pytest.FixtureRequest) -> Iterator[Served]:
    yield from serve(loop, PATHS[request.param])


@pytest.fixture(params=["msgspec", "simdjson"])
def reader(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Who reads documents first, whatever their size; both must read alike."""
    name: str = request.param
    if name == "simdjson":
        pytest.importorskip("simdjson")
    monkeypatch.setattr(json_arrays, "LEAST_BYTES", 0 if name == "simdjson" else 1 << 62)
    return name
