"""Every public method of NVIDIA's four client classes works against the server.

The methods come from the classes themselves: one without an exercise here fails its test.
"""

from __future__ import annotations

import asyncio
import base64
import inspect
import json
import queue
import urllib.request
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
import tritonclient.http.auth
import tritonclient.utils.shared_memory as shm
from support import models
from support.clients import TIMEOUT
from support.servers import RunningServer, serving

MODULES: dict[str, Any] = {
    "http": tritonclient.http,
    "http.aio": tritonclient.http.aio,
    "grpc": tritonclient.grpc,
    "grpc.aio": tritonclient.grpc.aio,
}
VALUES = np.arange(4, dtype=np.float32)


def public_methods(kind: str) -> list[str]:
    found = inspect.getmembers(MODULES[kind].InferenceServerClient, callable)
    return [name for name, _ in found if not name.startswith("_")]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.identity(repository, "plain")
    models.identity(repository, "other")
    models.square(repository, "square")
    arguments = [
        "--model-control-mode=explicit",
        "--load-model=plain",
        "--load-model=square",
        "--allow-client-shm=true",
    ]
    with serving(repository, arguments=arguments) as running:
        yield running
        assert "Traceback" not in running.log


@pytest.fixture(scope="module")
def runner() -> Iterator[asyncio.Runner]:
    """One event loop for all clients that need one: gRPC's stays with the first it sees."""
    with asyncio.Runner() as runner:
        yield runner


