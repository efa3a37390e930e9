"""Clients' memory on a real GPU, by Triton's own client library. Needs an NVIDIA GPU."""

from __future__ import annotations

import base64
import importlib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient
from support import models, onnx_models
from support.servers import RunningServer, serving
from tritonclient.utils import InferenceServerException

from tritonpy.supervisor.workers import devices

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not devices.gpus(), reason="no NVIDIA GPU on this machine"),
]

Array = npt.NDArray[np.float32]

ON_GPU = "instance_group [ { kind: KIND_GPU gpus: [ 0 ] } ]"
IN_PLACE = 'parameters { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value { string_value: "no" } }'
ON_CPU = "instance_group [ { kind: KIND_CPU } ]"

#: Doubles its input on the GPU, without touching the host.
_TORCH = """
    import torch
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                tensor = pb_utils.get_input_tensor_by_name(request, "IN")
                assert not tensor.is_cpu()
                doubled = torch.from_dlpack(tensor) * 2
                assert doubled.is_cuda
                output = pb_utils.Tensor.from_dlpack("OUT", doubled)
                responses.append(pb_utils.InferenceResponse([output]))
            return responses
"""


@pytest.fixture(scope="module")
def cudashm() -> ModuleType:
    return importlib.import_module("tritonclient.utils.cuda_shared_memory")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    repository = tmp_path_factory.mktemp("repository")
    models.python_identity(repository, "host", more=ON_CPU)
    models.python_identity(repository, "copied", more=ON_GPU)
    if _has("torch"):
        config = models.identity_config(more=ON_GPU + IN_PLACE)
        models.python_model(repository, "doubled", _TORCH, config)
        _torchscript(repository)
    if _has("onnxruntime-gpu"):
        _onnx(repository)
    with serving(repository, arguments=["--model-control-mode=explicit", "--load-model=*"]) as up:
        yield up


@pytest.fixture(params=["http", "grpc"])
def client(request: pytest.FixtureRequest, server: RunningServer) -> Iterator[Any]:
    module = httpclient if request.param == "http" else grpcclient
    url = server.http if request.param == "http" else server.grpc
    with module.InferenceServerClient(url) as client:
        client.module = module
        yield client
        client.unregister_cuda_shared_memory()


class Region:
    """Memory of this process on GPU 0, registered with the server."""

    def __init__(self, client: Any, cudashm: ModuleType, name: str, content: Array) -> None:
        self._cudashm = cudashm
        self.name = name
        self.size = content.nbytes
        self.handle = cudashm.create_shared_memory_region(name, content.nbytes, 0)
        cudashm.set_shared_memory_region(self.handle, [content])
        raw = cudashm.get_raw_handle(self.handle)
        client.register_cuda_shared_memory(name, raw, 0, content.nbytes)

    def read(self, shape: list[int]) -> Array:
        found: Array = self._cudashm.get_contents_as_numpy(self.handle, np.float32, shape)
        return found

    def destroy(self) -> None:
        self._cudashm.destroy_shared_memory_region(self.handle)


@pytest.fixture
def regions(client: Any, cudashm: ModuleType) -> Iterator[tuple[Region, Region]]:
    given = Region(client, cudashm, "given", np.arange(1, 5, dtype=np.float32))
    taken = Region(client, cudashm, "taken", np.zeros(4, np.float32))
    yield given, taken
    client.unregister_cuda_shared_memory()
    for region in (given, taken):
        region.destroy()


def run(client: Any, model: str, names: tuple[str, str], given: Region, taken: Region) -> None:
    tensor = client.module.InferInput(names[0], [4], "FP32")
    tensor.set_shared_memory(given.name, given.size)
    output = client.module.InferRequestedOutput(names[1])
    output.set_shared_memory(taken.name, taken.size)
    client.infer(model, [tensor], outputs=[output])


@pytest.mark.parametrize("model", ["host", "copied"])
def test_models_that_compute_on_the_host_get_copies(
    client: Any, regions: tuple[Region, Region], model: str
) -> None:
    given, taken = regions
    run(client, model, ("IN", "OUT"), given, taken)
    assert taken.read([4]).tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("package", "model", "names"),
    [
        ("torch", "doubled", ("IN", "OUT")),
        ("torch", "script", ("input__0", "output__0")),
        ("onnxruntime-gpu", "graph", ("IN", "OUT")),
    ],
)
def test_models_that_compute_on_the_gpu_read_and_write_there(
    client: Any,
    regions: tuple[Region, Region],
    package: str,
    model: str,
    names: tuple[str, str],
) -> None:
    if not _has(package):
        pytest.skip(f"{package} is not installed")
    given, taken = regions
    for _ in range(3):
        run(client, model, names, given, taken)
        assert taken.read([4]).tolist() == [2, 4, 6, 8]


def test_a_handle_that_leads_nowhere_is_refused(client: Any) -> None:
    with pytest.raises(InferenceServerException, match="failed to open CUDA IPC handle"):
        client.register_cuda_shared_memory("bad", base64.b64encode(b"x" * 64), 0, 16)


def test_a_region_that_is_unregistered_can_be_freed_and_registered_again(
    client: Any, cudashm: ModuleType
) -> None:
    for round_ in range(5):
        given = Region(client, cudashm, "given", np.full(4, round_, np.float32))
        taken = Region(client, cudashm, "taken", np.zeros(4, np.float32))
        run(client, "host", ("IN", "OUT"), given, taken)
        assert taken.read([4]).tolist() == [round_] * 4
        client.unregister_cuda_shared_memory()
        given.destroy()
        taken.destroy()


def _has(distribution: str) -> bool:
    try:
        return not metadata.version(distribution).endswith("+cpu")
    except metadata.PackageNotFoundError:
        return False


def _torchscript(repository: Path) -> None:
    torch = importlib.import_module("torch")

    class Double(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def forward(self, x):  # type: ignore[no-untyped-def]
            return x * 2

    (repository / "script" / "1").mkdir(parents=True)
    torch.jit.script(Double()).save(str(repository / "script" / "1" / "model.pt"))
    models.write(
        repository / "script" / "config.pbtxt",
        f"""
        backend: "pytorch"
        input [ {{ name: "input__0" data_type: TYPE_FP32 dims: [ 4 ] }} ]
        output [ {{ name: "output__0" data_type: TYPE_FP32 dims: [ 4 ] }} ]
        {ON_GPU}
        """,
    )


def _onnx(repository: Path) -> None:
    doubled = onnx_models.build(
        [onnx.helper.make_node("Add", ["IN", "IN"], ["OUT"])],
        [onnx_models.value("IN", "FP32", [4])],
        [onnx_models.value("OUT", "FP32", [4])],
    )
    onnx_models.save(doubled, repository / "graph" / "1")
    models.write(
        repository / "graph" / "config.pbtxt",
        f"""
        backend: "onnxruntime"
        input [ {{ name: "IN" data_type: TYPE_FP32 dims: [ 4 ] }} ]
        output [ {{ name: "OUT" data_type: TYPE_FP32 dims: [ 4 ] }} ]
        {ON_GPU}
        """,
    )
