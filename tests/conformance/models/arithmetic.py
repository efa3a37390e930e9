"""Adds and subtracts A and B, and does what the parameter "do" of a request says."""

from __future__ import annotations

import json
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with SUM and DIFF."""
        return [_response(request) for request in requests]


def _response(request: Any) -> Any:
    deed = json.loads(request.parameters()).get("do", "behave")
    if deed == "fail":
        error = pb_utils.TritonError("cannot add", pb_utils.TritonError.UNAVAILABLE)
        return pb_utils.InferenceResponse(error=error)
    a, b = (pb_utils.get_input_tensor_by_name(request, name).as_numpy() for name in "AB")
    total = a + b
    outputs = [pb_utils.Tensor("SUM", total[:2] if deed == "cut" else total)]
    if deed != "omit":
        outputs.append(pb_utils.Tensor("DIFF", a - b))
    return pb_utils.InferenceResponse(outputs)
