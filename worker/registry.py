"""Which class runs which backend. Nothing is imported before a model asks for it."""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import TYPE_CHECKING, NamedTuple

from ..ipc.errors import (
    InternalError,
    InvalidArgumentError,
    StatusError,
    UnavailableError,
    UnsupportedError,
)
from .backend import Backend

if TYPE_CHECKING:
    from .backend import Model

#: Other packages offer a backend under this entry point group: its name, and its Backend class.
ENTRY_POINTS = "tritonpy.backends"

_PACKAGE = "tritonpy-supervisor"


class _Entry(NamedTuple):
    """Where a backend lives. `extra` installs its framework; "" when it needs none."""

    module: str
    name: str
    extra: str


_BACKENDS: dict[str, _Entry] = {
    "onnxruntime": _Entry(".backends.onnxruntime", "OnnxRuntimeBackend", "cpu"),
    "pytorch": _Entry(".backends.pytorch", "PyTorchBackend", "torch"),
    "python": _Entry(".python.backend", "PythonBackend", ""),
    "identity": _Entry(".backends.reference", "IdentityBackend", ""),
    "repeat": _Entry(".backends.reference", "RepeatBackend", ""),
    "square": _Entry(".backends.reference", "SquareBackend", ""),
}

#: Backends of Triton that have their place here, with the extra that will bring them.
_PLANNED: dict[str, str] = {
    "tensorrt": "tensorrt",
    "tensorflow": "tensorflow",
    "openvino": "openvino",
}


def backend_class(name: str, model: Model) -> type[Backend]:
    """Import the class of a backend; `model` is only named in errors.

    Raises UnavailableError with the command to install what is missing, UnsupportedError for a
    backend of Triton that this version does not have, InvalidArgumentError for any other
    name.
    """
    entry = _BACKENDS.get(name)
    if entry is None:
        return _third_party(name, model)
    if name == "onnxruntime":
        _refuse_two_runtimes(model)
    try:
        found = getattr(importlib.import_module(entry.module, __package__), entry.name)
    except ImportError as error:
        raise _not_importable(name, entry, model, error) from error
    return _checked(name, model, found)


def _third_party(name: str, model: Model) -> type[Backend]:
    for point in metadata.entry_points(group=ENTRY_POINTS):
        if point.name == name:
            try:
                found = point.load()
            except (ImportError, AttributeError) as error:
                raise UnavailableError(
                    f"backend '{name}' of model '{model.name}' is not available: "
                    f"'{point.value}' cannot be imported: {error}"
                ) from error
            return _checked(name, model, found)
    raise _not_known(name, model)


def _checked(name: str, model: Model, found: object) -> type[Backend]:
    if isinstance(found, type) and issubclass(found, Backend):
        return found
    raise InternalError(
        f"backend '{name}' of model '{model.name}' is not usable: {found!r} is not a Backend class"
    )


def _not_known(name: str, model: Model) -> StatusError:
    extra = _PLANNED.get(name)
    if extra is not None:
        return UnsupportedError(
            f"backend '{name}' of model '{model.name}' is not available: this version of "
            f"{_PACKAGE} has no {name} backend yet. From the version on that has it, "
            f"install it by: pip install '{_PACKAGE}[{extra}]'"
        )
    return InvalidArgumentError(
        f"backend '{name}' of model '{model.name}' is not available: unable to find backend "
        f"library for backend '{name}'. This server has {', '.join(sorted(_BACKENDS))}; "
        f"a package that brings another one registers it in the entry point group '{ENTRY_POINTS}'"
    )


def _not_importable(name: str, entry: _Entry, model: Model, error: ImportError) -> StatusError:
    sentence = f"backend '{name}' of model '{model.name}' is not available: {error}"
    if not entry.extra:
        return InternalError(sentence)
    extra = "gpu" if name == "onnxruntime" and model.instance.kind == "GPU" else entry.extra
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
