"""A model's model.py: found, imported, and its class."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
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
    """Where the model's file is: `default_model_filename` in the version's folder, or model.py."""
    return os.path.join(
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


def _extend_path(model: Model) -> None:
    """Let the model import what lies beside it: in its version, its own folder, the backend's."""
    folders = [model.version_directory, model.directory]
    backends = model.backend_config.get("backend-directory")
    if backends:
        folders.append(os.path.join(backends, "python"))
    sys.path.extend(folder for folder in folders if folder not in sys.path)


def _import(model: Model, path: str) -> ModuleType:
    """Import the file as `<version>.<file>`, so that its relative imports work.

    The package is made here rather than searched for: a folder "1" may lie anywhere on the path.
    """
    package = str(model.version)
    if package not in sys.modules:
        _make_package(package, model.version_directory)
    stem, extension = os.path.splitext(os.path.basename(path))
    if extension != ".py":
        raise InternalError(f"Model name must end with '.py'. Model name is \"{stem}{extension}\".")
    return importlib.import_module(f"{package}.{stem}")


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
    sys.modules[name] = package
    if spec.loader is not None:
        try:
            spec.loader.exec_module(package)
        except BaseException:
            del sys.modules[name]
            raise
