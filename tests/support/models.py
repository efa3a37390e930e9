"""Build tiny model repositories."""

from __future__ import annotations

from collections.abc import Sequence
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
    data_type: str = "TYPE_FP32",
    *,
    backend: str = "python",
    max_batch_size: int = 0,
    dims: Sequence[int] = (-1,),
    more: str = "",
) -> str:
    """The configuration of a model that copies IN to OUT."""
    return f"""
        backend: "{backend}"
        max_batch_size: {max_batch_size}
        input [ {{ name: "IN" data_type: {data_type} dims: {list(dims)} }} ]
        output [ {{ name: "OUT" data_type: {data_type} dims: {list(dims)} }} ]
        {more}
    """


def python_identity(
    repository: Path, name: str, data_type: str = "TYPE_FP32", **more: object
) -> Path:
    """A python model that copies IN to OUT."""
    config = identity_config(data_type, **more)  # type: ignore[arg-type]
    return python_model(repository, name, IDENTITY_PY, config)


def identity(repository: Path, name: str, data_type: str = "TYPE_FP32", **more: object) -> Path:
    """The identity backend, copying INPUT0 to OUTPUT0."""
    config = identity_config(data_type, backend="identity", **more)  # type: ignore[arg-type]
    config = config.replace('"IN"', '"INPUT0"').replace('"OUT"', '"OUTPUT0"')
    return _without_files(repository, name, config)


_PAIR = """
    backend: "identity"
    max_batch_size: 4
    input [
      {{ name: "INPUT0" data_type: TYPE_FP32 dims: [ 2 ] }},
      {{ name: "INPUT1" data_type: TYPE_INT32 dims: [ -1 ] {second} }}
    ]
    output [
      {{ name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 2 ] }},
      {{ name: "OUTPUT1" data_type: TYPE_INT32 dims: [ -1 ] }}
    ]
"""


def identity_pair(repository: Path, name: str, *, second: str = "") -> Path:
    """The identity backend with two inputs and batches of up to 4; `second` is more on INPUT1."""
    return _without_files(repository, name, _PAIR.format(second=second))


def repeat(repository: Path, name: str) -> Path:
    """The repeat backend, which is decoupled: the elements of IN, each after its DELAY in ms."""
    config = """
        backend: "repeat"
        model_transaction_policy { decoupled: true }
        input [
          { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] },
          { name: "DELAY" data_type: TYPE_UINT32 dims: [ -1 ] },
          { name: "WAIT" data_type: TYPE_UINT32 dims: [ 1 ] }
        ]
        output [
          { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] },
          { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] }
        ]
    """
    return _without_files(repository, name, config)


def square(repository: Path, name: str, more: str = "") -> Path:
    """The square backend, which is decoupled: as many responses as the number IN says."""
    config = f"""
        backend: "square"
        model_transaction_policy {{ decoupled: true }}
        input [ {{ name: "IN" data_type: TYPE_INT32 dims: [ 1 ] }} ]
        output [ {{ name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }} ]
        {more}
    """
    return _without_files(repository, name, config)


def _without_files(repository: Path, name: str, config: str) -> Path:
    write(repository / name / "config.pbtxt", config)
    (repository / name / "1").mkdir(parents=True)
    return repository / name
