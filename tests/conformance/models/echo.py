"""Copies each input to the output at the same place of the configuration."""

from __future__ import annotations

import json
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Remember which output belongs to which input."""
        config = json.loads(args["model_config"])
        self._pairs = list(zip(config["input"], config["output"], strict=True))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with the tensors that it brings."""
        return [self._response(request) for request in requests]

    def _response(self, request: Any) -> Any:
        outputs = []
        for given, wanted in self._pairs:
            tensor = pb_utils.get_input_tensor_by_name(request, given["name"])
            if tensor is None:  # an optional one
                continue
            if wanted["data_type"] == "TYPE_BF16":  # which numpy does not know
                outputs.append(pb_utils.Tensor.from_dlpack(wanted["name"], tensor.to_dlpack()))
            else:
                outputs.append(pb_utils.Tensor(wanted["name"], tensor.as_numpy()))
        return pb_utils.InferenceResponse(outputs)
