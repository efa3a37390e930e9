"""Our .proto files say on the wire exactly what the clients' own descriptors say."""

from __future__ import annotations

from typing import Any

import pytest
from google.protobuf import descriptor_pb2
from grpc_health.v1 import health_pb2 as their_health
from tritonclient.grpc import model_config_pb2 as their_config
from tritonclient.grpc import service_pb2 as their_service

from tritonpy.proto import grpc_service_pb2, health_pb2, model_config_pb2

PAIRS = [
    pytest.param(model_config_pb2, their_config, id="model_config"),
    pytest.param(grpc_service_pb2, their_service, id="grpc_service"),
    pytest.param(health_pb2, their_health, id="health"),
]

#: What ours has and theirs has not, or the other way round: nothing, and a change shows here.
DIFFERENCES: frozenset[tuple[str, str]] = frozenset()


def facts(module: Any) -> set[tuple[str, str]]:
    """Every statement that a module's descriptors make about the wire, as (name, statement)."""
    file = descriptor_pb2.FileDescriptorProto()
    module.DESCRIPTOR.CopyToProto(file)
    found = {("", f"package {file.package} {file.syntax}")}
    for enum in file.enum_type:
        found |= enum_facts(file.package, enum)
    for message in file.message_type:
        found |= message_facts(file.package, message)
    for service in file.service:
        for method in service.method:
            found.add(
                (
                    f"{file.package}.{service.name}.{method.name}",
                    f"{method.input_type} -> {method.output_type}"
                    f" client stream {method.client_streaming}"
                    f" server stream {method.server_streaming}",
                )
            )
    return found


def enum_facts(scope: str, enum: Any) -> set[tuple[str, str]]:
    name = f"{scope}.{enum.name}"
    return {(name, "enum")} | {
        (f"{name}.{value.name}", f"= {value.number}") for value in enum.value
    }


def message_facts(scope: str, message: Any) -> set[tuple[str, str]]:
    name = f"{scope}.{message.name}"
    found = {(name, f"message, map entry {message.options.map_entry}")}
    for field in message.field:
        oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else "-"
        found.add(
            (
                f"{name}.{field.name}",
                f"= {field.number} type {field.type} {field.type_name} label {field.label}"
                f" oneof {oneof} json {field.json_name} optional {field.proto3_optional}"
                f" packed {field.options.HasField('packed')}",
            )
        )
    for enum in message.enum_type:
        found |= enum_facts(name, enum)
    for nested in message.nested_type:
        found |= message_facts(name, nested)
    return found


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_every_message_field_enum_and_method_is_the_clients(ours: Any, theirs: Any) -> None:
    expected = facts(theirs)

    assert len(expected) > 5
    assert facts(ours) ^ expected == DIFFERENCES


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_both_definitions_live_in_one_process_in_two_pools(ours: Any, theirs: Any) -> None:
    assert ours.DESCRIPTOR.pool is not theirs.DESCRIPTOR.pool


def fill(message: Any) -> None:
    """Set every field of a message, of a oneof the last, to what is not its default."""
    for number, field in sorted(message.DESCRIPTOR.fields_by_number.items()):
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            key_type = field.message_type.fields_by_name["key"].cpp_type
            key: Any = "k" if key_type == field.CPPTYPE_STRING else number
            entries = getattr(message, field.name)
            value_field = field.message_type.fields_by_name["value"]
            if value_field.message_type is not None:
                fill(entries[key])
            else:
                entries[key] = f"v{number}"
        elif field.message_type is not None:
            child = getattr(message, field.name)
            fill(child.add() if field.is_repeated else child)
            if not field.is_repeated:
                child.SetInParent()
        elif field.is_repeated:
            getattr(message, field.name).extend(
                [example(field, number), example(field, number + 1)]
            )
        else:
            setattr(message, field.name, example(field, number))


def example(field: Any, number: int) -> Any:
    if field.type == field.TYPE_BYTES:
        return b"\x00\xff" + bytes([number])
    if field.type == field.TYPE_ENUM:
        return field.enum_type.values[-1].number
    if field.cpp_type == field.CPPTYPE_STRING:
        return f"text {number}"
    if field.cpp_type == field.CPPTYPE_BOOL:
        return True
    if field.cpp_type in (field.CPPTYPE_FLOAT, field.CPPTYPE_DOUBLE):
        return number + 0.5
    return 1000 + number


@pytest.mark.parametrize(("ours", "theirs"), PAIRS)
def test_a_full_message_goes_over_the_wire_in_both_directions(ours: Any, theirs: Any) -> None:
    for name in theirs.DESCRIPTOR.message_types_by_name:
        their_message = getattr(theirs, name)()
        fill(their_message)
        wire = their_message.SerializeToString(deterministic=True)

        our_message = getattr(ours, name).FromString(wire)

        assert str(our_message) == str(their_message)
        assert our_message.SerializeToString(deterministic=True) == wire
        our_message.DiscardUnknownFields()
        assert our_message.SerializeToString(deterministic=True) == wire
        ours_filled = getattr(ours, name)()
        fill(ours_filled)
        assert getattr(theirs, name).FromString(ours_filled.SerializeToString()) == their_message
