"""Tells of each request what it brings, and how many requests it was handed over with."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with its input, doubled."""
        return [_response(request, len(requests)) for request in requests]


def _response(request: Any, together: int) -> Any:
    array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
    count = np.full((len(array), 1), together, np.int32)
    return pb_utils.InferenceResponse(
        [pb_utils.Tensor("OUT", array * 2), pb_utils.Tensor("TOGETHER", count)]
    )
