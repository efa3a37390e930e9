"""Ten probabilities in, the likeliest digit as a word out."""

import numpy as np
import triton_python_backend_utils as pb_utils

WORDS = np.array(
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"], dtype=object
)


class TritonPythonModel:
    """Names the best score of each row."""

    def execute(self, requests):
        """Answer each request on its own; one of several pictures has a row for each."""
        responses = []
        for request in requests:
            scores = pb_utils.get_input_tensor_by_name(request, "scores").as_numpy()
            label = WORDS[scores.argmax(axis=1)]
            outputs = [
                pb_utils.Tensor("label", label[:, None]),
                pb_utils.Tensor("probability", scores.max(axis=1, keepdims=True)),
            ]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
