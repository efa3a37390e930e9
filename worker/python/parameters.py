"""The parameters of a request or a response, which models hand over as a dict and read as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

from ...ipc.messages import Parameter
from .errors import TritonModelException


def checked(parameters: Mapping[str, bool | int | str] | None) -> dict[str, Parameter]:
    """A copy of what a model gave as parameters.

    Raises TritonModelException for a key that is not text, or a value that is none of bool, int
    and str.
    """
    if parameters is None:
        return {}
    if not isinstance(parameters, dict):
        raise TritonModelException(f"Expect a dict of parameters, got {type(parameters)}")
    for key, value in parameters.items():
        if not isinstance(key, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TritonModelException(
                f"Expect parameters keys to have type str, found type {type(key)}"
            )
        if not isinstance(value, (bool, int, str)):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise TritonModelException(
                f"Expect parameters values to have type bool/int/str, found type {type(value)}"
            )
    return dict(parameters)


def as_json(parameters: Mapping[str, Parameter]) -> str:
    """The parameters as models read them."""
    return json.dumps(parameters) if parameters else "{}"
