"""Ragged batches on ONNX Runtime and PyTorch: gathered, run and cut apart as a worker does it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper
from support import onnx_models

from tritonpy.ipc.errors import InvalidArgumentError
from tritonpy.ipc.messages import Instance
from tritonpy.supervisor.config import parse
from tritonpy.worker.backend import Array, Model, TensorBackend
from tritonpy.worker.backends.onnxruntime import OnnxRuntimeBackend
from tritonpy.worker.batch import GraphShapes, gather, scatter

KINDS = {
    "BATCH_ELEMENT_COUNT": ([3, 2], "TYPE_INT32"),
    "BATCH_ACCUMULATED_ELEMENT_COUNT": ([3, 5], "TYPE_FP32"),
    "BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO": ([0, 3, 5], "TYPE_INT32"),
    "BATCH_MAX_ELEMENT_COUNT_AS_SHAPE": ([0, 0, 0], "TYPE_FP32"),
    "BATCH_ITEM_SHAPE": ([[3], [2]], "TYPE_INT32"),
    "BATCH_ITEM_SHAPE_FLATTEN": ([3, 2], "TYPE_FP32"),
}
ONE_KIND = """
    max_batch_size: 4
    input {{ name: "x" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }}
    batch_input {{ kind: {kind} target_name: "c" data_type: {data_type} source_input: "x" }}
    output [ {{ name: "y" data_type: TYPE_FP32 dims: -1 }},
             {{ name: "seen" data_type: {data_type} dims: -1 }} ]
    batch_output {{ target_name: "y" source_input: "x" }}
    batch_output {{ target_name: "seen" source_input: "x" }}
"""
TWO = [np.array([[1, 2, 3]], np.float32), np.array([[4, 5]], np.float32)]


def model(folder: Path, text: str) -> Model:
    """The model of this configuration, whose file is in this folder of a version."""
    config = json.loads(parse.to_json(parse.from_text(f'name: "m" {text}', "config.pbtxt")))
    directories = str(folder.parent), str(folder)
    return Model("m", 1, *directories, config, Instance("m_0", "CPU", 0, 1), {})


def answer(backend: TensorBackend, asked: Model, arrays: Sequence[Array]) -> list[dict[str, Array]]:
    """What each request gets, whose only input is x."""
    shapes = GraphShapes(asked.config)
    requests = [{"x": array} for array in arrays]
    batch = gather(requests, shapes)
    outputs = backend.run(batch.arrays, [output["name"] for output in asked.config["output"]])
    return scatter(outputs, batch.rows, shapes, requests)


def check_sums(backend: TensorBackend, asked: Model) -> None:
    backend.load(asked)
    arrays = [
        np.arange(rows * length, dtype=np.float32).reshape(rows, length)
        for rows, length in ((1, 4), (1, 1), (1, 7))
    ]
    for array, found in zip(arrays, answer(backend, asked, arrays), strict=True):
        np.testing.assert_array_equal(found["doubled"], array * 2, strict=True)
        assert found["sums"].tolist() == [[array.sum()]]


def test_onnx_runtime_runs_a_ragged_batch(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.ragged_sums(), tmp_path / "1")
    check_sums(OnnxRuntimeBackend(), model(tmp_path / "1", onnx_models.RAGGED_SUMS))


def test_pytorch_runs_a_ragged_batch(tmp_path: Path) -> None:
    torch_models = pytest.importorskip("support.torch_models", reason="PyTorch is not installed")
    from tritonpy.worker.backends.pytorch import PyTorchBackend

    torch_models.save(torch_models.RaggedSums(), tmp_path / "1")
    check_sums(PyTorchBackend(), model(tmp_path / "1", onnx_models.RAGGED_SUMS))


def graph_of(kind: str) -> Any:
    """y = x, and the generated input as it came."""
    _, data_type = KINDS[kind]
    datatype = data_type.removeprefix("TYPE_")
    dims = ["i", "j"] if kind == "BATCH_ITEM_SHAPE" else ["i"]
    return onnx_models.build(
        [
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node("Identity", ["c"], ["seen"]),
        ],
        [onnx_models.value("x", "FP32", ["n"]), onnx_models.value("c", datatype, dims)],
        [onnx_models.value("y", "FP32", ["n"]), onnx_models.value("seen", datatype, dims)],
    )


@pytest.mark.parametrize("kind", KINDS)
def test_onnx_runtime_gets_each_kind_of_generated_input(kind: str, tmp_path: Path) -> None:
    expected, data_type = KINDS[kind]
    onnx_models.save(graph_of(kind), tmp_path / "1")
    asked = model(tmp_path / "1", ONE_KIND.format(kind=kind, data_type=data_type))
    backend = OnnxRuntimeBackend()
    backend.load(asked)

    batch = gather([{"x": array} for array in TWO], GraphShapes(asked.config))
    outputs = backend.run(batch.arrays, ["y", "seen"])

    assert outputs["seen"].tolist() == expected
    assert outputs["y"].tolist() == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "TYPE_INT32 source",
            "TYPE_FP32 source",
            "TYPE_FP32 for batch input 'starts', model provides TYPE",
        ),
        (
            '"starts"',
            '"other"',
            "unexpected inference input 'other', allowed inputs are: starts, x",
        ),
        (
            "ACCUMULATED_ELEMENT_COUNT_WITH_ZERO",
            "ITEM_SHAPE",
            "batch input 'starts' of kind BATCH_ITEM_SHAPE has 2 dimensions, model provides [-1]",
        ),
        (
            "batch_output",
            'batch_input { target_name: "b" data_type: TYPE_INT32 source_input: "x" } batch_output',
            "configuration expects 3 inputs, model provides 2 (starts, x)",
        ),
    ],
)
def test_a_generated_input_that_the_graph_does_not_have_is_refused(
    old: str, new: str, message: str, tmp_path: Path
) -> None:
    onnx_models.save(onnx_models.ragged_sums(), tmp_path / "1")
    text = onnx_models.RAGGED_SUMS
    assert old in text
    with pytest.raises(InvalidArgumentError) as raised:
        OnnxRuntimeBackend().load(model(tmp_path / "1", text.replace(old, new)))
    assert message in raised.value.message


def test_inputs_are_not_completed_where_some_are_generated(tmp_path: Path) -> None:
    onnx_models.save(onnx_models.ragged_sums(), tmp_path / "1")
    text = 'max_batch_size: 8 batch_input { target_name: "starts" data_type: TYPE_INT32 }'
    described = OnnxRuntimeBackend().describe(model(tmp_path / "1", text))
    assert not described.get("input")
    assert [output["name"] for output in described["output"]] == ["doubled", "sums"]
