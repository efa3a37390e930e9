"""Copies IN to OUT, and does not finish loading before there is a file `go` in its folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    def initialize(self, args: dict[str, str]) -> None:
        """Wait for the file, a minute at most."""
        deadline = time.monotonic() + 60
        while not Path(args["model_repository"], "go").exists():
            if time.monotonic() > deadline:
                raise TimeoutError("nobody said go")
            time.sleep(0.02)

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with its input."""
        return [
            pb_utils.InferenceResponse(
                [
                    pb_utils.Tensor(
                        "OUT", pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
                    )
                ]
            )
            for request in requests
        ]
