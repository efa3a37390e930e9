"""The Python file that runs a model: found, imported, and its class.

It is the model's own model.py; for a python-based backend it is the backend's, and the model's
folders hold whatever the backend makes of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from ...ipc.errors import InternalError
from ..backend import Model
from . import pb_utils
from .model_directory import set_model_dir

_FILE = "model.py"
_CLASS = "TritonPythonModel"
_UTILS = "triton_python_backend_utils"


def path_of(model: Model) -> str:
    """Where the file is: the backend's, or `default_model_filename` in the version's folder."""
    return model.runtime or os.path.join(
        model.version_directory, model.config.get("default_model_filename") or _FILE
    )


def model_class(model: Model) -> Any:
    """Import the model's file, unless it is imported already, and return its class.

    Raises InternalError when the file or the class is missing; what the file itself raises passes
    through.
    """
    path = path_of(model)
    if not os.path.isfile(path):
        raise InternalError(f"Python model file not found in '{path}'")
    sys.modules[_UTILS] = pb_utils
    set_model_dir(model.version_directory)
    _extend_path(model)
    module = _import(model, path)
    found = getattr(module, _CLASS, None)
    if found is None:
        raise InternalError(f"Python model {path} does not define the class `{_CLASS}`.")
    return found


def folder_of(model: Model) -> str:
    """Where the code lies that the file belongs to: the model's folder, or the backend's."""
    return os.path.dirname(model.runtime) if model.runtime else model.directory


def _extend_path(model: Model) -> None:
    """Let the file import what lies beside it: in its version, its model, the backend's folder."""
    folders = [folder_of(model)] if model.runtime else [model.version_directory, model.directory]
    backends = model.backend_config.get("backend-directory")
    if backends and os.path.isdir(os.path.join(backends, "python")):
        folders.append(os.path.join(backends, "python"))
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def _import(model: Model, path: str) -> ModuleType:
    """Import the file: a backend's by its own name, `model`, and a model's as a part of its
    version, `1.model`, so that its relative imports work.
    """
    stem, extension = os.path.splitext(os.path.basename(path))
    if extension != ".py":
        raise InternalError(f"Model name must end with '.py'. Model name is \"{stem}{extension}\".")
    if model.runtime:
        return _import_from(stem, path)
    # The package is made here rather than searched for: a folder "1" may lie anywhere on the path.
    package = str(model.version)
    if package not in sys.modules:
        _make_package(package, model.version_directory)
    return importlib.import_module(f"{package}.{stem}")


def _import_from(name: str, path: str) -> ModuleType:
    """Import this very file, once: another module of that name may lie anywhere on the path."""
    found = sys.modules.get(name)
    if found is not None:
        if getattr(found, "__file__", None) == path:
            return found
        raise InternalError(
            f"Python model {path} has the name of a module that the worker uses itself; rename it"
        )
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    _execute(spec, module)
    return module


def _make_package(name: str, folder: str) -> None:
    init = os.path.join(folder, "__init__.py")
    if os.path.isfile(init):
        spec = importlib.util.spec_from_file_location(
            name, init, submodule_search_locations=[folder]
        )
    else:
        spec = importlib.util.spec_from_loader(name, None, is_package=True)
    assert spec is not None
    package = importlib.util.module_from_spec(spec)
    package.__path__ = [folder]
    _execute(spec, package)


def _execute(spec: ModuleSpec, module: ModuleType) -> None:
    """Run a module's file, if it has one; a module that fails is not left behind."""
    sys.modules[spec.name] = module
    if spec.loader is not None:
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[spec.name]
            raise
