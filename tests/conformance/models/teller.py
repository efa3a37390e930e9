"""A backend that tells how it was imported, what it is told, and what its model's folder holds."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # type: ignore[import-not-found]


class TritonPythonModel:
    """What the server looks for."""

    @staticmethod
    def auto_complete_config(config: Any) -> Any:
        """Complete the configuration of a model that has none but its backend's name."""
        config.add_input({"name": "IN", "data_type": "TYPE_STRING", "dims": [1]})
        config.add_output({"name": "OUT", "data_type": "TYPE_STRING", "dims": [-1]})
        return config

    def initialize(self, args: dict[str, str]) -> None:
        """Note what can be told of the model and does not change from machine to machine."""
        config = json.loads(args["model_config"])
        folder = pb_utils.get_model_dir()
        self._told = [
            __name__,
            os.path.relpath(__file__, os.path.dirname(os.path.dirname(__file__))),
            str(sys.modules[__name__].__file__ == __file__),
            args["model_name"],
            args["model_version"],
            os.path.relpath(folder, args["model_repository"]),
            config["backend"],
            config["runtime"],
            *sorted(name for name in os.listdir(folder) if name != "__pycache__"),
        ]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with all of it."""
        array = np.array([text.encode() for text in self._told], dtype=np.object_)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)]) for _ in requests]
