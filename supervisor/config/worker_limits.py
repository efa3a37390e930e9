"""What a model's workers may take: of time to load it and for an execution, and of memory.

parameters { key: "load_timeout_secs" value: { string_value: "600" } }
parameters { key: "execution_timeout_secs" value: { string_value: "30" } }
parameters { key: "memory_limit_byte_size" value: { string_value: "2147483648" } }
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from ...ipc.errors import InvalidArgumentError
from .problems import Problem
from .schema import ModelConfig

LOAD_SECS = "load_timeout_secs"
EXECUTION_SECS = "execution_timeout_secs"
MEMORY_BYTES = "memory_limit_byte_size"

_EXAMPLES = {LOAD_SECS: "600", EXECUTION_SECS: "30", MEMORY_BYTES: "2147483648"}


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """The limits of each worker of a model; 0 stands for none."""

    load_secs: float = 0.0
    execution_secs: float = 0.0
    memory_bytes: int = 0


def limits_of(config: ModelConfig, defaults: WorkerLimits) -> WorkerLimits:
    """The limits that a configuration sets, and of the others the defaults.

    Raises InvalidArgumentError for what is no number.
    """
    said: dict[str, str] = {}
    for name in _EXAMPLES:
        problem = _problem(config, name)
        if problem:
            raise InvalidArgumentError(f"model '{config.name}': {problem}")
        if name in config.parameters:
            said[name] = config.parameters[name].string_value
    return WorkerLimits(
        float(said.get(LOAD_SECS, defaults.load_secs)),
        float(said.get(EXECUTION_SECS, defaults.execution_secs)),
        int(said.get(MEMORY_BYTES, defaults.memory_bytes)),
    )


def worker_limits(config: ModelConfig) -> Iterator[Problem]:
    """Limits are numbers, 0 for none."""
    for name, example in _EXAMPLES.items():
        problem = _problem(config, name)
        if problem:
            yield Problem(
                ("parameters", name),
                problem,
                f'write for instance string_value: "{example}", or "0" for no limit',
            )


def _problem(config: ModelConfig, name: str) -> str:
    parameter = config.parameters.get(name)
    if parameter is None:
        return ""
    text = parameter.string_value
    if name == MEMORY_BYTES:
        expected = "a whole number of bytes"
        right = text.isascii() and text.isdigit()
    else:
        expected = "a number of seconds"
        try:
            right = 0 <= float(text) < math.inf
        except ValueError:
            right = False
    return "" if right else f"parameter '{name}' is '{text}', expected {expected}"
