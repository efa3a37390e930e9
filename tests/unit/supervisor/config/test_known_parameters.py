"""Parameters that mean nothing are doubted, and those that workers read are known."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import tritonpy.worker
from tritonpy.ipc.backend_names import BUILT_IN
from tritonpy.supervisor.config.known_parameters import doubts, known
from tritonpy.supervisor.config.schema import ModelConfig, ModelParameter
from tritonpy.supervisor.environments import place

_WORKER = Path(tritonpy.worker.__path__[0])
_FILES = {
    "onnxruntime": "backends/onnx_*.py",
    "pytorch": "backends/pytorch_settings.py",
    "python": "python/*.py",
    "identity": "backends/reference.py",
    "repeat": "backends/reference.py",
    "square": "backends/reference.py",
}
_READERS = {"parameter", "bool_parameter", "int_parameter", "_flag", "_count"}


def config(backend: str, *names: str, runtime: str = "") -> ModelConfig:
    return ModelConfig(
        name="m",
        backend=backend,
        runtime=runtime,
        parameters={name: ModelParameter(string_value="1") for name in names},
    )


def texts(backend: str) -> set[str]:
    """Every text in the files of a backend."""
    return {
        node.value
        for path in _WORKER.glob(_FILES[backend])
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }


def read_by_name(backend: str) -> set[str]:
    """The parameters that a backend's files read by a name that stands there."""
    found: set[str] = set()
    for path in _WORKER.glob(_FILES[backend]):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else ""
            name = function.id if isinstance(function, ast.Name) else name
            if name in _READERS:
                found |= {
                    argument.value
                    for argument in node.args
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                }
    return found


@pytest.mark.parametrize("backend", sorted(BUILT_IN))
def test_every_known_parameter_is_one_that_the_backend_has(backend: str) -> None:
    elsewhere = {"padding", place.PARAMETER, place.PYTHON_PARAMETER, *known("")}
    assert known(backend) - elsewhere <= texts(backend)


@pytest.mark.parametrize("backend", ["onnxruntime", "pytorch", "python"])
def test_every_parameter_that_a_backend_reads_is_known(backend: str) -> None:
    assert read_by_name(backend) <= known(backend)


def test_what_is_known_is_not_doubted() -> None:
    for backend in BUILT_IN:
        assert not doubts(config(backend, *known(backend)))


def test_a_name_like_a_known_one_is_doubted_with_the_one_that_was_meant() -> None:
    for backend, runtime in (("python", ""), ("mine", "model.py")):
        found = doubts(config(backend, "FORCE_CPU_ONLY_INPUT_TENSOR", "mode", runtime=runtime))
        assert list(found) == ["FORCE_CPU_ONLY_INPUT_TENSOR"]
        assert (
            "did you mean 'FORCE_CPU_ONLY_INPUT_TENSORS'?" in found["FORCE_CPU_ONLY_INPUT_TENSOR"]
        )


def test_a_model_in_python_may_have_parameters_of_its_own() -> None:
    assert not doubts(config("python", "threshold"))
    assert not doubts(config("of_a_package", "threshold"))


@pytest.mark.parametrize(
    ("backend", "whose"), [("onnxruntime", "the backend 'onnxruntime'"), ("", "an ensemble")]
)
def test_other_backends_have_no_use_for_them(backend: str, whose: str) -> None:
    (doubt,) = doubts(config(backend, "threshold")).values()
    assert doubt == f"parameter 'threshold' means nothing to {whose}, and has no effect"


def test_a_module_of_pytorch_has_pytorch_s_parameters() -> None:
    assert doubts(config("pytorch", "threshold", runtime="model.py"))
