"""What runs a model: a backend that is built in, one of another package, or a file in Python.

    backend          is run by
    ---------------  ---------------------------------------------------------------------------
    built in         its class in worker/, whatever lies in the backend directory
    of a package     the class of its entry point
    any other name   <backend directory>/<name>/model.py; or the file that `runtime` names, in the
                     version's folder, the model's, or the backend's, the first that has it

Triton's own backends are shared libraries, `libtriton_<name>.so` in the same three folders. They
are made for its C++ server; one that is found is named in the refusal.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from ...ipc.backend_names import BUILT_IN, ENTRY_POINTS, PLANNED, entry_point
from ...ipc.errors import InvalidArgumentError, StatusError, UnsupportedError
from .locate import Source
from .schema import ModelConfig

#: The file of a python-based backend unless the configuration names another.
MODEL_FILE = "model.py"

_PACKAGE = "tritonpy-supervisor"


@dataclass(frozen=True, slots=True)
class Runtime:
    """The file that runs a model of a python-based backend; "" for a backend with a class.

    `environment` is the archive beside the file that holds what it imports; "" without one.
    """

    file: str = ""
    environment: str = ""

    @property
    def name(self) -> str:
        """The file's name, as the field `runtime` of the configuration shows it."""
        return os.path.basename(self.file)


def find_runtime(
    config: ModelConfig,
    directory: str,
    version_directory: str,
    backend_directory: str,
    source: Source,
) -> Runtime:
    """Find what runs a model whose backend is known, in the folders of the model, of its version,
    and of all backends. Blocking.

    Raises InvalidArgumentError when there is none, or its name could lead anywhere else, and
    UnsupportedError for a shared library.
    """
    backend, runtime = config.backend, config.runtime
    if backend in BUILT_IN:
        _check_built_in(config, source)
        return Runtime()
    if not _is_file_name(backend):
        raise _refusal(config, source, f"{_no_library(backend)}: it is not the name of a folder")
    own = os.path.join(os.path.abspath(backend_directory), backend)
    folders = (version_directory, directory, own)
    if runtime and not _is_file_name(runtime):
        raise InvalidArgumentError(
            f"{source.place(('runtime',))}: backend library name '{runtime}' escapes backend "
            f"directory '{version_directory}', for model '{config.name}', check model config "
            f"runtime field: it is the name of a file, without a folder"
        )
    if not runtime and entry_point(backend) is not None:
        return Runtime()
    if runtime in ("", MODEL_FILE):
        return _usual(config, folders, source)
    return _named(config, folders, source)


def _usual(config: ModelConfig, folders: tuple[str, str, str], source: Source) -> Runtime:
    """The backend's own model.py, which a model cannot replace by one of its own, as in Triton."""
    backend, own = config.backend, folders[-1]
    if not config.runtime:
        library = _first(f"libtriton_{backend}.so", folders)
        if library:
            raise _shared_library(config, library)
    path = os.path.join(own, MODEL_FILE)
    if os.path.isfile(path):
        return _runtime(path)
    if config.runtime:
        raise InvalidArgumentError(
            f"{source.place(('runtime',))}: unable to find Python backend based backend library "
            f"'{MODEL_FILE}' for model '{config.name}', searched: '{path}'; put the file there, "
            "or see --backend-directory"
        )
    if backend in PLANNED:
        raise UnsupportedError(
            f"backend '{backend}' of model '{config.name}' is not available: this version of "
            f"{_PACKAGE} has no {backend} backend yet. From the version on that has it, "
            f"install it by: pip install '{_PACKAGE}[{PLANNED[backend]}]'"
        )
    raise _refusal(
        config,
        source,
        f"{_no_library(backend)}; searched: '{path}'. This server has "
        f"{', '.join(sorted(BUILT_IN))}; a package that brings another one registers it in the "
        f"entry point group '{ENTRY_POINTS}'",
    )


def _named(config: ModelConfig, folders: tuple[str, str, str], source: Source) -> Runtime:
    """The file that the configuration names."""
    path = _first(config.runtime, folders)
    if not path:
        searched = " ".join(f"'{folder}'" for folder in folders)
        raise InvalidArgumentError(
            f"{source.place(('runtime',))}: unable to find backend library '{config.runtime}' for "
            f"model '{config.name}', searched: {searched}"
        )
    if not path.endswith(".py"):
        raise _shared_library(config, path)
    return _runtime(path)


def _runtime(path: str) -> Runtime:
    folder, name = os.path.split(path)
    archive = os.path.join(folder, f"pb_exec_env_{name}.tar.gz")
    return Runtime(path, archive if os.path.isfile(archive) else "")


def _first(name: str, folders: tuple[str, ...]) -> str:
    """The path of the first file of this name; "" when none of the folders has it."""
    paths = (os.path.join(folder, name) for folder in folders)
    return next((path for path in paths if os.path.isfile(path)), "")


def _check_built_in(config: ModelConfig, source: Source) -> None:
    """Refuse a runtime that the backend would not be run by."""
    backend, runtime = config.backend, config.runtime
    if runtime in ("", f"libtriton_{backend}.so"):
        return
    if runtime == MODEL_FILE and backend == "pytorch":  # which looks for its files itself
        return
    raise InvalidArgumentError(
        f"{source.place(('runtime',))}: model '{config.name}' asks for the runtime '{runtime}', "
        f"and the backend '{backend}' is built into this server; leave `runtime` out"
    )


def _no_library(backend: str) -> str:
    return (
        f"unable to find backend library for backend '{backend}', try specifying runtime on the "
        "model configuration"
    )


def _refusal(config: ModelConfig, source: Source, reason: str) -> StatusError:
    return InvalidArgumentError(
        f"{source.place(('backend',))}: backend '{config.backend}' of model '{config.name}' is "
        f"not available: {reason}"
    )


def _shared_library(config: ModelConfig, path: str) -> StatusError:
    return UnsupportedError(
        f"backend '{config.backend}' of model '{config.name}' is not available: {path} is a "
        f"shared library of Triton's C++ server, which this one cannot load. It runs backends "
        f"that are built in ({', '.join(sorted(BUILT_IN))}), registered by a package in the entry "
        f"point group '{ENTRY_POINTS}', or written in Python as a {MODEL_FILE}"
    )


def _is_file_name(name: str) -> bool:
    """Whether it names something in a folder, and leads nowhere else."""
    return not name.startswith(".") and not any(mark in name for mark in ("/", "\\", "\0"))
