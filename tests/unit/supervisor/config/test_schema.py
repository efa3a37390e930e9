"""The structs hold exactly what the proto holds."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from google.protobuf.descriptor import FieldDescriptor

from tritonpy.proto import model_config_pb2
from tritonpy.supervisor.config import parse
from tritonpy.supervisor.config.schema import ModelConfig, ModelInput

Info = msgspec.inspect
_SCALARS: dict[int, type] = {
    FieldDescriptor.CPPTYPE_STRING: Info.StrType,
    FieldDescriptor.CPPTYPE_BOOL: Info.BoolType,
    FieldDescriptor.CPPTYPE_FLOAT: Info.FloatType,
    FieldDescriptor.CPPTYPE_DOUBLE: Info.FloatType,
    FieldDescriptor.CPPTYPE_ENUM: Info.StrType,
}


def _compare(struct: Any, message: Any, path: str) -> None:
    assert isinstance(struct, Info.StructType), path
    fields = {field.encode_name: field for field in struct.fields}
    assert fields.keys() == set(message.fields_by_name), path
    for name, field in fields.items():
        _compare_field(field.type, message.fields_by_name[name], f"{path}.{name}")


def _compare_field(kind: Any, field: Any, path: str) -> None:
    message = field.message_type
    if message is not None and message.GetOptions().map_entry:
        assert isinstance(kind, Info.DictType), path
        _compare_single(kind.value_type, message.fields_by_name["value"], path)
    elif field.default_value == []:
        assert isinstance(kind, Info.ListType), path
        _compare_single(kind.item_type, field, path)
    elif field.has_presence:
        assert isinstance(kind, Info.UnionType), path
        assert kind.includes_none, path
        (inner,) = (one for one in kind.types if not isinstance(one, Info.NoneType))
        _compare_single(inner, field, path)
    else:
        _compare_single(kind, field, path)


def _compare_single(kind: Any, field: Any, path: str) -> None:
    if field.message_type is not None:
        _compare(kind, field.message_type, path)
    else:
        assert type(kind) is _SCALARS.get(field.cpp_type, Info.IntType), path


def test_the_structs_mirror_every_message_and_field_of_the_proto() -> None:
    _compare(Info.type_info(ModelConfig), model_config_pb2.ModelConfig.DESCRIPTOR, "ModelConfig")


def test_defaults_are_those_of_the_proto() -> None:
    assert parse.from_text("", "config.pbtxt") == ModelConfig()


def test_a_configuration_cannot_be_changed_in_place() -> None:
    config = ModelConfig(input=[ModelInput(name="x")])
    with pytest.raises(AttributeError):
        config.max_batch_size = 4  # type: ignore[misc]
    assert msgspec.structs.replace(config, max_batch_size=4).max_batch_size == 4


def test_decoupled_is_read_from_the_transaction_policy() -> None:
    text = "model_transaction_policy { decoupled: true }"
    assert parse.from_text(text, "config.pbtxt").decoupled
    assert not ModelConfig().decoupled
