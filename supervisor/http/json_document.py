"""The JSON document of an inference request: parsed into typed parts, or refused in Triton's words.

Almost every document has the right form, and msgspec reads those in one pass; or simdjson does,
where they are large. Whatever these refuse is read again by a patient reader, which accepts what
Triton accepts beyond strict JSON (NaN, Infinity, strings that are no UTF-8) and words its errors as
Triton does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated, Any, cast

import msgspec
from msgspec import UNSET, UnsetType

from ...ipc.errors import InternalError, InvalidArgumentError
from ..memory.regions import Place
from . import json_arrays
from .json_reader import SURROGATE_ESCAPE, read
from .json_tensor import too_deep

#: Larger ones, up to 64 bits, are left to the patient reader.
Unsigned = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]


class InputParameters(msgspec.Struct, frozen=True):
    """What an input says about the place and the form of its data."""

    binary_data_size: Unsigned | UnsetType = UNSET
    shared_memory_region: str | UnsetType = UNSET
    shared_memory_byte_size: Unsigned = 0
    shared_memory_offset: Unsigned = 0
    binary_encoding: str | UnsetType = UNSET

    def place(self) -> Place:
        """Where in a client's region the data are; only when that is set."""
        return _place(self)


class InputEntry(msgspec.Struct, frozen=True):
    """One entry of `inputs`; `data` is the parsed JSON value, nested as it came, or a flat array of
    the numbers in it.
    """

    name: str
    datatype: str
    shape: list[Unsigned]
    parameters: InputParameters = InputParameters()
    data: Any = UNSET


class OutputParameters(msgspec.Struct, frozen=True):
    """How an output is to be returned."""

    classification: Unsigned = 0
    binary_data: bool = False
    shared_memory_region: str | UnsetType = UNSET
    shared_memory_byte_size: Unsigned = 0
    shared_memory_offset: Unsigned = 0
    binary_encoding: str | UnsetType = UNSET

    def place(self) -> Place:
        """Where in a client's region the output goes; only when that is set."""
        return _place(self)


class OutputEntry(msgspec.Struct, frozen=True):
    """One entry of `outputs`."""

    name: str
    parameters: OutputParameters = OutputParameters()


def _place(parameters: InputParameters | OutputParameters) -> Place:
    region = parameters.shared_memory_region
    assert not isinstance(region, UnsetType)
    return Place(region, parameters.shared_memory_offset, parameters.shared_memory_byte_size)


class Document(msgspec.Struct):
    """An inference request as its JSON says it; `parameters` are not yet sorted out."""

    inputs: list[InputEntry]
    id: str = ""
    parameters: dict[str, Any] = {}
    outputs: list[OutputEntry] = []


_DECODER = msgspec.json.Decoder(Document)


def parse(data: bytes | memoryview) -> Document:
    """Read a request's document.

    Raises InternalError where Triton's JSON layer fails (which is HTTP 500), InvalidArgumentError
    where an input has no or several sources of data, or an output several forms.
    """
    document = _read_large(data) if len(data) >= json_arrays.LEAST_BYTES else None
    if document is None:
        try:
            document = _DECODER.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return _read_document(load(data))
    for entry in document.inputs:
        given = entry.parameters
        has_size = given.binary_data_size is not UNSET
        if has_size is (entry.data is not UNSET) or given.shared_memory_region is not UNSET:
            check_source(entry.data, given.binary_data_size, given.shared_memory_region)
    for output in document.outputs:
        if output.parameters.shared_memory_region is not UNSET:
            _check_output_region(msgspec.to_builtins(output.parameters))
    return document


def _read_large(data: bytes | memoryview) -> Document | None:
    """The document with arrays for its lists of numbers, None where they are not worth it."""
    members = json_arrays.read(data)
    if members is None:
        return None
    try:
        return msgspec.convert(members, Document)
    except msgspec.ValidationError:
        return None


def refuse_too_large(data: bytes | memoryview) -> None:
    """Raise InternalError when the document has a number that no double can hold.

    The fast readers make such a number infinite; Triton refuses it, but takes the word Infinity.
    """
    read(str(data, "utf-8", "surrogateescape"))


def load(data: bytes | memoryview) -> Any:
    """Parse any JSON text, NaN and Infinity included; bytes that are no UTF-8 become surrogates.

    A byte order mark is skipped. Raises InternalError with the place of the mistake,
    InvalidArgumentError when it nests too deep.
    """
    text = str(data, "utf-8", "surrogateescape").removeprefix("\ufeff")
    if SURROGATE_ESCAPE.search(text) is not None:
        return read(text)
    try:
        return json.loads(text)
    except RecursionError:
        raise too_deep() from None
    except ValueError:  # a mistake, or an integer of thousands of digits
        return read(text)


# --- the patient reader ---------------------------------------------------------------------------


