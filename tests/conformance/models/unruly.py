"""Does what the parameter "do" of a request says; most of it a model should not do."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for. It gets one request at a time: it does not batch."""

    def execute(self, requests: list[Any]) -> Any:
        """Misbehave as the request asks."""
        deed = json.loads(requests[0].parameters())["do"]
        if deed in _RETURNED:
            return _RETURNED[deed]()
        if deed in _RESPONSES:
            return [_RESPONSES[deed]()]
        if deed.startswith("error "):
            code = getattr(pb_utils.TritonError, deed.removeprefix("error "))
            return [pb_utils.InferenceResponse(error=pb_utils.TritonError(f"said {deed}", code))]
        if deed == "raise":
            raise ValueError("the user said so")
        if deed == "raise a model exception":
            raise pb_utils.TritonModelException("model exception text")
        if deed == "exit":
            os._exit(3)
        raise AssertionError(f"unknown deed {deed!r}")


def _good(**more: Any) -> Any:
    return pb_utils.InferenceResponse([_tensor("OUT", (4,))], **more)


def _tensor(name: str, shape: tuple[int, ...], kind: type[np.generic] = np.float32) -> Any:
    return pb_utils.Tensor(name, np.zeros(shape, kind))


_RETURNED: dict[str, Callable[[], Any]] = {
    "return None": lambda: None,
    "return no responses": lambda: [],
    "return two responses": lambda: [_good(), _good()],
    "return a text": lambda: ["x"],
    "return a response": lambda: _good(),
    "return a tuple": lambda: (_good(),),
    "return a list of None": lambda: [None],
}
_RESPONSES: dict[str, Callable[[], Any]] = {
    "behave": _good,
    "unknown output": lambda: pb_utils.InferenceResponse([_tensor("NOPE", (4,))]),
    "no outputs": lambda: pb_utils.InferenceResponse([]),
    "other datatype": lambda: pb_utils.InferenceResponse([_tensor("OUT", (4,), np.int32)]),
    "other shape": lambda: pb_utils.InferenceResponse([_tensor("OUT", (2, 3))]),
    "no elements": lambda: pb_utils.InferenceResponse([_tensor("OUT", (0,))]),
    "scalar": lambda: pb_utils.InferenceResponse([_tensor("OUT", ())]),
    "plain error": lambda: pb_utils.InferenceResponse(error=pb_utils.TritonError("plain error")),
    "error without text": lambda: pb_utils.InferenceResponse(error=pb_utils.TritonError("")),
    "error and tensor": lambda: _good(error=pb_utils.TritonError("both")),
    "parameters": lambda: _good(parameters={"text": "a", "number": 7, "yes": True, "minus": -3}),
}
