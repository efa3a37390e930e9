"""`runtime: "model.py"`: an nn.Module written in Python, its weights from a file beside it."""

from __future__ import annotations

import importlib.util
import inspect
import logging
import os
import shutil
import sys
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import torch

from ...ipc.errors import InternalError, InvalidArgumentError
from ..backend import Model
from .pytorch_programs import ModuleProgram, first_line

_log = logging.getLogger(__name__)


def open_module(
    model: Model, path: Path, device: torch.device | None, compile: dict[str, Any] | None
) -> ModuleProgram:
    """Import the file, make its nn.Module, and fill in the weights that lie beside it.

    The module is compiled only where `compile` holds the arguments for it. Raises InternalError
    that names the line where the model's own code failed.
    """
    try:
        module = _module_class(model, _import(model, path))()
    except InvalidArgumentError:
        raise
    except Exception as error:  # the model's own code, which may raise anything
        raise InternalError(
            f"unable to load model '{model.name}': {_where(error, path)}"
        ) from error
    _load_weights(model, module, path.with_suffix(".pt"), device)
    if device is None:
        device = next((tensor.device for tensor in module.parameters()), None)
    else:
        module = module.to(device)
    module.eval()
    arguments = list(inspect.signature(module.forward).parameters)
    if compile is not None:
        _check_compiler(model, compile)
        module = cast(Any, torch).compile(module, **compile)
    return ModuleProgram(model, module, device, arguments)


def _import(model: Model, path: Path) -> ModuleType:
    name = f"model_{model.name}_{model.version}".replace(".", "_")
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise InvalidArgumentError(
            f"unable to load model '{model.name}': {path.name} is not a Python file"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses and torch.compile look for a class's module
    spec.loader.exec_module(module)
    return module


def _module_class(model: Model, module: ModuleType) -> type[torch.nn.Module]:
    """The first subclass of nn.Module by name, as in Triton; its own ones before imported ones."""
    found = [
        value
        for _, value in sorted(vars(module).items())
        if isinstance(value, type)
        and issubclass(value, torch.nn.Module)
        and value is not torch.nn.Module
    ]
    own = [kind for kind in found if kind.__module__ == module.__name__] or found
    if not own:
        raise InvalidArgumentError(
            f"unable to load model '{model.name}': Cannot find a subclass of torch.nn.Module in "
            f"{Path(str(module.__file__)).name}"
        )
    if len(own) > 1:
        _log.warning(
            "model '%s': of the classes %s the first by name is served, %s",
            model.name,
            ", ".join(kind.__name__ for kind in own),
            own[0].__name__,
        )
    return own[0]


def _load_weights(
    model: Model, module: torch.nn.Module, path: Path, device: torch.device | None
) -> None:
    if not path.exists():
        _log.info(
            "model '%s': there is no %s, so it keeps the weights of its code", model.name, path
        )
        return
    try:
        weights = torch.load(path, map_location=device, weights_only=True)
        module.load_state_dict(weights)
    except Exception as error:  # unpickling fails in as many ways as a file can be wrong
        raise InvalidArgumentError(
            f"unable to load model '{model.name}': {path.name} of version {model.version} is not "
            f"the state dict of {type(module).__name__}; save it by "
            f"torch.save(model.state_dict(), '{path.name}'): {first_line(error)}"
        ) from error


def _check_compiler(model: Model, arguments: dict[str, Any]) -> None:
    if arguments.get("disable") or arguments.get("backend", "inductor") != "inductor":
        return
    names = [os.environ.get("CXX", "g++"), "clang++"]
    if not any(shutil.which(name) for name in names):
        raise InvalidArgumentError(
            f"model '{model.name}': TORCH_COMPILE_OPTIONAL_PARAMETERS asks for torch.compile, "
            "which needs a C++ compiler at run time, and none is installed; install g++ or remove "
            "the parameter"
        )


def _where(error: Exception, path: Path) -> str:
    """The error in one line, with the line of the model's file where it arose."""
    line = error.lineno if isinstance(error, SyntaxError) else None
    for frame in traceback.extract_tb(error.__traceback__):
        if frame.filename == str(path):
            line = frame.lineno
    place = path.name if line is None else f"{path.name}, line {line}"
    return f"{place}: {type(error).__name__}: {first_line(error)}"