def _read_document(root: Any) -> Document:
    members = _members(root)
    document = Document(inputs=[])
    if "id" in members:
        document.id = string(members["id"], "id")
    if "parameters" in members:
        if not isinstance(members["parameters"], dict):
            raise InternalError(
                "failed to get request params.: attempt to get members for non-object"
            )
        document.parameters = members["parameters"]
    document.inputs = [_read_input(_members(entry)) for entry in _array(members, "inputs")]
    if "outputs" in members:
        document.outputs = [_read_output(_members(entry)) for entry in _array(members, "outputs")]
    return document


def _read_input(entry: dict[str, Any]) -> InputEntry:
    parameters = _members(entry.get("parameters"))
    data = entry.get("data", UNSET)
    size = parameters.get("binary_data_size", UNSET)
    region = parameters.get("shared_memory_region", UNSET)
    check_source(data, size, region)
    if size is not UNSET:
        size = unsigned(size, "Unable to parse 'binary_data_size'")
    return InputEntry(
        name=string(_member(entry, "name"), "name"),
        datatype=string(_member(entry, "datatype"), "datatype"),
        shape=[unsigned(extent, "Unable to parse 'shape'") for extent in _array(entry, "shape")],
        parameters=InputParameters(
            size, *_read_place(parameters), _read_binary_encoding(parameters)
        ),
        data=data,
    )


def _read_output(entry: dict[str, Any]) -> OutputEntry:
    parameters = _members(entry.get("parameters"))
    name = string(_member(entry, "name"), "name")
    if "shared_memory_region" in parameters:
        _check_output_region(parameters)
    classes, binary = 0, False
    if "classification" in parameters:
        classes = unsigned(parameters["classification"], "Unable to set 'classification'")
    if "binary_data" in parameters:
        binary = boolean(parameters["binary_data"], "Unable to parse 'binary_data'")
    encoding = _read_binary_encoding(parameters)
    return OutputEntry(name, OutputParameters(classes, binary, *_read_place(parameters), encoding))


def _read_place(parameters: dict[str, Any]) -> tuple[str | UnsetType, int, int]:
    """Region, size and offset; the last two mean nothing without the first."""
    if "shared_memory_region" not in parameters:
        return UNSET, 0, 0
    region = string(parameters["shared_memory_region"], "shared_memory_region")
    byte_size = parameters.get("shared_memory_byte_size", 0)
    offset = parameters.get("shared_memory_offset", 0)
    return (
        region,
        unsigned(byte_size, "Unable to parse 'shared_memory_byte_size'"),
        unsigned(offset, "Unable to parse 'shared_memory_offset'"),
    )


def _read_binary_encoding(parameters: dict[str, Any]) -> str | UnsetType:
    if "binary_encoding" not in parameters:
        return UNSET
    return string(parameters["binary_encoding"], "binary_encoding")


def check_source(data: object, size: object, region: object) -> None:
    """Raise InvalidArgumentError unless exactly one of the three is set."""
    sources = (
        ("data", data),
        ("binary_data_size", size),
        ("shared_memory_region", region),
    )
    given = [source for source, value in sources if value is not UNSET]
    if len(given) != 1:
        found = (
            " set" + "".join(f" '{source}'" for source in given) if given else (" no field is set")
        )
        raise InvalidArgumentError(
            "Input must set only one of the following fields: 'data', 'binary_data_size' in "
            f"'parameters', 'shared_memory_region' in 'parameters'. But{found}"
        )


def _check_output_region(parameters: dict[str, Any]) -> None:
    for other in ("classification", "binary_data"):
        if parameters.get(other):
            raise InvalidArgumentError(
                f"Output can't set both 'shared_memory_region' and '{other}'"
            )


def unsigned(value: object, what: str) -> int:
    """The value if it is a JSON unsigned integer of 64 bits; `what` begins the error otherwise."""
    if type(value) is not int or not 0 <= value < 2**64:
        raise InternalError(
            f"{what}: attempt to access JSON non-unsigned-integer as unsigned-integer"
        )
    return value


def boolean(value: object, what: str) -> bool:
    """The value if it is a JSON boolean; `what` begins the error otherwise."""
    if type(value) is not bool:
        raise InternalError(f"{what}: attempt to access JSON non-boolean as boolean")
    return value


def string(value: object, member: str) -> str:
    """The value if it is a JSON string, and one that has a meaning: no stray surrogates."""
    if type(value) is not str:
        raise InternalError(
            f"Unable to parse '{member}': attempt to access JSON non-string as string"
        )
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise InternalError(
                f"Unable to parse '{member}': the string is not valid UTF-8"
            ) from None
    return value


def _members(value: Any) -> dict[str, Any]:
    """The members of an object; nothing else has any."""
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _member(entry: dict[str, Any], member: str) -> Any:
    if member not in entry:
        raise InternalError(
            f"Unable to parse '{member}': attempt to access non-existing object member '{member}'"
        )
    return entry[member]


def _array(entry: dict[str, Any], member: str) -> Sequence[Any]:
    value = _member(entry, member)
    if not isinstance(value, list):
        raise InternalError(
            f"Unable to parse '{member}': attempt to access JSON non-array as array"
        )
    return cast("Sequence[Any]", value)
