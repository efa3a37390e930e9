"""GRPCInferenceService: the unary calls, over messages, for whatever transport carries them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol, TypeVar

from google.protobuf.message import DecodeError

from ...ipc.errors import InternalError, InvalidArgumentError, UnsupportedError
from ...proto import grpc_service_pb2 as pb
from ..config.parse import to_proto
from ..request import InferRequest, InferResponse, RequestTrace
from .codec import (
    UNPARSABLE,
    RawContents,
    decode_request,
    encode_response,
    find_version,
    parse_infer_request,
)
from .settings import SettingsService
from .shared_memory import SharedMemoryService
from .statistics import add_statistics

if TYPE_CHECKING:
    from ..controlplane import ControlPlane, TensorMetadata
    from ..dataplane import DataPlane, Stream

#: One unary call: an encoded request in, an encoded response out, or a StatusError.
UnaryCall = Callable[[bytes], Awaitable[bytes]]

_PATH = "/inference.GRPCInferenceService/"
INFER_PATH = _PATH + "ModelInfer"
STREAM_PATH = _PATH + "ModelStreamInfer"

DECOUPLED_REFUSED = "ModelInfer RPC doesn't support models with decoupled transaction policy"


class _Encodable(Protocol):
    def SerializeToString(self) -> bytes: ...


RequestT = TypeVar("RequestT")


def unary(
    parse: Callable[[bytes], RequestT],
    method: Callable[[RequestT], Awaitable[_Encodable]],
) -> UnaryCall:
    """Make a call out of a method over messages. Bytes that are no message are refused."""

    async def call(data: bytes) -> bytes:
        try:
            request = parse(data)
        except DecodeError:
            raise InternalError(UNPARSABLE) from None
        return (await method(request)).SerializeToString()

    return call


class InferenceService:
    """The unary calls of Triton's service: each asks one of the two planes and translates."""

    def __init__(self, dataplane: DataPlane, controlplane: ControlPlane) -> None:
        self._dataplane = dataplane
        self._controlplane = controlplane

    def unary_calls(self) -> dict[str, UnaryCall]:
        """Every unary call of the service by its path."""
        settings = SettingsService(self._controlplane)
        memory = SharedMemoryService(self._controlplane.regions)
        calls: dict[str, UnaryCall] = {
            "ServerLive": unary(pb.ServerLiveRequest.FromString, self.server_live),
            "ServerReady": unary(pb.ServerReadyRequest.FromString, self.server_ready),
            "ModelReady": unary(pb.ModelReadyRequest.FromString, self.model_ready),
            "ServerMetadata": unary(pb.ServerMetadataRequest.FromString, self.server_metadata),
            "ModelMetadata": unary(pb.ModelMetadataRequest.FromString, self.model_metadata),
            "ModelInfer": self.model_infer,
            "ModelConfig": unary(pb.ModelConfigRequest.FromString, self.model_config),
            "ModelStatistics": unary(pb.ModelStatisticsRequest.FromString, self.model_statistics),
            "RepositoryIndex": unary(pb.RepositoryIndexRequest.FromString, self.repository_index),
            "RepositoryModelLoad": unary(
                pb.RepositoryModelLoadRequest.FromString, self.repository_model_load
            ),
            "RepositoryModelUnload": unary(
                pb.RepositoryModelUnloadRequest.FromString, self.repository_model_unload
            ),
            "TraceSetting": unary(pb.TraceSettingRequest.FromString, settings.trace_setting),
            "LogSettings": unary(pb.LogSettingsRequest.FromString, settings.log_settings),
            "SystemSharedMemoryStatus": unary(
                pb.SystemSharedMemoryStatusRequest.FromString, memory.system_status
            ),
            "SystemSharedMemoryRegister": unary(
                pb.SystemSharedMemoryRegisterRequest.FromString, memory.system_register
            ),
            "SystemSharedMemoryUnregister": unary(
                pb.SystemSharedMemoryUnregisterRequest.FromString, memory.system_unregister
            ),
            "CudaSharedMemoryStatus": unary(
                pb.CudaSharedMemoryStatusRequest.FromString, memory.cuda_status
            ),
            "CudaSharedMemoryRegister": unary(
                pb.CudaSharedMemoryRegisterRequest.FromString, memory.cuda_register
            ),
            "CudaSharedMemoryUnregister": unary(
                pb.CudaSharedMemoryUnregisterRequest.FromString, memory.cuda_unregister
            ),
        }
        return {_PATH + name: call for name, call in calls.items()}

    async def model_infer(
        self, data: bytes | memoryview, forwarded: Mapping[str, str] | None = None
    ) -> bytes:
        """Run one request of a model that answers once. Cancelling the task cancels the request.

        `forwarded` are further parameters, which the call's metadata made.
        """
        message, raw_contents = parse_infer_request(data)
        on_demand = self._dataplane.on_demand
        if on_demand is not None:
            async with on_demand.using(message.model_name):
                return await self._infer(message, raw_contents, forwarded)
        return await self._infer(message, raw_contents, forwarded)

    def begin_infer(
        self,
        data: bytes | memoryview,
        forwarded: Mapping[str, str] | None,
        on_response: Callable[[InferResponse], None],
    ) -> Stream | None:
        """Begin one request of a model that answers once; the response, or the error that it is,
        arrives on the event loop, later.

        None for what needs a task, which `model_infer` is for: a request that may have to wait for
        its model, or is traced. Raises StatusError at once for a request that is wrong.
        """
        dataplane = self._dataplane
        if dataplane.on_demand is not None or dataplane.traces.on:
            return None
        message, raw_contents = parse_infer_request(data)
        version = self._version(message.model_name, message.model_version)
        if dataplane.config(message.model_name, version).decoupled:
            raise UnsupportedError(DECOUPLED_REFUSED)
        request = decode_request(message, raw_contents, version, dataplane, forwarded)
        return dataplane.ask(request, on_response)

    async def _infer(
        self,
        message: pb.ModelInferRequest,
        raw_contents: RawContents,
        forwarded: Mapping[str, str] | None,
    ) -> bytes:
        version = self._version(message.model_name, message.model_version)
        dataplane = self._dataplane
        if dataplane.config(message.model_name, version).decoupled:
            raise UnsupportedError(DECOUPLED_REFUSED)
        request = decode_request(message, raw_contents, version, dataplane, forwarded)
        if dataplane.traces.on:
            trace = dataplane.traces.begin(request.model)
            if trace is not None:
                return await self._traced(request, trace)
        return encode_response(await dataplane.infer(request))

    async def _traced(self, request: InferRequest, trace: RequestTrace) -> bytes:
        trace.stamp("GRPC_WAITREAD_START", request.received_ns)
        trace.stamp("GRPC_WAITREAD_END")
        request.trace = trace
        try:
            response = await self._dataplane.infer(request)
            trace.stamp("GRPC_SEND_START")
            encoded = encode_response(response)
            trace.stamp("GRPC_SEND_END")  # the transport has it; when it left, nobody tells
            return encoded
        finally:
            trace.end()

    def _version(self, model: str, text: str) -> int | None:
        return find_version(model, text, self._dataplane)

    async def server_live(self, _: pb.ServerLiveRequest) -> pb.ServerLiveResponse:
        """Whether the server is up, with or without models."""
        return pb.ServerLiveResponse(live=self._controlplane.is_live())

    async def server_ready(self, _: pb.ServerReadyRequest) -> pb.ServerReadyResponse:
        """Whether the server can take requests."""
        return pb.ServerReadyResponse(ready=await self._controlplane.is_ready())

    async def model_ready(self, request: pb.ModelReadyRequest) -> pb.ModelReadyResponse:
        """Whether a model can take requests."""
        version = self._version(request.name, request.version)
        ready = await self._controlplane.is_model_ready(request.name, version)
        return pb.ModelReadyResponse(ready=ready)

    async def server_metadata(self, _: pb.ServerMetadataRequest) -> pb.ServerMetadataResponse:
        """Who the server is and which extensions it speaks."""
        metadata = self._controlplane.server_metadata()
        return pb.ServerMetadataResponse(
            name=metadata.name, version=metadata.version, extensions=metadata.extensions
        )

    async def model_metadata(self, request: pb.ModelMetadataRequest) -> pb.ModelMetadataResponse:
        """What a model takes and gives."""
        version = self._version(request.name, request.version)
        async with self._controlplane.using(request.name):
            metadata = self._controlplane.model_metadata(request.name, version)
        return pb.ModelMetadataResponse(
            name=metadata.name,
            versions=metadata.versions,
            platform=metadata.platform,
            inputs=_tensors(metadata.inputs),
            outputs=_tensors(metadata.outputs),
        )

    async def model_config(self, request: pb.ModelConfigRequest) -> pb.ModelConfigResponse:
        """The completed configuration of a model."""
        version = self._version(request.name, request.version)
        async with self._controlplane.using(request.name):
            config = self._controlplane.model_config(request.name, version)
        return pb.ModelConfigResponse(config=to_proto(config))

    async def model_statistics(
        self, request: pb.ModelStatisticsRequest
    ) -> pb.ModelStatisticsResponse:
        """What was counted for one model, or for all."""
        version = self._version(request.name, request.version)
        response = pb.ModelStatisticsResponse()
        for snapshot in self._controlplane.statistics(request.name, version):
            add_statistics(response, snapshot)
        return response

    async def repository_index(
        self, request: pb.RepositoryIndexRequest
    ) -> pb.RepositoryIndexResponse:
        """Every model of the repositories with the states of its versions."""
        _refuse_repository(request.repository_name)
        response = pb.RepositoryIndexResponse()
        for entry in self._controlplane.index(request.ready):
            response.models.add(
                name=entry.name, version=entry.version, state=entry.state, reason=entry.reason
            )
        return response

    async def repository_model_load(
        self, request: pb.RepositoryModelLoadRequest
    ) -> pb.RepositoryModelLoadResponse:
        """Load a model, or load it again; returns when that is done."""
        _refuse_repository(request.repository_name)
        parameters: dict[str, str | bytes | int | bool] = {}
        for name, value in request.parameters.items():
            if name in ("config", "versions"):
                _expect(name, value, "string_param")
                parameters[name] = value.string_param
            elif name.startswith("file:"):
                _expect(name, value, "bytes_param")
                parameters[name] = value.bytes_param
            else:
                raise InvalidArgumentError(f"unrecognized load parameter '{name}'.")
        await self._controlplane.load(request.model_name, parameters)
        return pb.RepositoryModelLoadResponse()

    async def repository_model_unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload a model, on request with those that only it needed."""
        _refuse_repository(request.repository_name)
        unload_dependents = False
        if "unload_dependents" in request.parameters:
            value = request.parameters["unload_dependents"]
            if value.WhichOneof("parameter_choice") != "bool_param":
                raise InvalidArgumentError(
                    "invalid value type for 'unload_dependents' parameter, expected bool_param."
                )
            unload_dependents = value.bool_param
        await self._controlplane.unload(request.model_name, unload_dependents)
        return pb.RepositoryModelUnloadResponse()


def _tensors(
    tensors: Iterable[TensorMetadata],
) -> list[pb.ModelMetadataResponse.TensorMetadata]:
    return [
        pb.ModelMetadataResponse.TensorMetadata(
            name=tensor.name, datatype=tensor.datatype, shape=tensor.shape
        )
        for tensor in tensors
    ]


def _refuse_repository(name: str) -> None:
    if name:
        raise UnsupportedError("'repository_name' specification is not supported")


def _expect(name: str, value: pb.ModelRepositoryParameter, choice: str) -> None:
    if value.WhichOneof("parameter_choice") != choice:
        raise InvalidArgumentError(
            f"invalid value type for load parameter '{name}', expected {choice}."
        )
