"""Build tiny model repositories."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

IDENTITY_PY = """
    import triton_python_backend_utils as pb_utils

    class TritonPythonModel:
        def execute(self, requests):
            responses = []
            for request in requests:
                tensor = pb_utils.get_input_tensor_by_name(request, "IN")
                output = pb_utils.Tensor("OUT", tensor.as_numpy())
                responses.append(pb_utils.InferenceResponse([output]))
            return responses
"""


def write(path: Path, text: str) -> None:
    """Write a text, its common indentation removed, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(dedent(text).lstrip("\n"))


def python_model(repository: Path, name: str, code: str, config: str, version: int = 1) -> Path:
    """A python model with this code and configuration; returns its folder."""
    write(repository / name / str(version) / "model.py", code)
    write(repository / name / "config.pbtxt", config)
    return repository / name


def identity_config(
    data_type: str = "TYPE_FP32", *, backend: str = "python", max_batch_size: int = 0, more: str = ""
) -> str:
    """The configuration of a model that copies IN to OUT."""
    return f"""
        backend: "{backend}"
        max_batch_size: {max_batch_size}
        input [ {{ name: "IN" data_type: {data_type} dims: [ -1 ] }} ]
        output [ {{ name: "OUT" data_type: {data_type} dims: [ -1 ] }} ]
        {more}
    """


def python_identity(repository: Path, name: str, data_type: str = "TYPE_FP32", **more: object) -> Path:
    """A python model that copies IN to OUT."""
    config = identity_config(data_type, **more)  # type: ignore[arg-type]
    return python_model(repository, name, IDENTITY_PY, config)


def identity(repository: Path, name: str, data_type: str = "TYPE_FP32", **more: object) -> Path:
    """The identity backend, copying INPUT0 to OUTPUT0."""
    config = identity_config(data_type, backend="identity", **more)  # type: ignore[arg-type]
    config = config.replace('"IN"', '"INPUT0"').replace('"OUT"', '"OUTPUT0"')
    write(repository / name / "config.pbtxt", config)
    (repository / name / "1").mkdir(parents=True)
    return repository / name
