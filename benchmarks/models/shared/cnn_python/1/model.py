"""The CNN, called through ONNX Runtime on one core.

The environment names the folders of packages of the Python that runs the benchmark, for a server
whose own Python has no ONNX Runtime.
"""

import os
import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.extend(os.environ.get("BENCHMARK_PACKAGES", "").split(":"))
import onnxruntime as ort


class TritonPythonModel:
    """Runs all requests of a batch in one call."""

    def initialize(self, args):
        """Load the file that models/own/cnn has."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        models = Path(args["model_repository"]).parents[1]
        self.session = ort.InferenceSession(
            models / "own" / "cnn" / "1" / "model.onnx",
            options,
            providers=["CPUExecutionProvider"],
        )

    def execute(self, requests):
        """Join the images, run them, and part the scores."""
        images = [
            pb_utils.get_input_tensor_by_name(request, "image").as_numpy() for request in requests
        ]
        (scores,) = self.session.run(None, {"image": np.concatenate(images)})
        responses, at = [], 0
        for image in images:
            part = scores[at : at + len(image)]
            at += len(image)
            output = pb_utils.Tensor("scores", part)
            responses.append(pb_utils.InferenceResponse([output]))
        return responses
