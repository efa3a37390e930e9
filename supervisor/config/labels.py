"""Version labels: names such as `stable` that a configuration gives to versions.

parameters { key: "version_labels" value: { string_value: "stable=3,canary=4" } }
"""

from __future__ import annotations

import re

from ...ipc.errors import InvalidArgumentError
from .schema import ModelConfig

#: The parameter that holds them; backends have no use for it.
PARAMETER = "version_labels"

#: A label begins with a letter, so that nothing takes it for a number.
_PAIR = re.compile(r"([A-Za-z][\w.-]*)=([1-9][0-9]{0,17})", re.ASCII)


def version_labels(config: ModelConfig) -> dict[str, int]:
    """The versions by their labels; the parameter "" or none gives none.

    Raises InvalidArgumentError for what is no list of labels.
    """
    parameter = config.parameters.get(PARAMETER)
    text = parameter.string_value.strip() if parameter is not None else ""
    labels: dict[str, int] = {}
    for part in text.split(",") if text else ():
        pair = _PAIR.fullmatch(part.strip())
        if pair is None or pair[1] in labels:
            raise InvalidArgumentError(
                f"parameter '{PARAMETER}' of model '{config.name}' must give each label one "
                f"version, as 'stable=3,canary=4', and is '{text}'"
            )
        labels[pair[1]] = int(pair[2])
    return labels
