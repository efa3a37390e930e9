"""Tiny ONNX models for tests, built on the spot."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from tritonpy.ipc.dtypes import to_config

#: Of each protocol datatype, the ONNX element type.
ELEMENT_TYPES: dict[str, int] = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
    "BF16": TensorProto.BFLOAT16,
}

Dims = Sequence[int | str | None]


def value(name: str, datatype: str, dims: Dims) -> onnx.ValueInfoProto:
    """An input or output of a graph; a text or None among the dims varies."""
    return helper.make_tensor_value_info(name, ELEMENT_TYPES[datatype], dims)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    initializers: Sequence[onnx.TensorProto] = (),
) -> onnx.ModelProto:
    """A model of these nodes, for an ONNX version that every supported runtime reads."""
    graph = helper.make_graph(nodes, "graph", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def identity(datatype: str, dims: Dims, pairs: int = 1) -> onnx.ModelProto:
    """INPUT<n> to OUTPUT<n>."""
    return build(
        [helper.make_node("Identity", [f"INPUT{n}"], [f"OUTPUT{n}"]) for n in range(pairs)],
        [value(f"INPUT{n}", datatype, dims) for n in range(pairs)],
        [value(f"OUTPUT{n}", datatype, dims) for n in range(pairs)],
    )


def side_by_side(datatypes: Sequence[str]) -> tuple[onnx.ModelProto, dict[str, Any]]:
    """Each datatype to <datatype>_OUT with two rows of three, and its configuration.

    FP32 goes through a weight of zeros, so that the model has one.
    """
    nodes = [helper.make_node("Identity", [name], [f"{name}_OUT"]) for name in datatypes]
    weights: list[onnx.TensorProto] = []
    if "FP32" in datatypes:
        zeros = onnx.numpy_helper.from_array(np.zeros((2, 3), np.float32), "w")
        weights.append(zeros)
        nodes[list(datatypes).index("FP32")] = helper.make_node("Add", ["FP32", "w"], ["FP32_OUT"])
    graph = build(
        nodes,
        [value(name, name, [2, 3]) for name in datatypes],
        [value(f"{name}_OUT", name, [2, 3]) for name in datatypes],
        weights,
    )
    described = {name: {"data_type": to_config(name), "dims": [2, 3]} for name in datatypes}
    inputs = [{"name": name, **each} for name, each in described.items()]
    outputs = [{"name": f"{name}_OUT", **each} for name, each in described.items()]
    return graph, {"input": inputs, "output": outputs}


def optional_addend(dims: Sequence[int] = (2,)) -> onnx.ModelProto:
    """y = x + b, where b is 10 unless it is given."""
    ten = onnx.numpy_helper.from_array(np.full(dims, 10, np.float32), "b")
    return build(
        [helper.make_node("Add", ["x", "b"], ["y"])],
        [value("x", "FP32", dims), value("b", "FP32", dims)],
        [value("y", "FP32", dims)],
        [ten],
    )


def scalar_negation() -> onnx.ModelProto:
    """y = -x for a scalar, whose shape is empty."""
    return build(
        [helper.make_node("Neg", ["x"], ["y"])],
        [value("x", "FP32", [])],
        [value("y", "FP32", [])],
    )


def sequence_output() -> onnx.ModelProto:
    """A model that answers with a sequence of tensors."""
    sequence = helper.make_sequence_type_proto(
        helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    return build(
        [helper.make_node("SequenceConstruct", ["x"], ["y"])],
        [value("x", "FP32", ["n"])],
        [helper.make_value_info("y", sequence)],
    )


def ragged_sums() -> onnx.ModelProto:
    """All elements x of a batch and where each request begins: doubled = 2 x, and the sums."""
    make = helper.make_node
    constants = {"zero": np.zeros(1, np.float32), "axis": np.array(0), "two": np.array(2.0, "f4")}
    constants |= {"one": np.array([1]), "many": np.array([2**31]), "none": np.array([0])}
    constants["last"] = np.array([-1])
    return build(
        [
            make("Mul", ["x", "two"], ["doubled"]),
            make("CumSum", ["x", "axis"], ["totals"]),
            make("Concat", ["zero", "totals"], ["before"], axis=0),
            make("Cast", ["starts"], ["places"], to=TensorProto.INT64),
            make("Gather", ["before", "places"], ["bounds"]),
            make("Slice", ["bounds", "one", "many"], ["ends"]),
            make("Slice", ["bounds", "none", "last"], ["begins"]),
            make("Sub", ["ends", "begins"], ["sums"]),
        ],
        [value("x", "FP32", ["n"]), value("starts", "INT32", ["bounds"])],
        [value("doubled", "FP32", ["n"]), value("sums", "FP32", ["requests"])],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )


#: The configuration of `ragged_sums`, and of whatever else takes and gives the same.
RAGGED_SUMS = """
    max_batch_size: 8
    input { name: "x" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }
    batch_input {
      kind: BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO
      target_name: "starts" data_type: TYPE_INT32 source_input: "x"
    }
    output [
      { name: "doubled" data_type: TYPE_FP32 dims: -1 },
      { name: "sums" data_type: TYPE_FP32 dims: 1 reshape { shape: [ ] } }
    ]
    batch_output { kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "doubled" source_input: "x" }
