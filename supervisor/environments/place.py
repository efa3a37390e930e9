"""Where the environment of a model lies, and what lies there."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from enum import Enum

from ...ipc.errors import InternalError, InvalidArgumentError
from ..config.schema import ModelConfig

log = logging.getLogger(__name__)

PARAMETER = "EXECUTION_ENV_PATH"

#: Which Python a requirements file is installed for: a path, or a version.
PYTHON_PARAMETER = "EXECUTION_ENV_PYTHON"

_MODEL_DIRECTORY = "$$TRITON_MODEL_DIRECTORY"
_STUB = "triton_python_backend_stub"


class Kind(Enum):
    """What an environment is made from."""

    #: A folder that holds one, used where it lies.
    FOLDER = "folder"
    #: A packed one, as by conda-pack.
    ARCHIVE = "archive"
    #: A list of what pip shall install into a new one.
    REQUIREMENTS = "requirements"


@dataclass(frozen=True, slots=True)
class Place:
    """What a model's environment is made from. `model` is for messages; `path` is real."""

    model: str
    kind: Kind
    path: str
    #: For requirements: what the model's configuration says of the interpreter, else "".
    python: str = ""


def place_of(config: ModelConfig, directory: str, packed: str = "") -> Place | None:
    """The environment that a model in `directory` asks for; None when the server's own will do.

    `packed` is an archive that a backend brings along for its models; "" when it brings none.
    Blocking. Raises InternalError when nothing is there, InvalidArgumentError when the
    configuration does not make sense.
    """
    text = _text(config, PARAMETER)
    python = _text(config, PYTHON_PARAMETER)
    if text:
        return _named(config.name, directory, text, python)
    if python:
        raise InvalidArgumentError(
            f"model '{config.name}' sets the parameter {PYTHON_PARAMETER} to '{python}' and has "
            f"no {PARAMETER} that names a requirements.txt for it"
        )
    if packed:
        return Place(config.name, Kind.ARCHIVE, os.path.realpath(packed))
    return None


def report_stub(model: str, directory: str) -> None:
    """Log that a stub of Triton's, which a model brings along for its Python, is not needed.

    Blocking.
    """
    if os.path.exists(os.path.join(directory, _STUB)):
        log.info(
            "model '%s': the %s in its folder is not used: workers run in the interpreter of the "
            "model's environment",
            model,
            _STUB,
        )


def _text(config: ModelConfig, name: str) -> str:
    parameter = config.parameters.get(name)
    return "" if parameter is None else parameter.string_value


def _named(model: str, directory: str, text: str, python: str) -> Place:
    expanded = text.replace(_MODEL_DIRECTORY, directory)
    try:
        path = os.path.realpath(expanded, strict=True)
    except (OSError, ValueError):
        raise InternalError(f"Failed to get the canonical path for {expanded}.") from None
    if _MODEL_DIRECTORY in text and not _is_inside(path, os.path.realpath(directory)):
        raise InvalidArgumentError(
            f"model '{model}': {PARAMETER} is '{text}', which leads out of the model's folder to "
            f"'{path}'; name a place outside of it by its absolute path"
        )
    kind = _kind(model, path)
    if python and kind is not Kind.REQUIREMENTS:
        raise InvalidArgumentError(
            f"model '{model}' sets the parameter {PYTHON_PARAMETER} to '{python}', but its "
            f"{PARAMETER} '{text}' is no requirements.txt and has a Python of its own"
        )
    return Place(model, kind, path, python)


def _is_inside(path: str, directory: str) -> bool:
    return os.path.commonpath((path, directory)) == directory


def _kind(model: str, path: str) -> Kind:
    if os.path.isdir(path):
        return Kind.FOLDER
    if not os.path.isfile(path):
        raise InvalidArgumentError(
            f"model '{model}': {PARAMETER} leads to '{path}', which is neither a file nor a folder"
        )
    return Kind.REQUIREMENTS if path.endswith(".txt") else Kind.ARCHIVE
