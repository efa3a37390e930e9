"""ModelInferRequest and ModelInferResponse, to and from the server's own request and response."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

from google.protobuf.message import DecodeError

from ...ipc.dtypes import DataType
from ...ipc.errors import InternalError, InvalidArgumentError, StatusError
from ...ipc.tensor import INLINE_LIMIT_BYTES, ClientPlace, Tensor
from ...proto import grpc_service_pb2 as pb
from ..memory.copies import COPIES
from ..request import InferRequest, InferResponse, RequestedOutput, log_prefix
from .contents import pack_contents
from .parameters import (
    FINAL_RESPONSE,
    add_parameters,
    classification,
    set_request_parameters,
    shared_memory,
)
from .wire import append_field, cut_field, nested

if TYPE_CHECKING:
    from ..dataplane import DataPlane

#: What Triton's transport says, with INTERNAL, of bytes that are not the message of the call.
UNPARSABLE = "Unable to parse request"

_NOTHING = memoryview(b"")

_RAW_INPUT_CONTENTS = 7
_RAW_OUTPUT_CONTENTS = 6
_INFER_RESPONSE = 2

#: Tensors in a lease begin at multiples of this: a cache line, which vector instructions like.
_ALIGNMENT_BYTES = 64
_LEADING_INTEGER = re.compile(r"\s*([+-]?[0-9]{1,20})")
_VERSION_MAX = 2**63 - 1

#: The raw contents of a request: the message's own, or views of what was received.
RawContents = Sequence[bytes | memoryview]


def parse_infer_request(data: bytes | memoryview) -> tuple[pb.ModelInferRequest, RawContents]:
    """Parse an encoded ModelInferRequest; large raw contents are not copied but viewed.

    Raises InternalError when the bytes are no such message.
    """
    try:
        if len(data) > INLINE_LIMIT_BYTES:
            cut = cut_field(data, _RAW_INPUT_CONTENTS)
            if cut is not None:
                return pb.ModelInferRequest.FromString(cut[0]), cut[1]
        # A view here is small, or is no message as anybody writes it.
        whole = data if isinstance(data, bytes) else bytes(data)
        message = pb.ModelInferRequest.FromString(whole)
    except DecodeError:
        raise InternalError(UNPARSABLE) from None
    return message, message.raw_input_contents


def parse_version(text: str) -> int | None:
    """The version that a request names, None where it leaves the choice to the server.

    Reads a number as C's `stol` does, which Triton uses: what follows the digits is ignored. Raises
    InvalidArgumentError for what is no number, is negative, or does not fit into 64 bits.
    """
    if not text:
        return None
    found = _LEADING_INTEGER.match(text)
    version = int(found[1]) if found is not None else _VERSION_MAX + 1
    if not -_VERSION_MAX - 1 <= version <= _VERSION_MAX:
        raise InvalidArgumentError(
            f"failed to get model version from specified version string '{text}' "
            "(details: stol), version should be an integral value > 0"
        )
    if version < 0:
        raise InvalidArgumentError(
            f"invalid model version specified '{text}' , version should be an integral value > 0"
        )
    return version


def find_version(model: str, text: str, dataplane: DataPlane) -> int | None:
    """The version that a request names by number or label, None where it names none.

    Raises InvalidArgumentError for what is neither.
    """
    label = dataplane.labelled(model, text) if text[:1].isalpha() else None
    return parse_version(text) if label is None else label


def decode_request(
    message: pb.ModelInferRequest,
    raw_contents: RawContents,
    version: int | None,
    dataplane: DataPlane,
    forwarded: Mapping[str, str] | None = None,
) -> InferRequest:
    """Translate a request. Tensors too large for a message are placed in a lease.

    `forwarded` are further parameters, which count more than those of the same name.

    The caller must hand the request to the data plane, which then owns the lease. Raises
    InvalidArgumentError for tensors without data, with too much of it, or with wrong parameters;
    what the model thinks of the tensors is the data plane's to say.
    """
    model = message.model_name
    request = InferRequest(model, version, [], id=message.id)
    try:
        request.inputs = _decode_inputs(message, raw_contents, request, dataplane)
        if message.outputs:
            request.outputs = _decode_outputs(message, request, dataplane)
        parameters = message.parameters
        if parameters:
            set_request_parameters(request, parameters)
        if forwarded is not None:
            request.parameters.update(forwarded)
        size = 0
        for tensor in request.inputs:
            length = _length(tensor)
            if length > INLINE_LIMIT_BYTES:
                size += _aligned(length)
        if size:
            _place(request, size, dataplane)
    except BaseException:  # the data plane never sees the request
        for hold in request.leases:
            hold.release()
        raise
    return request


def _length(tensor: Tensor) -> int:
    """The bytes of a tensor that came in the message; a client's region has none of them."""
    data = tensor.data
    return len(data) if isinstance(data, memoryview) else 0


