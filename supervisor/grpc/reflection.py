"""The reflection service of gRPC: tells tools like grpcurl our services and their messages."""

from __future__ import annotations

from google.protobuf.descriptor import FileDescriptor
from google.protobuf.message import DecodeError

from ...ipc.errors import InternalError
from ...proto import reflection_pb2 as pb
from ...proto.pool import POOL
from .codec import UNPARSABLE

#: Both names have the same messages; clients try the newer one first.
REFLECTION_PATHS = (
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)

_SERVICES = (
    "grpc.health.v1.Health",
    "grpc.reflection.v1.ServerReflection",
    "inference.GRPCInferenceService",
)

_NOT_FOUND = 5
_INVALID_ARGUMENT = 3


def reflect(data: bytes) -> bytes:
    """Answer one encoded request; what does not exist is an error within the answer.

    Raises InternalError when the bytes are no such request.
    """
    try:
        request = pb.ServerReflectionRequest.FromString(data)
    except DecodeError:
        raise InternalError(UNPARSABLE) from None
    answer = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
    try:
        _fill(answer, request)
    except KeyError as error:
        answer.error_response.error_code = _NOT_FOUND
        answer.error_response.error_message = str(error.args[0])
    encoded: bytes = answer.SerializeToString()
    return encoded


def _fill(answer: pb.ServerReflectionResponse, request: pb.ServerReflectionRequest) -> None:
    """Write what was asked for into the answer. Raises KeyError when it does not exist."""
    match request.WhichOneof("message_request"):
        case "list_services":
            for name in _SERVICES:
                answer.list_services_response.service.add(name=name)
        case "file_by_filename":
            _add_file(answer, POOL.FindFileByName(request.file_by_filename))
        case "file_containing_symbol":
            _add_file(answer, POOL.FindFileContainingSymbol(request.file_containing_symbol))
        case "all_extension_numbers_of_type":
            # Ours are messages of proto3, which cannot be extended.
            name = POOL.FindMessageTypeByName(request.all_extension_numbers_of_type).full_name
            answer.all_extension_numbers_response.base_type_name = name
        case "file_containing_extension":
            wanted = request.file_containing_extension
            raise KeyError(
                f"no extension {wanted.extension_number} of '{wanted.containing_type}' is known"
            )
        case _:
            answer.error_response.error_code = _INVALID_ARGUMENT
            answer.error_response.error_message = "the request asks for nothing that is known here"


def _add_file(answer: pb.ServerReflectionResponse, file: FileDescriptor) -> None:
    """A file and behind it those that it imports, so that nobody has to ask again."""
    found = answer.file_descriptor_response.file_descriptor_proto
    found.append(file.serialized_pb)
    for imported in file.dependencies:
        _add_file(answer, imported)
