"""Host policies: on which cores a worker runs, and from which NUMA node it takes its memory.

A policy applies to the instances of the groups that name it, and to those without one by the name
of their device: `cpu`, `gpu_<number>` or `model`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from ...ipc.errors import InvalidArgumentError, UnsupportedError

_RANGE = "'<lower_cpu_core_id>-<upper_cpu_core_id>'"


@dataclass(frozen=True, slots=True)
class HostPolicy:
    """What holds for a worker: no cores are all that the server may use, no node is any."""

    cores: frozenset[int] = frozenset()
    numa_node: int | None = None


def parse_host_policies(texts: Iterable[str], usable: Collection[int]) -> dict[str, HostPolicy]:
    """The policies by their names, each of `texts` as `<policy>,<setting>=<value>`.

    `usable` are the cores that this process may use. Raises UnsupportedError for a setting that
    does not exist, InvalidArgumentError for a value that makes no sense here.
    """
    policies: dict[str, HostPolicy] = {}
    for text in texts:
        name, _comma, rest = text.partition(",")
        setting, _equals, value = rest.partition("=")
        old = policies.get(name, HostPolicy())
        if setting == "cpu-cores":
            policies[name] = HostPolicy(_cores(name, value, usable), old.numa_node)
        elif setting == "numa-node":
            policies[name] = HostPolicy(old.cores, _number(setting, value))
        else:
            raise UnsupportedError(
                f"Unsupported host policy setting '{setting}' is specified, supported settings are "
                f"'numa-node', 'cpu-cores'"
            )
    return policies


def _cores(policy: str, value: str, usable: Collection[int]) -> frozenset[int]:
    cores: set[int] = set()
    for part in value.split(","):
        lower, dash, upper = part.partition("-")
        if not dash:
            raise InvalidArgumentError(
                f"host policy setting 'cpu-cores' format is {_RANGE}. Got {part}"
            )
        cores.update(range(_number("cpu-cores", lower), _number("cpu-cores", upper) + 1))
    missing = sorted(cores.difference(usable))
    if missing or not cores:
        wrong = f"core {missing[0]}, which is not one of them" if missing else "none of them"
        raise InvalidArgumentError(
            f"host policy '{policy}' has cpu-cores={value}, and must name cores that this server "
            f"may use, {','.join(map(str, sorted(usable)))}; it names {wrong}"
        )
    return frozenset(cores)


def _number(setting: str, text: str) -> int:
    if not text.isdecimal() or len(text) > 6:
        raise InvalidArgumentError(f"Parsing '{setting}' value: Can't parse '{text}' to integer")
    return int(text)
