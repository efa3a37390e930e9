"""Adds up IN over a sequence, from its start on."""

from __future__ import annotations

from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Start with no sequence at all."""
        self._sums: dict[int, int] = {}

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with the sum so far."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        value, start, end, identity = (
            int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().flat[0])
            for name in ("IN", "START", "END", "CORRID")
        )
        total = value + (0 if start else self._sums.get(identity, 0))
        self._sums[identity] = total
        if end:
            del self._sums[identity]
        output = pb_utils.Tensor("OUT", np.array([[total]], np.int32))
        return pb_utils.InferenceResponse([output])
