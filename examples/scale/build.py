"""Write the two versions of the example model `scale`: y = 2 x and y = 10 x.

pip install onnx
python examples/scale/build.py
"""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

VERSIONS = Path(__file__).resolve().parent.parent / "model_repository" / "scale"


def scale(factor: float) -> onnx.ModelProto:
    """A graph that multiplies rows of any length by the factor."""
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", "length"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "length"])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [], [factor])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


if __name__ == "__main__":
    for version, factor in ((1, 2.0), (2, 10.0)):
        onnx.save(scale(factor), VERSIONS / str(version) / "model.onnx")
