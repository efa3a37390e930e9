"""Backends are found by name; what is missing is named together with the way to install it."""

from __future__ import annotations

import dataclasses
import importlib
from importlib import metadata
from types import SimpleNamespace
from typing import Any

import pytest

from tritonpy.ipc.backend_names import BUILT_IN
from tritonpy.ipc.errors import InternalError, UnavailableError
from tritonpy.ipc.messages import Instance
from tritonpy.worker import registry
from tritonpy.worker.backend import Model
from tritonpy.worker.backends import reference
from tritonpy.worker.registry import backend_class


def model(kind: str = "CPU") -> Model:
    return Model("m", 1, "/r/m", "/r/m/1", {}, Instance("m_0", kind, 0, 1), {})


@pytest.fixture
def versions(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The distributions that are installed, as far as the registry can tell."""
    installed = {"onnxruntime"}

    def version(name: str) -> str:
        if name not in installed:
            raise metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(metadata, "version", version)
    return installed


def offer(monkeypatch: pytest.MonkeyPatch, name: str, load: Any) -> None:
    """Pretend that a package registered an entry point."""
    point = SimpleNamespace(name=name, value="other.package:Class", load=load)

    def entry_points(group: str) -> list[Any]:
        assert group == "tritonpy.backends"
        return [point]

    monkeypatch.setattr(metadata, "entry_points", entry_points)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("identity", reference.IdentityBackend),
        ("repeat", reference.RepeatBackend),
        ("square", reference.SquareBackend),
    ],
)
def test_a_reference_backend_is_found_by_name(name: str, expected: type) -> None:
    assert backend_class(name, model()) is expected


def test_onnxruntime_is_found_by_name() -> None:
    assert backend_class("onnxruntime", model()).__name__ == "OnnxRuntimeBackend"


def test_every_backend_that_is_built_in_has_a_class() -> None:
    assert set(registry.BACKENDS) == set(BUILT_IN)


def test_a_model_with_a_runtime_is_run_by_python_whatever_its_backend_is_called() -> None:
    given = dataclasses.replace(model(), runtime="/backends/mine/model.py")
    assert backend_class("mine", given).__name__ == "PythonBackend"


def test_a_backend_whose_package_is_gone_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "other", lambda: reference.IdentityBackend)
    with pytest.raises(InternalError, match=r"'mine' of model 'm'.*not installed any more"):
        backend_class("mine", model())


@pytest.mark.parametrize(
    ("backend", "kind", "extra"),
    [("onnxruntime", "CPU", "cpu"), ("onnxruntime", "GPU", "gpu"), ("pytorch", "GPU", "torch")],
)
def test_a_framework_that_is_not_installed_is_named_with_its_extra(
    backend: str, kind: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_module(name: str, package: str | None = None) -> Any:
        raise ModuleNotFoundError("No module named 'framework'", name="framework")

    monkeypatch.setattr(importlib, "import_module", import_module)
    with pytest.raises(UnavailableError) as raised:
        backend_class(backend, model(kind))
    assert raised.value.message == (
        f"backend '{backend}' of model 'm' is not available: No module named 'framework'. "
        f"Install it by: pip install 'tritonpy-supervisor[{extra}]'"
    )


def test_both_onnxruntime_wheels_at_once_are_refused(versions: set[str]) -> None:
    versions.add("onnxruntime-gpu")
    with pytest.raises(UnavailableError, match="both installed and have overwritten each other"):
        backend_class("onnxruntime", model())


def test_the_gpu_wheel_alone_is_accepted(versions: set[str]) -> None:
    versions.clear()
    versions.add("onnxruntime-gpu")
    assert backend_class("onnxruntime", model()).__name__ == "OnnxRuntimeBackend"


def test_another_package_may_bring_a_backend(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "mine", lambda: reference.IdentityBackend)
    assert backend_class("mine", model()) is reference.IdentityBackend


def test_another_package_may_bring_a_backend_that_is_planned_here(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer(monkeypatch, "tensorrt", lambda: reference.IdentityBackend)
    assert backend_class("tensorrt", model()) is reference.IdentityBackend


def test_an_entry_point_that_cannot_be_imported_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    def load() -> Any:
        raise ImportError("libmine.so: cannot open shared object file")

    offer(monkeypatch, "mine", load)
    with pytest.raises(UnavailableError, match=r"'mine' of model 'm'.*libmine\.so"):
        backend_class("mine", model())


def test_an_entry_point_that_is_no_backend_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    offer(monkeypatch, "mine", lambda: dict)
    with pytest.raises(InternalError, match="is not a Backend class"):
        backend_class("mine", model())
