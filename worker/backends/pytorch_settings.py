"""The parameters of a PyTorch model's configuration, and what they switch on in this process.

A worker holds one model, so what libtorch keeps for a whole process belongs to that model alone.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from importlib import import_module
from typing import Any, cast

import torch

from ...ipc.errors import InternalError, InvalidArgumentError
from ..backend import Model

_log = logging.getLogger(__name__)

_TRUE = frozenset({"true", "1", "on"})
_FALSE = frozenset({"false", "0", "off"})


@dataclass(frozen=True, slots=True)
class Settings:
    """What the configuration says about how the model is to be run.

    None leaves the library's own default. `compile` holds the arguments of torch.compile, and is
    None where the configuration does not ask for compilation.
    """

    optimized_execution: bool
    inference_mode: bool
    cudnn: bool
    weight_sharing: bool
    cache_cleaning: bool
    jit_executor: bool | None
    jit_profiling: bool | None
    tensor_fuser: bool | None
    intra_op_threads: int
    inter_op_threads: int | None
    compile: dict[str, Any] | None


def read_settings(model: Model) -> Settings:
    """Read the model's parameters. Raises InvalidArgumentError for a value that makes no sense."""
    threads = _count(model, "INTRA_OP_THREAD_COUNT") or _count(model, "NUM_THREADS")
    interop = _count(model, "INTER_OP_THREAD_COUNT") or _count(model, "NUM_INTEROP_THREADS")
    return Settings(
        optimized_execution=not _flag(model, "DISABLE_OPTIMIZED_EXECUTION"),
        inference_mode=_flag(model, "INFERENCE_MODE") is not False,
        cudnn=not _flag(model, "DISABLE_CUDNN"),
        weight_sharing=bool(_flag(model, "ENABLE_WEIGHT_SHARING")),
        cache_cleaning=bool(_flag(model, "ENABLE_CACHE_CLEANING")),
        jit_executor=_flag(model, "ENABLE_JIT_EXECUTOR"),
        jit_profiling=_flag(model, "ENABLE_JIT_PROFILING"),
        tensor_fuser=_flag(model, "ENABLE_TENSOR_FUSER"),
        intra_op_threads=threads or max(1, model.instance.threads),
        inter_op_threads=interop,
        compile=_compile_arguments(model),
    )


def apply_settings(settings: Settings, model: Model) -> None:
    """Set what libtorch keeps for the whole process, before the model is loaded."""
    torch.set_num_threads(settings.intra_op_threads)
    _set_inter_op_threads(settings.inter_op_threads, model)
    torch.backends.cudnn.enabled = settings.cudnn
    native: Any = import_module("torch._C")  # the switches of the JIT have no public names
    native._set_graph_executor_optimize(settings.optimized_execution)
    if settings.jit_executor is not None:
        native._jit_set_profiling_executor(settings.jit_executor)
    if settings.jit_profiling is not None:
        native._jit_set_profiling_mode(settings.jit_profiling)
    if settings.tensor_fuser is not None:
        native._jit_set_texpr_fuser_enabled(settings.tensor_fuser)
    if settings.weight_sharing:
        _log.warning(
            "model '%s': ENABLE_WEIGHT_SHARING has no effect, because every instance is a process "
            "of its own with its own weights",
            model.name,
        )


def _set_inter_op_threads(count: int | None, model: Model) -> None:
    if count is None or count == torch.get_num_interop_threads():
        return
    try:
        torch.set_num_interop_threads(count)
    except RuntimeError as error:  # allowed once in a process, before any parallel work
        raise InternalError(
            f"model '{model.name}': the number of inter-op threads cannot be set to {count} any "
            f"more, it is {torch.get_num_interop_threads()}: {str(error).splitlines()[0]}"
        ) from error


def _flag(model: Model, key: str) -> bool | None:
    value = model.parameter(key)
    if value is None:
        return None
    text = value.strip().lower()
    if text not in _TRUE and text not in _FALSE:
        raise InvalidArgumentError(
            f"model '{model.name}': parameter '{key}' must be 'true' or 'false', got '{value}'"
        )
    return text in _TRUE


def _count(model: Model, key: str) -> int | None:
    """A number of threads; 0 and absence both mean the default."""
    value = model.parameter(key)
    if value is None:
        return None
    if not value.strip().isdecimal():
        raise InvalidArgumentError(
            f"model '{model.name}': parameter '{key}' must be a number of threads, got '{value}'"
        )
    return int(value) or None


def _compile_arguments(model: Model) -> dict[str, Any] | None:
    key = "TORCH_COMPILE_OPTIONAL_PARAMETERS"
    value = model.parameter(key)
    if value is None:
        return None
    try:
        arguments = json.loads(value)
    except ValueError as error:
        raise InvalidArgumentError(
            f"model '{model.name}': parameter '{key}' is not JSON: {error}"
        ) from error
    if not isinstance(arguments, dict):
        raise InvalidArgumentError(
            f"model '{model.name}': parameter '{key}' must be a JSON object such as "
            f'{{"mode": "reduce-overhead"}}, got {value}'
        )
    if "model" in arguments:
        raise InvalidArgumentError("'model' is not an optional parameter for 'torch.compile'")
    return cast("dict[str, Any]", arguments)
