"""Clients' memory on a GPU, from the registration to the answer: a whole server and real workers.

There is no GPU: workers find a stand-in for cuda-python, whose memory is files. What only a GPU can
show is in tests/gpu.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc.aio as grpcclient
import tritonclient.http.aio as httpclient
from support import models
from support.gpu import Allocation, Gpus
from tritonclient.utils import InferenceServerException

from tritonpy.supervisor import server as server_module
from tritonpy.supervisor.server import Server
from tritonpy.supervisor.settings import (
    GrpcSettings,
    HttpSettings,
    MetricsSettings,
    Settings,
)
from tritonpy.supervisor.workers.sentinel import Sentinel

pytestmark = pytest.mark.anyio

#: A model that takes its inputs where they are, and tells where that was.
_WHERE = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                tensor = pb_utils.get_input_tensor_by_name(request, "IN")
                told = "cpu" if tensor.is_cpu() else "device {} {}".format(
                    *tensor.__dlpack_device__())
                text = np.array([told.ljust(12).encode()], dtype=object)
                outputs = [pb_utils.Tensor("WHERE", text), wrapped("OUT", tensor)]
                responses.append(pb_utils.InferenceResponse(outputs))
            return responses

    def wrapped(name, tensor):
        if tensor.is_cpu():
            return pb_utils.Tensor(name, tensor.as_numpy())
        return pb_utils.Tensor.from_dlpack(name, tensor)
"""

_CONFIG = """
    backend: "python"
    input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [
      { name: "WHERE" data_type: TYPE_STRING dims: [ 1 ] },
      { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] }
    ]
"""
_ON_GPU = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }'


#: Two steps, of which the first reads and the second writes clients' memory.
_ENSEMBLE = """
    platform: "ensemble"
    input [ { name: "A" data_type: TYPE_FP32 dims: [ -1 ] } ]
    output [ { name: "C" data_type: TYPE_FP32 dims: [ -1 ] } ]
    ensemble_scheduling {
      step [
        {
          model_name: "identity" model_version: -1
          input_map { key: "INPUT0" value: "A" }
          output_map { key: "OUTPUT0" value: "B" }
        },
        {
          model_name: "identity" model_version: -1
          input_map { key: "INPUT0" value: "B" }
          output_map { key: "OUTPUT0" value: "C" }
        }
      ]
    }
"""


class Running:
    """A server and how to ask it."""

    def __init__(self, http_port: int, grpc_port: int) -> None:
        self.http = f"127.0.0.1:{http_port}"
        self.grpc = f"127.0.0.1:{grpc_port}"


@pytest.fixture
def gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Gpus:
    gpus = Gpus(tmp_path)
    for name, value in gpus.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(server_module, "gpus", lambda: (0, 1))
    return gpus


@pytest.fixture
async def running(
    tmp_path: Path, gpus: Gpus, caplog: pytest.LogCaptureFixture
) -> AsyncIterator[Running]:
    repository = tmp_path / "repository"
    models.identity(repository, "identity", max_batch_size=0)
    models.identity(repository, "texts", "TYPE_STRING")
    models.write(repository / "both" / "config.pbtxt", _ENSEMBLE)
    (repository / "both" / "1").mkdir()
    models.python_model(repository, "host", _WHERE, _CONFIG)
    models.python_model(repository, "device", _WHERE, _CONFIG + _ON_GPU)
    settings = Settings(
        repositories=(str(repository),),
        http=HttpSettings(address="127.0.0.1", port=0),
        grpc=GrpcSettings(address="127.0.0.1", port=0),
        metrics=MetricsSettings(enabled=False),
    )
    caplog.set_level("INFO")
    directory = tempfile.mkdtemp(prefix="tp-")  # short: a socket's path must be
    sentinel = Sentinel(directory)
    sentinel.start()
    made = Server(settings, directory, sentinel)
    try:
        assert await made.start()
        ports = [
            int(line.rpartition(":")[2])
            for service in ("HTTPService", "GRPCInferenceService")
            for line in caplog.messages
            if line.startswith(f"Started {service}")
        ]
        yield Running(*ports)
    finally:
        await made.stop()
        left = os.listdir(directory)
        sentinel.stop()
    assert left == [], "a worker left its folder behind"


