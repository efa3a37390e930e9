"""The standard gRPC health service, as load balancers and Kubernetes probes ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...proto import health_pb2 as pb
from .service import UnaryCall, unary

if TYPE_CHECKING:
    from ..controlplane import ControlPlane

_SERVING_STATUS = pb.HealthCheckResponse.ServingStatus


class HealthService:
    """grpc.health.v1.Health: serving while the server is ready, whatever service is named."""

    def __init__(self, controlplane: ControlPlane) -> None:
        self._controlplane = controlplane

    def unary_calls(self) -> dict[str, UnaryCall]:
        """The calls by their paths. Watch is not offered, as Triton does not."""
        return {"/grpc.health.v1.Health/Check": unary(pb.HealthCheckRequest.FromString, self.check)}

    async def check(self, _: pb.HealthCheckRequest) -> pb.HealthCheckResponse:
        """Whether the server can take requests."""
        ready = await self._controlplane.is_ready()
        status = _SERVING_STATUS.SERVING if ready else _SERVING_STATUS.NOT_SERVING
        return pb.HealthCheckResponse(status=status)
