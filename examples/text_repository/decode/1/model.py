"""Scores in, text out; letters.py does the work."""

import numpy as np
import triton_python_backend_utils as pb_utils

from .letters import read


class TritonPythonModel:
    """Answers with a text for each word."""

    def execute(self, requests):
        """Answer each request on its own."""
        responses = []
        for request in requests:
            scores = pb_utils.get_input_tensor_by_name(request, "scores").as_numpy()
            words = np.array(read(scores), dtype=np.object_)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("words", words)]))
        return responses
