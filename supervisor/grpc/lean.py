"""The lean transport: gRPC on HTTP/2 that the server speaks itself, on asyncio's sockets."""

from __future__ import annotations

import asyncio
import socket
import ssl
from typing import TYPE_CHECKING, Final

from ..forwarding import HeaderForwarding
from ..http2.limits import Limits
from ..http2.pings import PingRules
from ..settings import GrpcSettings
from ..tls import server_context
from .health import HealthService
from .in_flight import InFlight, State
from .lean_call import CallContext
from .lean_connection import ConnectionRules, LeanConnection
from .listening import cannot_listen
from .methods import methods
from .service import InferenceService

if TYPE_CHECKING:
    from ..access import Access
    from ..controlplane import ControlPlane
    from ..dataplane import DataPlane

_BACKLOG: Final = 1024

#: How long the answers of calls that have ended may take to leave the server (seconds).
_SEND_TIMEOUT: Final = 1.0


class LeanGrpcServer:
    """The gRPC service of a server on one port."""

    def __init__(
        self,
        dataplane: DataPlane,
        controlplane: ControlPlane,
        settings: GrpcSettings,
        access: Access,
    ) -> None:
        self._settings = settings
        service = InferenceService(dataplane, controlplane)
        calls = service.unary_calls() | HealthService(controlplane).unary_calls()
        self._methods = methods(
            calls, reflection=settings.reflection, guards_everything=access.guards_everything
        )
        self._calls = InFlight()
        pattern = settings.header_forward_pattern
        self._context = CallContext(
            service,
            dataplane,
            access,
            self._calls,
            settings.compression,
            HeaderForwarding(pattern) if pattern else None,
        )
        self._rules = _rules(settings)
        self._connections: set[LeanConnection] = set()
        self._no_connections = asyncio.Event()
        self._server: asyncio.Server | None = None

    def __repr__(self) -> str:
        return f"<LeanGrpcServer {self._calls!r}>"

    async def start(self) -> int:
        """Listen and serve; returns the port.

        Raises OSError when the port cannot be had, InvalidArgumentError for wrong files of TLS.
        """
        settings = self._settings
        tls = server_context(settings.tls, "grpc")
        if tls is not None:
            tls.set_alpn_protocols(["h2"])
        try:
            self._server = await self._listen(tls)
        except OSError:
            raise cannot_listen(settings.address, settings.port) from None
        self._calls.state = State.SERVING
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    def refuse(self) -> None:
        """Refuse new calls from now on; those in flight go on."""
        self._calls.refuse()

    async def stop(self, grace: float) -> None:
        """Refuse new calls, let those in flight end within `grace` seconds, and close the port."""
        if self._server is None:
            return
        in_time = await self._calls.drain(grace)
        self._server.close()
        self._no_connections.clear()
        for connection in tuple(self._connections):
            connection.finish_calls()
        if self._connections and in_time:
            try:
                async with asyncio.timeout(_SEND_TIMEOUT):
                    await self._no_connections.wait()
            except TimeoutError:
                pass
        for connection in tuple(self._connections):
            connection.abort()
        self._server = None
        self._calls.state = State.STOPPED

    async def _listen(self, tls: ssl.SSLContext | None) -> asyncio.Server:
        settings = self._settings
        loop = asyncio.get_running_loop()
        if settings.address == "::":  # IPv4 as well, which asyncio would leave out
            listening = _both_families(settings)
            return await loop.create_server(self._accept, sock=listening, backlog=_BACKLOG, ssl=tls)
        return await loop.create_server(
            self._accept,
            settings.address,
            settings.port,
            backlog=_BACKLOG,
            reuse_port=settings.reuse_port or None,
            ssl=tls,
        )

    def _accept(self) -> LeanConnection:
        connection = LeanConnection(self._context, self._methods, self._rules, self._forget)
        self._connections.add(connection)
        return connection

    def _forget(self, connection: LeanConnection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._no_connections.set()


def _rules(settings: GrpcSettings) -> ConnectionRules:
    age, grace = settings.max_connection_age_ms, settings.max_connection_age_grace_ms
    return ConnectionRules(
        Limits(),
        PingRules(
            interval=settings.min_recv_ping_interval_ms / 1000,
            most_strikes=settings.max_ping_strikes,
            time=settings.keepalive_time_ms / 1000,
            timeout=settings.keepalive_timeout_ms / 1000,
            without_calls=settings.keepalive_permit_without_calls,
            most_without_data=settings.max_pings_without_data,
        ),
        None if age is None else age / 1000,
        None if grace is None else grace / 1000,
    )


def _both_families(settings: GrpcSettings) -> socket.socket:
    return socket.create_server(
        (settings.address, settings.port),
        family=socket.AF_INET6,
        backlog=_BACKLOG,
        reuse_port=settings.reuse_port,
        dualstack_ipv6=True,
    )
