"""Which class runs which backend. Nothing is imported before a model asks for it."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from ..ipc.backend_names import BUILT_IN, entry_point
from ..ipc.errors import InternalError, StatusError, UnavailableError
from .backend import Backend

if TYPE_CHECKING:
    from .backend import Model

_PACKAGE = "tritonpy-supervisor"


class _Entry(NamedTuple):
    """Where a backend lives."""

    module: str
    name: str


#: Those that are built in, by their names.
BACKENDS: dict[str, _Entry] = {
    "onnxruntime": _Entry(".backends.onnxruntime", "OnnxRuntimeBackend"),
    "pytorch": _Entry(".backends.pytorch", "PyTorchBackend"),
    "python": _Entry(".python.backend", "PythonBackend"),
    "identity": _Entry(".backends.reference", "IdentityBackend"),
    "repeat": _Entry(".backends.reference", "RepeatBackend"),
    "square": _Entry(".backends.reference", "SquareBackend"),
}


def backend_class(name: str, model: Model) -> type[Backend]:
    """Import the class of a backend; `model` is what it is for.

    A model with a `runtime` is run by that file, which is Python whatever the backend is called.
    The supervisor has seen to it that the name is that of some backend. Raises UnavailableError
    with the command to install what is missing.
    """
    entry = BACKENDS["python"] if model.runtime else BACKENDS.get(name)
    if entry is None:
        return _third_party(name, model)
    if name == "onnxruntime":
        _refuse_two_runtimes(model)
    try:
        found = getattr(importlib.import_module(entry.module, __package__), entry.name)
    except ImportError as error:
        raise _not_importable(name, model, error) from error
    return _checked(name, model, found)


def _third_party(name: str, model: Model) -> type[Backend]:
    point = entry_point(name)
    if point is None:
        raise InternalError(
            f"backend '{name}' of model '{model.name}' is not available: the package that brings "
            "it is not installed any more"
        )
    try:
        found = point.load()
    except (ImportError, AttributeError) as error:
        raise UnavailableError(
            f"backend '{name}' of model '{model.name}' is not available: "
            f"'{point.value}' cannot be imported: {error}"
        ) from error
    return _checked(name, model, found)


def _checked(name: str, model: Model, found: object) -> type[Backend]:
    if isinstance(found, type) and issubclass(found, Backend):
        return found
    raise InternalError(
        f"backend '{name}' of model '{model.name}' is not usable: {found!r} is not a Backend class"
    )


def _not_importable(name: str, model: Model, error: ImportError) -> StatusError:
    sentence = f"backend '{name}' of model '{model.name}' is not available: {error}"
    extra = BUILT_IN.get(name, "")
    if not extra:
        return InternalError(sentence)
    extra = "gpu" if name == "onnxruntime" and model.instance.kind == "GPU" else extra
    return UnavailableError(f"{sentence}. Install it by: pip install '{_PACKAGE}[{extra}]'")


def _refuse_two_runtimes(model: Model) -> None:
    """Raise when both wheels of ONNX Runtime are installed.

    They put different files in the same places: which one serves is an accident of the order they
    were installed in, and no tool reports it.
    """
    if _is_installed("onnxruntime") and _is_installed("onnxruntime-gpu"):
        raise UnavailableError(
            f"backend 'onnxruntime' of model '{model.name}' is not available: onnxruntime and "
            f"onnxruntime-gpu are both installed and have overwritten each other. Run: "
            f"pip uninstall -y onnxruntime onnxruntime-gpu, then pip install '{_PACKAGE}[gpu]' "
            f"or '{_PACKAGE}[cpu]'"
        )


def _is_installed(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
