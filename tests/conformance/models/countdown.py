"""Counts down from IN, one execution for each number: one answer in the end, or one for each."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start with nothing to count."""
        self._left: dict[int, int] = {}
        config = json.loads(args["model_config"])
        self._decoupled = pb_utils.using_decoupled_model_transaction_policy(config)

    def execute(self, requests: list[Any]) -> list[Any] | None:
        """Count each request down by one."""
        responses = [self._count(request) for request in requests]
        return None if self._decoupled else responses

    def _count(self, request: Any) -> Any:
        value, start, identity = (
            int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0])
            for name in ("IN", "START", "CORRID")
        )
        left = value - 1 if start else self._left[identity] - 1
        self._left[identity] = left
        output = pb_utils.Tensor("OUT", np.array([[left]], np.int32))
        response = pb_utils.InferenceResponse([output])
        if self._decoupled:
            request.get_response_sender().send(response)
        if left > 0:
            request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
            return None
        if self._decoupled:
            final = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
            request.get_response_sender().send(flags=final)
        return response
