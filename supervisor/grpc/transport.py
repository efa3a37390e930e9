"""The transports that the service can be had on; only the one that is used is imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from ..access import Access
    from ..controlplane import ControlPlane
    from ..dataplane import DataPlane
    from ..settings import GrpcSettings


class GrpcFrontend(Protocol):
    """The gRPC service of a server on one port, whatever carries it."""

    async def start(self) -> int:
        """Listen and serve; returns the port.

        Raises OSError when the port cannot be had, InvalidArgumentError for wrong files of TLS.
        """
        ...

    def refuse(self) -> None:
        """Refuse new calls from now on; those in flight go on."""
        ...

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let those in flight end within `grace` seconds, and close the port."""
        ...


def grpc_server(
    dataplane: DataPlane, controlplane: ControlPlane, settings: GrpcSettings, access: Access
) -> GrpcFrontend:
    """The service on the transport that the settings name."""
    if settings.transport == "lean":
        from .lean import LeanGrpcServer

        return LeanGrpcServer(dataplane, controlplane, settings, access)
    from .grpcio import GrpcServer

    return GrpcServer(dataplane, controlplane, settings, access)
