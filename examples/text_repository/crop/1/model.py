"""A picture and a map of its words in, a crop of each word out; words.py does the work."""

import numpy as np
import triton_python_backend_utils as pb_utils

from .words import cut_out, find_words


class TritonPythonModel:
    """Answers with as many crops as there are words: none for an empty page."""

    def execute(self, requests):
        """Answer each request on its own."""
        responses = []
        for request in requests:
            image = pb_utils.get_input_tensor_by_name(request, "image").as_numpy()
            regions = pb_utils.get_input_tensor_by_name(request, "regions").as_numpy()
            boxes = find_words(regions)
            whole = np.round(np.array(boxes).reshape(-1, 4)).astype(np.int32)
            outputs = [
                pb_utils.Tensor("crops", cut_out(image, boxes)),
                pb_utils.Tensor("boxes", whole),
            ]
            responses.append(pb_utils.InferenceResponse(outputs))
        return responses
