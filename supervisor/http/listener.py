"""A listening TCP socket whose connections aiohttp serves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

from aiohttp import web

from ...ipc.errors import UnavailableError
from .connection import Connection
from .lean import Ends, LeanConnection
from .lean_infer import LeanInfer

#: As in Triton.
_BACKLOG = 1024

#: aiohttp takes 0 for "as long as it takes".
_MIN_TIMEOUT_SECS = 0.01

#: Ten years, which is as long as a connection lasts that nobody ends.
_NEVER_SECS = 10 * 365 * 86400.0

_OPTIONS: dict[str, Any] = {
    "auto_decompress": False,  # aiohttp would not bound it
}
_NO_LOG: dict[str, Any] = {"access_log": None}

Handler = Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]


class _Connections(web.Server):
    """aiohttp's set of open connections, made of ours."""

    def __init__(self, handler: Handler, lean: LeanInfer | None) -> None:
        # A client that goes away cancels its request.
        super().__init__(handler, handler_cancellation=True)
        self._lean = lean

    def __call__(self) -> web.RequestHandler:
        """Called for each new connection."""
        if self._lean is None:
            return Connection(self, loop=self._loop, **_OPTIONS, **_NO_LOG)
        return LeanConnection(
            self._lean,
            self,
            loop=self._loop,
            access_log_class=Ends,
            # It knows only what it is lent, and so not whether a connection is idle.
            keepalive_timeout=_NEVER_SECS,
            **_OPTIONS,
        )


class Listener:
    """Listens from `start` until `stop_accepting`; `close` ends what is still open."""

    def __init__(
        self,
        handler: Handler,
        address: str,
        port: int,
        reuse_port: bool = False,
        tls: ssl.SSLContext | None = None,
        lean: LeanInfer | None = None,
    ) -> None:
        self._handler = handler
        self._lean = lean
        self._address = address
        self._port = port
        self._reuse_port = reuse_port
        self._tls = tls
        self._server: asyncio.Server | None = None
        self._connections: _Connections | None = None

    def __repr__(self) -> str:
        state = "closed" if self._server is None else "listening"
        return f"<Listener {self._address}:{self._port}, {state}>"

    async def start(self) -> int:
        """Listen, and return the port. Raises UnavailableError when it is taken."""
        connections = _Connections(self._handler, self._lean)
        loop = asyncio.get_running_loop()
        try:
            server = await loop.create_server(
                connections,
                self._address,
                self._port,
                backlog=_BACKLOG,
                reuse_port=self._reuse_port or None,
                ssl=self._tls,
            )
        except OSError as error:
            raise UnavailableError(
                f"cannot listen at '{self._address}:{self._port}': {error.strerror or error}"
            ) from error
        self._connections, self._server = connections, server
        self._port = server.sockets[0].getsockname()[1]
        return self._port

    def stop_accepting(self) -> None:
        """Take no more connections; those that are open go on."""
        if self._server is not None:
            self._server.close()

    async def close(self, timeout_secs: float) -> None:
        """Close every connection, giving running requests some seconds to finish."""
        self.stop_accepting()
        if self._connections is not None:
            self._connections.pre_shutdown()  # ends the idle ones
            await self._connections.shutdown(max(timeout_secs, _MIN_TIMEOUT_SECS))
        self._server = self._connections = None
