"""Inference in JSON: a request's document becomes an InferRequest, an InferResponse a document."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import msgspec
import orjson
from msgspec import UNSET

from ...ipc.dtypes import DATATYPES, DataType
from ...ipc.errors import InternalError, InvalidArgumentError
from ...ipc.messages import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, Parameter
from ...ipc.tensor import Tensor
from ..memory.regions import Place
from ..request import InferRequest, InferResponse, RequestedOutput
from . import json_document, json_tensor

_DATATYPES = frozenset(DATATYPES)
_EMPTY = memoryview(b"")
_NOT_FINITE = {math.inf: b"Infinity", -math.inf: b"-Infinity"}


class OutputForms(msgspec.Struct, frozen=True):
    """Which outputs the client wants as binary data: those named, and what holds for the others."""

    named: dict[str, bool] = {}
    default: bool = False
    #: The outputs whose strings are to be written in base64.
    in_base64: frozenset[str] = frozenset()

    def is_binary(self, name: str) -> bool:
        """Whether this output goes behind the document instead of into it."""
        return self.named.get(name, self.default)


class Places(msgspec.Struct):
    """The tensors of a request that are in clients' regions, by their index."""

    inputs: dict[int, Place] = {}
    outputs: dict[int, Place] = {}


class ParsedRequest(msgspec.Struct, frozen=True):
    """A request as far as its document tells it.

    `sizes` has the number of bytes that each input has behind the document, None for an input
    whose data were in the document; the data of the former are still empty. So are those of the
    inputs whose data are in clients' regions: `places` has them by their index, and the outputs
    that go there by theirs.
    """

    request: InferRequest
    sizes: list[int | None]
    forms: OutputForms
    places: Places | None = None


def document_too_large(size: int, limit: int) -> InvalidArgumentError:
    """The error of a JSON document that the server does not even look at."""
    return InvalidArgumentError(
        f"request JSON size of {size} bytes exceeds the maximum allowed input size of {limit} "
        "bytes. Use --http-max-input-size to increase the limit."
    )


def decode_request(
    data: bytes | memoryview, model: str, version: int | None, limit: int
) -> ParsedRequest:
    """Read the JSON document of an inference request for this model.

    `limit` bounds, in bytes, the document and every tensor it holds. Raises the StatusErrors of the
    protocol's JSON layer; whether the inputs suit the model is not looked at.
    """
    if len(data) > limit:
        raise document_too_large(len(data), limit)
    document = json_document.parse(data)
    request = InferRequest(model, version, [], id=document.id)
    binary_output = False
    if document.parameters:
        binary_output = _apply_parameters(request, document.parameters)
    sizes: list[int | None] = []
    places: Places | None = None
    for index, entry in enumerate(document.inputs):
        tensor, size = _input(entry, limit)
        if size is None and json_tensor.has_infinity(tensor):
            json_document.refuse_too_large(data)
        request.inputs.append(tensor)
        sizes.append(size)
        if entry.parameters.shared_memory_region is not UNSET:
            places = places or Places()
            places.inputs[index] = entry.parameters.place()
    if len(sizes) > 1:
        _refuse_duplicates(request, "input", [tensor.name for tensor in request.inputs])
    if not document.outputs:
        return ParsedRequest(request, sizes, _DEFAULT_FORMS[binary_output], places)
    named: dict[str, bool] = {}
    in_base64: list[str] = []
    for index, output in enumerate(document.outputs):
        given = output.parameters
        if given.shared_memory_region is not UNSET:
            places = places or Places()
            places.outputs[index] = given.place()
        named[output.name] = given.binary_data
        if given.binary_encoding is not UNSET:
            _check_output_encoding(output.name, given)
            in_base64.append(output.name)
        request.outputs.append(RequestedOutput(output.name, given.classification))
    if len(named) != len(request.outputs):
        _refuse_duplicates(request, "output", [output.name for output in request.outputs])
    forms = OutputForms(named, binary_output, frozenset(in_base64))
    return ParsedRequest(request, sizes, forms, places)


_DEFAULT_FORMS = {False: OutputForms(), True: OutputForms(default=True)}


def _input(entry: json_document.InputEntry, limit: int) -> tuple[Tensor, int | None]:
    name, datatype, shape = entry.name, entry.datatype, entry.shape
    if not _is_datatype(datatype):
        raise InvalidArgumentError(f"invalid datatype for input {name}")
    declared = entry.parameters.binary_data_size
    in_base64 = entry.parameters.binary_encoding is not UNSET
    if in_base64:
        _check_input_encoding(entry)
    if entry.parameters.shared_memory_region is not UNSET:
        return Tensor(name, datatype, tuple(shape), _EMPTY), None
    if declared is UNSET:
        data = json_tensor.decode(name, datatype, shape, entry.data, limit, in_base64=in_base64)
        return Tensor(name, datatype, tuple(shape), data), None
    return Tensor(name, datatype, tuple(shape), _EMPTY), declared


