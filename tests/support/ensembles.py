"""Build ensembles out of small models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .models import python_model, write

#: Adds 1 to IN in place, as user code likes to do, and tells in WRITABLE whether it might.
ADD_ONE = """
    import numpy as np
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            return [self._response(request) for request in requests]

        def _response(self, request):
            array = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            array += 1
            return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array)])
"""


def step(model: str, inputs: Mapping[str, str], outputs: Mapping[str, str]) -> str:
    """A step; both maps go from the model's tensors to the ensemble's."""
    maps = [
        f'{field} {{ key: "{key}" value: "{value}" }}'
        for field, tensors in (("input_map", inputs), ("output_map", outputs))
        for key, value in tensors.items()
    ]
    return f'{{ model_name: "{model}" model_version: -1 {" ".join(maps)} }}'


def ensemble(
    repository: Path,
    name: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    steps: Sequence[str],
    more: str = "",
) -> Path:
    """An ensemble; a tensor is "NAME DATATYPE DIMS", such as "IN FP32 -1"."""
    lines = ['platform: "ensemble"']
    for field, tensors in (("input", inputs), ("output", outputs)):
        for text in tensors:
            tensor, datatype, dims = text.split()
            lines.append(
                f'{field} [ {{ name: "{tensor}" data_type: TYPE_{datatype} dims: [ {dims} ] }} ]'
            )
    lines.append(f"ensemble_scheduling {{ step [ {', '.join(steps)} ] {more} }}")
    write(repository / name / "config.pbtxt", "\n".join(lines))
    (repository / name / "1").mkdir(exist_ok=True)
    return repository / name


def add_one(repository: Path, name: str, code: str = ADD_ONE) -> Path:
    """A python model that adds 1 to IN, in place."""
    config = """
        backend: "python"
        input [ { name: "IN" data_type: TYPE_FP32 dims: [ -1 ] } ]
        output [ { name: "OUT" data_type: TYPE_FP32 dims: [ -1 ] } ]
    """
    return python_model(repository, name, code, config)
