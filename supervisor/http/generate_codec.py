"""The generate extension's JSON: a flat object becomes an InferRequest, an InferResponse another.

A member that is called like an input of the model is that input; `parameters` is an object whose
members are taken likewise; every other member is a parameter of the request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import orjson

from ...ipc.dtypes import from_config
from ...ipc.errors import InternalError, InvalidArgumentError, StatusError
from ...ipc.messages import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START
from ...ipc.tensor import Tensor
from ..config.schema import ModelConfig, ModelInput
from ..request import InferRequest, InferResponse
from . import json_document, json_tensor
from .json_codec import correlation_id, json_parameter, parameter_value

_SEQUENCE_FLAGS = {"sequence_start": FLAG_SEQUENCE_START, "sequence_end": FLAG_SEQUENCE_END}


def decode_request(
    data: bytes, config: ModelConfig, model: str, version: int | None, limit: int
) -> InferRequest:
    """Read the object that a client sent for a model of this configuration.

    `limit` bounds the bytes of every tensor. Raises the StatusErrors of the protocol's JSON layer,
    and InvalidArgumentError when the number of an input's elements suits no shape that it may have.
    """
    document = json_document.load(data)
    if not isinstance(document, dict):
        raise InternalError("attempt to get members for non-object")
    members = cast("dict[str, object]", document)
    request = InferRequest(model, version, [])
    if "id" in members:
        request.id = json_document.string(members["id"], "id")
    inputs = {entry.name: entry for entry in config.input}
    reader = _Reader(request, inputs, config.max_batch_size > 0, limit)
    for key, value in members.items():
        if key == "parameters":
            reader.read_parameters(value)
        else:
            reader.read(key, value)
    return request


class _Reader:
    """Puts members into a request."""

    def __init__(
        self, request: InferRequest, inputs: dict[str, ModelInput], batching: bool, limit: int
    ) -> None:
        self._request = request
        self._inputs = inputs
        self._batching = batching
        self._limit = limit

    def read(self, key: str, value: object) -> None:
        """Take a member for what its name says."""
        request = self._request
        declared = self._inputs.get(key)
        if declared is not None:
            self._add_input(declared, value)
        elif key == "sequence_id":
            request.correlation_id = correlation_id(value)
        elif key in _SEQUENCE_FLAGS:
            if json_document.boolean(value, f"Unable to parse '{key}'"):
                request.flags |= _SEQUENCE_FLAGS[key]
        else:
            if not key.isascii():
                json_document.string(key, key)
            if isinstance(value, str) and not value.isascii():
                json_document.string(value, key)
            request.parameters[key] = parameter_value(key, value)

    def read_parameters(self, value: object) -> None:
        """Take the members of the member `parameters`."""
        what = "keyword: 'parameters'"
        if not isinstance(value, dict):
            raise InternalError(
                f"Expected JSON object for {what}: attempt to access JSON non-object as object"
            )
        try:
            for key, member in cast("dict[str, Any]", value).items():
                self.read(key, member)
        except StatusError as error:
            error.message = f"Converting {what}: {error.message}"
            raise

    def _add_input(self, declared: ModelInput, value: object) -> None:
        name = declared.name
        request = self._request
        if any(tensor.name == name for tensor in request.inputs):
            raise InvalidArgumentError(
                f"{request.log_prefix}input '{name}' already exists in request"
            )
        dims = [-1, *declared.dims] if self._batching else declared.dims
        shape = _fit(name, dims, _count(value))
        datatype = from_config(declared.data_type)
        data = json_tensor.decode(name, datatype, shape, value, self._limit)
        request.inputs.append(Tensor(name, datatype, tuple(shape), data))


def _count(value: object) -> int:
    return len(cast("list[object]", value)) if isinstance(value, list) else 1


def _fit(name: str, dims: Sequence[int], count: int) -> list[int]:
    """The shape of so many elements in these dimensions: the innermost -1 takes what is left."""
    fixed = 1
    for extent in dims:
        if extent != -1:
            fixed *= extent
    left, over = divmod(count, fixed) if fixed else (1, count)
    shape = list(dims)
    for axis in reversed(range(len(shape))):
        if shape[axis] == -1:
            shape[axis], left = left, 1
    if over or left != 1:
        raise InvalidArgumentError(
            f"The schema can not convert input '{name}' to tensor with proper shape"
        )
    return shape


def encode_response(response: InferResponse) -> bytes:
    """Write a response as a flat object with sorted keys; a single element stands without its list.

    Raises InternalError when an output's size does not match its shape.
    """
    members: dict[str, Any] = {
        key: json_parameter(value) for key, value in response.parameters.items()
    }
    for tensor in response.outputs:
        text = json_tensor.encode(tensor)
        if all(extent == 1 for extent in tensor.shape):
            text = text[1:-1]
        members[tensor.name] = orjson.Fragment(text)
    if response.id:
        members["id"] = response.id
    members["model_name"] = response.model
    members["model_version"] = str(response.version)
    return orjson.dumps({key: members[key] for key in sorted(members)})