class Client:
    """A client of any of the four kinds, whose calls return results and are remembered."""

    def __init__(self, kind: str, server: RunningServer, runner: asyncio.Runner) -> None:
        self.kind = kind
        self.server = server
        self.module = MODULES[kind]
        self.called: set[str] = set()
        self._runner = runner
        self._inner = runner.run(self._connect()) if self.is_aio else self._new()

    @property
    def is_http(self) -> bool:
        return self.kind.startswith("http")

    @property
    def is_aio(self) -> bool:
        return self.kind.endswith("aio")

    def call(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Call a method, wait for what it returns, and remember that it succeeded."""
        result = getattr(self._inner, method)(*arguments, **more)
        if inspect.isawaitable(result):
            result = self._runner.run(_awaited(result))
        self.called.add(method)
        return result

    def get(self, method: str, *arguments: Any, **more: Any) -> Any:
        """Call a method that returns a document."""
        if not self.is_http:
            more["as_json"] = True
        return self.call(method, *arguments, **more)

    def drain(self, responses: AsyncIterator[Any]) -> list[Any]:
        """All that an iterator has."""

        async def drained() -> list[Any]:
            return [response async for response in responses]

        return self._runner.run(drained())

    def close(self) -> None:
        if "close" not in self.called:
            self.call("close")

    def input(self, name: str = "INPUT0", values: Any = VALUES, datatype: str = "FP32") -> Any:
        tensor = self.module.InferInput(name, list(values.shape), datatype)
        tensor.set_data_from_numpy(values)
        return tensor

    async def _connect(self) -> Any:
        return self._new()

    def _new(self) -> Any:
        url = self.server.http if self.is_http else self.server.grpc
        return self.module.InferenceServerClient(url)


async def _awaited(result: Any) -> Any:
    return await result


@pytest.fixture
def connected(server: RunningServer, runner: asyncio.Runner) -> Iterator[Callable[[str], Client]]:
    clients: list[Client] = []

    def connect(kind: str) -> Client:
        clients.append(Client(kind, server, runner))
        return clients[-1]

    yield connect
    for client in clients:
        client.close()


# --- the exercises --------------------------------------------------------------------------------


def health(client: Client) -> None:
    assert client.call("is_server_live") is True
    assert client.call("is_server_ready") is True
    assert client.call("is_model_ready", "plain", "1") is True
    assert client.call("is_model_ready", "square") is True


def metadata(client: Client) -> None:
    assert client.get("get_server_metadata")["name"] == "triton"
    assert client.get("get_model_metadata", "plain")["versions"] == ["1"]
    config = client.get("get_model_config", "plain", "1")
    assert (config if client.is_http else config["config"])["backend"] == "identity"


def statistics(client: Client) -> None:
    for model in ("plain", ""):
        document = client.get("get_inference_statistics", model)
        assert "plain" in [entry["name"] for entry in document["model_stats"]]


_INT8 = {"data_type": "TYPE_INT8", "dims": [-1]}


def repository(client: Client) -> None:
    def state() -> str | None:
        index = client.get("get_model_repository_index")
        entries = index if client.is_http else index["models"]
        (entry,) = [entry for entry in entries if entry["name"] == "other"]
        state = entry.get("state")
        assert state is None or isinstance(state, str)
        return state

    config = {
        "backend": "identity",
        "input": [_INT8 | {"name": "INPUT0"}],
        "output": [_INT8 | {"name": "OUTPUT0"}],
    }
    client.call("load_model", "other", config=json.dumps(config))
    assert state() == "READY"
    assert client.get("get_model_metadata", "other")["inputs"][0]["datatype"] == "INT8"
    client.call("unload_model", "other", unload_dependents=True)
    assert state() in ("UNLOADING", "UNAVAILABLE")


def inference(client: Client) -> None:
    wanted = [client.module.InferRequestedOutput("OUTPUT0")]
    result = client.call(
        "infer", "plain", [client.input()], outputs=wanted, request_id="a", model_version="1"
    )
    assert result.as_numpy("OUTPUT0").tolist() == VALUES.tolist()
    assert (result.get_response() if client.is_http else result.get_response(True))["id"] == "a"


def asynchronous_inference(client: Client) -> None:
    if client.is_http:
        result = client.call("async_infer", "plain", [client.input()]).get_result()
    else:
        answers: queue.Queue[Any] = queue.Queue()
        client.call(
            "async_infer",
            "plain",
            [client.input()],
            callback=lambda result, error: answers.put(error or result),
        )
        result = answers.get(timeout=TIMEOUT)
    assert result.as_numpy("OUTPUT0").tolist() == VALUES.tolist()


def streamed_inference(client: Client) -> None:
    tensor = client.input("IN", np.array([3], np.int32), "INT32")
    found: list[Any]
    if client.is_aio:

        async def requests() -> AsyncIterator[Any]:
            yield {"model_name": "square", "inputs": [tensor]}

        found = client.drain(client.call("stream_infer", requests()))
    else:
        answers: queue.Queue[Any] = queue.Queue()
        client.call("start_stream", lambda result, error: answers.put((result, error)))
        client.call("async_stream_infer", "square", [tensor])
        found = [answers.get(timeout=TIMEOUT) for _ in range(3)]
        client.call("stop_stream")
    assert [error for _, error in found] == [None] * 3
    assert [result.as_numpy("OUT").tolist() for result, _ in found] == [[3]] * 3


def bodies(client: Client) -> None:
    body, header_length = client.call("generate_request_body", [client.input()])
    headers = {} if header_length is None else {_LENGTH: str(header_length)}
    url = f"http://{client.server.http}/v2/models/plain/infer"
    with urllib.request.urlopen(urllib.request.Request(url, body, headers)) as answer:
        length = answer.headers[_LENGTH]
        data = answer.read()
    result = client.call(
        "parse_response_body", data, header_length=None if length is None else int(length)
    )
    assert result.as_numpy("OUTPUT0").tolist() == VALUES.tolist()


_LENGTH = "Inference-Header-Content-Length"


def plugins(client: Client) -> None:
    plugin = tritonclient.http.auth.BasicAuth("user", "word")
    client.call("register_plugin", plugin)
    assert client.call("plugin") is plugin
    assert client.call("is_server_live") is True  # with a header that the server need not know
    client.call("unregister_plugin")
    assert client.call("plugin") is None


def log_settings(client: Client) -> None:
    before = client.get("get_log_settings")
    document = client.get("update_log_settings", {"log_verbose_level": 1, "log_info": True})
    settings = document if client.is_http else document["settings"]
    level = settings["log_verbose_level"]
    assert (level if client.is_http else level["uint32_param"]) == 1
    client.call("update_log_settings", {"log_verbose_level": 0})
    assert client.get("get_log_settings") == before


def trace_settings(client: Client) -> None:
    for model in (None, "plain"):
        document = client.get("update_trace_settings", model, settings={"trace_rate": "7"})
        assert _trace_rate(client, document) == "7"
        assert _trace_rate(client, client.get("get_trace_settings", model)) == "7"
        client.call("update_trace_settings", model, settings={"trace_rate": None})
        assert _trace_rate(client, client.get("get_trace_settings", model)) == "1000"


def _trace_rate(client: Client, document: Any) -> Any:
    return (
        document["trace_rate"] if client.is_http else document["settings"]["trace_rate"]["value"][0]
    )


def system_shared_memory(client: Client) -> None:
    size, key = VALUES.nbytes, f"/tritonclient_{uuid.uuid4().hex}"
    region = shm.create_shared_memory_region("both", key, 2 * size)
    try:
        assert shm.mapped_shared_memory_regions()
        shm.set_shared_memory_region(region, [VALUES])
        client.call("register_system_shared_memory", "both", key, 2 * size)
        assert regions(client, "system") == ["both"]
        tensor = client.module.InferInput("INPUT0", [4], "FP32")
        tensor.set_shared_memory("both", size)
        wanted = client.module.InferRequestedOutput("OUTPUT0")
        wanted.set_shared_memory("both", size, offset=size)
        client.call("infer", "plain", [tensor], outputs=[wanted])
        found = shm.get_contents_as_numpy(region, np.float32, [4], offset=size)
        assert found.tolist() == VALUES.tolist()
        client.call("unregister_system_shared_memory", "both")
        assert regions(client, "system") == []
    finally:
        shm.destroy_shared_memory_region(region)


def cuda_shared_memory(client: Client) -> None:
    """Without a GPU regions are refused; a test with one is in tests/gpu."""
    handle = base64.b64encode(bytes(64))
    with pytest.raises(client.module.InferenceServerException, match=r"CUDA|GPU"):
        client.call("register_cuda_shared_memory", "device", handle, 0, 64)
    client.called.add("register_cuda_shared_memory")
    assert regions(client, "cuda") == []
    client.call("unregister_cuda_shared_memory")


def regions(client: Client, kind: str) -> list[str]:
    document = client.get(f"get_{kind}_shared_memory_status")
    if client.is_http:
        return [region["name"] for region in document]
    return list(document.get("regions", {}))


def closing(client: Client) -> None:
    client.call("close")


EXERCISES: dict[str, Callable[[Client], None]] = {
    "is_server_live": health,
    "is_server_ready": health,
    "is_model_ready": health,
    "get_server_metadata": metadata,
    "get_model_metadata": metadata,
    "get_model_config": metadata,
    "get_inference_statistics": statistics,
    "get_model_repository_index": repository,
    "load_model": repository,
    "unload_model": repository,
    "infer": inference,
    "async_infer": asynchronous_inference,
    "start_stream": streamed_inference,
    "async_stream_infer": streamed_inference,
    "stop_stream": streamed_inference,
    "stream_infer": streamed_inference,
    "generate_request_body": bodies,
    "parse_response_body": bodies,
    "register_plugin": plugins,
    "plugin": plugins,
    "unregister_plugin": plugins,
    "get_log_settings": log_settings,
    "update_log_settings": log_settings,
    "get_trace_settings": trace_settings,
    "update_trace_settings": trace_settings,
    "get_system_shared_memory_status": system_shared_memory,
    "register_system_shared_memory": system_shared_memory,
    "unregister_system_shared_memory": system_shared_memory,
    "get_cuda_shared_memory_status": cuda_shared_memory,
    "register_cuda_shared_memory": cuda_shared_memory,
    "unregister_cuda_shared_memory": cuda_shared_memory,
    "close": closing,
}


@pytest.mark.parametrize(
    ("kind", "method"), [(kind, method) for kind in MODULES for method in public_methods(kind)]
)
def test_method(kind: str, method: str, connected: Callable[[str], Client]) -> None:
    client = connected(kind)
    assert method in EXERCISES, f"{method} of tritonclient.{kind} is not exercised"
    EXERCISES[method](client)
    assert method in client.called


def test_every_function_of_the_shared_memory_module(
    connected: Callable[[str], Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    called: set[str] = set()

    def recorded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **more: Any) -> Any:
            result = function(*arguments, **more)
            called.add(name)
            return result

        return call

    functions = {
        name: function
        for name, function in inspect.getmembers(shm, inspect.isfunction)
        if not name.startswith("_") and function.__module__ == shm.__name__
    }
    for name, function in functions.items():
        monkeypatch.setattr(shm, name, recorded(name, function))
    system_shared_memory(connected("http"))
    assert called == set(functions)
    assert len(functions) >= 5
