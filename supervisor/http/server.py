"""The HTTP service: the v2 protocol on one port."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from ..forwarding import HeaderForwarding
from .app import App
from .cors import Cors
from .lean_infer import LeanInfer
from .listener import Listener
from .load_report import no_metrics

if TYPE_CHECKING:
    from ..access import Access
    from ..controlplane import ControlPlane
    from ..dataplane import DataPlane


class HttpServer:
    """Serves inference and management over HTTP from `start` to `stop`."""

    def __init__(
        self,
        dataplane: DataPlane,
        controlplane: ControlPlane,
        access: Access,
        *,
        address: str,
        port: int,
        reuse_port: bool,
        max_input_size: int,
        header_forward_pattern: str = "",
        cors: Cors | None = None,
        tls: ssl.SSLContext | None = None,
        metrics: Callable[[], str] = no_metrics,
    ) -> None:
        forwarding = HeaderForwarding(header_forward_pattern) if header_forward_pattern else None
        self._app = App(dataplane, controlplane, access, max_input_size, forwarding, cors, metrics)
        lean = None
        if cors is None:  # its answers carry more than the lean path knows of
            lean = LeanInfer(self._app, dataplane, access, max_input_size, forwarding)
        self._listener = Listener(self._app, address, port, reuse_port, tls, lean)

    def __repr__(self) -> str:
        return f"<HttpServer {self._listener!r}, {self._app!r}>"

    async def start(self) -> int:
        """Listen, and return the port. Raises UnavailableError when it is taken."""
        return await self._listener.start()

    async def stop(self, timeout_secs: float) -> None:
        """Stop accepting, let running requests finish for some seconds, close the rest."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout_secs
        self._listener.stop_accepting()
        await self._app.drain(timeout_secs)
        await self._listener.close(max(deadline - loop.time(), 0))
