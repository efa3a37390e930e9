"""What ONNX Runtime's loading makes of the masks and lengths that `padding` generates."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import onnx_models

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.messages import Instance
from tritonpy.supervisor.config import parse
from tritonpy.worker.backend import Model
from tritonpy.worker.backends.onnxruntime import OnnxRuntimeBackend


def model(folder: Path, text: str) -> Model:
    """The graph of `masked_mean` under a configuration."""
    onnx_models.save(onnx_models.masked_mean(), folder / "1")
    config = json.loads(parse.to_json(parse.from_text(f'name: "m" {text}', "config.pbtxt")))
    return Model("m", 1, str(folder), str(folder / "1"), config, Instance("m_0", "CPU", 0, 1), {})


def test_what_is_generated_is_not_completed_as_an_input_of_clients(tmp_path: Path) -> None:
    rules = onnx_models.MASKED_MEAN[onnx_models.MASKED_MEAN.index("parameters") :]

    described = OnnxRuntimeBackend().describe(model(tmp_path, f"max_batch_size: 8 {rules}"))

    assert [entry["name"] for entry in described["input"]] == ["x"]
    assert [entry["name"] for entry in described["output"]] == ["centred", "mean", "lengths"]


def test_a_generated_input_has_the_datatype_of_the_graph(tmp_path: Path) -> None:
    text = onnx_models.MASKED_MEAN.replace('"data_type": "TYPE_INT32"', '"data_type": "TYPE_FP32"')

    with pytest.raises(InvalidArgumentError) as refusal:
        OnnxRuntimeBackend().load(model(tmp_path, text))

    assert "padding input 'length'" in refusal.value.message
    assert "TYPE_FP32" in refusal.value.message
    assert "TYPE_INT32" in refusal.value.message
