"""Gives its input back: what is left is the cost of serving."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """One tensor in, the same tensor out."""

    def execute(self, requests):
        """Answer each request with its own input."""
        responses = []
        for request in requests:
            tensor = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            output = pb_utils.Tensor("OUTPUT0", tensor.as_numpy())
            responses.append(pb_utils.InferenceResponse([output]))
        return responses
