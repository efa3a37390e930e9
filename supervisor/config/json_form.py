"""The JSON form of a configuration: the one clients are sent, and the one they may send.

Triton prints protobuf's JSON with the fields' original names, every primitive, no message that is
not set, and 64-bit integers as numbers but for three fields that it has always left as strings.
"""

from __future__ import annotations

import re
from typing import TypeAlias, cast

import msgspec
from google.protobuf import descriptor

from ...ipc.errors import InvalidArgumentError
from . import mistakes
from .locate import MapKey, Path, spell
from .schema import ModelConfig

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


def render(config: ModelConfig) -> dict[str, Json]:
    """The configuration as GET .../config shows it, in Triton's order."""
    tree = _without_unset(cast(Json, msgspec.to_builtins(config, str_keys=True)))
    assert isinstance(tree, dict)
    _spell_integers(tree, "sequence_batching", "state", "initial_state", "dims")
    _spell_integers(tree, "instance_group", "secondary_devices", "device_id")
    _spell_integers(tree, "optimization", "cuda", "graph_spec", "input", "*", "dim")
    _spell_integers(
        tree, "optimization", "cuda", "graph_spec", "graph_lower_bound", "input", "*", "dim"
    )
    return tree


def _without_unset(value: Json) -> Json:
    if isinstance(value, dict):
        return {key: _without_unset(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_unset(item) for item in value]
    return value


def _spell_integers(value: Json, *path: str) -> None:
    """Turn the integers that the path leads to into strings, through every list and map."""
    if isinstance(value, list):
        for item in value:
            _spell_integers(item, *path)
        return
    if not isinstance(value, dict):
        return
    for key in value if path[0] == "*" else [path[0]] if path[0] in value else []:
        item = value[key]
        if len(path) > 1:
            _spell_integers(item, *path[1:])
        elif isinstance(item, list):
            value[key] = [str(number) for number in item]
        else:
            value[key] = str(item)


def canonical(value: Json, message: descriptor.Descriptor, path: Path = ()) -> dict[str, Json]:
    """The same JSON with original field names and the enums' exact names, nulls left out.

    Raises InvalidArgumentError for a field or an enum value that does not exist, an object where a
    list should be, and two members of a oneof. Numbers are left to protobuf's own parser.
    """
    if not isinstance(value, dict):
        raise InvalidArgumentError(f"{_about(path)} must be an object, got {_kind(value)}")
    result: dict[str, Json] = {}
    for name, item in value.items():
        field = message.fields_by_name.get(name) or message.fields_by_camelcase_name.get(name)
        if field is None:
            raise InvalidArgumentError(
                mistakes.unknown_field(name, spell(path), list(message.fields_by_name))
            )
        if item is not None:
            result[field.name] = _field(item, field, (*path, field.name))
    for choice in message.oneofs:
        given = [field.name for field in choice.fields if field.name in result]
        if len(given) > 1:
            where = f" in '{spell(path)}'" if path else ""
            raise InvalidArgumentError(
                f"fields '{given[0]}' and '{given[1]}'{where} exclude each other: keep one of them"
            )
    return result


def _field(value: Json, field: descriptor.FieldDescriptor, path: Path) -> Json:
    kind = field.message_type
    if kind is not None and kind.GetOptions().map_entry:
        if not isinstance(value, dict):
            raise InvalidArgumentError(f"{_about(path)} must be an object, got {_kind(value)}")
        inner = kind.fields_by_name["value"]
        for key in value:
            _scalar(key, kind.fields_by_name["key"], (*path, MapKey(key)))
        return {key: _single(item, inner, (*path, MapKey(key))) for key, item in value.items()}
    if field.default_value == []:  # what protobuf says of a repeated field
        if not isinstance(value, list):
            raise InvalidArgumentError(f"{_about(path)} must be a list, got {_kind(value)}")
        return [_single(item, field, (*path, index)) for index, item in enumerate(value)]
    return _single(value, field, path)


def _single(value: Json, field: descriptor.FieldDescriptor, path: Path) -> Json:
    if field.message_type is not None:
        return canonical(value, field.message_type, path)
    if isinstance(value, (dict, list)) or value is None:
        raise InvalidArgumentError(f"{_about(path)} must be a plain value, got {_kind(value)}")
    if field.enum_type is not None and isinstance(value, str):
        choices = list(field.enum_type.values_by_name)
        found = next((choice for choice in choices if choice.lower() == value.lower()), None)
        if found is None:
            raise InvalidArgumentError(mistakes.unknown_value(value, spell(path), choices))
        return str(found)
    _scalar(value, field, path)
    return value


def _scalar(value: str | int | float, field: descriptor.FieldDescriptor, path: Path) -> None:
    """Refuse a value of the wrong kind. As in all of protobuf's JSON, "8" is a number too."""
    expected = _KINDS.get(field.cpp_type, "a whole number")
    if expected == "a whole number" and isinstance(value, str):
        fits = field.enum_type is None and re.fullmatch(r"-?\d+", value) is not None
    elif expected == "a whole number":
        fits = not isinstance(value, bool) and float(value).is_integer()
    elif expected == "a number":
        fits = not isinstance(value, bool)
    else:
        fits = type(value) is (str if expected == "a string" else bool)
    if not fits:
        got = f"'{value}'" if expected == "a whole number" else _kind(value)
        raise InvalidArgumentError(f"{_about(path)} must be {expected}, got {got}")


_Field = descriptor.FieldDescriptor
_KINDS = {
    _Field.CPPTYPE_STRING: "a string",
    _Field.CPPTYPE_BOOL: "true or false",
    _Field.CPPTYPE_FLOAT: "a number",
    _Field.CPPTYPE_DOUBLE: "a number",
}


def _about(path: Path) -> str:
    return f"field '{spell(path)}'" if path else "the configuration"


def _kind(value: Json) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, (int, float)):
        return "a number"
    return {str: "a string", list: "a list", dict: "an object"}[type(value)]
