"""Copies IN to OUT, and brings its configuration along."""

from __future__ import annotations

from typing import Any

import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Say what an author left out."""
        config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        config.set_dynamic_batching()
        return config

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
