"""Answers as often as IN says, and does what the parameter "do" of a request says."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]

_FINAL = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL


class TritonPythonModel:
    """What the server looks for."""

    def execute(self, requests: list[Any]) -> Any:
        """Answer each request through its sender."""
        result = None
        for request in requests:
            deed = json.loads(request.parameters()).get("do", "behave")
            if deed == "raise":
                raise ValueError("the user said so")
            if deed == "return a list":
                result = [_response(0)]
            _send(request, deed)
        return result


def _send(request: Any, deed: str) -> None:
    count = int(pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()[0])
    sender = request.get_response_sender()
    for number in range(count):
        last = number == count - 1
        if deed == "fail in the middle" and number == count // 2:
            error = pb_utils.TritonError("half way", pb_utils.TritonError.UNAVAILABLE)
            sender.send(pb_utils.InferenceResponse(error=error))
        elif deed == "end with a response" and last:
            sender.send(_response(number), flags=_FINAL)
            return
        else:
            sender.send(_response(number))
    sender.send(flags=_FINAL)


def _response(number: int) -> Any:
    return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.array([number], np.int32))])