def _decode_inputs(
    message: pb.ModelInferRequest,
    raw_contents: RawContents,
    request: InferRequest,
    dataplane: DataPlane,
) -> list[Tensor]:
    inputs: list[Tensor] = []
    raw_count = len(raw_contents)
    raw_used = 0
    for tensor in message.inputs:
        name = tensor.name
        parameters = tensor.parameters
        place = shared_memory(name, parameters) if parameters else None
        data: memoryview | ClientPlace
        if place is not None:
            if tensor.HasField("contents"):
                raise InvalidArgumentError(
                    "unexpected 'content' provided when using shared memory for input tensor "
                    f"'{name}' for model '{message.model_name}'"
                )
            data = dataplane.use_region(request, place)
        elif tensor.HasField("contents"):
            if raw_count:
                raise InvalidArgumentError(
                    "contents field must not be specified when using raw_input_contents "
                    f"for '{name}' for model '{message.model_name}'"
                )
            data = pack_contents(message.model_name, tensor)
        elif raw_used < raw_count:
            data = memoryview(raw_contents[raw_used])
            raw_used += 1
        else:
            raise InvalidArgumentError(
                f"unable to find data for input tensor '{name}' "
                f"for model '{message.model_name}' in request."
            )
        # A datatype that does not exist is refused by the data plane: it is not the model's.
        datatype = cast(DataType, tensor.datatype)
        inputs.append(Tensor(name, datatype, tuple(tensor.shape), data))
    return inputs


def _decode_outputs(
    message: pb.ModelInferRequest, request: InferRequest, dataplane: DataPlane
) -> list[RequestedOutput]:
    outputs: dict[str, RequestedOutput] = {}
    for output in message.outputs:
        name = output.name
        classes = 0
        place = None
        parameters = output.parameters
        if parameters:
            place = shared_memory(name, parameters)
            classes = classification(parameters)
            if place is not None and classes:
                raise InvalidArgumentError(
                    "output can't set both 'shared_memory_region' and 'classification'"
                )
        if name in outputs:
            prefix = log_prefix(message.id)
            raise InvalidArgumentError(f"{prefix}output '{name}' already exists in request")
        region = None if place is None else dataplane.use_region(request, place)
        outputs[name] = RequestedOutput(name, classes, region)
    return list(outputs.values())


def _place(request: InferRequest, size: int, dataplane: DataPlane) -> None:
    """Copy the request's large tensors into one lease."""
    dataplane.route(request)
    lease = dataplane.lease(request.model, request.version, size)
    offset = 0
    try:
        for tensor in request.inputs:
            length = _length(tensor)
            if length > INLINE_LIMIT_BYTES:
                data = cast(memoryview, tensor.data)
                lease.write(offset, data)
                tensor.data = lease.span(offset, length)
                offset += _aligned(length)
    except BaseException:  # the data plane never sees the request
        lease.release()
        raise
    request.leases.append(lease)


def _aligned(size: int) -> int:
    return -(-size // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def encode_response(response: InferResponse) -> bytes:
    """Encode a response as a ModelInferResponse; its outputs are copied once, into the result."""
    return b"".join(encode_response_parts(response))


def encode_response_parts(response: InferResponse) -> list[bytes | memoryview]:
    """Encode a response as a ModelInferResponse in parts, in which its outputs stay in place."""
    return _encode(_response_message(response), response)


def encode_stream_response(response: InferResponse) -> bytes:
    """Encode a response, or the error that it is, as a ModelStreamInferResponse."""
    message = _response_message(response)
    message.parameters[FINAL_RESPONSE].bool_param = response.final
    if response.error is not None:
        return _encode_failure(response.error, message)
    return nested(_INFER_RESPONSE, _encode(message, response))


def encode_refusal(request: pb.ModelInferRequest, error: StatusError) -> bytes:
    """Encode the answer to a streamed request that never ran as a ModelStreamInferResponse.

    It names the version as the request did. Like Triton's it says nothing about being final.
    """
    message = pb.ModelInferResponse(
        model_name=request.model_name, model_version=request.model_version, id=request.id
    )
    return _encode_failure(error, message)


def _encode_failure(error: StatusError, message: pb.ModelInferResponse) -> bytes:
    failed = pb.ModelStreamInferResponse(error_message=error.message, infer_response=message)
    encoded: bytes = failed.SerializeToString()
    return encoded


def _response_message(response: InferResponse) -> pb.ModelInferResponse:
    message = pb.ModelInferResponse(
        model_name=response.model,
        model_version=str(response.version) if response.version else "",
        id=response.id,
    )
    if response.parameters:
        add_parameters(message.parameters, response.parameters)
    outputs = message.outputs
    for tensor in response.outputs:
        outputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
    return message


def _encode(message: pb.ModelInferResponse, response: InferResponse) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = [message.SerializeToString()]
    for tensor in response.outputs:
        data = tensor.data
        # What was written to the client's region is not sent, and still counted.
        sent = data if isinstance(data, memoryview) else _NOTHING
        append_field(parts, _RAW_OUTPUT_CONTENTS, sent)
        COPIES.outward += len(sent)
    return parts
