"""Answers with what a model sees of a request beside its tensors, as JSON."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with a description of it."""
        return [_response(_seen(request)) for request in requests]


def _seen(request: Any) -> str:
    return json.dumps(
        {
            "parameters": json.loads(request.parameters()),
            "id": request.request_id(),
            "correlation_id": request.correlation_id(),
            "flags": request.flags(),
            "timeout": request.timeout(),
            "outputs": sorted(request.requested_output_names()),
            "inputs": sorted(tensor.name() for tensor in request.inputs()),
        },
        sort_keys=True,
    )


def _response(text: str) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([text], dtype=np.object_))])
