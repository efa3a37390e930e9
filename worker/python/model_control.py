"""What a model may ask about the server's other models: to load and unload them, and the like."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NoReturn

from ...ipc.errors import StatusError
from .bls import peers_of
from .errors import TritonModelException


def load_model(model_name: str, config: str = "", files: Mapping[str, bytes] | None = None) -> None:
    """Load or reload a model, and wait until it is ready.

    `config` is a configuration as JSON, and `files` the content of files by `file:<path>`, in place
    of what the repository has. Raises TritonModelException when that fails.
    """
    _require_text("load_model", model_name, config)
    peers, instance = peers_of("load_model")
    try:
        peers.load(model_name, config, _checked(files or {}))
    except StatusError as error:
        _refuse("load model", instance, error)


def unload_model(model_name: str, unload_dependents: bool = False) -> None:
    """Unload a model, and with `unload_dependents` what only it needed.

    Raises TritonModelException when that fails.
    """
    _require_text("unload_model", model_name)
    peers, instance = peers_of("unload_model")
    try:
        peers.unload(model_name, dependents=bool(unload_dependents))
    except StatusError as error:
        _refuse("unload model", instance, error)


def is_model_ready(model_name: str, model_version: str = "") -> bool:
    """Whether a model is ready, in this version or in any.

    Raises TritonModelException when that cannot be found out.
    """
    _require_text("is_model_ready", model_name, model_version)
    peers, instance = peers_of("is_model_ready")
    try:
        return peers.is_ready(model_name, model_version)
    except StatusError as error:
        _refuse("check model readiness", instance, error)


def _require_text(function: str, *values: object) -> None:
    """Raise TypeError for what the server could not read."""
    for value in values:
        if not isinstance(value, str):
            raise TypeError(f"{function} expects its arguments to be str, got {value!r}")


def _checked(files: Mapping[str, bytes]) -> dict[str, bytes]:
    for path, content in files.items():
        if not isinstance(path, str) or not isinstance(content, bytes):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TypeError(
                "load_model expects its files to be a dict from str to bytes, got "
                f"{type(path).__name__} and {type(content).__name__}"
            )
    return dict(files)


def _refuse(what: str, instance: str, error: StatusError) -> NoReturn:
    """Raise what Triton raises."""
    raise TritonModelException(
        f"Failed to {what}: Failed to process the request for model '{instance}', message: "
        f"{error.message}"
    ) from None