def _check_input_encoding(entry: json_document.InputEntry) -> None:
    what = f"input '{entry.name}'"
    _check_encoding(what, entry.parameters.binary_encoding)
    if entry.datatype != "BYTES" or entry.data is UNSET:
        raise InvalidArgumentError(
            f"{what} can only have a 'binary_encoding' if it is BYTES in 'data'"
        )


def _check_output_encoding(name: str, given: json_document.OutputParameters) -> None:
    what = f"output '{name}'"
    _check_encoding(what, given.binary_encoding)
    region = given.shared_memory_region is not UNSET
    if given.binary_data or given.classification or region:
        other = "classification" if given.classification else "binary_data"
        raise InvalidArgumentError(
            f"{what} can't set both 'binary_encoding' and "
            f"'{'shared_memory_region' if region else other}'"
        )


def _check_encoding(what: str, encoding: object) -> None:
    if encoding != "base64":
        raise InvalidArgumentError(f"{what} has 'binary_encoding' '{encoding}', expected 'base64'")


def _is_datatype(name: str) -> TypeGuard[DataType]:
    return name in _DATATYPES


def _refuse_duplicates(request: InferRequest, what: str, names: list[str]) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidArgumentError(
                f"{request.log_prefix}{what} '{name}' already exists in request"
            )
        seen.add(name)


def _apply_parameters(request: InferRequest, parameters: dict[str, Any]) -> bool:
    """Sort the parameters into the request's fields and the model's; return binary_data_output."""
    binary_output = False
    for key, value in parameters.items():
        refusal = f"Unable to parse '{key}'"
        if key == "binary_data_output":
            binary_output = json_document.boolean(value, refusal)
        elif key == "sequence_id":
            request.correlation_id = correlation_id(value)
        elif key == "sequence_start":
            if json_document.boolean(value, refusal):
                request.flags |= FLAG_SEQUENCE_START
        elif key == "sequence_end":
            if json_document.boolean(value, refusal):
                request.flags |= FLAG_SEQUENCE_END
        elif key == "priority":
            request.priority = json_document.unsigned(value, refusal)
        elif key == "timeout":
            request.timeout_us = json_document.unsigned(value, refusal)
        elif key.startswith("triton_"):
            raise InvalidArgumentError(
                "parameter keys starting with 'triton_' are reserved for Triton usage "
                "and should not be specified."
            )
        else:
            request.parameters[key] = parameter_value(key, value)
    return binary_output


def correlation_id(value: object) -> int | str:
    """The value if it can be a `sequence_id`. Raises InternalError otherwise."""
    if type(value) is str:
        return value
    if type(value) is int and 0 <= value < 2**64:
        return value
    raise InternalError(
        "Unable to parse 'sequence_id': attempt to access JSON non-string as string"
    )


def parameter_value(key: str, value: object) -> Parameter:
    """What a model gets of a JSON value. Raises InvalidArgumentError for null, lists, objects."""
    if type(value) is int:
        # What a signed integer of 64 bits cannot hold is a double to Triton's JSON reader.
        return value if -(2**63) <= value < 2**63 else float(value)
    if isinstance(value, (bool, str, float)):
        return value
    raise InvalidArgumentError(
        f"parameter '{key}' has invalid type. It should be either 'int', 'bool', or 'string'."
    )


def encode_response(response: InferResponse, forms: OutputForms) -> tuple[bytes, list[memoryview]]:
    """Write a response: its document, and the binary outputs that follow it, in order.

    The memoryviews are the response's own. Raises InternalError when an output's size does not
    match its shape.
    """
    buffers: list[memoryview] = []
    outputs: list[dict[str, Any]] = []
    for tensor in response.outputs:
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
        }
        data = tensor.data
        if not isinstance(data, memoryview):
            pass  # it was written to the client's region
        elif forms.named.get(tensor.name, forms.default):
            size = len(data)
            entry["parameters"] = {"binary_data_size": size}
            if size:
                buffers.append(data)
        else:
            in_base64 = tensor.name in forms.in_base64 and tensor.datatype == "BYTES"
            if in_base64:
                entry["parameters"] = {"binary_encoding": "base64"}
            entry["data"] = orjson.Fragment(json_tensor.encode(tensor, in_base64=in_base64))
        outputs.append(entry)
    document: dict[str, Any] = {"id": response.id} if response.id else {}
    document["model_name"] = response.model
    document["model_version"] = str(response.version)
    if response.parameters:
        document["parameters"] = {
            key: json_parameter(value) for key, value in response.parameters.items()
        }
    document["outputs"] = outputs
    return orjson.dumps(document), buffers


def json_parameter(value: Parameter) -> Any:
    """What orjson writes as this parameter; Triton writes NaN and the infinities bare."""
    if type(value) is float and not math.isfinite(value):
        return orjson.Fragment(_NOT_FINITE.get(value, b"NaN"))
    return value
