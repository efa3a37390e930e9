"""Instances on a GPU: pinned to it, and really running there. Needs an NVIDIA GPU."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import tritonclient.http as http
from support import models
from support.servers import serving

from tritonpy.supervisor.workers import devices

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not devices.gpus(), reason="no NVIDIA GPU on this machine"),
]

ON_GPU = "instance_group [ { kind: KIND_GPU gpus: [ 0 ] } ]"


def infer(server: str, model: str, name: str, array: np.ndarray, output: str) -> np.ndarray:
    with http.InferenceServerClient(server) as client:
        tensor = http.InferInput(name, list(array.shape), "FP32")
        tensor.set_data_from_numpy(array)
        result: np.ndarray | None = client.infer(model, [tensor]).as_numpy(output)
    assert result is not None
    return result


def test_a_python_instance_sees_its_one_gpu_as_number_0(tmp_path: Path) -> None:
    code = """
        import os
        import numpy as np
        import triton_python_backend_utils as pb_utils

        class TritonPythonModel:
            def initialize(self, args):
                self.seen = "{model_instance_kind} {model_instance_device_id} ".format(**args)
                self.seen += os.environ["CUDA_VISIBLE_DEVICES"]

            def execute(self, requests):
                out = pb_utils.Tensor("OUT", np.array([self.seen], dtype=object))
                return [pb_utils.InferenceResponse([out]) for _ in requests]
    """
    config = """
        backend: "python"
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
        output [ { name: "OUT" data_type: TYPE_STRING dims: [ 1 ] } ]
    """
    models.python_model(tmp_path, "pinned", code, config + ON_GPU)
    with serving(tmp_path) as server:
        seen = infer(server.http, "pinned", "IN", np.zeros(1, np.float32), "OUT")

    assert seen.tolist() == [b"GPU 0 0"]


def test_a_torchscript_model_computes_on_the_gpu(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")

    class WhereAmI(torch.nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
        def forward(self, x):  # type: ignore[no-untyped-def]
            return x * 2 + float(x.is_cuda)

    (tmp_path / "r/where/1").mkdir(parents=True)
    torch.jit.script(WhereAmI()).save(str(tmp_path / "r/where/1/model.pt"))
    config = """
        backend: "pytorch"
        input [ { name: "input__0" data_type: TYPE_FP32 dims: [ 3 ] } ]
        output [ { name: "output__0" data_type: TYPE_FP32 dims: [ 3 ] } ]
    """
    models.write(tmp_path / "r/where/config.pbtxt", config + ON_GPU)
    with serving(tmp_path / "r") as server:
        result = infer(
            server.http, "where", "input__0", np.array([1, 2, 3], np.float32), "output__0"
        )

    np.testing.assert_array_equal(result, [3, 5, 7])


def test_an_onnx_model_runs_on_the_cuda_provider_or_is_refused(tmp_path: Path) -> None:
    try:
        metadata.version("onnxruntime-gpu")
    except metadata.PackageNotFoundError:
        pytest.skip("onnxruntime-gpu is not installed")
    digits = Path(__file__).parents[2] / "examples" / "model_repository" / "digits"
    target = tmp_path / "digits"
    (target / "1").mkdir(parents=True)
    (target / "1" / "model.onnx").write_bytes((digits / "1" / "model.onnx").read_bytes())
    (target / "labels.txt").write_text((digits / "labels.txt").read_text())
    models.write(target / "config.pbtxt", (digits / "config.pbtxt").read_text() + ON_GPU)
    with serving(tmp_path) as server:
        # Loading fails when the session falls back to the CPU, so being READY is the proof.
        scores = infer(server.http, "digits", "image", np.zeros((1, 1, 8, 8), np.float32), "scores")

    assert scores.shape == (1, 10)
