"""The Prometheus endpoint, on its own port."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Callable

from aiohttp import web

from ..access import Access
from .access import refusal
from .listener import Listener
from .reply import Reply, error_body

_logger = logging.getLogger(__name__)

_TYPE = b"Content-Type: text/plain; charset=utf-8\r\n"

#: How long a scrape may take to finish when the server stops, in seconds.
_STOP_TIMEOUT = 1.0


class MetricsServer:
    """Answers `GET /metrics` with what `render` returns, from `start` to `stop`."""

    def __init__(
        self,
        render: Callable[[], str],
        access: Access,
        address: str,
        port: int,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._render = render
        self._access = access
        self._listener = Listener(self._answer, address, port, tls=tls)

    def __repr__(self) -> str:
        return f"<MetricsServer {self._listener!r}>"

    async def start(self) -> int:
        """Listen, and return the port. Raises UnavailableError when it is taken."""
        return await self._listener.start()

    async def stop(self) -> None:
        """Stop listening and close what is open."""
        await self._listener.close(_STOP_TIMEOUT)

    async def _answer(self, http: web.BaseRequest) -> web.StreamResponse:
        if http.method != "GET":
            return Reply(405, error_body("Method Not Allowed"))
        refused = refusal(self._access, "metrics", False, http)
        if refused is not None:
            return refused
        if http.rel_url.raw_path not in ("/metrics", "/metrics/"):
            return Reply(200, b"", _TYPE)
        try:
            return Reply(200, self._render().encode(), _TYPE)
        except Exception:  # one scrape fails, the service goes on
            _logger.exception("rendering the metrics failed")
            return Reply(500, error_body("the metrics cannot be rendered; the log says why"))
