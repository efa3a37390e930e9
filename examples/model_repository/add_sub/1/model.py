"""A Triton model in Python: OUTPUT0 = INPUT0 + INPUT1, OUTPUT1 = INPUT0 - INPUT1."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    """Adds and subtracts, whatever the shape and the datatype."""

    def execute(self, requests):
        """Answer each request on its own."""
        responses = []
        for request in requests:
            left = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            right = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            responses.append(
                pb_utils.InferenceResponse(
                    output_tensors=[
                        pb_utils.Tensor("OUTPUT0", left + right),
                        pb_utils.Tensor("OUTPUT1", left - right),
                    ]
                )
            )
        return responses