@pytest.fixture(params=["http", "grpc"])
async def client(request: pytest.FixtureRequest, running: Running) -> AsyncIterator[Any]:
    module = httpclient if request.param == "http" else grpcclient
    url = running.http if request.param == "http" else running.grpc
    async with module.InferenceServerClient(url) as client:
        client.module = module
        yield client


async def register(client: Any, name: str, memory: Allocation, size: int, device: int = 0) -> None:
    await client.register_cuda_shared_memory(name, base64.b64encode(memory.handle), device, size)


def placed(
    client: Any, name: str, shape: list[int], region: str, size: int, offset: int = 0
) -> Any:
    tensor = client.module.InferInput(name, shape, "FP32")
    tensor.set_shared_memory(region, size, offset)
    return tensor


def wanted(client: Any, name: str, region: str, size: int, offset: int = 0) -> Any:
    output = client.module.InferRequestedOutput(name)
    output.set_shared_memory(region, size, offset)
    return output


def floats(memory: Allocation) -> list[float]:
    found: list[float] = np.frombuffer(memory.content, np.float32).tolist()
    return found


async def status(client: Any) -> Mapping[str, tuple[int, int]]:
    found = await client.get_cuda_shared_memory_status()
    listed = found if client.module is httpclient else found.regions.values()
    if client.module is not httpclient:
        return {each.name: (each.device_id, each.byte_size) for each in listed}
    return {each["name"]: (each["device_id"], each["byte_size"]) for each in listed}


async def test_regions_are_registered_listed_and_forgotten(client: Any, gpus: Gpus) -> None:
    await register(client, "a", gpus.allocate(bytes(16)), 16)
    await register(client, "b", gpus.allocate(bytes(8), device=1), 8, device=1)
    assert await status(client) == {"a": (0, 16), "b": (1, 8)}
    with pytest.raises(InferenceServerException, match="'a' already in manager"):
        await register(client, "a", gpus.allocate(bytes(16)), 16)
    with pytest.raises(InferenceServerException, match="not system shared memory"):
        await client.get_system_shared_memory_status("a")
    await client.unregister_cuda_shared_memory("a")
    assert await status(client) == {"b": (1, 8)}
    await client.unregister_cuda_shared_memory()
    assert await status(client) == {}


async def test_a_bad_handle_is_the_registrars_error(client: Any, gpus: Gpus) -> None:
    memory = gpus.allocate(bytes(16))
    memory.handle = b"nowhere".ljust(64, b"\0")
    with pytest.raises(InferenceServerException) as caught:
        await register(client, "bad", memory, 16)
    assert caught.value.message() == (
        "failed to register CUDA shared memory region 'bad': failed to open CUDA IPC handle: "
        "invalid value"
    )
    with pytest.raises(InferenceServerException, match="invalid device ordinal: 7"):
        await register(client, "bad", gpus.allocate(bytes(16)), 16, device=7)
    assert await status(client) == {}


async def test_a_model_on_the_cpu_reads_and_writes_memory_of_every_gpu(
    client: Any, gpus: Gpus
) -> None:
    given = gpus.allocate(np.array([0, 1, 2, 3], np.float32))
    taken = gpus.allocate(bytes(16), device=1)
    await register(client, "given", given, 16)
    await register(client, "taken", taken, 16, device=1)
    await client.infer(
        "identity",
        [placed(client, "INPUT0", [2], "given", 8, 4)],
        outputs=[wanted(client, "OUTPUT0", "taken", 8, 8)],
    )
    assert floats(taken) == [0, 0, 1, 2]
    given.write(np.array([0, 7, 8], np.float32).tobytes())  # the handle is open: no new one is
    await client.infer(
        "identity",
        [placed(client, "INPUT0", [2], "given", 8, 4)],
        outputs=[wanted(client, "OUTPUT0", "taken", 8)],
    )
    assert floats(taken) == [7, 8, 1, 2]


