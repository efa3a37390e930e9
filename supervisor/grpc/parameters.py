"""Parameters of requests, outputs and responses, to and from the protocol's InferParameter."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from ...ipc.errors import InvalidArgumentError
from ...ipc.messages import FLAG_SEQUENCE_END, FLAG_SEQUENCE_START, Parameter
from ...proto import grpc_service_pb2 as pb
from ..memory.regions import Place
from ..request import InferRequest

#: Asks a stream for the final response even where it holds no outputs.
EMPTY_FINAL_RESPONSE = "triton_enable_empty_final_response"
#: Says of a streamed response whether it is the last one to its request.
FINAL_RESPONSE = "triton_final_response"

_RESERVED_PREFIX = "triton_"
_SHARED_MEMORY_REGION = "shared_memory_region"
_CHOICE = "parameter_choice"
_INT64_MAX = 2**63 - 1
_UINT64_MASK = 2**64 - 1

Parameters = Mapping[str, pb.InferParameter]


def set_request_parameters(request: InferRequest, parameters: Parameters) -> None:
    """Put a request's parameters where they belong: the protocol's own into fields.

    Raises InvalidArgumentError for a value of the wrong type and for a reserved name.
    """
    for name, value in parameters.items():
        match name:
            case "sequence_id":
                request.correlation_id = _correlation_id(value)
            case "sequence_start":
                if _flag(name, value):
                    request.flags |= FLAG_SEQUENCE_START
            case "sequence_end":
                if _flag(name, value):
                    request.flags |= FLAG_SEQUENCE_END
            case "priority":
                request.priority = _priority(value)
            case "timeout":
                request.timeout_us = _timeout(value)
            case "triton_enable_empty_final_response":
                _flag(name, value)  # read by the stream; meaningless elsewhere
            case _:
                if name.startswith(_RESERVED_PREFIX):
                    raise InvalidArgumentError(
                        "parameter keys starting with 'triton_' are reserved for Triton usage. "
                        "Only the following keys starting with 'triton_' are allowed: "
                        f"{EMPTY_FINAL_RESPONSE}"
                    )
                request.parameters[name] = _value(name, value)


def wants_empty_final_response(parameters: Parameters) -> bool:
    """Whether the request asks for a final response even where that is empty."""
    return EMPTY_FINAL_RESPONSE in parameters and parameters[EMPTY_FINAL_RESPONSE].bool_param


def classification(parameters: Parameters) -> int:
    """How many classes an output is asked for, 0 for the tensor itself.

    Raises InvalidArgumentError for a wrong number.
    """
    if "classification" not in parameters:
        return 0
    value = parameters["classification"]
    if value.WhichOneof(_CHOICE) != "int64_param":
        raise InvalidArgumentError(
            "invalid value type for 'classification' parameter, expected int64_param"
        )
    if value.int64_param <= 0:
        raise InvalidArgumentError("invalid value for 'classification' parameter, expected >= 0")
    return value.int64_param


def shared_memory(name: str, parameters: Parameters) -> Place | None:
    """Where in a client's region a tensor is, or None when it travels in the message.

    Raises InvalidArgumentError for parameters that say it by half, or in another type.
    """
    offset = _region_part(name, parameters, "shared_memory_offset")
    byte_size = _region_part(name, parameters, "shared_memory_byte_size")
    if _SHARED_MEMORY_REGION not in parameters:
        return None
    value = parameters[_SHARED_MEMORY_REGION]
    if value.WhichOneof(_CHOICE) != "string_param":
        raise InvalidArgumentError(
            f"invalid value type for '{_SHARED_MEMORY_REGION}' parameter for tensor '{name}', "
            "expected string_param."
        )
    if byte_size is None:
        raise InvalidArgumentError(
            f"'shared_memory_byte_size' must be specified along with '{_SHARED_MEMORY_REGION}' "
            f"parameter for tensor '{name}'"
        )
    return Place(value.string_param, offset or 0, byte_size)


def _region_part(name: str, parameters: Parameters, key: str) -> int | None:
    if key not in parameters:
        return None
    if _SHARED_MEMORY_REGION not in parameters:
        raise InvalidArgumentError(
            f"'{key}' can not be specified without '{_SHARED_MEMORY_REGION}' parameter for tensor "
            f"'{name}'"
        )
    value = parameters[key]
    if value.WhichOneof(_CHOICE) != "int64_param":
        raise InvalidArgumentError(
            f"invalid value type for '{key}' parameter for tensor '{name}', expected int64_param."
        )
    return value.int64_param


def add_parameters(
    message: MutableMapping[str, pb.InferParameter], parameters: Mapping[str, Parameter]
) -> None:
    """Write a response's parameters into its message."""
    for name, value in parameters.items():
        target = message[name]
        if isinstance(value, bool):
            target.bool_param = value
        elif isinstance(value, int):
            if value > _INT64_MAX:
                target.uint64_param = value
            else:
                target.int64_param = value
        elif isinstance(value, float):
            target.double_param = value
        else:
            target.string_param = value


def _correlation_id(value: pb.InferParameter) -> int | str:
    match value.WhichOneof(_CHOICE):
        case "int64_param":
            return value.int64_param & _UINT64_MASK  # an id is unsigned, whatever carries it
        case "string_param":
            return value.string_param
        case _:
            raise InvalidArgumentError(
                "invalid value type for 'sequence_id' parameter, "
                "expected int64_param or string_param."
            )


def _priority(value: pb.InferParameter) -> int:
    match value.WhichOneof(_CHOICE):
        case "uint64_param":
            return value.uint64_param
        case "int64_param":
            if value.int64_param < 0:
                raise InvalidArgumentError("invalid value for 'priority', expected value >= 0.")
            return value.int64_param
        case _:
            raise InvalidArgumentError(
                "invalid value type for 'priority' parameter, expected int64_param or uint64_param."
            )


def _timeout(value: pb.InferParameter) -> int:
    if value.WhichOneof(_CHOICE) != "int64_param":
        raise InvalidArgumentError(
            "invalid value type for 'timeout' parameter, expected int64_param."
        )
    return value.int64_param & _UINT64_MASK  # below zero it is a very long time, as in Triton


def _flag(name: str, value: pb.InferParameter) -> bool:
    if value.WhichOneof(_CHOICE) != "bool_param":
        raise InvalidArgumentError(
            f"invalid value type for '{name}' parameter, expected bool_param."
        )
    return value.bool_param


def _value(name: str, value: pb.InferParameter) -> Parameter:
    match value.WhichOneof(_CHOICE):
        case "bool_param":
            return value.bool_param
        case "int64_param":
            return value.int64_param
        case "string_param":
            return value.string_param
        case "double_param":
            return value.double_param
        case _:
            raise InvalidArgumentError(
                f"invalid value type for '{name}' parameter, expected int64_param, bool_param, "
                "or string_param."
            )
