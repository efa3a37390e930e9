"""The shared memory calls of Triton's service: registering, forgetting and listing regions."""

from __future__ import annotations

from ...proto import grpc_service_pb2 as pb
from ..memory.regions import Regions
from ..request import CudaHandle


class SharedMemoryService:
    """Clients' regions over gRPC. Each method is one call and raises StatusError."""

    def __init__(self, regions: Regions) -> None:
        self._regions = regions

    async def system_status(
        self, request: pb.SystemSharedMemoryStatusRequest
    ) -> pb.SystemSharedMemoryStatusResponse:
        """One region of system memory, or all of them."""
        response = pb.SystemSharedMemoryStatusResponse()
        for region in self._regions.system(request.name):
            entry = response.regions[region.name]
            entry.name, entry.key = region.name, region.key
            entry.offset, entry.byte_size = region.offset, region.byte_size
        return response

    async def system_register(
        self, request: pb.SystemSharedMemoryRegisterRequest
    ) -> pb.SystemSharedMemoryRegisterResponse:
        """Register a part of a segment."""
        self._regions.register_system(request.name, request.key, request.offset, request.byte_size)
        return pb.SystemSharedMemoryRegisterResponse()

    async def system_unregister(
        self, request: pb.SystemSharedMemoryUnregisterRequest
    ) -> pb.SystemSharedMemoryUnregisterResponse:
        """Forget one region of system memory, or all of them."""
        self._regions.unregister_system(request.name)
        return pb.SystemSharedMemoryUnregisterResponse()

    async def cuda_status(
        self, request: pb.CudaSharedMemoryStatusRequest
    ) -> pb.CudaSharedMemoryStatusResponse:
        """One region of a GPU's memory, or all of them."""
        response = pb.CudaSharedMemoryStatusResponse()
        for region in self._regions.cuda(request.name):
            entry = response.regions[region.name]
            entry.name, entry.device_id = region.name, region.handle.device
            entry.byte_size = region.byte_size
        return response

    async def cuda_register(
        self, request: pb.CudaSharedMemoryRegisterRequest
    ) -> pb.CudaSharedMemoryRegisterResponse:
        """Register memory of a GPU."""
        handle = CudaHandle(request.raw_handle, request.device_id, request.byte_size)
        await self._regions.register_cuda(request.name, handle)
        return pb.CudaSharedMemoryRegisterResponse()

    async def cuda_unregister(
        self, request: pb.CudaSharedMemoryUnregisterRequest
    ) -> pb.CudaSharedMemoryUnregisterResponse:
        """Forget one region of a GPU's memory, or all of them."""
        self._regions.unregister_cuda(request.name)
        return pb.CudaSharedMemoryUnregisterResponse()
