"""Gives its input back after 10 ms, whatever the size of the batch."""

import time

import triton_python_backend_utils as pb_utils

EXECUTION_S = 0.010


class TritonPythonModel:
    """A model that takes as long for one request as for a full batch, and no CPU time."""

    def execute(self, requests):
        """Sleep once, then answer each request with its own input."""
        time.sleep(EXECUTION_S)
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            output = pb_utils.Tensor("OUTPUT0", tensor.as_numpy())
            responses.append(pb_utils.InferenceResponse([output]))
        return responses
