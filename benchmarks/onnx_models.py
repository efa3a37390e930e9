"""Write the ONNX models that the benchmarks serve; their files are committed.

python benchmarks/onnx_models.py           # writes cnn and large_onnx below benchmarks/models/own
python benchmarks/onnx_models.py --time    # and says what an image costs the CNN on one core

`cnn` has random weights: 3x64x64 in, ten scores out. It is built to take 1 to 2 ms an image on one
core: long enough that serving must not cost a multiple of it, short enough that what serving costs
is seen. Most of that is spent at full size, so that the file stays small.

`large_onnx` gives 16 MiB back.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

MODELS = Path(__file__).resolve().parent / "models" / "own"
SEED = 7
IMAGE = (3, 64, 64)
SCORES = 10
LARGE = (16 << 20) // 4  # elements of FP32
#: Of each convolution the channels that it makes and its stride.
LAYERS = ((32, 1), (32, 1), (32, 2), (32, 1), (32, 2))


def cnn() -> onnx.ModelProto:
    """The network with a batch dimension of any size; the same bytes every time."""
    generator = np.random.default_rng(SEED)
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def weight(name: str, *shape: int) -> str:
        deviation = (2 / np.prod(shape[1:])) ** 0.5  # keeps the size of what flows through
        values = generator.normal(0, deviation, shape).astype(np.float32)
        weights.append(numpy_helper.from_array(values, name))
        return name

    source, channels = "image", IMAGE[0]
    for number, (made, stride) in enumerate(LAYERS):
        names = [source, weight(f"w{number}", made, channels, 3, 3)]
        strides = [stride, stride]
        conv = helper.make_node("Conv", names, [f"c{number}"], pads=[1, 1, 1, 1], strides=strides)
        nodes.append(conv)
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        source, channels = f"r{number}", made
    nodes.append(helper.make_node("GlobalAveragePool", [source], ["mean"]))
    nodes.append(helper.make_node("Flatten", ["mean"], ["flat"]))
    dense = ["flat", weight("dense", SCORES, channels)]
    nodes.append(helper.make_node("Gemm", dense, ["scores"], transB=1))
    image, scores = _value("image", "batch", *IMAGE), _value("scores", "batch", SCORES)
    return _model(helper.make_graph(nodes, "cnn", [image], [scores], weights))


def identity(elements: int) -> onnx.ModelProto:
    """A graph that gives its input back."""
    node = helper.make_node("Identity", ["INPUT0"], ["OUTPUT0"])
    source, target = _value("INPUT0", elements), _value("OUTPUT0", elements)
    return _model(helper.make_graph([node], "identity", [source], [target]))


def _value(name: str, *shape: int | str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def _model(graph: onnx.GraphProto) -> onnx.ModelProto:
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _file(name: str) -> Path:
    return MODELS / name / "1" / "model.onnx"


def milliseconds_an_image(batch: int, rounds: int = 50) -> float:
    """What an image of a batch costs the CNN in ONNX Runtime on one thread, at best."""
    import onnxruntime  # only to measure

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        _file("cnn"), options, providers=["CPUExecutionProvider"]
    )
    images = np.random.default_rng(SEED).random((batch, *IMAGE), dtype=np.float32)
    took: list[float] = []
    for _ in range(rounds):
        started = time.perf_counter()
        session.run(None, {"image": images})
        took.append(time.perf_counter() - started)
    return min(took) * 1000 / batch


def main() -> None:
    """Write the models, and measure the CNN when asked."""
    parser = argparse.ArgumentParser(description="Write the ONNX models of the benchmarks.")
    parser.add_argument("--time", action="store_true", help="say what an image costs the CNN")
    arguments = parser.parse_args()
    onnx.save(cnn(), _file("cnn"))
    onnx.save(identity(LARGE), _file("large_onnx"))
    if arguments.time:
        for batch in (1, 4, 16):
            print(f"batch of {batch}: {milliseconds_an_image(batch):.2f} ms an image")


if __name__ == "__main__":
    main()
