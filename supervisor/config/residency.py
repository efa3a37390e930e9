"""Whether a model is loaded always or on demand, as its configuration says.

parameters { key: "residency" value: { string_value: "on-demand" } }
"""

from __future__ import annotations

from ...ipc.errors import InvalidArgumentError
from .schema import ModelConfig

#: The parameter that says it; backends have no use for it.
PARAMETER = "residency"

_CHOICES = {"always": False, "on-demand": True}


def is_on_demand(config: ModelConfig, default: bool) -> bool:
    """Whether its first request loads the model; `default` for one that does not say.

    Raises InvalidArgumentError for another value.
    """
    parameter = config.parameters.get(PARAMETER)
    if parameter is None or not parameter.string_value:
        return default
    try:
        return _CHOICES[parameter.string_value]
    except KeyError:
        raise InvalidArgumentError(
            f"parameter '{PARAMETER}' of model '{config.name}' must be 'always' or 'on-demand', "
            f"and is '{parameter.string_value}'"
        ) from None