async def test_the_steps_of_an_ensemble_read_and_write_memory_of_gpus(
    client: Any, gpus: Gpus
) -> None:
    given = gpus.allocate(np.array([4, 5], np.float32))
    taken = gpus.allocate(bytes(8))
    await register(client, "given", given, 8)
    await register(client, "taken", taken, 8)
    await client.infer(
        "both",
        [placed(client, "A", [2], "given", 8)],
        outputs=[wanted(client, "C", "taken", 8)],
    )
    assert floats(taken) == [4, 5]


async def test_texts_lie_on_a_gpu_as_anywhere(client: Any, gpus: Gpus) -> None:
    framed = b"\x02\0\0\0ab\x03\0\0\0xyz"
    memory = gpus.allocate(framed)
    await register(client, "texts", memory, len(framed))
    tensor = client.module.InferInput("INPUT0", [2], "BYTES")
    tensor.set_shared_memory("texts", len(framed))
    result = await client.infer("texts", [tensor])
    assert result.as_numpy("OUTPUT0").tolist() == [b"ab", b"xyz"]


@pytest.mark.parametrize(("model", "where"), [("host", b"cpu"), ("device", b"device 2 0")])
async def test_a_python_model_gets_its_inputs_where_it_wants_them(
    client: Any, gpus: Gpus, model: str, where: bytes
) -> None:
    given = gpus.allocate(np.array([1, 2, 3], np.float32))
    taken = gpus.allocate(bytes(12))
    await register(client, "given", given, 12)
    await register(client, "taken", taken, 12)
    result = await client.infer(
        model,
        [placed(client, "IN", [3], "given", 12)],
        outputs=[
            wanted(client, "OUT", "taken", 12),
            client.module.InferRequestedOutput("WHERE"),
        ],
    )
    assert result.as_numpy("WHERE").tolist()[0].strip() == where
    assert floats(taken) == [1, 2, 3]


async def test_an_output_that_does_not_fit_is_an_error(client: Any, gpus: Gpus) -> None:
    memory = gpus.allocate(np.array([1, 2], np.float32))
    await register(client, "r", memory, 8)
    with pytest.raises(InferenceServerException, match="should be at least 8 bytes"):
        await client.infer(
            "identity",
            [placed(client, "INPUT0", [2], "r", 8)],
            outputs=[wanted(client, "OUTPUT0", "r", 4)],
        )
    for place in ((4, 8), (8, 4)):
        with pytest.raises(InferenceServerException, match="for shared memory region: 'r'"):
            await client.infer("identity", [placed(client, "INPUT0", [1], "r", *place)])


async def test_a_region_that_is_unregistered_is_closed_in_workers_and_cannot_be_named(
    client: Any, gpus: Gpus
) -> None:
    memory = gpus.allocate(np.array([5], np.float32))
    await register(client, "r", memory, 4)
    request = [placed(client, "INPUT0", [1], "r", 4)]
    assert (await client.infer("identity", request)).as_numpy("OUTPUT0").tolist() == [5]
    assert _mapped(memory)
    await client.unregister_cuda_shared_memory("r")
    with pytest.raises(InferenceServerException, match="Unable to find shared memory region: 'r'"):
        await client.infer("identity", request)
    for _ in range(500):
        if not _mapped(memory):
            break
        await asyncio.sleep(0.02)
    assert not _mapped(memory)
    await register(client, "r", gpus.allocate(np.array([6], np.float32)), 4)
    assert (await client.infer("identity", request)).as_numpy("OUTPUT0").tolist() == [6]


async def test_the_extension_is_listed(running: Running) -> None:
    def extensions() -> list[str]:
        connection = HTTPConnection(running.http)
        connection.request("GET", "/v2")
        listed: list[str] = json.loads(connection.getresponse().read())["extensions"]
        connection.close()
        return listed

    assert "cuda_shared_memory" in await asyncio.to_thread(extensions)


def _mapped(memory: Allocation) -> bool:
    """Whether a process has the memory open."""
    for maps in Path("/proc").glob("[0-9]*/maps"):
        try:
            if str(memory.path) in maps.read_text():
                return True
        except OSError:
            continue
    return False
