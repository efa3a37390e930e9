"""Which tensor of the configuration is which argument, or which result, of a PyTorch program.

A TorchScript file knows the names of forward's arguments and nothing of its results, so Triton has
three rules, the first that fits all tensors at once holds: the names are those of the arguments;
every name ends in `__<index>`; the order of the configuration. Programs made by torch.export know
the whole structure of arguments and results, and their tensors are named by the path to them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ...ipc import dtypes, padding
from ...ipc.errors import InvalidArgumentError
from ..backend import Model

_log = logging.getLogger(__name__)

_INDEXED = re.compile(r".*__(\d+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Port:
    """A tensor of the configuration: its name and its datatype (FP32, BYTES, ...)."""

    name: str
    datatype: str


@dataclass(frozen=True, slots=True)
class Ports:
    """All tensors that go into a model and come out of it, by its configuration.

    Beside `input` and `output` these are the generated batch inputs, masks and lengths of padding,
    the controls of sequences and their states. `stateful` says that there are states, for which
    Triton insists on indices.
    """

    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    stateful: bool


def read_ports(model: Model) -> Ports:
    """Read the tensors that the model's configuration lists.

    Raises InvalidArgumentError when one has a datatype that PyTorch does not compute with.
    """
    config = model.config
    sequence: Mapping[str, Any] = config.get("sequence_batching") or {}
    states: Sequence[Mapping[str, Any]] = sequence.get("state", [])
    rules = padding.of_parameters(config.get("parameters") or {})
    padded = [] if rules is None else rules.generated
    inputs = [
        *(_port(model, "input", entry["name"], entry) for entry in config.get("input", [])),
        *(
            _port(model, "batch input", name, entry)
            for entry in config.get("batch_input", [])
            for name in entry.get("target_name", [])
        ),
        *(
            _port(model, "padding input", made.name, {"data_type": made.data_type})
            for made in padded
        ),
        *(
            Port(entry["name"], _control_datatype(entry))
            for entry in sequence.get("control_input", [])
        ),
        *(_port(model, "input state", entry["input_name"], entry) for entry in states),
    ]
    outputs = [
        *(_port(model, "output", entry["name"], entry) for entry in config.get("output", [])),
        *(_port(model, "output state", entry["output_name"], entry) for entry in states),
    ]
    unique = {port.name: port for port in reversed(outputs)}  # a state may be an output as well
    return Ports(tuple(inputs), tuple(reversed(unique.values())), bool(states))


def _port(model: Model, role: str, name: str, entry: Mapping[str, Any]) -> Port:
    data_type = str(entry.get("data_type", "TYPE_INVALID"))
    if data_type in ("TYPE_INVALID", "TYPE_UINT16", "TYPE_UINT32", "TYPE_UINT64"):
        raise InvalidArgumentError(
            f"unsupported datatype {data_type} for {role} '{name}' for model '{model.name}'"
        )
    return Port(name, dtypes.from_config(data_type))


def _control_datatype(entry: Mapping[str, Any]) -> str:
    controls: list[dict[str, Any]] = entry.get("control", [])
    control = controls[0] if controls else {}
    if control.get("fp32_false_true"):
        return "FP32"
    if control.get("bool_false_true"):
        return "BOOL"
    if str(control.get("kind", "")).endswith("CORRID"):
        return dtypes.from_config(str(control.get("data_type", "TYPE_UINT64")))
    return "INT32"


def by_rules(
    names: Sequence[str], arguments: Sequence[str], role: str, model: Model, stateful: bool
) -> list[int]:
    """The position of each name by Triton's three rules; `arguments` is empty for results."""
    if names and not stateful and all(name in arguments for name in names):
        return [arguments.index(name) for name in names]
    indices = [_index(name) for name in names]
    stray = next((name for name, index in zip(names, indices, strict=True) if index is None), None)
    if stray is None:
        return [cast(int, index) for index in indices]
    if stateful:
        raise InvalidArgumentError(
            f"PyTorch model '{model.name}' is using sequence batching with state but not all "
            f"inputs and outputs follow the <name>__<index> naming convention: {role} '{stray}'"
        )
    if len(names) > 1:  # there is nothing to confuse a single tensor with
        known = f"an argument of forward ({', '.join(arguments)}) nor " if arguments else ""
        _log.warning(
            "%s '%s' of model '%s' is not %snamed <name>__<index>: the %ss are taken in the order "
            "of the configuration",
            role,
            stray,
            model.name,
            known,
            role,
        )
    return list(range(len(names)))


def by_path(
    names: Sequence[str], paths: Sequence[Sequence[str]], role: str, model: Model
) -> list[int]:
    """The position of each name in a structure; `paths` holds what each place may be called."""
    places = {path: position for position, aliases in enumerate(paths) for path in aliases}
    positions: list[int] = []
    for name in names:
        position = places.get(name, _index(name))
        if position is None:
            allowed = ", ".join(aliases[0] for aliases in paths)
            raise InvalidArgumentError(
                f"unexpected {role} '{name}' for model '{model.name}': the program has {allowed}, "
                f"which may also be called {role.upper()}__0 and so on, in this order"
            )
        positions.append(position)
    return positions


def check_positions(
    names: Sequence[str], positions: Sequence[int], count: int, model: Model
) -> None:
    """Refuse two inputs for one argument, and an index that no argument has."""
    taken: dict[int, str] = {}
    for name, position in zip(names, positions, strict=True):
        if position >= count:
            raise InvalidArgumentError(
                f"input '{name}' of model '{model.name}' stands for argument {position}, but the "
                f"model has {count} arguments, counted from 0"
            )
        if position in taken:
            raise InvalidArgumentError(
                f"inputs '{taken[position]}' and '{name}' of model '{model.name}' both stand for "
                f"argument {position}"
            )
        taken[position] = name


def leaf_paths(prefix: str, structure: object) -> Iterator[str]:
    """The path to each leaf of nested tuples, lists and dicts: `RESULT[scores][0]`."""
    if isinstance(structure, dict):
        children = list(cast("dict[object, object]", structure).items())
    elif isinstance(structure, (tuple, list)):
        children = list(enumerate(cast("Sequence[object]", structure)))
    else:
        yield prefix
        return
    for key, child in children:
        yield from leaf_paths(f"{prefix}[{key}]", child)


def _index(name: str) -> int | None:
    found = _INDEXED.fullmatch(name)
    return None if found is None else int(found[1])
