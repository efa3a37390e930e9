"""Repository agents: what looks at a model's folder before the model is loaded from it.

There is one, `checksum`, which compares files with the MD5 digests that the configuration names:

    model_repository_agents {
      agents [ { name: "checksum" parameters { key: "MD5:1/model.onnx" value: "<digest>" } } ]
    }
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from functools import partial

from ...ipc.errors import InternalError, InvalidArgumentError
from ..config.schema import ModelConfig

#: Called with the model's name and folder and the agent's parameters; raises StatusError.
Agent = Callable[[str, str, Mapping[str, str]], None]

_MD5 = "MD5:"

#: A check against mistakes, as in Triton: not one against attacks.
_NEW_MD5 = partial(hashlib.md5, usedforsecurity=False)


def consult(config: ModelConfig, model: str, directory: str) -> None:
    """Ask the agents of a model, in order, whether it may be loaded. Blocking.

    Raises InvalidArgumentError for an agent that is not there or refuses, InternalError for a file
    that cannot be read.
    """
    for agent in names(config):
        if agent not in AGENTS:
            raise InvalidArgumentError(
                f"unable to find repository agent '{agent}' for model '{model}'; this server has "
                f"{', '.join(AGENTS)}"
            )
    if config.model_repository_agents is not None:
        for one in config.model_repository_agents.agents:
            AGENTS[one.name](model, directory, one.parameters)


def names(config: ModelConfig) -> list[str]:
    """The agents that a configuration names."""
    agents = config.model_repository_agents
    return [agent.name for agent in agents.agents] if agents is not None else []


def _checksum(model: str, directory: str, parameters: Mapping[str, str]) -> None:
    for key, expected in parameters.items():
        path = key.removeprefix(_MD5)
        if path == key or not path or path.startswith("/") or ".." in path.split("/"):
            raise InvalidArgumentError(
                f"'{model}': parameter '{key}' of repository agent 'checksum' must be "
                f"'MD5:<path of a file in the model's folder>'"
            )
        try:
            with open(os.path.join(directory, path), "rb") as file:
                found = hashlib.file_digest(file, _NEW_MD5).hexdigest()
        except OSError as error:
            raise InternalError(
                f"'{model}': repository agent 'checksum' cannot read file {path}: "
                f"{error.strerror or error}"
            ) from None
        if found != expected.strip().lower():
            raise InvalidArgumentError(
                f"'{model}': Mismatched MD5 hash for file {path}, expect: {expected}, got: {found}"
            )


#: All agents by their names.
AGENTS: dict[str, Agent] = {"checksum": _checksum}
