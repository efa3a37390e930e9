"""config.pbtxt and JSON in; structs out; and back. The only reader of model_config_pb2.

protobuf reads the text, msgspec turns its dictionary into structs: neither direction knows a
field by name.
"""

from __future__ import annotations

import json
import re
from typing import cast

import msgspec
from google.protobuf import descriptor, json_format, text_format

from ...ipc.errors import InvalidArgumentError
from ...proto import model_config_pb2
from . import json_form, mistakes
from .locate import Source, field_before
from .schema import ModelConfig

_MESSAGE = model_config_pb2.ModelConfig
_DESCRIPTOR = cast(descriptor.Descriptor, _MESSAGE.DESCRIPTOR)


def from_file(path: str) -> tuple[ModelConfig, Source]:
    """Read a config.pbtxt. Blocking.

    Raises InvalidArgumentError when the file cannot be read or is no model configuration.
    """
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise InvalidArgumentError(
            f"failed to open text file for read {path}: {error.strerror or error}"
        ) from None
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InvalidArgumentError(
            f"failed to read text proto from {path}: line {line} is not UTF-8 text"
        ) from None
    text = text.removeprefix("\ufeff")
    return from_text(text, path), Source(path, text)


def from_text(text: str, source: str) -> ModelConfig:
    """Read protobuf's text format; `source` is the path that messages name.

    Raises InvalidArgumentError that says line, column, field and remedy.
    """
    message = _MESSAGE()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise InvalidArgumentError(
            f"failed to read text proto from {source}: {_explain_text(text, error)}"
        ) from None
    try:
        return _to_struct(message)
    except InvalidArgumentError as error:
        raise InvalidArgumentError(
            f"failed to read text proto from {source}: {error.message}"
        ) from None


def from_json(text: str | bytes, source: str) -> ModelConfig:
    """Read a configuration in JSON; `source` says in words whose it is.

    Enum names may be in any case; unknown fields are refused. Raises InvalidArgumentError that
    begins with Triton's `Invalid config override:`.
    """
    try:
        tree = cast(json_form.Json, json.loads(text))
        message = _MESSAGE()
        json_format.ParseDict(json_form.canonical(tree, _DESCRIPTOR), message)
        return _to_struct(message)
    except InvalidArgumentError as error:
        reason = error.message
    except json.JSONDecodeError as error:
        reason = f"not valid JSON: {error.msg} at line {error.lineno}, column {error.colno}"
    except UnicodeDecodeError:
        reason = "not valid JSON: it is not UTF-8 text"
    except RecursionError:
        reason = "not valid JSON for a configuration: it is nested too deeply"
    except json_format.ParseError as error:
        reason = _explain_json(str(error))
    raise InvalidArgumentError(f"Invalid config override: {reason} (in {source})")


def to_json(config: ModelConfig) -> str:
    """The configuration as GET .../config shows it."""
    return msgspec.json.encode(json_form.render(config)).decode()


def to_proto(config: ModelConfig) -> model_config_pb2.ModelConfig:
    """The configuration as the gRPC ModelConfig call returns it."""
    tree = json_form.render(config)
    message = _MESSAGE()
    json_format.ParseDict(tree, message)
    return message


def _to_struct(message: model_config_pb2.ModelConfig) -> ModelConfig:
    tree = json_format.MessageToDict(message, preserving_proto_field_name=True)
    try:
        # Not strict: protobuf writes 64-bit integers as strings.
        return msgspec.convert(tree, ModelConfig, strict=False, str_keys=True)
    except msgspec.ValidationError as error:
        # All that is left is an enum's number that no name belongs to.
        field = str(error).rpartition("`$.")[2].rstrip("`")
        raise InvalidArgumentError(
            f"field '{field}' has a number that means nothing there: write the value's name"
        ) from None


def _explain_text(text: str, error: text_format.ParseError) -> str:
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    # "line:column : 'the text of that line': what is wrong"; the quoted line may be missing.
    complaint = re.sub(r"^\d+:\d+ : ", "", str(error))
    shown = text.split("\n")[line - 1] if line <= text.count("\n") + 1 else ""
    complaint = complaint.removeprefix(f"'{shown}': ").removeprefix("'': ")
    field = field_before(text, line, column)
    return f"line {line}, column {column}: {mistakes.explain(complaint, field, _names)}"


def _explain_json(complaint: str) -> str:
    fields = re.findall(r"Failed to parse (\w+) field: ", complaint)
    reason = re.sub(r"Failed to parse \w+ field: ", "", complaint)
    reason = re.sub(r" at ModelConfig[\w.\[\]]*$", "", reason.rstrip(".")).rstrip(".")
    return mistakes.explain(reason, ".".join(fields), _names)


def _names(full_name: str) -> list[str]:
    """The fields of a message or the values of an enum, [] for a name that is neither."""
    pool = _DESCRIPTOR.file.pool
    try:
        return list(pool.FindMessageTypeByName(full_name).fields_by_name)
    except KeyError:
        pass
    try:
        return list(pool.FindEnumTypeByName(full_name).values_by_name)
    except KeyError:
        return []


# msgspec works out a struct's fields at its first use. Threads that come to that together crash the
# interpreter (seen with msgspec 0.22 on Python 3.12), and configurations are read in threads.
msgspec.convert({}, ModelConfig)
