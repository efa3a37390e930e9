"""The process that serves holds no framework, whatever its models need."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path

from support import models, onnx_models
from support.servers import serving

FRAMEWORKS = ("cuda", "cudnn", "nvinfer", "onnxruntime", "openvino", "tensorflow", "torch")


def mapped(process: int) -> set[str]:
    """The files that a process has mapped."""
    with open(f"/proc/{process}/maps", encoding="utf-8", errors="replace") as file:
        return {line.split(maxsplit=5)[5].strip() for line in file if len(line.split()) > 5}


def infer(address: str, model: str, name: str) -> None:
    tensor = {"name": name, "datatype": "FP32", "shape": [2], "data": [1, 2]}
    url = f"http://{address}/v2/models/{model}/infer"
    request = json.dumps({"inputs": [tensor]}).encode()
    with urllib.request.urlopen(url, request, timeout=60) as response:
        assert json.load(response)["outputs"][0]["data"] == [1, 2]


def test_the_supervisor_maps_no_framework_while_its_workers_do(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.identity("FP32", [2]), tmp_path / "onnx" / "1")
    models.python_identity(tmp_path, "python")

    with serving(tmp_path) as server:
        infer(server.http, "onnx", "INPUT0")
        infer(server.http, "python", "IN")
        supervisor = mapped(server.process.pid)
        (onnx_worker,) = [mapped(worker.pid) for worker in server.workers("onnx")]
        (python_worker,) = [mapped(worker.pid) for worker in server.workers("python")]

    assert not [path for path in supervisor if any(name in path for name in FRAMEWORKS)]
    assert [path for path in onnx_worker if "onnxruntime" in path]
    assert not [path for path in python_worker if any(name in path for name in FRAMEWORKS)]
