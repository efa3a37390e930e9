"""How an ONNX session is to be made, read from the configuration before anything is opened."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ...ipc.errors import InvalidArgumentError, UnavailableError
from ..backend import Model
from .onnx_parameters import bool_parameter, int_parameter, parse_bool, parse_int, section
from .onnx_providers import Provider, providers

_DEFAULT_FILENAME = "model.onnx"
_INITIALIZERS = "session.use_device_allocator_for_initializers"
_SHRINKAGE = "memory.enable_memory_arena_shrinkage"

#: Triton's `optimization.graph.level` to the name of ONNX Runtime's.
_GRAPH_LEVELS = {-1: "ORT_ENABLE_BASIC", 1: "ORT_ENABLE_EXTENDED", 2: "ORT_DISABLE_ALL"}


@dataclass(frozen=True, slots=True)
class SessionSettings:
    """Everything that decides what session a model gets; equal settings make equal sessions.

    A thread count of 0 leaves the choice to ONNX Runtime, None leaves its default as it is.
    """

    path: str
    graph_level: str
    parallel: bool
    intra_op_threads: int
    inter_op_threads: int
    mem_arena: bool | None
    mem_pattern: bool | None
    session_entries: tuple[tuple[str, str], ...]
    run_entries: tuple[tuple[str, str], ...]
    op_libraries: tuple[str, ...]
    providers: tuple[Provider, ...]


def session_settings(model: Model, available: Collection[str]) -> SessionSettings:
    """Read the settings; `available` are the providers of the installed ONNX Runtime.

    Raises InvalidArgumentError for a value that is wrong, UnavailableError when the file is not
    there, UnsupportedError for a provider that is not installed.
    """
    parallel = _is_parallel(model)
    intra, inter = _threads(model, parallel)
    initializers = model.parameter(_INITIALIZERS)
    return SessionSettings(
        path=model_path(model),
        graph_level=_graph_level(model),
        parallel=parallel,
        intra_op_threads=intra,
        inter_op_threads=inter,
        mem_arena=bool_parameter(model, "enable_mem_arena"),
        mem_pattern=bool_parameter(model, "enable_mem_pattern"),
        session_entries=() if initializers is None else ((_INITIALIZERS, initializers),),
        run_entries=_run_entries(model),
        op_libraries=tuple(
            _op_library(model, name)
            for name in section(model.config, "model_operations").get("op_library_filename", ())
        ),
        providers=providers(model, available),
    )


def model_path(model: Model) -> str:
    """The model's file; a folder of that name holds it as model.onnx beside its external data."""
    name = _filename_of_device(model) or model.config.get("default_model_filename")
    path = os.path.join(model.version_directory, name or _DEFAULT_FILENAME)
    if os.path.isdir(path):
        path = os.path.join(path, _DEFAULT_FILENAME)
    if not os.path.isfile(path):
        raise UnavailableError(f"unable to find '{path}' for model instance '{model.name}'")
    return path


def _filename_of_device(model: Model) -> str | None:
    """The file that the configuration names for this GPU; CPUs have no compute capability."""
    names: dict[str, str] = model.config.get("cc_model_filenames") or {}
    if not names or model.instance.kind != "GPU":
        return None
    return names.get(compute_capability(model.instance.device))


def compute_capability(device: int) -> str:
    """The compute capability of a GPU such as "9.0", or "" when the driver does not tell."""
    try:
        driver: Any = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return ""
    handle = ctypes.c_int()
    numbers = (ctypes.c_int(), ctypes.c_int())
    failed = driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(handle), device)
    # 75 and 76 are CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR.
    for attribute, number in zip((75, 76), numbers, strict=True):
        failed = failed or driver.cuDeviceGetAttribute(ctypes.byref(number), attribute, handle)
    return "" if failed else f"{numbers[0].value}.{numbers[1].value}"


def _graph_level(model: Model) -> str:
    level = section(model.config, "optimization", "graph").get("level", 0)
    return _GRAPH_LEVELS.get(int(level), "ORT_ENABLE_ALL")


def _is_parallel(model: Model) -> bool:
    mode = int_parameter(model, "execution_mode") or 0
    if mode not in (0, 1):
        raise InvalidArgumentError(
            f"model '{model.name}': Invalid configuration value provided. Expected values for "
            f"execution_mode are 0 or 1 but got {mode}."
        )
    return mode == 1


def _threads(model: Model, parallel: bool) -> tuple[int, int]:
    """The threads inside an operator and between operators.

    Without a count in the configuration or on the command line an instance takes its share of the
    cores, where ONNX Runtime itself would take all of them for every instance. Triton's global
    pool, which lets the command line decide over the models, is each process's own pool here.
    """
    share = model.instance.threads
    counts: list[int] = []
    pool = model.backend_config.get("enable-global-threadpool", "0")
    server_decides = parse_bool(model, "--backend-config enable-global-threadpool", pool)
    for key, otherwise in (
        ("intra_op_thread_count", share),
        ("inter_op_thread_count", share if parallel else 0),
    ):
        own = 0 if server_decides else int_parameter(model, key) or 0
        text = model.backend_config.get(key, "0")
        server = parse_int(model, f"--backend-config {key}", text)
        counts.append(own if own > 0 else server if server > 0 else otherwise)
    return counts[0], counts[1]


def _run_entries(model: Model) -> tuple[tuple[str, str], ...]:
    devices = model.parameter(_SHRINKAGE)
    if not devices:
        return ()
    if re.fullmatch(r"(cpu|gpu):\d+(;(cpu|gpu):\d+)*", devices) is None:
        raise InvalidArgumentError(
            f"model '{model.name}': parameter '{_SHRINKAGE}' is '{devices}', expected devices such "
            f"as cpu:0 or cpu:0;gpu:0"
        )
    return ((_SHRINKAGE, devices),)


def _op_library(model: Model, name: str) -> str:
    """The path of a library of custom operators, looked for in the model's folders first."""
    for folder in (model.version_directory, model.directory):
        path = os.path.join(folder, name)
        if os.path.isfile(path):
            return path
    return name
