"""Typed values out of the texts that a model's configuration and the command line hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...ipc.errors import InvalidArgumentError
from ..backend import Model

_BOOLEANS = {"1": True, "true": True, "0": False, "false": False}


def parse_bool(model: Model, field: str, text: str) -> bool:
    """Read a boolean (1, 0, true or false in any case); raise what `field` has wrong."""
    value = _BOOLEANS.get(text.strip().lower())
    if value is None:
        raise InvalidArgumentError(
            f"model '{model.name}': {field} is '{text}', expected 1, 0, true or false"
        )
    return value


def parse_int(model: Model, field: str, text: str) -> int:
    """Read an integer; raise what `field` has wrong."""
    try:
        return int(text)
    except ValueError:
        raise InvalidArgumentError(
            f"model '{model.name}': {field} is '{text}', expected an integer"
        ) from None


def bool_parameter(model: Model, key: str) -> bool | None:
    """A boolean of the configuration's `parameters`, None when absent."""
    text = model.parameter(key)
    return None if text is None else parse_bool(model, f"parameter '{key}'", text)


def int_parameter(model: Model, key: str) -> int | None:
    """An integer of the configuration's `parameters`, None when absent."""
    text = model.parameter(key)
    return None if text is None else parse_int(model, f"parameter '{key}'", text)


def section(config: dict[str, Any], *path: str) -> dict[str, Any]:
    """A message inside the configuration, empty when it or one around it is absent."""
    found: dict[str, Any] | None = config
    for name in path:
        found = found.get(name) if found else None
    return found or {}


def entries(message: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The messages of a repeated field, none when it is absent."""
    return message.get(name) or []
