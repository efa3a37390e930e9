"""How many coroutines of a model's `async def execute` may go on at once."""

from __future__ import annotations

import inspect

from ...ipc.errors import InvalidArgumentError
from ..backend import Model

#: The parameter that says it; not one of Triton's.
PARAMETER = "max_concurrent_executions"


def most_executions(model: Model, python_class: type) -> int | None:
    """What the configuration says; None when it says nothing.

    Raises InvalidArgumentError for anything but a positive number, and where one batch has to
    follow the other.
    """
    text = model.parameter(PARAMETER)
    if text is None:
        return None
    its = f"model '{model.name}': parameter '{PARAMETER}' is '{text}'"
    try:
        most = int(text)
    except ValueError:
        most = 0
    if most < 1:
        raise InvalidArgumentError(f"{its}, expected a number of at least 1")
    if most == 1:
        return most
    if not inspect.iscoroutinefunction(getattr(python_class, "execute", None)):
        raise InvalidArgumentError(
            f"{its}, which takes an `async def execute`: write it as one, or remove the parameter"
        )
    if model.config.get("sequence_batching"):
        raise InvalidArgumentError(
            f"{its}, and the requests of a sequence run one after the other: remove the parameter "
            "or sequence_batching"
        )
    return most