"""


def running_sum() -> onnx.ModelProto:
    """y = x + s, and the same as t: the sum so far, where t comes back as s."""
    return build(
        [helper.make_node("Add", ["x", "s"], ["y"]), helper.make_node("Identity", ["y"], ["t"])],
        [value("x", "FP32", ["n", 1]), value("s", "FP32", ["n", 1])],
        [value("y", "FP32", ["n", 1]), value("t", "FP32", ["n", 1])],
    )


def growing_sum() -> onnx.ModelProto:
    """t is s with x behind it, y the sum of them: where t comes back as s, it grows."""
    one = onnx.numpy_helper.from_array(np.array([1]), "one")
    return build(
        [
            helper.make_node("Concat", ["s", "x"], ["t"], axis=1),
            helper.make_node("ReduceSum", ["t", "one"], ["y"], keepdims=1),
        ],
        [value("x", "FP32", ["n", 1]), value("s", "FP32", ["n", "length"])],
        [value("y", "FP32", ["n", 1]), value("t", "FP32", ["n", "longer"])],
        [one],
    )


def told_of_sequences() -> onnx.ModelProto:
    """y = x, and what the model is told of its sequences as numbers."""
    told = {"START": "start", "END": "end", "READY": "ready", "CORRID": "id"}
    return build(
        [
            helper.make_node("Identity", ["x"], ["y"]),
            *(helper.make_node("Cast", [k], [v], to=TensorProto.FLOAT) for k, v in told.items()),
        ],
        [
            value("x", "FP32", ["n", 1]),
            *(value(k, "UINT64" if k == "CORRID" else "INT32", ["n", 1]) for k in told),
        ],
        [value(name, "FP32", ["n", 1]) for name in ("y", *told.values())],
    )


def masked_mean() -> onnx.ModelProto:
    """Of rows x with a mask: centred = x without the mean, the mean, and the lengths as they came.

    What the mask hides must not count.
    """
    make = helper.make_node
    return build(
        [
            make("Cast", ["mask"], ["weights"], to=TensorProto.FLOAT),
            make("Mul", ["x", "weights"], ["seen"]),
            make("ReduceSum", ["seen", "axis"], ["sum"]),
            make("ReduceSum", ["weights", "axis"], ["count"]),
            make("Div", ["sum", "count"], ["mean"]),
            make("Sub", ["x", "mean"], ["centred"]),
            make("Identity", ["length"], ["lengths"]),
        ],
        [
            value("x", "FP32", ["b", "n"]),
            value("mask", "INT64", ["b", "n"]),
            value("length", "INT32", ["b"]),
        ],
        [
            value("centred", "FP32", ["b", "n"]),
            value("mean", "FP32", ["b", 1]),
            value("lengths", "INT32", ["b"]),
        ],
        [onnx.numpy_helper.from_array(np.array([1]), "axis")],
    )


#: The configuration of `masked_mean`, and of whatever else takes and gives the same.
MASKED_MEAN = """
    max_batch_size: 8
    input { name: "x" data_type: TYPE_FP32 dims: -1 }
    output [
      { name: "centred" data_type: TYPE_FP32 dims: -1 },
      { name: "mean" data_type: TYPE_FP32 dims: 1 },
      { name: "lengths" data_type: TYPE_INT32 dims: 1 reshape { shape: [ ] } }
    ]
    parameters {
      key: "padding"
      value { string_value:
        '{ "axes": { "n": { "buckets": [4, 8], "mask": { "name": "mask" },'
        '                   "length": { "name": "length", "data_type": "TYPE_INT32" } } },'
        '  "inputs": { "x": { "axes": ["n"], "value": 1000 } },'
        '  "outputs": { "centred": ["n"] } }'
      }
    }
"""


def weighted(count: int = 4096) -> onnx.ModelProto:
    """y = x + w, with weights w of 0, 1, 2, ... big enough to be stored outside of the file."""
    weights = onnx.numpy_helper.from_array(np.arange(count, dtype=np.float32), "w")
    return build(
        [helper.make_node("Add", ["x", "w"], ["y"])],
        [value("x", "FP32", [count])],
        [value("y", "FP32", [count])],
        [weights],
    )


def save(model: onnx.ModelProto, directory: Path, name: str = "model.onnx") -> None:
    """Write the model into a version's directory."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_bytes(model.SerializeToString())


def save_with_external_data(model: onnx.ModelProto, directory: Path) -> None:
    """Write the model as the folder model.onnx with its weights in a file of their own."""
    folder = directory / "model.onnx"
    folder.mkdir(parents=True)
    onnx.save_model(  # pyright: ignore[reportUnknownMemberType]
        model,
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
